//! Processes that every node asks for.

use whimbrel::{Cluster, KindOptions, Singleton, StaticList};

use crate::kinds::*;

async fn join(node: &str, seed: Option<&Cluster>) -> Cluster {
    Cluster::builder("test")
        .node_name(node)
        .listen("127.0.0.1:0")
        .discovery(StaticList::new(seed.map(|seed| seed.address().to_owned())))
        .kind::<Counter>(KindOptions::default())
        .local_kind::<Actor>(KindOptions::default())
        .join()
        .await
        .unwrap()
}

/// Less than a guard waits when nothing happens, so it is what happened that made it ask.
async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(LONG, what).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_node_asks_and_one_runs_and_a_freed_name_is_asked_for_again() {
    let a = join("a", None).await;
    let b = join("b", Some(&a)).await;
    a.wait_for_members(2, LONG).await.unwrap();
    let once = || Singleton::<Counter>::new("once", 40);
    let (by_a, by_b) = tokio::join!(once().start(&a), once().start(&b));
    let (by_a, by_b) = (by_a.unwrap(), by_b.unwrap());
    assert_eq!((by_a.add(1).await, by_b.add(1).await), (Ok(41), Ok(42)));
    let first = a.locate("once").await.unwrap().token;
    a.stop("once").await.unwrap();
    // Its coming is a new view, and it asks for nothing.
    let c = join("c", Some(&a)).await;
    let again = soon(async {
        loop {
            if let Ok(located) = c.locate("once").await {
                return located.token;
            }
        }
    });
    assert!(again.await > first);
    assert_eq!(by_b.add(1).await, Ok(41));
    for node in [c, b, a] {
        node.leave().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_that_can_not_be_started_by_others_is_started_by_their_guards() {
    let a = join("a", None).await;
    let b = join("b", Some(&a)).await;
    a.wait_for_members(2, LONG).await.unwrap();
    let ((script, mut told), (other_script, mut other_told)) =
        (Script::new(Init::Succeed), Script::new(Init::Succeed));
    // Its arguments do not travel: it runs where it was asked for first.
    Singleton::<Actor>::new("once", script).start(&a).await.unwrap();
    let by_b = Singleton::<Actor>::new("once", other_script).start(&b).await.unwrap();
    assert_eq!(said(&mut told).await, "init named");
    drop(a);
    assert_eq!(said(&mut other_told).await, "init named");
    assert_eq!(soon(by_b.echo("here".into()).into_future()).await.as_deref(), Ok("here"));
}
