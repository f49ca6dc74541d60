//! Messages between clients and processes: ports, links and pending calls, glued as in the real shell.

use whimbrel_core::base::{ErrorCode, Executed, Incarnation, Time};
use whimbrel_core::delivery::{
    CallId, Ended, Errand, Expires, Here, Lane, Packet, Port, PortOutput, Room, Sent, Signal, Whereabouts,
};
use whimbrel_core::directory::Answer;
use whimbrel_core::wire::{Body, Control};

use super::World;
use super::instance::Instance;
use super::queue::Event;
use crate::history::{MILLI, Micros, NEVER, OpKind, Outcome, SECOND};

/// A pending call outlives its message by this, so that the port's "not executed" comes first.
const CALL_GRACE: Micros = 10 * MILLI;

/// What a client sends to a process.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(crate) op: u32,
    /// The process is to end normally after it.
    pub(crate) quit: bool,
    pub(crate) reply: Option<(Incarnation, CallId)>,
    /// Virtual time after which nobody waits.
    pub(super) until: Micros,
    /// The same on the clock of the node that holds it.
    pub(super) deadline: Option<Time>,
    pub(super) errand: Errand,
}

impl Expires for Message {
    fn deadline(&self) -> Option<Time> {
        self.deadline
    }

    fn bytes(&self) -> usize {
        size_of::<Self>()
    }

    fn errand(&self) -> Errand {
        self.errand
    }

    fn void(&self) -> Self {
        Self { reply: None, deadline: None, errand: Errand::Void, ..self.clone() }
    }
}

/// One frame of a link.
#[derive(Clone, Debug)]
pub(crate) enum Frame {
    Control(Control),
    Message {
        name: u32,
        packet: Packet<Message>,
    },
    Signal {
        name: u32,
        signal: Signal,
    },
    Reply {
        call: CallId,
        op: u32,
        failed: Option<(ErrorCode, Executed)>,
    },
    /// The message of this call is going to be at another node.
    CallMoved {
        call: CallId,
        to: Incarnation,
    },
}

impl Frame {
    fn lane(&self) -> Lane {
        match self {
            Frame::Control(Control { body: Body::Handoff(message), .. }) if message.is_bulk() => Lane::Bulk,
            Frame::Control(_) | Frame::Signal { .. } => Lane::Control,
            Frame::Message { .. } | Frame::Reply { .. } | Frame::CallMoved { .. } => Lane::Messages,
        }
    }
}

/// All that one node knows of one name.
pub(super) struct Entry {
    pub(super) port: Port<Message>,
    pub(super) instance: Option<Instance>,
    wake: Micros,
}

impl World {
    /// The entry of a name on a node, made when it is missing.
    pub(super) fn entry(&mut self, host: u16, name: u32) -> Option<&mut Entry> {
        let mutants = self.plan.mutants;
        let shell = self.shell(host)?;
        Some(shell.entries.entry(name).or_insert_with(|| Entry {
            port: Port::new(mutants),
            instance: None,
            wake: NEVER,
        }))
    }

    /// Runs one input of a port and carries out what it wants.
    pub(super) fn with_port<T>(
        &mut self,
        host: u16,
        name: u32,
        input: impl FnOnce(&mut Port<Message>, &Here<'_>, &mut PortOutput<Message>) -> T,
    ) -> Option<T> {
        let (result, out) = self.run_port(host, name, input)?;
        self.settle_and_keep(host, name, out);
        Some(result)
    }

    /// Runs one input of a port; what it wants is for the caller to carry out.
    pub(super) fn run_port<T>(
        &mut self,
        host: u16,
        name: u32,
        input: impl FnOnce(&mut Port<Message>, &Here<'_>, &mut PortOutput<Message>) -> T,
    ) -> Option<(T, PortOutput<Message>)> {
        self.entry(host, name)?;
        let mut out = self.spare_outputs.pop().unwrap_or_default();
        let now = self.now;
        let machine = &mut self.machines[usize::from(host)];
        let time = machine.time(now);
        let shell = machine.shell.as_deref_mut()?;
        let here = Here { me: shell.info.incarnation, now: time, epochs: &shell.epochs, room: Room::Some };
        let result = input(&mut shell.entries.get_mut(&name)?.port, &here, &mut out);
        Some((result, out))
    }

    /// Carries out what a port wants.
    pub(super) fn settle_and_keep(&mut self, host: u16, name: u32, mut out: PortOutput<Message>) {
        self.settle(host, name, &mut out);
        out.clear();
        self.spare_outputs.push(out);
    }

    fn settle(&mut self, host: u16, name: u32, out: &mut PortOutput<Message>) {
        let mut unsent = Vec::new();
        for (to, packet) in out.transmit.drain(..) {
            if let Err(back) = self.transmit(host, name, to, packet) {
                unsent.push(back);
            }
        }
        for ended in out.ended.drain(..) {
            self.message_ended(host, ended);
        }
        for (to, signal) in out.signals.drain(..) {
            self.mark_signal(signal);
            self.push(host, to, Frame::Signal { name, signal });
        }
        if out.locate {
            self.locate_for_route(host, name);
        }
        if out.wake {
            self.wake_instance(host, name);
        }
        self.schedule_port(host, name);
        self.gauge_port(host, name);
        for (to, epoch, seq) in unsent {
            self.with_port(host, name, |port, here, out| port.on_unsent(here, to, epoch, seq, out));
        }
    }

    fn mark_signal(&mut self, signal: Signal) {
        match signal {
            Signal::Confirm { .. } | Signal::Admitted { .. } => {}
            Signal::Refused { .. } => self.stats.mark("packet_refused"),
            Signal::Missing { .. } => self.stats.mark("packet_missing"),
            Signal::NotHere { .. } => self.stats.mark("packet_not_here"),
            Signal::Moving { .. } => self.stats.mark("packet_while_moving"),
            Signal::Room { .. } => self.stats.mark("mailbox_has_room"),
        }
    }

    /// Hands a packet to the link with its host; gives its number back when there is none or it is full.
    fn transmit(
        &mut self,
        host: u16,
        name: u32,
        to: Incarnation,
        packet: Packet<Message>,
    ) -> Result<(), (Incarnation, u64, u64)> {
        let back = (to, packet.epoch, packet.seq);
        let reply = packet.message.reply;
        if self.network.rng.below(1000) < self.plan.link_full_permille {
            self.stats.mark("packet_not_taken");
            return Err(back);
        }
        if !self.push(host, to, Frame::Message { name, packet }) {
            return Err(back);
        }
        if let (Some((_, call)), Some(shell)) = (reply, self.shell(host)) {
            shell.calls.set_host(call, to);
        }
        Ok(())
    }

    fn schedule_port(&mut self, host: u16, name: u32) {
        let home = self.home(host);
        let machine = &mut self.machines[usize::from(host)];
        let entry = machine.shell.as_deref().and_then(|shell| shell.entries.get(&name));
        let Some(due) = entry.and_then(|entry| entry.port.next_deadline()) else { return };
        let due = machine.virtual_time(due).max(self.now + 1);
        let Some(entry) = machine.shell.as_deref_mut().and_then(|shell| shell.entries.get_mut(&name)) else {
            return;
        };
        if due < entry.wake {
            entry.wake = due;
            self.queue.at(due, Event::Port(home, name));
        }
    }

    /// A port's deadline may have come.
    pub(super) fn on_port_wake(&mut self, host: u16, name: u32) {
        let now = self.now;
        let Some(entry) = self.shell(host).and_then(|shell| shell.entries.get_mut(&name)) else { return };
        if entry.wake > now {
            return;
        }
        entry.wake = NEVER;
        self.with_port(host, name, |port, here, out| port.poll(here, out));
    }

    /// A client's call or cast.
    pub(super) fn send_message(&mut self, host: u16, op: u32, quit: bool) {
        let now = self.now;
        let (kind, name, until) = {
            let op = &self.history.ops[op as usize];
            (op.kind, op.name, op.deadline)
        };
        let is_call = kind == OpKind::Call;
        let machine = &mut self.machines[usize::from(host)];
        let (time, deadline) = (machine.time(now), machine.time(until));
        let Some(shell) = machine.shell.as_deref_mut() else { return };
        let me = shell.me();
        let mut reply = None;
        if is_call {
            let grace = Time::from_micros(deadline.as_micros() + CALL_GRACE);
            let Ok(call) = shell.calls.insert(op, grace) else {
                self.fail(op, ErrorCode::Overloaded, Executed::No);
                return;
            };
            reply = Some((me, call));
            self.schedule_calls(host);
        }
        let deadline = is_call.then_some(deadline);
        let errand = if is_call && self.fails_fast(op) { Errand::FailFast } else { Errand::Deliver };
        let message = Message { op, quit, reply, until, deadline, errand };
        self.stats.events += 1;
        let Some(entry) = self.entry(host, name) else { return };
        let sent = entry.port.send(message, time);
        if !is_call && !matches!(sent, Sent::Refused { .. }) {
            self.complete(op, Outcome::Ok);
        }
        self.on_sent(host, op, name, sent);
        self.schedule_port(host, name);
        self.gauge_port(host, name);
    }

    /// Some clients would rather not wait for a process on its way, until all is well again and answers are owed.
    fn fails_fast(&self, op: u32) -> bool {
        self.plan.move_permille > 0 && self.history.healed == NEVER && op.is_multiple_of(3)
    }

    fn on_sent(&mut self, host: u16, op: u32, name: u32, sent: Sent<Message>) {
        match sent {
            Sent::Queued => self.wake_instance(host, name),
            Sent::Transmit { to, packet } => {
                if let Err((to, epoch, seq)) = self.transmit(host, name, to, packet) {
                    self.with_port(host, name, |port, here, out| port.on_unsent(here, to, epoch, seq, out));
                }
            }
            Sent::Held { locate } => {
                if locate {
                    self.locate_for_route(host, name);
                }
            }
            Sent::Refused { message, code } => {
                self.take_call(host, &message);
                self.fail(op, code, Executed::No);
            }
        }
    }

    fn take_call(&mut self, host: u16, message: &Message) {
        if let (Some((_, call)), Some(shell)) = (message.reply, self.shell(host)) {
            shell.calls.take(call);
        }
    }

    /// A message will not be handled, as far as this node can tell.
    pub(super) fn message_ended(&mut self, host: u16, ended: Ended<Message>) {
        let Ended { message, code, executed } = ended;
        self.answer(host, &message, Some((code, executed)));
    }

    /// Tells the caller of a message how it ended; a cast's bad end goes to the dead letters.
    pub(super) fn answer(&mut self, host: u16, message: &Message, failed: Option<(ErrorCode, Executed)>) {
        let Some((caller, call)) = message.reply else {
            if let Some((code, executed)) = failed {
                self.stats.mark("dead_letter");
                let now = self.now;
                self.tell(host, 5, u64::from(message.op), || format!("dead letter {} {code}", message.op));
                let letter = &mut self.history.ops[message.op as usize].dead_letter;
                letter.get_or_insert((now, code, executed));
            }
            return;
        };
        let Some(shell) = self.shell(host) else { return };
        if shell.lives.contains(&caller) {
            self.on_reply(host, call, message.op, failed);
        } else {
            self.push(host, caller, Frame::Reply { call, op: message.op, failed });
        }
    }

    fn on_reply(&mut self, host: u16, call: CallId, op: u32, failed: Option<(ErrorCode, Executed)>) {
        let Some(waiting) = self.shell(host).and_then(|shell| shell.calls.take(call)) else {
            self.stats.mark("reply_after_outcome");
            return;
        };
        if waiting != op {
            self.history.oddities.push(format!("the reply to operation {op} reached operation {waiting}"));
        }
        match failed {
            None => self.complete(waiting, Outcome::Ok),
            Some((code, executed)) => self.fail(waiting, code, executed),
        }
    }

    fn schedule_calls(&mut self, host: u16) {
        let home = self.home(host);
        let machine = &mut self.machines[usize::from(host)];
        let Some(due) = machine.shell.as_deref_mut().and_then(|shell| shell.calls.next_deadline()) else {
            return;
        };
        let due = machine.virtual_time(due).max(self.now + 1);
        let Some(shell) = machine.shell.as_deref_mut() else { return };
        if due < shell.calls_wake {
            shell.calls_wake = due;
            self.queue.at(due, Event::Calls(home));
        }
    }

    /// The deadline of a pending call may have come.
    pub(super) fn on_calls_wake(&mut self, host: u16) {
        let now = self.now;
        let machine = &mut self.machines[usize::from(host)];
        let time = machine.time(now);
        let Some(shell) = machine.shell.as_deref_mut() else { return };
        if shell.calls_wake > now {
            return;
        }
        shell.calls_wake = NEVER;
        for (_, op) in shell.calls.expire(time) {
            self.fail(op, ErrorCode::Deadline, Executed::Unknown);
        }
        self.schedule_calls(host);
    }

    /// The session with a host is over: its calls end, its routes look for another way.
    pub(super) fn peer_lost(&mut self, host: u16, peer: Incarnation) {
        let Some(shell) = self.shell(host) else { return };
        let in_order = shell.leavers.contains(peer);
        let kept = shell.entries.values().flat_map(|entry| entry.port.not_lost(in_order));
        let calls: Vec<_> = kept.filter_map(|message| message.reply).map(|(_, call)| call).collect();
        calls.into_iter().for_each(|call| shell.calls.leave_host(call, peer));
        let lost = shell.calls.lost(peer);
        let names: Vec<u32> = shell.entries.keys().copied().collect();
        for (_, op) in lost {
            self.fail(op, ErrorCode::NodeLost, Executed::Unknown);
        }
        for name in names {
            self.with_port(host, name, |port, here, out| port.on_host_lost(here, peer, out));
        }
    }

    /// The answer to a route's question.
    pub(super) fn route_located(&mut self, host: u16, name: u32, answer: Answer) {
        match answer {
            Answer::Unlinked => {
                self.stats.mark("no_way");
                self.with_port(host, name, |port, here, out| {
                    port.on_negative(here, ErrorCode::NodeLost, out);
                });
            }
            Answer::Located(at) if self.shell(host).is_some_and(|shell| shell.node.is_unlinked(at.host)) => {
                self.stats.mark("no_way");
                self.with_port(host, name, |port, here, out| {
                    port.on_negative(here, ErrorCode::NodeLost, out);
                });
            }
            Answer::Located(at) => {
                let at = Whereabouts { host: at.host, token: at.token, gate: at.gate };
                self.with_port(host, name, |port, here, out| port.on_located(here, at, out));
            }
            Answer::NotFound => {
                self.with_port(host, name, |port, here, out| {
                    port.on_negative(here, ErrorCode::NotFound, out);
                });
            }
            Answer::Quarantined => {
                self.with_port(host, name, |port, here, out| {
                    port.on_negative(here, ErrorCode::Quarantined, out);
                });
            }
            _ => {
                self.stats.mark("locate_without_answer");
                self.with_port(host, name, |port, here, out| port.on_locate_failed(here, out));
            }
        }
    }

    /// Puts a frame on the link with a peer; false when there is no session or its link is full.
    pub(super) fn push(&mut self, host: u16, to: Incarnation, frame: Frame) -> bool {
        let Some(shell) = self.shell(host) else { return false };
        let Some(session) = shell.sessions.get_mut(&to) else { return false };
        let lane = frame.lane();
        let taken = session.link.push(lane, std::rc::Rc::new(frame)).is_ok();
        let queued = session.link.queued(lane);
        if taken && !shell.dirty.contains(&to) {
            shell.dirty.push(to);
        }
        self.gauge_link(host, lane, queued);
        if !taken {
            self.stats.mark("link_full");
        }
        taken
    }

    /// A frame arrived in order on a session.
    pub(super) fn on_frame(&mut self, host: u16, from: Incarnation, frame: Frame) {
        match frame {
            Frame::Control(message) => {
                self.input(host, whimbrel_core::node::Input::Message { from, message });
            }
            Frame::Message { name, mut packet } => {
                self.stats.events += 1;
                self.tell(host, 6, u64::from(packet.message.op), || format!("<- {from}: {name} {packet:?}"));
                let machine = &self.machines[usize::from(host)];
                packet.message.deadline = packet.message.deadline.map(|_| machine.time(packet.message.until));
                self.with_port(host, name, |port, here, out| port.on_packet(here, from, packet, out));
            }
            Frame::Signal { name, signal } => {
                self.stats.events += 1;
                self.tell(host, 7, u64::from(name), || format!("<- {from}: {name} {signal:?}"));
                self.with_port(host, name, |port, here, out| port.on_signal(here, from, signal, out));
            }
            Frame::Reply { call, op, failed } => {
                self.stats.events += 1;
                self.tell(host, 8, u64::from(op), || format!("<- {from}: reply {op} {failed:?}"));
                self.on_reply(host, call, op, failed);
            }
            Frame::CallMoved { call, to } => {
                self.stats.events += 1;
                self.tell(host, 20, call.as_u64(), || format!("<- {from}: a call goes to {to}"));
                self.on_call_moved(host, call, to);
            }
        }
    }

    /// Forgets entries that have nothing to remember.
    pub(crate) fn forget_idle_entries(&mut self, host: u16) {
        let Some(shell) = self.shell(host) else { return };
        let before = shell.entries.len();
        shell.entries.retain(|_, entry| entry.instance.is_some() || !entry.port.is_idle());
        if shell.entries.len() < before {
            self.stats.mark("idle_entries_forgotten");
        }
    }
}

/// The default deadline of an operation.
pub(super) const OP_DEADLINE: Micros = 5 * SECOND;
