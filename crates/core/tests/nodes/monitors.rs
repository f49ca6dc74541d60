//! Who watches whom: every end is told once, whatever becomes of owners, watchers and watched.

use super::*;
use whimbrel_core::base::Token;
use whimbrel_core::directory::{Located, Until};
use whimbrel_core::placement::{Replicas, slot_of};

fn three() -> Net {
    let mut net = Net::new();
    for name in ["a", "b", "c"] {
        net.boot(name, &["a", "b", "c"]);
    }
    net.run(3_000);
    net
}

/// Watches, and waits until the monitor stands or has been told.
fn monitor(net: &mut Net, at: &str, id: u64, name: &str, of: Option<Token>, until: Until) {
    monitor_by(net, at, id, name, None, of, until, false);
}

#[allow(clippy::too_many_arguments)]
fn monitor_by(
    net: &mut Net,
    at: &str,
    id: u64,
    name: &str,
    by: Option<&str>,
    of: Option<Token>,
    until: Until,
    moves: bool,
) {
    let by = by.map(|by| Name::new(by).unwrap());
    let name = Name::new(name).unwrap();
    net.queue.push_back((at.into(), Input::Monitor { id, name, of, until, moves, by }));
    net.run(2);
}

fn located(net: &mut Net, name: &str) -> Located {
    match net.ask("a", name, Ask::Locate) {
        Answer::Located(located) => located,
        other => panic!("{other:?}"),
    }
}

fn host_of(net: &mut Net, name: &str) -> String {
    let at = located(net, name);
    net.name_of(at.host).unwrap()
}

fn owner_of(net: &Net, name: &str) -> String {
    let owns = |node: &Node| node.snapshot().records.iter().any(|record| record.name.as_str() == name);
    net.nodes.iter().find(|(_, node)| owns(node)).map(|(at, _)| at.clone()).unwrap()
}

fn exit(net: &mut Net, name: &str, reason: ExitReason) {
    let at = located(net, name);
    let host = net.name_of(at.host).unwrap();
    let name = Name::new(name).unwrap();
    net.queue.push_back((host, Input::Exited { name, token: at.token, reason }));
    net.run(5);
}

/// What was told of a monitor, and that it was told once.
fn told(net: &Net, id: u64) -> Option<(&str, &ExitReason)> {
    let mut all = net.downs.iter().filter(|(_, other, _)| *other == id);
    let first = all.next().map(|(at, _, down)| (at.as_str(), &down.reason));
    assert!(all.next().is_none(), "told twice: {:?}", net.downs);
    first
}

fn panicked() -> ExitReason {
    ExitReason::Panic("x".into())
}

/// A name of which this node has neither the process nor a copy.
fn name_apart_from(net: &mut Net, node: &str) -> String {
    for number in 0..64 {
        let name = format!("basket:{number}");
        net.start("a", &name);
        let view = net.nodes[node].view().unwrap().clone();
        let replicas = Replicas::of(slot_of(&Name::new(&name).unwrap(), 64), &view, 2);
        let me = net.nodes[node].incarnation();
        if host_of(net, &name) != node && replicas.iter().all(|replica| replica != me) {
            return name;
        }
    }
    panic!("64 names, and none is apart from {node}");
}

#[test]
fn a_monitor_of_a_life_is_told_of_its_end_and_one_of_the_name_of_the_end_of_the_name() {
    let mut net = three();
    net.start("a", "basket:1");
    let token = located(&mut net, "basket:1").token;
    monitor(&mut net, "a", 1, "basket:1", None, Until::Life);
    monitor(&mut net, "b", 2, "basket:1", Some(token), Until::Life);
    monitor(&mut net, "c", 3, "basket:1", None, Until::Name);
    assert_eq!(net.monitored, [(1, Ok(())), (2, Ok(())), (3, Ok(()))]);
    net.run(2_000);
    assert!(net.downs.is_empty());
    exit(&mut net, "basket:1", panicked());
    for (id, at) in [(1, "a"), (2, "b")] {
        assert_eq!(told(&net, id), Some((at, &panicked())));
    }
    assert_eq!(told(&net, 3), None, "it starts again");
    net.ask("a", "basket:1", Ask::Stop);
    net.run(5);
    assert_eq!(told(&net, 3), Some(("c", &ExitReason::Shutdown)));
    net.run(3_000);
    assert_eq!(net.downs.len(), 3);
}

#[test]
fn what_is_gone_is_told_at_once() {
    let mut net = three();
    monitor(&mut net, "a", 1, "nobody", None, Until::Life);
    net.start("a", "basket:1");
    let token = located(&mut net, "basket:1").token;
    exit(&mut net, "basket:1", panicked());
    monitor(&mut net, "a", 2, "basket:1", Some(token), Until::Life);
    for id in [1, 2] {
        assert_eq!(told(&net, id), Some(("a", &ExitReason::NoProcess)));
    }
    for _ in 0..6 {
        net.run(20_000);
        if net.ask("a", "basket:1", Ask::Locate) == Answer::Quarantined {
            break;
        }
        exit(&mut net, "basket:1", panicked());
    }
}

#[test]
fn a_planned_move_is_no_end_and_the_life_is_watched_on_under_its_first_token() {
    let mut net = three();
    net.start("a", "basket:1");
    let (token, host) = (located(&mut net, "basket:1").token, host_of(&mut net, "basket:1"));
    monitor_by(&mut net, "a", 1, "basket:1", None, Some(token), Until::Life, true);
    let target = ["a", "b", "c"].into_iter().find(|other| **other != host).unwrap();
    let to = Some(Name::new(target).unwrap());
    assert_eq!(net.ask("b", "basket:1", Ask::Move { to }), Answer::Done);
    let moved: Vec<Down> = net.downs.drain(..).map(|(_, _, down)| down).collect();
    assert_eq!(moved.len(), 1);
    assert_eq!(
        (&moved[0].reason, net.name_of(moved[0].to.unwrap()).unwrap().as_str()),
        (&ExitReason::Moved, target)
    );
    // Who knew it by its token from before the move knows this life.
    monitor(&mut net, "c", 2, "basket:1", Some(token), Until::Life);
    net.run(1_000);
    assert!(net.downs.is_empty());
    exit(&mut net, "basket:1", panicked());
    for id in [1, 2] {
        assert_eq!(told(&net, id).map(|(_, reason)| reason), Some(&panicked()));
    }
}

#[test]
fn the_next_owner_tells_what_the_one_before_was_told_to() {
    let mut net = three();
    let name = name_apart_from(&mut net, "a");
    monitor(&mut net, "a", 1, &name, None, Until::Life);
    let (owner, host) = (owner_of(&net, &name), host_of(&mut net, &name));
    net.kill(&owner);
    net.run(6_000);
    let lost = owner == host;
    assert_eq!(told(&net, 1).map(|(_, reason)| reason), lost.then_some(&ExitReason::NodeLost));
    if !lost {
        exit(&mut net, &name, panicked());
        assert_eq!(told(&net, 1), Some(("a", &panicked())));
    }
}

#[test]
fn an_end_is_told_though_the_owner_dies_before_it_was_heard() {
    let mut net = three();
    let name = name_apart_from(&mut net, "a");
    monitor(&mut net, "a", 1, &name, None, Until::Name);
    let owner = owner_of(&net, &name);
    // The watcher hears nothing of the end, and the owner dies.
    net.cut(&["a"]);
    net.ask(if owner == "b" { "c" } else { "b" }, &name, Ask::Stop);
    assert_eq!(told(&net, 1), None);
    net.far.clear();
    net.kill(&owner);
    net.run(12_000);
    assert_eq!(told(&net, 1), Some(("a", &ExitReason::Shutdown)));
}

#[test]
fn a_watcher_that_moves_is_told_where_it_is() {
    let mut net = three();
    net.start("a", "manager");
    net.start("a", "basket:1");
    let host = host_of(&mut net, "manager");
    monitor_by(&mut net, &host, 1, "basket:1", Some("manager"), None, Until::Life, false);
    let target = ["a", "b", "c"].into_iter().find(|other| **other != host).unwrap();
    let to = Some(Name::new(target).unwrap());
    assert_eq!(net.ask("a", "manager", Ask::Move { to }), Answer::Done);
    // The end comes before it has said where it is: its old node does not take it for heard.
    exit(&mut net, "basket:1", panicked());
    net.run(2_000);
    assert_eq!(told(&net, 1), None);
    monitor_by(&mut net, target, 1, "basket:1", Some("manager"), None, Until::Life, false);
    assert_eq!(told(&net, 1), Some((target, &panicked())));
    net.run(70_000);
    assert!(told(&net, 1).is_some());
}

#[test]
fn a_watcher_that_ends_is_told_nothing_and_one_that_gives_up_neither() {
    let mut net = three();
    net.start("a", "manager");
    net.start("a", "basket:1");
    let host = host_of(&mut net, "manager");
    monitor_by(&mut net, &host, 1, "basket:1", Some("manager"), None, Until::Life, false);
    monitor(&mut net, "b", 2, "basket:1", None, Until::Life);
    net.queue.push_back(("b".into(), Input::Demonitor { ids: vec![2] }));
    exit(&mut net, "manager", panicked());
    exit(&mut net, "basket:1", panicked());
    net.run(2_000);
    assert!(net.downs.is_empty(), "{:?}", net.downs);
}

#[test]
fn a_node_whose_line_is_left_is_told_of_every_monitor_once() {
    let mut net = three();
    let mut names = Vec::new();
    for number in 0..12u64 {
        let name = format!("basket:{number}");
        net.start("a", &name);
        monitor(&mut net, "c", number, &name, None, Until::Life);
        names.push(name);
    }
    net.cut(&["c"]);
    net.run(8_000);
    net.far.clear();
    net.run(15_000);
    // What ran on the other side is another life by now, or the same; after their ends all have been told.
    for name in &names {
        exit(&mut net, name, panicked());
    }
    net.run(8_000);
    for number in 0..12 {
        assert!(told(&net, number).is_some(), "{number}: {:?}", net.downs);
    }
}
