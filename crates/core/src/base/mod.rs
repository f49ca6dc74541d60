//! Words shared by every layer: identities, names, time, tokens, errors, limits.

pub mod bytes;
pub mod error;
pub mod few;
pub mod group;
pub mod hash;
pub mod hindrance;
pub mod id;
pub mod limits;
pub mod metadata;
pub mod mutant;
pub mod name;
pub mod rng;
pub mod shared;
pub mod short;
pub mod text;
pub mod time;
pub mod token;

pub use bytes::Bytes;
pub use error::{ErrorCode, Executed, ExitReason};
pub use few::Few;
pub use group::Group;
pub use hindrance::{Decision, Hindrance, Plea};
pub use id::{Address, Incarnation, NodeName, RequestId, SlotId};
pub use metadata::{BadMetadata, Metadata};
pub use mutant::{Mutant, Mutants};
pub use name::{BadName, Kind, Name};
pub use rng::Rng;
pub use short::ShortBytes;
pub use time::{Now, Time};
pub use token::Token;
