//! Error codes, what they say about execution, and why a process ended.

use std::fmt;

use minicbor::{Decode, Encode};

/// Whether the message of a failed operation was executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Encode, Decode)]
#[cbor(index_only)]
pub enum Executed {
    /// It was not and never will be: safe to retry.
    #[n(0)]
    No,
    /// It may have been, or may still be.
    #[n(1)]
    Unknown,
}

/// The one list of error codes; `as_str` is what commands and logs print.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Encode, Decode)]
#[cbor(index_only)]
#[allow(missing_docs)]
pub enum ErrorCode {
    #[n(0)]
    NotFound,
    #[n(1)]
    Stopped,
    #[n(2)]
    Overloaded,
    #[n(3)]
    Deadline,
    #[n(4)]
    NodeLost,
    #[n(5)]
    NoQuorum,
    #[n(6)]
    Moving,
    #[n(7)]
    Codec,
    #[n(8)]
    WrongKind,
    #[n(9)]
    NoHost,
    #[n(10)]
    InitFailed,
    #[n(11)]
    Quarantined,
    #[n(12)]
    AtCapacity,
    #[n(13)]
    Crashed,
    #[n(14)]
    AlreadyRunning,
    #[n(15)]
    ArgsTooLarge,
    #[n(16)]
    UnknownMessage,
    #[n(17)]
    BadName,
    #[n(18)]
    WouldDeadlock,
}

impl ErrorCode {
    /// The code in the form that commands print.
    pub const fn as_str(self) -> &'static str {
        match self {
            ErrorCode::NotFound => "not_found",
            ErrorCode::Stopped => "stopped",
            ErrorCode::Overloaded => "overloaded",
            ErrorCode::Deadline => "deadline",
            ErrorCode::NodeLost => "node_lost",
            ErrorCode::NoQuorum => "no_quorum",
            ErrorCode::Moving => "moving",
            ErrorCode::Codec => "codec",
            ErrorCode::WrongKind => "wrong_kind",
            ErrorCode::NoHost => "no_host",
            ErrorCode::InitFailed => "init_failed",
            ErrorCode::Quarantined => "quarantined",
            ErrorCode::AtCapacity => "at_capacity",
            ErrorCode::Crashed => "crashed",
            ErrorCode::AlreadyRunning => "already_running",
            ErrorCode::ArgsTooLarge => "args_too_large",
            ErrorCode::UnknownMessage => "unknown_message",
            ErrorCode::BadName => "bad_name",
            ErrorCode::WouldDeadlock => "would_deadlock",
        }
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a process ended. Complete from the first version on, since it travels.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum ExitReason {
    /// It asked to stop and all is well.
    #[n(0)]
    Normal,
    /// It was told to stop: `stop`, or the node leaves.
    #[n(1)]
    Shutdown,
    /// A handler, `init` or a hook returned an error; the text is capped at 1,024 bytes.
    #[n(2)]
    Error(#[n(0)] String),
    /// User code panicked; the text is capped at 1,024 bytes.
    #[n(3)]
    Panic(#[n(0)] String),
    /// Ended by force, without its consent.
    #[n(4)]
    Killed,
    /// Its node died.
    #[n(5)]
    NodeLost,
    /// Another instance of the name stays.
    #[n(6)]
    ConflictLost,
    /// It failed too often and waits for `release`.
    #[n(7)]
    Quarantined,
    /// It goes on at another node: not a death.
    #[n(8)]
    Moved,
}

impl ExitReason {
    /// True for an end that a `transient` process is not restarted after.
    pub const fn is_normal(&self) -> bool {
        matches!(self, ExitReason::Normal | ExitReason::Shutdown | ExitReason::Moved)
    }

    /// The text cut to the limit of what travels, at a character's border.
    pub fn capped(self) -> Self {
        match self {
            ExitReason::Error(text) => ExitReason::Error(cap(text)),
            ExitReason::Panic(text) => ExitReason::Panic(cap(text)),
            other => other,
        }
    }
}

fn cap(mut text: String) -> String {
    let mut end = super::limits::TEXT_BYTES_MAX;
    if text.len() > end {
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
    }
    text
}

impl fmt::Display for ExitReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ExitReason::Normal => f.write_str("normal"),
            ExitReason::Shutdown => f.write_str("shutdown"),
            ExitReason::Error(text) => write!(f, "error: {}", text.escape_debug()),
            ExitReason::Panic(text) => write!(f, "panic: {}", text.escape_debug()),
            ExitReason::Killed => f.write_str("killed"),
            ExitReason::NodeLost => f.write_str("node lost"),
            ExitReason::ConflictLost => f.write_str("conflict lost"),
            ExitReason::Quarantined => f.write_str("quarantined"),
            ExitReason::Moved => f.write_str("moved"),
        }
    }
}
