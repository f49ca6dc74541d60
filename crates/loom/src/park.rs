//! A thread that waits for a future.
//!
//! As `loom::future::block_on`, but nothing in it counts references through loom: of a schedule in which nobody can go
//! on, that would make an abort instead of a failed test.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake};

use loom::sync::{Condvar, Mutex};

struct Parked {
    woken: Mutex<bool>,
    changed: Condvar,
}

impl Wake for Parked {
    fn wake(self: Arc<Self>) {
        *self.woken.lock().unwrap() = true;
        self.changed.notify_one();
    }
}

/// Runs a future to its end.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    let parked = Arc::new(Parked { woken: Mutex::new(false), changed: Condvar::new() });
    let waker = parked.clone().into();
    let mut task = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut task) {
            return output;
        }
        let mut woken = parked.woken.lock().unwrap();
        while !std::mem::take(&mut *woken) {
            woken = parked.changed.wait(woken).unwrap();
        }
    }
}
