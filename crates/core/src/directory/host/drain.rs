//! What is left on a node that drains: what waits to move, what can not, and why.

use super::{Hosted, Phase};
use crate::base::{Hindrance, Kind, Name};
use crate::directory::Directory;
use crate::directory::record::RecordState;

/// A process that is still here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// It is going to move, or to end: this is what was in the way so far.
    Waits(Hindrance),
    /// Nothing moves it: it ends with the node.
    Stays(Hindrance),
}

impl Left {
    /// What is in the way.
    pub const fn why(self) -> Hindrance {
        match self {
            Left::Waits(why) | Left::Stays(why) => why,
        }
    }
}

impl Directory {
    /// The node begins to drain: what came of earlier moves tells nothing of those that follow.
    pub fn handle_drain(&mut self) {
        for rare in self.host.all_mut().filter_map(|hosted| hosted.rare.as_mut()) {
            rare.hindrance = None;
        }
    }

    /// Whether nothing runs here, and nothing is kept for owners of another line.
    pub fn is_idle(&self) -> bool {
        self.host.is_empty()
    }

    /// What is here still, by slot.
    pub fn left(&self) -> impl Iterator<Item = (&Name, &Kind, Left)> {
        let here = self.host.all().filter(|(_, hosted)| hosted.phase != Phase::Absent);
        here.map(|(name, hosted)| (name, &hosted.record.kind, self.left_of(hosted)))
    }

    fn left_of(&self, hosted: &Hosted) -> Left {
        let record = &hosted.record;
        let last = hosted.rare.as_ref().and_then(|rare| rare.hindrance);
        match hosted.phase {
            _ if record.state == RecordState::Registered => Left::Stays(Hindrance::Stays),
            _ if self.line.is_none() || hosted.offered => Left::Waits(Hindrance::Lost),
            _ if !self.has_other_host(&record.kind, &record.placement) => Left::Stays(Hindrance::NoHost),
            Phase::Running => match last {
                Some(why) if why.is_for_good() => Left::Stays(why),
                Some(why) => Left::Waits(why),
                None => Left::Waits(Hindrance::Busy),
            },
            Phase::Launching => Left::Waits(Hindrance::Slow),
            Phase::Ended | Phase::Absent => Left::Waits(Hindrance::Ended),
        }
    }

    /// Whether others hold what this node knows of slots: it may go, and no copy is missed.
    pub fn is_handed_over(&self) -> bool {
        let Some(line) = &self.line else { return true };
        if line.view().members.len() == 1 {
            return true;
        }
        let (table, view) = (&line.table, line.view().id);
        self.copies.iter().filter(|(_, copy)| copy.mark.opened.is_some()).all(|(slot, copy)| {
            match table.get(usize::from(slot.0)) {
                Some(replicas) if replicas.owner() == Some(self.me) => self.serves(*slot),
                // The owner has all of it, or this copy would not have been opened with it.
                Some(replicas) if replicas.contains(self.me) => copy.mark.opened == Some(view),
                // The owner says so when the slot serves, and the copy goes.
                Some(_) | None => false,
            }
        })
    }
}
