//! Shared text on the wire, for `#[cbor(with = "crate::base::text")]`.

use std::sync::Arc;

use minicbor::decode::{Decoder, Error as DecodeError};
use minicbor::encode::{Encoder, Error as EncodeError, Write};

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
/// Bytes that are no string.
pub fn decode<'b, C>(d: &mut Decoder<'b>, _: &mut C) -> Result<Arc<str>, DecodeError> {
    Ok(Arc::from(d.str()?))
}
