//! The lines of evidence: what nodes and the parent write down, and what `verify` judges by.
//!
//! A node writes each line with one write(2) to the pipe that is its standard output, before the reply it tells
//! about leaves. A line is shorter than PIPE_BUF, so it arrives whole or not at all, and it is in the pipe when
//! the node is killed a moment later. All times are CLOCK_MONOTONIC, read where the thing happened.

use std::io::Write;

use serde::{Deserialize, Serialize};

/// File of what clients did.
pub(crate) const HISTORY: &str = "history.jsonl";
/// File of what instances handled.
pub(crate) const HANDLED: &str = "handled.jsonl";
/// File of the messages that nobody will handle.
pub(crate) const DEADLETTERS: &str = "deadletters.jsonl";
/// File of what happened to processes that moved.
pub(crate) const MOVES: &str = "moves.jsonl";
/// File of what nodes read of groups.
pub(crate) const GROUPS: &str = "groups.jsonl";
/// File of what watchers were told.
pub(crate) const MONITORS: &str = "monitors.jsonl";
/// File of the story's steps.
pub(crate) const STEPS: &str = "steps.jsonl";
/// File of the cleaner's database.
pub(crate) const DATABASE: &str = "cleaner.sqlite";
/// Name of the singleton.
pub(crate) const CLEANER: &str = "database-cleaner";

/// The name of a counter.
pub(crate) fn counter_name(index: u32) -> String {
    format!("counter-{index:05}")
}

/// Counters in a group.
const GROUP_SIZE: u32 = 30;

/// The group of a counter.
pub(crate) fn group_name(counter: u32) -> String {
    format!("ward-{:04}", counter / GROUP_SIZE)
}

/// Bytes that one write to a pipe keeps together; POSIX demands 512, Linux and macOS have at least this.
const LINE_BYTES_MAX: usize = 4_096;

/// What a client did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Op {
    /// A call of a counter.
    Call,
    /// A cast to a counter.
    Cast,
    /// A start of a name.
    Start,
    /// A call of the cleaner, to see whether it is there.
    Ping,
    /// The cast that makes the cleaner panic.
    Panic,
}

impl Op {
    /// Whether a reply is awaited.
    pub(crate) const fn is_call(self) -> bool {
        matches!(self, Op::Call | Op::Ping)
    }

    /// Whether it is a message without a reply.
    pub(crate) const fn is_cast(self) -> bool {
        matches!(self, Op::Cast | Op::Panic)
    }
}

/// Whether the message of an operation was executed, as its outcome says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Executed {
    /// It was: a reply came.
    Yes,
    /// It was not and never will be.
    No,
    /// It may have been.
    Unknown,
}

/// One operation of one client, written when its outcome is known.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct HistoryLine {
    /// `client/name/n`.
    pub(crate) id: String,
    /// `node.index`: one sender.
    pub(crate) client: String,
    /// The node the client is on.
    pub(crate) node: String,
    /// Whom it went to.
    pub(crate) name: String,
    /// What it was.
    pub(crate) op: Op,
    /// Number per (client, name), from 1.
    pub(crate) n: u64,
    /// Before it was sent.
    pub(crate) t0_us: u64,
    /// When the outcome was known.
    pub(crate) t1_us: u64,
    /// `ok`, `started`, or an error code.
    pub(crate) outcome: String,
    /// Whether it ran.
    pub(crate) executed: Executed,
    /// Token of the instance that replied.
    pub(crate) token: Option<u64>,
    /// The counter's value in its reply: what it had counted by then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) value: Option<u64>,
    /// How long its handler was told to take.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) work_us: u64,
}

#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// One message in the hands of one instance.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct HandledLine {
    /// The operation's id.
    pub(crate) id: String,
    /// The instance's name.
    pub(crate) name: String,
    /// The instance's token.
    pub(crate) token: u64,
    /// The node it ran on.
    pub(crate) node: String,
    /// The process it ran in.
    pub(crate) pid: u32,
    /// When.
    pub(crate) t_us: u64,
}

/// How far a move was when its line was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum MoveAt {
    /// At the source: it handles nothing more there.
    Rests,
    /// At the target: it handles messages from now on.
    Runs,
    /// At the source: the move was called off, it goes on.
    GoesOn,
}

/// One step of the move of one process, as the library told it to the node on which it happened.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct MoveLine {
    /// The process's name.
    pub(crate) name: String,
    /// The attempt: the token of its life at the target.
    pub(crate) token: u64,
    /// How far it was.
    pub(crate) stage: MoveAt,
    /// The node where that was.
    pub(crate) node: String,
    /// The OS process of that node.
    pub(crate) pid: u32,
    /// When.
    pub(crate) t_us: u64,
}

/// One message that nobody will handle.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct DeadLetterLine {
    /// The operation's id, when the message could be read.
    pub(crate) id: Option<String>,
    /// Whom it was meant for.
    pub(crate) name: String,
    /// Why not.
    pub(crate) reason: String,
    /// The node that says so.
    pub(crate) node: String,
    /// When.
    pub(crate) t_us: u64,
}

/// One group as one node read it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct GroupLine {
    /// After this step.
    pub(crate) step: String,
    /// The group.
    pub(crate) group: String,
    /// Who is in it.
    pub(crate) members: Vec<String>,
    /// The node that read it.
    pub(crate) node: String,
    /// When.
    pub(crate) t_us: u64,
}

/// What became of a monitor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum MonitorAt {
    /// It is set.
    Set,
    /// Its watcher was told of an end.
    Down,
}

/// One word of one monitor.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct MonitorLine {
    /// Who is watched.
    pub(crate) name: String,
    /// Number of the monitor per (watching OS process, name), from 1.
    pub(crate) number: u64,
    /// What.
    pub(crate) at: MonitorAt,
    /// The life that ended.
    pub(crate) token: Option<u64>,
    /// Why.
    pub(crate) reason: Option<String>,
    /// The watching node.
    pub(crate) node: String,
    /// Its OS process.
    pub(crate) pid: u32,
    /// When.
    pub(crate) t_us: u64,
}

/// The end of a node's process, as wait(2) told it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ExitLine {
    /// The process.
    pub(crate) pid: u32,
    /// The node it was.
    pub(crate) node: String,
    /// kill(2) had returned, when the parent killed it.
    pub(crate) killed_us: Option<u64>,
    /// wait(2) had returned.
    pub(crate) waited_us: u64,
    /// The signal that ended it.
    pub(crate) signal: Option<i32>,
    /// Its exit code.
    pub(crate) code: Option<i32>,
}

/// What a run is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Purpose {
    /// To show what happens when things fail and change.
    #[default]
    Demo,
    /// To go on for long while nodes come and go.
    Soak,
}

impl Purpose {
    /// The command that it is the purpose of.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Purpose::Demo => "demo",
            Purpose::Soak => "soak",
        }
    }
}

/// What a run was asked to do; stands in the row of the first step.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct RunLine {
    /// Version that ran.
    pub(crate) version: String,
    /// Seed of the load.
    pub(crate) seed: u64,
    /// What for.
    #[serde(default)]
    pub(crate) purpose: Purpose,
    /// Nodes at the start.
    pub(crate) nodes: u32,
    /// Counters.
    pub(crate) names: u32,
    /// Messages per second in all.
    pub(crate) rate: u32,
    /// Seconds of the story.
    pub(crate) seconds: u32,
    /// Pause between two runs of the cleaner.
    pub(crate) cleaner_period_ms: u64,
    /// Races of `double_start`.
    pub(crate) races: u32,
    /// The steps that the run sets out to show.
    pub(crate) planned: Vec<String>,
}

/// One step of the story.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct StepLine {
    /// Its name.
    pub(crate) step: String,
    /// Its begin.
    pub(crate) t0_us: u64,
    /// Its end, the next one's begin.
    pub(crate) t1_us: u64,
    /// The nodes' processes at its begin.
    pub(crate) pids_before: Vec<u32>,
    /// The nodes' processes at its end.
    pub(crate) pids_after: Vec<u32>,
    /// Processes that ended in it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) exits: Vec<ExitLine>,
    /// The most memory that one of the nodes' processes had resident until its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) rss_max_bytes: Option<u64>,
    /// What the run was asked to do; in the first row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) run: Option<RunLine>,
}

/// Which file a line of a node's standard output belongs to: its first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Channel {
    /// `history.jsonl`
    History,
    /// `handled.jsonl`
    Handled,
    /// `deadletters.jsonl`
    DeadLetters,
    /// `moves.jsonl`
    Moves,
    /// `groups.jsonl`
    Groups,
    /// `monitors.jsonl`
    Monitors,
    /// An answer to the parent; goes into no file.
    Answer,
}

impl Channel {
    /// The byte in front of a line of this channel.
    pub(crate) const fn tag(self) -> u8 {
        match self {
            Channel::History => b'h',
            Channel::Handled => b'd',
            Channel::DeadLetters => b'x',
            Channel::Moves => b'm',
            Channel::Groups => b'g',
            Channel::Monitors => b'w',
            Channel::Answer => b'a',
        }
    }

    /// The channel of a tagged line.
    pub(crate) const fn of_tag(tag: u8) -> Option<Self> {
        match tag {
            b'h' => Some(Channel::History),
            b'd' => Some(Channel::Handled),
            b'x' => Some(Channel::DeadLetters),
            b'm' => Some(Channel::Moves),
            b'g' => Some(Channel::Groups),
            b'w' => Some(Channel::Monitors),
            b'a' => Some(Channel::Answer),
            _ => None,
        }
    }
}

/// Writes one line of evidence with one write(2) to the pipe that standard output is.
///
/// Blocks while the pipe is full: a node whose evidence nobody reads must not go on. A parent that is gone makes
/// the write fail; then the process is about to die and nobody judges it.
pub(crate) fn write_line<T: Serialize>(channel: Channel, line: &T) {
    let mut bytes = Vec::with_capacity(256);
    bytes.push(channel.tag());
    if serde_json::to_writer(&mut bytes, line).is_err() {
        return;
    }
    bytes.push(b'\n');
    debug_assert!(
        channel == Channel::Answer || bytes.len() <= LINE_BYTES_MAX,
        "an evidence line must stay whole"
    );
    // The standard writer passes a buffer that ends a line through at once, and its lock keeps long answers whole.
    let _ = std::io::stdout().lock().write_all(&bytes);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_longest_line_fits_one_atomic_write() {
        let name = "\u{7f}é\"".repeat(60);
        let line = HistoryLine {
            id: format!("{}/{name}/{}", "n".repeat(40), u64::MAX),
            client: "n".repeat(40),
            node: "n".repeat(40),
            name,
            op: Op::Call,
            n: u64::MAX,
            t0_us: u64::MAX,
            t1_us: u64::MAX,
            outcome: "args_too_large".into(),
            executed: Executed::Unknown,
            token: Some(u64::MAX),
            value: Some(u64::MAX),
            work_us: u64::MAX,
        };
        assert!(serde_json::to_vec(&line).unwrap().len() + 2 < LINE_BYTES_MAX);
    }

    #[test]
    fn every_channel_has_its_own_tag() {
        let all = [Channel::History, Channel::Handled, Channel::DeadLetters, Channel::Moves, Channel::Answer];
        for channel in all {
            assert_eq!(Channel::of_tag(channel.tag()), Some(channel));
        }
        assert_eq!(Channel::of_tag(b'?'), None);
    }
}
