//! Supervisors that belong to the node itself.

use super::Cluster;
use crate::supervise::{SuperviseError, Supervisor, Tree};

impl Cluster {
    /// Runs a tree on this node, as long as the node: until [`Supervisor::stop`], until it gives up, or until the node
    /// leaves or closes. Returns when its children are up, started one after the other in their order.
    ///
    /// It is local: nothing of it moves, and when the node is lost nobody starts it elsewhere. A tree that belongs to a
    /// process is made with [`Context::supervise`](crate::Context::supervise).
    ///
    /// When the node leaves, it first drains; then the tree stops in order. It has 15 s, then what is left of it is ended
    /// by force. Dropped without leaving, a node drops it at its next await.
    ///
    /// # Errors
    /// [`SuperviseError`]; then nothing of it runs.
    ///
    /// # Cancel safety
    /// Dropped on the way, the tree is stopped.
    pub async fn supervise(&self, tree: Tree) -> Result<Supervisor, SuperviseError> {
        let cluster = Cluster::for_processes(self.shared.clone());
        self.shared.roots.supervise(cluster, tree).await
    }
}
