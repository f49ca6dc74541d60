//! One node's control: a single state machine, driven from outside.
//!
//! The shell feeds [`Node::handle`] with inputs and carries out what [`Node::poll_effect`] yields, in order, until
//! there is nothing more; it wakes the node at [`Node::next_deadline`]. Nothing else is needed, so the simulator
//! drives the same node in virtual time.
//!
//! The node only routes: an input goes to `membership` or `directory`, what they want comes out as effects, and a
//! view that membership installs is followed by the directory before anything else happens. A node that was away
//! for more than half of D (its deadline passed unnoticed) forgets its suspicions first: a stuck driver must lose
//! its own membership, not expel the others.

mod drain;
mod groups;
mod io;
mod moves;
mod outbox;
mod questions;

pub use drain::{Drained, Stayed};
pub use io::{Config, Effect, Event, Input, LinkLoss};

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::base::limits::Usage;
use crate::base::{Incarnation, Name, Now, Rng, Time, Token};
use crate::directory::{self, Directory, DirectoryEvent, RebalanceReport, Record};
use crate::groups::Groups;
use crate::handoff::Handoff;
use crate::membership::{self, Membership, MembershipEvent};
use crate::view::{MemberInfo, View};
use crate::wire::{Body, Control};
use drain::Drain;
use outbox::Outbox;

/// How old the node's word on having records may be.
const RECORDS_EVERY: Duration = Duration::from_millis(20);

/// The control part of one node.
pub struct Node {
    membership: Membership,
    directory: Directory,
    groups: Groups,
    handoff: Handoff,
    drain: Drain,
    detection: Duration,
    last: Now,
    records_seen: Time,
    /// Goodbye was said; the shell was told so.
    left: bool,
    told_left: bool,
    view: Option<Arc<View>>,
    outbox: Outbox,
    out: VecDeque<Effect>,
}

/// What a node knows, for checkers and operators. Taking one changes nothing.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The node's present life.
    pub incarnation: Incarnation,
    /// Its installed view.
    pub view: Option<Arc<View>>,
    /// Slots it owns that serve.
    pub slots_serving: usize,
    /// Slots it owns that do not serve yet.
    pub slots_opening: usize,
    /// Records of the slots it owns and serves.
    pub records: Vec<Record>,
    /// Names it hosts: the life, and whether it runs.
    pub hosted: Vec<(Name, Token, bool)>,
    /// Members of the view that it has had no link with for longer than D.
    pub unlinked: Vec<Incarnation>,
}

impl Node {
    /// A node that has just started. Its first effect is `Reincarnate`.
    pub fn new(config: Config, now: Now) -> Self {
        let mut rng = Rng::new(config.seed);
        let me = MemberInfo {
            name: config.name,
            incarnation: Incarnation { started_ms: 0, nonce: 0 },
            address: config.address,
            weight: config.weight,
            kinds: config.kinds,
            draining: false,
            labels: config.labels,
        };
        let settings = membership::Settings {
            discovery: config.discovery,
            found_alone_after: config.found_alone_after,
            detection: config.detection,
            mutants: config.mutants,
        };
        let membership = Membership::new(me, settings, rng.fork(), now);
        let settings = directory::Settings {
            slots: config.slots,
            replicas: config.replicas,
            detection: config.detection,
            restart: config.restart,
            rebalance: config.rebalance,
            policies: config.policies,
            limits: config.limits,
            capacity: config.capacity,
            mutants: config.mutants,
        };
        let directory = Directory::new(membership.me().incarnation, settings, rng.fork());
        let mut node = Self {
            groups: Groups::new(membership.me().incarnation, config.limits),
            membership,
            directory,
            handoff: Handoff::new(config.limits.image_chunk, config.mutants),
            drain: Drain::new(config.mutants),
            detection: config.detection,
            last: now,
            records_seen: now.time,
            left: false,
            told_left: false,
            view: None,
            outbox: Outbox::default(),
            out: VecDeque::new(),
        };
        node.membership.handle_wake(now);
        node.route(now);
        node
    }

    /// This life's identity.
    pub fn incarnation(&self) -> Incarnation {
        self.membership.me().incarnation
    }

    /// This node as its peers see it; what the shell says in its `Hello`.
    pub fn me(&self) -> &MemberInfo {
        self.membership.me()
    }

    /// The installed view.
    pub fn view(&self) -> Option<&Arc<View>> {
        self.view.as_ref()
    }

    /// What is to be done next. Feed in all that has happened before the first of these: what many inputs have to say
    /// to one member about slots and names is said in one message, once nothing else is to be done. That ends a *turn*.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        if self.out.is_empty() {
            self.say_all();
        }
        self.out.pop_front()
    }

    /// What is to be done though the turn goes on: inputs follow, and have more to say to the same members.
    pub fn poll_effect_within_turn(&mut self) -> Option<Effect> {
        self.out.pop_front()
    }

    /// Says what was collected: the turn is over, or the view is, in which it is to be said.
    fn say_all(&mut self) {
        self.flush_parts(self.last.time);
        while let Some((to, body)) = self.outbox.pop() {
            self.send(to, body);
        }
    }

    fn say(&mut self, to: Incarnation, message: directory::Message) {
        for body in self.outbox.push(to, message).into_iter().flatten() {
            self.send(to, body);
        }
    }

    /// When `handle` is due with [`Input::Wake`], if nothing else comes before.
    pub fn next_deadline(&self) -> Option<Time> {
        let parts = [
            self.membership.next_deadline(),
            self.directory.next_deadline(),
            self.groups.next_deadline(),
            self.handoff.next_deadline(),
            self.drain.next_deadline(),
        ];
        parts.into_iter().flatten().min()
    }

    /// Whether there has been no link with this member for longer than D: whoever runs there can not be reached.
    pub fn is_unlinked(&self, member: Incarnation) -> bool {
        self.membership.is_unlinked(member)
    }

    /// What this node knows.
    pub fn snapshot(&self) -> Snapshot {
        let (slots_serving, slots_opening) = self.directory.slots_owned();
        Snapshot {
            incarnation: self.incarnation(),
            view: self.view.clone(),
            slots_serving,
            slots_opening,
            records: self.directory.owned_records().cloned().collect(),
            hosted: self.directory.hosted().map(|(name, token, runs)| (name.clone(), token, runs)).collect(),
            unlinked: self.membership.unlinked().collect(),
        }
    }

    /// Only for the simulator: this node's copy loses the row of a name, as by a bug.
    #[cfg(feature = "mutants")]
    pub fn lose_row(&mut self, name: &Name) -> bool {
        self.directory.lose_row(name)
    }

    /// What this node moves, as the owner of names, and whether rebalancing is paused.
    pub fn rebalance_report(&self) -> RebalanceReport {
        self.directory.rebalance_report()
    }

    /// How full its tables are. Taking it changes nothing; it walks over the slots.
    pub fn usage(&self) -> Vec<Usage> {
        let mut rows = self.membership.usage();
        rows.extend(self.directory.usage());
        rows.extend(self.groups.usage());
        rows.extend(self.handoff.usage());
        rows
    }

    /// At which step of a handoff this node is, of each that it takes part in: for tests that hit every step.
    pub fn handoff_steps(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.handoff.steps().chain(self.directory.has_open_moves().then_some("owner"))
    }

    /// The owner of every slot in the installed view, by slot; nothing without a view.
    pub fn owners(&self) -> impl Iterator<Item = Option<Incarnation>> + '_ {
        self.directory.owners()
    }

    /// Takes in one input.
    pub fn handle(&mut self, now: Now, input: Input) {
        self.notice_absence(now);
        match input {
            Input::Wake => {
                self.membership.handle_wake(now);
                self.route(now);
                self.directory.handle_wake(now.time);
                self.groups.handle_wake(now.time);
                self.handoff.handle_wake(now.time);
            }
            Input::Discovered(addresses) => self.membership.handle_discovered(addresses, now),
            Input::DiscoveredInPart(addresses) => self.membership.handle_discovered_in_part(addresses, now),
            Input::SessionUp(info) => self.membership.handle_session_up(*info, now),
            Input::SessionDown { peer, loss } => {
                let gone = matches!(loss, LinkLoss::Refused | LinkLoss::Replaced);
                self.membership.handle_session_down(peer, gone, now);
            }
            Input::ConnectFailed(address) => self.membership.handle_connect_failed(&address, now),
            Input::Message { from, message } => self.on_message(from, message, now),
            Input::Heard(peer) => self.membership.handle_heard(peer, now),
            Input::ViewDecided(view) => self.membership.handle_decided(&view, now),
            Input::Request { number, name, ask, deadline } => {
                self.directory.handle_request(number, name, ask, deadline, now.time);
            }
            Input::List { .. }
            | Input::Count { .. }
            | Input::Follow { .. }
            | Input::Read { .. }
            | Input::Unfollow { .. }
            | Input::Group { .. }
            | Input::Groups { .. } => self.on_question(input, now),
            Input::Launched { name, token, result } => {
                self.directory.handle_launched(&name, token, result, now.time);
            }
            Input::Captured { name, attempt, image } => {
                self.handoff.handle_captured(&name, attempt, image, now.time);
            }
            Input::Installed { name, attempt, result } => {
                self.handoff.handle_installed(&name, attempt, result, now.time);
            }
            Input::Exited { name, token, reason } => {
                self.handoff.handle_ended(&name, token, now.time);
                self.directory.handle_watcher_ended(&name, now.time);
                self.directory.handle_exited(&name, token, reason, now.time);
            }
            Input::Snapshot { name, token, bytes } => {
                self.directory.handle_snapshot(&name, token, bytes, now.time);
            }
            Input::Monitor { id, name, of, until, moves, by } => {
                self.directory.handle_monitor(id, name, of, until, moves, by, now.time);
            }
            Input::Demonitor { ids } => self.directory.handle_demonitor(&ids, now.time),
            Input::Rebalance { paused } => self.directory.handle_order(paused, now.time),
            Input::Drain { within } => self.begin_drain(within),
            Input::Leave => {
                self.end_drain();
                self.handoff.close(now.time);
                self.directory.handle_leave();
            }
        }
        self.route(now);
        self.look_at_drain();
    }

    fn notice_absence(&mut self, now: Now) {
        let is_away = |since: Time| now.time.since(since) > self.detection / 2;
        // In this order: most inputs come right after another one.
        if is_away(self.last.time) && self.next_deadline().is_some_and(is_away) {
            self.membership.handle_away(now);
        }
        self.last = now;
    }

    fn on_message(&mut self, from: Incarnation, message: Control, now: Now) {
        if let Some(view) = message.view {
            self.membership.handle_seen_view(from, view, now);
        }
        match message.body {
            Body::Membership(body) => self.membership.handle_message(from, body, now),
            Body::Directory(body) => {
                self.membership.handle_heard(from, now);
                if self.membership.has_session(from) {
                    self.directory.handle_message(from, message.view, body, now.time);
                }
            }
            Body::Turn(turn) => {
                self.membership.handle_heard(from, now);
                if self.membership.has_session(from) {
                    self.directory.handle_turn(from, message.view, turn.into_messages(), now.time);
                }
            }
            Body::Groups(body) => {
                self.membership.handle_heard(from, now);
                if self.membership.has_session(from) {
                    self.groups.handle_message(from, message.view, body, now.time);
                }
            }
            Body::Handoff(body) => {
                self.membership.handle_heard(from, now);
                if self.membership.has_session(from) {
                    self.on_handoff_message(from, body);
                }
            }
        }
    }

    /// Carries outputs of one part to the other and out, until both are quiet.
    fn route(&mut self, now: Now) {
        loop {
            if let Some(output) = self.membership.poll_output() {
                self.on_membership(output, now);
            } else if let Some(output) = self.directory.poll_output() {
                self.on_directory(output);
            } else if let Some(output) = self.groups.poll_output() {
                self.on_groups(output);
            } else if let Some(output) = self.handoff.poll_output() {
                self.on_handoff(output);
            } else if let Some((from, question)) = self.handoff.take_question() {
                self.on_handoff_message(from, question);
            } else if self.directory.has_left() && self.handoff.is_empty_in() && !self.left {
                // Only now: until nothing runs here, the names of this node must not start elsewhere.
                self.left = true;
                self.membership.handle_leave();
            } else {
                self.membership.set_idle(self.directory.is_idle());
                if self.left && !self.told_left {
                    self.told_left = true;
                    self.out.push_back(Effect::Left);
                }
                // Asked once in a while only: it walks over the slots, and only the meeting of two lines needs it.
                if now.time.since(self.records_seen) >= RECORDS_EVERY {
                    self.records_seen = now.time;
                    self.membership.set_has_records(self.directory.has_records());
                }
                return;
            }
        }
    }

    fn on_membership(&mut self, output: membership::Output, now: Now) {
        use membership::Output;
        match output {
            Output::Send(to, message) => {
                if let Some(before) = self.outbox.take(to) {
                    self.send(to, before);
                }
                self.send(to, Body::Membership(message));
            }
            Output::Connect(address) => self.out.push_back(Effect::Connect(address)),
            Output::EndSession(peer) => self.out.push_back(Effect::EndSession(peer)),
            Output::SaidBye(member) => self.directory.handle_bye(member),
            Output::Propose(view) => self.out.push_back(Effect::ProposeView(view)),
            Output::Installed(view) => self.on_installed(view, now),
            Output::LineLeft => {
                self.say_all();
                self.view = None;
                self.directory.handle_line_left();
                self.groups.handle_line_left(now.time);
                self.handoff.handle_line_left(now.time);
            }
            Output::Reincarnate(incarnation) => {
                self.directory.handle_reincarnated(incarnation);
                self.groups.handle_reincarnated(incarnation);
                self.out.push_back(Effect::Reincarnate(incarnation));
            }
            Output::Event(event) => self.on_membership_event(event, now),
        }
    }

    fn on_membership_event(&mut self, event: MembershipEvent, now: Now) {
        let named = |member: Incarnation| {
            let info = self.view.as_ref().and_then(|view| view.member(member));
            info.map(|info| (info.name.clone(), member))
        };
        let event = match event {
            MembershipEvent::Founded => Event::Founded,
            MembershipEvent::LineChanged => Event::LineChanged,
            MembershipEvent::Expelled => Event::Expelled,
            MembershipEvent::NameTaken(bearer) => Event::NameTaken(bearer),
            MembershipEvent::Refused { peer, why } => Event::Refused { peer, why },
            MembershipEvent::Unlinked(member) => {
                let Some((name, member)) = named(member) else { return };
                self.directory.handle_unlinked(member, now.time);
                self.out.push_back(Effect::Unlinked(member));
                Event::Unlinked(name, member)
            }
            MembershipEvent::Linked(member) => {
                self.directory.handle_linked(member);
                let Some((name, member)) = named(member) else { return };
                Event::Linked(name, member)
            }
        };
        self.out.push_back(Effect::Event(event));
    }

    fn on_installed(&mut self, view: Arc<View>, now: Now) {
        // In the view in which it was said.
        self.say_all();
        let before = self.view.replace(Arc::clone(&view));
        let entered = |from: Option<&View>, to: &View| -> Vec<MemberInfo> {
            let known = |m: &&MemberInfo| !from.is_some_and(|from| from.contains(m.incarnation));
            to.members.iter().filter(known).cloned().collect()
        };
        for member in entered(before.as_deref(), &view) {
            self.out.push_back(Effect::Event(Event::MemberUp(member.name, member.incarnation)));
        }
        for member in before.iter().flat_map(|before| entered(Some(&view), before)) {
            self.out.push_back(Effect::Event(Event::MemberDown(member.name, member.incarnation)));
        }
        self.out.push_back(Effect::ViewInstalled(view));
        // Several views may come at once: the directory follows the last.
        let current = self.view.as_ref().map(|view| view.id);
        if let Some(chain) = self.membership.chain().filter(|chain| Some(chain.current().id) == current) {
            self.directory.handle_view(chain, now.time);
            if let Some(view) = &self.view {
                self.groups.handle_view(view, self.directory.owners().collect(), now.time);
                self.handoff.handle_view(view, now.time);
            }
            self.look_at_drain_soon();
        }
    }

    fn on_directory(&mut self, output: directory::Output) {
        use directory::Output;
        match output {
            Output::Send(to, message) => self.say(to, message),
            Output::Launch { record, launch } => self.out.push_back(Effect::Launch { record, launch }),
            Output::Terminate { name, token, reason } => self.terminate(name, token, reason),
            Output::Move { record } => self.order_move(&record),
            Output::Decided { name, attempt, decision } => {
                self.handoff.handle_decided(&name, attempt, decision, self.last.time);
            }
            Output::Kept { name } => self.handoff.handle_kept(&name, self.last.time),
            Output::AskHolds { from, name, gate, attempt } => {
                self.handoff.handle_ask_holds(from, &name, gate, attempt, self.last.time);
            }
            Output::Dismiss { name, attempt, decision } => {
                self.handoff.handle_dismissed(&name, attempt, decision, self.last.time);
            }
            Output::Granted { name, attempt } => {
                self.handoff.handle_granted(&name, attempt, self.last.time);
            }
            Output::Discard { name, token, code } => {
                self.out.push_back(Effect::Discard { name, token, code });
            }
            Output::Retoken { name, old, new } => {
                self.handoff.handle_retoken(&name, old, new);
                self.out.push_back(Effect::Retoken { name, old, new });
            }
            Output::Answer { request, name, answer } => {
                self.out.push_back(Effect::Answer { request, name, answer });
            }
            Output::Monitored { id, result } => self.out.push_back(Effect::Monitored { id, result }),
            Output::Down { id, down } => self.out.push_back(Effect::Down { id, down }),
            Output::Enrol { name, kind, now, left, request } => {
                self.groups.handle_enrol(name, kind.as_ref(), now, left, request);
            }
            Output::Roll(roll) => self.groups.handle_roll(roll),
            Output::OrderKnown => self.out.push_back(Effect::OrderKnown),
            Output::Listed { number, rows, next, complete } => {
                self.out.push_back(Effect::Listed { number, rows, next, complete });
            }
            Output::Counted { number, names, complete } => {
                self.out.push_back(Effect::Counted { number, names, complete });
            }
            Output::Followed { number, events } => self.out.push_back(Effect::Followed { number, events }),
            Output::Event(event) => self.out.push_back(Effect::Event(match event {
                DirectoryEvent::BackupUnresponsive(backup) => Event::BackupUnresponsive(backup),
                DirectoryEvent::Recovering { slots } => Event::Recovering { slots },
                DirectoryEvent::Restarted { name, token, reason } => Event::Restarted { name, token, reason },
                DirectoryEvent::Quarantined(name) => Event::Quarantined(name),
                DirectoryEvent::Suspected(name) => Event::Suspected(name),
                DirectoryEvent::CopyUnlike { slots } => Event::CopyUnlike { slots },
                DirectoryEvent::Conflict { name, winner, loser } => Event::Conflict { name, winner, loser },
                DirectoryEvent::Moved { name, from, to } => Event::Moved { name, from, to },
                DirectoryEvent::MoveCalledOff { name, why } => Event::MoveCalledOff { name, why },
                DirectoryEvent::PolicyUnknown { name, policy } => Event::PolicyUnknown { name, policy },
                DirectoryEvent::Refused { peer, why } => Event::Refused { peer, why },
            })),
        }
    }

    fn send(&mut self, to: Incarnation, body: Body) {
        let view = self.view.as_ref().map(|view| view.id);
        self.out.push_back(Effect::Send { to, message: Control { view, body } });
    }
}
