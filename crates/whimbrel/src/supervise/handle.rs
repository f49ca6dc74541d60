//! What users hold of a running supervisor.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use whimbrel_core::base::ExitReason;

use super::child::Present;
use super::plan::{FirstStart, Key, Plan};
use super::{Child, ChildInfo, SuperviseError};
use crate::exchange::lock;
use crate::process::{Process, ProcessRef};

/// A running supervisor: cheap to clone. Dropping it stops nothing.
#[derive(Clone)]
pub struct Supervisor {
    shared: Arc<Shared>,
}

struct Shared {
    state: Arc<Mutex<State>>,
    requests: mpsc::Sender<Request>,
    stop: CancellationToken,
    standing: watch::Receiver<Standing>,
}

/// What its task and its handles both see. Locked for a moment, never while user code runs.
pub(super) struct State {
    pub(super) plan: Plan,
    /// Of the children that are up.
    pub(super) present: BTreeMap<Key, Present>,
}

/// Where a supervisor stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    Starts,
    Runs,
    /// Nothing of it runs: this rest was asked for.
    Rests(u64),
    Over(ExitReason),
}

/// What is asked of a running supervisor.
pub(super) struct Request {
    pub(super) what: What,
    pub(super) answer: oneshot::Sender<Result<(), SuperviseError>>,
}

pub(super) enum What {
    Start(Arc<Child>),
    Restart(String),
    Stop(String),
    Remove(String),
}

impl Supervisor {
    pub(super) fn new(
        state: Arc<Mutex<State>>,
        requests: mpsc::Sender<Request>,
        stop: CancellationToken,
        standing: watch::Receiver<Standing>,
    ) -> Self {
        Self { shared: Arc::new(Shared { state, requests, stop, standing }) }
    }

    /// Adds a child at the end of the order and starts it. Returns when it is up.
    ///
    /// With [`Strategy::OneForOne`](super::Strategy::OneForOne) it starts at once, otherwise when all before it are up. The
    /// id of a child that is stopped may be used again: the new one takes its place. A first start that fails is no failure
    /// that counts.
    ///
    /// # Errors
    /// [`SuperviseError`]. When it did not start it is forgotten.
    ///
    /// # Cancel safety
    /// Dropped after its first poll, the child starts all the same.
    pub async fn start_child(&self, child: Child) -> Result<(), SuperviseError> {
        self.ask(What::Start(Arc::new(child))).await
    }

    /// Starts a child again that is stopped; one that runs is stopped first. Returns when it is up. The others go on,
    /// whatever the strategy; nothing of this is a failure that counts.
    ///
    /// # Errors
    /// [`SuperviseError`]. When it did not start it is stopped.
    ///
    /// # Cancel safety
    /// Dropped after its first poll, the child is started again all the same.
    pub async fn restart_child(&self, id: &str) -> Result<(), SuperviseError> {
        self.ask(What::Restart(id.to_owned())).await
    }

    /// Stops a child. Returns when it has ended. It stays among the children, and is not started again when others are,
    /// until [`Supervisor::restart_child`]; a temporary one is forgotten.
    ///
    /// # Errors
    /// `NotFound`, `Overloaded`, `Stopped`.
    ///
    /// # Cancel safety
    /// Dropped after its first poll, the child stops all the same.
    pub async fn stop_child(&self, id: &str) -> Result<(), SuperviseError> {
        self.ask(What::Stop(id.to_owned())).await
    }

    /// Stops a child and forgets it. Returns when it has ended.
    ///
    /// # Errors
    /// `NotFound`, `Overloaded`, `Stopped`.
    ///
    /// # Cancel safety
    /// Dropped after its first poll, the child goes all the same.
    pub async fn remove_child(&self, id: &str) -> Result<(), SuperviseError> {
        self.ask(What::Remove(id.to_owned())).await
    }

    async fn ask(&self, what: What) -> Result<(), SuperviseError> {
        let (answer, answered) = oneshot::channel();
        let request = Request { what, answer };
        self.shared.requests.send(request).await.map_err(|_| SuperviseError::Stopped)?;
        answered.await.map_err(|_| SuperviseError::Stopped)?
    }

    /// The children, in the order of their starts, as they are at this moment.
    pub fn children(&self) -> Vec<ChildInfo> {
        let state = lock(&self.shared.state);
        let children = state.plan.children();
        children
            .map(|seen| ChildInfo {
                id: seen.id.to_string(),
                state: seen.state,
                restart: seen.policy,
                restarts: seen.restarts,
            })
            .collect()
    }

    /// The present life of the process that is this child; none when it is not up, or is no such process.
    ///
    /// A reference to a life that has ended answers `Stopped`: ask again, or give the process a name with
    /// [`Cluster::register`](crate::Cluster::register) in its `init`.
    pub fn process<P: Process>(&self, id: &str) -> Option<ProcessRef<P>> {
        self.present(id)?.downcast_ref::<ProcessRef<P>>().cloned()
    }

    /// The supervisor that is this child; none when it is not up, or is no supervisor.
    pub fn supervisor(&self, id: &str) -> Option<Supervisor> {
        self.present(id)?.downcast_ref::<Supervisor>().cloned()
    }

    fn present(&self, id: &str) -> Option<Present> {
        let state = lock(&self.shared.state);
        let key = state.plan.children().find(|child| &*child.id == id)?.key;
        state.present.get(&key).cloned()
    }

    /// Stops all children, the last one first, each in its own time, and ends. Returns when it has ended, and why: another
    /// reason than `Shutdown` when it was about to end already. One that is itself a permanent child is started again.
    ///
    /// # Cancel safety
    /// Dropped after its first poll, it stops all the same.
    pub async fn stop(&self) -> ExitReason {
        self.shared.stop.cancel();
        self.ended().await
    }

    /// Waits until it has ended, and says why: `Shutdown` after a stop, an error when it gave up, `Killed` when its node
    /// or its process went without a word.
    ///
    /// # Cancel safety
    /// May be dropped at any time.
    pub async fn ended(&self) -> ExitReason {
        let mut standing = self.shared.standing.clone();
        let over = standing.wait_for(|standing| matches!(standing, Standing::Over(_))).await;
        match over.as_deref() {
            Ok(Standing::Over(reason)) => reason.clone(),
            // Its task was dropped.
            Ok(_) | Err(_) => ExitReason::Killed,
        }
    }

    /// Why it has ended, if it has.
    pub(super) fn over(&self) -> Option<ExitReason> {
        match &*self.shared.standing.borrow() {
            Standing::Over(reason) => Some(reason.clone()),
            Standing::Starts | Standing::Runs | Standing::Rests(_) => None,
        }
    }

    /// Waits for the first start of all children.
    pub(super) async fn started(&self) -> Result<(), SuperviseError> {
        let mut standing = self.shared.standing.clone();
        let _started_or_gone = standing.wait_for(|standing| *standing != Standing::Starts).await;
        // It may be over by now, and has started all the same.
        match lock(&self.shared.state).plan.first_start() {
            FirstStart::Done => Ok(()),
            FirstStart::NotYet => Err(SuperviseError::Stopped),
            FirstStart::Failed(id, reason) => {
                Err(SuperviseError::StartFailed { id: id.to_string(), reason: reason.clone() })
            }
        }
    }

    /// Waits until this rest has begun, or it has ended.
    pub(super) async fn rested(self, rest: u64) {
        let mut standing = self.shared.standing.clone();
        let rests = |standing: &Standing| match standing {
            Standing::Rests(now) => *now == rest,
            Standing::Over(_) => true,
            Standing::Starts | Standing::Runs => false,
        };
        let _rests_or_gone = standing.wait_for(rests).await;
    }
}

impl std::fmt::Debug for Supervisor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Supervisor").field("children", &self.children()).finish()
    }
}
