//! A sender outside of processes.

use super::Cluster;
use crate::BadName;
use crate::error::CastError;
use crate::message::{Call, Handler, Message, call, cast};
use crate::process::{Process, ProcessRef};

/// A sender of its own. What it sends to one name is handled in the order in which it was sent: a cast when it was
/// called, a call when it was first polled.
#[derive(Clone, Debug)]
pub struct Client {
    cluster: Cluster,
}

impl Client {
    pub(super) fn new(cluster: Cluster) -> Self {
        Self { cluster }
    }

    /// A typed name; nothing is looked up.
    ///
    /// # Errors
    /// The text is not a name.
    pub fn process<P: Process>(&self, name: &str) -> Result<ProcessRef<P>, BadName> {
        self.cluster.process(name)
    }

    /// Asks a process; see [`call`](crate::call).
    pub fn call<P: Handler<M>, M: Message>(&self, to: &ProcessRef<P>, message: M) -> Call<M> {
        call(to, message)
    }

    /// Tells a process; see [`cast`](crate::cast).
    ///
    /// # Errors
    /// The message was not accepted and is not executed.
    pub fn cast<P: Handler<M>, M: Message>(&self, to: &ProcessRef<P>, message: M) -> Result<(), CastError> {
        cast(to, message)
    }
}
