//! A node on its way out: when all is gone that can go, and what could not.
//!
//! Decides: when a drain is over. Promises: it is over by its deadline; before it, only when every member knows of it, all
//! that could move has moved, nothing is on its way in, and others hold what this node knew of slots. Assumes: the owners
//! of the names move them (`directory/moves.rs`).
//!
//! What has nowhere to go does not hold it up: a node that could take it may never come. It is served until the node
//! leaves.

use std::time::Duration;

use super::{Effect, Event, Node};
use crate::base::limits::STAYED_MAX;
use crate::base::{Hindrance, Kind, Mutant, Mutants, Name, Time};
use crate::directory::Left;

/// Between two looks at what is left.
const LOOK: Duration = Duration::from_millis(50);
/// Between two words on what is waited for.
const TELL: Duration = Duration::from_secs(1);

/// What came of a drain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Drained {
    /// Processes that went to other nodes since the first drain of this node began.
    pub moved: usize,
    /// Processes that are still here: the first [`STAYED_MAX`].
    pub stayed: Vec<Stayed>,
    /// How many there are.
    pub stayed_count: usize,
}

/// A process that a drain has not moved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stayed {
    /// Its name.
    pub name: Name,
    /// Its kind.
    pub kind: Kind,
    /// Why it is still here.
    pub why: Hindrance,
}

/// How far the drain of this node is.
#[derive(Debug, Default)]
pub(super) struct Drain {
    mutants: Mutants,
    /// When it is over, and when it is looked at again; none before and after.
    under_way: Option<UnderWay>,
    has_begun: bool,
    moved: usize,
}

#[derive(Clone, Copy, Debug)]
struct UnderWay {
    until: Time,
    look_at: Time,
    tell_at: Time,
}

impl Drain {
    pub(super) fn new(mutants: Mutants) -> Self {
        Self { mutants, ..Self::default() }
    }

    pub(super) fn next_deadline(&self) -> Option<Time> {
        self.under_way.map(|under_way| under_way.look_at.min(under_way.until))
    }

    /// A process of this node runs elsewhere now.
    pub(super) fn note_moved(&mut self) {
        self.moved += usize::from(self.has_begun);
    }
}

impl Node {
    /// From now on this node takes nothing new, and what it has goes to others. Said again, it has another deadline.
    pub(super) fn begin_drain(&mut self, within: Duration) {
        let now = self.last;
        if !self.drain.has_begun {
            self.drain.has_begun = true;
            self.directory.handle_drain();
            self.membership.handle_drain(now);
        }
        let (until, look_at, tell_at) = (now.time + within, now.time, now.time + TELL);
        self.drain.under_way = Some(UnderWay { until, look_at, tell_at });
    }

    /// Ends the drain if nothing is waited for any more, or its time is up.
    pub(super) fn look_at_drain(&mut self) {
        let now = self.last.time;
        let Some(mut under_way) = self.drain.under_way.filter(|it| now >= it.look_at.min(it.until)) else {
            return;
        };
        if now >= under_way.until || !self.waits_in_drain() {
            return self.end_drain();
        }
        under_way.look_at = now + LOOK;
        if now >= under_way.tell_at {
            under_way.tell_at = now + TELL;
            let left = self.directory.left().count();
            let waits = self.directory.left().find(|(_, _, left)| matches!(left, Left::Waits(_)));
            let waits_for = waits.map(|(name, _, left)| (name.clone(), left.why()));
            let moved = self.drain.moved;
            self.out.push_back(Effect::Event(Event::Draining { moved, left, waits_for }));
        }
        self.drain.under_way = Some(under_way);
    }

    /// A view was installed: perhaps that is what was waited for.
    pub(super) fn look_at_drain_soon(&mut self) {
        let now = self.last.time;
        if let Some(under_way) = &mut self.drain.under_way {
            under_way.look_at = under_way.look_at.min(now);
        }
    }

    fn waits_in_drain(&self) -> bool {
        let hasty = self.drain.mutants.has(Mutant::LeftBeforeMoved);
        let moves = || self.directory.left().any(|(_, _, left)| matches!(left, Left::Waits(_)));
        let me = self.incarnation();
        match self.view.as_ref().and_then(|view| view.member(me)) {
            _ if self.directory.is_leaving() => false,
            // Until a view says that it drains, others place names here.
            Some(member) if !member.draining && !self.is_alone() => true,
            Some(_) => (moves() && !hasty) || !self.handoff.is_empty_in() || !self.directory.is_handed_over(),
            // It stays outside then.
            None => !self.directory.is_idle(),
        }
    }

    fn is_alone(&self) -> bool {
        self.view.as_ref().is_some_and(|view| view.members.len() == 1)
    }

    /// Says what came of it, once.
    pub(super) fn end_drain(&mut self) {
        if self.drain.under_way.take().is_none() {
            return;
        }
        let mut drained = Drained { moved: self.drain.moved, ..Drained::default() };
        for (name, kind, left) in self.directory.left() {
            drained.stayed_count += 1;
            if drained.stayed.len() < STAYED_MAX {
                drained.stayed.push(Stayed { name: name.clone(), kind: kind.clone(), why: left.why() });
            }
        }
        self.out.push_back(Effect::Drained(drained));
    }
}
