//! A manager watches its workers: it tells why each of them ended, and in which state, and starts what is missing.

use whimbrel::{
    Cluster, Context, Down, ExitReason, KindOptions, MonitorId, Process, RestartPolicy, handlers,
};

struct Worker(u64);

impl Process for Worker {
    const KIND: &'static str = "worker";
    type Args = u64;
    async fn init(done: u64, _cx: &mut Context<Self>) -> Result<Self, ExitReason> {
        Ok(Worker(done))
    }

    fn snapshot(&self) -> Option<Vec<u8>> {
        Some(format!("{} jobs done", self.0).into_bytes()) // asked for when it fails
    }
}

#[handlers]
impl Worker {
    #[call]
    async fn work(&mut self, cx: &mut Context<Self>, job: u64) {
        match job % 3 {
            0 => cx.stop(ExitReason::Error(format!("job {job} is broken"))),
            _ => self.0 += 1,
        }
    }
}

struct Manager(Vec<String>);

impl Process for Manager {
    const KIND: &'static str = "manager";
    type Args = Vec<String>;
    async fn init(workers: Vec<String>, cx: &mut Context<Self>) -> Result<Self, ExitReason> {
        for name in workers {
            keep(&name, cx).await?;
        }
        Ok(Manager(Vec::new()))
    }

    async fn down(&mut self, down: Down, _id: MonitorId, cx: &mut Context<Self>) {
        let state = down.snapshot.map_or_else(Vec::new, |state| state.as_slice().to_vec());
        self.0.push(format!("{} ended: {}, {}", down.name, down.reason, String::from_utf8_lossy(&state)));
        if let Err(reason) = keep(down.name.as_str(), cx).await {
            cx.stop(reason); // it is started again itself then
        }
    }
}

/// Starts the worker if it is missing, and watches it.
async fn keep(name: &str, cx: &mut Context<Manager>) -> Result<(), ExitReason> {
    let started = cx.cluster().get_or_start::<Worker>(name, 0).await;
    started.map_err(|error| ExitReason::Error(error.to_string()))?;
    cx.monitor(name).set().map(|_id| ()).map_err(|error| ExitReason::Error(error.to_string()))
}

#[handlers]
impl Manager {
    #[call]
    async fn told(&self) -> Vec<String> {
        self.0.clone()
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let temporary = KindOptions::default().policy(RestartPolicy::Temporary); // the manager starts it again
    let builder = Cluster::local().restart_kind::<Worker>(temporary);
    let cluster = builder.restart_kind::<Manager>(KindOptions::default()).join().await?;
    let workers = vec!["worker:0".to_owned(), "worker:1".to_owned()];
    let manager = cluster.start::<Manager>("manager", workers.clone()).await?.process;
    for job in 1..=6 {
        cluster.process::<Worker>(&workers[job % 2])?.work(job as u64).await?;
        while manager.told().await?.len() < job / 3 {}
    }
    let told = manager.told().await?;
    println!("{}", told.join("\n"));
    assert_eq!(told[0], "worker:1 ended: error: job 3 is broken, 1 jobs done");
    assert_eq!(told[1..], ["worker:0 ended: error: job 6 is broken, 2 jobs done"]);
    cluster.leave().await;
    Ok(())
}
