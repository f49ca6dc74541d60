//! Frames on their way out: kept until the link forgets them, written as often as it says.
//!
//! A message is not encoded before it is written, straight into what the socket is given: until then the link shares
//! its content with the route. So the same content for several names, one after the other, becomes one frame while it
//! waits, with that content once; each name stays a message of its own. Every other frame is encoded once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use thiserror::Error;
use whimbrel_core::base::limits::PUBLISH_NAMES_MAX;
use whimbrel_core::base::{Name, ShortBytes};
use whimbrel_core::wire::Control;
use whimbrel_core::wire::frame::{self, BODY_BYTES_MAX, FrameKind, MessageFrame};
use whimbrel_core::wire::message::{MessageBody, MessageHead};
use whimbrel_core::wire::publish::{self, PUBLISH_BYTES_MAX, Target};

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
    /// The same message for other names too.
    Publish {
        first: OutMessage,
        others: Arc<Others>,
    },
    Other {
        kind: FrameKind,
        body: Arc<ShortBytes>,
    },
}

/// For whom else a message is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Others {
    targets: Vec<Target>,
    /// What these take in a body, at most.
    bytes: usize,
}

/// A message for a name, as the link keeps it.
#[derive(Clone, Debug)]
pub(crate) struct OutMessage {
    pub(crate) name: Name,
    pub(crate) head: MessageHead,
    pub(crate) content: Arc<Encoded>,
}

/// Bytes by which a frame grew.
struct AlongBytes(usize);

impl OutMessage {
    /// What it has of its own beside others that say the same.
    fn target(&self) -> Target {
        let MessageHead { gate, epoch, seq, .. } = self.head;
        Target { name: self.name.clone(), gate, epoch, seq }
    }

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
            OutFrame::Publish { .. } => FrameKind::Publish,
            OutFrame::Other { kind, .. } => *kind,
        }
    }

    /// Bytes of its body, at most.
    fn bytes_max(&self) -> usize {
        match self {
            OutFrame::Message(message) => message.body().bytes_max(),
            OutFrame::Publish { first, others } => {
                first.body().bytes_max() + PUBLISH_BYTES_MAX + others.bytes
            }
            OutFrame::Other { body, .. } => body.len(),
        }
    }

    /// Whether a message can go along with this one, in its frame: nobody waits for either, and it says the same.
    fn takes_along(&self, next: &OutMessage) -> bool {
        let (first, names, bytes) = match self {
            OutFrame::Message(first) => (first, 0, PUBLISH_BYTES_MAX),
            OutFrame::Publish { first, others } => (first, others.targets.len(), 0),
            OutFrame::Other { .. } => return false,
        };
        let is_same = Arc::ptr_eq(&first.content, &next.content);
        let is_cast =
            |message: &OutMessage| message.head.call.is_none() && message.head.remaining_ms.is_none();
        is_same
            && is_cast(first)
            && is_cast(next)
            && names < PUBLISH_NAMES_MAX
            && self.bytes_max() + bytes + next.target().bytes_max() <= BODY_BYTES_MAX
    }

    /// Takes a message along if it can go in this frame.
    fn take_along(&mut self, next: &OutMessage) -> Option<AlongBytes> {
        if !self.takes_along(next) {
            return None;
        }
        let before = self.bytes_max();
        if let OutFrame::Message(first) = self {
            *self = OutFrame::Publish { first: first.clone(), others: Arc::default() };
        }
        if let OutFrame::Publish { others, .. } = self {
            // Nobody else has it: it was not taken for writing.
            let others = Arc::make_mut(others);
            let target = next.target();
            others.bytes += target.bytes_max();
            others.targets.push(target);
        }
        Some(AlongBytes(self.bytes_max() - before))
    }

    /// The messages in it: for which name, on which route, and under which number; and the call that waits for it.
    pub(crate) fn messages(&self) -> impl Iterator<Item = (&Name, u64, u64, Option<u64>)> {
        let (first, others) = match self {
            OutFrame::Message(first) => (Some(first), &[][..]),
            OutFrame::Publish { first, others } => (Some(first), &others.targets[..]),
            OutFrame::Other { .. } => (None, &[][..]),
        };
        let first = first.map(|first| (&first.name, first.head.epoch, first.head.seq, first.head.call));
        first.into_iter().chain(others.iter().map(|other| (&other.name, other.epoch, other.seq, None)))
    }

    /// Appends it to what is to be written.
    pub(super) fn put(&self, buffer: &mut Vec<u8>, number: u64) {
        match self {
            OutFrame::Message(message) => frame::put_with(buffer, FrameKind::Message, number, |buffer| {
                message.body().put(buffer);
            }),
            OutFrame::Publish { first, others } => {
                frame::put_with(buffer, FrameKind::Publish, number, |buffer| {
                    publish::put(&first.body(), &others.targets, buffer);
                });
            }
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

    /// Takes another frame into this one, which was not taken for writing; false if it can not go along.
    pub(super) fn take_along(&mut self, next: &Queued) -> bool {
        let OutFrame::Message(message) = &next.frame else { return false };
        let Some(AlongBytes(bytes)) = self.frame.take_along(message) else { return false };
        // Less than the other frame, which was admitted and gives its bytes back.
        self.held.0.fetch_add(bytes, Ordering::Relaxed);
        self.bytes += bytes;
        true
    }
}

impl Drop for Queued {
    fn drop(&mut self) {
        self.held.0.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use whimbrel_core::base::Token;
    use whimbrel_core::delivery::Errand;
    use whimbrel_core::wire::Names;
    use whimbrel_core::wire::publish::Publish;

    use super::*;
    use crate::exchange::{Head, Label};

    fn content(bytes: usize) -> Arc<Encoded> {
        let (head, kind, message) = (Head::cast(Token::NONE), Label::Here("room"), Label::Here("say"));
        let payload = vec![7; bytes].into();
        Arc::new(Encoded { head, kind, message, codec: 1, payload, share: None, sending: None })
    }

    fn message(seq: u64, content: &Arc<Encoded>, call: Option<u64>) -> OutMessage {
        let (gate, epoch, sender, errand) = (Token::NONE, 9, Token::NONE, Errand::Deliver);
        let (remaining_ms, view, codec) = (call, 3, 1);
        let head = MessageHead { gate, epoch, seq, call, remaining_ms, sender, view, codec, errand };
        OutMessage { name: Name::new(&format!("room:{seq}")).unwrap(), head, content: content.clone() }
    }

    fn queued(held: &ByteCount, message: OutMessage) -> Queued {
        held.admit(OutFrame::message(message).unwrap(), usize::MAX).unwrap()
    }

    #[test]
    fn the_same_content_for_several_names_is_one_frame_and_each_keeps_its_number() {
        let (held, content) = (ByteCount::default(), content(300));
        let mut frame = queued(&held, message(1, &content, None));
        for seq in 2..=5 {
            assert!(frame.take_along(&queued(&held, message(seq, &content, None))));
        }
        assert_eq!(held.0.load(Ordering::Relaxed), frame.bytes(), "others gave their bytes back");
        let mut written = Vec::new();
        frame.frame().put(&mut written, 4);
        assert!(written.len() <= frame.bytes() + frame::OVERHEAD_BYTES_MAX && written.len() < 2 * 300);
        let raw = frame::split(&written, usize::MAX).unwrap().unwrap();
        let read = MessageFrame::from_body(raw.kind, raw.body, &mut Names::default()).unwrap();
        let MessageFrame::Publish(Publish { first, others }) = read else { panic!("{read:?}") };
        let names = std::iter::once((first.name, first.head.seq));
        let names = names.chain(others.into_iter().map(|other| (other.name, other.seq)));
        assert!(names.eq((1..=5).map(|seq| (Name::new(&format!("room:{seq}")).unwrap(), seq))));
        assert!(
            frame.frame().messages().map(|(_, epoch, seq, _)| (epoch, seq)).eq((1..=5).map(|seq| (9, seq)))
        );
        drop(frame);
        assert_eq!(held.0.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn what_somebody_waits_for_says_something_else_or_has_no_room_goes_in_a_frame_of_its_own() {
        let (held, same) = (ByteCount::default(), content(300));
        let takes = |frame: &mut Queued, next| frame.take_along(&queued(&held, next));
        let mut frame = queued(&held, message(1, &same, None));
        assert!(!takes(&mut frame, message(2, &content(300), None)), "equal, but not known to be");
        assert!(!takes(&mut frame, message(2, &same, Some(5))));
        let mut called = queued(&held, message(1, &same, Some(5)));
        assert!(!takes(&mut called, message(2, &same, None)));
        for seq in 2..PUBLISH_NAMES_MAX as u64 + 2 {
            assert!(takes(&mut frame, message(seq, &same, None)));
        }
        assert!(!takes(&mut frame, message(9_999, &same, None)), "as many names as a frame may have");
        let large = content(BODY_BYTES_MAX - 500);
        let mut frame = queued(&held, message(1, &large, None));
        let taken = (2..100).take_while(|seq| takes(&mut frame, message(*seq, &large, None))).count();
        assert!(
            (1..50).contains(&taken) && frame.bytes() <= BODY_BYTES_MAX,
            "{taken} names, {}",
            frame.bytes()
        );
    }
}
