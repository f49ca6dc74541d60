//! Whimbrel keeps many *named, stateful processes* running somewhere in a cluster.
//!
//! You write a process once. Whimbrel decides which node runs it, lets every node reach it by name, and restarts it
//! when it or its node dies. One node on a laptop needs no server and no socket:
//!
//! ```
//! use whimbrel::{Cluster, Context, ExitReason, KindOptions, Process, handlers};
//!
//! #[derive(serde::Serialize, serde::Deserialize)]
//! struct Counter {
//!     value: u64,
//! }
//!
//! impl Process for Counter {
//!     const KIND: &'static str = "counter";
//!     type Args = u64;
//!     async fn init(start: u64, _cx: &mut Context<Self>) -> Result<Self, ExitReason> {
//!         Ok(Counter { value: start })
//!     }
//! }
//!
//! #[handlers]
//! impl Counter {
//!     #[call]
//!     async fn add(&mut self, n: u64) -> u64 {
//!         self.value += n;
//!         self.value
//!     }
//! }
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let cluster = Cluster::local().kind::<Counter>(KindOptions::default()).join().await?;
//! let basket = cluster.get_or_start::<Counter>("basket:42", 0).await?;
//! assert_eq!(basket.add(1).await?, 1);
//! # Ok(())
//! # }
//! ```
//!
//! # Reading order
//!
//! `process` (what you write), `message` (how it is asked), `cluster` (how it is started and found); then, inside,
//! `exchange` (the path of a message), `driver` (the task that owns the node's control) and `transport` (sessions
//! with other nodes). What decides is in the crate `whimbrel-core`, which knows no clock and no socket.

mod process;
mod message;
mod cluster;
mod supervise;
mod error;
mod events;
mod discovery;
mod secret;
mod admission;
mod exchange;
mod driver;
mod transport;
mod codec;
mod clock;
mod tasks;

pub use process::{
    Context, Handoff, KindOptions, MonitorId, Monitoring, Process, ProcessRef, State, TimerId, Unhandled,
};

pub use message::{Call, Handler, Message, MessageList, Reply, Speaks, Wire, call, cast};

pub use cluster::{
    Builder, CallAll, Client, Cluster, DrainReport, GetOrStart, GroupRef, LocalBuilder, Monitor,
    MonitorBuilder, NamesPage, Registered, Singleton, Start, Starting, Watch,
};

pub use supervise::{Child, ChildInfo, ChildState, Stopping, Strategy, SuperviseError, Supervisor, Tree};

pub use error::{
    CallError, CastError, GroupError, JoinError, LocateError, MetadataError, MonitorError, MoveError,
    RegisterError, RequestError, SnapshotTooLarge, StartError,
};
pub use events::{DeadLetterStream, Events};
pub use exchange::{DeadLetter, MoveStage, MoveStep};

pub use admission::NodeRule;
pub use discovery::{
    Discovered, Discovery, DiscoveryError, Dns, Here, Multicast, NoDiscovery, PacketFate, SeedsFile, Srv,
    StaticList,
};
pub use secret::{Secret, SecretError};

/// The limits that are part of the protocol, and the defaults of those that can be set.
pub use whimbrel_core::base::limits;
pub use whimbrel_core::base::{
    Address, BadMetadata, BadName, Bytes, ErrorCode, Executed, ExitReason, Group, Hindrance, Incarnation,
    Kind, Metadata, Mutants, Name, NodeName, Token,
};
pub use whimbrel_core::directory::{
    Down, Filter, Inspected, Listed, Located, Membership, MetaRead, Placement, Rebalance, RebalanceReport,
    RecordState, RestartIntensity, RestartPolicy, StreamEnd, StreamEvent,
};
pub use whimbrel_core::groups::GroupMember;
pub use whimbrel_core::node::{Event, Stayed};
pub use whimbrel_core::placement::{Candidate, PlacementPolicy, PlacementRequest};
pub use whimbrel_core::view::{Labels, MemberInfo, View, ViewId};
pub use whimbrel_macros::handlers;

/// For the code that `#[handlers]` writes.
#[doc(hidden)]
pub use serde;
