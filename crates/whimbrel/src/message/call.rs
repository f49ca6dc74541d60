//! Sending: calls, which have an outcome, and casts, which have none.

use std::any::Any;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Poll, Waker};
use std::time::Duration;

use whimbrel_core::base::{Executed, ShortBytes};
use whimbrel_core::delivery::{CallId, Errand};

use super::{Handler, Message, Typed, Work};
use crate::error::{CallError, CastError};
use crate::exchange::{Entry, lock};
use crate::process::ProcessRef;

/// How long a call waits unless [`Call::deadline`] says otherwise.
pub(crate) const DEADLINE: Duration = Duration::from_secs(5);

/// Asks a process. The message is sent when the call is first polled, and waits in the order of those polls.
pub fn call<P: Handler<M>, M: Message>(to: &ProcessRef<P>, message: M) -> Call<M> {
    let entry = ProcessRef::entry(to).clone();
    let state = State::New(entry, Typed::<P, M>::unsent(message));
    Call { state, deadline: DEADLINE, errand: Errand::Deliver, message: PhantomData }
}

/// Tells a process. The message is sent when this returns Ok; it never waits.
///
/// # Errors
/// The message was not accepted, and is not executed. A message that was accepted and can not be delivered later
/// is a dead letter.
pub fn cast<P: Handler<M>, M: Message>(to: &ProcessRef<P>, message: M) -> Result<(), CastError> {
    ProcessRef::entry(to).cast(Typed::<P, M>::boxed(message))
}

/// A call on its way: a future that ends in the reply, or in an error that says whether the message was executed.
///
/// It ends by its deadline, 5 s by default. A call made by a handler has at most what is left of the call that the
/// handler works on.
///
/// # Cancel safety
/// Dropped before its first poll, nothing was sent. Dropped later, the message is not recalled.
#[must_use = "a call is sent when it is awaited"]
pub struct Call<M: Message> {
    state: State<M::Reply>,
    deadline: Duration,
    errand: Errand,
    message: PhantomData<fn() -> M>,
}

enum State<R> {
    New(Arc<Entry>, Box<dyn Work>),
    Waiting { entry: Arc<Entry>, id: CallId, slot: Arc<Slot<R>> },
    Over,
}

impl<M: Message> Call<M> {
    /// How long to wait for the reply.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Ends the call with [`CallError::Moving`], not executed, when it finds the process on its way to another node;
    /// otherwise it waits until the process runs there.
    ///
    /// A call that the process has taken into its mailbox before it left goes along, and is answered there.
    pub fn fail_fast_while_moving(mut self) -> Self {
        self.errand = Errand::FailFast;
        self
    }
}

impl<M: Message> std::fmt::Debug for Call<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Call").field("message", &M::NAME).finish_non_exhaustive()
    }
}

impl<M: Message> Future for Call<M> {
    type Output = Result<M::Reply, CallError>;

    fn poll(mut self: Pin<&mut Self>, task: &mut std::task::Context<'_>) -> Poll<Self::Output> {
        if let State::New(..) = self.state {
            let State::New(entry, work) = std::mem::replace(&mut self.state, State::Over) else {
                return Poll::Pending;
            };
            let slot = Arc::new(Slot::waiting(task.waker().clone()));
            match entry.call(work, slot.clone(), self.deadline, self.errand) {
                Ok(id) => self.state = State::Waiting { entry, id, slot },
                Err(error) => return Poll::Ready(Err(error)),
            }
            // The slot has this waker already; an outcome that came meanwhile has woken it.
            return Poll::Pending;
        }
        let State::Waiting { slot, .. } = &self.state else {
            return Poll::Pending;
        };
        let outcome = if Arc::strong_count(slot) == 1 {
            // The table has let go of it: it has the outcome, and nobody else can lock it.
            let State::Waiting { slot, .. } = std::mem::replace(&mut self.state, State::Over) else {
                return Poll::Pending;
            };
            Arc::into_inner(slot).and_then(Slot::into_outcome)
        } else {
            let Some(outcome) = slot.take(task.waker()) else {
                return Poll::Pending;
            };
            self.state = State::Over;
            Some(outcome)
        };
        Poll::Ready(match outcome {
            // Nobody is left who could tell.
            None => Err(CallError::NodeLost { executed: Executed::Unknown }),
            Some(outcome) => outcome.into_result::<M>(),
        })
    }
}

impl<R> Outcome<R> {
    fn into_result<M: Message<Reply = R>>(self) -> Result<R, CallError> {
        match self {
            Outcome::Reply(reply) => Ok(reply),
            Outcome::Encoded(bytes) => M::WIRE
                .decode_reply(bytes.as_slice())
                .map_err(|detail| CallError::Codec { detail, executed: Executed::Unknown }),
            Outcome::Failed(error) => Err(error),
        }
    }
}

impl<M: Message> Drop for Call<M> {
    fn drop(&mut self) {
        if let State::Waiting { entry, id, .. } = &self.state {
            entry.forget_call(*id);
        }
    }
}

/// Where the outcome of a call is put, whatever the type of its reply.
pub(crate) trait Waiter: Send + Sync {
    /// The reply of a process on this node: an `Option<Reply>`, which is emptied.
    fn reply(&self, reply: &mut dyn Any);
    /// The reply of a process elsewhere; the caller's own task decodes it.
    fn encoded(&self, bytes: ShortBytes);
    /// There is no reply.
    fn fail(&self, error: CallError);
}

enum Outcome<R> {
    Reply(R),
    /// Boxed, since most replies come from the same node, and every caller's slot has room for the largest.
    Encoded(Box<ShortBytes>),
    Failed(CallError),
}

enum SlotState<R> {
    Waiting(Waker),
    Done(Outcome<R>),
    Taken,
}

/// Where one caller waits. Contended by the caller's task and whoever has the outcome; held for a move.
pub(crate) struct Slot<R>(Mutex<SlotState<R>>);

impl<R> Slot<R> {
    fn waiting(waker: Waker) -> Self {
        Self(Mutex::new(SlotState::Waiting(waker)))
    }

    fn take(&self, waker: &Waker) -> Option<Outcome<R>> {
        let mut state = lock(&self.0);
        match &mut *state {
            SlotState::Waiting(known) => {
                known.clone_from(waker);
                None
            }
            SlotState::Done(_) => match std::mem::replace(&mut *state, SlotState::Taken) {
                SlotState::Done(outcome) => Some(outcome),
                SlotState::Waiting(_) | SlotState::Taken => None,
            },
            SlotState::Taken => None,
        }
    }

    /// The outcome that was not taken, if there is one.
    fn into_outcome(self) -> Option<Outcome<R>> {
        match self.0.into_inner().unwrap_or_else(PoisonError::into_inner) {
            SlotState::Done(outcome) => Some(outcome),
            SlotState::Waiting(_) | SlotState::Taken => None,
        }
    }

    fn done(&self, outcome: Outcome<R>) {
        let before = std::mem::replace(&mut *lock(&self.0), SlotState::Done(outcome));
        if let SlotState::Waiting(waker) = before {
            waker.wake();
        }
    }
}

impl<R: Send + 'static> Waiter for Slot<R> {
    fn reply(&self, reply: &mut dyn Any) {
        match reply.downcast_mut::<Option<R>>().and_then(Option::take) {
            Some(reply) => self.done(Outcome::Reply(reply)),
            None => self.fail(CallError::Codec {
                detail: "the reply has another type".into(),
                executed: Executed::Unknown,
            }),
        }
    }

    fn encoded(&self, bytes: ShortBytes) {
        self.done(Outcome::Encoded(Box::new(bytes)));
    }

    fn fail(&self, error: CallError) {
        self.done(Outcome::Failed(error));
    }
}
