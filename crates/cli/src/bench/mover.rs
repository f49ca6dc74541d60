//! Moves, in a process of the bench: what it has moved, and when its own processes came to rest and ran.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use whimbrel::{Cluster, MoveStage, MoveStep};

use super::meter::{name_of, per_second};
use crate::control::Trouble;
use crate::os;

/// When something happened in each attempt to move a process, in microseconds.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Moments {
    /// It came to rest at the source.
    pub(crate) rests: HashMap<u64, u64>,
    /// It ran at the target.
    pub(crate) runs: HashMap<u64, u64>,
}

impl Moments {
    /// Adds what another node has seen.
    pub(crate) fn add(&mut self, other: Moments) {
        self.rests.extend(other.rests);
        self.runs.extend(other.runs);
    }

    /// How long each process handled nothing, in microseconds, sorted.
    #[allow(clippy::cast_precision_loss)]
    pub(crate) fn pauses(&self) -> Vec<f64> {
        let pause = |(attempt, ran): (&u64, &u64)| {
            self.rests.get(attempt).map(|rested| ran.saturating_sub(*rested) as f64)
        };
        let mut pauses: Vec<f64> = self.runs.iter().filter_map(pause).collect();
        pauses.sort_by(f64::total_cmp);
        pauses
    }
}

/// The steps of moves that this node takes part in; as many are kept as were told to move while somebody watched.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    on: AtomicBool,
    moments: Mutex<Moments>,
}

impl Watch {
    /// Notes a step, while somebody watches.
    pub(crate) fn see(&self, step: &MoveStep) {
        if !self.on.load(Ordering::Relaxed) {
            return;
        }
        let (attempt, now_us) = (step.attempt().as_u64(), os::monotonic_us());
        let mut moments = self.moments.lock().unwrap_or_else(PoisonError::into_inner);
        match step.stage() {
            MoveStage::Rests => moments.rests.insert(attempt, now_us),
            MoveStage::Runs => moments.runs.insert(attempt, now_us),
            MoveStage::GoesOn => moments.rests.remove(&attempt),
        };
    }

    /// What was seen since the last time. From now on somebody watches, or nobody does.
    pub(crate) fn take(&self, on: bool) -> Moments {
        self.on.store(on, Ordering::Relaxed);
        std::mem::take(&mut self.moments.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Moves one process there and back again, one move after the other.
pub(crate) async fn to_and_fro(
    cluster: &Cluster,
    name: &str,
    nodes: &[String; 2],
    moves: u32,
) -> Result<(), Trouble> {
    for (_, node) in (0..moves).zip(nodes.iter().cycle()) {
        let moved = cluster.move_to(name, node).await;
        moved.map_err(|error| Trouble::new(format!("{name} was not moved"), error))?;
    }
    Ok(())
}

/// Hands over everything that the node hosts; the seconds that it took.
pub(crate) async fn drain(cluster: &Cluster, names: u64, within: Duration) -> Result<f64, Trouble> {
    let began = Instant::now();
    let report = cluster.drain(within).await;
    let took = began.elapsed();
    if report.stayed_count > 0 || report.moved as u64 != names {
        let found = format!("{} of {names} moved, {} stayed", report.moved, report.stayed_count);
        return Err(Trouble::new("a node could not be drained", found));
    }
    Ok(took.as_secs_f64())
}

/// Moves names to a node, from many tasks at the same time; how many a second.
pub(crate) async fn move_all(
    cluster: &Cluster,
    prefix: &str,
    names: u64,
    to: &str,
    tasks: u32,
) -> Result<f64, Trouble> {
    let began = Instant::now();
    let mut moving = tokio::task::JoinSet::new();
    let (prefix, to): (Arc<str>, Arc<str>) = (prefix.into(), to.into());
    for task in 0..u64::from(tasks) {
        let (cluster, prefix, to) = (cluster.clone(), Arc::clone(&prefix), Arc::clone(&to));
        moving.spawn(async move {
            for at in (task..names).step_by(tasks as usize) {
                let name = name_of(&prefix, at);
                let moved = cluster.move_to(&name, &to).await;
                moved.map_err(|error| Trouble::new(format!("{name} was not moved"), error))?;
            }
            Ok::<(), Trouble>(())
        });
    }
    while let Some(done) = moving.join_next().await {
        done.map_err(|error| Trouble::new("a task failed", error))??;
    }
    Ok(per_second(names, began.elapsed()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_is_from_rest_at_one_node_to_running_at_the_other() {
        let mut seen = Moments { rests: HashMap::from([(7, 100), (9, 300)]), runs: HashMap::new() };
        seen.add(Moments { rests: HashMap::new(), runs: HashMap::from([(7, 350), (8, 500)]) });
        assert_eq!(seen.pauses(), [250.0], "an attempt without its other end has no pause");
    }
}
