//! Monitors, at the owner of the watched name: rows of the slot beside its records.

use minicbor::{Decode, Encode};

use crate::base::{Bytes, ExitReason, Incarnation, Name, Token};

/// Which end a monitor waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum Until {
    /// The end of the present life, or of the next one while none runs; whether or not the name starts again.
    #[default]
    #[n(0)]
    Life,
    /// The end of the name: it is free, or quarantined. Restarts are no end.
    #[n(1)]
    Name,
}

/// What a watcher is told, once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Down {
    /// Who.
    pub name: Name,
    /// The life that ended; zero if there was none.
    pub token: Token,
    /// Why.
    pub reason: ExitReason,
    /// The last state that it published.
    pub snapshot: Option<Bytes>,
    /// Where it runs now, if the reason is [`ExitReason::Moved`]: that is no end, and more follows.
    pub to: Option<Incarnation>,
}
