//! Where slots and processes belong: weighted rendezvous in integer arithmetic.
//!
//! Every node computes the same answer from the same view, bit for bit. A node's rank for a slot hashes the
//! node's *name*, so a restarted node gets its slots back; whoever compares replicas compares incarnations.

mod policy;
mod rendezvous;

pub use policy::{Candidate, PlacementPolicy, PlacementRequest, Policies};
use rendezvous::Draws;
pub use rendezvous::{ranking, score};

use crate::base::hash::hash;
use crate::base::{Group, Incarnation, Kind, Name, SlotId};
use crate::view::{MemberInfo, View};

/// Default number of slots of a cluster; fixed at its birth and checked at every join.
pub const SLOTS: u16 = 4096;
/// Greatest number of replicas of a slot.
pub const REPLICAS_MAX: usize = 3;

/// Seed of the frozen hash from names to slots.
const NAME_SEED: u64 = 0x5748_494d_4252_454c;
/// Seed of the frozen hash from groups to slots.
const GROUP_SEED: u64 = 0x4752_4f55_505f_4958;

/// The slot of a name, in a cluster of `slots` slots.
pub fn slot_of(name: &Name, slots: u16) -> SlotId {
    let hash = hash(NAME_SEED, name.as_str().as_bytes());
    slot_at(hash, slots)
}

/// The slot whose owner has the index of a group.
pub fn slot_of_group(group: &Group, slots: u16) -> SlotId {
    let of_scope = hash(GROUP_SEED, group.scope.as_str().as_bytes());
    slot_at(hash(of_scope, group.name.as_str().as_bytes()), slots)
}

fn slot_at(hash: u64, slots: u16) -> SlotId {
    SlotId(((u128::from(hash) * u128::from(slots)) >> 64) as u16)
}

/// The replicas of a slot in a view, owner first: at most `replicas`, fewer in a smaller view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replicas {
    nodes: [Option<Incarnation>; REPLICAS_MAX],
}

impl Replicas {
    /// The replicas of `slot` in `view`.
    pub fn of(slot: SlotId, view: &View, replicas: usize) -> Self {
        Self::draw(&Draws::new(view), slot, view, replicas)
    }

    /// The replicas of all slots in `view`, by slot.
    pub fn table(view: &View, slots: u16, replicas: usize) -> Vec<Self> {
        let draws = Draws::new(view);
        (0..slots).map(|slot| Self::draw(&draws, SlotId(slot), view, replicas)).collect()
    }

    fn draw(draws: &Draws, slot: SlotId, view: &View, replicas: usize) -> Self {
        let mut nodes = [None; REPLICAS_MAX];
        for (place, member) in nodes.iter_mut().zip(draws.best(slot, view).into_iter().take(replicas)) {
            *place = member.map(|member| view.members[member].incarnation);
        }
        Self { nodes }
    }

    /// The owner; none only in a view without members.
    pub fn owner(&self) -> Option<Incarnation> {
        self.nodes[0]
    }

    /// The replicas after the owner.
    pub fn backups(&self) -> impl Iterator<Item = Incarnation> + '_ {
        self.nodes.iter().skip(1).flatten().copied()
    }

    /// Owner and backups.
    pub fn iter(&self) -> impl Iterator<Item = Incarnation> + '_ {
        self.nodes.iter().flatten().copied()
    }

    /// Whether this incarnation is one of them.
    pub fn contains(&self, incarnation: Incarnation) -> bool {
        self.nodes.contains(&Some(incarnation))
    }
}

/// The members that processes of `kind` may be placed on, in the slot's ranking: by `hash` a process is placed on the
/// first of them that has room.
pub fn hosts_by_hash<'v>(slot: SlotId, kind: &Kind, view: &'v View) -> impl Iterator<Item = &'v MemberInfo> {
    ranking(slot, view).into_iter().map(|at| &view.members[at]).filter(|member| member.takes(kind))
}

#[cfg(test)]
mod tests;
