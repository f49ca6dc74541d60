//! Several nodes in one program, over loopback.

use std::collections::BTreeSet;
use std::time::Duration;

use whimbrel::{
    CallError, Cluster, Executed, JoinError, KindOptions, RestartIntensity, StartError, StaticList, call,
};

use crate::kinds::*;

async fn join(node: &str, seeds: &[&Cluster]) -> Cluster {
    Cluster::builder("test")
        .node_name(node)
        .listen("127.0.0.1:0")
        .discovery(StaticList::new(seeds.iter().map(|seed| seed.address().to_owned())))
        .kind::<Counter>(KindOptions::default())
        .restart_kind::<Other>(KindOptions::default())
        .join()
        .await
        .unwrap()
}

pub(crate) async fn nodes(count: usize) -> Vec<Cluster> {
    let mut nodes: Vec<Cluster> = Vec::new();
    for at in 0..count {
        let seeds: Vec<&Cluster> = nodes.iter().take(1).collect();
        let node = join(&format!("node-{at}"), &seeds).await;
        nodes.push(node);
    }
    for node in &nodes {
        node.wait_for_members(count, LONG).await.unwrap();
    }
    nodes
}

pub(crate) async fn leave_all(nodes: Vec<Cluster>) {
    for node in nodes {
        node.leave().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_node_starts_and_every_node_calls() {
    for count in [2, 3] {
        let nodes = nodes(count).await;
        let mut homes = BTreeSet::new();
        for at in 0..30 {
            let name = format!("counter:{at}");
            let starter = &nodes[at % count];
            let started = starter.start::<Counter>(&name, 100).await.unwrap();
            assert_eq!(usize::from(started.copies), 2);
            for (before, node) in nodes.iter().enumerate() {
                let counter = node.process::<Counter>(&name).unwrap();
                assert_eq!(counter.add(1).await, Ok(101 + before as u64));
                homes.insert(counter.place().await.unwrap().0);
            }
        }
        assert_eq!(homes.len(), count, "names are spread: {homes:?}");
        leave_all(nodes).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn casts_between_nodes_keep_their_order() {
    let nodes = nodes(2).await;
    for at in 0..10 {
        let name = format!("counter:{at}");
        nodes[0].start::<Counter>(&name, 0).await.unwrap();
        let counter = nodes[1].process::<Counter>(&name).unwrap();
        for n in 0..1_000 {
            counter.note(n).unwrap();
        }
        assert_eq!(counter.notes().await.unwrap(), (0..1_000).collect::<Vec<_>>());
    }
    leave_all(nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn second_start_from_another_node_is_told_that_it_runs() {
    let nodes = nodes(2).await;
    nodes[0].start::<Counter>("a", 1).await.unwrap();
    let second = nodes[1].start::<Counter>("a", 2).await.unwrap_err();
    let StartError::AlreadyRunning { process } = second else { panic!("{second:?}") };
    assert_eq!(process.add(0).await, Ok(1));
    let wrong = nodes[1].start::<Other>("a", ()).await.unwrap_err();
    assert!(matches!(wrong, StartError::WrongKind { ref found } if found == "counter"), "{wrong:?}");
    leave_all(nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn racing_nodes_get_the_same_process() {
    let nodes = nodes(3).await;
    for at in 0..50 {
        let name = format!("race:{at}");
        let (a, b, c) = tokio::join!(
            nodes[0].get_or_start::<Counter>(&name, 0),
            nodes[1].get_or_start::<Counter>(&name, 0),
            nodes[2].get_or_start::<Counter>(&name, 0),
        );
        let mut sums = Vec::new();
        let mut tokens = BTreeSet::new();
        for process in [a.unwrap(), b.unwrap(), c.unwrap()] {
            sums.push(process.add(1).await.unwrap());
            tokens.insert(process.place().await.unwrap().1);
        }
        assert_eq!((sums, tokens.len()), (vec![1, 2, 3], 1));
        let (a, b) = tokio::join!(
            nodes[1].start::<Counter>(&format!("second:{at}"), 0),
            nodes[2].start::<Counter>(&format!("second:{at}"), 0),
        );
        assert_eq!(usize::from(a.is_ok()) + usize::from(b.is_ok()), 1, "{a:?} {b:?}");
    }
    leave_all(nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn names_of_a_dropped_node_run_elsewhere() {
    let mut nodes = nodes(3).await;
    let mut of_lost = Vec::new();
    for at in 0..60 {
        let name = format!("counter:{at}");
        let counter = nodes[0].get_or_start::<Counter>(&name, 0).await.unwrap();
        let (home, token) = counter.place().await.unwrap();
        if home == "node-2" {
            of_lost.push((name, token));
        }
    }
    assert!(!of_lost.is_empty());
    drop(nodes.pop());
    for (name, token) in of_lost {
        let counter = nodes[1].process::<Counter>(&name).unwrap();
        let (home, later) = answer(|| counter.place()).await;
        assert_ne!(home, "node-2");
        assert!(later > token);
        assert_eq!(counter.add(0).await, Ok(0));
    }
    leave_all(nodes).await;
}

/// Calls until it is answered: a call that was under way when its node died ends in `NodeLost`.
pub(crate) async fn answer<M: whimbrel::Message>(make: impl Fn() -> whimbrel::Call<M>) -> M::Reply {
    let until = tokio::time::Instant::now() + LONG;
    loop {
        match make().await {
            Ok(reply) => return reply,
            Err(error) => assert!(tokio::time::Instant::now() < until, "{error:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn names_of_a_leaving_node_run_elsewhere() {
    let mut nodes = nodes(2).await;
    let mut names = Vec::new();
    for at in 0..20 {
        let name = format!("counter:{at}");
        nodes[0].start::<Counter>(&name, 5).await.unwrap();
        names.push(name);
    }
    let last = nodes.pop().unwrap();
    last.leave().await;
    for name in names {
        let counter = nodes[0].process::<Counter>(&name).unwrap();
        assert_eq!(answer(|| counter.place()).await.0, "node-0");
    }
    alone(&nodes[0]).await;
    leave_all(nodes).await;
}

/// Waits until this node's view holds no other.
pub(crate) async fn alone(node: &Cluster) {
    let until = tokio::time::Instant::now() + LONG;
    while node.view().is_none_or(|view| view.members.len() > 1) {
        assert!(tokio::time::Instant::now() < until, "{:?}", node.view());
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn message_that_stays_on_its_node_is_not_sent() {
    let nodes = nodes(2).await;
    let mut ends = BTreeSet::new();
    for at in 0..20 {
        let name = format!("other:{at}");
        let other = nodes[0].get_or_start::<Other>(&name, ()).await.unwrap();
        match call(&other, Ping).await {
            Ok(seven) => {
                assert_eq!(seven, 7);
                ends.insert("here");
            }
            Err(CallError::Codec { executed, .. }) => {
                assert_eq!(executed, Executed::No);
                ends.insert("elsewhere");
            }
            Err(error) => panic!("{error:?}"),
        }
    }
    assert_eq!(ends.len(), 2, "some of twenty run on each node");
    leave_all(nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn crash_on_another_node_ends_the_call_and_the_name_answers_again() {
    let nodes = nodes(2).await;
    for at in 0..8 {
        let name = format!("counter:{at}");
        let counter = nodes[0].get_or_start::<Counter>(&name, 3).await.unwrap();
        assert_eq!(counter.add(1).await, Ok(4));
        counter.fail().unwrap();
        assert_eq!(counter.add(1).await, Ok(4), "a new life, which has the arguments of the first");
    }
    leave_all(nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn registered_name_is_called_from_another_node_and_goes_with_it() {
    let mut nodes = nodes(2).await;
    let counter = nodes[1].spawn::<Counter>(10).await.unwrap();
    nodes[1].register("registered", &counter).await.unwrap();
    let from_afar = nodes[0].process::<Counter>("registered").unwrap();
    assert_eq!(from_afar.add(1).await, Ok(11));
    assert_eq!(nodes[0].count(whimbrel::Filter::default()).await.unwrap(), 1);
    drop((counter, nodes.pop()));
    let until = tokio::time::Instant::now() + LONG;
    while from_afar.add(1).deadline(Duration::from_secs(1)).await != Err(CallError::NotFound) {
        assert!(tokio::time::Instant::now() < until);
    }
    leave_all(nodes).await;
}

/// The key and rule with which `join` refuses.
async fn refusal(builder: whimbrel::Builder) -> (&'static str, String) {
    match builder.join().await {
        Err(JoinError::BadSetting { key, rule }) => (key, rule),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn settings_that_can_not_be_are_refused_with_their_key() {
    let ms = Duration::from_millis;
    let new = || Cluster::builder("test").listen("127.0.0.1:0");
    let someone = || StaticList::new(["127.0.0.1:1"]);
    let usual = RestartIntensity::default();
    let restarts = |intensity| new().restart_intensity(intensity);
    let cases = [
        (Cluster::builder(""), "cluster"),
        (Cluster::builder("a\nb"), "cluster"),
        (new().detection(ms(199)), "detection"),
        (new().detection(ms(60_001)), "detection"),
        (new().replicas(0), "replicas"),
        (new().replicas(4), "replicas"),
        (new().slots(0), "slots"),
        (new().weight(1_001), "weight"),
        (new().secret("fifteen bytes.."), "secret"),
        (new().secret_file("no-such-file"), "secret_file"),
        (Cluster::builder("a").listen("0.0.0.0:0"), "secret_file"),
        (Cluster::builder("a").listen("no address"), "listen"),
        (new().advertise("a\u{1b}[2J:1"), "advertise"),
        (new().advertise(&"a".repeat(400)), "advertise"),
        (new().node_name("a\u{9b}b"), "node_name"),
        (new().discovery(someone()).found_alone_after(ms(500)).join_within(ms(500)), "found_alone_after"),
        (restarts(RestartIntensity { window: ms(0), ..usual }), "restart_intensity"),
        (restarts(RestartIntensity { back_off: ms(0), ..usual }), "restart_intensity"),
        (restarts(RestartIntensity { back_off_max: ms(50), ..usual }), "restart_intensity"),
        (restarts(RestartIntensity { restarts_max: u32::MAX, ..usual }), "restart_intensity"),
    ];
    for (builder, expected) in cases {
        let (key, rule) = refusal(builder).await;
        assert_eq!(key, expected, "{rule}");
        assert!(!rule.is_empty() && !rule.contains("fifteen"), "{rule}");
    }
}
