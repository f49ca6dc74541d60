//! The user's placement policies, guarded: the core knows nothing of panics.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use whimbrel_core::base::NodeName;
use whimbrel_core::placement::{PlacementPolicy, PlacementRequest};

/// A policy whose panics are no answer.
pub(super) struct Guarded(pub(super) Arc<dyn PlacementPolicy>);

impl PlacementPolicy for Guarded {
    fn choose(&self, request: &PlacementRequest<'_>) -> Option<NodeName> {
        // What a policy keeps may be broken by its panic: that is its own, and nobody else's.
        let chosen = catch_unwind(AssertUnwindSafe(|| self.0.choose(request)));
        chosen.unwrap_or_else(|_| {
            tracing::error!(name = %request.name, "a placement policy panicked: the name is placed by hash");
            None
        })
    }
}
