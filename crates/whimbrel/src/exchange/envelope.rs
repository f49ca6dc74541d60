//! What lies in a mailbox or on a route: a message, who waits for its outcome, and until when.

use std::sync::Arc;

use whimbrel_core::base::limits::FRAME_BYTES_MAX;
use whimbrel_core::base::{ErrorCode, Executed, ExitReason, Name, ShortBytes, Time, Token};
use whimbrel_core::delivery::{Errand, Expires, Parcel};

use super::budget::Share;
use super::sending::Sending;
use crate::codec;
use crate::error::CallError;
use crate::message::Work;
use crate::message::reply::{Caller, ReplyTo};
use crate::process::guard;

/// Bytes of an encoded message or reply: a frame, less what stands around it (two names, a kind, numbers).
pub(crate) const PAYLOAD_BYTES_MAX: usize = FRAME_BYTES_MAX - 2 * 1024;

/// What is known of a message beside what it says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Head {
    pub(crate) reply: Option<ReplyTo>,
    /// Until when it may wait. After it a call is not handled; a cast that has reached a mailbox is.
    pub(crate) deadline: Option<Time>,
    /// The sending instance.
    pub(crate) sender: Token,
    pub(crate) errand: Errand,
}

impl Head {
    /// Of a message that nobody waits for.
    pub(crate) const fn cast(sender: Token) -> Self {
        Self { reply: None, deadline: None, sender, errand: Errand::Deliver }
    }
}

/// A message on its way, as it is or as bytes: encoded when it leaves the node, and decoded by its process. Two words,
/// since mailboxes and routes hold very many.
pub(crate) enum Envelope {
    Work(Box<dyn Work>),
    Encoded(Arc<Encoded>),
}

/// A message as bytes.
#[derive(Debug)]
pub(crate) struct Encoded {
    pub(crate) head: Head,
    pub(crate) kind: Label,
    pub(crate) message: Label,
    pub(crate) codec: u8,
    pub(crate) payload: ShortBytes,
    /// Of what its node may keep; none for one that has no room there, or that is encoded to be shown.
    pub(crate) share: Option<Share>,
    /// Of what its sender waits for before it moves; none for what no process sends.
    pub(crate) sending: Option<Sending>,
}

/// The name of a kind or a message.
#[derive(Clone, Debug)]
pub(crate) enum Label {
    /// Of a type of this program.
    Here(&'static str),
    /// As another node wrote it.
    There(Name),
}

impl Label {
    pub(crate) fn as_str(&self) -> &str {
        match self {
            Label::Here(text) => text,
            Label::There(name) => name.as_str(),
        }
    }
}

impl Envelope {
    pub(crate) fn head(&self) -> &Head {
        match self {
            Envelope::Work(work) => work.head(),
            Envelope::Encoded(encoded) => &encoded.head,
        }
    }

    /// Gives a cast, which is not encoded yet, a time until which it may wait to leave this node.
    pub(crate) fn wait_until(&mut self, due: Time) {
        if let Envelope::Work(work) = self {
            work.head_mut().deadline.get_or_insert(due);
        }
    }

    /// Counts it among what its node keeps until it is dropped. It was just encoded.
    pub(crate) fn takes(&mut self, share: Share) {
        if let Envelope::Encoded(encoded) = self
            && let Some(encoded) = Arc::get_mut(encoded)
        {
            encoded.share = Some(share);
        }
    }

    /// Counts it among what its sender has under way until it is dropped. It was just encoded.
    pub(crate) fn sent_by(&mut self, sending: Sending) {
        if let Envelope::Encoded(encoded) = self
            && let Some(encoded) = Arc::get_mut(encoded)
        {
            encoded.sending = Some(sending);
        }
    }

    /// The deadline of a call; a cast has none once it was admitted.
    pub(crate) fn call_deadline(&self) -> Option<Time> {
        let head = self.head();
        if head.reply.is_some() { head.deadline } else { None }
    }

    /// The message's name within its kind.
    pub(crate) fn message(&self) -> &str {
        match self {
            Envelope::Work(work) => work.name(),
            Envelope::Encoded(encoded) => encoded.message.as_str(),
        }
    }

    /// The caller on this node that waits for it.
    pub(crate) fn caller_here(&self) -> Option<ReplyTo> {
        self.head().reply.filter(|reply| reply.at == Caller::Here)
    }

    /// Turns the message into bytes. User code runs: do this outside of locks where that is possible.
    pub(crate) fn encode(&mut self) -> Result<(), String> {
        if let Envelope::Work(work) = self {
            *self = Envelope::Encoded(Arc::new(Encoded::of(&**work)?));
        }
        Ok(())
    }
}

impl Encoded {
    pub(crate) fn of(work: &dyn Work) -> Result<Self, String> {
        let payload = guard::run(|| work.encode()).unwrap_or_else(|panic| Err(panic.to_string()))?;
        if payload.len() > PAYLOAD_BYTES_MAX {
            return Err(format!("{} bytes are over the limit of {PAYLOAD_BYTES_MAX}", payload.len()));
        }
        for name in [work.kind(), work.name()] {
            Name::check(name).map_err(|error| error.to_string())?;
        }
        Ok(Self {
            head: *work.head(),
            kind: Label::Here(work.kind()),
            message: Label::Here(work.name()),
            codec: codec::NAMED,
            payload,
            share: None,
            sending: None,
        })
    }

    /// About how many bytes it takes.
    pub(crate) fn bytes(&self) -> usize {
        let names = self.kind.as_str().len() + self.message.as_str().len();
        size_of::<Self>() + names + self.payload.allocated()
    }
}

impl std::fmt::Debug for Envelope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Envelope").field("message", &self.message()).finish_non_exhaustive()
    }
}

impl Expires for Envelope {
    fn deadline(&self) -> Option<Time> {
        self.head().deadline
    }

    fn bytes(&self) -> usize {
        let body = match self {
            // What it points to is not known.
            Envelope::Work(work) => size_of_val(&**work),
            Envelope::Encoded(encoded) => encoded.bytes(),
        };
        size_of::<Self>() + body
    }

    fn errand(&self) -> Errand {
        self.head().errand
    }

    fn void(&self) -> Self {
        let head = Head { errand: Errand::Void, ..Head::cast(self.head().sender) };
        let (kind, message) = match self {
            Envelope::Work(work) => (Label::Here(work.kind()), Label::Here(work.name())),
            Envelope::Encoded(encoded) => (encoded.kind.clone(), encoded.message.clone()),
        };
        let (codec, payload) = (codec::OPAQUE, ShortBytes::default());
        let void = Encoded { head, kind, message, codec, payload, share: None, sending: None };
        Envelope::Encoded(Arc::new(void))
    }
}

impl Parcel for Envelope {
    fn copy(&mut self) -> Result<Self, ErrorCode> {
        self.encode().map_err(|_| ErrorCode::Codec)?;
        match self {
            Envelope::Encoded(encoded) => Ok(Envelope::Encoded(encoded.clone())),
            Envelope::Work(_) => Err(ErrorCode::Codec),
        }
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
