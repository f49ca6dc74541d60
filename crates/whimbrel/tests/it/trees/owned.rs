//! Trees that belong to a process.

use serde::{Deserialize, Serialize};
use whimbrel::{
    CallError, Child, ChildState, Cluster, Context, ExitReason, Handoff, Hindrance, KindOptions, MoveError,
    Process, RestartIntensity, State, StaticList, Strategy, SuperviseError, Supervisor, Tree, handlers,
};

use super::{Fail, expect, impatient, task};
use crate::kinds::*;

/// A process with two tasks, which say what they do.
struct Owner {
    tree: Supervisor,
}

/// What the tasks are made of.
#[derive(Clone)]
struct Tasks {
    script: Script,
    fail: Fail,
}

impl Process for Owner {
    const KIND: &'static str = "owner";
    type Args = Tasks;

    async fn init(Tasks { script, fail }: Tasks, cx: &mut Context<Self>) -> Result<Self, ExitReason> {
        script.say("init");
        let tree = Tree::new(Strategy::OneForOne)
            .intensity(impatient())
            .child(task(&script, "a", &Fail::default()))
            .child(task(&script, "b", &fail));
        let tree = cx.supervise(tree).await.map_err(|error| ExitReason::Error(error.to_string()))?;
        Ok(Owner { tree })
    }
}

#[handlers(local)]
impl Owner {
    #[call]
    async fn crash(&mut self) {
        panic!("told to crash");
    }

    /// Makes trees until there is one too many, then stops the first one and makes one more.
    #[call]
    async fn fill(&mut self, cx: &mut Context<Self>) -> usize {
        let mut trees = 1;
        let error = loop {
            match cx.supervise(Tree::default()).await {
                Ok(_) => trees += 1,
                Err(error) => break error,
            }
        };
        assert_eq!(error, SuperviseError::Overloaded);
        self.tree.stop().await;
        cx.supervise(Tree::default()).await.unwrap();
        trees
    }

    #[call]
    async fn tree(&mut self) -> Supervisor {
        self.tree.clone()
    }
}

async fn owner() -> (Cluster, Tasks, tokio::sync::mpsc::UnboundedReceiver<String>) {
    let cluster = Cluster::local()
        .local_kind::<Owner>(KindOptions::default())
        .restart_intensity(RestartIntensity::default())
        .join()
        .await
        .unwrap();
    let (script, told) = Script::new(Init::Succeed);
    (cluster, Tasks { script, fail: Fail::default() }, told)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tree_of_a_process_ends_with_each_life_of_it() {
    let (cluster, tasks, mut told) = owner().await;
    let owner = cluster.start::<Owner>("owner", tasks).await.unwrap().process;
    expect(&mut told, &["init", "a runs", "b runs"]).await;
    let first = owner.tree().await.unwrap();
    assert_eq!(owner.crash().await, Err(CallError::Crashed));
    expect(&mut told, &["b stops", "a stops", "init", "a runs", "b runs"]).await;
    assert_eq!(first.ended().await, ExitReason::Shutdown);
    cluster.stop("owner").await.unwrap();
    expect(&mut told, &["b stops", "a stops"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn process_whose_tree_gives_up_fails_and_is_restarted() {
    let (cluster, tasks, mut told) = owner().await;
    let fail = tasks.fail.clone();
    let owner = cluster.start::<Owner>("owner", tasks).await.unwrap().process;
    expect(&mut told, &["init", "a runs", "b runs"]).await;
    let mut events = cluster.events();
    fail.notify_one();
    expect(&mut told, &["b runs"]).await;
    fail.notify_one();
    expect(&mut told, &["a stops", "init", "a runs", "b runs"]).await;
    let reason = loop {
        if let Some(whimbrel::Event::Restarted { reason, .. }) = events.next().await {
            break reason;
        }
    };
    let text = "2 failures of children within 60s, at last of b: error: b was told to fail";
    assert_eq!(reason, ExitReason::Error(text.into()));
    // A tree that was told to stop is none that gave up.
    let tree = owner.tree().await.unwrap();
    assert_eq!(tree.stop().await, ExitReason::Shutdown);
    expect(&mut told, &["b stops", "a stops"]).await;
    assert_eq!(owner.tree().await.unwrap().children().len(), 2, "the process goes on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_has_so_many_trees_and_forgets_those_that_ended() {
    let (cluster, tasks, _told) = owner().await;
    let owner = cluster.start::<Owner>("owner", tasks).await.unwrap().process;
    assert_eq!(owner.fill().await, Ok(64));
}

/// A process that moves, and makes its tree anew where it comes to.
#[derive(Serialize, Deserialize)]
struct Nomad {
    stays: bool,
    #[serde(skip)]
    tree: Option<Supervisor>,
}

impl Nomad {
    async fn settle(mut self, cx: &mut Context<Self>) -> Result<Self, ExitReason> {
        let idle = |stopping: whimbrel::Stopping| async move {
            stopping.asked().await;
            Ok(())
        };
        let deaf = Child::task("deaf", |_| std::future::pending());
        let tree = Tree::new(Strategy::OneForAll).child(Child::task("idle", idle)).child(deaf);
        let tree = cx.supervise(tree).await.map_err(|error| ExitReason::Error(error.to_string()))?;
        self.tree = Some(tree);
        Ok(self)
    }
}

impl Process for Nomad {
    const KIND: &'static str = "nomad";
    type Args = bool;

    async fn init(stays: bool, cx: &mut Context<Self>) -> Result<Self, ExitReason> {
        Nomad { stays, tree: None }.settle(cx).await
    }

    async fn handoff(&mut self, _cx: &mut Context<Self>) -> Handoff {
        let children = self.tree.as_ref().map(Supervisor::children).unwrap_or_default();
        assert!(children.iter().all(|child| child.state == ChildState::Waiting), "{children:?}");
        if self.stays { Handoff::Stay } else { Handoff::Auto }
    }

    async fn resume(state: State, cx: &mut Context<Self>) -> Result<Self, ExitReason> {
        let nomad: Nomad = state.into_process()?;
        nomad.settle(cx).await
    }
}

#[handlers]
impl Nomad {
    /// Where it is, and how often its children were started again; none of them is up while that is empty.
    #[call]
    async fn children(&mut self, cx: &mut Context<Self>) -> (String, Vec<u64>) {
        let children = self.tree.as_ref().map(Supervisor::children).unwrap_or_default();
        let up = children.iter().all(|child| child.state == ChildState::Up);
        let restarts = children.into_iter().filter(|_| up).map(|child| child.restarts).collect();
        (cx.cluster().node_name().to_owned(), restarts)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn tree_of_a_process_that_moves_is_made_anew_and_of_one_that_stays_goes_on() {
    let mut nodes: Vec<Cluster> = Vec::new();
    for at in 0..2 {
        let seeds: Vec<String> = nodes.iter().map(|node| node.address().to_owned()).collect();
        let node = Cluster::builder("test")
            .node_name(&format!("node-{at}"))
            .listen("127.0.0.1:0")
            .discovery(StaticList::new(seeds))
            .kind::<Nomad>(KindOptions::default());
        nodes.push(node.join().await.unwrap());
    }
    nodes[0].wait_for_members(2, LONG).await.unwrap();
    for (name, stays) in [("goes", false), ("stays", true)] {
        let nomad = nodes[0].start::<Nomad>(name, stays).await.unwrap().process;
        let (home, restarts) = nomad.children().await.unwrap();
        assert_eq!(restarts, [0, 0]);
        let target = if home == "node-0" { "node-1" } else { "node-0" };
        let moved = nodes[0].move_to(name, target).await;
        let expected = if stays {
            assert_eq!(moved, Err(MoveError::Hindered { why: Hindrance::Stays }));
            (home, vec![1, 1])
        } else {
            assert_eq!(moved, Ok(()));
            (target.to_owned(), vec![0, 0])
        };
        let settled = async {
            loop {
                let (place, restarts) = nomad.children().await.unwrap();
                if !restarts.is_empty() {
                    return (place, restarts);
                }
            }
        };
        assert_eq!(tokio::time::timeout(LONG, settled).await, Ok(expected));
    }
}
