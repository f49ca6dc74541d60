//! The sweeper: the one task that sees to deadlines and to what waits.
//!
//! It looks when something is due, at most every 10 ms, and a look costs what is due, not what waits: after the loss of
//! a node a hundred thousand names may wait for ten seconds each. While calls come and go long before their deadlines
//! it does not run at all: a task that wakes every 10 ms costs a caller on another core more than the call. Entries that wait stand in [`Watched`], ordered by the time for which they
//! were put there; each stands in it once at most, so the entries bound it.
//!
//! **What holds**, whenever the lock of an entry is free: if its port has a deadline, the entry stands in [`Watched`]
//! for that time or an earlier one, or the sweeper has just taken it out and will look at it. What can bring a deadline
//! nearer ends with `Entry::watch`, still under that lock:
//!
//! - A deadline that moves earlier moves the entry.
//! - One that moves later, or goes, leaves it where it is, since that is what every confirmation does. When its time
//!   comes, the sweeper finds the port not due and puts it where it belongs, or drops it. Until then the entry is not
//!   forgotten and the sweeper goes on looking: for 10 s at most, or until the deadline of a message that waited for
//!   room in a mailbox here.
//! - A deadline that moves while the sweeper has the entry in hand: an earlier one puts it back, and that place stays;
//!   for any other the sweeper, which is about to take the entry's lock, finds out.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use whimbrel_core::base::Time;

use super::{Entry, Exchange, ROUTE_SHARDS, lock};
use crate::clock;

/// How often it looks at most. A call ends at most this long after its time.
const EVERY: Duration = Duration::from_millis(10);
/// How often entries that nothing refers to are forgotten.
const FORGET_EVERY: Duration = Duration::from_secs(30);

/// The entries that the sweeper is to look at, by time. Entries of one time are told apart by their addresses, which
/// are not used again while they are held here.
#[derive(Default)]
pub(super) struct Watched(BTreeMap<(Time, usize), Arc<Entry>>);

impl Watched {
    /// Puts an entry at `due`, and takes it from `before` if it is still there.
    fn put(&mut self, entry: Arc<Entry>, before: Option<Time>, due: Time) {
        let address = Arc::as_ptr(&entry).addr();
        if let Some(before) = before {
            self.0.remove(&(before, address));
        }
        self.0.insert((due, address), entry);
    }

    /// Takes out the entries whose time has come, with that time.
    fn take_due(&mut self, now: Time) -> Vec<(Time, Arc<Entry>)> {
        let mut due = Vec::new();
        while let Some(first) = self.0.first_entry()
            && first.key().0 <= now
        {
            let ((at, _), entry) = first.remove_entry();
            due.push((at, entry));
        }
        due
    }

    /// The earliest time.
    fn next(&self) -> Option<Time> {
        self.0.first_key_value().map(|((at, _), _)| *at)
    }
}

/// The earlier of two times, where there are any.
pub(super) fn earlier(one: Option<Time>, other: Option<Time>) -> Option<Time> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

impl Exchange {
    /// Something is due at this time: the sweeper looks then, or before.
    pub(super) fn look_by(&self, due: Time) {
        let due = due.as_micros();
        if due < self.next_look.load(Ordering::SeqCst)
            && due < self.next_look.fetch_min(due, Ordering::SeqCst)
        {
            self.woken.notify_one();
        }
    }

    /// Lets the sweeper look at an entry at `due`, and no more at `before`. The entry's lock is held.
    pub(super) fn watch(&self, entry: Arc<Entry>, before: Option<Time>, due: Time) {
        lock(&self.watched).put(entry, before, due);
        self.look_by(due);
    }

    /// Runs until it is dropped.
    pub(crate) async fn sweep(self: Arc<Self>) {
        let (mut looked, mut forgotten) = (Time::ZERO, clock::time());
        loop {
            let now = clock::time();
            let next = Time::from_micros(self.next_look.load(Ordering::SeqCst));
            let next = next.max(looked + EVERY).min(forgotten + FORGET_EVERY);
            if next > now {
                tokio::select! {
                    biased;
                    () = self.woken.notified() => {}
                    () = tokio::time::sleep(next.since(now)) => {}
                }
                continue;
            }
            looked = now;
            if now.since(forgotten) >= FORGET_EVERY {
                forgotten = now;
                self.forget_idle();
            }
            // What is added from here on asks for a look of its own; what was added before is found by this one.
            self.next_look.store(u64::MAX, Ordering::SeqCst);
            if let Some(next) = self.look(now) {
                self.look_by(next);
            }
        }
    }

    /// Looks once at all that is due; says when something else will be.
    fn look(self: &Arc<Self>, now: Time) -> Option<Time> {
        let next = earlier(self.flush_confirmations(now), self.expire_calls(now));
        // Taken out first: what is due again at once is for the next look, so this one ends. An entry's lock comes
        // before that of the list.
        let due = lock(&self.watched).take_due(now);
        for (at, entry) in due {
            entry.sweep(at, now);
        }
        earlier(next, lock(&self.watched).next())
    }

    /// Forgets entries to which only the table refers and that hold nothing.
    fn forget_idle(&self) {
        let mut epochs = Vec::new();
        self.names.retain(|entry| {
            // Nobody can get a reference from the table now, so a count of one stays one.
            let idle = Arc::strong_count(entry) == 1 && entry.lock().port.is_idle();
            if idle {
                epochs.extend(entry.epoch());
            }
            !idle
        });
        for epoch in epochs {
            lock(&self.routes[epoch as usize % ROUTE_SHARDS]).remove(&epoch);
        }
    }
}

#[cfg(test)]
mod tests;
