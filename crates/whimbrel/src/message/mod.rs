//! Messages: what a process can be asked, and how the asking is written down.
//!
//! A message is a type. It names its reply and, if it can leave the node, how it is encoded ([`Wire`]). A process
//! handles it by implementing [`Handler`], and lists it in [`Speaks`], so that a node knows what to decode when the
//! message arrives from elsewhere. There is no registry that fills itself: what is not listed is not decoded.
//!
//! `#[handlers]` writes all of this; nothing of it needs the macro.
//!
//! Within one node a message is moved, never encoded. Encoding and decoding run in the task of the sender and of
//! the receiving process, since they are user code and may be slow or panic.

pub(crate) mod call;
pub(crate) mod escort;
pub(crate) mod reply;
mod wire;
pub(crate) mod work;

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;

pub use call::{Call, call, cast};
pub use reply::Reply;
pub use wire::Wire;

pub(crate) use work::{Handling, Typed, Work};

use crate::exchange::Encoded;
use crate::process::tiding::Tiding;
use crate::process::{Context, Process};

/// Something that a process can be asked.
pub trait Message: Send + Sized + 'static {
    /// What the handler answers; `()` for one that is only cast.
    type Reply: Send + 'static;
    /// Its name within the kind; (KIND, NAME) is the key on the wire. Stable over versions of the program.
    const NAME: &'static str;
    /// How it travels to another node; not at all unless this says so.
    const WIRE: Wire<Self> = Wire::LOCAL;
}

/// A process that handles a message.
pub trait Handler<M: Message>: Process {
    /// Handles one message; the next one waits until this has returned.
    ///
    /// What it returns is the reply of a call; of a cast it is dropped.
    fn handle(&mut self, message: M, cx: &mut Context<Self>) -> impl Future<Output = M::Reply> + Send;
}

/// The explicit list of the messages that a kind speaks.
pub trait Speaks: Process {
    /// Adds each message.
    fn messages(list: &mut MessageList<Self>);
}

/// Decodes one message of `P` and starts handling it; none when it can not be decoded, which is said to who waits.
pub(crate) type Open<P> = for<'a> fn(Arc<Encoded>, &'a mut P, &'a mut Context<P>) -> Option<Handling<'a>>;

/// Decodes one message of `P`, to be handled later.
pub(crate) type Decode = fn(&[u8]) -> Result<Box<dyn Work>, String>;

/// What makes a message of bytes.
struct Forms<P: Process> {
    open: Open<P>,
    decode: Decode,
}

/// The messages of a kind, by name.
pub struct MessageList<P: Process> {
    forms: BTreeMap<&'static str, Option<Forms<P>>>,
    duplicate: Option<&'static str>,
    process: std::marker::PhantomData<fn(P)>,
}

impl<P: Process> MessageList<P> {
    /// The list that the kind gives.
    pub(crate) fn of() -> Self
    where
        P: Speaks,
    {
        let mut list = Self { forms: BTreeMap::new(), duplicate: None, process: std::marker::PhantomData };
        P::messages(&mut list);
        list.add::<Tiding>();
        list
    }

    /// Adds a message. A second one of the same name makes the registration of the kind fail.
    pub fn add<M: Message>(&mut self)
    where
        P: Handler<M>,
    {
        let (open, decode): (Open<P>, Decode) = (Typed::<P, M>::open, Typed::<P, M>::decode);
        let forms = M::WIRE.travels().then_some(Forms { open, decode });
        if self.forms.insert(M::NAME, forms).is_some() {
            self.duplicate = Some(M::NAME);
        }
    }

    /// The name that was added twice.
    pub(crate) fn duplicate(&self) -> Option<&'static str> {
        self.duplicate
    }

    /// What opens a message that travels.
    pub(crate) fn opener(&self, name: &str) -> Option<Open<P>> {
        self.forms.get(name)?.as_ref().map(|forms| forms.open)
    }

    /// What decodes a message that travels.
    pub(crate) fn decoder(&self, name: &str) -> Option<Decode> {
        self.forms.get(name)?.as_ref().map(|forms| forms.decode)
    }
}

impl<P: Process> std::fmt::Debug for MessageList<P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.forms.keys()).finish()
    }
}
