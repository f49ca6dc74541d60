//! What belongs to a name beside its process: a few texts that any node reads and changes.

use whimbrel_core::base::{BadMetadata, Executed, Metadata};
use whimbrel_core::directory::{Answer, Ask, Inspected, MetaRead};

use super::names::refusal;
use super::{Cluster, DEADLINE};
use crate::error::{MetadataError, RequestError};

impl Cluster {
    /// The metadata of a name, with the version that a change can be bound to. It stays when the process is restarted or
    /// moves, and ends with the name.
    ///
    /// # Errors
    /// [`RequestError`]; nothing was changed.
    pub async fn metadata(&self, name: &str) -> Result<MetaRead, RequestError> {
        self.inspect(name).await.map(|inspected| inspected.meta)
    }

    /// Replaces the metadata of a name, and gives it back with its new version. With `expected` only if that is the version
    /// it has: so no change of another is overwritten unseen. At most 4,096 bytes; visible to operators, so no secrets.
    ///
    /// # Errors
    /// [`MetadataError::Conflict`] with what it is instead. After a `Deadline` with executed unknown it may still be
    /// replaced.
    ///
    /// # Cancel safety
    /// Dropped after its first poll, it may or may not be replaced.
    pub async fn set_metadata(
        &self,
        name: &str,
        map: Metadata,
        expected: Option<u64>,
    ) -> Result<MetaRead, MetadataError> {
        match self.ask(name, Ask::SetMeta { map, expected }).await? {
            Answer::Meta(now) => Ok(now),
            Answer::Conflict(current) => Err(MetadataError::Conflict { current }),
            other => Err(refusal(other).into()),
        }
    }

    /// Changes the metadata of a name by a function of what it is, and gives back what it is then. The function runs again
    /// whenever another change came in between: for 5 s in all.
    ///
    /// # Errors
    /// What `change` refuses, and nothing is changed; else as [`Cluster::set_metadata`], a conflict only when there were
    /// new ones for 5 s.
    ///
    /// # Cancel safety
    /// As [`Cluster::set_metadata`].
    pub async fn update_metadata(
        &self,
        name: &str,
        mut change: impl FnMut(Metadata) -> Result<Metadata, BadMetadata> + Send,
    ) -> Result<MetaRead, MetadataError> {
        let until = tokio::time::Instant::now() + DEADLINE;
        let mut read = self.metadata(name).await?;
        loop {
            let map = change(read.map)?;
            match self.set_metadata(name, map, Some(read.version)).await {
                Err(MetadataError::Conflict { current }) if tokio::time::Instant::now() < until => {
                    read = current;
                }
                outcome => return outcome,
            }
        }
    }

    /// All that the owner of a name knows of it: where it runs, its groups, its metadata, the last state it has published.
    ///
    /// # Errors
    /// [`RequestError`]; nothing was changed.
    pub async fn inspect(&self, name: &str) -> Result<Inspected, RequestError> {
        match self.ask(name, Ask::Inspect).await? {
            Answer::Inspected(inspected) => Ok(*inspected),
            // It was only asked.
            other => Err(match refusal(other) {
                RequestError::Deadline { .. } => RequestError::Deadline { executed: Executed::No },
                other => other,
            }),
        }
    }
}
