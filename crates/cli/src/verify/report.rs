//! The figures of a run, as `--json` prints them, and the checks that make its verdict.

use serde::Serialize;
use serde_json::{Value, json};

use super::messages::CallsFailed;
use super::soak::SoakFigures;
use crate::output;

/// Everything that is judged about a run.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Figures {
    /// Nodes at the start.
    pub(crate) nodes: u32,
    /// The singleton.
    pub(crate) cleaner: CleanerFigures,
    /// The counters.
    pub(crate) counters: CounterFigures,
    /// The counters' groups.
    pub(crate) groups: GroupFigures,
    /// The watchers.
    pub(crate) monitors: MonitorFigures,
    /// Races in which two callers got `started`.
    pub(crate) double_starts: u64,
    /// Names that were started and do not answer at the end.
    pub(crate) names_lost: u64,
    /// kill(2) returned -> first reply of each name that was on the node.
    pub(crate) names_back_after_kill_ms: Option<Spread>,
    /// The story.
    pub(crate) steps: Vec<StepFigures>,
    /// All of it in one row, if it is a soak: then this is what is printed.
    #[serde(skip)]
    pub(crate) soak: Option<SoakFigures>,
}

/// What is judged about the cleaner.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct CleanerFigures {
    pub(crate) runs: u64,
    pub(crate) overlapping_runs: u64,
    pub(crate) overlapping_lives: u64,
    pub(crate) outdated_rows_left: Option<u64>,
    pub(crate) fresh_rows_deleted: u64,
    pub(crate) back_after_panic_ms: Option<f64>,
    pub(crate) back_after_kill_ms: Option<f64>,
}

/// What is judged about the counters.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct CounterFigures {
    pub(crate) names: u32,
    pub(crate) calls_ok: u64,
    pub(crate) calls_failed: CallsFailed,
    pub(crate) casts_sent: u64,
    pub(crate) lost: u64,
    pub(crate) lost_by_kill: u64,
    pub(crate) doubled: u64,
    pub(crate) reordered: u64,
}

/// What is judged about groups.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct GroupFigures {
    pub(crate) count: u64,
    pub(crate) members_wrong: Option<u64>,
}

/// What is judged about monitors.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct MonitorFigures {
    pub(crate) set: u64,
    pub(crate) downs: u64,
    pub(crate) missing: u64,
    pub(crate) twice: u64,
}

/// What is judged about one step.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct StepFigures {
    pub(crate) step: String,
    pub(crate) ms: f64,
    pub(crate) pids_before: Vec<u32>,
    pub(crate) pids_after: Vec<u32>,
    pub(crate) accepted: u64,
    pub(crate) lost: u64,
    pub(crate) doubled: u64,
    pub(crate) reordered: u64,
    pub(crate) calls_failed: CallsFailed,
    pub(crate) call_p50_us: Option<u64>,
    pub(crate) call_p99_us: Option<u64>,
    pub(crate) call_max_us: Option<u64>,
    pub(crate) moved: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) pause_ms: Option<Spread>,
}

/// How values are spread, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Spread {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) max: f64,
}

impl Spread {
    /// Of sorted values; `None` of none.
    pub(crate) fn of_sorted(sorted: &[f64]) -> Option<Self> {
        let at = |percent| super::interval::percentile(sorted, percent);
        Some(Self { p50: at(50)?, p99: at(99)?, max: *sorted.last()? })
    }
}

/// One thing that must hold.
#[derive(Clone, Debug)]
pub(crate) struct Check {
    /// What the verdict says when it does not hold.
    pub(crate) name: String,
    /// Whether it holds.
    pub(crate) holds: bool,
    /// What was found.
    pub(crate) found: String,
}

impl Check {
    /// Holds when nothing was counted.
    pub(crate) fn zero(name: &str, count: u64) -> Self {
        Self { name: name.to_owned(), holds: count == 0, found: format!("{count}, must be 0") }
    }

    /// Holds when `holds`.
    pub(crate) fn that(name: impl Into<String>, holds: bool, found: impl Into<String>) -> Self {
        Self { name: name.into(), holds, found: found.into() }
    }
}

/// Figures, checks, and what they come from.
#[derive(Clone, Debug)]
pub(crate) struct Report {
    /// Version that ran the demo.
    pub(crate) version: String,
    /// Its seed.
    pub(crate) seed: u64,
    /// What was found.
    pub(crate) figures: Figures,
    /// What was judged, in the order of weight.
    pub(crate) checks: Vec<Check>,
}

impl Report {
    /// The same report of a run that could not tell its story to the end.
    pub(crate) fn cut_short(mut self, why: &str) -> Self {
        self.checks.insert(0, Check::that("story", false, why));
        self
    }

    /// Whether every check holds.
    pub(crate) fn is_ok(&self) -> bool {
        self.checks.iter().all(|check| check.holds)
    }

    /// "ok", or the first check that failed.
    pub(crate) fn verdict(&self) -> &str {
        self.checks.iter().find(|check| !check.holds).map_or("ok", |check| &check.name)
    }

    /// The checks that failed.
    pub(crate) fn failed(&self) -> impl Iterator<Item = &Check> {
        self.checks.iter().filter(|check| !check.holds)
    }

    /// The object that `--json` prints.
    pub(crate) fn to_json(&self) -> Value {
        let mut object = output::result_object(Some(self.seed), self.verdict());
        object.insert("version".into(), self.version.clone().into());
        let figures = match &self.figures.soak {
            Some(soak) => serde_json::to_value(soak),
            None => serde_json::to_value(&self.figures),
        };
        if let Ok(Value::Object(figures)) = figures {
            object.extend(figures);
        }
        let failed: Vec<Value> =
            self.failed().map(|check| json!({ "check": check.name, "found": check.found })).collect();
        object.insert("failed".into(), failed.into());
        Value::Object(object)
    }
}
