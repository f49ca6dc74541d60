//! What the running task knows about the handler it is in.
//!
//! A call made inside a handler must not outlive the call that the handler works on, and must not be to the
//! handler's own process. The caller is an extension method on `ProcessRef`, which is given no context; so the
//! process's task carries it.

use std::cell::Cell;
use std::future::Future;

use whimbrel_core::base::{Time, Token};

/// Names one instance among all that this program ever ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct InstanceId(pub(crate) u64);

/// No instance: they are counted from 1.
const NOBODY: InstanceId = InstanceId(0);

/// The handler in progress.
#[derive(Clone, Debug)]
pub(crate) struct Current {
    /// [`NOBODY`] in a task that the instance owns: it may call its own process.
    id: InstanceId,
    token: Cell<Token>,
    deadline: Cell<Option<Time>>,
}

tokio::task_local! {
    static CURRENT: Current;
}

/// Runs the life of an instance: what is sent inside is its sending.
///
/// The future is handed on as it is: an async function around it would hold it twice, and there is one per process.
pub(crate) fn within<F: Future>(id: InstanceId, token: Token, future: F) -> impl Future<Output = F::Output> {
    CURRENT.scope(Current { id, token: Cell::new(token), deadline: Cell::new(None) }, future)
}

/// Runs a task that an instance owns.
pub(crate) fn within_task<F: Future>(token: Token, future: F) -> impl Future<Output = F::Output> {
    CURRENT.scope(Current { id: NOBODY, token: Cell::new(token), deadline: Cell::new(None) }, future)
}

/// From now on the task works on a message with this deadline.
pub(crate) fn begin(token: Token, deadline: Option<Time>) {
    let _outside_a_process = CURRENT.try_with(|current| {
        current.token.set(token);
        current.deadline.set(deadline);
    });
}

/// The token of the sending instance; none outside processes.
pub(crate) fn token() -> Token {
    CURRENT.try_with(|current| current.token.get()).unwrap_or(Token::NONE)
}

/// The instance and the deadline that a call inherits.
pub(crate) fn caller() -> (Option<InstanceId>, Token, Option<Time>) {
    CURRENT
        .try_with(|current| {
            (Some(current.id).filter(|id| *id != NOBODY), current.token.get(), current.deadline.get())
        })
        .unwrap_or((None, Token::NONE, None))
}
