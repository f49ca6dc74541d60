//! What can go wrong with what belongs to a name beside its process: metadata and groups.

use thiserror::Error;
use whimbrel_core::base::{BadMetadata, Executed};
use whimbrel_core::directory::MetaRead;
use whimbrel_core::groups::GroupMember;

use super::{CallError, CastError, RequestError};

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

/// Why a group was not joined, left, read, told or asked.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum GroupError {
    /// The index of the group was being rebuilt, after nodes came or went, until the deadline. Nothing was sent; retry.
    #[error("the index of the group is being rebuilt; {} members are known", members.len())]
    Partial {
        /// The members that are known: some may be missing, and some may have left.
        members: Vec<GroupMember>,
    },
    /// Nobody of this kind is in the group. Nothing was sent.
    #[error("no process of this kind is in the group")]
    NoMember,
    /// A process without a name joins from its own node, and while it runs. Nothing was changed.
    #[error("the process has no name and does not run on this node")]
    NotLocal,
    /// What it was to join with is too large. Nothing was changed; trying the same again fails again.
    #[error(transparent)]
    BadMetadata(#[from] BadMetadata),
    /// The message was sent to nobody.
    #[error(transparent)]
    Publish(CastError),
    /// The member that was called has not replied.
    #[error(transparent)]
    Call(CallError),
    /// Anything else that a request about a name can end with.
    #[error(transparent)]
    Request(#[from] RequestError),
}

impl GroupError {
    /// Whether the change may still be made, or the message was executed.
    pub fn executed(&self) -> Executed {
        match self {
            GroupError::Partial { .. }
            | GroupError::NoMember
            | GroupError::NotLocal
            | GroupError::BadMetadata(_)
            | GroupError::Publish(_) => Executed::No,
            GroupError::Call(error) => error.executed(),
            GroupError::Request(error) => error.executed(),
        }
    }

    /// Whether the same may go better when it is tried again.
    pub fn is_passing(&self) -> bool {
        match self {
            GroupError::Partial { .. } | GroupError::NoMember => true,
            GroupError::NotLocal | GroupError::BadMetadata(_) => false,
            GroupError::Publish(error) => *error == CastError::Overloaded,
            GroupError::Call(error) => matches!(
                error,
                CallError::Overloaded
                    | CallError::Deadline { .. }
                    | CallError::NodeLost { .. }
                    | CallError::NoQuorum
                    | CallError::Moving { .. }
            ),
            GroupError::Request(error) => error.is_passing(),
        }
    }
}
