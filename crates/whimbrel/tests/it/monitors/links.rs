//! Processes that end together.

use whimbrel::{Cluster, ExitReason, ProcessRef};

use super::watcher::*;
use super::{down_of, panicked};
use crate::kinds::LONG;
use crate::nodes::leave_all;

async fn pair(nodes: &[Cluster]) -> [ProcessRef<Watcher>; 2] {
    let a = nodes[0].start::<Watcher>("a", ()).await.unwrap().process;
    let b = nodes[0].start::<Watcher>("b", ()).await.unwrap().process;
    a.link("b".into()).await.unwrap().unwrap();
    // Behind what links it.
    b.heard().await.unwrap();
    [a, b]
}

/// Lets what one has sent to the other arrive: they go the same ways.
async fn settle(one: &ProcessRef<Watcher>, other: &ProcessRef<Watcher>) {
    for _ in 0..3 {
        one.heard().await.unwrap();
        other.heard().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_abnormal_end_of_one_ends_the_other_from_both_sides_and_after_moves() {
    for (side, moves) in [(0, false), (1, false), (0, true), (1, true)] {
        let nodes = watchers(3).await;
        let both = pair(&nodes).await;
        settle(&both[0], &both[1]).await;
        if moves {
            for (name, process) in ["a", "b", "a"].iter().zip([&both[0], &both[1], &both[0]]) {
                let home = process.place().await.unwrap().0;
                let to = nodes.iter().map(Cluster::node_name).find(|node| *node != home).unwrap();
                nodes[0].move_to(name, to).await.unwrap();
            }
        }
        let names = ["a", "b"];
        let mut other = nodes[2].monitor(names[1 - side]).await.unwrap();
        both[side].fail("gone".into()).unwrap();
        let why = format!("linked {} ended: panic: gone", names[side]);
        assert_eq!(down_of(&mut other).await.reason, ExitReason::Error(why), "side {side}, moves {moves}");
        leave_all(nodes).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_normal_end_and_an_undone_link_end_nobody() {
    let nodes = watchers(2).await;
    let [a, b] = pair(&nodes).await;
    settle(&a, &b).await;
    b.unlink("a".into()).await.unwrap();
    settle(&b, &a).await;
    let mut ended = nodes[1].monitor("b").await.unwrap();
    b.fail("gone".into()).unwrap();
    assert_eq!(down_of(&mut ended).await.reason, panicked("gone"));
    let c = nodes[0].start::<Watcher>("c", ()).await.unwrap().process;
    a.link("c".into()).await.unwrap().unwrap();
    let mut ended = nodes[1].monitor("c").await.unwrap();
    c.stop_well().unwrap();
    assert_eq!(down_of(&mut ended).await.reason, ExitReason::Normal);
    // What is told later than both ends.
    a.watch("b".into()).await.unwrap().unwrap();
    assert_eq!(super::told::heard(&a, 1).await[0].reason, "no process");
    leave_all(nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn who_traps_exits_is_told_and_goes_on() {
    let nodes = watchers(2).await;
    let trapper = nodes[0].start::<Trapper>("trapper", ()).await.unwrap().process;
    let a = nodes[0].start::<Watcher>("a", ()).await.unwrap().process;
    let id = trapper.link("a".into()).await.unwrap().unwrap();
    assert_eq!(trapper.link("a".into()).await, Ok(Some(id)), "it is linked already");
    a.heard().await.unwrap();
    a.fail("gone".into()).unwrap();
    let until = tokio::time::Instant::now() + LONG;
    while trapper.heard().await.unwrap().is_empty() {
        assert!(tokio::time::Instant::now() < until);
    }
    let heard = trapper.heard().await.unwrap();
    assert_eq!((heard.len(), heard[0].id, heard[0].reason.as_str()), (1, id, "panic: gone"));
    let b = nodes[0].start::<Watcher>("b", ()).await.unwrap().process;
    b.link("trapper".into()).await.unwrap().unwrap();
    trapper.heard().await.unwrap();
    let mut ended = nodes[1].monitor("b").await.unwrap();
    trapper.fail("gone too".into()).unwrap();
    let why = "linked trapper ended: panic: gone too".to_owned();
    assert_eq!(down_of(&mut ended).await.reason, ExitReason::Error(why));
    leave_all(nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_link_with_nobody_is_an_end() {
    let nodes = watchers(1).await;
    let a = nodes[0].start::<Watcher>("a", ()).await.unwrap().process;
    let mut ended = nodes[0].monitor("a").await.unwrap();
    a.link("nobody".into()).await.unwrap().unwrap();
    let why = "linked nobody ended: no process".to_owned();
    assert_eq!(down_of(&mut ended).await.reason, ExitReason::Error(why));
    leave_all(nodes).await;
}
