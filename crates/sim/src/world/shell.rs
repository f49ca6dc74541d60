//! The shell of one simulated node: what the real shell does between a `Node` and the world.
//!
//! It feeds the node its inputs, carries out its effects in order, and keeps what they rest on: sessions, entries
//! of names, pending calls. A kill drops the whole value.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use whimbrel_core::base::{Address, ExitReason, Hindrance, Incarnation, Now, Time};
use whimbrel_core::delivery::{Calls, Epochs, Leavers};
use whimbrel_core::directory::{Answer, Ask, Filter};
use whimbrel_core::node::{Config, Effect, Event as NodeEvent, Input, Node};
use whimbrel_core::view::{MemberInfo, View};
use whimbrel_core::wire::Control;

use super::World;
use super::exchange::{Entry, Frame};
use super::gauge::CALLS_MAX;
use super::moves::Arrival;
use super::queue::{Event, Home};
use super::readings::Readings;
use super::session::{Dial, Session};
use crate::history::{Installed, MILLI, Micros, NEVER, SECOND};

/// How long a locate of a route may take before it is asked anew.
const LOCATE_DEADLINE: Micros = 2 * SECOND;
/// Wall clock at the start of a run: in 2025.
const WALL_START_MS: u64 = 1_750_000_000_000;
/// One of so many control messages is encoded and decoded on its way.
const ROUND_TRIP: u64 = 64;

/// Who waits for the answer to a request.
#[derive(Clone, Copy, Debug)]
pub(super) enum Asker {
    Op(u32),
    Route(u32),
}

/// A node and all that belongs to its process.
pub(super) struct Shell {
    pub(super) node: Node,
    pub(super) info: MemberInfo,
    /// All incarnations of this process; the last is the present one.
    pub(super) lives: Vec<Incarnation>,
    pub(super) epochs: Epochs,
    pub(super) entries: BTreeMap<u32, Entry>,
    /// Processes that were made from an image and are at rest, by name.
    pub(super) arrivals: BTreeMap<u32, Arrival>,
    pub(super) calls: Calls<u32>,
    pub(super) leavers: Leavers,
    pub(super) calls_wake: Micros,
    pub(super) sessions: BTreeMap<Incarnation, Session>,
    /// Sessions given up by this process, by peer: names the session of a pair.
    pub(super) resets: BTreeMap<Incarnation, u32>,
    /// The same as the peers told it, the highest so far.
    pub(super) seen_resets: BTreeMap<Incarnation, u32>,
    pub(super) dials: BTreeMap<u32, Dial>,
    /// Peers for whose link something was queued since the last flush.
    pub(super) dirty: Vec<Incarnation>,
    pub(super) requests: BTreeMap<u64, Asker>,
    pub(super) next_request: u64,
    pub(super) readings: Readings,
    /// Monitors of code and of processes of this node, and which ones they are of the run.
    pub(super) monitors: BTreeMap<u64, u32>,
    /// Streams of this node.
    pub(super) streams: BTreeMap<u64, u32>,
    node_wake: Micros,
    pub(super) view: Option<Arc<View>>,
    /// Inputs that came up while effects were carried out.
    inputs: VecDeque<Input>,
    busy: bool,
}

impl Shell {
    pub(super) fn me(&self) -> Incarnation {
        self.info.incarnation
    }
}

/// One machine, which outlives its nodes.
pub(super) struct Machine {
    pub(super) address: Address,
    pub(super) config: Config,
    pub(super) generation: u32,
    /// False after a power-off: nothing answers, nothing refuses.
    pub(super) powered: bool,
    pub(super) shell: Option<Box<Shell>>,
    /// Difference of this node's clock to virtual time.
    pub(super) offset: Micros,
    /// How far a scenario has set its wall clock back.
    pub(super) wall_back_ms: u64,
    /// Difference of its wall clock to that of the run.
    pub(super) wall_skew_ms: i64,
    /// The highest start time of an incarnation of this machine.
    pub(super) started_max_ms: u64,
    /// How much faster or slower its clock runs, in millionths.
    pub(super) clock_ppm: i64,
    pub(super) frozen_until: Option<Micros>,
    /// Its port refuses although its node lives: the disturbance that this is.
    pub(super) deaf: Option<usize>,
    /// Events that wait for the thaw.
    pub(super) parked: Vec<Event>,
    /// A boot is scheduled.
    pub(super) boot_due: bool,
    /// Says good-bye: no client starts anything here.
    pub(super) leaving: bool,
    /// Takes nothing new any more, since it was told to drain.
    pub(super) drains: bool,
    /// It leaves when that is over.
    pub(super) leaves_drained: bool,
    pub(super) expelled: Vec<Micros>,
}

impl Machine {
    pub(super) fn is_up(&self) -> bool {
        self.shell.is_some()
    }

    pub(super) fn now(&self, now: Micros) -> Now {
        let wall_ms =
            (WALL_START_MS + now / MILLI).saturating_add_signed(self.wall_skew_ms) - self.wall_back_ms;
        Now { time: self.time(now), wall_ms }
    }

    /// What its clock says.
    pub(super) fn time(&self, now: Micros) -> Time {
        let drift = now as i64 * self.clock_ppm / 1_000_000;
        Time::from_micros((now + self.offset).saturating_add_signed(drift))
    }

    /// When its clock will say so.
    pub(super) fn virtual_time(&self, time: Time) -> Micros {
        let passed = time.as_micros().saturating_sub(self.offset);
        let rate = 1_000_000 + self.clock_ppm;
        let mut at = (u128::from(passed) * 1_000_000 / rate.unsigned_abs() as u128) as Micros;
        while self.time(at) < time {
            at += 1;
        }
        at
    }

    /// A node that starts reads a wall clock that was set meanwhile, if it was behind an earlier start: no node
    /// knows of an earlier life of its own that was younger (`docs/guarantees.md`).
    fn set_wall_clock(&mut self, now: Micros) {
        let behind = (self.started_max_ms + 1).saturating_sub(self.now(now).wall_ms);
        self.wall_skew_ms += behind as i64;
    }
}

impl World {
    pub(super) fn home(&self, host: u16) -> Home {
        Home { host, generation: self.machines[usize::from(host)].generation }
    }

    pub(super) fn shell(&mut self, host: u16) -> Option<&mut Shell> {
        self.machines[usize::from(host)].shell.as_deref_mut()
    }

    /// Starts a node on a machine.
    pub(super) fn boot(&mut self, host: u16) {
        let seed = self.rng.next_u64();
        let offset = self.rng.below(1000 * SECOND);
        let now = self.now;
        let machine = &mut self.machines[usize::from(host)];
        machine.boot_due = false;
        if machine.is_up() {
            return;
        }
        machine.generation += 1;
        machine.leaving = false;
        machine.drains = false;
        machine.offset = offset;
        machine.set_wall_clock(now);
        machine.expelled.clear();
        machine.config.seed = seed;
        let config = machine.config.clone();
        let info = MemberInfo {
            name: config.name.clone(),
            incarnation: Incarnation { started_ms: 0, nonce: 0 },
            address: config.address.clone(),
            weight: config.weight,
            kinds: config.kinds.clone(),
            draining: false,
            labels: config.labels.clone(),
        };
        let node = Node::new(config, machine.now(now));
        machine.shell = Some(Box::new(Shell {
            node,
            info,
            lives: Vec::new(),
            epochs: Epochs::new(),
            entries: BTreeMap::new(),
            arrivals: BTreeMap::new(),
            calls: Calls::new(0, CALLS_MAX, seed, self.plan.mutants),
            leavers: Leavers::default(),
            calls_wake: NEVER,
            sessions: BTreeMap::new(),
            resets: BTreeMap::new(),
            seen_resets: BTreeMap::new(),
            dials: BTreeMap::new(),
            dirty: Vec::new(),
            requests: BTreeMap::new(),
            next_request: 0,
            readings: Readings::default(),
            monitors: BTreeMap::new(),
            streams: BTreeMap::new(),
            node_wake: NEVER,
            view: None,
            inputs: VecDeque::new(),
            busy: false,
        }));
        self.history.boots.push((host, now));
        self.tell(host, 1, 0, || "boot".into());
        self.powered_again(host);
        if let Some(shell) = self.shell(host) {
            shell.busy = true;
        }
        self.drain(host);
        if let Some(shell) = self.shell(host) {
            shell.busy = false;
        }
        self.begin_to_find(host);
        self.begin_to_follow(host);
    }

    /// Gives a node one input and carries out what it wants. An input that comes up while effects are carried out
    /// waits until they are.
    pub(super) fn input(&mut self, host: u16, input: Input) {
        let Some(shell) = self.shell(host) else { return };
        shell.inputs.push_back(input);
        if std::mem::replace(&mut shell.busy, true) {
            return;
        }
        while let Some(input) = self.shell(host).and_then(|shell| shell.inputs.pop_front()) {
            self.handle(host, input);
        }
        if let Some(shell) = self.shell(host) {
            shell.busy = false;
        }
        self.schedule_node(host);
    }

    fn handle(&mut self, host: u16, input: Input) {
        let now = self.now;
        self.tell(host, 2, tag_of(&input), || format!("<- {input:?}"));
        let machine = &mut self.machines[usize::from(host)];
        let at = machine.now(now);
        let Some(shell) = machine.shell.as_deref_mut() else { return };
        let counts = !matches!(input, Input::Wake | Input::Heard(_));
        shell.node.handle(at, input);
        let effects = self.drain(host);
        if counts || effects > 0 {
            self.stats.events += 1;
        }
        self.gauge_node(host);
    }

    /// Carries out all effects; returns how many there were.
    fn drain(&mut self, host: u16) -> usize {
        let mut count = 0;
        while let Some(effect) = self.shell(host).and_then(|shell| shell.node.poll_effect()) {
            count += 1;
            self.effect(host, effect);
        }
        count
    }

    fn schedule_node(&mut self, host: u16) {
        let home = self.home(host);
        let machine = &mut self.machines[usize::from(host)];
        let Some(shell) = machine.shell.as_deref() else { return };
        let Some(due) = shell.node.next_deadline() else { return };
        let due = machine.virtual_time(due).max(self.now + 1);
        let Some(shell) = machine.shell.as_deref_mut() else { return };
        if due < shell.node_wake {
            shell.node_wake = due;
            self.queue.at(due, Event::Node(home));
        }
    }

    /// A node's deadline may have come.
    pub(super) fn on_node_wake(&mut self, host: u16) {
        let now = self.now;
        let machine = &mut self.machines[usize::from(host)];
        let time = machine.time(now);
        let Some(shell) = machine.shell.as_deref_mut() else { return };
        if shell.node_wake > now {
            return;
        }
        shell.node_wake = NEVER;
        if shell.node.next_deadline().is_some_and(|due| due <= time) {
            self.input(host, Input::Wake);
        } else {
            self.schedule_node(host);
        }
    }

    fn effect(&mut self, host: u16, effect: Effect) {
        if !matches!(effect, Effect::Send { .. }) {
            self.tell(host, 3, 0, || format!("-> {effect:?}"));
        }
        match effect {
            Effect::Reincarnate(incarnation) => self.reincarnate(host, incarnation),
            Effect::Connect(address) => self.connect(host, &address),
            Effect::Send { to, message } => self.send_control(host, to, message),
            Effect::EndSession(peer) => self.end_session(host, peer),
            Effect::Unlinked(peer) => self.peer_lost(host, peer),
            Effect::ProposeView(view) => {
                let now = self.now;
                let machine = &mut self.machines[usize::from(host)];
                let at = machine.now(now);
                if let Some(shell) = machine.shell.as_deref_mut() {
                    shell.node.handle(at, Input::ViewDecided(view));
                }
            }
            Effect::ViewInstalled(view) => self.on_view(host, &view),
            Effect::Launch { record, launch } => self.launch(host, &record, launch),
            Effect::Terminate { name, token, reason } => self.terminate(host, &name, token, &reason),
            Effect::Capture { name, token, attempt, to } => self.capture(host, &name, token, attempt, to),
            Effect::Release { name, attempt, decision, copied } => {
                self.release(host, &name, attempt, decision, copied);
            }
            Effect::Depart { name, attempt, .. } => self.depart(host, &name, attempt),
            Effect::Abandon { name, attempt, reason } => self.abandon(host, &name, attempt, &reason),
            Effect::Install { passage, image } => self.install(host, &passage, &image),
            Effect::Uninstall { name, attempt, decision } => self.uninstall(host, &name, attempt, decision),
            Effect::Discard { name, token, code } => self.discard(host, &name, token, code),
            Effect::Retoken { name, old, new } => self.retoken(host, &name, old, new),
            Effect::Answer { request, answer, .. } => self.on_answer(host, request.number, answer),
            Effect::Listed { number, complete, .. } => self.on_listed(host, number, complete),
            Effect::Drained(drained) => self.drained(host, &drained),
            Effect::Group { number, reading } => self.on_group(host, number, reading),
            Effect::Groups { number, reading } => self.on_groups(host, number, &reading),
            Effect::Followed { number, events } => self.on_followed(host, number, events),
            Effect::Monitored { id, result } => self.on_monitored(host, id, result),
            Effect::Down { id, down } => self.on_down(host, id, &down),
            // Its process ends a little later.
            Effect::OrderKnown => self.stats.mark("order_known"),
            // Nobody counts or follows here.
            Effect::Counted { .. } | Effect::Left => {}
            Effect::Event(event) => self.on_event(host, event),
        }
    }

    fn send_control(&mut self, host: u16, to: Incarnation, message: Control) {
        self.round_trip = self.round_trip.wrapping_add(1);
        let message =
            if self.round_trip.is_multiple_of(ROUND_TRIP) { self.round_trip(message) } else { message };
        self.tell(host, 4, to.nonce, || format!("-> {to}: {message:?}"));
        self.maybe_trap(host, to, &message);
        self.push(host, to, Frame::Control(message));
    }

    /// Encodes and decodes a message: what arrives must be what was sent.
    fn round_trip(&mut self, message: Control) -> Control {
        match Control::from_bytes(&message.to_bytes()) {
            Ok(decoded) if decoded == message => decoded,
            Ok(decoded) => {
                self.history.oddities.push(format!("the wire changed {message:?} into {decoded:?}"));
                message
            }
            Err(error) => {
                self.history.oddities.push(format!("the wire can not read {message:?}: {error}"));
                message
            }
        }
    }

    fn reincarnate(&mut self, host: u16, incarnation: Incarnation) {
        self.history.incarnations.push((host, incarnation, self.now));
        let machine = &mut self.machines[usize::from(host)];
        machine.started_max_ms = machine.started_max_ms.max(incarnation.started_ms);
        let first = match self.shell(host) {
            Some(shell) => {
                shell.info.incarnation = incarnation;
                shell.lives.push(incarnation);
                shell.view = None;
                shell.lives.len() == 1
            }
            None => return,
        };
        if first {
            return;
        }
        self.history.line_changes.push((host, self.now));
        self.stats.mark("reincarnated");
        self.drop_all_sessions(host);
        let names: Vec<u32> =
            self.shell(host).map(|s| s.entries.keys().copied().collect()).unwrap_or_default();
        for name in names {
            self.with_port(host, name, |port, here, out| port.on_reincarnated(here, out));
        }
    }

    fn on_view(&mut self, host: u16, view: &Arc<View>) {
        let now = self.now;
        self.history.installed.push(Installed { host, at: now, view: view.clone() });
        self.note_owners(host, view);
        let Some(shell) = self.shell(host) else { return };
        shell.view = Some(view.clone());
        shell.leavers.on_view(view);
        let names: Vec<u32> = shell.entries.keys().copied().collect();
        for name in names {
            self.with_port(host, name, |port, here, out| port.on_view(here, view, out));
        }
    }

    /// Whom the nodes take for the owner of each slot: all must say the same of one view.
    fn note_owners(&mut self, host: u16, view: &View) {
        let Some(shell) = self.shell(host) else { return };
        if shell.node.view().is_none_or(|installed| installed.id != view.id) {
            return;
        }
        let owners: Vec<_> = shell.node.owners().collect();
        if self.history.owners.get(&view.id).is_some_and(|known| *known != owners) {
            let text = format!("n{} has other owners in view {:?} than others have", host + 1, view.id);
            self.history.oddities.push(text);
        }
        self.history.owners.entry(view.id).or_insert(owners);
    }

    fn on_event(&mut self, host: u16, event: NodeEvent) {
        let now = self.now;
        match event {
            NodeEvent::MemberUp(..) => self.stats.mark("member_up"),
            NodeEvent::MemberDown(..) => self.stats.mark("member_down"),
            NodeEvent::Founded => self.founded(host),
            NodeEvent::LineChanged => {
                self.stats.mark("line_changed");
                self.maybe_trap_judged(host);
            }
            NodeEvent::Expelled => {
                self.stats.mark("expelled");
                self.machines[usize::from(host)].expelled.push(now);
                self.history.expulsions.push((host, now));
            }
            NodeEvent::NameTaken(_) => {
                self.stats.mark("name_taken");
                self.history.name_taken.push(host);
            }
            NodeEvent::Unlinked(..) => self.stats.mark("unlinked"),
            NodeEvent::Linked(..) => self.stats.mark("linked"),
            NodeEvent::BackupUnresponsive(_) => self.stats.mark("backup_unresponsive"),
            NodeEvent::CopyUnlike { slots } => self.on_copy_unlike(host, slots),
            NodeEvent::Recovering { .. } => self.stats.mark("recovering"),
            NodeEvent::Restarted { reason, .. } => match reason {
                ExitReason::NodeLost => self.stats.mark("restarted_after_node_loss"),
                _ => self.stats.mark("restarted_after_crash"),
            },
            NodeEvent::Quarantined(name) => {
                self.stats.mark("quarantined");
                let name = self.name_id(&name);
                self.history.quarantined.push((name, now));
            }
            NodeEvent::Suspected(name) => {
                self.stats.mark("suspected");
                let name = self.name_id(&name);
                self.history.suspected.push((name, now));
            }
            NodeEvent::Moved { .. } => self.stats.mark("move_committed"),
            NodeEvent::MoveCalledOff { why, .. } => self.stats.mark(called_off(why)),
            NodeEvent::Draining { .. } => self.stats.mark("drain_waits"),
            NodeEvent::Conflict { .. } => self.stats.mark("conflict"),
            NodeEvent::PolicyUnknown { .. } => self.stats.mark("policy_unknown"),
            NodeEvent::Refused { .. } => self.stats.mark("message_refused"),
        }
    }

    /// Copies differ only where a scenario has taken a row.
    fn on_copy_unlike(&mut self, host: u16, slots: usize) {
        self.stats.mark("copy_unlike");
        if self.rows_lost == 0 {
            let text = format!("n{}: {slots} copies differed from their owners'", host + 1);
            self.history.oddities.push(text);
        }
    }

    /// Takes the row of a name from a node's copy, as a bug would.
    pub(crate) fn lose_row(&mut self, host: u16, name: u32) {
        let Some(text) = self.history.names.get(name as usize).cloned() else { return };
        if self.shell(host).is_some_and(|shell| shell.node.lose_row(&text)) {
            self.rows_lost += 1;
            self.stats.mark("row_lost");
        }
    }

    /// Asks the node something about a name; the answer comes back to `asker`.
    pub(super) fn request(&mut self, host: u16, name: u32, ask: Ask, deadline: Micros, asker: Asker) {
        let Some(text) = self.history.names.get(name as usize).cloned() else { return };
        let Some(shell) = self.shell(host) else { return };
        shell.next_request += 1;
        let number = shell.next_request;
        shell.requests.insert(number, asker);
        let id = whimbrel_core::base::RequestId { caller: shell.me(), number };
        if let Asker::Op(op) = asker {
            self.history.ops[op as usize].request = Some(id);
        }
        let deadline = std::time::Duration::from_micros(deadline);
        self.input(host, Input::Request { number, name: text, ask, deadline });
    }

    /// Asks the node for all records.
    pub(super) fn list(&mut self, host: u16, op: u32, deadline: Micros) {
        let Some(shell) = self.shell(host) else { return };
        shell.next_request += 1;
        let number = shell.next_request;
        shell.requests.insert(number, Asker::Op(op));
        let deadline = std::time::Duration::from_micros(deadline);
        self.input(host, Input::List { number, filter: Filter::default(), deadline });
    }

    /// A route wants to know where its name is.
    pub(super) fn locate_for_route(&mut self, host: u16, name: u32) {
        self.request(host, name, Ask::Locate, LOCATE_DEADLINE, Asker::Route(name));
    }

    fn on_answer(&mut self, host: u16, number: u64, answer: Answer) {
        match self.shell(host).and_then(|shell| shell.requests.remove(&number)) {
            Some(Asker::Op(op)) => self.complete_with(op, answer),
            Some(Asker::Route(name)) => self.route_located(host, name, answer),
            None => self.stats.mark("answer_to_nobody"),
        }
    }
}

/// The mark of a move that was called off.
const fn called_off(why: Hindrance) -> &'static str {
    match why {
        Hindrance::Busy => "move_off_busy",
        Hindrance::Leaving => "move_off_leaving",
        Hindrance::Stays => "move_off_stays",
        Hindrance::Slow => "move_off_slow",
        Hindrance::Unreadable => "move_off_unreadable",
        Hindrance::Lost => "move_off_lost",
        Hindrance::Ended => "move_off_ended",
        Hindrance::Unfit => "move_off_unfit",
        Hindrance::UnknownKind
        | Hindrance::AtCapacity
        | Hindrance::TooLarge
        | Hindrance::Unencodable
        | Hindrance::NoHost => "move_off_otherwise",
    }
}

/// A small number for the trace hash.
fn tag_of(input: &Input) -> u64 {
    match input {
        Input::Wake => 1,
        Input::Discovered(_) | Input::DiscoveredInPart(_) => 2,
        Input::SessionUp(_) => 3,
        Input::SessionDown { .. } => 4,
        Input::ConnectFailed(_) => 5,
        Input::Message { from, .. } => 6 ^ from.nonce,
        Input::Heard(_) => 7,
        Input::ViewDecided(_) => 8,
        Input::Request { number, .. } => 9 ^ (number << 8),
        Input::List { .. } => 10,
        Input::Group { number, .. } => 27 ^ (number << 8),
        Input::Groups { number, .. } => 28 ^ (number << 8),
        Input::Count { number, .. } => 40 ^ (number << 8),
        Input::Follow { number, .. } => 41 ^ (number << 8),
        Input::Read { number, .. } => 42 ^ (number << 8),
        Input::Unfollow { number } => 43 ^ (number << 8),
        Input::Launched { token, .. } => 11 ^ (token.as_u64() << 8),
        Input::Exited { token, .. } => 12 ^ (token.as_u64() << 8),
        Input::Snapshot { token, .. } => 24 ^ (token.as_u64() << 8),
        Input::Monitor { id, .. } => 25 ^ (id << 8),
        Input::Demonitor { ids } => 26 ^ ((ids.len() as u64) << 8),
        Input::Leave => 13,
        Input::Rebalance { paused } => 17 + u64::from(*paused),
        Input::Drain { .. } => 16,
        Input::Captured { attempt, .. } => 14 ^ (attempt.as_u64() << 8),
        Input::Installed { attempt, .. } => 15 ^ (attempt.as_u64() << 8),
    }
}
