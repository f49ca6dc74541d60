//! Frames on their way out: kept until the link forgets them, written as often as it says.
//!
//! A message is not encoded before it is written, straight into what the socket is given: until then the link shares
//! its content with the route. Every other frame is encoded once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use thiserror::Error;
use whimbrel_core::base::{Name, ShortBytes};
use whimbrel_core::wire::Control;
use whimbrel_core::wire::frame::{self, BODY_BYTES_MAX, FrameKind, MessageFrame};
use whimbrel_core::wire::message::{MessageBody, MessageHead};

use crate::exchange::Encoded;

/// A frame is longer than the wire allows. It was not sent; sending it again fails again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{bytes} bytes do not fit a frame, which holds at most {BODY_BYTES_MAX}")]
pub(crate) struct FrameTooLong {
    /// Bytes of its body.
    pub(crate) bytes: usize,
}

/// A frame without the number that the link gives it. Cheap to clone, so that the writer puts its bytes into a buffer
/// without the link's lock.
#[derive(Clone, Debug)]
pub(crate) enum OutFrame {
    Message(OutMessage),
    Other { kind: FrameKind, body: Arc<ShortBytes> },
}

/// A message for a name, as the link keeps it.
#[derive(Clone, Debug)]
pub(crate) struct OutMessage {
    pub(crate) name: Name,
    pub(crate) head: MessageHead,
    pub(crate) content: Arc<Encoded>,
}

impl OutMessage {
    fn body(&self) -> MessageBody<'_> {
        MessageBody {
            name: self.name.as_str(),
            kind: self.content.kind.as_str(),
            message: self.content.message.as_str(),
            head: self.head,
            payload: self.content.payload.as_slice(),
        }
    }
}

impl OutFrame {
    /// A control message.
    pub(crate) fn control(message: &Control) -> Result<Self, FrameTooLong> {
        Self::other(FrameKind::Control, message.to_bytes().into())
    }

    /// A message for a name.
    pub(crate) fn message(message: OutMessage) -> Result<Self, FrameTooLong> {
        let bytes = message.body().bytes_max();
        if bytes > BODY_BYTES_MAX { Err(FrameTooLong { bytes }) } else { Ok(OutFrame::Message(message)) }
    }

    /// A frame of the message lane.
    pub(crate) fn lane(frame: &MessageFrame) -> Result<Self, FrameTooLong> {
        Self::other(frame.kind(), frame.to_body())
    }

    fn other(kind: FrameKind, body: ShortBytes) -> Result<Self, FrameTooLong> {
        let bytes = body.len();
        if bytes > BODY_BYTES_MAX {
            Err(FrameTooLong { bytes })
        } else {
            Ok(OutFrame::Other { kind, body: Arc::new(body) })
        }
    }

    /// What it is about.
    pub(super) fn kind(&self) -> FrameKind {
        match self {
            OutFrame::Message(_) => FrameKind::Message,
            OutFrame::Other { kind, .. } => *kind,
        }
    }

    /// Bytes of its body, at most.
    fn bytes_max(&self) -> usize {
        match self {
            OutFrame::Message(message) => message.body().bytes_max(),
            OutFrame::Other { body, .. } => body.len(),
        }
    }

    /// Appends it to what is to be written.
    pub(super) fn put(&self, buffer: &mut Vec<u8>, number: u64) {
        match self {
            OutFrame::Message(message) => frame::put_with(buffer, FrameKind::Message, number, |buffer| {
                message.body().put(buffer);
            }),
            OutFrame::Other { kind, body } => frame::put(buffer, *kind, number, body.as_slice()),
        }
    }
}

/// Bytes that a session holds: the link counts frames, and a frame may have up to 1 MiB.
#[derive(Clone, Debug, Default)]
pub(super) struct ByteCount(Arc<AtomicUsize>);

impl ByteCount {
    /// The frame, counted until it is dropped; none if that would exceed `bytes_max`.
    pub(super) fn admit(&self, frame: OutFrame, bytes_max: usize) -> Option<Queued> {
        let bytes = frame.bytes_max();
        let admitted = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |held| {
            held.checked_add(bytes).filter(|sum| *sum <= bytes_max)
        });
        admitted.ok().map(|_| Queued { frame, bytes, held: self.clone() })
    }
}

/// A frame that a link holds.
#[derive(Debug)]
pub(super) struct Queued {
    frame: OutFrame,
    bytes: usize,
    held: ByteCount,
}

impl Queued {
    /// The frame.
    pub(super) fn frame(&self) -> &OutFrame {
        &self.frame
    }

    /// Bytes of its body, at most.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Queued {
    fn drop(&mut self) {
        self.held.0.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}
