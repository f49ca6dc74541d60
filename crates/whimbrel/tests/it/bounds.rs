//! Limits of memory as users meet them, and many nodes at once.

use std::net::TcpListener;
use std::sync::Arc;

use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use whimbrel::{
    CastError, Cluster, Context, ErrorCode, ExitReason, KindOptions, Placement, Process, StartError,
    StaticList, handlers,
};

use crate::kinds::{Counter, CounterRef as _, LONG};
use crate::nodes::leave_all;

/// A message of this size takes a sixteenth of the smallest limit of a node.
const LARGE: usize = 64 * 1024;

/// Goes on when it is told from outside.
struct Gated {
    gate: Gate,
    taken: u64,
}

#[derive(Clone)]
struct Gate {
    /// `init` has begun.
    begun: mpsc::UnboundedSender<()>,
    init: Arc<Semaphore>,
    messages: Arc<Semaphore>,
}

impl Gate {
    fn new(init: usize, messages: usize) -> (Self, mpsc::UnboundedReceiver<()>) {
        let (begun, begins) = mpsc::unbounded_channel();
        let (init, messages) = (Arc::new(Semaphore::new(init)), Arc::new(Semaphore::new(messages)));
        (Self { begun, init, messages }, begins)
    }
}

async fn pass(gate: &Semaphore) {
    drop(gate.acquire().await.unwrap());
}

impl Process for Gated {
    const KIND: &'static str = "gated";
    type Args = Gate;

    async fn init(gate: Gate, _cx: &mut Context<Self>) -> Result<Self, ExitReason> {
        gate.begun.send(()).unwrap();
        pass(&gate.init).await;
        Ok(Self { gate, taken: 0 })
    }
}

#[handlers]
impl Gated {
    #[cast]
    async fn take(&mut self, text: String) {
        pass(&self.gate.messages).await;
        self.taken += u64::from(!text.is_empty());
    }

    #[call]
    async fn taken(&self) -> u64 {
        self.taken
    }
}

/// Two nodes: one that sends, and one with small limits.
async fn pair() -> Vec<Cluster> {
    let mut nodes: Vec<Cluster> = Vec::new();
    for name in ["sender", "host"] {
        let seeds: Vec<String> = nodes.iter().map(|node| node.address().to_owned()).collect();
        let node = Cluster::builder("bounds")
            .node_name(name)
            .listen("127.0.0.1:0")
            .discovery(StaticList::new(seeds))
            .local_kind::<Gated>(KindOptions::default())
            .leaving_bytes_max(0)
            .arrived_bytes_max(0)
            .join();
        nodes.push(node.await.unwrap());
    }
    for node in &nodes {
        node.wait_for_members(2, LONG).await.unwrap();
    }
    nodes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mailbox_is_limited_in_bytes_and_takes_one_message_whatever_its_limit() {
    let options = KindOptions::default().mailbox_bytes_max(1);
    let cluster = Cluster::local().local_kind::<Gated>(options).join().await.unwrap();
    let (gate, mut begins) = Gate::new(1, 0);
    let gated = cluster.start::<Gated>("a", gate.clone()).await.unwrap().process;
    begins.recv().await.unwrap();
    // The first may be in hand already, one waits, and then there is no room.
    let accepted = (0..3).take_while(|_| gated.take("x".into()).is_ok()).count();
    assert!((1..=2).contains(&accepted), "{accepted}");
    assert_eq!(gated.take("x".into()), Err(CastError::Overloaded));
    gate.messages.add_permits(1);
    cluster.leave().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_payload_over_the_limit_is_refused() {
    let nodes = pair().await;
    let (gate, _begins) = Gate::new(1, 1);
    nodes[1].start::<Gated>("a", gate).placement(Placement::Local).await.unwrap();
    let gated = nodes[0].process::<Gated>("a").unwrap();
    let refused = gated.take("x".repeat(1024 * 1024)).unwrap_err();
    assert!(matches!(refused, CastError::Codec { ref detail } if detail.contains("limit")), "{refused:?}");
    leave_all(nodes).await;
}

/// Has long arguments.
struct Wordy;

impl Process for Wordy {
    const KIND: &'static str = "wordy";
    type Args = String;

    async fn init(_args: String, _cx: &mut Context<Self>) -> Result<Self, ExitReason> {
        Ok(Wordy)
    }
}

#[handlers]
impl Wordy {
    #[cast]
    async fn hear(&mut self, text: String) {
        drop(text);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn arguments_over_the_limit_are_refused() {
    let cluster = Cluster::local().restart_kind::<Wordy>(KindOptions::default()).join().await.unwrap();
    let refused = cluster.start::<Wordy>("a", "x".repeat(LARGE)).await.unwrap_err();
    assert!(matches!(refused, StartError::ArgsTooLarge { bytes } if bytes > LARGE), "{refused:?}");
    assert!(cluster.start::<Wordy>("a", "x".repeat(LARGE - 8)).await.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_is_behind_is_told_how_many_it_missed() {
    let cluster = Cluster::local().restart_kind::<Wordy>(KindOptions::default()).join().await.unwrap();
    let mut letters = cluster.dead_letters();
    let nobody = cluster.process::<Wordy>("nobody").unwrap();
    for text in [LARGE + 1, 1].into_iter().cycle().take(1_030) {
        nobody.hear("x".repeat(text)).unwrap();
    }
    let until = tokio::time::Instant::now() + LONG;
    while letters.total() < 1_030 {
        assert!(tokio::time::Instant::now() < until, "{} of 1,030", letters.total());
        tokio::task::yield_now().await;
    }
    let (long, short) = (letters.next().await.unwrap(), letters.next().await.unwrap());
    assert_eq!(letters.missed(), 6, "1,024 are kept");
    assert!(
        long.payload().is_none() && short.payload().is_some(),
        "a long message is told without its bytes"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_node_keeps_only_so_many_bytes_of_other_nodes_and_loses_nothing_in_silence() {
    let nodes = pair().await;
    let (gate, _begins) = Gate::new(1, 0);
    nodes[1].start::<Gated>("a", gate.clone()).placement(Placement::Local).await.unwrap();
    let gated = nodes[0].process::<Gated>("a").unwrap();
    let mut letters = nodes[0].dead_letters();
    let text = "x".repeat(LARGE);
    let mut accepted = 0;
    // The mailbox would take a thousand of these; the node takes fifteen.
    let refused = loop {
        accepted += u64::from(gated.take(text.clone()).is_ok());
        assert!(accepted < 1_000, "nothing is refused");
        match tokio::time::timeout(std::time::Duration::from_millis(1), letters.next()).await {
            Ok(letter) => break letter.unwrap(),
            Err(_) => tokio::task::yield_now().await,
        }
    };
    assert_eq!(refused.reason(), ErrorCode::Overloaded);
    gate.messages.add_permits(1);
    // A route that was refused believes for a second at most that there is no room.
    let until = tokio::time::Instant::now() + LONG;
    let taken = loop {
        match gated.taken().await {
            Ok(taken) => break taken,
            Err(error) => assert!(tokio::time::Instant::now() < until, "{error}"),
        }
    };
    assert_eq!(taken + letters.total(), accepted);
    assert!((1..=16).contains(&taken), "{taken} of {LARGE} bytes fit into 1 MiB");
    leave_all(nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_node_keeps_only_so_many_bytes_for_other_nodes() {
    let nodes = pair().await;
    let (gate, mut begins) = Gate::new(0, 1);
    let host = nodes[1].clone();
    let starts = gate.clone();
    let starting =
        tokio::spawn(
            async move { host.start::<Gated>("a", starts).placement(Placement::Local).await.is_ok() },
        );
    begins.recv().await.unwrap();
    // It is known that the name starts, and not that it runs: what is sent waits here.
    let gated = nodes[0].process::<Gated>("a").unwrap();
    let text = "x".repeat(LARGE);
    let mut accepted = 0;
    let error = loop {
        match gated.take(text.clone()) {
            Ok(()) => accepted += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(error, CastError::Overloaded);
    assert!((1..=15).contains(&accepted), "{accepted} of {LARGE} bytes fit into 1 MiB");
    gate.init.add_permits(1);
    assert!(starting.await.unwrap());
    assert_eq!(gated.taken().await, Ok(accepted), "what was accepted is handled");
    leave_all(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn thirty_nodes_that_start_at_the_same_moment_are_one_cluster() {
    let addresses = free_addresses(30);
    let mut joining = JoinSet::new();
    for address in addresses.clone() {
        let node = Cluster::builder("storm")
            .listen(&address)
            .discovery(StaticList::new(addresses.clone()))
            .kind::<Counter>(KindOptions::default())
            // Thirty nodes share what other tests leave of the machine: they have less to do, and a slow one is not to be
            // taken for dead. `whimbrel bench storm` does the same with the defaults.
            .slots(256)
            .detection(LONG)
            .join_within(6 * LONG)
            .join();
        joining.spawn(async move { node.await.unwrap() });
    }
    let nodes = joining.join_all().await;
    for node in &nodes {
        node.wait_for_members(30, 6 * LONG).await.unwrap();
    }
    let mut starting = JoinSet::new();
    for (at, node) in nodes.iter().cloned().enumerate() {
        starting.spawn(async move {
            let counter = node.start::<Counter>(&format!("counter:{at}"), 41).deadline(3 * LONG).await;
            counter.unwrap().process.add(1).deadline(3 * LONG).await
        });
    }
    for added in starting.join_all().await {
        assert_eq!(added, Ok(42));
    }
    let views: Vec<_> = nodes.iter().map(|node| node.view().unwrap()).collect();
    assert!(views.iter().all(|view| view.members.len() == 30 && view.id == views[0].id));
}

/// Addresses below the ports that systems give to connections, so that none of these takes one.
fn free_addresses(count: usize) -> Vec<String> {
    let first = 10_000 + (std::process::id() % 4_000) as u16;
    let free = (first..15_000).filter(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok());
    let addresses: Vec<String> = free.take(count).map(|port| format!("127.0.0.1:{port}")).collect();
    assert_eq!(addresses.len(), count, "there are too few free ports");
    addresses
}
