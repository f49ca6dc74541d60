//! Writes: one change of a slot, on every replica before anything follows from it.
//!
//! The owner numbers and applies a change, sends it to all backups and keeps what hangs on it until every backup has
//! acknowledged. A backup applies changes in order; one that sees a gap, or does not acknowledge for 500 ms, gets
//! the whole content: what was on a lost session is lost (`docs/protocol.md` section 4).

use std::collections::BTreeSet;
use std::sync::Arc;

use super::content::{Change, SlotWrite};
use super::message::Message;
use super::monitors::LifeId;
use super::record::{Record, RecordState};
use super::request::Answer;
use super::{Directory, DirectoryEvent, REPEAT};
use crate::base::limits::FILL_BYTES_MAX;
use crate::base::{
    Decision, ErrorCode, ExitReason, Group, Incarnation, Mutant, Name, RequestId, SlotId, Time, Token,
};

/// What hangs on a write: done once every backup has it.
#[derive(Debug)]
pub(super) enum After {
    Answer(RequestId, Name, Answer),
    Grant(Arc<Record>),
    Reported(Incarnation, Name, Token, bool),
    Discard(Incarnation, Name, Token, ErrorCode),
    End(Incarnation, Name, Token, ExitReason),
    Retoken(Incarnation, Name, Token, Token),
    Offered(Incarnation, Name, Token),
    Move(Arc<Record>),
    Decided(Incarnation, Name, Token, Decision),
    Dismiss(Incarnation, Name, Token, Decision),
    /// The groups are told what this name's record says, and which of them it has left.
    Enrol(Name, Vec<Group>, Option<RequestId>),
    /// The host of this name is told what is attached to it.
    Attached(Name),
    /// A monitor stands, and waits for the end of this life.
    Watched(Incarnation, Name, u64, Option<LifeId>),
    /// Watchers of this name are told of its ends.
    Tell(Name),
    /// Watchers of this name who want to know are told that it has moved there.
    TellMoved(Name, Incarnation),
    /// Those who wait for this name are looked at again.
    Wake(Name),
}

/// A write that not every backup has acknowledged.
#[derive(Debug)]
pub(super) struct Pending {
    seq: u64,
    name: Name,
    since: Time,
    after: Vec<After>,
    /// It is of no process: nobody need wait for it.
    aside: bool,
}

/// Cuts writes into messages that stay well under the frame limit.
pub(super) fn split_writes(writes: Vec<SlotWrite>) -> Vec<Vec<SlotWrite>> {
    let mut parts = vec![Vec::new()];
    let mut bytes = 0;
    for write in writes {
        let size = write.bytes();
        bytes += size;
        if bytes > FILL_BYTES_MAX {
            bytes = size;
            parts.push(Vec::new());
        }
        if let Some(part) = parts.last_mut() {
            part.push(write);
        }
    }
    parts
}

impl Directory {
    /// Writes a change: it is done, and `after` runs, when every backup has it.
    pub(super) fn write(&mut self, slot: SlotId, mut change: Change, mut after: Vec<After>, now: Time) {
        // What does not run does not move: whatever was under way is over with this write.
        if let Change::Put(record) = &mut change
            && record.state != RecordState::Running
            && record.moving.is_some()
        {
            Arc::make_mut(record).moving = None;
        }
        self.follow_attached(slot, &change, &mut after);
        self.note_write(slot, change.name());
        let (Some(copy), Some(owned)) = (self.copies.get_mut(&slot), self.owned.get_mut(&slot)) else {
            return;
        };
        copy.mark.seq += 1;
        let seq = copy.mark.seq;
        for backup in owned.acked.keys() {
            let write = SlotWrite { slot, seq, change: change.clone() };
            self.batch.write_bytes += write.bytes();
            self.batch.write.entry(*backup).or_default().push(write);
        }
        let is_much = self.batch.write_bytes > FILL_BYTES_MAX;
        let name = change.name().clone();
        match &change {
            Change::Put(record) if record.is_driven() => {
                self.driving.insert(record.name.clone(), now);
            }
            Change::Put(_) | Change::Remove(..) | Change::Runs(..) => {
                self.driving.remove(change.name());
            }
            // It is no business of whoever drives the process.
            Change::Attach(..) | Change::Watch(..) | Change::Unwatch(..) | Change::End(..) => {}
        }
        if change.is_of_process() {
            self.moves.note(&name, change.record());
        }
        let aside = matches!(change, Change::Watch(..) | Change::Unwatch(..));
        copy.apply(change, self.settings.limits.tombstones, now);
        let after = if self.settings.mutants.has(Mutant::AckBeforeBackups) {
            for after in after {
                self.run_after(slot, after, now);
            }
            Vec::new()
        } else {
            after
        };
        let Some(owned) = self.owned.get_mut(&slot) else { return };
        if owned.pending.capacity() == 0 {
            // Most often one is written down before the next one comes, and there are many slots.
            owned.pending.reserve_exact(1);
        }
        owned.pending.push_back(Pending { seq, name, since: now, after, aside });
        self.retry_at.get_or_insert(now + REPEAT);
        self.settle(slot, now);
        if is_much {
            // However much a turn has to write, little of it waits for its end.
            self.flush_writes();
        }
    }

    /// Whether the last word on this name is not on every replica yet: nobody is told of it before.
    pub(super) fn is_unwritten(&self, slot: SlotId, name: &Name) -> bool {
        let pending = self.owned.get(&slot).map(|owned| &owned.pending);
        pending.is_some_and(|pending| pending.iter().any(|pending| !pending.aside && pending.name == *name))
            && !self.settings.mutants.has(Mutant::AckBeforeBackups)
    }

    fn settle(&mut self, slot: SlotId, now: Time) {
        loop {
            let Some(owned) = self.owned.get_mut(&slot) else { return };
            let acked = owned.acked.values().copied().min().unwrap_or(u64::MAX);
            if owned.pending.front().is_none_or(|pending| pending.seq > acked) {
                return;
            }
            let Some(Pending { name, after, aside, .. }) = owned.pending.pop_front() else { return };
            for after in after {
                self.run_after(slot, after, now);
            }
            if aside {
                continue;
            }
            self.moves.written(&name);
            self.tell_followers(slot, &name);
            self.wake(slot, &name, now);
        }
    }

    pub(super) fn on_write(&mut self, from: Incarnation, writes: Vec<SlotWrite>, now: Time) {
        let mut behind = Vec::new();
        for SlotWrite { slot, seq, change } in writes {
            let Some(view) = self.backup_view(slot, from) else { continue };
            let Some(copy) = self.copies.get_mut(&slot) else { continue };
            if copy.mark.opened == Some(view) && copy.mark.seq.checked_add(1) == Some(seq) {
                copy.mark.seq = seq;
                let loses = self.settings.mutants.has(Mutant::RepairSkipped) && seq.is_multiple_of(4);
                let name = change.name().clone();
                copy.apply(change, self.settings.limits.tombstones, now);
                if loses {
                    copy.lose_row(&name);
                }
            }
            if copy.mark.opened == Some(view) && seq <= copy.mark.seq {
                let seq = copy.mark.seq;
                self.batch.written.entry(from).or_default().push((slot, seq));
            } else {
                behind.push(slot);
            }
        }
        if !behind.is_empty() {
            self.send(from, Message::Unlike(behind));
        }
    }

    pub(super) fn on_written(&mut self, from: Incarnation, acks: &[(SlotId, u64)], now: Time) {
        for (slot, seq) in acks {
            let written = self.copies.get(slot).map_or(0, |copy| copy.mark.seq);
            let Some(owned) = self.owned.get_mut(slot) else { continue };
            // A backup acknowledges what was written, nothing that is yet to come.
            if let Some(acked) = owned.acked.get_mut(&from).filter(|_| *seq <= written) {
                *acked = (*acked).max(*seq);
                self.settle(*slot, now);
            }
        }
    }

    fn run_after(&mut self, slot: SlotId, after: After, now: Time) {
        match after {
            After::Answer(request, name, answer) => self.answer(request, name, answer),
            After::Grant(record) => self.send(record.host, Message::Grant(record)),
            After::Reported(host, name, token, ended) => {
                self.send(host, Message::Reported { name, token, ended });
            }
            After::Discard(host, name, token, code) => {
                self.send(host, Message::Discard { name, token, code });
            }
            After::End(host, name, token, reason) => self.send(host, Message::End { name, token, reason }),
            After::Retoken(host, name, old, new) => self.send(host, Message::Retoken { name, old, new }),
            After::Offered(host, name, token) => self.send(host, Message::Offered { name, token }),
            After::Move(record) => self.send(record.host, Message::Move(record)),
            After::Decided(source, name, attempt, decision) => {
                self.send(source, Message::Decided { name, attempt, decision });
            }
            After::Dismiss(target, name, attempt, decision) => {
                self.send(target, Message::Dismiss { name, attempt, decision });
            }
            After::Enrol(name, left, request) => self.enrol(&name, left, request),
            After::Attached(name) => self.tell_attached(&name),
            After::Watched(watcher, name, id, life) => {
                self.send(watcher, Message::Watched { name, id, result: Ok(life) });
            }
            After::Tell(name) => self.tell_farewells(slot, &name, now),
            After::TellMoved(name, to) => self.tell_moved(slot, &name, to),
            After::Wake(name) => self.wake(slot, &name, now),
        }
    }

    /// A write that a backup did not acknowledge may have been lost with a session: it gets the whole content.
    pub(super) fn repair_backups(&mut self, now: Time) -> bool {
        let mut behind = Vec::new();
        let mut pending = false;
        for (slot, owned) in self.owned.iter() {
            let Some(oldest) = owned.pending.front() else { continue };
            pending = true;
            let age = now.since(oldest.since);
            if age >= REPEAT {
                let late = owned.acked.iter().filter(|(_, seq)| **seq < oldest.seq);
                behind.extend(late.map(|(backup, _)| (*slot, *backup, age)));
            }
        }
        let mut unresponsive = BTreeSet::new();
        for (slot, backup, age) in behind {
            self.fill_backup(slot, backup, now);
            if age >= self.settings.detection / 2 && unresponsive.insert(backup) {
                self.event(DirectoryEvent::BackupUnresponsive(backup));
            }
        }
        pending
    }

    /// A grant or an end may have been lost with a session: it is said again until the host has reported.
    pub(super) fn drive_again(&mut self, now: Time) {
        let due: Vec<Name> = self
            .driving
            .iter()
            .filter(|(_, since)| now.since(**since) >= REPEAT)
            .map(|(name, _)| name.clone())
            .collect();
        for name in due {
            let record = self.record(&name).filter(|record| record.is_driven()).cloned();
            let is_written = self.owned.get(&self.slot_of(&name)).is_some_and(|o| o.pending.is_empty());
            match record {
                Some(record) if is_written => {
                    self.driving.insert(name, now);
                    self.drive(record);
                }
                Some(_) => {}
                None => {
                    self.driving.remove(&name);
                }
            }
        }
    }
}
