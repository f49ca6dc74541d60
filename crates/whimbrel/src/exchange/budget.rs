//! How many bytes of messages a node keeps, over all names.
//!
//! A mailbox and a route have limits of their own; there may be very many of them. A message takes its share when it is
//! kept and gives it back when it is dropped, wherever that is.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes that may be kept, and how many are.
#[derive(Debug)]
pub(crate) struct Budget {
    held: Arc<AtomicUsize>,
    bytes_max: usize,
}

/// The share of one message.
#[derive(Debug)]
pub(crate) struct Share {
    held: Arc<AtomicUsize>,
    bytes: usize,
}

impl Budget {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { held: Arc::default(), bytes_max }
    }

    /// A share of so many bytes; none if that would be more than may be kept.
    pub(crate) fn take(&self, bytes: usize) -> Option<Share> {
        let taken = self.held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |held| {
            held.checked_add(bytes).filter(|sum| *sum <= self.bytes_max)
        });
        taken.ok().map(|_| Share { held: self.held.clone(), bytes })
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.held.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_comes_back_when_it_is_dropped() {
        let budget = Budget::new(100);
        let one = budget.take(60);
        assert!(one.is_some() && budget.take(41).is_none());
        let two = budget.take(40);
        assert!(two.is_some() && budget.take(1).is_none());
        drop((one, two));
        assert!(
            budget.take(100).is_some() && budget.take(101).is_none() && budget.take(usize::MAX).is_none()
        );
    }
}
