//! Who is in the cluster: birth, views, lines.
//!
//! Decides: when this node founds or joins a line, which view it installs, when it authors one, when it leaves its
//! line for another. Promises: a member installs only descendants of what it has; an incarnation that left a line
//! never comes back to it; no two nodes wait for each other for ever, since every state here has a timeout.
//! Assumes: sessions deliver in order between two incarnations; time only moves on.
//!
//! ```text
//!            all tried, nobody has a line, smallest or waited long enough
//!   Seeking ───────────────────────── founds ─────────────────────────────┐
//!      │  └── a linked peer has a line: Join, then Install ───────────────┤
//!      │                                                                  v
//!      └──────── changes lines: expelled, or the other line stays ──── Member
//! ```
//!
//! A crash of the author in the middle of an install is repaired by the next author, who first asks what the
//! others have; a skipped view is fetched; a split makes two lines, and their meeting ends one of them
//! (`docs/protocol.md` section 3).

mod author;
mod detector;
mod dial;
mod drain;
mod lines;
mod message;
mod packet;
mod pairs;
mod seek;

pub use message::{LineInfo, Message};
pub use pairs::Silent;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::base::limits::{ADDRESSES_MAX, CHAIN_VIEWS_MAX, MEMBERS_MAX, STRANGERS_MAX, Usage};
use crate::base::{Address, Incarnation, Mutants, Now, Rng, Time};
use crate::view::{Chain, MemberInfo, View, ViewId};
use author::Authoring;
use detector::Detector;
use dial::Dial;
use lines::{Meeting, oldest_that_fit};
use pairs::Pairs;
use seek::Seeking;

/// Between two tries of everything that is repeated until it is answered.
const REPEAT: Duration = Duration::from_millis(200);

/// What membership needs to know of the configuration.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Whether there is anybody to be found.
    pub discovery: bool,
    /// How long a seeker waits before it founds alone.
    pub found_alone_after: Duration,
    /// D.
    pub detection: Duration,
    /// The planted bug, if any.
    pub mutants: Mutants,
}

/// What membership wants done. In order.
#[derive(Debug)]
pub enum Output {
    /// Send this to that node.
    Send(Incarnation, Message),
    /// Try this address.
    Connect(Address),
    /// A view excludes this node.
    EndSession(Incarnation),
    /// This member said goodbye: it goes in order, and is not lost.
    SaidBye(Incarnation),
    /// Ask the authority for this view.
    Propose(Arc<View>),
    /// This view is now the current one of the chain.
    Installed(Arc<View>),
    /// The line is left: nothing of it may be served any more. A new incarnation follows.
    LineLeft,
    /// The node goes on under this incarnation.
    Reincarnate(Incarnation),
    /// Something worth telling.
    Event(MembershipEvent),
}

/// What membership tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MembershipEvent {
    /// This node founded a line.
    Founded,
    /// This node leaves its line for another.
    LineChanged,
    /// A view of its line left this node out.
    Expelled,
    /// A peer said what it has no right to say, or what can not be; nothing was done.
    Refused {
        /// The peer.
        peer: Incarnation,
        /// Which rule it broke.
        why: &'static str,
    },
    /// A living node bears this node's name in the line that it wants to join.
    NameTaken(Incarnation),
    /// There is no link with this member of the view, and has not been for D.
    Unlinked(Incarnation),
    /// There is one again.
    Linked(Incarnation),
}

/// A node that we have a session with.
#[derive(Debug)]
struct Peer {
    info: MemberInfo,
    /// What it said of its line; `None` before it has greeted.
    line: Option<Option<LineInfo>>,
    /// When it was last told what follows on its view.
    told_at: Option<Time>,
}

enum Stage {
    Seeking(Seeking),
    Member(Box<Line>),
}

/// The line this node is a member of.
struct Line {
    chain: Chain,
    authoring: Authoring,
    meeting: Meeting,
}

/// Membership of one node.
pub struct Membership {
    me: MemberInfo,
    settings: Settings,
    rng: Rng,
    peers: BTreeMap<Incarnation, Peer>,
    detector: Detector,
    dial: Dial,
    pairs: Pairs,
    stage: Stage,
    /// Whether the directory knows of any record; told by the node.
    has_records: bool,
    /// The highest counter seen in any line this node was in.
    counter_floor: u64,
    /// It has said goodbye: it decides nothing any more.
    leaving: bool,
    /// When the author is told again that this node drains.
    drain_at: Option<Time>,
    /// Nothing runs here and nothing is kept to be offered; told by the node.
    idle: bool,
    /// When this node was expelled, for the penalty.
    expelled_at: VecDeque<Time>,
    out: VecDeque<Output>,
}

impl Membership {
    /// A node that has just started.
    pub fn new(mut me: MemberInfo, settings: Settings, mut rng: Rng, now: Now) -> Self {
        me.incarnation = Incarnation::after(None, now, &mut rng);
        let detector = Detector::new(me.incarnation, settings.detection, rng.fork());
        let mut out = VecDeque::new();
        out.push_back(Output::Reincarnate(me.incarnation));
        let mut dial = Dial::default();
        if !settings.discovery {
            // Nothing is found by it, and that is known.
            dial.discovery_answered(now.time);
        }
        let seeking = Seeking::new(now.time, settings.found_alone_after, Duration::ZERO);
        Self {
            me,
            settings,
            rng,
            peers: BTreeMap::new(),
            detector,
            dial,
            pairs: Pairs::default(),
            stage: Stage::Seeking(seeking),
            has_records: false,
            counter_floor: 0,
            leaving: false,
            drain_at: None,
            idle: true,
            expelled_at: VecDeque::new(),
            out,
        }
    }

    /// This node as others see it.
    pub fn me(&self) -> &MemberInfo {
        &self.me
    }

    /// The views of the line this node is in.
    pub fn chain(&self) -> Option<&Chain> {
        match &self.stage {
            Stage::Member(line) => Some(&line.chain),
            Stage::Seeking(_) => None,
        }
    }

    /// The installed view.
    pub fn view(&self) -> Option<&Arc<View>> {
        self.chain().map(Chain::current)
    }

    /// Whether there is a session with this node.
    pub fn has_session(&self, peer: Incarnation) -> bool {
        self.peers.contains_key(&peer)
    }

    /// Tells whether the directory knows of any record: lines with records stay.
    pub fn set_has_records(&mut self, has_records: bool) {
        self.has_records = has_records;
    }

    /// How full its tables are.
    pub fn usage(&self) -> Vec<Usage> {
        let mut rows = vec![Usage::new("addresses", self.dial.len(), ADDRESSES_MAX)];
        if let Stage::Member(line) = &self.stage {
            let members = line.chain.current().members.len();
            rows.extend([
                Usage::new("members", members, MEMBERS_MAX),
                Usage::new("joiners", line.authoring.joiners(), MEMBERS_MAX),
                Usage::new("strangers", line.meeting.strangers(), STRANGERS_MAX),
                Usage::new("views", line.chain.newest_first().count(), CHAIN_VIEWS_MAX),
            ]);
        }
        rows
    }

    /// What is to be done next.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    /// Addresses that discovery has found.
    pub fn handle_discovered(&mut self, addresses: Vec<Address>, now: Now) {
        self.take_found(addresses, now);
        self.dial.discovery_answered(now.time);
        self.step(now);
    }

    /// Addresses that a part of discovery has found, before all of it has answered.
    pub fn handle_discovered_in_part(&mut self, addresses: Vec<Address>, now: Now) {
        self.take_found(addresses, now);
        self.step(now);
    }

    fn take_found(&mut self, addresses: Vec<Address>, now: Now) {
        self.dial.discovered(addresses, now.time);
        // Some have found this node before their addresses were found here.
        for peer in self.peers.values() {
            self.dial.connected(&peer.info.address, true, now.time);
        }
    }

    /// A try of an address gave no session.
    pub fn handle_connect_failed(&mut self, address: &Address, now: Now) {
        self.dial.failed(address, now.time);
        self.step(now);
    }

    /// A session is up.
    pub fn handle_session_up(&mut self, info: MemberInfo, now: Now) {
        let peer = info.incarnation;
        self.dial.connected(&info.address, true, now.time);
        self.declare_earlier_lives_dead(&info, now);
        self.detector.heard(peer, now.time);
        self.peers.insert(peer, Peer { info, line: None, told_at: None });
        self.send(peer, Message::Greet(self.line_info()));
        self.send_install_to(peer);
        self.step(now);
    }

    /// A session is over. `gone` is proof that the process at its other end is.
    pub fn handle_session_down(&mut self, peer: Incarnation, gone: bool, now: Now) {
        if let Some(peer) = self.peers.remove(&peer) {
            self.dial.connected(&peer.info.address, false, now.time);
        }
        if gone {
            self.detector.declare_dead(peer, now.time);
        }
        self.step(now);
    }

    /// Something other than a membership message arrived from this node.
    pub fn handle_heard(&mut self, peer: Incarnation, now: Now) {
        self.detector.heard(peer, now.time);
    }

    /// A peer says something in this view. One that an earlier view of this line contained and the present one does
    /// not may never have heard of its expulsion, since it is told only once: it is told again.
    pub fn handle_seen_view(&mut self, from: Incarnation, view: ViewId, now: Now) {
        let Stage::Member(line) = &self.stage else { return };
        let current = line.chain.current();
        if view == current.id || current.contains(from) || self.leaving {
            return;
        }
        let Some(peer) = self.peers.get_mut(&from) else { return };
        if peer.told_at.is_some_and(|at| now.time.since(at) < REPEAT) {
            return;
        }
        let Some(after) = line.chain.after(view) else { return };
        peer.told_at = Some(now.time);
        let (views, more) = oldest_that_fit(&after);
        self.send(from, Message::Chain { connected: true, views, more });
    }

    /// This node was away for long: what it suspects is worth nothing.
    pub fn handle_away(&mut self, now: Now) {
        let Stage::Member(line) = &mut self.stage else { return };
        line.authoring.was_away();
        let others = others(line.chain.current(), self.me.incarnation);
        self.detector = Detector::new(self.me.incarnation, self.settings.detection, self.rng.fork());
        self.detector.watch(&others, now.time);
    }

    /// Time has passed.
    pub fn handle_wake(&mut self, now: Now) {
        self.step(now);
    }

    /// The authority has decided.
    pub fn handle_decided(&mut self, view: &Arc<View>, now: Now) {
        let Stage::Member(line) = &mut self.stage else { return };
        line.authoring.decided();
        if view.parent == Some(line.chain.current().id) {
            self.install(view, now);
        }
        self.step(now);
    }

    /// This node leaves for good.
    pub fn handle_leave(&mut self) {
        self.leaving = true;
        let peers: Vec<Incarnation> = self.peers.keys().copied().collect();
        for peer in peers {
            self.send(peer, Message::Bye);
        }
    }

    /// A message of a peer.
    pub fn handle_message(&mut self, from: Incarnation, message: Message, now: Now) {
        if !self.peers.contains_key(&from) || self.leaving {
            return;
        }
        self.detector.heard(from, now.time);
        let is_member = self.view().is_some_and(|view| view.contains(from));
        if !is_member && self.view().is_some() && !message.is_for_visitors() {
            return;
        }
        match message {
            Message::Probe(packet) => self.detector.on_packet(from, &packet, now.time),
            Message::Greet(line) => self.on_greet(from, line, now),
            Message::Join { member, counter_floor } => self.on_join(from, member, counter_floor, now),
            Message::Install(view) => self.on_install(from, view, now),
            Message::Installed(view) => self.on_installed(from, view),
            Message::Diverged(view) => self.on_diverged(from, view),
            Message::ViewAsk => self.send(from, Message::Greet(self.line_info())),
            Message::ChainAsk(after) => self.on_chain_ask(from, after),
            Message::Chain { connected, views, more } => self.on_chain(from, connected, views, more, now),
            Message::MergeAsk { mine } => self.on_merge_ask(from, mine, now),
            Message::MergeAnswer { come } => self.on_merge_answer(from, come, now),
            Message::Bye => self.on_bye(from, now),
            Message::LeftOut => self.on_left_out(from, now),
            Message::NameTaken(bearer) => self.on_name_taken(bearer, now),
            Message::Outlived(earlier) => self.on_outlived(earlier, now),
            Message::Unlinked(silent) => self.on_unlinked(from, silent, now),
            Message::Drain => self.on_drain(from),
        }
        self.step(now);
    }

    /// Says that a message of this peer was not looked at.
    fn refuse(&mut self, peer: Incarnation, why: &'static str) {
        self.out.push_back(Output::Event(MembershipEvent::Refused { peer, why }));
    }

    /// When `handle_wake` is due.
    pub fn next_deadline(&self) -> Option<Time> {
        if self.leaving {
            return None;
        }
        let stage = match &self.stage {
            Stage::Seeking(seeking) => Some(seeking.next_deadline()),
            Stage::Member(line) => {
                let parts = [
                    line.authoring.next_deadline(),
                    line.meeting.next_deadline(),
                    self.pairs.next_deadline(),
                ];
                parts.into_iter().flatten().min()
            }
        };
        let dial = self.dial.next_deadline(&self.me.address);
        [stage, dial, self.detector.next_deadline(), self.drain_at].into_iter().flatten().min()
    }

    /// Whether this member is dead as far as this node knows.
    pub fn is_dead(&self, incarnation: Incarnation) -> bool {
        self.detector.is_dead(incarnation)
    }

    /// Does all that is due. Called after every input, so that no order of inputs can skip a decision.
    fn step(&mut self, now: Now) {
        if self.leaving {
            return;
        }
        self.detector.tick(now.time);
        self.say_drain(now);
        match &self.stage {
            Stage::Seeking(_) => self.seek(now),
            Stage::Member(_) => {
                self.look_at_pairs(now);
                self.author(now);
                self.meet(now);
            }
        }
        for member in self.detector.take_doubts() {
            self.send(member, Message::ViewAsk);
        }
        for (to, packet) in self.detector.take_packets() {
            self.send(to, Message::Probe(packet));
        }
        for address in self.dial.due(&self.me.address, now.time) {
            self.out.push_back(Output::Connect(address));
        }
    }

    fn send(&mut self, to: Incarnation, message: Message) {
        if self.peers.contains_key(&to) {
            self.out.push_back(Output::Send(to, message));
        }
    }

    fn line_info(&self) -> Option<LineInfo> {
        let view = self.view()?;
        // Of the line, not of this member: one that has just come in has no copy yet, and by its own word it would leave
        // at once for any line that has one, and come back, and leave.
        let says_so = |peer: &Peer| peer.line.flatten().is_some_and(|line| line.has_records);
        let told = || self.peers.iter().any(|(peer, said)| view.contains(*peer) && says_so(said));
        Some(LineInfo {
            view: view.id,
            members: u32::try_from(view.members.len()).unwrap_or(u32::MAX),
            has_records: self.has_records || told(),
        })
    }

    /// The member that bears this name under another incarnation.
    fn bearer(&self, info: &MemberInfo) -> Option<Incarnation> {
        let other = |m: &&MemberInfo| m.name == info.name && m.incarnation != info.incarnation;
        self.view()?.members.iter().find(other).map(|m| m.incarnation)
    }

    /// Whether this member certainly lives: it is this node, or was heard within D on a session that is up.
    fn is_alive(&self, member: Incarnation, now: Now) -> bool {
        // Whoever lives was asked before that, and has answered.
        let silence = self.settings.detection;
        member == self.me.incarnation
            || (self.peers.contains_key(&member)
                && !self.detector.is_dead(member)
                && self.detector.silent(silence, now.time).all(|(silent, _)| silent != member))
    }

    /// A new incarnation of a node is "the old one died, a new one joined", unless the old one certainly lives: then two
    /// nodes have one name, and the one that is a member keeps it.
    fn declare_earlier_lives_dead(&mut self, info: &MemberInfo, now: Now) {
        let Some(view) = self.view() else { return };
        let earlier: Vec<Incarnation> = view
            .members
            .iter()
            .filter(|m| m.name == info.name && m.incarnation < info.incarnation)
            .map(|m| m.incarnation)
            .filter(|earlier| !self.peers.contains_key(earlier))
            .collect();
        for incarnation in earlier {
            if !self.is_alive(incarnation, now) {
                self.detector.declare_dead(incarnation, now.time);
            }
        }
    }

    /// Makes `view` the current one. It contains this node; its place in the chain was checked, or it is the
    /// first of a new line.
    fn install(&mut self, view: &Arc<View>, now: Now) {
        let known = match &mut self.stage {
            Stage::Member(line) => {
                let before = Arc::clone(line.chain.current());
                if !line.chain.push(Arc::clone(view)) {
                    return;
                }
                line.authoring.view_changed(view, self.me.incarnation, now.time);
                Some(before)
            }
            Stage::Seeking(_) => {
                self.enter(Chain::new(Arc::clone(view)), now);
                None
            }
        };
        self.after_install(view, known.as_deref(), now);
    }

    /// Becomes a member of the line that ends in this chain.
    fn enter(&mut self, chain: Chain, now: Now) {
        let mut authoring = Authoring::default();
        authoring.view_changed(chain.current(), self.me.incarnation, now.time);
        self.stage = Stage::Member(Box::new(Line { chain, authoring, meeting: Meeting::default() }));
    }

    fn after_install(&mut self, view: &Arc<View>, before: Option<&View>, now: Now) {
        self.counter_floor = self.counter_floor.max(view.id.counter);
        let me = self.me.incarnation;
        self.detector.watch(&others(view, me), now.time);
        self.pairs.view_changed(view);
        let living: Vec<MemberInfo> = self.peers.values().map(|peer| peer.info.clone()).collect();
        for info in living {
            self.declare_earlier_lives_dead(&info, now);
        }
        for member in &view.members {
            if !self.peers.contains_key(&member.incarnation) {
                self.dial.want(&member.address, now.time);
            }
        }
        self.out.push_back(Output::Installed(Arc::clone(view)));
        self.tell_installed(view, before);
        for excluded in before.into_iter().flat_map(View::incarnations).filter(|old| !view.contains(*old)) {
            if let Some(peer) = self.peers.remove(&excluded) {
                self.dial.connected(&peer.info.address, false, now.time);
            }
            self.out.push_back(Output::EndSession(excluded));
        }
    }

    /// Acknowledges to the author, passes the view on to those who shared the one before, greets outsiders.
    fn tell_installed(&mut self, view: &Arc<View>, before: Option<&View>) {
        let me = self.me.incarnation;
        let greeting = Message::Greet(self.line_info());
        let peers: Vec<Incarnation> = self.peers.keys().copied().collect();
        for peer in peers {
            if !view.contains(peer) {
                let excluded = before.is_some_and(|before| before.contains(peer));
                let message = if excluded { Message::Install((**view).clone()) } else { greeting.clone() };
                self.send(peer, message);
            } else if view.id.author == me.nonce || before.is_some_and(|before| before.contains(peer)) {
                self.send(peer, Message::Install((**view).clone()));
            }
        }
        if view.id.author != me.nonce {
            self.acknowledge(view.id);
        }
    }

    fn acknowledge(&mut self, view: ViewId) {
        let author = self
            .view()
            .and_then(|current| current.incarnations().find(|incarnation| incarnation.nonce == view.author));
        if let Some(author) = author {
            self.send(author, Message::Installed(view));
        }
    }
}

fn others(view: &View, me: Incarnation) -> BTreeSet<Incarnation> {
    view.incarnations().filter(|incarnation| *incarnation != me).collect()
}
