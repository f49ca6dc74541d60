//! Simulated processes: `init` and handlers that take time, fail and panic, as a host's shell runs them.

use std::collections::BTreeMap;

use whimbrel_core::base::hash::mix;
use whimbrel_core::base::{ErrorCode, Executed, ExitReason, Incarnation, Name, Token};
use whimbrel_core::delivery::{Inbox, MailboxLimits};
use whimbrel_core::directory::{Launch, Record};
use whimbrel_core::node::Input;

use super::World;
use super::exchange::Message;
use super::queue::Event;
use crate::history::{End, Handled, Life, Micros, SECOND};

/// What a process is doing.
#[derive(Debug)]
pub(super) enum Doing {
    Init,
    Waiting,
    Handling(Message),
    /// Sealed, on its way to another node.
    AtRest,
    /// Told to end; says so when its time has come.
    Ending,
}

/// A process of this node.
#[derive(Debug)]
pub(super) struct Instance {
    pub(super) life: u32,
    pub(super) token: Token,
    pub(super) doing: Doing,
    /// Told to end as soon as the handler returns.
    pub(super) terminate: Option<ExitReason>,
    /// The attempt to move it, and where to.
    pub(super) moves: Option<(Token, Incarnation)>,
    /// What it watches: its monitors, and which ones they are of the run.
    pub(super) monitors: BTreeMap<u64, u32>,
    /// When it published a snapshot.
    pub(super) published: Option<Micros>,
    /// `init` fails in the end.
    fails: bool,
}

impl Instance {
    fn new(life: u32, token: Token, doing: Doing, fails: bool) -> Self {
        Self {
            life,
            token,
            doing,
            terminate: None,
            moves: None,
            monitors: BTreeMap::new(),
            published: None,
            fails,
        }
    }

    /// One that came from another node.
    pub(super) fn arrived(life: u32, token: Token) -> Self {
        Self::new(life, token, Doing::Waiting, false)
    }
}

/// What a life gives as the reason of its failure. User code may say what only the cluster should: that is no excuse.
fn own_reason(life: u32) -> ExitReason {
    match life % 5 {
        0 => ExitReason::NodeLost,
        1 => ExitReason::ConflictLost,
        2 => ExitReason::Killed,
        3 => ExitReason::Error("planned".into()),
        _ => ExitReason::Panic("planned".into()),
    }
}

impl World {
    /// Runs `init` of a new life.
    pub(super) fn launch(&mut self, host: u16, record: &Record, launch: Launch) {
        if launch == Launch::Arrived {
            return self.run_arrival(host, record);
        }
        let name = self.name_id(&record.name);
        let life = self.history.lives.len() as u32;
        let in_place = matches!(launch, Launch::InPlace { .. });
        self.history.lives.push(Life { in_place, ..Life::begun(name, record, host, self.now) });
        self.tell(host, 9, record.token.as_u64(), || format!("launch {} {:?}", record.name, record.token));
        self.prepare_inbox(host, name, record, launch);
        let fails = self.init_fails(name);
        let instance = Instance::new(life, record.token, Doing::Init, fails);
        if let Some(entry) = self.entry(host, name) {
            entry.instance = Some(instance);
        }
        if self.joins_first(host, name, life) {
            return;
        }
        let takes = 1 + self.process_rng.below(self.plan.init_max.max(1));
        self.return_after(takes, name, Event::InitDone(self.home(host), life));
    }

    fn init_fails(&mut self, name: u32) -> bool {
        if let Some(left) = self.init_failures.get_mut(&name)
            && *left > 0
        {
            *left -= 1;
            return true;
        }
        self.process_rng.below(1000) < self.plan.init_fail_permille
    }

    fn prepare_inbox(&mut self, host: u16, name: u32, record: &Record, launch: Launch) {
        let mutants = self.plan.mutants;
        let limit = self.plan.mailbox_max;
        let Some(entry) = self.entry(host, name) else { return };
        if entry.instance.is_some() {
            self.history
                .oddities
                .push(format!("{} is launched beside a life that has not ended", record.name));
        }
        let Some(entry) = self.entry(host, name) else { return };
        if let Launch::InPlace { previous } = launch
            && let Some(inbox) = entry.port.inbox_mut()
        {
            if inbox.token() != previous {
                let have = inbox.token();
                let text = format!("{} follows {previous:?} in place, but {have:?} is here", record.name);
                self.history.oddities.push(text);
            }
            let Some(entry) = self.entry(host, name) else { return };
            if let Some(inbox) = entry.port.inbox_mut() {
                inbox.restart(record.token);
            }
            self.stats.mark("restart_in_place");
            return;
        }
        if matches!(launch, Launch::InPlace { .. }) {
            self.stats.mark("restart_in_place_without_mailbox");
            self.tell(host, 18, record.token.as_u64(), || format!("no mailbox for {}", record.name));
        }
        let mut inbox = Inbox::new(record.gate, MailboxLimits::of_messages(limit), mutants);
        if record.token != record.gate {
            inbox.restart(record.token);
        }
        self.with_port(host, name, |port, here, out| port.install(here, inbox, out));
    }

    /// Takes the inbox away and answers what was in it.
    fn drop_inbox(&mut self, host: u16, name: u32, code: ErrorCode) {
        let inbox = self.with_port(host, name, |port, here, out| port.uninstall(here, out)).flatten();
        let Some(inbox) = inbox else { return };
        for (message, executed) in inbox.into_messages() {
            self.answer(host, &message, Some((code, executed)));
        }
    }

    pub(super) fn instance(&mut self, host: u16, life: u32) -> Option<&mut Instance> {
        let name = self.history.lives.get(life as usize)?.name;
        let instance = self.shell(host)?.entries.get_mut(&name)?.instance.as_mut()?;
        (instance.life == life).then_some(instance)
    }

    /// `init` returns.
    pub(super) fn on_init_done(&mut self, host: u16, life: u32) {
        let now = self.now;
        if self.history.lives.get(life as usize).is_some_and(|life| self.deadly.contains(&life.name)) {
            return self.node_killed_by(host, life);
        }
        let Some(instance) = self.instance(host, life) else { return };
        let token = instance.token;
        let terminate = instance.terminate.take();
        let failed = instance.fails;
        instance.doing = Doing::Waiting;
        let name = self.history.lives[life as usize].name;
        let Some(text) = self.history.names.get(name as usize).cloned() else { return };
        let told_to_end = terminate.is_some();
        let reason = terminate.or_else(|| failed.then(|| own_reason(life)));
        let Some(reason) = reason else {
            self.history.lives[life as usize].running = Some(now);
            self.input(host, Input::Launched { name: text, token, result: Ok(()) });
            return self.wake_instance(host, name);
        };
        self.stats.mark("init_failed");
        let end = if told_to_end { End::Terminated } else { End::InitFailed };
        self.life_ends(life, end, &reason);
        if let Some(entry) = self.entry(host, name) {
            entry.instance = None;
            if let Some(inbox) = entry.port.inbox_mut() {
                inbox.suspend();
            }
        }
        if told_to_end {
            self.drop_inbox(host, name, ErrorCode::Stopped);
        }
        self.input(host, Input::Launched { name: text, token, result: Err(reason) });
    }

    /// The process aborts its node; whoever watches over the node starts it again.
    fn node_killed_by(&mut self, host: u16, life: u32) {
        if self.instance(host, life).is_some() {
            self.stats.mark("node_killed_by_name");
            self.kill(host, false);
            self.schedule_boot(self.now + SECOND, host);
        }
    }

    /// A process takes the next message, if it waits for one.
    pub(super) fn wake_instance(&mut self, host: u16, name: u32) {
        let waits = |instance: &Instance| {
            matches!(instance.doing, Doing::Waiting)
                && instance.terminate.is_none()
                && instance.moves.is_none()
        };
        let Some(entry) = self.shell(host).and_then(|shell| shell.entries.get_mut(&name)) else { return };
        if !entry.instance.as_ref().is_some_and(waits) {
            return;
        }
        // The process has the message in hand before anything that its taking leads to.
        let popped = self.run_port(host, name, |port, here, out| {
            let message = port.pop(|| here.now);
            port.refill(out);
            message
        });
        let Some((message, out)) = popped else { return };
        if let Some(message) = message {
            self.take_in_hand(host, name, message);
        }
        self.settle_and_keep(host, name, out);
    }

    fn take_in_hand(&mut self, host: u16, name: u32, message: Message) {
        self.stats.events += 1;
        let Some(entry) = self.entry(host, name) else { return };
        let Some(instance) = entry.instance.as_mut() else { return };
        let life = instance.life;
        let op = message.op;
        instance.doing = Doing::Handling(message);
        self.history.handled.push(Handled { op, life, at: self.now });
        let state = &mut self.history.lives[life as usize].state;
        *state = mix(*state ^ u64::from(op));
        self.tell(host, 10, u64::from(op), || format!("life {life} handles {op}"));
        let slow = name < self.plan.odd_names && self.plan.slow_handler_max > 0;
        let most = if slow { self.plan.slow_handler_max } else { self.plan.handler_max };
        self.maybe_publish(host, life);
        let takes = 1 + self.process_rng.below(most.max(1));
        self.return_after(takes, name, Event::HandlerDone(self.home(host), life));
    }

    /// A handler returns, or panics.
    pub(super) fn on_handler_done(&mut self, host: u16, life: u32) {
        let panics = self.process_rng.below(1000) < self.plan.panic_permille;
        let Some(instance) = self.instance(host, life) else { return };
        let Doing::Handling(message) = std::mem::replace(&mut instance.doing, Doing::Waiting) else { return };
        let told_to_end = instance.terminate.is_some();
        if panics && !told_to_end {
            self.stats.fault("panic");
            return self.crash_with(host, life, Some(&message));
        }
        self.answer(host, &message, None);
        let name = self.history.lives[life as usize].name;
        if told_to_end {
            self.finish_termination(host, life);
        } else if message.quit {
            self.stats.mark("normal_exit");
            self.exit(host, life, End::Normal, ExitReason::Normal);
        } else if self.instance(host, life).is_some_and(|instance| instance.moves.is_some()) {
            self.seal(host, name);
        } else {
            self.wake_instance(host, name);
        }
    }

    /// A process panics, whatever it is doing.
    pub(super) fn crash(&mut self, host: u16, life: u32) {
        let Some(instance) = self.instance(host, life) else { return };
        match std::mem::replace(&mut instance.doing, Doing::Waiting) {
            Doing::Handling(message) => self.crash_with(host, life, Some(&message)),
            Doing::Waiting if instance.terminate.is_none() => self.crash_with(host, life, None),
            other => instance.doing = other,
        }
    }

    fn crash_with(&mut self, host: u16, life: u32, in_hand: Option<&Message>) {
        if let Some(message) = in_hand {
            self.answer(host, message, Some((ErrorCode::Crashed, Executed::Unknown)));
        }
        self.exit(host, life, End::Crashed, own_reason(life));
    }

    /// A process ended by itself: gate and mailbox stay, suspended, until the owner has decided.
    fn exit(&mut self, host: u16, life: u32, end: End, reason: ExitReason) {
        let name = self.history.lives[life as usize].name;
        if end == End::Crashed {
            self.publish_last(host, life);
        }
        self.life_ends(life, end, &reason);
        let Some(entry) = self.entry(host, name) else { return };
        let Some(instance) = entry.instance.take() else { return };
        if let Some(inbox) = entry.port.inbox_mut() {
            inbox.suspend();
        }
        self.forget_monitors(host, &instance);
        let Some(text) = self.history.names.get(name as usize).cloned() else { return };
        self.input(host, Input::Exited { name: text, token: instance.token, reason });
    }

    /// A life is over; a life that a node took with it has no last word.
    pub(super) fn life_ends(&mut self, life: u32, end: End, reason: &ExitReason) {
        let life = &mut self.history.lives[life as usize];
        life.ended = Some((self.now, end));
        life.reason = Some(reason.clone());
    }

    /// The core ends a process.
    pub(super) fn terminate(&mut self, host: u16, name: &Name, token: Token, reason: &ExitReason) {
        let name = self.name_id(name);
        let Some(entry) = self.entry(host, name) else { return };
        let Some(instance) = entry.instance.as_mut().filter(|instance| instance.token == token) else {
            return self.stats.mark("terminate_of_nobody");
        };
        let life = instance.life;
        if instance.terminate.replace(reason.clone()).is_some() {
            return;
        }
        if matches!(instance.doing, Doing::AtRest) {
            let text = format!("life {life} is told to end while it is on its way");
            self.history.oddities.push(text);
            return;
        }
        if matches!(instance.doing, Doing::Waiting) {
            instance.doing = Doing::Ending;
            let takes = 1 + self.process_rng.below(self.plan.handler_max.max(1));
            self.queue.at(self.now + takes, Event::Terminated(self.home(host), life));
        }
        self.with_port(host, name, |port, _, out| port.close(ErrorCode::Stopped, out));
    }

    /// A life that was told to end has ended.
    pub(super) fn on_terminated(&mut self, host: u16, life: u32) {
        if self.instance(host, life).is_some_and(|instance| matches!(instance.doing, Doing::Ending)) {
            self.finish_termination(host, life);
        }
    }

    fn finish_termination(&mut self, host: u16, life: u32) {
        let name = self.history.lives[life as usize].name;
        let Some(mut instance) = self.entry(host, name).and_then(|entry| entry.instance.take()) else {
            return;
        };
        let reason = instance.terminate.take().unwrap_or(ExitReason::Shutdown);
        let end = if reason == ExitReason::Shutdown { End::Stopped } else { End::Terminated };
        self.life_ends(life, end, &reason);
        self.forget_monitors(host, &instance);
        self.drop_inbox(host, name, ErrorCode::Stopped);
        let Some(text) = self.history.names.get(name as usize).cloned() else { return };
        self.input(host, Input::Exited { name: text, token: instance.token, reason });
    }

    /// What was kept for a restart in place is not needed.
    pub(super) fn discard(&mut self, host: u16, name: &Name, token: Token, code: ErrorCode) {
        let name = self.name_id(name);
        let Some(entry) = self.entry(host, name) else { return };
        let kept = entry.instance.is_none() && entry.port.inbox().is_some_and(|inbox| inbox.token() == token);
        if kept {
            self.stats.mark("mailbox_discarded");
            self.drop_inbox(host, name, code);
        } else {
            self.stats.mark("discard_of_nothing");
        }
    }

    /// A life goes on under a higher token.
    pub(super) fn retoken(&mut self, host: u16, name: &Name, old: Token, new: Token) {
        let name = self.name_id(name);
        let Some(entry) = self.entry(host, name) else { return };
        if let Some(inbox) = entry.port.inbox_mut().filter(|inbox| inbox.token() == old) {
            inbox.retoken(new);
        }
        let Some(instance) = entry.instance.as_mut().filter(|instance| instance.token == old) else {
            return self.stats.mark("retoken_of_nobody");
        };
        instance.token = new;
        let life = instance.life;
        self.history.lives[life as usize].retokens.push(new);
        self.stats.mark("retoken");
    }

    /// All lives that run on a machine: for faults, and for its end.
    pub(super) fn lives_on(&mut self, host: u16) -> Vec<u32> {
        let Some(shell) = self.shell(host) else { return Vec::new() };
        shell
            .entries
            .values()
            .filter_map(|entry| entry.instance.as_ref())
            .map(|instance| instance.life)
            .collect()
    }
}
