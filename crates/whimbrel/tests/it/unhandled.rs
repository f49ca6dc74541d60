//! What a process that stops for good has not handled, and what it makes of that.

use std::pin::Pin;

use serde::{Deserialize, Serialize};
use whimbrel::{
    Call, CallError, Cluster, Context, ErrorCode, Executed, ExitReason, KindOptions, Placement, Process,
    RestartPolicy, StaticList, Unhandled, handlers,
};

use crate::kinds::*;
use crate::moves::doors::{self, Doors};
use crate::nodes::leave_all;

/// How it ends, when it was told to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Last {
    Answers,
    Panics,
}

/// A till that is closed with people in the queue.
#[derive(Serialize, Deserialize)]
pub(crate) struct Till {
    last: Last,
    sum: u64,
}

impl Process for Till {
    const KIND: &'static str = "till";
    type Args = Last;

    async fn init(last: Last, _cx: &mut Context<Self>) -> Result<Self, ExitReason> {
        Ok(Self { last, sum: 0 })
    }

    async fn unhandled(&mut self, message: Unhandled<Self>, cx: &mut Context<Self>) {
        assert_eq!(self.last, Last::Answers, "told to panic");
        assert_eq!(message.is_call(), message.message() != "note");
        // What is something else comes back.
        let Err(message) = message.take::<TillHold>() else { panic!("none of these waited") };
        match message.take::<TillPay>() {
            Ok((TillPay { n }, reply)) => {
                assert!(reply.is_wanted());
                self.sum += n;
                // To itself it may say what it likes now: nobody listens.
                cx.notify_self(TillNote {});
                reply.send(self.sum);
            }
            Err(other) => assert!(["ask", "note"].contains(&other.message())),
        }
    }
}

#[handlers]
impl Till {
    #[call]
    async fn pay(&mut self, n: u64) -> u64 {
        self.sum += n;
        self.sum
    }

    #[call]
    async fn ask(&self) -> u64 {
        self.sum
    }

    #[cast]
    async fn note(&mut self) {}

    /// Waits at a door, and ends then.
    #[cast]
    async fn hold(&mut self, cx: &mut Context<Self>, door: String, then: Option<String>) {
        doors::open(cx.cluster(), &format!("{door} reached"));
        doors::pass(cx.cluster(), &door).await;
        match then.as_deref() {
            Some("stop") => cx.stop(ExitReason::Normal),
            Some(other) => panic!("told to {other}"),
            None => {}
        }
    }
}

async fn two_nodes() -> Vec<Cluster> {
    let mut nodes: Vec<Cluster> = Vec::new();
    for name in ["node-0", "node-1"] {
        let node = Cluster::builder("test")
            .node_name(name)
            .listen("127.0.0.1:0")
            .discovery(StaticList::new(nodes.first().map(|seed| seed.address().to_owned())))
            .kind::<Till>(KindOptions::default())
            .local_kind::<Doors>(KindOptions::default());
        nodes.push(node.join().await.unwrap());
    }
    for node in &nodes {
        node.wait_for_members(2, LONG).await.unwrap();
    }
    doors::start(&nodes[0]).await;
    nodes
}

/// Starts a till on the first node that is held at the door of its name.
async fn held(nodes: &[Cluster], name: &str, last: Last, policy: RestartPolicy, then: Option<&str>) {
    nodes[0].start::<Till>(name, last).placement(Placement::Local).policy(policy).await.unwrap();
    let till = nodes[0].process::<Till>(name).unwrap();
    till.hold(name.to_owned(), then.map(str::to_owned)).unwrap();
    doors::pass(&nodes[0], &format!("{name} reached")).await;
}

/// Time enough for orders and messages to reach a till that is held: what takes the same ways has come and gone.
async fn let_it_arrive(nodes: &[Cluster]) {
    for at in 0..10 {
        for node in nodes {
            let name = format!("probe {at} of {}", node.node_name());
            let probe = node.get_or_start::<Till>(&name, Last::Answers).await.unwrap();
            probe.ask().deadline(LONG).await.unwrap();
            node.stop(&name).await.unwrap();
        }
    }
}

/// Calls that wait.
type Queue = ([Pin<Box<Call<TillPay>>>; 3], Pin<Box<Call<TillAsk>>>);

/// Three who pay, one of them from the other node, and one who asks.
fn queue(nodes: &[Cluster], name: &str) -> Queue {
    let [here, there] = [0, 1].map(|at| nodes[at].process::<Till>(name).unwrap());
    let pays = [sent(here.pay(1).deadline(LONG)), sent(here.pay(2).deadline(LONG))];
    here.note().unwrap();
    let asks = sent(here.ask().deadline(LONG));
    let [first, second] = pays;
    ([first, second, sent(there.pay(4).deadline(LONG))], asks)
}

/// Those who paid were answered, the other one was told why not.
async fn all_is_told(nodes: &[Cluster], (pays, asks): Queue, reason: ExitReason) {
    let letters = nodes[0].dead_letters();
    for (pay, sum) in pays.into_iter().zip([1, 3, 7]) {
        assert_eq!(pay.await, Ok(sum));
    }
    let error = asks.await.unwrap_err();
    assert_eq!(error.executed(), Executed::No);
    assert_eq!(error, CallError::Stopped { reason: Some(reason) });
    assert_eq!(letters.count(ErrorCode::Stopped), 1, "the cast");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn process_that_is_told_to_stop_answers_who_waits_on_every_node() {
    let nodes = two_nodes().await;
    held(&nodes, "till", Last::Answers, RestartPolicy::Permanent, None).await;
    let queue = queue(&nodes, "till");
    let (stopped, ()) = tokio::join!(nodes[1].stop("till"), async {
        let_it_arrive(&nodes).await;
        doors::open(&nodes[0], "till");
    });
    assert_eq!(stopped, Ok(()));
    all_is_told(&nodes, queue, ExitReason::Shutdown).await;
    // Its host may not have heard yet that the name is free.
    let late = nodes[0].process::<Till>("till").unwrap().ask().await;
    assert!(matches!(late, Err(CallError::NotFound | CallError::Stopped { .. })), "{late:?}");
    leave_all(nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn process_that_stops_itself_for_good_answers_who_waits() {
    let nodes = two_nodes().await;
    held(&nodes, "till", Last::Answers, RestartPolicy::Transient, Some("stop")).await;
    let queue = queue(&nodes, "till");
    let_it_arrive(&nodes).await;
    doors::open(&nodes[0], "till");
    all_is_told(&nodes, queue, ExitReason::Normal).await;
    leave_all(nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn process_that_starts_again_leaves_its_queue_to_the_next_life() {
    let nodes = two_nodes().await;
    for (name, then) in [("stops", "stop"), ("fails", "panic")] {
        held(&nodes, name, Last::Panics, RestartPolicy::Permanent, Some(then)).await;
        let (pays, asks) = queue(&nodes, name);
        let_it_arrive(&nodes).await;
        doors::open(&nodes[0], name);
        // Handled by the life that follows.
        for (pay, sum) in pays.into_iter().zip([1, 3, 7]) {
            assert_eq!(pay.await, Ok(sum), "{name}");
        }
        assert_eq!(asks.await, Ok(3), "{name}");
    }
    leave_all(nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn panic_over_what_is_not_handled_ends_the_rest_as_ever() {
    let nodes = two_nodes().await;
    held(&nodes, "till", Last::Panics, RestartPolicy::Temporary, Some("stop")).await;
    let (pays, asks) = queue(&nodes, "till");
    let_it_arrive(&nodes).await;
    doors::open(&nodes[0], "till");
    for pay in pays {
        let error = pay.await.unwrap_err();
        assert!(matches!(error, CallError::Stopped { .. }), "{error:?}");
    }
    assert!(matches!(asks.await, Err(CallError::Stopped { .. })));
    leave_all(nodes).await;
}
