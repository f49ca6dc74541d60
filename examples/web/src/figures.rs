//! What the load has seen, and the verdict on it.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde_json::{Map, Value, json};

/// Version of the JSON that is printed.
const SCHEMA: u32 = 1;
/// Width of the classes in which times are counted.
const CLASS_US: u128 = 100;
/// Classes: 10 s. What takes longer is in the last one.
const CLASSES: usize = 100_000;
/// Different causes that are counted apart.
const CAUSES_MAX: usize = 32;
/// Of the requests that were due, so many percent must have been sent: else the load was not what it says.
const SENT_PERCENT_MIN: f64 = 80.0;

/// Counts over all sessions.
#[derive(Clone, Debug)]
pub(crate) struct Figures {
    sessions: u32,
    requests: u64,
    /// Those of them whose times are counted.
    timed: u64,
    failed: BTreeMap<String, u64>,
    sessions_lost: u32,
    visits_doubled: u64,
    moves_seen: u64,
    classes: Vec<u32>,
    max: Duration,
}

/// What one answer says of its session, compared with the answer before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rise {
    /// By one, or by as many more as requests without an answer may have added.
    ByOne,
    /// The number is one that was there before: the session's state is gone.
    Lost,
    /// A visit was counted more often than it was made.
    Doubled,
}

/// `unanswered`: requests since `before` of which nobody knows whether they were executed.
pub(crate) fn rise(before: u64, unanswered: u64, number: u64) -> Rise {
    match number {
        number if number <= before => Rise::Lost,
        number if number > before + 1 + unanswered => Rise::Doubled,
        _ => Rise::ByOne,
    }
}

impl Figures {
    pub(crate) fn new(sessions: u32) -> Self {
        Self {
            sessions,
            requests: 0,
            timed: 0,
            failed: BTreeMap::new(),
            sessions_lost: 0,
            visits_doubled: 0,
            moves_seen: 0,
            classes: vec![0; CLASSES],
            max: Duration::ZERO,
        }
    }

    /// The first request of a session has ended. All of them are made at once, before the load: their times say how long
    /// so many starts take, and are not counted.
    pub(crate) fn first_request(&mut self) {
        self.requests += 1;
    }

    /// A request of the load has ended. `time` counts from when it was due, not from when it could be sent: a service that makes
    /// its callers queue does not look fast.
    pub(crate) fn request(&mut self, time: Duration) {
        self.requests += 1;
        self.timed += 1;
        let class = usize::try_from(time.as_micros() / CLASS_US).unwrap_or(CLASSES);
        self.classes[class.min(CLASSES - 1)] += 1;
        self.max = self.max.max(time);
    }

    /// It had no answer, or not a good one.
    pub(crate) fn failure(&mut self, cause: String) {
        let known = self.failed.contains_key(&cause) || self.failed.len() < CAUSES_MAX;
        *self.failed.entry(if known { cause } else { "others".to_owned() }).or_default() += 1;
    }

    /// A session has forgotten.
    pub(crate) fn session_lost(&mut self) {
        self.sessions_lost += 1;
    }

    /// A visit was counted twice.
    pub(crate) fn visit_doubled(&mut self) {
        self.visits_doubled += 1;
    }

    /// A session answered from another node than before.
    pub(crate) fn move_seen(&mut self) {
        self.moves_seen += 1;
    }

    /// Answers so far that came from another node than the one before.
    pub(crate) fn moves_seen(&self) -> u64 {
        self.moves_seen
    }

    /// Requests without a good answer.
    pub(crate) fn non_2xx(&self) -> u64 {
        self.failed.values().sum()
    }

    /// The time within which so many of a thousand requests of the load ended.
    fn within(&self, per_mille: u64) -> Option<f64> {
        let wanted = (self.timed * per_mille).div_ceil(1_000);
        let mut seen = 0;
        let class = self.classes.iter().position(|count| {
            seen += u64::from(*count);
            seen >= wanted && seen > 0
        })?;
        Some((class + 1) as f64 * CLASS_US as f64 / 1_000.0)
    }

    /// The first check that failed.
    pub(crate) fn verdict(&self, rate: u32, seconds: f64) -> &'static str {
        let checks = [
            ("requests", self.timed as f64 >= f64::from(rate) * seconds * SENT_PERCENT_MIN / 100.0),
            ("non_2xx", self.non_2xx() == 0),
            ("sessions_lost", self.sessions_lost == 0),
            ("visits_doubled", self.visits_doubled == 0),
        ];
        checks.iter().find(|(_, holds)| !holds).map_or("ok", |(check, _)| check)
    }

    /// All figures, with the keys that every result has in front.
    pub(crate) fn result(&self, seed: u64, verdict: &str, seconds: f64) -> Map<String, Value> {
        let mut object = result_object(seed, verdict);
        let figures = json!({
            "requests": self.requests,
            "non_2xx": self.non_2xx(),
            "failed": self.failed,
            "sessions": self.sessions,
            "sessions_lost": self.sessions_lost,
            "visits_doubled": self.visits_doubled,
            "moves_seen": self.moves_seen,
            "p50_ms": self.within(500),
            "p99_ms": self.within(990),
            "max_ms": self.max.as_millis() as u64,
            "seconds": (seconds * 10.0).round() / 10.0,
        });
        if let Value::Object(figures) = figures {
            object.extend(figures);
        }
        object
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (requests, non_2xx, lost) = (self.requests, self.non_2xx(), self.sessions_lost);
        write!(
            f,
            "so far {requests} requests, {non_2xx} not 2xx, {lost} sessions lost, {} moves seen",
            self.moves_seen
        )
    }
}

/// The keys that every result has.
pub(crate) fn result_object(seed: u64, verdict: &str) -> Map<String, Value> {
    let mut object = Map::new();
    object.insert("schema".into(), SCHEMA.into());
    object.insert("version".into(), env!("CARGO_PKG_VERSION").into());
    object.insert("seed".into(), seed.into());
    object.insert("verdict".into(), verdict.into());
    object
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_number_rises_by_one_or_by_what_nobody_knows_of() {
        for (before, unanswered, number, want) in [
            (4, 0, 5, Rise::ByOne),
            (4, 0, 4, Rise::Lost),
            (4, 0, 1, Rise::Lost),
            (4, 0, 6, Rise::Doubled),
            (4, 1, 5, Rise::ByOne),
            (4, 1, 6, Rise::ByOne),
            (4, 1, 7, Rise::Doubled),
            (4, 2, 4, Rise::Lost),
        ] {
            assert_eq!(rise(before, unanswered, number), want, "{before}, {unanswered}, {number}");
        }
    }

    #[test]
    fn the_verdict_names_the_first_check_that_failed() {
        let mut figures = Figures::new(1);
        assert_eq!(figures.verdict(10, 1.0), "requests");
        for _ in 0..8 {
            figures.request(Duration::from_millis(1));
        }
        assert_eq!(figures.verdict(10, 1.0), "ok");
        figures.visit_doubled();
        assert_eq!(figures.verdict(10, 1.0), "visits_doubled");
        figures.session_lost();
        assert_eq!(figures.verdict(10, 1.0), "sessions_lost");
        figures.failure("connection refused".to_owned());
        assert_eq!(figures.verdict(10, 1.0), "non_2xx");
    }

    #[test]
    fn percentiles_are_upper_bounds_of_their_class() {
        let mut figures = Figures::new(1);
        assert_eq!(figures.within(990), None);
        for ms in 1..=100 {
            figures.request(Duration::from_millis(ms));
        }
        figures.request(Duration::from_secs(60));
        let result = figures.result(1, "ok", 1.0);
        assert_eq!((result["p50_ms"].as_f64().unwrap(), result["p99_ms"].as_f64().unwrap()), (51.1, 100.1));
        assert_eq!(result["max_ms"], 60_000);
    }

    #[test]
    fn causes_are_counted_apart_up_to_a_number() {
        let mut figures = Figures::new(1);
        for cause in 0..100 {
            figures.failure(cause.to_string());
        }
        assert_eq!((figures.failed.len(), figures.non_2xx()), (CAUSES_MAX + 1, 100));
    }
}
