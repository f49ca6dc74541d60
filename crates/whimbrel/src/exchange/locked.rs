//! State under one short lock, and the waker of the one task that waits for that state to change.
//!
//! **Promises.** No change is missed: the task leaves its waker under the very lock under which it found nothing, so
//! whoever changes the state next finds the waker there. Each waker left is woken at most once, and never while the
//! lock is held: waking runs code of the runtime, which may want other locks.
//!
//! **Assumes** that whoever changes the state so that the task has something to do ends with [`Lock::wake`], or
//! takes the waker and wakes it when the lock is free; and that one task waits: a second one's waker would replace
//! that of the first.
//!
//! `crates/loom` compiles this very file with locks whose every interleaving it tries, so what comes of `std::sync`
//! comes through the module `sync` beside it.

use std::ops::{Deref, DerefMut};
use std::sync::PoisonError;
use std::task::Waker;

use super::sync::{Mutex, MutexGuard};

/// Some state, and who waits for it.
pub(crate) struct Locked<T>(Mutex<Waited<T>>);

struct Waited<T> {
    state: T,
    /// Of the task, while it waits.
    waker: Option<Waker>,
}

/// The lock is held.
pub(crate) struct Lock<'a, T>(MutexGuard<'a, Waited<T>>);

impl<T> Locked<T> {
    /// Nobody waits.
    pub(crate) fn new(state: T) -> Self {
        Self(Mutex::new(Waited { state, waker: None }))
    }

    /// Waits for the lock. A panic of another holder does not matter: what changes the state does not panic half-way.
    pub(crate) fn lock(&self) -> Lock<'_, T> {
        Lock(self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Has the task look again, for something that is not in this state.
    pub(crate) fn wake(&self) {
        self.lock().wake();
    }
}

impl<T> Lock<'_, T> {
    /// What `find` finds. If that is nothing, the next change wakes `waker`.
    pub(crate) fn find_or_wait<R>(
        &mut self,
        waker: &Waker,
        find: impl FnOnce(&mut T) -> Option<R>,
    ) -> Option<R> {
        let found = find(&mut self.0.state);
        if found.is_none() {
            match &mut self.0.waker {
                Some(known) => known.clone_from(waker),
                none => *none = Some(waker.clone()),
            }
        }
        found
    }

    /// Releases the lock, then wakes the task if it waits.
    pub(crate) fn wake(mut self) {
        let waker = self.take_waker();
        drop(self);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// The waker of the task if it waits: to be woken when the lock is free, or dropped when the task is gone.
    #[must_use = "the task that left it would wait for ever"]
    pub(crate) fn take_waker(&mut self) -> Option<Waker> {
        self.0.waker.take()
    }
}

impl<T> Deref for Lock<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0.state
    }
}

impl<T> DerefMut for Lock<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0.state
    }
}
