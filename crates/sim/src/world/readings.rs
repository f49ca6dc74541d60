//! Readings of groups, by the nodes.

use std::collections::BTreeMap;
use std::time::Duration;

use whimbrel_core::groups::{GroupMember, GroupReading, GroupVersion, ScopeReading};
use whimbrel_core::node::Input;

use super::World;
use super::groups::{group_of, index_of, maker_of};
use super::queue::Event;
use crate::history::{Census, Counts, MILLI, Micros, Reading, Roll};

/// What a node reads.
#[derive(Debug)]
enum Reads {
    /// A group, of which it has this.
    Group(u32, Option<(GroupVersion, Roll)>),
    Scope(u32),
}

/// What a node has asked about groups, and what it knows of them.
#[derive(Debug, Default)]
pub(super) struct Readings {
    open: BTreeMap<u64, Reads>,
    /// By group: what the last reading gave, to ask for what is new.
    seen: BTreeMap<u32, (GroupVersion, Roll)>,
}

impl World {
    /// Reads a group.
    pub(crate) fn read_group(&mut self, host: u16, group: u32, within: Micros, last: bool) -> Option<u32> {
        let (invoked, deadline) = (self.now, self.now + within);
        let anew = self.bonds_rng.below(4) == 0;
        let at = self.history.readings.len() as u32;
        let shell = self.shell(host)?;
        shell.next_request += 1;
        let number = shell.next_request;
        let seen = shell.readings.seen.get(&group).filter(|_| !anew).cloned();
        let known = seen.as_ref().map(|(version, _)| *version);
        shell.readings.open.insert(number, Reads::Group(at, seen));
        self.history.readings.push(Reading { group, host, invoked, deadline, over: None, last });
        let deadline = Duration::from_micros(within);
        self.input(host, Input::Group { number, group: group_of(group), known, deadline });
        self.flush(host);
        Some(at)
    }

    /// A reading is over.
    pub(super) fn on_group(&mut self, host: u16, number: u64, reading: GroupReading) {
        let now = self.now;
        let GroupReading { version, members, complete } = reading;
        let members = members.map(|members| {
            let row = |member: &GroupMember| (self.name_id(&member.name), maker_of(&member.meta));
            let mut members: Vec<_> = members.iter().map(row).collect();
            members.sort_unstable();
            members
        });
        let Some(shell) = self.shell(host) else { return };
        let Some(Reads::Group(at, seen)) = shell.readings.open.remove(&number) else { return };
        let group = self.history.readings[at as usize].group;
        let Some(shell) = self.shell(host) else { return };
        let unchanged = members.is_none();
        let as_known = || seen.filter(|(known, _)| Some(*known) == version).map(|(_, roll)| roll.members);
        let roll = members.or_else(as_known).map(|members| Roll { members, complete });
        let Some(roll) = roll else {
            return self
                .history
                .oddities
                .push(format!("reading {at} is unchanged since a version that nobody knows"));
        };
        if let Some(version) = version.filter(|_| roll.complete) {
            shell.readings.seen.insert(group, (version, roll.clone()));
        }
        self.stats.mark(match (roll.complete, unchanged) {
            (true, false) => "group_read",
            (true, true) => "group_read_unchanged",
            (false, _) => "group_read_in_part",
        });
        let reading = &mut self.history.readings[at as usize];
        if reading.over.replace((now, roll)).is_some() {
            self.history.oddities.push(format!("reading {at} ended twice"));
        }
    }

    /// Reads how many members each group has.
    pub(crate) fn read_scope(&mut self, host: u16, within: Micros, last: bool) {
        let (invoked, deadline) = (self.now, self.now + within);
        let at = self.history.censuses.len() as u32;
        let Some(shell) = self.shell(host) else { return };
        shell.next_request += 1;
        let number = shell.next_request;
        shell.readings.open.insert(number, Reads::Scope(at));
        self.history.censuses.push(Census { host, invoked, deadline, over: None, last });
        let scope = group_of(0).scope;
        self.input(host, Input::Groups { number, scope, deadline: Duration::from_micros(within) });
        self.flush(host);
    }

    /// The numbers are there.
    pub(super) fn on_groups(&mut self, host: u16, number: u64, reading: &ScopeReading) {
        let now = self.now;
        let Some(shell) = self.shell(host) else { return };
        let Some(Reads::Scope(at)) = shell.readings.open.remove(&number) else { return };
        let mut counts: Vec<_> =
            reading.names.iter().filter_map(|(name, count)| Some((index_of(name)?, *count))).collect();
        counts.sort_unstable();
        self.stats.mark("groups_read");
        self.history.censuses[at as usize].over = Some((now, Counts { counts, complete: reading.complete }));
    }

    /// When all has healed every node reads every group, and how many members each has.
    pub(super) fn schedule_last_readings(&mut self, hosts: &[u16], from: Micros) -> Micros {
        if self.plan.bonds.groups == 0 || hosts.is_empty() {
            return from;
        }
        let mut at = from;
        for group in 0..=self.plan.bonds.groups {
            for host in hosts {
                at += MILLI;
                self.queue.at(at, Event::LastReading { host: *host, group });
            }
        }
        at
    }

    /// A reading of the liveness phase; the one behind the last group is of the scope.
    pub(super) fn on_last_reading(&mut self, host: u16, group: u32) {
        if group < self.plan.bonds.groups {
            self.read_group(host, group, super::exchange::OP_DEADLINE, true);
        } else {
            self.read_scope(host, super::exchange::OP_DEADLINE, true);
        }
    }
}
