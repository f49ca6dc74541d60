//! What a child of a supervisor is: how it is made, when it comes back, how long it may take to stop.

use std::any::Any;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use whimbrel_core::base::ExitReason;
use whimbrel_core::directory::RestartPolicy;

use super::Tree;
use super::lives::{Begun, Home};
use crate::message::Speaks;
use crate::process::{Process, ProcessRef};

/// How long a child may take to stop unless it says otherwise.
const SHUTDOWN: Duration = Duration::from_secs(5);

/// Makes the future of a task: user code.
type MakeTask = Box<dyn Fn(Stopping) -> TaskFuture + Send + Sync>;
pub(super) type TaskFuture = Pin<Box<dyn Future<Output = Result<(), ExitReason>> + Send>>;
/// Begins the life of a process; of its arguments a copy is made, which is user code.
type BeginProcess = Box<dyn Fn(&Home) -> Result<Begun, ExitReason> + Send + Sync>;

/// A child of a supervisor: permanent, and with 5 s to stop, unless it says otherwise.
pub struct Child {
    pub(super) id: Arc<str>,
    pub(super) restart: RestartPolicy,
    pub(super) shutdown: Duration,
    pub(super) start: Start,
}

/// How a life of it begins.
pub(super) enum Start {
    Task(MakeTask),
    Process(BeginProcess),
    Supervisor(Tree),
}

impl Child {
    /// A task: a future, made anew for each life. It is up when it has come to its first await; a failure before that is
    /// a start that failed.
    ///
    /// It ends with its output: `Ok` is a normal end, an error or a panic a failure. When it is to stop it is told by its
    /// [`Stopping`]; if it has not ended by then it is dropped at its next await after [`Child::shutdown`]. Code that
    /// blocks its thread can not be stopped: what waits for its end waits with it. A `Cluster` that the closure holds keeps
    /// the node alive until the tree has ended.
    pub fn task<F, T>(id: impl Into<String>, task: F) -> Self
    where
        F: Fn(Stopping) -> T + Send + Sync + 'static,
        T: Future<Output = Result<(), ExitReason>> + Send + 'static,
    {
        let make = move |stopping: Stopping| -> TaskFuture { Box::pin(task(stopping)) };
        Self::new(id, SHUTDOWN, Start::Task(Box::new(make)))
    }

    /// A process without a name, each life with a copy of these arguments. It is up when `init` has returned, which may
    /// take as long as it likes.
    ///
    /// [`Supervisor::process`](super::Supervisor::process) has the reference to its present life, whose messages end with
    /// that life: a mailbox is kept over restarts for names alone. When it is to stop, it finishes the message in hand and
    /// runs `terminate`.
    pub fn process<P: Speaks>(id: impl Into<String>, args: P::Args) -> Self
    where
        P::Args: Clone + Sync,
    {
        let begin = move |home: &Home| home.begin::<P>(args.clone());
        Self::new(id, SHUTDOWN, Start::Process(Box::new(begin)))
    }

    /// Another supervisor, each life with the tree as it is here. It is up when all its children are; when it gives up,
    /// that is a failure.
    ///
    /// It may take as long to stop as the children that it has here take together, unless [`Child::shutdown`] says
    /// otherwise.
    pub fn supervisor(id: impl Into<String>, tree: Tree) -> Self {
        // One second for itself: its last child has all of its own time.
        let shutdown = tree.shutdown().saturating_add(Duration::from_secs(1));
        Self::new(id, shutdown, Start::Supervisor(tree))
    }

    fn new(id: impl Into<String>, shutdown: Duration, start: Start) -> Self {
        Self { id: id.into().into(), restart: RestartPolicy::Permanent, shutdown, start }
    }

    /// When it is started again: always (permanent, the default), after a failure (transient), never (temporary; its
    /// supervisor forgets it when it has ended).
    pub fn restart(mut self, policy: RestartPolicy) -> Self {
        self.restart = policy;
        self
    }

    /// How long it may take to stop before it is ended by force; default 5 s, zero is at once.
    pub fn shutdown(mut self, at_most: Duration) -> Self {
        self.shutdown = at_most;
        self
    }
}

impl std::fmt::Debug for Child {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Child").field("id", &self.id).field("restart", &self.restart).finish_non_exhaustive()
    }
}

/// Tells a task that it is to stop. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Stopping(CancellationToken);

impl Stopping {
    pub(super) fn new(token: CancellationToken) -> Self {
        Self(token)
    }

    /// Completes when the task is to stop.
    ///
    /// # Cancel safety
    /// May be dropped at any time.
    pub async fn asked(&self) {
        self.0.cancelled().await;
    }

    /// Whether the task is to stop.
    pub fn is_asked(&self) -> bool {
        self.0.is_cancelled()
    }
}

/// The present life of a child, for who asks for it: a reference to a process, or a supervisor.
pub(super) type Present = Arc<dyn Any + Send + Sync>;

pub(super) fn present<P: Process>(process: ProcessRef<P>) -> Present {
    Arc::new(process)
}
