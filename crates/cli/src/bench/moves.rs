//! The rows about processes that move between two nodes.

use std::sync::Arc;

use super::command::{Command, What};
use super::mover::Moments;
use super::plan::{Crew, Plan};
use super::row::{Rounds, Row, median};
use crate::children::Children;
use crate::output::Failure;

/// Small processes that are moved in one round.
const MOVED: u64 = 5_000;
/// Moves that are asked for at the same time: as many as a node lets go at once.
const MOVES_AT_ONCE: u32 = 32;
/// Processes of a node that is drained.
const DRAINED: u64 = 100_000;
/// How long that may take.
const DRAIN_MILLIS: u64 = 50_000;
/// Rounds of a row that fills a node each time.
const DRAIN_ROUNDS: u32 = 3;
/// Moves of one process in one round, one after the other.
const MOVED_ALONE: u32 = 200;
/// Calls of the floor in one round.
const FLOOR_CALLS: u64 = 2_000;
/// How long many callers call the floor.
const FLOOR_MILLIS: u64 = 400;
/// Their front part of names.
const PREFIX: &str = "mover-bench";
/// The process that is moved alone.
const ALONE: &str = "mover-alone";

impl Plan {
    /// Rows of processes that move.
    pub(super) fn move_rows(&self) -> Result<Vec<Row>, Failure> {
        let mut rows = Vec::new();
        if self.wanted("moves_per_s") {
            rows.push(self.moves_per_s()?);
        }
        if self.wanted("move_pause_p50_us") || self.wanted("move_pause_p99_us") {
            let pauses = self.pauses()?;
            rows.extend(pauses.into_iter().filter(|row| self.wanted(row.name)));
        }
        if self.wanted("drain_100k_s") {
            rows.push(self.drain()?);
        }
        Ok(rows)
    }

    /// Two nodes `a` and `b`, with a floor from `a` to `b`.
    pub(super) fn pair(&self) -> Result<Crew, Failure> {
        let mut crew = Crew(Children::new("bench", &self.dir, Arc::clone(&self.sink))?);
        crew.gather(&["a", "b"])?;
        crew.connect_floor("b")?;
        Ok(crew)
    }

    fn moves_per_s(&self) -> Result<Row, Failure> {
        let mut rounds = Rounds::default();
        let mut crew = self.pair()?;
        crew.ask("a", Command::Starts { prefix: PREFIX.into(), tasks: 64, millis: 60_000, most: MOVED })?;
        let all_to = |node: &str| Command::MoveAll {
            prefix: PREFIX.into(),
            names: MOVED,
            to: node.into(),
            tasks: MOVES_AT_ONCE,
        };
        crew.ask("a", all_to("a"))?;
        for round in 0..self.rounds {
            eprintln!("bench: moves_per_s, round {}", round + 1);
            let node = if round % 2 == 0 { "b" } else { "a" };
            rounds.ours.extend(crew.number("a", all_to(node))?);
            rounds.floor.extend(crew.number("a", floor_many())?);
        }
        let note = "small processes, all from one node to the other; floor: round trips of multiplexed TCP";
        Ok(rounds.fill(Row::new("moves_per_s", "1/s", (2, MOVES_AT_ONCE), 0, note)))
    }

    /// One process, unloaded, there and back again.
    fn pauses(&self) -> Result<[Row; 2], Failure> {
        let (mut p50, mut p99) = (Rounds::default(), Rounds::default());
        let mut crew = self.pair()?;
        crew.ask("a", Command::StartHere { name: ALONE.into() })?;
        for round in 0..self.rounds {
            eprintln!("bench: move_pause, round {}", round + 1);
            let pauses = Self::pauses_of_a_round(&mut crew)?;
            p50.ours.extend(median(&pauses));
            p99.ours.extend(pauses.get(pauses.len() * 99 / 100));
            let floor = crew.number(
                "a",
                Command::CallThere { name: ALONE.into(), what: What::Floor, calls: FLOOR_CALLS },
            )?;
            p50.floor.extend(floor);
            p99.floor.extend(floor);
        }
        let note = format!(
            "{MOVED_ALONE} moves of one process in each round, from its rest to its running; floor: the median of a round trip"
        );
        Ok([
            p50.fill(Row::new("move_pause_p50_us", "us", (2, 1), 0, note.clone())),
            p99.fill(Row::new("move_pause_p99_us", "us", (2, 1), 0, note)),
        ])
    }

    /// A node hands over all it hosts to another one.
    #[allow(clippy::cast_precision_loss)]
    fn drain(&self) -> Result<Row, Failure> {
        let mut rounds = Rounds::default();
        for round in 0..self.rounds.min(DRAIN_ROUNDS) {
            eprintln!("bench: drain_100k_s, round {}", round + 1);
            let mut crew = Crew(Children::new("bench", &self.dir, Arc::clone(&self.sink))?);
            let mut seeds = Vec::new();
            // Alone, so that all are on it.
            crew.gather_at(&mut seeds, &["a"])?;
            let starts = Command::Starts { prefix: PREFIX.into(), tasks: 64, millis: 60_000, most: DRAINED };
            crew.ask("a", starts)?;
            crew.gather_at(&mut seeds, &["b"])?;
            crew.connect_floor("b")?;
            rounds.ours.extend(crew.number("a", Command::Drain { names: DRAINED, millis: DRAIN_MILLIS })?);
            let floor = crew.number("a", floor_many())?;
            rounds.floor.extend(floor.map(|per_second| DRAINED as f64 / per_second));
        }
        let note = format!(
            "{DRAINED} small processes; floor: as many round trips of multiplexed TCP, {MOVES_AT_ONCE} at once"
        );
        Ok(rounds.fill(Row::new("drain_100k_s", "s", (2, 0), 0, note)))
    }

    fn pauses_of_a_round(crew: &mut Crew) -> Result<Vec<f64>, Failure> {
        for node in ["a", "b"] {
            crew.ask(node, Command::WatchMoves { on: true })?;
        }
        crew.ask(
            "a",
            Command::MoveToAndFro { name: ALONE.into(), nodes: ["b".into(), "a".into()], moves: MOVED_ALONE },
        )?;
        let mut moments = Moments::default();
        for node in ["a", "b"] {
            let seen = crew.ask(node, Command::WatchMoves { on: false })?;
            let seen = serde_json::from_value(seen);
            moments.add(seen.map_err(|error| Failure::check("not the moments of moves").detail(error))?);
        }
        let pauses = moments.pauses();
        if pauses.len() < MOVED_ALONE as usize {
            let found = format!("{} of {MOVED_ALONE}", pauses.len());
            return Err(Failure::check("a move was not seen at both nodes").detail(found));
        }
        Ok(pauses)
    }
}

/// Many callers of the floor.
pub(super) fn floor_many() -> Command {
    Command::CallThereMany {
        name: ALONE.into(),
        what: What::Floor,
        tasks: MOVES_AT_ONCE,
        millis: FLOOR_MILLIS,
    }
}
