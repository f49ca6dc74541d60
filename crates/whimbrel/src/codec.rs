//! The default codec: MessagePack with field names, through one bounded decode function.
//!
//! With its own default depth the decoder overflows the stack at about 1,100 levels, which no `catch_unwind`
//! catches; so nothing in this crate decodes user data except through [`decode`].

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Nesting that a payload may have.
const DEPTH_MAX: usize = 128;

/// Identifies the codec of a payload on the wire.
pub(crate) const NAMED: u8 = 1;

/// Encodes a value with field names.
pub(crate) fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, String> {
    rmp_serde::to_vec_named(value).map_err(|error| error.to_string())
}

/// Decodes a value: all of the bytes, at most [`DEPTH_MAX`] levels.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    let mut rest = bytes;
    let mut decoder = rmp_serde::Deserializer::new(&mut rest);
    decoder.set_max_depth(DEPTH_MAX);
    let value = T::deserialize(&mut decoder).map_err(|error| error.to_string())?;
    drop(decoder);
    if rest.is_empty() { Ok(value) } else { Err(format!("{} bytes too many", rest.len())) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[derive(serde::Serialize, serde::Deserialize, Debug)]
    struct Chain {
        next: Option<Box<Chain>>,
    }

    #[derive(serde::Serialize, serde::Deserialize, Debug)]
    struct Tree(Vec<Tree>);

    #[derive(serde::Serialize, serde::Deserialize, Debug)]
    enum Term {
        Zero,
        Next(Box<Term>),
    }

    #[test]
    fn nested_payload_is_refused_without_overflow() {
        // Arrays of one, which stand for a struct with one field and for a list with one item.
        let mut arrays = vec![0x91; 1_000_000];
        arrays.push(0xc0);
        assert!(decode::<Chain>(&arrays).is_err());
        assert!(decode::<Tree>(&arrays).is_err());
        // Maps of one, whose key is the name of a field or of a variant.
        let fields = [[0x81, 0xa4].as_slice(), b"next"].concat().repeat(200_000);
        assert!(decode::<Chain>(&fields).is_err());
        let variants = [[0x81, 0xa4].as_slice(), b"Next"].concat().repeat(200_000);
        assert!(decode::<Term>(&variants).is_err());
    }

    #[test]
    fn nesting_within_the_limit_is_decoded() {
        let mut term = Term::Zero;
        for _ in 0..DEPTH_MAX / 4 {
            term = Term::Next(Box::new(term));
        }
        assert!(decode::<Term>(&encode(&term).unwrap()).is_ok());
    }

    #[test]
    fn trailing_bytes_are_refused() {
        let mut bytes = encode(&7u64).unwrap();
        assert_eq!(decode::<u64>(&bytes).unwrap(), 7);
        bytes.push(0);
        assert!(decode::<u64>(&bytes).is_err());
    }

    #[test]
    fn huge_count_of_nothing_is_refused() {
        assert!(decode::<Vec<u64>>(&[0xdd, 0xff, 0xff, 0xff, 0xff]).is_err());
    }
}
