//! The body of a `Publish` frame: one message for several names on the receiving node, with its payload once.
//!
//! An array of two fields in CBOR: the message as it is for the first name ([`MessageBody`]), and an array of what it has of
//! its own for each of the others: name, gate, epoch and number. Nobody waits for any of them. For a gate, a route and a
//! mailbox they are as many messages as there are names, each as if it had come in a frame of its own; a newer node may add
//! fields to either array.

use minicbor::decode::{Decoder, Error};

use super::Names;
use super::message::{HEAD_BYTES_MAX, Message, MessageBody, Numbers, TEXT, read_name};
use crate::base::limits::PUBLISH_NAMES_MAX;
use crate::base::{Name, Token};

/// Fields of the body, and of each of the others.
const FIELDS: u64 = 2;
const TARGET_FIELDS: u64 = 4;

const ARRAY: u8 = 4 << 5;

/// What a message has of its own for one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The name it is for.
    pub name: Name,
    /// The gate it is meant for.
    pub gate: Token,
    /// The route's epoch.
    pub epoch: u64,
    /// Its number on that route.
    pub seq: u64,
}

impl Target {
    /// How many bytes it takes, at most.
    pub fn bytes_max(&self) -> usize {
        1 + 4 * HEAD_BYTES_MAX + self.name.as_str().len()
    }

    fn put(&self, buffer: &mut Vec<u8>) {
        let text = self.name.as_str();
        let mut head = Numbers::default();
        head.head(ARRAY, TARGET_FIELDS);
        head.head(TEXT, text.len() as u64);
        buffer.extend_from_slice(head.bytes());
        buffer.extend_from_slice(text.as_bytes());
        let mut numbers = Numbers::default();
        numbers.number(self.gate.as_u64());
        numbers.number(self.epoch);
        numbers.number(self.seq);
        buffer.extend_from_slice(numbers.bytes());
    }

    fn read(d: &mut Decoder<'_>, names: &mut Names) -> Result<Self, Error> {
        let fields = d.array()?.filter(|fields| *fields >= TARGET_FIELDS);
        let fields = fields.ok_or_else(|| Error::message("not the fields of a target"))?;
        let name = read_name(d, names)?;
        let target = Self { name, gate: Token::from_u64(d.u64()?), epoch: d.u64()?, seq: d.u64()? };
        (TARGET_FIELDS..fields).try_for_each(|_| d.skip())?;
        Ok(target)
    }
}

/// Appends the body. It may be longer than [`BODY_BYTES_MAX`](super::frame::BODY_BYTES_MAX); such a body must not be sent.
pub fn put(first: &MessageBody<'_>, others: &[Target], buffer: &mut Vec<u8>) {
    buffer.push(ARRAY | FIELDS as u8);
    first.put(buffer);
    let mut head = Numbers::default();
    head.head(ARRAY, others.len() as u64);
    buffer.extend_from_slice(head.bytes());
    others.iter().for_each(|target| target.put(buffer));
}

/// Bytes of the body beside its first message and the others, at most.
pub const PUBLISH_BYTES_MAX: usize = 1 + HEAD_BYTES_MAX;

/// One message for several names, as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publish {
    /// As it is for the first name.
    pub first: Message,
    /// What it has of its own for the others; at most [`PUBLISH_NAMES_MAX`].
    pub others: Vec<Target>,
}

impl Publish {
    /// What comes first in what is decoded, its names among those that came before.
    pub(super) fn read(d: &mut Decoder<'_>, names: &mut Names) -> Result<Self, Error> {
        let fields = d.array()?.filter(|fields| *fields >= FIELDS);
        let fields = fields.ok_or_else(|| Error::message("not the fields of a publish"))?;
        let first = Message::read(d, names)?;
        if first.head.call.is_some() {
            return Err(Error::message("a publish that somebody waits for"));
        }
        let count = d.array()?.filter(|count| *count <= PUBLISH_NAMES_MAX as u64);
        let count = count.ok_or_else(|| Error::message("a publish for too many names"))?;
        // Grows with what is there, not with what is said to be.
        let mut others = Vec::new();
        for _ in 0..count {
            others.push(Target::read(d, names)?);
        }
        (FIELDS..fields).try_for_each(|_| d.skip())?;
        Ok(Self { first, others })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::message::MessageHead;
    use super::*;
    use crate::delivery::Errand;

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    fn publish(names: usize) -> Publish {
        let target = |at: usize| {
            let (gate, epoch, seq) = (Token::from_u64(at as u64), 1 << (at % 64), 300);
            Target { name: name(&format!("room:{at}")), gate, epoch, seq }
        };
        let head = MessageHead {
            gate: Token::from_u64(5),
            epoch: 6,
            seq: 7,
            call: None,
            remaining_ms: None,
            sender: Token::NONE,
            view: 8,
            codec: 1,
            errand: Errand::Deliver,
        };
        let (kind, message, payload) = (name("room"), name("say"), b"hello"[..].into());
        let first = Message { name: name("lobby"), kind, message, head, payload };
        Publish { first, others: (0..names).map(target).collect() }
    }

    fn bytes(publish: &Publish) -> Vec<u8> {
        let mut bytes = Vec::new();
        put(&publish.first.body(), &publish.others, &mut bytes);
        bytes
    }

    fn read(bytes: &[u8]) -> Result<(Publish, usize), Error> {
        let mut d = Decoder::new(bytes);
        Publish::read(&mut d, &mut Names::default()).map(|publish| (publish, d.position()))
    }

    #[test]
    fn it_is_read_as_it_was_written_with_room_as_it_was_counted() {
        for names in [0, 1, 23, 24, 300, PUBLISH_NAMES_MAX] {
            let publish = publish(names);
            let written = bytes(&publish);
            let room = publish.first.body().bytes_max()
                + publish.others.iter().map(Target::bytes_max).sum::<usize>()
                + PUBLISH_BYTES_MAX;
            assert!(written.len() <= room, "{} over {room}", written.len());
            assert_eq!(read(&written).unwrap(), (publish, written.len()), "{names}");
        }
    }

    #[test]
    fn the_bytes_of_a_publish_never_change() {
        let expected = b"\x82\x8c\x65lobby\x64room\x63say\x05\x06\x07\xf6\xf6\x00\x08\x01\x45hello\
            \x81\x84\x66room:0\x00\x01\x19\x01\x2c";
        assert_eq!(bytes(&publish(1)), expected);
    }

    #[test]
    fn too_many_names_a_waiting_caller_and_missing_fields_are_refused_and_later_fields_skipped() {
        assert!(read(&bytes(&publish(PUBLISH_NAMES_MAX + 1))).is_err());
        let mut called = publish(1);
        called.first.head.call = Some(1);
        assert!(read(&bytes(&called)).is_err());
        let written = bytes(&publish(1));
        for cut in 0..written.len() {
            assert!(read(&written[..cut]).is_err(), "cut at {cut}");
        }
        let mut newer = written;
        newer[0] = 0x83;
        newer.extend_from_slice(&[0x82, 1, 2]);
        assert_eq!(read(&newer).unwrap(), (publish(1), newer.len()));
    }
}
