//! Limits of a kind on a node: who takes a name then, and what becomes of one that nobody takes.

use super::*;

/// Three nodes that host so many processes each.
fn three_with_room_for(each: usize) -> Net {
    let mut net = Net { capacity: Some(each), ..Net::new() };
    for name in ["a", "b", "c"] {
        net.boot(name, &["a", "b", "c"]);
    }
    net.run(3_000);
    net
}

fn hosted(net: &Net) -> Vec<usize> {
    let running = |node: &Node| node.snapshot().hosted.iter().filter(|(_, _, runs)| *runs).count();
    net.nodes.values().map(running).collect()
}

/// Starts basket:0, basket:1 and so on, and tells how many could be.
fn fill(net: &mut Net, names: usize) -> usize {
    let started = |number| {
        let answer = net.start(["a", "b", "c"][number % 3], &format!("basket:{number}"));
        assert!(matches!(answer, Answer::Started { .. } | Answer::AtCapacity), "{answer:?}");
        matches!(answer, Answer::Started { .. })
    };
    (0..names).map(started).filter(|started| *started).count()
}

#[test]
fn a_name_goes_to_the_next_node_that_has_room_and_is_refused_where_none_has() {
    let mut net = three_with_room_for(2);
    assert_eq!(fill(&mut net, 9), 6);
    assert_eq!(hosted(&net), [2, 2, 2]);
    let refused = (0..9).map(|number| format!("basket:{number}")).find(|name| {
        net.ask("b", name, Ask::Locate) == Answer::NotFound && net.start("c", name) == Answer::AtCapacity
    });
    let refused = refused.expect("three were refused, and left no record");
    let gone = (0..9).map(|number| format!("basket:{number}")).find(|name| *name != refused).unwrap();
    net.ask("a", &gone, Ask::Stop);
    // What owners believe of full nodes is forgotten by then.
    net.run(1_000);
    let taken = net.start("a", &refused);
    assert!(matches!(taken, Answer::Started { .. }), "{taken:?}");
    assert_eq!(hosted(&net).iter().max(), Some(&2));
}

#[test]
fn names_of_a_dead_node_wait_until_there_is_room() {
    let mut net = three_with_room_for(2);
    assert_eq!(fill(&mut net, 6), 6);
    net.kill("c");
    net.run(6_000);
    assert_eq!(hosted(&net), [2, 2]);
    let late = net.ask("a", "basket:9", start());
    assert_eq!(late, Answer::AtCapacity);
    net.boot("c", &["a", "b"]);
    net.run(6_000);
    assert_eq!(hosted(&net), [2, 2, 2]);
    for number in 0..6 {
        let found = net.ask("a", &format!("basket:{number}"), Ask::Locate);
        assert!(matches!(found, Answer::Located(_)), "{number}: {found:?}");
    }
}

#[test]
fn a_restart_in_place_has_room_on_a_full_node() {
    let mut net = three_with_room_for(1);
    assert_eq!(fill(&mut net, 4), 3);
    let (name, token, _) = net.snapshot("b").hosted[0].clone();
    let reason = ExitReason::Panic(String::from("x"));
    net.queue.push_back(("b".into(), Input::Exited { name: name.clone(), token, reason }));
    net.settle();
    net.run(100);
    let (after, later, runs) = net.snapshot("b").hosted[0].clone();
    assert!(after == name && later > token && runs);
}

#[test]
fn a_start_on_one_node_alone_is_refused_when_that_is_full() {
    let mut net = three_with_room_for(1);
    let on_b = |placement| Ask::Start {
        kind: Name::new("counter").unwrap(),
        args: Bytes::default(),
        policy: RestartPolicy::Permanent,
        placement,
    };
    let pinned = Placement::Pinned(Name::new("b").unwrap());
    assert!(matches!(net.ask("a", "basket:0", on_b(pinned.clone())), Answer::Started { .. }));
    assert_eq!(net.ask("a", "basket:1", on_b(pinned)), Answer::AtCapacity);
    assert_eq!(net.ask("b", "basket:1", on_b(Placement::Local)), Answer::AtCapacity);
    assert!(matches!(net.ask("a", "basket:1", start()), Answer::Started { .. }));
    assert_eq!(hosted(&net).iter().max(), Some(&1));
}
