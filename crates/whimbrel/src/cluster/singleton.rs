//! A process that every node asks for, and that is there once.
//!
//! Decides nothing: that one instance runs is the work of the directory, as for every name. What this adds is that the
//! asking does not end with the first answer.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use whimbrel_core::directory::{Placement, RestartPolicy};
use whimbrel_core::view::View;

use super::Cluster;
use crate::error::StartError;
use crate::process::{Process, ProcessRef};

/// How long after an answer the name is asked for again, when the view stays as it is.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// How long after an error at first; doubled with each up to the time above.
const RETRY: Duration = Duration::from_secs(1);

/// A process that runs once in the cluster for as long as any node wants it: every node makes the same call when it
/// starts.
///
/// ```
/// # use whimbrel::{Cluster, Context, ExitReason, KindOptions, Process, Singleton, handlers};
/// # #[derive(serde::Serialize, serde::Deserialize)]
/// # struct Cleaner;
/// # impl Process for Cleaner {
/// #     const KIND: &'static str = "cleaner";
/// #     type Args = u64;
/// #     async fn init(_period_ms: u64, _cx: &mut Context<Self>) -> Result<Self, ExitReason> { Ok(Cleaner) }
/// # }
/// # #[handlers]
/// # impl Cleaner {
/// #     #[call] async fn sweep(&mut self) {}
/// # }
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let cluster = Cluster::local().kind::<Cleaner>(KindOptions::default()).join().await?;
/// let cleaner = Singleton::<Cleaner>::new("cleaner", 500).start(&cluster).await?;
/// cleaner.sweep().await?;
/// # Ok(())
/// # }
/// ```
///
/// It is [`Cluster::get_or_start`], permanent and placed by hash, and a guard: a task of this node which asks again
/// whenever the view has changed, and every 30 s in any case. Most of what may happen needs no guard: a crash, the loss of
/// its node, a drain and a split are seen to for every name, at once. The guard is for a name that is free though it
/// should not be: all copies of its record and its host were lost together, its kind is a `local_kind` and its node was
/// lost, or somebody stopped it. Then it starts again, from its arguments, within 30 s.
///
/// So [`Cluster::stop`] alone does not end it: it is a new beginning. It is gone for good when it is stopped after the
/// last node that wanted it has left. A name in quarantine is left alone until it is released. At most one instance at a
/// time is as true of it as of every name: once in each part of a split network, until that heals.
#[must_use = "nothing is started until `start` is awaited"]
pub struct Singleton<P: Process> {
    name: String,
    args: P::Args,
}

impl<P: Process> Singleton<P>
where
    P::Args: Clone + Sync,
{
    /// A process of this name; these arguments if this node is the first to ask, otherwise those of the first.
    pub fn new(name: &str, args: P::Args) -> Self {
        Self { name: name.to_owned(), args }
    }

    /// Starts it if it does not run, and has it kept running by this node until that leaves or is closed. Once on each
    /// node is enough; each time makes one more guard.
    ///
    /// # Errors
    /// As [`Cluster::get_or_start`]; then there is no guard, and nothing is asked for again.
    ///
    /// # Cancel safety
    /// Dropped after its first poll, the process may or may not start; there is no guard.
    pub async fn start(self, cluster: &Cluster) -> Result<ProcessRef<P>, StartError<P>> {
        let mut views = cluster.shared.views.clone();
        // From here on: what changes while the answer is on its way is looked at again.
        views.mark_unchanged();
        let process = self.ask(cluster).await?;
        // Does not keep the node alive.
        let guarded = Cluster::for_processes(cluster.shared.clone());
        cluster.shared.tasks.spawn_until_stopped("singleton", self.guard(guarded, views));
        Ok(process)
    }

    async fn ask(&self, cluster: &Cluster) -> Result<ProcessRef<P>, StartError<P>> {
        cluster
            .get_or_start::<P>(&self.name, self.args.clone())
            .policy(RestartPolicy::Permanent)
            .placement(Placement::Hash)
            .await
    }

    async fn guard(self, cluster: Cluster, mut views: watch::Receiver<Option<Arc<View>>>) {
        let (mut wait, mut retry) = (LOOK_EVERY, RETRY);
        loop {
            tokio::select! {
                biased;
                changed = views.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(wait) => {}
            }
            (wait, retry) = match self.ask(&cluster).await {
                Ok(_) | Err(StartError::Quarantined) => (LOOK_EVERY, RETRY),
                Err(StartError::Stopped) => return,
                Err(error) => {
                    tracing::warn!(name = self.name, %error, "a singleton may not run: asked again later");
                    (retry, (retry * 2).min(LOOK_EVERY))
                }
            };
        }
    }
}

impl<P: Process> std::fmt::Debug for Singleton<P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Singleton").field("name", &self.name).finish_non_exhaustive()
    }
}
