//! Names, at their owner: start, locate, stop, release, and what a take-over finds.
//!
//! ```text
//!              Start                    init Ok                 ends, policy restarts
//!   (free) ───────────> Starting ───────────────────> Running ───────────┬──────────────> Restarting ──> Running
//!      ^                   │ init failed                 │  ^            ├─ not at once ─> BackingOff ──┘ due
//!      ├───────────────────┘                             │  └─ init Ok   └─ too often ───> Quarantined ─┘ release
//!      ├──────────────────────── ends, policy does not ──┤
//!      └───────────────────────────────── Stopping <─────┘ Stop
//! ```
//!
//! Every arrow is a write that all replicas have acknowledged before anything that follows from it is done.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::content::Change;
use super::message::Message;
use super::placing::Placement;
use super::record::{Record, RecordState, RestartPolicy, Tombstone, gate_of};
use super::reports::STOPS_MAX;
use super::request::{Answer, Ask};
use super::suspects::Suspicion;
use super::writes::After;
use super::{Directory, DirectoryEvent, REPEAT};
use crate::base::limits::ANSWERS_MAX;
use crate::base::{
    ErrorCode, Executed, ExitReason, Few, Hindrance, Incarnation, Mutant, Name, RequestId, SlotId, Time,
    Token,
};

/// The last answers of this node as an owner, kept over views: a copy of a request that was on its way when the
/// answer was given gets the same one, and is not carried out again.
#[derive(Debug, Default)]
pub(super) struct Answered {
    answers: BTreeMap<RequestId, Answer>,
    order: VecDeque<RequestId>,
    /// The highest number that was answered, of everybody who has an answer here: most requests are above it, and are
    /// not looked for.
    highest: BTreeMap<Incarnation, u64>,
}

impl Answered {
    pub(super) fn len(&self) -> usize {
        self.order.len()
    }

    #[cfg(test)]
    pub(super) fn callers(&self) -> usize {
        self.highest.len()
    }

    pub(super) fn of(&self, request: RequestId) -> Option<&Answer> {
        let highest = self.highest.get(&request.caller)?;
        if request.number <= *highest { self.answers.get(&request) } else { None }
    }

    pub(super) fn keep(&mut self, request: RequestId, answer: &Answer) {
        if matches!(answer, Answer::Located(_) | Answer::Inspected(_)) || self.of(request).is_some() {
            return;
        }
        self.answers.insert(request, answer.clone());
        self.order.push_back(request);
        let highest = self.highest.entry(request.caller).or_default();
        *highest = request.number.max(*highest);
        if self.order.len() > ANSWERS_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.answers.remove(&oldest);
        }
        if self.highest.len() > 2 * ANSWERS_MAX {
            // Of lives that have no answer here any more.
            let answers = &self.answers;
            let of = |caller: Incarnation| {
                RequestId { caller, number: 0 }..=RequestId { caller, number: u64::MAX }
            };
            self.highest.retain(|caller, _| answers.range(of(*caller)).next().is_some());
        }
    }
}

impl Directory {
    pub(super) fn on_request(&mut self, request: RequestId, name: Name, ask: Ask, now: Time) {
        let slot = self.slot_of(&name);
        let Some(owned) = self.owned.get(&slot) else { return };
        if let Some(answer) = self.answered.of(request).filter(|_| ask.changes()).cloned() {
            return self.answer(request, name, answer);
        }
        if !owned.serves() || self.is_unwritten(slot, &name) || self.waits_for_neighbour(slot, &name) {
            return self.wait(slot, request, name, ask);
        }
        match ask {
            Ask::Start { .. } | Ask::Register { .. } => self.on_start(slot, request, name, ask, now),
            Ask::Locate => self.on_locate(slot, request, name),
            Ask::Stop => self.on_stop(slot, request, name, now),
            Ask::Unregister => self.on_unregister(slot, request, name, now),
            Ask::Release => self.on_release(slot, request, name, now),
            Ask::Move { to } => self.on_move_ask(slot, request, name, to, now),
            Ask::Join { .. } | Ask::Leave { .. } | Ask::SetMeta { .. } | Ask::Inspect => {
                self.on_attach(slot, request, name, ask, now);
            }
        }
    }

    /// Only for the planted bug: one name that has not started yet holds up the others of its slot.
    fn waits_for_neighbour(&self, slot: SlotId, name: &Name) -> bool {
        let starts = |other: &Name| other != name && self.slot_of(other) == slot;
        self.settings.mutants.has(Mutant::InitHoldsSlot) && self.driving.keys().any(starts)
    }

    pub(super) fn answer(&mut self, request: RequestId, name: Name, answer: Answer) {
        self.answered.keep(request, &answer);
        self.send(request.caller, Message::Answer { request, name, answer });
    }

    fn on_start(&mut self, slot: SlotId, request: RequestId, name: Name, ask: Ask, now: Time) {
        let Some(record) = self.record(&name) else { return self.start(slot, request, name, ask, now) };
        if record.requests_before.contains(&request) {
            return self.answer(request, name, Answer::Deadline(Executed::Unknown));
        }
        let located = record.located();
        let own = record.request == request;
        match record.state {
            RecordState::Starting if own || !self.settings.mutants.has(Mutant::TwoGrants) => {
                self.wait(slot, request, name, ask);
            }
            RecordState::Starting => self.grant_to_another(record.clone()),
            // Its starter is told of a life that certainly ran.
            RecordState::Restarting if own || record.is_fresh() => {
                self.wait(slot, request, name, ask);
            }
            // It has not run yet, and waits for a node that it can run on.
            RecordState::BackingOff if own && (record.waits_for_host || !record.has_run) => {
                self.wait(slot, request, name, ask);
            }
            RecordState::Quarantined => self.answer(request, name, Answer::Quarantined),
            // The name is on its way out: whoever asks now may have it when it is free.
            RecordState::Stopping => self.wait(slot, request, name, ask),
            RecordState::Running
            | RecordState::Restarting
            | RecordState::BackingOff
            | RecordState::Registered => {
                let copies = self.copies_demanded();
                let answer =
                    if own { Answer::Started { located, copies } } else { Answer::AlreadyRunning(located) };
                self.answer(request, name, answer);
            }
        }
    }

    /// Only for the planted bug.
    fn grant_to_another(&mut self, mut record: Record) {
        let others = self.view().map(|view| view.incarnations().collect::<Vec<_>>()).unwrap_or_default();
        if let Some(other) = others.into_iter().find(|member| *member != record.host) {
            record.host = other;
            record.gate = gate_of(record.token, other);
            self.send(other, Message::Grant(record.into()));
        }
    }

    pub(super) fn copies_demanded(&self) -> u8 {
        let members = self.view().map_or(1, |view| view.members.len());
        u8::try_from(members.min(self.settings.replicas)).unwrap_or(u8::MAX)
    }

    fn start(&mut self, slot: SlotId, request: RequestId, name: Name, ask: Ask, now: Time) {
        let tombstone = self.copies.get(&slot).and_then(|copy| copy.tombstone(&name));
        if let Some(tombstone) = tombstone.filter(|tombstone| tombstone.started_by == request) {
            // It was started by this very request, and has ended since.
            let answer = tombstone.outcome.answer(self.copies_demanded());
            return self.answer(request, name, answer);
        }
        if tombstone.is_some_and(|tombstone| tombstone.stopped_by.contains(&request)) {
            // It started a life before that one.
            return self.answer(request, name, Answer::Deadline(Executed::Unknown));
        }
        if !self.has_room_to_wait(slot, &name, &ask) {
            return self.answer(request, name, Answer::Overloaded);
        }
        let requests_before = tombstone.map(Tombstone::requests).unwrap_or_default();
        let (kind, args, policy, placement, registered) = match ask {
            Ask::Start { kind, args, policy, placement } => (kind, args, policy, placement, false),
            Ask::Register { kind } => {
                (kind, Default::default(), RestartPolicy::Temporary, Placement::Local, true)
            }
            _ => return,
        };
        let host = if registered {
            Some(request.caller)
        } else {
            self.place_start(&name, &kind, &placement, request.caller, now)
        };
        let Some(host) = host.filter(|host| self.is_member(*host)) else {
            return self.answer(request, name, Answer::NoHost(kind));
        };
        let last = self.copies.get(&slot).map(|copy| copy.last_token(&name)).unwrap_or_default();
        let token = self.next_token(slot, last);
        self.tell_unknown_policy(&name, &placement);
        self.count_placed(&placement, host, now);
        let state = if registered { RecordState::Registered } else { RecordState::Starting };
        let record = Arc::new(Record {
            args,
            policy,
            placement,
            state,
            requests_before: requests_before.into(),
            has_run: registered,
            ..Record::first(name.clone(), kind, host, token, request)
        });
        let after = if registered {
            let answer = Answer::Started { located: record.located(), copies: self.copies_demanded() };
            vec![After::Answer(request, name, answer)]
        } else {
            // The answer comes when the host has reported: until then the caller waits like all others.
            self.wait(slot, request, name, start_ask(&record));
            vec![After::Grant(Arc::clone(&record))]
        };
        self.write(slot, Change::Put(record), after, now);
    }

    fn on_locate(&mut self, slot: SlotId, request: RequestId, name: Name) {
        let Some(record) = self.record(&name) else { return self.answer(request, name, Answer::NotFound) };
        let settled = match record.state {
            RecordState::Running
            | RecordState::Registered
            | RecordState::Stopping
            | RecordState::BackingOff => self.is_member(record.host) && !record.waits_for_host,
            RecordState::Restarting => !record.is_fresh() && self.is_member(record.host),
            RecordState::Starting => false,
            RecordState::Quarantined => return self.answer(request, name, Answer::Quarantined),
        };
        if settled {
            let answer = Answer::Located(record.located());
            self.answer(request, name, answer);
        } else {
            self.wait(slot, request, name, Ask::Locate);
        }
    }

    fn on_stop(&mut self, slot: SlotId, request: RequestId, name: Name, now: Time) {
        let Some(mut record) = self.record_now(&name, now) else {
            let tombstone = self.copies.get(&slot).and_then(|copy| copy.tombstone(&name));
            let own = tombstone.is_some_and(|tombstone| tombstone.stopped_by.contains(&request));
            return self.answer(request, name, if own { Answer::Done } else { Answer::NotFound });
        };
        if record.requests_before.contains(&request) {
            return self.answer(request, name, Answer::Done);
        }
        if !self.has_room_to_wait(slot, &name, &Ask::Stop) {
            return self.refuse_to_wait(slot, request, name);
        }
        let (host, token) = (record.host, record.token);
        let is_dormant = matches!(record.state, RecordState::Quarantined | RecordState::BackingOff);
        if is_dormant || !self.is_member(host) {
            let after = match self.is_member(host) {
                true => vec![After::Discard(host, name.clone(), token, ErrorCode::Stopped)],
                false => Vec::new(),
            };
            self.wait(slot, request, name, Ask::Stop);
            return self.remove(slot, &record, &ExitReason::Shutdown, after, now);
        }
        self.wait(slot, request, name.clone(), Ask::Stop);
        let is_new = !record.stopping_by.contains(&request) && record.stopping_by.len() < STOPS_MAX;
        if is_new {
            record.stopping_by.push(request);
        }
        if record.state != RecordState::Stopping {
            record.state = RecordState::Stopping;
            let end = After::End(host, name, token, ExitReason::Shutdown);
            self.write(slot, Change::Put(record.into()), vec![end], now);
        } else if is_new {
            self.write(slot, Change::Put(record.into()), Vec::new(), now);
        }
    }

    fn on_unregister(&mut self, slot: SlotId, request: RequestId, name: Name, now: Time) {
        let Some(record) = self.record(&name) else { return self.answer(request, name, Answer::NotFound) };
        if record.state != RecordState::Registered {
            return self.answer(request, name, Answer::NotFound);
        }
        let record = record.clone();
        let after = vec![
            After::Answer(request, name.clone(), Answer::Done),
            After::Discard(record.host, name, record.token, ErrorCode::NotFound),
        ];
        self.remove(slot, &record, &ExitReason::Shutdown, after, now);
    }

    fn on_release(&mut self, slot: SlotId, request: RequestId, name: Name, now: Time) {
        let Some(mut record) = self.record_now(&name, now) else {
            return self.answer(request, name, Answer::NotFound);
        };
        if record.state == RecordState::Quarantined {
            record.restart_ages_ms = Few::default();
            self.clear_suspect(&mut record);
            self.restart_fresh(slot, record, &ExitReason::Quarantined, Vec::new(), now);
        }
        self.answer(request, name, Answer::Done);
    }

    /// A slot opened: every record is driven on from whatever the last owner left it in.
    pub(super) fn reconcile(&mut self, slot: SlotId, now: Time) {
        self.resume_trials(slot, now);
        let Some(copy) = self.copies.get(&slot) else { return };
        let settled = |record: &Record| {
            matches!(record.state, RecordState::Running | RecordState::Registered)
                && self.is_member(record.host)
                && record.moving.is_none()
        };
        let open: Vec<_> = copy.entries.values().filter(|entry| !settled(&entry.record)).cloned().collect();
        for entry in open {
            let record = entry.record_now(now);
            match record.state {
                RecordState::BackingOff => {
                    let due = now + std::time::Duration::from_millis(u64::from(record.back_off_ms));
                    self.back_offs.insert((due, record.name));
                }
                RecordState::Quarantined => {}
                _ if !self.is_member(record.host) => self.node_lost(slot, record, now),
                _ if record.moving.as_ref().is_some_and(|moving| !self.is_member(moving.target)) => {
                    self.abort(slot, record, Hindrance::Lost, now);
                }
                _ => {
                    self.moves.note(&record.name, Some(&record));
                    self.driving.insert(record.name.clone(), now);
                    self.retry_at.get_or_insert(now + REPEAT);
                    self.drive(record);
                }
            }
        }
    }

    /// Tells the host what its record demands of it.
    pub(super) fn drive(&mut self, record: Record) {
        match record.state {
            RecordState::Running if record.moving.is_some() => self.drive_move(record),
            RecordState::Starting | RecordState::Restarting => {
                self.send(record.host, Message::Grant(record.into()));
            }
            RecordState::Stopping => {
                let reason = ExitReason::Shutdown;
                self.send(record.host, Message::End { name: record.name, token: record.token, reason });
            }
            RecordState::Running
            | RecordState::Registered
            | RecordState::BackingOff
            | RecordState::Quarantined => {}
        }
    }

    fn drive_move(&mut self, record: Record) {
        let Some(moving) = record.moving.as_deref().cloned() else { return };
        if self.is_member(record.host) {
            return self.send(record.host, Message::Move(record.into()));
        }
        // Its source is gone: perhaps all of it had left by then.
        let Record { name, gate, .. } = record;
        self.send(moving.target, Message::AskHolds { name, gate, attempt: moving.attempt });
    }

    /// The host of this life is gone with it.
    pub(super) fn node_lost(&mut self, slot: SlotId, record: Record, now: Time) {
        if let Some(moving) = &record.moving
            && !self.is_member(record.host)
            && self.is_member(moving.target)
        {
            self.moves.note(&record.name, Some(&record));
            self.driving.insert(record.name.clone(), now);
            self.retry_at.get_or_insert(now + REPEAT);
            return self.drive(record);
        }
        let ends = record.policy == RestartPolicy::Temporary
            || matches!(record.state, RecordState::Registered | RecordState::Stopping);
        if ends {
            return self.remove(slot, &record, &ExitReason::NodeLost, Vec::new(), now);
        }
        if record.state != RecordState::BackingOff {
            self.end_monitors(slot, &record, &ExitReason::NodeLost, false, now);
        }
        self.lost_with_node(slot, record, now);
    }

    pub(super) fn restart_elsewhere(&mut self, slot: SlotId, record: Record, now: Time) {
        self.restart_fresh(slot, record, &ExitReason::NodeLost, Vec::new(), now);
    }

    /// A new life with a new gate, placed anew: nothing of the last one is left.
    pub(super) fn restart_fresh(
        &mut self,
        slot: SlotId,
        record: Record,
        reason: &ExitReason,
        after: Vec<After>,
        now: Time,
    ) {
        // Where it was asked for, if that node lives, or where it was.
        let asker = if record.waits_for_host { record.request.caller } else { record.host };
        let asker = Some(asker).filter(|asker| self.is_member(*asker));
        match self.place_again(&record, asker, now) {
            Some(host) => self.restart_at(slot, record, host, reason, after, now),
            None => self.wait_for_host(slot, record, after, now),
        }
    }

    /// As [`Self::restart_fresh`], where the host was chosen.
    pub(super) fn restart_on(&mut self, slot: SlotId, record: Record, host: Incarnation, now: Time) {
        self.restart_at(slot, record, host, &ExitReason::NodeLost, Vec::new(), now);
    }

    fn restart_at(
        &mut self,
        slot: SlotId,
        mut record: Record,
        host: Incarnation,
        reason: &ExitReason,
        mut after: Vec<After>,
        now: Time,
    ) {
        self.tell_unknown_policy(&record.name, &record.placement);
        self.count_placed(&record.placement, host, now);
        let (last, last_token) = (record.host, record.token);
        let goes_on = record.state == RecordState::Restarting && self.is_member(last);
        let told = record.waits_for_host || goes_on;
        record.host = host;
        record.waits_for_host = false;
        let token = self.token_of_next_life(slot, &record);
        record.begin_life(token);
        record.gate = gate_of(record.token, record.host);
        self.forget_groups(&mut record);
        record.moving = None;
        record.state = RecordState::Restarting;
        record.back_off_ms = 0;
        if !told {
            let (name, token) = (record.name.clone(), record.token);
            self.event(DirectoryEvent::Restarted { name, token, reason: reason.clone() });
        }
        let record = Arc::new(record);
        if last != host && self.is_member(last) {
            // It has nothing to follow there.
            after.push(After::Discard(last, record.name.clone(), last_token, ErrorCode::Stopped));
        }
        after.push(After::Grant(Arc::clone(&record)));
        if self.settings.mutants.has(Mutant::RestartOnTwoNodes) {
            let other = self.view().and_then(|view| view.incarnations().find(|member| *member != host));
            if let Some(other) = other {
                let gate = gate_of(record.token, other);
                let granted = Record { host: other, gate, ..Record::clone(&record) };
                after.push(After::Grant(granted.into()));
            }
        }
        self.write(slot, Change::Put(record), after, now);
    }

    pub(super) fn back_off(
        &mut self,
        slot: SlotId,
        mut record: Record,
        delay_ms: u32,
        mut after: Vec<After>,
        now: Time,
    ) {
        record.state = RecordState::BackingOff;
        record.back_off_ms = delay_ms;
        let due = now + std::time::Duration::from_millis(u64::from(delay_ms));
        let name = record.name.clone();
        self.back_offs.insert((due, name.clone()));
        after.push(After::Wake(name));
        self.write(slot, Change::Put(record.into()), after, now);
    }

    /// Back-offs that are over: in place where the mailbox waits, elsewhere when that host is gone.
    pub(super) fn run_back_offs(&mut self, now: Time) {
        while let Some((due, name)) = self.back_offs.first().cloned() {
            if due > now {
                return;
            }
            self.back_offs.pop_first();
            let slot = self.slot_of(&name);
            let waiting = |record: &Record| record.state == RecordState::BackingOff;
            let Some(record) = self.record_now(&name, now).filter(waiting) else { continue };
            if self.is_member(record.host) && !record.waits_for_host {
                self.restart_in_place(slot, record, Vec::new(), now);
            } else if record.suspicion != Suspicion::None {
                self.try_suspect(record.name, now);
            } else if record.waits_for_host {
                self.restart_elsewhere(slot, record, now);
            } else {
                self.node_lost(slot, record, now);
            }
        }
    }

    fn token_of_next_life(&mut self, slot: SlotId, record: &Record) -> Token {
        match self.settings.mutants.has(Mutant::TokenNotRaised) {
            true => record.token,
            false => self.next_token(slot, record.token),
        }
    }

    /// Only for the planted bug.
    fn forget_groups(&self, record: &mut Record) {
        if self.settings.mutants.has(Mutant::JoinForgottenAtRestart) {
            record.attached = None;
        }
    }

    /// A new life on the same host, with the gate and the mailbox of the last one.
    pub(super) fn restart_in_place(
        &mut self,
        slot: SlotId,
        mut record: Record,
        mut after: Vec<After>,
        now: Time,
    ) {
        let token = self.token_of_next_life(slot, &record);
        record.begin_life(token);
        record.state = RecordState::Restarting;
        record.moving = None;
        self.forget_groups(&mut record);
        record.back_off_ms = 0;
        let record = Arc::new(record);
        after.push(After::Grant(Arc::clone(&record)));
        self.write(slot, Change::Put(record), after, now);
    }
}

/// The request that a starting record answers.
fn start_ask(record: &Record) -> Ask {
    Ask::Start {
        kind: record.kind.clone(),
        args: record.args.clone(),
        policy: record.policy,
        placement: record.placement.clone(),
    }
}
