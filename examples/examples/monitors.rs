//! A manager watches its workers: it tells why each of them ended, and in which state, and starts what is missing.

use serde::{Deserialize, Serialize};
use whimbrel::{
    Cluster, Context, Down, ExitReason, KindOptions, MonitorId, Process, RestartPolicy, handlers,
};

#[derive(Serialize, Deserialize)]
struct Worker {
    done: u64,
}

impl Process for Worker {
    const KIND: &'static str = "worker";
    type Args = ();

    async fn init((): (), _cx: &mut Context<Self>) -> Result<Self, ExitReason> {
        Ok(Worker { done: 0 })
    }

    fn snapshot(&self) -> Option<Vec<u8>> {
        Some(format!("{} jobs done", self.done).into_bytes()) // asked for when it fails
    }
}

#[handlers]
impl Worker {
    #[call]
    async fn work(&mut self, job: u64) -> u64 {
        assert!(job % 3 != 0, "job {job} is broken");
        self.done += 1;
        self.done
    }
}

#[derive(Serialize, Deserialize)]
struct Manager {
    told: Vec<String>,
}

impl Process for Manager {
    const KIND: &'static str = "manager";
    type Args = Vec<String>;

    async fn init(workers: Vec<String>, cx: &mut Context<Self>) -> Result<Self, ExitReason> {
        for name in workers {
            keep(&name, cx).await?;
        }
        Ok(Manager { told: Vec::new() })
    }

    async fn down(
        &mut self,
        Down { name, reason, snapshot, .. }: Down,
        _id: MonitorId,
        cx: &mut Context<Self>,
    ) {
        let state = snapshot.map(|state| String::from_utf8_lossy(state.as_slice()).into_owned());
        self.told.push(format!("{name} ended: {reason}, {}", state.unwrap_or_default()));
        if let Err(reason) = keep(name.as_str(), cx).await {
            cx.stop(reason); // and is started again, as it is permanent
        }
    }
}

/// Starts the worker if it is missing, and watches it.
async fn keep(name: &str, cx: &mut Context<Manager>) -> Result<(), ExitReason> {
    let failed = |error: String| ExitReason::Error(error);
    cx.cluster().get_or_start::<Worker>(name, ()).await.map_err(|error| failed(error.to_string()))?;
    cx.monitor(name).set().map_err(|error| failed(error.to_string()))?;
    Ok(())
}

#[handlers]
impl Manager {
    #[call]
    async fn told(&self) -> Vec<String> {
        self.told.clone()
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let temporary = KindOptions::default().policy(RestartPolicy::Temporary); // the manager decides
    let builder = Cluster::local().kind::<Worker>(temporary).kind::<Manager>(KindOptions::default());
    let cluster = builder.join().await?;
    let names = vec!["worker:0".to_owned(), "worker:1".to_owned()];
    let manager = cluster.start::<Manager>("manager", names.clone()).await?.process;
    for job in 1..=6 {
        let worker = cluster.process::<Worker>(&names[job % 2])?;
        let result = worker.work(job as u64).await;
        println!("job {job}: {result:?}");
        while manager.told().await?.len() < job / 3 {} // it starts the worker again before it answers
    }
    let told = manager.told().await?;
    assert_eq!(
        told,
        [
            "worker:1 ended: panic: job 3 is broken, 1 jobs done",
            "worker:0 ended: panic: job 6 is broken, 2 jobs done",
        ]
    );
    println!("{}", told.join("\n"));
    cluster.leave().await;
    Ok(())
}
