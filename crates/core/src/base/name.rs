//! Names and kinds.

use std::fmt;
use std::sync::Arc;

use minicbor::{Decode, Decoder, Encode, Encoder, decode, encode};
use thiserror::Error;

use super::limits::NAME_BYTES_MAX;

/// Why a text is not a name. Nothing was sent; retrying the same text fails again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum BadName {
    /// The text has no bytes.
    #[error("a name must not be empty")]
    Empty,
    /// The text is longer than 255 bytes of UTF-8.
    #[error("a name has at most 255 bytes, this one has {bytes}")]
    TooLong {
        /// Length of the refused text.
        bytes: usize,
    },
    /// The text holds a control character, which could forge a line of a log or a terminal sequence.
    #[error("a name has no control characters, this one has one at byte {at}")]
    ControlCharacter {
        /// Offset of the first one.
        at: usize,
    },
}

/// The cluster-wide name of a process: 1 to 255 bytes of UTF-8 without control characters.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Arc<str>);

/// The stable name of a process type on the wire; same rules as [`Name`].
pub type Kind = Name;

impl Name {
    /// Checks `text`.
    ///
    /// # Errors
    /// [`BadName`] says which rule it breaks.
    pub fn new(text: &str) -> Result<Self, BadName> {
        Self::check(text).map(|()| Self(Arc::from(text)))
    }

    /// Whether `text` may be a name.
    ///
    /// # Errors
    /// [`BadName`] says which rule it breaks.
    pub fn check(text: &str) -> Result<(), BadName> {
        if text.is_empty() {
            return Err(BadName::Empty);
        }
        if text.len() > NAME_BYTES_MAX {
            return Err(BadName::TooLong { bytes: text.len() });
        }
        if text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
            return Ok(());
        }
        match text.char_indices().find(|(_, c)| c.is_control()) {
            Some((at, _)) => Err(BadName::ControlCharacter { at }),
            None => Ok(()),
        }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::borrow::Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl<C> Encode<C> for Name {
    fn encode<W: encode::Write>(&self, e: &mut Encoder<W>, _: &mut C) -> Result<(), encode::Error<W::Error>> {
        e.str(&self.0)?.ok()
    }
}

impl<'b, C> Decode<'b, C> for Name {
    fn decode(d: &mut Decoder<'b>, _: &mut C) -> Result<Self, decode::Error> {
        Name::new(d.str()?).map_err(|_| decode::Error::message("not a valid name"))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn names_outside_the_rules_are_refused() {
        let refused = [
            (String::new(), BadName::Empty),
            ("a".repeat(256), BadName::TooLong { bytes: 256 }),
            ("é".repeat(128), BadName::TooLong { bytes: 256 }),
            ("a\nb".into(), BadName::ControlCharacter { at: 1 }),
            ("\0".into(), BadName::ControlCharacter { at: 0 }),
            ("é\u{7f}".into(), BadName::ControlCharacter { at: 2 }),
            // An eight-bit escape, which some terminals obey.
            ("a\u{9b}b".into(), BadName::ControlCharacter { at: 1 }),
        ];
        for (text, why) in refused {
            assert_eq!(Name::new(&text), Err(why), "{text:?}");
        }
    }

    #[test]
    fn names_within_the_rules_are_kept_as_they_are() {
        for text in ["a", " ", "basket:42", "größe", "名前", "a\u{200d}b", &"a".repeat(255), &"é".repeat(127)]
        {
            assert_eq!(Name::new(text).unwrap().as_str(), text);
        }
    }

    #[test]
    fn a_name_survives_the_wire() {
        let name = Name::new("größe:42").unwrap();
        let bytes = minicbor::to_vec(&name).unwrap();
        assert_eq!(minicbor::decode::<Name>(&bytes).unwrap(), name);
    }

    #[test]
    fn the_wire_lets_no_bad_name_in() {
        for text in ["", "a\nb", &"a".repeat(256)] {
            let bytes = minicbor::to_vec(text).unwrap();
            assert!(minicbor::decode::<Name>(&bytes).is_err(), "{text:?}");
        }
        // A text of one byte that is not UTF-8; a text that claims four gigabytes; a number.
        for bytes in [&[0x61, 0xff][..], &[0x7a, 0xff, 0xff, 0xff, 0xff, b'a'], &[0x07]] {
            assert!(minicbor::decode::<Name>(bytes).is_err(), "{bytes:x?}");
        }
    }

    #[test]
    fn a_table_of_names_is_searched_by_text() {
        let table = BTreeMap::from([(Name::new("b").unwrap(), 2), (Name::new("a").unwrap(), 1)]);
        assert_eq!((table.get("a"), table.get("c")), (Some(&1), None));
    }

    #[test]
    fn a_name_in_a_log_shows_its_odd_characters() {
        assert_eq!(format!("{:?}", Name::new("a\"\u{200d}").unwrap()), r#""a\"\u{200d}""#);
    }
}
