//! The handshake: what two nodes say before they are a session.
//!
//! ```text
//!  dialler                                acceptor
//!     | Hello ------------------------------> |   version, features, life, challenge
//!     | <------------------------------ Hello |
//!     | Proof ------------------------------> |   checked before anything else is said
//!     | <--------------------- Proof, Welcome |   checked by the dialler
//!     | Welcome ----------------------------> |   both sides are a session
//! ```
//!
//! The dialler proves itself first, so a stranger learns nothing from a node but its version, its incarnation
//! and random bytes: no name, no address, no member, not even the cluster's name. That name is part of what
//! the proof covers instead of being sent, so a wrong secret and a wrong cluster can not be told apart, by
//! construction.
//!
//! A proof covers a label for the role, the cluster's name, both Hellos as they were sent and what the proof
//! itself adds. So it can not be replayed to another node, in the other direction or on another connection,
//! and neither side's version or incarnation can be changed on the way.
//!
//! Frames before `Welcome` have at most [`UNPROVEN_BYTES_MAX`]; the kinds a node hosts need more than that,
//! which is why they travel in `Welcome`.

use minicbor::{Decode, Encode};
use thiserror::Error;

use super::frame::{self, FrameError, FrameKind};
use crate::base::Incarnation;
use crate::view::MemberInfo;

/// Highest version of the protocol that this code speaks.
pub const VERSION: u16 = 1;
/// Lowest version of the protocol that this code speaks.
pub const VERSION_MIN: u16 = 1;
/// Bytes of a frame before the other side has proven itself.
pub const UNPROVEN_BYTES_MAX: usize = 4 * 1024;
/// Bytes of a challenge.
pub const CHALLENGE_BYTES: usize = 32;
/// Bytes of a proof: HMAC-SHA256.
pub const PROOF_BYTES: usize = 32;

/// Which side of a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The side that opened the connection.
    Dialler,
    /// The side that listens.
    Acceptor,
}

impl Role {
    const fn label(self) -> &'static [u8] {
        match self {
            Role::Dialler => b"whimbrel proof 1 dialler",
            Role::Acceptor => b"whimbrel proof 1 acceptor",
        }
    }
}

/// How the authority of a cluster decides views. All members must agree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum Mode {
    /// Both sides of a split go on; duplicates are settled when it heals.
    #[default]
    #[n(0)]
    Available,
    /// A majority decides. Reserved: no version speaks it yet.
    #[n(1)]
    Strict,
}

/// The first frame of each side. Says nothing that a stranger could use.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Hello {
    /// Lowest version of the protocol that the sender speaks.
    #[n(0)]
    pub version_min: u16,
    /// Highest version of the protocol that the sender speaks.
    #[n(1)]
    pub version: u16,
    /// Optional parts of the protocol that the sender speaks; both use what both have.
    #[n(2)]
    pub features: u64,
    /// The sender's life. The receiver may find that it is its own, or one it has a session with.
    #[n(3)]
    pub incarnation: Incarnation,
    /// Random bytes, new on every connection.
    #[cbor(n(4), with = "minicbor::bytes")]
    pub challenge: [u8; CHALLENGE_BYTES],
}

/// That the sender knows the secret of the cluster, and on which session it stands.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Proof {
    /// HMAC-SHA256 under the cluster's secret over [`proven`].
    #[cbor(n(0), with = "minicbor::bytes")]
    pub mac: [u8; PROOF_BYTES],
    /// What else it covers.
    #[n(1)]
    pub claim: Claim,
}

/// What each side says of an earlier session with the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Claim {
    /// From the dialler: the session it has with the acceptor, 0 for none. From the acceptor: the session
    /// that this connection belongs to; another than the dialler's means that the dialler's is over.
    #[n(0)]
    pub session: u64,
    /// From the dialler: its last connection of that session, which it has given up; 0 for none.
    #[n(1)]
    pub lost: u64,
}

/// Who the sender is. The first frame that is sent only to a peer that has proven itself.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Welcome {
    /// How its cluster decides.
    #[n(0)]
    pub mode: Mode,
    /// Slots of its cluster.
    #[n(1)]
    pub slots: u16,
    /// Copies of each record in its cluster.
    #[n(2)]
    pub replicas: u8,
    /// The node.
    #[n(3)]
    pub member: MemberInfo,
    /// Number of the last frame of the session that it has received; 0 in a new session.
    #[n(4)]
    pub received: u64,
}

/// Why a node closes a connection instead of making it a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error, Encode, Decode)]
#[cbor(index_only)]
pub enum Refusal {
    /// Wrong secret or wrong cluster name: which of the two is not said.
    #[n(0)]
    #[error("not authorised: the secret or the cluster name differs")]
    Unauthorised,
    /// The two speak no common version of the protocol.
    #[n(1)]
    #[error("no common version of the protocol")]
    Version,
    /// Too many connections are in their handshake; try again later.
    #[n(2)]
    #[error("too many connections are in their handshake")]
    Busy,
    /// Another connection of the same two nodes is used; try again if it does not come about.
    #[n(3)]
    #[error("another connection of the same two nodes goes first")]
    Duplicate,
    /// The cluster's settings differ: mode, slots or copies.
    #[n(4)]
    #[error("the nodes differ in mode, slots or replicas, which all members must share")]
    Settings,
    /// A younger life of the sender's node is connected.
    #[n(5)]
    #[error("a younger life of this node is connected")]
    Outdated,
    /// The node is not ready, is shutting down or has gone on under another incarnation; try again.
    #[n(6)]
    #[error("the node is starting, ending or changing its incarnation")]
    NotReady,
    /// The refusing node's operator does not admit the other one, by its name or its labels.
    #[n(7)]
    #[error("the other node's operator does not admit this name or these labels")]
    NotAdmitted,
}

/// A frame of the handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Greeting {
    /// The first of each side.
    Hello(Hello),
    /// The second.
    Proof(Proof),
    /// The third.
    Welcome(Box<Welcome>),
    /// The last, whenever it comes.
    Refusal(Refusal),
}

impl Greeting {
    /// Appends it to `buffer` as a frame.
    pub fn put(&self, buffer: &mut Vec<u8>) {
        let (kind, body) = match self {
            Greeting::Hello(hello) => (FrameKind::Hello, hello.to_body()),
            Greeting::Proof(proof) => (FrameKind::Proof, frame::encode(proof, 64)),
            Greeting::Welcome(welcome) => (FrameKind::Welcome, frame::encode(welcome.as_ref(), 256)),
            Greeting::Refusal(refusal) => (FrameKind::Refusal, frame::encode(refusal, 4)),
        };
        frame::put(buffer, kind, 0, &body);
    }

    /// Whether a frame whose kind is this byte can be a greeting: of others not even the body is waited for.
    pub const fn may_begin_with(kind: u8) -> bool {
        FrameKind::Hello as u8 <= kind && kind <= FrameKind::Refusal as u8
    }

    /// The frame of this kind with this body.
    ///
    /// # Errors
    /// The kind is not of the handshake, or the body is not one whole value of it.
    pub fn from_body(kind: FrameKind, body: &[u8]) -> Result<Self, FrameError> {
        match kind {
            FrameKind::Hello => frame::decode(kind, body).map(Greeting::Hello),
            FrameKind::Proof => frame::decode(kind, body).map(Greeting::Proof),
            FrameKind::Welcome => frame::decode(kind, body).map(|w| Greeting::Welcome(Box::new(w))),
            FrameKind::Refusal => frame::decode(kind, body).map(Greeting::Refusal),
            other => Err(FrameError::OutOfPlace(other)),
        }
    }
}

impl Hello {
    /// Its body as bytes: what a proof covers.
    pub fn to_body(&self) -> Vec<u8> {
        frame::encode(self, 80)
    }

    /// The version that both speak.
    ///
    /// # Errors
    /// There is none.
    pub fn common_version(&self, other: &Hello) -> Result<u16, Refusal> {
        let version = self.version.min(other.version);
        if version >= self.version_min && version >= other.version_min {
            Ok(version)
        } else {
            Err(Refusal::Version)
        }
    }
}

/// The bytes that the proof of `role` covers. Every part has its length in front, so no two differ only in
/// where a part ends. The Hellos are taken as they were on the wire, with fields this version does not know.
pub fn proven(role: Role, cluster: &str, dialler: &[u8], acceptor: &[u8], claim: Claim) -> Vec<u8> {
    let claim = frame::encode(&claim, 24);
    let parts = [role.label(), cluster.as_bytes(), dialler, acceptor, &claim];
    let mut bytes = Vec::with_capacity(parts.iter().map(|part| 8 + part.len()).sum());
    for part in parts {
        bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
        bytes.extend_from_slice(part);
    }
    bytes
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::base::limits::FRAME_BYTES_MAX;
    use crate::base::{Name, Rng};

    fn hello(version_min: u16, version: u16) -> Hello {
        let incarnation = Incarnation { started_ms: 1_700_000_000_000, nonce: u64::MAX };
        Hello { version_min, version, features: u64::MAX, incarnation, challenge: [0xa5; CHALLENGE_BYTES] }
    }

    fn samples() -> Vec<Greeting> {
        let member = MemberInfo {
            name: Name::new("a").unwrap(),
            incarnation: hello(1, 1).incarnation,
            address: "127.0.0.1:4100".into(),
            weight: 100,
            kinds: vec![Name::new("basket").unwrap(), Name::new("cleaner").unwrap()],
            draining: false,
            labels: Default::default(),
        };
        let welcome = Welcome { mode: Mode::Available, slots: 4096, replicas: 2, member, received: 9 };
        vec![
            Greeting::Hello(hello(1, 1)),
            Greeting::Proof(Proof { mac: [7; PROOF_BYTES], claim: Claim { session: u64::MAX, lost: 1 } }),
            Greeting::Welcome(Box::new(welcome)),
            Greeting::Refusal(Refusal::Unauthorised),
        ]
    }

    fn framed(greeting: &Greeting) -> Vec<u8> {
        let mut bytes = Vec::new();
        greeting.put(&mut bytes);
        bytes
    }

    #[test]
    fn every_greeting_is_read_as_it_was_written_and_refused_when_cut() {
        for greeting in samples() {
            let bytes = framed(&greeting);
            let raw = frame::split(&bytes, FRAME_BYTES_MAX).unwrap().unwrap();
            assert_eq!(Greeting::from_body(raw.kind, raw.body).unwrap(), greeting);
            for cut in 0..raw.body.len() {
                assert!(
                    Greeting::from_body(raw.kind, &raw.body[..cut]).is_err(),
                    "{greeting:?} cut at {cut}"
                );
            }
        }
    }

    #[test]
    fn what_is_said_to_strangers_fits_their_limit() {
        for greeting in samples() {
            let stranger = !matches!(greeting, Greeting::Welcome(_));
            assert!(!stranger || framed(&greeting).len() < 256, "{greeting:?}");
        }
    }

    #[test]
    fn random_changes_of_a_greeting_never_panic() {
        let mut rng = Rng::new(3);
        for greeting in samples() {
            let bytes = framed(&greeting);
            for _ in 0..20_000 {
                let mut bytes = bytes.clone();
                for _ in 0..=rng.below(3) {
                    let at = rng.below(bytes.len() as u64) as usize;
                    bytes[at] = rng.next_u64() as u8;
                }
                if let Ok(Some(raw)) = frame::split(&bytes, UNPROVEN_BYTES_MAX) {
                    let _ = Greeting::from_body(raw.kind, raw.body);
                }
            }
        }
    }

    #[test]
    fn the_highest_common_version_is_spoken() {
        let table = [
            ((1, 1), (1, 1), Ok(1)),
            ((1, 3), (2, 5), Ok(3)),
            ((2, 5), (1, 3), Ok(3)),
            ((1, 1), (2, 3), Err(Refusal::Version)),
            ((4, 5), (1, 3), Err(Refusal::Version)),
        ];
        for (ours, theirs, expected) in table {
            let (ours, theirs) = (hello(ours.0, ours.1), hello(theirs.0, theirs.1));
            assert_eq!(ours.common_version(&theirs), expected, "{ours:?} {theirs:?}");
        }
    }

    #[test]
    fn a_proof_covers_role_cluster_both_hellos_and_the_claim() {
        let claim = Claim { session: 1, lost: 2 };
        let all = [
            proven(Role::Dialler, "shop", b"one", b"two", claim),
            proven(Role::Acceptor, "shop", b"one", b"two", claim),
            proven(Role::Dialler, "shopo", b"ne", b"two", claim),
            proven(Role::Dialler, "shop", b"two", b"one", claim),
            proven(Role::Dialler, "shop", b"onet", b"wo", claim),
            proven(Role::Dialler, "shop", b"one", b"two", Claim { session: 2, lost: 2 }),
            proven(Role::Dialler, "shop", b"one", b"two", Claim { session: 1, lost: 1 }),
        ];
        for (index, one) in all.iter().enumerate() {
            assert!(!all[index + 1..].contains(one), "{index} covers the same as another");
        }
    }
}
