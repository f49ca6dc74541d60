//! Names that came over a connection lately.

use crate::base::{BadName, Name};

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
    /// As [`Name::new`].
    pub fn get(&mut self, text: &str) -> Result<Name, BadName> {
        if self.places.is_empty() {
            self.places.resize(PLACES, None);
        }
        let place = &mut self.places[place(text)];
        match place {
            Some(name) if name.as_str() == text => Ok(name.clone()),
            _ => Ok(place.insert(Name::new(text)?).clone()),
        }
    }
}

/// By its length and its last bytes, in which names differ most.
fn place(text: &str) -> usize {
    let bytes = text.as_bytes();
    let tail = &bytes[bytes.len().saturating_sub(8)..];
    let tail = tail.iter().fold(bytes.len() as u64, |sum, byte| sum << 7 ^ sum >> 57 ^ u64::from(*byte));
    // Fibonacci hashing: the high bits of the product depend on all of them.
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
                assert_eq!(names.get(&text).unwrap().as_str(), text, "round {round}");
            }
        }
        assert!(names.get("").is_err() && names.get("a\nb").is_err());
        assert_eq!(names.get(&"é".repeat(127)).unwrap().as_str().len(), 254);
    }
}
