//! Every reason for which a cast that was accepted is not delivered: told by the stream, and counted.
//!
//! `Deadline` takes half a minute here and is tested where time is given: in the sweeper's tests.

use std::time::Duration;

use tokio::sync::oneshot;
use whimbrel::{
    Cluster, Context, DeadLetterStream, ErrorCode, ExitReason, Handler, KindOptions, Message, Placement,
    Process, RestartIntensity, Wire, cast, handlers,
};

use crate::kinds::*;
use crate::nodes::{leave_all, nodes};

/// The next dead letter is this one, and the first for its reason.
async fn expect(letters: &mut DeadLetterStream, name: &str, message: &str, reason: ErrorCode) {
    let letter = tokio::time::timeout(LONG, letters.next()).await.expect("there is no dead letter").unwrap();
    assert_eq!((letter.name().as_str(), letter.message(), letter.reason()), (name, message, reason));
    assert_eq!((letters.count(reason), letters.missed()), (1, 0));
}

/// An actor that waits for a gate, with one cast behind what it works on.
async fn busy_actor(cluster: &Cluster) -> (whimbrel::ProcessRef<Actor>, oneshot::Sender<()>) {
    let (script, mut told) = Script::new(Init::Succeed);
    let actor = cluster.get_or_start::<Actor>("a", script).await.unwrap();
    let (open, gate) = oneshot::channel();
    tokio::spawn(actor.wait_for(gate));
    while said(&mut told).await != "waiting" {}
    (actor, open)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cast_that_waits_when_its_process_stops_is_a_dead_letter() {
    let cluster = local().await;
    let mut letters = cluster.dead_letters();
    let (actor, open) = busy_actor(&cluster).await;
    actor.say("too late".into()).unwrap();
    let stopping = sent_stop(&cluster).await;
    open.send(()).unwrap();
    stopping.await.unwrap();
    expect(&mut letters, "a", "say", ErrorCode::Stopped).await;
}

/// A stop that has reached the process, which finishes what it works on first.
async fn sent_stop(cluster: &Cluster) -> tokio::task::JoinHandle<()> {
    let stopper = cluster.clone();
    let stopping = tokio::spawn(async move { stopper.stop("a").await.unwrap() });
    let until = tokio::time::Instant::now() + LONG;
    let is_stopping = async || {
        let rows = cluster.list(whimbrel::Filter::default()).await.unwrap();
        rows.iter().any(|row| row.state == whimbrel::RecordState::Stopping)
    };
    while !is_stopping().await {
        assert!(tokio::time::Instant::now() < until, "the stop does not arrive");
    }
    stopping
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cast_that_waits_when_its_name_is_quarantined_is_a_dead_letter() {
    let intensity = RestartIntensity { restarts_max: 0, ..RestartIntensity::default() };
    let cluster = Cluster::local()
        .local_kind::<Actor>(KindOptions::default())
        .restart_intensity(intensity)
        .join()
        .await
        .unwrap();
    let mut letters = cluster.dead_letters();
    let (actor, open) = busy_actor(&cluster).await;
    let failing = sent(actor.fail());
    actor.say("after the crash".into()).unwrap();
    open.send(()).unwrap();
    assert_eq!(failing.await, Err(whimbrel::CallError::Crashed));
    expect(&mut letters, "a", "say", ErrorCode::Quarantined).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cast_that_waits_when_the_node_is_closed_is_a_dead_letter() {
    let cluster = local().await;
    let mut letters = cluster.dead_letters();
    let (actor, _open) = busy_actor(&cluster).await;
    actor.say("too late".into()).unwrap();
    drop(cluster);
    expect(&mut letters, "a", "say", ErrorCode::NodeLost).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cast_for_another_kind_is_a_dead_letter() {
    let cluster = local().await;
    let mut letters = cluster.dead_letters();
    cluster.start::<Counter>("a", 0).await.unwrap();
    cast(&cluster.process::<Other>("a").unwrap(), Ping).unwrap();
    expect(&mut letters, "a", "ping", ErrorCode::WrongKind).await;
}

/// Asks more of itself than an instance may have waiting.
struct Greedy;

impl Process for Greedy {
    const KIND: &'static str = "greedy";
    type Args = ();

    async fn init(_args: (), _cx: &mut Context<Self>) -> Result<Self, ExitReason> {
        Ok(Greedy)
    }
}

#[handlers(local)]
impl Greedy {
    #[call]
    async fn notes(&mut self, cx: &mut Context<Self>, count: u32) {
        (0..count).for_each(|_| cx.notify_self(GreedyNothing {}));
    }

    #[call]
    async fn timers(&mut self, cx: &mut Context<Self>, count: u32) {
        for _ in 0..count {
            cx.send_after(Duration::from_secs(3_600), GreedyNothing {});
        }
    }

    #[cast]
    async fn nothing(&mut self) {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_message_to_itself_too_many_is_a_dead_letter() {
    for (notes, timers) in [(16_385, 0), (0, 4_097)] {
        let cluster = Cluster::local().local_kind::<Greedy>(KindOptions::default()).join().await.unwrap();
        let mut letters = cluster.dead_letters();
        let greedy = cluster.get_or_start::<Greedy>("greedy", ()).await.unwrap();
        greedy.notes(notes).await.unwrap();
        greedy.timers(timers).await.unwrap();
        expect(&mut letters, "greedy", "nothing", ErrorCode::Overloaded).await;
    }
}

/// The same kind as `Other`, in a version that knows one message more.
struct Newer;

impl Process for Newer {
    const KIND: &'static str = Other::KIND;
    type Args = ();

    async fn init(_args: (), _cx: &mut Context<Self>) -> Result<Self, ExitReason> {
        Ok(Newer)
    }
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Novelty;

impl Message for Novelty {
    type Reply = ();
    const NAME: &'static str = "novelty";
    const WIRE: Wire<Self> = Wire::NAMED;
}

impl Handler<Novelty> for Newer {
    async fn handle(&mut self, _novelty: Novelty, _cx: &mut Context<Self>) {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn cast_that_another_node_can_not_read_or_this_one_not_send_is_a_dead_letter() {
    let nodes = nodes(2).await;
    let (mut here, mut there) = (nodes[0].dead_letters(), nodes[1].dead_letters());
    nodes[1].start::<Other>("b", ()).placement(Placement::Local).await.unwrap();
    // Held while nobody knows where the name is; then the process turns out to be elsewhere.
    cast(&nodes[0].process::<Other>("b").unwrap(), Ping).unwrap();
    expect(&mut here, "b", "ping", ErrorCode::Codec).await;
    cast(&nodes[0].process::<Newer>("b").unwrap(), Novelty).unwrap();
    expect(&mut there, "b", "novelty", ErrorCode::UnknownMessage).await;
    assert_eq!((here.total(), there.total()), (1, 1));
    leave_all(nodes).await;
}
