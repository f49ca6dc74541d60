//! Moves, at the owner: which name moves where and when, and what becomes of each attempt.
//!
//! ```text
//!                  begin                           commit
//!   moving: none ─────────> moving: target, attempt ─────────> host: target, token: attempt, moving: none
//!        ^                              │ abort
//!        └──────────────────────────────┘
//! ```
//!
//! An attempt is open as long as the record names it. It is committed or aborted once, by a write that all replicas
//! have, and whoever asks later is told what the record says (`docs/protocol.md` section 8).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use super::content::Change;
use super::message::Message;
use super::record::{Moving, Record, RecordState};
use super::request::{Answer, Ask};
use super::suspects::Suspicion;
use super::writes::After;
use super::{Directory, DirectoryEvent};
use crate::base::limits::{MOVES_IN_MAX, MOVES_OUT_MAX, MOVES_OWNED_MAX};
use crate::base::{
    Bytes, Decision, Hindrance, Incarnation, Name, NodeName, Plea, RequestId, SlotId, Time, Token,
};
use crate::view::MemberInfo;

/// Before the second try to move a name; doubled each time.
const AGAIN: Duration = Duration::from_secs(1);
/// Doublings at most: 32 s.
const DOUBLINGS_MAX: u32 = 5;
/// Tries to move a process that fails while it is to move away from a node that drains: fewer than end in quarantine.
const FAILURES_MAX: u32 = 3;

/// When processes move without being told to. Away from a node that drains they move in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rebalance {
    /// When a view places them elsewhere: nodes came, drain, or came back.
    #[default]
    OnJoinAndLeave,
    /// Away from nodes that drain, and never else.
    OnLeaveOnly,
    /// As [`Rebalance::OnLeaveOnly`]: whoever drains a node has told its processes to move.
    Off,
}

/// What is to be moved, and what moves.
#[derive(Debug, Default)]
pub(super) struct Moves {
    /// Names that stand elsewhere than where they belong, as far as was seen.
    queue: VecDeque<Name>,
    /// Names whose last attempt was called off.
    later: BTreeSet<(Time, Name)>,
    tries: BTreeMap<Name, u32>,
    /// Names whose process failed during an attempt and does not run again yet.
    failed: BTreeSet<Name>,
    /// Names that are looked at once their last write is on every replica.
    unwritten: BTreeSet<Name>,
    /// Names that somebody moved: they stay until another view places them, or their node drains.
    by_hand: BTreeSet<Name>,
    /// Names with an open attempt: from where, to where.
    open: BTreeMap<Name, (Incarnation, Incarnation)>,
}

impl Moves {
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    pub(super) fn next_deadline(&self) -> Option<Time> {
        self.later.first().map(|(at, _)| *at)
    }

    /// Names that wait to be looked at, have an open attempt, are tried again later, and failed in an attempt.
    pub(super) fn counts(&self) -> (usize, usize, usize, usize) {
        (self.queue.len(), self.open.len(), self.later.len(), self.failed.len())
    }

    /// These are to be looked at.
    pub(super) fn queue_all(&mut self, names: impl IntoIterator<Item = Name>) {
        self.queue.extend(names);
    }

    /// A record was written, or found.
    pub(super) fn note(&mut self, name: &Name, record: Option<&Record>) {
        match record.and_then(|record| Some((record.host, record.moving.as_deref()?.target))) {
            Some(way) => self.open.insert(name.clone(), way),
            None => self.open.remove(name),
        };
    }

    /// The last word on this name is on every replica.
    pub(super) fn written(&mut self, name: &Name) {
        if !self.unwritten.is_empty() && self.unwritten.remove(name) {
            self.queue.push_back(name.clone());
        }
    }

    /// Whether one more may be under way: more than a node takes or gives at a time would only be refused.
    pub(super) fn has_room(&self, source: Incarnation, target: Incarnation) -> bool {
        if self.open.len() >= MOVES_OWNED_MAX {
            return false;
        }
        let out = self.open.values().filter(|(from, _)| *from == source).count();
        let into = self.open.values().filter(|(_, to)| *to == target).count();
        out < MOVES_OUT_MAX && into < MOVES_IN_MAX
    }
}

impl Directory {
    /// Whether it owns a name with an open attempt.
    pub fn has_open_moves(&self) -> bool {
        !self.moves.open.is_empty()
    }

    /// A slot serves: its names that stand elsewhere than where they belong are queued.
    pub(super) fn queue_moves(&mut self, slot: SlotId) {
        let Some(copy) = self.copies.get(&slot) else { return };
        let records = copy.entries.values().map(|entry| &*entry.record);
        let names =
            records.filter(|record| may_move(record) && self.belongs_elsewhere(slot, record).is_some());
        let names: Vec<Name> = names.map(|record| record.name.clone()).collect();
        self.moves.queue.extend(names);
    }

    /// A process runs: perhaps not where it belongs, since views came while it started.
    pub(super) fn queue_move(&mut self, slot: SlotId, record: &Record, now: Time) {
        let failed = self.moves.failed.remove(&record.name);
        if self.belongs_elsewhere(slot, record).is_none() {
            return;
        }
        let tries = self.moves.tries.get(&record.name).copied().unwrap_or(0);
        if !failed && self.place_again(record, Some(record.host), now) != Some(record.host) {
            self.moves.queue.push_back(record.name.clone());
        } else if failed && self.drains(record.host) && tries < FAILURES_MAX {
            self.try_later(record.name.clone(), now);
        }
    }

    /// A process failed while it was to move, perhaps for that reason: it is not tried again before the next view, or one
    /// move would end in quarantine. From a node that drains, where that view may never come, it is tried a few times.
    pub(super) fn move_failed(&mut self, slot: SlotId, name: &Name) {
        self.moves.failed.insert(name.clone());
        for (request, _) in self.take_movers(slot, name) {
            self.answer(request, name.clone(), Answer::Hindered(Hindrance::Ended));
        }
    }

    /// Begins as many moves as may be under way.
    pub(super) fn balance(&mut self, now: Time) {
        while self.moves.later.first().is_some_and(|(at, _)| *at <= now) {
            let due = self.moves.later.pop_first();
            self.moves.queue.extend(due.map(|(_, name)| name));
        }
        while self.moves.open.len() < MOVES_OWNED_MAX {
            let Some(name) = self.moves.queue.pop_front() else { return };
            let slot = self.slot_of(&name);
            if self.is_unwritten(slot, &name) {
                self.moves.unwritten.insert(name);
                continue;
            }
            let Some(record) = self.record_now(&name, now).filter(may_move) else { continue };
            let Some(target) = self.way_to_go(slot, &record, now) else { continue };
            if self.holds(&record) {
                continue;
            }
            if !self.moves.has_room(record.host, target) {
                self.moves.queue.push_front(name);
                return;
            }
            self.begin_move(slot, record, target, now);
        }
    }

    pub(super) fn drains(&self, host: Incarnation) -> bool {
        self.view().and_then(|view| view.member(host)).is_some_and(|member| member.draining)
    }

    /// Where a process that runs is to run instead.
    fn belongs_elsewhere(&self, slot: SlotId, record: &Record) -> Option<Incarnation> {
        let drains = self.view()?.member(record.host)?.draining;
        if !drains && self.moves.by_hand.contains(&record.name) {
            return None;
        }
        match self.settings.rebalance {
            Rebalance::OnJoinAndLeave => {}
            // Whoever drains a node has told its processes to move.
            Rebalance::OnLeaveOnly | Rebalance::Off if drains => {}
            Rebalance::OnLeaveOnly | Rebalance::Off => return None,
        }
        let target = self.belongs_to(slot, record)?;
        (target != record.host).then_some(target)
    }

    /// As [`Self::belongs_elsewhere`]; away from a node that drains rather to any that has room than not at all.
    fn way_to_go(&self, slot: SlotId, record: &Record, now: Time) -> Option<Incarnation> {
        let target = self.belongs_elsewhere(slot, record)?;
        let with_room =
            if self.drains(record.host) { self.place_again(record, Some(record.host), now) } else { None };
        Some(with_room.unwrap_or(target))
    }

    fn try_later(&mut self, name: Name, now: Time) {
        let tries = self.moves.tries.entry(name.clone()).or_insert(0);
        let delay = AGAIN * (1 << (*tries).min(DOUBLINGS_MAX));
        *tries = tries.saturating_add(1);
        self.moves.later.insert((now + delay, name));
    }

    pub(super) fn begin_move(&mut self, slot: SlotId, mut record: Record, target: Incarnation, now: Time) {
        let attempt = self.next_token(slot, record.token);
        self.count_placed(&record.placement, target, now);
        record.moving = Some(Box::new(Moving { target, attempt }));
        let after = vec![After::Move(record.clone().into())];
        self.write(slot, Change::Put(record.into()), after, now);
    }

    /// The source has brought everything to the target, or has given it up.
    #[allow(clippy::too_many_arguments, reason = "one for each field of the message")]
    pub(super) fn on_plea(
        &mut self,
        from: Incarnation,
        name: Name,
        gate: Token,
        attempt: Token,
        plea: Plea,
        snapshot: Option<Bytes>,
        now: Time,
    ) {
        let Some((slot, record)) = self.settled(&name, now) else { return };
        match record.filter(|record| record.is_moving_as(attempt) && record.host == from) {
            Some(mut record) => match plea {
                Plea::Commit => {
                    record.publish(snapshot);
                    self.commit(slot, record, now);
                }
                Plea::CallOff(why) => self.abort(slot, record, why, now),
            },
            None => {
                let decision = match self.record(&name) {
                    Some(record) if record.gate == gate && record.host != from => Decision::Committed,
                    record => closed(record, gate),
                };
                self.send(from, Message::Decided { name, attempt, decision });
            }
        }
    }

    /// The target says whether it holds the whole process.
    pub(super) fn on_holds(
        &mut self,
        from: Incarnation,
        name: Name,
        gate: Token,
        attempt: Token,
        whole: bool,
        now: Time,
    ) {
        let Some((slot, record)) = self.settled(&name, now) else { return };
        let is_target = |moving: &Moving| moving.attempt == attempt && moving.target == from;
        match record {
            Some(record) if record.moving.as_deref().is_some_and(is_target) => {
                match (whole, self.is_member(record.host)) {
                    // The source asks for it itself.
                    (true, true) => {}
                    (true, false) => self.commit(slot, record, now),
                    (false, true) => self.abort(slot, record, Hindrance::Lost, now),
                    (false, false) => self.node_lost(slot, Record { moving: None, ..record }, now),
                }
            }
            Some(record) if record.host == from && record.token == attempt => self.drive(record),
            record if whole => {
                let decision = closed(record.as_ref(), gate);
                self.send(from, Message::Dismiss { name, attempt, decision });
            }
            Some(_) | None => {}
        }
    }

    /// The slot of a name and its record, if this node may decide about it now; otherwise it is asked again.
    fn settled(&self, name: &Name, now: Time) -> Option<(SlotId, Option<Record>)> {
        let slot = self.slot_of(name);
        let is_settled = self.serves(slot) && !self.is_unwritten(slot, name);
        is_settled.then(|| (slot, self.record_now(name, now)))
    }

    fn commit(&mut self, slot: SlotId, mut record: Record, now: Time) {
        let Some(Moving { target, attempt }) = record.moving.take().map(|moving| *moving) else { return };
        if !self.is_member(target) {
            record.moving = Some(Box::new(Moving { target, attempt }));
            return self.abort(slot, record, Hindrance::Lost, now);
        }
        let source = record.host;
        let name = record.name.clone();
        record.host = target;
        record.set_token(attempt);
        record.state = RecordState::Restarting;
        self.moves.tries.remove(&name);
        self.event(DirectoryEvent::Moved { name: name.clone(), from: source, to: target });
        let mut after = vec![After::Grant(record.clone().into())];
        if self.is_member(source) {
            after.push(After::Decided(source, name.clone(), attempt, Decision::Committed));
        }
        after.push(After::TellMoved(name.clone(), target));
        after.push(After::Wake(name.clone()));
        self.write(slot, Change::Put(record.into()), after, now);
        self.lose_monitors(slot, &name, now);
    }

    /// Nothing comes of the open attempt.
    pub(super) fn abort(&mut self, slot: SlotId, mut record: Record, why: Hindrance, now: Time) {
        let Some(Moving { target, attempt }) = record.moving.take().map(|moving| *moving) else { return };
        let name = record.name.clone();
        let source = record.host;
        self.event(DirectoryEvent::MoveCalledOff { name: name.clone(), why });
        self.note_called_off(&name, why);
        for (request, _) in self.take_movers(slot, &name) {
            self.answer(request, name.clone(), Answer::Hindered(why));
        }
        let drains = record.state == RecordState::Running && self.drains(source);
        let way_out = if drains { self.other_way_out(slot, &record, target, why, now) } else { None };
        match (way_out, why) {
            (Some(_), _) => self.moves.queue.push_back(name.clone()),
            // One of those that are under way there is soon over.
            (None, Hindrance::Busy) => _ = self.moves.later.insert((now + AGAIN, name.clone())),
            (None, _) if why.is_passing() => self.try_later(name.clone(), now),
            (None, _) => {}
        }
        let mut after = vec![After::Decided(source, name.clone(), attempt, Decision::Aborted)];
        if self.is_member(target) {
            after.push(After::Dismiss(target, name.clone(), attempt, Decision::Aborted));
        }
        after.push(After::Wake(name));
        self.write(slot, Change::Put(record.into()), after, now);
    }

    /// Where else a process of a node that drains is tried at once: it found no room, or somebody had sent it elsewhere
    /// than where its place is.
    fn other_way_out(
        &mut self,
        slot: SlotId,
        record: &Record,
        target: Incarnation,
        why: Hindrance,
        now: Time,
    ) -> Option<Incarnation> {
        if why == Hindrance::AtCapacity {
            self.note_full(target, &record.kind, now);
        }
        let next = self.place_again(record, Some(record.host), now)?;
        let is_untried = why == Hindrance::AtCapacity || self.belongs_to(slot, record) != Some(target);
        (is_untried && next != target).then_some(next)
    }

    /// Somebody wants a process moved.
    pub(super) fn on_move_ask(
        &mut self,
        slot: SlotId,
        request: RequestId,
        name: Name,
        to: Option<NodeName>,
        now: Time,
    ) {
        let Some(record) = self.record_now(&name, now) else {
            return self.answer(request, name, Answer::NotFound);
        };
        let belongs = self.belongs_to(slot, &record).filter(|_| to.is_none());
        let is_meant = |member: &&MemberInfo| match &to {
            Some(to) => member.name == *to,
            None => Some(member.incarnation) == belongs,
        };
        let target = self.view().and_then(|view| view.members.iter().find(is_meant)).cloned();
        let hinder = match (&target, record.state) {
            (_, RecordState::Quarantined) => return self.answer(request, name, Answer::Quarantined),
            (None, _) => Some(Hindrance::Lost),
            (Some(target), _) if !target.kinds.contains(&record.kind) => Some(Hindrance::UnknownKind),
            (Some(target), _) if target.draining => Some(Hindrance::Leaving),
            (Some(target), _) if !record.placement.allows_by_hand(target) => Some(Hindrance::Unfit),
            (_, RecordState::Registered) => Some(Hindrance::Stays),
            _ => None,
        };
        if let Some(why) = hinder {
            return self.answer(request, name, Answer::Hindered(why));
        }
        let Some(target) = target.map(|target| target.incarnation) else { return };
        match record.state {
            RecordState::Running if record.moving.is_some() => {}
            RecordState::Running if record.host == target => return self.answer(request, name, Answer::Done),
            RecordState::Running if may_move(&record) => {
                if !self.has_room_to_wait(slot, &name, &Ask::Move { to: to.clone() }) {
                    return self.answer(request, name, Answer::Overloaded);
                }
                self.moves.by_hand.insert(name.clone());
                self.begin_move(slot, record, target, now);
            }
            _ => {}
        }
        self.wait(slot, request, name, Ask::Move { to });
    }
}

/// What became of an attempt that is over and was not committed, as far as the record tells: the gate is the process's
/// own, wherever it runs.
fn closed(record: Option<&Record>, gate: Token) -> Decision {
    match record {
        Some(record) if record.gate == gate => Decision::Aborted,
        Some(_) | None => Decision::Superseded,
    }
}

/// Whether a process is such that it can be moved now.
pub(super) fn may_move(record: &Record) -> bool {
    record.state == RecordState::Running && record.moving.is_none() && record.suspicion == Suspicion::None
}
