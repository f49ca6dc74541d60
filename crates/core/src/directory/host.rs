//! The host side: which instances run here, and what their owners have yet to hear of them.
//!
//! ```text
//!            Grant              init Ok
//!   (none) ─────────> Launching ───────> Running ──── ends ────> Ended (mailbox and gate kept)
//!                       ^  │ init failed                           │  │
//!                       │  └──────────────────────────────────────>│  └─ Discard ──> (none)
//!                       └───────────── Grant of the next life ─────┘
//! ```
//!
//! A report is repeated until the owner of the moment has acknowledged it; an owner that asks for a life which is
//! already here gets its report again. So no crash of an owner can lose what became of an instance.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::message::{Message, News};
use super::record::{Record, RecordState};
use super::request::Launch;
use super::{Directory, Output, REPEAT};
use crate::base::{ErrorCode, ExitReason, Incarnation, Name, SlotId, Time, Token};

/// Records of a lost line that are kept to be offered.
pub(super) const ORPHANS_MAX: usize = 200_000;

/// Lives in one message: with names of 255 bytes it stays under the frame limit.
const LIVES_PER_MESSAGE: usize = 2_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Launching,
    Running,
    Ended,
}

#[derive(Debug)]
struct Hosted {
    record: Record,
    phase: Phase,
    /// What the owner has not acknowledged.
    unreported: Option<News>,
    /// It came from another line and waits for an owner there.
    offered: bool,
    /// A life that is to follow once the present one has ended.
    next: Option<Record>,
}

/// All instances of this node.
#[derive(Debug, Default)]
pub(super) struct Host {
    names: BTreeMap<Name, Hosted>,
    /// The same names by slot: an owner asks for those of its slots.
    by_slot: BTreeMap<SlotId, BTreeSet<Name>>,
    orphans: BTreeMap<Name, Record>,
    report_at: Option<Time>,
    /// The node leaves: nothing is launched, nothing is reported.
    leaving: bool,
}

impl Host {
    pub(super) fn is_empty(&self) -> bool {
        self.names.is_empty() && self.orphans.is_empty()
    }

    pub(super) fn next_deadline(&self) -> Option<Time> {
        self.report_at
    }

    pub(super) fn names(&self) -> impl Iterator<Item = (&Name, Token, bool)> {
        self.names.iter().map(|(name, h)| (name, h.record.token, h.phase == Phase::Running))
    }

    /// Records of the names in this slot.
    pub(super) fn records_of(&self, slot: SlotId) -> impl Iterator<Item = &Record> {
        let names = self.by_slot.get(&slot).into_iter().flatten();
        names.filter_map(|name| self.names.get(name)).map(|hosted| &hosted.record)
    }

    fn insert(&mut self, slot: SlotId, hosted: Hosted) {
        let name = hosted.record.name.clone();
        self.by_slot.entry(slot).or_default().insert(name.clone());
        self.names.insert(name, hosted);
    }

    fn remove(&mut self, slot: SlotId, name: &Name) -> Option<Hosted> {
        if let Some(names) = self.by_slot.get_mut(&slot) {
            names.remove(name);
            if names.is_empty() {
                self.by_slot.remove(&slot);
            }
        }
        self.names.remove(name)
    }

    #[cfg(test)]
    pub(super) fn orphans(&self) -> usize {
        self.orphans.len()
    }

    pub(super) fn keep_orphan(&mut self, record: Record) {
        if self.orphans.len() < ORPHANS_MAX && !self.names.contains_key(&record.name) {
            self.orphans.insert(record.name.clone(), record);
        }
    }
}

impl Directory {
    /// The node leaves: every instance is told to end. Their owners are told nothing: the view without this node
    /// makes them start the names elsewhere.
    pub fn handle_leave(&mut self) {
        self.host.leaving = true;
        let lives: Vec<(Name, Token)> = self
            .host
            .names
            .iter()
            .filter(|(_, hosted)| hosted.phase != Phase::Ended)
            .map(|(name, hosted)| (name.clone(), hosted.record.token))
            .collect();
        for (name, token) in lives {
            self.tell(Output::Terminate { name, token, reason: ExitReason::Shutdown });
        }
    }

    /// Whether the node leaves and nothing runs here any more.
    pub fn has_left(&self) -> bool {
        self.host.leaving && self.host.names.values().all(|hosted| hosted.phase == Phase::Ended)
    }

    /// `init` of a launched life returned.
    pub fn handle_launched(&mut self, name: &Name, token: Token, result: Result<(), ExitReason>, now: Time) {
        let Some(hosted) = self.host.names.get_mut(name).filter(|h| h.record.token == token) else { return };
        if hosted.phase != Phase::Launching {
            return;
        }
        match result {
            Ok(()) => {
                hosted.phase = Phase::Running;
                hosted.record.state = RecordState::Running;
                hosted.record.has_run = true;
                self.news(name, News::Running, now);
            }
            Err(reason) => {
                hosted.phase = Phase::Ended;
                self.news(name, News::InitFailed(reason.capped()), now);
                self.launch_next(name);
            }
        }
        self.finish(now);
    }

    /// An instance ended.
    pub fn handle_exited(&mut self, name: &Name, token: Token, reason: ExitReason, now: Time) {
        let Some(hosted) = self.host.names.get_mut(name).filter(|h| h.record.token == token) else { return };
        if hosted.phase == Phase::Ended {
            return;
        }
        hosted.phase = Phase::Ended;
        if std::mem::take(&mut hosted.offered) {
            self.offer_what_is_left(name, &reason);
        }
        self.news(name, News::Exited(reason.capped()), now);
        self.launch_next(name);
        self.finish(now);
    }

    /// It ended while it was offered, and the owner may or may not have adopted it. If it has, the report of the end
    /// reaches a record; if not, the record itself is offered.
    fn offer_what_is_left(&mut self, name: &Name, reason: &ExitReason) {
        let Some(Hosted { record, .. }) = self.host.names.get(name) else { return };
        let starts_again = record.policy.restarts_after(reason);
        let full = self.host.orphans.len() >= ORPHANS_MAX;
        if starts_again && record.state != RecordState::Registered && !self.host.leaving && !full {
            let record = record.clone();
            self.host.orphans.insert(name.clone(), record);
        }
    }

    /// A process of this node was given a name by the owner.
    pub(super) fn host_registered(&mut self, record: Record) {
        let hosted = Hosted { record, phase: Phase::Running, unreported: None, offered: false, next: None };
        self.host.insert(self.slot_of(&hosted.record.name), hosted);
    }

    fn news(&mut self, name: &Name, news: News, now: Time) {
        let Some(hosted) = self.host.names.get_mut(name) else { return };
        let token = hosted.record.token;
        if self.host.leaving {
            return;
        }
        hosted.unreported = Some(news.clone());
        self.host.report_at.get_or_insert(now + REPEAT);
        if let Some(owner) = self.owner_of(name) {
            self.send(owner, Message::Report { name: name.clone(), token, news });
        }
    }

    /// Only the owner of the moment can have written it down: a deposed one may not know that it is.
    pub(super) fn on_reported(&mut self, from: Incarnation, name: &Name, token: Token) {
        if self.owner_of(name) != Some(from) {
            return;
        }
        if let Some(hosted) = self.host.names.get_mut(name).filter(|h| h.record.token == token) {
            hosted.unreported = None;
        }
    }

    pub(super) fn on_grant(&mut self, from: Incarnation, record: Record, now: Time) {
        if self.host.leaving || record.host != self.me || self.owner_of(&record.name) != Some(from) {
            return;
        }
        let name = record.name.clone();
        let Some(hosted) = self.host.names.get_mut(&name) else {
            return self.on_grant_of_new_name(record, now);
        };
        if hosted.record.token == record.token {
            let news = match hosted.phase {
                Phase::Launching => return,
                Phase::Running => News::Running,
                Phase::Ended => hosted.unreported.clone().unwrap_or(News::Exited(ExitReason::Killed)),
            };
            return self.news(&name, news, now);
        }
        if hosted.record.token > record.token || hosted.offered {
            // An offered life is waiting for its judgement: the owner may well let it go on.
            return;
        }
        if hosted.phase == Phase::Ended {
            self.follow(record, now);
        } else {
            let token = hosted.record.token;
            hosted.next = Some(record);
            self.tell(Output::Terminate { name, token, reason: ExitReason::ConflictLost });
        }
    }

    fn on_grant_of_new_name(&mut self, record: Record, now: Time) {
        let name = record.name.clone();
        if record.is_fresh() {
            return self.launch(record, Launch::Fresh);
        }
        // It was to follow a life that is not here any more.
        let phase = Phase::Ended;
        self.host
            .names
            .insert(name.clone(), Hosted { record, phase, unreported: None, offered: false, next: None });
        self.news(&name, News::Exited(ExitReason::NodeLost), now);
    }

    /// The life before has ended here; this one follows it.
    fn follow(&mut self, record: Record, now: Time) {
        let Some(last) = self.host.names.get(&record.name) else {
            return self.on_grant_of_new_name(record, now);
        };
        let previous = last.record.token;
        if record.gate == last.record.gate {
            return self.launch(record, Launch::InPlace { previous });
        }
        let name = record.name.clone();
        self.tell(Output::Discard { name: name.clone(), token: previous, code: ErrorCode::Stopped });
        self.host.remove(self.slot_of(&name), &name);
        self.on_grant_of_new_name(record, now);
    }

    fn launch(&mut self, record: Record, launch: Launch) {
        let hosted = Hosted {
            record: record.clone(),
            phase: Phase::Launching,
            unreported: None,
            offered: false,
            next: None,
        };
        self.host.insert(self.slot_of(&record.name), hosted);
        self.tell(Output::Launch { record: Arc::new(record), launch });
    }

    fn launch_next(&mut self, name: &Name) {
        let next = self.host.names.get_mut(name).and_then(|hosted| hosted.next.take());
        if let Some(record) = next.filter(|_| !self.host.leaving) {
            // Granted over a life that should not have been running: nothing of it is taken over.
            self.host.remove(self.slot_of(name), name);
            if record.is_fresh() {
                self.launch(record, Launch::Fresh);
            }
        }
    }

    pub(super) fn on_end(
        &mut self,
        from: Incarnation,
        name: Name,
        token: Token,
        reason: ExitReason,
        now: Time,
    ) {
        // A lower life than the one to end must end too: the word that it had got the higher token was lost.
        let Some(hosted) = self.host.names.get_mut(&name).filter(|h| h.record.token <= token) else {
            // It is gone already: tell the owner that asks.
            let news = News::Gone(reason);
            return self.send(from, Message::Report { name, token, news });
        };
        hosted.offered = false;
        let token = hosted.record.token;
        match hosted.phase {
            Phase::Launching | Phase::Running => self.tell(Output::Terminate { name, token, reason }),
            Phase::Ended => {
                let news = hosted.unreported.clone().unwrap_or(News::Exited(reason));
                self.news(&name, news, now);
            }
        }
    }

    pub(super) fn on_discard(&mut self, name: Name, token: Token, code: ErrorCode) {
        let Some(hosted) = self.host.names.get(&name).filter(|h| h.record.token == token) else { return };
        let registered = hosted.record.state == RecordState::Registered;
        if hosted.phase == Phase::Ended || registered {
            self.host.remove(self.slot_of(&name), &name);
            self.tell(Output::Discard { name, token, code });
        }
    }

    pub(super) fn on_retoken(&mut self, name: Name, old: Token, new: Token) {
        if let Some(hosted) = self.host.names.get_mut(&name).filter(|h| h.record.token == old) {
            hosted.record.token = new;
            self.tell(Output::Retoken { name, old, new });
        }
    }

    pub(super) fn on_offered(&mut self, name: &Name, token: Token) {
        if let Some(hosted) = self.host.names.get_mut(name) {
            hosted.offered = false;
        }
        if self.host.orphans.get(name).is_some_and(|record| record.token <= token) {
            self.host.orphans.remove(name);
        }
    }

    /// A view was installed: owners may have changed, so whatever they must know is said again.
    pub(super) fn host_follows_view(&mut self, new_line: bool, now: Time) {
        if new_line {
            let me = self.me;
            for hosted in self.host.names.values_mut() {
                hosted.offered = hosted.phase != Phase::Ended;
                if hosted.offered {
                    hosted.record.host = me;
                }
            }
            self.offer_ended_as_orphans();
        }
        for hosted in self.host.names.values_mut() {
            if hosted.phase == Phase::Ended && hosted.unreported.is_none() {
                hosted.unreported = Some(News::Exited(ExitReason::Killed));
            }
        }
        self.host.report_at = Some(now);
        self.report_again(now);
    }

    /// What has ended here runs nowhere: its record is offered, to be started again; its mailbox ends.
    fn offer_ended_as_orphans(&mut self) {
        let ended: Vec<Name> =
            self.host.names.iter().filter(|(_, h)| h.phase == Phase::Ended).map(|(n, _)| n.clone()).collect();
        for name in ended {
            let Some(Hosted { record, .. }) = self.host.remove(self.slot_of(&name), &name) else { continue };
            let token = record.token;
            if !matches!(record.state, RecordState::Starting | RecordState::Registered) {
                self.host.keep_orphan(record);
            }
            self.tell(Output::Discard { name, token, code: ErrorCode::Stopped });
        }
    }

    /// Tells an owner that has just opened these slots which lives of theirs are here.
    pub(super) fn tell_hosting(&mut self, owner: Incarnation, slots: &[SlotId]) {
        let (mut told, mut lives) = (Vec::new(), Vec::new());
        for slot in slots {
            let names = self.host.by_slot.get(slot).into_iter().flatten();
            for (name, hosted) in names.filter_map(|name| Some((name, self.host.names.get(name)?))) {
                // What is offered is judged as an offer.
                let judged = hosted.phase != Phase::Ended && !hosted.offered;
                lives.push((name.clone(), hosted.record.token, judged));
            }
            told.push(*slot);
            if lives.len() > LIVES_PER_MESSAGE {
                let (slots, lives) = (std::mem::take(&mut told), std::mem::take(&mut lives));
                self.send(owner, Message::Hosting { slots, lives });
            }
        }
        if !told.is_empty() {
            self.send(owner, Message::Hosting { slots: told, lives });
        }
    }

    pub(super) fn on_ask_offer(&mut self, name: &Name, token: Token, now: Time) {
        if let Some(hosted) = self.host.names.get_mut(name).filter(|h| h.record.token == token) {
            hosted.offered = hosted.phase != Phase::Ended;
            self.host.report_at = Some(now);
            self.report_again(now);
        }
    }

    pub(super) fn report_again(&mut self, now: Time) {
        if self.host.leaving {
            self.host.report_at = None;
        }
        if self.host.report_at.is_none_or(|at| at > now) {
            return;
        }
        let mut messages = Vec::new();
        for (name, hosted) in &self.host.names {
            let token = hosted.record.token;
            if hosted.offered {
                let running = true;
                messages.push((name.clone(), Message::Offer { record: hosted.record.clone(), running }));
            } else if let Some(news) = &hosted.unreported {
                let (name, news) = (name.clone(), news.clone());
                messages.push((name.clone(), Message::Report { name, token, news }));
            }
        }
        for (name, record) in &self.host.orphans {
            messages.push((name.clone(), Message::Offer { record: record.clone(), running: false }));
        }
        self.host.report_at = (!messages.is_empty()).then_some(now + REPEAT);
        for (name, message) in messages {
            if let Some(owner) = self.owner_of(&name) {
                self.send(owner, message);
            }
        }
    }
}
