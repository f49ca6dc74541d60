//! Where processes are placed, and which nodes get in.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use whimbrel::{
    Candidate, Cluster, Event, Events, Hindrance, JoinError, KindOptions, MoveError, Name, NodeName,
    NodeRule, Placement, PlacementPolicy, PlacementRequest, Rebalance, StartError, StaticList,
};

use crate::kinds::*;
use crate::nodes::answer;

fn builder(node: &str, seeds: &[&Cluster]) -> whimbrel::Builder {
    Cluster::builder("test")
        .node_name(node)
        .listen("127.0.0.1:0")
        .discovery(StaticList::new(seeds.iter().map(|seed| seed.address().to_owned())))
        .kind::<Counter>(KindOptions::default())
}

fn pinned(node: &str) -> Placement {
    Placement::Pinned(Name::new(node).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_pinned_process_runs_on_its_node_and_on_no_other() {
    let first = builder("first", &[]).join().await.unwrap();
    let second = builder("second", &[&first]).join().await.unwrap();
    first.wait_for_members(2, LONG).await.unwrap();
    for at in 0..8 {
        let node = if at % 2 == 0 { "first" } else { "second" };
        let name = format!("counter:{at}");
        let starter = if at < 4 { &first } else { &second };
        let started = starter.start::<Counter>(&name, 0).placement(pinned(node)).await.unwrap();
        assert_eq!(started.process.place().await.unwrap().0, node);
    }
    let away = first.start::<Counter>("away", 0).placement(pinned("third")).await;
    assert!(matches!(away, Err(StartError::NoHost { .. })), "{away:?}");
    second.leave().await;
    first.leave().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_node_has_as_many_processes_of_a_kind_as_it_may_and_the_rest_waits_for_room() {
    let small = |node: &str, seeds: &[&Cluster]| {
        let kind = KindOptions::default().max_per_node(2);
        let seeds = StaticList::new(seeds.iter().map(|seed| seed.address().to_owned()));
        let builder = Cluster::builder("test").node_name(node).listen("127.0.0.1:0").discovery(seeds);
        // Where all are full, a node that leaves can give its processes to nobody.
        builder.drain_within(std::time::Duration::from_millis(500)).kind::<Counter>(kind)
    };
    let first = small("first", &[]).join().await.unwrap();
    let second = small("second", &[&first]).join().await.unwrap();
    first.wait_for_members(2, LONG).await.unwrap();
    let mut homes: BTreeMap<String, usize> = BTreeMap::new();
    for name in ["a", "b", "c", "d"] {
        let counter = first.start::<Counter>(name, 0).await.unwrap().process;
        *homes.entry(counter.place().await.unwrap().0).or_default() += 1;
    }
    assert_eq!(homes.into_values().collect::<Vec<_>>(), [2, 2]);
    let full = second.start::<Counter>("e", 0).await;
    assert!(matches!(full, Err(StartError::AtCapacity)), "{full:?}");
    assert!(second.whereis::<Counter>("e").is_none());
    second.leave().await;
    // Four names for one node with room for two: the others run as soon as a third node has room for them.
    let third = small("third", &[&first]).join().await.unwrap();
    for name in ["a", "b", "c", "d"] {
        let counter = first.process::<Counter>(name).unwrap();
        let home = answer(|| counter.place()).await.0;
        assert!(home == "first" || home == "third", "{home}");
    }
    third.leave().await;
    first.leave().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_second_node_of_one_name_does_not_join_and_disturbs_nobody() {
    let first = builder("first", &[]).join().await.unwrap();
    let second = builder("second", &[&first]).join().await.unwrap();
    let counter = first.start::<Counter>("a", 5).placement(pinned("second")).await.unwrap().process;
    let twin = builder("second", &[&first, &second]).join().await;
    assert!(matches!(&twin, Err(JoinError::NameTaken { name }) if name == "second"), "{twin:?}");
    assert_eq!(counter.add(1).await, Ok(6));
    second.leave().await;
    first.leave().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_node_is_admitted_by_its_labels() {
    let european = |node: &str, seeds: &[&Cluster], zone: &str| {
        builder(node, seeds).label("zone", zone).allow(NodeRule::parse("zone=eu-*"))
    };
    let first = european("first", &[], "eu-1").join().await.unwrap();
    let second = european("second", &[&first], "eu-2").join().await.unwrap();
    first.wait_for_members(2, LONG).await.unwrap();
    // Nobody admits it, so it is a cluster of its own.
    let stranger = builder("third", &[&first, &second]).label("zone", "us-1").join().await.unwrap();
    assert_eq!(stranger.view().map(|view| view.members.len()), Some(1));
    assert_eq!(first.view().map(|view| view.members.len()), Some(2));
    let bad = builder("fourth", &[]).label("zone\n", "x").join().await;
    assert!(matches!(bad, Err(JoinError::BadLabel { .. })), "{bad:?}");
    for node in [stranger, second, first] {
        node.leave().await;
    }
}

/// Which nodes these names run on.
async fn homes(node: &Cluster, names: &[String]) -> BTreeSet<String> {
    let mut homes = BTreeSet::new();
    for name in names {
        let counter = node.process::<Counter>(name).unwrap();
        homes.insert(answer(|| counter.place()).await.0);
    }
    homes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_process_that_wants_labels_runs_and_moves_only_where_they_are() {
    let zoned = |node: &str, seeds: &[&Cluster], zone: &str| {
        builder(node, seeds).label("zone", zone).rebalance(Rebalance::OnJoinAndLeave)
    };
    let in_asia = || Placement::labels([("zone", "asia")]).unwrap();
    let first = zoned("first", &[], "europe").join().await.unwrap();
    let nowhere = first.start::<Counter>("a", 0).placement(in_asia()).await;
    assert!(matches!(nowhere, Err(StartError::NoHost { .. })), "{nowhere:?}");
    let second = zoned("second", &[&first], "asia").join().await.unwrap();
    first.wait_for_members(2, LONG).await.unwrap();
    let names: Vec<String> = (0..24).map(|at| format!("counter:{at}")).collect();
    for (at, name) in names.iter().enumerate() {
        let starter = [&first, &second][at % 2];
        starter.start::<Counter>(name, 7).placement(in_asia()).await.unwrap();
    }
    assert_eq!(homes(&first, &names).await, BTreeSet::from(["second".to_owned()]));
    let unfit = first.move_to(&names[0], "first").await;
    assert_eq!(unfit, Err(MoveError::Hindered { why: Hindrance::Unfit }));
    let mut events: Vec<_> = [&first, &second].map(Cluster::events).into_iter().collect();
    let third = zoned("third", &[&first], "asia").join().await.unwrap();
    events.push(third.events());
    let went = |event: Event| matches!(event, Event::Moved { to, .. } if to == third.incarnation());
    until_told(events, went).await;
    assert!(homes(&first, &names).await.is_subset(&["second".to_owned(), "third".to_owned()].into()));
    third.leave().await;
    assert_eq!(homes(&first, &names).await, BTreeSet::from(["second".to_owned()]));
    second.leave().await;
    first.leave().await;
}

/// Waits until one of these tells it.
async fn until_told(events: Vec<Events>, is_it: impl Fn(Event) -> bool + Copy) {
    let told = events.into_iter().map(|mut events| async move {
        loop {
            match events.next().await {
                Some(event) if is_it(event.clone()) => break,
                Some(_) => {}
                None => std::future::pending().await,
            }
        }
    });
    let told: Vec<_> = told.map(Box::pin).collect();
    tokio::time::timeout(LONG, first_of(told)).await.unwrap();
}

/// Waits for any of these.
async fn first_of<F: Future<Output = ()> + Unpin>(mut waits: Vec<F>) {
    std::future::poll_fn(|cx| {
        match waits.iter_mut().any(|wait| std::pin::Pin::new(wait).poll(cx).is_ready()) {
            true => std::task::Poll::Ready(()),
            false => std::task::Poll::Pending,
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_node_of_weight_zero_runs_only_what_names_it() {
    let first = builder("first", &[]).join().await.unwrap();
    let idle = builder("idle", &[&first]).weight(0).join().await.unwrap();
    first.wait_for_members(2, LONG).await.unwrap();
    let names: Vec<String> = (0..24).map(|at| format!("counter:{at}")).collect();
    for name in &names {
        idle.start::<Counter>(name, 0).await.unwrap();
    }
    assert_eq!(homes(&idle, &names).await, BTreeSet::from(["first".to_owned()]));
    for (name, placement) in [("pinned", pinned("idle")), ("local", Placement::Local)] {
        let process = idle.start::<Counter>(name, 0).placement(placement).await.unwrap().process;
        assert_eq!(process.place().await.unwrap().0, "idle");
    }
    idle.leave().await;
    first.leave().await;
}

/// Starts processes of the first node's own until one more would be far too much for it.
async fn make_busy(node: &Cluster, count: usize) {
    for at in 0..count {
        let name = format!("local:{at}");
        node.start::<Counter>(&name, 0).placement(Placement::Local).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn processes_that_go_by_load_start_where_there_is_least_and_move_when_it_is_far_too_much() {
    let balanced = |node: &str, seeds: &[&Cluster]| builder(node, seeds).rebalance(Rebalance::OnJoinAndLeave);
    let first = balanced("first", &[]).join().await.unwrap();
    let names: Vec<String> = (0..40).map(|at| format!("counter:{at}")).collect();
    for name in &names {
        first.start::<Counter>(name, 7).placement(Placement::LeastLoaded).await.unwrap();
    }
    let second = balanced("second", &[&first]).join().await.unwrap();
    first.wait_for_members(2, LONG).await.unwrap();
    let counter = second.start::<Counter>("new", 0).placement(Placement::LeastLoaded).await.unwrap().process;
    assert_eq!(counter.place().await.unwrap().0, "second", "40 run on the first");
    // 41 in all, and more than 33 would be far too much. Each owner moves its part, as soon as it knows.
    let moved = async {
        loop {
            let reports = [first.rebalance_report().await.unwrap(), second.rebalance_report().await.unwrap()];
            let moved: u64 = reports.iter().map(|report| report.moved).sum();
            if moved >= 7 && reports.iter().all(|report| report.open == 0) {
                break moved;
            }
            tokio::task::yield_now().await;
        }
    };
    let moved = tokio::time::timeout(LONG, moved).await.unwrap();
    assert!(moved <= 25, "{moved}");
    for name in &names {
        assert_eq!(
            answer(|| first.process::<Counter>(name).unwrap().add(1)).await,
            8,
            "it went with its state"
        );
    }
    second.leave().await;
    first.leave().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_busy_node_gets_no_process_that_goes_by_load() {
    let first = builder("first", &[]).join().await.unwrap();
    let second = builder("second", &[&first]).join().await.unwrap();
    first.wait_for_members(2, LONG).await.unwrap();
    make_busy(&first, 30).await;
    let names: Vec<String> = (0..12).map(|at| format!("counter:{at}")).collect();
    // Within a second all know how much there is.
    let all_there = async {
        for attempt in 0.. {
            let name = format!("try:{attempt}");
            let started = second.start::<Counter>(&name, 0).placement(Placement::LeastLoaded).await.unwrap();
            if started.process.place().await.unwrap().0 == "second" {
                break;
            }
            second.stop(&name).await.unwrap();
        }
    };
    tokio::time::timeout(LONG, all_there).await.unwrap();
    for name in &names {
        first.start::<Counter>(name, 0).placement(Placement::LeastLoaded).await.unwrap();
    }
    let homes = homes(&first, &names).await;
    assert!(homes.contains("second"), "{homes:?}");
    second.leave().await;
    first.leave().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_pause_holds_for_all_nodes_also_those_that_come_until_somebody_ends_it() {
    let balanced = |node: &str, seeds: &[&Cluster]| builder(node, seeds).rebalance(Rebalance::OnJoinAndLeave);
    let first = balanced("first", &[]).join().await.unwrap();
    let names: Vec<String> = (0..24).map(|at| format!("counter:{at}")).collect();
    for name in &names {
        first.start::<Counter>(name, 0).await.unwrap();
    }
    first.pause_rebalance().await.unwrap();
    let second = balanced("second", &[&first]).join().await.unwrap();
    first.wait_for_members(2, LONG).await.unwrap();
    // Known to all, whoever asks.
    second.pause_rebalance().await.unwrap();
    for node in [&first, &second] {
        let report = node.rebalance_report().await.unwrap();
        assert!(report.paused && report.moved == 0 && report.open == 0, "{report:?}");
    }
    first.move_to(&names[0], "second").await.unwrap();
    assert_eq!(answer(|| first.process::<Counter>(&names[0]).unwrap().place()).await.0, "second", "by hand");
    let events = vec![first.events(), second.events()];
    second.resume_rebalance().await.unwrap();
    until_told(events, |event| matches!(event, Event::Moved { .. })).await;
    assert!(!first.rebalance_report().await.unwrap().paused);
    second.leave().await;
    first.leave().await;
}

/// Places a name on the node that it ends with; some names it can not stand.
struct BySuffix;

impl PlacementPolicy for BySuffix {
    fn choose(&self, request: &PlacementRequest<'_>) -> Option<NodeName> {
        assert!(!request.name.as_str().contains("bad"), "not this one");
        assert!(request.candidates.iter().all(|node| node.kinds.contains(request.kind)));
        let named = |node: &&Candidate<'_>| request.name.as_str().ends_with(node.name.as_str());
        request.candidates.iter().find(named).map(|node| node.name.clone())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_policy_of_the_user_chooses_the_node_and_without_an_answer_the_hash_does() {
    let by_suffix = |node: &str, seeds: &[&Cluster]| {
        let builder = builder(node, seeds).rebalance(Rebalance::OnJoinAndLeave);
        builder.placement_policy("suffix", Arc::new(BySuffix))
    };
    let custom = |name: &str| Placement::Custom(Name::new(name).unwrap());
    let first = by_suffix("first", &[]).join().await.unwrap();
    let second = by_suffix("second", &[&first]).join().await.unwrap();
    first.wait_for_members(2, LONG).await.unwrap();
    for at in 0..12 {
        let node = ["first", "second"][at % 2];
        let name = format!("{at}:{node}");
        let started = first.start::<Counter>(&name, 0).placement(custom("suffix")).await.unwrap();
        assert_eq!(started.process.place().await.unwrap().0, node);
    }
    // Nobody of that name, a panic, and a policy that nobody knows.
    let events = vec![first.events(), second.events()];
    for (name, policy) in [("0:third", "suffix"), ("bad", "suffix"), ("unknown", "prefix")] {
        first.start::<Counter>(name, 3).placement(custom(policy)).await.unwrap();
        assert_eq!(first.process::<Counter>(name).unwrap().add(1).await, Ok(4));
    }
    until_told(events, |event| matches!(event, Event::PolicyUnknown { .. })).await;
    second.leave().await;
    for at in 0..12 {
        let name = format!("{at}:{}", ["first", "second"][at % 2]);
        assert_eq!(answer(|| first.process::<Counter>(&name).unwrap().place()).await.0, "first");
    }
    first.leave().await;
    let bad = Cluster::local().placement_policy("", Arc::new(BySuffix)).join().await;
    assert!(matches!(bad, Err(JoinError::BadSetting { key: "placement_policy", .. })), "{bad:?}");
}
