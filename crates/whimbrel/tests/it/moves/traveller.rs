//! The process that the tests move: it counts what its clients send, and does on a move what it was told at its start.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use whimbrel::{
    Builder, Cluster, Context, ExitReason, Handoff, KindOptions, Process, ProcessRef, Rebalance, State,
    StaticList, TimerId, handlers,
};

use super::doors::{self, Doors, DoorsRef as _};
use crate::kinds::LONG;

/// What it does when it is to move.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum How {
    Auto,
    Stay,
    Restart,
    Panic,
    /// With a state that can not be read.
    Nonsense,
    /// With a state of its own making.
    Own,
    /// `resume` panics.
    PanicThere,
    /// `resume` waits at the door `resume`.
    WaitThere,
    /// `handoff` waits at the door `handoff`.
    WaitHere,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Trip {
    pub(crate) how: How,
    /// Bytes of its state.
    pub(crate) ballast: usize,
}

pub(crate) fn trip(how: How) -> Trip {
    Trip { how, ballast: 0 }
}

/// What it has seen. Public, as the messages are that `handlers` makes.
#[allow(unreachable_pub)]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// The last number of each client.
    pub(crate) last: BTreeMap<String, u64>,
    /// Numbers that did not follow the one before.
    pub(crate) odd: Vec<(String, u64, u64)>,
    pub(crate) ticks: u64,
    pub(crate) inits: u64,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Traveller {
    how: How,
    seen: Seen,
    ballast: Vec<u8>,
    ticker: Option<TimerId>,
    sent: u64,
}

impl Process for Traveller {
    const KIND: &'static str = "traveller";
    type Args = Trip;

    async fn init(trip: Trip, cx: &mut Context<Self>) -> Result<Self, ExitReason> {
        let seen = Seen { inits: 1, ..Seen::default() };
        cx.notify_self(TravellerCount { client: "init".into(), seq: 1 });
        Ok(Self { how: trip.how, seen, ballast: vec![7; trip.ballast], ticker: None, sent: 0 })
    }

    async fn handoff(&mut self, cx: &mut Context<Self>) -> Handoff {
        match self.how {
            How::Auto | How::PanicThere | How::WaitThere => Handoff::Auto,
            How::WaitHere => {
                doors::open(cx.cluster(), "handoff reached");
                doors::pass(cx.cluster(), "handoff").await;
                Handoff::Auto
            }
            How::Stay => Handoff::Stay,
            How::Restart => Handoff::Restart,
            How::Panic => panic!("told to panic in handoff"),
            How::Nonsense => Handoff::Resume(State::of(&"nonsense")),
            How::Own => Handoff::Resume(State::of_bytes(self.seen.last.len().to_string().into_bytes())),
        }
    }

    async fn resume(state: State, cx: &mut Context<Self>) -> Result<Self, ExitReason> {
        if let Ok(own) = std::str::from_utf8(state.as_bytes())
            && let Ok(number) = own.parse()
        {
            let seen = Seen { ticks: number, ..Seen::default() };
            return Ok(Self { how: How::Own, seen, ballast: Vec::new(), ticker: None, sent: 0 });
        }
        let process: Self = state.into_process()?;
        match process.how {
            How::PanicThere => panic!("told to panic in resume"),
            How::WaitThere => doors::pass(cx.cluster(), "resume").await,
            _ => {}
        }
        Ok(process)
    }
}

#[handlers]
impl Traveller {
    #[call]
    async fn count(&mut self, client: String, seq: u64) -> u64 {
        self.take(client, seq);
        seq
    }

    #[cast]
    async fn note(&mut self, client: String, seq: u64) {
        self.take(client, seq);
    }

    #[call]
    async fn seen(&self) -> Seen {
        self.seen.clone()
    }

    #[call]
    async fn ballast(&self) -> u64 {
        self.ballast.iter().map(|byte| u64::from(*byte)).sum()
    }

    #[call]
    async fn home(&self, cx: &mut Context<Self>) -> (String, u64) {
        (cx.cluster().node_name().to_owned(), cx.token().as_u64())
    }

    #[cast]
    async fn wait_at(&mut self, cx: &mut Context<Self>, name: String) {
        doors::open(cx.cluster(), &format!("{name} reached"));
        doors::pass(cx.cluster(), &name).await;
    }

    #[cast]
    async fn tick_every(&mut self, cx: &mut Context<Self>, ms: u64) {
        self.ticker = Some(cx.send_every(Duration::from_millis(ms), TravellerTick {}));
    }

    #[call]
    async fn stop_ticking(&mut self, cx: &mut Context<Self>) -> u64 {
        cx.cancel(self.ticker.take().unwrap());
        self.seen.ticks
    }

    #[cast]
    async fn tick_after(&mut self, cx: &mut Context<Self>, ms: u64) {
        cx.send_after(Duration::from_millis(ms), TravellerTick {});
    }

    #[cast]
    async fn tick(&mut self) {
        self.seen.ticks += 1;
    }

    /// Sends the numbers after those that it has sent before.
    #[call]
    async fn send_on(&mut self, cx: &mut Context<Self>, to: String, numbers: u64) -> u64 {
        let to = cx.cluster().process::<Traveller>(&to).unwrap();
        for _ in 0..numbers {
            self.sent += 1;
            to.note("traveller".into(), self.sent).unwrap();
        }
        self.sent
    }

    #[call]
    async fn reset_sent(&mut self) {
        self.sent = 0;
    }

    #[cast]
    async fn own_task(&mut self, cx: &mut Context<Self>, name: String) {
        let guard = OpenOnDrop(doors::of(cx.cluster()), name);
        cx.spawn(async move {
            std::future::pending::<()>().await;
            drop(guard);
        });
    }

    #[call]
    async fn answer_later(&mut self, cx: &mut Context<Self>, name: String) -> u64 {
        let reply = cx.reply_later::<TravellerAnswerLater>();
        let cluster = cx.cluster().clone();
        cx.spawn(async move {
            doors::pass(&cluster, &name).await;
            reply.send(5);
        });
        0
    }
}

impl Traveller {
    fn take(&mut self, client: String, seq: u64) {
        let last = self.seen.last.entry(client.clone()).or_default();
        let before = std::mem::replace(last, seq);
        if before + 1 != seq {
            self.seen.odd.push((client, before, seq));
        }
    }
}

/// Lets one through when it is dropped.
struct OpenOnDrop(ProcessRef<Doors>, String);

impl Drop for OpenOnDrop {
    fn drop(&mut self) {
        self.0.release(self.1.clone()).unwrap();
    }
}

/// A node that hosts travellers.
pub(crate) async fn join(node: &str, seeds: &[&Cluster], rebalance: Rebalance) -> Cluster {
    traveller_node(node, seeds, rebalance).join().await.unwrap()
}

pub(crate) fn traveller_node(node: &str, seeds: &[&Cluster], rebalance: Rebalance) -> Builder {
    Cluster::builder("test")
        .node_name(node)
        .listen("127.0.0.1:0")
        .discovery(StaticList::new(seeds.iter().map(|seed| seed.address().to_owned())))
        .kind::<Traveller>(KindOptions::default())
        .local_kind::<Doors>(KindOptions::default())
        .rebalance(rebalance)
        // Some tests leave with processes that never come to rest.
        .drain_within(Duration::from_secs(2))
}

pub(crate) async fn travellers(count: usize) -> Vec<Cluster> {
    let mut nodes: Vec<Cluster> = Vec::new();
    for at in 0..count {
        let seeds: Vec<&Cluster> = nodes.iter().take(1).collect();
        let node = join(&format!("node-{at}"), &seeds, Rebalance::Off).await;
        nodes.push(node);
    }
    for node in &nodes {
        node.wait_for_members(count, LONG).await.unwrap();
    }
    doors::start(&nodes[0]).await;
    nodes
}

/// Time enough for an order to reach a process that has a message in hand: requests that take the same ways.
pub(crate) async fn let_orders_arrive(nodes: &[Cluster]) {
    for at in 0..10 {
        for node in nodes {
            let name = format!("probe {at} of {}", node.node_name());
            node.get_or_start::<Traveller>(&name, trip(How::Auto)).await.unwrap().seen().await.unwrap();
            node.stop(&name).await.unwrap();
        }
    }
}

/// Where a traveller runs, asked of itself.
pub(crate) async fn home(node: &Cluster, name: &str) -> String {
    node.process::<Traveller>(name).unwrap().home().await.unwrap().0
}

/// The first node on which it does not run.
pub(crate) async fn elsewhere<'a>(nodes: &'a [Cluster], name: &str) -> &'a str {
    let home = home(&nodes[0], name).await;
    nodes.iter().map(Cluster::node_name).find(|node| *node != home).unwrap()
}
