//! The parent's side of its child processes: spawning this same binary, one reader per child, answers, ends.
//!
//! Whatever happens to the parent - an error, Ctrl-C, a panic - its children are killed and waited for when
//! [`Children`] is dropped.

use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::Value;

use crate::control::{Answer, Request};
use crate::demo::evidence::{Channel, ExitLine};
use crate::os;
use crate::output::Failure;

/// Answers and ends that wait for the parent; more than commands are ever open at once.
const EVENTS_MAX: usize = 4_096;
/// How often a waiting parent does what its caller wants done meanwhile: redraw.
const TICK: Duration = Duration::from_millis(100);
/// Lines of a dead child's log that are shown.
const LOG_LINES_SHOWN: usize = 12;

/// Where the lines of evidence of all children go.
pub(crate) trait Sink: Send + Sync + 'static {
    /// One line without its tag, with its line end. Called by the reader of one child, in the order written.
    fn line(&self, child: &str, channel: Channel, line: &[u8]);
}

/// What the parent waits for.
#[derive(Debug)]
enum Event {
    Answer(Answer),
    Ended { pid: u32 },
    Interrupted,
}

/// One running child.
#[derive(Debug)]
struct Running {
    name: String,
    pid: u32,
    process: Child,
    input: ChildStdin,
    reader: JoinHandle<()>,
    log: PathBuf,
    killed_us: Option<u64>,
    /// It was told to leave, and ends by itself.
    leaves: bool,
}

/// The children of this process.
pub(crate) struct Children {
    role: &'static str,
    dir: PathBuf,
    sink: Arc<dyn Sink>,
    running: Vec<Running>,
    /// Killed or gone, and not yet waited for.
    dying: Vec<Running>,
    events: Receiver<Event>,
    sender: SyncSender<Event>,
    next_id: u64,
    early: Vec<Answer>,
}

impl std::fmt::Debug for Children {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Children").field("running", &self.running).finish_non_exhaustive()
    }
}

impl Children {
    /// No children yet. They will run the hidden subcommand `child ROLE`, with a log each in `dir`.
    pub(crate) fn new(role: &'static str, dir: &Path, sink: Arc<dyn Sink>) -> Result<Self, Failure> {
        let (sender, events) = sync_channel(EVENTS_MAX);
        watch_signals(sender.clone())?;
        Ok(Self {
            role,
            dir: dir.to_owned(),
            sink,
            running: Vec::new(),
            dying: Vec::new(),
            events,
            sender,
            next_id: 1,
            early: Vec::new(),
        })
    }

    /// Starts a child called `name`.
    pub(crate) fn spawn(&mut self, name: &str) -> Result<u32, Failure> {
        let binary = std::env::current_exe().map_err(|error| not_started("own path", error))?;
        let mut program = Command::new(binary);
        program.args(["child", self.role, "--name", name, "--parent"]).arg(std::process::id().to_string());
        self.spawn_program(name, program)
    }

    /// Starts a child that is another program, which answers commands as our own children do.
    pub(crate) fn spawn_program(&mut self, name: &str, mut program: Command) -> Result<u32, Failure> {
        let starting = self.dir.join(format!("{name}.starting.log"));
        let log = File::create(&starting).map_err(|error| not_started("log file", error))?;
        let mut process = program
            .env(crate::demo::NODE_VARIABLE, name)
            // A panic of the demo is told on purpose: its trace would cost more time than the restart.
            .env_remove("RUST_BACKTRACE")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            // Ctrl-C goes to the whole foreground group; children end when the parent says so.
            .process_group(0)
            .spawn()
            .map_err(|error| not_started("spawn", error))?;
        let pid = process.id();
        let log = self.dir.join(format!("{pid}.log"));
        std::fs::rename(&starting, &log).map_err(|error| not_started("log file", error))?;
        let (Some(input), Some(output)) = (process.stdin.take(), process.stdout.take()) else {
            return Err(not_started("pipes", ErrorKind::BrokenPipe.into()));
        };
        let (sink, sender, reader_name) = (Arc::clone(&self.sink), self.sender.clone(), name.to_owned());
        let reader = std::thread::spawn(move || {
            read_lines(&reader_name, output, &*sink, &sender);
            // Nobody may listen any more, and a full queue must not keep the thread from ending.
            let _ = sender.try_send(Event::Ended { pid });
        });
        self.running.push(Running {
            name: name.to_owned(),
            pid,
            process,
            input,
            reader,
            log,
            killed_us: None,
            leaves: false,
        });
        Ok(pid)
    }

    /// Names and pids of the children, in the order of their start.
    pub(crate) fn pids(&self) -> Vec<u32> {
        self.running.iter().map(|child| child.pid).collect()
    }

    /// Names of the children, in the order of their start.
    pub(crate) fn names(&self) -> Vec<String> {
        self.running.iter().map(|child| child.name.clone()).collect()
    }

    /// Sends a command; its answer is waited for by the returned id.
    pub(crate) fn send<C: Serialize>(&mut self, child: &str, command: C) -> Result<u64, Failure> {
        let id = self.next_id;
        self.next_id += 1;
        let mut line = serde_json::to_vec(&Request { id, command })
            .map_err(|error| Failure::check("a command can not be written").detail(error))?;
        line.push(b'\n');
        let child = self
            .running
            .iter_mut()
            .find(|running| running.name == child)
            .ok_or_else(|| Failure::check(format!("there is no child {child}")))?;
        match child.input.write_all(&line) {
            Ok(()) => Ok(id),
            Err(error) => Err(ended_unasked(&child.name, &child.log).detail(error)),
        }
    }

    /// Sends a command and waits for its answer.
    pub(crate) fn ask<C: Serialize>(
        &mut self,
        child: &str,
        command: C,
        within: Duration,
        tick: &mut dyn FnMut(),
    ) -> Result<Value, Failure> {
        let id = self.send(child, command)?;
        let mut answers = self.wait(&[id], within, tick)?;
        answers.pop().ok_or_else(|| Failure::check("no answer"))
    }

    /// Waits for the answers to all of `ids`, in their order.
    pub(crate) fn wait(
        &mut self,
        ids: &[u64],
        within: Duration,
        tick: &mut dyn FnMut(),
    ) -> Result<Vec<Value>, Failure> {
        let until = Instant::now() + within;
        loop {
            let all_here = ids.iter().all(|id| self.early.iter().any(|answer| answer.id == *id));
            if all_here {
                return ids.iter().map(|id| self.take(*id)).collect();
            }
            if !self.step(until, tick)? {
                let waiting =
                    ids.iter().filter(|id| !self.early.iter().any(|answer| answer.id == **id)).count();
                return Err(Failure::check(format!(
                    "{waiting} of {} commands were not answered in {:.0} s",
                    ids.len(),
                    within.as_secs_f64()
                )));
            }
        }
    }

    /// Lets time pass, with `tick` done every now and then. Ends early with an error if something goes wrong.
    pub(crate) fn pause(&mut self, until: Instant, tick: &mut dyn FnMut()) -> Result<(), Failure> {
        while self.step(until, tick)? {}
        Ok(())
    }

    /// Takes one event; false when the time is over.
    fn step(&mut self, until: Instant, tick: &mut dyn FnMut()) -> Result<bool, Failure> {
        tick();
        let left = until.saturating_duration_since(Instant::now());
        match self.events.recv_timeout(left.min(TICK)) {
            Ok(Event::Answer(answer)) => self.early.push(answer),
            Ok(Event::Interrupted) | Err(RecvTimeoutError::Disconnected) => {
                return Err(Failure::interrupted());
            }
            Ok(Event::Ended { pid }) => {
                let at = self.running.iter().position(|child| child.pid == pid);
                match at.map(|at| (at, &self.running[at])) {
                    Some((at, child)) if child.leaves => {
                        let child = self.running.remove(at);
                        self.dying.push(child);
                    }
                    Some((_, child)) => return Err(ended_unasked(&child.name, &child.log)),
                    None => {}
                }
            }
            Err(RecvTimeoutError::Timeout) => return Ok(Instant::now() < until),
        }
        Ok(true)
    }

    fn take(&mut self, id: u64) -> Result<Value, Failure> {
        let at = self.early.iter().position(|answer| answer.id == id);
        let answer = at.map(|at| self.early.swap_remove(at));
        match answer.map(|answer| answer.result) {
            Some(Ok(value)) => Ok(value),
            Some(Err(trouble)) if trouble.environment => {
                Err(Failure::environment(trouble.what).detail(trouble.detail))
            }
            Some(Err(trouble)) => Err(Failure::check(trouble.what).detail(trouble.detail)),
            None => Err(Failure::check("no answer")),
        }
    }

    /// kill -9, and returns when kill(2) has; the end itself is told by [`Children::reap`].
    pub(crate) fn kill(&mut self, name: &str) -> Result<u64, Failure> {
        let Some(at) = self.running.iter().position(|child| child.name == name) else {
            return Err(Failure::check(format!("there is no child {name} to kill")));
        };
        let mut child = self.running.remove(at);
        let killed = os::kill_9(child.pid);
        let killed_us = os::monotonic_us();
        child.killed_us = Some(killed_us);
        self.dying.push(child);
        killed.map_err(|error| Failure::check(format!("can not kill {name}")).detail(error))?;
        Ok(killed_us)
    }

    /// Tells a child to leave, by SIGTERM, and waits until it has ended by itself; how it ended is told by
    /// [`Children::reap`].
    pub(crate) fn dismiss(
        &mut self,
        name: &str,
        within: Duration,
        tick: &mut dyn FnMut(),
    ) -> Result<(), Failure> {
        let Some(child) = self.running.iter_mut().find(|child| child.name == name) else {
            return Err(Failure::check(format!("there is no child {name} to dismiss")));
        };
        let pid = child.pid;
        child.leaves = true;
        os::terminate(pid)
            .map_err(|error| Failure::check(format!("can not tell {name} to leave")).detail(error))?;
        let until = Instant::now() + within;
        while self.running.iter().any(|child| child.pid == pid) {
            if !self.step(until, tick)? {
                return Err(Failure::check(format!(
                    "{name} was told to leave, and runs on after {:.0} s",
                    within.as_secs_f64()
                )));
            }
        }
        Ok(())
    }

    /// Waits until wait(2) has told how a killed child ended, and all it wrote has been read.
    pub(crate) fn reap(&mut self, name: &str) -> Result<ExitLine, Failure> {
        let at = self.dying.iter().position(|child| child.name == name);
        let child = at.map(|at| self.dying.swap_remove(at));
        reap(child.ok_or_else(|| Failure::check(format!("{name} was not told to end")))?)
    }

    /// Kills what still runs and waits for it.
    pub(crate) fn end(&mut self) -> Result<Vec<ExitLine>, Failure> {
        let mut ending = std::mem::take(&mut self.running);
        ending.append(&mut self.dying);
        // All of them before the first is waited for: no node shall see another one die and act on it.
        for child in &mut ending {
            let _ = os::kill_9(child.pid);
            child.killed_us.get_or_insert(os::monotonic_us());
        }
        ending.into_iter().map(reap).collect()
    }
}

impl Drop for Children {
    fn drop(&mut self) {
        let _ = self.end();
    }
}

fn reap(mut child: Running) -> Result<ExitLine, Failure> {
    drop(child.input);
    let status = child
        .process
        .wait()
        .map_err(|error| Failure::check(format!("can not wait for {}", child.name)).detail(error))?;
    let waited_us = os::monotonic_us();
    let _ = child.reader.join();
    Ok(ExitLine {
        pid: child.pid,
        node: child.name,
        killed_us: child.killed_us,
        waited_us,
        signal: status.signal(),
        code: status.code(),
    })
}

fn not_started(what: &str, error: std::io::Error) -> Failure {
    Failure::environment(format!("can not start a child process: {what}"))
        .detail(error)
        .hint("look at `ulimit -u`, `ulimit -n` and the room in the temporary directory")
}

fn ended_unasked(name: &str, log: &Path) -> Failure {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let shown = lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].join("\n");
    let failure = Failure::check(format!("the process of {name} ended by itself"));
    if shown.is_empty() { failure } else { failure.detail(shown) }
}

fn read_lines(name: &str, output: ChildStdout, sink: &dyn Sink, events: &SyncSender<Event>) {
    let mut reader = BufReader::with_capacity(1 << 16, output);
    let mut line = Vec::new();
    loop {
        line.clear();
        match reader.read_until(b'\n', &mut line) {
            Ok(length) if length > 0 && line.ends_with(b"\n") => {}
            // A line without its end was cut by the death of its writer.
            _ => break,
        }
        match Channel::of_tag(line[0]) {
            Some(Channel::Answer) => {
                if let Ok(answer) = serde_json::from_slice(&line[1..]) {
                    let _ = events.send(Event::Answer(answer));
                }
            }
            Some(channel) => sink.line(name, channel, &line[1..]),
            None => {}
        }
    }
}

/// Turns Ctrl-C, SIGTERM and SIGHUP into an event, so that the parent ends its children first.
fn watch_signals(events: SyncSender<Event>) -> Result<(), Failure> {
    use tokio::signal::unix::{SignalKind, signal};
    let failed = |error: std::io::Error| Failure::environment("can not watch for signals").detail(error);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let guard = runtime.enter();
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut hangup = signal(SignalKind::hangup()).map_err(failed)?;
    drop(guard);
    std::thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                biased;
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
                _ = hangup.recv() => {}
            }
        });
        let _ = events.send(Event::Interrupted);
    });
    Ok(())
}
