//! Going in order: draining, leaving, and what tells a program to.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::oneshot;
use whimbrel_core::node::{Drained, Stayed};

use super::Cluster;
use crate::driver::Command;
use crate::exchange::STOP_MAX;
use crate::process::TERMINATE_MAX;

/// How long `leave` lets processes move unless `Builder::drain_within` says otherwise.
pub(super) const DRAIN_MAX: Duration = Duration::from_secs(30);
/// How long `leave` waits for processes that do not end, though they are ended by force some time before.
const LEAVE_MAX: Duration = STOP_MAX.saturating_add(TERMINATE_MAX);
/// How long `leave` waits for tasks of the node that do not end, such as a handler that blocks its thread.
const END_MAX: Duration = Duration::from_secs(5);
/// Names in one line of the log.
const LOGGED_MAX: usize = 5;

/// What came of a drain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DrainReport {
    /// Processes that moved to other nodes since this node began to drain.
    pub moved: usize,
    /// Processes with a name that are still here: at most 1,000 of them.
    pub stayed: Vec<Stayed>,
    /// How many there are.
    pub stayed_count: usize,
}

impl From<Drained> for DrainReport {
    fn from(Drained { moved, stayed, stayed_count }: Drained) -> Self {
        Self { moved, stayed, stayed_count }
    }
}

impl DrainReport {
    fn log(&self) {
        let (moved, stayed) = (self.moved, self.stayed_count);
        tracing::info!(moved, stayed, "this node was drained");
        if stayed > 0 {
            let first: Vec<String> =
                self.stayed.iter().take(LOGGED_MAX).map(|it| format!("{}: {:?}", it.name, it.why)).collect();
            tracing::warn!(stayed, first = first.join(", "), "processes of this node did not move");
        }
    }
}

impl Cluster {
    /// Takes nothing new from now on, and moves to other nodes what can move; every process pauses for milliseconds, and
    /// nobody sees an error. Returns when nothing is left that could move, or at the deadline. The node stays a member,
    /// and serves what is left, until [`leave`](Self::leave); it never takes anything new again.
    ///
    /// What is waited for until the deadline: processes that are starting, slow to come to rest, or wait for room. What
    /// has nowhere to go - no other node hosts the kind, or all of them drain; a process that stays by its own will or
    /// has a registered name - is not, and stands in the report.
    ///
    /// On a node that is closed it returns at once with an empty report.
    ///
    /// # Cancel safety
    /// Dropped on the way, the drain goes on.
    pub async fn drain(&self, deadline: Duration) -> DrainReport {
        let (done, drained) = oneshot::channel();
        self.shared.draining.store(true, Ordering::Release);
        if self.shared.control.send(Command::Drain { within: deadline, done }).await.is_err() {
            return DrainReport::default();
        }
        let report = drained.await.map(DrainReport::from).unwrap_or_default();
        report.log();
        report
    }

    /// Whether this node takes processes: it is a member, and neither drains nor leaves.
    pub fn is_ready(&self) -> bool {
        let Self { shared, .. } = self;
        let is_member = self.view().is_some_and(|view| view.contains(self.incarnation()));
        is_member && !shared.draining.load(Ordering::Acquire) && !shared.tasks.is_stopped()
    }

    /// Drains, for at most [`Builder::drain_within`](crate::Builder::drain_within), stops the processes that are left,
    /// says good-bye, and closes the node.
    ///
    /// Processes that are left finish the message in hand and run `terminate`; after 15 s they are ended by force.
    /// Messages that wait in their mailboxes end with `Stopped`, not executed. Names that restart do so on other nodes.
    /// Called twice, the second call finds nothing to do.
    ///
    /// # Cancel safety
    /// Dropped on the way, the node is neither in the cluster nor closed: call it again.
    pub async fn leave(&self) -> DrainReport {
        self.leave_unless(std::future::pending()).await
    }

    /// As [`leave`](Self::leave); the drain ends when this does.
    async fn leave_unless(&self, in_a_hurry: impl Future<Output = ()>) -> DrainReport {
        let super::Shared { exchange, control, tasks, transport, drain_within, roots, .. } = &*self.shared;
        let mut report = DrainReport::default();
        if !tasks.is_stopped() {
            let mut hasty = false;
            {
                let drain = std::pin::pin!(self.drain(*drain_within));
                tokio::select! {
                    biased;
                    drained = drain => report = drained,
                    () = in_a_hurry => hasty = true,
                }
            }
            if hasty {
                // It says how far it was.
                report = self.drain(Duration::ZERO).await;
            }
            let processes = async {
                let (done, left) = oneshot::channel();
                // Goodbye is said when nothing runs here any more: the names start elsewhere then.
                if control.send(Command::Leave { done }).await.is_ok()
                    && tokio::time::timeout(LEAVE_MAX, left).await.is_err()
                {
                    tracing::warn!("the node goes, though a process of it goes on");
                }
            };
            // Told first, so that no supervisor starts again what stops.
            tokio::join!(roots.end(STOP_MAX), processes);
            // Those without a name, of which the cluster knows nothing.
            exchange.stop_all(TERMINATE_MAX).await;
            if let Some(transport) = transport {
                transport.shutdown().await;
            }
        }
        self.shared.close();
        if tokio::time::timeout(END_MAX, tasks.ended()).await.is_err() {
            tracing::warn!("a task of the node goes on after it has left");
        }
        report
    }

    /// Waits for SIGTERM or SIGINT, then leaves; a second signal ends the drain at once. Without the right to listen for
    /// signals it leaves at once.
    ///
    /// Listens from the call on, not from the first poll: a signal in between is not lost, and no longer ends the
    /// OS process by itself.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    ///
    /// # Cancel safety
    /// Dropped before a signal came, it changes nothing but that the OS process stays deaf to both signals;
    /// after that as [`leave`](Self::leave).
    pub fn run_until_signal(&self) -> impl Future<Output = DrainReport> + Send {
        let signals = Signals::listen();
        async move {
            match signals {
                Ok(mut signals) => {
                    signals.next().await;
                    tracing::info!("told to end: this node drains; tell it again to end at once");
                    self.leave_unless(signals.next()).await
                }
                Err(error) => {
                    tracing::error!(%error, "can not listen for signals");
                    self.leave().await
                }
            }
        }
    }
}

/// The signals that tell a program to end.
#[cfg(unix)]
struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn listen() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            biased;
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// The signals that tell a program to end.
#[cfg(windows)]
struct Signals(tokio::signal::windows::CtrlC);

#[cfg(windows)]
impl Signals {
    fn listen() -> std::io::Result<Self> {
        tokio::signal::windows::ctrl_c().map(Self)
    }

    async fn next(&mut self) {
        let _ended = self.0.recv().await;
    }
}
