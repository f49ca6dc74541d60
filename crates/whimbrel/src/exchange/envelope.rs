//! What lies in a mailbox or on a route: a message, who waits for its outcome, and until when.

use std::sync::Arc;

use whimbrel_core::base::limits::FRAME_BYTES_MAX;
use whimbrel_core::base::{Bytes, ErrorCode, Executed, ExitReason, Kind, Name, Time, Token};
use whimbrel_core::delivery::{Expires, Parcel};

use super::budget::Share;
use crate::codec;
use crate::error::CallError;
use crate::message::Work;
use crate::message::reply::{Caller, ReplyTo};
use crate::process::guard;

/// Bytes of an encoded message or reply: a frame, less what stands around it (two names, a kind, numbers).
pub(crate) const PAYLOAD_BYTES_MAX: usize = FRAME_BYTES_MAX - 2 * 1024;

/// A message on its way.
pub(crate) struct Envelope {
    pub(crate) body: Body,
    pub(crate) reply: Option<ReplyTo>,
    /// Until when it may wait. After it a call is not handled; a cast that has reached a mailbox is.
    pub(crate) deadline: Option<Time>,
    /// The sending instance.
    pub(crate) sender: Token,
    /// Of what its node may keep; none for one that has not left its node.
    pub(crate) share: Option<Share>,
}

/// A message as it is, or as bytes. It is encoded when it leaves the node, and decoded by its process.
pub(crate) enum Body {
    Work(Box<dyn Work>),
    Encoded(Arc<Encoded>),
}

/// A message as bytes.
#[derive(Debug)]
pub(crate) struct Encoded {
    pub(crate) kind: Kind,
    pub(crate) message: Name,
    pub(crate) codec: u8,
    pub(crate) payload: Bytes,
}

impl Envelope {
    /// The deadline of a call; a cast has none once it was admitted.
    pub(crate) fn call_deadline(&self) -> Option<Time> {
        if self.reply.is_some() { self.deadline } else { None }
    }

    pub(crate) fn is_encoded(&self) -> bool {
        matches!(self.body, Body::Encoded(_))
    }

    pub(crate) fn into_work(self) -> (Option<Box<dyn Work>>, Option<ReplyTo>) {
        match self.body {
            Body::Work(work) => (Some(work), self.reply),
            Body::Encoded(_) => (None, self.reply),
        }
    }

    /// The message's name within its kind.
    pub(crate) fn message(&self) -> &str {
        match &self.body {
            Body::Work(work) => work.name(),
            Body::Encoded(encoded) => encoded.message.as_str(),
        }
    }

    /// The caller on this node that waits for it.
    pub(crate) fn caller_here(&self) -> Option<ReplyTo> {
        self.reply.filter(|reply| reply.at == Caller::Here)
    }

    /// Turns the message into bytes. User code runs: do this outside of locks where that is possible.
    pub(crate) fn encode(&mut self) -> Result<(), String> {
        if let Body::Work(work) = &self.body {
            self.body = Body::Encoded(Arc::new(Encoded::of(&**work)?));
        }
        Ok(())
    }
}

impl Encoded {
    fn of(work: &dyn Work) -> Result<Self, String> {
        let payload = guard::run(|| work.encode()).unwrap_or_else(|panic| Err(panic.to_string()))?;
        if payload.len() > PAYLOAD_BYTES_MAX {
            return Err(format!("{} bytes are over the limit of {PAYLOAD_BYTES_MAX}", payload.len()));
        }
        let name = |text| Name::new(text).map_err(|error| error.to_string());
        Ok(Self {
            kind: name(work.kind())?,
            message: name(work.name())?,
            codec: codec::NAMED,
            payload: Bytes::from(payload),
        })
    }
}

impl std::fmt::Debug for Envelope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Envelope").field("message", &self.message()).finish_non_exhaustive()
    }
}

impl Expires for Envelope {
    fn deadline(&self) -> Option<Time> {
        self.deadline
    }

    fn bytes(&self) -> usize {
        let body = match &self.body {
            // What it points to is not known.
            Body::Work(work) => size_of_val(&**work),
            Body::Encoded(encoded) => {
                let names = encoded.kind.as_str().len() + encoded.message.as_str().len();
                size_of::<Encoded>() + names + encoded.payload.len()
            }
        };
        size_of::<Self>() + body
    }
}

impl Parcel for Envelope {
    fn copy(&mut self) -> Result<Self, ErrorCode> {
        self.encode().map_err(|_| ErrorCode::Codec)?;
        let Body::Encoded(encoded) = &self.body else {
            return Err(ErrorCode::Codec);
        };
        let body = Body::Encoded(encoded.clone());
        Ok(Self { body, reply: self.reply, deadline: self.deadline, sender: self.sender, share: None })
    }
}

/// Why a message was not handled.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(crate) code: ErrorCode,
    pub(crate) executed: Executed,
    pub(crate) detail: String,
    pub(crate) reason: Option<ExitReason>,
}

impl Failure {
    pub(crate) fn new(code: ErrorCode, executed: Executed) -> Self {
        Self { code, executed, detail: String::new(), reason: None }
    }

    pub(crate) fn detailed(mut self, detail: &str) -> Self {
        detail.clone_into(&mut self.detail);
        self
    }

    pub(crate) fn because(mut self, reason: ExitReason) -> Self {
        self.reason = Some(reason);
        self
    }
}

impl From<Failure> for CallError {
    fn from(failure: Failure) -> Self {
        let Failure { code, executed, detail, reason } = failure;
        match CallError::from_code(code, executed, detail) {
            CallError::Stopped { .. } => CallError::Stopped { reason },
            other => other,
        }
    }
}
