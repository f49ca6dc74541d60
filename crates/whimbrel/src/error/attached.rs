//! What can go wrong with what belongs to a name beside its process: metadata and groups.

use thiserror::Error;
use whimbrel_core::base::{BadMetadata, Executed};
use whimbrel_core::directory::MetaRead;

use super::RequestError;

/// Why the metadata of a name was not changed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum MetadataError {
    /// It has another version than was expected. Nothing was changed; retry with this one.
    #[error("the metadata has version {}, not the expected one", current.version)]
    Conflict {
        /// What it is.
        current: MetaRead,
    },
    /// It would be larger than it may be. Nothing was changed; trying the same again fails again.
    #[error(transparent)]
    BadMetadata(#[from] BadMetadata),
    /// Anything else that a request about a name can end with.
    #[error(transparent)]
    Request(#[from] RequestError),
}

impl MetadataError {
    /// Whether it may still be changed.
    pub fn executed(&self) -> Executed {
        match self {
            MetadataError::Conflict { .. } | MetadataError::BadMetadata(_) => Executed::No,
            MetadataError::Request(error) => error.executed(),
        }
    }

    /// Whether the same may go better when it is tried again.
    pub fn is_passing(&self) -> bool {
        match self {
            MetadataError::Conflict { .. } | MetadataError::BadMetadata(_) => false,
            MetadataError::Request(error) => error.is_passing(),
        }
    }
}
