//! What is told of the last state, and of why.

use whimbrel::{CallError, Cluster, ExitReason, StartError};

use super::watcher::*;
use super::{down_of, panicked, worker};
use crate::nodes::leave_all;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_last_state_that_was_shown_is_told_with_the_end() {
    let nodes = watchers(2).await;
    let process = worker(&nodes[0], "a").await;
    for at in 0..50 {
        assert_eq!(process.show(format!("state {at}").into_bytes()).await, Ok(true));
    }
    assert_eq!(process.show(vec![7; whimbrel::limits::SNAPSHOT_BYTES_MAX + 1]).await, Ok(false));
    let mut monitor = nodes[1].monitor("a").await.unwrap();
    process.end(None).unwrap();
    let down = down_of(&mut monitor).await;
    assert_eq!(down.reason, ExitReason::Normal);
    assert_eq!(down.snapshot.unwrap().as_slice(), b"state 49");
    leave_all(nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn states_survive_a_move_and_the_second_in_which_they_wait() {
    let nodes = watchers(2).await;
    let process = worker(&nodes[0], "a").await;
    let mut monitor = nodes[0].monitor("a").await.unwrap();
    process.show(b"first".to_vec()).await.unwrap();
    process.show(b"second".to_vec()).await.unwrap();
    let home = process.place().await.unwrap().0;
    let to = nodes.iter().map(Cluster::node_name).find(|node| *node != home).unwrap();
    nodes[0].move_to("a", to).await.unwrap();
    process.end(None).unwrap();
    let down = down_of(&mut monitor).await;
    assert_eq!(down.snapshot.unwrap().as_slice(), b"second");
    leave_all(nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_process_that_fails_is_asked_for_its_state() {
    let nodes = watchers(2).await;
    for (tells, last) in [(Tells::Done, "done 2"), (Tells::TooMuch, "shown"), (Tells::Panics, "shown")] {
        let process = worker(&nodes[0], "a").await;
        process.work().await.unwrap();
        process.show(b"shown".to_vec()).await.unwrap();
        process.tells(tells).await.unwrap();
        let mut monitor = nodes[1].monitor("a").until_name_ends().await.unwrap();
        process.fail("why".into()).unwrap();
        let down = down_of(&mut monitor).await;
        assert_eq!(down.reason, panicked("why"));
        assert_eq!(down.snapshot.unwrap().as_slice(), last.as_bytes(), "{tells:?}");
        let process = worker(&nodes[0], "a").await;
        process.tells(tells).await.unwrap();
        let mut monitor = nodes[1].monitor("a").until_name_ends().await.unwrap();
        process.end(Some("error".into())).unwrap();
        let down = down_of(&mut monitor).await;
        assert_eq!(down.reason, ExitReason::Error("error".into()));
        let told = down.snapshot.map(|state| state.as_slice().to_vec());
        assert_eq!(told, (tells == Tells::Done).then(|| b"done 0".to_vec()), "{tells:?}");
    }
    leave_all(nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn texts_of_failures_are_withheld_where_that_is_wanted() {
    let first = builder("first", &[]).share_exit_texts(false).join().await.unwrap();
    let second = builder("second", &[&first]).share_exit_texts(false).join().await.unwrap();
    let nodes = [first, second];
    nodes[0].wait_for_members(2, crate::kinds::LONG).await.unwrap();
    let process = worker(&nodes[0], "a").await;
    for (node, asked) in nodes.iter().zip([true, false]) {
        let process = worker(node, "a").await;
        let mut monitor = node.monitor("a").until_name_ends().await.unwrap();
        if asked {
            assert_eq!(process.fail_asked("secret".into()).await, Err(CallError::Crashed));
            assert_eq!(down_of(&mut monitor).await.reason, panicked("(withheld)"));
        } else {
            process.end(Some("secret".into())).unwrap();
            assert_eq!(down_of(&mut monitor).await.reason, ExitReason::Error("(withheld)".into()));
        }
    }
    for at in 0..6 {
        let failed = nodes[at % 2].start::<Worker>(&format!("b{at}"), Some("secret".into())).await;
        let told = ExitReason::Error("(withheld)".into());
        assert!(matches!(&failed, Err(StartError::InitFailed { reason }) if *reason == told), "{failed:?}");
    }
    drop(process);
    leave_all(nodes.into()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_text_that_is_too_long_ends_with_a_mark() {
    let nodes = watchers(1).await;
    let process = worker(&nodes[0], "a").await;
    let mut monitor = nodes[0].monitor("a").await.unwrap();
    process.fail("x".repeat(5_000)).unwrap();
    let ExitReason::Panic(text) = down_of(&mut monitor).await.reason else { panic!("it panicked") };
    assert_eq!((text.len(), text.ends_with("x…")), (whimbrel::limits::TEXT_BYTES_MAX, true));
    leave_all(nodes).await;
}
