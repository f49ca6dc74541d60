//! The message path of one node: names, calls, what arrives and what leaves.
//!
//! Nothing here waits and nothing passes through the driver. A send finds the [`Entry`] of its name (a
//! `ProcessRef` holds it) and runs the entry's port under its lock: into the mailbox, onto a link, or held until the
//! owner has told where the process is. The driver is asked only that question.
//!
//! ```text
//!   cast, call ──> Entry ── Port ──┬─ mailbox ──> task of the process ──> outcome ──> calls ──> caller
//!                                  ├─ transport                                         ^
//!   link reader ── on_frames ──────┘        └──────────── reply of another node ────────┘
//! ```
//!
//! **Locks**, each short, in the order in which they nest: entry, then one of {calls, routes, confirmations, a
//! session's link, the lists for driver and sweeper}. The table of names is locked alone. User code (encoding,
//! destructors, the hook for dead letters) runs outside of them.
//!
//! **Who sees to time**: one sweeper task per node looks at the open calls and the waiting entries whose time has come,
//! and sleeps until then. No call has a timer of its own.

mod bequests;
mod budget;
mod calls;
mod dead_letters;
mod entry;
mod envelope;
mod inbound;
mod instances;
mod locked;
mod monitors;
mod moves;
mod publish;
mod sending;
mod snapshots;
mod steps;
mod sweep;
mod table;

/// Where [`locked`] has its locks from; `crates/loom` gives it others.
mod sync {
    pub(super) use std::sync::{Mutex, MutexGuard};
}

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, Weak};

use arc_swap::ArcSwapOption;
use tokio::sync::{Notify, mpsc};
use whimbrel_core::base::ErrorCode;
use whimbrel_core::base::hash::mix;
use whimbrel_core::base::{ExitReason, Incarnation, Mutants, Name, Time, Token};
use whimbrel_core::delivery::{Calls, Epochs, GateState, Here, Lane, Leavers, Room};
use whimbrel_core::directory::{Answer, Located};
use whimbrel_core::view::View;

pub(crate) use budget::Budget;
pub use dead_letters::DeadLetter;
pub(crate) use dead_letters::{DeadLetters, Hook};
pub(crate) use entry::{Entry, Naming};
pub(crate) use envelope::{Encoded, Envelope, Failure, Head, Label};
pub(crate) use instances::STOP_MAX;
pub(crate) use monitors::{Slot, Told, Watch};
pub(crate) use moves::Captured;
pub(crate) use snapshots::Shown;
pub(crate) use steps::StepHook;
pub use steps::{MoveStage, MoveStep};

use crate::driver::Command;
use crate::message::call::Waiter;
use crate::process::KindTable;
use crate::tasks::Tasks;
use crate::transport::{OutFrame, SendError, Transport, Writing};

/// Shards of the table of open calls.
const CALL_SHARDS: usize = 16;
/// Shards of the table from epochs to entries.
const ROUTE_SHARDS: usize = 16;
/// Open calls of one shard; 2^20 of a node.
const CALLS_MAX: usize = 65_536;

/// Locks, also after a panic of another holder: what these locks guard is changed by code that does not panic.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether texts of errors and panics leave their process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum ExitTexts {
    #[default]
    Shared,
    Withheld,
}

/// What users want to be called for, and what others may be told.
#[derive(Default)]
pub(crate) struct Hooks {
    pub(crate) exit_texts: ExitTexts,
    pub(crate) dead_letter: Option<Hook>,
    pub(crate) step: Option<StepHook>,
}

/// The message path of one node.
pub(crate) struct Exchange {
    me: RwLock<Incarnation>,
    view: ArcSwapOption<View>,
    view_counter: AtomicU64,
    epochs: Epochs,
    names: table::Table,
    routes: Vec<Mutex<BTreeMap<u64, Weak<Entry>>>>,
    calls: Vec<Mutex<Calls<Arc<dyn Waiter>>>>,
    transport: OnceLock<Transport>,
    sendings: Arc<sending::Sendings>,
    /// Of messages for processes elsewhere.
    leaving: Budget,
    /// Of messages of other nodes, in the mailboxes here.
    arrived: Budget,
    leavers: Mutex<Leavers>,
    confirmations: Mutex<BTreeMap<Incarnation, inbound::Pending>>,
    /// Entries whose host the driver is to ask for; each at most once, since its port asks once.
    questions: Mutex<Vec<Arc<Entry>>>,
    asked: Notify,
    watched: Mutex<sweep::Watched>,
    /// When the sweeper looks next, in microseconds.
    next_look: AtomicU64,
    woken: Notify,
    instances: instances::Instances,
    monitors: monitors::Monitors,
    bequests: bequests::Bequests,
    kinds: KindTable,
    control: mpsc::Sender<Command>,
    dead_letters: DeadLetters,
    steps: steps::Steps,
    exit_texts: ExitTexts,
    tasks: Tasks,
    mutants: Mutants,
    closed: AtomicBool,
}

impl Exchange {
    pub(crate) fn new(
        kinds: KindTable,
        control: mpsc::Sender<Command>,
        tasks: Tasks,
        hooks: Hooks,
        (leaving, arrived): (Budget, Budget),
        mutants: Mutants,
    ) -> Arc<Self> {
        // Without entropy the node does not start; until it has tried, no call is made.
        let seed = getrandom::u64().unwrap_or_default();
        let shard = |at: usize| Mutex::new(Calls::new(at as u8, CALLS_MAX, mix(seed ^ at as u64), mutants));
        Arc::new(Self {
            me: RwLock::new(Incarnation { started_ms: 0, nonce: 0 }),
            view: ArcSwapOption::empty(),
            view_counter: AtomicU64::new(0),
            epochs: Epochs::new(),
            names: table::Table::default(),
            routes: std::iter::repeat_with(Mutex::default).take(ROUTE_SHARDS).collect(),
            calls: (0..CALL_SHARDS).map(shard).collect(),
            transport: OnceLock::new(),
            sendings: sending::Sendings::new(),
            leaving,
            arrived,
            leavers: Mutex::default(),
            confirmations: Mutex::default(),
            questions: Mutex::default(),
            asked: Notify::new(),
            watched: Mutex::default(),
            next_look: AtomicU64::new(u64::MAX),
            woken: Notify::new(),
            instances: instances::Instances::default(),
            monitors: monitors::Monitors::default(),
            bequests: bequests::Bequests::default(),
            kinds,
            control,
            dead_letters: DeadLetters::new(hooks.dead_letter),
            steps: steps::Steps(hooks.step),
            exit_texts: hooks.exit_texts,
            tasks,
            mutants,
            closed: AtomicBool::new(false),
        })
    }

    /// This node's present life.
    pub(crate) fn me(&self) -> Incarnation {
        *self.me.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn view(&self) -> Option<Arc<View>> {
        self.view.load_full()
    }

    pub(crate) fn view_counter(&self) -> u64 {
        self.view_counter.load(Ordering::Relaxed)
    }

    pub(crate) fn here(&self, now: Time) -> Here<'_> {
        Here { me: self.me(), now, epochs: &self.epochs, room: Room::Some }
    }

    pub(crate) fn mutants(&self) -> Mutants {
        self.mutants
    }

    pub(crate) fn kinds(&self) -> &KindTable {
        &self.kinds
    }

    pub(crate) fn dead_letters(&self) -> &DeadLetters {
        &self.dead_letters
    }

    /// A process of this node is so far in its move. Runs user code: call it outside of locks.
    pub(crate) fn tell_step(&self, name: &Name, attempt: Token, stage: MoveStage) {
        self.steps.tell(name, attempt, stage);
    }

    /// Why a process ended, as others may know it.
    pub(crate) fn outward(&self, reason: ExitReason) -> ExitReason {
        match self.exit_texts {
            ExitTexts::Shared => reason,
            ExitTexts::Withheld => reason.withheld(),
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    /// What processes here have sent and no gate has decided.
    pub(crate) fn sendings(&self) -> &Arc<sending::Sendings> {
        &self.sendings
    }

    pub(crate) fn tasks(&self) -> &Tasks {
        &self.tasks
    }

    /// Connects it to other nodes; once, before anything is sent.
    pub(crate) fn set_transport(&self, transport: Transport) {
        let first = self.transport.set(transport);
        debug_assert!(first.is_ok(), "a node has one transport");
    }

    pub(crate) fn send_frame(&self, to: Incarnation, lane: Lane, frame: OutFrame) -> Result<(), SendError> {
        self.queue_frame(to, lane, frame, Writing::Now)
    }

    fn queue_frame(
        &self,
        to: Incarnation,
        lane: Lane,
        frame: OutFrame,
        writing: Writing,
    ) -> Result<(), SendError> {
        self.transport.get().ok_or(SendError::NoSession)?.send_with(to, lane, frame, writing)
    }

    fn end_session(&self, peer: Incarnation) {
        if let Some(transport) = self.transport.get() {
            transport.end_session(peer);
        }
    }

    /// The entry of a name, made if there is none.
    pub(crate) fn entry(self: &Arc<Self>, name: &Name) -> Arc<Entry> {
        if let Some(entry) = self.known(name.as_str()) {
            return entry;
        }
        let make = || Entry::new(name.clone(), Naming::Named, self.clone());
        if self.is_closed() { make() } else { self.names.get_or_insert_with(name, make) }
    }

    /// The entry of a name, if this node has one.
    pub(crate) fn known(&self, name: &str) -> Option<Arc<Entry>> {
        self.names.get(name)
    }

    fn all_entries(&self) -> Vec<Arc<Entry>> {
        self.names.all()
    }

    /// Signals for `epoch` are for this entry from now on, and no longer those for `before`.
    fn route_of(&self, before: Option<u64>, epoch: u64, entry: &Arc<Entry>) {
        if let Some(before) = before {
            lock(&self.routes[before as usize % ROUTE_SHARDS]).remove(&before);
        }
        lock(&self.routes[epoch as usize % ROUTE_SHARDS]).insert(epoch, Arc::downgrade(entry));
    }

    fn entry_of_epoch(&self, epoch: u64) -> Option<Arc<Entry>> {
        lock(&self.routes[epoch as usize % ROUTE_SHARDS]).get(&epoch)?.upgrade()
    }

    /// Has the driver ask the owner where this name is.
    pub(crate) fn ask_where(&self, entry: &Arc<Entry>) {
        lock(&self.questions).push(entry.clone());
        self.asked.notify_one();
    }

    /// Completes when there may be questions.
    pub(crate) async fn asked(&self) {
        self.asked.notified().await;
    }

    pub(crate) fn take_questions(&self) -> Vec<Arc<Entry>> {
        std::mem::take(&mut *lock(&self.questions))
    }

    /// The owner's answer to such a question.
    pub(crate) fn on_answer(&self, entry: &Arc<Entry>, answer: &Answer) {
        match answer {
            Answer::Located(located) => self.on_located(entry, located),
            Answer::NotFound | Answer::NoHost(_) | Answer::InitFailed(_) => {
                entry.with_port(|port, here, out| port.on_negative(here, ErrorCode::NotFound, out));
            }
            Answer::Quarantined => {
                entry.with_port(|port, here, out| port.on_negative(here, ErrorCode::Quarantined, out));
            }
            Answer::Unlinked => self.on_no_way(entry),
            Answer::Started { .. }
            | Answer::AlreadyRunning(_)
            | Answer::Done
            | Answer::Deadline(_)
            | Answer::Hindered(_)
            | Answer::Meta(_)
            | Answer::Conflict(_)
            | Answer::Inspected(_)
            | Answer::AtCapacity
            | Answer::Overloaded => {
                entry.with_port(|port, here, out| port.on_locate_failed(here, out));
            }
        }
    }

    /// The process runs where no link leads: what waits for it ends.
    pub(crate) fn on_no_way(&self, entry: &Arc<Entry>) {
        entry.with_port(|port, here, out| port.on_negative(here, ErrorCode::NodeLost, out));
    }

    /// There has been no link with this member for long: calls to it end, and what waits for it asks where to go.
    pub(crate) fn on_unlinked(&self, peer: Incarnation) {
        self.calls_lost(peer);
        for entry in self.all_entries() {
            entry.with_port(|port, here, out| port.on_host_lost(here, peer, out));
        }
    }

    /// Certain news of where a process is.
    pub(crate) fn on_located(&self, entry: &Arc<Entry>, located: &Located) {
        let at = whimbrel_core::delivery::Whereabouts {
            host: located.host,
            token: located.token,
            gate: located.gate,
        };
        // The text that this node has, if it knows the kind: one for all entries, not one for each answer.
        let known = self.kinds.get(located.kind.as_str()).map(|kind| kind.kind());
        entry.lock().kind = Some(known.unwrap_or(&located.kind).clone());
        entry.with_port(|port, here, out| port.on_located(here, at, out));
    }

    /// The node goes on under another incarnation.
    pub(crate) fn reincarnate(&self, me: Incarnation) {
        let before = std::mem::replace(&mut *self.me.write().unwrap_or_else(PoisonError::into_inner), me);
        self.view.store(None);
        if before.nonce != 0 {
            for entry in self.all_entries() {
                entry.with_port(|port, here, out| port.on_reincarnated(here, out));
            }
        }
    }

    /// A view was installed; the sessions of incarnations that it excludes have ended before.
    pub(crate) fn install_view(&self, view: &Arc<View>) {
        self.view_counter.store(view.id.counter, Ordering::Relaxed);
        self.view.store(Some(view.clone()));
        lock(&self.leavers).on_view(view);
        for entry in self.all_entries() {
            entry.with_port(|port, here, out| port.on_view(here, view, out));
        }
    }

    /// Ends everything at once: instances are aborted, open calls end, later sends are refused.
    pub(crate) fn close(&self) {
        if self.closed.swap(true, Ordering::SeqCst) {
            return;
        }
        // Entries and the exchange hold each other; what is still referred to from outside goes with that.
        for entry in self.names.take_all() {
            entry.with_port(|port, here, out| {
                // What is sealed may run on another node by now, and its messages with it: of them nothing is known.
                if port.inbox().is_some_and(|inbox| inbox.state() == GateState::Sealed) {
                    drop(port.uninstall(here, out));
                }
                port.close(ErrorCode::NodeLost, out);
            });
        }
        self.end_arrivals();
        self.end_monitors();
        // What was queued has ended as not executed; of the rest nothing is known.
        self.end_all_calls();
        self.abort_all();
        // Dropped when the locks are free: an entry may be the last to hold its messages, which are the user's.
        let watched = std::mem::take(&mut *lock(&self.watched));
        let questions = std::mem::take(&mut *lock(&self.questions));
        drop((watched, questions));
    }
}

impl std::fmt::Debug for Exchange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Exchange").field("me", &self.me()).finish_non_exhaustive()
    }
}
