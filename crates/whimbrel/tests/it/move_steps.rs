//! The hook that is told of each step of a move.

use std::sync::{Arc, Mutex};

use serde::{Deserialize, Serialize};
use whimbrel::{
    Cluster, Context, ExitReason, Handoff, Hindrance, KindOptions, MoveError, MoveStage, Placement, Process,
    Rebalance, StaticList, handlers,
};

use crate::kinds::LONG;
use crate::nodes::leave_all;

#[derive(Serialize, Deserialize)]
struct Walker {
    stays: bool,
}

impl Process for Walker {
    const KIND: &'static str = "walker";
    type Args = bool;

    async fn init(stays: bool, _cx: &mut Context<Self>) -> Result<Self, ExitReason> {
        Ok(Walker { stays })
    }

    async fn handoff(&mut self, _cx: &mut Context<Self>) -> Handoff {
        if self.stays { Handoff::Stay } else { Handoff::Auto }
    }
}

#[handlers]
impl Walker {
    /// Its token.
    #[call]
    async fn token(&mut self, cx: &mut Context<Self>) -> u64 {
        cx.token().as_u64()
    }
}

/// What both nodes were told: which node, whose step, its attempt, how far.
type Told = Arc<Mutex<Vec<(&'static str, String, u64, MoveStage)>>>;

async fn join(node: &'static str, seeds: Vec<String>, told: &Told) -> Cluster {
    let told = told.clone();
    Cluster::builder("test")
        .node_name(node)
        .listen("127.0.0.1:0")
        .discovery(StaticList::new(seeds))
        .kind::<Walker>(KindOptions::default())
        .rebalance(Rebalance::Off)
        .on_move_step(Arc::new(move |step| {
            let (name, attempt) = (step.name().to_string(), step.attempt().as_u64());
            told.lock().unwrap().push((node, name, attempt, step.stage()));
            panic!("the hook is user code");
        }))
        .join()
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn both_nodes_are_told_where_a_process_rests_runs_or_goes_on() {
    let told = Told::default();
    let a = join("a", Vec::new(), &told).await;
    let b = join("b", vec![a.address().to_owned()], &told).await;
    a.wait_for_members(2, LONG).await.unwrap();
    let walker = a.start::<Walker>("walker", false).placement(Placement::Local).await.unwrap().process;
    let stayer = a.start::<Walker>("stayer", true).placement(Placement::Local).await.unwrap().process;
    a.move_to("walker", "b").await.unwrap();
    let attempt = walker.token().await.unwrap();
    let stays = a.move_to("stayer", "b").await;
    assert!(matches!(stays, Err(MoveError::Hindered { why: Hindrance::Stays })), "{stays:?}");
    stayer.token().await.unwrap();
    let told = std::mem::take(&mut *told.lock().unwrap());
    let of = |name: &str| -> Vec<_> {
        let steps = told.iter().filter(|(_, whose, _, _)| whose == name);
        steps.map(|(node, _, attempt, stage)| (*node, *attempt, *stage)).collect()
    };
    assert_eq!(of("walker"), [("a", attempt, MoveStage::Rests), ("b", attempt, MoveStage::Runs)]);
    let stayed = of("stayer");
    let called_off = stayed[0].1;
    assert_eq!(stayed, [("a", called_off, MoveStage::Rests), ("a", called_off, MoveStage::GoesOn)]);
    leave_all(vec![a, b]).await;
}
