//! What the bench tells a process of `benches/peers`, which compiles this very file. Each command is one measurement
//! of one round, or set-up; how each is measured stands in `meter.rs`.
//!
//! The answer is the figure, or an object that says under [`LACKS`] what the library has not.

use serde::{Deserialize, Serialize};

/// The key of an answer that is none.
pub(crate) const LACKS: &str = "lacks";

/// One command; each is answered when it is done.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub(crate) enum Command {
    /// Answered with what is measured: packages and their versions.
    Version,
    /// Call a process here, one call after the other; answered with nanoseconds each.
    CallHere {
        /// How many calls.
        calls: u64,
    },
    /// Call a process here from many tasks; answered with how many a second.
    CallHereMany {
        /// Tasks.
        tasks: u32,
        /// For how long.
        millis: u64,
    },
    /// Cast to a process here until all were handled; answered with how many a second.
    CastHere {
        /// How many casts.
        casts: u64,
    },
    /// Start named processes here from many tasks; answered with how many a second.
    StartsHere {
        /// Front part of the names.
        prefix: String,
        /// Tasks.
        tasks: u32,
        /// How many processes.
        count: u64,
    },
    /// Start named processes here, call each once; answered with bytes each.
    Idle {
        /// How many.
        count: u64,
    },
    /// Be the other side of the following; answered with the port.
    Listen,
    /// Connect to the other side.
    Connect {
        /// Its port.
        port: u16,
    },
    /// Call a process on the other side, one call after the other; answered with the median in microseconds.
    CallThere {
        /// How many calls.
        calls: u64,
    },
    /// Call a process on the other side from many tasks; answered with how many a second.
    CallThereMany {
        /// Tasks.
        tasks: u32,
        /// For how long.
        millis: u64,
    },
    /// Cast to a process on the other side in bursts, each ended by a call; answered with how many a second.
    CastThere {
        /// How many bursts.
        bursts: u64,
    },
}
