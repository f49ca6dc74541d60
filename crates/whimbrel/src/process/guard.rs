//! User code behind a wall: a panic becomes a reason.

use std::any::Any;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

use whimbrel_core::base::ExitReason;

use super::current::Current;

/// Runs user code that does not wait.
pub(crate) fn run<T>(code: impl FnOnce() -> T) -> Result<T, ExitReason> {
    catch_unwind(AssertUnwindSafe(code)).map_err(|panic| reason(&*panic))
}

/// A future of user code, which runs as `current`; a panic while it is polled or dropped ends it with a reason.
///
/// The state that the future works on is not looked at again after a panic, when it may be half changed; but for what it
/// tells of itself by [`Process::snapshot`](super::Process::snapshot).
pub(crate) struct Guarded<F> {
    future: Option<F>,
    current: Current,
}

impl<F: Future + Unpin> Guarded<F> {
    pub(crate) fn new(current: Current, future: F) -> Self {
        Self { future: Some(future), current }
    }
}

impl<F: Future + Unpin> Future for Guarded<F> {
    type Output = Result<F::Output, ExitReason>;

    fn poll(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { future: place, current } = &mut *self;
        let mut output = None;
        let ended = run(|| {
            current.run(|| {
                let Some(future) = place else { return };
                let Poll::Ready(ready) = Pin::new(future).poll(task) else { return };
                output = Some(ready);
                // Its destructor is user code too.
                drop(place.take());
            });
        });
        match (ended, output) {
            (Ok(()), None) => Poll::Pending,
            (Ok(()), Some(output)) => Poll::Ready(Ok(output)),
            (Err(reason), _) => {
                let rest = place.take();
                // The first panic is the one to be told.
                let _second = run(|| current.run(|| drop(rest)));
                Poll::Ready(Err(reason))
            }
        }
    }
}

impl<F> Drop for Guarded<F> {
    fn drop(&mut self) {
        if let Some(future) = self.future.take() {
            // Nobody is left to be told why the destructor of an abandoned future failed.
            let _panicked = run(|| self.current.run(|| drop(future)));
        }
    }
}

/// What a panic says.
fn reason(panic: &(dyn Any + Send)) -> ExitReason {
    let text = if let Some(text) = panic.downcast_ref::<&str>() {
        (*text).to_owned()
    } else if let Some(text) = panic.downcast_ref::<String>() {
        text.clone()
    } else {
        "a panic without a text".to_owned()
    };
    ExitReason::Panic(text).capped()
}
