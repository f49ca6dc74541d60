//! Immutable bytes that are cheap to clone, and take no memory of their own if they are few.

use std::sync::Arc;

use minicbor::{Decode, Decoder, Encode, Encoder, decode, encode};

/// Immutable shared bytes: the arguments of a process, an opaque payload.
#[derive(Clone)]
pub struct Bytes(Held);

/// There may be a record for each of very many processes, and most have few arguments or none: those stand here, in the
/// room that the others need for their address and their length.
#[derive(Clone)]
enum Held {
    Few { length: u8, bytes: [u8; FEW_MAX] },
    Many(Arc<[u8]>),
}

/// Bytes that need no memory of their own.
const FEW_MAX: usize = 7;

impl Bytes {
    /// The bytes as a slice.
    pub fn as_slice(&self) -> &[u8] {
        match &self.0 {
            Held::Few { length, bytes } => &bytes[..usize::from(*length)],
            Held::Many(bytes) => bytes,
        }
    }

    /// Number of bytes.
    pub fn len(&self) -> usize {
        self.as_slice().len()
    }

    /// True when there are none.
    pub fn is_empty(&self) -> bool {
        self.as_slice().is_empty()
    }

    fn few(bytes: &[u8]) -> Option<Self> {
        let length = u8::try_from(bytes.len()).ok()?;
        let mut few = [0; FEW_MAX];
        few.get_mut(..bytes.len())?.copy_from_slice(bytes);
        Some(Self(Held::Few { length, bytes: few }))
    }
}

impl PartialEq for Bytes {
    fn eq(&self, other: &Self) -> bool {
        self.as_slice() == other.as_slice()
    }
}

impl Eq for Bytes {}

impl Default for Bytes {
    fn default() -> Self {
        Self(Held::Few { length: 0, bytes: [0; FEW_MAX] })
    }
}

impl From<Vec<u8>> for Bytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self::few(&bytes).unwrap_or_else(|| Self(Held::Many(bytes.into())))
    }
}

impl From<&[u8]> for Bytes {
    fn from(bytes: &[u8]) -> Self {
        Self::few(bytes).unwrap_or_else(|| Self(Held::Many(bytes.into())))
    }
}

impl std::fmt::Debug for Bytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes", self.len())
    }
}

impl<C> Encode<C> for Bytes {
    fn encode<W: encode::Write>(&self, e: &mut Encoder<W>, _: &mut C) -> Result<(), encode::Error<W::Error>> {
        e.bytes(self.as_slice())?.ok()
    }
}

impl<'b, C> Decode<'b, C> for Bytes {
    fn decode(d: &mut Decoder<'b>, _: &mut C) -> Result<Self, decode::Error> {
        Ok(Self::from(d.bytes()?))
    }
}

/// Counts what is written.
struct Count(usize);

impl encode::Write for Count {
    type Error = std::convert::Infallible;

    fn write_all(&mut self, bytes: &[u8]) -> Result<(), Self::Error> {
        self.0 = self.0.saturating_add(bytes.len());
        Ok(())
    }
}

/// Takes what is written. As a `Vec` does, but here the compiler sees that most of it is a byte or nine.
struct Buffer(Vec<u8>);

impl encode::Write for Buffer {
    type Error = std::convert::Infallible;

    #[inline]
    fn write_all(&mut self, bytes: &[u8]) -> Result<(), Self::Error> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }
}

/// A value as it is on the wire; `room` is a guess at how long that is.
///
/// # Panics
/// An encoder of the value fails by itself: none of ours does.
pub fn encoded<T: Encode<()>>(value: &T, room: usize) -> Vec<u8> {
    let mut buffer = Buffer(Vec::with_capacity(room));
    minicbor::encode(value, &mut buffer)
        .expect("a buffer takes every byte and no field has a fallible encoder");
    buffer.0
}

/// How many bytes a value takes on the wire.
pub fn encoded_bytes<T: Encode<()>>(value: &T) -> usize {
    let mut count = Count(0);
    // Neither counting nor any field of ours can fail; what can not be encoded takes no room either.
    let _ = minicbor::encode(value, &mut count);
    count.0
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn bytes_survive_the_wire() {
        for bytes in [Bytes::default(), Bytes::from(vec![0, 255, 7]), Bytes::from(&[9u8; 70_000][..])] {
            let wire = minicbor::to_vec(&bytes).unwrap();
            assert_eq!(minicbor::decode::<Bytes>(&wire).unwrap(), bytes);
        }
    }

    #[test]
    fn a_length_without_its_bytes_is_an_error_and_no_allocation() {
        // A byte string that claims 2^64 - 1 bytes, one that claims four gigabytes, and one cut short.
        for wire in
            [&[0x5b, 255, 255, 255, 255, 255, 255, 255, 255][..], &[0x5a, 255, 255, 255, 255], &[0x43, 1]]
        {
            assert!(minicbor::decode::<Bytes>(wire).is_err(), "{wire:x?}");
        }
    }

    #[test]
    fn what_is_counted_is_what_is_written() {
        for bytes in [Bytes::default(), Bytes::from(vec![7; 300]), Bytes::from(vec![7; 70_000])] {
            let written = minicbor::to_vec(&bytes).unwrap();
            assert_eq!((encoded_bytes(&bytes), encoded(&bytes, 7)), (written.len(), written));
        }
    }

    #[test]
    fn clones_share_their_bytes() {
        let bytes = Bytes::from(vec![1; FEW_MAX + 1]);
        assert!(std::ptr::eq(bytes.as_slice(), bytes.clone().as_slice()));
    }

    #[test]
    fn few_bytes_take_the_room_of_an_address_and_a_length() {
        assert_eq!(size_of::<Bytes>(), 2 * size_of::<usize>());
        for length in 0..=FEW_MAX + 2 {
            let wanted: Vec<u8> = (1..).take(length).collect();
            let (given, read) = (Bytes::from(wanted.clone()), Bytes::from(wanted.as_slice()));
            assert!(given.as_slice() == wanted && given == read && given.clone().len() == length);
            assert_eq!(matches!(given.0, Held::Few { .. }), length <= FEW_MAX);
        }
        assert_ne!(Bytes::from(vec![0]), Bytes::from(vec![0, 0]));
    }

    #[test]
    fn debug_tells_the_length_and_not_the_content() {
        assert_eq!(format!("{:?}", Bytes::from(&b"secret"[..])), "6 bytes");
        assert!(Bytes::default().is_empty() && !Bytes::from(vec![0]).is_empty());
        assert_eq!(Bytes::from(vec![0; 5]).len(), 5);
    }
}
