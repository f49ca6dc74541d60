//! Streams of what happens: events of the cluster, dead letters.

use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use whimbrel_core::base::ErrorCode;
use whimbrel_core::node::Event;

use std::sync::Arc;

use crate::exchange::{DeadLetter, Exchange};

/// Events that a receiver may be behind before it misses some.
pub(crate) const BEHIND_MAX: usize = 1_024;

/// Events of the node, from the moment at which this was made.
#[derive(Debug)]
pub struct Events {
    receiver: broadcast::Receiver<Event>,
    missed: u64,
}

impl Events {
    pub(crate) fn new(receiver: broadcast::Receiver<Event>) -> Self {
        Self { receiver, missed: 0 }
    }

    /// The next event; none when the node is closed.
    ///
    /// A receiver that is more than 1,024 events behind misses the oldest: see [`Events::missed`].
    ///
    /// # Cancel safety
    /// No event is lost when this is dropped.
    pub async fn next(&mut self) -> Option<Event> {
        next(&mut self.receiver, &mut self.missed).await
    }

    /// How many events were missed so far.
    pub fn missed(&self) -> u64 {
        self.missed
    }
}

/// Dead letters of the node: those to come, and how many there were.
#[derive(Debug)]
pub struct DeadLetterStream {
    receiver: broadcast::Receiver<DeadLetter>,
    missed: u64,
    exchange: Arc<Exchange>,
}

impl DeadLetterStream {
    pub(crate) fn new(exchange: Arc<Exchange>) -> Self {
        Self { receiver: exchange.dead_letters().subscribe(), missed: 0, exchange }
    }

    /// The next dead letter; none when the node is closed.
    ///
    /// A receiver that is more than 1,024 behind misses the oldest: see [`DeadLetterStream::missed`].
    ///
    /// # Cancel safety
    /// Nothing is lost when this is dropped.
    pub async fn next(&mut self) -> Option<DeadLetter> {
        next(&mut self.receiver, &mut self.missed).await
    }

    /// How many were missed so far.
    pub fn missed(&self) -> u64 {
        self.missed
    }

    /// How many there were on this node since it started, for this reason.
    pub fn count(&self, reason: ErrorCode) -> u64 {
        self.exchange.dead_letters().count(reason)
    }

    /// How many there were on this node since it started.
    pub fn total(&self) -> u64 {
        self.exchange.dead_letters().total()
    }
}

async fn next<T: Clone>(receiver: &mut broadcast::Receiver<T>, missed: &mut u64) -> Option<T> {
    loop {
        match receiver.recv().await {
            Ok(item) => return Some(item),
            Err(RecvError::Lagged(count)) => *missed += count,
            Err(RecvError::Closed) => return None,
        }
    }
}
