//! Processes without a name, and names given to them.

use whimbrel::{CallError, ExitReason, RegisterError, RequestError, StartError};

use crate::kinds::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn spawned_process_has_no_name_and_is_not_restarted() {
    let cluster = local().await;
    let (script, mut told) = Script::new(Init::Succeed);
    let actor = cluster.spawn::<Actor>(script).await.unwrap();
    assert_eq!(said(&mut told).await, "init unnamed");
    assert_eq!(actor.echo("hello".into()).await.as_deref(), Ok("hello"));
    assert_eq!(actor.fail().await, Err(CallError::Crashed));
    while said(&mut told).await != "dropped" {}
    let gone = actor.echo("gone".into()).await.unwrap_err();
    assert!(matches!(gone, CallError::Stopped { .. }), "{gone:?}");
    let (script, _told) = Script::new(Init::Panic);
    let failed = cluster.spawn::<Actor>(script).await.unwrap_err();
    assert!(matches!(failed, StartError::InitFailed { reason: ExitReason::Panic(_) }), "{failed:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn registered_name_leads_to_the_process_until_it_is_taken_back() {
    let cluster = local().await;
    let (script, mut told) = Script::new(Init::Succeed);
    let actor = cluster.spawn::<Actor>(script).await.unwrap();
    let named = cluster.register("the actor", &actor).await.unwrap();
    assert_eq!(named.copies, 1);
    assert_eq!(named.process.echo("by name".into()).await.as_deref(), Ok("by name"));
    let again = cluster.register("the actor", &actor).await.unwrap_err();
    assert_eq!(again, RegisterError::AlreadyRunning);
    cluster.register("its other name", &actor).await.unwrap();
    let other = cluster.process::<Actor>("its other name").unwrap();
    assert_eq!(other.echo("too".into()).await.as_deref(), Ok("too"));

    cluster.unregister("the actor").await.unwrap();
    assert_eq!(cluster.locate("the actor").await, Err(RequestError::NotFound));
    assert_eq!(actor.echo("goes on".into()).await.as_deref(), Ok("goes on"));
    while let Ok(text) = named.process.echo("still".into()).await {
        // The node is told after the owner has answered.
        assert_eq!(text, "still");
    }
    assert_eq!(said(&mut told).await, "init unnamed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn end_of_a_process_frees_its_registered_names() {
    let cluster = local().await;
    let (script, _told) = Script::new(Init::Succeed);
    let actor = cluster.spawn::<Actor>(script).await.unwrap();
    cluster.register("name", &actor).await.unwrap();
    assert_eq!(actor.fail().await, Err(CallError::Crashed));
    while cluster.locate("name").await.is_ok() {
        tokio::task::yield_now().await;
    }
    assert_eq!(cluster.locate("name").await, Err(RequestError::NotFound));
    assert_eq!(cluster.register("name", &actor).await.unwrap_err(), RegisterError::NotLocal);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stopping_a_registered_name_ends_its_process() {
    let cluster = local().await;
    let (script, mut told) = Script::new(Init::Succeed);
    let actor = cluster.spawn::<Actor>(script).await.unwrap();
    cluster.register("name", &actor).await.unwrap();
    cluster.stop("name").await.unwrap();
    while said(&mut told).await != "terminate shutdown" {}
    assert!(matches!(actor.echo("gone".into()).await, Err(CallError::Stopped { .. })));
}
