//! The end of a run: everything heals, all nodes must agree, every name must answer.

use super::World;
use super::client::Want;
use super::queue::Event;
use crate::history::{FinalNode, MILLI, Micros, NEVER, OpKind, Probe, SECOND};
use crate::plan::Finds;

/// C with the default detection time: 2 D + 2 s.
pub(crate) const CONVERGENCE: Micros = 6 * SECOND;
/// A node expelled often waits at most so long before it joins again.
const PENALTY_MAX: Micros = 64 * SECOND;
/// What a joiner brings from another line is settled so long after its join.
const SETTLE: Micros = 2 * SECOND;
/// Probes of the liveness phase, at most.
const PROBES_MAX: usize = 240;

impl World {
    /// The end of all faults: everything is mended, most of the dead come back.
    pub(super) fn on_heal(&mut self) {
        if self.stats.events < self.plan.events_min {
            let gone = |machine: &&super::shell::Machine| {
                machine.generation > 0 && !machine.is_up() && !machine.boot_due
            };
            let back = self.machines.iter().position(|machine| gone(&machine));
            if let Some(host) = back {
                self.boot(host as u16);
                self.flush(host as u16);
            }
            // The next operation and the next fault are scheduled already, after this moment.
            self.plan.work_until += SECOND;
            return self.queue.at(self.plan.work_until, Event::Heal);
        }
        self.tell(0, 17, 0, || "everything heals".into());
        self.plan.panic_permille = 0;
        self.plan.init_fail_permille = 0;
        self.calm_down();
        for cut in 0..self.cuts.len() as u32 {
            self.mend(cut);
        }
        for host in 0..self.machines.len() as u16 {
            if self.machines[usize::from(host)].frozen_until.is_some() {
                self.thaw(host);
            }
            let machine = &self.machines[usize::from(host)];
            let was_there = machine.generation > 0;
            // Nodes that know of nobody but the first find each other through it.
            let must = host == 0 && self.plan.finds == (Finds::First { alone: true });
            if was_there && !machine.is_up() && !machine.boot_due && (must || self.fault_rng.below(4) != 0) {
                self.boot(host);
                self.flush(host);
            }
        }
        self.stable_since = self.now;
        self.history.healed = self.now;
        self.queue.at(self.now + 100 * MILLI, Event::Watch);
    }

    /// Until when the nodes may take to agree: C, and what often-expelled nodes wait before they join.
    fn converge_by(&self) -> Micros {
        let waits_until = |machine: &super::shell::Machine| {
            let last = machine.expelled.last().copied()?;
            let times = machine.expelled.iter().filter(|at| **at + 60 * SECOND > last).count();
            (times > 1).then_some(last + (SECOND << times.min(16)).min(PENALTY_MAX))
        };
        let joins = self.machines.iter().filter(|machine| machine.is_up()).filter_map(waits_until).max();
        self.stable_since.max(joins.unwrap_or(0)) + CONVERGENCE
    }

    /// Whether all live nodes have installed the view that holds exactly them.
    pub(crate) fn is_converged(&self) -> bool {
        let up: Vec<_> = self.machines.iter().filter_map(|machine| machine.shell.as_deref()).collect();
        let Some(view) = up.first().and_then(|shell| shell.view.as_ref()) else { return up.is_empty() };
        view.members.len() == up.len()
            && up.iter().all(|shell| {
                view.contains(shell.me()) && shell.view.as_ref().is_some_and(|v| v.id == view.id)
            })
    }

    /// Looks whether the nodes have agreed, and begins the probes when their time has come.
    pub(super) fn on_watch(&mut self) {
        // A node that boots or ends now starts the clock again.
        let pending =
            self.machines.iter().any(|machine| machine.boot_due || machine.leaving || machine.drains);
        if pending {
            self.stable_since = self.now;
        }
        let converged = !pending && self.is_converged();
        if converged {
            self.history.converged.get_or_insert(self.now);
        } else {
            self.history.converged = None;
        }
        let over = self.now >= self.converge_by() && !converged;
        // A node that joined late, because it was expelled often, still has to settle what it brought.
        let settled = self.history.converged.map_or(NEVER, |at| at + SETTLE);
        if converged && self.now >= settled.max(self.stable_since + CONVERGENCE) {
            return self.begin_probes();
        }
        if over {
            return self.queue.at(self.now + SECOND, Event::Probe { name: u32::MAX, host: 0 });
        }
        self.queue.at(self.now + 100 * MILLI, Event::Watch);
    }

    fn begin_probes(&mut self) {
        let hosts = self.up_hosts();
        let names = self.history.names.len() as u32;
        let mut at = self.now;
        let mut probes = 0;
        for name in 0..names {
            let Some(first) = self.fault_rng.below(hosts.len().max(1) as u64).checked_add(0) else { break };
            let share = (PROBES_MAX / names.max(1) as usize).clamp(1, hosts.len().max(1));
            for step in 0..share.min(hosts.len()) {
                let host = hosts[(first as usize + step) % hosts.len()];
                at += 5 * MILLI;
                probes += 1;
                self.queue.at(at, Event::Probe { name, host });
            }
        }
        self.stats.mark_n("probe", probes);
        let at = self.schedule_inspections(&hosts, at);
        let at = self.schedule_last_readings(&hosts, at);
        let last = at + super::exchange::OP_DEADLINE + SECOND;
        self.queue.at(last, Event::Probe { name: u32::MAX, host: 0 });
    }

    /// One probe; the one of no name ends the run.
    pub(super) fn on_probe(&mut self, name: u32, host: u16) {
        if name == u32::MAX {
            self.over = true;
            return;
        }
        if let Some(op) = self.operate(host, 63, Want::new(OpKind::Call, name)) {
            self.history.probes.push(Probe { op, name, host });
        }
    }

    /// What the checkers see of the nodes.
    pub(super) fn note_finals(&mut self) {
        for host in 0..self.machines.len() as u16 {
            let machine = &self.machines[usize::from(host)];
            let shell = machine.shell.as_deref();
            self.history.finals.push(FinalNode {
                host,
                incarnation: shell.map(super::shell::Shell::me),
                view: shell.and_then(|shell| shell.view.clone()),
                paused: shell.is_some_and(|shell| shell.node.rebalance_report().paused),
            });
        }
        self.history.ended = self.now;
    }
}
