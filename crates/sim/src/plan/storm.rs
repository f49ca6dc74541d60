//! Storms: what all nodes do together in a seed of the profile `storm`.
//!
//! The other profiles draw single faults; here the trouble is that much happens at once, or for long: thirty nodes
//! join, one flaps, all are restarted in turn, senders are ten times faster than a process, clocks disagree, two
//! nodes never see each other while all others see both, names hang in user code.

use whimbrel_core::base::Rng;
use whimbrel_core::base::limits::Limits;
use whimbrel_core::delivery::LinkLimits;

use super::{Fault, Plan};
use crate::history::{MILLI, Micros, SECOND};

/// What happens beside the faults of the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Storm {
    /// Thirty nodes are born at once.
    Founders,
    /// All machines that were never there come within this time, some of them twice.
    Joins { spread: Micros },
    /// So many machines go up and down without end, under their names, each time as another incarnation.
    Flap { machines: usize, up: Micros, down: Micros },
    /// Each machine in turn leaves, or is killed and back after `away`; the next one follows after `gap`.
    Rolling { away: Micros, gap: Micros },
    /// Senders are far faster than the processes they send to, and than the network.
    Overload,
    /// Pairs of nodes lose each other for long while the others see both.
    Bridge,
    /// Clocks run at different rates, and wall clocks jump.
    Clocks,
    /// Some names hang in `init` or in a handler until the end of all faults.
    Hang,
}

impl Storm {
    /// As the figures of a run count it.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Storm::Founders => "storm_founders",
            Storm::Joins { .. } => "storm_joins",
            Storm::Flap { .. } => "storm_flap",
            Storm::Rolling { .. } => "storm_rolling",
            Storm::Overload => "storm_overload",
            Storm::Bridge => "storm_bridge",
            Storm::Clocks => "storm_clocks",
            Storm::Hang => "storm_hang",
        }
    }
}

/// Nodes of the large storms.
const MANY: usize = 30;
/// Nodes that die while the first views are small may take all copies with them, and then little is promised.
const SETTLED: Micros = 9 * SECOND;
/// Storms are small in work, since they are large in nodes or in time.
const EVENTS_MIN: u64 = 8_000;

impl Plan {
    pub(super) fn shape_storm(&mut self, rng: &mut Rng) {
        self.events_min = EVENTS_MIN;
        self.ops = 700 + rng.below(800) as usize;
        let storm = match rng.below(100) {
            0..8 => self.shape_founders(rng),
            8..20 => self.shape_joins(rng),
            20..40 => self.shape_flap(rng),
            40..55 => self.shape_rolling(rng),
            55..73 => self.shape_overload(rng),
            73..83 => self.shape_bridge(rng),
            83..91 => self.shape_clocks(rng),
            _ => self.shape_hang(rng),
        };
        self.storm = Some(storm);
    }

    fn last_for(&mut self, seconds: u64, rng: &mut Rng) {
        self.work_until = self.work_from + seconds * SECOND + rng.below(4 * SECOND);
    }

    /// Thirty nodes are many events each second, so there is little work.
    fn shape_many(&mut self, rng: &mut Rng) {
        self.ops = 520;
        self.clients_per_node = 1;
        self.names = self.names.min(24);
        self.pure_clients = 0;
        self.last_for(3, rng);
    }

    fn shape_founders(&mut self, rng: &mut Rng) -> Storm {
        self.nodes = MANY;
        self.shape_many(rng);
        self.boot_spread = [0, 300 * MILLI, 2 * SECOND][rng.below(3) as usize];
        self.boot_restart_permille = [0, 500][rng.below(2) as usize];
        self.faults = Vec::new();
        Storm::Founders
    }

    fn shape_joins(&mut self, rng: &mut Rng) -> Storm {
        self.nodes = 3;
        self.joiners = MANY - 3;
        self.shape_many(rng);
        if rng.below(2) == 0 {
            self.draw_faults(&[Fault::Reset, Fault::Panic], rng);
        }
        Storm::Joins { spread: [0, 300 * MILLI, 2 * SECOND][rng.below(3) as usize] }
    }

    fn shape_flap(&mut self, rng: &mut Rng) -> Storm {
        self.work_from = SETTLED;
        self.last_for(20, rng);
        if rng.below(2) == 0 {
            self.draw_faults(&[Fault::Reset, Fault::Panic], rng);
        }
        let time = |rng: &mut Rng| [60 * MILLI, 200 * MILLI, SECOND, SECOND][rng.below(4) as usize];
        Storm::Flap { machines: 1 + rng.below(2) as usize, up: time(rng), down: time(rng) }
    }

    fn shape_rolling(&mut self, rng: &mut Rng) -> Storm {
        self.work_from = SETTLED;
        self.last_for(20, rng);
        if rng.below(2) == 0 {
            self.draw_faults(&[Fault::Reset, Fault::Panic], rng);
        }
        let away = [100 * MILLI, SECOND, 3 * SECOND][rng.below(3) as usize];
        Storm::Rolling { away, gap: [SECOND, 4 * SECOND][rng.below(2) as usize] }
    }

    fn shape_overload(&mut self, rng: &mut Rng) -> Storm {
        self.last_for(8, rng);
        self.ops = 300 + rng.below(200) as usize;
        self.odd_names = 1 + rng.below(6) as u32;
        // Either the processes are the bottleneck or the network is.
        self.slow_handler_max = [MILLI, 20 * MILLI, 60 * MILLI][rng.below(3) as usize];
        // After the end of all faults what was admitted must be handled in time to be seen.
        self.handler_max = self.handler_max.min(MILLI);
        self.mailbox_max = [16, 256, 4096][rng.below(3) as usize];
        self.frame_time = [0, 2 * MILLI, 10 * MILLI, 10 * MILLI][rng.below(4) as usize];
        self.limits = Limits { requests: 64, slot_waiters: 16, ..Limits::default() };
        // Links are full here when they are; by chance as well, each time a route asks for its host anew, what is
        // left at the end of all faults takes longer than the run.
        self.link_full_permille = 0;
        // More than one route holds, mostly, as in a real node: routes that overfill their link send again and again.
        let lane_frames = [4096, 16_384][rng.below(2) as usize];
        self.link_limits = LinkLimits { lane_frames, unacknowledged: 256 };
        if rng.below(2) == 0 {
            self.draw_faults(&[Fault::Join, Fault::Leave, Fault::Reset], rng);
        }
        Storm::Overload
    }

    fn shape_bridge(&mut self, rng: &mut Rng) -> Storm {
        self.last_for(20, rng);
        self.draw_faults(&[Fault::CutPair, Fault::CutOneWay], rng);
        self.fault_gap = 3 * SECOND + rng.below(4 * SECOND);
        self.cut_max = 15 * SECOND;
        Storm::Bridge
    }

    fn shape_clocks(&mut self, rng: &mut Rng) -> Storm {
        self.draw_faults(&[Fault::Kill, Fault::QuickRestart, Fault::Pause, Fault::Reset, Fault::Leave], rng);
        self.faults.push(Fault::WallJump);
        self.clock_ppm_max = [100, 2_000][rng.below(2) as usize];
        Storm::Clocks
    }

    fn shape_hang(&mut self, rng: &mut Rng) -> Storm {
        self.last_for(10, rng);
        self.odd_names = 1 + rng.below(3) as u32;
        self.hang_permille = 50 + rng.below(300);
        self.handler_max = self.handler_max.min(MILLI);
        self.limits = Limits { slot_waiters: 32, ..Limits::default() };
        self.faults = Vec::new();
        if rng.below(2) == 0 {
            self.draw_faults(&[Fault::Panic, Fault::Join, Fault::Kill], rng);
        }
        Storm::Hang
    }
}
