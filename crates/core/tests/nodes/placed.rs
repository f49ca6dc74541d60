//! Names that want nodes with labels.

use super::*;

/// Nodes a and b have the label `zone` = `x`, c has `zone` = `y`.
fn three() -> Net {
    let mut net = Net { zones: true, ..Net::new() };
    for name in ["a", "b", "c"] {
        net.boot(name, &["a", "b", "c"]);
    }
    net.run(3_000);
    net
}

pub(super) fn zone_of(node: &str) -> &'static str {
    if node < "c" { "x" } else { "y" }
}

fn start_in(zone: &str) -> Ask {
    let placement = Placement::labels([("zone", zone)]).unwrap();
    match start() {
        Ask::Start { kind, args, policy, .. } => Ask::Start { kind, args, policy, placement },
        other => other,
    }
}

fn names(count: usize) -> impl Iterator<Item = String> {
    (0..count).map(|number| format!("basket:{number}"))
}

/// Where a name runs.
fn home(net: &Net, name: &str) -> Vec<String> {
    let runs = |node: &Node| node.snapshot().hosted.iter().any(|(at, _, runs)| at.as_str() == name && *runs);
    net.nodes.iter().filter(|(_, node)| runs(node)).map(|(at, _)| at.clone()).collect()
}

#[test]
fn a_name_runs_where_its_labels_are_and_nowhere_else() {
    let mut net = three();
    for (number, name) in names(40).enumerate() {
        let zone = ["x", "y"][number % 2];
        let answer = net.ask(["a", "b", "c"][number % 3], &name, start_in(zone));
        assert!(matches!(answer, Answer::Started { .. }), "{answer:?}");
        assert!(home(&net, &name).iter().all(|node| zone_of(node) == zone));
    }
    for node in ["a", "b", "c"] {
        assert!(!net.snapshot(node).hosted.is_empty(), "both of a zone have some");
    }
    let nowhere = net.ask("a", "basket:40", start_in("z"));
    assert!(matches!(nowhere, Answer::NoHost(_)), "{nowhere:?}");
    let away = net.ask("a", "basket:0", Ask::Move { to: Some(Name::new("c").unwrap()) });
    assert_eq!(away, Answer::Hindered(whimbrel_core::base::Hindrance::Unfit));
}

#[test]
fn a_name_whose_labels_are_gone_waits_for_a_node_that_has_them() {
    let mut net = three();
    for name in names(8) {
        net.ask("a", &name, start_in("y"));
    }
    net.kill("c");
    net.run(6_000);
    assert!(names(8).all(|name| home(&net, &name).is_empty()), "no node fits");
    net.boot("c", &["a", "b"]);
    net.run(6_000);
    assert!(names(8).all(|name| home(&net, &name) == ["c"]));
}

#[test]
fn a_name_whose_node_is_gone_goes_to_another_one_that_fits() {
    let mut net = three();
    for name in names(8) {
        net.ask("c", &name, start_in("x"));
    }
    net.kill("a");
    net.run(6_000);
    assert!(names(8).all(|name| home(&net, &name) == ["b"]));
}

#[test]
fn more_labels_than_a_node_can_have_fit_none() {
    let mut net = three();
    let keys: Vec<String> = (0..17).map(|at| format!("key-{at}")).collect();
    let Ask::Start { kind, args, policy, .. } = start() else { return };
    let placement = Placement::labels(keys.iter().map(|key| (key.as_str(), "x"))).unwrap();
    let answer = net.ask("a", "basket:1", Ask::Start { kind, args, policy, placement });
    assert!(matches!(answer, Answer::NoHost(_)), "{answer:?}");
}

fn start_by_load() -> Ask {
    match start() {
        Ask::Start { kind, args, policy, .. } => {
            Ask::Start { kind, args, policy, placement: Placement::LeastLoaded }
        }
        other => other,
    }
}

fn counts(net: &Net) -> Vec<usize> {
    net.nodes.values().map(|node| node.snapshot().hosted.len()).collect()
}

#[test]
fn names_that_go_by_load_fill_the_nodes_evenly_and_a_busy_one_gets_none() {
    let mut net = three();
    for number in 0..30 {
        let Ask::Start { kind, args, policy, .. } = start() else { return };
        let placement = Placement::Local;
        net.ask("b", &format!("local:{number}"), Ask::Start { kind, args, policy, placement });
    }
    // All know it after a second.
    net.run(1_500);
    for (number, name) in names(60).enumerate() {
        let answer = net.ask(["a", "b", "c"][number % 3], &name, start_by_load());
        assert!(matches!(answer, Answer::Started { .. }), "{answer:?}");
    }
    let counts = counts(&net);
    assert!(counts.iter().all(|count| (26..=34).contains(count)), "{counts:?}");
}

#[test]
fn names_that_go_by_load_leave_a_node_that_has_far_too_much() {
    let mut net = Net::new();
    for name in ["a", "b"] {
        net.boot(name, &["a", "b"]);
    }
    net.run(3_000);
    for name in names(200) {
        net.ask("a", &name, start_by_load());
    }
    net.run(5_000);
    assert_eq!(moved(&net), 0, "{:?}", counts(&net));
    net.boot("c", &["a", "b"]);
    net.run(30_000);
    // Each of both had 100 and is to have 66: some more stay, since less than far too much is left where it is.
    let (counts, moves) = (counts(&net), moved(&net));
    assert!(counts.iter().all(|count| (30..=90).contains(count)), "{counts:?}");
    assert_eq!(moves, counts[2] as u64, "each name moved once");
    net.run(30_000);
    assert_eq!(moved(&net), moves, "they have come to an end");
}

fn moved(net: &Net) -> u64 {
    net.nodes.values().map(|node| node.rebalance_report().moved).sum()
}

fn order(net: &mut Net, at: &str, paused: bool) {
    net.queue.push_back((at.into(), Input::Rebalance { paused }));
    net.settle();
    net.run(1_000);
}

fn paused(net: &Net) -> Vec<bool> {
    net.nodes.values().map(|node| node.rebalance_report().paused).collect()
}

#[test]
fn an_order_to_pause_reaches_all_and_outlives_who_gave_it() {
    let mut net = three();
    order(&mut net, "a", true);
    assert_eq!(paused(&net), [true; 3]);
    net.kill("a");
    net.run(6_000);
    net.boot("d", &["b", "c"]);
    net.run(3_000);
    assert_eq!(paused(&net), [true; 3], "b, c, and d who has just come");
    order(&mut net, "d", false);
    assert_eq!(paused(&net), [false; 3]);
    net.boot("a", &["b", "c"]);
    net.run(3_000);
    assert_eq!(paused(&net), [false; 4]);
    for (at, wanted) in ["a", "b", "c", "d", "a"].into_iter().zip([true, false, true, false, true]) {
        order(&mut net, at, wanted);
        assert_eq!(paused(&net), [wanted; 4]);
    }
}

#[test]
fn while_it_is_paused_nothing_moves_to_a_node_that_joins_and_then_it_does() {
    let mut net = Net::new();
    for name in ["a", "b"] {
        net.boot(name, &["a", "b"]);
    }
    net.run(3_000);
    for name in names(40) {
        net.ask("a", &name, start());
    }
    order(&mut net, "b", true);
    net.boot("c", &["a", "b"]);
    net.run(5_000);
    let held: usize = net.nodes.values().map(|node| node.rebalance_report().held).sum();
    assert!(held > 5 && moved(&net) == 0 && counts(&net)[2] == 0);
    order(&mut net, "c", false);
    net.run(3_000);
    assert!(moved(&net) >= held as u64 && counts(&net)[2] == held);
}
