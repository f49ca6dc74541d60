//! The task of one instance: `init`, messages, end.

use std::any::{Any, TypeId};
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::timeout;
use whimbrel_core::base::{ErrorCode, Executed, ExitReason, Time};

use super::context::{Context, log_panic};
use super::guard::{self, Guarded};
use super::handoff::Skills;
use super::instance::Order;
use super::kind::Arriving;
use super::{Launching, Process, arrival, conflict, quiet, tiding, unhandled};
use crate::clock;
use crate::error::SnapshotTooLarge;
use crate::exchange::{Encoded, Entry, Envelope, Failure, Head};
use crate::message::{Handling, MessageList, Work};
use crate::tasks::Tasks;

/// How long `terminate` and blocking tasks may take at the end of an instance.
pub(crate) const TERMINATE_MAX: Duration = Duration::from_secs(5);
/// Messages handled in a row before other tasks get a turn.
const TURN_MESSAGES_MAX: u8 = 64;

/// Everything an instance begins with.
pub(crate) struct Birth<P: Process> {
    pub(crate) launching: Launching,
    pub(crate) origin: Origin<P>,
    pub(crate) skills: Arc<Skills<P>>,
    /// Told how `init` went, for an instance without a name, of which nobody else knows.
    pub(crate) born: Option<oneshot::Sender<Result<(), ExitReason>>>,
}

/// Finds or decodes the arguments: user code.
pub(crate) type ReadArgs<P> = Box<dyn FnOnce() -> Result<<P as Process>::Args, ExitReason> + Send>;

/// What the state is made from.
pub(crate) enum Origin<P: Process> {
    Args(ReadArgs<P>),
    /// Another node brought it; with its arguments, in case it begins anew.
    Image {
        arriving: Arriving,
        args: ReadArgs<P>,
    },
}

/// The whole life of an instance, as a task of its own.
pub(crate) fn spawn<P: Process>(tasks: &Tasks, birth: Birth<P>) -> AbortHandle {
    // Not boxed: there is one per process, and the runtime puts it into the memory of the task.
    tasks.spawn_process(live(Box::new(birth)))
}

/// The same; says why it ended, unless it was ended by force. Gone without a word, its task is gone too.
pub(crate) fn spawn_told<P: Process>(
    tasks: &Tasks,
    birth: Birth<P>,
    over: oneshot::Sender<ExitReason>,
) -> AbortHandle {
    tasks.spawn_process(async move {
        if let Some(reason) = live(Box::new(birth)).await {
            // Its supervisor may have been dropped with the node.
            let _gone = over.send(reason);
        }
    })
}

/// An instance whose `init` has returned.
pub(super) struct Alive<P: Process> {
    pub(super) process: P,
    pub(super) cx: Context<P>,
    pub(super) skills: Arc<Skills<P>>,
    sources: Sources,
}

impl<P: Process> Alive<P> {
    pub(super) fn new(process: P, cx: Context<P>, skills: Arc<Skills<P>>) -> Self {
        Self { process, cx, skills, sources: Sources { seen: None, registered: None } }
    }
}

// Every idle process holds what this future holds while it waits for a message. So what happens once in a life is
// boxed and gone by then, and what a message brings is not kept across an await.
/// Why it ended; none if it did not begin.
async fn live<P: Process>(birth: Box<Birth<P>>) -> Option<ExitReason> {
    let mut alive = Box::pin(begin(birth)).await?;
    let mut turn = 0_u8;
    let over = loop {
        if let Some(reason) = alive.cx.stop.take() {
            break Over::Stops(*reason);
        }
        let ended = {
            let handling = match poll_fn(|task| poll_next(&mut alive, task)).await {
                Next::Order(Order::Stop(reason)) => break Over::Stops(reason),
                Next::Order(Order::Depart) => break Over::Departs,
                Next::Order(Order::Move) => Some(quiet::rest(&mut alive)),
                Next::TreeFailed(reason) => break Over::Crashed(reason),
                Next::Own(work) => start(&mut alive.process, &mut alive.cx, work, None),
                Next::Message(envelope) => handle(&mut alive, envelope),
            };
            match handling {
                Some(handling) => handling.await,
                None => Ok(()),
            }
        };
        if let Err(reason) = ended {
            break Over::Crashed(crashed(&mut alive.cx, reason));
        }
        turn += 1;
        if turn == TURN_MESSAGES_MAX {
            turn = 0;
            tokio::task::yield_now().await;
        }
    };
    Some(Box::pin(end(alive, over)).await)
}

async fn begin<P: Process>(birth: Box<Birth<P>>) -> Option<Alive<P>> {
    let Birth { launching, origin, skills, born } = *birth;
    let Launching { entry, instance, cluster } = launching;
    let exchange = entry.exchange().clone();
    let mut cx = Context::<P>::new(entry.clone(), instance.clone(), cluster);
    let args = match origin {
        Origin::Args(args) => args,
        Origin::Image { arriving, args } => return arrival::arrive(cx, skills, arriving, args).await,
    };
    let made = match args() {
        Ok(args) => init::<P>(args, &mut cx).await,
        Err(reason) => Err(reason),
    };
    let made = made.map_err(|reason| cx.ended(&reason));
    let born = |outcome| {
        if let Some(born) = born {
            // A spawner that gave up waiting does not need the answer.
            let _gone = born.send(outcome);
        }
    };
    let process = match made {
        Ok(process) => process,
        Err(reason) => {
            end_tasks(&mut cx).await;
            born(Err(reason.clone()));
            exchange.init_failed(&entry, &instance, reason).await;
            return None;
        }
    };
    born(Ok(()));
    exchange.launched(&entry, &instance).await;
    Some(Alive::new(process, cx, skills))
}

/// Why an instance stops serving.
enum Over {
    /// It is to end in order.
    Stops(ExitReason),
    Crashed(ExitReason),
    /// It runs on another node now.
    Departs,
}

async fn end<P: Process>(alive: Alive<P>, over: Over) -> ExitReason {
    let Alive { mut process, mut cx, skills, .. } = alive;
    let reason = match over {
        Over::Stops(reason) => match unhandled::offer(&mut process, &mut cx, &reason).await {
            Ok(()) => {
                show_last(&process, &cx, &reason);
                conflict::leave_state(&mut process, &mut cx, skills.form, &reason).await;
                terminate(process, &mut cx, reason).await
            }
            Err(panic) => crash(process, &cx, panic),
        },
        Over::Crashed(reason) => crash(process, &cx, reason),
        Over::Departs => {
            cx.leave_replies();
            if let Some(watches) = cx.own.as_mut().and_then(|own| own.watches.as_mut()) {
                watches.leave();
            }
            let _told = terminate(process, &mut cx, ExitReason::Moved).await;
            end_tasks(&mut cx).await;
            cx.entry.exchange().clone().departed(&cx.entry, &cx.instance).await;
            return ExitReason::Moved;
        }
    };
    end_tasks(&mut cx).await;
    let told = cx.ended(&reason);
    cx.entry.exchange().clone().ended(&cx.entry, &cx.instance, told).await;
    reason
}

/// Asks a process that fails for its last state. A panic is not looked at: the first one is the one to be told.
fn show_last<P: Process>(process: &P, cx: &Context<P>, reason: &ExitReason) {
    if !matches!(reason, ExitReason::Error(_) | ExitReason::Panic(_)) {
        return;
    }
    let Ok(Some(state)) = guard::run(|| cx.current(None).run(|| process.snapshot())) else { return };
    match SnapshotTooLarge::check(state) {
        Ok(state) => cx.instance.show(|shown| shown.end_with(state)),
        Err(error) => {
            tracing::warn!(name = ?cx.entry.name(), %error, "the last state of a process is not told");
        }
    }
}

fn crash<P: Process>(process: P, cx: &Context<P>, reason: ExitReason) -> ExitReason {
    show_last(&process, cx, &reason);
    let _second = guard::run(|| cx.current(None).run(|| drop(process)));
    reason
}

pub(super) async fn init<P: Process>(args: P::Args, cx: &mut Context<P>) -> Result<P, ExitReason> {
    // `init` is not always an async block: the call itself is user code too.
    let current = cx.current(None);
    let future = guard::run(move || current.run(|| Box::pin(P::init(args, cx))))?;
    Guarded::new(current, future).await?.map_err(ExitReason::capped)
}

enum Next {
    Order(Order),
    /// A supervisor of its own gave up.
    TreeFailed(ExitReason),
    Own(Box<dyn Work>),
    Message(Envelope),
}

/// The mailboxes of an instance beside its own: those of its registered names.
struct Sources {
    /// The version of the instance that `registered` is from; none before the first look.
    seen: Option<u32>,
    /// None when there are none, as almost always.
    registered: Option<Box<Registered>>,
}

struct Registered {
    names: Vec<Arc<Entry>>,
    /// Whose turn it is: none may keep the others waiting.
    next: usize,
}

impl Sources {
    /// A message of any mailbox; if there is none, each is left the waker.
    fn pop<P: Process>(&mut self, cx: &Context<P>, waker: &Waker) -> Option<Envelope> {
        let Some(Registered { names, next }) = self.registered.as_deref_mut() else {
            return cx.entry.pop(waker);
        };
        let all = names.len() + 1;
        for _ in 0..all {
            let at = *next % all;
            *next = at + 1;
            let entry = names.get(at).unwrap_or(&cx.entry);
            if let Some(popped) = entry.pop(waker) {
                return Some(popped);
            }
        }
        None
    }
}

fn poll_next<P: Process>(alive: &mut Alive<P>, task: &mut std::task::Context<'_>) -> Poll<Next> {
    let Alive { cx, sources, .. } = alive;
    loop {
        let version = cx.instance.version();
        if sources.seen != Some(version) {
            sources.seen = Some(version);
            let names = cx.instance.names();
            sources.registered = (!names.is_empty()).then(|| Box::new(Registered { names, next: 0 }));
        }
        // Asked each time an order may have come: the version rises with it. It is rare and the lock is short.
        if version != 0
            && let Some(order) = cx.instance.ordered()
        {
            return Poll::Ready(Next::Order(order));
        }
        if let Poll::Ready(reason) = cx.poll_trees(task) {
            return Poll::Ready(Next::TreeFailed(reason));
        }
        if let Some(work) = cx.next_own() {
            return Poll::Ready(Next::Own(work));
        }
        if let Some(envelope) = sources.pop(cx, task.waker()) {
            return Poll::Ready(Next::Message(envelope));
        }
        // An order given after it was looked for, but before the waker was left, would not wake this task.
        if cx.instance.version() != version {
            continue;
        }
        if cx.poll_timers(task).is_pending() {
            return Poll::Pending;
        }
    }
}

/// Opens an envelope and starts to handle what is in it; none when there is nothing to be handled.
fn handle<P: Process>(alive: &mut Alive<P>, envelope: Envelope) -> Option<Guarded<Handling<'_>>> {
    let Alive { process, cx, skills, .. } = alive;
    let Head { reply, deadline, .. } = *envelope.head();
    // A cast has none once it was admitted.
    let deadline = deadline.filter(|_| reply.is_some());
    if deadline.is_some_and(|deadline| clock::time() >= deadline) {
        cx.entry.undelivered(envelope, Failure::new(ErrorCode::Deadline, Executed::No));
        return None;
    }
    cx.caller = reply;
    let encoded = match envelope {
        Envelope::Work(work) => return start(process, cx, work, deadline),
        Envelope::Encoded(encoded) => encoded,
    };
    match check::<P, _>(&encoded, skills.messages.opener(encoded.message.as_str())) {
        Ok(open) => {
            let current = cx.current(deadline);
            open(encoded, process, cx).map(|handling| Guarded::new(current, handling))
        }
        Err(failure) => {
            cx.refuse(encoded, failure);
            None
        }
    }
}

/// Whether a message of another node is for this kind, and what makes it of its bytes.
fn check<P: Process, F>(encoded: &Encoded, form: Option<F>) -> Result<F, Failure> {
    let Encoded { kind, codec, .. } = encoded;
    if kind.as_str() != P::KIND && !tiding::is_named_so(kind.as_str(), encoded.message.as_str()) {
        return Err(Failure::new(ErrorCode::WrongKind, Executed::No).detailed(P::KIND));
    }
    let form = form.ok_or_else(|| Failure::new(ErrorCode::UnknownMessage, Executed::No))?;
    if *codec != crate::codec::NAMED {
        let detail = format!("codec {codec} is not known here");
        return Err(Failure::new(ErrorCode::Codec, Executed::No).detailed(&detail));
    }
    Ok(form)
}

/// Decodes a message, to be handled later: user code.
pub(super) fn open<P: Process>(
    messages: &MessageList<P>,
    encoded: &Encoded,
) -> Result<Box<dyn Work>, Failure> {
    let decode = check::<P, _>(encoded, messages.decoder(encoded.message.as_str()))?;
    let failed = |detail: &str| Failure::new(ErrorCode::Codec, Executed::No).detailed(detail);
    match guard::run(|| decode(encoded.payload.as_slice())) {
        Ok(decoded) => decoded.map_err(|detail| failed(&detail)),
        Err(panic) => Err(failed(&panic.to_string())),
    }
}

/// Starts to handle one message; an error of it is a crash of the process.
fn start<'a, P: Process>(
    process: &'a mut P,
    cx: &'a mut Context<P>,
    work: Box<dyn Work>,
    deadline: Option<Time>,
) -> Option<Guarded<Handling<'a>>> {
    let work = if tiding::is_for_anyone(&*work) { tiding::for_kind::<P>(work) } else { work };
    cx.in_hand = work.name();
    let current = cx.current(deadline);
    if work.process_type() != TypeId::of::<P>() {
        // Sent by a reference of another type to this name.
        let wrong = Failure::new(ErrorCode::WrongKind, Executed::No).detailed(P::KIND);
        match cx.take_caller() {
            Some(caller) => caller.fail(wrong),
            None => cx.entry.misdirected(cx.in_hand, ErrorCode::WrongKind),
        }
        return None;
    }
    let process: &mut (dyn Any + Send) = process;
    work.start(process, cx).map(|handling| Guarded::new(current, handling))
}

/// The handler failed: whoever waits for it is told.
fn crashed<P: Process>(cx: &mut Context<P>, reason: ExitReason) -> ExitReason {
    if let Some(caller) = cx.take_caller() {
        caller.fail(Failure::new(ErrorCode::Crashed, Executed::Unknown).because(cx.outward(reason.clone())));
    }
    reason
}

/// The last words of an instance that ends in order; a panic in them becomes the reason.
async fn terminate<P: Process>(process: P, cx: &mut Context<P>, reason: ExitReason) -> ExitReason {
    let mut process = process;
    let current = cx.current(None);
    let (last, why, context) = (&mut process, &reason, &mut *cx);
    let ended = match guard::run(move || current.run(|| Box::pin(last.terminate(why, context)))) {
        Ok(future) => timeout(TERMINATE_MAX, Guarded::new(current, future)).await,
        Err(panic) => Ok(Err(panic)),
    };
    let dropped = guard::run(|| current.run(|| drop(process)));
    match ended {
        Ok(Ok(())) => dropped.err().unwrap_or(reason),
        Ok(Err(panic)) => panic,
        Err(_) => {
            tracing::warn!(name = ?cx.entry.name(), "terminate took longer than 5 s and was abandoned");
            reason
        }
    }
}

/// No task of an instance outlives it, except a blocking one that does not return in time.
pub(super) async fn end_tasks<P: Process>(cx: &mut Context<P>) {
    let Some(own) = &mut cx.own else { return };
    if let Some(trees) = own.trees.take() {
        trees.end().await;
    }
    if let Some(mut tasks) = own.tasks.take() {
        tasks.abort_all();
        join_all(&mut tasks).await;
    }
    if let Some(mut blocking) = own.blocking.take()
        && timeout(TERMINATE_MAX, pin!(join_all(&mut blocking))).await.is_err()
    {
        tracing::warn!(name = ?cx.entry.name(), "a blocking task outlives its process");
        blocking.detach_all();
    }
}

async fn join_all(tasks: &mut JoinSet<()>) {
    while let Some(ended) = tasks.join_next().await {
        log_panic(ended);
    }
}

#[cfg(test)]
mod tests {
    use whimbrel_core::base::Mutants;

    use super::*;
    use crate::process::Instance;

    struct Small(#[allow(dead_code)] u64);

    impl Process for Small {
        const KIND: &'static str = "small";
        type Args = u64;
        async fn init(args: u64, _cx: &mut Context<Self>) -> Result<Self, ExitReason> {
            Ok(Small(args))
        }
    }

    fn bytes_of<A, F>(_: impl FnOnce(A) -> F) -> usize {
        size_of::<F>()
    }

    /// The runtime rounds the memory of a task up to a multiple of 128 bytes, 112 of which are its own.
    #[test]
    fn the_task_of_a_small_process_takes_three_times_128_bytes() {
        let life = bytes_of(live::<Small>);
        assert!(life + 112 <= 3 * 128, "{life} bytes");
    }

    /// Each is in memory of its own behind two counters; the allocator adds a word and rounds up to a multiple of 16.
    #[test]
    fn an_entry_and_an_instance_take_no_more_than_is_told() {
        let bytes = (size_of::<Entry>(), size_of::<Instance>());
        // With planted bugs there is more in an entry.
        let planted = 16 * usize::from(size_of::<Mutants>() > 0);
        assert!(bytes.0 <= 248 + planted && bytes.1 <= 56, "{bytes:?} bytes");
    }
}
