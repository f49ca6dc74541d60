//! Frames on their way out: encoded once, counted until the link forgets them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use thiserror::Error;
use whimbrel_core::wire::Control;
use whimbrel_core::wire::frame::{BODY_BYTES_MAX, FrameKind, MessageBody, MessageFrame};

/// A frame is longer than the wire allows. It was not sent; sending it again fails again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{bytes} bytes do not fit a frame, which holds at most {BODY_BYTES_MAX}")]
pub(crate) struct FrameTooLong {
    /// Bytes of its body.
    pub(crate) bytes: usize,
}

/// An encoded frame, without the number that the link gives it.
#[derive(Debug)]
pub(crate) struct OutFrame {
    kind: FrameKind,
    body: Vec<u8>,
}

impl OutFrame {
    /// A control message.
    pub(crate) fn control(message: &Control) -> Result<Self, FrameTooLong> {
        Self::new(FrameKind::Control, message.to_bytes())
    }

    /// A message for a name.
    pub(crate) fn message(body: &MessageBody<'_>) -> Result<Self, FrameTooLong> {
        Self::new(FrameKind::Message, body.to_bytes())
    }

    /// A frame of the message lane.
    pub(crate) fn lane(frame: &MessageFrame) -> Result<Self, FrameTooLong> {
        Self::new(frame.kind(), frame.to_body())
    }

    fn new(kind: FrameKind, body: Vec<u8>) -> Result<Self, FrameTooLong> {
        if body.len() > BODY_BYTES_MAX {
            Err(FrameTooLong { bytes: body.len() })
        } else {
            Ok(Self { kind, body })
        }
    }

    /// What it is about.
    pub(super) const fn kind(&self) -> FrameKind {
        self.kind
    }

    /// What it says.
    pub(super) fn body(&self) -> &[u8] {
        &self.body
    }
}

/// Bytes that a session holds: the link counts frames, and a frame may have up to 1 MiB.
#[derive(Clone, Debug, Default)]
pub(super) struct ByteCount(Arc<AtomicUsize>);

impl ByteCount {
    /// The frame, counted until it is dropped; none if that would exceed `bytes_max`.
    pub(super) fn admit(&self, frame: OutFrame, bytes_max: usize) -> Option<Queued> {
        let bytes = frame.body.len();
        let admitted = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |held| {
            held.checked_add(bytes).filter(|sum| *sum <= bytes_max)
        });
        admitted.ok().map(|_| Queued(Arc::new(Counted { frame, held: self.clone() })))
    }
}

/// A frame that a link holds. Cheap to clone, so that the writer copies its bytes without the link's lock.
#[derive(Clone, Debug)]
pub(super) struct Queued(Arc<Counted>);

#[derive(Debug)]
struct Counted {
    frame: OutFrame,
    held: ByteCount,
}

impl Queued {
    /// The frame.
    pub(super) fn frame(&self) -> &OutFrame {
        &self.0.frame
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.held.0.fetch_sub(self.frame.body.len(), Ordering::Relaxed);
    }
}
