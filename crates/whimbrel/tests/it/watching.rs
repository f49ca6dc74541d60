//! Lists, counts and events of names over several nodes.

use whimbrel::{ExitReason, Filter, RestartPolicy, StreamEvent, Watch};

use crate::kinds::*;
use crate::moves::traveller::{How, Traveller, elsewhere, travellers, trip};
use crate::nodes::{leave_all, nodes};

/// The next event.
async fn told(watch: &mut Watch) -> StreamEvent {
    tokio::time::timeout(LONG, watch.recv()).await.unwrap().unwrap()
}

/// What is there, by name.
async fn there(watch: &mut Watch) -> Vec<String> {
    let mut names = Vec::new();
    loop {
        match told(watch).await {
            StreamEvent::Registered(row) => names.push(row.name.to_string()),
            StreamEvent::Synced => break,
            other => panic!("{other:?}"),
        }
    }
    names.sort();
    names
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_node_is_told_of_each_change_once_with_what_was_before() {
    let nodes = travellers(2).await;
    for name in ["n:1", "n:2", "other"] {
        nodes[0].start::<Traveller>(name, trip(How::Auto)).await.unwrap();
    }
    let meant = || Filter::all().prefix("n:").kind(<Traveller as whimbrel::Process>::KIND);
    let mut watches = Vec::new();
    for node in &nodes {
        let mut watch = node.watch(meant()).await.unwrap();
        assert_eq!(there(&mut watch).await, ["n:1", "n:2"]);
        watches.push(watch);
    }
    nodes[0].start::<Traveller>("unmeant", trip(How::Auto)).await.unwrap();
    nodes[1].start::<Traveller>("n:3", trip(How::Auto)).await.unwrap();
    let before = nodes[0].locate("n:3").await.unwrap();
    let target = elsewhere(&nodes, "n:3").await;
    nodes[0].move_to("n:3", target).await.unwrap();
    let after = nodes[1].locate("n:3").await.unwrap();
    nodes[1].stop("n:3").await.unwrap();
    for watch in &mut watches {
        let StreamEvent::Registered(row) = told(watch).await else { panic!("not registered") };
        assert_eq!((row.name.as_str(), &row.located), ("n:3", &before));
        let StreamEvent::Moved { name, from, to } = told(watch).await else { panic!("not moved") };
        assert_eq!((name.as_str(), from, &to), ("n:3", before.host, &after));
        let StreamEvent::Stopped { name, reason, last } = told(watch).await else { panic!("not stopped") };
        assert_eq!((name.as_str(), reason), ("n:3", Some(ExitReason::Shutdown)));
        assert_eq!((last.located, last.born), (after.clone(), row.born), "a move is no other life");
    }
    for (at, watch) in watches.into_iter().enumerate() {
        drop(watch);
        assert_eq!(nodes[at].count(meant()).await, Ok(2));
    }
    leave_all(nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn crash_and_registered_name_are_told_with_their_reasons() {
    let nodes = nodes(2).await;
    let mut watch = nodes[1].watch(Filter::all()).await.unwrap();
    assert_eq!(told(&mut watch).await, StreamEvent::Synced);
    let counter = nodes[0].start::<Counter>("counter", 1).policy(RestartPolicy::Transient).await.unwrap();
    assert!(matches!(told(&mut watch).await, StreamEvent::Registered(row) if row.name.as_str() == "counter"));
    counter.process.fail().unwrap();
    let StreamEvent::Restarted { reason, .. } = told(&mut watch).await else { panic!("not restarted") };
    assert!(matches!(reason, Some(ExitReason::Panic(text)) if text.contains("told to fail")));
    let unnamed = nodes[0].spawn::<Counter>(10).await.unwrap();
    nodes[0].register("a name", &unnamed).await.unwrap();
    let StreamEvent::Registered(row) = told(&mut watch).await else { panic!("not registered") };
    assert_eq!((row.name.as_str(), row.state), ("a name", whimbrel::RecordState::Registered));
    unnamed.fail().unwrap();
    let StreamEvent::Stopped { reason, .. } = told(&mut watch).await else { panic!("not stopped") };
    assert!(matches!(reason, Some(ExitReason::Panic(_))), "{reason:?}");
    leave_all(nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn node_that_dies_is_told_of_by_its_names() {
    let mut nodes = nodes(3).await;
    for at in 0..30 {
        nodes[0].start::<Counter>(&format!("n{at}"), 0).await.unwrap();
    }
    let dead = nodes[2].incarnation();
    let mut watch = nodes[0].watch(Filter::all()).await.unwrap();
    assert_eq!(there(&mut watch).await.len(), 30);
    let lost = nodes[0].list(Filter::all().host(dead)).await.unwrap();
    assert!(!lost.is_empty() && lost.len() < 30, "{}", lost.len());
    drop(nodes.pop());
    let mut restarted: Vec<String> = Vec::new();
    while restarted.len() < lost.len() {
        match told(&mut watch).await {
            StreamEvent::Restarted { name, located, .. } => {
                assert_ne!(located.host, dead);
                restarted.push(name.to_string());
            }
            other => panic!("{other:?}"),
        }
    }
    restarted.sort();
    assert_eq!(restarted, lost.iter().map(|row| row.name.to_string()).collect::<Vec<_>>());
    leave_all(nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn receiving_that_is_given_up_loses_nothing_and_a_slow_reader_hears_the_end_of_it() {
    use whimbrel::limits::STREAM_EVENTS_MAX;
    let cluster = local().await;
    let mut watch = cluster.watch(Filter::all().prefix("n")).await.unwrap();
    assert_eq!(told(&mut watch).await, StreamEvent::Synced);
    // More than may wait for a reader; every second one is gone by the time it reads.
    let names = STREAM_EVENTS_MAX / 2 + 500;
    for at in 0..names {
        cluster.start::<Counter>(&format!("n{at}"), 0).await.unwrap();
        if at % 2 == 0 {
            cluster.stop(&format!("n{at}")).await.unwrap();
        }
    }
    let mut there = std::collections::BTreeSet::new();
    while there.len() < names / 2
        || there.iter().any(|name: &String| name[1..].parse::<usize>().unwrap() % 2 == 0)
    {
        let event = {
            let mut given_up = Box::pin(watch.recv());
            match futures_ready(&mut given_up).await {
                Some(event) => event,
                None => {
                    drop(given_up);
                    Some(told(&mut watch).await)
                }
            }
        };
        match event.unwrap() {
            StreamEvent::Registered(row) => assert!(there.insert(row.name.to_string())),
            StreamEvent::Stopped { name, .. } => assert!(there.remove(name.as_str())),
            StreamEvent::Lagged { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(cluster.count(Filter::all().prefix("n")).await, Ok(there.len()));
}

/// Polls once.
async fn futures_ready<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    std::future::poll_fn(|cx| {
        std::task::Poll::Ready(match std::pin::Pin::new(&mut *future).poll(cx) {
            std::task::Poll::Ready(output) => Some(output),
            std::task::Poll::Pending => None,
        })
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn pages_put_together_are_the_list() {
    let nodes = nodes(2).await;
    for at in 0..25 {
        nodes[at % 2].start::<Counter>(&format!("n{at:02}"), 0).await.unwrap();
    }
    let all = nodes[1].list(Filter::all()).await.unwrap();
    assert_eq!(all.len(), 25);
    assert_eq!(nodes[0].list(Filter::all().limit(4)).await.unwrap(), all);
    let first = nodes[0].list_page(Filter::all().limit(20)).await.unwrap();
    assert_eq!(first.rows, all[..20]);
    let rest = nodes[1].list_page(Filter::all().page_after(first.next.unwrap()).limit(20)).await.unwrap();
    assert_eq!((rest.rows.as_slice(), rest.next), (&all[20..], None));
    assert_eq!(nodes[0].count(Filter::all().prefix("n1")).await, Ok(10));
    leave_all(nodes).await;
}
