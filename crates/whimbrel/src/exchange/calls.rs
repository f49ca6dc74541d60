//! Open calls and their outcomes. The first outcome of a call wins; later ones find nobody.

use std::sync::Arc;

use serde::Serialize;
use whimbrel_core::base::error::capped;
use whimbrel_core::base::{ErrorCode, Executed, Incarnation, ShortBytes, Time};
use whimbrel_core::delivery::{CallId, Lane};
use whimbrel_core::wire::frame::{MessageFrame, Outcome, Reply};

use super::envelope::{Failure, PAYLOAD_BYTES_MAX};
use super::sweep::earlier;
use super::{Envelope, Exchange, lock};
use crate::codec;
use crate::error::CallError;
use crate::message::Message;
use crate::message::call::Waiter;
use crate::message::reply::{Caller, ReplyTo};
use crate::transport::OutFrame;

/// Not a node: a call that is at no node.
pub(super) const NOBODY: Incarnation = Incarnation { started_ms: 0, nonce: 0 };

impl Exchange {
    /// Keeps a caller until its call has an outcome, at latest at `due`.
    pub(super) fn open_call(
        &self,
        shard: usize,
        waiter: Arc<dyn Waiter>,
        due: Time,
    ) -> Result<CallId, CallError> {
        let id = lock(&self.calls[shard]).insert(waiter, due).map_err(|_| CallError::Overloaded)?;
        self.look_by(due);
        Ok(id)
    }

    pub(super) fn close_call(&self, id: CallId) {
        drop(self.take_call(id));
    }

    fn take_call(&self, id: CallId) -> Option<Arc<dyn Waiter>> {
        let shard = usize::from(id.shard());
        lock(self.calls.get(shard)?).take(id)
    }

    /// The call's message is handed to the link with this node. Returns where it was before.
    pub(super) fn call_is_at(&self, id: CallId, host: Incarnation) -> Option<Incarnation> {
        lock(self.calls.get(usize::from(id.shard()))?).set_host(id, host)
    }

    /// The call's message never left after all.
    pub(super) fn call_is_nowhere(&self, id: CallId) {
        let _before = self.call_is_at(id, NOBODY);
    }

    /// The message of a call goes with its process to another node: its outcome comes from there.
    pub(super) fn call_moves(&self, to: ReplyTo, node: Incarnation) {
        match to.at {
            Caller::Here => drop(self.call_is_at(to.call, if node == self.me() { NOBODY } else { node })),
            Caller::At(caller) => self.send_outcome(caller, to.call, Outcome::Moved { to: node }),
        }
    }

    /// A process on this node has replied.
    pub(crate) fn answer<M: Message>(&self, to: ReplyTo, reply: M::Reply) {
        match to.at {
            Caller::Here => {
                if let Some(waiter) = self.take_call(to.call) {
                    waiter.reply(&mut Some(reply));
                }
            }
            Caller::At(node) => self.answer_there(node, to.call, M::WIRE.encode_reply(&reply)),
        }
    }

    /// The same, of a message that is not known by its type.
    pub(crate) fn answer_named<R: Serialize + Send + 'static>(&self, to: ReplyTo, reply: R) {
        match to.at {
            Caller::Here => {
                if let Some(waiter) = self.take_call(to.call) {
                    waiter.reply(&mut Some(reply));
                }
            }
            Caller::At(node) => self.answer_there(node, to.call, codec::encode_short(&reply)),
        }
    }

    fn answer_there(&self, node: Incarnation, id: CallId, encoded: Result<ShortBytes, String>) {
        let outcome = match encoded {
            Ok(payload) if payload.len() <= PAYLOAD_BYTES_MAX => {
                Outcome::Done { codec: codec::NAMED, payload }
            }
            Ok(payload) => {
                let bytes = payload.len();
                reply_failure(format!("a reply of {bytes} bytes is over the limit of {PAYLOAD_BYTES_MAX}"))
            }
            Err(detail) => reply_failure(detail),
        };
        self.send_outcome(node, id, outcome);
    }

    /// There is no reply.
    pub(crate) fn fail_call(&self, to: ReplyTo, failure: Failure) {
        match to.at {
            Caller::Here => {
                if let Some(waiter) = self.take_call(to.call) {
                    waiter.fail(failure.into());
                }
            }
            Caller::At(node) => {
                let Failure { code, executed, detail, reason } = failure;
                let detail = (!detail.is_empty()).then(|| capped(detail));
                self.send_outcome(node, to.call, Outcome::Failed { code, executed, detail, reason });
            }
        }
    }

    fn send_outcome(&self, node: Incarnation, id: CallId, outcome: Outcome) {
        let frame = MessageFrame::Reply(Reply { call: id.as_u64(), outcome });
        let Ok(frame) = OutFrame::lane(&frame) else {
            return;
        };
        if let Err(error) = self.send_frame(node, Lane::Messages, frame) {
            // The caller's node is gone, or does not read: it will say so to its caller by the deadline.
            tracing::debug!(%node, %error, "a reply was not sent");
        }
    }

    /// The outcome of a call of this node arrived from another one.
    pub(super) fn on_reply(&self, from: Incarnation, reply: Reply) {
        let id = CallId::from_u64(reply.call);
        let Some(shard) = self.calls.get(usize::from(id.shard())) else { return };
        // Whoever knows the id was given it: the process may have moved, and its host have joined in a view that is not
        // installed here yet.
        let member = self.view.load().as_ref().is_some_and(|view| view.contains(from));
        let waiter = {
            let mut calls = lock(shard);
            if !member && !calls.is_at(id, from) {
                return;
            }
            if let Outcome::Moved { to } = reply.outcome {
                let _before = calls.set_host(id, if to == self.me() { NOBODY } else { to });
                return;
            }
            calls.take(id)
        };
        let Some(waiter) = waiter else {
            return;
        };
        match reply.outcome {
            Outcome::Moved { .. } => {}
            Outcome::Done { codec: codec::NAMED, payload } => waiter.encoded(payload),
            Outcome::Done { codec, .. } => waiter.fail(CallError::Codec {
                detail: format!("codec {codec} is not known here"),
                executed: Executed::Unknown,
            }),
            Outcome::Failed { code, executed, detail, reason } => {
                let mut failure = Failure::new(code, executed);
                failure.detail = detail.unwrap_or_default();
                failure.reason = reason;
                waiter.fail(failure.into());
            }
        }
    }

    /// The messages of these calls are in a mailbox of this node now.
    pub(super) fn calls_come_home(&self, calls: Vec<CallId>) {
        for call in calls {
            if let Some(shard) = self.calls.get(usize::from(call.shard())) {
                lock(shard).come_home(call);
            }
        }
    }

    /// The session with a node has ended: what was sent to it may or may not have run.
    pub(super) fn calls_lost(&self, host: Incarnation) {
        let in_order = lock(&self.leavers).contains(host);
        for entry in self.all_entries() {
            let state = entry.lock();
            let calls = calls_of(state.port.not_lost(in_order));
            drop(state);
            for call in calls {
                if let Some(shard) = self.calls.get(usize::from(call.shard())) {
                    lock(shard).leave_host(call, host);
                }
            }
        }
        for shard in &self.calls {
            let lost = lock(shard).lost(host);
            for (_, waiter) in lost {
                waiter.fail(CallError::NodeLost { executed: Executed::Unknown });
            }
        }
    }

    /// Ends calls whose time is up; says when that of another one will be.
    pub(super) fn expire_calls(&self, now: Time) -> Option<Time> {
        let mut next = None;
        for shard in &self.calls {
            let mut calls = lock(shard);
            let expired = calls.expire(now);
            next = earlier(next, calls.next_deadline());
            drop(calls);
            for (_, waiter) in expired {
                waiter.fail(CallError::Deadline { executed: Executed::Unknown });
            }
        }
        next
    }

    pub(super) fn end_all_calls(&self) {
        for shard in &self.calls {
            let all = lock(shard).expire(Time::from_micros(u64::MAX));
            for (_, waiter) in all {
                waiter.fail(CallError::NodeLost { executed: Executed::Unknown });
            }
        }
    }
}

fn reply_failure(detail: String) -> Outcome {
    Outcome::Failed {
        code: ErrorCode::Codec,
        executed: Executed::Unknown,
        detail: Some(capped(detail)),
        reason: None,
    }
}

/// The calls of this node among these messages.
pub(super) fn calls_of<'a>(messages: impl Iterator<Item = &'a Envelope>) -> Vec<CallId> {
    let replies = messages.filter_map(|message| message.head().reply);
    replies.filter(|to| matches!(to.at, Caller::Here)).map(|to| to.call).collect()
}
