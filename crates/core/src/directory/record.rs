//! A record: all that the cluster knows about one name.

use std::time::Duration;

use minicbor::{Decode, Encode};

use super::attached::Attached;
use super::placing::Placement;
use super::request::Answer;
use super::suspects::Suspicion;
use crate::base::hash::mix;
use crate::base::{Bytes, ExitReason, Few, Incarnation, Kind, Name, RequestId, Token};

/// When a process that ended is started again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum RestartPolicy {
    /// After every end but a stop.
    #[default]
    #[n(0)]
    Permanent,
    /// After every abnormal end; the loss of its node is one.
    #[n(1)]
    Transient,
    /// Never.
    #[n(2)]
    Temporary,
}

/// What a name's record says about its process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum RecordState {
    /// Granted to its host for the first time; `init` has not answered.
    #[n(0)]
    Starting,
    /// `init` returned.
    #[n(1)]
    Running,
    /// It ended and was granted again; `init` has not answered.
    #[n(2)]
    Restarting,
    /// It ended and waits for its next restart; the mailbox waits at its host.
    #[n(3)]
    BackingOff,
    /// It failed too often; `release` starts it again.
    #[n(4)]
    Quarantined,
    /// An existing local process that was given this name: never restarted, never moved.
    #[n(5)]
    Registered,
    /// Told to stop; its host has not answered.
    #[n(6)]
    Stopping,
}

impl RestartPolicy {
    /// Whether a process that ended so is started again.
    pub const fn restarts_after(self, reason: &ExitReason) -> bool {
        match self {
            RestartPolicy::Permanent => true,
            RestartPolicy::Transient => !reason.is_normal(),
            RestartPolicy::Temporary => false,
        }
    }
}

impl RecordState {
    /// Whether the host has been told something and has yet to report.
    pub const fn is_passing(self) -> bool {
        matches!(self, RecordState::Starting | RecordState::Restarting | RecordState::Stopping)
    }
}

/// The entry of a name. Fields 17 to 20 are reserved: 18 for the store's version.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Record {
    /// The name.
    #[n(0)]
    pub name: Name,
    /// What kind of process it is.
    #[n(1)]
    pub kind: Kind,
    /// Encoded arguments of `init`, used at every start. At most 64 KiB, visible to operators.
    #[n(2)]
    pub args: Bytes,
    /// When it is started again.
    #[n(3)]
    pub policy: RestartPolicy,
    /// Where it is placed.
    #[n(4)]
    pub placement: Placement,
    /// The life of the node it runs on.
    #[n(5)]
    pub host: Incarnation,
    /// The fencing token of its present life.
    #[n(6)]
    pub token: Token,
    /// Names its present gate. A restart in place keeps the gate, so senders see that nothing they
    /// sent was lost; another gate means that the host was lost.
    #[n(7)]
    pub gate: Token,
    /// The request that started it: its retry gets the same answer.
    #[n(8)]
    pub request: RequestId,
    /// What it is doing.
    #[n(9)]
    pub state: RecordState,
    /// Ages of its recent restarts at the time of this write, in milliseconds, youngest last. Those after ends that were
    /// not its own doing do not count: moves, node deaths, lives that were told to end.
    #[n(10)]
    pub restart_ages_ms: Few<u32>,
    /// Milliseconds until the next restart, at the time of this write; only while it is backing off.
    #[n(11)]
    pub back_off_ms: u32,
    /// Requests that ended or began the lives before, when this name was started again: a late copy of one of them is
    /// answered, and does not stop this life or count as a start of it.
    #[n(12)]
    pub requests_before: Few<RequestId>,
    /// The stops of this life, while it is stopping.
    #[n(13)]
    pub stopping_by: Few<RequestId>,
    /// Whether `init` has ever returned Ok under this record: only then its start was, or will be, answered so.
    #[n(14)]
    pub has_run: bool,
    /// How long its present life had lasted at the time of this write, in milliseconds.
    #[n(15)]
    #[cbor(default)]
    pub age_ms: u32,
    /// Ages of the deaths of its hosts that came soon after its starts, at the time of this write, in milliseconds.
    #[n(21)]
    #[cbor(default)]
    pub node_deaths_ms: Few<u32>,
    /// Whether it is suspected of killing its nodes.
    #[n(22)]
    #[cbor(default)]
    pub suspicion: Suspicion,
    /// Whether it waits for a node that can take it: all that host its kind are full, or nobody does. Only while it is
    /// backing off; the host it names has nothing of it.
    #[n(23)]
    #[cbor(default)]
    pub waits_for_host: bool,
    /// The attempt to move it that is under way; only while it runs.
    #[n(24)]
    pub moving: Option<Box<Moving>>,
    /// The groups it is in, its metadata, its snapshot; nothing for most.
    #[n(16)]
    pub attached: Option<Box<Attached>>,
    /// The first token of its present life: planned moves give it others.
    #[n(25)]
    #[cbor(default)]
    pub born: Token,
    /// The tokens that its present life had before this one; of many the last.
    #[n(26)]
    #[cbor(default)]
    pub tokens_before: Few<Token>,
}

/// An attempt to move a process.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Moving {
    /// Where it is to run.
    #[n(0)]
    pub target: Incarnation,
    /// The life that begins there if the attempt is committed: names the attempt.
    #[n(1)]
    pub attempt: Token,
}

/// What remains of a name that is free: a later claim of the old life is refused by it, and retries of what ended
/// or made it get the answer of the first try.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Tombstone {
    /// The last life.
    #[n(0)]
    pub token: Token,
    /// The stops that ended it, then requests about the lives before; the last four.
    #[n(1)]
    pub stopped_by: Vec<RequestId>,
    /// The request that had started it.
    #[n(2)]
    pub started_by: RequestId,
    /// What that request was answered, or would have been.
    #[n(3)]
    pub outcome: StartOutcome,
}

impl Tombstone {
    /// What a next record is to know of: who began this life and who ended it.
    pub(super) fn requests(&self) -> Vec<RequestId> {
        std::iter::once(self.started_by).chain(self.stopped_by.iter().copied()).collect()
    }
}

/// How a start ended whose name is free again.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum StartOutcome {
    /// The process ran, here.
    #[n(0)]
    Ran(#[n(0)] Located),
    /// It never ran.
    #[n(1)]
    Failed(#[n(0)] ExitReason),
    /// Nobody had room for it, so it never began.
    #[n(2)]
    AtCapacity,
}

impl StartOutcome {
    /// What its start is answered, by an owner that keeps so many copies.
    pub(super) fn answer(&self, copies: u8) -> Answer {
        match self.clone() {
            StartOutcome::Ran(located) => Answer::Started { located, copies },
            StartOutcome::Failed(reason) => Answer::InitFailed(reason),
            StartOutcome::AtCapacity => Answer::AtCapacity,
        }
    }
}

/// Where a process can be reached.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Located {
    /// Its kind.
    #[n(0)]
    pub kind: Kind,
    /// The life of its host.
    #[n(1)]
    pub host: Incarnation,
    /// Its present life.
    #[n(2)]
    pub token: Token,
    /// The gate that admits its messages.
    #[n(3)]
    pub gate: Token,
}

/// Tokens of one life that are kept: of what was before them all are taken for its own.
const TOKENS_MAX: usize = 16;

/// Names the gate that is made for this life on this host.
///
/// Not the token alone: during a split two lines may give the same one to a name, and a sender must never take one
/// gate for the other.
pub(super) fn gate_of(token: Token, host: Incarnation) -> Token {
    Token::from_u64(mix(token.as_u64() ^ mix(host.nonce)).max(1))
}

/// An age, or a time to wait, as a record has it.
pub(super) fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}

impl Record {
    /// A name that nothing has happened to yet: about to start here under this token, permanent, placed by hash,
    /// without arguments.
    pub fn first(name: Name, kind: Kind, host: Incarnation, token: Token, request: RequestId) -> Self {
        Self {
            name,
            kind,
            args: Bytes::default(),
            policy: RestartPolicy::default(),
            placement: Placement::default(),
            host,
            token,
            gate: gate_of(token, host),
            request,
            state: RecordState::Starting,
            restart_ages_ms: Few::default(),
            back_off_ms: 0,
            requests_before: Few::default(),
            stopping_by: Few::default(),
            has_run: false,
            age_ms: 0,
            node_deaths_ms: Few::default(),
            suspicion: Suspicion::None,
            waits_for_host: false,
            moving: None,
            attached: None,
            born: token,
            tokens_before: Few::default(),
        }
    }

    /// Whether its life begins with a gate of its own, rather than with that of the life before.
    pub(super) fn is_fresh(&self) -> bool {
        self.gate == gate_of(self.token, self.host)
    }

    /// `init` of its present life returned Ok.
    pub(super) fn set_running(&mut self) {
        self.state = RecordState::Running;
        self.has_run = true;
        self.age_ms = 0;
    }

    /// A life begins under this token.
    pub(super) fn begin_life(&mut self, token: Token) {
        self.token = token;
        self.born = token;
        self.tokens_before = Few::default();
        self.age_ms = 0;
    }

    /// Its life goes on under a higher token.
    pub(super) fn set_token(&mut self, token: Token) {
        if self.tokens_before.len() == TOKENS_MAX
            && let Some(oldest) = self.tokens_before.first().copied()
        {
            self.tokens_before.retain(|token| *token != oldest);
        }
        self.tokens_before.push(self.token);
        self.token = token;
    }

    /// Whether its present life has this token, or had it.
    pub(super) fn is_life_of(&self, token: Token) -> bool {
        let earlier = self.tokens_before.len() == TOKENS_MAX
            && token >= self.born
            && self.tokens_before.first().is_some_and(|oldest| token < *oldest);
        token == self.token || self.tokens_before.contains(&token) || earlier
    }

    /// Its ages as of now, so much after it was written.
    pub(super) fn aged(&self, since_ms: u32) -> Self {
        let mut aged = self.clone();
        aged.grow_older(since_ms);
        aged
    }

    /// Whether somebody was told something and has yet to answer.
    pub(super) fn is_driven(&self) -> bool {
        self.state.is_passing() || self.moving.is_some()
    }

    /// Whether this attempt to move it is under way.
    pub(super) fn is_moving_as(&self, attempt: Token) -> bool {
        self.moving.as_ref().is_some_and(|moving| moving.attempt == attempt)
    }

    /// So much time has passed.
    pub(super) fn grow_older(&mut self, by_ms: u32) {
        let ages = self.restart_ages_ms.iter_mut().chain(self.node_deaths_ms.iter_mut());
        for age in ages.chain([&mut self.age_ms]) {
            *age = age.saturating_add(by_ms);
        }
        self.back_off_ms = self.back_off_ms.saturating_sub(by_ms);
    }

    /// About how many bytes it takes on the wire.
    pub(super) fn size(&self) -> usize {
        let texts = self.name.as_str().len() + self.kind.as_str().len() + self.placement.size();
        let attached = self.attached.as_ref().map_or(0, |attached| attached.bytes());
        self.args.len() + texts + attached + 128
    }

    /// Where its process can be reached.
    pub fn located(&self) -> Located {
        Located { kind: self.kind.clone(), host: self.host, token: self.token, gate: self.gate }
    }
}
