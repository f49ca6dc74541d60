//! The image of a process that moves: what the target makes it from.
//!
//! Decides: nothing. Promises: any bytes are an image or an error, and reading them allocates a table of at most
//! [`IMAGE_MESSAGES_MAX`] rows that point into them. Assumes: nothing of whoever wrote it; whether the state can be read
//! is seen by the process, whether the table of the gate makes sense by the gate.
//!
//! Times stand here as what is left of them, in milliseconds: the clocks of two nodes are never compared.

use minicbor::{Decode, Decoder, Encode};
use thiserror::Error;

use crate::base::{Incarnation, Name, Token};
use crate::delivery::GateTable;
use crate::directory::Until;

/// The form that this version writes and reads.
const VERSION: u16 = 1;
/// Unread messages in one image; also timers.
pub const IMAGE_MESSAGES_MAX: u64 = 1024 * 1024;

/// A process at rest.
#[derive(Debug, PartialEq, Eq, Encode, Decode)]
pub struct Image<'b> {
    #[n(0)]
    version: u16,
    /// Its state; none for one that begins anew with its arguments.
    #[b(1)]
    pub state: Option<StateImage<'b>>,
    /// What its gate knows of its senders.
    #[n(2)]
    pub table: GateTable,
    /// From the process to itself, in order.
    #[cbor(b(3), decode_with = "rows")]
    pub notices: Vec<MessageImage<'b>>,
    /// Unread, in order.
    #[cbor(b(4), decode_with = "rows")]
    pub messages: Vec<MessageImage<'b>>,
    /// Its timers.
    #[cbor(b(5), decode_with = "rows")]
    pub timers: Vec<TimerImage<'b>>,
    /// The number of the last timer that it made.
    #[n(6)]
    pub last_timer: u64,
    /// Its monitors that have not ended.
    #[cbor(n(7), skip_if = "Vec::is_empty", decode_with = "rows")]
    pub watches: Vec<WatchImage>,
}

/// The state of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct StateImage<'b> {
    /// Version of the state at the source.
    #[n(0)]
    pub version: u32,
    /// How it is encoded.
    #[n(1)]
    pub codec: u8,
    /// The encoded state.
    #[cbor(b(2), with = "minicbor::bytes")]
    pub bytes: &'b [u8],
}

/// An unread message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct MessageImage<'b> {
    /// The kind its sender takes the process to be.
    #[b(0)]
    pub kind: &'b str,
    /// Its name within the kind.
    #[b(1)]
    pub message: &'b str,
    /// How it is encoded.
    #[n(2)]
    pub codec: u8,
    /// The encoded message.
    #[cbor(b(3), with = "minicbor::bytes")]
    pub payload: &'b [u8],
    /// The fencing token of the sending instance.
    #[n(4)]
    pub sender: Token,
    /// Who waits for its outcome.
    #[n(5)]
    pub call: Option<CallImage>,
}

/// Who waits for the outcome of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct CallImage {
    /// The life of the caller's node.
    #[n(0)]
    pub caller: Incarnation,
    /// The number of the call there.
    #[n(1)]
    pub call: u64,
    /// What is left of its deadline.
    #[n(2)]
    pub remaining_ms: Option<u64>,
}

/// A timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct TimerImage<'b> {
    /// The number that its process knows it by.
    #[n(0)]
    pub id: u64,
    /// What it brings.
    #[b(1)]
    pub message: MessageImage<'b>,
    /// What is left until it is due.
    #[n(2)]
    pub remaining_ms: u64,
    /// Between two times; none for one that is due once.
    #[n(3)]
    pub period_ms: Option<u64>,
}

/// A monitor that a process has set.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct WatchImage {
    /// Its number in the whole cluster.
    #[n(0)]
    pub id: u64,
    /// Who is watched.
    #[n(1)]
    pub name: Name,
    /// Only this life of it.
    #[n(2)]
    pub of: Option<Token>,
    /// Which end.
    #[n(3)]
    pub until: Until,
    /// Planned moves are told too.
    #[n(4)]
    pub moves: bool,
    /// It is half of a link.
    #[n(5)]
    pub is_link: bool,
}

/// Why bytes are not an image.
#[derive(Debug, Error)]
pub enum ImageError {
    /// They are not one whole value of its type.
    #[error("an image can not be read: {0}")]
    Body(#[from] minicbor::decode::Error),
    /// Its form is of a later version.
    #[error("an image of form {0} is not known here")]
    Version(u16),
    /// There is more after it.
    #[error("{0} bytes after an image")]
    Trailing(usize),
}

impl<'b> Image<'b> {
    /// An image without messages, timers and monitors.
    pub fn new(state: Option<StateImage<'b>>, table: GateTable) -> Self {
        let (notices, messages, timers, watches) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Self { version: VERSION, state, table, notices, messages, timers, last_timer: 0, watches }
    }

    /// As bytes. They may be more than an image may have; such an image must not be sent.
    pub fn to_bytes(&self) -> Vec<u8> {
        let of = |message: &MessageImage<'_>| 96 + message.payload.len();
        let state = self.state.map_or(0, |state| state.bytes.len());
        let messages = self.notices.iter().chain(&self.messages).map(of).sum::<usize>();
        let mut bytes = Vec::with_capacity(1024 + state + messages);
        // Writing to memory does not fail, and no field of an image can.
        let _ = minicbor::encode(self, &mut bytes);
        bytes
    }

    /// The image that these bytes are.
    ///
    /// # Errors
    /// They are none, or one that this version can not read.
    pub fn from_bytes(bytes: &'b [u8]) -> Result<Self, ImageError> {
        let mut decoder = Decoder::new(bytes);
        let image: Self = decoder.decode()?;
        if image.version != VERSION {
            return Err(ImageError::Version(image.version));
        }
        match bytes.len() - decoder.position() {
            0 => Ok(image),
            more => Err(ImageError::Trailing(more)),
        }
    }
}

/// A list whose length is known and within the limit.
fn rows<'b, C, T: Decode<'b, C>>(
    decoder: &mut Decoder<'b>,
    context: &mut C,
) -> Result<Vec<T>, minicbor::decode::Error> {
    let length = decoder.array()?.filter(|length| *length <= IMAGE_MESSAGES_MAX);
    let length = length.ok_or_else(|| minicbor::decode::Error::message("a list without a proper length"))?;
    (0..length).map(|_| T::decode(decoder, context)).collect::<Result<Vec<T>, _>>()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::base::{Mutants, Rng};
    use crate::delivery::Gate;

    fn message(text: &str) -> MessageImage<'_> {
        let sender = Token::from_u64(7);
        MessageImage {
            kind: "counter",
            message: "add",
            codec: 1,
            payload: text.as_bytes(),
            sender,
            call: None,
        }
    }

    fn table() -> GateTable {
        let mut gate = Gate::new(Token::from_u64(3), Mutants::default());
        gate.advance(Incarnation { started_ms: 5, nonce: 6 }, 2, 9);
        gate.table()
    }

    fn image() -> Image<'static> {
        let state = StateImage { version: 2, codec: 1, bytes: b"state" };
        let caller = Incarnation { started_ms: 5, nonce: 6 };
        let call = CallImage { caller, call: 77, remaining_ms: Some(1_500) };
        let mut image = Image::new(Some(state), table());
        image.notices.push(message("note"));
        image.messages.push(MessageImage { call: Some(call), ..message("call") });
        let timer = TimerImage { id: 4, message: message("tick"), remaining_ms: 250, period_ms: Some(1_000) };
        image.timers.push(timer);
        image.last_timer = 4;
        image
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn the_form_is_frozen() {
        let golden = "8701830201457374617465818186820506020982008100f480818567636f756e7465726361646401446e6f7465\
                      07818667636f756e74657263616464014463616c6c0783820506184d1905dc8184048567636f756e74657263\
                      61646401447469636b0718fa1903e804";
        assert_eq!(hex(&image().to_bytes()), golden);
        let bytes = image().to_bytes();
        assert_eq!(Image::from_bytes(&bytes).unwrap(), image());
    }

    fn watching() -> Image<'static> {
        let name = Name::new("worker").unwrap();
        let of = Some(Token::from_u64(3));
        let watch = WatchImage { id: 9, name, of, until: Until::Name, moves: true, is_link: false };
        Image { watches: vec![watch], ..image() }
    }

    #[test]
    fn monitors_stand_behind_what_older_images_hold() {
        let bytes = watching().to_bytes();
        assert_eq!(Image::from_bytes(&bytes).unwrap(), watching());
        let older = image().to_bytes();
        // One more field of the whole, and then the field.
        assert_eq!((bytes[0], &bytes[1..older.len()]), (older[0] + 1, &older[1..]));
        assert_eq!(hex(&bytes[older.len()..]), "81860966776f726b65720301f5f4");
    }

    #[test]
    fn one_without_a_state_survives_the_wire() {
        let bytes = Image::new(None, table()).to_bytes();
        assert_eq!(Image::from_bytes(&bytes).unwrap(), Image::new(None, table()));
    }

    #[test]
    fn what_is_cut_too_long_or_of_a_later_form_is_refused() {
        let bytes = image().to_bytes();
        for cut in 0..bytes.len() {
            assert!(Image::from_bytes(&bytes[..cut]).is_err(), "cut at {cut}");
        }
        let longer = [&bytes[..], &[0]].concat();
        assert!(matches!(Image::from_bytes(&longer), Err(ImageError::Trailing(1))));
        let later = Image { version: 2, ..image() }.to_bytes();
        assert!(matches!(Image::from_bytes(&later), Err(ImageError::Version(2))));
    }

    #[test]
    fn a_length_is_believed_only_as_far_as_bytes_are_there() {
        let bytes = watching().to_bytes();
        let heads: [&[u8]; 5] = [
            &[0x5b, 0x10, 0, 0, 0, 0, 0, 0, 0],
            &[0x7b, 0x10, 0, 0, 0, 0, 0, 0, 0],
            &[0x9b, 0x10, 0, 0, 0, 0, 0, 0, 0],
            &[0x9f],
            &[0xbf],
        ];
        for at in 0..bytes.len() {
            for head in heads {
                let hostile = [&bytes[..at], head, &bytes[at..]].concat();
                let _ = Image::from_bytes(&hostile);
            }
        }
    }

    #[test]
    fn random_changes_never_panic_and_what_is_read_can_be_written_again() {
        let mut rng = Rng::new(11);
        let sample = watching().to_bytes();
        let mut read = 0;
        for _ in 0..40_000 {
            let mut bytes = sample.clone();
            for _ in 0..=rng.below(3) {
                let at = rng.below(bytes.len() as u64) as usize;
                match rng.below(4) {
                    0 => bytes.insert(at, rng.next_u64() as u8),
                    1 => drop(bytes.remove(at)),
                    _ => bytes[at] = rng.next_u64() as u8,
                }
            }
            if let Ok(image) = Image::from_bytes(&bytes) {
                read += 1;
                assert_eq!(Image::from_bytes(&image.to_bytes()).unwrap(), image);
            }
        }
        assert!(read > 1_000, "{read}");
    }
}
