//! Watching processes from outside of processes.

use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::Arc;

use whimbrel_core::base::{Incarnation, Name, Token};
use whimbrel_core::directory::{Down, Until};

use super::{Cluster, DEADLINE};
use crate::error::MonitorError;
use crate::exchange::{Exchange, Slot, Told, Watch};

/// A monitor on its way: await it, or say first what it is for.
///
/// # Cancel safety
/// Dropped on the way, nothing is left of it.
#[must_use = "nothing is watched until this is awaited"]
#[derive(Debug)]
pub struct MonitorBuilder {
    cluster: Cluster,
    name: String,
    of: Option<Token>,
    until: Until,
    moves: bool,
}

impl MonitorBuilder {
    /// Only this life of the name. If it has ended, the end is told at once.
    pub fn instance(mut self, life: Token) -> Self {
        self.of = Some(life);
        self
    }

    /// Waits until the name ends for good: it is free, or quarantined. Restarts are no end.
    pub fn until_name_ends(mut self) -> Self {
        self.until = Until::Name;
        self
    }

    /// Planned moves are told too: see [`Monitor::moved`].
    pub fn with_moves(mut self) -> Self {
        self.moves = true;
        self
    }

    async fn run(self) -> Result<Monitor, MonitorError> {
        let Self { cluster, name, of, until, moves } = self;
        let watch = Watch { name: Name::new(&name)?, of, until, moves };
        let exchange = cluster.exchange().clone();
        if exchange.is_closed() {
            return Err(MonitorError::Stopped);
        }
        let slot = Arc::<Slot>::default();
        let id = exchange.new_monitor();
        // From here on dropping it gives it up.
        let monitor = Monitor { exchange, id, slot: slot.clone() };
        monitor.exchange.set_monitor(id, &watch, Told::Code(slot));
        match tokio::time::timeout(DEADLINE, monitor.slot.set()).await {
            Ok(Ok(())) => Ok(monitor),
            // Nothing else refuses a monitor.
            Ok(Err(_)) => Err(MonitorError::Overloaded),
            Err(_) => Err(MonitorError::Deadline),
        }
    }
}

impl IntoFuture for MonitorBuilder {
    type Output = Result<Monitor, MonitorError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

/// Hears of the end of a process, once. Dropped, it gives that up.
#[must_use = "dropped, it hears of nothing"]
pub struct Monitor {
    exchange: Arc<Exchange>,
    id: u64,
    slot: Arc<Slot>,
}

impl Monitor {
    /// The end: why, of which life, and the last state that it has shown. Told once; asked again, this returns the same.
    ///
    /// When this node is closed, which hears of nothing then, the reason is `NodeLost` and the token zero.
    ///
    /// # Cancel safety
    /// May be dropped at any time.
    pub async fn down(&mut self) -> Down {
        self.slot.down().await
    }

    /// Where the process runs after a planned move since this was asked last; of several the last one. None when it has
    /// ended: see [`Monitor::down`]. Without [`MonitorBuilder::with_moves`] it waits for the end.
    ///
    /// # Cancel safety
    /// May be dropped at any time.
    pub async fn moved(&mut self) -> Option<Incarnation> {
        self.slot.moved().await
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        self.exchange.drop_monitor(self.id);
    }
}

impl std::fmt::Debug for Monitor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Monitor").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Cluster {
    /// Watches the process of this name, wherever it runs: its end is told once, with the reason and the last state that
    /// it has shown. Answers when every replica of the name's record knows of it: it survives the loss of its owner.
    /// A planned move is no end. If there is no such process, the end is told at once, with the reason `NoProcess`.
    ///
    /// # Errors
    /// [`MonitorError`], after 5 s at latest: nothing is left of it.
    pub fn monitor(&self, name: &str) -> MonitorBuilder {
        let (cluster, name) = (self.clone(), name.to_owned());
        MonitorBuilder { cluster, name, of: None, until: Until::Life, moves: false }
    }
}
