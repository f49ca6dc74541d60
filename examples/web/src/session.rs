//! A user's session: a process, so it has a name, is in memory on one node at a time, and takes one request after the
//! other.
//!
//! Its state is serde, and nothing else is needed for it to go along when its node is restarted. After a crash of its
//! node it begins anew: what must survive that belongs into a store.

use serde::{Deserialize, Serialize};
use whimbrel::{Context, ExitReason, Process, handlers};

/// What is kept for one user. A real one has a basket, a login, an open document.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Session {
    visits: u64,
}

/// What a visitor sees.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Visits {
    /// How many visits there were.
    pub(crate) number: u64,
    /// The node that the session is on.
    pub(crate) node: String,
}

impl Process for Session {
    const KIND: &'static str = "session";
    type Args = ();

    async fn init((): (), _cx: &mut Context<Self>) -> Result<Self, ExitReason> {
        Ok(Session { visits: 0 })
    }
}

#[handlers(pub(crate))]
impl Session {
    /// Counts one more visit.
    #[call]
    fn visit(&mut self, cx: &mut Context<Self>) -> Visits {
        self.visits += 1;
        self.visits(cx)
    }

    /// The visits so far.
    #[call]
    fn visits(&self, cx: &mut Context<Self>) -> Visits {
        Visits { number: self.visits, node: cx.cluster().node_name().to_owned() }
    }
}
