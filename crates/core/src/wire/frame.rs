//! Frames: how bytes on a connection are cut into pieces, and the pieces of the message lane.
//!
//! ```text
//! u32 length, big endian | u8 kind | u64 number, big endian (numbered kinds only) | body
//! ```
//!
//! `length` counts everything after itself. It is checked against a limit before anything is allocated or
//! waited for; 0 and an unknown kind are errors, so garbage closes the connection at its first five bytes.
//! *Numbered* kinds are those that the link keeps until they are acknowledged; the number is the link's, not
//! the route's.
//!
//! Bodies are CBOR with numbered fields. A decoder takes exactly one body: bytes after it are an error. What
//! it allocates is a copy of what it read, never what a length field claims.
//!
//! | kind | body | from -> to | effect |
//! |---|---|---|---|
//! | `Hello` .. `Refusal` | [`super::hello`] | both | the handshake |
//! | `Ack` | u64, big endian | receiver of numbered frames -> sender | the link forgets them; also keeps an idle connection alive |
//! | `Control` | [`super::Control`] | node -> node | input of the node |
//! | `Message` | [`MessageBody`](super::message::MessageBody) | sending node -> host | a message for one name |
//! | `Publish` | [`Publish`] | sending node -> host | a message for several names |
//! | `Signal` | [`Signal`] | host -> sending node | confirms, refuses or misses messages of one route |
//! | `Reply` | [`Reply`] | host -> calling node | the outcome of a call, or where it is now |

use minicbor::{Decode, Decoder, Encode};
use thiserror::Error;

use super::message::Message;
use super::names::Names;
use super::publish::{self, Publish};
use crate::base::limits::FRAME_BYTES_MAX;
use crate::base::{ErrorCode, Executed, ExitReason, Incarnation, ShortBytes};
use crate::delivery::Signal;

/// Bytes of the length field.
const LENGTH_BYTES: usize = 4;
/// Bytes of the length field and the kind.
const HEAD_BYTES: usize = LENGTH_BYTES + 1;
/// Bytes of the number of a numbered frame.
const NUMBER_BYTES: usize = 8;
/// Bytes that a body shares its frame with, at most.
pub const OVERHEAD_BYTES_MAX: usize = HEAD_BYTES + NUMBER_BYTES;
/// Bytes of a body, at most: such a frame is still within the limit.
pub const BODY_BYTES_MAX: usize = FRAME_BYTES_MAX - OVERHEAD_BYTES_MAX;

/// What a frame is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum FrameKind {
    /// The first frame of each side.
    Hello = 1,
    /// That the sender knows the cluster's secret.
    Proof = 2,
    /// Who the sender is; only after its proof.
    Welcome = 3,
    /// Why the sender closes the connection instead of going on with the handshake.
    Refusal = 4,
    /// Numbered frames up to this one have arrived.
    Ack = 8,
    /// A control message. Numbered.
    Control = 16,
    /// A message for one name. Numbered.
    Message = 17,
    /// A gate's answer to the sending node. Numbered.
    Signal = 18,
    /// The outcome of a call. Numbered.
    Reply = 19,
    /// A message for several names. Numbered.
    Publish = 20,
}

impl FrameKind {
    /// Whether the link numbers frames of this kind and keeps them until they are acknowledged.
    pub const fn is_numbered(self) -> bool {
        matches!(self, FrameKind::Control) || self.is_of_messages()
    }

    /// Whether frames of this kind are about messages: what the exchange takes, and no input of the node.
    pub const fn is_of_messages(self) -> bool {
        matches!(self, FrameKind::Message | FrameKind::Publish | FrameKind::Signal | FrameKind::Reply)
    }

    const fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => FrameKind::Hello,
            2 => FrameKind::Proof,
            3 => FrameKind::Welcome,
            4 => FrameKind::Refusal,
            8 => FrameKind::Ack,
            16 => FrameKind::Control,
            17 => FrameKind::Message,
            18 => FrameKind::Signal,
            19 => FrameKind::Reply,
            20 => FrameKind::Publish,
            _ => return None,
        })
    }
}

/// Why bytes are not a frame, or a body not what its kind says. The connection is closed; nothing was done.
#[derive(Debug, Error)]
pub enum FrameError {
    /// The length field says 0, or less than the kind needs.
    #[error("a frame of {bytes} bytes is too short for its kind")]
    TooShort {
        /// What the length field says.
        bytes: usize,
    },
    /// The length field is over the limit of this phase of the connection.
    #[error("a frame of {bytes} bytes is over the limit of {limit}")]
    TooLong {
        /// What the length field says.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// No frame has this kind.
    #[error("there is no frame kind {0}")]
    UnknownKind(u8),
    /// This kind is not expected in this phase of the connection.
    #[error("a frame of kind {0:?} is out of place here")]
    OutOfPlace(FrameKind),
    /// The body is not one whole value of its type.
    #[error("the body of a {kind:?} frame can not be read: {error}")]
    Body {
        /// The frame's kind.
        kind: FrameKind,
        /// What is wrong.
        error: minicbor::decode::Error,
    },
}

/// One frame in a buffer of received bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawFrame<'b> {
    /// What it is about.
    pub kind: FrameKind,
    /// The link's number; 0 for kinds that are not numbered.
    pub number: u64,
    /// What it says, still encoded.
    pub body: &'b [u8],
    /// Bytes of the buffer that it takes.
    pub taken: usize,
}

/// The first frame in `buffer`, or none if more bytes are needed.
///
/// `bytes_max` limits the length field: nothing over it is ever waited for.
///
/// # Errors
/// The bytes can not become a frame, whatever follows.
pub fn split(buffer: &[u8], bytes_max: usize) -> Result<Option<RawFrame<'_>>, FrameError> {
    let Some((length, rest)) = buffer.split_first_chunk::<LENGTH_BYTES>() else {
        return Ok(None);
    };
    // A length that does not fit the address space is over every limit.
    let bytes = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
    if bytes == 0 {
        return Err(FrameError::TooShort { bytes });
    }
    if bytes > bytes_max {
        return Err(FrameError::TooLong { bytes, limit: bytes_max });
    }
    let Some((&byte, _)) = rest.split_first() else {
        return Ok(None);
    };
    let kind = FrameKind::from_byte(byte).ok_or(FrameError::UnknownKind(byte))?;
    if kind.is_numbered() && bytes < 1 + NUMBER_BYTES {
        return Err(FrameError::TooShort { bytes });
    }
    let Some(frame) = rest.get(1..bytes) else {
        return Ok(None);
    };
    let taken = LENGTH_BYTES + bytes;
    match frame.split_first_chunk::<NUMBER_BYTES>() {
        Some((number, body)) if kind.is_numbered() => {
            Ok(Some(RawFrame { kind, number: u64::from_be_bytes(*number), body, taken }))
        }
        _ => Ok(Some(RawFrame { kind, number: 0, body: frame, taken })),
    }
}

/// Appends a frame to `buffer`. `number` is written only for numbered kinds.
///
/// # Panics
/// If `body` is longer than [`BODY_BYTES_MAX`]: whoever made it has checked that.
pub fn put(buffer: &mut Vec<u8>, kind: FrameKind, number: u64, body: &[u8]) {
    buffer.reserve(OVERHEAD_BYTES_MAX + body.len());
    put_with(buffer, kind, number, |buffer| buffer.extend_from_slice(body));
}

/// Appends a frame whose body `put_body` appends.
///
/// # Panics
/// As [`put`].
pub fn put_with(buffer: &mut Vec<u8>, kind: FrameKind, number: u64, put_body: impl FnOnce(&mut Vec<u8>)) {
    let at = buffer.len();
    let mut head = [0; OVERHEAD_BYTES_MAX];
    head[LENGTH_BYTES] = kind as u8;
    head[HEAD_BYTES..].copy_from_slice(&number.to_be_bytes());
    let head_bytes = if kind.is_numbered() { OVERHEAD_BYTES_MAX } else { HEAD_BYTES };
    buffer.extend_from_slice(&head[..head_bytes]);
    put_body(buffer);
    let body = buffer.len() - at - head_bytes;
    assert!(body <= BODY_BYTES_MAX, "a body of {body} bytes does not fit a frame");
    // Lossless: the assertion bounds it far below 2^32.
    let length = (buffer.len() - at - LENGTH_BYTES) as u32;
    buffer[at..at + LENGTH_BYTES].copy_from_slice(&length.to_be_bytes());
}

/// The body of an `Ack`.
///
/// # Errors
/// It has not exactly eight bytes.
pub fn read_ack(body: &[u8]) -> Result<u64, FrameError> {
    let bytes = body.try_into().map_err(|_| FrameError::Body {
        kind: FrameKind::Ack,
        error: minicbor::decode::Error::message("not eight bytes"),
    })?;
    Ok(u64::from_be_bytes(bytes))
}

/// The outcome of a call, on its way to the caller.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Reply {
    /// The caller's id of the call.
    #[n(0)]
    pub call: u64,
    /// What became of it.
    #[n(1)]
    pub outcome: Outcome,
}

/// What became of a call.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Outcome {
    /// The handler answered.
    #[n(0)]
    Done {
        /// How the payload is encoded.
        #[n(0)]
        codec: u8,
        /// The encoded answer.
        #[n(1)]
        payload: ShortBytes,
    },
    /// It did not.
    #[n(1)]
    Failed {
        /// Why.
        #[n(0)]
        code: ErrorCode,
        /// Whether the message ran.
        #[n(1)]
        executed: Executed,
        /// More about it for people: the kind found, what a codec said. At most 1,024 bytes are sent.
        #[n(2)]
        detail: Option<String>,
        /// Why the process ended, where that is the cause.
        #[n(3)]
        reason: Option<ExitReason>,
    },
    /// None yet: the process moves, and the call with it. The answer comes from there.
    #[n(2)]
    Moved {
        /// The life of the node where the call is now.
        #[n(0)]
        to: Incarnation,
    },
}

/// A frame of the message lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MessageFrame {
    /// A message for one name on the receiving node.
    Message(Message),
    /// A message for several names on the receiving node.
    Publish(Publish),
    /// A gate's answer to a route of the receiving node.
    Signal(Signal),
    /// The outcome of a call of the receiving node.
    Reply(Reply),
}

/// How a [`Signal`] travels: one shape for all of them, so that a new one needs no new frame.
#[derive(Encode, Decode)]
struct SignalBody {
    #[n(0)]
    what: SignalKind,
    #[n(1)]
    epoch: u64,
    #[n(2)]
    seq: u64,
    #[n(3)]
    code: Option<ErrorCode>,
}

#[derive(Clone, Copy, Encode, Decode)]
#[cbor(index_only)]
enum SignalKind {
    #[n(0)]
    Confirm,
    #[n(1)]
    Refused,
    #[n(2)]
    Missing,
    #[n(3)]
    NotHere,
    #[n(4)]
    Room,
    #[n(5)]
    Admitted,
    #[n(6)]
    Moving,
}

impl SignalBody {
    fn of(signal: &Signal) -> Self {
        let (what, epoch, seq, code) = match *signal {
            Signal::Confirm { epoch, seq } => (SignalKind::Confirm, epoch, seq, None),
            Signal::Refused { epoch, seq, code } => (SignalKind::Refused, epoch, seq, Some(code)),
            Signal::Missing { epoch, seq } => (SignalKind::Missing, epoch, seq, None),
            Signal::NotHere { epoch, seq } => (SignalKind::NotHere, epoch, seq, None),
            Signal::Room { epoch } => (SignalKind::Room, epoch, 0, None),
            Signal::Admitted { epoch, seq } => (SignalKind::Admitted, epoch, seq, None),
            Signal::Moving { epoch, seq } => (SignalKind::Moving, epoch, seq, None),
        };
        Self { what, epoch, seq, code }
    }

    fn signal(self) -> Result<Signal, minicbor::decode::Error> {
        let Self { what, epoch, seq, code } = self;
        Ok(match what {
            SignalKind::Confirm => Signal::Confirm { epoch, seq },
            SignalKind::Refused => {
                let code =
                    code.ok_or_else(|| minicbor::decode::Error::message("a refusal without a code"))?;
                Signal::Refused { epoch, seq, code }
            }
            SignalKind::Missing => Signal::Missing { epoch, seq },
            SignalKind::NotHere => Signal::NotHere { epoch, seq },
            SignalKind::Room => Signal::Room { epoch },
            SignalKind::Admitted => Signal::Admitted { epoch, seq },
            SignalKind::Moving => Signal::Moving { epoch, seq },
        })
    }
}

impl MessageFrame {
    /// The kind of frame it travels in.
    pub const fn kind(&self) -> FrameKind {
        match self {
            MessageFrame::Message(_) => FrameKind::Message,
            MessageFrame::Publish(_) => FrameKind::Publish,
            MessageFrame::Signal(_) => FrameKind::Signal,
            MessageFrame::Reply(_) => FrameKind::Reply,
        }
    }

    /// Its body as bytes. It may turn out longer than [`BODY_BYTES_MAX`]; such a body must not be sent.
    pub fn to_body(&self) -> ShortBytes {
        match self {
            MessageFrame::Message(message) => {
                let mut bytes = Vec::new();
                message.body().put(&mut bytes);
                bytes.into()
            }
            MessageFrame::Publish(Publish { first, others }) => {
                let mut bytes = Vec::new();
                publish::put(&first.body(), others, &mut bytes);
                bytes.into()
            }
            MessageFrame::Signal(signal) => encode_short(&SignalBody::of(signal)),
            MessageFrame::Reply(reply) => encode_short(reply),
        }
    }

    /// The frame of this kind with this body, its names among those that came before.
    ///
    /// # Errors
    /// The kind is not of the message lane, or the body is not one whole value of it.
    pub fn from_body(kind: FrameKind, body: &[u8], names: &mut Names) -> Result<Self, FrameError> {
        match kind {
            FrameKind::Message => {
                decode_with(kind, body, |d| Message::read(d, names)).map(MessageFrame::Message)
            }
            FrameKind::Publish => {
                decode_with(kind, body, |d| Publish::read(d, names)).map(MessageFrame::Publish)
            }
            FrameKind::Signal => decode::<SignalBody>(kind, body)?
                .signal()
                .map(MessageFrame::Signal)
                .map_err(|error| FrameError::Body { kind, error }),
            FrameKind::Reply => decode(kind, body).map(MessageFrame::Reply),
            other => Err(FrameError::OutOfPlace(other)),
        }
    }
}

/// A value as the body of a frame.
pub(super) fn encode<T: Encode<()>>(value: &T, room: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(room);
    minicbor::encode(value, &mut bytes).expect("a Vec takes every byte and no field has a fallible encoder");
    bytes
}

fn encode_short<T: Encode<()>>(value: &T) -> ShortBytes {
    let mut bytes = ShortBytes::new();
    minicbor::encode(value, &mut bytes).expect("it takes every byte and no field has a fallible encoder");
    bytes
}

/// The one value that `body` holds.
pub(super) fn decode<'b, T: Decode<'b, ()>>(kind: FrameKind, body: &'b [u8]) -> Result<T, FrameError> {
    decode_with(kind, body, Decoder::decode)
}

fn decode_with<'b, T>(
    kind: FrameKind,
    body: &'b [u8],
    read: impl FnOnce(&mut Decoder<'b>) -> Result<T, minicbor::decode::Error>,
) -> Result<T, FrameError> {
    let mut decoder = Decoder::new(body);
    match read(&mut decoder) {
        Ok(value) if decoder.position() == body.len() => Ok(value),
        Ok(_) => {
            Err(FrameError::Body { kind, error: minicbor::decode::Error::message("bytes after the value") })
        }
        Err(error) => Err(FrameError::Body { kind, error }),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::message::MessageHead;
    use super::super::publish::Target;
    use super::*;
    use crate::base::{Name, Rng, Token};
    use crate::delivery::Errand;

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    fn message(call: Option<u64>, payload: &[u8]) -> MessageFrame {
        MessageFrame::Message(Message {
            name: name("basket:42"),
            kind: name("basket"),
            message: name("add"),
            head: MessageHead {
                gate: Token::new(77, 3).unwrap(),
                epoch: 9,
                seq: u64::MAX,
                call,
                remaining_ms: call.map(|_| 4_999),
                sender: Token::NONE,
                view: 80,
                codec: 1,
                errand: Errand::Deliver,
            },
            payload: payload.into(),
        })
    }

    fn publish(payload: &[u8]) -> MessageFrame {
        let MessageFrame::Message(first) = message(None, payload) else { unreachable!() };
        let target = |seq| Target { name: name("basket:43"), gate: Token::NONE, epoch: 3, seq };
        MessageFrame::Publish(Publish { first, others: vec![target(1), target(2)] })
    }

    fn samples() -> Vec<MessageFrame> {
        let failed = |code, executed, detail: Option<&str>, reason| {
            let outcome = Outcome::Failed { code, executed, detail: detail.map(str::to_owned), reason };
            MessageFrame::Reply(Reply { call: 7, outcome })
        };
        vec![
            message(None, b""),
            message(Some(12), &[0xff; 300]),
            publish(&[0xff; 30]),
            MessageFrame::Signal(Signal::Confirm { epoch: 1, seq: 2 }),
            MessageFrame::Signal(Signal::Refused { epoch: 1, seq: 2, code: ErrorCode::Overloaded }),
            MessageFrame::Signal(Signal::Missing { epoch: u64::MAX, seq: 1 }),
            MessageFrame::Signal(Signal::NotHere { epoch: 3, seq: 4 }),
            MessageFrame::Signal(Signal::Room { epoch: 0 }),
            MessageFrame::Signal(Signal::Admitted { epoch: 5, seq: 6 }),
            MessageFrame::Reply(Reply {
                call: 1,
                outcome: Outcome::Done { codec: 0, payload: ShortBytes::from(&b"42"[..]) },
            }),
            failed(ErrorCode::WrongKind, Executed::No, Some("counter"), None),
            failed(ErrorCode::Stopped, Executed::Unknown, None, Some(ExitReason::Error("disk".into()))),
        ]
    }

    fn framed(frame: &MessageFrame, number: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        put(&mut bytes, frame.kind(), number, frame.to_body().as_slice());
        bytes
    }

    #[test]
    fn every_frame_is_read_as_it_was_written() {
        let mut stream = Vec::new();
        for (number, frame) in samples().iter().enumerate() {
            stream.extend(framed(frame, number as u64));
        }
        let mut rest = &stream[..];
        for (number, frame) in samples().into_iter().enumerate() {
            let raw = split(rest, FRAME_BYTES_MAX).unwrap().unwrap();
            assert_eq!(raw.number, number as u64);
            assert_eq!(MessageFrame::from_body(raw.kind, raw.body, &mut Names::default()).unwrap(), frame);
            rest = &rest[raw.taken..];
        }
        assert!(rest.is_empty());
    }

    #[test]
    fn a_frame_cut_anywhere_is_waited_for_and_its_body_is_refused() {
        for frame in samples() {
            let bytes = framed(&frame, 1);
            for cut in 0..bytes.len() {
                assert!(split(&bytes[..cut], FRAME_BYTES_MAX).unwrap().is_none(), "{frame:?} cut at {cut}");
            }
            let body = frame.to_body().as_slice().to_vec();
            for cut in 0..body.len() {
                let read = MessageFrame::from_body(frame.kind(), &body[..cut], &mut Names::default());
                assert!(read.is_err(), "{frame:?} with a body cut at {cut}");
            }
            let longer = [&body[..], &[0]].concat();
            assert!(
                MessageFrame::from_body(frame.kind(), &longer, &mut Names::default()).is_err(),
                "bytes after the body"
            );
        }
    }

    #[test]
    fn a_length_out_of_bounds_is_refused_before_anything_is_waited_for() {
        let cases = [
            (vec![0, 0, 0, 0], "too short"),
            (u32::MAX.to_be_bytes().to_vec(), "over the limit"),
            ((FRAME_BYTES_MAX as u32 + 1).to_be_bytes().to_vec(), "over the limit"),
            (vec![0, 0, 0, 1, 0], "no frame kind 0"),
            (vec![0, 0, 0, 9, 255], "no frame kind 255"),
            (b"GET / HTTP/1.1".to_vec(), "over the limit"),
            (vec![0, 0, 0, 8, FrameKind::Message as u8], "too short"),
        ];
        for (bytes, expected) in cases {
            let error = split(&bytes, FRAME_BYTES_MAX).unwrap_err().to_string();
            assert!(error.contains(expected), "{bytes:?}: {error}");
        }
        let limit = (FRAME_BYTES_MAX as u32).to_be_bytes();
        assert!(split(&limit, FRAME_BYTES_MAX).unwrap().is_none(), "exactly the limit is waited for");
    }

    #[test]
    fn the_largest_body_makes_a_frame_within_the_limit() {
        let mut bytes = Vec::new();
        put(&mut bytes, FrameKind::Control, 1, &vec![0; BODY_BYTES_MAX]);
        assert_eq!(split(&bytes, FRAME_BYTES_MAX).unwrap().unwrap().taken, bytes.len());
    }

    #[test]
    fn an_acknowledgement_has_eight_bytes() {
        assert_eq!(read_ack(&7u64.to_be_bytes()).unwrap(), 7);
        assert!(read_ack(&[0; 7]).is_err());
        assert!(read_ack(&[0; 9]).is_err());
    }

    #[test]
    fn a_length_inside_a_body_is_believed_only_as_far_as_bytes_are_there() {
        // Byte string, text and array, each of 2^60 elements or without an end, in the place of every field.
        let heads: [&[u8]; 5] = [
            &[0x5b, 0x10, 0, 0, 0, 0, 0, 0, 0],
            &[0x7b, 0x10, 0, 0, 0, 0, 0, 0, 0],
            &[0x9b, 0x10, 0, 0, 0, 0, 0, 0, 0],
            &[0x9f],
            &[0xbf],
        ];
        for frame in samples() {
            let body = frame.to_body().as_slice().to_vec();
            for at in 0..body.len() {
                for head in heads {
                    let hostile = [&body[..at], head, &body[at..]].concat();
                    let _ = MessageFrame::from_body(frame.kind(), &hostile, &mut Names::default());
                }
            }
        }
        let deep = vec![0x81; 100_000];
        assert!(
            MessageFrame::from_body(FrameKind::Message, &deep, &mut Names::default()).is_err(),
            "nested arrays"
        );
    }

    #[test]
    fn random_changes_never_panic_and_what_is_read_can_be_written_again() {
        let mut rng = Rng::new(1);
        let samples = samples();
        for round in 0..40_000u64 {
            let frame = &samples[rng.below(samples.len() as u64) as usize];
            let mut bytes = framed(frame, round);
            for _ in 0..=rng.below(4) {
                let at = rng.below(bytes.len() as u64) as usize;
                match rng.below(3) {
                    0 => bytes[at] = rng.next_u64() as u8,
                    1 => bytes.insert(at, rng.next_u64() as u8),
                    _ => drop(bytes.remove(at)),
                }
            }
            let Ok(Some(raw)) = split(&bytes, FRAME_BYTES_MAX) else { continue };
            assert!(raw.taken <= bytes.len());
            if let Ok(read) = MessageFrame::from_body(raw.kind, raw.body, &mut Names::default()) {
                assert_eq!(
                    MessageFrame::from_body(read.kind(), read.to_body().as_slice(), &mut Names::default())
                        .unwrap(),
                    read
                );
            }
        }
    }

    #[test]
    fn random_bytes_never_panic() {
        let mut rng = Rng::new(2);
        let kinds =
            [FrameKind::Message, FrameKind::Publish, FrameKind::Signal, FrameKind::Reply, FrameKind::Control];
        for _ in 0..40_000 {
            let bytes: Vec<u8> = (0..rng.below(64)).map(|_| rng.next_u64() as u8).collect();
            let _ = split(&bytes, 1 << 10);
            let _ = MessageFrame::from_body(kinds[rng.below(5) as usize], &bytes, &mut Names::default());
        }
    }

    #[test]
    fn a_body_of_another_lane_is_out_of_place() {
        let read = MessageFrame::from_body(FrameKind::Hello, &[], &mut Names::default());
        assert!(matches!(read, Err(FrameError::OutOfPlace(FrameKind::Hello))));
    }
}
