//! What a process is handed beside its state and its message.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::task::{AbortHandle, JoinSet};
use whimbrel_core::base::{BadName, ExitReason, Incarnation, Name, NodeName, Time, Token};

use super::current::Current;
use super::instance::Instance;
use super::timers::{Tick, Ticks, TimerId, Timers};
use super::watches::Watches;
use super::{Process, ProcessRef};
use crate::Cluster;
use crate::clock;
use crate::exchange::{Encoded, Entry, Envelope, Failure};
use crate::message::escort::Owing;
use crate::message::reply::{Owed, Reply, ReplyTo};
use crate::message::{Handler, Message, Typed, Work};
use crate::supervise::{Home, SuperviseError, Supervisor, Tree, Trees};

/// Messages to itself that an instance may have waiting.
const NOTES_MAX: usize = 16_384;

/// The instance's own view of itself: its name, its timers, its tasks, the cluster.
///
/// Everything made through it belongs to this instance: timers and tasks end with it, also when it crashes.
pub struct Context<P: Process> {
    pub(super) entry: Arc<Entry>,
    pub(super) instance: Arc<Instance>,
    pub(super) stop: Option<Box<ExitReason>>,
    /// Who waits for the message in hand, and which message that is.
    pub(super) caller: Option<ReplyTo>,
    pub(crate) in_hand: &'static str,
    /// Made when first needed: most processes own nothing, and there may be very many processes.
    pub(super) own: Option<Box<Own>>,
    cluster: Cluster,
    process: std::marker::PhantomData<fn(P)>,
}

/// What an instance has beside its state: ends with it.
#[derive(Default)]
pub(super) struct Own {
    pub(super) timers: Timers,
    /// Messages to itself.
    pub(super) notes: VecDeque<Box<dyn Work>>,
    /// As often referred to as replies are owed, and once more.
    pub(super) owing: Arc<Owing>,
    pub(super) tasks: Option<JoinSet<()>>,
    pub(super) blocking: Option<JoinSet<()>>,
    pub(super) watches: Option<Box<Watches>>,
    pub(super) trees: Option<Box<Trees>>,
    /// Its own request to be moved.
    asks_to_move: Option<AbortHandle>,
}

impl<P: Process> Context<P> {
    pub(super) fn new(entry: Arc<Entry>, instance: Arc<Instance>, cluster: Cluster) -> Self {
        let (stop, caller, in_hand, own) = (None, None, "", None);
        Self { entry, instance, stop, caller, in_hand, own, cluster, process: std::marker::PhantomData }
    }

    /// The name it was started under; none for one that was spawned.
    pub fn name(&self) -> Option<&Name> {
        self.entry.is_named().then(|| self.entry.name())
    }

    /// The fencing token of this life: higher than that of every earlier life of the name. Zero without a name.
    pub fn token(&self) -> Token {
        self.instance.token()
    }

    /// The life of the node it runs on.
    pub fn incarnation(&self) -> Incarnation {
        self.entry.exchange().me()
    }

    /// The cluster. Clones of it do not keep the node alive.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// A reference to this process, to hand out.
    pub fn myself(&self) -> ProcessRef<P> {
        ProcessRef::new(self.entry.clone())
    }

    /// Handles a message of its own before every other message that waits; in `init`, before any message at all.
    ///
    /// At most 16,384 such messages wait; more become dead letters.
    pub fn notify_self<M: Message>(&mut self, message: M)
    where
        P: Handler<M>,
    {
        let work = Typed::<P, M>::boxed(message);
        let notes = &mut self.own().notes;
        if notes.len() < NOTES_MAX {
            notes.push_back(work);
        } else {
            self.entry.overloaded(work);
        }
    }

    /// Handles a message after this time.
    ///
    /// An instance has at most 4,096 timers; one more brings nothing, and its message is a dead letter.
    pub fn send_after<M: Message>(&mut self, delay: Duration, message: M) -> TimerId
    where
        P: Handler<M>,
    {
        self.add_timer(clock::time() + delay, Tick::Once(Typed::<P, M>::boxed(message)))
    }

    fn add_timer(&mut self, due: Time, tick: Tick) -> TimerId {
        let (id, refused) = self.own().timers.add(due, tick);
        if let Some(work) = refused {
            self.entry.overloaded(work);
        }
        id
    }

    /// Handles a message again and again, first after one period. Ticks that are missed merge into one, and the
    /// phase stays. A message that can not be encoded is repeated with [`Context::send_every_with`].
    #[allow(clippy::needless_pass_by_value, reason = "given away, as to every other sender")]
    pub fn send_every<M: Message>(&mut self, period: Duration, message: M) -> TimerId
    where
        P: Handler<M>,
    {
        const {
            assert!(M::WIRE.travels(), "a message without a wire form is repeated with `send_every_with`");
        }
        let encoded = M::WIRE.encode(&message);
        self.every(period, Ticks::Encoded, move || M::WIRE.decode(encoded.as_ref().ok()?.as_slice()).ok())
    }

    /// As [`Context::send_every`], with a message that is made anew for each tick. A process that has such a timer does
    /// not move: what makes the messages can not leave this node.
    pub fn send_every_with<M: Message>(
        &mut self,
        period: Duration,
        mut message: impl FnMut() -> M + Send + 'static,
    ) -> TimerId
    where
        P: Handler<M>,
    {
        self.every(period, Ticks::Made, move || Some(message()))
    }

    fn every<M: Message>(
        &mut self,
        period: Duration,
        origin: Ticks,
        mut message: impl FnMut() -> Option<M> + Send + 'static,
    ) -> TimerId
    where
        P: Handler<M>,
    {
        let period = period.max(Duration::from_millis(1));
        let make = Box::new(move || message().map(Typed::<P, M>::boxed));
        self.add_timer(clock::time() + period, Tick::Every { period, make, origin })
    }

    /// Ends a timer; a message that it has brought already is still handled.
    pub fn cancel(&mut self, timer: TimerId) {
        if let Some(own) = &mut self.own {
            own.timers.cancel(timer);
        }
    }

    /// Runs a future beside the process, as the same sender. It is aborted when the instance ends.
    pub fn spawn<F>(&mut self, future: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let owner = Current { id: self.instance.id.task(), ..self.current(None) };
        reap(&mut self.own().tasks).spawn(owner.within(Box::pin(future)));
    }

    /// Runs blocking code beside the process. It can not be aborted: the end of the instance, and so its restart,
    /// waits for it up to 5 s.
    pub fn spawn_blocking<F>(&mut self, code: F)
    where
        F: FnOnce() + Send + 'static,
    {
        reap(&mut self.own().blocking).spawn_blocking(code);
    }

    /// Runs a tree beside the process, on its node. Returns when its children are up, started one after the other in
    /// their order; their tasks run as this process, as those of [`Context::spawn`] do.
    ///
    /// It belongs to this instance, which has 64 of them at most. It ends with it: it is stopped before the end is told,
    /// in order for 5 s, then by force. When it gives up, the process fails for the same reason, as soon as it is done
    /// with the message in hand.
    ///
    /// A tree does not move. When the process is to move it is stopped, in order for 2 s, then by force; if nothing comes
    /// of the move it starts again, otherwise the process makes it anew on its next node, in [`Process::resume`] or in
    /// [`Process::init`].
    ///
    /// # Errors
    /// [`SuperviseError`]; then nothing of it runs.
    ///
    /// # Cancel safety
    /// Dropped on the way, the tree is ended by force.
    pub async fn supervise(&mut self, tree: Tree) -> Result<Supervisor, SuperviseError> {
        let current = Current { id: self.instance.id.task(), ..self.current(None) };
        let home = Home { cluster: self.cluster.clone(), current };
        self.own().trees.get_or_insert_default().add(home, tree).await
    }

    /// Ends this instance when the present message was handled. What follows is up to the restart policy.
    pub fn stop(&mut self, reason: ExitReason) {
        self.stop.get_or_insert_with(|| Box::new(reason.capped()));
    }

    /// Asks to be moved to the node where the placement of its kind puts it. Returns at once: it can not move before the
    /// message in hand has been handled.
    ///
    /// What comes of it is told as an event (`Moved`, `MoveCalledOff`) by the node that owns the name; the log here tells
    /// why it stays. While one such request is open, others bring nothing; nor does one of a process without a name.
    pub fn request_move(&mut self) {
        self.ask_to_move(None);
    }

    /// As [`Context::request_move`], to the member of this name.
    ///
    /// # Errors
    /// The text is not the name of a node.
    pub fn request_move_to(&mut self, node: &str) -> Result<(), BadName> {
        self.ask_to_move(Some(NodeName::new(node)?));
        Ok(())
    }

    fn ask_to_move(&mut self, to: Option<NodeName>) {
        let Some(name) = self.name().cloned() else { return };
        if self.own().asks_to_move.as_ref().is_some_and(|open| !open.is_finished()) {
            return;
        }
        let cluster = self.cluster.clone();
        // Not one of its own tasks: before it moves those end.
        let asking = self.entry.exchange().tasks().spawn_until_stopped("request move", async move {
            if let Err(error) = cluster.ask_to_move(name.as_str(), to).await {
                tracing::info!(?name, %error, "a process that asked to be moved stays");
            }
        });
        self.own().asks_to_move = Some(asking);
    }

    /// Takes over the answer of the call in hand, of the message `M`, to give it later; what the handler returns is
    /// then dropped. In a cast, or for another message, nobody waits for it.
    pub fn reply_later<M: Message>(&mut self) -> Reply<M::Reply>
    where
        P: Handler<M>,
    {
        let owed = if self.in_hand == M::NAME { self.take_caller() } else { None };
        let owing = owed.is_some().then(|| self.own().owing.clone());
        Reply::new::<M>(owed, owing)
    }

    /// As whom the process runs while it works on a message with this deadline.
    pub(super) fn current(&self, deadline: Option<Time>) -> Current {
        Current { id: self.instance.id, token: self.instance.token(), deadline }
    }

    /// Gives the reply to who waits for the message in hand.
    pub(crate) fn answer<M: Message>(&mut self, reply: M::Reply) {
        if let Some(to) = self.caller {
            self.entry.exchange().answer::<M>(to, reply);
            // Not before: the reply is encoded by user code, and if that panics the caller is still owed an outcome.
            self.caller = None;
        }
    }

    /// How many answers it owes that it took over with `reply_later`.
    pub(super) fn owed_replies(&self) -> usize {
        self.own.as_ref().map_or(0, |own| Arc::strong_count(&own.owing) - 1)
    }

    /// Why it failed, as others may know it.
    pub(crate) fn outward(&self, reason: ExitReason) -> ExitReason {
        self.entry.exchange().outward(reason)
    }

    /// Why it ended, as others may know it; what they may not is told here.
    pub(super) fn ended(&self, reason: &ExitReason) -> ExitReason {
        let outward = self.outward(reason.clone());
        if outward != *reason {
            tracing::warn!(name = ?self.entry.name(), %reason, "a process failed");
        }
        outward
    }

    /// Another life of it gives them.
    pub(super) fn leave_replies(&self) {
        if let Some(own) = &self.own {
            own.owing.silence();
        }
    }

    /// It gives them itself.
    pub(super) fn take_replies(&self) {
        if let Some(own) = &self.own {
            own.owing.speak();
        }
    }

    pub(super) fn own(&mut self) -> &mut Own {
        self.own.get_or_insert_default()
    }

    /// The next message that it owes itself: noted, or brought by a timer.
    pub(super) fn next_own(&mut self) -> Option<Box<dyn Work>> {
        let own = self.own.as_mut()?;
        own.notes.pop_front().or_else(|| match own.timers.is_empty() {
            true => None,
            false => own.timers.due(clock::time()),
        })
    }

    /// Registers the task to be woken when the next timer is due; ready if one is due already.
    pub(super) fn poll_timers(&mut self, task: &mut std::task::Context<'_>) -> Poll<()> {
        match &mut self.own {
            Some(own) if !own.timers.is_empty() => own.timers.poll_due(clock::time(), task),
            Some(_) | None => Poll::Pending,
        }
    }

    /// Why a tree of its own gave up, when one does.
    pub(super) fn poll_trees(&mut self, task: &mut std::task::Context<'_>) -> Poll<ExitReason> {
        match self.trees() {
            Some(trees) => trees.poll_failed(task),
            None => Poll::Pending,
        }
    }

    pub(super) fn trees(&mut self) -> Option<&mut Trees> {
        self.own.as_mut()?.trees.as_deref_mut()
    }

    /// A message of another node is not handled, for this reason.
    pub(crate) fn refuse(&mut self, encoded: Arc<Encoded>, failure: Failure) {
        self.caller = None;
        self.entry.undelivered(Envelope::Encoded(encoded), failure);
    }

    pub(crate) fn take_caller(&mut self) -> Option<Owed> {
        let to = self.caller.take()?;
        Some(Owed::new(self.entry.exchange().clone(), to))
    }
}

/// The set, without the tasks that have ended; a panic of one is logged and harms nobody.
fn reap(tasks: &mut Option<JoinSet<()>>) -> &mut JoinSet<()> {
    let tasks = tasks.get_or_insert_default();
    while let Some(ended) = tasks.try_join_next() {
        log_panic(ended);
    }
    tasks
}

pub(super) fn log_panic(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::warn!(%error, "a task of a process panicked");
    }
}

impl<P: Process> std::fmt::Debug for Context<P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context").field("name", self.entry.name()).finish_non_exhaustive()
    }
}
