//! A small world: a few nodes, links that lose what is on them, views that each node installs when it comes to it.
//!
//! The records are one table here, written by the owner of a name in the newest view alone, since that is what the
//! directory promises. What a node reads is held against what had been answered when the reading began.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::base::limits::Limits;
use crate::base::{Group, Incarnation, Kind, Membership, Metadata, Name, RequestId, Rng, Time};
use crate::groups::{GroupMember, GroupVersion, Groups, Message, Output};
use crate::placement::{Replicas, slot_of};
use crate::view::{Labels, MemberInfo, View, ViewId};

const SLOTS: u16 = 16;
const NAMES: u64 = 12;
const GROUPS: u64 = 3;
pub(super) const PATIENCE: Duration = Duration::from_secs(3);

pub(super) fn named(text: &str) -> Name {
    Name::new(text).unwrap()
}

pub(super) fn group(number: u64) -> Group {
    Group::new(["rooms", "workers"][number as usize % 2], &format!("group:{number}")).unwrap()
}

pub(super) fn kind() -> Kind {
    named("counter")
}

pub(super) fn life(nonce: u64) -> Incarnation {
    Incarnation { started_ms: 1, nonce }
}

pub(super) fn view_of(counter: u64, members: &[Incarnation]) -> Arc<View> {
    let member = |incarnation: &Incarnation| MemberInfo {
        name: named(&format!("node:{}", incarnation.nonce)),
        incarnation: *incarnation,
        address: Arc::from("x:1"),
        weight: 100,
        kinds: Vec::new(),
        draining: false,
        labels: Labels::new(),
    };
    let id = ViewId { counter, author: 1 };
    Arc::new(View { id, parent: None, members: members.iter().map(member).collect() })
}

pub(super) fn owners(view: &View) -> Vec<Option<Incarnation>> {
    Replicas::table(view, SLOTS, 1).iter().map(Replicas::owner).collect()
}

/// A name in a group.
type Key = (Group, Name);
type Check = Result<(), String>;
/// What is on its way, each with the view that it was sent in.
type Wire = VecDeque<(Option<ViewId>, Message)>;

struct Node {
    groups: Groups,
    view: Option<Arc<View>>,
    /// It has told all that its records say in this view.
    rolled: bool,
    /// What earlier readings found.
    known: BTreeMap<Group, (GroupVersion, Vec<GroupMember>)>,
}

/// A join or a leave that is to be answered.
#[derive(Clone)]
struct Change {
    key: Key,
    joins: bool,
}

struct Reading {
    at: Incarnation,
    group: Group,
    /// Who must be there, and who must not, unless that changes meanwhile.
    members: BTreeMap<Name, u64>,
    others: BTreeMap<Name, u64>,
    known: bool,
}

pub(super) struct World {
    rng: Rng,
    now: Time,
    nodes: BTreeMap<Incarnation, Node>,
    wires: BTreeMap<(Incarnation, Incarnation), Wire>,
    newest: Arc<View>,
    /// Who owns each slot in it.
    owners: Vec<Option<Incarnation>>,
    lives: u64,
    /// What the records say.
    records: BTreeMap<Name, BTreeMap<Group, Metadata>>,
    asked: BTreeMap<RequestId, Change>,
    /// What was answered last of each, and to which change, unless something is under way.
    answered: BTreeMap<Key, (bool, u64)>,
    readings: BTreeMap<u64, Reading>,
    numbers: u64,
    pub(super) complete: usize,
    pub(super) told_known: usize,
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        let members: Vec<Incarnation> = (1..=3).map(life).collect();
        let mut world = Self {
            rng: Rng::new(seed),
            now: Time::from_micros(1),
            nodes: BTreeMap::new(),
            wires: BTreeMap::new(),
            newest: view_of(1, &members),
            owners: owners(&view_of(1, &members)),
            lives: 3,
            records: BTreeMap::new(),
            asked: BTreeMap::new(),
            answered: BTreeMap::new(),
            readings: BTreeMap::new(),
            numbers: 0,
            complete: 0,
            told_known: 0,
        };
        members.into_iter().for_each(|member| world.boot(member));
        world
    }

    fn boot(&mut self, member: Incarnation) {
        let groups = Groups::new(member, Limits::default());
        self.nodes.insert(member, Node { groups, view: None, rolled: false, known: BTreeMap::new() });
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> Option<T> {
        if from.is_empty() { None } else { from.get(self.rng.below(from.len() as u64) as usize).cloned() }
    }

    fn any_node(&mut self) -> Incarnation {
        let lives: Vec<Incarnation> = self.nodes.keys().copied().collect();
        self.pick(&lives).unwrap()
    }

    pub(super) fn run(&mut self, steps: u64) -> Check {
        for _ in 0..steps {
            match self.rng.below(100) {
                0 => self.change_view(),
                1 => self.lose(),
                2..12 => self.install(),
                12..20 => self.roll(),
                20..32 => self.change(),
                32..40 => self.read(),
                40..44 => self.pass(200),
                44..60 => self.pass(2),
                _ => self.deliver()?,
            }
            self.settle()?;
        }
        self.end()
    }

    /// Nothing is lost any more: in the end everybody reads what the records say.
    fn end(&mut self) -> Check {
        for _ in 0..100 {
            for member in self.nodes.keys().copied().collect::<Vec<_>>() {
                self.install_at(member);
                self.roll_at(member);
            }
            self.ask_again();
            while !self.wires.is_empty() {
                self.deliver()?;
                self.settle()?;
            }
            self.pass(100);
            self.settle()?;
        }
        if let Some(change) = self.asked.values().next() {
            return Err(format!("{:?} was never answered", change.key));
        }
        let before = self.complete;
        for member in self.nodes.keys().copied().collect::<Vec<_>>() {
            for number in 0..GROUPS {
                self.read_at(member, group(number));
                self.settle()?;
                while !self.wires.is_empty() {
                    self.deliver()?;
                    self.settle()?;
                }
            }
        }
        let readings = self.nodes.len() * GROUPS as usize;
        if self.complete - before != readings {
            return Err(format!("{} of {readings} last readings are complete", self.complete - before));
        }
        for (at, node) in &self.nodes {
            for (group, (_, members)) in &node.known {
                let found: Vec<(&Name, &Metadata)> = members.iter().map(|m| (&m.name, &m.meta)).collect();
                let all = self.records.iter().filter_map(|(name, groups)| Some((name, groups.get(group)?)));
                if found != all.collect::<Vec<_>>() {
                    return Err(format!("{at} does not read of {group} what the records say"));
                }
            }
        }
        Ok(())
    }

    fn change_view(&mut self) {
        let mut members: Vec<Incarnation> = self.newest.incarnations().collect();
        if members.len() > 2 && self.rng.below(2) == 0 {
            let dead = self.pick(&members).unwrap();
            members.retain(|member| *member != dead);
            self.nodes.remove(&dead);
            self.wires.retain(|(from, to), _| *from != dead && *to != dead);
            self.readings.retain(|_, reading| reading.at != dead);
        } else if members.len() < 5 {
            self.lives += 1;
            members.push(life(self.lives));
            self.boot(life(self.lives));
        }
        self.newest = view_of(self.newest.id.counter + 1, &members);
        self.owners = owners(&self.newest);
    }

    fn lose(&mut self) {
        let (a, b) = (self.any_node(), self.any_node());
        self.wires.remove(&(a, b));
        self.wires.remove(&(b, a));
    }

    fn install(&mut self) {
        let member = self.any_node();
        self.install_at(member);
    }

    fn install_at(&mut self, member: Incarnation) {
        let (newest, now) = (Arc::clone(&self.newest), self.now);
        let Some(node) = self.nodes.get_mut(&member) else { return };
        if node.view.as_ref() != Some(&newest) {
            node.groups.flush(now);
            node.groups.handle_view(&newest, self.owners.clone(), now);
            (node.view, node.rolled) = (Some(newest), false);
        }
    }

    fn roll(&mut self) {
        let member = self.any_node();
        self.roll_at(member);
    }

    fn roll_at(&mut self, member: Incarnation) {
        let owned = self.records.iter().filter(|(name, _)| self.owner(name) == Some(member));
        let roll = owned.map(|(name, groups)| (name.clone(), kind(), memberships(groups))).collect();
        let newest = self.newest.id;
        let Some(node) = self.nodes.get_mut(&member) else { return };
        if !node.rolled && node.view.as_ref().is_some_and(|view| view.id == newest) {
            node.rolled = true;
            node.groups.handle_roll(roll);
        }
    }

    /// Who may write the record of a name: its owner in the newest view, once it has installed that.
    fn owner(&self, name: &Name) -> Option<Incarnation> {
        let owner = self.owners[usize::from(slot_of(name, SLOTS).0)]?;
        let view = self.nodes.get(&owner)?.view.as_ref()?;
        (view.id == self.newest.id).then_some(owner)
    }

    /// A name joins a group, leaves one, or ends.
    fn change(&mut self) {
        let name = named(&format!("name:{}", self.rng.below(NAMES)));
        let key = (group(self.rng.below(GROUPS)), name.clone());
        let Some(owner) = self.owner(&name) else { return };
        if self.asked.values().any(|change| change.key.1 == name) {
            return;
        }
        if self.rng.below(6) == 0 {
            let left: Vec<Group> = self.records.remove(&name).unwrap_or_default().into_keys().collect();
            for group in &left {
                self.answered.remove(&(group.clone(), name.clone()));
            }
            return self.enrol_at(owner, name, left, None);
        }
        let joins = self.rng.below(3) > 0;
        let groups = self.records.entry(name.clone()).or_default();
        let left = if joins {
            let meta = Metadata::new().with("n", &self.numbers.to_string()).unwrap();
            groups.insert(key.0.clone(), meta);
            Vec::new()
        } else {
            groups.remove(&key.0).map(|_| key.0.clone()).into_iter().collect()
        };
        self.numbers += 1;
        let request = RequestId { caller: life(99), number: self.numbers };
        self.answered.remove(&key);
        self.asked.insert(request, Change { key, joins });
        self.enrol_at(owner, name, left, Some(request));
    }

    fn enrol_at(&mut self, owner: Incarnation, name: Name, left: Vec<Group>, request: Option<RequestId>) {
        let record = self.records.get(&name);
        let now = record.map(memberships).unwrap_or_default();
        let kind = record.map(|_| kind());
        if let Some(node) = self.nodes.get_mut(&owner) {
            node.groups.handle_enrol(name, kind.as_ref(), now, left, request);
        }
    }

    /// Whoever was not answered asks the owner of the moment, who finds it done.
    fn ask_again(&mut self) {
        for (request, change) in self.asked.clone() {
            if let Some(owner) = self.owner(&change.key.1) {
                self.enrol_at(owner, change.key.1, Vec::new(), Some(request));
            }
        }
    }

    fn read(&mut self) {
        let (member, number) = (self.any_node(), self.rng.below(GROUPS));
        self.read_at(member, group(number));
    }

    fn read_at(&mut self, at: Incarnation, group: Group) {
        self.numbers += 1;
        let (number, now) = (self.numbers, self.now);
        let of_group = |joined: bool| -> BTreeMap<Name, u64> {
            let all = self.answered.iter().filter(|(key, (is_in, _))| key.0 == group && *is_in == joined);
            all.map(|(key, (_, change))| (key.1.clone(), *change)).collect()
        };
        let (members, others) = (of_group(true), of_group(false));
        let Some(node) = self.nodes.get_mut(&at) else { return };
        let known = node.known.get(&group).map(|(version, _)| *version);
        let reading = Reading { at, group: group.clone(), members, others, known: known.is_some() };
        self.readings.insert(number, reading);
        node.groups.handle_group(number, group, known, PATIENCE, now);
    }

    fn pass(&mut self, millis: u64) {
        self.now = self.now + Duration::from_millis(1 + self.rng.below(millis));
        if self.rng.below(20) == 0 {
            self.ask_again();
        }
        for node in self.nodes.values_mut() {
            if node.groups.next_deadline().is_some_and(|due| due <= self.now) {
                node.groups.handle_wake(self.now);
            }
        }
    }

    fn deliver(&mut self) -> Check {
        let wires: Vec<_> = self.wires.keys().copied().collect();
        let Some((from, to)) = self.pick(&wires) else { return Ok(()) };
        let Some(wire) = self.wires.get_mut(&(from, to)) else { return Ok(()) };
        let first = wire.pop_front();
        if wire.is_empty() {
            self.wires.remove(&(from, to));
        }
        if let (Some((view, message)), Some(node)) = (first, self.nodes.get_mut(&to)) {
            node.groups.handle_message(from, view, message, self.now);
        }
        self.settle()
    }

    fn settle(&mut self) -> Check {
        for at in self.nodes.keys().copied().collect::<Vec<_>>() {
            while let Some(node) = self.nodes.get_mut(&at) {
                node.groups.flush(self.now);
                let view = node.view.as_ref().map(|view| view.id);
                let Some(output) = node.groups.poll_output() else { break };
                match output {
                    Output::Send(to, message) if self.nodes.contains_key(&to) => {
                        self.wires.entry((at, to)).or_default().push_back((view, message));
                    }
                    Output::Send(..) | Output::Scope { .. } => {}
                    Output::Enrolled { request, .. } => {
                        let Some(change) = self.asked.remove(&request) else { continue };
                        self.answered.insert(change.key, (change.joins, request.number));
                    }
                    Output::Group { number, reading } => {
                        let Some(asked) = self.readings.remove(&number) else { continue };
                        if reading.complete {
                            self.complete += 1;
                            self.check(&asked, reading.members, reading.version.unwrap())?;
                        }
                    }
                    Output::Refused { peer, why } => return Err(format!("{at} refused {peer}: {why}")),
                }
            }
        }
        Ok(())
    }

    /// Whether a complete reading says what it must.
    fn check(&mut self, asked: &Reading, found: Option<Vec<GroupMember>>, version: GroupVersion) -> Check {
        let Some(node) = self.nodes.get_mut(&asked.at) else { return Ok(()) };
        let found = match found {
            Some(found) => found,
            None => {
                self.told_known += 1;
                let (known, members) = node.known.get(&asked.group).ok_or("nothing was known")?;
                if !asked.known || *known != version {
                    // A later reading was over before this one.
                    return Ok(());
                }
                members.clone()
            }
        };
        node.known.insert(asked.group.clone(), (version, found.clone()));
        let names: BTreeSet<&Name> = found.iter().map(|member| &member.name).collect();
        let still = |name: &Name, change: u64| {
            let last = self.answered.get(&(asked.group.clone(), name.clone()));
            last.is_some_and(|(_, last)| *last == change)
        };
        let missing =
            asked.members.iter().find(|(name, change)| !names.contains(name) && still(name, **change));
        let stale = asked.others.iter().find(|(name, change)| names.contains(name) && still(name, **change));
        match (missing, stale) {
            (Some((name, _)), _) => Err(format!("{name} is missing in {} at {}", asked.group, asked.at)),
            (_, Some((name, _))) => Err(format!("{name} is still in {} at {}", asked.group, asked.at)),
            (None, None) => Ok(()),
        }
    }
}

fn memberships(groups: &BTreeMap<Group, Metadata>) -> Vec<Membership> {
    let membership =
        |(group, meta): (&Group, &Metadata)| Membership { group: group.clone(), meta: meta.clone() };
    groups.iter().map(membership).collect()
}
