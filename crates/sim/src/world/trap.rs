//! Faults that are laid for a process on its way: at random some are too rare to meet every step of a handoff.
//!
//! A message between source and target now and then sets a trap for one of the two, or for the owner of the name: a fault
//! of the plan befalls it a moment later. At which steps that was is counted, by fault.

use whimbrel_core::base::{Incarnation, Rng};
use whimbrel_core::placement::{Replicas, slot_of};
use whimbrel_core::wire::{Body, Control};

use super::World;
use super::queue::Event;
use crate::history::{MILLI, SECOND};
use crate::plan::Fault;

/// One in so many messages sets one.
const ONE_IN: u64 = 40;

/// Its own generator: a plan without traps runs as it would without this file.
pub(super) fn trap_rng(seed: u64) -> Rng {
    Rng::new(seed ^ 0x0074_7261_7073)
}

impl World {
    /// A message leaves a node.
    pub(super) fn maybe_trap(&mut self, host: u16, to: Incarnation, message: &Control) {
        let Body::Handoff(message) = &message.body else { return };
        if self.plan.traps && self.now < self.plan.work_until && self.trap_rng.below(ONE_IN) == 0 {
            let name = message.about().0.clone();
            let name = self.name_id(&name);
            let peer = self.host_of(to).unwrap_or(host);
            self.set_trap(host, peer, name);
        }
    }

    /// A process is to come to rest.
    pub(super) fn maybe_trap_quiescing(&mut self, host: u16, to: Incarnation, name: u32) {
        if self.plan.traps && self.now < self.plan.work_until && self.trap_rng.below(10) == 0 {
            let wait = self.trap_rng.below(1 + self.plan.handler_max / 4);
            let peer = self.host_of(to).unwrap_or(host);
            self.queue.at(self.now + wait, Event::Trap { home: self.home(host), peer, name });
        }
    }

    /// A node left its line with a process on its way.
    pub(super) fn maybe_trap_judged(&mut self, host: u16) {
        let steps = self.steps_of(host);
        if self.plan.traps && steps.contains(&"source judged") {
            let peer = self.trap_rng.below(self.machines.len() as u64) as u16;
            self.set_trap(host, peer, 0);
        }
    }

    fn set_trap(&mut self, host: u16, peer: u16, name: u32) {
        let (victim, other) = match self.trap_rng.below(3) {
            0 => (host, peer),
            1 => (peer, host),
            _ => (self.owner_host(host, name).unwrap_or(host), peer),
        };
        let wait = self.trap_rng.below(3 * self.plan.delay.1);
        self.queue.at(self.now + wait, Event::Trap { home: self.home(victim), peer: other, name });
    }

    /// The trap closes.
    pub(super) fn on_trap(&mut self, host: u16, peer: u16, name: u32) {
        let faults = self.plan.faults.len() as u64;
        if faults == 0 || self.now >= self.plan.work_until || !self.machines[usize::from(host)].is_up() {
            return;
        }
        let fault = self.plan.faults[self.trap_rng.below(faults) as usize];
        let mut steps = self.steps_of(host);
        if let Fault::CutPair | Fault::CutOneWay | Fault::Reset | Fault::HalfOpen = fault {
            steps.extend(self.steps_of(peer));
        }
        if self.befall(fault, host, peer, name) {
            self.stats.fault(fault.as_str());
            steps.sort_unstable();
            steps.dedup();
            steps.into_iter().for_each(|step| self.stats.hit(step, fault.as_str()));
        }
    }

    fn befall(&mut self, fault: Fault, host: u16, peer: u16, name: u32) -> bool {
        let spares = self.spares_copies() && self.up_hosts().len() > 2;
        let time = 50 * MILLI + self.trap_rng.below(self.plan.cut_max);
        match fault {
            Fault::Kill | Fault::PowerOff if spares => {
                self.kill_for(host, SECOND, 8 * SECOND, fault == Fault::PowerOff);
                true
            }
            Fault::QuickRestart if spares => {
                self.kill_for(host, 10 * MILLI, 200 * MILLI, false);
                true
            }
            Fault::Pause => self.pause(host, time),
            Fault::CutPair if host != peer => self.cut_for(vec![(host, peer), (peer, host)], time),
            Fault::CutOneWay if host != peer => self.cut_for(vec![(host, peer)], time),
            Fault::CutPartial | Fault::Split => self.cut_off(host, fault == Fault::Split, time),
            Fault::Reset | Fault::HalfOpen if host != peer => self.reset(host, peer, fault == Fault::Reset),
            Fault::Panic => {
                self.crash_name(name);
                true
            }
            Fault::Join => self.join_one(),
            Fault::Leave if spares && self.machines[usize::from(host)].frozen_until.is_none() => {
                self.leave(host);
                true
            }
            _ => false,
        }
    }

    /// One node loses some of the others, or all of them.
    fn cut_off(&mut self, host: u16, some: bool, time: u64) -> bool {
        let others = (0..self.machines.len() as u16).filter(|other| *other != host);
        let lost: Vec<u16> = others.filter(|_| !some || self.trap_rng.below(2) == 0).collect();
        self.cut_for(lost.into_iter().flat_map(|other| [(host, other), (other, host)]).collect(), time)
    }

    fn steps_of(&self, host: u16) -> Vec<&'static str> {
        let shell = self.machines[usize::from(host)].shell.as_deref();
        shell.map(|shell| shell.node.handoff_steps().collect()).unwrap_or_default()
    }

    pub(super) fn host_of(&self, incarnation: Incarnation) -> Option<u16> {
        let is = |shell: &super::shell::Shell| shell.me() == incarnation;
        let at = self.machines.iter().position(|machine| machine.shell.as_deref().is_some_and(is))?;
        u16::try_from(at).ok()
    }

    fn owner_host(&self, asker: u16, name: u32) -> Option<u16> {
        let view = self.view_of(asker)?;
        let slot = slot_of(self.history.names.get(name as usize)?, self.plan.slots);
        self.host_of(Replicas::of(slot, &view, self.plan.replicas).owner()?)
    }
}
