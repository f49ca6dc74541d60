//! What processes of this node have sent to other nodes, and what no gate has decided yet.
//!
//! Decides: when a process that moves may go. Promises: what it sends from its next node is not admitted before what it
//! has sent from here, since none of that is under way any more. Nothing is counted for what clients send, nor for what
//! goes straight into a mailbox here.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::task::Waker;

use super::lock;
use crate::process::current::InstanceId;

/// So many instances can send at the same time without waiting for each other, if their numbers differ.
const SHARDS: u64 = 16;

/// Counts of all instances of a node that have messages under way.
#[derive(Debug)]
pub(crate) struct Sendings([Mutex<BTreeMap<u64, Row>>; SHARDS as usize]);

#[derive(Debug, Default)]
struct Row {
    under_way: usize,
    /// Of the instance, while it waits for the last one.
    waker: Option<Waker>,
}

/// One message of an instance: under way until this is dropped, with the copy that is kept of it.
#[derive(Debug)]
pub(crate) struct Sending {
    all: Arc<Sendings>,
    of: InstanceId,
}

impl Sendings {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self(std::array::from_fn(|_| Mutex::default())))
    }

    fn shard(&self, of: InstanceId) -> &Mutex<BTreeMap<u64, Row>> {
        &self.0[(of.0 % SHARDS) as usize]
    }

    /// One more message of this instance.
    pub(crate) fn begin(self: &Arc<Self>, of: InstanceId) -> Sending {
        lock(self.shard(of)).entry(of.0).or_default().under_way += 1;
        Sending { all: self.clone(), of }
    }

    /// Whether nothing of this instance is under way. If something is, its end wakes `waker`.
    pub(crate) fn none_or_wait(&self, of: InstanceId, waker: &Waker) -> bool {
        match lock(self.shard(of)).get_mut(&of.0) {
            None => true,
            Some(row) => {
                row.waker = Some(waker.clone());
                false
            }
        }
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        let mut rows = lock(self.all.shard(self.of));
        let Some(row) = rows.get_mut(&self.of.0) else { return };
        row.under_way -= 1;
        if row.under_way == 0 {
            let waker = rows.remove(&self.of.0).and_then(|row| row.waker);
            drop(rows);
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn the_end_of_the_last_message_wakes_its_instance_once() {
        let (sendings, woken) = (Sendings::new(), Arc::new(Woken::default()));
        let waker = Waker::from(woken.clone());
        let (one, other) = (InstanceId(1), InstanceId(1 + SHARDS));
        assert!(sendings.none_or_wait(one, &waker));
        let (first, second, of_other) = (sendings.begin(one), sendings.begin(one), sendings.begin(other));
        assert!(!sendings.none_or_wait(one, &waker));
        drop(first);
        assert_eq!(woken.0.load(Ordering::SeqCst), 0);
        drop(second);
        assert_eq!(woken.0.load(Ordering::SeqCst), 1);
        assert!(sendings.none_or_wait(one, &waker) && !sendings.none_or_wait(other, &waker));
        drop(of_other);
        assert_eq!(woken.0.load(Ordering::SeqCst), 2);
    }
}
