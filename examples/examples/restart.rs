//! What a panic does: the caller is told, the process comes back under its name with the messages it had not read,
//! and one that fails again and again is put in quarantine until it is released.

use std::error::Error;

use serde::{Deserialize, Serialize};
use whimbrel::{CallError, Cluster, Context, ExitReason, KindOptions, Process, handlers};

#[derive(Serialize, Deserialize)]
struct Worker {
    done: Vec<u64>,
}

impl Process for Worker {
    const KIND: &'static str = "worker";
    type Args = ();

    async fn init((): (), _cx: &mut Context<Self>) -> Result<Self, ExitReason> {
        Ok(Worker { done: Vec::new() })
    }
}

#[handlers]
impl Worker {
    #[cast]
    async fn work(&mut self, job: u64) {
        assert_ne!(job, 13, "no worker survives this job");
        self.done.push(job);
    }

    #[call]
    async fn try_job(&mut self, job: u64) {
        self.work(job).await;
    }

    #[call]
    async fn done(&self) -> Vec<u64> {
        self.done.clone()
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    println!("the panics on standard error are meant");
    let cluster = Cluster::local().kind::<Worker>(KindOptions::default()).join().await?;
    let worker = cluster.get_or_start::<Worker>("worker", ()).await?;

    for job in [1, 13, 2, 3] {
        worker.work(job)?;
    }
    let done = worker.done().await?; // waits for the restart; the name never went away
    println!("job 1 went with the state that was lost, 13 is not tried again, {done:?} were still unread");
    assert_eq!(done, [2, 3]);

    let mut crashes = 0;
    let last = loop {
        match worker.try_job(13).await {
            Err(CallError::Crashed) => crashes += 1, // this caller's message was in hand: it may have had effects
            other => break other,
        }
    };
    println!("after {crashes} more crashes: {last:?}");
    assert!(matches!(last, Err(CallError::Quarantined)));

    cluster.release("worker").await?;
    worker.try_job(4).await?;
    assert_eq!(worker.done().await?, [4]);
    println!("released, and at work again");
    cluster.leave().await;
    Ok(())
}
