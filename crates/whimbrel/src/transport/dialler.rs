//! Opening connections: to an address the core asks for, and again to the peer of a session that lost its
//! own.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use thiserror::Error;
use tokio::net::TcpStream;
use whimbrel_core::base::Address;
use whimbrel_core::node::LinkLoss;
use whimbrel_core::wire::hello::Refusal;

use super::TransportEvent;
use super::handshake::{self, HandshakeError};
use super::listener::is_loopback;
use super::registry::{Lost, Shared};
use super::session::Session;

/// First pause between two tries; doubled up to [`PAUSE_MAX`]. Short, since a dying process closes its connections
/// before its listener: the first try may still be taken and reset, and the second is the proof that it is gone.
const PAUSE_MIN: Duration = Duration::from_millis(2);
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// Addresses that one host name may stand for.
const ADDRESSES_MAX: usize = 8;

/// How a try ended without a session.
#[derive(Debug, Error)]
enum DialError {
    /// Every address of the host refused the connection: nobody listens there.
    #[error("the port refuses connections")]
    PortRefused,
    /// There is a connection with that peer already.
    #[error("there is a connection already")]
    AlreadyUp,
    /// Another connection with that peer is under way; it may come about or not.
    #[error("another connection goes first")]
    TryAgain,
    /// The node there and this one can not be in one cluster as they are configured.
    #[error("{0}")]
    Refused(String),
    /// Anything else.
    #[error("{0}")]
    Failed(String),
}

/// Tries an address; see [`super::Transport::connect`].
pub(super) fn connect(shared: &Arc<Shared>, address: Address) {
    if shared.has_session_at(&address) {
        return;
    }
    let first = shared.trying.lock().unwrap_or_else(PoisonError::into_inner).insert(address.clone());
    if first {
        shared.tasks.spawn_until_stopped("dial", try_address(shared.clone(), address));
    }
}

async fn try_address(shared: Arc<Shared>, address: Address) {
    let tries = async {
        loop {
            match dial(&shared, &address).await {
                Err(DialError::TryAgain) => tokio::time::sleep(PAUSE_MIN).await,
                ended => break ended,
            }
        }
    };
    let ended = tokio::time::timeout(shared.config.timings.dial, tries).await;
    shared.trying.lock().unwrap_or_else(PoisonError::into_inner).remove(&address);
    let error = match ended {
        Ok(Ok(()) | Err(DialError::AlreadyUp)) => return,
        Ok(Err(error)) => error,
        Err(_) => DialError::Failed("no session within the time of one try".to_owned()),
    };
    match error {
        DialError::Refused(error) => {
            if let Some(kept_back) = shared.log.admit() {
                tracing::warn!(address = ?address, error, kept_back, "no session");
            }
        }
        error => tracing::debug!(address = ?address, %error, "no session"),
    }
    // An error means that the driver is gone, and the node with it.
    let _ = shared.events.send(TransportEvent::ConnectFailed(address)).await;
}

/// Dials the peer of a session until it is dropped, because a connection was handed to the session, or until
/// the peer is known to be gone.
pub(super) async fn redial(shared: &Arc<Shared>, session: &Session) -> LinkLoss {
    let peer = session.peer();
    let mut pause = PAUSE_MIN;
    loop {
        // A peer that is about to be accepted is not to be disturbed.
        if !shared.is_claimed(peer.incarnation) {
            let once = tokio::time::timeout(shared.config.timings.dial, dial(shared, &peer.address));
            match once.await {
                Ok(Err(DialError::PortRefused)) if !shared.is_claimed(peer.incarnation) => {
                    return LinkLoss::Refused;
                }
                Ok(Err(error)) => tracing::debug!(peer = %peer.incarnation, %error, "not reconnected yet"),
                Ok(Ok(())) | Err(_) => {}
            }
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

async fn dial(shared: &Arc<Shared>, address: &str) -> Result<(), DialError> {
    let stream = open(shared, address).await?;
    let _ = stream.set_nodelay(true);
    handshake::dial(shared, stream).await.map_err(|error| match error {
        HandshakeError::Lost(Lost::AlreadyUp) => DialError::AlreadyUp,
        HandshakeError::Lost(Lost::Duplicate)
        | HandshakeError::RefusedByPeer(Refusal::Duplicate | Refusal::Busy | Refusal::NotReady) => {
            DialError::TryAgain
        }
        HandshakeError::RefusedByPeer(_) | HandshakeError::RefusedHere(_) => {
            DialError::Refused(error.to_string())
        }
        error => DialError::Failed(error.to_string()),
    })
}

/// Opens a TCP connection to the first address of the host that takes one.
async fn open(shared: &Shared, address: &str) -> Result<TcpStream, DialError> {
    let failed = |error: io::Error| DialError::Failed(error.to_string());
    let addresses = tokio::net::lookup_host(address).await.map_err(failed)?;
    let mut last = None;
    for address in addresses.take(ADDRESSES_MAX) {
        match open_one(shared, address).await {
            Ok(stream) => return Ok(stream),
            // One address that does not refuse is enough for "nobody knows".
            Err(DialError::PortRefused) if last.is_some() => {}
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| DialError::Failed("the host has no address".to_owned())))
}

async fn open_one(shared: &Shared, address: SocketAddr) -> Result<TcpStream, DialError> {
    if shared.config.secret.is_none() && !is_loopback(address.ip()) {
        let why = format!("{address} is not dialled without a secret: set `secret_file`");
        return Err(DialError::Refused(why));
    }
    match tokio::time::timeout(shared.config.timings.connect, TcpStream::connect(address)).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => Err(DialError::PortRefused),
        Ok(Err(error)) => Err(DialError::Failed(error.to_string())),
        Err(_) => Err(DialError::Failed(format!("{address} does not answer"))),
    }
}
