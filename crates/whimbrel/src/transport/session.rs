//! One session: its link, the connection it has at the moment, and the task that keeps it alive.
//!
//! ```text
//!            first connection                  closed
//!   (new) ──────────────────> Connected ──────────────────> Waiting ── refused ──────────────> Ended: Refused
//!                                 ^                          │  │ └─── unreachable_after ────> Ended: Unreachable
//!                                 └── dialled, or accepted ──┘  │
//!                                                               └ another life of the peer ──> Ended: Replaced
//! ```
//!
//! The task sends `SessionUp` first and `SessionDown` last, and awaits the reader in between, so the driver
//! sees a session's events in order. Sessions that this one replaces have sent their `SessionDown` before it
//! says `SessionUp`.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use whimbrel_core::base::Incarnation;
use whimbrel_core::base::limits::{LINK_BYTES_MAX, LINK_CONTROL_BYTES_MAX};
use whimbrel_core::delivery::{CannotResume, Lane, Link, Receipt};
use whimbrel_core::node::LinkLoss;
use whimbrel_core::view::MemberInfo;
use whimbrel_core::wire::frame::{FrameKind, RawFrame};

use super::connection::{self, Connection};
use super::dialler;
use super::outgoing::{ByteCount, OutFrame, Queued};
use super::registry::Shared;
use super::{SendError, TransportEvent, Writing};

/// Received frames after which the writer is woken to acknowledge them.
const ACKNOWLEDGE_FRAMES: u64 = 64;
/// Received bytes after which it is: far below what the peer may keep unacknowledged.
const ACKNOWLEDGE_BYTES: usize = LINK_BYTES_MAX / 16;

/// A session with one life of a peer.
pub(super) struct Session {
    /// The life of this node it belongs to.
    me: Incarnation,
    peer: Box<MemberInfo>,
    /// The id of its first connection.
    id: u64,
    /// Contended by senders, the reader and the writer, each for one short step.
    state: Mutex<State>,
    /// When it began.
    began: Instant,
    /// When something was last read, in milliseconds since then.
    heard: AtomicU64,
    /// Held by the reader while the exchange takes a frame, so that `silence` can wait for that.
    delivering: Mutex<()>,
    /// Bytes that the link holds.
    held: ByteCount,
    /// Wakes the writer.
    pub(super) work: Notify,
    /// Wakes the task when a connection was handed over.
    arrived: Notify,
    /// Wakes whoever waits for everything to be acknowledged.
    idle: Notify,
    /// Set when `SessionUp` is sent: sends before would mix with what the end of a predecessor reports as
    /// lost.
    up: AtomicBool,
    /// Fires when the session is to end.
    pub(super) ending: CancellationToken,
    /// As `ending`, at the cost of a look: the reader asks for every frame.
    ends: AtomicBool,
    /// Why it ends; set before `ending` fires.
    loss: OnceLock<LinkLoss>,
    /// Fires when its last event was sent.
    ended: CancellationToken,
}

struct State {
    /// None once the session has ended.
    link: Option<Link<Queued>>,
    /// The connection in use or about to be.
    current: Option<Current>,
    /// The connection handed over and not taken up by the task yet.
    arrived: Option<Connection>,
    /// The id of the last connection, for the peer to know which one was given up.
    last_connection: u64,
    /// Frames received since the last acknowledgement.
    owed: u64,
    /// Bytes of these.
    owed_bytes: usize,
    /// The writer's timer, which acknowledges what is owed if nothing else does, or for which the writer was woken.
    timer: Option<Delay>,
}

/// How long an acknowledgement may wait for something to go along with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Delay {
    /// Of messages, most of which have answers to go along with: it frees memory, and nobody waits for it.
    Long,
    /// Of control, which may be the last word before a good-bye.
    Short,
}

/// What others need to know of the connection in use.
#[derive(Clone)]
struct Current {
    dialled_here: bool,
    /// Closes it.
    closing: CancellationToken,
    /// Fires when reader and writer have ended.
    closed: CancellationToken,
}

/// What the writer has to put on the wire.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) frames: Vec<(u64, OutFrame)>,
    pub(super) acknowledge: Option<u64>,
    /// The writer's timer must acknowledge what is owed.
    pub(super) timer: Option<Delay>,
}

/// Starts a session on its first connection.
pub(super) fn start(
    shared: &Arc<Shared>,
    me: Incarnation,
    peer: Box<MemberInfo>,
    connection: Connection,
    predecessors: Vec<CancellationToken>,
) -> Arc<Session> {
    let session = Arc::new(Session {
        me,
        peer,
        id: connection.id,
        state: Mutex::new(State {
            link: Some(Link::new(shared.config.mutants)),
            current: None,
            arrived: None,
            last_connection: 0,
            owed: 0,
            owed_bytes: 0,
            timer: None,
        }),
        began: Instant::now(),
        heard: AtomicU64::new(0),
        delivering: Mutex::default(),
        held: ByteCount::default(),
        work: Notify::new(),
        arrived: Notify::new(),
        idle: Notify::new(),
        up: AtomicBool::new(false),
        ending: CancellationToken::new(),
        ends: AtomicBool::new(false),
        loss: OnceLock::new(),
        ended: CancellationToken::new(),
    });
    let taken = session.hand_over(connection);
    debug_assert!(taken.is_ok(), "a new session has no connection");
    shared.tasks.spawn("session", run(shared.clone(), session.clone(), predecessors));
    session
}

impl Session {
    // A panic while the lock is held can only come from the link's own assertions; the link is then whole
    // enough to be asked for what it never wrote.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn me(&self) -> Incarnation {
        self.me
    }

    pub(super) fn peer(&self) -> &MemberInfo {
        &self.peer
    }

    pub(super) fn id(&self) -> u64 {
        self.id
    }

    pub(super) fn is_ending(&self) -> bool {
        self.ends.load(Ordering::Acquire)
    }

    pub(super) fn ended(&self) -> &CancellationToken {
        &self.ended
    }

    pub(super) fn is_connected(&self) -> bool {
        self.lock().current.is_some()
    }

    pub(super) fn is_connected_by_own_dial(&self) -> bool {
        self.lock().current.as_ref().is_some_and(|current| current.dialled_here)
    }

    /// Something was read.
    pub(super) fn on_heard(&self, now: Instant) {
        let since = now.saturating_duration_since(self.began).as_millis();
        self.heard.store(u64::try_from(since).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Whether it is connected, has been for this long, and was heard within this time.
    pub(super) fn is_living(&self, within: Duration) -> bool {
        let age = self.began.elapsed();
        let heard = Duration::from_millis(self.heard.load(Ordering::Relaxed));
        age >= within && age.saturating_sub(heard) <= within && self.is_connected()
    }

    /// Waits until the connection it has now, if any, is closed.
    pub(super) async fn unconnected(&self) {
        let closed = self.lock().current.as_ref().map(|current| current.closed.clone());
        if let Some(closed) = closed {
            closed.cancelled().await;
        }
    }

    pub(super) fn last_connection(&self) -> u64 {
        self.lock().last_connection
    }

    /// Ends it. The first reason given counts.
    pub(super) fn end(&self, loss: LinkLoss) {
        let _ = self.loss.set(loss);
        self.ends.store(true, Ordering::Release);
        self.ending.cancel();
    }

    /// Ends it; when this returns, nothing of it reaches the exchange any more.
    pub(super) fn silence(&self) {
        self.end(LinkLoss::Unreachable);
        drop(self.delivering.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Runs `deliver` unless the session is to end.
    pub(super) fn deliver(&self, deliver: impl FnOnce()) {
        let _delivering = self.delivering.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.is_ending() {
            deliver();
        }
    }

    /// Closes its connection and waits until nothing more is read from it, so that `received` stands still.
    pub(super) async fn disconnect(&self) {
        let current = self.lock().current.clone();
        if let Some(current) = current {
            current.closing.cancel();
            current.closed.cancelled().await;
        }
    }

    /// Number of the last frame received; stands still only without a connection.
    pub(super) fn received(&self) -> u64 {
        self.lock().link.as_ref().map_or(0, Link::received)
    }

    /// Gives it a connection.
    ///
    /// # Errors
    /// It has one; the given one is dropped.
    pub(super) fn hand_over(&self, connection: Connection) -> Result<(), CannotTake> {
        let mut state = self.lock();
        if state.current.is_some() {
            return Err(CannotTake);
        }
        state.current = Some(Current {
            dialled_here: connection.dialled_here,
            closing: connection.closing.clone(),
            closed: connection.closed.clone(),
        });
        state.last_connection = connection.id;
        state.arrived = Some(connection);
        drop(state);
        self.arrived.notify_one();
        Ok(())
    }

    /// Queues a frame; see [`super::Transport::send`].
    pub(super) fn send(&self, lane: Lane, frame: OutFrame, writing: Writing) -> Result<(), SendError> {
        let bytes_max = match lane {
            Lane::Control => LINK_BYTES_MAX + LINK_CONTROL_BYTES_MAX,
            Lane::Messages | Lane::Bulk => LINK_BYTES_MAX,
        };
        if !self.up.load(Ordering::Acquire) {
            return Err(SendError::NoSession);
        }
        // A route counts on every signal of a session, which therefore goes by this lane; and control is
        // level-triggered: a peer that does not even take these is better served by a new session than by what piled
        // up for it.
        let needed = lane == Lane::Control;
        let pushed = match self.held.admit(frame, bytes_max) {
            None => Err(SendError::Full),
            Some(queued) => match self.lock().link.as_mut() {
                None => return Err(SendError::NoSession),
                Some(link) => {
                    let goes_along = link.last_queued(lane).is_some_and(|last| last.take_along(&queued));
                    if goes_along { Ok(()) } else { link.push(lane, queued).map_err(|_| SendError::Full) }
                }
            },
        };
        match pushed {
            Ok(()) if writing == Writing::Later => {}
            Ok(()) => self.work.notify_one(),
            Err(_) if needed => self.end(LinkLoss::Unreachable),
            Err(_) => {}
        }
        pushed
    }

    /// Takes frames for writing until `bytes_max` is reached, and what is to be acknowledged along with them.
    /// When the timer has `fired`, acknowledges even if nothing else is written.
    pub(super) fn take(&self, batch: &mut Batch, bytes_max: usize, fired: bool) {
        let mut state = self.lock();
        let state = &mut *state;
        let Some(link) = state.link.as_mut() else { return };
        if fired {
            state.timer = None;
        }
        let mut bytes = 0;
        while bytes < bytes_max
            && let Some((number, queued)) = link.next()
        {
            bytes += queued.bytes();
            batch.frames.push((number, queued.frame().clone()));
        }
        let due = fired || !batch.frames.is_empty() || state.owed_bytes >= ACKNOWLEDGE_BYTES;
        batch.acknowledge = if due { link.ack_now() } else { link.ack_due() };
        if batch.acknowledge.is_some() {
            (state.owed, state.owed_bytes) = (0, 0);
        }
        batch.timer = state.timer;
    }

    /// Numbered frames arrived, all of control or none. Leaves those that are to be delivered; if one before them is
    /// missing, that is none, and the first that has come is returned.
    #[must_use = "frames are missing"]
    pub(super) fn on_frames(&self, frames: &mut Vec<RawFrame<'_>>) -> Option<u64> {
        let delay = match frames.first().map(|frame| frame.kind) {
            Some(FrameKind::Control) => Delay::Short,
            Some(_) => Delay::Long,
            None => return None,
        };
        let mut gap = None;
        let mut state = self.lock();
        let state_now = &mut *state;
        let Some(link) = state_now.link.as_mut() else {
            frames.clear();
            return None;
        };
        let owed = state_now.owed;
        frames.retain(|frame| match link.on_frame(frame.number) {
            Receipt::Fresh => {
                state_now.owed += 1;
                state_now.owed_bytes += frame.body.len();
                true
            }
            Receipt::Duplicate => false,
            Receipt::Gap => {
                gap.get_or_insert(frame.number);
                false
            }
        });
        // Once for the timer, which then serves all frames until it fires; and when the sender may soon wait
        // for room.
        let sooner = state.owed > 0 && state.timer < Some(delay);
        let many = owed < ACKNOWLEDGE_FRAMES && state.owed >= ACKNOWLEDGE_FRAMES;
        let wake = sooner || many || state.owed_bytes >= ACKNOWLEDGE_BYTES;
        if sooner {
            state.timer = Some(delay);
        }
        drop(state);
        if wake {
            self.work.notify_one();
        }
        gap
    }

    /// An acknowledgement arrived.
    pub(super) fn on_acknowledged(&self, number: u64) {
        let mut state = self.lock();
        let Some(link) = state.link.as_mut() else { return };
        let freed = link.on_ack(number);
        let idle = link.is_idle();
        let stalled = !idle && freed > 0;
        drop(state);
        if stalled {
            // The writer may have stopped at the limit of what may be unacknowledged.
            self.work.notify_one();
        }
        if idle {
            self.idle.notify_waiters();
        }
    }

    /// A connection begins: the peer has received frames up to this number.
    pub(super) fn on_connected(&self, peer_received: u64) -> Result<(), CannotResume> {
        let mut state = self.lock();
        (state.owed, state.owed_bytes) = (0, 0);
        state.timer = None;
        match state.link.as_mut() {
            Some(link) => link.on_connected(peer_received).map(|_| ()),
            None => Ok(()),
        }
    }

    /// Waits until everything queued was acknowledged, or the session ends.
    pub(super) async fn drained(&self) {
        loop {
            let idle = self.idle.notified();
            let done = self.is_ending() || self.lock().link.as_ref().is_none_or(Link::is_idle);
            if done {
                return;
            }
            tokio::select! {
                biased;
                () = self.ending.cancelled() => return,
                () = idle => {}
            }
        }
    }

    async fn arrival(&self) -> Connection {
        loop {
            let arrived = self.lock().arrived.take();
            if let Some(connection) = arrived {
                return connection;
            }
            self.arrived.notified().await;
        }
    }

    /// Drops a connection that was handed over and never used.
    fn abandon(&self) {
        let (arrived, current) = {
            let mut state = self.lock();
            (state.arrived.take(), state.current.take())
        };
        drop(arrived);
        if let Some(current) = current {
            current.closed.cancel();
        }
    }

    fn disconnected(&self) {
        let mut state = self.lock();
        state.current = None;
        if let Some(link) = state.link.as_mut() {
            link.on_disconnected();
        }
    }

    /// The frames of the message lane that were never written. Later sends find no session.
    fn take_unsent(&self) -> Vec<OutFrame> {
        let link = self.lock().link.take();
        let queued = link.map(Link::into_unsent).unwrap_or_default();
        let frames = queued.iter().map(|(_, queued)| queued.frame());
        frames.filter(|frame| frame.kind() != FrameKind::Control).cloned().collect()
    }
}

/// The session has a connection already.
#[derive(Clone, Copy, Debug)]
pub(super) struct CannotTake;

/// The session's task.
async fn run(shared: Arc<Shared>, session: Arc<Session>, predecessors: Vec<CancellationToken>) {
    let announced = announce(&shared, &session, predecessors).await;
    if announced {
        live(&shared, &session).await;
    }
    session.end(LinkLoss::Unreachable);
    session.abandon();
    let peer = session.peer.incarnation;
    let unsent = session.take_unsent();
    shared.inbound.on_session_end(peer, unsent);
    let loss = session.loss.get().copied().unwrap_or(LinkLoss::Unreachable);
    let event = if announced {
        TransportEvent::SessionDown { me: session.me, peer, loss }
    } else {
        TransportEvent::ConnectFailed(session.peer.address.clone())
    };
    tell_last(&shared, event).await;
    shared.remove(&session);
    session.ended.cancel();
}

/// Sends `SessionUp` after those this session replaces have ended. False if it is to end before.
async fn announce(shared: &Arc<Shared>, session: &Session, predecessors: Vec<CancellationToken>) -> bool {
    let up = async {
        for predecessor in predecessors {
            predecessor.cancelled().await;
        }
        shared.events.reserve().await
    };
    tokio::select! {
        biased;
        () = session.ending.cancelled() => false,
        permit = up => match permit {
            Ok(permit) => {
                session.up.store(true, Ordering::Release);
                permit.send(TransportEvent::SessionUp { me: session.me, peer: session.peer.clone() });
                true
            }
            Err(_) => false,
        }
    }
}

/// Sends the last event. While the node stops nobody may read the channel any more: then only if it has room.
async fn tell_last(shared: &Shared, event: TransportEvent) {
    tokio::select! {
        biased;
        permit = shared.events.reserve() => if let Ok(permit) = permit { permit.send(event) },
        () = shared.tasks.stopped() => {}
    }
}

/// One connection after the other, until the session is to end.
async fn live(shared: &Arc<Shared>, session: &Arc<Session>) {
    let mut connection = session.arrival().await;
    while !session.is_ending() {
        let peer = session.peer.incarnation;
        let closed = connection.closed.clone();
        if let Err(why) = connection::drive(shared, session, connection).await
            && let Some(kept_back) = shared.log.admit()
        {
            tracing::warn!(%peer, name = ?session.peer.name, %why, kept_back, "connection closed");
        }
        session.disconnected();
        closed.cancel();
        if shared.is_succeeded(session.peer()) {
            return session.end(LinkLoss::Replaced);
        }
        match next_connection(shared, session).await {
            Some(next) => connection = next,
            None => break,
        }
    }
}

/// Waits for the next connection, dialled or accepted. None if the session ends instead.
async fn next_connection(shared: &Arc<Shared>, session: &Arc<Session>) -> Option<Connection> {
    let give_up = Instant::now() + shared.config.timings.unreachable_after;
    tokio::select! {
        biased;
        () = session.ending.cancelled() => None,
        connection = session.arrival() => Some(connection),
        loss = dialler::redial(shared, session) => {
            session.end(loss);
            None
        }
        () = tokio::time::sleep_until(give_up) => {
            session.end(LinkLoss::Unreachable);
            None
        }
    }
}
