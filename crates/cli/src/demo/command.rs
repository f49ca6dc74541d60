//! What the parent of the demo tells its nodes.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// One command; each is answered when it is done.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub(crate) enum Command {
    /// Join the cluster; answered with [`Joined`].
    Join {
        /// Addresses of nodes that run already.
        seeds: Vec<String>,
    },
    /// Wait until the view has this many members.
    WaitMembers {
        /// How many.
        count: usize,
    },
    /// Ask for the singleton, as every node does.
    StartCleaner {
        /// Its database.
        database: PathBuf,
        /// Pause between its runs.
        period_ms: u64,
    },
    /// Start these counters.
    StartCounters {
        /// Numbers of the counters.
        counters: Vec<u32>,
    },
    /// Put these counters into their groups.
    JoinGroups {
        /// Numbers of the counters.
        counters: Vec<u32>,
    },
    /// Watch the counters and the cleaner from now on; answered when every monitor is set.
    Watch {
        /// Counters there are.
        counters: u32,
    },
    /// Read every group and write down who is in it.
    ReadGroups {
        /// The step after which it is read.
        step: String,
        /// Counters there are.
        counters: u32,
    },
    /// Send at this rate from now on; 0 stops and is answered when nothing is open any more.
    Load {
        /// Messages per second of this node.
        per_second: f64,
        /// Counters there are.
        counters: u32,
        /// Seed of the choice.
        seed: u64,
        /// The longest time that a handler is told to take.
        work_us_max: u64,
    },
    /// Host nothing any more: everything that can moves to the others. The node stays a member.
    Drain {
        /// How long that may take.
        within_ms: u64,
    },
    /// Call each of these until it answers; answered with [`Touched`].
    Touch {
        /// Numbers of the counters.
        counters: Vec<u32>,
        /// Other names of counters.
        names: Vec<String>,
        /// How long to go on.
        within_ms: u64,
    },
    /// Tell the cleaner to panic.
    PanicCleaner,
    /// Call the cleaner until a life after this token answers; answered with [`CleanerAt`].
    AwaitCleaner {
        /// The life before.
        after_token: u64,
        /// How long to go on.
        within_ms: u64,
    },
    /// Start one counter and say where it runs; answered with [`StartedAt`].
    StartOne {
        /// Its name.
        name: String,
    },
    /// Start a name at this moment, together with other nodes.
    Race {
        /// The name.
        name: String,
        /// When.
        at_us: u64,
    },
}

/// Where a node listens.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Joined {
    /// Its address.
    pub(crate) address: String,
}

/// Who did not answer in time.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Touched {
    /// Names, some of them if there are many.
    pub(crate) silent: Vec<String>,
}

/// The cleaner's life that answered.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct CleanerAt {
    /// Its token.
    pub(crate) token: u64,
}

/// A start that was answered ok.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct StartedAt {
    /// When the answer was there.
    pub(crate) started_us: u64,
    /// The node that hosts it.
    pub(crate) host: String,
}
