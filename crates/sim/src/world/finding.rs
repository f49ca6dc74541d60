//! How nodes come to know of each other's addresses: what a real node's discovery tells its core, and when.
//!
//! Sources give hints alone, so no order of their answers, nor that one finds nothing, may lead to anything but one line
//! in the end. Every source of a node answers at some time; one that never does is no promise broken (`docs/guarantees.md`).

use whimbrel_core::base::hash::mix;
use whimbrel_core::base::{Address, Rng};
use whimbrel_core::node::Input;

use super::World;
use super::queue::Event;
use super::shell::Machine;
use crate::history::{Disturbance, Micros, NEVER, SECOND};
use crate::plan::Finds;
use crate::run::delay_max;

/// Sources of a node that answer one by one.
const SOURCES: u32 = 3;
/// All of them, as bits.
const EVERY: u8 = (1 << SOURCES) - 1;
/// The last of them has answered so long after the node began.
const ANSWERED_WITHIN: Micros = 3 * SECOND;

impl World {
    /// A node has founded a line. Beside another one nodes with discovery do so only while they can not reach it; one
    /// without discovery does so at once, and until the others have dialled it nothing is promised about who runs. Two
    /// may also do so at the same moment.
    pub(super) fn founded(&mut self, host: u16) {
        self.stats.mark("founded");
        let last = self.founded_at.replace(self.now);
        let alone = match self.plan.finds {
            Finds::All => return,
            // One waits no longer for a smaller one, and just then that one's last source has answered.
            Finds::ByAndBy if last.is_none_or(|at| at + 2 * delay_max(&self.plan) < self.now) => return,
            Finds::ByAndBy => false,
            Finds::First { alone } => alone,
        };
        // A view of the line before, which is gone, may still be on its way to one that has none yet.
        let has_line = |machine: &Machine| {
            machine.shell.as_deref().is_some_and(|shell| shell.view.is_some() || last.is_some())
        };
        let others = self.machines.iter().enumerate().filter(|(at, _)| *at != usize::from(host));
        if others.map(|(_, machine)| machine).any(has_line) {
            self.stats.mark("founded_beside");
            let (from, waits) = (self.now, alone && !self.machines[0].is_up());
            let until = if waits { NEVER } else { from };
            if waits {
                self.apart.push(self.history.disturbances.len());
            }
            self.history.disturbances.push(Disturbance { from, until, frozen: None });
        }
    }

    /// Discovery of a node that has just booted begins.
    pub(super) fn begin_to_find(&mut self, host: u16) {
        if host == 0 {
            for line in std::mem::take(&mut self.apart) {
                self.history.disturbances[line].until = self.now;
            }
        }
        match self.plan.finds {
            Finds::All => self.found(host, EVERY),
            Finds::ByAndBy => self.schedule_answers(host),
            // It has no source, so nobody asks any and nothing is told.
            Finds::First { .. } if host == 0 => {}
            Finds::First { alone: false } => self.found(host, EVERY),
            Finds::First { alone: true } => {
                let first = self.machines[0].address.clone();
                self.input(host, Input::Discovered(vec![first]));
            }
        }
    }

    fn schedule_answers(&mut self, host: u16) {
        // A generator of its own: nothing else is drawn otherwise for it.
        let home = self.home(host);
        let mut rng = Rng::new(self.plan.seed ^ (u64::from(host) << 32) ^ u64::from(home.generation));
        let mut answers: Vec<(Micros, u8)> = (0..SOURCES)
            .map(|source| {
                let at_once = rng.below(3) == 0;
                (if at_once { 0 } else { rng.below(ANSWERED_WITHIN) }, 1 << source)
            })
            .collect();
        answers.sort_unstable();
        let mut answered = 0;
        for (after, source) in answers {
            answered |= source;
            self.queue.at(self.now + after, Event::Found(home, answered));
        }
    }

    /// These sources of the node have answered: its core is told what they found together.
    pub(super) fn found(&mut self, host: u16, answered: u8) {
        // Which source knows of which machine is another thing in each run; some know of none.
        let seed = self.plan.seed;
        let knows = |at: usize| 1_u8 << (mix(seed ^ mix(at as u64 + 1)) % u64::from(SOURCES));
        let machines = self.machines.iter().enumerate();
        let known: Vec<Address> = machines
            .filter(|(at, _)| knows(*at) & answered != 0)
            .map(|(_, machine)| machine.address.clone())
            .collect();
        if answered == EVERY {
            return self.input(host, Input::Discovered(known));
        }
        self.stats.mark("discovered_in_part");
        self.input(host, Input::DiscoveredInPart(known));
    }
}
