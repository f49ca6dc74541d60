//! Processes that are told of the ends of others.

use whimbrel::{Cluster, ExitReason, ProcessRef, RestartPolicy};

use super::watcher::*;
use super::{down_of, worker};
use crate::kinds::LONG;
use crate::moves::doors;
use crate::nodes::{answer, leave_all};

/// Waits until so many ends were heard, and returns them.
pub(super) async fn heard(watcher: &ProcessRef<Watcher>, count: usize) -> Vec<Heard> {
    let until = tokio::time::Instant::now() + LONG;
    loop {
        // A mailbox full of ends refuses.
        let heard = answer(|| watcher.heard()).await;
        if heard.len() >= count {
            return heard;
        }
        assert!(tokio::time::Instant::now() < until, "{heard:?}");
    }
}

fn elsewhere<'a>(nodes: &'a [Cluster], home: &str) -> &'a str {
    nodes.iter().map(Cluster::node_name).find(|node| *node != home).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_process_is_told_of_what_it_watches_and_of_nothing_else() {
    let nodes = watchers(3).await;
    let watcher = nodes[0].start::<Watcher>("watcher", ()).await.unwrap().process;
    let mut ids = Vec::new();
    for name in ["a", "b", "c"] {
        worker(&nodes[1], name).await;
        ids.push(watcher.watch(name.into()).await.unwrap().unwrap());
    }
    let nobody = watcher.watch("nobody".into()).await.unwrap().unwrap();
    let first = heard(&watcher, 1).await;
    assert_eq!((first[0].id, first[0].reason.as_str()), (nobody, "no process"));
    watcher.forget(ids[1]).await.unwrap();
    for (name, text) in [("a", "one"), ("b", "two"), ("c", "three")] {
        nodes[2].process::<Worker>(name).unwrap().fail(text.into()).unwrap();
    }
    let mut told: Vec<_> =
        heard(&watcher, 3).await.into_iter().skip(1).map(|one| (one.id, one.reason)).collect();
    told.sort();
    let mut expected = vec![(ids[0], "panic: one".to_owned()), (ids[2], "panic: three".to_owned())];
    expected.sort();
    assert_eq!(told, expected);
    leave_all(nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn monitors_go_with_a_process_that_moves_and_are_told_once_wherever_it_is() {
    let nodes = watchers(3).await;
    let watcher = nodes[0].start::<Watcher>("watcher", ()).await.unwrap().process;
    for at in 0..12 {
        let name = format!("a{at}");
        let process = worker(&nodes[at % 3], &name).await;
        let id = watcher.watch(name.clone()).await.unwrap().unwrap();
        let (from, target) = (watcher.place().await.unwrap().0, process.place().await.unwrap().0);
        nodes[at % 3].move_to(&name, elsewhere(&nodes, &target)).await.unwrap();
        let to = elsewhere(&nodes[at % 2..], &from);
        // Before the watcher moves, while it does, and after it has.
        if at % 3 == 0 {
            process.fail("gone".into()).unwrap();
        }
        let moving = nodes[0].move_to("watcher", to);
        if at % 3 == 1 {
            let (moved, ()) = tokio::join!(moving, async { process.fail("gone".into()).unwrap() });
            moved.unwrap();
        } else {
            moving.await.unwrap();
        }
        if at % 3 == 2 {
            process.fail("gone".into()).unwrap();
        }
        let all = heard(&watcher, at + 1).await;
        assert_eq!((all.len(), all[at].id, all[at].reason.as_str()), (at + 1, id, "panic: gone"));
    }
    leave_all(nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_end_that_waits_in_the_mailbox_goes_with_it_and_keeps_its_place() {
    let nodes = watchers(2).await;
    let watcher = nodes[0].start::<Watcher>("watcher", ()).await.unwrap().process;
    let process = worker(&nodes[0], "a").await;
    watcher.watch("a".into()).await.unwrap().unwrap();
    let mut others = nodes[0].monitor("a").await.unwrap();
    watcher.wait_at("door".into()).unwrap();
    doors::pass(&nodes[0], "door reached").await;
    process.mark_there("watcher".into()).unwrap();
    process.work().await.unwrap();
    process.fail("gone".into()).unwrap();
    down_of(&mut others).await;
    // The same way, after it: the end waits in the mailbox by now.
    let mut after = nodes[0].monitor("nobody").await.unwrap();
    down_of(&mut after).await;
    let home = watcher_home(&nodes, "watcher").await;
    let (moved, ()) = tokio::join!(nodes[0].move_to("watcher", elsewhere(&nodes, &home)), async {
        watcher.mark("after the end".into()).unwrap();
        doors::open(&nodes[0], "door");
    });
    moved.unwrap();
    assert_eq!(heard(&watcher, 1).await.len(), 1);
    assert_eq!(watcher.marks().await.unwrap(), ["before the end", "down a", "after the end"]);
    leave_all(nodes).await;
}

/// Where it runs, without a word to it.
async fn watcher_home(nodes: &[Cluster], name: &str) -> String {
    let at = nodes[0].locate(name).await.unwrap().host;
    nodes.iter().find(|node| node.incarnation() == at).unwrap().node_name().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_life_that_begins_anew_hears_nothing_of_what_the_one_before_has_watched() {
    let nodes = watchers(1).await;
    let start = nodes[0].start::<Watcher>("watcher", ()).policy(RestartPolicy::Permanent).await.unwrap();
    let watcher = start.process;
    for name in ["a", "b"] {
        worker(&nodes[0], name).await;
        watcher.watch(name.into()).await.unwrap().unwrap();
    }
    let mut others = nodes[0].monitor("a").await.unwrap();
    let mut ended = nodes[0].monitor("watcher").await.unwrap();
    watcher.crash_at("door".into()).unwrap();
    doors::pass(&nodes[0], "door reached").await;
    nodes[0].process::<Worker>("a").unwrap().fail("gone".into()).unwrap();
    assert_eq!(down_of(&mut others).await.reason, ExitReason::Panic("gone".into()));
    doors::open(&nodes[0], "door");
    assert_eq!(down_of(&mut ended).await.reason, ExitReason::Panic("told to fail".into()));
    nodes[0].process::<Worker>("b").unwrap().fail("gone".into()).unwrap();
    worker(&nodes[0], "c").await;
    while watcher.heard().await.is_err() {}
    watcher.watch("c".into()).await.unwrap().unwrap();
    nodes[0].process::<Worker>("c").unwrap().fail("gone".into()).unwrap();
    let heard = heard(&watcher, 1).await;
    assert_eq!(heard.iter().map(|one| one.name.as_str()).collect::<Vec<_>>(), ["c"]);
    leave_all(nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_process_without_a_name_is_told_and_gives_up_with_its_end() {
    let nodes = watchers(2).await;
    let watcher = nodes[0].spawn::<Watcher>(()).await.unwrap();
    for name in ["a", "b"] {
        worker(&nodes[0], name).await;
        watcher.watch_all(name.into()).await.unwrap().unwrap();
    }
    nodes[0].stop("a").await.unwrap();
    assert_eq!(heard(&watcher, 1).await[0].reason, "shutdown");
    let mut letters = nodes[0].dead_letters();
    watcher.stop_well().unwrap();
    while watcher.heard().await.is_ok() {}
    nodes[0].stop("b").await.unwrap();
    let mut others = nodes[0].monitor("b").await.unwrap();
    down_of(&mut others).await;
    assert_eq!(letters.total(), 0, "an end that nobody waits for is no dead letter");
    drop(letters.next());
    leave_all(nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_process_has_so_many_monitors_and_no_more() {
    let nodes = watchers(1).await;
    let watcher = nodes[0].start::<Watcher>("watcher", ()).await.unwrap().process;
    assert_eq!(watcher.watch_many("nobody".into()).deadline(LONG).await, Ok(16_384));
    let until = tokio::time::Instant::now() + LONG;
    while answer(|| watcher.heard_so_many()).await < 16_384 {
        assert!(tokio::time::Instant::now() < until);
    }
    assert!(watcher.watch("nobody".into()).await.unwrap().is_some(), "there is room again");
    leave_all(nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn moves_are_told_to_a_process_that_asked_for_them() {
    let nodes = watchers(2).await;
    let watcher = nodes[0].start::<Watcher>("watcher", ()).await.unwrap().process;
    let process = worker(&nodes[0], "a").await;
    let id = watcher.watch_all("a".into()).await.unwrap().unwrap();
    for count in 1..=3 {
        let home = process.place().await.unwrap().0;
        nodes[0].move_to("a", elsewhere(&nodes, &home)).await.unwrap();
        let heard = heard(&watcher, count).await;
        assert!(heard.iter().all(|one| one.id == id && one.reason == "moved"), "{heard:?}");
    }
    process.end(None).unwrap();
    let heard = heard(&watcher, 4).await;
    assert_eq!((heard.len(), heard[3].reason.as_str()), (4, "normal"));
    leave_all(nodes).await;
}
