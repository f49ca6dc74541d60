//! A slow process, and senders that take no notice of that.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;
use whimbrel::{
    Cluster, Context, ErrorCode, Event, Executed, ExitReason, Placement, Process, ProcessRef, handlers,
};

use crate::control::Trouble;

/// How long a call of a flood may take.
const DEADLINE: Duration = Duration::from_secs(5);
/// What a call may take beyond its deadline before it counts as unanswered.
const UNANSWERED_AFTER: Duration = Duration::from_secs(10);
/// How long the last call, which waits behind all that was accepted, may take.
const DRAIN_WITHIN: Duration = Duration::from_secs(120);
/// Tries of the last call.
const DRAIN_TRIES: u32 = 100;
/// Between two of them, while the mailbox is full.
const DRAIN_PAUSE: Duration = Duration::from_millis(100);
/// What one message takes to handle.
const SLOW: Duration = Duration::from_millis(4);

/// Takes its time for each message.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Slow {
    casts: u64,
}

impl Process for Slow {
    const KIND: &'static str = "bench-slow";
    type Args = ();

    async fn init(_args: (), _cx: &mut Context<Self>) -> Result<Self, ExitReason> {
        Ok(Slow::default())
    }
}

#[handlers]
impl Slow {
    /// Is told something.
    #[cast]
    async fn tell(&mut self, text: String) {
        tokio::time::sleep(SLOW).await;
        self.casts += u64::from(!text.is_empty());
    }

    /// Answers with the length.
    #[call]
    async fn ask(&mut self, text: String) -> u64 {
        tokio::time::sleep(SLOW).await;
        text.len() as u64
    }

    /// How many casts it has handled.
    #[call]
    async fn casts(&self) -> u64 {
        self.casts
    }
}

/// What became of the messages of one sort.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Tally {
    /// Tries.
    pub(crate) sent: u64,
    /// Casts that were accepted, calls that were answered.
    pub(crate) ok: u64,
    /// Typed errors: how many were not executed, and of how many that is not known.
    pub(crate) errors: BTreeMap<String, Errors>,
    /// Calls that ended neither way.
    pub(crate) unanswered: u64,
}

/// Errors of one code.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Errors {
    no: u64,
    unknown: u64,
}

impl Tally {
    fn add_error(&mut self, code: ErrorCode, executed: Executed) {
        let errors = self.errors.entry(code.as_str().to_owned()).or_default();
        match executed {
            Executed::No => errors.no += 1,
            Executed::Unknown => errors.unknown += 1,
        }
    }

    /// Adds another sender's.
    pub(crate) fn add(&mut self, other: &Tally) {
        self.sent += other.sent;
        self.ok += other.ok;
        self.unanswered += other.unanswered;
        for (code, errors) in &other.errors {
            let sum = self.errors.entry(code.clone()).or_default();
            sum.no += errors.no;
            sum.unknown += errors.unknown;
        }
    }

    /// Whether each try has one outcome.
    pub(crate) fn is_complete(&self) -> bool {
        let errors: u64 = self.errors.values().map(|errors| errors.no + errors.unknown).sum();
        self.sent == self.ok + errors + self.unanswered && self.unanswered == 0
    }
}

/// What the senders of one node have seen.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Flood {
    /// Casts.
    pub(crate) casts: Tally,
    /// Calls.
    pub(crate) calls: Tally,
}

/// Starts the slow process on this node.
pub(crate) async fn start_slow(cluster: &Cluster, name: &str) -> Result<(), Trouble> {
    let started = cluster.start::<Slow>(name, ()).placement(Placement::Local).await;
    started.map(drop).map_err(|error| Trouble::new(format!("{name} could not be started"), error))
}

/// Sends as fast as each sender can, half of them casts and half of them calls.
pub(crate) async fn flood(
    cluster: &Cluster,
    name: &str,
    senders: u32,
    payload: usize,
    during: Duration,
) -> Result<Flood, Trouble> {
    let until = Instant::now() + during;
    let mut running = JoinSet::new();
    for sender in 0..senders {
        let slow = cluster.process::<Slow>(name).map_err(|error| Trouble::new("not a name", error))?;
        let text = "x".repeat(payload);
        running.spawn(async move {
            let mut flood = Flood::default();
            match sender % 2 {
                0 => flood.casts = cast(slow, text, until).await,
                _ => flood.calls = call(slow, text, until).await,
            }
            flood
        });
    }
    let mut all = Flood::default();
    while let Some(done) = running.join_next().await {
        let done = done.map_err(|error| Trouble::new("a sender failed", error))?;
        all.casts.add(&done.casts);
        all.calls.add(&done.calls);
    }
    Ok(all)
}

async fn cast(slow: ProcessRef<Slow>, text: String, until: Instant) -> Tally {
    let mut tally = Tally::default();
    while Instant::now() < until {
        tally.sent += 1;
        match slow.tell(text.clone()) {
            Ok(()) => tally.ok += 1,
            Err(error) => tally.add_error(error.code(), error.executed()),
        }
        // A sender that never lets go of its thread would only measure itself.
        tokio::task::yield_now().await;
    }
    tally
}

async fn call(slow: ProcessRef<Slow>, text: String, until: Instant) -> Tally {
    let mut tally = Tally::default();
    while Instant::now() < until {
        tally.sent += 1;
        let call = slow.ask(text.clone()).deadline(DEADLINE);
        match tokio::time::timeout(DEADLINE + UNANSWERED_AFTER, call).await {
            Ok(Ok(_)) => tally.ok += 1,
            Ok(Err(error)) => {
                tally.add_error(error.code(), error.executed());
                tokio::task::yield_now().await;
            }
            Err(_) => tally.unanswered += 1,
        }
    }
    tally
}

/// How many casts were handled, when all that was accepted has been.
pub(crate) async fn drained(cluster: &Cluster, name: &str) -> Result<u64, Trouble> {
    let slow = cluster.process::<Slow>(name).map_err(|error| Trouble::new("not a name", error))?;
    let mut last = None;
    for _ in 0..DRAIN_TRIES {
        match slow.casts().deadline(DRAIN_WITHIN).await {
            Ok(casts) => return Ok(casts),
            Err(error) => last = Some(error),
        }
        tokio::time::sleep(DRAIN_PAUSE).await;
    }
    let detail = last.map_or_else(String::new, |error| error.to_string());
    Err(Trouble::new(format!("{name} did not come back from the overload"), detail))
}

/// Casts of this node that were accepted and not delivered, by reason.
pub(crate) fn dead_letters(cluster: &Cluster) -> BTreeMap<String, u64> {
    let letters = cluster.dead_letters();
    let count = |code: &ErrorCode| (code.as_str().to_owned(), letters.count(*code));
    ErrorCode::ALL.iter().map(count).filter(|(_, count)| *count > 0).collect()
}

/// Counts what may not happen: members that leave the view, this node leaving its line.
#[derive(Debug, Default)]
pub(crate) struct Deaths {
    seen: AtomicU64,
    missed: AtomicBool,
}

impl Deaths {
    /// Counts from now on, until the node is closed.
    pub(crate) fn watch(self: &Arc<Self>, cluster: &Cluster) {
        let (deaths, mut events) = (Arc::clone(self), cluster.events());
        tokio::spawn(async move {
            while let Some(event) = events.next().await {
                if matches!(event, Event::MemberDown(..) | Event::Expelled | Event::LineChanged) {
                    deaths.seen.fetch_add(1, Ordering::Relaxed);
                }
                deaths.missed.store(events.missed() > 0, Ordering::Relaxed);
            }
        });
    }

    /// How many there were; none if that is not known.
    pub(crate) fn count(&self) -> Option<u64> {
        let missed = self.missed.load(Ordering::Relaxed);
        (!missed).then(|| self.seen.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tally_is_complete_when_each_try_has_one_outcome() {
        let mut tally = Tally { sent: 3, ok: 1, ..Tally::default() };
        assert!(!tally.is_complete());
        tally.add_error(ErrorCode::Overloaded, Executed::No);
        tally.add_error(ErrorCode::Deadline, Executed::Unknown);
        assert!(tally.is_complete());
        let mut both = tally.clone();
        both.add(&tally);
        assert!(both.is_complete() && both.sent == 6 && both.errors.len() == 2);
        both.unanswered += 1;
        both.sent += 1;
        assert!(!both.is_complete(), "each has an outcome, but one is none");
    }
}
