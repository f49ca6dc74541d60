//! Clients that call and cast one name after the other, and what is to have come of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::task::JoinHandle;
use whimbrel::{Cluster, ProcessRef};

use super::traveller::*;

/// Clients at work: each sends numbers to one name, every third by a call.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    pub(crate) answered: Arc<AtomicU64>,
    clients: Vec<(String, String, JoinHandle<u64>)>,
}

impl Load {
    /// One client for each of the names on each of the nodes; a name may be there more than once.
    pub(crate) fn begin(nodes: &[Cluster], names: &[String]) -> Self {
        let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let mut clients = Vec::new();
        for node in nodes {
            for (at, name) in names.iter().enumerate() {
                let client = format!("{} of {name}, {at}", node.node_name());
                let process = node.process::<Traveller>(name).unwrap();
                let task = run(client.clone(), process, stop.clone(), answered.clone());
                clients.push((client, name.clone(), tokio::spawn(task)));
            }
        }
        Self { stop, answered, clients }
    }

    /// Waits for so many more answers.
    pub(crate) async fn go_on_for(&self, answers: u64) {
        let until = self.answered.load(Ordering::Relaxed) + answers;
        while self.answered.load(Ordering::Relaxed) < until {
            tokio::task::yield_now().await;
        }
    }

    /// Ends it: every process has seen every number once and in order.
    pub(crate) async fn end(self, node: &Cluster) {
        self.stop.store(true, Ordering::Relaxed);
        for (client, name, task) in self.clients {
            let sent = task.await.unwrap();
            let seen = node.process::<Traveller>(&name).unwrap().seen().await.unwrap();
            assert_eq!(seen.odd, [], "{name}: after which number came which");
            assert_eq!(seen.last.get(&client), Some(&sent), "{client}");
        }
    }
}

/// Sends until it is told to stop; returns how many numbers were sent.
async fn run(
    client: String,
    process: ProcessRef<Traveller>,
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
) -> u64 {
    let mut seq = 0;
    loop {
        for _ in 0..2 {
            seq += 1;
            process.note(client.clone(), seq).unwrap();
        }
        seq += 1;
        let answer = process.count(client.clone(), seq).deadline(crate::kinds::LONG).await;
        assert_eq!(answer, Ok(seq), "{client}");
        answered.fetch_add(1, Ordering::Relaxed);
        // Behind an answer: all before it was handled.
        if stop.load(Ordering::Relaxed) {
            return seq;
        }
    }
}
