//! Addresses on the wire, for `#[cbor(with = "crate::base::text")]`.
//!
//! Peers give addresses to be dialled, kept and written to logs: they are short and hold nothing that a terminal obeys.

use std::sync::Arc;

use minicbor::decode::{Decoder, Error as DecodeError};
use minicbor::encode::{Encoder, Error as EncodeError, Write};

use super::limits::ADDRESS_BYTES_MAX;

/// Whether a text can be an address at all: at most 320 bytes, without control characters.
pub fn is_address(text: &str) -> bool {
    text.len() <= ADDRESS_BYTES_MAX && !text.chars().any(char::is_control)
}

/// Encodes as a string.
///
/// # Errors
/// The writer's.
pub fn encode<C, W: Write>(
    text: &Arc<str>,
    e: &mut Encoder<W>,
    _: &mut C,
) -> Result<(), EncodeError<W::Error>> {
    e.str(text)?.ok()
}

/// Decodes a string.
///
/// # Errors
/// Bytes that are no string, or one that is no address.
pub fn decode<'b, C>(d: &mut Decoder<'b>, _: &mut C) -> Result<Arc<str>, DecodeError> {
    let text = d.str()?;
    if is_address(text) { Ok(Arc::from(text)) } else { Err(DecodeError::message("not an address")) }
}
