//! The cleaner's SQLite file: its tables, its first 20,000 records, and the arrivals during the run.
//!
//! Every deletion leaves a row in `deleted` by a trigger that reads the clock itself, so the judge need not
//! believe the cleaner about what it deleted and when.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rusqlite::{Connection, Row, TransactionBehavior, params};

use crate::os;
use crate::output::Failure;

/// Records before the first run; every second one is outdated.
const RECORDS_AT_START: u32 = 20_000;
/// Arrivals per batch, and how often a batch arrives: 400 a second.
const ARRIVALS_PER_BATCH: u32 = 20;
const ARRIVAL_INTERVAL: Duration = Duration::from_millis(50);
/// How long a writer waits for another process's transaction.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// A fresh record expires so far in the future that no run may touch it.
const FRESH_FOR_MS: i64 = 3_600_000;

const SCHEMA: &str = "
    CREATE TABLE records (
        id INTEGER PRIMARY KEY, added_ms REAL NOT NULL, expires_ms INTEGER NOT NULL, payload TEXT NOT NULL);
    CREATE INDEX records_by_expiry ON records (expires_ms);
    CREATE TABLE runs (
        id INTEGER PRIMARY KEY, token INTEGER NOT NULL, node TEXT NOT NULL, pid INTEGER NOT NULL,
        started_ms REAL NOT NULL, cutoff_ms INTEGER NOT NULL, ended_ms REAL, deleted INTEGER NOT NULL DEFAULT 0);
    CREATE TABLE lives (
        instance INTEGER PRIMARY KEY, token INTEGER NOT NULL, node TEXT NOT NULL, pid INTEGER NOT NULL,
        started_ms REAL NOT NULL, last_seen_ms REAL NOT NULL, ended_ms REAL);
    CREATE TABLE deleted (
        id INTEGER NOT NULL, added_ms REAL NOT NULL, expires_ms INTEGER NOT NULL, deleted_ms INTEGER NOT NULL);
    CREATE TRIGGER deletion AFTER DELETE ON records BEGIN
        INSERT INTO deleted VALUES (
            old.id, old.added_ms, old.expires_ms, CAST(round(unixepoch('now', 'subsec') * 1000) AS INTEGER));
    END;
";

/// Opens the database as every process of the demo does.
pub(crate) fn open(path: &Path) -> rusqlite::Result<Connection> {
    let db = Connection::open(path)?;
    db.busy_timeout(BUSY_TIMEOUT)?;
    // Survives kill -9 of a process; only a power loss could take the last transactions back.
    db.pragma_update(None, "synchronous", "NORMAL")?;
    Ok(db)
}

/// Makes the file, its tables and the first records.
pub(crate) fn create(path: &Path) -> Result<(), Failure> {
    let made = || -> rusqlite::Result<()> {
        let mut db = open(path)?;
        db.pragma_update(None, "journal_mode", "WAL")?;
        create_tables(&db)?;
        let transaction = db.transaction()?;
        add_records(&transaction, RECORDS_AT_START, -1_000)?;
        transaction.commit()
    };
    made().map_err(|error| {
        Failure::environment(format!("can not make the database {}", path.display()))
            .detail(error)
            .hint("the directory needs about 20 MB of room and must allow locks (not every network file system does)")
    })
}

/// Makes the tables.
pub(crate) fn create_tables(db: &Connection) -> rusqlite::Result<()> {
    db.execute_batch(SCHEMA)
}

/// Adds records; every second one expires `outdated_after_ms` from now.
fn add_records(db: &Connection, count: u32, outdated_after_ms: i64) -> rusqlite::Result<()> {
    let mut insert =
        db.prepare_cached("INSERT INTO records (added_ms, expires_ms, payload) VALUES (?1, ?2, ?3)")?;
    let (added_ms, now_ms) = (monotonic_ms(), wall_ms());
    for index in 0..count {
        let expires_ms = now_ms + if index % 2 == 0 { outdated_after_ms } else { FRESH_FOR_MS };
        insert.execute(params![added_ms, expires_ms, "a session that somebody may still need"])?;
    }
    Ok(())
}

/// CLOCK_MONOTONIC in milliseconds.
#[allow(clippy::cast_precision_loss)]
pub(crate) fn monotonic_ms() -> f64 {
    // Exact up to 2^53 microseconds of uptime: 285 years.
    os::monotonic_us() as f64 / 1_000.0
}

/// Milliseconds since 1970: what expiry is about.
pub(crate) fn wall_ms() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX))
}

/// The thread that adds records while the demo runs.
#[derive(Debug)]
pub(crate) struct Arrivals {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<rusqlite::Result<()>>>,
}

impl Arrivals {
    /// Starts adding records to the database at `path`.
    pub(crate) fn start(path: &Path) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (path, stopped) = (path.to_owned(), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            let mut db = open(&path)?;
            while !stopped.load(Ordering::Relaxed) {
                // Immediate: a read that turns into a write could find the database changed and fail at once.
                let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
                add_records(&transaction, ARRIVALS_PER_BATCH, 300)?;
                transaction.commit()?;
                std::thread::sleep(ARRIVAL_INTERVAL);
            }
            Ok(())
        });
        Self { stop, thread: Some(thread) }
    }

    /// Stops and says when the last record that may still become outdated has become so.
    pub(crate) fn stop(mut self) -> Result<(), Failure> {
        self.stop.store(true, Ordering::Relaxed);
        match self.thread.take().map(JoinHandle::join) {
            None | Some(Ok(Ok(()))) => Ok(()),
            Some(Ok(Err(error))) => Err(Failure::environment("records could not be added").detail(error)),
            Some(Err(_)) => Err(Failure::check("the thread that adds records panicked")),
        }
    }
}

impl Drop for Arrivals {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Whether a run began after `after_ms` and ended.
pub(crate) fn full_run_since(path: &Path, after_ms: f64) -> rusqlite::Result<bool> {
    open(path)?.query_row(
        "SELECT count(*) > 0 FROM runs WHERE started_ms >= ?1 AND ended_ms IS NOT NULL",
        [after_ms],
        |row| row.get(0),
    )
}

/// How many runs there were, how many records were deleted, and how many outdated ones are left right now.
pub(crate) fn progress(db: &Connection) -> rusqlite::Result<(u64, u64, u64)> {
    db.query_row(
        "SELECT (SELECT count(*) FROM runs), (SELECT count(*) FROM deleted),
                (SELECT count(*) FROM records WHERE expires_ms <= ?1)",
        [wall_ms()],
        |row| Ok((unsigned(row, 0)?, unsigned(row, 1)?, unsigned(row, 2)?)),
    )
}

/// A column that is never negative: SQLite itself knows only signed numbers.
pub(crate) fn unsigned(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    let value: i64 = row.get(column)?;
    u64::try_from(value).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(column, value))
}

/// Folds the log into the one file, so that the evidence is complete without its side files.
pub(crate) fn seal(path: &Path) -> rusqlite::Result<()> {
    let db = open(path)?;
    db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
    db.query_row("PRAGMA journal_mode = DELETE", [], |_| Ok(()))
}
