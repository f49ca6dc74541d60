//! Placement by a rule of the user's own.
//!
//! The owner of a name asks the policy that the name's record names, among the members that host its kind. It is the one
//! piece of user code that the control path runs, so it has to be what everything there is: a short, pure function. What
//! it answers is written down like any placement; so two owners that answer differently do no harm.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::base::{Kind, Name, NodeName};
use crate::view::Labels;

/// A member that a process may be placed on.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'v> {
    /// The node.
    pub name: &'v NodeName,
    /// What its operator says of it.
    pub labels: &'v Labels,
    /// Its share relative to others, 1 to 1,000.
    pub weight: u32,
    /// How many processes it has, as far as the owner of the name knows: a second old, and what the owner has placed since.
    pub load: u64,
    /// Kinds that it hosts.
    pub kinds: &'v [Kind],
}

/// What is to be placed, and where it may be.
#[derive(Clone, Debug)]
pub struct PlacementRequest<'v> {
    /// The name.
    pub name: &'v Name,
    /// Its kind.
    pub kind: &'v Kind,
    /// Members that host the kind and take processes, in the order of the name's ranking: the first is where it would be
    /// placed by hash. Never empty.
    pub candidates: Vec<Candidate<'v>>,
}

/// Chooses the node of a process.
///
/// It runs in the task that keeps the node a member: it must return at once, without waiting, locks that others hold for
/// long, or files. It should be a pure function of the request, since it may be asked several times for one placement. A
/// panic counts as no answer.
pub trait PlacementPolicy: Send + Sync {
    /// The node that the process is placed on: one of the candidates. With none, or another one, it is placed by hash.
    fn choose(&self, request: &PlacementRequest<'_>) -> Option<NodeName>;
}

/// The policies of a node, by name.
#[derive(Clone, Default)]
pub struct Policies(BTreeMap<Name, Arc<dyn PlacementPolicy>>);

impl Policies {
    /// Adds one; one of the same name goes.
    pub fn insert(&mut self, name: Name, policy: Arc<dyn PlacementPolicy>) {
        self.0.insert(name, policy);
    }

    /// The policy of this name.
    pub fn get(&self, name: &Name) -> Option<&dyn PlacementPolicy> {
        self.0.get(name).map(|policy| &**policy)
    }
}

impl fmt::Debug for Policies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}
