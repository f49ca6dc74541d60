//! The task of one instance: `init`, messages, end.

use std::any::Any;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::timeout;
use whimbrel_core::base::{ErrorCode, Executed, ExitReason, Time};

use super::context::{Context, log_panic};
use super::guard::{self, Guarded};
use super::instance::{Instance, Order};
use super::{Process, current};
use crate::Cluster;
use crate::clock;
use crate::exchange::{Body, Encoded, Entry, Envelope, Failure};
use crate::message::{MessageList, Work};

/// How long `terminate` and blocking tasks may take at the end of an instance.
pub(crate) const TERMINATE_MAX: Duration = Duration::from_secs(5);
/// Messages handled in a row before other tasks get a turn.
const TURN_MESSAGES_MAX: u32 = 64;

/// Everything an instance begins with.
pub(crate) struct Birth<P: Process> {
    pub(crate) entry: Arc<Entry>,
    pub(crate) instance: Arc<Instance>,
    pub(crate) cluster: Cluster,
    pub(crate) args: Result<P::Args, ExitReason>,
    pub(crate) messages: Arc<MessageList<P>>,
    /// Told how `init` went, for an instance without a name, of which nobody else knows.
    pub(crate) born: Option<oneshot::Sender<Result<(), ExitReason>>>,
}

/// The whole life of an instance.
pub(crate) fn run<P: Process>(birth: Birth<P>) -> impl Future<Output = ()> + Send {
    let (id, token) = (birth.instance.id, birth.instance.token());
    current::within(id, token, live(birth))
}

// What happens once in a life is boxed below: the rest is held by every idle process.

async fn live<P: Process>(birth: Birth<P>) {
    let Birth { entry, instance, cluster, args, messages, born } = birth;
    let exchange = entry.exchange().clone();
    let mut cx = Context::<P>::new(entry.clone(), instance.clone(), cluster);
    let made = match args {
        Ok(args) => Box::pin(init::<P>(args, &mut cx)).await,
        Err(reason) => Err(reason),
    };
    let born = |outcome| {
        if let Some(born) = born {
            // A spawner that gave up waiting does not need the answer.
            let _gone = born.send(outcome);
        }
    };
    let process = match made {
        Ok(process) => process,
        Err(reason) => {
            Box::pin(end_tasks(&mut cx)).await;
            born(Err(reason.clone()));
            return Box::pin(exchange.init_failed(&entry, &instance, reason)).await;
        }
    };
    born(Ok(()));
    Box::pin(exchange.launched(&entry, &instance)).await;
    let reason = serve(process, &mut cx, &messages).await;
    Box::pin(end_tasks(&mut cx)).await;
    Box::pin(exchange.ended(&entry, &instance, reason)).await;
}

async fn init<P: Process>(args: P::Args, cx: &mut Context<P>) -> Result<P, ExitReason> {
    // `init` is not always an async block: the call itself is user code too.
    let future = guard::run(move || Box::pin(P::init(args, cx)))?;
    Guarded::new(future).await?.map_err(ExitReason::capped)
}

/// Handles messages until the instance is to end; says why.
async fn serve<P: Process>(process: P, cx: &mut Context<P>, messages: &MessageList<P>) -> ExitReason {
    let mut process = process;
    let mut turn = 0;
    let mut sources = Sources { seen: u64::MAX, names: Vec::new(), next: 0 };
    let reason = loop {
        if let Some(reason) = cx.stop.take() {
            break reason;
        }
        let next = poll_fn(|task| poll_next(cx, &mut sources, task)).await;
        let crash = match next {
            Next::Order(Order::Stop(reason)) => break reason,
            Next::Own(work) => perform(&mut process, cx, work, None).await,
            Next::Message(envelope, now) => handle(&mut process, cx, messages, envelope, now).await,
        };
        if let Err(reason) = crash {
            let _second = guard::run(|| drop(process));
            return reason;
        }
        turn += 1;
        if turn == TURN_MESSAGES_MAX {
            turn = 0;
            tokio::task::yield_now().await;
        }
    };
    Box::pin(terminate(process, cx, reason)).await
}

enum Next {
    Order(Order),
    Own(Box<dyn Work>),
    Message(Envelope, Time),
}

/// The mailboxes of an instance beside its own: those of its registered names.
struct Sources {
    /// The version of the instance that `names` is from.
    seen: u64,
    names: Vec<Arc<Entry>>,
    /// Whose turn it is: none may keep the others waiting.
    next: usize,
}

impl Sources {
    /// A message of any mailbox; if there is none, each is left the waker.
    fn pop<P: Process>(&mut self, cx: &mut Context<P>, waker: &Waker) -> Option<(Envelope, Time)> {
        if self.names.is_empty() {
            return cx.entry.pop(&mut cx.out, waker);
        }
        let all = self.names.len() + 1;
        for _ in 0..all {
            let at = self.next % all;
            self.next = at + 1;
            let entry = self.names.get(at).unwrap_or(&cx.entry);
            if let Some(popped) = entry.pop(&mut cx.out, waker) {
                return Some(popped);
            }
        }
        None
    }
}

fn poll_next<P: Process>(
    cx: &mut Context<P>,
    sources: &mut Sources,
    task: &mut std::task::Context<'_>,
) -> Poll<Next> {
    loop {
        let version = cx.instance.version();
        if version != sources.seen {
            sources.seen = version;
            sources.names = cx.instance.names();
        }
        // Asked each time an order may have come: the version rises with it. It is rare and the lock is short.
        if version != 0
            && let Some(order) = cx.instance.ordered()
        {
            return Poll::Ready(Next::Order(order));
        }
        if let Some(work) = cx.notes.pop_front() {
            return Poll::Ready(Next::Own(work));
        }
        if !cx.timers.is_empty()
            && let Some(work) = cx.timers.due(clock::time())
        {
            return Poll::Ready(Next::Own(work));
        }
        if let Some((envelope, now)) = sources.pop(cx, task.waker()) {
            return Poll::Ready(Next::Message(envelope, now));
        }
        // An order given after it was looked for, but before the waker was left, would not wake this task.
        if cx.instance.version() != version {
            continue;
        }
        if cx.timers.is_empty() || cx.timers.poll_due(clock::time(), task).is_pending() {
            return Poll::Pending;
        }
    }
}

/// Opens an envelope and handles what is in it; an error is a crash of the process.
async fn handle<P: Process>(
    process: &mut P,
    cx: &mut Context<P>,
    messages: &MessageList<P>,
    envelope: Envelope,
    now: Time,
) -> Result<(), ExitReason> {
    let deadline = envelope.call_deadline();
    if deadline.is_some_and(|deadline| now >= deadline) {
        cx.entry.undelivered(envelope, Failure::new(ErrorCode::Deadline, Executed::No));
        return Ok(());
    }
    if !envelope.is_encoded() {
        let (work, reply) = envelope.into_work();
        cx.caller = reply;
        return match work {
            Some(work) => perform(process, cx, work, deadline).await,
            None => Ok(()),
        };
    }
    match open(messages, &envelope) {
        Ok(work) => {
            cx.caller = envelope.reply;
            perform(process, cx, work, deadline).await
        }
        Err(failure) => {
            cx.entry.undelivered(envelope, failure);
            Ok(())
        }
    }
}

/// Decodes a message of another node.
fn open<P: Process>(messages: &MessageList<P>, envelope: &Envelope) -> Result<Box<dyn Work>, Failure> {
    let Body::Encoded(encoded) = &envelope.body else {
        return Err(Failure::new(ErrorCode::UnknownMessage, Executed::No));
    };
    let Encoded { kind, message, codec, payload } = &**encoded;
    if kind.as_str() != P::KIND {
        return Err(Failure::new(ErrorCode::WrongKind, Executed::No).detailed(P::KIND));
    }
    let decode = messages
        .decoder(message.as_str())
        .ok_or_else(|| Failure::new(ErrorCode::UnknownMessage, Executed::No))?;
    if *codec != crate::codec::NAMED {
        let detail = format!("codec {codec} is not known here");
        return Err(Failure::new(ErrorCode::Codec, Executed::No).detailed(&detail));
    }
    match guard::run(|| decode(payload.as_slice())) {
        Ok(Ok(work)) => Ok(work),
        Ok(Err(detail)) => Err(Failure::new(ErrorCode::Codec, Executed::No).detailed(&detail)),
        Err(panic) => Err(Failure::new(ErrorCode::Codec, Executed::No).detailed(&panic.to_string())),
    }
}

/// Handles one message; an error is a crash of the process.
async fn perform<P: Process>(
    process: &mut P,
    cx: &mut Context<P>,
    work: Box<dyn Work>,
    deadline: Option<Time>,
) -> Result<(), ExitReason> {
    cx.in_hand = work.name();
    current::begin(cx.instance.token(), deadline);
    let process: &mut (dyn Any + Send) = process;
    let Some(handling) = work.start(process, cx) else {
        // Sent by a reference of another type to this name.
        let wrong = Failure::new(ErrorCode::WrongKind, Executed::No).detailed(P::KIND);
        match cx.take_caller() {
            Some(caller) => caller.fail(wrong),
            None => cx.entry.misdirected(cx.in_hand, ErrorCode::WrongKind),
        }
        return Ok(());
    };
    let Err(reason) = Guarded::new(handling).await else {
        return Ok(());
    };
    if let Some(caller) = cx.take_caller() {
        caller.fail(Failure::new(ErrorCode::Crashed, Executed::Unknown).because(reason.clone()));
    }
    Err(reason)
}

/// The last words of an instance that ends in order; a panic in them becomes the reason.
async fn terminate<P: Process>(process: P, cx: &mut Context<P>, reason: ExitReason) -> ExitReason {
    let mut process = process;
    current::begin(cx.instance.token(), None);
    let (last, why, context) = (&mut process, &reason, &mut *cx);
    let ended = match guard::run(move || Box::pin(last.terminate(why, context))) {
        Ok(future) => timeout(TERMINATE_MAX, Guarded::new(future)).await,
        Err(panic) => Ok(Err(panic)),
    };
    let dropped = guard::run(|| drop(process));
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
async fn end_tasks<P: Process>(cx: &mut Context<P>) {
    if let Some(mut tasks) = cx.tasks.take() {
        tasks.abort_all();
        join_all(&mut tasks).await;
    }
    if let Some(mut blocking) = cx.blocking.take()
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
