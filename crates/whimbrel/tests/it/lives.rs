//! One node: starts, crashes, restarts, timers, tasks, ends.

use std::time::Duration;

use tokio::sync::oneshot;
use whimbrel::{
    CallError, Cluster, ErrorCode, Executed, ExitReason, KindOptions, RequestError, RestartIntensity,
    RestartPolicy, StartError,
};

use crate::kinds::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn crash_in_place_keeps_the_unread_mailbox() {
    let cluster = local().await;
    let (script, mut told) = Script::new(Init::Succeed);
    let actor = cluster.get_or_start::<Actor>("a", script).await.unwrap();
    let before = cluster.locate("a").await.unwrap();
    let (open, gate) = oneshot::channel();
    let waiting = tokio::spawn(actor.wait_for(gate));
    while said(&mut told).await != "waiting" {}
    // Queued behind the message in hand: a failure, and what was not read when it happens.
    let failing = sent(actor.fail());
    let later = sent(actor.echo("later".into()));
    actor.say("unread".into()).unwrap();
    open.send(()).unwrap();
    assert_eq!(waiting.await.unwrap(), Ok("waited".to_owned()));
    assert_eq!(failing.await, Err(CallError::Crashed));
    assert_eq!(later.await.as_deref(), Ok("later"));
    for expected in ["dropped", "init named", "note to myself", "unread"] {
        assert_eq!(said(&mut told).await, expected);
    }
    let after = cluster.locate("a").await.unwrap();
    assert!(after.token > before.token, "every life has a higher token");
    assert_eq!(after.gate, before.gate, "a restart in place keeps the gate");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_many_failures_are_quarantined_until_release() {
    let intensity = RestartIntensity {
        restarts_max: 2,
        back_off: Duration::from_millis(5),
        ..RestartIntensity::default()
    };
    let cluster = Cluster::local()
        .local_kind::<Actor>(KindOptions::default())
        .restart_intensity(intensity)
        .join()
        .await
        .unwrap();
    let (script, mut told) = Script::new(Init::Succeed);
    let actor = cluster.get_or_start::<Actor>("a", script).await.unwrap();
    let mut errors = Vec::new();
    while errors.last() != Some(&CallError::Quarantined) {
        errors.push(actor.fail().await.unwrap_err());
    }
    let crashes = errors.iter().filter(|error| **error == CallError::Crashed).count();
    assert_eq!((crashes, errors.len()), (3, 4), "{errors:?}");
    assert!(matches!(
        cluster.get_or_start::<Actor>("a", Script::new(Init::Succeed).0).await,
        Err(StartError::Quarantined)
    ));
    assert_eq!(cluster.locate("a").await, Err(RequestError::Quarantined));
    while told.try_recv().is_ok() {}
    cluster.release("a").await.unwrap();
    assert_eq!(actor.echo("back".into()).await.as_deref(), Ok("back"));
    assert_eq!(said(&mut told).await, "init named");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failing_init_leaves_nothing_behind() {
    let cluster = local().await;
    for (init, reason) in [
        (Init::Fail, ExitReason::Error("told to fail".into())),
        (Init::Panic, ExitReason::Panic("told to panic in init".into())),
    ] {
        let (script, _told) = Script::new(init);
        let error = cluster.start::<Actor>("a", script).await.unwrap_err();
        assert!(matches!(error, StartError::InitFailed { reason: ref why } if *why == reason), "{error:?}");
        assert_eq!(cluster.locate("a").await, Err(RequestError::NotFound));
    }
    let (script, _told) = Script::new(Init::Succeed);
    let actor = cluster.get_or_start::<Actor>("a", script).await.unwrap();
    assert_eq!(actor.echo("well".into()).await.as_deref(), Ok("well"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn notes_to_oneself_come_before_every_other_message() {
    let cluster = local().await;
    let (script, mut told) = Script::new(Init::Succeed);
    let actor = cluster.get_or_start::<Actor>("a", script).await.unwrap();
    actor.say("from outside".into()).unwrap();
    for expected in ["init named", "note to myself", "from outside"] {
        assert_eq!(said(&mut told).await, expected);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn timers_bring_messages_and_end_with_a_crash() {
    let cluster = local().await;
    let (script, mut told) = Script::new(Init::Succeed);
    let actor = cluster.get_or_start::<Actor>("a", script).await.unwrap();
    actor.say_after(20, "second".into()).unwrap();
    actor.say_after(1, "first".into()).unwrap();
    for expected in ["init named", "note to myself", "first", "second"] {
        assert_eq!(said(&mut told).await, expected);
    }
    actor.tick_every(2).unwrap();
    assert_eq!(said(&mut told).await, "tick 1");
    assert_eq!(said(&mut told).await, "tick 2");
    actor.say_after(60_000, "never".into()).unwrap();
    assert_eq!(actor.fail().await, Err(CallError::Crashed));
    while said(&mut told).await != "init named" {}
    assert_eq!(said(&mut told).await, "note to myself");
    actor.say_after(10, "of the new life".into()).unwrap();
    assert_eq!(said(&mut told).await, "of the new life", "no tick of the life before");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn owned_tasks_end_with_their_process() {
    let cluster = local().await;
    let (script, mut told) = Script::new(Init::Succeed);
    let actor = cluster.get_or_start::<Actor>("a", script).await.unwrap();
    actor.own_task().unwrap();
    for expected in ["init named", "note to myself", "task runs"] {
        assert_eq!(said(&mut told).await, expected);
    }
    assert_eq!(actor.fail().await, Err(CallError::Crashed));
    for expected in ["dropped", "task ended", "init named"] {
        assert_eq!(said(&mut told).await, expected, "a restart waits for the tasks of the life before");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stop_ends_in_order_and_frees_the_name() {
    let cluster = local().await;
    let (script, mut told) = Script::new(Init::Succeed);
    let actor = cluster.get_or_start::<Actor>("a", script).await.unwrap();
    let (open, gate) = oneshot::channel();
    let waiting = tokio::spawn(actor.wait_for(gate));
    while said(&mut told).await != "waiting" {}
    let queued = sent(actor.echo("queued".into()));
    let stopping = {
        let cluster = cluster.clone();
        tokio::spawn(async move { cluster.stop("a").await })
    };
    // The queue is answered when the message in hand is done.
    tokio::task::yield_now().await;
    open.send(()).unwrap();
    assert_eq!(waiting.await.unwrap(), Ok("waited".to_owned()));
    stopping.await.unwrap().unwrap();
    let queued = queued.await;
    // It may have been handled before the order to stop arrived.
    let told_why = CallError::Stopped { reason: Some(ExitReason::Shutdown) };
    assert!(queued.as_deref() == Ok("queued") || queued == Err(told_why), "{queued:?}");
    while said(&mut told).await != "terminate shutdown" {}
    assert_eq!(said(&mut told).await, "dropped");
    assert_eq!(cluster.stop("a").await, Err(RequestError::NotFound));
    let free = actor.echo("free".into()).await.unwrap_err();
    assert_eq!((free.code(), free.executed()), (ErrorCode::NotFound, Executed::No));
    let (script, _told) = Script::new(Init::Succeed);
    cluster.start::<Actor>("a", script).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_does_not_stop_is_ended_by_force() {
    let cluster = local().await;
    let (script, mut told) = Script::new(Init::Succeed);
    let actor = cluster.get_or_start::<Actor>("a", script).await.unwrap();
    let (_never, gate) = oneshot::channel();
    let waiting = tokio::spawn(actor.wait_for(gate));
    while said(&mut told).await != "waiting" {}
    // The first of them give up before it has ended, and it is still told to.
    while matches!(cluster.stop("a").await, Err(RequestError::Deadline { .. })) {}
    while said(&mut told).await != "dropped" {}
    let error = waiting.await.unwrap().unwrap_err();
    assert_eq!(error.executed(), Executed::Unknown, "{error:?}");
    assert_eq!(cluster.stop("a").await, Err(RequestError::NotFound));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transient_process_that_stops_itself_is_not_restarted() {
    let cluster = local().await;
    let (script, mut told) = Script::new(Init::Succeed);
    let start = cluster.start::<Actor>("a", script).policy(RestartPolicy::Transient).await.unwrap();
    start.process.stop_yourself().unwrap();
    while said(&mut told).await != "terminate normal" {}
    assert_eq!(said(&mut told).await, "dropped");
    while cluster.locate("a").await.is_ok() {
        tokio::task::yield_now().await;
    }
    assert_eq!(cluster.locate("a").await, Err(RequestError::NotFound));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn temporary_process_is_gone_after_a_crash() {
    let cluster = local().await;
    let (script, _told) = Script::new(Init::Succeed);
    let start = cluster.start::<Actor>("a", script).policy(RestartPolicy::Temporary).await.unwrap();
    assert_eq!(start.process.fail().await, Err(CallError::Crashed));
    let after = start.process.echo("gone".into()).await.unwrap_err();
    assert_eq!(after.executed(), Executed::No, "{after:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leaving_lets_processes_end_in_order() {
    let cluster = local().await;
    let (script, mut told) = Script::new(Init::Succeed);
    cluster.start::<Actor>("a", script).await.unwrap();
    cluster.leave().await;
    for expected in ["init named", "note to myself", "terminate shutdown", "dropped"] {
        assert_eq!(said(&mut told).await, expected);
    }
    cluster.leave().await;
    assert!(matches!(cluster.start::<Counter>("b", 0).await, Err(StartError::Stopped)));
}
