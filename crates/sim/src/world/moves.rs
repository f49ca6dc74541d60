//! Processes that move: captured at one node, made at another, as the shells of both do it.

use std::collections::BTreeMap;

use minicbor::{Decode, Encode};
use whimbrel_core::base::{
    Bytes, Decision, ErrorCode, Executed, ExitReason, Hindrance, Incarnation, Name, Token,
};
use whimbrel_core::delivery::{CallId, Errand, GateTable, Inbox, InboxImage, MailboxLimits};
use whimbrel_core::directory::Record;
use whimbrel_core::handoff::Passage;
use whimbrel_core::node::Input;

use super::World;
use super::exchange::{Frame, Message};
use super::instance::{Doing, Instance};
use super::queue::Event;
use crate::history::{End, Life, MILLI, Micros};

/// What goes with a process.
#[derive(Encode, Decode)]
struct Image {
    #[n(0)]
    table: GateTable,
    #[n(1)]
    unread: Vec<Carried>,
    /// The life that goes.
    #[n(2)]
    life: u32,
    /// What it has handled, summed up.
    #[n(3)]
    state: u64,
    /// What it watches.
    #[n(4)]
    monitors: BTreeMap<u64, u32>,
}

/// A message on its way in a mailbox.
#[derive(Encode, Decode)]
struct Carried {
    #[n(0)]
    op: u32,
    #[n(1)]
    quit: bool,
    #[n(2)]
    reply: Option<(Incarnation, u64)>,
    #[n(3)]
    until: Micros,
    #[n(4)]
    has_deadline: bool,
}

/// A process that was made and is at rest.
pub(super) struct Arrival {
    attempt: Token,
    gate: Token,
    image: Image,
    /// It can not be made.
    fails: bool,
}

impl World {
    /// Brings a process to rest, to move it.
    pub(super) fn capture(&mut self, host: u16, name: &Name, token: Token, attempt: Token, to: Incarnation) {
        let id = self.name_id(name);
        let instance = self.entry(host, id).and_then(|entry| entry.instance.as_mut());
        let found = instance.filter(|instance| instance.token == token && instance.terminate.is_none());
        let Some(instance) = found else {
            self.stats.mark("capture_of_nobody");
            let image = Err(Hindrance::Ended);
            return self.input(host, Input::Captured { name: name.clone(), attempt, image });
        };
        instance.moves = Some((attempt, to));
        let is_at_rest = matches!(instance.doing, Doing::Waiting);
        if !is_at_rest {
            self.maybe_trap_quiescing(host, to, id);
        }
        if is_at_rest {
            self.seal(host, id);
        }
    }

    /// The process has nothing in hand: its gate is sealed, its image made.
    pub(super) fn seal(&mut self, host: u16, name: u32) {
        let Some(text) = self.history.names.get(name as usize).cloned() else { return };
        let stays = self.process_rng.below(1000) < self.plan.unmovable_permille;
        let Some(instance) = self.entry(host, name).and_then(|entry| entry.instance.as_mut()) else { return };
        let Some((attempt, to)) = instance.moves else { return };
        if stays {
            instance.moves = None;
            self.stats.mark("move_stays");
            self.input(host, Input::Captured { name: text, attempt, image: Err(Hindrance::Stays) });
            return self.wake_instance(host, name);
        }
        let life = instance.life;
        instance.doing = Doing::AtRest;
        let now = self.now;
        self.history.lives[life as usize].sealed = Some(now);
        let captured = self.with_port(host, name, |port, _, _| {
            port.seal();
            port.inbox_mut().map(Inbox::image)
        });
        let Some(Ok(image)) = captured.flatten() else {
            let image = Err(Hindrance::Ended);
            return self.input(host, Input::Captured { name: text, attempt, image });
        };
        self.stats.mark("move_captured");
        self.stats.mark_n("move_unread", image.messages.len() as u64);
        let InboxImage { table, messages, .. } = image;
        self.tell_callers(host, &messages, to);
        let unread = messages.iter().map(Message::to_unread).collect();
        let monitors = self.monitors_of(host, life);
        let image = Image { table, unread, life, state: self.history.lives[life as usize].state, monitors };
        let bytes = minicbor::to_vec(&image).unwrap_or_default();
        self.input(host, Input::Captured { name: text, attempt, image: Ok(Bytes::from(bytes)) });
    }

    /// Whoever waits for the outcome of these is told where they are going to be.
    fn tell_callers(&mut self, host: u16, messages: &[Message], to: Incarnation) {
        for (caller, call) in messages.iter().filter_map(|message| message.reply) {
            let Some(shell) = self.shell(host) else { return };
            if shell.lives.contains(&caller) {
                shell.calls.set_host(call, to);
            } else {
                self.push(host, caller, Frame::CallMoved { call, to });
            }
        }
    }

    /// The move is off.
    pub(super) fn release(
        &mut self,
        host: u16,
        name: &Name,
        attempt: Token,
        decision: Decision,
        copied: bool,
    ) {
        let id = self.name_id(name);
        let instance = self.entry(host, id).and_then(|entry| entry.instance.as_mut());
        let moves = |instance: &&mut Instance| instance.moves.is_some_and(|(known, _)| known == attempt);
        let Some(instance) = instance.filter(moves) else { return self.stats.mark("release_of_nobody") };
        instance.moves = None;
        if !matches!(instance.doing, Doing::AtRest) {
            return;
        }
        instance.doing = Doing::Waiting;
        let life = instance.life;
        let now = self.now;
        let life = &mut self.history.lives[life as usize];
        life.rests.extend(life.sealed.take().map(|sealed| (sealed, now)));
        self.stats.mark("move_released");
        let me = self.shell(host).map(|shell| shell.me());
        let image = self.with_port(host, id, |port, _, out| {
            if decision == Decision::Superseded {
                port.disown_unread(out);
            } else if copied {
                port.share_unread();
            }
            let image = port.inbox_mut().map(Inbox::image);
            port.unseal(out);
            image
        });
        if let (Some(Some(Ok(image))), Some(me)) = (image, me) {
            self.tell_callers(host, &image.messages, me);
        }
        self.wake_instance(host, id);
    }

    /// The process runs elsewhere.
    pub(super) fn depart(&mut self, host: u16, name: &Name, attempt: Token) {
        let id = self.name_id(name);
        let now = self.now;
        let moves = |instance: &mut Instance| instance.moves.is_some_and(|(known, _)| known == attempt);
        let Some(entry) = self.entry(host, id) else { return };
        let Some(instance) = entry.instance.take_if(moves) else {
            self.history.oddities.push(format!("{name} departs from n{} where it is not", host + 1));
            return;
        };
        if !matches!(instance.doing, Doing::AtRest) {
            self.history.oddities.push(format!("{name} departs from n{} while it runs", host + 1));
        }
        self.history.lives[instance.life as usize].ended = Some((now, End::Moved));
        self.stats.mark("move_departed");
        self.forget_monitors(host, &instance);
        // What it holds is at the target.
        self.with_port(host, id, |port, here, out| drop(port.uninstall(here, out)));
    }

    /// The process ends, and what it has not read may be handled elsewhere.
    pub(super) fn abandon(&mut self, host: u16, name: &Name, attempt: Token, reason: &ExitReason) {
        let id = self.name_id(name);
        let moves = |instance: &mut Instance| instance.moves.is_some_and(|(known, _)| known == attempt);
        let Some(instance) = self.entry(host, id).and_then(|entry| entry.instance.take_if(moves)) else {
            return self.stats.mark("abandon_of_nobody");
        };
        self.life_ends(instance.life, End::Terminated, reason);
        self.forget_monitors(host, &instance);
        self.stats.mark("move_abandoned");
        let inbox = self.with_port(host, id, |port, here, out| port.uninstall(here, out)).flatten();
        for (message, _) in inbox.into_iter().flat_map(Inbox::into_messages) {
            self.answer(host, &message, Some((ErrorCode::Stopped, Executed::Unknown)));
        }
        let (name, token, reason) = (name.clone(), instance.token, reason.clone());
        self.input(host, Input::Exited { name, token, reason });
    }

    /// Makes a process from its image, at rest.
    pub(super) fn install(&mut self, host: u16, passage: &Passage, image: &Bytes) {
        let name = self.name_id(&passage.name);
        let decoded = minicbor::decode::<Image>(image.as_slice());
        let Ok(image) = decoded else {
            self.history.oddities.push(format!("the image of {} can not be read", passage.name));
            return;
        };
        let fails = self.process_rng.below(1000) < self.plan.unmovable_permille;
        let arrival = Arrival { attempt: passage.attempt, gate: passage.gate, image, fails };
        let Some(shell) = self.shell(host) else { return };
        shell.arrivals.insert(name, arrival);
        let takes = 1 + self.process_rng.below(self.plan.init_max.max(1));
        self.queue.at(self.now + takes, Event::Made(self.home(host), name, passage.attempt));
    }

    /// A process was made.
    pub(super) fn on_made(&mut self, host: u16, name: u32, attempt: Token) {
        let Some(text) = self.history.names.get(name as usize).cloned() else { return };
        let Some(shell) = self.shell(host) else { return };
        let Some(arrival) = shell.arrivals.get(&name).filter(|arrival| arrival.attempt == attempt) else {
            return;
        };
        let result = if arrival.fails { Err(Hindrance::Unreadable) } else { Ok(()) };
        if arrival.fails {
            shell.arrivals.remove(&name);
            self.stats.mark("move_unreadable");
        }
        self.input(host, Input::Installed { name: text, attempt, result });
    }

    /// Nothing comes of a process on its way in.
    pub(super) fn uninstall(&mut self, host: u16, name: &Name, attempt: Token, decision: Decision) {
        let name = self.name_id(name);
        let Some(shell) = self.shell(host) else { return };
        if shell.arrivals.get(&name).is_none_or(|arrival| arrival.attempt != attempt) {
            return;
        }
        let unread = shell.arrivals.remove(&name).map(|arrival| arrival.image.unread).unwrap_or_default();
        self.stats.mark("move_undone");
        if decision == Decision::Superseded {
            self.stats.mark("move_undone_superseded");
            let machine = &self.machines[usize::from(host)];
            let messages = unread.iter().map(|unread| Message::of_unread(unread, machine));
            for message in messages.collect::<Vec<_>>() {
                self.answer(host, &message, Some((ErrorCode::NodeLost, Executed::Unknown)));
            }
        }
    }

    /// The process that was made here runs from now on.
    pub(super) fn run_arrival(&mut self, host: u16, record: &Record) {
        let name = self.name_id(&record.name);
        let arrived = self.shell(host).and_then(|shell| shell.arrivals.remove(&name));
        let Some(arrival) = arrived.filter(|arrival| arrival.attempt == record.token) else {
            let text = format!("{} is to run on n{} and never arrived", record.name, host + 1);
            return self.history.oddities.push(text);
        };
        let Image { table, unread, life: from, state, monitors } = arrival.image;
        let machine = &self.machines[usize::from(host)];
        let messages = unread.into_iter().map(|unread| Message::of_unread(&unread, machine)).collect();
        let image = InboxImage { table, notices: Vec::new(), messages };
        let limits = MailboxLimits::of_messages(self.plan.mailbox_max);
        let inbox = match Inbox::of_image(arrival.gate, record.token, image, limits, self.plan.mutants) {
            Ok(inbox) => inbox,
            Err(why) => return self.history.oddities.push(format!("{}: {why}", record.name)),
        };
        let life = self.history.lives.len() as u32;
        let now = self.now;
        self.history.lives.push(Life {
            moved_from: Some(from),
            running: Some(now),
            state,
            state_at_start: state,
            ..Life::begun(name, record, host, now)
        });
        self.stats.mark("move_arrived");
        self.tell(host, 19, record.token.as_u64(), || format!("{} arrives {:?}", record.name, record.token));
        let instance = Instance::arrived(life, record.token);
        if let Some(entry) = self.entry(host, name) {
            if entry.instance.is_some() {
                let text = format!("{} arrives beside a life that has not ended", record.name);
                self.history.oddities.push(text);
            }
            if let Some(entry) = self.entry(host, name) {
                entry.instance = Some(instance);
            }
        }
        let calls = self.with_port(host, name, |port, here, out| {
            let calls: Vec<_> = port.undecided().filter_map(|message| message.reply).collect();
            port.install(here, inbox, out);
            calls
        });
        if let Some(shell) = self.shell(host) {
            calls.into_iter().flatten().for_each(|(_, call)| shell.calls.come_home(call));
        }
        self.watch_again(host, life, monitors);
        self.wake_instance(host, name);
    }

    /// A call of this node is going to be answered from elsewhere.
    pub(super) fn on_call_moved(&mut self, host: u16, call: CallId, to: Incarnation) {
        if let Some(shell) = self.shell(host) {
            shell.calls.set_host(call, to);
        }
        self.stats.mark("call_moved");
    }

    /// A process is to be moved by hand: some time from now, to any node.
    pub(super) fn draw_move(&mut self, host: u16, client: u32, name: u32) {
        let up = self.up_hosts();
        let to = up[self.work_rng.below(up.len() as u64) as usize];
        let mut want = super::Want::new(crate::history::OpKind::Move { to }, name);
        want.deadline += self.work_rng.below(500) * MILLI;
        self.operate(host, client, want);
    }
}

impl Message {
    fn to_unread(&self) -> Carried {
        let reply = self.reply.map(|(caller, call)| (caller, call.as_u64()));
        Carried {
            op: self.op,
            quit: self.quit,
            reply,
            until: self.until,
            has_deadline: self.deadline.is_some(),
        }
    }

    fn of_unread(unread: &Carried, machine: &super::shell::Machine) -> Self {
        let reply = unread.reply.map(|(caller, call)| (caller, CallId::from_u64(call)));
        let deadline = unread.has_deadline.then(|| machine.time(unread.until));
        let errand = Errand::Deliver;
        Self { op: unread.op, quit: unread.quit, reply, until: unread.until, deadline, errand }
    }
}
