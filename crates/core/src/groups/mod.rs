//! Groups: which names belong together, read anywhere.

mod message;
mod reading;

pub use message::{Entry, GroupMember, GroupSize, GroupVersion, Question, Row, Rows};
pub use reading::{GroupReading, ScopeReading};
