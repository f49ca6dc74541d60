//! How full the tables of the directory are: what must never pass its limit, told for checkers and operators.

use super::copy::REMOVALS_SPARE;
use super::{Directory, Line};
use crate::base::Incarnation;
use crate::base::limits::{
    ANSWERS_MAX, EARLY_MAX, LISTINGS_MAX, LOSERS_MAX, MONITORS_MAX, ORPHANS_MAX, Usage, WAITERS_BYTES_MAX,
};

impl Directory {
    /// One row per table, and per kind with a limit; of what exists once per slot, the fullest.
    pub fn usage(&self) -> Vec<Usage> {
        let limits = self.settings.limits;
        let waiting = |owned: &super::slots::Owned| owned.waiters.values().map(Vec::len).sum::<usize>();
        let waiters = self.owned.values().map(waiting).max().unwrap_or(0);
        let graves = self.copies.values().map(super::copy::Copy::graves);
        let (tombstones, removals) = graves.fold((0, 0), |most, now| (most.0.max(now.0), most.1.max(now.1)));
        let mut rows = vec![
            Usage::new("requests", self.asks.len(), limits.requests),
            Usage::new("slot waiters", waiters, limits.slot_waiters),
            Usage::new("waiters", self.waiting.len(), limits.waiters),
            Usage::new("waiters' bytes", self.waiting.bytes(), WAITERS_BYTES_MAX),
            Usage::new("tombstones", tombstones, limits.tombstones),
            Usage::new("removals", removals, 2 * limits.tombstones + REMOVALS_SPARE),
            Usage::new("answers", self.answered.len(), ANSWERS_MAX),
            Usage::new("early messages", self.early.len(), EARLY_MAX),
            Usage::new("losers", self.losers.len(), LOSERS_MAX),
            Usage::new("orphans", self.host.orphans(), ORPHANS_MAX),
            Usage::new("monitors set", self.watching.len(), MONITORS_MAX),
            Usage::new("listings", self.listings.len(), LISTINGS_MAX),
        ];
        rows.extend(self.host.places().map(|(taken, most)| Usage::new("processes of a kind", taken, most)));
        rows
    }

    /// The owner of every slot in the view that this node follows, by slot.
    pub fn owners(&self) -> impl Iterator<Item = Option<Incarnation>> + '_ {
        let tables = self.line.iter().map(|line: &Line| &line.table);
        tables.flatten().map(|replicas| replicas.owner())
    }
}
