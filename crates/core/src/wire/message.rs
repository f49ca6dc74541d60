//! The body of a `Message` frame: a message for one name, on its way to the host.
//!
//! An array of twelve fields in CBOR, as numbered below, and a thirteenth for an errand that is not the usual one; a
//! newer node may add fields behind them, which are skipped. A
//! node under load does little else than write and read this, so it is done by hand: all numbers are written as one
//! piece, and the three texts, which are most often those of the message before, are compared and not checked.

use minicbor::decode::{Decoder, Error};

use super::Names;
use crate::base::{Kind, Name, ShortBytes, Token};
use crate::delivery::Errand;

/// Fields of every body.
const FIELDS: u64 = 12;
/// Bytes of the head of a CBOR value, at most.
pub(super) const HEAD_BYTES_MAX: usize = 9;
/// Bytes that the numbers and the head of the payload take, at most.
const NUMBERS_BYTES_MAX: usize = 9 * HEAD_BYTES_MAX;
/// Bytes of a body beside its texts and its payload, at most.
const REST_BYTES_MAX: usize = NUMBERS_BYTES_MAX + 5 * HEAD_BYTES_MAX;

const UNSIGNED: u8 = 0 << 5;
const BYTES: u8 = 2 << 5;
pub(super) const TEXT: u8 = 3 << 5;
const ARRAY: u8 = 4 << 5;
const NULL: u8 = 0xf6;

/// The numbers of a message: fields 3 to 10.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessageHead {
    /// The gate it is meant for.
    pub gate: Token,
    /// The route's epoch, unique in the sending incarnation.
    pub epoch: u64,
    /// Its number on that route, from 1.
    pub seq: u64,
    /// The caller's id of the call; none for a cast. The caller is the sending incarnation.
    pub call: Option<u64>,
    /// What was left of the deadline when it was handed to the link, in milliseconds. The way here is not
    /// counted, since the clocks of two nodes are never compared.
    pub remaining_ms: Option<u64>,
    /// The fencing token of the sending instance; [`Token::NONE`] outside processes.
    pub sender: Token,
    /// Counter of the view the sending node has installed.
    pub view: u64,
    /// How the payload is encoded.
    pub codec: u8,
    /// Field 12, if it is not [`Errand::Deliver`]: what it is sent for.
    pub errand: Errand,
}

/// A message as it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessageBody<'b> {
    /// Field 0: the name it is for.
    pub name: &'b str,
    /// Field 1: the kind the sender takes that name to be.
    pub kind: &'b str,
    /// Field 2: the message's name within the kind.
    pub message: &'b str,
    /// Fields 3 to 10.
    pub head: MessageHead,
    /// Field 11: the encoded message, opaque to everything but its kind.
    pub payload: &'b [u8],
}

/// A message that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are those of the body")]
pub struct Message {
    pub name: Name,
    pub kind: Kind,
    pub message: Name,
    pub head: MessageHead,
    pub payload: ShortBytes,
}

/// Numbers on their way into a body.
pub(super) struct Numbers {
    bytes: [u8; NUMBERS_BYTES_MAX],
    len: usize,
}

impl Default for Numbers {
    fn default() -> Self {
        Self { bytes: [0; NUMBERS_BYTES_MAX], len: 0 }
    }
}

impl Numbers {
    /// What was written.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    fn push<const N: usize>(&mut self, bytes: [u8; N]) {
        // Each of the nine values has at most `HEAD_BYTES_MAX` bytes.
        self.bytes[self.len..self.len + N].copy_from_slice(&bytes);
        self.len += N;
    }

    /// The head of a value of this type: its number, or how long it is.
    pub(super) fn head(&mut self, of: u8, value: u64) {
        // Lossless, each: the arm says so.
        match value {
            0..=23 => self.push([of | value as u8]),
            24..=0xff => self.push([of | 24, value as u8]),
            0x100..=0xffff => {
                let [a, b] = (value as u16).to_be_bytes();
                self.push([of | 25, a, b]);
            }
            0x1_0000..=0xffff_ffff => {
                let [a, b, c, d] = (value as u32).to_be_bytes();
                self.push([of | 26, a, b, c, d]);
            }
            _ => {
                self.push([of | 27]);
                self.push(value.to_be_bytes());
            }
        }
    }

    pub(super) fn number(&mut self, value: u64) {
        self.head(UNSIGNED, value);
    }

    fn optional(&mut self, value: Option<u64>) {
        match value {
            Some(value) => self.number(value),
            None => self.push([NULL]),
        }
    }
}

impl MessageBody<'_> {
    /// How many bytes it takes, at most.
    pub fn bytes_max(&self) -> usize {
        REST_BYTES_MAX + self.name.len() + self.kind.len() + self.message.len() + self.payload.len()
    }

    /// Appends it. It may be longer than [`BODY_BYTES_MAX`](super::frame::BODY_BYTES_MAX); such a body must not be
    /// sent.
    pub fn put(&self, buffer: &mut Vec<u8>) {
        let MessageHead { gate, epoch, seq, call, remaining_ms, sender, view, codec, errand } = self.head;
        let errand = match errand {
            Errand::Deliver => None,
            Errand::FailFast => Some(1),
            Errand::Void => Some(2),
        };
        buffer.reserve(self.bytes_max());
        buffer.push(ARRAY | (FIELDS as u8 + u8::from(errand.is_some())));
        for text in [self.name, self.kind, self.message] {
            put_text(buffer, text);
        }
        let mut numbers = Numbers::default();
        numbers.number(gate.as_u64());
        numbers.number(epoch);
        numbers.number(seq);
        numbers.optional(call);
        numbers.optional(remaining_ms);
        numbers.number(sender.as_u64());
        numbers.number(view);
        numbers.number(u64::from(codec));
        numbers.head(BYTES, self.payload.len() as u64);
        buffer.extend_from_slice(numbers.bytes());
        buffer.extend_from_slice(self.payload);
        buffer.extend(errand);
    }
}

fn put_text(buffer: &mut Vec<u8>, text: &str) {
    let mut head = Numbers::default();
    head.head(TEXT, text.len() as u64);
    buffer.extend_from_slice(head.bytes());
    buffer.extend_from_slice(text.as_bytes());
}

impl Message {
    /// The same, to be written.
    pub fn body(&self) -> MessageBody<'_> {
        MessageBody {
            name: self.name.as_str(),
            kind: self.kind.as_str(),
            message: self.message.as_str(),
            head: self.head,
            payload: self.payload.as_slice(),
        }
    }

    /// The message that comes first in what is decoded, its names among those that came before.
    pub(super) fn read(d: &mut Decoder<'_>, names: &mut Names) -> Result<Self, Error> {
        let fields = d.array()?.filter(|fields| *fields >= FIELDS);
        let fields = fields.ok_or_else(|| Error::message("not the fields of a message"))?;
        let mut message = Self {
            name: read_name(d, names)?,
            kind: read_name(d, names)?,
            message: read_name(d, names)?,
            head: MessageHead {
                gate: Token::from_u64(d.u64()?),
                epoch: d.u64()?,
                seq: d.u64()?,
                call: read_optional(d)?,
                remaining_ms: read_optional(d)?,
                sender: Token::from_u64(d.u64()?),
                view: d.u64()?,
                codec: d.u8()?,
                errand: Errand::Deliver,
            },
            payload: ShortBytes::from(d.bytes()?),
        };
        if fields > FIELDS {
            message.head.errand = match d.u8()? {
                0 => Errand::Deliver,
                1 => Errand::FailFast,
                2 => Errand::Void,
                _ => return Err(Error::message("no errand has this number")),
            };
        }
        for _ in FIELDS + 1..fields {
            d.skip()?;
        }
        Ok(message)
    }
}

fn read_optional(d: &mut Decoder<'_>) -> Result<Option<u64>, Error> {
    match d.input().get(d.position()) {
        Some(&NULL) => {
            d.set_position(d.position() + 1);
            Ok(None)
        }
        _ => d.u64().map(Some),
    }
}

pub(super) fn read_name(d: &mut Decoder<'_>, names: &mut Names) -> Result<Name, Error> {
    let rest = d.input().get(d.position()..).unwrap_or_default();
    // A name has at most 255 bytes; a length in another form is left to the decoder.
    let (taken, text) = match rest {
        [head @ 0x60..=0x77, rest @ ..] => (1, rest.get(..usize::from(head - TEXT))),
        [0x78, len, rest @ ..] => (2, rest.get(..usize::from(*len))),
        _ => (0, Some(d.str()?.as_bytes())),
    };
    let text = text.ok_or_else(Error::end_of_input)?;
    if taken > 0 {
        d.set_position(d.position() + taken + text.len());
    }
    names.get(text).map_err(|_| Error::message("not a valid name"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn message(head: MessageHead) -> Message {
        let name = |text| Name::new(text).unwrap();
        let payload = ShortBytes::from(&[7u8; 300][..]);
        Message { name: name(&"n".repeat(255)), kind: name("kind"), message: name("größe"), head, payload }
    }

    fn bytes(message: &Message) -> Vec<u8> {
        let mut bytes = Vec::new();
        message.body().put(&mut bytes);
        bytes
    }

    fn read(bytes: &[u8]) -> Result<(Message, usize), Error> {
        let mut d = Decoder::new(bytes);
        Message::read(&mut d, &mut Names::default()).map(|message| (message, d.position()))
    }

    #[test]
    fn numbers_of_all_sizes_are_written_as_any_encoder_does_and_read_again() {
        let numbers = [0, 1, 23, 24, 255, 256, 65_535, 65_536, u64::from(u32::MAX), 1 << 32, u64::MAX];
        for (at, number) in numbers.into_iter().enumerate() {
            let (gate, sender) = (Token::from_u64(number), Token::from_u64(number));
            let optional = (at % 2 == 0).then_some(number);
            let (call, remaining_ms, codec) = (optional, optional, number.min(255) as u8);
            let (epoch, seq, view) = (number, number, number);
            let errand = Errand::Deliver;
            let head = MessageHead { gate, epoch, seq, call, remaining_ms, sender, view, codec, errand };
            let message = message(head);
            let written = bytes(&message);
            let (numbers, texts) = ((gate, epoch, seq, call, remaining_ms), (sender, view, codec));
            let mut expected = vec![0x8c];
            for text in [&message.name, &message.kind, &message.message] {
                minicbor::encode(text, &mut expected).unwrap();
            }
            // Without the head of the array that a tuple is.
            expected.extend_from_slice(&minicbor::to_vec(numbers).unwrap()[1..]);
            expected.extend_from_slice(&minicbor::to_vec(texts).unwrap()[1..]);
            minicbor::encode(&message.payload, &mut expected).unwrap();
            assert_eq!(written, expected, "{number}");
            assert!(written.len() <= message.body().bytes_max());
            assert_eq!(read(&written).unwrap(), (message, written.len()));
        }
    }

    #[test]
    fn the_bytes_of_a_message_never_change() {
        let name = |text| Name::new(text).unwrap();
        let (gate, sender, codec) = (Token::from_u64(300), Token::NONE, 1);
        let (call, remaining_ms) = (Some(1 << 40), None);
        let payload = ShortBytes::from(&b"\x81\xa1n\x01"[..]);
        let expected = b"\x69basket:42\x66basket\x63add\x19\x01\x2c\x07\x1a\x00\x01\x11\x70\
            \x1b\x00\x00\x01\x00\x00\x00\x00\x00\xf6\x00\x18\x18\x01\x44\x81\xa1n\x01";
        let errands: [(_, u8, &[u8]); 3] =
            [(Errand::Deliver, 0x8c, &[]), (Errand::FailFast, 0x8d, &[1]), (Errand::Void, 0x8d, &[2])];
        for (errand, first, last) in errands {
            let (epoch, seq, view) = (7, 70_000, 24);
            let head = MessageHead { gate, epoch, seq, call, remaining_ms, sender, view, codec, errand };
            let (basket, kind, add) = (name("basket:42"), name("basket"), name("add"));
            let message = Message { name: basket, kind, message: add, head, payload: payload.clone() };
            let written = bytes(&message);
            assert_eq!(written, [&[first], &expected[..], last].concat());
            assert_eq!(read(&written).unwrap(), (message, written.len()));
        }
    }

    #[test]
    fn fields_of_a_newer_node_are_skipped_and_a_missing_one_is_an_error() {
        let (gate, sender) = (Token::NONE, Token::NONE);
        let (call, remaining_ms) = (None, Some(9));
        let (epoch, seq, view, codec, errand) = (1, 2, 3, 1, Errand::Deliver);
        let head = MessageHead { gate, epoch, seq, call, remaining_ms, sender, view, codec, errand };
        let message = message(head);
        let mut newer = bytes(&message);
        newer[0] = 0x8f;
        newer.extend_from_slice(&[0, 0x82, 1, 2, 0xf6]);
        assert_eq!(read(&newer).unwrap(), (message.clone(), newer.len()));
        newer[0] = 0x8d;
        *newer.iter_mut().rev().nth(4).unwrap() = 3;
        assert!(read(&newer).is_err(), "an errand that this node does not know");
        let mut older = bytes(&message);
        older[0] = 0x8b;
        assert!(read(&older).is_err());
    }
}
