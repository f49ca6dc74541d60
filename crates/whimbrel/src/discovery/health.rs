//! What the log says about one source: that it fails, and that it answers again.
//!
//! A source is asked every few seconds for the whole life of a node, so not every error is worth a line: one when it
//! begins to fail and one when that is over, and of a source that goes back and forth at most one such pair a
//! minute. A failure that could not be told at once is told when its minute comes, if it lasts.

use std::time::Duration;

use whimbrel_core::base::Time;

/// Between two times that the log may say that a source fails.
const EVERY: Duration = Duration::from_secs(60);

/// What is to be said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// Nothing.
    None,
    /// It fails.
    Fails,
    /// It answers again.
    Answers,
}

/// How the last questions ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Well,
    /// It fails, and nobody was told.
    Silent,
    /// It fails, and the log says so.
    Told,
}

/// Of one source.
#[derive(Debug)]
pub(super) struct Health {
    state: State,
    told: Option<Time>,
}

impl Health {
    pub(super) const fn new() -> Self {
        Self { state: State::Well, told: None }
    }

    pub(super) fn answered(&mut self, now: Time) -> Line {
        match std::mem::replace(&mut self.state, State::Well) {
            State::Told => {
                self.told = Some(now);
                Line::Answers
            }
            State::Well | State::Silent => Line::None,
        }
    }

    pub(super) fn failed(&mut self, now: Time) -> Line {
        let may_tell = self.told.is_none_or(|told| now.since(told) >= EVERY);
        match self.state {
            State::Well | State::Silent if may_tell => {
                (self.state, self.told) = (State::Told, Some(now));
                Line::Fails
            }
            State::Well | State::Silent => {
                self.state = State::Silent;
                Line::None
            }
            State::Told => Line::None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seconds, `x` for an error or `o` for an answer, what the log says.
    fn lines(events: &[(u64, char)]) -> String {
        let mut health = Health::new();
        let said = events.iter().map(|(second, event)| {
            let now = Time::from_micros(second * 1_000_000);
            let line = if *event == 'x' { health.failed(now) } else { health.answered(now) };
            match line {
                Line::None => '-',
                Line::Fails => 'F',
                Line::Answers => 'A',
            }
        });
        said.collect()
    }

    #[test]
    fn a_failure_is_told_once_and_its_end_once() {
        assert_eq!(lines(&[(0, 'o'), (5, 'x'), (10, 'x'), (500, 'x'), (505, 'o'), (510, 'o')]), "-F--A-");
        assert_eq!(lines(&[(0, 'x'), (5, 'o')]), "FA");
    }

    #[test]
    fn of_one_that_goes_back_and_forth_one_pair_a_minute_is_told() {
        let events = [(0, 'x'), (1, 'o'), (2, 'x'), (3, 'o'), (4, 'x'), (5, 'o'), (61, 'x'), (62, 'o')];
        assert_eq!(lines(&events), "FA----FA");
    }

    #[test]
    fn a_failure_that_lasts_is_told_when_its_minute_comes() {
        assert_eq!(
            lines(&[(0, 'x'), (1, 'o'), (2, 'x'), (30, 'x'), (60, 'x'), (61, 'x'), (62, 'x')]),
            "FA---F-"
        );
    }
}
