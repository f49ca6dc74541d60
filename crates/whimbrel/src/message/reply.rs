//! Answers that are given later than the handler returns.

use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};
use whimbrel_core::base::{ErrorCode, Executed, ExitReason, Incarnation};
use whimbrel_core::delivery::CallId;

use super::Message;
use super::escort::{self, Owing};
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

    /// The same, of a message that is not known here by its type: all that travel are written alike.
    fn answer_named<R: Serialize + Send + 'static>(mut self, reply: R) {
        if let Some(to) = self.to {
            self.exchange.answer_named(to, reply);
            self.to = None;
        }
    }

    /// Another life owes the outcome.
    fn leave(mut self) {
        self.to = None;
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
///
/// Kept in the state of a process it moves with that, and the caller is answered from there: it is serde on a move, and at
/// no other time.
#[must_use = "the caller waits until this is sent or dropped"]
pub struct Reply<R> {
    owed: Option<Owed>,
    answer: fn(Owed, R),
    travels: bool,
    /// Of its process, while it is there.
    owing: Option<Arc<Owing>>,
}

impl<R: Send + 'static> Reply<R> {
    pub(crate) fn new<M: Message<Reply = R>>(owed: Option<Owed>, owing: Option<Arc<Owing>>) -> Self {
        Self { owed, answer: Owed::answer::<M>, travels: M::WIRE.travels(), owing }
    }
}

impl<R> Reply<R> {
    /// Answers. Nothing happens for a cast, or when the caller has stopped waiting.
    pub fn send(mut self, reply: R) {
        if let Some(owed) = self.owed.take() {
            if self.is_silent() {
                return owed.leave();
            }
            (self.answer)(owed, reply);
        }
    }

    /// Whether a caller waits: false in a cast.
    pub fn is_wanted(&self) -> bool {
        self.owed.is_some()
    }

    fn is_silent(&self) -> bool {
        self.owing.as_ref().is_some_and(|owing| owing.is_silent())
    }
}

impl<R> Drop for Reply<R> {
    fn drop(&mut self) {
        if self.is_silent()
            && let Some(owed) = self.owed.take()
        {
            owed.leave();
        }
    }
}

impl<R> std::fmt::Debug for Reply<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reply").field("wanted", &self.owed.is_some()).finish()
    }
}

impl<R> Serialize for Reply<R> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let written =
            self.owed.as_ref().and_then(|owed| owed.to).map(|owed| escort::write(owed, self.travels));
        match written.transpose() {
            Ok(caller) => caller.serialize(to),
            Err(why) => Err(ser::Error::custom(why)),
        }
    }
}

impl<'de, R: Serialize + Send + 'static> Deserialize<'de> for Reply<R> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let caller = Option::<escort::Written>::deserialize(from)?;
        let read = caller.map(escort::read).transpose().map_err(de::Error::custom)?;
        let (owed, owing) = read.unzip();
        Ok(Self { owed, answer: Owed::answer_named::<R>, travels: true, owing })
    }
}
