//! Golden vectors, shares, and what moves when a member comes or goes.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::view::{MemberInfo, ViewId};

fn member(name: &str, weight: u32) -> MemberInfo {
    MemberInfo {
        name: Name::new(name).unwrap(),
        // Placement must not look at it; names are enough to tell members apart here.
        incarnation: Incarnation { started_ms: 1, nonce: crate::base::hash::hash(1, name.as_bytes()) },
        address: "127.0.0.1:4100".into(),
        weight,
        kinds: vec![Name::new("counter").unwrap()],
        draining: false,
        labels: Default::default(),
    }
}

fn view_of(members: Vec<MemberInfo>) -> View {
    View { id: ViewId { counter: 1, author: 1 }, parent: None, members }
}

fn nodes(count: usize) -> View {
    view_of((1..=count).map(|n| member(&format!("node-{n}"), 100)).collect())
}

fn slots() -> impl Iterator<Item = SlotId> {
    (0..SLOTS).map(SlotId)
}

fn ranked_names(slot: SlotId, view: &View) -> Vec<&str> {
    ranking(slot, view).into_iter().map(|at| view.members[at].name.as_str()).collect()
}

fn owner(slot: SlotId, view: &View) -> Incarnation {
    Replicas::of(slot, view, 2).owner().unwrap()
}

fn shares(view: &View) -> BTreeMap<&str, usize> {
    let mut shares = BTreeMap::new();
    for slot in slots() {
        *shares.entry(ranked_names(slot, view)[0]).or_default() += 1;
    }
    shares
}

#[test]
fn slots_of_names_are_frozen() {
    let golden = [
        ("a", 2463, 153),
        ("session:9f8e7d6c5b4a", 600, 37),
        ("basket:42", 695, 43),
        ("basket:43", 2936, 183),
        ("größe", 1789, 111),
        ("name-0", 3153, 197),
        ("name-1", 1087, 67),
        ("name-299", 453, 28),
    ];
    for (name, of_4096, of_256) in golden {
        let name = Name::new(name).unwrap();
        assert_eq!((slot_of(&name, 4096).0, slot_of(&name, 256).0), (of_4096, of_256), "{name}");
    }
}

#[test]
fn names_spread_evenly_over_the_slots() {
    let mut counts = vec![0u32; 64];
    for n in 0..64_000 {
        counts[usize::from(slot_of(&Name::new(&format!("name-{n}")).unwrap(), 64).0)] += 1;
    }
    assert!(counts.iter().all(|count| (850..1_150).contains(count)), "{counts:?}");
}

#[test]
fn rankings_are_frozen() {
    let view = view_of(vec![member("a", 100), member("b", 100), member("c", 200), member("größe", 50)]);
    let golden = [
        (0, ["a", "b", "größe", "c"]),
        (1, ["a", "b", "größe", "c"]),
        (2, ["a", "c", "b", "größe"]),
        (3, ["größe", "b", "a", "c"]),
        (695, ["größe", "c", "b", "a"]),
        (2463, ["c", "b", "a", "größe"]),
        (4095, ["c", "a", "b", "größe"]),
    ];
    for (slot, want) in golden {
        assert_eq!(ranked_names(SlotId(slot), &view), want, "slot {slot}");
    }
}

#[test]
fn the_order_of_members_changes_no_ranking() {
    let view = nodes(9);
    let mut reversed = view.clone();
    reversed.members.reverse();
    for slot in slots() {
        assert_eq!(ranked_names(slot, &view), ranked_names(slot, &reversed));
    }
}

#[test]
fn a_restarted_node_gets_its_slots_back() {
    let before = nodes(5);
    let mut after = before.clone();
    let mut restarted = after.members.remove(1);
    restarted.incarnation = Incarnation { started_ms: 2, nonce: 99 };
    after.members.push(restarted);
    for slot in slots() {
        assert_eq!(ranked_names(slot, &before), ranked_names(slot, &after));
    }
}

#[test]
fn equal_weights_own_equal_shares() {
    for count in [3, 10, 30] {
        let view = nodes(count);
        let ideal = usize::from(SLOTS) / count;
        for (name, share) in shares(&view) {
            assert!(share * 4 < ideal * 5 && share * 4 > ideal * 3, "{name} owns {share}, ideal {ideal}");
        }
    }
}

#[test]
fn a_share_is_proportional_to_its_weight() {
    let view = view_of(vec![member("a", 100), member("b", 200), member("c", 100), member("d", 400)]);
    let shares = shares(&view);
    for member in &view.members {
        let ideal = u32::from(SLOTS) * member.weight / 800;
        let share = u32::try_from(shares[member.name.as_str()]).unwrap();
        assert!(share.abs_diff(ideal) * 10 < ideal, "{} owns {share}, ideal {ideal}", member.name);
    }
}

#[test]
fn when_a_node_leaves_only_its_slots_move() {
    for count in [2, 3, 10, 30] {
        let before = nodes(count);
        let mut after = before.clone();
        let gone = after.members.remove(count / 2).incarnation;
        let mut moved = 0;
        for slot in slots() {
            let old = Replicas::of(slot, &before, 2);
            let new = owner(slot, &after);
            if old.owner() == Some(gone) {
                moved += 1;
                assert_eq!(old.backups().next(), Some(new), "the first backup takes over");
            } else {
                assert_eq!(old.owner(), Some(new), "{slot:?} moved without need");
            }
        }
        assert_moved_little(moved, count);
    }
}

#[test]
fn when_a_node_joins_it_takes_slots_and_nobody_else_does() {
    for count in [3, 10, 30] {
        let before = nodes(count - 1);
        let after = nodes(count);
        let newcomer = after.members[count - 1].incarnation;
        let changed = slots().filter(|slot| owner(*slot, &before) != owner(*slot, &after));
        let moved: Vec<SlotId> = changed.collect();
        assert!(moved.iter().all(|slot| owner(*slot, &after) == newcomer));
        assert_moved_little(moved.len(), count);
    }
}

/// At most 1.25 times the ideal share of one node.
fn assert_moved_little(moved: usize, count: usize) {
    let ideal = usize::from(SLOTS) / count;
    assert!(moved * 4 <= ideal * 5, "{moved} slots moved with {count} nodes, ideal {ideal}");
}

#[test]
fn more_weight_only_takes() {
    let before = nodes(5);
    let mut after = before.clone();
    after.members[2].weight = 150;
    let heavier = after.members[2].incarnation;
    for slot in slots() {
        let new = owner(slot, &after);
        assert!(new == owner(slot, &before) || new == heavier);
    }
}

#[test]
fn replicas_are_distinct_and_as_many_as_there_are() {
    for (members, replicas, want) in
        [(1, 2, 1), (2, 3, 2), (5, 1, 1), (5, 2, 2), (5, 3, 3), (5, 9, REPLICAS_MAX)]
    {
        let view = nodes(members);
        for slot in slots() {
            let found = Replicas::of(slot, &view, replicas);
            let distinct: BTreeSet<Incarnation> = found.iter().collect();
            assert_eq!((found.iter().count(), distinct.len()), (want, want));
            assert_eq!(found.backups().count(), want - 1);
            assert!(distinct.into_iter().all(|incarnation| found.contains(incarnation)));
        }
    }
}

#[test]
fn a_table_holds_the_first_places_of_every_ranking() {
    let mut uneven = nodes(7);
    uneven.members[3].weight = 200;
    let mut some_drain = nodes(7);
    some_drain.members[2..6].iter_mut().for_each(|member| member.draining = true);
    let views = [nodes(0), nodes(1), nodes(2), nodes(3), nodes(4), nodes(30), uneven, some_drain];
    for view in views {
        for (slot, replicas) in slots().zip(Replicas::table(&view, SLOTS, REPLICAS_MAX)) {
            let ranked = ranking(slot, &view).into_iter().take(REPLICAS_MAX);
            let want: Vec<Incarnation> = ranked.map(|at| view.members[at].incarnation).collect();
            assert_eq!(replicas.iter().collect::<Vec<_>>(), want, "{slot:?} of {}", view.members.len());
        }
    }
}

#[test]
fn no_slot_moves_when_a_node_that_drains_leaves() {
    let mut view = nodes(5);
    view.members[1].draining = true;
    view.members[3].draining = true;
    let stay = |count: usize| {
        let left: Vec<MemberInfo> =
            view.members.iter().filter(|m| !m.draining).take(count).cloned().collect();
        let some_drain: Vec<MemberInfo> =
            left.iter().chain(view.members.iter().filter(|m| m.draining)).cloned().collect();
        (view_of(some_drain), view_of(left))
    };
    let (before, after) = stay(3);
    assert_eq!(Replicas::table(&before, SLOTS, 3), Replicas::table(&after, SLOTS, 3));
    // With fewer than R others it is still a copy; its leaving leaves the owners where they are.
    let (before, after) = stay(1);
    for slot in slots() {
        assert_eq!(Replicas::of(slot, &before, 2).iter().count(), 2);
        assert_eq!(owner(slot, &before), owner(slot, &after));
    }
}

#[test]
fn a_view_without_members_owns_nothing() {
    let replicas = Replicas::of(SlotId(0), &nodes(0), 2);
    assert_eq!((replicas.owner(), replicas.iter().count()), (None, 0));
}

#[test]
fn a_process_is_placed_on_the_first_member_that_can_host_it() {
    let kind = Name::new("counter").unwrap();
    let mut view = nodes(3);
    let slot = SlotId(17);
    for _ in 0..3 {
        let ranked = ranking(slot, &view);
        let able = ranked.into_iter().find(|at| view.members[*at].hosts(&kind)).unwrap();
        assert_eq!(hosts_by_hash(slot, &kind, &view).next(), Some(view.members[able].incarnation));
        // Each way of not being able to host, one after the other.
        if view.members.iter().any(|member| member.draining) {
            view.members[able].kinds.clear();
        } else {
            view.members[able].draining = true;
        }
    }
    assert_eq!(hosts_by_hash(slot, &kind, &view).next(), None);
    assert_eq!(hosts_by_hash(slot, &Name::new("other").unwrap(), &nodes(3)).next(), None);
}
