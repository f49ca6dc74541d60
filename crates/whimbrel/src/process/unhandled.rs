//! What a process that stops for good has not handled.
//!
//! Its mailbox is closed before it is asked: what comes later is refused, and what was in it is in the hands of this task
//! alone. So whatever the process does not take ends with `Stopped`, not executed; a cast is a dead letter then.

use std::marker::PhantomData;
use std::sync::Arc;

use tokio::time::{Instant, timeout_at};
use whimbrel_core::base::{ErrorCode, Executed, ExitReason};

use super::Process;
use super::context::Context;
use super::guard::{self, Guarded};
use super::run::TERMINATE_MAX;
use super::tiding::is_tiding;
use crate::clock;
use crate::codec;
use crate::exchange::{Entry, Envelope, Failure};
use crate::message::reply::Owed;
use crate::message::{Handler, Message, Reply};

/// A message that waited when its process stopped for good; see [`Process::unhandled`].
///
/// Dropped, it ends as if there were no such hook: a call with `Stopped`, not executed, a cast as a dead letter.
pub struct Unhandled<P: Process> {
    rest: Option<Rest>,
    process: PhantomData<fn(P)>,
}

struct Rest {
    envelope: Envelope,
    entry: Arc<Entry>,
    reason: ExitReason,
}

impl<P: Process> Unhandled<P> {
    fn new(envelope: Envelope, entry: Arc<Entry>, reason: ExitReason) -> Self {
        Self { rest: Some(Rest { envelope, entry, reason }), process: PhantomData }
    }

    /// The name of the message within its kind.
    pub fn message(&self) -> &str {
        self.rest.as_ref().map_or("", |rest| rest.envelope.message())
    }

    /// Whether somebody waits for an answer.
    pub fn is_call(&self) -> bool {
        self.rest.as_ref().is_some_and(|rest| rest.envelope.head().reply.is_some())
    }

    /// The message and its answer, which may be given now or later. Who takes it has handled it: a call of which the
    /// answer is dropped ends with `Crashed`, executed unknown.
    ///
    /// # Errors
    /// It is another message, or its bytes can not be read: it comes back.
    pub fn take<M: Message>(mut self) -> Result<(M, Reply<M::Reply>), Self>
    where
        P: Handler<M>,
    {
        let Some(Rest { envelope, entry, reason }) = self.rest.take() else { return Err(self) };
        let to = envelope.head().reply;
        match message::<P, M>(envelope) {
            Ok(message) => {
                let owed = to.map(|to| Owed::new(entry.exchange().clone(), to));
                Ok((message, Reply::new::<M>(owed, None)))
            }
            Err(envelope) => Err(Self::new(envelope, entry, reason)),
        }
    }
}

impl<P: Process> Drop for Unhandled<P> {
    fn drop(&mut self) {
        if let Some(Rest { envelope, entry, reason }) = self.rest.take() {
            let late = envelope.call_deadline().is_some_and(|deadline| clock::time() >= deadline);
            let code = if late { ErrorCode::Deadline } else { ErrorCode::Stopped };
            entry.undelivered(envelope, Failure::new(code, Executed::No).because(reason));
        }
    }
}

impl<P: Process> std::fmt::Debug for Unhandled<P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Unhandled").field(&self.message()).finish()
    }
}

/// What is in the envelope, if it is such a message.
fn message<P: Handler<M>, M: Message>(envelope: Envelope) -> Result<M, Envelope> {
    match envelope {
        Envelope::Work(work) => work.take::<P, M>().map_err(Envelope::Work),
        Envelope::Encoded(encoded) => {
            let is_such = encoded.kind.as_str() == P::KIND && encoded.message.as_str() == M::NAME;
            if is_such
                && encoded.codec == codec::NAMED
                && let Ok(Ok(message)) = guard::run(|| M::WIRE.decode(encoded.payload.as_slice()))
            {
                return Ok(message);
            }
            Err(Envelope::Encoded(encoded))
        }
    }
}

/// Shows the process what it has not handled, if it stops for good: 5 s for all of it. An error is a panic of it.
pub(super) async fn offer<P: Process>(
    process: &mut P,
    cx: &mut Context<P>,
    reason: &ExitReason,
) -> Result<(), ExitReason> {
    if !cx.instance.ends_with(reason) {
        return Ok(());
    }
    let until = Instant::now() + TERMINATE_MAX;
    let mut entries = cx.instance.names();
    entries.push(cx.entry.clone());
    let outward = cx.outward(reason.clone());
    let closed = entries.into_iter().flat_map(|entry| {
        let (unread, outward) = (entry.close_for_good(), outward.clone());
        unread.into_iter().map(move |envelope| Unhandled::new(envelope, entry.clone(), outward.clone()))
    });
    // All mailboxes are closed before the first message is shown.
    let closed: Vec<Unhandled<P>> = closed.collect();
    for unhandled in closed {
        if unhandled.rest.as_ref().is_some_and(|rest| is_tiding(&rest.envelope)) {
            continue;
        }
        let deadline = unhandled.rest.as_ref().and_then(|rest| rest.envelope.call_deadline());
        let current = cx.current(deadline);
        if deadline.is_some_and(|deadline| clock::time() >= deadline) || Instant::now() >= until {
            continue;
        }
        let (process, cx) = (&mut *process, &mut *cx);
        let future = guard::run(move || current.run(|| Box::pin(process.unhandled(unhandled, cx))))?;
        match timeout_at(until, Guarded::new(current, future)).await {
            Ok(handled) => handled?,
            Err(_) => tracing::warn!("what a process had not handled took longer than 5 s to be looked at"),
        }
    }
    Ok(())
}
