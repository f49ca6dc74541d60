//! Indexes of several nodes at once, and one by itself.

#![allow(clippy::unwrap_used)]

mod lies;
mod world;

use std::collections::BTreeMap;
use std::time::Duration;

use super::*;
use crate::base::Metadata;
use crate::base::limits::{INDEX_PAGE_ROWS, INDEX_PART_ROWS, READING_ROWS_MAX};
use world::{PATIENCE, World, group, kind, life, named, owners, view_of};

#[test]
fn whatever_is_lost_and_whoever_dies_a_complete_reading_has_every_answered_join_and_no_answered_leave() {
    let (mut complete, mut told_known) = (0, 0);
    for seed in 0..300 {
        let mut world = World::new(seed);
        if let Err(why) = world.run(600) {
            panic!("seed {seed}: {why}");
        }
        complete += world.complete;
        told_known += world.told_known;
    }
    assert!(complete > 8_000, "{complete} readings were complete");
    assert!(told_known > 700, "{told_known} of them found what was known");
}

/// Nodes in one view, with links that lose nothing.
struct Nodes {
    nodes: BTreeMap<Incarnation, Groups>,
    now: Time,
    view: Arc<View>,
    /// Messages on links.
    said: Vec<Message>,
    told: Vec<Output>,
}

impl Nodes {
    fn new(count: u64, limits: Limits) -> Self {
        let members: Vec<Incarnation> = (1..=count).map(life).collect();
        let nodes = members.iter().map(|member| (*member, Groups::new(*member, limits))).collect();
        let (now, view) = (Time::from_micros(1), view_of(1, &members));
        let mut nodes = Self { nodes, now, view, said: Vec::new(), told: Vec::new() };
        nodes.install();
        nodes
    }

    fn install(&mut self) {
        let (view, now) = (Arc::clone(&self.view), self.now);
        for groups in self.nodes.values_mut() {
            groups.handle_view(&view, owners(&view), now);
        }
        self.carry();
    }

    fn node(&mut self, nonce: u64) -> &mut Groups {
        self.nodes.get_mut(&life(nonce)).unwrap()
    }

    fn line(&self) -> Line {
        Line { view: Arc::clone(&self.view), owners: owners(&self.view) }
    }

    /// Everything that is said arrives.
    fn carry(&mut self) {
        loop {
            let mut sent = Vec::new();
            for (from, groups) in &mut self.nodes {
                groups.flush(self.now);
                while let Some(output) = groups.poll_output() {
                    match output {
                        Output::Send(to, message) => sent.push((*from, to, message)),
                        output => self.told.push(output),
                    }
                }
            }
            if sent.is_empty() {
                return;
            }
            for (from, to, message) in sent {
                self.said.push(message.clone());
                if let Some(groups) = self.nodes.get_mut(&to) {
                    groups.handle_message(from, Some(self.view.id), message, self.now);
                }
            }
        }
    }

    fn pass(&mut self, within: Duration) {
        self.now = self.now + within;
        self.nodes.values_mut().for_each(|groups| groups.handle_wake(self.now));
        self.carry();
    }

    /// All tell what their records say: these names are in this group.
    fn roll(&mut self, group: &Group, names: impl Iterator<Item = Name>) {
        let line = self.line();
        let membership = Membership { group: group.clone(), meta: Metadata::new() };
        let mut rolls: BTreeMap<Incarnation, Vec<_>> = BTreeMap::new();
        for name in names {
            let row = (name.clone(), kind(), vec![membership.clone()]);
            rolls.entry(line.owner_of(&name).unwrap()).or_default().push(row);
        }
        for (member, groups) in &mut self.nodes {
            groups.handle_roll(rolls.remove(member).unwrap_or_default());
        }
        self.carry();
    }

    fn read(&mut self, at: u64, group: &Group, known: Option<GroupVersion>) -> GroupReading {
        let now = self.now;
        self.node(at).handle_group(7, group.clone(), known, PATIENCE, now);
        self.carry();
        if !self.told.iter().any(|told| matches!(told, Output::Group { .. })) {
            self.pass(PATIENCE);
        }
        match self.told.pop() {
            Some(Output::Group { number: 7, reading }) => reading,
            other => panic!("{other:?}"),
        }
    }

    fn pages(&mut self) -> usize {
        let said = std::mem::take(&mut self.said);
        said.iter().filter(|message| matches!(message, Message::Page { .. })).count()
    }
}

fn names(count: usize) -> impl Iterator<Item = Name> {
    (0..count).map(|number| named(&format!("name:{number:0>6}")))
}

/// A group whose index this member has.
fn group_at(line: &Line, member: u64) -> Group {
    (0..).map(group).find(|group| line.index_of(group) == Some(life(member))).unwrap()
}

#[test]
fn a_large_group_is_read_in_pages() {
    let mut nodes = Nodes::new(2, Limits::default());
    let of_one = group_at(&nodes.line(), 1);
    let count = 2 * INDEX_PAGE_ROWS + 10;
    nodes.roll(&of_one, names(count));
    nodes.pages();
    let reading = nodes.read(2, &of_one, None);
    let members: Vec<Name> = reading.members.unwrap().into_iter().map(|member| member.name).collect();
    assert!(reading.complete && members.into_iter().eq(names(count)));
    assert!(nodes.pages() >= 3, "not all at once");
    let again = nodes.read(2, &of_one, reading.version);
    assert_eq!(again, GroupReading { version: reading.version, members: None, complete: true });
    assert_eq!(nodes.pages(), 1);
}

#[test]
fn every_change_of_a_group_is_another_version_and_a_change_of_another_group_is_none() {
    let mut nodes = Nodes::new(1, Limits::default());
    let (one, other) = (group(0), group(1));
    nodes.roll(&one, names(2));
    let enrol = |nodes: &mut Nodes, group: &Group, text: &str, left: bool| {
        let meta = Metadata::new().with("text", text).unwrap();
        let memberships = if left { Vec::new() } else { vec![Membership { group: group.clone(), meta }] };
        let left = left.then(|| group.clone()).into_iter().collect();
        let name = named("name:000000");
        nodes.node(1).handle_enrol(name, Some(&kind()), memberships, left, None);
        nodes.carry();
    };
    let mut versions = vec![nodes.read(1, &one, None).version];
    enrol(&mut nodes, &other, "a", false);
    assert_eq!(nodes.read(1, &one, versions[0]).members, None);
    for (text, left) in [("a", false), ("b", false), ("", true), ("b", false)] {
        enrol(&mut nodes, &one, text, left);
        let reading = nodes.read(1, &one, versions.last().copied().flatten());
        assert!(reading.members.is_some() && !versions.contains(&reading.version), "{text:?} {left}");
        versions.push(reading.version);
        enrol(&mut nodes, &one, text, left);
        assert_eq!(nodes.read(1, &one, reading.version).members, None, "the same once more is no change");
    }
}

#[test]
fn a_rebuild_is_waited_for_and_at_the_deadline_told_as_it_is() {
    let mut nodes = Nodes::new(2, Limits::default());
    let of_one = group_at(&nodes.line(), 1);
    let line = nodes.line();
    let of = |member: u64| names(40).find(|name| line.owner_of(name) == Some(life(member))).unwrap();
    let membership = Membership { group: of_one.clone(), meta: Metadata::new() };
    let now = nodes.now;
    nodes.node(1).handle_roll(vec![(of(1), kind(), vec![membership.clone()])]);
    let reading = nodes.read(2, &of_one, None);
    assert!(!reading.complete, "nobody knows what the other one's records say");
    assert_eq!(reading.members.map(|members| members.len()), Some(1), "what is known");
    nodes.node(2).handle_group(8, of_one.clone(), None, PATIENCE, now + PATIENCE);
    nodes.carry();
    assert_eq!(nodes.told, []);
    nodes.node(2).handle_roll(vec![(of(2), kind(), vec![membership])]);
    nodes.carry();
    let Some(Output::Group { number: 8, reading }) = nodes.told.pop() else { panic!("no answer at once") };
    assert_eq!((reading.complete, reading.members.map(|members| members.len())), (true, Some(2)));
}

#[test]
fn a_join_is_answered_when_every_member_is_in_the_view_and_not_before() {
    let mut nodes = Nodes::new(2, Limits::default());
    let group = group_at(&nodes.line(), 1);
    let name = names(40).find(|name| nodes.line().owner_of(name) == Some(life(1))).unwrap();
    // The other one has not installed it.
    let slow = nodes.nodes.remove(&life(2)).unwrap();
    nodes.view = view_of(2, &[life(1), life(2)]);
    nodes.install();
    let request = RequestId { caller: life(1), number: 1 };
    let join = |nodes: &mut Nodes| {
        let membership = Membership { group: group.clone(), meta: Metadata::new() };
        nodes.node(1).handle_enrol(name.clone(), Some(&kind()), vec![membership], Vec::new(), Some(request));
        nodes.pass(REPEAT);
    };
    join(&mut nodes);
    join(&mut nodes);
    assert_eq!(nodes.told, []);
    nodes.nodes.insert(life(2), slow);
    let (view, now) = (Arc::clone(&nodes.view), nodes.now);
    nodes.node(2).handle_view(&view, owners(&view), now);
    nodes.carry();
    assert_eq!(nodes.told, [Output::Enrolled { request, name }], "once, however often it was asked");
}

#[test]
fn what_waits_to_be_told_is_the_latest_of_each_name() {
    let mut nodes = Nodes::new(2, Limits::default());
    let line = nodes.line();
    let of_one = group_at(&line, 1);
    nodes.nodes.remove(&life(1));
    let owned: Vec<Name> = names(20_000).filter(|name| line.owner_of(name) == Some(life(2))).collect();
    let count = (INDEX_PARTS_AHEAD + 1) * INDEX_PART_ROWS;
    assert!(owned.len() > count / 2);
    for round in 0..3 {
        for name in &owned {
            let meta = Metadata::new().with("round", &round.to_string()).unwrap();
            let membership = Membership { group: of_one.clone(), meta };
            nodes.node(2).handle_enrol(name.clone(), Some(&kind()), vec![membership], Vec::new(), None);
        }
        nodes.carry();
    }
    let rows = |message: &Message| match message {
        Message::Enrol { rows, .. } => rows.len(),
        _ => 0,
    };
    let parts: Vec<usize> = nodes.said.iter().map(rows).filter(|rows| *rows > 0).collect();
    assert_eq!(parts.len(), INDEX_PARTS_AHEAD, "no more before one is acknowledged");
    assert!(parts.iter().all(|rows| *rows <= INDEX_PART_ROWS));
    assert!(nodes.node(2).usage().iter().all(|row| row.used <= row.limit));
}

#[test]
fn an_index_that_is_full_is_not_complete_any_more() {
    let mut nodes = Nodes::new(1, Limits { index_rows: 10, ..Limits::default() });
    nodes.roll(&group(0), names(10));
    assert!(nodes.read(1, &group(0), None).complete);
    nodes.roll(&group(0), names(11));
    let reading = nodes.read(1, &group(0), None);
    assert_eq!((reading.members.map(|members| members.len()), reading.complete), (Some(10), false));
}

#[test]
fn a_reading_ends_at_its_limit_of_rows() {
    let mut nodes = Nodes::new(1, Limits::default());
    nodes.roll(&group(0), names(READING_ROWS_MAX + INDEX_PAGE_ROWS));
    let reading = nodes.read(1, &group(0), None);
    let found = reading.members.unwrap().len();
    assert!(!reading.complete && reading.version.is_none());
    assert!((READING_ROWS_MAX..READING_ROWS_MAX + INDEX_PAGE_ROWS).contains(&found), "{found}");
}

#[test]
fn a_node_asks_so_many_questions_at_a_time() {
    let mut nodes = Nodes::new(2, Limits { readings: 3, ..Limits::default() });
    let of_one = group_at(&nodes.line(), 1);
    nodes.nodes.remove(&life(1));
    let now = nodes.now;
    for number in 0..4 {
        nodes.node(2).handle_group(number, of_one.clone(), None, PATIENCE, now);
    }
    nodes.carry();
    let nothing = GroupReading { version: None, members: Some(Vec::new()), complete: false };
    assert_eq!(nodes.told, [Output::Group { number: 3, reading: nothing }], "the last one, at once");
    nodes.pass(PATIENCE);
    assert_eq!(nodes.told.len(), 4);
}

#[test]
fn the_groups_of_a_scope_are_those_with_members_of_all_indexes() {
    let mut nodes = Nodes::new(3, Limits::default());
    let line = nodes.line();
    for (at, name) in names(60).enumerate() {
        let groups = [group(at as u64 % 20), group(20 + at as u64 % 2)];
        let memberships = groups.map(|group| Membership { group, meta: Metadata::new() }).to_vec();
        let Incarnation { nonce, .. } = line.owner_of(&name).unwrap();
        nodes.node(nonce).handle_enrol(name, Some(&kind()), memberships, Vec::new(), None);
    }
    nodes.roll(&group(0), std::iter::empty());
    let now = nodes.now;
    nodes.node(2).handle_scope(1, named("rooms"), PATIENCE, now);
    nodes.node(3).handle_scope(2, named("nothing"), PATIENCE, now);
    nodes.carry();
    let scope = |number| {
        nodes.told.iter().find_map(|told| match told {
            Output::Scope { number: of, reading } if *of == number => Some(reading.clone()),
            _ => None,
        })
    };
    assert_eq!(scope(2), Some(ScopeReading { names: Vec::new(), complete: true }));
    let rooms = scope(1).unwrap();
    assert!(rooms.complete && rooms.names.is_sorted());
    assert_eq!(rooms.names.len(), 11, "every other one");
    assert!(rooms.names.contains(&(named("group:20"), 30)) && rooms.names.contains(&(named("group:4"), 3)));
}
