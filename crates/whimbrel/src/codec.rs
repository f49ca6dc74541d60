//! The default codec: MessagePack with field names, through one bounded decode function.
//!
//! A decoder recurses with its input, and an overflow of the stack is caught by nothing. The decoder's own limit is no
//! guard: it does not count enums, so a payload of nested variants passes it. Therefore [`decode`] first walks over
//! the bytes without recursion and refuses what is nested too deep, cut off or followed by more; nothing in this
//! crate decodes user data in another way.

use serde::Serialize;
use serde::de::DeserializeOwned;
use whimbrel_core::base::ShortBytes;

/// Nesting that a payload may have.
const DEPTH_MAX: usize = 128;

/// Identifies the codec of a payload on the wire.
pub(crate) const NAMED: u8 = 1;

/// Identifies bytes that are nobody's business but the process's.
pub(crate) const OPAQUE: u8 = 2;

/// Encodes a value with field names.
pub(crate) fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, String> {
    rmp_serde::to_vec_named(value).map_err(|error| error.to_string())
}

/// The same, for values that are most often short.
pub(crate) fn encode_short<T: Serialize>(value: &T) -> Result<ShortBytes, String> {
    let mut bytes = ShortBytes::new();
    rmp_serde::encode::write_named(&mut bytes, value).map_err(|error| error.to_string())?;
    Ok(bytes)
}

/// Decodes a value: all of the bytes, at most [`DEPTH_MAX`] levels.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    check(bytes)?;
    let mut decoder = rmp_serde::Deserializer::from_read_ref(bytes);
    decoder.set_max_depth(DEPTH_MAX);
    T::deserialize(&mut decoder).map_err(|error| error.to_string())
}

/// Whether the bytes are one whole MessagePack value of at most [`DEPTH_MAX`] levels.
fn check(bytes: &[u8]) -> Result<(), String> {
    // Almost all have few levels, and for most of them it would take longer to make room for many.
    check_levels::<8>(bytes).or_else(|_| check_levels::<DEPTH_MAX>(bytes))
}

fn check_levels<const MAX: usize>(bytes: &[u8]) -> Result<(), String> {
    // How many values each open array or map still holds.
    let mut open = [0u64; MAX];
    let mut depth = 0;
    let mut rest = bytes;
    loop {
        let (held, after) = token(rest).ok_or_else(|| "not a MessagePack value".to_owned())?;
        rest = after;
        if held > 0 {
            *open.get_mut(depth).ok_or_else(|| format!("more than {MAX} levels"))? = held;
            depth += 1;
            continue;
        }
        while depth > 0 {
            open[depth - 1] -= 1;
            if open[depth - 1] > 0 {
                break;
            }
            depth -= 1;
        }
        if depth == 0 {
            return if rest.is_empty() { Ok(()) } else { Err(format!("{} bytes too many", rest.len())) };
        }
    }
}

/// Takes one token: how many values it holds, and the bytes after it. None when it is cut off or no token.
fn token(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (&marker, rest) = bytes.split_first()?;
    let skip = |bytes| Some((0, rest.get(bytes..)?));
    // A length in the next bytes, and `more` bytes beside what it counts.
    let skip_counted = |width: usize, more: usize| {
        let (length, rest) = number(rest, width)?;
        Some((0, rest.get(usize::try_from(length).ok()?.checked_add(more)?..)?))
    };
    let holds = |width: usize, each: u64| number(rest, width).map(|(count, rest)| (count * each, rest));
    match marker {
        0x00..=0x7f | 0xc0 | 0xc2 | 0xc3 | 0xe0..=0xff => skip(0),
        0x80..=0x8f => Some((u64::from(marker & 0x0f) * 2, rest)),
        0x90..=0x9f => Some((u64::from(marker & 0x0f), rest)),
        0xa0..=0xbf => skip(usize::from(marker & 0x1f)),
        0xc1 => None,
        0xc4 | 0xd9 => skip_counted(1, 0),
        0xc5 | 0xda => skip_counted(2, 0),
        0xc6 | 0xdb => skip_counted(4, 0),
        0xc7 => skip_counted(1, 1),
        0xc8 => skip_counted(2, 1),
        0xc9 => skip_counted(4, 1),
        0xcc | 0xd0 => skip(1),
        0xcd | 0xd1 => skip(2),
        0xca | 0xce | 0xd2 => skip(4),
        0xcb | 0xcf | 0xd3 => skip(8),
        0xd4..=0xd8 => skip((1 << (marker - 0xd4)) + 1),
        0xdc => holds(2, 1),
        0xdd => holds(4, 1),
        0xde => holds(2, 2),
        0xdf => holds(4, 2),
    }
}

/// A big-endian number of `width` bytes, and the bytes after it.
fn number(bytes: &[u8], width: usize) -> Option<(u64, &[u8])> {
    let (number, rest) = bytes.split_at_checked(width)?;
    Some((number.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)), rest))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;
    use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

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
    fn every_shape_that_is_encoded_passes_the_check() {
        let texts: Vec<String> = [0, 1, 31, 32, 255, 256, 65_535, 65_536].map(|n| "x".repeat(n)).into();
        let numbers: Vec<i64> =
            vec![0, 127, 128, 255, 256, 70_000, i64::MAX, -1, -32, -33, -200, -70_000, i64::MIN];
        let lists: Vec<Vec<bool>> = [0, 15, 16, 65_535, 65_536].map(|n| vec![true; n]).into();
        let map: std::collections::BTreeMap<u32, Option<f64>> = (0..70_000).map(|n| (n, Some(0.5))).collect();
        let all = (texts, numbers, lists, map, 1.5f32, Some('x'), ());
        let bytes = encode(&all).unwrap();
        assert_eq!(check(&bytes), Ok(()));
        for end in (0..bytes.len()).step_by(997) {
            assert!(check(&bytes[..end]).is_err(), "cut off at {end}");
        }
    }

    #[test]
    fn huge_count_of_nothing_is_refused() {
        assert!(decode::<Vec<u64>>(&[0xdd, 0xff, 0xff, 0xff, 0xff]).is_err());
    }

    /// What a state or a message may look like.
    #[derive(serde::Serialize, serde::Deserialize, Debug, PartialEq)]
    enum Shape {
        Unit,
        Number(i64),
        Text(String),
        Fields { list: Vec<Option<u16>>, map: std::collections::BTreeMap<String, Shape> },
        Nothing(Vec<()>),
    }

    fn shapes() -> Vec<Vec<u8>> {
        let map = std::collections::BTreeMap::from([("a".to_owned(), Shape::Text("b".repeat(40)))]);
        let shapes = [
            Shape::Unit,
            Shape::Number(-70_000),
            Shape::Fields { list: vec![Some(300), None], map },
            Shape::Nothing(vec![(); 20]),
        ];
        shapes.iter().map(|shape| encode(shape).unwrap()).collect()
    }

    /// Decodes as whatever there is: nothing panics, and what comes out stays what it is.
    fn decode_all(bytes: &[u8]) -> Result<bool, TestCaseError> {
        let _ =
            (decode::<Tree>(bytes), decode::<Chain>(bytes), decode::<Term>(bytes), decode::<String>(bytes));
        if let Ok(nothing) = decode::<Vec<()>>(bytes) {
            prop_assert!(nothing.len() <= bytes.len(), "{} items from {} bytes", nothing.len(), bytes.len());
        }
        let Ok(shape) = decode::<Shape>(bytes) else { return Ok(false) };
        prop_assert_eq!(decode::<Shape>(&encode(&shape).unwrap()), Ok(shape));
        Ok(true)
    }

    #[test]
    fn bytes_of_any_sort_and_changed_ones_are_decoded_or_refused() {
        const CASES: u32 = 100_000;
        let config = Config { cases: CASES, failure_persistence: None, ..Config::default() };
        let rng = TestRng::deterministic_rng(RngAlgorithm::XorShift);
        let words = prop::collection::vec(any::<u32>(), 0..8);
        let changes = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4);
        let (samples, decoded) = (shapes(), std::cell::Cell::new(0));
        let strategy = (words, 0..=samples.len(), changes);
        let outcome = TestRunner::new_with_rng(config, rng).run(&strategy, |(words, sample, changes)| {
            let any: Vec<u8> = words.into_iter().flat_map(u32::to_be_bytes).collect();
            let mut changed = samples.get(sample).cloned().unwrap_or(any);
            if changed.is_empty() {
                return Ok(());
            }
            for (at, byte) in changes {
                let at = at.index(changed.len());
                changed[at] = byte;
            }
            decoded.set(decoded.get() + u32::from(decode_all(&changed)?));
            Ok(())
        });
        outcome.unwrap();
        assert!(decoded.get() > CASES / 20, "{} of {CASES}", decoded.get());
    }
}
