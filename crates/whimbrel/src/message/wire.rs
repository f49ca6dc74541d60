//! How a message travels.

use serde::Serialize;
use serde::de::DeserializeOwned;
use whimbrel_core::base::ShortBytes;

use super::Message;
use crate::codec;

/// How a message and its reply are encoded for another node, or that they are not.
pub struct Wire<M: Message> {
    functions: Option<Functions<M>>,
}

struct Functions<M: Message> {
    encode: fn(&M) -> Result<ShortBytes, String>,
    decode: fn(&[u8]) -> Result<M, String>,
    encode_reply: fn(&M::Reply) -> Result<ShortBytes, String>,
    decode_reply: fn(&[u8]) -> Result<M::Reply, String>,
}

impl<M: Message> Clone for Functions<M> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<M: Message> Copy for Functions<M> {}

impl<M: Message> Clone for Wire<M> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<M: Message> Copy for Wire<M> {}

impl<M: Message> std::fmt::Debug for Wire<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.travels() { "Wire::NAMED" } else { "Wire::LOCAL" })
    }
}

impl<M: Message> Wire<M> {
    /// The message stays on its node; sent to another one it ends with `Codec`, not executed.
    pub const LOCAL: Self = Self { functions: None };

    /// Whether it can leave the node.
    pub const fn travels(&self) -> bool {
        self.functions.is_some()
    }

    /// Of a message of Whimbrel's own, which is not serde.
    pub(crate) const fn of(
        encode: fn(&M) -> Result<ShortBytes, String>,
        decode: fn(&[u8]) -> Result<M, String>,
    ) -> Self
    where
        M: Message<Reply = ()>,
    {
        let (encode_reply, decode_reply) = (codec::encode_short::<()>, codec::decode::<()>);
        Self { functions: Some(Functions { encode, decode, encode_reply, decode_reply }) }
    }

    pub(crate) fn encode(&self, message: &M) -> Result<ShortBytes, String> {
        (self.functions()?.encode)(message)
    }

    pub(crate) fn decode(&self, bytes: &[u8]) -> Result<M, String> {
        (self.functions()?.decode)(bytes)
    }

    pub(crate) fn encode_reply(&self, reply: &M::Reply) -> Result<ShortBytes, String> {
        (self.functions()?.encode_reply)(reply)
    }

    pub(crate) fn decode_reply(&self, bytes: &[u8]) -> Result<M::Reply, String> {
        (self.functions()?.decode_reply)(bytes)
    }

    fn functions(&self) -> Result<Functions<M>, String> {
        self.functions.ok_or_else(|| format!("message {:?} does not leave its node", M::NAME))
    }
}

impl<M> Wire<M>
where
    M: Message + Serialize + DeserializeOwned,
    M::Reply: Serialize + DeserializeOwned,
{
    /// MessagePack with field names: fields may be added and removed between versions, as serde allows.
    pub const NAMED: Self = Self {
        functions: Some(Functions {
            encode: codec::encode_short::<M>,
            decode: codec::decode::<M>,
            encode_reply: codec::encode_short::<M::Reply>,
            decode_reply: codec::decode::<M::Reply>,
        }),
    };
}
