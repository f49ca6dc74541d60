//! A process that says good-bye and asks to be moved, and what is told of both.

use serde::{Deserialize, Serialize};
use whimbrel::{
    Cluster, Context, Event, ExitReason, KindOptions, Process, ProcessRef, Rebalance, StaticList, handlers,
};

use crate::kinds::LONG;
use crate::nodes::leave_all;

/// What others tell it, in order. Public, as the messages are that `handlers` makes.
#[allow(unreachable_pub)]
#[derive(Default, Serialize, Deserialize)]
pub struct Logbook {
    lines: Vec<String>,
}

impl Process for Logbook {
    const KIND: &'static str = "logbook";
    type Args = ();

    async fn init(_args: (), _cx: &mut Context<Self>) -> Result<Self, ExitReason> {
        Ok(Self::default())
    }
}

#[handlers]
impl Logbook {
    #[cast]
    async fn note(&mut self, line: String) {
        self.lines.push(line);
    }

    #[call]
    async fn lines(&self) -> Vec<String> {
        self.lines.clone()
    }
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Wanderer;

impl Process for Wanderer {
    const KIND: &'static str = "wanderer";
    type Args = ();

    async fn init(_args: (), _cx: &mut Context<Self>) -> Result<Self, ExitReason> {
        Ok(Self)
    }

    async fn terminate(&mut self, reason: &ExitReason, cx: &mut Context<Self>) {
        let node = cx.cluster().node_name().to_owned();
        logbook(cx.cluster()).note(format!("{node}: {reason}")).unwrap();
        assert_ne!(*reason, ExitReason::Moved, "a panic in the last words of a life that goes on elsewhere");
    }
}

#[handlers]
impl Wanderer {
    #[call]
    async fn home(&self, cx: &mut Context<Self>) -> String {
        cx.cluster().node_name().to_owned()
    }

    /// Asks twice: the second time brings nothing.
    #[call]
    async fn go_to(&mut self, cx: &mut Context<Self>, node: String) -> String {
        cx.request_move_to(&node).unwrap();
        cx.request_move_to("no such node").unwrap();
        assert!(cx.request_move_to("").is_err());
        cx.cluster().node_name().to_owned()
    }

    #[call]
    async fn go_where_it_belongs(&mut self, cx: &mut Context<Self>) {
        cx.request_move();
    }
}

fn logbook(node: &Cluster) -> ProcessRef<Logbook> {
    node.process::<Logbook>("logbook").unwrap()
}

async fn wanderers(count: usize) -> Vec<Cluster> {
    let mut nodes: Vec<Cluster> = Vec::new();
    for at in 0..count {
        let builder = Cluster::builder("test")
            .node_name(&format!("node-{at}"))
            .listen("127.0.0.1:0")
            .discovery(StaticList::new(nodes.first().map(|seed| seed.address().to_owned())))
            .kind::<Wanderer>(KindOptions::default())
            .kind::<Logbook>(KindOptions::default())
            .rebalance(Rebalance::Off);
        nodes.push(builder.join().await.unwrap());
    }
    for node in &nodes {
        node.wait_for_members(count, LONG).await.unwrap();
    }
    nodes[0].start::<Logbook>("logbook", ()).await.unwrap();
    nodes
}

/// Waits until it runs there; no call of it fails on the way.
async fn until_at(process: &ProcessRef<Wanderer>, node: &str) {
    let until = tokio::time::Instant::now() + LONG;
    while process.home().await.unwrap() != node {
        assert!(tokio::time::Instant::now() < until, "not at {node}");
    }
}

/// Waits until so much is told; nothing else is.
async fn until_told(node: &Cluster, expected: &[String]) {
    let until = tokio::time::Instant::now() + LONG;
    loop {
        let lines = logbook(node).lines().await.unwrap();
        if lines.len() >= expected.len() {
            return assert_eq!(lines, expected);
        }
        assert!(tokio::time::Instant::now() < until, "{lines:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_a_move_leaves_behind_says_good_bye_and_is_no_death() {
    let nodes = wanderers(2).await;
    let mut events: Vec<_> = nodes.iter().map(Cluster::events).collect();
    let process = nodes[0].start::<Wanderer>("a", ()).await.unwrap().process;
    let mut told = Vec::new();
    // More often than a process may fail in a minute.
    for _ in 0..8 {
        let from = process.home().await.unwrap();
        let to = nodes.iter().map(Cluster::node_name).find(|node| *node != from).unwrap();
        nodes[0].move_to("a", to).await.unwrap();
        told.push(format!("{from}: moved"));
        until_told(&nodes[1], &told).await;
    }
    told.push(format!("{}: shutdown", process.home().await.unwrap()));
    nodes[1].stop("a").await.unwrap();
    until_told(&nodes[0], &told).await;
    leave_all(nodes).await;
    for events in &mut events {
        while let Some(event) = events.next().await {
            assert!(!matches!(event, Event::Restarted { .. } | Event::Quarantined(_)), "{event:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn process_asks_to_be_moved_and_is() {
    let nodes = wanderers(3).await;
    for at in 0..6 {
        let name = format!("w{at}");
        let process = nodes[0].start::<Wanderer>(&name, ()).await.unwrap().process;
        // Where its hash has put it.
        let placed = process.home().await.unwrap();
        let away = nodes.iter().map(Cluster::node_name).find(|node| *node != placed).unwrap();
        assert_eq!(process.go_to(away.to_owned()).await.unwrap(), placed, "not within its handler");
        until_at(&process, away).await;
        process.go_where_it_belongs().await.unwrap();
        until_at(&process, &placed).await;
        // It is there: answered without a move.
        process.go_where_it_belongs().await.unwrap();
        assert_eq!(process.home().await.unwrap(), placed);
    }
    leave_all(nodes).await;
}
