//! From a TCP connection to a session, or to a refusal: see [`whimbrel_core::wire::hello`] for what is said.
//!
//! ```text
//!   Unproven ── the peer's proof is right ──> Proven ── Welcome ──> Connection
//!      └── anything else: closed                └── settings differ, another connection goes first: closed
//! ```
//!
//! [`Unproven`] reads greetings of at most 4 KiB and has no way to deliver anything; only [`Unproven::check`]
//! makes a [`Proven`] of it.

use std::io;
use std::sync::Arc;

use bytes::{Buf, BufMut, BytesMut};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use whimbrel_core::base::limits::{FRAME_BYTES_MAX, LABELS_MAX};
use whimbrel_core::view::MemberInfo;
use whimbrel_core::wire::frame::{self, FrameError};
use whimbrel_core::wire::hello::{
    CHALLENGE_BYTES, Claim, Greeting, Hello, PROOF_BYTES, Proof, Refusal, Role, UNPROVEN_BYTES_MAX, VERSION,
    VERSION_MIN, Welcome, proven,
};

use super::TransportConfig;
use super::connection::Connection;
use super::registry::{Lost, Right, Shared};
use super::session::Session;

/// Bytes in front of the length of a frame.
const LENGTH_BYTES: usize = 4;
/// Room that a greeting is read into at a time: all of it for a stranger.
const ROOM_BYTES: usize = LENGTH_BYTES + UNPROVEN_BYTES_MAX;

/// Why a handshake gave no session. Nothing was changed.
#[derive(Debug, Error)]
pub(super) enum HandshakeError {
    /// The connection broke or was closed by the peer.
    #[error("the connection broke: {0}")]
    Io(#[from] io::Error),
    /// The peer sent what has no place in a handshake.
    #[error("the peer does not speak the protocol: {0}")]
    Garbage(#[from] FrameError),
    /// The peer sent another greeting than the one that is due.
    #[error("the peer sent a greeting out of turn")]
    OutOfTurn,
    /// The peer refused this node.
    #[error("refused by the peer: {0}")]
    RefusedByPeer(Refusal),
    /// This node refused the peer.
    #[error("refused: {0}")]
    RefusedHere(Refusal),
    /// The peer says of itself what no node may.
    #[error("the peer can not be a member: {0}")]
    NoMember(&'static str),
    /// Another connection is used.
    #[error("not needed: {0:?}")]
    Lost(Lost),
    /// The peer is this node itself.
    #[error("this node's own address")]
    OwnAddress,
    /// The system gives no random bytes.
    #[error("no random bytes: {0}")]
    Entropy(getrandom::Error),
}

/// The acceptor's side, up to the commit. Calls `on_proven` when the peer is no stranger any more.
pub(super) async fn accept(
    shared: &Arc<Shared>,
    stream: TcpStream,
    on_proven: impl FnOnce(),
) -> Result<(), HandshakeError> {
    let mut unproven = Unproven::new(stream);
    let Some(me) = shared.me() else { return Err(unproven.refuse(Refusal::NotReady).await) };
    let (theirs, their_body) = unproven.read_hello().await?;
    if theirs.incarnation == me.incarnation {
        return Err(HandshakeError::OwnAddress);
    }
    let hello = new_hello(&shared.config, &me)?;
    if let Err(refusal) = hello.common_version(&theirs) {
        return Err(unproven.refuse(refusal).await);
    }
    let body = hello.to_body();
    unproven.write(&[Greeting::Hello(hello)]).await?;
    let proof = unproven.read_proof().await?;
    let covered = proven(Role::Dialler, &shared.config.cluster, &their_body, &body, proof.claim);
    let mut connected = unproven.check(&shared.config, &covered, &proof).await?;
    on_proven();

    let connection = connection_id(&theirs);
    let other_session =
        |s: &Session| s.peer().incarnation == theirs.incarnation && s.id() != proof.claim.session;
    shared.await_end_of(other_session).await;
    let right = match shared.claim(&me, theirs.incarnation, connection, proof.claim) {
        Ok(right) => right,
        Err(lost) => return Err(connected.lose(lost).await),
    };
    let mut received = 0;
    let mut session = connection;
    if let Some(resumed) = &right.session {
        resumed.disconnect().await;
        received = resumed.received();
        session = resumed.id();
    }
    let claim = Claim { session, lost: 0 };
    let covered = proven(Role::Acceptor, &shared.config.cluster, &their_body, &body, claim);
    let proof = Proof { mac: mac(&shared.config, &covered), claim };
    connected.write(&[Greeting::Proof(proof), welcome(&shared.config, &me, received)]).await?;
    let welcome = connected.read_welcome(&shared.config, &right).await?;
    connected.commit(shared, right, *welcome)
}

/// The dialler's side, up to the commit.
pub(super) async fn dial(shared: &Arc<Shared>, stream: TcpStream) -> Result<(), HandshakeError> {
    let mut unproven = Unproven::new(stream);
    let me = shared.me().ok_or(HandshakeError::Lost(Lost::NotReady))?;
    let hello = new_hello(&shared.config, &me)?;
    let body = hello.to_body();
    let connection = connection_id(&hello);
    unproven.write(&[Greeting::Hello(hello.clone())]).await?;
    let (theirs, their_body) = unproven.read_hello().await?;
    if theirs.incarnation == me.incarnation {
        return Err(HandshakeError::OwnAddress);
    }
    if let Err(refusal) = hello.common_version(&theirs) {
        return Err(unproven.refuse(refusal).await);
    }
    // Nothing is said to a peer that is not needed: from the proof on, the peer counts on this connection.
    let (mut right, claim) =
        shared.begin_dial(&me, theirs.incarnation, connection).map_err(HandshakeError::Lost)?;
    let covered = proven(Role::Dialler, &shared.config.cluster, &body, &their_body, claim);
    unproven.write(&[Greeting::Proof(Proof { mac: mac(&shared.config, &covered), claim })]).await?;

    let proof = unproven.read_proof().await?;
    let covered = proven(Role::Acceptor, &shared.config.cluster, &body, &their_body, proof.claim);
    let mut connected = unproven.check(&shared.config, &covered, &proof).await?;
    if claim.session != proof.claim.session {
        // The peer has ended that session: what this side still kept of it is over too.
        right.session = None;
    }
    let peer_welcome = connected.read_welcome(&shared.config, &right).await?;
    let received = right.session.as_ref().map_or(0, |session| session.received());
    connected.write(&[welcome(&shared.config, &me, received)]).await?;
    connected.commit(shared, right, *peer_welcome)
}

/// Random, and covered by both proofs, so no two connections of a pair are mistaken for each other.
fn connection_id(dialler: &Hello) -> u64 {
    let first: [u8; 8] = std::array::from_fn(|index| dialler.challenge[index]);
    // 0 means none.
    u64::from_be_bytes(first).max(1)
}

fn new_hello(config: &TransportConfig, me: &MemberInfo) -> Result<Hello, HandshakeError> {
    let mut challenge = [0; CHALLENGE_BYTES];
    getrandom::fill(&mut challenge).map_err(HandshakeError::Entropy)?;
    Ok(Hello {
        version_min: VERSION_MIN,
        version: VERSION,
        features: config.features,
        incarnation: me.incarnation,
        challenge,
    })
}

fn welcome(config: &TransportConfig, me: &MemberInfo, received: u64) -> Greeting {
    Greeting::Welcome(Box::new(Welcome {
        mode: config.mode,
        slots: config.slots,
        replicas: config.replicas,
        member: me.clone(),
        received,
    }))
}

fn keyed(config: &TransportConfig, covered: &[u8]) -> Hmac<Sha256> {
    // Without a secret the proof still covers the cluster's name; only loopback peers are spoken to then.
    let key = config.secret.as_ref().map_or(&[][..], |secret| secret.as_bytes());
    let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(key).expect("HMAC takes keys of every length");
    mac.update(covered);
    mac
}

fn mac(config: &TransportConfig, covered: &[u8]) -> [u8; PROOF_BYTES] {
    keyed(config, covered).finalize().into_bytes().into()
}

/// A connection on which greetings are exchanged, whoever is at the other end.
struct Greeter {
    stream: TcpStream,
    buffer: BytesMut,
}

impl Greeter {
    async fn write(&mut self, greetings: &[Greeting]) -> Result<(), HandshakeError> {
        let mut bytes = Vec::new();
        for greeting in greetings {
            greeting.put(&mut bytes);
        }
        Ok(self.stream.write_all(&bytes).await?)
    }

    /// Reads one greeting, with its body as it was on the wire.
    async fn read(&mut self, bytes_max: usize) -> Result<(Greeting, Vec<u8>), HandshakeError> {
        loop {
            if let Some(frame) = frame::split(&self.buffer, bytes_max)? {
                let (kind, body, taken) = (frame.kind, frame.body.to_vec(), frame.taken);
                let greeting = Greeting::from_body(kind, &body)?;
                self.buffer.advance(taken);
                return match greeting {
                    Greeting::Refusal(refusal) => Err(HandshakeError::RefusedByPeer(refusal)),
                    greeting => Ok((greeting, body)),
                };
            }
            if self.buffer.get(LENGTH_BYTES).is_some_and(|kind| !Greeting::may_begin_with(*kind)) {
                return Err(HandshakeError::OutOfTurn);
            }
            // No more than one frame is taken in before it is looked at.
            let room = (LENGTH_BYTES + bytes_max).saturating_sub(self.buffer.len()).min(ROOM_BYTES);
            self.buffer.reserve(room);
            if self.stream.read_buf(&mut (&mut self.buffer).limit(room)).await? == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
        }
    }

    async fn refuse(&mut self, refusal: Refusal) -> HandshakeError {
        // The connection is closed next; whether the peer learns why changes nothing here.
        let _ = self.write(&[Greeting::Refusal(refusal)]).await;
        HandshakeError::RefusedHere(refusal)
    }
}

/// A connection to somebody unknown.
struct Unproven(Greeter);

impl Unproven {
    fn new(stream: TcpStream) -> Self {
        Self(Greeter { stream, buffer: BytesMut::new() })
    }

    async fn write(&mut self, greetings: &[Greeting]) -> Result<(), HandshakeError> {
        self.0.write(greetings).await
    }

    async fn refuse(mut self, refusal: Refusal) -> HandshakeError {
        self.0.refuse(refusal).await
    }

    async fn read_hello(&mut self) -> Result<(Hello, Vec<u8>), HandshakeError> {
        match self.0.read(UNPROVEN_BYTES_MAX).await? {
            (Greeting::Hello(hello), body) => Ok((hello, body)),
            _ => Err(HandshakeError::OutOfTurn),
        }
    }

    async fn read_proof(&mut self) -> Result<Proof, HandshakeError> {
        match self.0.read(UNPROVEN_BYTES_MAX).await? {
            (Greeting::Proof(proof), _) => Ok(proof),
            _ => Err(HandshakeError::OutOfTurn),
        }
    }

    /// The one way to be trusted.
    async fn check(
        self,
        config: &TransportConfig,
        covered: &[u8],
        proof: &Proof,
    ) -> Result<Proven, HandshakeError> {
        // `verify_slice` compares in constant time.
        match keyed(config, covered).verify_slice(&proof.mac) {
            Ok(()) => Ok(Proven(self.0)),
            Err(_) => Err(self.refuse(Refusal::Unauthorised).await),
        }
    }
}

/// A connection to a node of the cluster.
struct Proven(Greeter);

impl Proven {
    async fn write(&mut self, greetings: &[Greeting]) -> Result<(), HandshakeError> {
        self.0.write(greetings).await
    }

    async fn lose(mut self, lost: Lost) -> HandshakeError {
        self.0.refuse(lost.refusal()).await;
        HandshakeError::Lost(lost)
    }

    /// Reads who the peer is, and refuses one whose settings differ or who is not who it said it was.
    async fn read_welcome(
        &mut self,
        config: &TransportConfig,
        right: &Right,
    ) -> Result<Box<Welcome>, HandshakeError> {
        let (Greeting::Welcome(welcome), _) = self.0.read(FRAME_BYTES_MAX).await? else {
            return Err(HandshakeError::OutOfTurn);
        };
        let same =
            (welcome.mode, welcome.slots, welcome.replicas) == (config.mode, config.slots, config.replicas);
        if !same {
            return Err(self.0.refuse(Refusal::Settings).await);
        }
        if welcome.member.incarnation != right.peer {
            return Err(HandshakeError::OutOfTurn);
        }
        welcome.member.check().map_err(HandshakeError::NoMember)?;
        if welcome.member.labels.len() > LABELS_MAX {
            return Err(HandshakeError::OutOfTurn);
        }
        // Only now: the peer has proven that it is of the cluster.
        if !config.admission.admits(&welcome.member) {
            return Err(self.0.refuse(Refusal::NotAdmitted).await);
        }
        if let Err(lost) = right.check_peer(&welcome.member) {
            self.0.refuse(lost.refusal()).await;
            return Err(HandshakeError::Lost(lost));
        }
        Ok(welcome)
    }

    /// Hands the connection to its session.
    fn commit(self, shared: &Arc<Shared>, right: Right, welcome: Welcome) -> Result<(), HandshakeError> {
        let connection = Connection {
            stream: self.0.stream,
            leftover: self.0.buffer,
            id: right.connection,
            dialled_here: right.dialled_here,
            peer_received: welcome.received,
            closing: CancellationToken::new(),
            closed: CancellationToken::new(),
        };
        shared.commit(right, Box::new(welcome.member), connection).map_err(HandshakeError::Lost)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use tokio::net::TcpListener;
    use whimbrel_core::wire::frame::FrameKind;

    use super::*;

    #[tokio::test]
    async fn a_stranger_that_sends_without_end_is_kept_in_the_room_of_one_frame() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut stranger = TcpStream::connect(address).await.unwrap();
        let (accepted, _) = listener.accept().await.unwrap();
        let flood = tokio::spawn(async move {
            // Frames of the greatest length, in which nothing can be read but their kind.
            let mut frame = (UNPROVEN_BYTES_MAX as u32).to_be_bytes().to_vec();
            frame.resize(ROOM_BYTES, FrameKind::Proof as u8);
            while stranger.write_all(&frame).await.is_ok() {}
        });
        let mut greeter = Unproven::new(accepted).0;
        for _ in 0..100 {
            assert!(matches!(greeter.read(UNPROVEN_BYTES_MAX).await, Err(HandshakeError::Garbage(_))));
            assert!(greeter.buffer.len() <= ROOM_BYTES && greeter.buffer.capacity() <= 2 * ROOM_BYTES);
            greeter.buffer.advance(ROOM_BYTES);
        }
        drop(greeter);
        flood.await.unwrap();
    }
}
