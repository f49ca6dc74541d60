//! One node: messages.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use whimbrel::{CallError, CastError, Cluster, ErrorCode, Executed, KindOptions, StartError, call};

use crate::kinds::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn started_process_answers_calls_by_name() {
    let cluster = local().await;
    let started = cluster.start::<Counter>("a", 40).await.unwrap();
    assert_eq!(started.copies, 1);
    assert_eq!(started.process.add(1).await, Ok(41));
    let by_name = cluster.process::<Counter>("a").unwrap();
    assert_eq!(by_name.add(1).await, Ok(42));
    assert!(cluster.whereis::<Counter>("a").is_some());
    assert!(cluster.whereis::<Other>("a").is_none());
    assert!(cluster.whereis::<Counter>("b").is_none());
    assert_eq!(cluster.locate("a").await.unwrap().kind.as_str(), "counter");
    cluster.leave().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_starts_one_is_told_that_it_runs() {
    let cluster = local().await;
    let (one, two) = tokio::join!(cluster.start::<Counter>("a", 1), cluster.start::<Counter>("a", 2));
    let started = [&one, &two].iter().filter(|start| start.is_ok()).count();
    assert_eq!(started, 1);
    let refused = one.err().or(two.err()).unwrap();
    let StartError::AlreadyRunning { process } = refused else { panic!("{refused:?}") };
    let value = process.add(0).await.unwrap();
    assert_eq!(cluster.get_or_start::<Counter>("a", 9).await.unwrap().add(0).await, Ok(value));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_of_one_sender_are_handled_in_order() {
    let cluster = local().await;
    let counter = cluster.get_or_start::<Counter>("a", 0).await.unwrap();
    for n in 0..500 {
        counter.note(n).unwrap();
    }
    assert_eq!(counter.notes().await.unwrap(), (0..500).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn call_to_a_free_name_is_not_executed() {
    let cluster = local().await;
    let nobody = cluster.process::<Counter>("nobody").unwrap();
    let error = nobody.add(1).await.unwrap_err();
    assert_eq!((error.clone(), error.executed()), (CallError::NotFound, Executed::No));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn message_to_a_name_that_starts_meanwhile_is_not_lost() {
    let cluster = local().await;
    let (script, mut told) = Script::new(Init::Succeed);
    let early = cluster.process::<Actor>("a").unwrap();
    let (start, call) = tokio::join!(cluster.start::<Actor>("a", script), async {
        // It may come before or after the record: then it is not found, which is an answer too.
        early.echo("early".into()).await
    });
    start.unwrap();
    assert!(matches!(call.as_deref(), Ok("early") | Err(CallError::NotFound)), "{call:?}");
    assert_eq!(said(&mut told).await, "init named");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn call_ends_by_its_deadline_and_the_queued_one_is_not_executed() {
    let cluster = local().await;
    let (script, mut told) = Script::new(Init::Succeed);
    let actor = cluster.get_or_start::<Actor>("a", script).await.unwrap();
    let (open, gate) = oneshot::channel();
    let began = Instant::now();
    let error = actor.wait_for(gate).deadline(Duration::from_millis(100)).await.unwrap_err();
    assert_eq!(error, CallError::Deadline { executed: Executed::Unknown });
    assert!(began.elapsed() >= Duration::from_millis(100));
    actor.say("expired casts are handled".into()).unwrap();
    let queued = actor.echo("queued".into()).deadline(Duration::from_millis(50)).await;
    assert!(matches!(queued, Err(CallError::Deadline { .. })));
    drop(open);
    assert_eq!(said(&mut told).await, "init named");
    assert_eq!(said(&mut told).await, "note to myself");
    assert_eq!(said(&mut told).await, "waiting");
    assert_eq!(said(&mut told).await, "expired casts are handled");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn full_mailbox_refuses_and_executes_nothing() {
    let cluster =
        Cluster::local().local_kind::<Actor>(KindOptions::default().mailbox_max(2)).join().await.unwrap();
    let (script, mut told) = Script::new(Init::Succeed);
    let actor = cluster.get_or_start::<Actor>("a", script).await.unwrap();
    let (open, gate) = oneshot::channel();
    let waiting = tokio::spawn(actor.wait_for(gate));
    while said(&mut told).await != "waiting" {}
    actor.say("1".into()).unwrap();
    actor.say("2".into()).unwrap();
    assert_eq!(actor.say("3".into()), Err(CastError::Overloaded));
    assert_eq!(actor.echo("4".into()).await, Err(CallError::Overloaded));
    open.send(()).unwrap();
    assert_eq!(waiting.await.unwrap(), Ok("waited".to_owned()));
    assert_eq!(said(&mut told).await, "1");
    assert_eq!(said(&mut told).await, "2");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calling_oneself_would_deadlock() {
    let cluster = local().await;
    let (script, _told) = Script::new(Init::Succeed);
    let actor = cluster.get_or_start::<Actor>("a", script).await.unwrap();
    assert_eq!(actor.ask_myself().await, Ok(Err(CallError::WouldDeadlock)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn call_inside_a_handler_has_what_is_left_of_the_outer_deadline() {
    let cluster = local().await;
    let (script, _told) = Script::new(Init::Succeed);
    let (other_script, mut other_told) = Script::new(Init::Succeed);
    let outer = cluster.get_or_start::<Actor>("outer", script).await.unwrap();
    let inner = cluster.get_or_start::<Actor>("inner", other_script).await.unwrap();
    let (_open, gate) = oneshot::channel();
    let began = Instant::now();
    let asked = outer.ask(inner, gate).deadline(Duration::from_millis(200)).await;
    assert!(matches!(asked, Err(CallError::Deadline { .. })));
    assert!(began.elapsed() < LONG / 2);
    while said(&mut other_told).await != "waiting" {}
    // The inner call has ended with the outer one: the process is free again.
    assert_eq!(outer.echo("free".into()).await.as_deref(), Ok("free"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reply_may_be_given_later_and_its_loss_is_told() {
    let cluster = local().await;
    let (script, _told) = Script::new(Init::Succeed);
    let actor = cluster.get_or_start::<Actor>("a", script).await.unwrap();
    assert_eq!(actor.later(21).await, Ok(42));
    assert_eq!(actor.never().await, Err(CallError::Crashed));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn name_of_another_kind_is_refused() {
    let cluster = local().await;
    cluster.start::<Counter>("a", 0).await.unwrap();
    let start = cluster.start::<Other>("a", ()).await.unwrap_err();
    assert!(matches!(start, StartError::WrongKind { ref found } if found == "counter"), "{start:?}");
    let wrong = cluster.process::<Other>("a").unwrap();
    assert_eq!(call(&wrong, Ping).await, Err(CallError::WrongKind { found: "counter".into() }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cast_to_a_free_name_is_a_dead_letter() {
    type Row = (String, String, ErrorCode, bool);
    let seen: Arc<Mutex<Vec<Row>>> = Arc::default();
    let hook = seen.clone();
    let cluster = Cluster::local()
        .kind::<Counter>(KindOptions::default())
        .on_dead_letter(Arc::new(move |letter| {
            let encoded = letter.payload().is_some();
            let row = (letter.name().to_string(), letter.message().to_owned(), letter.reason(), encoded);
            hook.lock().unwrap().push(row);
        }))
        .join()
        .await
        .unwrap();
    let mut letters = cluster.dead_letters();
    cluster.process::<Counter>("nobody").unwrap().note(1).unwrap();
    let letter = tokio::time::timeout(LONG, letters.next()).await.unwrap().unwrap();
    assert_eq!((letter.name().as_str(), letter.message()), ("nobody", "note"));
    assert_eq!((letters.count(ErrorCode::NotFound), letters.total()), (1, 1));
    let row = ("nobody".to_owned(), "note".to_owned(), ErrorCode::NotFound, true);
    assert_eq!(*seen.lock().unwrap(), [row]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn capacity_of_a_kind_and_unknown_kinds_are_told() {
    let cluster = local().await;
    cluster.start::<Other>("one", ()).await.unwrap();
    let full = cluster.start::<Other>("two", ()).await.unwrap_err();
    assert!(matches!(full, StartError::AtCapacity), "{full:?}");
    let empty = Cluster::local().join().await.unwrap();
    let unknown = empty.start::<Counter>("a", 0).await.unwrap_err();
    assert!(matches!(unknown, StartError::NoHost { .. }), "{unknown:?}");
    assert!(matches!(empty.start::<Counter>("", 0).await, Err(StartError::BadName(_))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closed_node_refuses_and_ends_open_calls() {
    let cluster = local().await;
    let (script, mut told) = Script::new(Init::Succeed);
    let actor = cluster.get_or_start::<Actor>("a", script).await.unwrap();
    let (_open, gate) = oneshot::channel();
    let waiting = tokio::spawn(actor.wait_for(gate));
    while said(&mut told).await != "waiting" {}
    drop(cluster);
    let ended = waiting.await.unwrap().unwrap_err();
    assert_eq!(ended, CallError::NodeLost { executed: Executed::Unknown });
    assert_eq!(actor.echo("late".into()).await, Err(CallError::NodeLost { executed: Executed::No }));
    assert_eq!(actor.say("late".into()), Err(CastError::NodeLost));
    // The task of the process is gone, and with it its state.
    while said(&mut told).await != "dropped" {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_are_listed_and_counted() {
    let cluster = local().await;
    for name in ["a:1", "a:2", "b:1"] {
        cluster.start::<Counter>(name, 0).await.unwrap();
    }
    cluster.start::<Other>("a:other", ()).await.unwrap();
    let prefix = whimbrel::Filter::all().prefix("a:");
    let names: Vec<_> =
        cluster.list(prefix.clone()).await.unwrap().iter().map(|row| row.name.to_string()).collect();
    assert_eq!(names, ["a:1", "a:2", "a:other"]);
    let both = prefix.kind("counter");
    assert_eq!(cluster.count(both).await.unwrap(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_concurrent_calls_all_answer() {
    let cluster = local().await;
    let counters: Vec<_> = futures(&cluster).await;
    let mut calls = tokio::task::JoinSet::new();
    for at in 0..10_000 {
        let call = counters[at % counters.len()].add(1);
        calls.spawn(async move { call.await.is_ok() });
    }
    assert_eq!(calls.join_all().await.into_iter().filter(|ok| *ok).count(), 10_000);
    for counter in &counters {
        assert_eq!(counter.add(0).await, Ok(500));
    }
}

async fn futures(cluster: &Cluster) -> Vec<whimbrel::ProcessRef<Counter>> {
    let mut counters = Vec::new();
    for at in 0..20 {
        counters.push(cluster.get_or_start::<Counter>(&format!("c{at}"), 0).await.unwrap());
    }
    counters
}
