//! Processes that move between nodes.

mod cut;
pub(crate) mod doors;
mod fail_fast;
pub(crate) mod load;
mod owed;
mod proxy;
pub(crate) mod traveller;
mod wanderer;

use std::collections::BTreeSet;
use std::future::Future as _;
use std::time::Duration;

use whimbrel::{
    CallError, Cluster, Event, Executed, ExitReason, Hindrance, MoveError, Rebalance, RequestError,
};

use crate::kinds::*;
use crate::nodes::leave_all;
use load::Load;
use traveller::*;

/// Why a process was not moved.
async fn hindrance(node: &Cluster, name: &str, to: &str) -> Hindrance {
    match node.move_to(name, to).await {
        Err(MoveError::Hindered { why }) => why,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn process_moves_with_its_state_and_every_node_finds_it() {
    let nodes = travellers(3).await;
    let process =
        nodes[0].start::<Traveller>("a", Trip { how: How::Auto, ballast: 300_000 }).await.unwrap().process;
    assert_eq!(process.count("me".into(), 1).await, Ok(1));
    let (before, token) = process.home().await.unwrap();
    let target = elsewhere(&nodes, "a").await;
    let mut events = nodes[0].events();
    nodes[0].move_to("a", target).await.unwrap();
    for (node, seq) in nodes.iter().zip(2..) {
        assert_eq!(home(node, "a").await, target);
        assert_eq!(node.process::<Traveller>("a").unwrap().count("me".into(), seq).await, Ok(seq));
    }
    let seen = process.seen().await.unwrap();
    assert_eq!((seen.odd, seen.last["me"], seen.inits, seen.last["init"]), (vec![], 4, 1, 1));
    assert_eq!(process.ballast().await, Ok(2_100_000));
    assert!(process.home().await.unwrap().1 > token, "a move is a new life of the name");
    nodes[1].move_to("a", target).await.unwrap();
    nodes[1].move_to("a", &before).await.unwrap();
    assert_eq!(process.seen().await.unwrap().last["me"], 4);
    drop(events.next().await);
    leave_all(nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn fifty_moves_under_load_lose_double_and_reorder_nothing() {
    let nodes = travellers(3).await;
    nodes[0].start::<Traveller>("a", trip(How::Auto)).await.unwrap();
    let load = Load::begin(&nodes, &["a".to_owned()]);
    for at in 0..50 {
        load.go_on_for(20).await;
        let target = elsewhere(&nodes[at % 2..], "a").await;
        nodes[at % 3].move_to("a", target).await.unwrap();
    }
    load.go_on_for(20).await;
    load.end(&nodes[0]).await;
    leave_all(nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_a_process_sends_from_every_node_keeps_its_order() {
    let nodes = travellers(3).await;
    let sender = nodes[0].start::<Traveller>("sender", trip(How::Auto)).await.unwrap().process;
    let receivers = ["r0", "r1", "r2", "r3"];
    for name in receivers {
        nodes[0].start::<Traveller>(name, trip(How::Auto)).await.unwrap();
    }
    let mut sent = 0;
    for at in 0..24 {
        // One receiver at a time, so that its numbers have no gaps; it moves too.
        let receiver = receivers[at / 6];
        if at % 6 == 0 {
            nodes[0].move_to("sender", nodes[at / 6 % 3].node_name()).await.unwrap();
            sender.reset_sent().await.unwrap();
            sent = 0;
        }
        sent += 500;
        assert_eq!(sender.send_on(receiver.into(), 500).await, Ok(sent));
        let (sender_to, receiver_to) = (nodes[at % 3].node_name(), nodes[(at + 1) % 3].node_name());
        let (moved, also) =
            tokio::join!(nodes[0].move_to("sender", sender_to), nodes[1].move_to(receiver, receiver_to));
        assert_eq!((moved, also), (Ok(()), Ok(())));
        assert_eq!(sender.send_on(receiver.into(), 1).await, Ok(sent + 1));
        sent += 1;
        let receiver = nodes[2].process::<Traveller>(receiver).unwrap();
        let until = tokio::time::Instant::now() + LONG;
        while receiver.seen().await.unwrap().last.get("traveller") != Some(&sent) {
            assert!(tokio::time::Instant::now() < until, "{:?}", receiver.seen().await);
        }
        assert_eq!(receiver.seen().await.unwrap().odd, []);
    }
    leave_all(nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn queued_calls_of_every_node_are_answered_where_the_mailbox_went() {
    let nodes = travellers(3).await;
    nodes[0].start::<Traveller>("queued", trip(How::Auto)).await.unwrap();
    let from = home(&nodes[0], "queued").await;
    let process = nodes[0].process::<Traveller>("queued").unwrap();
    process.wait_at("queued".into()).unwrap();
    doors::pass(&nodes[0], "queued reached").await;
    let mut calls = Vec::new();
    for node in &nodes {
        let client = nodes_client(node);
        let process = node.process::<Traveller>("queued").unwrap();
        for seq in 1..=200 {
            calls.push((seq, sent(process.count(client.clone(), seq).deadline(LONG))));
        }
    }
    let target = nodes.iter().map(Cluster::node_name).find(|node| *node != from).unwrap();
    // The message in hand is waited for: the calls of other nodes are queued by now.
    let (moved, ()) = tokio::join!(nodes[0].move_to("queued", target), async {
        let_orders_arrive(&nodes).await;
        doors::open(&nodes[0], "queued");
    });
    moved.unwrap();
    for (seq, call) in calls {
        assert_eq!(call.await, Ok(seq));
    }
    let seen = process.seen().await.unwrap();
    assert_eq!(seen.odd, []);
    assert!(nodes.iter().all(|node| seen.last[&nodes_client(node)] == 200));
    assert_eq!(home(&nodes[2], "queued").await, target);
    leave_all(nodes).await;
}

fn nodes_client(node: &Cluster) -> String {
    format!("client of {}", node.node_name())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn process_that_can_not_move_runs_on_and_the_mover_is_told_why() {
    let nodes = travellers(2).await;
    let cases = [
        ("stays", How::Stay, Hindrance::Stays),
        ("nonsense", How::Nonsense, Hindrance::Unreadable),
        ("panics-there", How::PanicThere, Hindrance::Unreadable),
    ];
    for (name, how, expected) in cases {
        let process = nodes[0].start::<Traveller>(name, trip(how)).await.unwrap().process;
        process.tick_after(1).unwrap();
        assert_eq!(process.count("me".into(), 1).await, Ok(1));
        let (home, token) = process.home().await.unwrap();
        let target = elsewhere(&nodes, name).await;
        assert_eq!(hindrance(&nodes[1], name, target).await, expected, "{name}");
        assert_eq!(process.home().await, Ok((home, token)), "{name}: the same life");
        assert_eq!(process.count("me".into(), 2).await, Ok(2));
        assert_eq!(process.seen().await.unwrap().inits, 1);
    }
    assert_eq!(nodes[0].move_to("nobody", "node-1").await, Err(MoveError::Request(RequestError::NotFound)));
    assert_eq!(hindrance(&nodes[0], "stays", "no such node").await, Hindrance::Lost);
    leave_all(nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn panic_in_handoff_is_a_crash_and_what_waits_is_kept() {
    let nodes = travellers(2).await;
    let process = nodes[0].start::<Traveller>("a", trip(How::Panic)).await.unwrap().process;
    let (before, token) = process.home().await.unwrap();
    let target = elsewhere(&nodes, "a").await;
    process.wait_at("panic".into()).unwrap();
    doors::pass(&nodes[0], "panic reached").await;
    let from_afar = nodes.iter().find(|node| node.node_name() == target).unwrap();
    let waits = sent(process.count("here".into(), 1).deadline(LONG));
    let waits_there = from_afar.process::<Traveller>("a").unwrap();
    let waits_there = sent(waits_there.count("there".into(), 1).deadline(LONG));
    let (moved, ()) = tokio::join!(nodes[0].move_to("a", target), async {
        let_orders_arrive(&nodes).await;
        doors::open(&nodes[0], "panic");
    });
    assert!(matches!(moved, Err(MoveError::Hindered { why: Hindrance::Ended })), "{moved:?}");
    assert_eq!((waits.await, waits_there.await), (Ok(1), Ok(1)));
    let (home, later) = process.home().await.unwrap();
    assert_eq!(home, before);
    assert!(later > token, "it was restarted");
    leave_all(nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn process_that_restarts_on_a_move_begins_anew_with_its_mailbox() {
    let nodes = travellers(2).await;
    let process = nodes[0].start::<Traveller>("a", trip(How::Restart)).await.unwrap().process;
    assert_eq!(process.count("before".into(), 1).await, Ok(1));
    let target = elsewhere(&nodes, "a").await;
    process.wait_at("restart".into()).unwrap();
    doors::pass(&nodes[0], "restart reached").await;
    let waits = sent(process.count("waits".into(), 1).deadline(LONG));
    let (moved, ()) = tokio::join!(nodes[0].move_to("a", target), async {
        let_orders_arrive(&nodes).await;
        doors::open(&nodes[0], "restart");
    });
    moved.unwrap();
    assert_eq!(waits.await, Ok(1));
    assert_eq!(home(&nodes[1], "a").await, target);
    let seen = process.seen().await.unwrap();
    assert!(!seen.last.contains_key("before"), "the state began anew");
    assert_eq!((seen.odd, seen.last["waits"], seen.last["init"]), (vec![], 1, 1));
    leave_all(nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn process_gives_a_state_of_its_own_making() {
    let nodes = travellers(2).await;
    let process = nodes[0].start::<Traveller>("a", trip(How::Own)).await.unwrap().process;
    for client in ["a", "b", "c"] {
        process.count(client.into(), 1).await.unwrap();
    }
    nodes[0].move_to("a", elsewhere(&nodes, "a").await).await.unwrap();
    assert_eq!(process.seen().await.unwrap().ticks, 4, "three and what `init` sent");
    leave_all(nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn timers_go_on_at_the_target_and_keep_their_names() {
    let nodes = travellers(2).await;
    let process = nodes[0].start::<Traveller>("a", trip(How::Auto)).await.unwrap().process;
    process.tick_every(20).unwrap();
    process.tick_after(600).unwrap();
    for _ in 0..4 {
        nodes[0].move_to("a", elsewhere(&nodes, "a").await).await.unwrap();
        let before = process.seen().await.unwrap().ticks;
        while process.seen().await.unwrap().ticks < before + 2 {}
    }
    let stopped = process.stop_ticking().await.unwrap();
    // The one that is due once has come, or comes; then no other.
    nodes[0].move_to("a", elsewhere(&nodes, "a").await).await.unwrap();
    process.tick_after(1).unwrap();
    while process.seen().await.unwrap().ticks < stopped + 1 {}
    leave_all(nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn deadline_of_a_queued_call_runs_on_while_it_moves() {
    let nodes = travellers(2).await;
    let process = nodes[0].start::<Traveller>("a", trip(How::WaitThere)).await.unwrap().process;
    let target = elsewhere(&nodes, "a").await;
    process.wait_at("deadline".into()).unwrap();
    doors::pass(&nodes[0], "deadline reached").await;
    let call = sent(process.count("me".into(), 1).deadline(Duration::from_secs(2)));
    let (moved, error) = tokio::join!(nodes[0].move_to("a", target), async {
        let_orders_arrive(&nodes).await;
        doors::open(&nodes[0], "deadline");
        let error = call.await;
        doors::open(&nodes[0], "resume");
        error
    });
    moved.unwrap();
    assert!(matches!(error, Err(CallError::Deadline { .. })), "{error:?}");
    assert!(!process.seen().await.unwrap().last.contains_key("me"), "it is not handled after its deadline");
    assert_eq!(home(&nodes[0], "a").await, target);
    leave_all(nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn process_that_owes_an_answer_stays_until_it_has_given_it() {
    let nodes = travellers(2).await;
    let process = nodes[0].start::<Traveller>("a", trip(How::Auto)).await.unwrap().process;
    let call = sent(process.answer_later("answer".into()).deadline(LONG));
    let target = elsewhere(&nodes, "a").await;
    assert_eq!(hindrance(&nodes[0], "a", target).await, Hindrance::Stays);
    doors::open(&nodes[0], "answer");
    assert_eq!(call.await, Ok(5));
    nodes[0].move_to("a", target).await.unwrap();
    assert_eq!(home(&nodes[0], "a").await, target);
    leave_all(nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn tasks_of_a_process_that_moves_are_aborted() {
    let nodes = travellers(2).await;
    let process = nodes[0].start::<Traveller>("a", trip(How::Auto)).await.unwrap().process;
    process.own_task("task ended".into()).unwrap();
    let target = elsewhere(&nodes, "a").await;
    nodes[0].move_to("a", target).await.unwrap();
    doors::pass(&nodes[0], "task ended").await;
    assert_eq!(home(&nodes[0], "a").await, target);
    leave_all(nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn source_that_is_lost_takes_no_call_with_it_that_went_on() {
    let mut nodes = travellers(3).await;
    let process = nodes[0].start::<Traveller>("a", trip(How::Auto)).await.unwrap().process;
    nodes[0].move_to("a", "node-2").await.unwrap();
    process.wait_at("source".into()).unwrap();
    doors::pass(&nodes[0], "source reached").await;
    process.wait_at("target".into()).unwrap();
    let calls: Vec<_> = (1..=50).map(|seq| sent(process.count("me".into(), seq).deadline(LONG))).collect();
    let (moved, ()) = tokio::join!(nodes[0].move_to("a", "node-1"), async {
        let_orders_arrive(&nodes).await;
        doors::open(&nodes[0], "source");
    });
    moved.unwrap();
    doors::pass(&nodes[0], "target reached").await;
    // They were sent to this node, and wait on another one.
    let mut events = nodes[0].events();
    drop(nodes.pop());
    while !matches!(events.next().await, Some(Event::MemberDown(..))) {}
    doors::open(&nodes[0], "target");
    for (seq, call) in (1..).zip(calls) {
        assert_eq!(call.await, Ok(seq));
    }
    leave_all(nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn stop_of_a_process_that_is_told_to_move_ends_it() {
    let nodes = travellers(2).await;
    let process = nodes[0].start::<Traveller>("a", trip(How::Auto)).await.unwrap().process;
    let target = elsewhere(&nodes, "a").await;
    process.wait_at("stop".into()).unwrap();
    doors::pass(&nodes[0], "stop reached").await;
    let waits = sent(process.count("me".into(), 1).deadline(LONG));
    let (moved, stopped, ()) = tokio::join!(nodes[0].move_to("a", target), nodes[1].stop("a"), async {
        let_orders_arrive(&nodes).await;
        doors::open(&nodes[0], "stop");
    });
    assert_eq!(stopped, Ok(()));
    if let Err(error) = waits.await {
        assert_eq!(error.executed(), Executed::No);
    }
    drop(moved);
    assert_eq!(process.seen().await, Err(CallError::NotFound));
    leave_all(nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn target_that_is_lost_in_the_middle_leaves_the_process_at_the_source() {
    let mut nodes = travellers(3).await;
    let mut names = Vec::new();
    for at in 0..40 {
        let name = format!("p{at}");
        // Those are made there, and never finished.
        let how = if at % 4 == 0 { How::WaitThere } else { How::Auto };
        nodes[0].start::<Traveller>(&name, Trip { how, ballast: 200_000 }).await.unwrap();
        if home(&nodes[0], &name).await != "node-2" {
            nodes[0].process::<Traveller>(&name).unwrap().count("me".into(), 1).await.unwrap();
            names.push(name);
        }
    }
    let mut events: Vec<_> = nodes.iter().map(Cluster::events).collect();
    let moves: Vec<_> = names
        .iter()
        .map(|name| {
            let (node, name) = (nodes[0].clone(), name.clone());
            tokio::spawn(async move { (node.move_to(&name, "node-2").await, name) })
        })
        .collect();
    // Some have moved now, and some are on their way.
    let mut moved = BTreeSet::new();
    while let Some(event) = events[0].next().await {
        if let Event::Moved { name, .. } = event {
            moved.insert(name.to_string());
            break;
        }
    }
    drop(nodes.pop());
    let (mut kept, mut anew) = (0, Vec::new());
    for task in moves {
        let (outcome, name) = task.await.unwrap();
        let process = nodes[1].process::<Traveller>(&name).unwrap();
        let until = tokio::time::Instant::now() + LONG;
        let seen = loop {
            match process.seen().await {
                Ok(seen) => break seen,
                Err(error) => assert!(tokio::time::Instant::now() < until, "{name}: {error:?}"),
            }
        };
        assert_ne!(home(&nodes[0], &name).await, "node-2");
        assert!(!matches!(outcome, Err(MoveError::Request(RequestError::NotFound))), "{name}");
        match seen.last.get("me") {
            Some(1) => kept += 1,
            _ => anew.push(name),
        }
    }
    leave_all(nodes).await;
    for mut events in events {
        // To the end of what was told: the nodes are gone.
        while let Some(event) = events.next().await {
            if let Event::Moved { name, .. } = event {
                moved.insert(name.to_string());
            }
        }
    }
    assert!(kept > 0);
    assert!(anew.iter().all(|name| moved.contains(name)), "{anew:?} began anew, {moved:?} had moved");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn large_state_travels_while_other_names_are_called_and_heartbeats_arrive() {
    // Half of the usual time after which a silent node is taken for dead.
    let soon = Duration::from_secs(1);
    let first = traveller_node("node-0", &[], Rebalance::Off).detection(soon).join().await.unwrap();
    let second = traveller_node("node-1", &[&first], Rebalance::Off).detection(soon).join().await.unwrap();
    first.wait_for_members(2, LONG).await.unwrap();
    let mut events = first.events();
    let nodes = vec![first, second];
    let large = Trip { how: How::Auto, ballast: 32 * 1024 * 1024 };
    nodes[0].start::<Traveller>("large", large).await.unwrap();
    nodes[0].start::<Traveller>("small", trip(How::Auto)).await.unwrap();
    let load = Load::begin(&nodes, &["small".to_owned()]);
    load.go_on_for(10).await;
    let before = load.answered.load(std::sync::atomic::Ordering::Relaxed);
    nodes[0].move_to("large", elsewhere(&nodes, "large").await).await.unwrap();
    assert!(load.answered.load(std::sync::atomic::Ordering::Relaxed) > before);
    let process = nodes[0].process::<Traveller>("large").unwrap();
    assert_eq!(process.ballast().await, Ok(7 * 32 * 1024 * 1024));
    while let Ok(Some(event)) = tokio::time::timeout(Duration::ZERO, events.next()).await {
        assert!(!matches!(event, Event::MemberDown(..) | Event::Expelled), "{event:?}");
    }
    load.end(&nodes[0]).await;
    leave_all(nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn node_that_joins_gets_its_names_and_nobody_notices() {
    let mut nodes = vec![join("node-0", &[], Rebalance::OnJoinAndLeave).await];
    nodes.push(join("node-1", &[&nodes[0]], Rebalance::OnJoinAndLeave).await);
    nodes[0].wait_for_members(2, LONG).await.unwrap();
    let names: Vec<String> = (0..200).map(|at| format!("p{at}")).collect();
    for name in &names {
        nodes[0].start::<Traveller>(name, trip(How::Auto)).await.unwrap();
    }
    let load = Load::begin(&nodes, &names);
    load.go_on_for(400).await;
    let third = join("node-2", &[&nodes[0]], Rebalance::OnJoinAndLeave).await;
    nodes.push(third);
    let mut there = 0;
    let until = tokio::time::Instant::now() + 3 * LONG;
    // As many as the hash gives to one of three nodes, give or take.
    while there < 40 {
        assert!(tokio::time::Instant::now() < until, "{there} of 200 moved");
        load.go_on_for(100).await;
        let third = nodes[2].incarnation();
        // A member that has just joined may not answer in time.
        let Ok(rows) = nodes[0].list(whimbrel::Filter::default()).await else { continue };
        there = rows.iter().filter(|row| row.located.host == third).count();
    }
    load.end(&nodes[1]).await;
    leave_all(nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn handoff_that_always_panics_costs_a_joining_node_no_quarantine() {
    let mut nodes = vec![join("node-0", &[], Rebalance::OnJoinAndLeave).await];
    for at in 0..30 {
        nodes[0].start::<Traveller>(&format!("p{at}"), trip(How::Panic)).await.unwrap();
    }
    nodes.push(join("node-1", &[&nodes[0]], Rebalance::OnJoinAndLeave).await);
    // What is to move there, it owns.
    let mut events = nodes[1].events();
    let mut restarted = BTreeSet::new();
    for at in 0..30 {
        let name = format!("p{at}");
        let process = nodes[0].process::<Traveller>(&name).unwrap();
        let until = tokio::time::Instant::now() + LONG;
        while let Err(error) = process.seen().await {
            assert_ne!(error, CallError::Quarantined, "{name}");
            assert!(tokio::time::Instant::now() < until, "{name}: {error:?}");
        }
    }
    while restarted.is_empty() {
        note_restart(events.next().await, &mut restarted);
    }
    // Time enough for a second attempt; then what was told by now.
    let_orders_arrive(&nodes).await;
    let mut task = std::task::Context::from_waker(std::task::Waker::noop());
    while let std::task::Poll::Ready(event) = std::pin::pin!(events.next()).poll(&mut task) {
        note_restart(event, &mut restarted);
    }
    leave_all(nodes).await;
}

fn note_restart(event: Option<Event>, restarted: &mut BTreeSet<String>) {
    if let Some(Event::Restarted { name, reason: ExitReason::Panic(_), .. }) = event {
        assert!(restarted.insert(name.to_string()), "{name:?} was moved again in the same view");
    }
}
