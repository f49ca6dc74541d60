//! Bytes that are written once and are most often few.

use std::io;

use minicbor::{Decode, Decoder, Encode, Encoder, decode, encode};

/// Bytes that lie in place; with them a value takes 96.
const SHORT_BYTES_MAX: usize = 94;

/// Bytes without an allocation of their own while they are few, as those of most messages are.
#[derive(Clone)]
pub struct ShortBytes(Place);

#[derive(Clone)]
enum Place {
    Here { len: u8, bytes: [u8; SHORT_BYTES_MAX] },
    Apart(Vec<u8>),
}

impl ShortBytes {
    /// None yet.
    pub const fn new() -> Self {
        Self(Place::Here { len: 0, bytes: [0; SHORT_BYTES_MAX] })
    }

    /// The bytes as a slice.
    pub fn as_slice(&self) -> &[u8] {
        match &self.0 {
            // The length is never over that of the array.
            Place::Here { len, bytes } => bytes.get(..usize::from(*len)).unwrap_or_default(),
            Place::Apart(bytes) => bytes,
        }
    }

    /// Number of bytes.
    pub fn len(&self) -> usize {
        match &self.0 {
            Place::Here { len, .. } => usize::from(*len),
            Place::Apart(bytes) => bytes.len(),
        }
    }

    /// True when there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes that were allocated for it.
    pub fn allocated(&self) -> usize {
        match &self.0 {
            Place::Here { .. } => 0,
            Place::Apart(bytes) => bytes.capacity(),
        }
    }

    /// Adds bytes at the end.
    pub fn extend(&mut self, more: &[u8]) {
        match &mut self.0 {
            Place::Here { len, bytes } => {
                let at = usize::from(*len);
                if let Some(room) = bytes.get_mut(at..at + more.len()) {
                    room.copy_from_slice(more);
                    // Lossless: it is at most the length of the array.
                    *len = (at + more.len()) as u8;
                } else {
                    let mut apart = Vec::with_capacity((at + more.len()).max(2 * SHORT_BYTES_MAX));
                    apart.extend_from_slice(&bytes[..at]);
                    apart.extend_from_slice(more);
                    self.0 = Place::Apart(apart);
                }
            }
            Place::Apart(bytes) => bytes.extend_from_slice(more),
        }
    }
}

impl Default for ShortBytes {
    fn default() -> Self {
        Self::new()
    }
}

impl From<&[u8]> for ShortBytes {
    fn from(bytes: &[u8]) -> Self {
        if bytes.len() > SHORT_BYTES_MAX {
            return Self(Place::Apart(bytes.to_vec()));
        }
        let mut short = Self::new();
        short.extend(bytes);
        short
    }
}

impl From<Vec<u8>> for ShortBytes {
    fn from(bytes: Vec<u8>) -> Self {
        if bytes.len() > SHORT_BYTES_MAX { Self(Place::Apart(bytes)) } else { Self::from(&bytes[..]) }
    }
}

impl PartialEq for ShortBytes {
    fn eq(&self, other: &Self) -> bool {
        self.as_slice() == other.as_slice()
    }
}

impl Eq for ShortBytes {}

impl std::fmt::Debug for ShortBytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes", self.len())
    }
}

impl io::Write for ShortBytes {
    fn write(&mut self, more: &[u8]) -> io::Result<usize> {
        self.extend(more);
        Ok(more.len())
    }

    fn write_all(&mut self, more: &[u8]) -> io::Result<()> {
        self.extend(more);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl encode::Write for ShortBytes {
    type Error = std::convert::Infallible;

    fn write_all(&mut self, more: &[u8]) -> Result<(), Self::Error> {
        self.extend(more);
        Ok(())
    }
}

impl<C> Encode<C> for ShortBytes {
    fn encode<W: encode::Write>(&self, e: &mut Encoder<W>, _: &mut C) -> Result<(), encode::Error<W::Error>> {
        e.bytes(self.as_slice())?.ok()
    }
}

impl<'b, C> Decode<'b, C> for ShortBytes {
    fn decode(d: &mut Decoder<'b>, _: &mut C) -> Result<Self, decode::Error> {
        Ok(Self::from(d.bytes()?))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn bytes_are_those_that_were_written_wherever_they_lie() {
        for total in [0, 1, SHORT_BYTES_MAX - 1, SHORT_BYTES_MAX, SHORT_BYTES_MAX + 1, 1_000] {
            let all: Vec<u8> = (0..total).map(|at| at as u8).collect();
            for piece in [1, 7, 1_000] {
                let mut short = ShortBytes::new();
                all.chunks(piece).for_each(|more| short.extend(more));
                assert_eq!((short.as_slice(), short.len()), (&all[..], total));
                assert_eq!(short.allocated() > 0, total > SHORT_BYTES_MAX, "{total} bytes by {piece}");
                assert_eq!(
                    (ShortBytes::from(&all[..]), ShortBytes::from(all.clone())),
                    (short.clone(), short)
                );
            }
        }
        assert_eq!(size_of::<ShortBytes>(), 96);
    }

    #[test]
    fn the_wire_is_a_byte_string_and_a_length_is_not_believed() {
        for bytes in [vec![], vec![7; 94], vec![8; 95], vec![9; 70_000]] {
            let short = ShortBytes::from(bytes.clone());
            let wire = minicbor::to_vec(&short).unwrap();
            assert_eq!(minicbor::decode::<ShortBytes>(&wire).unwrap(), short);
            assert_eq!(minicbor::decode::<crate::base::Bytes>(&wire).unwrap().as_slice(), bytes);
        }
        for wire in
            [&[0x5b, 255, 255, 255, 255, 255, 255, 255, 255][..], &[0x5a, 255, 255, 255, 255], &[0x43, 1]]
        {
            assert!(minicbor::decode::<ShortBytes>(wire).is_err(), "{wire:x?}");
        }
    }
}
