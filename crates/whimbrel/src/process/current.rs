//! What the running code knows about the handler it is in.
//!
//! A call made inside a handler must not outlive the call that the handler works on, and must not be to the
//! handler's own process. The caller is an extension method on `ProcessRef`, which is given no context; so it stands in
//! a variable of the task while user code of a process is polled, and only then.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use whimbrel_core::base::{Time, Token};

/// Names one instance among all that this program ever ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct InstanceId(pub(crate) u64);

impl InstanceId {
    /// No instance: they are counted from 1.
    pub(crate) const NOBODY: Self = Self(0);
    /// Marks a task that an instance owns; no instance has so high a number.
    const TASK: u64 = 1 << 63;

    /// A task of this instance, which is no instance.
    pub(crate) const fn task(self) -> Self {
        Self(self.0 | Self::TASK)
    }

    /// Whose sending it is when this sends.
    pub(crate) const fn sender(self) -> Self {
        Self(self.0 & !Self::TASK)
    }
}

/// Whose code runs, and until when it is to be done.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Current {
    /// Nobody outside of processes. A task that an instance owns is not that instance, and may call it.
    pub(crate) id: InstanceId,
    /// The sending instance.
    pub(crate) token: Token,
    /// The deadline of the call in hand.
    pub(crate) deadline: Option<Time>,
}

tokio::task_local! {
    static CURRENT: Current;
}

impl Current {
    /// Code that belongs to no process.
    pub(crate) const NOBODY: Self = Self { id: InstanceId::NOBODY, token: Token::NONE, deadline: None };

    /// Runs code as this: what is sent inside is its sending.
    pub(crate) fn run<T>(self, code: impl FnOnce() -> T) -> T {
        CURRENT.sync_scope(self, code)
    }

    /// A future that runs as this.
    pub(crate) fn within<F: Future + Unpin>(self, future: F) -> Within<F> {
        Within { current: self, future }
    }
}

/// A future that runs as somebody.
#[derive(Debug)]
pub(crate) struct Within<F> {
    current: Current,
    future: F,
}

impl<F: Future + Unpin> Future for Within<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<F::Output> {
        self.current.run(|| Pin::new(&mut self.future).poll(task))
    }
}

/// Whose code this is.
pub(crate) fn current() -> Current {
    CURRENT.try_with(|current| *current).unwrap_or(Current::NOBODY)
}
