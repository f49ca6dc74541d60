//! The plan of one run: everything that a seed and a profile decide before the first event.
//!
//! Each seed draws a *swarm*: which kinds of fault exist at all, how dense they are, how slow the network is. A
//! run with every fault at once finds less than many runs with few faults each, because faults hide each other.

mod groups;
mod storm;

pub(crate) use groups::Bonds;
pub(crate) use storm::Storm;

use std::str::FromStr;

use whimbrel_core::base::limits::Limits;
use whimbrel_core::base::{Mutants, Rng};
use whimbrel_core::delivery::LinkLimits;
use whimbrel_core::directory::Rebalance;

use crate::history::{MILLI, Micros, SECOND};

/// What a run is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Profile {
    /// Everything: the default.
    Full,
    /// As `full` with a fifth of the work, for continuous integration.
    Lite,
    /// Many founders at once, restarts in the middle of it.
    Birth,
    /// No fault but failing processes.
    Calm,
    /// Nodes die and come back; nothing is cut or frozen.
    Crash,
    /// The network is cut in many ways; nodes do not die.
    Split,
    /// Nodes freeze.
    Pause,
    /// Nodes host few processes each, and die: names have to wait for room.
    Room,
    /// Everybody at once: join storms, flapping, rolling restarts, overload, clocks that differ, names that hang.
    Storm,
    /// Processes move: by hand, and with every join; nodes die, freeze and are cut in the middle of it.
    Handoff,
    /// Processes join and leave groups, and everybody reads them, under the faults of `full` and `handoff`.
    Groups,
    /// Processes and clients watch processes, under the same.
    Monitors,
}

impl Profile {
    /// All of them.
    pub(crate) const ALL: [Profile; 12] = [
        Profile::Full,
        Profile::Lite,
        Profile::Birth,
        Profile::Calm,
        Profile::Crash,
        Profile::Split,
        Profile::Pause,
        Profile::Room,
        Profile::Storm,
        Profile::Handoff,
        Profile::Groups,
        Profile::Monitors,
    ];

    /// As the command line writes it.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Profile::Full => "full",
            Profile::Lite => "lite",
            Profile::Birth => "birth",
            Profile::Calm => "calm",
            Profile::Crash => "crash",
            Profile::Split => "split",
            Profile::Pause => "pause",
            Profile::Room => "room",
            Profile::Storm => "storm",
            Profile::Handoff => "handoff",
            Profile::Groups => "groups",
            Profile::Monitors => "monitors",
        }
    }
}

impl FromStr for Profile {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Profile::ALL.into_iter().find(|profile| profile.as_str() == text).ok_or_else(|| {
            let known: Vec<_> = Profile::ALL.iter().map(|profile| profile.as_str()).collect();
            format!("unknown profile; known are {}", known.join(", "))
        })
    }
}

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    /// The process of a node dies; its port refuses.
    Kill,
    /// It dies and is back under its name within 200 ms.
    QuickRestart,
    /// The machine goes silent: nothing refuses, nothing answers.
    PowerOff,
    /// A node and its processes stand still for a while.
    Pause,
    /// Two nodes lose each other.
    CutPair,
    /// One direction between two nodes is lost.
    CutOneWay,
    /// One part of the nodes loses the other.
    Split,
    /// One node keeps to a few of the others only.
    CutPartial,
    /// A connection breaks.
    Reset,
    /// A connection breaks and only one end hears of it.
    HalfOpen,
    /// A process panics.
    Panic,
    /// A node that was never there joins.
    Join,
    /// A node says good-bye and goes.
    Leave,
    /// The wall clock of a machine jumps; only storms have it.
    WallJump,
    /// A node drains, and leaves when all has moved that can; only handoff has it.
    Drain,
    /// All of them, one after the other; only handoff has it.
    Roll,
}

impl Fault {
    /// All of them.
    pub(crate) const ALL: [Fault; 13] = [
        Fault::Kill,
        Fault::QuickRestart,
        Fault::PowerOff,
        Fault::Pause,
        Fault::CutPair,
        Fault::CutOneWay,
        Fault::Split,
        Fault::CutPartial,
        Fault::Reset,
        Fault::HalfOpen,
        Fault::Panic,
        Fault::Join,
        Fault::Leave,
    ];

    /// As summaries write it.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Fault::Kill => "kill",
            Fault::QuickRestart => "quick_restart",
            Fault::PowerOff => "power_off",
            Fault::Pause => "pause",
            Fault::CutPair => "cut_pair",
            Fault::CutOneWay => "cut_one_way",
            Fault::Split => "split",
            Fault::CutPartial => "cut_partial",
            Fault::Reset => "reset",
            Fault::HalfOpen => "half_open",
            Fault::Panic => "panic",
            Fault::Join => "join",
            Fault::Leave => "leave",
            Fault::WallJump => "wall_jump",
            Fault::Drain => "drain",
            Fault::Roll => "rolling_restart",
        }
    }
}

/// How nodes come to know of each other's addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Finds {
    /// All of them at once.
    All,
    /// From several sources, which answer one after the other.
    ByAndBy,
    /// The first machine's node has no discovery; the others find it `alone`, or all.
    First { alone: bool },
}

const CRASHES: [Fault; 8] = [
    Fault::Kill,
    Fault::QuickRestart,
    Fault::PowerOff,
    Fault::Reset,
    Fault::HalfOpen,
    Fault::Panic,
    Fault::Join,
    Fault::Leave,
];
const CUTS: [Fault; 6] =
    [Fault::CutPair, Fault::CutOneWay, Fault::Split, Fault::CutPartial, Fault::Reset, Fault::Panic];

/// Everything a seed decides beforehand.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) nodes: usize,
    /// Machines that come only when a fault `Join` brings them.
    pub(crate) joiners: usize,
    pub(crate) replicas: usize,
    pub(crate) slots: u16,
    /// Founders boot at a random time within this.
    pub(crate) boot_spread: Micros,
    /// How likely, in thousandths, a founder is killed and restarted within its first second.
    pub(crate) boot_restart_permille: u64,
    /// Wall clocks differ by at most so much. A founder behind the others, after the loss of everything, may give
    /// tokens that do not rise.
    pub(crate) wall_skew_ms: u64,
    pub(crate) delay: (Micros, Micros),
    /// How likely a segment takes up to `tail_max` instead.
    pub(crate) tail_permille: u64,
    pub(crate) tail_max: Micros,
    pub(crate) names: usize,
    pub(crate) clients_per_node: usize,
    pub(crate) ops: usize,
    /// Time over which the operations are spread, from `work_from` on.
    pub(crate) work_from: Micros,
    pub(crate) work_until: Micros,
    /// The work goes on until the run has had so many events.
    pub(crate) events_min: u64,
    /// Faults that may happen; empty for none.
    pub(crate) faults: Vec<Fault>,
    /// Mean time between two faults.
    pub(crate) fault_gap: Micros,
    /// How long a cut lasts, at most.
    pub(crate) cut_max: Micros,
    pub(crate) init_fail_permille: u64,
    pub(crate) panic_permille: u64,
    pub(crate) init_max: Micros,
    pub(crate) handler_max: Micros,
    /// How likely a link has no room for a packet, in thousandths.
    pub(crate) link_full_permille: u64,
    /// Messages of a mailbox.
    pub(crate) mailbox_max: usize,
    /// Nodes that host nothing.
    pub(crate) pure_clients: usize,
    /// What all nodes do together, if anything.
    pub(crate) storm: Option<Storm>,
    /// Clocks run faster or slower by at most so many millionths.
    pub(crate) clock_ppm_max: u64,
    /// What a connection needs to carry one frame; 0 for no time at all.
    pub(crate) frame_time: Micros,
    /// Of so many names of a storm one may be slow or hang; 0 for none.
    pub(crate) odd_names: u32,
    /// How likely `init` or a handler of an odd name hangs until the end of all faults.
    pub(crate) hang_permille: u64,
    /// How long a handler of an odd name takes, at most; 0 for no longer than others.
    pub(crate) slow_handler_max: Micros,
    /// When processes move by themselves.
    pub(crate) rebalance: Rebalance,
    /// How many operations, of a thousand, move a process by hand.
    pub(crate) move_permille: u64,
    /// Whether faults are laid for processes on their way.
    pub(crate) traps: bool,
    /// Zones of the machines, by turns; every third name wants one of them. 0 for none.
    pub(crate) zones: u32,
    /// Whether every second of the other names goes to the node with the least load.
    pub(crate) by_load: bool,
    /// How many operations, of a thousand, pause rebalancing or end the pause.
    pub(crate) order_permille: u64,
    /// How likely a process wants to stay when it is to move, in thousandths, and how likely it can not be made there.
    pub(crate) unmovable_permille: u64,
    /// Groups and monitors.
    pub(crate) bonds: Bonds,
    /// How many processes a node hosts at most, if there is a limit.
    pub(crate) capacity: Option<usize>,
    /// How much the tables of a node hold.
    pub(crate) limits: Limits,
    pub(crate) link_limits: LinkLimits,
    pub(crate) finds: Finds,
    pub(crate) mutants: Mutants,
}

impl Plan {
    /// The plan of a seed.
    pub(crate) fn draw(profile: Profile, seed: u64, mutants: Mutants) -> Self {
        let mut rng = Rng::new(seed ^ 0x706c_616e);
        let mut plan = Self::base(&mut rng, seed, mutants);
        match profile {
            Profile::Full | Profile::Lite => {
                let class = match rng.below(100) {
                    0..7 => Profile::Calm,
                    7..45 => Profile::Crash,
                    45..75 => Profile::Split,
                    75..83 => Profile::Pause,
                    83..90 => Profile::Birth,
                    _ => Profile::Full,
                };
                plan.shape(class, &mut rng);
                if profile == Profile::Lite {
                    plan.ops /= 4;
                    plan.events_min = 2_000;
                    plan.work_until = plan.work_from + (plan.work_until - plan.work_from) / 2;
                }
            }
            other => plan.shape(other, &mut rng),
        }
        plan
    }

    fn base(rng: &mut Rng, seed: u64, mutants: Mutants) -> Self {
        let nodes = 3 + rng.below(5) as usize;
        let slow = [200, 2 * MILLI, 10 * MILLI, 40 * MILLI][rng.below(4) as usize];
        let work_from = 3 * SECOND;
        let ops = 2_000 + rng.below(1_500) as usize;
        Self {
            seed,
            nodes,
            joiners: 0,
            replicas: [3, 3, 3, 2][rng.below(4) as usize],
            slots: [16, 32, 64][rng.below(3) as usize],
            boot_spread: [0, 100 * MILLI, SECOND][rng.below(3) as usize],
            boot_restart_permille: 0,
            wall_skew_ms: [0, 1000][rng.below(2) as usize],
            delay: (50, slow),
            tail_permille: rng.below(30),
            tail_max: 100 * MILLI,
            names: 8 + rng.below(40) as usize,
            clients_per_node: 1 + rng.below(3) as usize,
            ops,
            work_from,
            work_until: work_from + 12 * SECOND + rng.below(20 * SECOND),
            events_min: 20_000,
            faults: Vec::new(),
            fault_gap: 300 * MILLI + rng.below(4 * SECOND),
            cut_max: 500 * MILLI + rng.below(8 * SECOND),
            init_fail_permille: [0, 0, 50, 200][rng.below(4) as usize],
            panic_permille: 0,
            init_max: [100, 5 * MILLI, 100 * MILLI][rng.below(3) as usize],
            handler_max: [50, MILLI, 20 * MILLI][rng.below(3) as usize],
            link_full_permille: [0, 0, 0, 40][rng.below(4) as usize],
            mailbox_max: [4, 64, 16_384][rng.below(3) as usize],
            pure_clients: usize::from(nodes > 3 && rng.below(4) == 0),
            storm: None,
            clock_ppm_max: 0,
            frame_time: 0,
            odd_names: 0,
            hang_permille: 0,
            slow_handler_max: 0,
            rebalance: Rebalance::Off,
            move_permille: 0,
            traps: false,
            zones: 0,
            by_load: false,
            order_permille: 0,
            unmovable_permille: 20,
            bonds: Bonds::default(),
            capacity: None,
            limits: Limits::default(),
            link_limits: LinkLimits::default(),
            finds: Finds::All,
            mutants,
        }
    }

    /// Draws the swarm of one class.
    fn shape(&mut self, class: Profile, rng: &mut Rng) {
        match class {
            Profile::Calm => self.draw_faults(&[Fault::Panic, Fault::Reset, Fault::Join], rng),
            Profile::Crash => self.draw_faults(&CRASHES, rng),
            Profile::Split => self.draw_faults(&CUTS, rng),
            Profile::Pause => self.draw_faults(&[Fault::Pause, Fault::Reset, Fault::Panic], rng),
            Profile::Birth => self.shape_birth(rng),
            Profile::Full | Profile::Lite => self.draw_faults(&Fault::ALL, rng),
            Profile::Room => self.shape_room(rng),
            Profile::Storm => self.shape_storm(rng),
            Profile::Handoff => self.shape_handoff(rng),
            Profile::Groups => self.shape_groups(rng),
            Profile::Monitors => self.shape_monitors(rng),
        }
        if self.faults.contains(&Fault::Panic) && rng.below(2) == 0 {
            self.panic_permille = 1 + rng.below(20);
        }
        if self.faults.contains(&Fault::Join) {
            self.joiners = 1 + rng.below(3) as usize;
        }
    }

    fn shape_handoff(&mut self, rng: &mut Rng) {
        match rng.below(10) {
            0..2 => self.draw_faults(&[Fault::Reset, Fault::Join], rng),
            2..6 => self.draw_faults(&CRASHES, rng),
            6..8 => self.draw_faults(&CUTS, rng),
            _ => self.draw_faults(&Fault::ALL, rng),
        }
        if rng.below(2) == 0 && !self.faults.contains(&Fault::Join) {
            self.faults.push(Fault::Join);
        }
        self.rebalance = if rng.below(4) == 0 { Rebalance::Off } else { Rebalance::OnJoinAndLeave };
        self.move_permille = [0, 40, 200][rng.below(3) as usize];
        self.traps = rng.below(2) == 0;
        if rng.below(3) == 0 {
            // Images of the simulator are small: so they have parts.
            self.limits.image_chunk = 8;
        }
        self.draw_placed();
        self.draw_drains();
    }

    /// From a generator of its own: all else is as it would be without.
    fn draw_placed(&mut self) {
        let mut rng = Rng::new(self.seed ^ 0x0070_6c61_6365);
        self.zones = [0, 0, 2, 3][rng.below(4) as usize];
        self.by_load = rng.below(3) == 0;
        // So that few names are already too much.
        self.limits.level_slack = rng.below(2);
        self.order_permille = [0, 0, 4][rng.below(3) as usize];
    }

    /// The zone of a machine.
    pub(crate) fn zone_of_host(&self, host: usize) -> Option<String> {
        (self.zones > 0).then(|| format!("z{}", host % self.zones as usize))
    }

    /// The zone that a name wants.
    pub(crate) fn zone_of_name(&self, name: u32) -> Option<String> {
        (self.zones > 0 && name.is_multiple_of(3)).then(|| format!("z{}", name / 3 % self.zones))
    }

    /// From a generator of its own: all else is as it would be without.
    fn draw_drains(&mut self) {
        let mut rng = Rng::new(self.seed ^ 0x0064_7261_696e_7301);
        match rng.below(12) {
            // Nothing but planned changes: nobody may notice them.
            0..3 => {
                self.faults = vec![Fault::Drain, Fault::Join];
                self.init_fail_permille = 0;
            }
            3..5 => self.faults.push(Fault::Drain),
            5 => self.faults.push(Fault::Roll),
            _ => {}
        }
    }

    fn shape_birth(&mut self, rng: &mut Rng) {
        if rng.below(6) == 0 {
            self.nodes = 30;
            self.ops = 520;
            self.work_until = self.work_from + 6 * SECOND;
            self.clients_per_node = 1;
        }
        self.boot_spread = [0, 300 * MILLI, 2 * SECOND][rng.below(3) as usize];
        self.boot_restart_permille = [0, 300, 500][rng.below(3) as usize];
        // Work begins while lines are still being founded.
        self.work_from = rng.below(2 * SECOND);
        self.draw_faults(&[Fault::Reset, Fault::QuickRestart, Fault::Join], rng);
        self.draw_finds();
    }

    /// From a generator of its own: all else is as it would be without.
    fn draw_finds(&mut self) {
        let mut rng = Rng::new(self.seed ^ 0x0066_696e_6473);
        self.finds = match rng.below(8) {
            0 | 1 => Finds::ByAndBy,
            2 => Finds::First { alone: true },
            3 => Finds::First { alone: false },
            _ => Finds::All,
        };
    }

    /// Room for some of the names, or for all of them while every node is there.
    fn shape_room(&mut self, rng: &mut Rng) {
        let hosts = self.nodes - self.pure_clients;
        let all = self.names.div_ceil(hosts);
        self.capacity = Some([1, all / 2 + 1, all, all + 1][rng.below(4) as usize]);
        self.draw_faults(if rng.below(4) == 0 { &Fault::ALL } else { &CRASHES }, rng);
    }

    /// Each of `possible` exists with one chance in two, and at least one does.
    fn draw_faults(&mut self, possible: &[Fault], rng: &mut Rng) {
        self.faults = possible.iter().copied().filter(|_| rng.below(2) == 0).collect();
        if self.faults.is_empty() {
            self.faults.push(possible[rng.below(possible.len() as u64) as usize]);
        }
    }
}
