//! Repair: backups are held against the owner's copy, slot by slot, by a sum over its rows.
//!
//! Decides: when a backup's rows are not the owner's, and that it gets them again. Promises: a difference, whatever made
//! it, lasts no longer than one round while owner and backup stay what they are; nothing flows from a backup to the
//! owner. Assumes: a link keeps its order, so what the owner had written when it summed up has reached the backup before
//! the sum. A copy that differs still counts as opened: it is the best there is until it is filled, and to call it not
//! opened would say that the slot never served. On a crash of the owner the next one sums up anew; on a split each side
//! repairs its own copies; a skipped view ends a round, and the next opening begins one.
//!
//! The sum is over names, tokens and states of records, and how often what is attached to them has changed, kept up with every change. What two replicas may rightly
//! disagree on, because each counts time by its own clock, is not part of it: ages, and which tombstones are forgotten.

use std::time::Duration;

use super::content::Digest;
use super::message::Message;
use super::record::Record;
use super::{Directory, DirectoryEvent};
use crate::base::hash::{hash, mix};
use crate::base::{Incarnation, Mutant, Time};

/// Between two rounds.
const ROUND_EVERY: Duration = Duration::from_secs(10);
/// The first round comes so long after a slot has opened.
const ROUND_FIRST: Duration = Duration::from_secs(2);
/// Slots in one message: it stays under the frame limit.
pub(super) const DIGESTS_PER_MESSAGE: usize = 8_192;
/// Seed of the hash of rows.
const ROW_SEED: u64 = 0x524f_5753_5355_4d53;

/// One row of a copy as a number. A copy's digest is the wrapping sum over its rows, so their order does not matter.
pub(super) fn row(record: &Record) -> u64 {
    let attempt = record.moving.as_ref().map_or(0, |moving| moving.attempt.as_u64());
    let parts = [
        record.token.as_u64(),
        record.gate.as_u64(),
        record.host.nonce,
        record.state as u64,
        attempt,
        u64::from(record.revision()),
    ];
    parts.into_iter().fold(hash(ROW_SEED, record.name.as_str().as_bytes()), |sum, part| {
        mix(sum ^ part).wrapping_add(0x9e37_79b9_7f4a_7c15)
    })
}

impl Directory {
    /// A slot opened: a round is due soon.
    pub(super) fn repair_soon(&mut self, now: Time) {
        let soon = now + ROUND_FIRST;
        self.repair_at = Some(self.repair_at.map_or(soon, |at| at.min(soon)));
    }

    /// Tells every backup what its copies sum up to, if a round is due.
    pub(super) fn repair(&mut self, now: Time) {
        if self.repair_at.is_none_or(|at| at > now) {
            return;
        }
        self.repair_at = (!self.owned.is_empty()).then_some(now + ROUND_EVERY);
        if self.settings.mutants.has(Mutant::RepairSkipped) {
            return;
        }
        for slot in self.owned.iter().map(|(slot, _)| *slot).collect::<Vec<_>>() {
            self.drop_watchers_gone(slot, now);
        }
        for (slot, owned) in self.owned.iter().filter(|(_, owned)| owned.serves()) {
            let Some(copy) = self.copies.get(slot) else { continue };
            let digest = Digest { slot: *slot, seq: copy.mark.seq, sum: copy.digest() };
            for backup in owned.acked.keys() {
                self.batch.digests.entry(*backup).or_default().push(digest);
            }
        }
    }

    /// The owner's sums: where they are others than here, its rows are asked for.
    pub(super) fn on_digests(&mut self, from: Incarnation, digests: &[Digest]) {
        let mut unlike = Vec::new();
        let mut wrong = 0;
        for Digest { slot, seq, sum } in digests {
            let Some(view) = self.backup_view(*slot, from) else { continue };
            let Some(copy) = self.copies.get_mut(slot).filter(|copy| copy.mark.opened == Some(view)) else {
                continue;
            };
            if copy.mark.seq < *seq {
                unlike.push(*slot);
            } else if copy.mark.seq == *seq && copy.digest() != *sum {
                copy.is_unlike = true;
                wrong += 1;
                unlike.push(*slot);
            }
        }
        if wrong > 0 {
            self.event(DirectoryEvent::CopyUnlike { slots: wrong });
        }
        if !unlike.is_empty() {
            self.send(from, Message::Unlike(unlike));
        }
    }

    /// Only for the simulator: this node's copy loses a row, as by a bug.
    #[cfg(feature = "mutants")]
    pub fn lose_row(&mut self, name: &crate::base::Name) -> bool {
        let slot = self.slot_of(name);
        self.copies.get_mut(&slot).is_some_and(|copy| copy.lose_row(name))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::content::{Change, FillFor};
    use super::super::copy::{Copy, Mark};
    use super::super::record::{RecordState, StartOutcome, Tombstone};
    use super::*;
    use crate::base::{ExitReason, Name, RequestId, SlotId, Token};

    fn record(name: &str, token: u64) -> Record {
        let host = Incarnation { started_ms: 1, nonce: 7 };
        let (name, kind) = (Name::new(name).unwrap(), Name::new("counter").unwrap());
        Record::first(name, kind, host, Token::from_u64(token), RequestId { caller: host, number: 1 })
    }

    fn copy(rows: &[(&str, u64)]) -> Copy {
        let mut copy = Copy::default();
        for (name, token) in rows {
            copy.apply(Change::Put(record(name, *token).into()), 10, Time::ZERO);
        }
        copy
    }

    fn removal(name: &str) -> Change {
        let Record { name, token, request: started_by, .. } = record(name, 9);
        let outcome = StartOutcome::Failed(ExitReason::Killed);
        Change::Remove(name, Tombstone { token, stopped_by: Vec::new(), started_by, outcome })
    }

    #[test]
    fn copies_of_the_same_rows_sum_up_to_the_same_whatever_their_history() {
        let sum = copy(&[("a", 1), ("b", 2)]).digest();
        assert_eq!(copy(&[("b", 2), ("a", 7), ("a", 1)]).digest(), sum);
        let mut longer = copy(&[("a", 1), ("c", 3), ("b", 2)]);
        assert_ne!(longer.digest(), sum);
        longer.apply(removal("c"), 10, Time::ZERO);
        assert_eq!(longer.digest(), sum);
        assert_eq!(copy(&[]).digest(), 0);
    }

    #[test]
    fn a_row_lost_another_life_and_another_state_show() {
        let sum = copy(&[("a", 1), ("b", 2)]).digest();
        let mut changed = record("b", 2);
        changed.state = RecordState::Running;
        let mut other_state = copy(&[("a", 1)]);
        other_state.apply(Change::Put(changed.into()), 10, Time::ZERO);
        let mut lost = copy(&[("a", 1), ("b", 2)]);
        assert!(lost.lose_row(&Name::new("b").unwrap()));
        for other in [copy(&[("a", 1), ("b", 3)]), other_state, lost] {
            assert_ne!(other.digest(), sum);
        }
    }

    #[test]
    fn content_that_replaces_a_copy_brings_its_sum() {
        let source = copy(&[("a", 1), ("b", 2)]);
        let mut target = copy(&[("b", 2), ("z", 5)]);
        target.is_unlike = true;
        for fill in source.to_fills(SlotId(0), Mark::default(), FillFor::Backup, Time::ZERO) {
            target.fill(fill, Time::ZERO);
        }
        assert_eq!((target.digest(), target.is_unlike), (source.digest(), false));
    }
}
