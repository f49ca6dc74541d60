//! What the parent of the bench tells its processes. Every command is one measurement of one round, or set-up.

use serde::{Deserialize, Serialize};

/// One command; each is answered when it is done.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub(crate) enum Command {
    /// Join the cluster; answered with the node's address.
    Join {
        /// Addresses of nodes that run already.
        seeds: Vec<String>,
        /// Members to wait for.
        members: usize,
    },
    /// Wait until the view has this many members.
    WaitMembers {
        /// How many.
        count: usize,
    },
    /// Answer frames of the floor; answered with the port.
    FloorListen,
    /// Connect to the floor of another process.
    FloorConnect {
        /// Its port.
        port: u16,
    },
    /// Answered when the floor's connection has closed, with the moment in microseconds.
    FloorClosed,
    /// Start an echo on this node.
    StartHere {
        /// Its name.
        name: String,
    },
    /// Start processes from this many tasks at once, for a while or until there are enough; answered with how
    /// many a second.
    Starts {
        /// Front part of the names.
        prefix: String,
        /// Tasks.
        tasks: u32,
        /// Stop after this time.
        millis: u64,
        /// Stop after this many.
        most: u64,
    },
    /// Look names up; answered with how many a second.
    Whereis {
        /// Front part of the names.
        prefix: String,
        /// How many names there are.
        names: u64,
        /// Whom to measure.
        what: What,
        /// For how long.
        millis: u64,
    },
    /// Call a process on this node, one call after the other; answered with nanoseconds each.
    CallHere {
        /// Its name.
        name: String,
        /// Whom to measure.
        what: What,
        /// How many calls.
        calls: u64,
    },
    /// Call a process on this node from many tasks; answered with how many a second.
    CallHereMany {
        /// Its name.
        name: String,
        /// Whom to measure.
        what: What,
        /// Tasks.
        tasks: u32,
        /// For how long.
        millis: u64,
    },
    /// Start named processes on a node that is alone, from many tasks; answered with how many a second.
    StartsHere {
        /// Front part of the names.
        prefix: String,
        /// Whom to measure.
        what: What,
        /// Tasks.
        tasks: u32,
        /// How many processes.
        count: u64,
    },
    /// Cast to a process on this node until all were handled; answered with how many a second.
    CastHere {
        /// Its name.
        name: String,
        /// Whom to measure.
        what: What,
        /// How many casts.
        casts: u64,
    },
    /// Call a process on another node, one call after the other; answered with the median in microseconds.
    CallThere {
        /// Its name.
        name: String,
        /// Whom to measure.
        what: What,
        /// How many calls.
        calls: u64,
    },
    /// Call a process on another node from many tasks; answered with how many a second.
    CallThereMany {
        /// Its name.
        name: String,
        /// Whom to measure.
        what: What,
        /// Tasks.
        tasks: u32,
        /// For how long.
        millis: u64,
    },
    /// Cast to a process on another node in bursts, each ended by a call; answered with how many a second.
    CastThere {
        /// Its name.
        name: String,
        /// Whom to measure.
        what: What,
        /// Bursts of 1,024.
        bursts: u64,
    },
    /// Call each of these names until it has answered; answered with the moment of the last, in microseconds.
    ReachAll {
        /// Front part of the names.
        prefix: String,
        /// How many names there are.
        names: u64,
    },
    /// Put these names into groups from many tasks; answered with how many a second. Then they leave.
    JoinAll {
        /// Front part of the names.
        prefix: String,
        /// How many names there are.
        names: u64,
        /// Over how many groups they are spread.
        groups: u64,
        /// Tasks.
        tasks: u32,
    },
    /// Put these names into one group for good, from many tasks.
    FillGroup {
        /// Front part of the names.
        prefix: String,
        /// How many names there are.
        names: u64,
        /// Tasks.
        tasks: u32,
    },
    /// Publish to that group until all was handled; answered with how many members were told in a second.
    Publish {
        /// Front part of the names.
        prefix: String,
        /// How many are in it.
        names: u64,
        /// How many messages.
        times: u64,
    },
    /// Move these names to a node from many tasks; answered with how many a second.
    MoveAll {
        /// Front part of the names.
        prefix: String,
        /// How many names there are.
        names: u64,
        /// The node.
        to: String,
        /// Tasks.
        tasks: u32,
    },
    /// Move one process there and back again, one move after the other.
    MoveToAndFro {
        /// Its name.
        name: String,
        /// Where to, in turn.
        nodes: [String; 2],
        /// How often.
        moves: u32,
    },
    /// Host nothing any more; answered with the seconds that it took until all had moved.
    Drain {
        /// How many processes must move.
        names: u64,
        /// How long it may take.
        millis: u64,
    },
    /// Answered with the steps of moves seen since this was asked before; from now on they are noted, or not.
    WatchMoves {
        /// Whether they are.
        on: bool,
    },
    /// Watch a process; answered when all monitors are set.
    Monitor {
        /// Its name.
        name: String,
        /// How many monitors.
        count: u64,
    },
    /// Answered when all monitors have been told, with the moment of the last, in microseconds.
    DownsHeard,
    /// End a process; answered with the moment before, in microseconds.
    Stop {
        /// Its name.
        name: String,
    },
    /// Count from now on the members that leave the view.
    WatchDeaths,
    /// Answered with how many there were.
    Deaths,
    /// Start the slow process on this node.
    StartSlow {
        /// Its name.
        name: String,
    },
    /// Send to the slow process as fast as possible; answered with what became of it.
    Flood {
        /// Its name.
        name: String,
        /// Tasks, every second of which calls.
        senders: u32,
        /// Bytes of each message.
        payload: u32,
        /// For how long.
        millis: u64,
    },
    /// Answered when the slow process has handled what it was sent, with how many casts these were.
    Drained {
        /// Its name.
        name: String,
    },
    /// Answered with the dead letters of this node, by reason.
    DeadLetters,
    /// Start named processes on a node that is alone, call each once; answered with bytes each.
    Idle {
        /// Whom to measure.
        what: What,
        /// How many.
        count: u64,
    },
}

/// Whom a measurement is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum What {
    /// Whimbrel.
    Ours,
    /// The least that the machine and tokio need for the same.
    Floor,
}
