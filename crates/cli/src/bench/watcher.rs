//! Monitors, in a process of the bench: many of one process, and when the last of them has heard.

use tokio::sync::Mutex;
use tokio::task::{JoinHandle, JoinSet};
use whimbrel::{Cluster, Monitor};

use crate::control::Trouble;
use crate::os;

/// Tasks that set monitors at the same time.
const TASKS: u64 = 64;

/// The monitors of a round.
#[derive(Debug, Default)]
pub(crate) struct Watchers {
    /// Ends with the moment at which the last one has heard.
    hearing: Mutex<Option<JoinHandle<u64>>>,
}

impl Watchers {
    /// Sets so many of one process.
    pub(crate) async fn set(&self, cluster: &Cluster, name: &str, count: u64) -> Result<(), Trouble> {
        let mut setting = JoinSet::new();
        for task in 0..TASKS {
            let (cluster, name) = (cluster.clone(), name.to_owned());
            setting.spawn(async move {
                let mut monitors = Vec::new();
                for _ in (task..count).step_by(TASKS as usize) {
                    let monitor = cluster.monitor(&name).await;
                    monitors.push(monitor.map_err(|error| Trouble::new("a monitor was not set", error))?);
                }
                Ok::<Vec<Monitor>, Trouble>(monitors)
            });
        }
        let monitors: Result<Vec<Vec<Monitor>>, Trouble> = setting.join_all().await.into_iter().collect();
        let monitors = monitors?;
        let hearing = tokio::spawn(async move {
            for mut monitor in monitors.into_iter().flatten() {
                monitor.down().await;
            }
            os::monotonic_us()
        });
        *self.hearing.lock().await = Some(hearing);
        Ok(())
    }

    /// Waits until all have heard; when the last one did, in microseconds.
    pub(crate) async fn heard(&self) -> Result<u64, Trouble> {
        let hearing = self.hearing.lock().await.take();
        let hearing = hearing.ok_or_else(|| Trouble::new("nothing is watched", "monitors come first"))?;
        hearing.await.map_err(|error| Trouble::new("a task failed", error))
    }
}
