//! What a run leaves behind, and all that the checkers may look at.
//!
//! The world writes it down while it runs; no checker ever looks into a node. Points of time are microseconds of
//! virtual time. Names are indices into [`History::names`], nodes are indices of the run's machines.

mod groups;
mod monitors;
mod streams;

pub(crate) use groups::{Census, Counts, Inspected, Reading, Roll};
pub(crate) use monitors::{Monitor, Snapshot, Told};
pub(crate) use streams::{Follows, Stream};

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use whimbrel_core::base::limits::Usage;
use whimbrel_core::base::{ErrorCode, Executed, ExitReason, Hindrance, Incarnation, Name, RequestId, Token};
use whimbrel_core::directory::{Record, RestartPolicy};
use whimbrel_core::view::{Labels, View, ViewId};

/// Virtual microseconds since the start of the run.
pub(crate) type Micros = u64;
/// One second.
pub(crate) const SECOND: Micros = 1_000_000;
/// One millisecond.
pub(crate) const MILLI: Micros = 1_000;
/// A point that never comes.
pub(crate) const NEVER: Micros = u64::MAX;

/// What a client did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OpKind {
    Start(RestartPolicy),
    Call,
    Cast,
    Locate,
    Stop,
    List,
    Release,
    /// Move it to that machine.
    Move {
        to: u16,
    },
    /// Join that group.
    Join {
        group: u32,
    },
    Leave {
        group: u32,
    },
    /// Read what belongs to the name.
    Inspect,
    /// Change its metadata, if it still has this version.
    SetMeta {
        expected: Option<u64>,
    },
}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Call answered, cast handed over, listing delivered, stop or release done.
    Ok,
    /// Start: this request made the process.
    Started { token: Token, copies: u8 },
    /// Start: another one did.
    Already { token: Token },
    /// Locate: there it is.
    Located { token: Token, host: Incarnation },
    /// Metadata: changed, this is its version now.
    Changed { version: u64 },
    /// Metadata: somebody else has changed it, this is its version.
    Conflict { version: u64 },
    /// An error.
    Failed { code: ErrorCode, executed: Executed },
}

/// One operation of a client.
#[derive(Clone, Debug)]
pub(crate) struct Op {
    pub(crate) kind: OpKind,
    /// The client: order is promised per client and name.
    pub(crate) client: u32,
    /// The machine it ran on.
    pub(crate) host: u16,
    pub(crate) name: u32,
    /// Counts calls and casts of this client to this name.
    pub(crate) number: u32,
    pub(crate) invoked: Micros,
    /// When it must have an outcome.
    pub(crate) deadline: Micros,
    /// The request of its node, when it was one.
    pub(crate) request: Option<RequestId>,
    pub(crate) completed: Option<(Micros, Outcome)>,
    /// An outcome that came after the first.
    pub(crate) second_outcome: bool,
    /// A cast that ended without being handled: told to the dead letters.
    pub(crate) dead_letter: Option<(Micros, ErrorCode, Executed)>,
}

/// How an instance ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    InitFailed,
    Crashed,
    Normal,
    Stopped,
    /// Told to end by its node, for another reason than a stop.
    Terminated,
    NodeKilled,
    /// It goes on at another node.
    Moved,
}

/// One life of a name on one node.
#[derive(Clone, Debug)]
pub(crate) struct Life {
    pub(crate) name: u32,
    pub(crate) token: Token,
    /// Tokens it had later, by conflicts won.
    pub(crate) retokens: Vec<Token>,
    pub(crate) gate: Token,
    pub(crate) host: u16,
    pub(crate) policy: RestartPolicy,
    pub(crate) request: RequestId,
    pub(crate) in_place: bool,
    /// The life that came here from another node.
    pub(crate) moved_from: Option<u32>,
    pub(crate) launched: Micros,
    pub(crate) running: Option<Micros>,
    /// Since when it is on its way to another node: it does nothing any more, unless the move is called off.
    pub(crate) sealed: Option<Micros>,
    /// The same, from when until when, of moves that were called off.
    pub(crate) rests: Vec<(Micros, Micros)>,
    pub(crate) ended: Option<(Micros, End)>,
    /// The reason that it gave, or was given, when it ended.
    pub(crate) reason: Option<ExitReason>,
    /// All messages that it and those before it have handled, summed up in order.
    pub(crate) state: u64,
    /// The same when it began.
    pub(crate) state_at_start: u64,
}

/// One message that a handler took in hand.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Handled {
    pub(crate) op: u32,
    pub(crate) life: u32,
    pub(crate) at: Micros,
}

/// The end of one life of a machine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kill {
    pub(crate) host: u16,
    pub(crate) at: Micros,
}

/// A node that drains, or did.
#[derive(Clone, Debug)]
pub(crate) struct Drain {
    pub(crate) host: u16,
    pub(crate) at: Micros,
    /// How long it may take.
    pub(crate) within: Micros,
    pub(crate) over: Option<Micros>,
    /// What it said was left, and why.
    pub(crate) stayed: Vec<(u32, Hindrance)>,
}

/// A time in which something kept live nodes from talking or running.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Disturbance {
    pub(crate) from: Micros,
    pub(crate) until: Micros,
    /// The machine that was frozen, or none for a cut between machines.
    pub(crate) frozen: Option<u16>,
}

/// One view installed on one node.
#[derive(Clone, Debug)]
pub(crate) struct Installed {
    pub(crate) host: u16,
    pub(crate) at: Micros,
    pub(crate) view: Arc<View>,
}

/// The most that a table of any node has held.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fullest {
    pub(crate) usage: Usage,
    pub(crate) host: u16,
    pub(crate) at: Micros,
}

/// What one node was like when the run ended.
#[derive(Clone, Debug)]
pub(crate) struct FinalNode {
    pub(crate) host: u16,
    pub(crate) incarnation: Option<Incarnation>,
    pub(crate) view: Option<Arc<View>>,
    /// Whether it has rebalancing as paused.
    pub(crate) paused: bool,
}

/// The answer of a probe of the liveness phase.
#[derive(Clone, Debug)]
pub(crate) struct Probe {
    pub(crate) op: u32,
    pub(crate) name: u32,
    pub(crate) host: u16,
}

/// All of it.
#[derive(Debug, Default)]
pub(crate) struct History {
    pub(crate) names: Vec<Name>,
    pub(crate) ops: Vec<Op>,
    pub(crate) lives: Vec<Life>,
    pub(crate) handled: Vec<Handled>,
    pub(crate) kills: Vec<Kill>,
    /// Starts of nodes.
    pub(crate) boots: Vec<(u16, Micros)>,
    pub(crate) disturbances: Vec<Disturbance>,
    pub(crate) installed: Vec<Installed>,
    /// Lives of nodes, and when they began.
    pub(crate) incarnations: Vec<(u16, Incarnation, Micros)>,
    /// The owner of each slot, by view, as the first node that installed it has it.
    pub(crate) owners: BTreeMap<ViewId, Vec<Option<Incarnation>>>,
    /// By table.
    pub(crate) fullest: BTreeMap<&'static str, Fullest>,
    /// How many processes a node may host.
    pub(crate) capacity: Option<usize>,
    /// Names that a start wanted on one node.
    pub(crate) placed: BTreeSet<u32>,
    /// Labels of the machines.
    pub(crate) labels: Vec<Labels>,
    /// Labels that names want.
    pub(crate) wants: BTreeMap<u32, Labels>,
    /// Names below this may be slow, or hang.
    pub(crate) odd_names: u32,
    /// Connections took time for each frame, so messages waited for others.
    pub(crate) paced: bool,
    /// Names reported as failed too often.
    pub(crate) quarantined: Vec<(u32, Micros)>,
    /// Nodes that were told that their name is borne by another.
    pub(crate) name_taken: Vec<u16>,
    /// Names that became suspect of killing their nodes, and when.
    pub(crate) suspected: Vec<(u32, Micros)>,
    /// Nodes that left their line (expelled, or for another line): they keep no copies.
    pub(crate) line_changes: Vec<(u16, Micros)>,
    /// Nodes that were expelled.
    pub(crate) expulsions: Vec<(u16, Micros)>,
    /// Nodes that asked to leave.
    pub(crate) leaves: Vec<(u16, Micros)>,
    pub(crate) drains: Vec<Drain>,
    pub(crate) readings: Vec<Reading>,
    pub(crate) censuses: Vec<Census>,
    pub(crate) inspected: Vec<Inspected>,
    pub(crate) monitors: Vec<Monitor>,
    pub(crate) snapshots: Vec<Snapshot>,
    pub(crate) streams: Vec<Stream>,
    /// Wall clocks of machines differ.
    pub(crate) clocks_differ: bool,
    /// When every fault was healed; [`NEVER`] while it was not.
    pub(crate) healed: Micros,
    /// When all live nodes had one view with exactly them, after that.
    pub(crate) converged: Option<Micros>,
    pub(crate) finals: Vec<FinalNode>,
    pub(crate) probes: Vec<Probe>,
    /// Things that must not happen at all, seen by the world itself: a session gap, a refused decode.
    pub(crate) oddities: Vec<String>,
    pub(crate) ended: Micros,
}

impl History {
    /// The text of a name.
    pub(crate) fn name(&self, name: u32) -> &str {
        self.names.get(name as usize).map_or("?", Name::as_str)
    }

    /// Whether a machine died at or after `from` and at or before `until`.
    pub(crate) fn killed_between(&self, host: u16, from: Micros, until: Micros) -> bool {
        self.kills.iter().any(|kill| kill.host == host && kill.at >= from && kill.at <= until)
    }

    /// Whether the node that ended so had been drained before: all that could move had moved.
    pub(crate) fn was_drained(&self, host: u16, at: Micros) -> bool {
        let booted = self.boots.iter().filter(|(h, t)| *h == host && *t <= at).map(|(_, t)| *t).max();
        let drained = |drain: &&Drain| drain.host == host && drain.at >= booted.unwrap_or(0);
        self.drains
            .iter()
            .filter(drained)
            .any(|drain| drain.over.is_some_and(|over| over <= at && over < drain.at + drain.within))
    }

    /// Whether nothing but crashes happened: no cut, no pause, no change of lines.
    pub(crate) fn crash_only(&self) -> bool {
        self.disturbances.is_empty() && self.line_changes.is_empty()
    }
}

impl Op {
    /// The error it ended with.
    pub(crate) fn failed(&self) -> Option<(ErrorCode, Executed)> {
        match &self.completed {
            Some((_, Outcome::Failed { code, executed })) => Some((*code, *executed)),
            _ => None,
        }
    }
}

impl Life {
    /// A life that begins, as its record says.
    pub(crate) fn begun(name: u32, record: &Record, host: u16, now: Micros) -> Self {
        Self {
            name,
            token: record.token,
            retokens: Vec::new(),
            gate: record.gate,
            host,
            policy: record.policy,
            request: record.request,
            in_place: false,
            moved_from: None,
            launched: now,
            running: None,
            sealed: None,
            rests: Vec::new(),
            ended: None,
            reason: None,
            state: 0,
            state_at_start: 0,
        }
    }

    /// Its last token.
    pub(crate) fn token_now(&self) -> Token {
        self.retokens.last().copied().unwrap_or(self.token)
    }

    /// Whether it had this token at any time.
    pub(crate) fn had(&self, token: Token) -> bool {
        self.token == token || self.retokens.contains(&token)
    }

    /// When it was over, or the end of time. One that is on its way to another node does nothing any more.
    pub(crate) fn end(&self) -> Micros {
        let ended = self.ended.map_or(NEVER, |(at, _)| at);
        self.sealed.map_or(ended, |sealed| sealed.min(ended))
    }

    /// The times in which it ran, until the end of the run at most: it stands still while it is on its way to another node.
    pub(crate) fn runs(&self, over: Micros) -> Vec<(Micros, Micros)> {
        let Some(mut from) = self.running else { return Vec::new() };
        let mut runs = Vec::new();
        for (sealed, released) in &self.rests {
            runs.push((from, *sealed));
            from = *released;
        }
        runs.push((from, self.end().min(over)));
        runs
    }

    /// Whether it was on its way to another node.
    pub(crate) fn rested_at(&self, at: Micros) -> bool {
        self.rests.iter().any(|(sealed, released)| *sealed < at && at < *released)
            || self.sealed.is_some_and(|sealed| sealed < at)
    }
}
