//! Shared values on the wire: as if they stood there themselves. For fields with `#[cbor(with = "...::shared")]`.

use std::sync::Arc;

use minicbor::encode::Write;
use minicbor::{Decode, Decoder, Encode, Encoder};

/// Writes the value.
///
/// # Errors
/// Those of the value and the writer.
pub fn encode<C, T: Encode<C>, W: Write>(
    value: &Arc<T>,
    e: &mut Encoder<W>,
    c: &mut C,
) -> Result<(), minicbor::encode::Error<W::Error>> {
    (**value).encode(e, c)
}

/// Reads a value, which nobody else has yet.
///
/// # Errors
/// Those of the value.
pub fn decode<'b, C, T: Decode<'b, C>>(
    d: &mut Decoder<'b>,
    c: &mut C,
) -> Result<Arc<T>, minicbor::decode::Error> {
    T::decode(d, c).map(Arc::new)
}
