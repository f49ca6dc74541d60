//! A process that crashes is restarted by its policy, and quarantined exactly after the limit.

use whimbrel_core::directory::RestartPolicy;

use super::{Facts, Violation, ms, violated};
use crate::history::{End, Kill, Life, MILLI, Micros, OpKind, SECOND};

const NAME: &str = "restarts";
/// Restarts within the window before quarantine, as in the default configuration.
const RESTARTS_MAX: usize = 5;
const WINDOW: Micros = 60 * SECOND;

pub(super) fn check(facts: &Facts<'_>, found: &mut Vec<Violation>) {
    check_quarantines(facts, found);
    if !facts.crash_only {
        return;
    }
    check_suspects(facts, found);
    for name in 0..facts.lives.len() {
        check_intensity(facts, name, found);
        if !facts.copies_lost {
            check_restarted(facts, name, found);
        }
    }
}

/// Ends of a life's own doing: restarts after these are counted. One that was told to end, or whose node died, did
/// nothing that would bring its name nearer to quarantine.
fn counts(life: &Life) -> bool {
    matches!(life.ended, Some((_, End::Crashed | End::InitFailed | End::Normal)))
}

/// Nobody is quarantined before the limit is passed.
fn check_quarantines(facts: &Facts<'_>, found: &mut Vec<Violation>) {
    for (name, at) in &facts.history.quarantined {
        let lives = facts.lives[*name as usize].iter().map(|life| &facts.history.lives[*life as usize]);
        let within = |life: &&Life| counts(life) && life.end() <= *at && life.end() + WINDOW + SECOND >= *at;
        let failures = lives.filter(within).count();
        // A suspect is quarantined for what it does to its nodes.
        let suspected = facts.history.suspected.iter().any(|(suspect, since)| suspect == name && since <= at);
        if failures <= RESTARTS_MAX && !suspected {
            let text = facts.history.name(*name);
            violated(found, NAME, format!("{text} is quarantined at {} after {failures} ends", ms(*at)));
        }
    }
}

/// Nobody is a suspect whose nodes did not die soon after its starts: four times, or twice before the last node.
fn check_suspects(facts: &Facts<'_>, found: &mut Vec<Violation>) {
    for (name, at) in &facts.history.suspected {
        let lives = facts.lives[*name as usize].iter().map(|life| &facts.history.lives[*life as usize]);
        let died_young = |life: &&Life| {
            // It may also have been about to leave: until it has, its death is one.
            let leaves = facts.history.leaves.iter().any(|(host, left)| {
                *host == life.host && *left <= life.end() && facts.history.killed_between(*host, *left, *at)
            });
            let killed = leaves || matches!(life.ended, Some((_, End::NodeKilled)));
            killed && life.end() < life.launched + 13 * SECOND && life.end() + WINDOW + 8 * SECOND > *at
        };
        let deaths = lives.filter(died_young).count();
        // A host that died between the grant and the launch counts: nobody can know that it had not begun.
        let kills = facts.history.kills.iter();
        let near = |kill: &&Kill| kill.at <= *at && kill.at + WINDOW + 8 * SECOND > *at;
        // And so does one that would have had no room for it.
        let launched = deaths >= 1 || facts.history.capacity.is_some();
        let kills_min = if launched { 2 } else { 4 };
        if deaths < 2 && kills.filter(near).count() < kills_min {
            let text = facts.history.name(*name);
            violated(found, NAME, format!("{text} is a suspect at {} after {deaths} node deaths", ms(*at)));
        }
    }
}

/// Nobody is restarted more often than the limit allows.
fn check_intensity(facts: &Facts<'_>, name: usize, found: &mut Vec<Violation>) {
    let lives: Vec<&Life> =
        facts.lives[name].iter().map(|life| &facts.history.lives[*life as usize]).collect();
    let restarts: Vec<Micros> = lives.iter().filter(|life| life.in_place).map(|life| life.launched).collect();
    for burst in restarts.windows(RESTARTS_MAX + 1) {
        let (first, last) = (burst[0], burst[RESTARTS_MAX]);
        let released = facts.ops[name].iter().any(|op| {
            let op = &facts.history.ops[*op as usize];
            op.kind == OpKind::Release && op.invoked <= last && op.deadline + SECOND >= first
        });
        let anew = lives.iter().any(|life| !life.in_place && life.launched > first && life.launched <= last);
        if last - first < WINDOW - SECOND && !released && !anew && !facts.stop_between(name, first, last) {
            let text = facts.history.name(name as u32);
            let what =
                format!("{text} is restarted {} times from {} to {}", burst.len(), ms(first), ms(last));
            violated(found, NAME, what);
            return;
        }
    }
}

/// After a crash on a node that lives the name runs again within its back-off and a little.
fn check_restarted(facts: &Facts<'_>, name: usize, found: &mut Vec<Violation>) {
    let history = facts.history;
    let lives: Vec<&Life> = facts.lives[name].iter().map(|life| &history.lives[*life as usize]).collect();
    for (at, life) in lives.iter().enumerate() {
        let Some((ended, End::Crashed)) = life.ended else { continue };
        if life.policy == RestartPolicy::Temporary {
            continue;
        }
        let recent = lives[..=at].iter().filter(|l| counts(l) && l.end() + WINDOW > ended).count() as u32;
        let back_off = (100 * MILLI) << recent.min(9);
        let due = ended + back_off * 11 / 10 + SECOND + 12 * facts.delay_max;
        let disturbed = history.kills.iter().any(|kill| kill.at + 8 * SECOND > ended && kill.at < due)
            || history.boots.iter().any(|(_, boot)| boot + 8 * SECOND > ended && *boot < due);
        let excused = disturbed
            || due > history.ended
            || recent as usize > RESTARTS_MAX
            || facts.stop_between(name, life.launched, due);
        let next = lives.get(at + 1).map(|next| next.launched);
        if !excused && next.is_none_or(|next| next > due) {
            let text = history.name(name as u32);
            let what = format!(
                "{text} crashed at {} on n{} and did not run by {}",
                ms(ended),
                life.host + 1,
                ms(due)
            );
            violated(found, NAME, what);
        }
    }
}
