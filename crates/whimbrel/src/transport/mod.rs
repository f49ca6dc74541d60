//! Sessions with other nodes over TCP.
//!
//! A *session* is one [`Link`](whimbrel_core::delivery::Link) with one incarnation of a peer, above one TCP
//! connection at a time. It outlives the connection: what the peer had not acknowledged is written again
//! after a reconnect, so a connection that breaks between two live nodes loses and doubles nothing.
//!
//! ```text
//!   connect(address) ──> dialler ─┐                    ┌─> session task ── link reader ──> events, inbound
//!                                 ├─ handshake ─ registry                └ (itself) writes what `send` queued
//!   listener ── one task each ────┘   (two proofs)     └─> ends: SessionDown
//! ```
//!
//! **Which connection counts.** Both nodes of a pair may dial at the same time. The one dialled by the
//! smaller incarnation goes first; the other is refused as a duplicate. A node that says in its proof which
//! connection it has given up is believed, so a half-dead connection never keeps a living one out. All of
//! this is decided under the lock of the [`registry`], at two points of the handshake: before the own proof
//! is sent (dialler), and after the peer's proof was checked (acceptor).
//!
//! **When a connection closes** both sides dial again at once. A port that refuses is evidence that the
//! process is gone; a peer that answers under another incarnation has replaced the old one; otherwise the
//! session is retried for `unreachable_after` and then given up, which is no evidence.
//!
//! **Strangers** get as far as [`handshake`]: an unproven connection is a type that can read and write
//! greetings and nothing else. The secret is proven, not sent. Nothing is encrypted.
//!
//! **Limits.** A session queues at most what its link allows, and [`LINK_BYTES_MAX`](whimbrel_core::base::limits::LINK_BYTES_MAX) bytes of messages;
//! above that [`SendError::Full`]. A peer that does not even take control messages and signals loses its
//! session. A reader that can not hand a control message to the driver stops reading, and TCP tells the peer.

mod connection;
mod dialler;
mod handshake;
mod listener;
mod outgoing;
mod registry;
mod session;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::sync::mpsc;
use whimbrel_core::base::{Address, Incarnation, Mutants};
use whimbrel_core::delivery::Lane;
use whimbrel_core::node::LinkLoss;
use whimbrel_core::view::MemberInfo;
use whimbrel_core::wire::Control;
use whimbrel_core::wire::frame::MessageFrame;
use whimbrel_core::wire::hello::Mode;

use crate::admission::Admission;
use crate::secret::Secret;
use crate::tasks::Tasks;

pub(crate) use outgoing::{OutFrame, OutMessage};
pub(crate) use registry::LogLimit;

/// How a transport is set up.
#[derive(Clone, Debug)]
pub(crate) struct TransportConfig {
    /// The cluster's name; covered by the proof of the handshake, never sent.
    pub(crate) cluster: String,
    /// What all nodes of the cluster know. Without it only loopback addresses are listened on and dialled.
    pub(crate) secret: Option<Secret>,
    /// `host:port` to listen on; port 0 takes a free one. None: this node only dials.
    pub(crate) listen: Option<String>,
    /// How the cluster decides views.
    pub(crate) mode: Mode,
    /// Slots of the cluster.
    pub(crate) slots: u16,
    /// Copies of each record.
    pub(crate) replicas: u8,
    /// Sessions at a time; default [`SESSIONS_MAX`](whimbrel_core::base::limits::SESSIONS_MAX).
    pub(crate) sessions_max: usize,
    /// Optional parts of the protocol that this node speaks.
    pub(crate) features: u64,
    /// Which nodes get a session.
    pub(crate) admission: Admission,
    /// The planted bug of this run, if any.
    pub(crate) mutants: Mutants,
    /// Waiting times.
    pub(crate) timings: Timings,
}

/// Waiting times of a transport.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timings {
    /// A peer that dialled must have finished its handshake by then; default 5 s.
    pub(crate) handshake: Duration,
    /// Opening one TCP connection; default 1 s.
    pub(crate) connect: Duration,
    /// One whole try of an address; default 2 s.
    pub(crate) dial: Duration,
    /// A session without a connection is given up after this; default 10 s.
    pub(crate) unreachable_after: Duration,
    /// Something is written at least this often; default 1 s.
    pub(crate) keep_alive: Duration,
    /// A connection on which nothing arrives for this long is closed; default 5 s, several times
    /// `keep_alive`.
    pub(crate) silence: Duration,
    /// Received control frames are acknowledged by then, when nothing else is written; default 20 ms.
    pub(crate) acknowledge: Duration,
    /// As `acknowledge`, of messages; default 100 ms.
    pub(crate) acknowledge_messages: Duration,
    /// How long `shutdown` waits for peers to acknowledge what was sent before; default 500 ms.
    pub(crate) linger: Duration,
}

impl Timings {
    fn acknowledge(&self, delay: session::Delay) -> Duration {
        match delay {
            session::Delay::Long => self.acknowledge_messages,
            session::Delay::Short => self.acknowledge,
        }
    }
}

impl Default for Timings {
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(5),
            connect: Duration::from_secs(1),
            dial: Duration::from_secs(2),
            unreachable_after: Duration::from_secs(10),
            keep_alive: Duration::from_secs(1),
            silence: Duration::from_secs(5),
            acknowledge: Duration::from_millis(20),
            acknowledge_messages: Duration::from_millis(100),
            linger: Duration::from_millis(500),
        }
    }
}

/// What the transport tells the driver, in order for each peer: one `SessionUp`, any number of `Control`, one
/// `SessionDown`, whatever ended the session (also `end_session` and `reincarnate`).
///
/// `me` is the incarnation of this node that the session belongs to. Events of an earlier one may still be in
/// the channel after [`Transport::reincarnate`]: the driver drops those whose [`me`](TransportEvent::me) is
/// not the present one.
#[derive(Debug)]
// Control messages are by far the most frequent: a box for each would cost more than the room of the rare others.
#[allow(clippy::large_enum_variant)]
pub(crate) enum TransportEvent {
    /// A session is authenticated and carries frames.
    SessionUp {
        /// This node's life.
        me: Incarnation,
        /// Who is at the other end.
        peer: Box<MemberInfo>,
    },
    /// That session is over.
    SessionDown {
        /// This node's life.
        me: Incarnation,
        /// The life at the other end.
        peer: Incarnation,
        /// What is known about it. `Unreachable` where this side ended it.
        loss: LinkLoss,
    },
    /// An address given to [`Transport::connect`] was tried and gave no session.
    ConnectFailed(Address),
    /// A control message arrived.
    Control {
        /// This node's life.
        me: Incarnation,
        /// The life at the other end.
        from: Incarnation,
        /// The message.
        message: Control,
    },
}

impl TransportEvent {
    /// The life of this node that it is about; none for `ConnectFailed`, which is always current.
    pub(crate) const fn me(&self) -> Option<Incarnation> {
        match self {
            TransportEvent::SessionUp { me, .. }
            | TransportEvent::SessionDown { me, .. }
            | TransportEvent::Control { me, .. } => Some(*me),
            TransportEvent::ConnectFailed(_) => None,
        }
    }
}

/// Takes what arrives on the message lane. Implemented by the exchange.
///
/// Called by the link's reader, synchronously and in the order of arrival per peer: it must not wait.
pub(crate) trait Inbound: Send + Sync + 'static {
    /// Frames arrived, in this order. Takes all of them.
    fn on_frames(&self, from: Incarnation, frames: &mut Vec<MessageFrame>);

    /// Such frames arrived lately: told every 100 ms at most. Not told for control frames and acknowledgements, so a
    /// node whose driver is stuck is not heard by those alone.
    fn on_heard(&self, from: Incarnation);

    /// The session is over. `unsent` are the frames of the message lane and the signals that were never written, in
    /// the order in which they were given; of frames not in it nothing is known. Called before the `SessionDown` event
    /// is sent.
    fn on_session_end(&self, peer: Incarnation, unsent: Vec<OutFrame>);
}

/// Why a transport could not be set up. Nothing was changed; retrying helps only where said.
#[derive(Debug, Error)]
pub(crate) enum TransportError {
    /// The text of `listen` is no address, or its host is unknown.
    #[error("can not listen on `{listen}`: {error}")]
    BadListen {
        /// The text.
        listen: String,
        /// What is wrong with it.
        error: std::io::Error,
    },
    /// The port is taken, or may not be used. Retrying may help.
    #[error("can not listen on {address}: {error}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        error: std::io::Error,
    },
    /// Others than this machine could reach the node, and nothing would keep them out.
    #[error("listening on {address} needs a secret: set `secret_file`, or listen on 127.0.0.1")]
    SecretNeeded {
        /// The address.
        address: SocketAddr,
    },
}

/// Why a frame was not queued. It was not sent and never will be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum SendError {
    /// There is no session with this incarnation, or its `SessionUp` was not sent yet.
    #[error("no session with this node")]
    NoSession,
    /// The lane is full. If it was a control message or a signal, which may not be left out, the session
    /// ends.
    #[error("the link to this node is full")]
    Full,
}

/// When a queued frame is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Writing {
    /// As soon as the writer gets its turn.
    Now,
    /// With what follows: the sender says when.
    Later,
}

/// The node's sessions. Cheap to clone; all clones are the same transport.
#[derive(Clone)]
pub(crate) struct Transport {
    shared: Arc<registry::Shared>,
}

impl Transport {
    /// Opens the listening port. Nothing is accepted or dialled before [`Transport::reincarnate`].
    ///
    /// Returns the address it listens on, with the port it was given; none without `listen`.
    ///
    /// # Errors
    /// [`TransportError`] says what is wrong with the configuration or the port.
    pub(crate) async fn bind(
        config: TransportConfig,
        tasks: &Tasks,
        events: mpsc::Sender<TransportEvent>,
        inbound: Arc<dyn Inbound>,
    ) -> Result<(Transport, Option<SocketAddr>), TransportError> {
        let listener = listener::bind(&config).await?;
        let bound = listener.as_ref().and_then(|listener| listener.local_addr().ok());
        let shared = Arc::new(registry::Shared::new(config, events, inbound));
        if let Some(listener) = listener {
            listener::start(&shared, listener);
        }
        // The node may stop without `shutdown`: connections close then without a word.
        let (node, transport) = (tasks.clone(), shared.clone());
        tasks.spawn("transport", async move {
            node.stopped().await;
            transport.close();
            transport.tasks.ended().await;
        });
        Ok((Transport { shared }, bound))
    }

    /// Goes on as `me`. The first call starts accepting and dialling; a later one closes all sessions.
    ///
    /// When this returns, no frame of those sessions reaches [`Inbound::on_frames`] any more.
    ///
    /// # Blocking
    /// As [`Transport::end_session`].
    pub(crate) fn reincarnate(&self, me: MemberInfo) {
        self.shared.reincarnate(me);
    }

    /// Tries this address once: ends in one `SessionUp` or `ConnectFailed`, or in nothing if the node there
    /// has a session already. A second call for an address that is being tried changes nothing.
    pub(crate) fn connect(&self, address: Address) {
        dialler::connect(&self.shared, address);
    }

    /// Ends the session with this peer. The peer may open another.
    ///
    /// When this returns, no frame of the session reaches [`Inbound::on_frames`] any more: a gate may forget
    /// the peer.
    ///
    /// # Blocking
    /// Waits for an `on_frames` that runs at this moment: not to be called from there, nor under a lock that
    /// it takes.
    pub(crate) fn end_session(&self, peer: Incarnation) {
        if let Some(session) = self.shared.session(peer) {
            session.silence();
        }
    }

    /// Queues a frame for this peer and wakes the writer. Frames of one lane arrive in the order of these
    /// calls.
    ///
    /// Never waits; takes the session's lock for a moment.
    ///
    /// # Errors
    /// [`SendError`]; the frame was not and will not be sent.
    pub(crate) fn send(&self, to: Incarnation, lane: Lane, frame: OutFrame) -> Result<(), SendError> {
        self.send_with(to, lane, frame, Writing::Now)
    }

    /// As [`Transport::send`]; with [`Writing::Later`] call [`Transport::write`] afterwards.
    ///
    /// # Errors
    /// As [`Transport::send`].
    pub(crate) fn send_with(
        &self,
        to: Incarnation,
        lane: Lane,
        frame: OutFrame,
        writing: Writing,
    ) -> Result<(), SendError> {
        self.shared.session(to).ok_or(SendError::NoSession)?.send(lane, frame, writing)
    }

    /// Wakes the writer for this peer.
    pub(crate) fn write(&self, to: Incarnation) {
        if let Some(session) = self.shared.session(to) {
            session.work.notify_one();
        }
    }

    /// Stops accepting, gives peers a moment to acknowledge what was sent, closes all connections and waits
    /// for all tasks. Every session ends with its `SessionDown`, if the channel has room for it.
    pub(crate) async fn shutdown(&self) {
        self.shared.shutdown().await;
    }
}
