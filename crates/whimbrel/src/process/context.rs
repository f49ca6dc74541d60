//! What a process is handed beside its state and its message.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use whimbrel_core::base::{ExitReason, Incarnation, Name, Time, Token};
use whimbrel_core::delivery::PortOutput;

use super::instance::Instance;
use super::timers::{Tick, TimerId, Timers};
use super::{Process, ProcessRef, current};
use crate::Cluster;
use crate::clock;
use crate::exchange::{Entry, Envelope};
use crate::message::reply::{Owed, Reply, ReplyTo};
use crate::message::{Handler, Message, Typed, Work};

/// Messages to itself that an instance may have waiting.
const NOTES_MAX: usize = 16_384;

/// The instance's own view of itself: its name, its timers, its tasks, the cluster.
///
/// Everything made through it belongs to this instance: timers and tasks end with it, also when it crashes.
pub struct Context<P: Process> {
    pub(super) entry: Arc<Entry>,
    pub(super) instance: Arc<Instance>,
    pub(super) timers: Timers,
    pub(super) notes: VecDeque<Box<dyn Work>>,
    pub(super) stop: Option<ExitReason>,
    /// Who waits for the message in hand, and which message that is.
    pub(super) caller: Option<ReplyTo>,
    pub(super) in_hand: &'static str,
    /// Made when first needed: most processes own no task, and there may be very many processes.
    pub(super) tasks: Option<JoinSet<()>>,
    pub(super) blocking: Option<JoinSet<()>>,
    pub(super) out: PortOutput<Envelope>,
    named: bool,
    cluster: Cluster,
    process: std::marker::PhantomData<fn(P)>,
}

impl<P: Process> Context<P> {
    pub(super) fn new(entry: Arc<Entry>, instance: Arc<Instance>, cluster: Cluster) -> Self {
        let named = entry.is_named();
        Self {
            entry,
            instance,
            timers: Timers::default(),
            notes: VecDeque::new(),
            stop: None,
            caller: None,
            in_hand: "",
            tasks: None,
            blocking: None,
            out: PortOutput::default(),
            named,
            cluster,
            process: std::marker::PhantomData,
        }
    }

    /// The name it was started under; none for one that was spawned.
    pub fn name(&self) -> Option<&Name> {
        self.named.then(|| self.entry.name())
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
        if self.notes.len() < NOTES_MAX {
            self.notes.push_back(work);
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
        let (id, refused) = self.timers.add(due, tick);
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
        self.every(period, move || M::WIRE.decode(encoded.as_ref().ok()?).ok())
    }

    /// As [`Context::send_every`], with a message that is made anew for each tick.
    pub fn send_every_with<M: Message>(
        &mut self,
        period: Duration,
        mut message: impl FnMut() -> M + Send + 'static,
    ) -> TimerId
    where
        P: Handler<M>,
    {
        self.every(period, move || Some(message()))
    }

    fn every<M: Message>(
        &mut self,
        period: Duration,
        mut message: impl FnMut() -> Option<M> + Send + 'static,
    ) -> TimerId
    where
        P: Handler<M>,
    {
        let period = period.max(Duration::from_millis(1));
        let make = Box::new(move || message().map(Typed::<P, M>::boxed));
        self.add_timer(clock::time() + period, Tick::Every { period, make })
    }

    /// Ends a timer; a message that it has brought already is still handled.
    pub fn cancel(&mut self, timer: TimerId) {
        self.timers.cancel(timer);
    }

    /// Runs a future beside the process, as the same sender. It is aborted when the instance ends.
    pub fn spawn<F>(&mut self, future: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let token = self.instance.token();
        reap(&mut self.tasks).spawn(current::within_task(token, future));
    }

    /// Runs blocking code beside the process. It can not be aborted: the end of the instance, and so its restart,
    /// waits for it up to 5 s.
    pub fn spawn_blocking<F>(&mut self, code: F)
    where
        F: FnOnce() + Send + 'static,
    {
        reap(&mut self.blocking).spawn_blocking(code);
    }

    /// Ends this instance when the present message was handled. What follows is up to the restart policy.
    pub fn stop(&mut self, reason: ExitReason) {
        self.stop.get_or_insert(reason.capped());
    }

    /// Takes over the answer of the call in hand, of the message `M`, to give it later; what the handler returns is
    /// then dropped. In a cast, or for another message, nobody waits for it.
    pub fn reply_later<M: Message>(&mut self) -> Reply<M::Reply>
    where
        P: Handler<M>,
    {
        let owed = if self.in_hand == M::NAME { self.take_caller() } else { None };
        Reply::new::<M>(owed)
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
