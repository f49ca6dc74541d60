//! Runs of seeds: one after the other, or on several threads.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use whimbrel_core::base::Mutants;
use whimbrel_core::base::hash::mix;

use crate::checker::{Violation, judge};
use crate::history::{Micros, OpKind};
use crate::plan::{Plan, Profile};
use crate::tale;
use crate::world::{Hits, World};

/// What one seed gave.
#[derive(Clone, Debug, Default)]
pub(crate) struct SeedResult {
    pub(crate) seed: u64,
    pub(crate) events: u64,
    pub(crate) ops: u64,
    pub(crate) trace_hash: u64,
    pub(crate) faults: BTreeMap<&'static str, u64>,
    pub(crate) marks: BTreeMap<&'static str, u64>,
    pub(crate) hits: Hits,
    /// The most that each table held, and its limit then.
    pub(crate) fullest: BTreeMap<&'static str, (usize, usize)>,
    pub(crate) violations: Vec<Violation>,
}

/// What many seeds gave.
#[derive(Clone, Debug, Default)]
pub(crate) struct Summary {
    pub(crate) seeds: u64,
    pub(crate) violations: u64,
    pub(crate) first_bad: Option<(u64, Violation)>,
    pub(crate) events: u64,
    pub(crate) events_min: u64,
    pub(crate) ops_min: u64,
    pub(crate) trace_hash: u64,
    pub(crate) faults: BTreeMap<&'static str, u64>,
    pub(crate) marks: BTreeMap<&'static str, u64>,
    pub(crate) hits: Hits,
    /// Of each table, where it was nearest to its limit: how much it held, and the limit.
    pub(crate) fullest: BTreeMap<&'static str, (usize, usize)>,
    pub(crate) seconds: f64,
}

/// Which seeds to run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Batch {
    pub(crate) profile: Profile,
    pub(crate) first_seed: u64,
    pub(crate) seeds: u64,
    pub(crate) jobs: usize,
}

/// What to print of a seed while it runs.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Look<'a> {
    /// Every event, on standard output.
    pub(crate) trace: bool,
    /// These names, on standard error.
    pub(crate) tale: &'a [String],
}

/// The slowest way of a frame that a plan allows.
pub(crate) fn delay_max(plan: &Plan) -> Micros {
    let tail = if plan.tail_permille > 0 { plan.tail_max } else { 0 };
    plan.delay.1.max(tail)
}

/// Runs one seed and judges it. A panic, in the core or in the simulator, is a violation too.
pub(crate) fn run_seed(profile: Profile, seed: u64, mutants: Mutants, look: Look<'_>) -> SeedResult {
    let plan = Plan::draw(profile, seed, mutants);
    let (replicas, delay) = (plan.replicas, delay_max(&plan));
    let run = catch_unwind(AssertUnwindSafe(|| {
        let mut world = World::new(plan, look.trace);
        world.run();
        world
    }));
    match run {
        Ok(world) => {
            look.tale.iter().for_each(|name| tale::tell(&world.history, name));
            let violations = judge(&world.history, replicas, delay);
            finished(seed, &world, violations)
        }
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            let what = text.unwrap_or_else(|| "a panic without a text".into());
            SeedResult {
                seed,
                violations: vec![Violation { checker: "panic", what }],
                ..SeedResult::default()
            }
        }
    }
}

/// The result of a world that has come to its end.
pub(crate) fn finished(seed: u64, world: &World, violations: Vec<Violation>) -> SeedResult {
    SeedResult {
        seed,
        events: world.stats.events,
        ops: world.history.ops.iter().filter(|op| op.kind != OpKind::List).count() as u64,
        trace_hash: world.stats.trace_hash,
        faults: world.stats.faults.clone(),
        marks: world.stats.marks.clone(),
        hits: world.stats.hits.clone(),
        fullest: world.history.fullest.iter().map(|(t, f)| (*t, (f.usage.used, f.usage.limit))).collect(),
        violations,
    }
}

impl Summary {
    /// Adds one seed; the sum does not depend on the order.
    fn add(&mut self, result: &SeedResult) {
        let first = self.seeds == 0;
        self.seeds += 1;
        self.events += result.events;
        self.events_min = if first { result.events } else { self.events_min.min(result.events) };
        self.ops_min = if first { result.ops } else { self.ops_min.min(result.ops) };
        self.trace_hash ^= mix(result.trace_hash ^ mix(result.seed));
        for (fault, count) in &result.faults {
            *self.faults.entry(fault).or_insert(0) += count;
        }
        for (mark, count) in &result.marks {
            *self.marks.entry(mark).or_insert(0) += count;
        }
        for (step, faults) in &result.hits {
            let sums = self.hits.entry(step).or_default();
            faults.iter().for_each(|(fault, count)| *sums.entry(fault).or_insert(0) += count);
        }
        for (table, (used, limit)) in &result.fullest {
            let most = self.fullest.entry(table).or_insert((0, *limit));
            if used * most.1 > most.0 * limit {
                *most = (*used, *limit);
            }
        }
        if let Some(violation) = result.violations.first() {
            self.violations += 1;
            if self.first_bad.as_ref().is_none_or(|(seed, _)| *seed > result.seed) {
                self.first_bad = Some((result.seed, violation.clone()));
            }
        }
    }
}

/// Runs a batch on its threads. `tell` hears of every bad seed and, now and then, of the progress.
pub(crate) fn run_batch(batch: Batch, mutants: Mutants, tell: &(dyn Fn(&SeedResult, u64) + Sync)) -> Summary {
    let next = AtomicU64::new(0);
    let summary = Mutex::new(Summary::default());
    let start = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..batch.jobs.max(1) {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= batch.seeds {
                        return;
                    }
                    let result = run_seed(batch.profile, batch.first_seed + index, mutants, Look::default());
                    tell(&result, index + 1);
                    // A thread that panicked while it held the lock left a sum that is whole: `add` does not panic.
                    summary.lock().unwrap_or_else(std::sync::PoisonError::into_inner).add(&result);
                }
            });
        }
    });
    let mut summary = summary.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    summary.seconds = start.elapsed().as_secs_f64();
    summary
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_run() {
        for profile in [Profile::Lite, Profile::Birth, Profile::Split, Profile::Storm] {
            for seed in 1..4 {
                let first = run_seed(profile, seed, Mutants::default(), Look::default());
                let second = run_seed(profile, seed, Mutants::default(), Look::default());
                assert_eq!(first.trace_hash, second.trace_hash, "{profile:?} {seed}");
                assert_eq!(first.events, second.events);
            }
        }
    }

    #[test]
    fn seeds_differ_and_threads_do_not_matter() {
        let batch = Batch { profile: Profile::Lite, first_seed: 1, seeds: 6, jobs: 1 };
        let one = run_batch(batch, Mutants::default(), &|_, _| {});
        let two = run_batch(Batch { jobs: 2, ..batch }, Mutants::default(), &|_, _| {});
        assert_eq!(one.trace_hash, two.trace_hash);
        assert_eq!(one.events, two.events);
        let other = run_batch(Batch { first_seed: 7, ..batch }, Mutants::default(), &|_, _| {});
        assert_ne!(one.trace_hash, other.trace_hash);
    }
}
