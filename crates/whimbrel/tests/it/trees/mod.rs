//! Supervisors of a node, and what they do with their children.

mod owned;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use whimbrel::{
    CallError, Child, ChildState, Cluster, Executed, ExitReason, RestartIntensity, RestartPolicy, Strategy,
    SuperviseError, Supervisor, Tree,
};

use crate::kinds::*;

/// Tells each task of a test to fail, once.
type Fail = Arc<Notify>;

/// A task that says what it does, and fails when it is told to.
fn task(script: &Script, id: &'static str, fail: &Fail) -> Child {
    let (script, fail) = (script.clone(), fail.clone());
    Child::task(id, move |stopping| {
        let (script, fail) = (script.clone(), fail.clone());
        async move {
            script.say(format!("{id} runs"));
            tokio::select! {
                biased;
                () = stopping.asked() => {
                    script.say(format!("{id} stops"));
                    Ok(())
                }
                () = fail.notified() => Err(ExitReason::Error(format!("{id} was told to fail"))),
            }
        }
    })
}

/// Three tasks, and what makes the second one fail.
fn abc(script: &Script, strategy: Strategy) -> (Tree, Fail) {
    let (fail, never) = (Fail::default(), Fail::default());
    let tree = Tree::new(strategy)
        .child(task(script, "a", &never))
        .child(task(script, "b", &fail))
        .child(task(script, "c", &never));
    (tree, fail)
}

async fn expect(told: &mut mpsc::UnboundedReceiver<String>, texts: &[&str]) {
    for text in texts {
        assert_eq!(said(told).await, *text);
    }
}

fn states(supervisor: &Supervisor) -> Vec<(String, ChildState, u64)> {
    supervisor.children().into_iter().map(|child| (child.id, child.state, child.restarts)).collect()
}

/// At most one restart.
fn impatient() -> RestartIntensity {
    RestartIntensity { restarts_max: 1, ..RestartIntensity::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn children_start_in_order_and_stop_in_the_reverse_order() {
    let cluster = Cluster::local().join().await.unwrap();
    let (script, mut told) = Script::new(Init::Succeed);
    let never = Fail::default();
    let inner = Tree::new(Strategy::OneForAll)
        .child(task(&script, "x", &never))
        .child(Child::process::<Actor>("actor", script.clone()));
    let tree = Tree::new(Strategy::OneForOne)
        .child(task(&script, "a", &never))
        .child(Child::supervisor("inner", inner))
        .child(task(&script, "b", &never));
    let supervisor = cluster.supervise(tree).await.unwrap();
    let up = ["a", "inner", "b"].map(|id| (id.to_owned(), ChildState::Up, 0));
    assert_eq!(states(&supervisor), up);
    let inner = supervisor.supervisor("inner").unwrap();
    let actor = inner.process::<Actor>("actor").unwrap();
    assert_eq!(actor.echo("hello".into()).await.as_deref(), Ok("hello"));
    assert!(inner.process::<Counter>("actor").is_none() && supervisor.process::<Actor>("a").is_none());
    assert_eq!(supervisor.stop().await, ExitReason::Shutdown);
    assert_eq!(inner.ended().await, ExitReason::Shutdown);
    expect(&mut told, &["a runs", "x runs", "init unnamed"]).await;
    // The actor is up before it handles its note.
    let mut either = [said(&mut told).await, said(&mut told).await];
    either.sort();
    assert_eq!(either, ["b runs", "note to myself"]);
    expect(&mut told, &["b stops", "terminate shutdown", "dropped", "x stops", "a stops"]).await;
    assert!(matches!(actor.echo("gone".into()).await, Err(CallError::Stopped { .. })));
    assert_eq!(supervisor.start_child(task(&script, "d", &never)).await, Err(SuperviseError::Stopped));
    assert!(states(&supervisor).iter().all(|(_, state, _)| *state == ChildState::Stopped));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strategy_decides_who_comes_back_with_a_child_that_failed() {
    let cluster = Cluster::local().join().await.unwrap();
    let cases: [(_, &[&str]); 3] = [
        (Strategy::OneForOne, &["b runs"]),
        (Strategy::OneForAll, &["c stops", "a stops", "a runs", "b runs", "c runs"]),
        (Strategy::RestForOne, &["c stops", "b runs", "c runs"]),
    ];
    for (strategy, expected) in cases {
        let (script, mut told) = Script::new(Init::Succeed);
        let (tree, fail) = abc(&script, strategy);
        let supervisor = cluster.supervise(tree).await.unwrap();
        expect(&mut told, &["a runs", "b runs", "c runs"]).await;
        fail.notify_one();
        expect(&mut told, expected).await;
        supervisor.stop().await;
        expect(&mut told, &["c stops", "b stops", "a stops"]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn process_that_crashes_comes_back_as_another_process() {
    let cluster = Cluster::local().join().await.unwrap();
    let (script, mut told) = Script::new(Init::Succeed);
    let tree = Tree::default().child(Child::process::<Actor>("actor", script));
    let supervisor = cluster.supervise(tree).await.unwrap();
    let first = supervisor.process::<Actor>("actor").unwrap();
    assert_eq!(first.fail().await, Err(CallError::Crashed));
    let second = loop {
        match supervisor.process::<Actor>("actor") {
            Some(process) if process.echo("new".into()).await.is_ok() => break process,
            _ => tokio::task::yield_now().await,
        }
    };
    assert!(matches!(first.echo("old".into()).await, Err(CallError::Stopped { .. })));
    expect(&mut told, &["init unnamed", "note to myself", "dropped", "init unnamed"]).await;
    // Stopped by itself in order, a permanent child comes back too.
    second.stop_yourself().unwrap();
    expect(&mut told, &["note to myself", "terminate normal", "dropped", "init unnamed"]).await;
    assert_eq!(supervisor.children()[0].restarts, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn supervisor_that_gives_up_is_a_failure_to_the_one_above() {
    let cluster = Cluster::local().join().await.unwrap();
    let (script, mut told) = Script::new(Init::Succeed);
    let (inner, fail) = abc(&script, Strategy::OneForOne);
    let never = Fail::default();
    let tree = Tree::new(Strategy::OneForOne)
        .intensity(impatient())
        .child(task(&script, "o", &never))
        .child(Child::supervisor("inner", inner.intensity(impatient())));
    let supervisor = cluster.supervise(tree).await.unwrap();
    expect(&mut told, &["o runs", "a runs", "b runs", "c runs"]).await;
    let first = supervisor.supervisor("inner").unwrap();
    for expected in [&["b runs"][..], &["c stops", "a stops", "a runs", "b runs", "c runs"]] {
        fail.notify_one();
        expect(&mut told, expected).await;
    }
    let text = "2 failures of children within 60s, at last of b: error: b was told to fail";
    assert_eq!(first.ended().await, ExitReason::Error(text.into()));
    for expected in [&["b runs"][..], &["c stops", "a stops", "o stops"]] {
        fail.notify_one();
        expect(&mut told, expected).await;
    }
    let text = format!("2 failures of children within 60s, at last of inner: error: {text}");
    assert_eq!(supervisor.ended().await, ExitReason::Error(text));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn panic_of_a_task_is_a_failure_wherever_it_is() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("in drop");
        }
    }
    let cluster = Cluster::local().join().await.unwrap();
    let later: fn() -> Child = || {
        Child::task("late", |_| async {
            tokio::task::yield_now().await;
            panic!("later");
        })
    };
    let dropping: fn() -> Child = || {
        Child::task("drops", |_| async {
            let _bomb = Bomb;
            tokio::task::yield_now().await;
            Ok(())
        })
    };
    for (child, text) in [(later(), "late: panic: later"), (dropping(), "drops: panic: in drop")] {
        let tree = Tree::default().intensity(impatient()).child(child);
        let supervisor = cluster.supervise(tree).await.unwrap();
        let text = format!("2 failures of children within 60s, at last of {text}");
        assert_eq!(supervisor.ended().await, ExitReason::Error(text));
    }
    let making = Child::task("made", |_| -> std::future::Ready<_> { panic!("at once") });
    let failed = cluster.supervise(Tree::default().child(making)).await.unwrap_err();
    let reason = ExitReason::Panic("at once".into());
    assert_eq!(failed, SuperviseError::StartFailed { id: "made".into(), reason });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn first_start_that_fails_stops_what_had_started() {
    let cluster = local().await;
    let (script, mut told) = Script::new(Init::Succeed);
    let (bad, _told) = Script::new(Init::Panic);
    let (abc, _) = abc(&script, Strategy::RestForOne);
    let tree = abc.child(Child::process::<Actor>("bad", bad)).child(Child::process::<Actor>("never", script));
    let failed = cluster.supervise(tree).await.unwrap_err();
    let reason = ExitReason::Panic("told to panic in init".into());
    assert_eq!(failed, SuperviseError::StartFailed { id: "bad".into(), reason });
    expect(&mut told, &["a runs", "b runs", "c runs", "c stops", "b stops", "a stops"]).await;
    assert!(told.recv().await.is_none(), "nothing of it is left");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child_that_does_not_stop_is_ended_by_force() {
    let cluster = Cluster::local().join().await.unwrap();
    let (script, mut told) = Script::new(Init::Succeed);
    let deaf = {
        let script = script.clone();
        Child::task("deaf", move |_| {
            let end = SayEnd(script.clone());
            async move {
                std::future::pending::<()>().await;
                drop(end);
                Ok(())
            }
        })
    };
    let busy = Child::process::<Actor>("busy", script);
    let tree = Tree::default().child(deaf.shutdown(Duration::ZERO)).child(busy.shutdown(Duration::ZERO));
    let supervisor = cluster.supervise(tree).await.unwrap();
    let (_never, gate) = tokio::sync::oneshot::channel();
    let busy = supervisor.process::<Actor>("busy").unwrap();
    let waiting = sent(busy.wait_for(gate));
    let queued = sent(busy.echo("queued".into()));
    while said(&mut told).await != "waiting" {}
    supervisor.restart_child("busy").await.unwrap();
    expect(&mut told, &["dropped", "init unnamed"]).await;
    assert!(matches!(queued.await, Err(CallError::Stopped { .. })));
    assert_eq!(waiting.await.unwrap_err().executed(), Executed::Unknown);
    assert_eq!(supervisor.stop().await, ExitReason::Shutdown);
    while said(&mut told).await != "deaf ended" {}
}

struct SayEnd(Script);

impl Drop for SayEnd {
    fn drop(&mut self) {
        self.0.say("deaf ended");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn children_are_added_stopped_and_started_again_by_hand() {
    let cluster = Cluster::local().join().await.unwrap();
    let (script, mut told) = Script::new(Init::Succeed);
    let (tree, fail) = abc(&script, Strategy::OneForOne);
    let supervisor = cluster.supervise(tree).await.unwrap();
    expect(&mut told, &["a runs", "b runs", "c runs"]).await;

    supervisor.stop_child("a").await.unwrap();
    supervisor.restart_child("a").await.unwrap();
    supervisor.restart_child("a").await.unwrap();
    expect(&mut told, &["a stops", "a runs", "a stops", "a runs"]).await;
    supervisor.remove_child("a").await.unwrap();
    assert_eq!(supervisor.stop_child("a").await, Err(SuperviseError::NotFound { id: "a".into() }));
    expect(&mut told, &["a stops"]).await;

    let taken = supervisor.start_child(task(&script, "b", &fail)).await;
    assert_eq!(taken, Err(SuperviseError::Taken { id: "b".into() }));
    let once = task(&script, "once", &fail).restart(RestartPolicy::Temporary);
    supervisor.start_child(once).await.unwrap();
    let (bad, _told) = Script::new(Init::Fail);
    let failed = supervisor.start_child(Child::process::<Actor>("bad", bad)).await;
    let reason = ExitReason::Error("told to fail".into());
    assert_eq!(failed, Err(SuperviseError::StartFailed { id: "bad".into(), reason }));
    supervisor.stop_child("once").await.unwrap();
    expect(&mut told, &["once runs", "once stops"]).await;
    let ids: Vec<_> = supervisor.children().into_iter().map(|child| child.id).collect();
    assert_eq!(ids, ["b", "c"], "neither what failed to start nor what was temporary is kept");
    let zero = RestartIntensity { window: Duration::ZERO, ..RestartIntensity::default() };
    let bad = cluster.supervise(Tree::default().intensity(zero)).await.unwrap_err();
    assert!(matches!(bad, SuperviseError::BadSetting { key: "intensity", .. }), "{bad:?}");
    let twice = Tree::default().child(task(&script, "b", &fail)).child(task(&script, "b", &fail));
    assert_eq!(cluster.supervise(twice).await.unwrap_err(), SuperviseError::Taken { id: "b".into() });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_supervisor_has_so_many_children() {
    let cluster = Cluster::local().join().await.unwrap();
    let idle = |at: usize| Child::task(at.to_string(), |_| std::future::pending()).shutdown(Duration::ZERO);
    let full = (0..1_024).fold(Tree::default(), |tree, at| tree.child(idle(at)));
    let too_many = full.clone().child(idle(1_024));
    assert_eq!(cluster.supervise(too_many).await.unwrap_err(), SuperviseError::Overloaded);
    let supervisor = cluster.supervise(full).await.unwrap();
    assert_eq!(supervisor.start_child(idle(1_024)).await, Err(SuperviseError::Overloaded));
    supervisor.remove_child("7").await.unwrap();
    supervisor.start_child(idle(1_024)).await.unwrap();
    assert_eq!(supervisor.children().len(), 1_024);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leaving_stops_trees_in_order_and_a_closed_node_drops_them() {
    let cluster = Cluster::local().join().await.unwrap();
    let (script, mut told) = Script::new(Init::Succeed);
    let (tree, _) = abc(&script, Strategy::OneForOne);
    let tree = tree.child(Child::process::<Actor>("actor", script.clone()));
    let supervisor = cluster.supervise(tree.clone()).await.unwrap();
    let named = supervisor.process::<Actor>("actor").unwrap();
    cluster.register("name", &named).await.unwrap();
    expect(&mut told, &["a runs", "b runs", "c runs", "init unnamed", "note to myself"]).await;
    cluster.leave().await;
    assert_eq!(supervisor.ended().await, ExitReason::Shutdown);
    expect(&mut told, &["terminate shutdown", "dropped", "c stops", "b stops", "a stops"]).await;
    assert_eq!(cluster.supervise(tree.clone()).await.unwrap_err(), SuperviseError::Stopped);

    let other = Cluster::local().join().await.unwrap();
    let supervisor = other.supervise(tree).await.unwrap();
    drop(other);
    assert_eq!(supervisor.ended().await, ExitReason::Killed);
    drop((script, supervisor));
    // The tasks are gone, and with them all that they hold.
    while told.recv().await.is_some() {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn start_that_nobody_waits_for_any_more_is_undone() {
    let cluster = Cluster::local().join().await.unwrap();
    let (script, mut told) = Script::new(Init::Succeed);
    let (tree, _) = abc(&script, Strategy::OneForOne);
    let tree = tree.child(Child::process::<Slow>("slow", ()).shutdown(Duration::ZERO));
    {
        let mut supervise = Box::pin(cluster.supervise(tree));
        tokio::select! {
            biased;
            done = &mut supervise => panic!("{done:?}"),
            () = expect(&mut told, &["a runs", "b runs", "c runs"]) => {}
        }
    }
    expect(&mut told, &["c stops", "b stops", "a stops"]).await;
}

/// Its `init` never returns.
struct Slow;

impl whimbrel::Process for Slow {
    const KIND: &'static str = "slow";
    type Args = ();

    async fn init(_args: (), _cx: &mut whimbrel::Context<Self>) -> Result<Self, ExitReason> {
        std::future::pending().await
    }
}

impl whimbrel::Speaks for Slow {
    fn messages(_list: &mut whimbrel::MessageList<Self>) {}
}
