//! Nodes that drain and leave, under load: nobody notices; and what does not move.

use std::time::Duration;

use whimbrel::{
    Cluster, Context, DrainReport, Event, ExitReason, Hindrance, KindOptions, Name, Placement, Process,
    Rebalance, StartError, StaticList, handlers,
};

use crate::kinds::LONG;
use crate::moves::doors;
use crate::moves::load::Load;
use crate::moves::traveller::*;
use crate::nodes::{alone, leave_all};

/// Only one node has it.
struct Rare;

impl Process for Rare {
    const KIND: &'static str = "rare";
    type Args = ();

    async fn init(_args: (), _cx: &mut Context<Self>) -> Result<Self, ExitReason> {
        Ok(Self)
    }
}

#[handlers]
impl Rare {
    #[call]
    async fn lives(&self) -> bool {
        true
    }
}

/// A node that sends and hosts nothing.
async fn client(seed: &Cluster) -> Cluster {
    Cluster::builder("test")
        .node_name("client")
        .listen("127.0.0.1:0")
        .discovery(StaticList::new([seed.address().to_owned()]))
        .kind::<Traveller>(KindOptions::default().not_hosted())
        .join()
        .await
        .unwrap()
}

async fn start_all(node: &Cluster, count: usize) -> Vec<String> {
    let names: Vec<String> = (0..count).map(|at| format!("p{at}")).collect();
    for name in &names {
        node.start::<Traveller>(name, trip(How::Auto)).await.unwrap();
    }
    names
}

fn why(report: &DrainReport) -> Vec<(String, Hindrance)> {
    let mut why: Vec<_> = report.stayed.iter().map(|it| (it.name.to_string(), it.why)).collect();
    why.sort();
    why
}

/// One after the other is drained, leaves, and is followed by a new one.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn rolling_restart_costs_nobody_anything() {
    let mut nodes = vec![join("node-0", &[], Rebalance::OnJoinAndLeave).await];
    for at in 1..3 {
        let node = join(&format!("node-{at}"), &[&nodes[0]], Rebalance::OnJoinAndLeave).await;
        nodes.push(node);
    }
    let client = client(&nodes[0]).await;
    client.wait_for_members(4, LONG).await.unwrap();
    let names = start_all(&client, 200).await;
    let load = Load::begin(std::slice::from_ref(&client), &names);
    load.go_on_for(400).await;
    let mut moved = 0;
    for at in 0..3 {
        let node = nodes.remove(0);
        assert!(node.is_ready());
        let report = node.drain(3 * LONG).await;
        assert_eq!(why(&report), [], "{report:?}");
        moved += report.moved;
        node.leave().await;
        load.go_on_for(400).await;
        nodes.push(join(&format!("node-{at}"), &[&client], Rebalance::OnJoinAndLeave).await);
        client.wait_for_members(4, LONG).await.unwrap();
        load.go_on_for(400).await;
    }
    assert!(moved > 60, "{moved} of 200 names moved in three drains");
    load.end(&client).await;
    client.leave().await;
    leave_all(nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_nodes_that_drain_at_once_give_all_to_the_third() {
    let nodes = travellers(3).await;
    let client = client(&nodes[0]).await;
    let names = start_all(&client, 60).await;
    let load = Load::begin(std::slice::from_ref(&client), &names);
    load.go_on_for(100).await;
    let (one, two) = tokio::join!(nodes[1].drain(LONG), nodes[2].drain(LONG));
    assert_eq!((one.stayed_count, two.stayed_count), (0, 0));
    for name in &names {
        assert_eq!(home(&client, name).await, "node-0");
    }
    assert!(!nodes[1].is_ready() && nodes[0].is_ready());
    load.end(&client).await;
    client.leave().await;
    leave_all(nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn node_that_drains_takes_nothing_new_and_what_is_on_its_way_to_it_goes_on() {
    let nodes = travellers(3).await;
    let names = start_all(&nodes[0], 30).await;
    let moves = names.iter().map(|name| nodes[0].move_to(name, "node-1"));
    // Some of them come before it drains, some on the way, some are refused.
    let comes = async {
        let mut came = 0;
        for moved in moves {
            came += usize::from(moved.await.is_ok());
        }
        came
    };
    let (_came, report) = tokio::join!(comes, nodes[1].drain(LONG));
    assert_eq!(report.stayed_count, 0);
    for name in &names {
        assert_ne!(home(&nodes[0], name).await, "node-1");
    }
    for at in 0..20 {
        let name = format!("late{at}");
        nodes[1].start::<Traveller>(&name, trip(How::Auto)).await.unwrap();
        assert_ne!(home(&nodes[1], &name).await, "node-1", "it asks, and others are given it");
    }
    leave_all(nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_has_nowhere_to_go_stays_and_serves_until_its_node_leaves() {
    let mut nodes = vec![
        Cluster::builder("test")
            .node_name("node-0")
            .listen("127.0.0.1:0")
            .kind::<Traveller>(KindOptions::default())
            .restart_kind::<Rare>(KindOptions::default())
            .join()
            .await
            .unwrap(),
    ];
    nodes.push(join("node-1", &[&nodes[0]], Rebalance::Off).await);
    nodes[0].wait_for_members(2, LONG).await.unwrap();
    nodes[0].start::<Rare>("only here", ()).await.unwrap();
    let pinned = Placement::Pinned(Name::new("node-0").unwrap());
    nodes[0].start::<Traveller>("pinned", trip(How::Auto)).placement(pinned).await.unwrap();
    let local = nodes[0].start::<Traveller>("near", trip(How::Stay)).placement(Placement::Local);
    local.await.unwrap();
    let process = nodes[0].start::<Traveller>("goes", trip(How::Auto)).placement(Placement::Local);
    process.await.unwrap();
    let report = nodes[0].drain(3 * LONG).await;
    let expected = [
        ("near".to_owned(), Hindrance::Stays),
        ("only here".to_owned(), Hindrance::NoHost),
        ("pinned".to_owned(), Hindrance::NoHost),
    ];
    assert_eq!((why(&report), report.stayed_count), (expected.to_vec(), 3));
    assert_eq!(home(&nodes[1], "goes").await, "node-1");
    assert_eq!(nodes[0].process::<Rare>("only here").unwrap().lives().await, Ok(true));
    assert_eq!(home(&nodes[1], "pinned").await, "node-0");
    let refused = nodes[0].start::<Rare>("another", ()).await;
    assert!(matches!(refused, Err(StartError::NoHost { .. })), "{refused:?}");
    assert_eq!(why(&nodes.remove(0).leave().await), expected);
    leave_all(nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn last_node_leaves_without_waiting_and_says_what_ends() {
    let nodes = travellers(2).await;
    start_all(&nodes[0], 20).await;
    let mut nodes = nodes.into_iter();
    let (first, last) = (nodes.next().unwrap(), nodes.next().unwrap());
    assert_eq!(first.leave().await.stayed.iter().map(|it| it.name.as_str()).collect::<Vec<_>>(), ["doors"]);
    let report = last.leave().await;
    // The doors may have been started again here.
    let ours = report.stayed.iter().filter(|it| it.kind.as_str() == "traveller");
    assert_eq!((ours.count(), report.stayed[0].why), (20, Hindrance::NoHost));
    let local = Cluster::local().kind::<Traveller>(KindOptions::default()).join().await.unwrap();
    local.start::<Traveller>("p", trip(How::Auto)).await.unwrap();
    assert!(local.is_ready());
    assert_eq!(why(&local.drain(LONG).await), [("p".to_owned(), Hindrance::NoHost)]);
    assert!(!local.is_ready());
    local.process::<Traveller>("p").unwrap().seen().await.unwrap();
    local.leave().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn process_that_does_not_come_to_rest_is_waited_for_until_a_second_drain_says_otherwise() {
    let nodes = travellers(2).await;
    nodes[1].start::<Traveller>("busy", trip(How::Auto)).placement(Placement::Local).await.unwrap();
    nodes[0].process::<Traveller>("busy").unwrap().wait_at("rest".into()).unwrap();
    doors::pass(&nodes[0], "rest reached").await;
    let mut events = nodes[1].events();
    let (long, short) = tokio::join!(nodes[1].drain(10 * LONG), async {
        while !matches!(events.next().await, Some(Event::Draining { left: 1, .. })) {}
        nodes[1].drain(Duration::ZERO).await
    });
    assert_eq!((long.stayed_count, &long), (1, &short));
    doors::open(&nodes[0], "rest");
    // It still goes, since it is told to.
    while home(&nodes[0], "busy").await != "node-0" {
        tokio::task::yield_now().await;
    }
    assert_eq!(nodes[1].drain(LONG).await, DrainReport { moved: 1, ..DrainReport::default() });
    leave_all(nodes).await;
}

/// Sends the signal that tells a program to end to this one.
#[cfg(unix)]
async fn terminate() {
    let told = tokio::process::Command::new("kill").arg(std::process::id().to_string()).status().await;
    assert!(told.unwrap().success());
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn first_signal_drains_and_a_second_one_ends_the_drain() {
    let nodes = travellers(2).await;
    nodes[1].start::<Traveller>("busy", trip(How::Auto)).placement(Placement::Local).await.unwrap();
    nodes[0].process::<Traveller>("busy").unwrap().wait_at("rest".into()).unwrap();
    doors::pass(&nodes[0], "rest reached").await;
    let mut events = nodes[1].events();
    let ended = nodes[1].run_until_signal();
    let signals = async {
        terminate().await;
        while !matches!(events.next().await, Some(Event::Draining { left: 1, .. })) {}
        assert!(!nodes[1].is_ready());
        terminate().await;
        // Over when the second signal was heard, and not before.
        nodes[1].drain(10 * LONG).await;
        doors::open(&nodes[0], "rest");
    };
    let (report, ()) = tokio::join!(ended, signals);
    assert_eq!((report.moved, report.stayed_count), (0, 1));
    alone(&nodes[0]).await;
    nodes[0].leave().await;
}
