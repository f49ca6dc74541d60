//! The sweeper: the one task that sees to deadlines and to what waits.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use whimbrel_core::base::Time;

use super::{Exchange, ROUTE_SHARDS, lock};
use crate::clock;

/// How often it looks while anything waits. A call ends at most this long after its time.
const EVERY: Duration = Duration::from_millis(10);
/// How often entries that nothing refers to are forgotten.
const FORGET_EVERY: Duration = Duration::from_secs(30);

impl Exchange {
    /// Something waits for a time: the sweeper is not to sleep.
    pub(super) fn stay_awake(&self) {
        if !self.awake.load(Ordering::SeqCst) && !self.awake.swap(true, Ordering::SeqCst) {
            self.woken.notify_one();
        }
    }

    /// Lets the sweeper look at an entry until it waits for nothing.
    pub(super) fn watch(&self, entry: Arc<super::Entry>) {
        lock(&self.watched).push(entry);
        self.stay_awake();
    }

    /// Runs until it is dropped.
    pub(crate) async fn sweep(self: Arc<Self>) {
        let mut forgotten = clock::time();
        loop {
            tokio::time::sleep(EVERY).await;
            let now = clock::time();
            if now.since(forgotten) >= FORGET_EVERY {
                forgotten = now;
                self.forget_idle();
            }
            if self.look(now) {
                continue;
            }
            self.awake.store(false, Ordering::SeqCst);
            // Whoever added something before it saw that flag relied on this look.
            if self.has_work() {
                self.awake.store(true, Ordering::SeqCst);
                continue;
            }
            tokio::select! {
                biased;
                () = self.woken.notified() => {}
                () = tokio::time::sleep(FORGET_EVERY) => {}
            }
        }
    }

    /// Looks at everything once; false when nothing waits.
    fn look(self: &Arc<Self>, now: Time) -> bool {
        self.flush_confirmations();
        let calls = self.expire_calls(now);
        let mut entries = std::mem::take(&mut *lock(&self.watched));
        entries.retain(|entry| entry.sweep(now));
        let mut watched = lock(&self.watched);
        watched.append(&mut entries);
        calls || !watched.is_empty()
    }

    fn has_work(&self) -> bool {
        !lock(&self.watched).is_empty() || self.calls_are_open() || self.confirmations_are_pending()
    }

    /// Forgets entries to which only the table refers and that hold nothing.
    fn forget_idle(&self) {
        let mut epochs = Vec::new();
        for shard in &self.names {
            let mut names = shard.write().unwrap_or_else(std::sync::PoisonError::into_inner);
            // With the shard locked nobody can get a reference from it, so a count of one stays one.
            names.retain(|_, entry| {
                let idle = Arc::strong_count(entry) == 1 && entry.lock().port.is_idle();
                if idle {
                    epochs.extend(entry.epoch());
                }
                !idle
            });
        }
        for epoch in epochs {
            lock(&self.routes[epoch as usize % ROUTE_SHARDS]).remove(&epoch);
        }
    }
}
