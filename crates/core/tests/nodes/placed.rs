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
    let away = net.ask("a", "basket:0", Ask::Move { to: Name::new("c").unwrap() });
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
