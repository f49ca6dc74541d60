//! Who a tree belongs to: the node, or one instance.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use whimbrel_core::base::ExitReason;

use super::lives::{Home, Orders};
use super::tree::{self, Running, Wish};
use super::{SuperviseError, Supervisor, Tree};
use crate::Cluster;
use crate::process::TERMINATE_MAX;
use crate::process::current::Current;

/// Trees that one instance has at most.
const TREES_MAX: usize = 64;

/// The trees of a node.
#[derive(Debug, Default)]
pub(crate) struct Roots {
    stop: CancellationToken,
    kill: CancellationToken,
    tracker: TaskTracker,
}

impl Roots {
    /// Runs one more; its handle on the cluster does not keep the node alive.
    pub(crate) async fn supervise(&self, cluster: Cluster, tree: Tree) -> Result<Supervisor, SuperviseError> {
        let orders = Orders { stop: self.stop.child_token(), kill: self.kill.child_token() };
        let home = Home { cluster: cluster.clone(), current: Current::NOBODY };
        let (supervisor, running) = begin(home, &tree, orders.clone())?;
        run_beside(&cluster, self.tracker.track_future(running.run()));
        started(supervisor, orders.stop).await
    }

    /// Stops all of them, and ends by force what goes on for longer than this.
    pub(crate) async fn end(&self, at_most: Duration) {
        self.stop.cancel();
        self.tracker.close();
        if timeout(at_most, self.tracker.wait()).await.is_err() {
            tracing::warn!("a supervisor that was told to stop goes on: its children are ended by force");
            self.kill.cancel();
        }
    }
}

fn begin(home: Home, tree: &Tree, orders: Orders) -> Result<(Supervisor, Running), SuperviseError> {
    tree::check(tree)?;
    if home.cluster.exchange().is_closed() {
        return Err(SuperviseError::Stopped);
    }
    Ok(Running::new(home, tree, orders))
}

fn run_beside(cluster: &Cluster, run: impl Future<Output = ExitReason> + Send + 'static) {
    let tasks = cluster.exchange().tasks();
    tasks.spawn_until_stopped("supervisor", async {
        let reason = run.await;
        if !reason.is_normal() {
            tracing::warn!(%reason, "a supervisor has ended");
        }
    });
}

/// Waits until it is up; if that is not waited for, it stops.
async fn started(supervisor: Supervisor, stop: CancellationToken) -> Result<Supervisor, SuperviseError> {
    let abandoned = stop.drop_guard();
    supervisor.started().await?;
    abandoned.disarm();
    Ok(supervisor)
}

/// The trees of one instance: end with it.
#[derive(Default)]
pub(crate) struct Trees {
    trees: Vec<Owned>,
    last_rest: u64,
    resting: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

struct Owned {
    supervisor: Supervisor,
    ended: Pin<Box<dyn Future<Output = ExitReason> + Send>>,
    wish: watch::Sender<Wish>,
    /// Without a word from its owner it is ended by force.
    kill: DropGuard,
}

impl Trees {
    /// Runs one more, on behalf of its owner.
    pub(crate) async fn add(&mut self, home: Home, tree: Tree) -> Result<Supervisor, SuperviseError> {
        // What gave up stays until its owner was told.
        self.trees.retain(|tree| tree.supervisor.over().is_none_or(|reason| !reason.is_normal()));
        if self.trees.len() >= TREES_MAX {
            return Err(SuperviseError::Overloaded);
        }
        let orders = Orders { stop: CancellationToken::new(), kill: CancellationToken::new() };
        let cluster = home.cluster.clone();
        let (supervisor, running) = begin(home, &tree, orders.clone())?;
        let (wish, wishes) = watch::channel(Wish::Run);
        let kill = orders.kill.drop_guard();
        run_beside(&cluster, running.with_wishes(wishes).run());
        let supervisor = started(supervisor, orders.stop).await?;
        let watched = supervisor.clone();
        let ended = Box::pin(async move { watched.ended().await });
        self.trees.push(Owned { supervisor: supervisor.clone(), ended, wish, kill });
        Ok(supervisor)
    }

    /// Why one of them gave up. Those that have ended are forgotten.
    pub(crate) fn poll_failed(&mut self, task: &mut Context<'_>) -> Poll<ExitReason> {
        let mut failed = Poll::Pending;
        self.trees.retain_mut(|tree| match tree.ended.as_mut().poll(task) {
            Poll::Pending => true,
            Poll::Ready(reason) => {
                if !reason.is_normal() {
                    failed = Poll::Ready(reason);
                }
                false
            }
        });
        failed
    }

    /// Their owner is about to move: nothing of them is to run, until [`Trees::resume`].
    pub(crate) fn rest(&mut self) {
        self.last_rest += 1;
        let rest = self.last_rest;
        self.wish(Wish::Rest(rest));
        let trees: Vec<Supervisor> = self.trees.iter().map(|tree| tree.supervisor.clone()).collect();
        self.resting = Some(Box::pin(async move {
            for tree in trees {
                tree.rested(rest).await;
            }
        }));
    }

    /// What still runs is ended by force.
    pub(crate) fn hurry(&self) {
        self.wish(Wish::Hurry(self.last_rest));
    }

    /// Ready when all of them rest.
    pub(crate) fn poll_rests(&mut self, task: &mut Context<'_>) -> Poll<()> {
        let Some(resting) = &mut self.resting else { return Poll::Ready(()) };
        let rests = resting.as_mut().poll(task);
        if rests.is_ready() {
            self.resting = None;
        }
        rests
    }

    /// Nothing came of the move: all start again, in order.
    pub(crate) fn resume(&mut self) {
        self.resting = None;
        self.wish(Wish::Run);
    }

    fn wish(&self, wish: Wish) {
        for tree in &self.trees {
            tree.wish.send_replace(wish);
        }
    }

    /// Stops them, the last one first; what goes on for longer than 5 s is ended by force.
    pub(crate) async fn end(self) {
        let trees: Vec<Supervisor> = self.trees.iter().map(|tree| tree.supervisor.clone()).collect();
        let stop = async {
            for tree in trees.into_iter().rev() {
                tree.stop().await;
            }
        };
        if timeout(TERMINATE_MAX, stop).await.is_err() {
            tracing::warn!("a supervisor outlives its process: its children are ended by force");
        }
        for Owned { kill, ended, .. } in self.trees.into_iter().rev() {
            drop(kill);
            ended.await;
        }
    }
}
