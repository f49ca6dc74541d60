//! The processes of the demo: counters, and the one cleaner of the database.
//!
//! Each writes its line of evidence before it answers; see [`super::evidence`].

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, TransactionBehavior, params};
use serde::{Deserialize, Serialize};
use whimbrel::{Context, ExitReason, Handoff, Process, handlers};

use super::database::{self, monotonic_ms, wall_ms};
use super::evidence::{Channel, HandledLine, write_line};
use crate::os;

/// Records that one transaction of the cleaner deletes, so that others get their turn.
const BATCH_RECORDS: u32 = 500;
/// Environment variable with the name of the node, set by the parent.
pub(crate) const NODE_VARIABLE: &str = "WHIMBREL_DEMO_NODE";

/// The name of the node that this process is.
pub(crate) fn node_name() -> String {
    std::env::var(NODE_VARIABLE).unwrap_or_default()
}

/// Writes down that the instance of `cx` has the operation `id` in hand, and returns the instance's token.
fn handled<P: Process>(id: &str, cx: &Context<P>) -> u64 {
    let token = cx.token().as_u64();
    let name = cx.name().map(ToString::to_string).unwrap_or_default();
    let line = HandledLine {
        id: id.to_owned(),
        name,
        token,
        node: node_name(),
        pid: std::process::id(),
        t_us: os::monotonic_us(),
    };
    write_line(Channel::Handled, &line);
    token
}

/// What an instance says of itself in a reply.
// As public as the messages that `#[handlers]` makes.
#[allow(unreachable_pub)]
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Said {
    /// Its token.
    pub(crate) token: u64,
    /// What a counter has counted.
    pub(crate) value: Option<u64>,
}

/// Counts what it is told.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Counter {
    value: u64,
}

impl Process for Counter {
    const KIND: &'static str = "demo-counter";
    type Args = ();

    async fn init(_args: (), _cx: &mut Context<Self>) -> Result<Self, ExitReason> {
        Ok(Counter { value: 0 })
    }
}

#[handlers]
impl Counter {
    /// Adds one, takes its time, and answers with the sum.
    #[call]
    async fn add(&mut self, cx: &mut Context<Self>, id: String, work_us: u64) -> Said {
        self.value += 1;
        let token = handled(&id, cx);
        work(work_us).await;
        Said { token, value: Some(self.value) }
    }

    /// Adds one and takes its time.
    #[cast]
    async fn tell(&mut self, cx: &mut Context<Self>, id: String, work_us: u64) {
        self.value += 1;
        handled(&id, cx);
        work(work_us).await;
    }
}

/// What a handler has to do beside counting: it waits, as for a database.
async fn work(work_us: u64) {
    if work_us > 0 {
        tokio::time::sleep(Duration::from_micros(work_us)).await;
    }
}

/// What the cleaner is started with, at every life again.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct CleanerArgs {
    /// The database.
    pub(crate) database: PathBuf,
    /// Pause between two runs.
    pub(crate) period_ms: u64,
}

/// The singleton: deletes outdated records, in batches, again and again.
///
/// Its hold on the database does not move with it: it lets go before it moves, and takes hold at its next run. So the one
/// at the source has always let go before the one at the target takes hold, also when a move is called off on the way.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Cleaner {
    args: CleanerArgs,
    #[serde(skip)]
    life: Option<Life>,
}

impl Process for Cleaner {
    const KIND: &'static str = "demo-cleaner";
    type Args = CleanerArgs;

    async fn init(args: CleanerArgs, cx: &mut Context<Self>) -> Result<Self, ExitReason> {
        let mut cleaner = Cleaner { args, life: None };
        let held = tokio::task::block_in_place(|| cleaner.hold(cx.token().as_u64()).map(drop));
        held.map_err(|error| ExitReason::Error(error.to_string()))?;
        cx.send_after(cleaner.period(), CleanerRun {});
        Ok(cleaner)
    }

    async fn handoff(&mut self, _cx: &mut Context<Self>) -> Handoff {
        tokio::task::block_in_place(|| self.life = None);
        Handoff::Auto
    }
}

impl Cleaner {
    fn period(&self) -> Duration {
        Duration::from_millis(self.args.period_ms)
    }

    /// Its hold on the database, taken if it has none.
    fn hold(&mut self, token: u64) -> rusqlite::Result<&mut Life> {
        match &mut self.life {
            Some(life) => Ok(life),
            none => Ok(none.insert(Life::begin(&self.args.database, token)?)),
        }
    }
}

#[handlers]
impl Cleaner {
    /// Answers with the instance's token.
    #[call]
    async fn ping(&mut self, cx: &mut Context<Self>, id: String) -> Said {
        Said { token: handled(&id, cx), value: None }
    }

    /// Fails, as bad code would.
    #[cast]
    async fn fail(&mut self, cx: &mut Context<Self>, id: String) {
        handled(&id, cx);
        panic!("the demo told the cleaner to panic");
    }

    /// One run, and the next one a period later.
    #[cast]
    async fn run(&mut self, cx: &mut Context<Self>) {
        cx.send_after(self.period(), CleanerRun {});
        let token = cx.token().as_u64();
        if let Err(error) = tokio::task::block_in_place(|| self.hold(token)?.run()) {
            // The next run tries again; a run without an end stays visible in the table.
            eprintln!("the cleaner could not finish a run: {error}");
        }
    }
}

/// One life of the cleaner, as its row in `lives` tells.
#[derive(Debug)]
struct Life {
    db: Connection,
    row: i64,
    token: i64,
}

impl Life {
    fn begin(path: &Path, token: u64) -> rusqlite::Result<Self> {
        let db = database::open(path)?;
        let token = i64::try_from(token).unwrap_or(i64::MAX);
        let now = monotonic_ms();
        db.execute(
            "INSERT INTO lives (token, node, pid, started_ms, last_seen_ms) VALUES (?1, ?2, ?3, ?4, ?4)",
            params![token, node_name(), std::process::id(), now],
        )?;
        let row = db.last_insert_rowid();
        Ok(Self { db, row, token })
    }

    fn run(&mut self) -> rusqlite::Result<()> {
        self.db.execute(
            "UPDATE lives SET last_seen_ms = ?1 WHERE instance = ?2",
            params![monotonic_ms(), self.row],
        )?;
        let cutoff = wall_ms();
        self.db.execute(
            "INSERT INTO runs (token, node, pid, started_ms, cutoff_ms) VALUES (?1, ?2, ?3, ?4, ?5)",
            params![self.token, node_name(), std::process::id(), monotonic_ms(), cutoff],
        )?;
        let run = self.db.last_insert_rowid();
        while self.delete_batch(run, cutoff)? == BATCH_RECORDS as usize {}
        self.db.execute("UPDATE runs SET ended_ms = ?1 WHERE id = ?2", params![monotonic_ms(), run])?;
        self.db.execute(
            "UPDATE lives SET last_seen_ms = ?1 WHERE instance = ?2",
            params![monotonic_ms(), self.row],
        )?;
        Ok(())
    }

    fn delete_batch(&mut self, run: i64, cutoff: i64) -> rusqlite::Result<usize> {
        let transaction = self.db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let deleted = transaction.execute(
            "DELETE FROM records WHERE id IN (SELECT id FROM records WHERE expires_ms <= ?1 LIMIT ?2)",
            params![cutoff, BATCH_RECORDS],
        )?;
        transaction.execute(
            "UPDATE runs SET deleted = deleted + ?1 WHERE id = ?2",
            params![i64::try_from(deleted).unwrap_or(0), run],
        )?;
        transaction.commit()?;
        Ok(deleted)
    }
}

impl Drop for Life {
    /// The end of a life that could still say so: a panic unwinds through here, a kill -9 does not.
    fn drop(&mut self) {
        let _ = self
            .db
            .execute("UPDATE lives SET ended_ms = ?1 WHERE instance = ?2", params![monotonic_ms(), self.row]);
    }
}
