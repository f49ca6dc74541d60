//! Names that kill their nodes: suspected, tried apart from others, quarantined when alone.
//!
//! ```text
//!            host died young, too often            a group of one more than half is tried on one node
//!   (trusted) ─────────────────────────> Waiting ────────────────────────────────────────────────────> Trying
//!      ^                                    ^                                                          │ │ │
//!      │                                    └──────── that node died: half of the group next time ─────┘ │ │
//!      ├───────────────────── the node lived on for 2 s after `init` ────────────────────────────────────┘ │
//!      └── release ── Quarantined <───────── that node died, and the name was alone in its group ──────────┘
//! ```
//!
//! Decides: which names are started on a node together with which others, once their hosts have died soon after their
//! starts. Promises: a name that ends its node ends in quarantine; one that only stood beside it does not, nor one on a
//! node that comes and goes by itself, since a group is tried only on a node that has been a member for a while.
//! Assumes: an owner tries on itself, one group at a time, so no two owners try on one node; an owner that does not host
//! the kind tries single names on the node that does, where they may meet another owner's.
//!
//! All of it is in the record, so it survives the death of the owner, which is mostly the node that the name was tried
//! on. On a split each side judges by what it sees; a skipped view changes nothing.

use std::time::Duration;

use minicbor::{Decode, Encode};

use super::content::Change;
use super::record::{Record, RecordState, millis};
use super::writes::After;
use super::{Directory, DirectoryEvent};
use crate::base::{ExitReason, Few, Incarnation, Name, SlotId, Time};

/// A life that was younger than this when its host died is suspected of it.
const YOUNG: Duration = Duration::from_secs(10);
/// Such deaths within [`DEATHS_WINDOW`] make a name a suspect.
const DEATHS_MAX: usize = 4;
/// So many are enough where the next host is the last node there is.
const DEATHS_MAX_ALONE: usize = 2;
const DEATHS_WINDOW: Duration = Duration::from_secs(60);
/// A group is cleared when its node has lived so long after the last `init` of it.
const TRIAL: Duration = Duration::from_secs(2);
/// A member is tried on when it has been one for so long: a node that comes and goes would be evidence against anybody.
const STEADY: Duration = Duration::from_secs(10);
/// How soon a suspect that could not be tried is looked at again.
const TRY_AGAIN: Duration = Duration::from_millis(500);

/// Whether a name is suspected of killing its nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub enum Suspicion {
    /// It is not.
    #[default]
    #[n(0)]
    None,
    /// It is, and waits to be tried.
    #[n(1)]
    Waiting {
        /// Names in its next group, at most; 0 before its first.
        #[n(0)]
        group_max: u32,
    },
    /// It is being tried.
    #[n(2)]
    Trying {
        /// Names in its group.
        #[n(0)]
        group: u32,
    },
}

/// What the death of its host says about a name.
enum Verdict {
    Trusted,
    Suspect,
    Guilty,
}

impl Directory {
    /// The host of this permanent or transient record is gone, or was gone already.
    pub(super) fn lost_with_node(&mut self, slot: SlotId, mut record: Record, now: Time) {
        let was_suspect = record.suspicion != Suspicion::None;
        match self.judge_death(&mut record) {
            Verdict::Trusted => self.restart_elsewhere(slot, record, now),
            Verdict::Guilty => {
                let name = record.name.clone();
                record.state = RecordState::Quarantined;
                record.suspicion = Suspicion::None;
                self.event(DirectoryEvent::Quarantined(name.clone()));
                self.end_monitors(slot, &record, &ExitReason::Quarantined, true, now);
                self.write(slot, Change::Put(record.into()), vec![After::Wake(name)], now);
            }
            Verdict::Suspect => {
                if !was_suspect {
                    self.event(DirectoryEvent::Suspected(record.name.clone()));
                }
                self.back_off(slot, record, 0, Vec::new(), now);
            }
        }
    }

    fn judge_death(&self, record: &mut Record) -> Verdict {
        let ran =
            matches!(record.state, RecordState::Starting | RecordState::Restarting | RecordState::Running);
        if ran && !self.is_member(record.host) && !self.leavers.contains(&record.host) {
            let window = millis(DEATHS_WINDOW);
            record.node_deaths_ms.retain(|age| *age <= window);
            if record.age_ms < millis(YOUNG) {
                record.node_deaths_ms.push(0);
            }
            let alone = self.view().is_some_and(|view| view.members.len() == 1);
            let deaths_max = if alone { DEATHS_MAX_ALONE } else { DEATHS_MAX };
            record.suspicion = match record.suspicion {
                Suspicion::Trying { group: 0 | 1 } => return Verdict::Guilty,
                Suspicion::Trying { group } => Suspicion::Waiting { group_max: group.div_ceil(2) },
                Suspicion::None if record.node_deaths_ms.len() >= deaths_max => {
                    Suspicion::Waiting { group_max: 0 }
                }
                other => other,
            };
        }
        match record.suspicion {
            Suspicion::None => Verdict::Trusted,
            Suspicion::Waiting { .. } => Verdict::Suspect,
            // Its node left in order in the middle of the trial.
            Suspicion::Trying { group } => {
                record.suspicion = Suspicion::Waiting { group_max: group };
                Verdict::Suspect
            }
        }
    }

    /// A suspect's turn may have come. It is looked at again until it is tried.
    pub(super) fn try_suspect(&mut self, name: Name, now: Time) {
        let group = if self.trials.is_empty() && self.unsettled.is_empty() {
            self.next_group(&name, now)
        } else {
            Vec::new()
        };
        let size = u32::try_from(group.len()).unwrap_or(u32::MAX);
        if !group.iter().any(|(record, _)| record.name == name) {
            self.back_offs.insert((now + TRY_AGAIN, name));
        }
        for (mut record, host) in group {
            record.suspicion = Suspicion::Trying { group: size };
            self.trials.insert(record.name.clone(), now + YOUNG);
            self.restart_on(self.slot_of(&record.name), record, host, now);
        }
    }

    /// The names to be tried together next, and where.
    fn next_group(&self, name: &Name, now: Time) -> Vec<(Record, Incarnation)> {
        let is_waiting = |record: &&Record| {
            record.state == RecordState::BackingOff
                && matches!(record.suspicion, Suspicion::Waiting { .. })
                && !self.is_unwritten(self.slot_of(&record.name), &record.name)
        };
        let Some((own, host)) = self.record(name).filter(is_waiting).and_then(|r| self.trial_host(r, now))
        else {
            return Vec::new();
        };
        if host != self.me {
            return self.record_now(&own.name, now).map(|own| (own, host)).into_iter().collect();
        }
        let mut names: Vec<&Name> = self.back_offs.iter().map(|(_, name)| name).chain([name]).collect();
        names.sort_unstable();
        names.dedup();
        let waiting = names.into_iter().filter_map(|name| self.record(name)).filter(is_waiting);
        let here =
            waiting.filter(|record| self.trial_host(record, now).is_some_and(|(_, host)| host == self.me));
        let waiting: Vec<&Record> = here.collect();
        let first = u32::try_from(waiting.len().div_ceil(2)).unwrap_or(u32::MAX);
        let most = |record: &&Record| match record.suspicion {
            Suspicion::Waiting { group_max } if group_max > 0 => group_max.min(first),
            _ => first,
        };
        let size = waiting.iter().map(most).min().unwrap_or(1).max(1);
        let group = waiting.into_iter().take(size as usize);
        group.filter_map(|record| Some((self.record_now(&record.name, now)?, self.me))).collect()
    }

    /// Where a suspect may be tried now: here, unless this node does not host the kind or the record wants another one.
    fn trial_host<'a>(&self, record: &'a Record, now: Time) -> Option<(&'a Record, Incarnation)> {
        let view = self.view()?;
        let placed = self.place_again(record, None, now)?;
        let here =
            view.member(self.me).is_some_and(|me| me.takes(&record.kind) && record.placement.allows(me));
        let host = if here { self.me } else { placed };
        let steady = self.members_since.get(&host).is_some_and(|since| now.since(*since) >= STEADY);
        steady.then_some((record, host))
    }

    /// A suspect's `init` has returned: from now on its node's life speaks for it.
    pub(super) fn suspect_runs(&mut self, name: &Name, now: Time) {
        if let Some(due) = self.trials.get_mut(name) {
            *due = now + TRIAL;
        }
    }

    /// Nothing is held against it any more.
    pub(super) fn clear_suspect(&mut self, record: &mut Record) {
        self.trials.remove(&record.name);
        record.suspicion = Suspicion::None;
        record.node_deaths_ms = Few::default();
    }

    /// A slot opened in which these were being tried: their nodes are given their time again.
    pub(super) fn resume_trials(&mut self, slot: SlotId, now: Time) {
        let Some(copy) = self.copies.get(&slot) else { return };
        let trying = |record: &&Record| {
            matches!(record.suspicion, Suspicion::Trying { .. }) && self.is_member(record.host)
        };
        let records = copy.entries.values().map(|entry| &*entry.record).filter(trying);
        let names: Vec<Name> = records.map(|record| record.name.clone()).collect();
        self.trials.extend(names.into_iter().map(|name| (name, now + TRIAL)));
    }

    /// Clears those whose nodes have lived on.
    pub(super) fn end_trials(&mut self, now: Time) {
        let due: Vec<Name> =
            self.trials.iter().filter(|(_, due)| **due <= now).map(|(name, _)| name.clone()).collect();
        for name in due {
            self.trials.remove(&name);
            let slot = self.slot_of(&name);
            let Some(mut record) = self.record_now(&name, now) else { continue };
            if self.is_member(record.host) && record.suspicion != Suspicion::None {
                self.clear_suspect(&mut record);
                if record.state == RecordState::Running {
                    self.queue_move(slot, &record, now);
                }
                self.write(slot, Change::Put(record.into()), Vec::new(), now);
            }
        }
    }

    pub(super) fn trials_deadline(&self) -> Option<Time> {
        self.trials.values().min().copied()
    }
}
