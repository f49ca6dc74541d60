//! What Whimbrel itself tells a process: that another one has ended or moved, that it is linked. Each is a message of its
//! mailbox, so that it keeps its order with the others, moves with them, and is handled by the process's own task.
//!
//! They are for processes of any kind, and are therefore sent as for [`Anyone`].

use std::any::TypeId;

use minicbor::{Decode, Decoder, Encode};
use whimbrel_core::base::{Bytes, ExitReason, Incarnation, Name, ShortBytes, Token};
use whimbrel_core::directory::Down;

use super::{Context, Process, State};
use crate::exchange::Envelope;
use crate::message::{Handler, Message, Typed, Wire, Work};

/// The kind that every process is of.
pub(crate) enum Anyone {}

impl Process for Anyone {
    const KIND: &'static str = "whimbrel";
    type Args = ();

    async fn init((): (), _cx: &mut Context<Self>) -> Result<Self, ExitReason> {
        Err(ExitReason::NoProcess)
    }
}

/// Something that Whimbrel tells.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) enum Tiding {
    /// A monitor of the process has something to say: of its end, or of a move.
    #[n(0)]
    Down {
        #[n(0)]
        id: u64,
        #[n(1)]
        name: Name,
        #[n(2)]
        token: Token,
        #[n(3)]
        reason: ExitReason,
        #[n(4)]
        snapshot: Option<Bytes>,
        #[n(5)]
        to: Option<Incarnation>,
    },
    /// A process has linked itself to this one.
    #[n(1)]
    Link {
        #[n(0)]
        from: Name,
        /// Its life.
        #[n(1)]
        life: Token,
    },
    /// It has undone that.
    #[n(2)]
    Unlink {
        #[n(0)]
        from: Name,
    },
    /// Another instance of the process, which has ended, had this state.
    #[n(3)]
    Met {
        /// The version of the state.
        #[n(0)]
        version: u32,
        #[n(1)]
        codec: u8,
        #[n(2)]
        state: Bytes,
    },
}

impl Tiding {
    pub(crate) fn down(id: u64, down: Down) -> Self {
        let Down { name, token, reason, snapshot, to } = down;
        Self::Down { id, name, token, reason, snapshot, to }
    }

    /// Whether it tells of a move, which is no end.
    pub(crate) fn is_move(&self) -> bool {
        matches!(self, Self::Down { reason: ExitReason::Moved, .. })
    }

    /// Bytes of what it holds of others.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Down { snapshot, .. } => snapshot.as_ref().map_or(0, Bytes::len),
            Self::Met { state, .. } => state.len(),
            Self::Link { .. } | Self::Unlink { .. } => 0,
        }
    }

    /// As a message for whoever has the name.
    pub(crate) fn boxed(self) -> Box<dyn Work> {
        Typed::<Anyone, Self>::boxed(self)
    }

    fn encode_short(&self) -> Result<ShortBytes, String> {
        let mut bytes = ShortBytes::new();
        minicbor::encode(self, &mut bytes).map_err(|error| error.to_string())?;
        Ok(bytes)
    }

    fn decode_all(bytes: &[u8]) -> Result<Self, String> {
        let mut decoder = Decoder::new(bytes);
        let tiding = decoder.decode().map_err(|error| error.to_string())?;
        match bytes.len() - decoder.position() {
            0 => Ok(tiding),
            more => Err(format!("{more} bytes too many")),
        }
    }
}

impl Message for Tiding {
    type Reply = ();
    const NAME: &'static str = "whimbrel.tiding";
    const WIRE: Wire<Self> = Wire::of(Self::encode_short, Self::decode_all);
}

impl<P: Process> Handler<Tiding> for P {
    async fn handle(&mut self, tiding: Tiding, cx: &mut Context<Self>) {
        match tiding {
            Tiding::Down { id, name, token, reason, snapshot, to } => {
                let down = Down { name, token, reason, snapshot, to };
                if let Some(down) = cx.hear(id, down) {
                    self.down(down, super::MonitorId(id), cx).await;
                }
            }
            Tiding::Link { from, life } => cx.linked_by(from, life),
            Tiding::Unlink { from } => cx.forget_link(&from),
            Tiding::Met { version, codec, state } if P::RESOLVES_CONFLICTS => {
                self.resolve_conflict(State::arrived(version, codec, state.as_slice(), None), cx).await;
            }
            Tiding::Met { .. } => {}
        }
    }
}

/// Whether these are the names of a tiding's kind and message.
pub(crate) fn is_named_so(kind: &str, message: &str) -> bool {
    kind == Anyone::KIND && message == Tiding::NAME
}

pub(super) fn is_for_anyone(work: &dyn Work) -> bool {
    work.process_type() == TypeId::of::<Anyone>()
}

pub(crate) fn is_tiding(envelope: &Envelope) -> bool {
    match envelope {
        Envelope::Work(work) => is_for_anyone(&**work),
        Envelope::Encoded(encoded) => is_named_so(encoded.kind.as_str(), encoded.message.as_str()),
    }
}

/// A message for anyone as one for processes of this type; others stay as they are.
pub(super) fn for_kind<P: Process>(work: Box<dyn Work>) -> Box<dyn Work> {
    match work.take::<Anyone, Tiding>() {
        Ok(tiding) => Typed::<P, Tiding>::boxed(tiding),
        Err(work) => work,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn tidings_survive_the_wire_and_damaged_ones_are_refused() {
        let name = Name::new("a").unwrap();
        let (token, reason) = (Token::from_u64(7), ExitReason::Panic("why".into()));
        let down =
            Down { name: name.clone(), token, reason, snapshot: Some(Bytes::from(&b"s"[..])), to: None };
        let link = Tiding::Link { from: name.clone(), life: token };
        let met = Tiding::Met { version: 3, codec: 1, state: Bytes::from(&b"state"[..]) };
        for tiding in [Tiding::down(9, down), link, Tiding::Unlink { from: name }, met] {
            let bytes = tiding.encode_short().unwrap();
            assert_eq!(Tiding::decode_all(bytes.as_slice()).unwrap(), tiding);
            for cut in 0..bytes.len() {
                assert!(Tiding::decode_all(&bytes.as_slice()[..cut]).is_err());
            }
            assert!(Tiding::decode_all(&[bytes.as_slice(), &[0]].concat()).is_err());
        }
    }
}
