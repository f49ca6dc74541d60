//! Faults: what befalls machines, connections and processes.

use whimbrel_core::node::Input;
use whimbrel_core::placement::{Replicas, slot_of};

use super::World;
use super::healing::CONVERGENCE;
use super::queue::Event;
use crate::history::{Disturbance, End, Kill, MILLI, Micros, NEVER, SECOND};
use crate::plan::Fault;

/// Directions that are cut together, and mended together.
#[derive(Debug)]
pub(super) struct Cut {
    pub(super) paths: Vec<(u16, u16)>,
    pub(super) disturbance: usize,
    pub(super) open: bool,
}

impl World {
    /// The next fault of the plan.
    pub(super) fn on_fault(&mut self) {
        if self.now >= self.plan.work_until {
            return;
        }
        let gap = 10 * MILLI + self.fault_rng.below(2 * self.plan.fault_gap);
        self.queue.at(self.now + gap, Event::Fault);
        let kinds = self.plan.faults.len() as u64;
        if kinds > 0 {
            let fault = self.plan.faults[self.fault_rng.below(kinds) as usize];
            if self.inject(fault) {
                self.stats.fault(fault.as_str());
            }
        }
    }

    fn inject(&mut self, fault: Fault) -> bool {
        match fault {
            Fault::Kill => self.kill_one(SECOND, 8 * SECOND, false),
            Fault::QuickRestart => self.kill_one(10 * MILLI, 200 * MILLI, false),
            Fault::PowerOff => self.kill_one(SECOND, 8 * SECOND, true),
            Fault::Pause => self.pause_one(),
            Fault::CutPair => self.cut_pair(true),
            Fault::CutOneWay => self.cut_pair(false),
            Fault::Split => self.split(),
            Fault::CutPartial => self.cut_partial(),
            Fault::Reset => self.break_connection(true),
            Fault::HalfOpen => self.break_connection(false),
            Fault::Panic => self.panic_one(),
            Fault::Join => self.join_one(),
            Fault::Leave => self.leave_one(),
            Fault::Drain => self.drain_one(),
            Fault::Roll => self.roll_all(),
            Fault::WallJump => self.wall_jump(),
        }
    }

    pub(super) fn up_hosts(&self) -> Vec<u16> {
        (0..self.machines.len() as u16).filter(|h| self.machines[usize::from(*h)].is_up()).collect()
    }

    pub(super) fn draw_up(&mut self) -> Option<u16> {
        let up = self.up_hosts();
        (!up.is_empty()).then(|| up[self.fault_rng.below(up.len() as u64) as usize])
    }

    /// Kills a node unless too many died lately: losing all copies at once is tried on purpose, but seldom.
    fn kill_one(&mut self, back_min: Micros, back_max: Micros, silent: bool) -> bool {
        let reckless = self.fault_rng.below(12) == 0;
        let up = self.up_hosts().len();
        if up < 2 || (!reckless && (up < 3 || !self.spares_copies())) {
            return false;
        }
        let Some(host) = self.draw_up() else { return false };
        self.kill_for(host, back_min, back_max, silent);
        true
    }

    fn kill_for(&mut self, host: u16, back_min: Micros, back_max: Micros, silent: bool) {
        self.kill(host, silent);
        if self.fault_rng.below(10) != 0 {
            let back = back_min + self.fault_rng.below(back_max - back_min);
            self.machines[usize::from(host)].boot_due = true;
            self.queue.at(self.now + back, Event::Boot { host });
        }
    }

    /// A start was acknowledged: now and then its owner dies in the same moment, when the promise is youngest.
    pub(super) fn maybe_ambush(&mut self, asker: u16, name: u32) {
        if !self.plan.faults.contains(&Fault::Kill) || self.fault_rng.below(12) != 0 {
            return;
        }
        let Some(view) = self.view_of(asker) else { return };
        let Some(text) = self.history.names.get(name as usize) else { return };
        let slot = slot_of(text, self.plan.slots);
        let Some(owner) = Replicas::of(slot, &view, self.plan.replicas).owner() else { return };
        let is_owner = |shell: &super::shell::Shell| shell.me() == owner;
        let at = self.machines.iter().position(|machine| machine.shell.as_deref().is_some_and(is_owner));
        if let Some(host) = at {
            let wait = self.fault_rng.below(self.plan.delay.1);
            self.queue.at(self.now + wait, Event::Ambush(self.home(host as u16)));
        }
    }

    /// An owner dies just after it has answered.
    pub(super) fn on_ambush(&mut self, host: u16) {
        if self.now < self.plan.work_until && self.spares_copies() && self.up_hosts().len() > 2 {
            self.stats.fault("ambush");
            self.kill_for(host, 10 * MILLI, 3 * SECOND, false);
        }
    }

    /// Whether one more death leaves a copy of every slot, as far as can be told from outside.
    pub(super) fn spares_copies(&self) -> bool {
        let recent =
            self.history.kills.iter().filter(|kill| kill.at + CONVERGENCE + SECOND > self.now).count();
        let leaving = self.machines.iter().filter(|machine| machine.leaving).count();
        recent + leaving + 1 < self.plan.replicas.min(self.up_hosts().len())
    }

    /// Ends a node's process; a silent end closes nothing and refuses nothing.
    pub(crate) fn kill(&mut self, host: u16, silent: bool) {
        if !self.machines[usize::from(host)].is_up() {
            return;
        }
        let now = self.now;
        self.tell(host, 13, 0, || "killed".into());
        for life in self.lives_on(host) {
            self.history.lives[life as usize].ended.get_or_insert((now, End::NodeKilled));
        }
        self.history.kills.push(Kill { host, at: now });
        let home = self.home(host);
        let machine = &mut self.machines[usize::from(host)];
        machine.shell = None;
        machine.leaving = false;
        machine.drains = false;
        machine.generation += 1;
        machine.parked.clear();
        self.end_freeze(host);
        self.close_all(home, silent);
        if silent {
            self.machines[usize::from(host)].powered = false;
            for other in 0..self.machines.len() as u16 {
                self.network.cut(host, other);
                self.network.cut(other, host);
            }
        }
    }

    /// A machine that was off is on again.
    pub(super) fn powered_again(&mut self, host: u16) {
        if std::mem::replace(&mut self.machines[usize::from(host)].powered, true) {
            return;
        }
        for other in 0..self.machines.len() as u16 {
            self.network.uncut(host, other);
            self.network.uncut(other, host);
        }
        for other in 0..self.machines.len() as u16 {
            self.network.flow_again(self.now, &mut self.queue, host, other);
            self.network.flow_again(self.now, &mut self.queue, other, host);
        }
    }

    fn pause_one(&mut self) -> bool {
        let Some(host) = self.draw_up() else { return false };
        let time = 100 * MILLI + self.fault_rng.below(3_900 * MILLI);
        self.pause(host, time)
    }

    /// Freezes a node and its processes: what comes for it piles up.
    pub(crate) fn pause(&mut self, host: u16, time: Micros) -> bool {
        let machine = &mut self.machines[usize::from(host)];
        if !machine.is_up() || machine.frozen_until.is_some() {
            return false;
        }
        machine.frozen_until = Some(self.now + time);
        self.tell(host, 14, time, || format!("frozen for {} ms", time / MILLI));
        let until = self.now + time;
        self.history.disturbances.push(Disturbance { from: self.now, until, frozen: Some(host) });
        self.queue.at(until, Event::Thaw { host });
        true
    }

    fn end_freeze(&mut self, host: u16) {
        let now = self.now;
        if self.machines[usize::from(host)].frozen_until.take().is_some() {
            let frozen = |d: &&mut Disturbance| d.frozen == Some(host) && d.until > now;
            if let Some(disturbance) = self.history.disturbances.iter_mut().rev().find(frozen) {
                disturbance.until = now;
            }
        }
    }

    /// A frozen machine goes on with all that came meanwhile.
    pub(super) fn on_thaw(&mut self, host: u16) {
        if self.machines[usize::from(host)].frozen_until.is_none_or(|until| until > self.now) {
            return;
        }
        self.thaw(host);
    }

    pub(crate) fn thaw(&mut self, host: u16) {
        self.end_freeze(host);
        for event in std::mem::take(&mut self.machines[usize::from(host)].parked) {
            self.queue.at(self.now, event);
        }
    }

    fn draw_cut_time(&mut self) -> Micros {
        100 * MILLI + self.fault_rng.below(self.plan.cut_max)
    }

    fn cut_pair(&mut self, both_ways: bool) -> bool {
        let (Some(a), Some(b)) = (self.draw_up(), self.draw_up()) else { return false };
        if a == b {
            return false;
        }
        let mut paths = vec![(a, b)];
        if both_ways {
            paths.push((b, a));
        }
        let time = self.draw_cut_time();
        self.cut_for(paths, time);
        true
    }

    fn split(&mut self) -> bool {
        let side: Vec<bool> = (0..self.machines.len()).map(|_| self.fault_rng.below(2) == 0).collect();
        let hosts = 0..self.machines.len() as u16;
        let pairs = hosts.clone().flat_map(|a| hosts.clone().map(move |b| (a, b)));
        let paths: Vec<_> = pairs.filter(|(a, b)| side[usize::from(*a)] != side[usize::from(*b)]).collect();
        let time = self.draw_cut_time();
        self.cut_for(paths, time);
        true
    }

    /// One node keeps only the path to one other.
    fn cut_partial(&mut self) -> bool {
        let (Some(lonely), Some(friend)) = (self.draw_up(), self.draw_up()) else { return false };
        let others = (0..self.machines.len() as u16).filter(|h| *h != lonely && *h != friend);
        let paths = others.flat_map(|h| [(lonely, h), (h, lonely)]).collect();
        let time = self.draw_cut_time();
        self.cut_for(paths, time);
        true
    }

    fn cut_for(&mut self, paths: Vec<(u16, u16)>, time: Micros) {
        let cut = self.cut(paths);
        self.queue.at(self.now + time, Event::Mend { cut });
    }

    /// Cuts paths until they are mended together.
    pub(crate) fn cut(&mut self, paths: Vec<(u16, u16)>) -> u32 {
        self.tell(0, 15, paths.len() as u64, || format!("cut {paths:?}"));
        for (from, to) in &paths {
            self.network.cut(*from, *to);
        }
        let disturbance = self.history.disturbances.len();
        self.history.disturbances.push(Disturbance { from: self.now, until: NEVER, frozen: None });
        self.cuts.push(Cut { paths, disturbance, open: true });
        self.cuts.len() as u32 - 1
    }

    pub(crate) fn mend(&mut self, cut: u32) {
        let Some(cut) = self.cuts.get_mut(cut as usize) else { return };
        if !std::mem::replace(&mut cut.open, false) {
            return;
        }
        let paths = std::mem::take(&mut cut.paths);
        self.history.disturbances[cut.disturbance].until = self.now;
        self.tell(0, 16, paths.len() as u64, || format!("mended {paths:?}"));
        for (from, to) in paths {
            self.network.uncut(from, to);
            self.network.flow_again(self.now, &mut self.queue, from, to);
        }
    }

    /// Adds to the delay of everything that is sent from now on.
    pub(crate) fn slow(&mut self, from: u16, to: u16, extra: Micros) {
        self.network.path(from, to).extra = extra;
    }

    /// The process of a name panics, wherever it runs.
    pub(crate) fn crash_name(&mut self, name: u32) {
        let runs = |life: &&crate::history::Life| life.name == name && life.ended.is_none();
        let lives = self.history.lives.iter().enumerate().filter(|(_, life)| runs(life));
        let running: Vec<(u32, u16)> = lives.map(|(at, life)| (at as u32, life.host)).collect();
        for (life, host) in running {
            self.crash(host, life);
            self.flush(host);
        }
    }

    fn break_connection(&mut self, both_hear: bool) -> bool {
        let (Some(a), Some(b)) = (self.draw_up(), self.draw_up()) else { return false };
        a != b && self.reset(a, b, both_hear)
    }

    /// Breaks the connections between two machines; what is in flight is lost.
    pub(crate) fn reset(&mut self, a: u16, b: u16, both_hear: bool) -> bool {
        let conns = self.network.between(a, b);
        for conn in &conns {
            self.network.lose_in_flight(*conn);
            let Some(open) = self.network.conn(*conn) else { continue };
            let ends = open.ends;
            for end in if both_hear { 0..2 } else { 0..1 } {
                if ends[end].open {
                    self.on_closed(*conn, end, ends[end].home.host);
                }
            }
            for end in &ends {
                self.flush(end.home.host);
            }
        }
        !conns.is_empty()
    }

    fn panic_one(&mut self) -> bool {
        let Some(host) = self.draw_up() else { return false };
        if self.machines[usize::from(host)].frozen_until.is_some() {
            return false;
        }
        let lives = self.lives_on(host);
        if lives.is_empty() {
            return false;
        }
        let life = lives[self.fault_rng.below(lives.len() as u64) as usize];
        self.crash(host, life);
        self.flush(host);
        true
    }

    fn join_one(&mut self) -> bool {
        let (first, last) = (self.plan.nodes, self.plan.nodes + self.plan.joiners);
        let absent = |host: &usize| !self.machines[*host].is_up() && !self.machines[*host].boot_due;
        let Some(host) = (first..last).find(absent) else { return false };
        self.boot(host as u16);
        self.flush(host as u16);
        true
    }

    fn leave_one(&mut self) -> bool {
        let Some(host) = self.draw_up() else { return false };
        if !self.spares_copies() || self.machines[usize::from(host)].frozen_until.is_some() {
            return false;
        }
        self.leave(host);
        true
    }

    /// A node says good-bye; its process ends a little later and comes back after a while.
    pub(crate) fn leave(&mut self, host: u16) {
        self.machines[usize::from(host)].leaving = true;
        self.history.leaves.push((host, self.now));
        self.input(host, Input::Leave);
        self.flush(host);
        let takes = 300 * MILLI + self.fault_rng.below(700 * MILLI);
        self.queue.at(self.now + takes, Event::Gone(self.home(host)));
    }

    /// A leaver's process ends.
    pub(super) fn on_gone(&mut self, host: u16) {
        self.kill(host, false);
        let back = SECOND + self.fault_rng.below(4 * SECOND);
        self.machines[usize::from(host)].boot_due = true;
        self.queue.at(self.now + back, Event::Boot { host });
    }
}
