//! Asks all sources of a node for ever, and tells the core what they know together.
//!
//! ```text
//!   source ── its task: ask, pause, ask ... ─┐
//!   source ── its task ──────────────────────┼─> collector: last answer of each ── union ──> core
//!   source ── its task ──────────────────────┘
//! ```
//!
//! The collector alone holds the answers, so the core hears them in one order. An error, or a panic of a source of
//! the user, changes nothing in what is known. As long as a source has never answered, what the others found is
//! given as found in part: the core dials it and founds no cluster yet.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::sync::mpsc;
use whimbrel_core::base::{Address, ExitReason};
use whimbrel_core::node::Input;

use super::health::{Health, Line};
use super::{
    ADDRESS_BYTES_MAX, ADDRESSES_MAX, Discovery, DiscoveryError, Here, PAUSE_FAILED_MIN, PAUSE_MIN,
    SOURCES_MAX,
};
use crate::clock;
use crate::driver::Command;
use crate::process::current::Current;
use crate::process::guard::{self, Guarded};
use crate::tasks::Tasks;

/// All sources of a node.
pub(crate) struct Sources {
    sources: Vec<Arc<dyn Discovery>>,
    here: Arc<Here>,
}

impl Sources {
    /// Checks them; else what is wrong.
    pub(crate) fn new(sources: Vec<Arc<dyn Discovery>>, here: Here) -> Result<Self, String> {
        if sources.len() > SOURCES_MAX {
            return Err(format!("at most {SOURCES_MAX} sources, not {}", sources.len()));
        }
        for source in &sources {
            source.check(&here).map_err(|error| format!("{}: {error}", source.name()))?;
        }
        Ok(Self { sources, here: Arc::new(here) })
    }

    /// Whether there can be anybody to find.
    pub(crate) fn find_others(&self) -> bool {
        self.sources.iter().any(|source| source.finds_others())
    }

    /// Starts asking. The tasks end with the node.
    pub(crate) fn start(self, tasks: &Tasks, control: mpsc::Sender<Command>) {
        let known = Known { answers: vec![None; self.sources.len()] };
        let (answers, incoming) = mpsc::channel(self.sources.len().max(1));
        for (at, source) in self.sources.into_iter().enumerate() {
            let task = ask(at, source, self.here.clone(), answers.clone());
            tasks.spawn_until_stopped("discovery source", task);
        }
        tasks.spawn_until_stopped("discovery", collect(known, incoming, control));
    }
}

/// What one source has found.
#[derive(Debug)]
struct Answer {
    source: usize,
    addresses: BTreeSet<Address>,
}

/// The last answer of each source.
#[derive(Debug)]
struct Known {
    answers: Vec<Option<BTreeSet<Address>>>,
}

impl Known {
    /// Takes an answer in, and says what the core is to know now.
    fn take(&mut self, answer: Answer) -> Input {
        if let Some(last) = self.answers.get_mut(answer.source) {
            *last = Some(answer.addresses);
        }
        let union: BTreeSet<&Address> = self.answers.iter().flatten().flatten().collect();
        let union = union.into_iter().cloned().collect();
        if self.answers.iter().all(Option::is_some) {
            Input::Discovered(union)
        } else {
            Input::DiscoveredInPart(union)
        }
    }
}

async fn collect(mut known: Known, mut answers: mpsc::Receiver<Answer>, control: mpsc::Sender<Command>) {
    while let Some(answer) = answers.recv().await {
        // The whole list each time, also when nothing changed: the core may have had no room for it before.
        if control.send(Command::Input(known.take(answer))).await.is_err() {
            return;
        }
    }
}

/// Asks one source until the node stops.
async fn ask(at: usize, source: Arc<dyn Discovery>, here: Arc<Here>, answers: mpsc::Sender<Answer>) {
    let name = guard::run(|| source.name()).unwrap_or_else(|_| format!("source {at}"));
    let mut health = Health::new();
    let mut had_room = true;
    loop {
        let mut at_least = PAUSE_MIN;
        match question(&*source, &here).await {
            Ok(addresses) => {
                if health.answered(clock::time()) == Line::Answers {
                    tracing::info!(source = name, "discovery answers again");
                }
                let (addresses, left_out) = bounded(addresses);
                if left_out > 0 && had_room {
                    tracing::warn!(source = name, left_out, "discovery finds more addresses than are kept");
                }
                had_room = left_out == 0;
                if answers.send(Answer { source: at, addresses }).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                at_least = PAUSE_FAILED_MIN;
                if health.failed(clock::time()) == Line::Fails {
                    tracing::warn!(source = name, %error, "discovery fails; its last addresses are kept");
                }
            }
        }
        let pause = guard::run(|| source.pause()).unwrap_or(super::PAUSE);
        tokio::time::sleep(pause.max(at_least)).await;
    }
}

/// One question; user code may panic in it.
async fn question(source: &dyn Discovery, here: &Here) -> Result<Vec<Address>, DiscoveryError> {
    let panicked = |reason: ExitReason| DiscoveryError::new(reason.to_string());
    let answer = guard::run(|| source.discover(here)).map_err(panicked)?;
    Guarded::new(Current::NOBODY, answer).await.map_err(panicked)?
}

/// The first in their order, so that nodes with the same answer keep the same; and how many are left out.
fn bounded(addresses: Vec<Address>) -> (BTreeSet<Address>, usize) {
    let sorted: BTreeSet<Address> =
        addresses.into_iter().filter(|address| address.len() <= ADDRESS_BYTES_MAX).collect();
    let left_out = sorted.len().saturating_sub(ADDRESSES_MAX);
    (sorted.into_iter().take(ADDRESSES_MAX).collect(), left_out)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::VecDeque;
    use std::sync::Mutex;
    use std::time::Duration;

    use super::*;
    use crate::discovery::{Discovered, Dns, NoDiscovery, StaticList};

    /// What a source is told to do next.
    enum Next {
        Answer(Vec<&'static str>),
        Fail,
        Panic,
        Hang,
    }

    /// Does what it is told, then nothing more.
    struct Told {
        steps: Mutex<VecDeque<Next>>,
        asked: mpsc::UnboundedSender<()>,
    }

    impl Discovery for Told {
        fn discover<'a>(&'a self, _: &'a Here) -> Discovered<'a> {
            let next = self.steps.lock().unwrap().pop_front().unwrap_or(Next::Hang);
            self.asked.send(()).unwrap();
            Box::pin(async move {
                match next {
                    Next::Answer(addresses) => Ok(addresses.into_iter().map(Address::from).collect()),
                    Next::Fail => Err(DiscoveryError::new("told to")),
                    Next::Panic => panic!("told to"),
                    Next::Hang => std::future::pending().await,
                }
            })
        }

        fn pause(&self) -> Duration {
            Duration::ZERO
        }
    }

    /// Sources at work: what the core hears, and one channel for each source that says that it was asked.
    struct Work {
        tasks: Tasks,
        commands: mpsc::Receiver<Command>,
        asked: Vec<mpsc::UnboundedReceiver<()>>,
    }

    impl Work {
        fn start(plans: Vec<Vec<Next>>) -> Self {
            let tasks = Tasks::new();
            let (control, commands) = mpsc::channel(16);
            let mut asked = Vec::new();
            let sources = plans.into_iter().map(|steps| {
                let (sender, receiver) = mpsc::unbounded_channel();
                asked.push(receiver);
                Arc::new(Told { steps: Mutex::new(steps.into()), asked: sender }) as Arc<dyn Discovery>
            });
            let sources: Vec<_> = sources.collect();
            Sources::new(sources, Here::new("test", "", None)).ok().unwrap().start(&tasks, control);
            Self { tasks, commands, asked }
        }

        /// The next thing the core hears: whether it is the whole, and the addresses.
        async fn heard(&mut self) -> (bool, Vec<String>) {
            let Some(Command::Input(input)) = self.commands.recv().await else { panic!("no input") };
            let texts = |addresses: Vec<Address>| addresses.iter().map(ToString::to_string).collect();
            match input {
                Input::Discovered(addresses) => (true, texts(addresses)),
                Input::DiscoveredInPart(addresses) => (false, texts(addresses)),
                other => panic!("{other:?}"),
            }
        }

        async fn asked(&mut self, source: usize, times: usize) {
            for _ in 0..times {
                self.asked[source].recv().await.unwrap();
            }
        }
    }

    impl Drop for Work {
        fn drop(&mut self) {
            self.tasks.stop();
        }
    }

    fn list(addresses: &[&str]) -> Vec<String> {
        addresses.iter().map(ToString::to_string).collect()
    }

    #[tokio::test]
    async fn an_error_or_a_panic_keeps_the_last_answer_and_the_source_is_asked_again() {
        let plan = vec![Next::Answer(vec!["a:1", "b:1"]), Next::Fail, Next::Panic, Next::Answer(vec!["c:1"])];
        let mut work = Work::start(vec![plan]);
        assert_eq!(work.heard().await, (true, list(&["a:1", "b:1"])));
        assert_eq!(work.heard().await, (true, list(&["c:1"])), "nothing was said between");
        work.asked(0, 4).await;
    }

    #[tokio::test]
    async fn what_some_sources_found_is_given_in_part_until_all_have_answered() {
        let slow = vec![Next::Fail, Next::Fail, Next::Answer(vec!["b:1"])];
        let quick = vec![Next::Answer(vec!["a:1", "b:1"])];
        let mut work = Work::start(vec![quick, slow]);
        assert_eq!(work.heard().await, (false, list(&["a:1", "b:1"])));
        assert_eq!(work.heard().await, (true, list(&["a:1", "b:1"])));
    }

    #[tokio::test]
    async fn a_source_that_hangs_holds_up_no_other() {
        let mut work =
            Work::start(vec![vec![Next::Hang], vec![Next::Answer(vec!["a:1"]), Next::Answer(vec!["b:1"])]]);
        assert_eq!(work.heard().await, (false, list(&["a:1"])));
        assert_eq!(work.heard().await, (false, list(&["b:1"])));
    }

    #[test]
    fn sources_are_checked_before_the_node_starts() {
        let here = || Here::new("test", "", None);
        let refused = |sources| Sources::new(sources, here()).err();
        let no_port: Arc<dyn Discovery> = Arc::new(Dns::new("nodes.test"));
        assert!(refused(vec![no_port]).unwrap().contains("dns nodes.test: "));
        let none: Arc<dyn Discovery> = Arc::new(NoDiscovery);
        assert!(refused(vec![none.clone(); SOURCES_MAX + 1]).unwrap().contains("at most 64"));
        assert!(!Sources::new(vec![none.clone()], here()).ok().unwrap().find_others());
        let list: Arc<dyn Discovery> = Arc::new(StaticList::new(["a:1"]));
        assert!(Sources::new(vec![none, list], here()).ok().unwrap().find_others());
    }

    #[test]
    fn the_last_answer_of_a_source_replaces_only_its_own() {
        let mut known = Known { answers: vec![None; 2] };
        let answer = |source, addresses: &[&str]| Answer {
            source,
            addresses: addresses.iter().map(|address| Address::from(*address)).collect(),
        };
        known.take(answer(0, &["a:1", "b:1"]));
        known.take(answer(1, &["b:1", "c:1"]));
        let Input::Discovered(union) = known.take(answer(0, &[])) else { panic!("all have answered") };
        assert_eq!(union, [Address::from("b:1"), Address::from("c:1")]);
    }

    #[test]
    fn of_too_many_addresses_the_first_are_kept() {
        let many = (0..2 * ADDRESSES_MAX).rev().map(|at| Address::from(format!("{at:05}:1"))).collect();
        let (kept, left_out) = bounded(many);
        assert_eq!((kept.len(), left_out), (ADDRESSES_MAX, ADDRESSES_MAX));
        assert_eq!(kept.last().unwrap().as_ref(), format!("{:05}:1", ADDRESSES_MAX - 1));
        assert!(bounded(vec![Address::from("a".repeat(ADDRESS_BYTES_MAX + 1))]).0.is_empty());
    }
}
