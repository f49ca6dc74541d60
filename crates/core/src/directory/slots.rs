//! Slots: gathering what is known, opening with every backup, writing to all of them.
//!
//! ```text
//!  view installed
//!       │
//!       v       "not opened in it": its parent
//!    Gather ──────┐
//!     │ │ │ ^─────┘
//!     │ │ └── nobody is left to ask ──────> Recover ──┐ every member answered
//!     │ └──── another opened it ──> Load ─────────────┤ content is whole
//!     └────── this node opened it ────────────────────┤
//!                                                     v
//!                                  Open ── every backup has it ──> Serving
//! ```
//!
//! Any state ends with the next view, which starts again at Gather (`docs/protocol.md` section 4).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use super::batch::Batch;
use super::content::{Change, Fill, FillFor};
use super::copy::{Copy, Entry, Mark};
use super::message::Message;
use super::record::{Record, RecordState};
use super::waiters::{Waiter, Waiting};
use super::writes::Pending;
use super::{Directory, DirectoryEvent, Output, REPEAT};
use crate::base::{Decision, Incarnation, Mutant, Name, SlotId, Time, Token};
use crate::placement::Replicas;
use crate::view::ViewId;

/// How far an owned slot is.
#[derive(Debug)]
pub(super) enum Phase {
    /// Former replicas were asked whether they opened it in this view.
    Gather { in_view: ViewId, asked: BTreeSet<Incarnation> },
    /// The content is on its way.
    Load { from: Incarnation },
    /// Every member is asked what it hosts.
    Recover { waiting: BTreeSet<Incarnation>, found: BTreeMap<Name, Record> },
    /// These backups have not acknowledged the content with this mark.
    Open { waiting: BTreeSet<Incarnation>, mark: Mark },
    /// It serves.
    Serving,
}

/// A slot that this node owns in the current view.
#[derive(Debug)]
pub(super) struct Owned {
    pub(super) phase: Phase,
    /// Backups, and the last write each has acknowledged.
    pub(super) acked: BTreeMap<Incarnation, u64>,
    pub(super) pending: VecDeque<Pending>,
    /// Requests that wait for the slot to open, or for a name to start.
    pub(super) waiters: BTreeMap<Name, Vec<Waiter>>,
    pub(super) waiting: usize,
    /// When it began to serve.
    pub(super) opened_at: Option<Time>,
    tokens: u32,
}

impl Owned {
    fn new(backups: BTreeMap<Incarnation, u64>) -> Self {
        Self {
            phase: Phase::Serving,
            acked: backups,
            pending: VecDeque::new(),
            waiters: BTreeMap::new(),
            waiting: 0,
            opened_at: None,
            tokens: 0,
        }
    }

    pub(super) fn serves(&self) -> bool {
        matches!(self.phase, Phase::Serving)
    }
}

/// Records in one message of a recovery: with arguments of at most 64 KiB, and what is attached to them, it stays under the
/// frame limit.
const RECORDS_PER_MESSAGE: usize = 8;

impl Directory {
    /// Asks all members what they host of the slots without a copy. Not slot by slot: former replicas answer one by
    /// one, and each question goes to all members and is answered by all. When the last slot has found its copy or found
    /// that there is none, or with the next repetition.
    pub(super) fn ask_hosted(&mut self) {
        let slots = std::mem::take(&mut self.batch.ask_hosted);
        self.event(DirectoryEvent::Recovering { slots: slots.len() });
        for member in self.members_me_last() {
            self.send(member, Message::AskHosted(slots.clone()));
        }
    }

    pub(super) fn gathers(&self) -> bool {
        let phases = self.unsettled.iter().filter_map(|slot| self.owned.get(slot)).map(|owned| &owned.phase);
        phases.into_iter().any(|phase| matches!(phase, Phase::Gather { .. }))
    }

    /// Slots that began to serve: what members host of them is to be learnt. Not at once, since slots open in as many
    /// steps as there are backups, and each word of it goes to all members and is answered by all: when the last one
    /// serves, or with the next repetition.
    pub(super) fn open_census(&mut self) -> Vec<SlotId> {
        let settled = std::mem::take(&mut self.batch.settled);
        for member in self.members_me_last() {
            self.census.entry(member).or_default().extend(&settled);
        }
        settled
    }

    pub(super) fn members_me_last(&self) -> Vec<Incarnation> {
        let members = self.view().into_iter().flat_map(|view| view.incarnations());
        members.filter(|member| *member != self.me).chain(self.view().map(|_| self.me)).collect()
    }

    /// A view was installed: whatever was going on in the last one is over, every owned slot starts at Gather.
    pub(super) fn take_over(&mut self, now: Time) {
        self.owned.clear();
        self.waiting = Waiting::default();
        self.unsettled.clear();
        self.rolled = false;
        self.back_offs.clear();
        self.trials.clear();
        self.moves.clear();
        self.driving.clear();
        self.losers.clear();
        self.telling.clear();
        self.census.clear();
        self.batch = Batch::default();
        let Some(line) = &self.line else { return };
        let view = line.view().id;
        let mine: Vec<(SlotId, Replicas)> = (0..self.settings.slots)
            .map(SlotId)
            .zip(line.table.iter().copied())
            .filter(|(_, replicas)| replicas.owner() == Some(self.me))
            .collect();
        for (slot, replicas) in mine {
            self.owned.insert(slot, Owned::new(replicas.backups().map(|b| (b, 0)).collect()));
            self.unsettled.insert(slot);
            if self.settings.mutants.has(Mutant::IncompleteCopyOpened) {
                self.open(slot, now);
            } else {
                self.gather(slot, view, now);
            }
        }
        self.retry_at = (!self.unsettled.is_empty()).then_some(now + REPEAT);
    }

    /// Looks for the last view before `below` in which the slot was opened.
    fn gather(&mut self, slot: SlotId, below: ViewId, now: Time) {
        let mut below = below;
        loop {
            let Some(line) = &self.line else { return };
            let Some(earlier) = line.chain.parent_of(below) else { return self.recover(slot) };
            let replicas = Replicas::of(slot, earlier, self.settings.replicas);
            let living: BTreeSet<Incarnation> =
                replicas.iter().filter(|replica| line.view().contains(*replica)).collect();
            let in_view = earlier.id;
            if living.contains(&self.me) || self.was_replica_by_name(slot, in_view) {
                if self.has_opened(slot, in_view) {
                    return self.open(slot, now);
                }
                below = in_view;
            } else if living.is_empty() {
                return self.recover(slot);
            } else {
                for member in &living {
                    self.batch.gather.entry(*member).or_default().push((slot, in_view));
                }
                return self.set_phase(slot, Phase::Gather { in_view, asked: living });
            }
        }
    }

    /// Only for the planted bug: takes a restarted node for its earlier life.
    fn was_replica_by_name(&mut self, slot: SlotId, in_view: ViewId) -> bool {
        if !self.settings.mutants.has(Mutant::IncarnationIgnored) {
            return false;
        }
        let Some(line) = &self.line else { return false };
        let Some(earlier) = line.chain.get(in_view) else { return false };
        let name_of = |i: Incarnation| line.view().member(i).map(|m| m.name.clone());
        let mine = name_of(self.me);
        let replicas = Replicas::of(slot, earlier, self.settings.replicas);
        let was = replicas.iter().filter_map(|r| earlier.member(r)).any(|m| Some(&m.name) == mine.as_ref());
        if was {
            self.copies.or_default(slot).mark.opened = Some(in_view);
        }
        was
    }

    /// Whether this node's copy holds all that was promised in this view: it opened in it, or in a later one of the
    /// line, whose content began with it.
    fn has_opened(&self, slot: SlotId, view: ViewId) -> bool {
        let Some(line) = &self.line else { return false };
        let opened = self.copies.get(&slot).and_then(|copy| copy.mark.opened);
        opened.is_some_and(|opened| opened.counter >= view.counter && line.chain.contains(opened))
    }

    fn set_phase(&mut self, slot: SlotId, phase: Phase) {
        if let Some(owned) = self.owned.get_mut(&slot) {
            owned.phase = phase;
        }
    }

    pub(super) fn on_gather(&mut self, from: Incarnation, slots: &[(SlotId, ViewId)]) {
        let answers =
            slots.iter().map(|(slot, view)| (*slot, *view, self.has_opened(*slot, *view))).collect();
        self.send(from, Message::Gathered(answers));
    }

    pub(super) fn on_gathered(&mut self, from: Incarnation, answers: Vec<(SlotId, ViewId, bool)>, now: Time) {
        for (slot, view, opened) in answers {
            let Some(owned) = self.owned.get(&slot) else { continue };
            let Phase::Gather { in_view, asked } = &owned.phase else { continue };
            if *in_view != view || !asked.contains(&from) {
                continue;
            }
            if opened {
                self.batch.load.entry(from).or_default().push(slot);
                self.set_phase(slot, Phase::Load { from });
            } else {
                self.gather(slot, view, now);
            }
        }
    }

    pub(super) fn on_load(&mut self, from: Incarnation, slots: &[SlotId], now: Time) {
        // Each once, however often it is named.
        for slot in slots.iter().collect::<BTreeSet<_>>() {
            let Some(copy) = self.copies.get(slot) else { continue };
            for fill in copy.to_fills(*slot, copy.mark, FillFor::Owner, now) {
                self.send(from, Message::Fill(fill));
            }
        }
    }

    pub(super) fn on_fill(&mut self, from: Incarnation, fill: Fill, now: Time) {
        let slot = fill.slot;
        match fill.purpose {
            FillFor::Owner => {
                let expected = self.owned.get(&slot).map(|owned| &owned.phase);
                if !matches!(expected, Some(Phase::Load { from: source }) if *source == from) {
                    return;
                }
                if self.copies.or_default(slot).fill(fill, now) {
                    self.open(slot, now);
                }
            }
            FillFor::Backup => {
                let Some(view) = self.backup_view(slot, from) else { return };
                let copy = self.copies.or_default(slot);
                let target = Mark { opened: Some(view), ..fill.mark };
                let is_repair = copy.is_unlike && copy.mark.seq <= target.seq;
                let is_news = copy.mark.opened != Some(view) || copy.mark.seq < target.seq || is_repair;
                if is_news {
                    if !copy.fill(fill, now) {
                        return;
                    }
                    copy.mark = target;
                } else if !fill.last {
                    return;
                }
                let seq = copy.mark.seq;
                self.batch.opened.entry(from).or_default().push(slot);
                self.batch.written.entry(from).or_default().push((slot, seq));
            }
        }
    }

    /// The current view, if this node is a backup of the slot in it and `from` its owner.
    pub(super) fn backup_view(&self, slot: SlotId, from: Incarnation) -> Option<ViewId> {
        let line = self.line.as_ref()?;
        let replicas = line.table.get(usize::from(slot.0))?;
        let valid = replicas.owner() == Some(from) && replicas.contains(self.me) && from != self.me;
        valid.then_some(line.view().id)
    }

    /// The content is complete: brings every backup to it.
    fn open(&mut self, slot: SlotId, now: Time) {
        let Some(view) = self.view().map(|view| view.id) else { return };
        let copy = self.copies.or_default(slot);
        if self.settings.mutants.has(Mutant::RecordForgotten) && copy.mark.opened.is_some_and(|v| v != view) {
            copy.entries.clear();
        }
        let mark = copy.mark;
        copy.mark = Mark { opened: Some(view), seq: 0 };
        let Some(owned) = self.owned.get_mut(&slot) else { return };
        let waiting: BTreeSet<Incarnation> = owned.acked.keys().copied().collect();
        for backup in &waiting {
            self.batch.open.entry(*backup).or_default().push((slot, mark));
        }
        owned.phase = Phase::Open { waiting, mark };
        self.serve_if_open(slot, now);
    }

    pub(super) fn on_open(&mut self, from: Incarnation, slots: &[(SlotId, Mark)]) {
        let mut unlike = Vec::new();
        for (slot, mark) in slots {
            let Some(view) = self.backup_view(*slot, from) else { continue };
            let copy = self.copies.or_default(*slot);
            if copy.mark.opened == Some(view) || (mark.opened.is_some() && copy.mark == *mark) {
                if copy.mark.opened != Some(view) {
                    copy.mark = Mark { opened: Some(view), seq: 0 };
                }
                self.batch.opened.entry(from).or_default().push(*slot);
            } else if self.settings.mutants.has(Mutant::IncompleteCopyOpened) {
                copy.mark = Mark { opened: Some(view), seq: 0 };
                self.batch.opened.entry(from).or_default().push(*slot);
            } else {
                unlike.push(*slot);
            }
        }
        if !unlike.is_empty() {
            self.send(from, Message::Unlike(unlike));
        }
    }

    /// A backup's copy is another one, or misses a write: it gets the whole content.
    pub(super) fn on_unlike(&mut self, from: Incarnation, slots: &[SlotId], now: Time) {
        for slot in slots.iter().collect::<BTreeSet<_>>() {
            self.fill_backup(*slot, from, now);
        }
    }

    pub(super) fn fill_backup(&mut self, slot: SlotId, backup: Incarnation, now: Time) {
        let is_backup = self.owned.get(&slot).is_some_and(|owned| owned.acked.contains_key(&backup));
        let view = self.view().map(|view| view.id);
        let Some(copy) = self.copies.get(&slot).filter(|copy| is_backup && copy.mark.opened == view) else {
            return;
        };
        for fill in copy.to_fills(slot, copy.mark, FillFor::Backup, now) {
            self.send(backup, Message::Fill(fill));
        }
    }

    pub(super) fn on_opened(&mut self, from: Incarnation, slots: &[SlotId], now: Time) {
        for slot in slots {
            if let Some(owned) = self.owned.get_mut(slot)
                && let Phase::Open { waiting, .. } = &mut owned.phase
            {
                waiting.remove(&from);
                self.serve_if_open(*slot, now);
            }
        }
    }

    fn serve_if_open(&mut self, slot: SlotId, now: Time) {
        let Some(owned) = self.owned.get_mut(&slot) else { return };
        if !matches!(&owned.phase, Phase::Open { waiting, .. } if waiting.is_empty()) {
            return;
        }
        owned.phase = Phase::Serving;
        owned.opened_at = Some(now);
        self.retry_at.get_or_insert(now + REPEAT);
        self.unsettled.remove(&slot);
        self.batch.settled.push(slot);
        self.repair_soon(now);
        self.resume_watches(slot, now);
        self.reconcile(slot, now);
        self.queue_moves(slot);
        self.watch_loads(slot, now);
        self.wake_all(slot, now);
    }

    /// Whoever is no replica any more may drop its copy: the slot serves with full copies. The owner is told what
    /// runs here, so that no life goes on that it does not know.
    pub(super) fn on_settled(&mut self, from: Incarnation, slots: &[SlotId], now: Time) {
        self.tell_hosting(from, slots);
        self.watch_settled(slots, now);
        for slot in slots {
            let Some(line) = &self.line else { return };
            let Some(replicas) = line.table.get(usize::from(slot.0)) else { continue };
            if replicas.owner() == Some(from) && !replicas.contains(self.me) {
                self.copies.remove(slot);
            }
        }
    }

    /// All copies are lost: the hosts are the last who know.
    fn recover(&mut self, slot: SlotId) {
        let Some(view) = self.view() else { return };
        let waiting = view.incarnations().collect();
        self.batch.ask_hosted.push(slot);
        self.set_phase(slot, Phase::Recover { waiting, found: BTreeMap::new() });
    }

    pub(super) fn on_hosted(
        &mut self,
        from: Incarnation,
        slots: &[SlotId],
        records: Vec<Record>,
        last: bool,
        now: Time,
    ) {
        for mut record in records {
            record.host = from;
            // When it began is not known here.
            record.age_ms = u32::MAX;
            let slot = self.slot_of(&record.name);
            let Some(owned) = self.owned.get_mut(&slot) else { continue };
            let Phase::Recover { waiting, found } = &mut owned.phase else { continue };
            if !waiting.contains(&from) {
                continue;
            }
            let Some(other) = found.get(&record.name) else {
                found.insert(record.name.clone(), record);
                continue;
            };
            let is_one_way = record.gate == other.gate && record.host != other.host;
            let is_lower = (record.token, record.host) < (other.token, other.host);
            // Two stations of one way: the later one goes on.
            let record_stays = is_lower != is_one_way;
            let (winner, loser) = if record_stays { (&record, other) } else { (other, &record) };
            let (name, host, token) = (loser.name.clone(), loser.host, loser.token);
            let attempt = winner.token;
            let conflict =
                DirectoryEvent::Conflict { name: name.clone(), winner: winner.token, loser: token };
            if record_stays {
                found.insert(name.clone(), record);
            }
            match is_one_way {
                true => self.send(
                    host,
                    Message::Decided { name: name.clone(), attempt, decision: Decision::Committed },
                ),
                false => self.event(conflict),
            }
            self.end_loser(host, name, token, now);
        }
        if last {
            for slot in slots {
                self.recovered_from(*slot, from, now);
            }
        }
    }

    fn recovered_from(&mut self, slot: SlotId, from: Incarnation, now: Time) {
        let Some(owned) = self.owned.get_mut(&slot) else { return };
        let Phase::Recover { waiting, found } = &mut owned.phase else { return };
        waiting.remove(&from);
        if !waiting.is_empty() {
            return;
        }
        let found = std::mem::take(found);
        let mut copy = Copy::default();
        for record in found.into_values() {
            copy.apply(Change::Put(record.into()), self.settings.limits.tombstones, now);
        }
        self.copies.insert(slot, copy);
        self.open(slot, now);
    }

    pub(super) fn on_ask_hosted(&mut self, from: Incarnation, slots: Vec<SlotId>, now: Time) {
        self.watch_anew(&slots, now);
        let each_once: BTreeSet<SlotId> = slots.iter().copied().collect();
        let records: Vec<Record> =
            each_once.into_iter().flat_map(|slot| self.host.records_of(slot, now)).collect();
        let mut parts: Vec<Vec<Record>> =
            records.chunks(RECORDS_PER_MESSAGE).map(<[Record]>::to_vec).collect();
        let last = parts.pop().unwrap_or_default();
        for records in parts {
            self.send(from, Message::Hosted { slots: Vec::new(), records, last: false });
        }
        self.send(from, Message::Hosted { slots, records: last, last: true });
    }

    /// Whoever has not answered is asked again: the message may have come before its view.
    pub(super) fn retry(&mut self, now: Time) {
        self.batch.ask_hosted.clear();
        for slot in self.unsettled.clone() {
            let Some(owned) = self.owned.get(&slot) else { continue };
            match &owned.phase {
                Phase::Gather { in_view, asked } => {
                    for member in asked {
                        self.batch.gather.entry(*member).or_default().push((slot, *in_view));
                    }
                }
                Phase::Load { from } => self.batch.load.entry(*from).or_default().push(slot),
                Phase::Open { waiting, mark } => {
                    for backup in waiting {
                        self.batch.open.entry(*backup).or_default().push((slot, *mark));
                    }
                }
                Phase::Recover { .. } => self.batch.ask_hosted.push(slot),
                Phase::Serving => {}
            }
        }
        if !self.batch.ask_hosted.is_empty() {
            self.ask_hosted();
        }
        let writes_pending = self.repair_backups(now);
        self.drive_again(now);
        self.end_losers_again();
        let telling = self.tell_again(now);
        if !self.batch.settled.is_empty() {
            self.open_census();
        }
        for (member, slots) in self.census.clone() {
            self.send(member, Message::Settled(slots.into_iter().collect()));
        }
        let told = self.losers.is_empty() && self.census.is_empty();
        let idle =
            self.unsettled.is_empty() && !writes_pending && self.driving.is_empty() && told && !telling;
        self.retry_at = (!idle).then_some(now + REPEAT);
    }

    /// A token above every life of the name that this node knows of.
    pub(super) fn next_token(&mut self, slot: SlotId, last: Token) -> Token {
        let counter = self.view().map_or(0, |view| view.id.counter);
        let Some(owned) = self.owned.get_mut(&slot) else { return last };
        owned.tokens = owned.tokens.saturating_add(1);
        let next = Token::new(counter, owned.tokens).unwrap_or_default();
        next.max(Token::from_u64(last.as_u64().saturating_add(1)))
    }

    /// Whether this node owns the slot and serves it.
    pub(super) fn serves(&self, slot: SlotId) -> bool {
        self.owned.get(&slot).is_some_and(Owned::serves)
    }

    /// The state of a record in an owned, serving slot.
    pub(super) fn record(&self, name: &Name) -> Option<&Record> {
        self.entry(name).map(|entry| &*entry.record)
    }

    /// As [`Self::record`], to be kept without a copy.
    pub(super) fn shared_record(&self, name: &Name) -> Option<&Arc<Record>> {
        self.entry(name).map(|entry| &entry.record)
    }

    /// The same as of now, to be changed and written: a write sets out from ages that are right when it is made.
    pub(super) fn record_now(&self, name: &Name, now: Time) -> Option<Record> {
        self.entry(name).map(|entry| entry.record_now(now))
    }

    fn entry(&self, name: &Name) -> Option<&Entry> {
        let slot = self.slot_of(name);
        self.owned.get(&slot).filter(|owned| owned.serves())?;
        self.copies.get(&slot)?.entries.get(name)
    }

    /// Records of a lost line that nobody may host any more; kept to be offered to the next one.
    pub(super) fn keep_orphans(&mut self) {
        let copies = std::mem::take(&mut self.copies);
        for (slot, copy) in copies.into_iter().filter(|(_, copy)| copy.mark.opened.is_some()) {
            for entry in copy.entries.into_values() {
                if !matches!(entry.record.state, RecordState::Registered | RecordState::Stopping) {
                    self.host.keep_orphan(slot, Arc::unwrap_or_clone(entry.record), entry.at);
                }
            }
        }
    }

    pub(super) fn tell(&mut self, output: Output) {
        self.out.push_back(output);
    }
}
