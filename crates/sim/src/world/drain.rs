//! Nodes that drain and then leave: what an operator does before an update.

use whimbrel_core::base::Rng;
use whimbrel_core::node::{Drained, Input};

use super::World;
use super::queue::Event;
use crate::history::{Drain, MILLI, Micros, SECOND};

/// How long a node may drain, most often.
pub(crate) const WITHIN: Micros = 30 * SECOND;
/// Between two nodes of a rolling restart: most are back by then.
const ROLL_GAP: Micros = 6 * SECOND;

/// A generator of its own: drains draw nothing that others would have drawn.
pub(super) fn drain_rng(seed: u64) -> Rng {
    Rng::new(seed ^ 0x0064_7261_696e)
}

impl World {
    /// One node drains, unless several do already.
    pub(super) fn drain_one(&mut self) -> bool {
        let hosts: Vec<u16> = self.up_hosts().into_iter().filter(|host| self.may_drain(*host)).collect();
        if hosts.is_empty() || !self.spares_copies() {
            return false;
        }
        let host = hosts[self.drain_rng.below(hosts.len() as u64) as usize];
        let hasty = self.drain_rng.below(6) == 0;
        let within = if hasty { SECOND + self.drain_rng.below(2 * SECOND) } else { WITHIN };
        self.begin_drain(host, within, true);
        self.flush(host);
        true
    }

    /// At most a third of the nodes at a time, or one.
    fn may_drain(&self, host: u16) -> bool {
        let machine = &self.machines[usize::from(host)];
        let goes = |machine: &&super::shell::Machine| machine.drains || machine.leaving || !machine.is_up();
        let going = self.machines[..self.plan.nodes].iter().filter(goes).count();
        let is_idle = machine.is_up() && !machine.drains && !machine.leaving;
        is_idle && machine.frozen_until.is_none() && going < (self.plan.nodes / 3).max(1)
    }

    /// All nodes drain, leave and come back, one after the other.
    pub(super) fn roll_all(&mut self) -> bool {
        for (at, host) in (0u64..).zip(self.up_hosts()) {
            self.queue.at(self.now + at * ROLL_GAP, Event::Drain { host });
        }
        true
    }

    /// The turn of one node in a rolling restart.
    pub(super) fn on_drain(&mut self, host: u16) {
        if self.now < self.plan.work_until && self.may_drain(host) && self.spares_copies() {
            self.begin_drain(host, WITHIN, true);
            self.flush(host);
        }
    }

    /// A node drains, and leaves when that is over.
    pub(crate) fn begin_drain(&mut self, host: u16, within: Micros, leaves: bool) {
        if !self.machines[usize::from(host)].is_up() {
            return;
        }
        let machine = &mut self.machines[usize::from(host)];
        (machine.drains, machine.leaves_drained) = (true, leaves);
        let at = self.now;
        self.history.drains.push(Drain { host, at, within, over: None, stayed: Vec::new() });
        self.input(host, Input::Drain { within: std::time::Duration::from_micros(within) });
    }

    /// A drain is over.
    pub(super) fn drained(&mut self, host: u16, drained: &Drained) {
        let now = self.now;
        self.stats.mark("drained");
        self.stats.mark_n("drain_moved", drained.moved as u64);
        self.stats.mark_n("drain_stayed", drained.stayed_count as u64);
        let stayed: Vec<_> = drained.stayed.iter().map(|it| (self.name_id(&it.name), it.why)).collect();
        let mut drains = self.history.drains.iter_mut().rev();
        let Some(drain) = drains.find(|drain| drain.host == host && drain.over.is_none()) else {
            return self.history.oddities.push(format!("n{} was drained and nobody asked", host + 1));
        };
        drain.over = Some(now);
        drain.stayed = stayed;
        if self.machines[usize::from(host)].leaves_drained {
            let wait = 1 + self.drain_rng.below(100 * MILLI);
            self.queue.at(now + wait, Event::LeaveDrained(self.home(host)));
        }
    }

    /// A node that was drained leaves.
    pub(super) fn on_leave_drained(&mut self, host: u16) {
        if !self.machines[usize::from(host)].leaving {
            self.stats.mark("left_drained");
            self.leave(host);
        }
    }
}
