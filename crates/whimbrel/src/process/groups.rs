//! The groups that a process is in, as it sees them itself.

use whimbrel_core::base::{Group, Membership, Metadata};

use super::{Context, Process};
use crate::cluster::given_name;
use crate::error::{GroupError, RequestError};

impl<P: Process> Context<P> {
    /// Puts this process into a group, also in `init`: when this has returned, every reading that begins finds it, on every
    /// node. It stays in the group when it is restarted, when it moves and when its node is lost: so once is enough. An
    /// `init` that joins joins again at each restart, which changes nothing.
    ///
    /// A process without a name is given one (`~` and numbers), and leaves by ending.
    ///
    /// # Errors
    /// As [`GroupRef::join`](crate::GroupRef::join).
    ///
    /// # Cancel safety
    /// As [`GroupRef::join`](crate::GroupRef::join).
    pub async fn join(&mut self, scope: &str, name: &str) -> Result<(), GroupError> {
        self.join_with(scope, name, Metadata::new()).await
    }

    /// As [`Context::join`], with a few texts that readers of the group find beside the name: at most 512 bytes.
    ///
    /// # Errors
    /// As [`GroupRef::join_with`](crate::GroupRef::join_with).
    ///
    /// # Cancel safety
    /// As [`GroupRef::join`](crate::GroupRef::join).
    pub async fn join_with(&mut self, scope: &str, name: &str, meta: Metadata) -> Result<(), GroupError> {
        let group = Group::new(scope, name).map_err(RequestError::from)?;
        self.cluster().join_group(&self.entry, group, meta).await
    }

    /// Takes this process out of a group; also Ok if it was not in it.
    ///
    /// # Errors
    /// As [`GroupRef::leave`](crate::GroupRef::leave).
    ///
    /// # Cancel safety
    /// As [`GroupRef::leave`](crate::GroupRef::leave).
    pub async fn leave(&mut self, scope: &str, name: &str) -> Result<(), GroupError> {
        let group = Group::new(scope, name).map_err(RequestError::from)?;
        self.cluster().leave_group(&self.entry, group).await
    }

    /// The groups that this process is in, as its owner has them.
    ///
    /// # Errors
    /// As [`Cluster::inspect`](crate::Cluster::inspect).
    pub fn groups(&self) -> impl Future<Output = Result<Vec<Membership>, RequestError>> + Send + use<P> {
        let (cluster, name) = (self.cluster().clone(), given_name(&self.entry));
        async move {
            match name {
                Ok(Some(name)) => Ok(cluster.inspect(name.as_str()).await?.groups),
                // Without a name it is in none.
                Ok(None) | Err(_) => Ok(Vec::new()),
            }
        }
    }
}
