//! What can go wrong, one type per operation.
//!
//! Every error tells whether the message or request was executed: [`Executed::No`] is safe to retry,
//! [`Executed::Unknown`] means that it may have run, or may still.

mod attached;

use std::time::Duration;

pub use attached::{GroupError, MetadataError};
use thiserror::Error;
use whimbrel_core::base::limits::SNAPSHOT_BYTES_MAX;
use whimbrel_core::base::{BadName, Bytes, ErrorCode, Executed, ExitReason, Hindrance};
use whimbrel_core::delivery::route::MOVING_PATIENCE;

use crate::process::ProcessRef;

/// Why a call has no reply.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CallError {
    /// Nothing runs under the name. Not executed; retry after starting it.
    #[error("nothing runs under this name")]
    NotFound,
    /// The process ended before it took the message. Not executed.
    #[error("the process has stopped")]
    Stopped {
        /// Why it ended, where that is known.
        reason: Option<ExitReason>,
    },
    /// A mailbox, route or table is full. Not executed; retry later.
    #[error("too many messages wait")]
    Overloaded,
    /// No reply by the deadline.
    #[error("no reply by the deadline")]
    Deadline {
        /// No when it was still held by its sender or dropped unread, otherwise unknown.
        executed: Executed,
    },
    /// The node that hosts the process was lost, or this node was closed.
    #[error("the node of the process was lost")]
    NodeLost {
        /// No when the message had not been sent.
        executed: Executed,
    },
    /// The minority side of a split can not serve it (strict mode). Not executed.
    #[error("this side of the split has no quorum")]
    NoQuorum,
    /// The process failed too often and waits for `release`. Not executed.
    #[error("the process is quarantined")]
    Quarantined,
    /// The process is moving and the caller asked not to wait. Not executed.
    #[error("the process is moving")]
    Moving {
        /// Asked earlier, this node may say the same without a look.
        retry_after: Duration,
    },
    /// The message or its reply could not be encoded or decoded.
    #[error("codec: {detail}")]
    Codec {
        /// What the codec says.
        detail: String,
        /// No for a message, unknown for a reply.
        executed: Executed,
    },
    /// The name belongs to a process of another kind. Not executed.
    #[error("the process is of kind {found:?}")]
    WrongKind {
        /// Its kind.
        found: String,
    },
    /// The process failed while it handled this message; it is not tried again. May have had effects.
    #[error("the process crashed while handling the message")]
    Crashed,
    /// The process does not speak this message. Not executed.
    #[error("the process does not know this message")]
    UnknownMessage,
    /// A handler called its own process. Not executed.
    #[error("a process can not call itself")]
    WouldDeadlock,
}

impl CallError {
    /// The code that logs and commands print.
    pub fn code(&self) -> ErrorCode {
        match self {
            CallError::NotFound => ErrorCode::NotFound,
            CallError::Stopped { .. } => ErrorCode::Stopped,
            CallError::Overloaded => ErrorCode::Overloaded,
            CallError::Deadline { .. } => ErrorCode::Deadline,
            CallError::NodeLost { .. } => ErrorCode::NodeLost,
            CallError::NoQuorum => ErrorCode::NoQuorum,
            CallError::Quarantined => ErrorCode::Quarantined,
            CallError::Moving { .. } => ErrorCode::Moving,
            CallError::Codec { .. } => ErrorCode::Codec,
            CallError::WrongKind { .. } => ErrorCode::WrongKind,
            CallError::Crashed => ErrorCode::Crashed,
            CallError::UnknownMessage => ErrorCode::UnknownMessage,
            CallError::WouldDeadlock => ErrorCode::WouldDeadlock,
        }
    }

    /// Whether the message was executed.
    pub fn executed(&self) -> Executed {
        match self {
            CallError::Deadline { executed }
            | CallError::NodeLost { executed }
            | CallError::Codec { executed, .. } => *executed,
            CallError::Crashed => Executed::Unknown,
            _ => Executed::No,
        }
    }

    /// The error for a code as it travels; `detail` is the text that came with it.
    pub(crate) fn from_code(code: ErrorCode, executed: Executed, detail: String) -> Self {
        match code {
            ErrorCode::NotFound => CallError::NotFound,
            ErrorCode::Stopped if executed == Executed::No => CallError::Stopped { reason: None },
            ErrorCode::Overloaded => CallError::Overloaded,
            ErrorCode::Deadline => CallError::Deadline { executed },
            ErrorCode::NoQuorum => CallError::NoQuorum,
            ErrorCode::Quarantined => CallError::Quarantined,
            ErrorCode::Moving => CallError::Moving { retry_after: MOVING_PATIENCE },
            ErrorCode::Codec => CallError::Codec { detail, executed },
            ErrorCode::WrongKind => CallError::WrongKind { found: detail },
            ErrorCode::Crashed => CallError::Crashed,
            ErrorCode::UnknownMessage => CallError::UnknownMessage,
            ErrorCode::WouldDeadlock => CallError::WouldDeadlock,
            _ => CallError::NodeLost { executed },
        }
    }
}

/// Why a cast was not accepted. It was not executed and never will be.
///
/// A cast that was accepted and can not be delivered later is a dead letter.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CastError {
    /// A mailbox or route is full; retry later.
    #[error("too many messages wait")]
    Overloaded,
    /// The process is known to have ended.
    #[error("the process has stopped")]
    Stopped,
    /// The process runs on another node and the message can not be encoded.
    #[error("codec: {detail}")]
    Codec {
        /// What the codec says.
        detail: String,
    },
    /// The name belongs to a process of another kind.
    #[error("the process is of kind {found:?}")]
    WrongKind {
        /// Its kind.
        found: String,
    },
    /// This node was closed.
    #[error("this node is closed")]
    NodeLost,
}

impl CastError {
    /// The code that logs and commands print.
    pub fn code(&self) -> ErrorCode {
        match self {
            CastError::Overloaded => ErrorCode::Overloaded,
            CastError::Stopped => ErrorCode::Stopped,
            CastError::Codec { .. } => ErrorCode::Codec,
            CastError::WrongKind { .. } => ErrorCode::WrongKind,
            CastError::NodeLost => ErrorCode::NodeLost,
        }
    }

    /// Always [`Executed::No`].
    pub fn executed(&self) -> Executed {
        Executed::No
    }

    pub(crate) fn from_call(error: CallError) -> Self {
        match error {
            CallError::Codec { detail, .. } => CastError::Codec { detail },
            CallError::WrongKind { found } => CastError::WrongKind { found },
            CallError::NodeLost { .. } => CastError::NodeLost,
            CallError::Stopped { .. } => CastError::Stopped,
            _ => CastError::Overloaded,
        }
    }
}

/// Why a process was not started.
#[derive(Error)]
pub enum StartError<P: crate::Process> {
    /// Another request started it before; it runs.
    #[error("it is already running")]
    AlreadyRunning {
        /// The running process.
        process: ProcessRef<P>,
    },
    /// The name belongs to a process of another kind.
    #[error("the name belongs to a process of kind {found:?}")]
    WrongKind {
        /// Its kind.
        found: String,
    },
    /// No member hosts this kind, or this node was not told of it with `kind`.
    #[error("no node hosts kind {kind:?}")]
    NoHost {
        /// The kind.
        kind: String,
    },
    /// `init` did not return Ok; nothing is left of the start.
    #[error("init failed: {reason}")]
    InitFailed {
        /// How it ended.
        reason: ExitReason,
    },
    /// No answer by the deadline.
    #[error("no answer by the deadline")]
    Deadline {
        /// Unknown when it may still start: ask `locate`, or start again.
        executed: Executed,
    },
    /// The name failed too often and waits for `release`.
    #[error("the name is quarantined")]
    Quarantined,
    /// Every node that may host it has as many processes of its kind as `KindOptions::max_per_node` allows; not executed.
    #[error("no node that may host it has room for one more process of this kind")]
    AtCapacity,
    /// The arguments are longer than 64 KiB.
    #[error("arguments have at most 65536 bytes, these have {bytes}")]
    ArgsTooLarge {
        /// Their length.
        bytes: usize,
    },
    /// The text is not a name.
    #[error(transparent)]
    BadName(#[from] BadName),
    /// Too many requests wait; retry later.
    #[error("too many requests wait")]
    Overloaded,
    /// The arguments can not be encoded.
    #[error("codec: {detail}")]
    Codec {
        /// What the codec says.
        detail: String,
    },
    /// This node was closed.
    #[error("this node is closed")]
    Stopped,
}

impl<P: crate::Process> StartError<P> {
    /// The code that logs and commands print.
    pub fn code(&self) -> ErrorCode {
        match self {
            StartError::AlreadyRunning { .. } => ErrorCode::AlreadyRunning,
            StartError::WrongKind { .. } => ErrorCode::WrongKind,
            StartError::NoHost { .. } => ErrorCode::NoHost,
            StartError::InitFailed { .. } => ErrorCode::InitFailed,
            StartError::Deadline { .. } => ErrorCode::Deadline,
            StartError::Quarantined => ErrorCode::Quarantined,
            StartError::AtCapacity => ErrorCode::AtCapacity,
            StartError::ArgsTooLarge { .. } => ErrorCode::ArgsTooLarge,
            StartError::BadName(_) => ErrorCode::BadName,
            StartError::Overloaded => ErrorCode::Overloaded,
            StartError::Codec { .. } => ErrorCode::Codec,
            StartError::Stopped => ErrorCode::Stopped,
        }
    }

    /// Whether this request may still start a process.
    pub fn executed(&self) -> Executed {
        match self {
            StartError::Deadline { executed } => *executed,
            StartError::Stopped => Executed::Unknown,
            _ => Executed::No,
        }
    }
}

impl<P: crate::Process> std::fmt::Debug for StartError<P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({self})", self.code())
    }
}

/// Why a question or command about a name (`locate`, `stop`, `release`, `unregister`, `list`) has no answer.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RequestError {
    /// The name is not taken.
    #[error("nothing runs under this name")]
    NotFound,
    /// The name failed too often and waits for `release`.
    #[error("the name is quarantined")]
    Quarantined,
    /// No answer by the deadline.
    #[error("no answer by the deadline")]
    Deadline {
        /// Unknown when the command may still be carried out.
        executed: Executed,
    },
    /// Too many requests wait; retry later.
    #[error("too many requests wait")]
    Overloaded,
    /// There is no link with the node that knows; not executed, retry later.
    #[error("there is no link with the node that owns the name")]
    NodeLost,
    /// The name belongs to a process of another kind, or to one that the command does not apply to.
    #[error("the name belongs to a process of kind {found:?}")]
    WrongKind {
        /// Its kind.
        found: String,
    },
    /// The text is not a name.
    #[error(transparent)]
    BadName(#[from] BadName),
    /// Some members did not answer, so a listing would have gaps; or it would be too long. Retry later, or ask for pages.
    #[error("not every member answered, or there are too many names")]
    Incomplete,
    /// This node was closed.
    #[error("this node is closed")]
    Stopped,
}

/// Why [`crate::Cluster::locate`] has no answer.
pub type LocateError = RequestError;

impl RequestError {
    /// The code that logs and commands print.
    pub fn code(&self) -> ErrorCode {
        match self {
            RequestError::NotFound => ErrorCode::NotFound,
            RequestError::Quarantined => ErrorCode::Quarantined,
            RequestError::Deadline { .. } | RequestError::Incomplete => ErrorCode::Deadline,
            RequestError::Overloaded => ErrorCode::Overloaded,
            RequestError::NodeLost => ErrorCode::NodeLost,
            RequestError::WrongKind { .. } => ErrorCode::WrongKind,
            RequestError::BadName(_) => ErrorCode::BadName,
            RequestError::Stopped => ErrorCode::Stopped,
        }
    }

    /// Whether a command may still be carried out.
    pub fn executed(&self) -> Executed {
        match self {
            RequestError::Deadline { executed } => *executed,
            RequestError::Stopped => Executed::Unknown,
            _ => Executed::No,
        }
    }

    /// Whether the same may go better when it is tried again.
    pub fn is_passing(&self) -> bool {
        matches!(
            self,
            RequestError::Deadline { .. }
                | RequestError::Overloaded
                | RequestError::NodeLost
                | RequestError::Incomplete
        )
    }
}

/// Why a process was not moved. It runs all the same.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum MoveError {
    /// It runs on where it was.
    #[error("not moved: {}", text(*why))]
    Hindered {
        /// Why. [`Hindrance::is_passing`] tells whether another try may go better.
        why: Hindrance,
    },
    /// Anything else that a request about a name can end with. After a `Deadline` with executed unknown it may still move.
    #[error(transparent)]
    Request(#[from] RequestError),
}

impl MoveError {
    /// The code that logs and commands print.
    pub fn code(&self) -> ErrorCode {
        match self {
            MoveError::Hindered { why: Hindrance::UnknownKind | Hindrance::Unfit | Hindrance::NoHost } => {
                ErrorCode::NoHost
            }
            MoveError::Hindered { why: Hindrance::AtCapacity } => ErrorCode::AtCapacity,
            MoveError::Hindered { why: Hindrance::Unencodable | Hindrance::Unreadable } => ErrorCode::Codec,
            MoveError::Hindered { why: Hindrance::TooLarge | Hindrance::Busy } => ErrorCode::Overloaded,
            MoveError::Hindered { why: Hindrance::Lost | Hindrance::Leaving } => ErrorCode::NodeLost,
            MoveError::Hindered { why: Hindrance::Slow } => ErrorCode::Deadline,
            MoveError::Hindered { why: Hindrance::Stays } => ErrorCode::Moving,
            MoveError::Hindered { why: Hindrance::Ended } => ErrorCode::Stopped,
            MoveError::Request(error) => error.code(),
        }
    }

    /// Whether it may still move.
    pub fn executed(&self) -> Executed {
        match self {
            MoveError::Hindered { .. } => Executed::No,
            MoveError::Request(error) => error.executed(),
        }
    }
}

fn text(why: Hindrance) -> &'static str {
    match why {
        Hindrance::Busy => "too many moves are under way there, or the name is still there",
        Hindrance::Leaving => "that node leaves",
        Hindrance::UnknownKind => "that node does not host the kind",
        Hindrance::AtCapacity => "that node holds as many processes of the kind as it may",
        Hindrance::TooLarge => "its state and its unread messages are over 64 MiB",
        Hindrance::Stays => "the process stays where it is",
        Hindrance::Slow => "it did not come to rest, or did not resume, in time",
        Hindrance::Unencodable => "its state or a message in its mailbox can not be encoded",
        Hindrance::Unreadable => "that node can not read the state",
        Hindrance::Lost => "that node, or what it had received, is gone",
        Hindrance::Ended => "the process ended",
        Hindrance::Unfit => "that node has not the labels that the process wants",
        Hindrance::NoHost => "there is no other node that may take it",
    }
}

/// Why an existing process was not given a name.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RegisterError {
    /// The name is taken.
    #[error("the name is taken")]
    AlreadyRunning,
    /// The process does not run on this node.
    #[error("the process does not run on this node")]
    NotLocal,
    /// Anything else that a question about a name can end with.
    #[error(transparent)]
    Request(#[from] RequestError),
}

/// Why a process is not watched. Nothing is left of the attempt: it may be repeated.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum MonitorError {
    /// The process, this node or the watched name has as many monitors as it may; retry later.
    #[error("too many monitors")]
    Overloaded,
    /// The owner of the name has not answered in time; retry.
    #[error("no answer by the deadline")]
    Deadline,
    /// The text is not a name.
    #[error(transparent)]
    BadName(#[from] BadName),
    /// This node was closed.
    #[error("this node is closed")]
    Stopped,
}

impl MonitorError {
    /// The code that logs and commands print.
    pub fn code(&self) -> ErrorCode {
        match self {
            MonitorError::Overloaded => ErrorCode::Overloaded,
            MonitorError::Deadline => ErrorCode::Deadline,
            MonitorError::BadName(_) => ErrorCode::BadName,
            MonitorError::Stopped => ErrorCode::Stopped,
        }
    }

    /// Always [`Executed::No`].
    pub fn executed(&self) -> Executed {
        Executed::No
    }
}

/// A state that is too large to be shown. Not executed: the one before stays, and a retry is refused too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a snapshot has at most {SNAPSHOT_BYTES_MAX} bytes, this one has {bytes}")]
pub struct SnapshotTooLarge {
    /// Its length.
    pub bytes: usize,
}

impl SnapshotTooLarge {
    pub(crate) fn check(state: Vec<u8>) -> Result<Bytes, Self> {
        let bytes = state.len();
        if bytes <= SNAPSHOT_BYTES_MAX { Ok(Bytes::from(state)) } else { Err(Self { bytes }) }
    }
}

/// Why a node did not join.
#[derive(Debug, Error)]
pub enum JoinError {
    /// Two registered kinds have the same `KIND`.
    #[error("kind {kind:?} is registered twice")]
    DuplicateKind {
        /// The kind.
        kind: String,
    },
    /// A kind lists two messages of one name.
    #[error("kind {kind:?} has two messages named {message:?}")]
    DuplicateMessage {
        /// The kind.
        kind: String,
        /// The message.
        message: String,
    },
    /// A setting is not usable.
    #[error("{key}: {rule}")]
    BadSetting {
        /// Its name.
        key: &'static str,
        /// The rule it breaks.
        rule: String,
    },
    /// The program was built with panic=abort, so a crash of one process would end all; see `allow_abort`.
    #[error(
        "built with panic=abort: one panic would end the whole program; call allow_abort() to accept that"
    )]
    PanicAborts,
    /// The secret, the address or the listener.
    #[error("transport: {0}")]
    Transport(String),
    /// A living node of the cluster has this node's name: choose another, or end that node first.
    #[error("a living node of the cluster is named {name:?}")]
    NameTaken {
        /// The name.
        name: String,
    },
    /// A label that is not usable, or too many.
    #[error("label {key:?}: {rule}")]
    BadLabel {
        /// Its key.
        key: String,
        /// The rule it breaks.
        rule: String,
    },
    /// No line was joined or founded by the deadline.
    #[error("no cluster was joined or founded by the deadline")]
    Deadline,
}
