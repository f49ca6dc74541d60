//! Reads a directory of evidence into memory.

use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind};
use std::path::Path;

use rusqlite::{Connection, OpenFlags};
use serde::de::DeserializeOwned;

use crate::demo::database::unsigned;
use crate::demo::evidence::{
    DATABASE, DEADLETTERS, DeadLetterLine, GROUPS, GroupLine, HANDLED, HISTORY, HandledLine, HistoryLine,
    MONITORS, MOVES, MonitorLine, MoveLine, RunLine, STEPS, StepLine,
};
use crate::output::Failure;

/// All that a run left behind.
#[derive(Debug)]
pub(crate) struct Evidence {
    /// What clients did.
    pub(crate) history: Vec<HistoryLine>,
    /// What instances handled, by time.
    pub(crate) handled: Vec<HandledLine>,
    /// What nobody will handle.
    pub(crate) dead: Vec<DeadLetterLine>,
    /// What happened to processes that moved, by time.
    pub(crate) moves: Vec<MoveLine>,
    /// What nodes read of groups.
    pub(crate) groups: Vec<GroupLine>,
    /// What watchers were told.
    pub(crate) monitors: Vec<MonitorLine>,
    /// The story, in order.
    pub(crate) steps: Vec<StepLine>,
    /// What the run was asked to do.
    pub(crate) run: RunLine,
    /// What the cleaner wrote.
    pub(crate) database: Database,
}

/// What the cleaner's database says.
#[derive(Clone, Debug, Default)]
pub(crate) struct Database {
    /// Rows of `runs`.
    pub(crate) runs: Vec<Run>,
    /// Rows of `lives`.
    pub(crate) lives: Vec<Life>,
    /// Rows of `deleted` that had not expired when they were deleted.
    pub(crate) fresh_deleted: u64,
    /// Rows that had expired when the last full run after the last arrival began, and are still there.
    pub(crate) outdated_left: Option<u64>,
}

/// One run of the cleaner. Times are milliseconds of CLOCK_MONOTONIC.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    /// Token of the instance that ran it.
    pub(crate) token: u64,
    /// Its begin.
    pub(crate) started_ms: f64,
    /// Its end, if it came to it.
    pub(crate) ended_ms: Option<f64>,
}

/// One life of the cleaner. Times are milliseconds of CLOCK_MONOTONIC.
#[derive(Clone, Debug)]
pub(crate) struct Life {
    /// Its token.
    pub(crate) token: u64,
    /// The process it ran in.
    pub(crate) pid: u32,
    /// Its begin.
    pub(crate) started_ms: f64,
    /// When it last did something.
    pub(crate) last_seen_ms: f64,
    /// Its end, if it could still write one.
    pub(crate) ended_ms: Option<f64>,
}

impl Evidence {
    /// Reads `dir`.
    pub(crate) fn read(dir: &Path) -> Result<Self, Failure> {
        if !dir.is_dir() {
            return Err(Failure::usage(format!("there is no directory {}", dir.display()))
                .hint("give the directory that `whimbrel demo --keep DIR` left"));
        }
        let mut handled: Vec<HandledLine> = lines(dir, HANDLED)?;
        // Stable: lines of one process keep the order in which they came through its pipe.
        handled.sort_by_key(|line| line.t_us);
        let mut moves: Vec<MoveLine> = lines(dir, MOVES)?;
        moves.sort_by_key(|line| line.t_us);
        let mut steps: Vec<StepLine> = lines(dir, STEPS)?;
        let run = steps.first_mut().and_then(|row| row.run.take()).ok_or_else(|| {
            Failure::check(format!("{STEPS} does not begin with a step that says what was run"))
                .hint("the demo was interrupted before its first step ended")
        })?;
        Ok(Self {
            history: lines(dir, HISTORY)?,
            handled,
            dead: lines(dir, DEADLETTERS)?,
            moves,
            groups: lines(dir, GROUPS)?,
            monitors: lines(dir, MONITORS)?,
            steps,
            run,
            database: Database::read(&dir.join(DATABASE))?,
        })
    }
}

fn lines<T: DeserializeOwned>(dir: &Path, file: &str) -> Result<Vec<T>, Failure> {
    let path = dir.join(file);
    let reader = File::open(&path).map_err(|error| match error.kind() {
        ErrorKind::NotFound => Failure::usage(format!("{file} is missing in {}", dir.display()))
            .hint("give the directory that `whimbrel demo --keep DIR` left"),
        _ => Failure::environment(format!("can not read {}", path.display())).detail(error),
    })?;
    let mut parsed = Vec::new();
    for (index, line) in BufReader::new(reader).lines().enumerate() {
        let unreadable = |detail: String| {
            Failure::check(format!("{file}, line {}: not a line of evidence", index + 1)).detail(detail)
        };
        let line = line.map_err(|error| unreadable(error.to_string()))?;
        parsed.push(serde_json::from_str(&line).map_err(|error| unreadable(error.to_string()))?);
    }
    Ok(parsed)
}

impl Database {
    fn read(path: &Path) -> Result<Self, Failure> {
        let failed =
            |error: rusqlite::Error| Failure::check(format!("{DATABASE} can not be read")).detail(error);
        if !path.is_file() {
            return Err(Failure::usage(format!(
                "{DATABASE} is missing in {}",
                path.parent().unwrap_or(path).display()
            ))
            .hint("give the directory that `whimbrel demo --keep DIR` left"));
        }
        let db = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(failed)?;
        Self::query(&db).map_err(failed)
    }

    fn query(db: &Connection) -> rusqlite::Result<Self> {
        let runs = db
            .prepare("SELECT token, started_ms, ended_ms FROM runs ORDER BY started_ms, id")?
            .query_map([], |row| {
                Ok(Run { token: unsigned(row, 0)?, started_ms: row.get(1)?, ended_ms: row.get(2)? })
            })?
            .collect::<rusqlite::Result<Vec<_>>>()?;
        let lives = db
            .prepare(
                "SELECT token, pid, started_ms, last_seen_ms, ended_ms FROM lives ORDER BY started_ms, token",
            )?
            .query_map([], |row| {
                Ok(Life {
                    token: unsigned(row, 0)?,
                    pid: row.get(1)?,
                    started_ms: row.get(2)?,
                    last_seen_ms: row.get(3)?,
                    ended_ms: row.get(4)?,
                })
            })?
            .collect::<rusqlite::Result<Vec<_>>>()?;
        let fresh_deleted =
            db.query_row("SELECT count(*) FROM deleted WHERE expires_ms > deleted_ms", [], |row| {
                unsigned(row, 0)
            })?;
        Ok(Self { runs, lives, fresh_deleted, outdated_left: outdated_left(db)? })
    }
}

/// Arrivals stop, one full run starts and ends, then what had expired before its start is counted.
fn outdated_left(db: &Connection) -> rusqlite::Result<Option<u64>> {
    let last_arrival: Option<f64> = db.query_row(
        "SELECT max(added_ms) FROM (SELECT added_ms FROM records UNION ALL SELECT added_ms FROM deleted)",
        [],
        |row| row.get(0),
    )?;
    let cutoff: Option<i64> = db.query_row(
        "SELECT max(cutoff_ms) FROM runs WHERE ended_ms IS NOT NULL AND started_ms >= ?1",
        [last_arrival.unwrap_or(0.0)],
        |row| row.get(0),
    )?;
    let Some(cutoff) = cutoff else { return Ok(None) };
    db.query_row("SELECT count(*) FROM records WHERE expires_ms <= ?1", [cutoff], |row| unsigned(row, 0))
        .map(Some)
}
