//! A message with its type erased, on its way through a mailbox.

use std::any::{Any, TypeId};
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;

use whimbrel_core::base::{ErrorCode, Executed, ShortBytes, Token};

use super::{Handler, Message};
use crate::exchange::{Encoded, Failure, Head};
use crate::process::current::current;
use crate::process::{Context, guard};

/// What handles one message: polled by the process's own task.
pub(crate) type Handling<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// A message for a process of a certain type, of which only the two ends know.
pub(crate) trait Work: Send {
    /// Who sends it, who waits for it, and until when.
    fn head(&self) -> &Head;
    /// The same, to be filled in by the sender.
    fn head_mut(&mut self) -> &mut Head;
    /// The message's name within its kind.
    fn name(&self) -> &'static str;
    /// The kind the sender takes the process to be.
    fn kind(&self) -> &'static str;
    /// The type of process that it is for.
    fn process_type(&self) -> TypeId;
    /// Its own type.
    fn message_type(&self) -> TypeId;
    /// Whether it can leave the node.
    fn travels(&self) -> bool;
    /// The message as bytes: user code.
    fn encode(&self) -> Result<ShortBytes, String>;
    /// The message itself: an `Option<M>` is filled if it is an `M`.
    fn give(self: Box<Self>, to: &mut dyn Any);
    /// Starts handling it. `cx` is the `Context` of `process`; none when `process` is of another type.
    fn start<'a>(
        self: Box<Self>,
        process: &'a mut (dyn Any + Send),
        cx: &'a mut (dyn Any + Send),
    ) -> Option<Handling<'a>>;
}

impl dyn Work {
    /// The message, if it is this one for this type of process.
    pub(crate) fn take<P: Handler<M>, M: Message>(self: Box<Self>) -> Result<M, Box<Self>> {
        if self.process_type() != TypeId::of::<P>() || self.message_type() != TypeId::of::<M>() {
            return Err(self);
        }
        let mut place = None;
        self.give(&mut place);
        Ok(place.expect("its type was compared"))
    }
}

/// A message and the type of the process it is for.
pub(crate) struct Typed<P, M> {
    head: Head,
    message: M,
    process: PhantomData<fn(P)>,
}

impl<P: Handler<M>, M: Message> Typed<P, M> {
    /// Sent by whoever runs now.
    pub(crate) fn boxed(message: M) -> Box<dyn Work> {
        Self::with_head(Head::cast(current().token), message)
    }

    /// Of a call, which is sent when it is first polled.
    pub(crate) fn unsent(message: M) -> Box<dyn Work> {
        Self::with_head(Head::cast(Token::NONE), message)
    }

    fn with_head(head: Head, message: M) -> Box<dyn Work> {
        Box::new(Self { head, message, process: PhantomData })
    }

    /// Decodes a message of another node, which is user code, and starts handling it; none when it can not be decoded.
    pub(crate) fn open<'a>(
        encoded: Arc<Encoded>,
        process: &'a mut P,
        cx: &'a mut Context<P>,
    ) -> Option<Handling<'a>> {
        let detail = match guard::run(|| M::WIRE.decode(encoded.payload.as_slice())) {
            Ok(Ok(message)) => {
                cx.in_hand = M::NAME;
                return Some(Self::handling(message, process, cx));
            }
            Ok(Err(detail)) => detail,
            Err(panic) => cx.outward(panic).to_string(),
        };
        cx.refuse(encoded, Failure::new(ErrorCode::Codec, Executed::No).detailed(&detail));
        None
    }

    /// The message that these bytes hold: user code.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Box<dyn Work>, String> {
        M::WIRE.decode(bytes).map(Self::boxed)
    }

    fn handling<'a>(message: M, process: &'a mut P, cx: &'a mut Context<P>) -> Handling<'a> {
        Box::pin(async move {
            let reply = P::handle(process, message, cx).await;
            cx.answer::<M>(reply);
        })
    }
}

impl<P: Handler<M>, M: Message> Work for Typed<P, M> {
    fn head(&self) -> &Head {
        &self.head
    }

    fn head_mut(&mut self) -> &mut Head {
        &mut self.head
    }

    fn name(&self) -> &'static str {
        M::NAME
    }

    fn kind(&self) -> &'static str {
        P::KIND
    }

    fn process_type(&self) -> TypeId {
        TypeId::of::<P>()
    }

    fn message_type(&self) -> TypeId {
        TypeId::of::<M>()
    }

    fn travels(&self) -> bool {
        M::WIRE.travels()
    }

    fn encode(&self) -> Result<ShortBytes, String> {
        M::WIRE.encode(&self.message)
    }

    fn give(self: Box<Self>, to: &mut dyn Any) {
        if let Some(place) = to.downcast_mut::<Option<M>>() {
            *place = Some(self.message);
        }
    }

    fn start<'a>(
        self: Box<Self>,
        process: &'a mut (dyn Any + Send),
        cx: &'a mut (dyn Any + Send),
    ) -> Option<Handling<'a>> {
        let process = process.downcast_mut::<P>()?;
        let cx = cx.downcast_mut::<Context<P>>()?;
        Some(Self::handling(self.message, process, cx))
    }
}
