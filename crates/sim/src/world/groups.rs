//! Groups and metadata: who joins, who leaves, and what records say of it.

use whimbrel_core::base::{Group, Incarnation, Metadata, Name, Rng, SlotId};
use whimbrel_core::directory::Inspected as Found;
use whimbrel_core::placement::{Replicas, slot_of, slot_of_group};

use super::World;
use super::client::Want;
use super::queue::Event;
use crate::history::{Inspected, MILLI, Micros, OpKind, Outcome, SECOND};
use crate::plan::Bonds;

/// The scope of all simulated groups.
pub(super) const SCOPE: &str = "sim";
/// How long a reading may take.
const READ_WITHIN: Micros = 2 * SECOND;
/// What processes do themselves they do as this client of their node.
const PROCESS_CLIENT: u32 = 62;
/// The key under which metadata says which operation made it.
const MADE_BY: &str = "op";

/// A generator of its own: a plan without groups and monitors runs as it would without this file.
pub(super) fn bonds_rng(seed: u64) -> Rng {
    Rng::new(seed ^ 0x0062_6f6e_6473)
}

/// The group of this index.
pub(crate) fn group_of(index: u32) -> Group {
    Group::new(SCOPE, &format!("g{index}")).expect("it has letters and digits alone")
}

pub(crate) fn index_of(group: &Name) -> Option<u32> {
    group.as_str().strip_prefix('g')?.parse().ok()
}

/// What a membership, or metadata, tells of itself: the operation that made it.
pub(super) fn made_by(op: u32) -> Metadata {
    Metadata::new().with(MADE_BY, &op.to_string()).expect("a word and a number are short")
}

/// The operation that metadata tells of.
pub(crate) fn maker_of(meta: &Metadata) -> Option<u32> {
    meta.get(MADE_BY)?.parse().ok()
}

impl World {
    /// An operation of the profiles `groups` and `monitors`, if it is the turn of one.
    pub(super) fn bonds_work(&mut self, host: u16, client: u32, name: u32) -> bool {
        let Bonds { group_permille, monitor_permille, .. } = self.plan.bonds;
        if group_permille + monitor_permille == 0 {
            return false;
        }
        let drawn = self.bonds_rng.below(1000);
        if drawn < group_permille {
            self.group_work(host, client, name);
        } else if drawn < group_permille + monitor_permille {
            self.monitor_work(host, name);
        }
        drawn < group_permille + monitor_permille
    }

    /// One operation about a group.
    fn group_work(&mut self, host: u16, client: u32, name: u32) {
        let group = self.bonds_rng.below(u64::from(self.plan.bonds.groups.max(1))) as u32;
        let mut want = match self.bonds_rng.below(100) {
            0..40 => Want::new(OpKind::Join { group }, name),
            40..55 => Want::new(OpKind::Leave { group }, name),
            55..60 => Want::new(OpKind::Inspect, name),
            60..68 => Want::new(self.draw_change(name), name),
            68..95 => {
                self.read_group(host, group, READ_WITHIN, false);
                return;
            }
            _ => return self.read_scope(host, READ_WITHIN, false),
        };
        if self.bonds_rng.below(8) == 0 {
            want.deadline = 20 * MILLI + self.bonds_rng.below(SECOND);
        }
        self.operate(host, client, want);
    }

    /// A change of a name's metadata: of the last version that anybody was told, or of any.
    fn draw_change(&mut self, name: u32) -> OpKind {
        let told = self.meta_versions.get(&name).copied();
        OpKind::SetMeta { expected: if self.bonds_rng.below(4) == 0 { None } else { told } }
    }

    /// The metadata of a name has this version, as an answer tells.
    pub(super) fn meta_told(&mut self, op: u32, version: u64, changed: bool) -> Outcome {
        let name = self.history.ops[op as usize].name;
        self.meta_versions.insert(name, version);
        self.stats.mark(if changed { "metadata_changed" } else { "metadata_conflict" });
        if changed { Outcome::Changed { version } } else { Outcome::Conflict { version } }
    }

    /// What belongs to a name, as its record has it.
    pub(super) fn inspected(&mut self, op: u32, found: &Found) -> Outcome {
        self.meta_told(op, found.meta.version, false);
        let rows =
            found.groups.iter().filter_map(|row| Some((index_of(&row.group.name)?, maker_of(&row.meta))));
        let mut groups: Vec<_> = rows.collect();
        groups.sort_unstable();
        self.history.inspected.push(Inspected { op, groups });
        self.stats.mark("inspected");
        Outcome::Ok
    }

    /// A join is over. Whoever joined in `init` goes on.
    pub(super) fn join_is_over(&mut self, host: u16, op: u32, name: u32, group: u32, done: bool) {
        if done {
            self.stats.mark("joined");
            self.maybe_ambush_index(host, group);
            self.maybe_ambush_owner(host, name);
        }
        if let Some((home, life)) = self.joins_in_init.remove(&op) {
            self.stats.mark("joined_in_init");
            let takes = 1 + self.bonds_rng.below(self.plan.init_max.max(1));
            self.queue.at(self.now + takes, Event::InitDone(home, life));
        }
    }

    /// Whether the `init` of a life goes on when it has joined a group.
    pub(super) fn joins_first(&mut self, host: u16, name: u32, life: u32) -> bool {
        let planned = self.plan.bonds.join_in_init && name.is_multiple_of(3);
        let planned = planned.then(|| name / 3 % self.plan.bonds.groups.max(1));
        let Some(group) = self.joins_of_init.get(&name).copied().or(planned) else { return false };
        let home = self.home(host);
        let op = self.operate(host, PROCESS_CLIENT, Want::new(OpKind::Join { group }, name));
        if let Some(op) = op {
            self.joins_in_init.insert(op, (home, life));
        }
        op.is_some()
    }

    /// Each record is looked at once, when all has healed.
    pub(super) fn schedule_inspections(&mut self, hosts: &[u16], mut at: Micros) -> Micros {
        if self.plan.bonds.groups == 0 || hosts.is_empty() {
            return at;
        }
        for name in 0..self.history.names.len() as u32 {
            at += MILLI;
            self.queue.at(at, Event::Inspect { name, host: hosts[name as usize % hosts.len()] });
        }
        at
    }

    pub(super) fn inspect(&mut self, host: u16, name: u32) {
        self.operate(host, PROCESS_CLIENT, Want::new(OpKind::Inspect, name));
    }

    /// A join was acknowledged: now and then the owner of its group's index dies in the same moment.
    pub(super) fn maybe_ambush_index(&mut self, asker: u16, group: u32) {
        let slot = slot_of_group(&group_of(group), self.plan.slots);
        self.maybe_ambush_slot(asker, slot);
    }

    /// The same of the owner of a name.
    pub(super) fn maybe_ambush_owner(&mut self, asker: u16, name: u32) {
        if let Some(text) = self.history.names.get(name as usize) {
            self.maybe_ambush_slot(asker, slot_of(text, self.plan.slots));
        }
    }

    fn maybe_ambush_slot(&mut self, asker: u16, slot: SlotId) {
        if self.bonds_rng.below(1000) >= self.plan.bonds.ambush_permille || self.now >= self.plan.work_until {
            return;
        }
        let owner: Option<Incarnation> =
            self.view_of(asker).and_then(|view| Replicas::of(slot, &view, self.plan.replicas).owner());
        if let Some(host) = owner.and_then(|owner| self.host_of(owner)) {
            let wait = self.bonds_rng.below(self.plan.delay.1);
            self.queue.at(self.now + wait, Event::Ambush(self.home(host)));
        }
    }
}
