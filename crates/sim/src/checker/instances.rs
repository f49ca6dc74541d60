//! At most one life of a name; one winner per race; tokens that rise.
//!
//! A life that is on its way to another node does not run, and handles nothing: that is judged too, whatever the faults.

use super::{Facts, Violation, ms, violated};
use crate::history::{Life, Micros, Outcome, SECOND};

const NAME: &str = "instances";

pub(super) fn check(facts: &Facts<'_>, found: &mut Vec<Violation>) {
    let windows = facts.excused_windows();
    check_rests(facts, found);
    for name in 0..facts.lives.len() {
        check_overlaps(facts, name, &windows, found);
        if facts.crash_only {
            check_tokens(facts, name, found);
            if !facts.copies_lost {
                check_races(facts, name, found);
            }
        }
    }
}

/// No two lives of a name run at once.
fn check_overlaps(facts: &Facts<'_>, name: usize, windows: &[(Micros, Micros)], found: &mut Vec<Violation>) {
    let history = facts.history;
    let mut running: Vec<(Micros, Micros, &Life)> = facts.lives[name]
        .iter()
        .map(|life| &history.lives[*life as usize])
        .flat_map(|life| life.runs(history.ended).into_iter().map(move |(from, until)| (from, until, life)))
        .collect();
    running.sort_by_key(|(from, ..)| *from);
    let mut longest: Option<(Micros, &Life)> = None;
    for (from, until, life) in running {
        if let Some((end, other)) = longest
            && from < end.min(until)
            && let Some(at) = first_unexcused(from, end.min(until), windows)
        {
            let what = format!(
                "{} runs twice at {}: {:?} on n{} and {:?} on n{}, until {}",
                history.name(name as u32),
                ms(at),
                other.token_now(),
                other.host + 1,
                life.token_now(),
                life.host + 1,
                ms(end.min(until)),
            );
            violated(found, NAME, what);
        }
        if longest.is_none_or(|(end, _)| until > end) {
            longest = Some((until, life));
        }
    }
}

/// What is on its way handles nothing.
fn check_rests(facts: &Facts<'_>, found: &mut Vec<Violation>) {
    let history = facts.history;
    for entry in &history.handled {
        let life = &history.lives[entry.life as usize];
        if life.rested_at(entry.at) {
            let (name, op, at) = (history.name(life.name), entry.op, ms(entry.at));
            let text = format!("{name} handles {op} on n{} at {at}, on its way to another", life.host + 1);
            return violated(found, NAME, text);
        }
    }
}

/// The first moment of a time that no window excuses; windows are sorted by their beginning.
fn first_unexcused(from: Micros, until: Micros, windows: &[(Micros, Micros)]) -> Option<Micros> {
    let mut at = from;
    for (begin, end) in windows {
        if *begin > at {
            break;
        }
        at = at.max(end.saturating_add(1));
    }
    (at < until).then_some(at)
}

/// Every life of a name has a higher token than the lives before.
fn check_tokens(facts: &Facts<'_>, name: usize, found: &mut Vec<Violation>) {
    let history = facts.history;
    let lives: Vec<&Life> = facts.lives[name].iter().map(|life| &history.lives[*life as usize]).collect();
    for pair in lives.windows(2) {
        let (before, after) = (pair[0], pair[1]);
        // When everything is lost only the clock makes tokens rise: a founder that is behind, or that founds within
        // the tick of the last view, can not know better.
        let blind = facts.copies_lost && (history.clocks_differ || after.launched < before.launched + SECOND);
        if after.token <= before.token_now() && !blind {
            let what = format!(
                "{}: token {:?} on n{} at {} does not exceed {:?} before it",
                history.name(name as u32),
                after.token,
                after.host + 1,
                ms(after.launched),
                before.token_now(),
            );
            violated(found, NAME, what);
        }
    }
}

/// Two requests both told that they made the process, with nothing between that ended it.
fn check_races(facts: &Facts<'_>, name: usize, found: &mut Vec<Violation>) {
    let history = facts.history;
    let mut winners: Vec<(Micros, Micros, u32)> = Vec::new();
    for at in &facts.ops[name] {
        let op = &history.ops[*at as usize];
        if let Some((completed, Outcome::Started { token, .. })) = &op.completed {
            winners.push((*completed, op.invoked, *at));
            // It ran, and was stopped under the token of a restart that did not come to begin any more.
            let ran = |life: &Life| Some(life.request) == op.request;
            let mut lives = facts.lives[name].iter().map(|life| &history.lives[*life as usize]);
            if !lives.any(|life| life.token == *token || ran(life)) {
                let what = format!("operation {at} started {token:?}, which was never launched");
                violated(found, NAME, what);
            }
        }
    }
    winners.sort_unstable();
    for pair in winners.windows(2) {
        let ((first, first_invoked, a), (second, _, b)) = (pair[0], pair[1]);
        if !facts.stop_between(name, first_invoked, second)
            && !facts.ended_between(name, first_invoked, second)
        {
            let what = format!(
                "operations {a} and {b} both started {}, at {} and {}",
                history.name(name as u32),
                ms(first),
                ms(second)
            );
            violated(found, NAME, what);
        }
    }
}
