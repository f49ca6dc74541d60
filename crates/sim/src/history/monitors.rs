//! Monitors as their watchers saw them.

use whimbrel_core::base::{ErrorCode, ExitReason, Token};
use whimbrel_core::directory::Until;

use super::Micros;

/// What a watcher was told.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    /// The machine on which the watcher was.
    pub(crate) host: u16,
    pub(crate) at: Micros,
    pub(crate) token: Token,
    pub(crate) reason: ExitReason,
    /// The number of the snapshot.
    pub(crate) snapshot: Option<u32>,
}

/// One monitor.
#[derive(Clone, Debug)]
pub(crate) struct Monitor {
    /// The machine of the watcher.
    pub(crate) host: u16,
    /// The life that watches, or none for a client.
    pub(crate) by: Option<u32>,
    pub(crate) name: u32,
    /// The life that is watched, or whichever there is.
    pub(crate) of: Option<u32>,
    pub(crate) until: Until,
    /// Moves are told too.
    pub(crate) moves: bool,
    pub(crate) asked: Micros,
    /// When it was set, or refused.
    pub(crate) set: Option<(Micros, Result<(), ErrorCode>)>,
    pub(crate) withdrawn: Option<Micros>,
    pub(crate) told: Vec<Told>,
}

/// A state that a life published.
#[derive(Clone, Debug)]
pub(crate) struct Snapshot {
    pub(crate) life: u32,
    pub(crate) at: Micros,
    /// It is the last one, and goes with the end.
    pub(crate) last: bool,
}

impl Monitor {
    /// What it was told of an end.
    pub(crate) fn downs(&self) -> impl Iterator<Item = &Told> {
        self.told.iter().filter(|told| told.reason != ExitReason::Moved)
    }
}
