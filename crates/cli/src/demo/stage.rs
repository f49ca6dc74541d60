//! What the story plays on: the nodes' processes, the files, the database, the view.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::collector::Collector;
use super::command::Command;
use super::database::{self, Arrivals};
use super::evidence::{DATABASE, Purpose, StepLine};
use super::view::View;
use crate::children::Children;
use crate::cli::DemoArgs;
use crate::os;
use crate::output::Failure;
use crate::temp::WorkDir;

/// How long the last run of the cleaner may take, beside its period.
const FULL_RUN_WITHIN: Duration = Duration::from_secs(15);
/// How long a change of the load may take to be taken note of.
const LOAD_WITHIN: Duration = Duration::from_secs(10);
/// How often the database is asked whether that run has ended.
const FULL_RUN_POLL: Duration = Duration::from_millis(50);

/// What is played.
#[derive(Clone, Debug)]
pub(crate) struct Play {
    /// What for.
    pub(crate) purpose: Purpose,
    /// The steps, in order.
    pub(crate) planned: Vec<String>,
    /// The longest time that a handler is told to take.
    pub(crate) work_us_max: u64,
}

/// Everything the story needs.
pub(crate) struct Stage {
    pub(crate) args: DemoArgs,
    pub(crate) play: Play,
    pub(crate) seed: u64,
    pub(crate) database: PathBuf,
    pub(crate) collector: Arc<Collector>,
    pub(crate) view: View,
    /// Addresses of the nodes, by name.
    pub(crate) addresses: Vec<(String, String)>,
    /// Nodes that were given a name so far.
    pub(crate) nodes_made: u32,
    /// The step under way.
    pub(crate) open: Option<StepLine>,
    /// The end of the last step, which is the begin of the next.
    pub(crate) clock_us: u64,
    arrivals: Option<Arrivals>,
    pub(crate) children: Children,
}

impl Stage {
    /// A stage in `dir`, with a database and without nodes.
    pub(crate) fn set(args: DemoArgs, play: Play, seed: u64, dir: &WorkDir) -> Result<Self, Failure> {
        let database = dir.path().join(DATABASE);
        database::create(&database)?;
        let collector = Arc::new(Collector::create(dir.path())?);
        let children = Children::new("demo", dir.path(), Arc::clone(&collector) as Arc<_>)?;
        let view = View::new(&database);
        Ok(Self {
            args,
            play,
            seed,
            database,
            collector,
            view,
            addresses: Vec::new(),
            nodes_made: 0,
            open: None,
            clock_us: 0,
            arrivals: None,
            children,
        })
    }

    /// The share of one step in the time that was asked for.
    pub(crate) fn slice(&self) -> Duration {
        Duration::from_secs(u64::from(self.args.seconds))
            / u32::try_from(self.play.planned.len()).unwrap_or(1)
    }

    /// Addresses of the nodes that run.
    pub(crate) fn addresses(&self) -> Vec<String> {
        let running = self.children.names();
        let live = self.addresses.iter().filter(|(name, _)| running.contains(name));
        live.map(|(_, address)| address.clone()).collect()
    }

    /// Sends every node its command; `command` gets the node's place.
    pub(crate) fn everyone(&mut self, command: impl Fn(usize) -> Command) -> Result<Vec<u64>, Failure> {
        let names = self.children.names();
        names.iter().enumerate().map(|(at, name)| self.children.send(name, command(at))).collect()
    }

    /// Waits for answers.
    pub(crate) fn wait(&mut self, ids: &[u64], within: Duration) -> Result<Vec<Value>, Failure> {
        let (view, collector) = (&mut self.view, &self.collector);
        self.children.wait(ids, within, &mut || view.frame(collector))
    }

    /// Sends a command and waits for its answer.
    pub(crate) fn ask<T: DeserializeOwned>(
        &mut self,
        node: &str,
        command: impl Serialize,
        within: Duration,
    ) -> Result<T, Failure> {
        let (view, collector) = (&mut self.view, &self.collector);
        read(self.children.ask(node, command, within, &mut || view.frame(collector))?)
    }

    /// Lets time pass.
    pub(crate) fn pause(&mut self, until: Instant) -> Result<(), Failure> {
        let (view, collector) = (&mut self.view, &self.collector);
        self.children.pause(until, &mut || view.frame(collector))
    }

    /// Tells a node to leave, and waits until it has ended.
    pub(crate) fn dismiss(&mut self, node: &str, within: Duration) -> Result<(), Failure> {
        let (view, collector) = (&mut self.view, &self.collector);
        self.children.dismiss(node, within, &mut || view.frame(collector))
    }

    /// Notes how much memory the nodes have had at most, where the system tells.
    pub(crate) fn note_memory(&mut self) {
        let peak = self.children.pids().into_iter().filter_map(peak_bytes_of).max();
        if let Some(step) = &mut self.open {
            step.rss_max_bytes = step.rss_max_bytes.max(peak);
        }
    }

    /// Waits for a node that was killed or has left; its end belongs to the step under way.
    pub(crate) fn reap(&mut self, node: &str) -> Result<u32, Failure> {
        let exit = self.children.reap(node)?;
        let pid = exit.pid;
        if let Some(step) = &mut self.open {
            step.exits.push(exit);
        }
        Ok(pid)
    }

    /// Writes down the step under way.
    pub(crate) fn end_step(&mut self) -> Result<(), Failure> {
        self.note_memory();
        let Some(mut step) = self.open.take() else { return Ok(()) };
        self.clock_us = os::monotonic_us();
        step.t1_us = self.clock_us;
        step.pids_after = self.children.pids();
        self.collector.step(&step)
    }

    /// Spreads the rate over the nodes that run, but for one that is about to leave: its clients end what they have begun.
    pub(crate) fn spread_load(&mut self, leaver: Option<&str>) -> Result<(), Failure> {
        let names = self.children.names();
        let sends = |name: &String| Some(name.as_str()) != leaver;
        let nodes = u32::try_from(names.iter().filter(|name| sends(name)).count()).unwrap_or(1).max(1);
        let (seed, counters, work_us_max) = (self.seed, self.args.names, self.play.work_us_max);
        let each = f64::from(self.args.rate) / f64::from(nodes);
        let told = self.everyone(|at| {
            let per_second = if names.get(at).is_some_and(sends) { each } else { 0.0 };
            Command::Load { per_second, counters, seed: seed ^ (at as u64) << 40, work_us_max }
        })?;
        self.wait(&told, LOAD_WITHIN).map(drop)
    }

    /// Has records arrive from now on.
    pub(crate) fn start_arrivals(&mut self) {
        self.arrivals = Some(Arrivals::start(&self.database));
    }

    /// No more arrivals.
    pub(crate) fn stop_arrivals(&mut self) -> Result<(), Failure> {
        self.arrivals.take().map_or(Ok(()), Arrivals::stop)
    }

    /// Waits until the cleaner has begun and ended a run after this moment.
    pub(crate) fn await_full_run(&mut self, after_ms: f64) -> Result<(), Failure> {
        let until = Instant::now() + FULL_RUN_WITHIN + Duration::from_millis(self.args.cleaner_period_ms * 2);
        while Instant::now() < until {
            let done = database::full_run_since(&self.database, after_ms);
            if done.map_err(|error| Failure::check("the database can not be read").detail(error))? {
                return Ok(());
            }
            self.pause(Instant::now() + FULL_RUN_POLL)?;
        }
        // The judge will say what is missing.
        Ok(())
    }

    /// Ends the nodes and brings all evidence into its files.
    pub(crate) fn close(mut self) -> Result<(), Failure> {
        self.view.clear();
        self.view.close_database();
        // A story that was cut short is judged by what there is.
        self.end_step()?;
        self.children.end()?;
        self.collector.flush()?;
        database::seal(&self.database)
            .map_err(|error| Failure::check("the database can not be closed").detail(error))
    }
}

/// The most memory that a process of this user has had, where the system tells it.
fn peak_bytes_of(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kilobytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kilobytes * 1_024)
}

/// Reads an answer.
pub(crate) fn read<T: DeserializeOwned>(answer: Value) -> Result<T, Failure> {
    serde_json::from_value(answer)
        .map_err(|error| Failure::check("an answer is not what was asked for").detail(error))
}
