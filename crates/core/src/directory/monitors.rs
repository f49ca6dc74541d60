//! Monitors, at the owner of the watched name: rows of the slot beside its records, on every replica like them.
//!
//! ```text
//!   Watch                    the end it waits for                      Unwatch
//!  ───────> set at the name ──────────────────────> one of a farewell ─────────> (gone)
//!              │  Unwatch, or a view without the watcher ────────────────────────^
//! ```
//!
//! An end is first written as a *farewell* - why, with which last state, and who is to hear of it - and then as what it
//! does to the record. So whoever owns the slot next goes on telling, also when the name is long free. A farewell is told
//! again until every watcher has said that it heard, or has left the view.

use std::collections::BTreeMap;

use minicbor::{Decode, Encode};

use super::content::Change;
use super::message::Message;
use super::record::{Record, RecordState};
use super::writes::After;
use super::{Directory, REPEAT};
use crate::base::hash::{hash, mix};
use crate::base::limits::{FAREWELLS_MAX, MONITORS_PER_NAME_MAX};
use crate::base::{Bytes, ErrorCode, ExitReason, Incarnation, Mutant, Name, SlotId, Time, Token};

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

/// Who is to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Watcher {
    /// The node.
    #[n(0)]
    pub node: Incarnation,
    /// Rises as the process that watches moves on: the token of its life there. What a node that it has left said earlier
    /// may come later.
    #[n(1)]
    pub rank: Token,
}

/// One monitor, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Monitor {
    /// Who is to be told.
    #[n(0)]
    pub watcher: Watcher,
    /// Which end.
    #[n(1)]
    pub until: Until,
    /// Planned moves are told too.
    #[n(2)]
    pub moves: bool,
}

/// An end.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct End {
    /// The life.
    #[n(0)]
    pub token: Token,
    /// Why.
    #[n(1)]
    pub reason: ExitReason,
    /// The last state that it published.
    #[n(2)]
    pub snapshot: Option<Bytes>,
    /// The name has ended too.
    #[n(3)]
    pub whole: bool,
}

/// An end that somebody has yet to hear of.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Farewell {
    /// The end.
    #[n(0)]
    pub end: End,
    /// The monitors that it is the end of, and whom they tell.
    #[n(1)]
    pub watchers: BTreeMap<u64, Watcher>,
}

/// All monitors of one name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Watch {
    /// Those that wait for an end.
    #[n(0)]
    pub monitors: BTreeMap<u64, Monitor>,
    /// Ends, in order.
    #[n(1)]
    pub farewells: Vec<Farewell>,
}

/// Seed of the hash of rows.
const ROW_SEED: u64 = 0x4d4f_4e49_544f_5253;

/// One monitor as a number, for the sum over a copy.
fn row(name: &Name, id: u64, watcher: Watcher, ended: bool) -> u64 {
    let of_name = hash(ROW_SEED, name.as_str().as_bytes());
    mix(mix(of_name ^ id) ^ watcher.node.nonce ^ u64::from(ended))
}

/// The monitors of the names of one slot.
#[derive(Clone, Debug, Default)]
pub(super) struct Watches {
    names: BTreeMap<Name, Watch>,
    digest: u64,
}

impl Watches {
    /// The sum over all monitors: see `repair`.
    pub(super) fn digest(&self) -> u64 {
        self.digest
    }

    pub(super) fn get(&self, name: &Name) -> Option<&Watch> {
        self.names.get(name)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&Name, &Watch)> {
        self.names.iter()
    }

    /// Takes in those of a name that has none yet.
    pub(super) fn fill(&mut self, name: Name, watch: Watch) {
        for (id, monitor) in &watch.monitors {
            self.digest = self.digest.wrapping_add(row(&name, *id, monitor.watcher, false));
        }
        for (id, watcher) in watch.farewells.iter().flat_map(|farewell| &farewell.watchers) {
            self.digest = self.digest.wrapping_add(row(&name, *id, *watcher, true));
        }
        self.names.insert(name, watch);
    }

    /// A monitor is set, or its watcher has moved to another node.
    pub(super) fn set(&mut self, name: &Name, id: u64, monitor: Monitor) {
        let watch = self.names.entry(name.clone()).or_default();
        let ended = watch.farewells.iter_mut().find_map(|farewell| farewell.watchers.get_mut(&id));
        let (before, is_ended) = match ended {
            Some(watcher) => (Some(std::mem::replace(watcher, monitor.watcher)), true),
            None => (watch.monitors.insert(id, monitor).map(|before| before.watcher), false),
        };
        if let Some(before) = before {
            self.digest = self.digest.wrapping_sub(row(name, id, before, is_ended));
        }
        self.digest = self.digest.wrapping_add(row(name, id, monitor.watcher, is_ended));
    }

    /// Nobody waits for these any more.
    pub(super) fn unset(&mut self, name: &Name, ids: &[u64]) {
        let Some(watch) = self.names.get_mut(name) else { return };
        for id in ids {
            if let Some(monitor) = watch.monitors.remove(id) {
                self.digest = self.digest.wrapping_sub(row(name, *id, monitor.watcher, false));
            }
            for farewell in &mut watch.farewells {
                if let Some(watcher) = farewell.watchers.remove(id) {
                    self.digest = self.digest.wrapping_sub(row(name, *id, watcher, true));
                }
            }
        }
        watch.farewells.retain(|farewell| !farewell.watchers.is_empty());
        if watch.monitors.is_empty() && watch.farewells.is_empty() {
            self.names.remove(name);
        }
    }

    /// What waited for this end is one of its farewell.
    pub(super) fn end(&mut self, name: &Name, end: End) {
        let Some(watch) = self.names.get_mut(name) else { return };
        let ends = |monitor: &Monitor| end.whole || monitor.until == Until::Life;
        let mut watchers = BTreeMap::new();
        watch.monitors.retain(|id, monitor| {
            if ends(monitor) {
                watchers.insert(*id, monitor.watcher);
            }
            !ends(monitor)
        });
        for (id, watcher) in &watchers {
            self.digest = self.digest.wrapping_sub(row(name, *id, *watcher, false));
            self.digest = self.digest.wrapping_add(row(name, *id, *watcher, true));
        }
        if !watchers.is_empty() {
            watch.farewells.push(Farewell { end, watchers });
        }
    }
}

impl Watch {
    /// Monitors, those among them that have yet to hear of an end.
    pub(super) fn len(&self) -> usize {
        let ended = self.farewells.iter().map(|farewell| farewell.watchers.len());
        self.monitors.len() + ended.sum::<usize>()
    }

    fn watcher_of(&self, id: u64) -> Option<Watcher> {
        let ended = || self.farewells.iter().find_map(|farewell| farewell.watchers.get(&id).copied());
        self.monitors.get(&id).map(|monitor| monitor.watcher).or_else(ended)
    }

    fn watchers(&self) -> impl Iterator<Item = (u64, Watcher)> + '_ {
        let ended = self.farewells.iter().flat_map(|farewell| &farewell.watchers);
        let waiting = self.monitors.iter().map(|(id, monitor)| (*id, monitor.watcher));
        waiting.chain(ended.map(|(id, watcher)| (*id, *watcher)))
    }

    /// About how many bytes it takes on the wire.
    pub(super) fn bytes(&self) -> usize {
        let farewells = self.farewells.iter().map(|farewell| farewell.end.bytes());
        farewells.sum::<usize>() + self.len() * 40 + 16
    }
}

impl End {
    /// About how many bytes it takes on the wire.
    pub(super) fn bytes(&self) -> usize {
        let text = match &self.reason {
            ExitReason::Error(text) | ExitReason::Panic(text) => text.len(),
            _ => 0,
        };
        text + self.snapshot.as_ref().map_or(0, Bytes::len) + 32
    }
}

/// One life of a name, wherever it has moved: no other one has its gate and began with its token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct LifeId {
    /// Its gate.
    #[n(0)]
    pub gate: Token,
    /// Its first token.
    #[n(1)]
    pub born: Token,
}

/// What a node wants to be told of.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Wish {
    /// Who is watched.
    #[n(0)]
    pub name: Name,
    /// Random, never used for another.
    #[n(1)]
    pub id: u64,
    /// Only this life of it.
    #[n(2)]
    pub of: Option<Token>,
    /// Which end.
    #[n(3)]
    pub until: Until,
    /// Planned moves are told too.
    #[n(4)]
    pub moves: bool,
    /// It was set in another line, or in a slot that was lost: what this owner has not heard of yet may still come.
    #[n(5)]
    pub again: bool,
    /// The life that was watched when it was set before.
    #[n(6)]
    pub life: Option<LifeId>,
    /// That of the watcher.
    #[n(7)]
    #[cbor(default)]
    pub rank: Token,
}

impl Directory {
    pub(super) fn on_watch(&mut self, from: Incarnation, wish: &Wish, now: Time) {
        let slot = self.slot_of(&wish.name);
        if !self.serves(slot) {
            // It is said again.
            return;
        }
        let Wish { name, id, of, until, moves, again, life, rank } = wish.clone();
        let monitor = Monitor { watcher: Watcher { node: from, rank }, until, moves };
        let watch = self.copies.get(&slot).and_then(|copy| copy.watches.get(&name));
        if let Some(known) = watch.and_then(|watch| watch.watcher_of(id)) {
            if rank < known.rank {
                // Its process has moved on from there, and has said so already.
                return;
            }
            return self.set_monitor(slot, from, name, id, monitor, now);
        }
        let limits = (watch.map_or(0, Watch::len), watch.map_or(0, |watch| watch.farewells.len()));
        let over = match self.record(&name) {
            Some(record) => what_is_over(record, of, life),
            None => Some((Token::default(), ExitReason::NoProcess)),
        };
        match over {
            None if limits.0 >= MONITORS_PER_NAME_MAX || limits.1 >= FAREWELLS_MAX => {
                let result = Err(ErrorCode::Overloaded);
                self.send(from, Message::Watched { name, id, result });
            }
            None => self.set_monitor(slot, from, name, id, monitor, now),
            // Whoever has it may still be on the way to this line.
            Some((_, ExitReason::NoProcess)) if again => {}
            Some((token, reason)) => {
                let snapshot = self.record(&name).and_then(|record| record.snapshot_of_life().cloned());
                let snapshot = snapshot.filter(|_| reason != ExitReason::NoProcess);
                let end = End { token, reason, snapshot, whole: true };
                self.send(from, Message::Down { name, end, ids: vec![id], to: None });
            }
        }
    }

    fn set_monitor(
        &mut self,
        slot: SlotId,
        from: Incarnation,
        name: Name,
        id: u64,
        monitor: Monitor,
        now: Time,
    ) {
        // The next one, while none runs: which that is nobody knows.
        let runs = |record: &&Record| record.state != RecordState::BackingOff;
        let life = self.record(&name).filter(runs).map(Record::life);
        let after = vec![After::Watched(from, name.clone(), id, life), After::Tell(name.clone())];
        self.write(slot, Change::Watch(name, id, monitor), after, now);
    }

    /// These monitors have heard, or are not wanted any more.
    pub(super) fn on_unwatch(&mut self, from: Incarnation, name: Name, ids: &[u64], now: Time) {
        let slot = self.slot_of(&name);
        if !self.serves(slot) {
            return;
        }
        let Some(watch) = self.copies.get(&slot).and_then(|copy| copy.watches.get(&name)) else { return };
        let own: Vec<u64> = ids
            .iter()
            .copied()
            .filter(|id| watch.watcher_of(*id).is_some_and(|known| known.node == from))
            .collect();
        if !own.is_empty() {
            self.write(slot, Change::Unwatch(name, own), Vec::new(), now);
        }
    }

    /// A life has ended, or a name with it: who waited for that is told, once every replica knows that they are.
    pub(super) fn end_monitors(
        &mut self,
        slot: SlotId,
        record: &Record,
        reason: &ExitReason,
        whole: bool,
        now: Time,
    ) {
        let name = &record.name;
        let Some(watch) = self.copies.get(&slot).and_then(|copy| copy.watches.get(name)) else { return };
        if !watch.monitors.values().any(|monitor| whole || monitor.until == Until::Life) {
            return;
        }
        let snapshot = record.snapshot_of_life().cloned();
        let end = End { token: record.token, reason: reason.clone(), snapshot, whole };
        let after = vec![After::Tell(name.clone())];
        self.write(slot, Change::End(name.clone(), end), after, now);
    }

    /// A process has moved: those who asked for it are told, as far as they can be reached now.
    pub(super) fn tell_moved(&mut self, slot: SlotId, name: &Name, to: Incarnation) {
        let Some(copy) = self.copies.get(&slot) else { return };
        let (Some(watch), Some(record)) = (copy.watches.get(name), self.record(name)) else { return };
        let mut told: BTreeMap<Incarnation, Vec<u64>> = BTreeMap::new();
        for (id, monitor) in watch.monitors.iter().filter(|(_, monitor)| monitor.moves) {
            told.entry(monitor.watcher.node).or_default().push(*id);
        }
        let end = End { token: record.token, reason: ExitReason::Moved, snapshot: None, whole: false };
        for (watcher, ids) in told {
            let (name, end) = (name.clone(), end.clone());
            self.send(watcher, Message::Down { name, end, ids, to: Some(to) });
        }
    }

    /// Tells the ends of a name to all who have yet to hear of them, and again until they have.
    pub(super) fn tell_farewells(&mut self, slot: SlotId, name: &Name, now: Time) {
        let Some(watch) = self.copies.get(&slot).and_then(|copy| copy.watches.get(name)) else { return };
        let mut told = Vec::new();
        for Farewell { end, watchers } in &watch.farewells {
            let mut by_node: BTreeMap<Incarnation, Vec<u64>> = BTreeMap::new();
            for (id, watcher) in watchers {
                by_node.entry(watcher.node).or_default().push(*id);
            }
            told.extend(by_node.into_iter().map(|(watcher, ids)| (watcher, end.clone(), ids)));
        }
        if told.is_empty() {
            return;
        }
        self.telling.insert(name.clone(), now);
        self.retry_at.get_or_insert(now + REPEAT);
        told.retain(|(watcher, ..)| self.is_member(*watcher));
        for (watcher, end, ids) in told {
            self.send(watcher, Message::Down { name: name.clone(), end, ids, to: None });
        }
    }

    /// What was told and not acknowledged is told again. Whether there is any.
    pub(super) fn tell_again(&mut self, now: Time) -> bool {
        let late = |(_, told): &(&Name, &Time)| now.since(**told) >= REPEAT;
        let due: Vec<Name> = self.telling.iter().filter(late).map(|(name, _)| name.clone()).collect();
        for name in due {
            self.telling.remove(&name);
            let slot = self.slot_of(&name);
            if self.serves(slot) {
                self.tell_farewells(slot, &name, now);
            }
        }
        !self.telling.is_empty()
    }

    /// A slot opened: what was being told is told on.
    pub(super) fn resume_watches(&mut self, slot: SlotId, now: Time) {
        let Some(copy) = self.copies.get(&slot) else { return };
        let untold = copy.watches.iter().filter(|(_, watch)| !watch.farewells.is_empty());
        for name in untold.map(|(name, _)| name.clone()).collect::<Vec<_>>() {
            self.tell_farewells(slot, &name, now);
        }
    }

    /// Monitors of nodes that have been gone for long go. Not sooner: a process that watched from there may have moved just
    /// then, or its node may have come back into the line as another life, and asks for them.
    pub(super) fn drop_watchers_gone(&mut self, slot: SlotId, now: Time) {
        let Some(opened_at) = self.owned.get(&slot).and_then(|owned| owned.opened_at) else { return };
        let Some(copy) = self.copies.get(&slot) else { return };
        if now.since(opened_at) < self.convergence() {
            return;
        }
        let mut gone = Vec::new();
        for (name, watch) in copy.watches.iter() {
            let left = watch.watchers().filter(|(_, watcher)| !self.is_member(watcher.node));
            let left: Vec<u64> = left.map(|(id, _)| id).collect();
            if !left.is_empty() {
                gone.push((name.clone(), left));
            }
        }
        for (name, ids) in gone {
            self.write(slot, Change::Unwatch(name, ids), Vec::new(), now);
        }
    }

    /// Only for the planted bug: whoever watches a process that has moved watches nobody.
    pub(super) fn lose_monitors(&mut self, slot: SlotId, name: &Name, now: Time) {
        if !self.settings.mutants.has(Mutant::MonitorLostOnMove) {
            return;
        }
        let watch = self.copies.get(&slot).and_then(|copy| copy.watches.get(name));
        let ids: Vec<u64> = watch.into_iter().flat_map(|watch| watch.monitors.keys().copied()).collect();
        if !ids.is_empty() {
            self.write(slot, Change::Unwatch(name.clone(), ids), Vec::new(), now);
        }
    }
}

impl Record {
    /// Its present life.
    fn life(&self) -> LifeId {
        LifeId { gate: self.gate, born: self.born }
    }
}

/// What a monitor would wait for that has ended already.
fn what_is_over(record: &Record, of: Option<Token>, life: Option<LifeId>) -> Option<(Token, ExitReason)> {
    if let Some(life) = life.filter(|life| *life != record.life()) {
        return Some((life.born, ExitReason::NoProcess));
    }
    let of = of.or(life.map(|life| life.born));
    let dormant = matches!(record.state, RecordState::BackingOff | RecordState::Quarantined);
    match of {
        // Planned moves have given it other tokens since.
        Some(of) if dormant || !record.is_life_of(of) => Some((of, ExitReason::NoProcess)),
        None if record.state == RecordState::Quarantined => Some((record.token, ExitReason::Quarantined)),
        Some(_) | None => None,
    }
}
