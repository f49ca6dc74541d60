//! Groups: which names belong together.

use std::fmt;

use minicbor::{Decode, Encode};

use super::name::{BadName, Name};

/// A group of names. Groups of different scopes have nothing to do with each other.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Group {
    /// What the group is for; events and lists of groups are by scope.
    #[n(0)]
    pub scope: Name,
    /// Its name in the scope.
    #[n(1)]
    pub name: Name,
}

impl Group {
    /// Checks both texts.
    ///
    /// # Errors
    /// [`BadName`] says which rule one of them breaks.
    pub fn new(scope: &str, name: &str) -> Result<Self, BadName> {
        Ok(Self { scope: Name::new(scope)?, name: Name::new(name)? })
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.scope, self.name)
    }
}
