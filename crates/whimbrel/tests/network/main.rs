//! A real network that is cut: three nodes, each an OS process in a network namespace of its own, on one bridge.
//!
//! First two nodes lose each other while the third sees both, then one node loses all, each for longer than the
//! detection time takes to act. After each cut all three are of one view again, and every name runs once, by the word
//! of the processes themselves. This program is both the test and, with other arguments, one of its nodes.
#![allow(clippy::unwrap_used, missing_docs)]

mod cluster;
#[path = "../it/machine.rs"]
#[allow(dead_code)]
mod machine;
mod node;
mod wires;

use std::time::Instant;

use cluster::{Nodes, PATIENCE};
use wires::Wires;

const TEST: &str = "a_network_that_is_cut_and_mended_leaves_one_view_and_one_process_of_every_name";
/// Names that run before the first cut.
const NAMES: usize = 12;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [role, name, address, seed] = arguments.as_slice()
        && role == node::ROLE
    {
        return node::run(name, address, seed);
    }
    // As a test harness does: nothing to list apart from the rest, and a filter may mean other tests.
    let filter = arguments.iter().find(|argument| !argument.starts_with('-'));
    let listed = arguments.iter().any(|argument| argument == "--list");
    if listed || filter.is_some_and(|filter| !TEST.contains(filter.as_str())) {
        return;
    }
    match Wires::lay() {
        Ok(wires) => {
            cut_and_mend(&wires);
            println!("test {TEST} ... ok");
            println!("test result: ok. 1 passed; 0 failed; 0 ignored");
        }
        Err(reason) => machine::skipped(TEST, reason),
    }
}

fn cut_and_mend(wires: &Wires) {
    let mut nodes = Nodes::start(wires);
    nodes.until("three nodes are one cluster", |nodes| nodes.all_see(&["n1", "n2", "n3"]));
    let names: Vec<String> = (0..NAMES).map(|at| format!("counter:{at}")).collect();
    for (at, name) in names.iter().enumerate() {
        nodes.start_name(at % 3, name);
    }
    nodes.until("every name runs once", |nodes| names.iter().all(|name| nodes.alive(name) == 1));

    wires.cut_pair();
    nodes.until("one of the two that lost each other is left out", |nodes| nodes.views(2) == 2);
    wires.mend_pair();
    healed(&mut nodes, &names);

    wires.unplug(1);
    nodes.until("the node that lost all is alone, and the others are two", |nodes| {
        nodes.views(0) == 2 && nodes.views(1) == 1 && nodes.views(2) == 2
    });
    // Both sides go on, and start what the other one starts.
    let split = "counter:split".to_owned();
    nodes.start_name(0, &split);
    nodes.start_name(1, &split);
    nodes.until("it runs on both sides", |nodes| nodes.alive(&split) == 2);
    wires.plug(1);
    healed(&mut nodes, &[names, vec![split]].concat());
    nodes.leave();
}

/// One view of all, one process of every name, and the same one for all who ask. What was granted on one side while
/// the other one was on its way may still begin, so a first look may come too early.
fn healed(nodes: &mut Nodes, names: &[String]) {
    let until = Instant::now() + PATIENCE;
    loop {
        nodes.until("one view and one process of every name", |nodes| is_whole(nodes, names));
        let disputed: Vec<_> = names.iter().filter_map(|name| dispute(nodes, name)).collect();
        if disputed.is_empty() && is_whole(nodes, names) {
            return;
        }
        assert!(Instant::now() < until, "names are answered by several processes: {disputed:?}");
    }
}

fn is_whole(nodes: &Nodes, names: &[String]) -> bool {
    nodes.all_see(&["n1", "n2", "n3"]) && names.iter().all(|name| nodes.alive(name) == 1)
}

/// The lives that answered, if not the same one answered all nodes.
fn dispute(nodes: &mut Nodes, name: &str) -> Option<Vec<String>> {
    let lives: Vec<String> = (0..3).map(|node| nodes.call(node, name)).collect();
    lives.iter().any(|life| *life != lives[0]).then_some(lives)
}
