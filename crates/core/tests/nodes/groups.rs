//! Groups over whole nodes: who is read where, whoever dies meanwhile.

use whimbrel_core::base::{Group, Metadata};
use whimbrel_core::groups::GroupVersion;
use whimbrel_core::placement::{Replicas, slot_of_group};

use super::*;

const SLOTS: u16 = 64;

pub(super) fn room(number: u64) -> Group {
    Group::new("rooms", &format!("room:{number}")).unwrap()
}

pub(super) fn join(group: &Group) -> Ask {
    Ask::Join { group: group.clone(), meta: Metadata::new().with("as", "guest").unwrap() }
}

impl Net {
    /// A room whose index this node has.
    fn room_at(&self, node: &str) -> Group {
        let view = self.snapshot("a").view.unwrap();
        let life = self.nodes[node].incarnation();
        let owner = |group: &Group| Replicas::of(slot_of_group(group, SLOTS), &view, 1).owner();
        (0..).map(room).find(|group| owner(group) == Some(life)).unwrap()
    }

    fn begin_reading(&mut self, at: &str, group: &Group, known: Option<GroupVersion>, millis: u64) -> u64 {
        self.numbers += 1;
        let (number, group, deadline) = (self.numbers, group.clone(), Duration::from_millis(millis));
        self.queue.push_back((at.into(), Input::Group { number, group, known, deadline }));
        self.settle();
        number
    }

    fn reading(&mut self, number: u64) -> GroupReading {
        for _ in 0..6_000 {
            if let Some(reading) = self.readings.remove(&number) {
                return reading;
            }
            self.run(1);
        }
        panic!("no answer");
    }

    fn read_group(&mut self, at: &str, group: &Group, known: Option<GroupVersion>) -> GroupReading {
        let number = self.begin_reading(at, group, known, 5_000);
        self.reading(number)
    }

    /// It dies without a word: nobody knows before it has been silent for D.
    fn falls_silent(&mut self, node: &str) {
        let dead = self.nodes.remove(node).unwrap().incarnation();
        self.sessions.retain(|(one, other)| *one != dead && *other != dead);
    }

    /// The members that every node reads: the same.
    fn everywhere(&mut self, group: &Group) -> Vec<String> {
        let nodes: Vec<String> = self.nodes.keys().cloned().collect();
        let mut all = nodes.iter().map(|at| {
            let reading = self.read_group(at, group, None);
            assert!(reading.complete);
            let names = reading.members.unwrap().into_iter().map(|member| member.name.to_string());
            names.collect::<Vec<_>>()
        });
        let first = all.next().unwrap();
        assert!(all.all(|members| members == first));
        first
    }
}

fn names(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("guest:{number}")).collect()
}

/// Three nodes and some names that are in this room.
fn in_room(group: impl Fn(&Net) -> Group) -> (Net, Group, Vec<String>) {
    let mut net = three();
    let group = group(&net);
    let names = names(6);
    for name in &names {
        net.start("a", name);
        assert_eq!(net.ask("b", name, join(&group)), Answer::Done);
    }
    (net, group, names)
}

#[test]
fn a_join_is_read_on_every_node_and_a_leave_and_the_end_of_a_name_are_too() {
    let (mut net, group, names) = in_room(|_| room(0));
    assert_eq!(net.everywhere(&group), names);
    let reading = net.read_group("c", &group, None);
    let members = reading.members.unwrap();
    assert!(members.iter().all(|m| m.kind.as_str() == "counter" && m.meta.get("as") == Some("guest")));
    let known = net.read_group("c", &group, reading.version);
    assert_eq!(known, GroupReading { version: reading.version, members: None, complete: true });
    assert_eq!(net.ask("c", &names[0], Ask::Leave { group: group.clone() }), Answer::Done);
    assert_eq!(net.everywhere(&group), names[1..]);
    assert_eq!(net.ask("a", &names[1], Ask::Stop), Answer::Done);
    assert_eq!(net.everywhere(&group), names[2..]);
    let (scope, deadline) = (Name::new("rooms").unwrap(), Duration::from_secs(5));
    net.queue.push_back(("b".into(), Input::Groups { number: 9_999, scope, deadline }));
    net.settle();
    let names = vec![(group.name, 4)];
    assert_eq!(net.scopes, [ScopeReading { names, complete: true }]);
    assert_eq!(net.refused, Vec::<&str>::new());
}

#[test]
fn a_restart_and_a_move_change_nothing_in_a_group() {
    let (mut net, group, names) = in_room(|_| room(0));
    let before = net.read_group("a", &group, None);
    let (at, token) = ["a", "b", "c"]
        .iter()
        .find_map(|at| {
            let hosted = net.snapshot(at).hosted;
            hosted.into_iter().find(|(name, ..)| name.as_str() == names[0]).map(|(_, token, _)| (*at, token))
        })
        .unwrap();
    let (name, reason) = (Name::new(&names[0]).unwrap(), ExitReason::Killed);
    net.queue.push_back((at.into(), Input::Exited { name, token, reason }));
    net.run(1_000);
    let elsewhere = ["a", "b", "c"].into_iter().find(|node| *node != at).unwrap();
    net.ask("a", &names[0], Ask::Move { to: Some(Name::new(elsewhere).unwrap()) });
    net.run(1_000);
    let moved = net.snapshot(elsewhere).hosted.iter().any(|(name, ..)| name.as_str() == names[0]);
    assert!(moved, "it has moved");
    let after = net.read_group("b", &group, before.version);
    assert_eq!(after, GroupReading { version: before.version, members: None, complete: true });
}

#[test]
fn when_the_owner_of_an_index_dies_the_next_one_knows_every_member_again() {
    let (mut net, group, names) = in_room(|net| net.room_at("c"));
    let before = net.read_group("a", &group, None);
    net.falls_silent("c");
    // While nobody can answer it waits, and what has no time is given as it is.
    let impatient = net.begin_reading("a", &group, before.version, 1);
    let patient = net.begin_reading("b", &group, before.version, 5_000);
    let hasty = net.reading(impatient);
    assert!(!hasty.complete);
    let reading = net.reading(patient);
    assert!(reading.complete && reading.version != before.version);
    let found = reading.members.unwrap();
    assert!(found.iter().map(|member| member.name.as_str()).eq(names.iter().map(String::as_str)));
    assert_eq!(net.everywhere(&group), names);
}

#[test]
fn a_join_during_a_rebuild_is_answered_by_the_next_owner_and_read_from_then_on() {
    let (mut net, group, names) = in_room(|net| net.room_at("c"));
    net.start("a", "late");
    net.run(1_000);
    net.falls_silent("c");
    assert_eq!(net.ask("a", "late", join(&group)), Answer::Done);
    assert_eq!(net.ask("b", &names[0], Ask::Leave { group: group.clone() }), Answer::Done);
    let mut expected = names[1..].to_vec();
    expected.push("late".into());
    assert_eq!(net.everywhere(&group), expected);
    net.boot("d", &["a", "b"]);
    net.run(2_000);
    assert_eq!(net.snapshot("d").view.unwrap().members.len(), 3);
    assert_eq!(net.everywhere(&group), expected, "and by who comes later");
    assert_eq!(net.refused, Vec::<&str>::new());
}

#[test]
fn after_a_split_both_sides_read_what_their_records_say_and_in_the_end_the_same() {
    let (mut net, group, names) = in_room(|net| net.room_at("a"));
    net.cut(&["c"]);
    net.run(8_000);
    assert_eq!(net.snapshot("a").view.unwrap().members.len(), 2);
    net.start("a", "near");
    assert_eq!(net.ask("a", "near", join(&group)), Answer::Done);
    assert!(net.read_group("b", &group, None).complete);
    assert!(net.read_group("c", &group, None).complete, "a line of one node has all its indexes");
    net.far.clear();
    net.run(30_000);
    let mut expected = names;
    expected.push("near".into());
    assert_eq!(net.everywhere(&group), expected);
}
