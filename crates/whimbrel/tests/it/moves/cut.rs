//! A move with the connection cut at each frame of it: before the frame, in the middle of it, behind it.
//!
//! The rows of the table are what went by in a move that nothing disturbed, there and back: so the owner of the name is
//! once the source and once the target, and every message of section 8 of the protocol crosses the wire.

use std::net::TcpListener;
use std::pin::Pin;
use std::time::Duration;

use whimbrel::{Call, Cluster, KindOptions, Rebalance, StaticList};

use super::proxy::{Cut, Mark, Proxy};
use super::traveller::*;
use crate::kinds::{LONG, sent};
use crate::nodes::leave_all;

const NAME: &str = "cut";

/// What a move says to others, each at least once on the way there or back.
const SAID: [&str; 12] = [
    "Move",
    "Reserve",
    "Reserved",
    "Chunk",
    "Taken",
    "Installed",
    "Plea",
    "Write",
    "Written",
    "Decided",
    "Grant",
    "Report",
];

/// What goes on meanwhile. Whether the first of it comes during a move is up to chance: it is tried again until it did.
const MEANWHILE: [&str; 4] = ["message", "reply Done", "signal Confirm", "signal NotHere"];

/// The rows: of what goes on meanwhile only the first of each sort.
fn table(passed: Vec<Mark>) -> Vec<(Mark, Cut)> {
    let is_row =
        |mark: &Mark| SAID.contains(&&*mark.says) || (MEANWHILE.contains(&&*mark.says) && mark.nth == 1);
    let marks = passed.into_iter().filter(is_row);
    marks.flat_map(|mark| [Cut::Before, Cut::Middle, Cut::After].map(|cut| (mark.clone(), cut))).collect()
}

/// Two nodes with one connection, which only the second one dials, and always through the proxy.
async fn two_nodes() -> (Vec<Cluster>, Proxy) {
    // Free at this moment, as is every port that the system gives.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let proxy = Proxy::to(port.clone()).await;
    let node = |name: &str| {
        let node = Cluster::builder("test").node_name(name).rebalance(Rebalance::Off);
        node.kind::<Traveller>(KindOptions::default())
    };
    let nodes = vec![
        node("node-0").listen(&port).advertise(&proxy.address).join().await.unwrap(),
        node("node-1").discovery(StaticList::new([proxy.address.clone()])).join().await.unwrap(),
    ];
    for node in &nodes {
        node.wait_for_members(2, LONG).await.unwrap();
    }
    (nodes, proxy)
}

struct Stage {
    nodes: Vec<Cluster>,
    proxy: Proxy,
    /// The last number that each node has sent.
    sent: [u64; 2],
}

impl Stage {
    /// Moves it to the other node, asked by that one. Returns what went by, and whether it was cut.
    async fn go(&mut self, cut_at: Option<(Mark, Cut)>) -> (Vec<Mark>, bool) {
        let Self { nodes, proxy, sent } = self;
        let to = elsewhere(nodes, NAME).await;
        let asker = nodes.iter().find(|node| node.node_name() == to).unwrap();
        proxy.begin(cut_at.clone());
        for node in nodes.iter() {
            assert_ne!(home(node, NAME).await, to);
        }
        let mut calls = Vec::new();
        let moved = tokio::select! {
            biased;
            moved = asker.move_to(NAME, to) => moved,
            () = drip(nodes, sent, &mut calls) => unreachable!("it drips for ever"),
        };
        assert_eq!(moved, Ok(()), "{cut_at:?}");
        for (number, call) in calls {
            assert_eq!(call.await, Ok(number), "{cut_at:?}");
        }
        for node in nodes.iter() {
            assert_eq!(home(node, NAME).await, to, "{cut_at:?}");
        }
        proxy.end()
    }

    /// As [`Stage::go`], from this node.
    async fn go_from(&mut self, at: usize, cut_at: Option<(Mark, Cut)>) -> (Vec<Mark>, bool) {
        if home(&self.nodes[0], NAME).await != self.nodes[at].node_name() {
            self.go(None).await;
        }
        self.go(cut_at).await
    }
}

/// A call that was sent, and its number.
type Numbered = (u64, Pin<Box<Call<TravellerCount>>>);

/// Casts and calls in turn while it is on its way; its sealed gate turns them away.
async fn drip(nodes: &[Cluster], sent_by: &mut [u64; 2], calls: &mut Vec<Numbered>) {
    let mut pace = tokio::time::interval(Duration::from_millis(1));
    loop {
        pace.tick().await;
        for (node, number) in nodes.iter().zip(&mut *sent_by) {
            let (process, client) = (node.process::<Traveller>(NAME).unwrap(), node.node_name().to_owned());
            *number += 1;
            match *number % 2 {
                0 => process.note(client, *number).unwrap(),
                _ => calls.push((*number, sent(process.count(client, *number).deadline(LONG)))),
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn move_is_whole_wherever_in_it_the_connection_is_cut() {
    let (nodes, proxy) = two_nodes().await;
    // Three chunks.
    nodes[0].start::<Traveller>(NAME, Trip { how: How::Auto, ballast: 150_000 }).await.unwrap();
    let mut stage = Stage { nodes, proxy, sent: [0, 0] };
    let undisturbed = [stage.go_from(0, None).await.0, stage.go_from(1, None).await.0];
    for said in SAID {
        let is_said = undisturbed.iter().flatten().any(|mark| mark.says == said);
        assert!(is_said, "{said} is not in {undisturbed:?}");
    }
    for (at, passed) in undisturbed.into_iter().enumerate() {
        for row in table(passed) {
            let mut tries = 0..if SAID.contains(&&*row.0.says) { 1 } else { 20 };
            let mut was_cut = false;
            while !was_cut {
                assert!(tries.next().is_some(), "{row:?} did not go by");
                was_cut = stage.go_from(at, Some(row.clone())).await.1;
            }
        }
    }
    let Stage { nodes, sent, .. } = stage;
    for (node, number) in nodes.iter().zip(sent) {
        // Behind all that this node has sent.
        let seen = node.process::<Traveller>(NAME).unwrap().seen().await.unwrap();
        assert_eq!((seen.last[node.node_name()], seen.odd, seen.inits), (number, vec![], 1));
    }
    leave_all(nodes).await;
}
