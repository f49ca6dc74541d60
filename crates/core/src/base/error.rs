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
    #[n(19)]
    WrongVersion,
}

impl ErrorCode {
    /// All of them, by their numbers on the wire.
    pub const ALL: [ErrorCode; 20] = [
        ErrorCode::NotFound,
        ErrorCode::Stopped,
        ErrorCode::Overloaded,
        ErrorCode::Deadline,
        ErrorCode::NodeLost,
        ErrorCode::NoQuorum,
        ErrorCode::Moving,
        ErrorCode::Codec,
        ErrorCode::WrongKind,
        ErrorCode::NoHost,
        ErrorCode::InitFailed,
        ErrorCode::Quarantined,
        ErrorCode::AtCapacity,
        ErrorCode::Crashed,
        ErrorCode::AlreadyRunning,
        ErrorCode::ArgsTooLarge,
        ErrorCode::UnknownMessage,
        ErrorCode::BadName,
        ErrorCode::WouldDeadlock,
        ErrorCode::WrongVersion,
    ];

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
            ErrorCode::WrongVersion => "wrong_version",
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
    /// There was no such process: what a monitor of it is told.
    #[n(9)]
    NoProcess,
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
            ExitReason::NoProcess => f.write_str("no process"),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::base::limits::TEXT_BYTES_MAX;

    /// The one list, in the order of the numbers on the wire.
    const CODES: &str = "not_found stopped overloaded deadline node_lost no_quorum moving codec wrong_kind no_host \
                         init_failed quarantined at_capacity crashed already_running args_too_large unknown_message \
                         bad_name would_deadlock wrong_version";

    #[test]
    fn codes_keep_their_words_and_numbers() {
        for (number, word) in (0u8..).zip(CODES.split_whitespace()) {
            let code: ErrorCode = minicbor::decode(&minicbor::to_vec(number).unwrap()).unwrap();
            assert_eq!((code.as_str(), code.to_string().as_str()), (word, word));
            assert_eq!(minicbor::to_vec(code).unwrap(), minicbor::to_vec(number).unwrap());
        }
        let all = ErrorCode::ALL.map(ErrorCode::as_str).join(" ");
        assert_eq!(all, CODES.split_whitespace().collect::<Vec<_>>().join(" "));
        let after_the_last = minicbor::to_vec(CODES.split_whitespace().count()).unwrap();
        assert!(minicbor::decode::<ErrorCode>(&after_the_last).is_err());
    }

    #[test]
    fn every_reason_survives_the_wire() {
        let reasons = [
            (ExitReason::Normal, "normal", true),
            (ExitReason::Shutdown, "shutdown", true),
            (ExitReason::Error("full".into()), "error: full", false),
            (ExitReason::Panic("a\nb".into()), "panic: a\\nb", false),
            (ExitReason::Killed, "killed", false),
            (ExitReason::NodeLost, "node lost", false),
            (ExitReason::ConflictLost, "conflict lost", false),
            (ExitReason::Quarantined, "quarantined", false),
            (ExitReason::Moved, "moved", true),
            (ExitReason::NoProcess, "no process", false),
        ];
        for (reason, words, normal) in reasons {
            assert_eq!((reason.to_string().as_str(), reason.is_normal()), (words, normal));
            let wire = minicbor::to_vec(&reason).unwrap();
            assert_eq!(minicbor::decode::<ExitReason>(&wire).unwrap(), reason);
        }
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        let short = "x".repeat(TEXT_BYTES_MAX);
        assert_eq!(ExitReason::Panic(short.clone()).capped(), ExitReason::Panic(short));
        // 3 bytes each: the limit falls into the middle of one.
        let ExitReason::Error(text) = ExitReason::Error("語".repeat(1_000)).capped() else {
            panic!("still an error")
        };
        assert_eq!(text, "語".repeat(TEXT_BYTES_MAX / 3));
        assert_eq!(ExitReason::Killed.capped(), ExitReason::Killed);
    }
}
