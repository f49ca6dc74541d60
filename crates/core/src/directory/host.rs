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
//! What has no room here, by the limit of its kind, or was to follow a life that is not here, is *absent*: it is reported
//! and remembered until the owner discards it, so that a late copy of its grant begins nothing.
//!
//! A report is repeated until the owner of the moment has acknowledged it; an owner that asks for a life which is
//! already here gets its report again. So no crash of an owner can lose what became of an instance.

mod attached;
mod drain;
mod moves;

pub use drain::Left;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::by_name::{ByName, Named};
use super::by_slot::BySlot;
use super::message::{Life, Message, News, Standing};
use super::record::{Record, RecordState, millis};
use super::request::Launch;
use super::{Directory, Output, REPEAT};
use crate::base::limits::ORPHANS_MAX;
use crate::base::{
    Bytes, ErrorCode, ExitReason, Hindrance, Incarnation, Kind, Mutant, Name, SlotId, Time, Token,
};

/// Lives in one message: with names of 255 bytes it stays under the frame limit.
const LIVES_PER_MESSAGE: usize = 2_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Launching,
    Running,
    Ended,
    /// It never began here, and the owner has yet to say that it knows.
    Absent,
}

impl Phase {
    const fn is_alive(self) -> bool {
        matches!(self, Phase::Launching | Phase::Running)
    }
}

#[derive(Debug)]
struct Hosted {
    /// The same that the copy of this node holds, if it is a replica: there may be very many.
    record: Arc<Record>,
    /// When it came, in whole seconds of this node's clock: ages in it count from then.
    since_s: u32,
    phase: Phase,
    /// It was told to end: its end is not its own doing.
    told: bool,
    /// The owner has not acknowledged what became of it.
    unreported: bool,
    /// It came from another line and waits for an owner there.
    offered: bool,
    /// What few have.
    rare: Option<Box<Rare>>,
}

/// What a host knows beside of what has ended, or is about to.
#[derive(Debug, Default)]
struct Rare {
    /// How it ended. Kept once it is acknowledged, since the next owner may not have heard of it.
    end: Option<News>,
    /// A life that is to follow once the present one has ended.
    next: Option<Arc<Record>>,
    /// Why the last attempt to move it came to nothing.
    hindrance: Option<Hindrance>,
    /// The last state that it published.
    snapshot: Option<Bytes>,
}

impl Named for Hosted {
    fn name(&self) -> &Name {
        &self.record.name
    }
}

impl Hosted {
    fn new(record: Arc<Record>, phase: Phase, now: Time) -> Self {
        let since_s = seconds(now);
        Self { record, since_s, phase, told: false, unreported: false, offered: false, rare: None }
    }

    /// Whether it counts against the limit of its kind. What has ended does, until it is discarded: so a restart in
    /// its place always has room.
    fn takes_place(&self) -> bool {
        self.phase != Phase::Absent && self.record.state != RecordState::Registered
    }

    /// What an owner is to hear of it; nothing while `init` has not returned.
    fn news(&self) -> Option<News> {
        match self.phase {
            Phase::Launching => None,
            Phase::Running => Some(News::Running),
            Phase::Ended | Phase::Absent => self.rare.as_ref()?.end.clone(),
        }
    }

    fn snapshot(&self) -> Option<Bytes> {
        self.rare.as_ref()?.snapshot.clone()
    }

    /// It has ended, and `own` says how if nobody told it to.
    fn end(&mut self, reason: ExitReason, own: fn(ExitReason) -> News) {
        let news = if self.told { News::Ended } else { own };
        self.phase = Phase::Ended;
        self.rare.get_or_insert_default().end = Some(news(reason.capped()));
    }

    /// The record with its ages as of now.
    fn record_now(&self, now: Time) -> Record {
        self.record.aged(seconds(now).saturating_sub(self.since_s).saturating_mul(1_000))
    }
}

fn seconds(time: Time) -> u32 {
    u32::try_from(time.as_micros() / 1_000_000).unwrap_or(u32::MAX)
}

/// All instances of this node.
#[derive(Debug, Default)]
pub(super) struct Host {
    /// By slot: an owner asks for those of its slots. No slot is here without a name.
    slots: BySlot<ByName<Hosted>>,
    /// Kinds of which only so many may be here.
    places: BTreeMap<Kind, Places>,
    /// Records that nobody runs, and when each had the ages that it has.
    orphans: BTreeMap<Name, (Record, Time)>,
    /// Lives that were brought here from another node, at rest: they run when the owner says so.
    arrivals: BTreeMap<Name, Token>,
    report_at: Option<Time>,
    /// How many there are that take a place.
    taken: usize,
    /// The node leaves: nothing is launched, nothing is reported.
    leaving: bool,
}

/// What this node has of a kind that has a limit.
#[derive(Debug)]
struct Places {
    taken: usize,
    most: usize,
}

impl Host {
    /// Nothing runs yet. Of the kinds that are given, at most so many processes will.
    pub(super) fn new(capacity: BTreeMap<Kind, usize>) -> Self {
        let places = capacity.into_iter().map(|(kind, most)| (kind, Places { taken: 0, most })).collect();
        Self { places, ..Self::default() }
    }

    /// Of each kind with a limit: how many are here, and how many may be.
    pub(super) fn places(&self) -> impl Iterator<Item = (usize, usize)> {
        self.places.values().map(|places| (places.taken, places.most))
    }

    fn has_room(&self, kind: &Kind) -> bool {
        self.places.get(kind).is_none_or(|places| places.taken < places.most)
    }

    /// Counts what came here, or is gone.
    fn count(&mut self, hosted: &Hosted, change: impl Fn(&mut usize)) {
        if !hosted.takes_place() {
            return;
        }
        change(&mut self.taken);
        if let Some(places) = self.places.get_mut(&hosted.record.kind) {
            change(&mut places.taken);
        }
    }

    /// Processes that are here, of all kinds.
    pub(super) fn taken(&self) -> usize {
        self.taken
    }

    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty() && self.orphans.is_empty()
    }

    pub(super) fn next_deadline(&self) -> Option<Time> {
        self.report_at
    }

    pub(super) fn names(&self) -> impl Iterator<Item = (&Name, Token, bool)> {
        self.all().map(|(name, h)| (name, h.record.token, h.phase == Phase::Running))
    }

    fn all(&self) -> impl Iterator<Item = (&Name, &Hosted)> {
        self.slots.values().flat_map(ByName::values).map(|hosted| (&hosted.record.name, hosted))
    }

    fn all_mut(&mut self) -> impl Iterator<Item = &mut Hosted> {
        self.slots.values_mut().flat_map(ByName::values_mut)
    }

    fn get(&self, slot: SlotId, name: &Name) -> Option<&Hosted> {
        self.slots.get(&slot)?.get(name)
    }

    fn get_mut(&mut self, slot: SlotId, name: &Name) -> Option<&mut Hosted> {
        self.slots.get_mut(&slot)?.get_mut(name)
    }

    /// Records of the names in this slot. What never began here is claimed by nobody.
    pub(super) fn records_of(&self, slot: SlotId, now: Time) -> impl Iterator<Item = Record> {
        let hosted = self.slots.get(&slot).into_iter().flat_map(ByName::values);
        hosted.filter(|hosted| hosted.phase != Phase::Absent).map(move |hosted| hosted.record_now(now))
    }

    fn insert(&mut self, slot: SlotId, hosted: Hosted) {
        self.count(&hosted, |taken| *taken += 1);
        if let Some(before) = self.slots.or_default(slot).insert(hosted) {
            self.count(&before, |taken| *taken -= 1);
        }
    }

    fn remove(&mut self, slot: SlotId, name: &Name) -> Option<Hosted> {
        let names = self.slots.get_mut(&slot)?;
        let removed = names.remove(name);
        if names.is_empty() {
            self.slots.remove(&slot);
        }
        if let Some(removed) = &removed {
            self.count(removed, |taken| *taken -= 1);
        }
        removed
    }

    /// How many records wait to be offered.
    pub(super) fn orphans(&self) -> usize {
        self.orphans.len()
    }

    /// Keeps a record whose ages are as of this time.
    pub(super) fn keep_orphan(&mut self, slot: SlotId, record: Record, at: Time) {
        if self.orphans.len() < ORPHANS_MAX && self.get(slot, &record.name).is_none() {
            self.orphans.insert(record.name.clone(), (record, at));
        }
    }
}

impl Directory {
    /// What is hosted under this name.
    fn hosted_as(&mut self, name: &Name) -> Option<&mut Hosted> {
        let slot = self.slot_of(name);
        self.host.get_mut(slot, name)
    }

    /// This life of the name, if it is here.
    fn hosted_life(&mut self, name: &Name, token: Token) -> Option<&mut Hosted> {
        self.hosted_as(name).filter(|hosted| hosted.record.token == token)
    }

    /// The node leaves: every instance is told to end. Their owners are told nothing: the view without this node
    /// makes them start the names elsewhere.
    pub fn handle_leave(&mut self) {
        self.host.leaving = true;
        let lives: Vec<(Name, Token)> = self
            .host
            .all()
            .filter(|(_, hosted)| hosted.phase.is_alive())
            .map(|(name, hosted)| (name.clone(), hosted.record.token))
            .collect();
        for (name, token) in lives {
            self.tell(Output::Terminate { name, token, reason: ExitReason::Shutdown });
        }
    }

    /// Whether the node leaves.
    pub fn is_leaving(&self) -> bool {
        self.host.leaving
    }

    /// Whether the node leaves and nothing runs here any more.
    pub fn has_left(&self) -> bool {
        self.host.leaving && self.host.all().all(|(_, hosted)| !hosted.phase.is_alive())
    }

    /// `init` of a launched life returned.
    pub fn handle_launched(&mut self, name: &Name, token: Token, result: Result<(), ExitReason>, now: Time) {
        let Some(hosted) = self.hosted_life(name, token) else { return };
        if hosted.phase != Phase::Launching {
            return;
        }
        match result {
            Ok(()) => {
                hosted.phase = Phase::Running;
                let record = Arc::make_mut(&mut hosted.record);
                record.set_running();
                self.report(name, now);
            }
            Err(reason) => {
                hosted.end(reason, News::InitFailed);
                self.report(name, now);
                self.launch_next(name, now);
            }
        }
        self.finish(now);
    }

    /// An instance ended.
    pub fn handle_exited(&mut self, name: &Name, token: Token, reason: ExitReason, now: Time) {
        let Some(hosted) = self.hosted_life(name, token) else { return };
        if !hosted.phase.is_alive() {
            return;
        }
        let starts_again = hosted.record.policy.restarts_after(&reason);
        hosted.end(reason, News::Exited);
        if std::mem::take(&mut hosted.offered) && starts_again {
            self.offer_what_is_left(name, now);
        }
        self.report(name, now);
        self.launch_next(name, now);
        self.finish(now);
    }

    /// It ended while it was offered, and the owner may or may not have adopted it. If it has, the report of the end
    /// reaches a record; if not, the record itself is offered.
    fn offer_what_is_left(&mut self, name: &Name, now: Time) {
        let Some(hosted) = self.host.get(self.slot_of(name), name) else { return };
        let full = self.host.orphans.len() >= ORPHANS_MAX;
        if hosted.record.state != RecordState::Registered && !self.host.leaving && !full {
            let record = hosted.record_now(now);
            self.host.orphans.insert(name.clone(), (record, now));
        }
    }

    /// A process of this node was given a name by the owner.
    pub(super) fn host_registered(&mut self, record: Record) {
        // It is never started again, so its ages tell nothing.
        let hosted = Hosted::new(Arc::new(record), Phase::Running, Time::ZERO);
        self.host.insert(self.slot_of(&hosted.record.name), hosted);
    }

    /// Tells the owner what became of a life, until it is acknowledged.
    fn report(&mut self, name: &Name, now: Time) {
        if self.host.leaving {
            return;
        }
        let Some(hosted) = self.hosted_as(name) else { return };
        let Some(news) = hosted.news() else { return };
        let token = hosted.record.token;
        hosted.unreported = true;
        let snapshot = hosted.snapshot();
        self.host.report_at.get_or_insert(now + REPEAT);
        if let Some(owner) = self.owner_of(name) {
            self.send(owner, Message::Report { name: name.clone(), token, news, snapshot });
        }
    }

    /// Only the owner of the moment can have written it down: a deposed one may not know that it is.
    pub(super) fn on_reported(&mut self, from: Incarnation, name: &Name, token: Token, ended: bool) {
        if self.owner_of(name) != Some(from) {
            return;
        }
        let slot = self.slot_of(name);
        let copy = self.copies.get(&slot).and_then(|copy| copy.entries.get(name));
        // That it ran may be acknowledged when it has ended since.
        let is_last =
            |hosted: &&mut Hosted| hosted.record.token == token && (ended || hosted.phase.is_alive());
        if let Some(hosted) = self.host.get_mut(slot, name).filter(is_last) {
            hosted.unreported = false;
            if let Some(entry) = copy.filter(|entry| entry.record == hosted.record) {
                hosted.record = Arc::clone(&entry.record);
            }
        }
    }

    pub(super) fn on_grant(&mut self, from: Incarnation, record: Arc<Record>, now: Time) {
        let name = record.name.clone();
        // A node that leaves takes what has come to it as a whole, and ends it as all others.
        if self.host.leaving && !self.host.has_come(&record) {
            return;
        }
        if record.host != self.me || self.owner_of(&name) != Some(from) {
            return;
        }
        let Some(hosted) = self.hosted_as(&name) else {
            return self.on_grant_of_new_name(record, now);
        };
        if hosted.record.token == record.token {
            return self.report(&name, now);
        }
        if hosted.record.token > record.token || hosted.offered {
            // An offered life is waiting for its judgement: the owner may well let it go on.
            return;
        }
        if hosted.phase.is_alive() {
            let token = hosted.record.token;
            hosted.rare.get_or_insert_default().next = Some(record);
            hosted.told = true;
            self.tell(Output::Terminate { name, token, reason: ExitReason::ConflictLost });
        } else {
            self.follow(record, now);
        }
    }

    fn on_grant_of_new_name(&mut self, record: Arc<Record>, now: Time) {
        if self.host.has_come(&record) {
            return self.run_arrival(record, now);
        }
        if !record.is_fresh() {
            // It was to follow a life that is not here any more.
            return self.absent(record, News::Gone(ExitReason::NodeLost), now);
        }
        let crowded = self.settings.mutants.has(Mutant::PlacesUnbounded);
        let careless = self.settings.mutants.has(Mutant::PlacedOnDraining);
        // The owner wrote it down before it knew that this node drains.
        let has_room = self.host.has_room(&record.kind) && (careless || !self.drains(self.me));
        if has_room || crowded {
            return self.launch(record, Launch::Fresh, now);
        }
        self.absent(record, News::Full, now);
    }

    fn absent(&mut self, record: Arc<Record>, why: News, now: Time) {
        let name = record.name.clone();
        let mut hosted = Hosted::new(record, Phase::Absent, now);
        hosted.rare.get_or_insert_default().end = Some(why);
        self.host.insert(self.slot_of(&name), hosted);
        self.report(&name, now);
    }

    /// The life before has ended here; this one follows it.
    fn follow(&mut self, record: Arc<Record>, now: Time) {
        let Some(last) = self.hosted_as(&record.name) else {
            return self.on_grant_of_new_name(record, now);
        };
        let previous = last.record.token;
        let is_next = record.gate == last.record.gate && last.phase == Phase::Ended;
        // One that was brought here brings its own mailbox.
        if is_next && !self.host.has_come(&record) {
            return self.launch(record, Launch::InPlace { previous }, now);
        }
        let name = record.name.clone();
        self.tell(Output::Discard { name: name.clone(), token: previous, code: ErrorCode::Stopped });
        self.host.remove(self.slot_of(&name), &name);
        self.on_grant_of_new_name(record, now);
    }

    fn launch(&mut self, record: Arc<Record>, launch: Launch, now: Time) {
        let hosted = Hosted::new(Arc::clone(&record), Phase::Launching, now);
        self.host.insert(self.slot_of(&record.name), hosted);
        self.tell(Output::Launch { record, launch });
    }

    fn launch_next(&mut self, name: &Name, now: Time) {
        let next = self.hosted_as(name).and_then(|hosted| hosted.rare.as_mut()?.next.take());
        if let Some(record) = next.filter(|_| !self.host.leaving) {
            // Granted over a life that should not have been running: nothing of it is taken over.
            self.host.remove(self.slot_of(name), name);
            if self.host.has_come(&record) {
                return self.run_arrival(record, now);
            }
            if record.is_fresh() {
                self.on_grant_of_new_name(record, now);
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
        let Some(hosted) = self.hosted_as(&name).filter(|h| h.record.token <= token) else {
            // It is gone already: tell the owner that asks.
            let news = News::Gone(reason);
            return self.send(from, Message::Report { name, token, news, snapshot: None });
        };
        hosted.offered = false;
        let hosted_token = hosted.record.token;
        match hosted.phase {
            Phase::Launching | Phase::Running => {
                hosted.told = true;
                self.tell(Output::Terminate { name, token: hosted_token, reason });
            }
            Phase::Ended | Phase::Absent => {
                self.report(&name, now);
                if hosted_token < token {
                    // What ended here may have been the life before, and the grant of this one was lost.
                    let news = News::Gone(reason);
                    self.send(from, Message::Report { name, token, news, snapshot: None });
                }
            }
        }
    }

    /// What is left of this life goes, or of one before it.
    pub(super) fn on_discard(&mut self, name: Name, token: Token, code: ErrorCode) {
        let Some(hosted) = self.hosted_as(&name).filter(|h| h.record.token <= token) else { return };
        let registered = hosted.record.state == RecordState::Registered && hosted.record.token == token;
        if !hosted.phase.is_alive() || registered {
            let token = hosted.record.token;
            self.host.remove(self.slot_of(&name), &name);
            self.tell(Output::Discard { name, token, code });
        }
    }

    pub(super) fn on_retoken(&mut self, name: Name, old: Token, new: Token, now: Time) {
        if let Some(hosted) = self.hosted_life(&name, old) {
            Arc::make_mut(&mut hosted.record).set_token(new);
            self.watcher_outranks(&name, new, now);
            self.tell(Output::Retoken { name, old, new });
        }
    }

    /// Only the owner of the moment: what a deposed one judged was not yet done perhaps, and its other words are lost.
    pub(super) fn on_offered(&mut self, from: Incarnation, name: &Name, token: Token) {
        if self.owner_of(name) != Some(from) {
            return;
        }
        if let Some(hosted) = self.hosted_as(name) {
            hosted.offered = false;
            self.tell(Output::Kept { name: name.clone() });
        }
        if self.host.orphans.get(name).is_some_and(|(record, _)| record.token <= token) {
            self.host.orphans.remove(name);
        }
    }

    /// A view was installed: owners may have changed, so whatever they must know is said again.
    pub(super) fn host_follows_view(&mut self, new_line: bool, now: Time) {
        if new_line {
            let me = self.me;
            for hosted in self.host.all_mut() {
                hosted.offered = hosted.phase.is_alive();
                if hosted.offered {
                    Arc::make_mut(&mut hosted.record).host = me;
                }
            }
            self.offer_ended_as_orphans(now);
        }
        for hosted in self.host.all_mut() {
            hosted.unreported |= !hosted.phase.is_alive();
        }
        self.host.report_at = Some(now);
        self.report_again(now);
    }

    /// What has ended here runs nowhere: its record is offered, to be started again; its mailbox ends.
    fn offer_ended_as_orphans(&mut self, now: Time) {
        let ended: Vec<Name> =
            self.host.all().filter(|(_, h)| !h.phase.is_alive()).map(|(n, _)| n.clone()).collect();
        for name in ended {
            let slot = self.slot_of(&name);
            let Some(hosted) = self.host.remove(slot, &name) else { continue };
            let token = hosted.record.token;
            if !matches!(hosted.record.state, RecordState::Starting | RecordState::Registered) {
                self.host.keep_orphan(slot, hosted.record_now(now), now);
            }
            self.tell(Output::Discard { name, token, code: ErrorCode::Stopped });
        }
    }

    /// Tells an owner that has just opened these slots which lives of theirs are here.
    pub(super) fn tell_hosting(&mut self, owner: Incarnation, slots: &[SlotId]) {
        let (mut told, mut lives) = (Vec::new(), Vec::new());
        for slot in slots.iter().collect::<BTreeSet<_>>() {
            for hosted in self.host.slots.get(slot).into_iter().flat_map(ByName::values) {
                let standing = match hosted.phase.is_alive() {
                    true if hosted.offered => Standing::Offered,
                    true => Standing::Runs,
                    false => Standing::Ended,
                };
                lives.push(Life {
                    name: hosted.record.name.clone(),
                    token: hosted.record.token,
                    standing,
                    revision: hosted.record.revision(),
                });
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
        if let Some(hosted) = self.hosted_life(name, token) {
            hosted.offered = hosted.phase.is_alive();
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
        for (name, hosted) in self.host.all() {
            let token = hosted.record.token;
            if hosted.offered {
                let record = Arc::new(hosted.record_now(now));
                messages.push((name.clone(), Message::Offer { record, running: true }));
            } else if let Some(news) = hosted.news().filter(|_| hosted.unreported) {
                let (name, snapshot) = (name.clone(), hosted.snapshot());
                messages.push((name.clone(), Message::Report { name, token, news, snapshot }));
            }
        }
        for (name, (record, at)) in &self.host.orphans {
            let record = Arc::new(record.aged(millis(now.since(*at))));
            messages.push((name.clone(), Message::Offer { record, running: false }));
        }
        self.host.report_at = (!messages.is_empty()).then_some(now + REPEAT);
        for (name, message) in messages {
            if let Some(owner) = self.owner_of(&name) {
                self.send(owner, message);
            }
        }
    }
}
