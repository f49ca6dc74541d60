//! Workers that greet now and then: started by one call, found by name on every node, called, cast to, told together as a
//! group; they move with their state when their node leaves, and tidy up when they end.

use std::error::Error;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use whimbrel::{Cluster, Context, ExitReason, JoinError, KindOptions, Process, State, StaticList, handlers};

#[derive(Serialize, Deserialize)]
struct Worker {
    greetings: u64,
    delay: Duration,
}

impl Process for Worker {
    const KIND: &'static str = "worker";
    const RESOLVES_CONFLICTS: bool = true;
    type Args = ();

    async fn init(_args: (), cx: &mut Context<Self>) -> Result<Self, ExitReason> {
        cx.join("office", "workers").await.map_err(|error| ExitReason::Error(error.to_string()))?;
        cx.notify_self(WorkerGreet {});
        // A different pace for each life.
        Ok(Worker { greetings: 0, delay: Duration::from_millis(5 + cx.token().as_u64() % 20) })
    }

    // After a split this one met another worker of its name, and stays.
    async fn resolve_conflict(&mut self, other: State, _cx: &mut Context<Self>) {
        self.greetings += other.read::<Worker>().map_or(0, |other| other.greetings);
    }

    // State moves by itself, since `Worker` is serde. This is told what becomes of this instance.
    async fn terminate(&mut self, reason: &ExitReason, cx: &mut Context<Self>) {
        match reason {
            ExitReason::Moved => println!("{:?} goes on elsewhere", cx.name()),
            ExitReason::ConflictLost => println!("{:?} met another instance, which stays", cx.name()),
            _ => println!("{:?} cleans up after {} greetings", cx.name(), self.greetings),
        }
    }
}

#[handlers]
impl Worker {
    #[cast]
    async fn greet(&mut self, cx: &mut Context<Self>) {
        self.greetings += 1;
        cx.send_after(self.delay, WorkerGreet {});
    }

    #[cast]
    async fn hurry(&mut self) {
        self.delay = Duration::from_millis(1);
    }

    #[call]
    async fn greetings(&self) -> u64 {
        self.greetings
    }
}

async fn join(node: &str, seed: Option<&str>) -> Result<Cluster, JoinError> {
    Cluster::builder("office")
        .node_name(node)
        .listen("127.0.0.1:0")
        .secret(b"a secret that both nodes know")
        .discovery(StaticList::new(seed))
        .kind::<Worker>(KindOptions::default())
        .join()
        .await
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let one = join("one", None).await?;
    let two = join("two", Some(one.address())).await?;
    two.wait_for_members(2, Duration::from_secs(5)).await?;
    for number in 1..=4 {
        one.get_or_start::<Worker>(&format!("worker:{number}"), ()).await?;
    }

    let worker = two.process::<Worker>("worker:1")?; // from any node, wherever it runs
    worker.hurry()?;
    let workers = two.group("office", "workers")?;
    assert_eq!(workers.publish::<Worker, _>(WorkerHurry {}).await?, 4);
    while worker.greetings().await? < 20 {}

    let before = workers.call_all::<Worker, _>(WorkerGreetings {}, Duration::from_secs(5)).await?.replies;
    one.leave().await; // what runs there moves: nobody begins anew
    let after = workers.call_all::<Worker, _>(WorkerGreetings {}, Duration::from_secs(5)).await?.replies;
    for ((name, earlier), (_, now)) in before.iter().zip(&after) {
        println!("{name} has greeted {now} times, {earlier} of them before its node left");
        assert!(now >= earlier);
    }
    two.stop("worker:1").await?;
    assert_eq!(workers.count().await?, 3);
    two.leave().await;
    Ok(())
}
