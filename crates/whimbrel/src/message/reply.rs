//! Answers that are given later than the handler returns.

use std::sync::Arc;

use whimbrel_core::base::{ErrorCode, Executed, ExitReason, Incarnation};
use whimbrel_core::delivery::CallId;

use super::Message;
use crate::exchange::{Exchange, Failure};

/// Who waits for the outcome of a call: the life of its node and the number of the call there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ReplyTo {
    pub(crate) at: Caller,
    pub(crate) call: CallId,
}

/// Where a caller is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Caller {
    /// On this node: its own incarnation may change while the call is open, its table does not.
    Here,
    /// On the node of this incarnation.
    At(Incarnation),
}

/// A caller that this node owes an outcome. Dropped without one, the caller is told that the process crashed.
pub(crate) struct Owed {
    exchange: Arc<Exchange>,
    to: Option<ReplyTo>,
}

impl Owed {
    pub(crate) fn new(exchange: Arc<Exchange>, to: ReplyTo) -> Self {
        Self { exchange, to: Some(to) }
    }

    /// Gives the reply of the message `M`.
    pub(crate) fn answer<M: Message>(mut self, reply: M::Reply) {
        if let Some(to) = self.to {
            self.exchange.answer::<M>(to, reply);
            // Not before: if encoding the reply panics, dropping this tells the caller.
            self.to = None;
        }
    }

    /// Says that there is no reply.
    pub(crate) fn fail(mut self, failure: Failure) {
        if let Some(to) = self.to.take() {
            self.exchange.fail_call(to, failure);
        }
    }
}

impl Drop for Owed {
    fn drop(&mut self) {
        if let Some(to) = self.to.take() {
            let failure = Failure::new(ErrorCode::Crashed, Executed::Unknown);
            self.exchange.fail_call(to, failure.because(ExitReason::Killed));
        }
    }
}

/// The reply that a handler owes, to be sent whenever it is known; made by `Context::reply_later`.
///
/// It belongs to nobody: keep it in the process or give it to a task. Dropped without an answer it tells the caller
/// `Crashed`, executed unknown.
#[must_use = "the caller waits until this is sent or dropped"]
pub struct Reply<R> {
    owed: Option<Owed>,
    answer: fn(Owed, R),
    /// Tells its process that this is owed, while it is there.
    _counted: Option<Arc<()>>,
}

impl<R: Send + 'static> Reply<R> {
    pub(crate) fn new<M: Message<Reply = R>>(owed: Option<Owed>, counted: Option<Arc<()>>) -> Self {
        Self { owed, answer: Owed::answer::<M>, _counted: counted }
    }

    /// Answers. Nothing happens for a cast, or when the caller has stopped waiting.
    pub fn send(mut self, reply: R) {
        if let Some(owed) = self.owed.take() {
            (self.answer)(owed, reply);
        }
    }

    /// Whether a caller waits: false in a cast.
    pub fn is_wanted(&self) -> bool {
        self.owed.is_some()
    }
}

impl<R> std::fmt::Debug for Reply<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reply").field("wanted", &self.owed.is_some()).finish()
    }
}
