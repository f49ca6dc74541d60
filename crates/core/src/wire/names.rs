//! Names that came over a connection lately.

use crate::base::Name;

/// Names kept; a power of two.
const PLACES: usize = 256;

/// The names that a connection carried last. A name that comes again, as almost all do, is neither checked nor
/// allocated again.
///
/// Each text has one place, and the last one there stays: whoever makes names collide only makes them be read afresh.
#[derive(Debug, Default)]
pub struct Names {
    /// Empty until the first name.
    places: Vec<Option<Name>>,
}

impl Names {
    /// The name with this text.
    ///
    /// # Errors
    /// The bytes are no text, or one that is no name; see [`Name::new`].
    pub fn get(&mut self, text: &[u8]) -> Result<Name, NotAName> {
        if self.places.is_empty() {
            self.places.resize(PLACES, None);
        }
        let place = &mut self.places[place(text)];
        match place {
            Some(name) if name.as_str().as_bytes() == text => Ok(name.clone()),
            _ => {
                let text = std::str::from_utf8(text).map_err(|_| NotAName)?;
                Ok(place.insert(Name::new(text).map_err(|_| NotAName)?).clone())
            }
        }
    }
}

/// Bytes that are no name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAName;

/// By its length and its last bytes, in which names differ most.
fn place(text: &[u8]) -> usize {
    let tail = match text.last_chunk() {
        Some(tail) => u64::from_le_bytes(*tail),
        None => text.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)),
    };
    // Fibonacci hashing: the high bits of the product depend on all of them.
    let tail = tail ^ (text.len() as u64) << 3;
    (tail.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as usize % PLACES
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_name_is_what_its_text_says_however_often_it_comes() {
        let mut names = Names::default();
        for round in 0..3 {
            for number in 0..2 * PLACES {
                let text = format!("basket:{number}");
                assert_eq!(names.get(text.as_bytes()).unwrap().as_str(), text, "round {round}");
            }
        }
        for not_a_name in [&b""[..], b"a\nb", b"basket:\xff", &[b'a'; 256]] {
            assert_eq!(names.get(not_a_name), Err(NotAName));
        }
        assert_eq!(names.get("é".repeat(127).as_bytes()).unwrap().as_str().len(), 254);
    }
}
