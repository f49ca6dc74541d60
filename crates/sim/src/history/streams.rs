//! Streams as their readers saw them.

use whimbrel_core::directory::StreamEvent;

use super::Micros;

/// What a stream is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Follows {
    All,
    /// Names in any group.
    Scope,
    /// Names in this group.
    Group(u32),
}

/// One stream, from the start of its node on.
#[derive(Clone, Debug)]
pub(crate) struct Stream {
    pub(crate) host: u16,
    pub(crate) follows: Follows,
    pub(crate) began: Micros,
    /// In the order in which they were told.
    pub(crate) events: Vec<(Micros, StreamEvent)>,
}
