//! The path of a message: from a sender to the mailbox of a name, wherever it runs.
//!
//! Nothing here knows sockets, tasks or clocks. The real shell runs one [`Port`] per name under a short lock, one
//! [`Link`] per peer and one [`Calls`] per shard; the simulator runs the same types. `docs/protocol.md` section 6
//! is the law that they follow.
//!
//! ```text
//!   sending node                                              hosting node
//!   ┌──────────── Port ────────────┐                          ┌──────────── Port ─────────────┐
//!   │ Route: waiting, unconfirmed  │ ─ Packet ─ Link ───────> │ Inbox: Gate, held, mailbox    │ ─> process
//!   │                              │ <─────────── Link ─ Signal                               │
//!   └──────────────────────────────┘                          └───────────────────────────────┘
//! ```
//!
//! **What is decided.** A route numbers each message when it is first sent, and keeps a copy until the gate has
//! confirmed or refused that number. The gate admits every number of an epoch once and in order. So a message may
//! be sent as often as anybody likes: after a broken session, after a move, after `Missing`. It is handled once.
//!
//! ```text
//!   Route                                                     Inbox
//!                 located                                                suspend
//!     Resolving ───────────> Bound{host}                        Open <───────────────> Suspended
//!        ^  ^ not here, host lost,  │                            │ │      resume            │
//!        │  └──── never left ───────┘                            │ └───────── seal ─────────┤
//!        │                                                       │ close                    v
//!        └── uninstalled ── AtHome <── inbox installed           v                       Sealed
//!                            (waits for room in the mailbox)   Closed{code}
//! ```
//!
//! **What a sender may say.** *No* is said of a message only by its one holder, after removing it, or when it is
//! proven that no copy can be admitted any more. The proof is by counting: a route knows how many copies of a number
//! it handed to links, and how many of those were reported as never written, or answered `NotHere`. If none is left
//! out, no gate admits that number in this epoch; and since a gate admits in order, none admits a later number
//! either. So when a route changes to another gate, everything from the first such number on goes on in the new
//! epoch (or ends with No), and what stands before it ends Unknown.
//!
//! A call that fails fast while its process is on its way ends by the same proof. Its number stays behind, with a void
//! message under it, since those behind it are admitted in order.
//!
//! **What it assumes.** A link delivers frames of one session in order and once. When a session ends, though both
//! nodes live, frames of it may be lost in both directions: [`Port::on_host_lost`] makes the route ask where the
//! name is and send everything again. What a signal says stays true, so signals may arrive in any order; none is
//! dropped while its session lasts. A node hears nothing from an incarnation after a view that excludes it was given
//! to [`Port::on_view`]: the table of the gate is forgotten then, and could not tell a duplicate any more. Nor does it
//! hear anything from an earlier incarnation of a node once it has a session with a later one.
//!
//! **A crash of a host** loses its gate. **A split** is the loss of a host, until a view says otherwise.
//! **A skipped view** is harmless: a gate forgets only incarnations that a view contained and a later one did not.

pub mod calls;
pub mod gate;
pub mod held;
pub mod inbox;
mod leavers;
pub mod link;
pub mod mailbox;
pub mod packet;
pub mod port;
pub mod route;
mod unconfirmed;
mod waiting;

pub use calls::{CallId, Calls, CallsFull};
pub use gate::{Gate, GateState, GateTable, GateVerdict};
pub use inbox::{Admission, Inbox, InboxCounts, InboxImage, InboxRefused};
pub use leavers::Leavers;
pub use link::{CannotResume, Lane, Link, LinkFull, LinkLimits, Receipt};
pub use mailbox::MailboxLimits;
pub use packet::{
    Ended, Epochs, Errand, Expires, Here, Packet, Parcel, PortOutput, Room, Sent, Signal, Whereabouts,
};
pub use port::Port;
pub use route::Route;

#[cfg(test)]
mod tests;
