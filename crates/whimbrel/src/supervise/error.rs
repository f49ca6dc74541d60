//! What can go wrong with a supervisor.

use thiserror::Error;
use whimbrel_core::base::{Executed, ExitReason};

/// Why a supervisor was not started, or did not do what it was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SuperviseError {
    /// A child did not start. Of the first start of a tree nothing is left: what had started was stopped again. One that
    /// was added is forgotten; one that was to start again is stopped. Retry when the reason is gone.
    #[error("child {id:?} did not start: {reason}")]
    StartFailed {
        /// The child.
        id: String,
        /// How its `init` ended, or the first life of its own tree.
        reason: ExitReason,
    },
    /// The child was stopped by another request before it was up. It does not run.
    #[error("child {id:?} was stopped before it was up")]
    ChildStopped {
        /// The child.
        id: String,
    },
    /// A child of this id runs, or is about to. Nothing was done.
    #[error("there is a child {id:?} already")]
    Taken {
        /// The id.
        id: String,
    },
    /// There is no child of this id. Nothing was done.
    #[error("there is no child {id:?}")]
    NotFound {
        /// The id.
        id: String,
    },
    /// It has 1,024 children, as many requests wait, or the process has 64 trees. Nothing was done; retry later.
    #[error("too many children, trees or requests")]
    Overloaded,
    /// A setting of the tree breaks a rule. Nothing was started.
    #[error("{key}: {rule}")]
    BadSetting {
        /// The setting.
        key: &'static str,
        /// The rule.
        rule: String,
    },
    /// The supervisor has ended or is about to, or this node is closed. Whatever was asked for, nothing of it runs.
    #[error("the supervisor has ended")]
    Stopped,
}

impl SuperviseError {
    /// Whether code of a child may have run for the request.
    pub fn executed(&self) -> Executed {
        match self {
            SuperviseError::StartFailed { .. }
            | SuperviseError::ChildStopped { .. }
            | SuperviseError::Stopped => Executed::Unknown,
            SuperviseError::Taken { .. }
            | SuperviseError::NotFound { .. }
            | SuperviseError::Overloaded
            | SuperviseError::BadSetting { .. } => Executed::No,
        }
    }
}
