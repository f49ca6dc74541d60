//! The one place where tasks are started.
//!
//! Every task of a node has a name and an owner: the node's [`Tasks`], which tells them to stop and waits until
//! the last one has ended.

use std::future::Future;

use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

/// Starts, stops and awaits the tasks of one node. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Tasks {
    tracker: TaskTracker,
    stop: CancellationToken,
}

impl Tasks {
    /// None yet.
    pub(crate) fn new() -> Self {
        Self { tracker: TaskTracker::new(), stop: CancellationToken::new() }
    }

    /// Starts a task that ends by itself when [`Tasks::stopped`] completes.
    pub(crate) fn spawn<F>(&self, name: &'static str, future: F) -> AbortHandle
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let span = tracing::trace_span!("task", name);
        self.tracker.spawn(future.instrument(span)).abort_handle()
    }

    /// Starts the task of one process. There are many of them, so it has no span of its own.
    pub(crate) fn spawn_process<F>(&self, life: F) -> AbortHandle
    where
        F: Future<Output: Send> + Send + 'static,
    {
        self.tracker.spawn(life).abort_handle()
    }

    /// Starts a task that is dropped at its next await when the node stops.
    pub(crate) fn spawn_until_stopped<F>(&self, name: &'static str, future: F) -> AbortHandle
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let stop = self.stop.clone();
        self.spawn(name, async move {
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                () = future => {}
            }
        })
    }

    /// Completes when the node stops.
    pub(crate) async fn stopped(&self) {
        self.stop.cancelled().await;
    }

    /// Whether the node stops.
    pub(crate) fn is_stopped(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// Tells all tasks to stop; does not wait.
    pub(crate) fn stop(&self) {
        self.stop.cancel();
        self.tracker.close();
    }

    /// Waits until the last task has ended; only after [`Tasks::stop`].
    pub(crate) async fn ended(&self) {
        self.tracker.wait().await;
    }
}
