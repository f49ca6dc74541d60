//! Dead letters: casts that were accepted and can not be delivered. Counted, told, never silent.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::broadcast;
use whimbrel_core::base::{Bytes, ErrorCode, Name};

use super::envelope::Envelope;
use crate::process::guard;

/// Dead letters that a receiver may be behind before it misses some.
const BEHIND_MAX: usize = 1_024;
/// Bytes of a message that a stream keeps for a receiver that is behind. A longer one is told without them.
const STREAM_BYTES_MAX: usize = 64 * 1024;
/// As many counters as there are codes.
const CODES: usize = 32;

/// A cast that was accepted and not delivered.
#[derive(Clone, Debug)]
pub struct DeadLetter {
    name: Name,
    message: Arc<str>,
    reason: ErrorCode,
    payload: Option<Bytes>,
}

impl DeadLetter {
    /// The name it was for.
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// The message's name within its kind.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Why it was not delivered.
    pub fn reason(&self) -> ErrorCode {
        self.reason
    }

    /// The encoded message, if it can be encoded and somebody wants to know. A stream leaves out one that is longer than
    /// 64 KiB; the hook gets it whole.
    pub fn payload(&self) -> Option<&[u8]> {
        self.payload.as_ref().map(Bytes::as_slice)
    }
}

/// What is called for each dead letter.
pub(crate) type Hook = Arc<dyn Fn(&DeadLetter) + Send + Sync>;

/// The dead letters of one node.
pub(crate) struct DeadLetters {
    counts: [AtomicU64; CODES],
    sender: broadcast::Sender<DeadLetter>,
    hook: Option<Hook>,
}

impl DeadLetters {
    pub(crate) fn new(hook: Option<Hook>) -> Self {
        Self {
            counts: std::array::from_fn(|_| AtomicU64::new(0)),
            sender: broadcast::channel(BEHIND_MAX).0,
            hook,
        }
    }

    /// Counts and tells one. Runs the user's hook: call it outside of locks.
    pub(crate) fn add(&self, name: &Name, mut envelope: Envelope, reason: ErrorCode) {
        let wanted = self.hook.is_some() || self.sender.receiver_count() > 0;
        let message = if wanted { Arc::from(envelope.message()) } else { Arc::from("") };
        let mut payload = None;
        if wanted
            && envelope.encode().is_ok()
            && let Envelope::Encoded(encoded) = &envelope
        {
            payload = Some(Bytes::from(encoded.payload.as_slice()));
        }
        // The destructor of a message is user code.
        let _panicked = guard::run(|| drop(envelope));
        self.tell(DeadLetter { name: name.clone(), message, reason, payload });
    }

    /// Counts and tells one of which only the name of the message is left.
    pub(crate) fn add_named(&self, name: &Name, message: &str, reason: ErrorCode) {
        self.tell(DeadLetter { name: name.clone(), message: Arc::from(message), reason, payload: None });
    }

    fn tell(&self, mut letter: DeadLetter) {
        if let Some(count) = self.counts.get(letter.reason as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        tracing::debug!(name = ?letter.name, message = ?&*letter.message, reason = %letter.reason, "dead letter");
        if let Some(hook) = &self.hook
            && let Err(panic) = guard::run(|| hook(&letter))
        {
            tracing::warn!(%panic, "the hook for dead letters panicked");
        }
        letter.payload = letter.payload.filter(|payload| payload.len() <= STREAM_BYTES_MAX);
        // Without a receiver there is nobody to tell.
        let _nobody = self.sender.send(letter);
    }

    pub(crate) fn count(&self, reason: ErrorCode) -> u64 {
        self.counts.get(reason as usize).map_or(0, |count| count.load(Ordering::Relaxed))
    }

    pub(crate) fn total(&self) -> u64 {
        self.counts.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }

    pub(crate) fn subscribe(&self) -> broadcast::Receiver<DeadLetter> {
        self.sender.subscribe()
    }
}
