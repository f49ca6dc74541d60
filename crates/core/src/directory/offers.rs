//! What a node brings from another line: instances that go on, and records that nobody runs.

use std::collections::BTreeSet;

use super::content::Change;
use super::message::{Life, Message, Standing};
use super::record::{Record, RecordState, millis};
use super::writes::After;
use super::{Directory, DirectoryEvent};
use crate::base::limits::LOSERS_MAX;
use crate::base::{Decision, ErrorCode, ExitReason, Incarnation, Name, SlotId, Time, Token};

/// Of the lives of lost conflicts, those of one host: one that invents names takes no room from others.
pub(super) const LOSERS_PER_HOST_MAX: usize = 8_192;

impl Directory {
    pub(super) fn on_offer(&mut self, from: Incarnation, offered: Record, running: bool, now: Time) {
        let name = offered.name.clone();
        let slot = self.slot_of(&name);
        if !self.serves(slot) || self.is_unwritten(slot, &name) {
            // It is offered again.
            return;
        }
        let Some(record) = self.record_now(&name, now) else {
            return self.on_offer_of_free_name(slot, from, offered, running, now);
        };
        if !running {
            return self.take_what_is_later(slot, from, record, &offered, now);
        }
        let is_same_life = record.token == offered.token;
        if record.host == from && offered.token < record.token && record.state == RecordState::Running {
            // It was adopted under a higher token, and the word of it was lost.
            let (old, new) = (offered.token, record.token);
            self.send(from, Message::Retoken { name: name.clone(), old, new });
            return self.send(from, Message::Offered { name, token: old });
        }
        if record.host == from && offered.token < record.token && record.state.is_passing() {
            // The next life was granted to the very node that still runs this one: this one goes on.
            return self.adopt_above(slot, from, offered, record.token, now);
        }
        let has_host = self.is_member(record.host) && !record.waits_for_host;
        let waits_for_host = record.state == RecordState::BackingOff && !has_host;
        if is_same_life && (record.host == from || waits_for_host) {
            return self.adopt(slot, from, offered, now);
        }
        if waits_for_host || record.state == RecordState::Quarantined {
            // The record is not run by anybody: the offered life goes on.
            return self.adopt_above(slot, from, offered, record.token, now);
        }
        if record.gate == offered.gate && record.host != from && !is_same_life {
            // Two stations of one way: the later one goes on. A split may also have left two ways: they are in conflict.
            if record.is_life_of(offered.token) {
                return self.end_moved_on(from, offered, now);
            }
            if offered.is_life_of(record.token) {
                return self.follow_to(slot, from, &record, offered, now);
            }
        }
        self.on_conflict(slot, from, &record, offered, now);
    }

    /// A record that nobody runs, of a name that has one here: of what is attached to both the later is kept.
    fn take_what_is_later(
        &mut self,
        slot: SlotId,
        from: Incarnation,
        mut record: Record,
        offered: &Record,
        now: Time,
    ) {
        let (name, token) = (record.name.clone(), offered.token);
        if offered.revision() <= record.revision() {
            return self.send(from, Message::Offered { name, token });
        }
        record.take_attached(offered);
        let after = vec![After::Attached(name.clone()), After::Offered(from, name, token)];
        self.write(slot, Change::Put(record.into()), after, now);
    }

    /// The process has moved on to where it is offered from, and the record does not know of it.
    fn follow_to(&mut self, slot: SlotId, to: Incarnation, record: &Record, offered: Record, now: Time) {
        if self.is_member(record.host) {
            let (name, attempt) = (record.name.clone(), offered.token);
            self.send(record.host, Message::Decided { name, attempt, decision: Decision::Committed });
            self.end_loser(record.host, record.name.clone(), record.token, now);
        }
        self.adopt(slot, to, offered, now);
    }

    /// The process has moved on from this life, whose host has not heard of it.
    fn end_moved_on(&mut self, from: Incarnation, offered: Record, now: Time) {
        let Record { name, token, moving, .. } = offered;
        if let Some(moving) = moving {
            let (name, attempt) = (name.clone(), moving.attempt);
            self.send(from, Message::Decided { name, attempt, decision: Decision::Committed });
        }
        self.end_loser(from, name.clone(), token, now);
        self.send(from, Message::Offered { name, token });
    }

    fn on_offer_of_free_name(
        &mut self,
        slot: SlotId,
        from: Incarnation,
        mut offered: Record,
        running: bool,
        now: Time,
    ) {
        let (name, token) = (offered.name.clone(), offered.token);
        let stopped = self.copies.get(&slot).is_some_and(|copy| copy.is_dead_elsewhere(&offered));
        if stopped && running {
            self.send(from, Message::End { name: name.clone(), token, reason: ExitReason::Shutdown });
        }
        if stopped {
            return self.send(from, Message::Offered { name, token });
        }
        let last = self.copies.get(&slot).and_then(|copy| copy.tombstone(&name)).map(|t| t.token);
        match last.filter(|last| token <= *last) {
            // A start that failed here has used a higher token.
            Some(last) if running => return self.adopt_above(slot, from, offered, last, now),
            None if running => return self.adopt(slot, from, offered, now),
            Some(_) | None => {}
        }
        offered.moving = None;
        if offered.state != RecordState::Quarantined {
            // Its host may still be on its way to this line: it is waited for before anything is started.
            let convergence = self.convergence();
            offered.state = RecordState::BackingOff;
            offered.waits_for_host = false;
            offered.back_off_ms = millis(convergence);
            self.back_offs.insert((now + convergence, name.clone()));
        }
        let after = vec![After::Offered(from, name, token)];
        self.write(slot, Change::Put(offered.into()), after, now);
    }

    fn adopt(&mut self, slot: SlotId, host: Incarnation, mut offered: Record, now: Time) {
        if let Some(record) = self.record(&offered.name) {
            offered.merge_attached(record);
        }
        offered.host = host;
        offered.moving = None;
        offered.waits_for_host = false;
        // When it began is not known here; it ran before the offer came.
        offered.age_ms = u32::MAX;
        self.clear_suspect(&mut offered);
        let (name, token) = (offered.name.clone(), offered.token);
        let after = vec![After::Offered(host, name.clone(), token), After::Wake(name)];
        self.move_on_from_drain(slot, &offered, now);
        self.write(slot, Change::Put(offered.into()), after, now);
    }

    /// The offered life goes on, under a token above every other of its name.
    fn adopt_above(&mut self, slot: SlotId, host: Incarnation, mut offered: Record, other: Token, now: Time) {
        let (name, old) = (offered.name.clone(), offered.token);
        offered.age_ms = u32::MAX;
        self.clear_suspect(&mut offered);
        offered.moving = None;
        offered.host = host;
        offered.waits_for_host = false;
        if let Some(record) = self.record(&name) {
            offered.merge_attached(record);
        }
        offered.set_token(self.next_token(slot, old.max(other)));
        let after = vec![
            After::Retoken(host, name.clone(), old, offered.token),
            After::Offered(host, name.clone(), old),
            After::Wake(name),
        ];
        self.move_on_from_drain(slot, &offered, now);
        self.write(slot, Change::Put(offered.into()), after, now);
    }

    /// What a node that drains brings from another line goes on to others. Anything else moves with the next view.
    fn move_on_from_drain(&mut self, slot: SlotId, offered: &Record, now: Time) {
        if self.drains(offered.host) {
            self.queue_move(slot, offered, now);
        }
    }

    /// Two lives of one name: one that has run stays, since its start was answered; then the lower token, then the smaller
    /// incarnation.
    fn on_conflict(&mut self, slot: SlotId, from: Incarnation, record: &Record, offered: Record, now: Time) {
        let name = record.name.clone();
        let rank = |record: &Record, host: Incarnation| (!record.has_run, record.token, host);
        if rank(&offered, from) < rank(record, record.host) {
            self.tell_conflict(&name, offered.token, record.token);
            self.end_loser(record.host, name, record.token, now);
            self.end_monitors(slot, record, &ExitReason::ConflictLost, false, now);
            return self.adopt_above(slot, from, offered, record.token, now);
        }
        self.tell_conflict(&name, record.token, offered.token);
        self.end_loser(from, name.clone(), offered.token, now);
        self.send(from, Message::Offered { name: name.clone(), token: offered.token });
        let mut winner = record.clone();
        winner.merge_attached(&offered);
        let mut after = Vec::new();
        if record.state == RecordState::Running && record.token < offered.token {
            winner.moving = None;
            winner.set_token(self.next_token(slot, offered.token));
            after.push(After::Retoken(winner.host, name.clone(), record.token, winner.token));
        }
        if winner == *record {
            return;
        }
        after.push(After::Attached(name));
        self.write(slot, Change::Put(winner.clone().into()), after, now);
        if winner.token != record.token {
            self.move_on_from_drain(slot, &winner, now);
        }
    }

    /// What a host has in slots that this node has opened. Whatever the records contradict ends; whatever they do not
    /// know is to be offered; whatever they say runs there and does not was lost. What has ended there and is followed by
    /// nothing is discarded: that word may have been lost with the view before.
    pub(super) fn on_hosting(&mut self, from: Incarnation, slots: &[SlotId], lives: Vec<Life>, now: Time) {
        // Where the last word is not written yet, the host is asked again.
        let undecided: BTreeSet<SlotId> = lives
            .iter()
            .map(|life| (self.slot_of(&life.name), &life.name))
            .filter(|(slot, name)| self.is_unwritten(*slot, name))
            .map(|(slot, _)| slot)
            .collect();
        if let Some(open) = self.census.get_mut(&from) {
            open.retain(|slot| !slots.contains(slot) || undecided.contains(slot));
            if open.is_empty() {
                self.census.remove(&from);
            }
        }
        let known: BTreeSet<Name> = lives.iter().map(|life| life.name.clone()).collect();
        for Life { name, token, standing, revision } in lives {
            match standing {
                Standing::Runs => {
                    let is_behind = |known: &Record| known.token == token && known.revision() > revision;
                    if self.record(&name).is_some_and(is_behind) {
                        self.tell_attached(&name);
                    }
                    self.judge_hosted(from, name, token, now);
                }
                Standing::Ended => self.judge_ended(from, name, token),
                Standing::Offered => {}
            }
        }
        for slot in slots {
            let Some(opened_at) = self.owned.get(slot).and_then(|owned| owned.opened_at) else { continue };
            let Some(copy) = self.copies.get(slot) else { continue };
            let is_lost = |record: &Record| {
                let runs = matches!(record.state, RecordState::Running | RecordState::Registered);
                runs && record.host == from && !known.contains(&record.name)
            };
            // What was written since the slot opened may be younger than what the host said.
            let entries = copy.entries.values().filter(|entry| entry.at < opened_at);
            let lost: Vec<Record> =
                entries.filter(|entry| is_lost(&entry.record)).map(|entry| entry.record_now(now)).collect();
            for record in lost {
                self.end_loser(from, record.name.clone(), record.token, now);
                self.node_lost(*slot, record, now);
            }
        }
    }

    /// A life that has ended at its host, where its mailbox waits.
    fn judge_ended(&mut self, from: Incarnation, name: Name, token: Token) {
        let slot = self.slot_of(&name);
        if !self.serves(slot) || self.is_unwritten(slot, &name) {
            return;
        }
        let code = match self.record(&name) {
            Some(record) if record.host == from => match record.state {
                RecordState::Quarantined => ErrorCode::Quarantined,
                _ => return,
            },
            Some(_) => ErrorCode::Stopped,
            None if self.copies.get(&slot).is_some_and(|copy| copy.is_dead(&name, token)) => {
                ErrorCode::Stopped
            }
            // Its record may still be on the way to this line.
            None => return,
        };
        self.send(from, Message::Discard { name, token, code });
    }

    fn judge_hosted(&mut self, from: Incarnation, name: Name, token: Token, now: Time) {
        let slot = self.slot_of(&name);
        if !self.serves(slot) || self.is_unwritten(slot, &name) {
            return;
        }
        match self.record(&name) {
            Some(record) if record.host == from && record.token == token => {}
            Some(record) if record.host == from && token < record.token => {
                // The word that it goes on under a higher token was lost, or a grant is on its way.
                if record.state == RecordState::Running {
                    let (old, new) = (token, record.token);
                    self.send(from, Message::Retoken { name, old, new });
                }
            }
            Some(_) => self.end_loser(from, name, token, now),
            None => {
                let dead = self.copies.get(&slot).is_some_and(|copy| copy.is_dead(&name, token));
                match dead {
                    true => self.end_loser(from, name, token, now),
                    false => self.send(from, Message::AskOffer { name, token }),
                }
            }
        }
    }

    /// Another life has the name: this one is told to end until its host has reported it.
    pub(super) fn end_loser(&mut self, host: Incarnation, name: Name, token: Token, now: Time) {
        let full = self.losers.len() >= LOSERS_MAX
            || (self.losers.len() >= LOSERS_PER_HOST_MAX
                && self.losers.values().filter(|known| **known == host).count() >= LOSERS_PER_HOST_MAX);
        if full || !self.is_member(host) {
            return;
        }
        self.losers.insert((name.clone(), token), host);
        self.retry_at.get_or_insert(now + super::REPEAT);
        self.send(host, Message::End { name, token, reason: ExitReason::ConflictLost });
    }

    pub(super) fn end_losers_again(&mut self) {
        let losers: Vec<_> = self.losers.iter().map(|(life, host)| (life.clone(), *host)).collect();
        for ((name, token), host) in losers {
            self.send(host, Message::End { name, token, reason: ExitReason::ConflictLost });
        }
    }

    fn tell_conflict(&mut self, name: &Name, winner: Token, loser: Token) {
        self.event(DirectoryEvent::Conflict { name: name.clone(), winner, loser });
    }
}
