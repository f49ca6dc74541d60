//! Monitors, links and last states.

mod links;
mod many;
mod states;
mod told;
mod watcher;

use whimbrel::{Cluster, Down, ExitReason, MonitorError, RestartPolicy, Token};

use crate::kinds::LONG;
use crate::nodes::leave_all;
use watcher::*;

/// What code outside hears, in time.
async fn down_of(monitor: &mut whimbrel::Monitor) -> Down {
    tokio::time::timeout(LONG, monitor.down()).await.unwrap()
}

fn panicked(text: &str) -> ExitReason {
    ExitReason::Panic(text.into())
}

async fn worker(node: &Cluster, name: &str) -> whimbrel::ProcessRef<Worker> {
    node.get_or_start::<Worker>(name, None).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_node_hears_once_why_a_process_has_ended() {
    let nodes = watchers(3).await;
    let process = worker(&nodes[0], "a").await;
    let token = nodes[0].locate("a").await.unwrap().token;
    let mut monitors = Vec::new();
    for node in &nodes {
        monitors.push(node.monitor("a").await.unwrap());
        monitors.push(node.monitor("a").instance(token).await.unwrap());
    }
    process.fail("why it ended".into()).unwrap();
    for monitor in &mut monitors {
        let down = down_of(monitor).await;
        assert_eq!((down.reason, down.token), (panicked("why it ended"), token));
        assert_eq!((down.name.as_str(), down.to), ("a", None));
        assert_eq!(monitor.moved().await, None);
    }
    leave_all(nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_is_not_there_has_ended_and_what_is_no_name_is_refused() {
    let nodes = watchers(2).await;
    let mut monitor = nodes[0].monitor("nobody").await.unwrap();
    let down = down_of(&mut monitor).await;
    assert_eq!((down.reason, down.token), (ExitReason::NoProcess, Token::NONE));
    worker(&nodes[0], "a").await;
    let mut other_life = nodes[1].monitor("a").instance(Token::from_u64(1)).await.unwrap();
    assert_eq!(down_of(&mut other_life).await.reason, ExitReason::NoProcess);
    assert!(matches!(nodes[0].monitor("").await, Err(MonitorError::BadName(_))));
    let watcher = nodes[0].start::<Watcher>("watcher", ()).await.unwrap().process;
    assert_eq!(watcher.refusals().await, Ok(true));
    nodes[0].leave().await;
    assert!(matches!(nodes[0].monitor("a").await, Err(MonitorError::Stopped)));
    leave_all(nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_name_is_watched_across_its_restarts() {
    let nodes = watchers(2).await;
    let start = nodes[0].start::<Worker>("a", None).policy(RestartPolicy::Permanent).await.unwrap();
    let mut name = nodes[1].monitor("a").until_name_ends().await.unwrap();
    let mut tokens = Vec::new();
    for _ in 0..3 {
        let mut life = nodes[0].monitor("a").await.unwrap();
        start.process.fail("again".into()).unwrap();
        let down = down_of(&mut life).await;
        assert_eq!(down.reason, panicked("again"));
        tokens.push(down.token);
        // It runs again.
        while start.process.work().await.is_err() {}
    }
    assert!(tokens.is_sorted_by(|before, after| before < after), "{tokens:?}");
    nodes[0].stop("a").await.unwrap();
    let down = down_of(&mut name).await;
    assert_eq!(down.reason, ExitReason::Shutdown);
    assert!(Some(&down.token) > tokens.last());
    leave_all(nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_planned_move_is_no_end_and_told_to_those_who_asked_for_it() {
    let nodes = watchers(3).await;
    let process = worker(&nodes[0], "a").await;
    let mut asked = nodes[1].monitor("a").with_moves().await.unwrap();
    let mut others = nodes[2].monitor("a").await.unwrap();
    for _ in 0..3 {
        let home = process.place().await.unwrap().0;
        let to = nodes.iter().find(|node| node.node_name() != home).unwrap();
        nodes[0].move_to("a", to.node_name()).await.unwrap();
        let moved = tokio::time::timeout(LONG, asked.moved()).await.unwrap();
        assert_eq!(moved, Some(to.incarnation()));
    }
    process.end(Some("enough".into())).unwrap();
    for monitor in [&mut asked, &mut others] {
        assert_eq!(down_of(monitor).await.reason, ExitReason::Error("enough".into()));
    }
    assert_eq!(asked.moved().await, None);
    leave_all(nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_end_is_told_though_the_owner_of_the_name_has_gone() {
    let nodes = watchers(3).await;
    // Owners of these are all three nodes.
    let names: Vec<String> = (0..12).map(|at| format!("a{at}")).collect();
    let mut monitors = Vec::new();
    for name in &names {
        worker(&nodes[0], name).await;
        monitors.push(nodes[0].monitor(name).await.unwrap());
    }
    // What ran there ends with its node: a crash.
    let mut nodes = nodes;
    drop(nodes.pop());
    for (name, monitor) in names.iter().zip(&mut monitors) {
        // Where it was lost with its node there is nothing to stop.
        let _lost = nodes[0].stop(name).await;
        let reason = down_of(monitor).await.reason;
        assert!(matches!(reason, ExitReason::Shutdown | ExitReason::NodeLost), "{name}: {reason}");
    }
    leave_all(nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_node_that_is_closed_says_that_it_hears_of_nothing() {
    let node = watchers(1).await.pop().unwrap();
    worker(&node, "a").await;
    let mut monitor = node.monitor("a").await.unwrap();
    let mut given_up = node.monitor("a").await.unwrap();
    let waiting = tokio::time::timeout(std::time::Duration::ZERO, given_up.down()).await;
    assert!(waiting.is_err(), "it is dropped on the way, and asked again");
    drop(node);
    let down = down_of(&mut monitor).await;
    assert_eq!((down.reason, down.token), (ExitReason::NodeLost, Token::NONE));
    assert_eq!(down_of(&mut given_up).await.reason, ExitReason::NodeLost);
}
