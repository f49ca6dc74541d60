//! What the profiles `groups` and `monitors` add to the work: who belongs together, and who watches whom.

use whimbrel_core::base::Rng;

use super::{Fault, Plan};

/// How much of the work is about groups and monitors; nothing, but in the profiles that are about them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Bonds {
    /// How many operations, of a thousand, are about groups.
    pub(crate) group_permille: u64,
    /// How many groups there are.
    pub(crate) groups: u32,
    /// Whether every third name joins a group in its `init`.
    pub(crate) join_in_init: bool,
    /// How many operations, of a thousand, set or withdraw monitors.
    pub(crate) monitor_permille: u64,
    /// How many handlers, of a thousand, publish a snapshot.
    pub(crate) snapshot_permille: u64,
    /// Whether each node follows records from its start on.
    pub(crate) streams: bool,
    /// How many acknowledged joins and monitors, of a thousand, are followed by the death of who acknowledged them.
    pub(crate) ambush_permille: u64,
}

impl Plan {
    /// The faults are those of `full`, or of `handoff` with its moves and drains.
    fn shape_bonds(&mut self, rng: &mut Rng) -> Rng {
        if rng.below(3) == 0 {
            self.draw_faults(&Fault::ALL, rng);
        } else {
            self.shape_handoff(rng);
        }
        self.move_permille = self.move_permille.min(40);
        self.ops = self.ops * 2 / 3;
        Rng::new(self.seed ^ 0x626f_6e64_7300)
    }

    pub(super) fn shape_groups(&mut self, rng: &mut Rng) {
        let mut rng = self.shape_bonds(rng);
        self.bonds = Bonds {
            group_permille: 600,
            groups: 1 + rng.below(12) as u32,
            join_in_init: rng.below(2) == 0,
            monitor_permille: [0, 50][rng.below(2) as usize],
            snapshot_permille: 10,
            streams: true,
            ambush_permille: [0, 4, 20][rng.below(3) as usize],
        };
    }

    pub(super) fn shape_monitors(&mut self, rng: &mut Rng) {
        let mut rng = self.shape_bonds(rng);
        // Lives that end are what this is about.
        if rng.below(2) == 0 && !self.faults.contains(&Fault::Panic) {
            self.faults.push(Fault::Panic);
        }
        self.bonds = Bonds {
            group_permille: [0, 50][rng.below(2) as usize],
            groups: 3,
            join_in_init: false,
            monitor_permille: 500,
            snapshot_permille: [0, 50, 300][rng.below(3) as usize],
            streams: false,
            ambush_permille: [0, 4, 20][rng.below(3) as usize],
        };
    }
}
