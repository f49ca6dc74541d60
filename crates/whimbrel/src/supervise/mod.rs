//! Supervision trees: tasks, processes without a name, and other supervisors, kept running on this node.
//!
//! A name is kept running by the cluster, wherever its process is. What belongs to *one node* - a reader of a socket, a
//! pool of workers, the helpers of one process - is kept running by a [`Supervisor`]: it starts its children in their
//! order, starts those again that fail, with a back-off, and stops them in the reverse order. When they fail too often it
//! gives up and ends with an error. Whoever is above it sees that as the failure of one child: so trees nest.
//!
//! ```text
//!   Cluster::supervise ── lives as long as the node       Context::supervise ── lives as long as the instance
//!          │                                                      │
//!      Supervisor ───────────────┬────────────────────┐          ...
//!          │                     │                    │
//!      task (a future)    process without a name   Supervisor ──┬── ...
//! ```
//!
//! Decides: who starts, stops and comes back, in which order and when (`plan`, pure). `tree` carries that out, in one
//! task per supervisor and one per child; `lives` is what those of the children do.
//! Promises: no child starts before its last life has ended, with everything of it. A child that was told to stop and
//! goes on is ended by force after its `shutdown`. All of a tree ends with its owner.
//! On a crash or a split: a tree is local. When its node is lost it is gone, and nobody else starts it; a split is
//! nothing to it.

mod child;
mod error;
mod handle;
mod lives;
mod owned;
mod plan;
mod tree;

use std::sync::Arc;
use std::time::Duration;

use whimbrel_core::directory::{RestartIntensity, RestartPolicy};

pub use child::{Child, Stopping};
pub use error::SuperviseError;
pub use handle::Supervisor;
pub(crate) use lives::Home;
pub(crate) use owned::{Roots, Trees};

/// Children that one supervisor has at most.
pub(crate) const CHILDREN_MAX: usize = 1_024;

/// Who is started again with a child that failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Strategy {
    /// That child alone: the others do not depend on it. The default.
    #[default]
    OneForOne,
    /// All: the others are stopped, the last one first, then all start in their order.
    OneForAll,
    /// That child and those that were started after it, in the same way: they depend on it, the earlier ones do not.
    RestForOne,
}

/// What a supervisor is to run: a strategy, an intensity, and its first children in the order of their starts.
///
/// A value like any other: clone it, keep it, hand it to [`Cluster::supervise`](crate::Cluster::supervise),
/// [`Context::supervise`](crate::Context::supervise), or to [`Child::supervisor`] as a part of another tree.
///
/// ```
/// use whimbrel::{Child, Cluster, Strategy, Tree};
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let cluster = Cluster::local().join().await?;
/// let reader = Child::task("reader", |stopping| async move {
///     // Reads until it is told to stop.
///     stopping.asked().await;
///     Ok(())
/// });
/// let tree = Tree::new(Strategy::OneForOne).child(reader);
/// let supervisor = cluster.supervise(tree).await?;
/// assert_eq!(supervisor.children().len(), 1);
/// supervisor.stop().await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct Tree {
    strategy: Strategy,
    intensity: RestartIntensity,
    children: Vec<Arc<Child>>,
}

impl Tree {
    /// Without children, with the usual intensity: at most 5 restarts in 60 s.
    pub fn new(strategy: Strategy) -> Self {
        Self { strategy, ..Self::default() }
    }

    /// How many restarts within how long are too many, for all children together, and how they are spaced: the first at
    /// once, then after 100 ms, doubled each time up to 30 s. One failure more, and the supervisor gives up.
    ///
    /// `restarts_max` is at most 1,000, `window` more than 0 and at most a day, `back_off` more than 0.
    pub fn intensity(mut self, intensity: RestartIntensity) -> Self {
        self.intensity = intensity;
        self
    }

    /// One more child, which starts when those before it are up: at most 1,024.
    pub fn child(mut self, child: Child) -> Self {
        self.children.push(Arc::new(child));
        self
    }

    /// How long its children may take to stop, one after the other.
    fn shutdown(&self) -> Duration {
        self.children.iter().fold(Duration::ZERO, |sum, child| sum.saturating_add(child.shutdown))
    }
}

/// What a child does at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChildState {
    /// It is to start: its turn or its time has not come.
    Waiting,
    /// It was started and is not up: `init` has not returned.
    Starting,
    /// It runs.
    Up,
    /// It was told to stop and has not ended.
    Stopping,
    /// It does not run, and starts only if it is told to.
    Stopped,
}

/// One child, as [`Supervisor::children`] shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChildInfo {
    /// What its supervisor calls it.
    pub id: String,
    /// What it does.
    pub state: ChildState,
    /// When it is started again.
    pub restart: RestartPolicy,
    /// How often it was started again, for whatever reason.
    pub restarts: u64,
}
