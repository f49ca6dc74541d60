//! Who is connected, who is connecting, and which of two connections of a pair counts.
//!
//! One lock guards it. Handshakes take it for writing at two points, senders for reading. A session's own
//! lock may be taken inside it, never the other way round.
//!
//! ```text
//!             dialler                                    acceptor
//!   none ── begin_dial ──> Dialling ─┐       ┌─ Claimed <── claim ── none
//!                             │      v       v     │
//!                             │     commit: session │ replaced by a later claim of the same peer
//!            superseded <─────┘                     └──> commit is refused
//! ```

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use whimbrel_core::base::{Address, Incarnation};
use whimbrel_core::node::LinkLoss;
use whimbrel_core::view::MemberInfo;
use whimbrel_core::wire::hello::{Claim, Refusal};

use super::connection::Connection;
use super::session::{self, Session};
use super::{Inbound, TransportConfig, TransportEvent};
use crate::tasks::Tasks;

/// How long a session in a peer's way may take to end.
const END_PATIENCE: Duration = Duration::from_millis(200);

/// What all tasks of a transport share.
pub(super) struct Shared {
    pub(super) config: TransportConfig,
    /// The tasks of this transport alone, so that they can be awaited before the node's other tasks end.
    pub(super) tasks: Tasks,
    pub(super) events: mpsc::Sender<TransportEvent>,
    pub(super) inbound: Arc<dyn Inbound>,
    /// Contended by senders (read) and by handshakes and ends of sessions (write).
    registry: RwLock<Registry>,
    /// Fires at the first `reincarnate`.
    pub(super) born: CancellationToken,
    /// Addresses that `connect` is trying, so that each has one try at a time. Contended by dial tasks.
    pub(super) trying: Mutex<HashSet<Address>>,
    /// Connections in their handshake. Contended by handshakes.
    pub(super) unproven: Mutex<HashMap<IpAddr, usize>>,
    /// Strangers, and peers that send what can not be read, fill no log.
    pub(super) log: LogLimit,
}

#[derive(Default)]
struct Registry {
    /// Who this node is; none before its birth and after its shutdown.
    me: Option<Arc<MemberInfo>>,
    sessions: BTreeMap<Incarnation, Arc<Session>>,
    /// Own dials whose proof may have been sent, by the connection's id.
    dialling: BTreeMap<Incarnation, u64>,
    /// Accepted connections whose peer has proven itself and is awaited, by the connection's id.
    claimed: BTreeMap<Incarnation, u64>,
}

/// Why a handshake ends without a session, as decided here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lost {
    /// There is a connection with this peer already.
    AlreadyUp,
    /// Another connection with this peer is in its handshake and goes first.
    Duplicate,
    /// This node has no incarnation, or another than when the handshake began.
    NotReady,
    /// A younger life of the peer is connected.
    Outdated,
    /// This node has as many sessions as it may.
    TooMany,
}

impl Lost {
    /// How the peer is told.
    pub(super) const fn refusal(self) -> Refusal {
        match self {
            Lost::AlreadyUp | Lost::Duplicate => Refusal::Duplicate,
            Lost::NotReady => Refusal::NotReady,
            Lost::Outdated => Refusal::Outdated,
            Lost::TooMany => Refusal::Busy,
        }
    }
}

/// The right of one handshake to become the connection with a peer. Given back when dropped.
pub(super) struct Right {
    shared: Arc<Shared>,
    pub(super) me: Arc<MemberInfo>,
    pub(super) peer: Incarnation,
    /// The connection's id: random, from the dialler's challenge.
    pub(super) connection: u64,
    pub(super) dialled_here: bool,
    /// The session that this connection would go on with, if both sides have it.
    pub(super) session: Option<Arc<Session>>,
}

impl Right {
    /// See [`Shared::check_peer`].
    pub(super) fn check_peer(&self, peer: &MemberInfo) -> Result<(), Lost> {
        self.shared.check_peer(peer)
    }
}

/// Whether the session is with another life of this peer's node.
fn is_other_life(session: &Session, peer: &MemberInfo) -> bool {
    session.peer().name == peer.name && session.peer().incarnation != peer.incarnation
}

impl Drop for Right {
    fn drop(&mut self) {
        let mut registry = self.shared.write();
        let rights = if self.dialled_here { &mut registry.dialling } else { &mut registry.claimed };
        if rights.get(&self.peer) == Some(&self.connection) {
            rights.remove(&self.peer);
        }
    }
}

impl Shared {
    pub(super) fn new(
        config: TransportConfig,
        events: mpsc::Sender<TransportEvent>,
        inbound: Arc<dyn Inbound>,
    ) -> Self {
        Self {
            config,
            tasks: Tasks::new(),
            events,
            inbound,
            registry: RwLock::default(),
            born: CancellationToken::new(),
            trying: Mutex::default(),
            unproven: Mutex::default(),
            log: LogLimit::default(),
        }
    }

    // A panic while the lock is held leaves whole entries behind: every change is one insertion or removal.
    fn read(&self) -> RwLockReadGuard<'_, Registry> {
        self.registry.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Registry> {
        self.registry.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who this node is now.
    pub(super) fn me(&self) -> Option<Arc<MemberInfo>> {
        self.read().me.clone()
    }

    /// The session with this peer, if it has not begun to end.
    pub(super) fn session(&self, peer: Incarnation) -> Option<Arc<Session>> {
        self.read().sessions.get(&peer).filter(|session| !session.is_ending()).cloned()
    }

    /// Whether a session exists whose peer says it listens on `address`.
    pub(super) fn has_session_at(&self, address: &str) -> bool {
        self.read().sessions.values().any(|s| !s.is_ending() && *s.peer().address == *address)
    }

    /// Whether a connection that this peer dialled is about to be used.
    pub(super) fn is_claimed(&self, peer: Incarnation) -> bool {
        self.read().claimed.contains_key(&peer)
    }

    /// Goes on as `me`.
    pub(super) fn reincarnate(&self, me: MemberInfo) {
        // Only without the registry's lock: a frame that is being delivered may take it, to send an answer.
        for session in self.change_life(Some(Arc::new(me))) {
            session.silence();
        }
        self.born.cancel();
    }

    /// Goes on as somebody else, or nobody. Returns the sessions of the life before, which are told to end.
    fn change_life(&self, me: Option<Arc<MemberInfo>>) -> Vec<Arc<Session>> {
        let mut registry = self.write();
        registry.me = me;
        // Handshakes of the life before fail at their commit.
        registry.dialling.clear();
        registry.claimed.clear();
        let sessions: Vec<_> = registry.sessions.values().cloned().collect();
        // With the lock, so that no handshake of the new life finds one that could be resumed.
        for session in &sessions {
            session.end(LinkLoss::Unreachable);
        }
        sessions
    }

    /// Ends everything; see [`super::Transport::shutdown`].
    pub(super) async fn shutdown(&self) {
        let sessions: Vec<_> = self.read().sessions.values().cloned().collect();
        let drained = async {
            for session in &sessions {
                session.drained().await;
            }
        };
        // Whether all of it was acknowledged changes nothing: a session that ends says what it knows.
        let _ = tokio::time::timeout(self.config.timings.linger, drained).await;
        self.close();
        self.tasks.ended().await;
    }

    /// Tells all tasks to end; does not wait.
    pub(super) fn close(&self) {
        self.change_life(None);
        self.tasks.stop();
    }

    /// A dialler knows who answered and is about to prove itself. Says what it has to claim.
    ///
    /// # Errors
    /// This connection is not needed.
    pub(super) fn begin_dial(
        self: &Arc<Self>,
        me: &Arc<MemberInfo>,
        peer: Incarnation,
        connection: u64,
    ) -> Result<(Right, Claim), Lost> {
        let mut registry = self.write();
        registry.check_life(me)?;
        let session = registry.sessions.get(&peer).filter(|s| !s.is_ending()).cloned();
        let mut claim = Claim::default();
        if let Some(session) = &session {
            if session.is_connected() {
                return Err(Lost::AlreadyUp);
            }
            claim = Claim { session: session.id(), lost: session.last_connection() };
        }
        if registry.claimed.contains_key(&peer) || registry.dialling.contains_key(&peer) {
            return Err(Lost::Duplicate);
        }
        registry.check_room(peer, self.config.sessions_max)?;
        registry.dialling.insert(peer, connection);
        drop(registry);
        Ok((self.right(me, peer, connection, true, session), claim))
    }

    /// A peer that dialled has proven itself and says what it claims.
    ///
    /// # Errors
    /// Another connection with this peer goes first.
    pub(super) fn claim(
        self: &Arc<Self>,
        me: &Arc<MemberInfo>,
        peer: Incarnation,
        connection: u64,
        claim: Claim,
    ) -> Result<Right, Lost> {
        let mut registry = self.write();
        registry.check_life(me)?;
        let first = me.incarnation < peer;
        // The pair's own rule: what the smaller incarnation dials goes before what the greater one dials. The
        // greater one needs no more care, since the smaller dials only without a connection, as it sees
        // things.
        if first && registry.dialling.contains_key(&peer) {
            return Err(Lost::Duplicate);
        }
        let session = registry.sessions.get(&peer).filter(|s| !s.is_ending()).cloned();
        let in_use = |s: &Session| s.is_connected_by_own_dial() && s.last_connection() != claim.lost;
        if first && session.as_deref().is_some_and(in_use) {
            return Err(Lost::Duplicate);
        }
        // Every member knows the secret and every other's incarnation, but only the peer itself knows its session. What
        // is claimed without that replaces no session that lives.
        let unknown = |s: &Session| s.id() != claim.session && s.is_living(self.lives_within());
        if session.as_deref().is_some_and(unknown) {
            return Err(Lost::Duplicate);
        }
        registry.dialling.remove(&peer);
        registry.claimed.insert(peer, connection);
        drop(registry);
        let session = session.filter(|session| session.id() == claim.session);
        Ok(self.right(me, peer, connection, false, session))
    }

    fn right(
        self: &Arc<Self>,
        me: &Arc<MemberInfo>,
        peer: Incarnation,
        connection: u64,
        dialled_here: bool,
        session: Option<Arc<Session>>,
    ) -> Right {
        Right { shared: self.clone(), me: me.clone(), peer, connection, dialled_here, session }
    }

    /// Whether a peer may have a session at all: checked while it can still be told.
    ///
    /// # Errors
    /// A younger life of the same node is connected. Or there is no room.
    fn check_peer(&self, peer: &MemberInfo) -> Result<(), Lost> {
        let registry = self.read();
        registry.check_room(peer.incarnation, self.config.sessions_max)?;
        registry.check_other_lives(peer)
    }

    /// Whether a younger life of this peer's node is connected: without a connection of its own this one is over.
    pub(super) fn is_succeeded(&self, peer: &MemberInfo) -> bool {
        self.read().has_younger_connected(peer)
    }

    /// Whoever is connected and was heard within this time lives, whatever another peer says.
    pub(super) fn lives_within(&self) -> Duration {
        self.config.timings.keep_alive * 2
    }

    /// Sessions that stand in a peer's way because they live may be about to end: a node that changes its life, or
    /// gives a session up, closes its connections first. Waits for that, for a moment.
    pub(super) async fn await_end_of(&self, in_the_way: impl Fn(&Session) -> bool) {
        let within = self.lives_within();
        let living: Vec<_> = {
            let registry = self.read();
            let sessions = registry.sessions.values();
            sessions.filter(|s| in_the_way(s) && s.is_living(within)).cloned().collect()
        };
        let ends = async {
            for session in &living {
                session.unconnected().await;
            }
        };
        // Whether they have ended is looked at next.
        let _ = tokio::time::timeout(END_PATIENCE, ends).await;
    }

    /// The handshake is complete: the connection belongs to a session from now on, an old or a new one.
    ///
    /// # Errors
    /// Another connection went first, or this node or the peer is no longer who it was; the connection is
    /// closed.
    pub(super) fn commit(
        self: &Arc<Self>,
        right: Right,
        peer: Box<MemberInfo>,
        connection: Connection,
    ) -> Result<(), Lost> {
        let mut registry = self.write();
        let committed = registry.commit(self, &right, peer, connection);
        // `right` takes the same lock when it is dropped.
        drop(registry);
        drop(right);
        committed
    }

    /// A session's task has ended.
    pub(super) fn remove(&self, session: &Arc<Session>) {
        let mut registry = self.write();
        let peer = session.peer().incarnation;
        if registry.sessions.get(&peer).is_some_and(|known| Arc::ptr_eq(known, session)) {
            registry.sessions.remove(&peer);
        }
    }
}

impl Registry {
    fn check_life(&self, me: &MemberInfo) -> Result<(), Lost> {
        match &self.me {
            Some(now) if now.incarnation == me.incarnation => Ok(()),
            _ => Err(Lost::NotReady),
        }
    }

    fn commit(
        &mut self,
        shared: &Arc<Shared>,
        right: &Right,
        peer: Box<MemberInfo>,
        connection: Connection,
    ) -> Result<(), Lost> {
        self.check_life(&right.me)?;
        let rights = if right.dialled_here { &self.dialling } else { &self.claimed };
        if rights.get(&right.peer) != Some(&right.connection) {
            return Err(Lost::Duplicate);
        }
        self.check_room(right.peer, shared.config.sessions_max)?;
        let mut predecessors = self.end_other_lives(&peer)?;
        if let Some(resumed) = &right.session {
            // It may have ended since the peer was told that it goes on.
            let known = self.sessions.get(&right.peer).is_some_and(|known| Arc::ptr_eq(known, resumed));
            if !known || resumed.is_ending() {
                return Err(Lost::NotReady);
            }
            return resumed.hand_over(connection).map_err(|_| Lost::AlreadyUp);
        }
        if let Some(known) = self.sessions.get(&right.peer) {
            // The peer has given that session up, or this side did.
            known.end(LinkLoss::Unreachable);
            predecessors.push(known.ended().clone());
        }
        let session = session::start(shared, right.me.incarnation, peer, connection, predecessors);
        self.sessions.insert(right.peer, session);
        Ok(())
    }

    /// Sessions with other lives of this peer's node.
    fn other_lives<'a>(&'a self, peer: &'a MemberInfo) -> impl Iterator<Item = &'a Arc<Session>> + 'a {
        self.sessions.values().filter(|session| is_other_life(session, peer))
    }

    /// Whether a younger life of this peer's node is connected. Then this one is a late guest, or two nodes
    /// share a name.
    fn has_younger(&self, peer: &MemberInfo) -> bool {
        if self.sessions.get(&peer.incarnation).is_some_and(|s| !s.is_ending()) {
            // It goes on; who of two living nodes with one name is a member is decided by membership.
            return false;
        }
        self.has_younger_connected(peer)
    }

    fn has_younger_connected(&self, peer: &MemberInfo) -> bool {
        let younger = |s: &Session| s.peer().incarnation.started_ms > peer.incarnation.started_ms;
        self.other_lives(peer).any(|s| !s.is_ending() && s.is_connected() && younger(s))
    }

    /// A member can show itself under as many lives as it likes.
    fn check_room(&self, peer: Incarnation, sessions_max: usize) -> Result<(), Lost> {
        let has_room = self.sessions.len() < sessions_max || self.sessions.contains_key(&peer);
        if has_room { Ok(()) } else { Err(Lost::TooMany) }
    }

    fn check_other_lives(&self, peer: &MemberInfo) -> Result<(), Lost> {
        if self.has_younger(peer) {
            return Err(Lost::Outdated);
        }
        Ok(())
    }

    /// A node has one life at a time: its earlier ones are over when a younger one shows itself. But not on its word
    /// alone: one whose connection stands may well live, and two nodes with one name are told apart by membership.
    fn end_other_lives(&self, peer: &MemberInfo) -> Result<Vec<CancellationToken>, Lost> {
        self.check_other_lives(peer)?;
        let ended = self.other_lives(peer).filter(|session| !session.is_connected()).map(|session| {
            session.end(LinkLoss::Replaced);
            session.ended().clone()
        });
        Ok(ended.collect())
    }
}

/// Lets one line a second through, and counts the others.
#[derive(Debug, Default)]
pub(crate) struct LogLimit(Mutex<(Option<Instant>, u64)>);

impl LogLimit {
    /// How many lines were kept back since the last one, if this one may be written.
    pub(crate) fn admit(&self) -> Option<u64> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (last, kept_back) = *state;
        if last.is_some_and(|last| last.elapsed() < Duration::from_secs(1)) {
            *state = (last, kept_back + 1);
            return None;
        }
        *state = (Some(Instant::now()), 0);
        Some(kept_back)
    }
}
