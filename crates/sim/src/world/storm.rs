//! Storms: what all nodes do together, beside the faults of the plan.

use whimbrel_core::base::Rng;

use super::queue::Event;
use super::{RESTART, World};
use crate::history::{Disturbance, Micros, NEVER, SECOND};
use crate::plan::Storm;

/// How far the wall clock of a machine jumps, at most.
const JUMP_MAX_MS: u64 = 3_600_000;

/// A generator of its own: a storm draws nothing that others would have drawn.
pub(super) fn storm_rng(seed: u64) -> Rng {
    Rng::new(seed ^ 0x7374_6f72_6d73)
}

impl World {
    /// The storm of the plan begins with the work.
    pub(super) fn schedule_storm(&mut self) {
        let Some(storm) = self.plan.storm else { return };
        self.stats.fault(storm.as_str());
        match storm {
            Storm::Joins { spread } => self.schedule_joins(spread),
            Storm::Flap { machines, .. } => {
                let first = self.storm_rng.below(self.plan.nodes as u64) as usize;
                for at in 0..machines.min(self.plan.nodes - 1) {
                    let host = (first + at) % self.plan.nodes;
                    let wait = self.storm_rng.below(SECOND);
                    self.queue.at(self.plan.work_from + wait, Event::Storm(host as u32));
                }
            }
            Storm::Rolling { .. } => self.queue.at(self.plan.work_from, Event::Storm(0)),
            Storm::Founders | Storm::Overload | Storm::Bridge | Storm::Clocks | Storm::Hang => {}
        }
    }

    fn schedule_joins(&mut self, spread: Micros) {
        for host in self.plan.nodes..self.plan.nodes + self.plan.joiners {
            let at = self.plan.work_from + self.storm_rng.below(spread + 1);
            self.schedule_boot(at, host as u16);
            if self.storm_rng.below(4) == 0 {
                let again = at + 1 + self.storm_rng.below(SECOND);
                self.queue.at(again, Event::Boot { host: host as u16 | RESTART });
            }
        }
    }

    /// The next step of a storm that has several.
    pub(super) fn on_storm(&mut self, step: u32) {
        if self.now >= self.plan.work_until {
            return;
        }
        match self.plan.storm {
            Some(Storm::Flap { up, down, .. }) => self.flap(step as u16, up, down),
            Some(Storm::Rolling { away, gap }) => self.roll(step, away, gap),
            _ => {}
        }
    }

    fn flap(&mut self, host: u16, up: Micros, down: Micros) {
        if self.machines[usize::from(host)].is_up() {
            self.stats.fault("flap");
            self.kill(host, false);
            self.schedule_boot(self.now + down, host);
        }
        let next = down + up + self.storm_rng.below(up / 4 + 1);
        self.queue.at(self.now + next, Event::Storm(u32::from(host)));
    }

    fn roll(&mut self, step: u32, away: Micros, gap: Micros) {
        let host = (step as usize % self.plan.nodes) as u16;
        let machine = &self.machines[usize::from(host)];
        let others = self.up_hosts().len() > 1;
        if machine.is_up() && !machine.leaving && others {
            self.stats.fault("roll");
            if self.storm_rng.below(2) == 0 {
                self.leave(host);
            } else {
                self.kill(host, false);
                self.schedule_boot(self.now + away, host);
            }
        }
        let next = away + gap + self.storm_rng.below(gap);
        self.queue.at(self.now + next, Event::Storm(step + 1));
    }

    /// The wall clock of a machine jumps, back or forth.
    pub(super) fn wall_jump(&mut self) -> bool {
        let Some(host) = self.draw_up() else { return false };
        let by = self.fault_rng.below(2 * JUMP_MAX_MS) as i64 - JUMP_MAX_MS as i64;
        self.jump_wall_clock(host, by);
        true
    }

    pub(crate) fn jump_wall_clock(&mut self, host: u16, by_ms: i64) {
        self.history.clocks_differ = true;
        self.tell(host, 19, by_ms.unsigned_abs(), || format!("the wall clock jumps by {by_ms} ms"));
        self.machines[usize::from(host)].wall_skew_ms += by_ms;
    }

    /// The port of a machine refuses, as behind a firewall that resets; its node lives and may dial.
    pub(crate) fn set_deaf(&mut self, host: u16, deaf: bool) {
        self.tell(host, 20, u64::from(deaf), || format!("deaf: {deaf}"));
        let now = self.now;
        if let Some(before) = self.machines[usize::from(host)].deaf.take() {
            self.history.disturbances[before].until = now;
        }
        if deaf {
            self.machines[usize::from(host)].deaf = Some(self.history.disturbances.len());
            self.history.disturbances.push(Disturbance { from: now, until: NEVER, frozen: None });
        }
        for other in (0..self.machines.len() as u16).filter(|other| deaf && *other != host) {
            self.reset(host, other, true);
        }
    }

    /// `init` or a handler of this name returns after a time, which `done` tells; or it hangs until the end of all
    /// faults.
    pub(super) fn return_after(&mut self, takes: Micros, name: u32, done: Event) {
        let may_hang = name < self.plan.odd_names && self.plan.hang_permille > 0;
        let hangs = may_hang && self.process_rng.below(1000) < self.plan.hang_permille;
        if hangs || self.hanging.contains(&name) {
            self.stats.mark("hung");
            return self.hung.push(done);
        }
        self.queue.at(self.now + takes, done);
    }

    /// Whatever hangs goes on, and nothing is slow any more.
    pub(super) fn calm_down(&mut self) {
        self.plan.hang_permille = 0;
        self.plan.slow_handler_max = 0;
        self.network.frame_time = 0;
        for done in std::mem::take(&mut self.hung) {
            self.queue.at(self.now + 1, done);
        }
    }
}
