//! The row about the end of a process that very many watch.

use super::command::Command;
use super::moves::floor_many;
use super::plan::{Plan, WITHIN};
use super::row::{Rounds, Row};
use crate::output::Failure;

/// Monitors of the process, over all nodes.
const MONITORS: u64 = 10_000;
/// The process that they watch.
const WATCHED: &str = "watched";
/// Who watches.
const NODES: [&str; 3] = ["a", "b", "c"];

impl Plan {
    /// The row, if it is wanted.
    pub(super) fn down_rows(&self) -> Result<Vec<Row>, Failure> {
        if self.wanted("monitor_down_ms_10000") { Ok(vec![self.downs()?]) } else { Ok(Vec::new()) }
    }

    #[allow(clippy::cast_precision_loss)]
    fn downs(&self) -> Result<Row, Failure> {
        let mut rounds = Rounds::default();
        let mut crew = self.crew()?;
        crew.connect_floor("b")?;
        for round in 0..self.rounds {
            eprintln!("bench: monitor_down_ms_10000, round {}", round + 1);
            let name = format!("{WATCHED}:{round}");
            crew.ask("b", Command::StartHere { name: name.clone() })?;
            for (node, more) in NODES.iter().zip(0..) {
                // All of them together set exactly so many.
                let count = (MONITORS + more) / NODES.len() as u64;
                crew.ask(node, Command::Monitor { name: name.clone(), count })?;
            }
            let stopped = crew.ask("b", Command::Stop { name })?;
            let mut heard = Vec::new();
            for node in NODES {
                heard.push(crew.0.send(node, Command::DownsHeard)?);
            }
            let moments = crew.0.wait(&heard, WITHIN, &mut || {})?;
            let last = moments.iter().filter_map(serde_json::Value::as_u64).max();
            let since = stopped.as_u64().zip(last).map(|(stopped, last)| last.saturating_sub(stopped));
            rounds.ours.extend(since.map(|us| us as f64 / 1_000.0));
            let floor = crew.number("a", floor_many())?;
            rounds.floor.extend(floor.map(|per_second| MONITORS as f64 * 1_000.0 / per_second));
        }
        let note = format!(
            "{MONITORS} monitors of one process from three nodes, from its stop until the last one is told; floor: \
             as many round trips of multiplexed TCP"
        );
        Ok(rounds.fill(Row::new("monitor_down_ms_10000", "ms", (3, 0), 0, note)))
    }
}
