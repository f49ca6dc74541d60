//! A copy of one slot's records, as every replica keeps it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use minicbor::{Decode, Encode};

use super::attached::Attachment;
use super::by_name::{ByName, Named};
use super::content::{Change, Fill, FillFor};
use super::monitors::Watches;
use super::record::{Record, StartOutcome, Tombstone, millis};
use super::repair::row;
use crate::base::limits::FILL_BYTES_MAX;
use crate::base::{Name, SlotId, Time, Token};
use crate::view::ViewId;

/// About how many bytes a tombstone takes on the wire.
const TOMBSTONE_BYTES: usize = 512;
/// Removals beyond twice the tombstones before those without one are forgotten: that walk costs as much as it frees.
pub(super) const REMOVALS_SPARE: usize = 64;
/// How long a tombstone is kept.
const TOMBSTONE_KEPT: Duration = Duration::from_secs(24 * 3600);

/// Tells what a copy holds: everything promised up to write `seq` of view `opened`.
///
/// Two copies of a slot with the same mark have the same content, since the owner of that view numbered its
/// writes and every replica applied them in order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Mark {
    /// The last view for which this replica acknowledged that the slot opens.
    #[n(0)]
    pub opened: Option<ViewId>,
    /// The last write applied in it.
    #[n(1)]
    pub seq: u64,
}

/// A record, and when this replica applied it: ages in the record count from then.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// The record; the host of its process, if it is this node, holds the same.
    pub(super) record: Arc<Record>,
    /// When it was applied here.
    pub(super) at: Time,
}

impl Entry {
    /// The record with its ages as of now.
    pub(super) fn record_now(&self, now: Time) -> Record {
        self.record.aged(millis(now.since(self.at)))
    }
}

impl Named for Entry {
    fn name(&self) -> &Name {
        &self.record.name
    }
}

/// The records of one slot.
#[derive(Clone, Debug, Default)]
pub(super) struct Copy {
    /// What this copy holds.
    pub mark: Mark,
    /// Names in use.
    pub(super) entries: ByName<Entry>,
    tombstones: BTreeMap<Name, (Tombstone, Time)>,
    /// Removals in order, so that the oldest tombstone is found without a search.
    removals: VecDeque<(Time, Name)>,
    /// Lives at or below this, of this line and without an entry, are dead.
    watermark: Token,
    /// Monitors of names, also of such as have ended.
    pub(super) watches: Watches,
    /// Content that is arriving in parts.
    staging: Option<Box<Copy>>,
    /// The sum over the rows.
    digest: u64,
    /// The owner's rows are others: the next content that is as new replaces this.
    pub(super) is_unlike: bool,
}

impl Copy {
    /// Applies one change. Of more tombstones than these the oldest are summed up.
    pub(super) fn apply(&mut self, change: Change, tombstones_max: usize, now: Time) {
        match change {
            Change::Put(record) => {
                if !self.tombstones.is_empty() {
                    self.tombstones.remove(&record.name);
                }
                self.put(record, now);
            }
            Change::Runs(name, token) => self.set_running(&name, token, now),
            Change::Attach(name, attachment) => self.attach(&name, attachment),
            Change::Watch(name, id, monitor) => self.watches.set(&name, id, monitor),
            Change::Unwatch(name, ids) => self.watches.unset(&name, &ids),
            Change::End(name, end) => self.watches.end(&name, end),
            Change::Remove(name, tombstone) => {
                self.take(&name);
                self.removals.push_back((now, name.clone()));
                self.tombstones.insert(name, (tombstone, now));
                self.collect(tombstones_max, now);
            }
        }
    }

    fn put(&mut self, record: Arc<Record>, now: Time) {
        self.digest = self.digest.wrapping_add(row(&record));
        if let Some(before) = self.entries.insert(Entry { record, at: now }) {
            self.digest = self.digest.wrapping_sub(row(&before.record));
        }
    }

    /// The row is as the owner's, which numbered this write: it has this life, unless a bug lost it.
    fn set_running(&mut self, name: &Name, token: Token, now: Time) {
        let Some(entry) = self.entries.get_mut(name).filter(|entry| entry.record.token == token) else {
            return;
        };
        self.digest = self.digest.wrapping_sub(row(&entry.record));
        let record = Arc::make_mut(&mut entry.record);
        record.grow_older(millis(now.since(entry.at)));
        record.set_running();
        self.digest = self.digest.wrapping_add(row(record));
        entry.at = now;
    }

    fn attach(&mut self, name: &Name, attachment: Attachment) {
        let Some(entry) = self.entries.get_mut(name) else { return };
        self.digest = self.digest.wrapping_sub(row(&entry.record));
        Arc::make_mut(&mut entry.record).attach(attachment);
        self.digest = self.digest.wrapping_add(row(&entry.record));
    }

    fn take(&mut self, name: &Name) -> bool {
        let taken = self.entries.remove(name);
        if let Some(entry) = &taken {
            self.digest = self.digest.wrapping_sub(row(&entry.record));
        }
        taken.is_some()
    }

    /// The sum over its rows: see `repair`.
    pub(super) fn digest(&self) -> u64 {
        self.digest.wrapping_add(self.watches.digest())
    }

    /// Only for planted bugs: a row is gone.
    pub(super) fn lose_row(&mut self, name: &Name) -> bool {
        self.take(name)
    }

    /// Sums up old tombstones in the watermark.
    fn collect(&mut self, tombstones_max: usize, now: Time) {
        while let Some((at, name)) = self.removals.front() {
            if now.since(*at) <= TOMBSTONE_KEPT && self.tombstones.len() <= tombstones_max {
                break;
            }
            // A name that was used and freed again since has a younger one.
            let (at, name) = (*at, name.clone());
            self.removals.pop_front();
            if self.tombstones.get(&name).is_some_and(|(_, removed)| *removed == at) {
                self.sum_up(&name);
            }
        }
        // One name, used and freed for ever, leaves one tombstone and many removals.
        if self.removals.len() > 2 * self.tombstones.len() + REMOVALS_SPARE {
            let tombstones = &self.tombstones;
            let counts =
                |(at, name): &(Time, Name)| tombstones.get(name).is_some_and(|(_, freed)| freed == at);
            self.removals.retain(counts);
        }
    }

    /// Tombstones, and removals that are remembered for them.
    pub(super) fn graves(&self) -> (usize, usize) {
        (self.tombstones.len(), self.removals.len())
    }

    fn sum_up(&mut self, name: &Name) {
        if let Some((tombstone, _)) = self.tombstones.remove(name) {
            self.watermark = self.watermark.max(tombstone.token);
        }
    }

    /// Whether the name was freed at or after this life of the same line.
    pub(super) fn is_dead(&self, name: &Name, token: Token) -> bool {
        let freed = self.tombstones.get(name).map_or(self.watermark, |(tombstone, _)| tombstone.token);
        token <= freed
    }

    /// Whether the name was freed at or after this life of another line. Only a tombstone of a process that ran speaks of
    /// it, not the watermark, nor a start that failed here: unless it was this very one, which its request tells, since
    /// two lines may give the same token.
    pub(super) fn is_dead_elsewhere(&self, offered: &Record) -> bool {
        self.tombstones.get(&offered.name).is_some_and(|(tombstone, _)| {
            let ran = matches!(tombstone.outcome, StartOutcome::Ran(_));
            offered.token <= tombstone.token && (ran || offered.request == tombstone.started_by)
        })
    }

    /// What remains of a name that is free, if it is remembered.
    pub(super) fn tombstone(&self, name: &Name) -> Option<&Tombstone> {
        self.tombstones.get(name).map(|(tombstone, _)| tombstone)
    }

    /// The last life of a name that is free, if it is remembered.
    pub(super) fn last_token(&self, name: &Name) -> Token {
        let kept = self.tombstones.get(name).map(|(tombstone, _)| tombstone.token);
        kept.unwrap_or_default().max(self.watermark)
    }

    /// Its content in parts of bounded size; at least one.
    pub(super) fn to_fills(&self, slot: SlotId, mark: Mark, purpose: FillFor, now: Time) -> Vec<Fill> {
        let part = |first| Fill {
            slot,
            purpose,
            mark,
            first,
            last: false,
            records: Vec::new(),
            tombstones: Vec::new(),
            watermark: self.watermark,
            watches: Vec::new(),
        };
        let mut fills = vec![part(true)];
        let mut bytes = 0;
        let mut room = |fills: &mut Vec<Fill>, size: usize| {
            bytes += size;
            if bytes > FILL_BYTES_MAX {
                bytes = size;
                fills.push(part(false));
            }
        };
        for entry in self.entries.values() {
            let record = &entry.record;
            room(&mut fills, record.size());
            if let Some(fill) = fills.last_mut() {
                // Ages count from when a replica applies them: those of the receiver from now on.
                fill.records.push(entry.record_now(now));
            }
        }
        for (name, (tombstone, _)) in &self.tombstones {
            room(&mut fills, name.as_str().len() + TOMBSTONE_BYTES);
            if let Some(fill) = fills.last_mut() {
                fill.tombstones.push((name.clone(), tombstone.clone()));
            }
        }
        for (name, watch) in self.watches.iter() {
            room(&mut fills, name.as_str().len() + watch.bytes());
            if let Some(fill) = fills.last_mut() {
                fill.watches.push((name.clone(), watch.clone()));
            }
        }
        if let Some(fill) = fills.last_mut() {
            fill.last = true;
        }
        fills
    }

    /// Takes in a part. Returns true when the content is whole and has replaced what was here.
    pub(super) fn fill(&mut self, fill: Fill, now: Time) -> bool {
        if fill.first {
            self.staging = Some(Box::default());
        }
        let Some(staging) = &mut self.staging else { return false };
        for record in fill.records {
            staging.put(Arc::new(record), now);
        }
        for (name, tombstone) in fill.tombstones {
            staging.removals.push_back((now, name.clone()));
            staging.tombstones.insert(name, (tombstone, now));
        }
        for (name, watch) in fill.watches {
            staging.watches.fill(name, watch);
        }
        if !fill.last {
            return false;
        }
        let Some(mut whole) = self.staging.take() else { return false };
        whole.mark = fill.mark;
        whole.watermark = fill.watermark;
        *self = *whole;
        true
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::base::{ExitReason, Incarnation, RequestId};

    const CALLER: Incarnation = Incarnation { started_ms: 1, nonce: 1 };

    fn freed(name: &str, token: u64) -> Change {
        let tombstone = Tombstone {
            token: Token::from_u64(token),
            stopped_by: Vec::new(),
            started_by: RequestId { caller: CALLER, number: token },
            outcome: StartOutcome::Failed(ExitReason::Killed),
        };
        Change::Remove(Name::new(name).unwrap(), tombstone)
    }

    #[test]
    fn one_name_that_is_freed_for_ever_leaves_little() {
        let mut copy = Copy::default();
        for token in 1..=10_000 {
            copy.apply(freed("a", token), 100, Time::from_micros(token));
            let (tombstones, removals) = copy.graves();
            assert!(tombstones == 1 && removals <= 2 + REMOVALS_SPARE, "{tombstones} {removals}");
        }
        assert_eq!(copy.last_token(&Name::new("a").unwrap()), Token::from_u64(10_000));
    }

    #[test]
    fn the_oldest_of_too_many_tombstones_are_summed_up_in_the_watermark() {
        let mut copy = Copy::default();
        for token in 1..=10 {
            copy.apply(freed(&format!("n{token}"), token), 4, Time::from_micros(token));
            assert!(copy.graves().0 <= 4);
        }
        // A name without a tombstone starts above all that were summed up.
        assert_eq!(copy.last_token(&Name::new("n1").unwrap()), Token::from_u64(6));
        assert!(copy.is_dead(&Name::new("n1").unwrap(), Token::from_u64(1)));
        let host = Incarnation { started_ms: 1, nonce: 7 };
        let (name, kind) = (Name::new("n1").unwrap(), Name::new("counter").unwrap());
        let request = RequestId { caller: host, number: 99 };
        let offered = Record::first(name, kind, host, Token::from_u64(1), request);
        assert!(!copy.is_dead_elsewhere(&offered), "of another line");
        assert!(copy.tombstone(&Name::new("n7").unwrap()).is_some());
    }
}
