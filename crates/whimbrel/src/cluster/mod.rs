//! A node's handle on its cluster.
//!
//! A [`Cluster`] is cheap to clone, and the node lives as long as one clone does. When the last one is dropped
//! without [`Cluster::leave`], connections close and processes are aborted: to the others this is a crash. What a
//! process gets from its context is the same handle, but does not keep the node alive.

mod advertise;
mod builder;
mod checks;
mod client;
mod drain;
mod group;
mod metadata;
mod monitor;
mod names;
mod policy;
mod publish;
mod rebalance;
mod singleton;
mod start;
mod trees;
mod watch;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use tokio::sync::{broadcast, mpsc};
use whimbrel_core::base::{Address, Executed, Incarnation, NodeName};
use whimbrel_core::node::Event;
use whimbrel_core::view::View;

pub use builder::{Builder, LocalBuilder};
pub use client::Client;
pub use drain::DrainReport;
pub use group::GroupRef;
pub(crate) use group::given_name;
pub use monitor::{Monitor, MonitorBuilder};
pub use names::{NamesPage, Registered};
pub use publish::CallAll;
pub use singleton::Singleton;
pub use start::{GetOrStart, Start, Starting};
pub use watch::Watch;

pub(crate) use checks::check_restarts;

use crate::driver::Command;
use crate::error::RequestError;
use crate::events::{DeadLetterStream, Events};
use crate::exchange::Exchange;
use crate::supervise::Roots;
use crate::tasks::Tasks;
use crate::transport::Transport;

/// How long a question or command about a name waits unless it says otherwise.
pub(crate) const DEADLINE: Duration = Duration::from_secs(5);

/// A node of a cluster: starts processes, finds them, says who is there.
#[derive(Clone)]
pub struct Cluster {
    shared: Arc<Shared>,
    /// Held by users, not by processes.
    _alive: Option<Arc<Alive>>,
}

pub(crate) struct Shared {
    pub(crate) exchange: Arc<Exchange>,
    pub(crate) control: mpsc::Sender<Command>,
    pub(crate) tasks: Tasks,
    pub(crate) transport: Option<Transport>,
    pub(crate) name: NodeName,
    pub(crate) address: Address,
    pub(crate) views: tokio::sync::watch::Receiver<Option<Arc<View>>>,
    pub(crate) events: broadcast::Sender<Event>,
    /// It takes nothing new any more.
    pub(crate) draining: AtomicBool,
    pub(crate) drain_within: Duration,
    /// The supervisors that belong to the node itself.
    pub(crate) roots: Roots,
}

/// Closes the node when the last handle of a user is gone.
struct Alive {
    shared: Arc<Shared>,
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.shared.close();
    }
}

impl Shared {
    /// Ends everything without a word to anybody.
    fn close(&self) {
        self.tasks.stop();
        self.exchange.close();
    }
}

impl Cluster {
    /// A node of the cluster with this name.
    pub fn builder(cluster: &str) -> Builder {
        Builder::new(cluster)
    }

    /// A cluster of one node, without a socket: the same API in a test or on a laptop.
    pub fn local() -> LocalBuilder {
        LocalBuilder::new()
    }

    /// The handle that processes get.
    pub(crate) fn for_processes(shared: Arc<Shared>) -> Self {
        Self { shared, _alive: None }
    }

    /// The handle that a user gets.
    pub(crate) fn for_users(shared: Arc<Shared>) -> Self {
        let alive = Arc::new(Alive { shared: shared.clone() });
        Self { shared, _alive: Some(alive) }
    }

    pub(crate) fn exchange(&self) -> &Arc<Exchange> {
        &self.shared.exchange
    }

    /// This node's name.
    pub fn node_name(&self) -> &str {
        self.shared.name.as_str()
    }

    /// Where peers reach this node, as `host:port`; empty for a node without a socket.
    pub fn address(&self) -> &str {
        &self.shared.address
    }

    /// This node's present life.
    pub fn incarnation(&self) -> Incarnation {
        self.exchange().me()
    }

    /// The members, oldest first; none while this node is in no line.
    pub fn view(&self) -> Option<Arc<View>> {
        self.exchange().view()
    }

    /// Waits until the view has at least `members` members.
    ///
    /// # Errors
    /// `Deadline` when it has fewer by then; `Stopped` when this node is closed.
    ///
    /// # Cancel safety
    /// May be dropped at any time.
    pub async fn wait_for_members(
        &self,
        members: usize,
        deadline: Duration,
    ) -> Result<Arc<View>, RequestError> {
        let mut views = self.shared.views.clone();
        let enough =
            |view: &Option<Arc<View>>| view.as_ref().is_some_and(|view| view.members.len() >= members);
        let waited = tokio::time::timeout(deadline, views.wait_for(enough)).await;
        match waited {
            Ok(Ok(view)) => view.clone().ok_or(RequestError::Stopped),
            Ok(Err(_)) => Err(RequestError::Stopped),
            Err(_) => Err(RequestError::Deadline { executed: Executed::No }),
        }
    }

    /// What happens from now on, as this node sees it.
    pub fn events(&self) -> Events {
        Events::new(self.shared.events.subscribe())
    }

    /// Dead letters of this node, from now on, and how many there were.
    pub fn dead_letters(&self) -> DeadLetterStream {
        DeadLetterStream::new(self.exchange().clone())
    }

    /// A sender of its own: what one client sends to one name is handled in the order in which it was sent.
    pub fn client(&self) -> Client {
        Client::new(self.clone())
    }
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster").field("node", &self.shared.name).finish_non_exhaustive()
    }
}
