//! The planner as operators see it: what it is about to do, what has come of it, and whether it is paused.
//!
//! Decides: which moves wait while rebalancing is paused. Promises: while it is, nothing is moved but away from nodes that
//! drain, and what somebody moves by hand. Each owner plans for its own names; an order to pause reaches all (`notice`).

use std::collections::BTreeSet;

use super::record::Record;
use super::{Directory, DirectoryEvent};
use crate::base::Name;

/// What this node, as the owner of names, has moved, moves, and is about to move.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RebalanceReport {
    /// Nothing is moved to balance, in the whole cluster.
    pub paused: bool,
    /// Names that are about to move, or are to be looked at.
    pub queued: usize,
    /// Names that would move if it were not paused.
    pub held: usize,
    /// Moves under way, those by hand among them.
    pub open: usize,
    /// Names whose last move came to nothing, and that are tried again after a while.
    pub waiting: usize,
    /// Names whose process failed while it was to move, and does not run again yet.
    pub failed: usize,
    /// Moves that this node as an owner has brought to their end since it started.
    pub moved: u64,
    /// Moves that came to nothing since it started; `Event::MoveCalledOff` says why of each.
    pub called_off: u64,
}

/// What the planner counts and holds.
#[derive(Debug, Default)]
pub(super) struct Planner {
    held: BTreeSet<Name>,
    moved: u64,
    called_off: u64,
}

impl Planner {
    /// A view was installed, or the line left: all names are looked at anew.
    pub(super) fn clear(&mut self) {
        self.held.clear();
    }

    /// Counts what comes of moves.
    pub(super) fn note(&mut self, event: &DirectoryEvent) {
        match event {
            DirectoryEvent::Moved { .. } => self.moved += 1,
            DirectoryEvent::MoveCalledOff { .. } => self.called_off += 1,
            _ => {}
        }
    }
}

impl Directory {
    /// What the planner of this node does.
    pub fn rebalance_report(&self) -> RebalanceReport {
        let (queued, open, waiting, failed) = self.moves.counts();
        RebalanceReport {
            paused: self.notices.is_paused(),
            queued,
            held: self.planner.held.len(),
            open,
            waiting,
            failed,
            moved: self.planner.moved,
            called_off: self.planner.called_off,
        }
    }

    /// Whether the move of a name has to wait until rebalancing goes on.
    pub(super) fn holds(&mut self, record: &Record) -> bool {
        let drains = self.view().and_then(|view| view.member(record.host)).is_some_and(|host| host.draining);
        let holds = self.notices.is_paused() && !drains;
        if holds {
            self.planner.held.insert(record.name.clone());
        }
        holds
    }

    /// Rebalancing goes on.
    pub(super) fn queue_held(&mut self) {
        let held = std::mem::take(&mut self.planner.held);
        self.moves.queue_all(held);
    }
}
