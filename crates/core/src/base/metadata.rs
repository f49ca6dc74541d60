//! What users write beside a name: a few texts by key.

use std::collections::BTreeMap;

use minicbor::{Decode, Decoder, Encode, Encoder, decode, encode};
use thiserror::Error;

use super::limits::{METADATA_BYTES_MAX, NAME_BYTES_MAX};

/// A few texts by key, 4,096 bytes in all: metadata of a name, or of a name in a group. Visible to operators: no secrets.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Metadata {
    texts: BTreeMap<String, String>,
    bytes: usize,
}

/// Why a text can not be kept. Nothing was changed; trying the same again fails again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum BadMetadata {
    /// The key has no bytes, or more than 255.
    #[error("a key of metadata has 1 to 255 bytes, this one has {bytes}")]
    Key {
        /// Length of the refused key.
        bytes: usize,
    },
    /// Keys and texts would take too much room.
    #[error("metadata takes at most {limit} bytes, this would take {bytes}")]
    TooLarge {
        /// What it would take.
        bytes: usize,
        /// What it may take.
        limit: usize,
    },
}

/// What a text takes beside its own bytes and those of its key.
const ROW_BYTES: usize = 8;

impl Metadata {
    /// Nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the text of a key, and gives the one that it had.
    ///
    /// # Errors
    /// [`BadMetadata`] says which limit it would break.
    pub fn insert(&mut self, key: &str, text: &str) -> Result<Option<String>, BadMetadata> {
        if key.is_empty() || key.len() > NAME_BYTES_MAX {
            return Err(BadMetadata::Key { bytes: key.len() });
        }
        let before = self.texts.get(key).map_or(0, |text| key.len() + text.len() + ROW_BYTES);
        let bytes = self.bytes - before + key.len() + text.len() + ROW_BYTES;
        if bytes > METADATA_BYTES_MAX {
            return Err(BadMetadata::TooLarge { bytes, limit: METADATA_BYTES_MAX });
        }
        self.bytes = bytes;
        Ok(self.texts.insert(key.to_owned(), text.to_owned()))
    }

    /// As [`Self::insert`], on a value that is made in one expression.
    ///
    /// # Errors
    /// As [`Self::insert`].
    pub fn with(mut self, key: &str, text: &str) -> Result<Self, BadMetadata> {
        self.insert(key, text).map(|_| self)
    }

    /// Takes out the text of a key.
    pub fn remove(&mut self, key: &str) -> Option<String> {
        let text = self.texts.remove(key)?;
        self.bytes -= key.len() + text.len() + ROW_BYTES;
        Some(text)
    }

    /// The text of a key.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.texts.get(key).map(String::as_str)
    }

    /// All keys with their texts, by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.texts.iter().map(|(key, text)| (key.as_str(), text.as_str()))
    }

    /// About how many bytes it takes.
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether it has no text.
    pub fn is_empty(&self) -> bool {
        self.texts.is_empty()
    }
}

impl<C> Encode<C> for Metadata {
    fn encode<W: encode::Write>(&self, e: &mut Encoder<W>, c: &mut C) -> Result<(), encode::Error<W::Error>> {
        self.texts.encode(e, c)
    }
}

impl<'b, C> Decode<'b, C> for Metadata {
    fn decode(d: &mut Decoder<'b>, c: &mut C) -> Result<Self, decode::Error> {
        let mut metadata = Self::new();
        for text in d.map_iter_with::<C, &str, &str>(c)? {
            let (key, text) = text?;
            metadata.insert(key, text).map_err(|_| decode::Error::message("metadata beyond its limit"))?;
        }
        Ok(metadata)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn it_takes_no_more_than_its_limit_however_it_is_filled() {
        let mut metadata = Metadata::new();
        let half = "x".repeat(METADATA_BYTES_MAX / 2);
        metadata.insert("a", &half).unwrap();
        let refused = metadata.insert("b", &half).unwrap_err();
        assert!(matches!(refused, BadMetadata::TooLarge { limit: METADATA_BYTES_MAX, .. }), "{refused}");
        assert_eq!(metadata.insert("a", "short").unwrap(), Some(half.clone()));
        metadata.insert("b", &half).unwrap();
        assert_eq!((metadata.get("a"), metadata.iter().count()), (Some("short"), 2));
        for key in ["", "k".repeat(NAME_BYTES_MAX + 1).as_str()] {
            assert!(matches!(metadata.insert(key, "x"), Err(BadMetadata::Key { .. })));
        }
        metadata.remove("a");
        metadata.remove("b");
        assert_eq!((metadata.bytes(), metadata.remove("b")), (0, None));
    }

    #[test]
    fn what_is_too_large_is_not_read() {
        let metadata = Metadata::new().with("city", "Rome").unwrap().with("floor", "3").unwrap();
        let wire = minicbor::to_vec(&metadata).unwrap();
        assert_eq!(minicbor::decode::<Metadata>(&wire).unwrap(), metadata);
        let large = BTreeMap::from([("a", "x".repeat(METADATA_BYTES_MAX))]);
        let wire = minicbor::to_vec(large).unwrap();
        assert!(minicbor::decode::<Metadata>(&wire).is_err());
    }
}
