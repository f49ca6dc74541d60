//! Rebalancing, as operators steer it: pause, go on, and what is under way.

use tokio::sync::oneshot;
use whimbrel_core::base::Executed;
use whimbrel_core::directory::RebalanceReport;

use super::{Cluster, DEADLINE};
use crate::driver::Command;
use crate::error::RequestError;

impl Cluster {
    /// Pauses rebalancing in the whole cluster until [`Cluster::resume_rebalance`], on whatever node: no process is moved
    /// to where a view places it, or for load. Drains, [`Cluster::move_to`] and restarts go on, and moves under way come
    /// to their end. Returns when every member knows of it; nodes that join learn it too. It lasts until all nodes were
    /// restarted. On a split each side keeps to its own last order; when two lines meet that of the one that stays counts.
    ///
    /// # Errors
    /// `Deadline`, Unknown, when some member has not said in 5 s that it knows: it is told until it does. `Stopped` when
    /// this node is closed.
    ///
    /// # Cancel safety
    /// Dropped after its first poll, the order may or may not be given.
    pub async fn pause_rebalance(&self) -> Result<(), RequestError> {
        self.order_rebalance(true).await
    }

    /// Ends a pause: what would have moved meanwhile moves now. As [`Cluster::pause_rebalance`] in all else.
    ///
    /// # Errors
    /// As [`Cluster::pause_rebalance`].
    ///
    /// # Cancel safety
    /// As [`Cluster::pause_rebalance`].
    pub async fn resume_rebalance(&self) -> Result<(), RequestError> {
        self.order_rebalance(false).await
    }

    /// What this node moves, and has moved, of the names that it owns: each name has one owner, so the sum over all nodes
    /// is the whole.
    ///
    /// # Errors
    /// `Stopped` when this node is closed.
    pub async fn rebalance_report(&self) -> Result<RebalanceReport, RequestError> {
        let (asker, answer) = oneshot::channel();
        let command = Command::ReportRebalance { asker };
        self.shared.control.send(command).await.map_err(|_| RequestError::Stopped)?;
        answer.await.map_err(|_| RequestError::Stopped)
    }

    async fn order_rebalance(&self, paused: bool) -> Result<(), RequestError> {
        let (done, known) = oneshot::channel();
        let command = Command::Rebalance { paused, done };
        self.shared.control.send(command).await.map_err(|_| RequestError::Stopped)?;
        match tokio::time::timeout(DEADLINE, known).await {
            Ok(known) => known.map_err(|_| RequestError::Stopped),
            Err(_) => Err(RequestError::Deadline { executed: Executed::Unknown }),
        }
    }
}
