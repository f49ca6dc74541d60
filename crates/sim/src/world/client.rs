//! Clients: what they ask, and how each operation ends.

use whimbrel_core::base::{Bytes, ErrorCode, Executed, Name};
use whimbrel_core::directory::{Answer, Ask, Placement, RestartPolicy};

use whimbrel_core::view::Labels;

use super::World;
use super::exchange::OP_DEADLINE;
use super::groups::{group_of, made_by};
use super::queue::Event;
use super::shell::Asker;
use crate::history::{MILLI, Micros, Op, OpKind, Outcome, SECOND};
use crate::plan::Storm;

/// The kind of all simulated processes.
pub(super) const KIND: &str = "counter";

/// One operation to be done now.
#[derive(Clone, Debug)]
pub(crate) struct Want {
    pub(crate) kind: OpKind,
    pub(crate) name: u32,
    pub(crate) placement: Placement,
    pub(crate) deadline: Micros,
    pub(crate) quit: bool,
}

impl Want {
    /// With the default deadline, placed by hash.
    pub(crate) fn new(kind: OpKind, name: u32) -> Self {
        Self { kind, name, placement: Placement::Hash, deadline: OP_DEADLINE, quit: false }
    }
}

/// How a name of the workload is restarted: fixed per name, so that checkers can tell.
fn policy_of(name: u32) -> RestartPolicy {
    match name % 10 {
        3 => RestartPolicy::Transient,
        7 => RestartPolicy::Temporary,
        _ => RestartPolicy::Permanent,
    }
}

impl World {
    /// The index of a name, which is added when it is new.
    pub(crate) fn name_id(&mut self, name: &Name) -> u32 {
        if let Some(id) = self.name_ids.get(name) {
            return *id;
        }
        let id = self.history.names.len() as u32;
        self.history.names.push(name.clone());
        self.name_ids.insert(name.clone(), id);
        id
    }

    /// Does one operation from a machine; none when its node is down.
    pub(crate) fn operate(&mut self, host: u16, client: u32, want: Want) -> Option<u32> {
        if !self.machines[usize::from(host)].is_up() {
            return None;
        }
        let op = self.history.ops.len() as u32;
        let client = u32::from(host) * 64 + client;
        let number = self.numbers.entry((client, want.name)).or_insert(0);
        if matches!(want.kind, OpKind::Call | OpKind::Cast) {
            *number += 1;
        }
        let number = *number;
        self.history.ops.push(Op {
            kind: want.kind,
            client,
            host,
            name: want.name,
            number,
            invoked: self.now,
            deadline: self.now + want.deadline,
            request: None,
            completed: None,
            second_outcome: false,
            dead_letter: None,
        });
        if want.placement != Placement::Hash {
            self.history.placed.insert(want.name);
        }
        if let Placement::Labels(wanted) = &want.placement {
            self.history.wants.insert(want.name, Labels::clone(wanted));
        }
        self.tell(host, 11, u64::from(op), || format!("operation {op}: {want:?}"));
        self.begin(host, op, want);
        self.flush(host);
        Some(op)
    }

    fn begin(&mut self, host: u16, op: u32, want: Want) {
        let ask = match want.kind {
            OpKind::Call | OpKind::Cast => return self.send_message(host, op, want.quit),
            OpKind::List => return self.list(host, op, want.deadline),
            OpKind::Start(policy) => Ask::Start {
                kind: self.kind.clone(),
                args: Bytes::default(),
                policy,
                placement: want.placement,
            },
            OpKind::Locate => Ask::Locate,
            OpKind::Stop => Ask::Stop,
            OpKind::Release => Ask::Release,
            OpKind::Move { to } => Ask::Move { to: Some(self.machines[usize::from(to)].config.name.clone()) },
            OpKind::Join { group } => Ask::Join { group: group_of(group), meta: made_by(op) },
            OpKind::Leave { group } => Ask::Leave { group: group_of(group) },
            OpKind::SetMeta { expected } => Ask::SetMeta { map: made_by(op), expected },
            OpKind::Inspect => Ask::Inspect,
        };
        self.request(host, want.name, ask, want.deadline, Asker::Op(op));
    }

    /// Ends an operation; a second end is noted.
    pub(super) fn complete(&mut self, op: u32, outcome: Outcome) {
        let now = self.now;
        let host = self.history.ops[op as usize].host;
        self.tell(host, 12, u64::from(op), || format!("operation {op} ends: {outcome:?}"));
        let started = matches!(outcome, Outcome::Started { .. });
        let done = outcome == Outcome::Ok;
        let at = op;
        let op = &mut self.history.ops[op as usize];
        if op.completed.is_some() {
            op.second_outcome = true;
        } else {
            op.completed = Some((now, outcome));
        }
        let (name, kind) = (op.name, op.kind);
        if started {
            self.maybe_ambush(host, name);
        }
        if let OpKind::Join { group } = kind {
            self.join_is_over(host, at, name, group, done);
        }
    }

    pub(super) fn fail(&mut self, op: u32, code: ErrorCode, executed: Executed) {
        self.complete(op, Outcome::Failed { code, executed });
    }

    /// Ends an operation with the owner's answer.
    pub(super) fn complete_with(&mut self, op: u32, answer: Answer) {
        let failed = |code, executed| Outcome::Failed { code, executed };
        let outcome = match answer {
            Answer::Started { located, copies } => Outcome::Started { token: located.token, copies },
            Answer::AlreadyRunning(located) => Outcome::Already { token: located.token },
            Answer::Located(located) => Outcome::Located { token: located.token, host: located.host },
            Answer::InitFailed(_) => failed(ErrorCode::InitFailed, Executed::No),
            Answer::NoHost(_) => failed(ErrorCode::NoHost, Executed::No),
            Answer::AtCapacity => failed(ErrorCode::AtCapacity, Executed::No),
            Answer::NotFound => failed(ErrorCode::NotFound, Executed::No),
            Answer::Done => Outcome::Ok,
            Answer::Meta(meta) => self.meta_told(op, meta.version, true),
            Answer::Conflict(meta) => self.meta_told(op, meta.version, false),
            Answer::Inspected(found) => self.inspected(op, &found),
            // A start may be told this of the very life that it made.
            Answer::Quarantined if matches!(self.history.ops[op as usize].kind, OpKind::Start(_)) => {
                failed(ErrorCode::Quarantined, Executed::Unknown)
            }
            Answer::Quarantined => failed(ErrorCode::Quarantined, Executed::No),
            Answer::Deadline(executed) => failed(ErrorCode::Deadline, executed),
            Answer::Unlinked => failed(ErrorCode::NodeLost, Executed::No),
            Answer::Overloaded => failed(ErrorCode::Overloaded, Executed::No),
            Answer::Hindered(_) => failed(ErrorCode::Moving, Executed::No),
        };
        self.complete(op, outcome);
    }

    pub(super) fn on_listed(&mut self, host: u16, number: u64, complete: bool) {
        if !complete {
            self.stats.mark("listing_incomplete");
        }
        if let Some(Asker::Op(op)) = self.shell(host).and_then(|shell| shell.requests.remove(&number)) {
            self.complete(op, Outcome::Ok);
        }
    }

    /// The next operation of the workload.
    pub(super) fn on_work(&mut self) {
        if self.now >= self.plan.work_until {
            return;
        }
        let span = self.plan.work_until - self.plan.work_from;
        let mean = (span / self.plan.ops.max(1) as u64).max(2);
        let gap = 1 + self.work_rng.below(2 * mean);
        self.queue.at(self.now + gap, Event::Work);
        let hosts = self.working_hosts();
        if hosts.is_empty() {
            return;
        }
        let host = hosts[self.work_rng.below(hosts.len() as u64) as usize];
        let client = self.work_rng.below(self.plan.clients_per_node as u64) as u32;
        let name = self.draw_name();
        if self.work_rng.below(64) == 0 {
            self.forget_idle_entries(host);
        }
        if self.plan.storm == Some(Storm::Overload) && self.work_rng.below(8) != 0 {
            // Mostly one node is the loud one, so that its connections have more to carry than they can.
            let host = if self.work_rng.below(4) == 0 { host } else { hosts[0] };
            return self.flood(host, client);
        }
        if self.plan.order_permille > 0 && self.work_rng.below(1000) < self.plan.order_permille {
            self.stats.mark("rebalance_order");
            let paused = self.work_rng.below(2) == 0;
            self.input(host, whimbrel_core::node::Input::Rebalance { paused });
            return self.flush(host);
        }
        if self.plan.move_permille > 0 && self.work_rng.below(1000) < self.plan.move_permille {
            return self.draw_move(host, client, name);
        }
        if self.bonds_work(host, client, name) {
            return;
        }
        match self.work_rng.below(100) {
            0..4 => self.race(name, &hosts),
            4..18 => self.start_one(host, client, name),
            18..48 => self.message(host, client, name, OpKind::Call),
            48..84 => self.message(host, client, name, OpKind::Cast),
            84..92 => self.simple(host, client, name, OpKind::Locate),
            92..95 => self.simple(host, client, name, OpKind::Stop),
            95..96 => self.simple(host, client, name, OpKind::List),
            96..97 => self.simple(host, client, name, OpKind::Release),
            _ => self.burst(host, client, name),
        }
    }

    fn draw_name(&mut self) -> u32 {
        let names = self.plan.names as u64;
        // Half of the operations are about a quarter of the names.
        let bound = if self.work_rng.below(2) == 0 { names.div_ceil(4) } else { names };
        self.work_rng.below(bound) as u32
    }

    /// Machines whose node is up, not frozen and not about to leave.
    fn working_hosts(&self) -> Vec<u16> {
        let works = |m: &super::shell::Machine| m.is_up() && m.frozen_until.is_none() && !m.leaving;
        (0..self.machines.len() as u16).filter(|host| works(&self.machines[usize::from(*host)])).collect()
    }

    fn simple(&mut self, host: u16, client: u32, name: u32, kind: OpKind) {
        self.operate(host, client, Want::new(kind, name));
    }

    fn start_one(&mut self, host: u16, client: u32, name: u32) {
        let mut want = Want::new(OpKind::Start(policy_of(name)), name);
        let hosts_kinds = !self.machines[usize::from(host)].config.kinds.is_empty();
        if let Some(zone) = self.plan.zone_of_name(name) {
            want.placement = Placement::labels([("zone", zone.as_str())]).unwrap_or_default();
        } else if self.plan.by_load && name.is_multiple_of(2) {
            want.placement = Placement::LeastLoaded;
        } else if name % 5 == 1 && hosts_kinds {
            want.placement = Placement::Local;
        }
        if self.work_rng.below(8) == 0 {
            want.deadline = 50 * MILLI + self.work_rng.below(SECOND);
        }
        self.operate(host, client, want);
    }

    /// Several nodes start the same name at once.
    fn race(&mut self, name: u32, hosts: &[u16]) {
        self.stats.mark("start_race");
        let mut hosts = hosts.to_vec();
        for _ in 0..2 + self.work_rng.below(3) {
            if hosts.is_empty() {
                break;
            }
            let host = hosts.swap_remove(self.work_rng.below(hosts.len() as u64) as usize);
            self.start_one(host, 0, name);
        }
    }

    fn message(&mut self, host: u16, client: u32, name: u32, kind: OpKind) {
        let mut want = Want::new(kind, name);
        if policy_of(name) != RestartPolicy::Permanent || name.is_multiple_of(4) {
            want.quit = self.work_rng.below(60) == 0;
        }
        if self.work_rng.below(8) == 0 {
            want.deadline = 20 * MILLI + self.work_rng.below(SECOND);
        }
        self.operate(host, client, want);
    }

    /// Far more than the process can handle.
    fn flood(&mut self, host: u16, client: u32) {
        let name = self.work_rng.below(u64::from(self.plan.odd_names.max(1))) as u32;
        if self.work_rng.below(16) == 0 {
            return self.start_one(host, client, name);
        }
        for _ in 0..10 + self.work_rng.below(30) {
            let kind = if self.work_rng.below(4) == 0 { OpKind::Call } else { OpKind::Cast };
            self.message(host, client, name, kind);
        }
    }

    fn burst(&mut self, host: u16, client: u32, name: u32) {
        for _ in 0..2 + self.work_rng.below(8) {
            let kind = if self.work_rng.below(4) == 0 { OpKind::Call } else { OpKind::Cast };
            self.message(host, client, name, kind);
        }
    }
}
