//! Processes: values that live under a name, handle one message at a time, and are restarted when they fail.
//!
//! Each instance is one task. It runs `init`, then takes messages from its mailbox until it is told to stop, stops
//! itself or panics. All user code of an instance runs in that task and in the tasks it owns, so a slow or stuck
//! handler delays its own name and nothing else.
//!
//! ```text
//!            launch                 init Ok                 stop, told or by itself
//!   (none) ─────────> initialising ─────────> serving ────────────────────────────> terminate ──> ended
//!                          │                     │ panic                                            ^
//!                          └── Err or panic ─────┴──────────────────────────────────────────────────┘
//! ```
//!
//! When an instance has ended, its trees are stopped, its owned tasks are aborted and awaited, and only then the end is
//! reported. What follows is decided by the owner of the name: another life in the same place keeps the unread mailbox,
//! which therefore stays at the entry of the name and not in the task.
//!
//! Panics are caught around `init`, handlers, hooks and drop. What no runtime can catch: panic=abort (refused at
//! `join`), an overflow of the stack, a panic while another one unwinds, a handler that never returns to its await.

mod conflict;
mod context;
pub(crate) mod current;
mod groups;
pub(crate) mod guard;
mod arrival;
mod handoff;
mod image;
mod instance;
mod kind;
pub(crate) mod tiding;
mod quiet;
mod run;
mod timers;
mod unhandled;
mod watches;
mod watching;

use std::future::Future;
use std::marker::PhantomData;
use std::sync::Arc;

use whimbrel_core::base::{ExitReason, Name};
use whimbrel_core::directory::Down;

pub use context::Context;
pub use handoff::{Handoff, State};
pub use kind::KindOptions;
pub use timers::TimerId;
pub use unhandled::Unhandled;
pub use watches::MonitorId;
pub use watching::Monitoring;

pub(crate) use instance::{Instance, Move, Stage};
pub(crate) use kind::{
    Arriving, HostedKind, Hosting, KindTable, Launching, local, moving, restarting, supervised, unnamed,
};
pub(crate) use run::TERMINATE_MAX;

use crate::exchange::Entry;

/// A stateful process.
///
/// ```
/// use whimbrel::{Context, ExitReason, Process, handlers};
///
/// #[derive(serde::Serialize, serde::Deserialize)]
/// struct Counter {
///     value: u64,
/// }
///
/// impl Process for Counter {
///     const KIND: &'static str = "counter";
///     type Args = u64;
///     async fn init(start: u64, _cx: &mut Context<Self>) -> Result<Self, ExitReason> {
///         Ok(Counter { value: start })
///     }
/// }
///
/// #[handlers]
/// impl Counter {
///     #[call]
///     async fn add(&mut self, n: u64) -> u64 {
///         self.value += n;
///         self.value
///     }
/// }
/// # fn main() {}
/// ```
pub trait Process: Send + Sized + 'static {
    /// The stable name of this type of process; part of the wire key of its messages.
    const KIND: &'static str;
    /// Version of the state, for processes that move or are stored.
    const STATE_VERSION: u32 = 0;
    /// Whether [`Process::down`] is told of the end of a linked process, instead of this one being stopped by it; see
    /// [`Context::link`].
    const TRAPS_EXITS: bool = false;
    /// Whether an instance that ends because it met another one of its name gives its state to that one; see
    /// [`Process::resolve_conflict`].
    const RESOLVES_CONFLICTS: bool = false;
    /// What `init` is given, at the first start and at every restart. Kept in the record: at most 64 KiB when
    /// encoded, visible to operators.
    type Args: Send + 'static;

    /// Makes the state. The start is answered when this has returned.
    ///
    /// An error at the first start leaves nothing behind; at a restart it follows the restart policy.
    fn init(
        args: Self::Args,
        cx: &mut Context<Self>,
    ) -> impl Future<Output = Result<Self, ExitReason>> + Send;

    /// How it goes to another node; asked when it is at rest there: no message is in hand, its tasks have ended, and
    /// nothing new comes in. It may still stay.
    ///
    /// What it changes here stays changed if nothing comes of the move. A panic is a crash, as in a handler.
    fn handoff(&mut self, _cx: &mut Context<Self>) -> impl Future<Output = Handoff> + Send {
        async { Handoff::Auto }
    }

    /// Makes the process from the state that [`Process::handoff`] gave on another node. Write it to read the states of
    /// earlier versions of your program.
    ///
    /// An error or a panic refuses the move: the process runs on where it was. It is not told that it runs here before
    /// it does: another node may still be told to go on.
    fn resume(
        state: State,
        _cx: &mut Context<Self>,
    ) -> impl Future<Output = Result<Self, ExitReason>> + Send {
        async move { state.into_process() }
    }

    /// A message that waits when the process stops for good: it was told to, or stopped itself and is not started again.
    /// Called for each, in order, before [`Process::terminate`]; not after a panic, before a restart, or on a move. All of
    /// it together has 5 s.
    ///
    /// What it does not take ends at once: a call with `Stopped`, not executed, a cast as a dead letter.
    ///
    /// ```ignore
    /// async fn unhandled(&mut self, message: Unhandled<Self>, _cx: &mut Context<Self>) {
    ///     if let Ok((CounterAdd { n }, reply)) = message.take() {
    ///         reply.send(self.value + n);
    ///     }
    /// }
    /// ```
    fn unhandled(
        &mut self,
        _message: Unhandled<Self>,
        _cx: &mut Context<Self>,
    ) -> impl Future<Output = ()> + Send {
        async {}
    }

    /// The last thing that an instance does, when it was told to stop, stopped itself, or runs on another node; not
    /// after a panic. It has 5 s.
    ///
    /// With the reason `Moved` it goes on elsewhere, perhaps at this moment: give back what belongs to this node and leave
    /// alone what belongs to the name. What it sends now has no order with what it sends there.
    fn terminate(
        &mut self,
        _reason: &ExitReason,
        _cx: &mut Context<Self>,
    ) -> impl Future<Output = ()> + Send {
        async {}
    }

    /// This instance has met another one of its name and stays; the other one has ended, with the reason `ConflictLost`,
    /// and this is its state. Two are there after a split, each side of which went on with the name. Which one stays is
    /// not this one's choice: the older one.
    ///
    /// Only with [`Process::RESOLVES_CONFLICTS`], and with a kind that moves with its state: the other instance is asked
    /// by [`Process::handoff`], and `other` is read with [`State::read`] or [`State::as_bytes`]. It stands in the mailbox
    /// like a cast, is told at most once, and not at all if the other instance could not be asked: its node died, it did
    /// not return from its handler, its state is larger than a message may be, or holds a `Reply`.
    ///
    /// ```ignore
    /// async fn resolve_conflict(&mut self, other: State, _cx: &mut Context<Self>) {
    ///     if let Ok(other) = other.read::<Basket>() {
    ///         self.items.extend(other.items);
    ///     }
    /// }
    /// ```
    fn resolve_conflict(
        &mut self,
        _other: State,
        _cx: &mut Context<Self>,
    ) -> impl Future<Output = ()> + Send {
        async {}
    }

    /// A process that this one watches has ended, or has moved if that was asked for; see [`Context::monitor`]. With
    /// [`Process::TRAPS_EXITS`] also one that it is linked to.
    ///
    /// It stands in the mailbox like a message, behind those that came before.
    fn down(
        &mut self,
        _down: Down,
        _id: MonitorId,
        _cx: &mut Context<Self>,
    ) -> impl Future<Output = ()> + Send {
        async {}
    }

    /// What monitors are told of the state when it ends by an error or a panic, at most 4,096 bytes; without it the last
    /// that [`Context::publish_snapshot`] has shown. After a panic the state may be half changed. A panic of this is no
    /// second end.
    fn snapshot(&self) -> Option<Vec<u8>> {
        None
    }
}

/// The name of a process, with its type: cheap to clone, valid from every node, also before the process is started
/// and after it has moved or was restarted.
///
/// It has no methods of its own, which could shadow those that `#[handlers]` adds: its accessors are associated
/// functions.
pub struct ProcessRef<P> {
    entry: Arc<Entry>,
    process: PhantomData<fn(P)>,
}

impl<P> ProcessRef<P> {
    pub(crate) fn new(entry: Arc<Entry>) -> Self {
        Self { entry, process: PhantomData }
    }

    /// The name. An unnamed process has one that is known to its node only.
    pub fn name(this: &Self) -> &Name {
        this.entry.name()
    }

    pub(crate) fn entry(this: &Self) -> &Arc<Entry> {
        &this.entry
    }
}

impl<P> Clone for ProcessRef<P> {
    fn clone(&self) -> Self {
        Self::new(self.entry.clone())
    }
}

impl<P> std::fmt::Debug for ProcessRef<P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("ProcessRef").field(self.entry.name()).finish()
    }
}
