//! Checkers: judges of a finished run that read its history and nothing else.
//!
//! | checker | judges |
//! |---|---|
//! | `instances` | two lives of one name, two winners of one race, tokens that do not rise (P1) |
//! | `durability` | an acknowledged start that is gone (P2) |
//! | `restarts` | restart after a crash, quarantine exactly after the limit (P4) |
//! | `outcomes` | one outcome by the deadline, "not executed" that was, casts that vanish (P5) |
//! | `order` | messages doubled or out of order (P6) |
//! | `progress` | birth, joins and healing in bounded time (P11) |
//! | `linear` | start, stop and locate of one name are linearizable when nothing is cut |
//! | `bounds` | a table beyond its limit; a node that lives and is taken for dead (P9, I11) |
//! | `room` | a node with more processes of a kind than it may have |
//! | `isolation` | a name that waits for another name's user code (P12) |
//! | `moves` | slots that move without need, or too many; names that start more than once (I13) |
//! | `handoff` | a process that moves and does not go on where it stopped; an error that only a lost node gives (P3) |
//! | `placed` | a process without the labels that it wants; moves without end; orders that not all follow |
//! | `drains` | a node that drains and takes something new, leaves something behind, or never ends |
//! | `groups` | members of groups that are read differently, or are not those that joined and did not leave (I9) |
//! | `monitors` | an end that a watcher is told of twice, or not, or falsely (I12, P8) |
//! | `world` | what the world itself found odd |
//!
//! What may be promised depends on the faults: a *crash-only* run had no cut, no pause and no change of lines, and
//! there the strict form of each promise holds at every moment. Everywhere else it holds C after the last
//! disturbance.

mod bounds;
mod drains;
mod durability;
mod groups;
mod handoff;
mod instances;
mod isolation;
mod linear;
mod monitors;
mod moves;
mod order;
mod outcomes;
mod placed;
mod progress;
mod restarts;
mod room;
mod streams;

pub(crate) use streams::name_of;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use whimbrel_core::base::{Mutant, Mutants};
use whimbrel_core::directory::RestartPolicy;

use crate::history::{End, History, Micros, NEVER, OpKind, SECOND};
use crate::world::CONVERGENCE;

/// A promise that a run broke.
#[derive(Clone, Debug)]
pub(crate) struct Violation {
    pub(crate) checker: &'static str,
    pub(crate) what: String,
}

/// What several checkers need to know.
pub(crate) struct Facts<'a> {
    pub(crate) history: &'a History,
    /// No cut, no pause, no change of lines.
    pub(crate) crash_only: bool,
    /// All copies of some slot may have died at once: records may be gone.
    pub(crate) copies_lost: bool,
    /// Lives by name, in the order of their launch.
    pub(crate) lives: Vec<Vec<u32>>,
    /// By life: those that it went on as elsewhere; two, if a split came in between.
    pub(crate) went_to: Vec<Vec<u32>>,
    /// Operations by name, in the order of their invocation.
    pub(crate) ops: Vec<Vec<u32>>,
    /// The slowest path of the run.
    pub(crate) delay_max: Micros,
    /// How long after each disturbance nothing is promised yet.
    pub(crate) grace: Micros,
    pub(crate) replicas: usize,
}

impl<'a> Facts<'a> {
    pub(crate) fn new(history: &'a History, replicas: usize, delay_max: Micros) -> Self {
        let mut lives = vec![Vec::new(); history.names.len()];
        let mut went_to = vec![Vec::new(); history.lives.len()];
        for (at, life) in history.lives.iter().enumerate() {
            lives[life.name as usize].push(at as u32);
            if let Some(from) = life.moved_from {
                went_to[from as usize].push(at as u32);
            }
        }
        let mut ops = vec![Vec::new(); history.names.len()];
        for (at, op) in history.ops.iter().enumerate() {
            ops[op.name as usize].push(at as u32);
        }
        let mut facts = Self {
            history,
            crash_only: history.crash_only(),
            copies_lost: false,
            lives,
            went_to,
            ops,
            delay_max,
            grace: CONVERGENCE + penalty(history),
            replicas,
        };
        facts.copies_lost = facts.may_have_lost_copies();
        facts
    }

    /// Whether, in any time in which slots could not be filled again, as many nodes died as have copies.
    fn may_have_lost_copies(&self) -> bool {
        let history = self.history;
        let window = CONVERGENCE + SECOND;
        let disturbed = |at: Micros| {
            history.disturbances.iter().any(|d| d.from <= at && at <= d.until.saturating_add(self.grace))
                || history.line_changes.iter().any(|(_, t)| *t <= at && at <= t + self.grace)
        };
        history.kills.iter().any(|first| {
            let soon = |at: Micros| at >= first.at && at <= first.at + window;
            // Copies of one slot are on several machines, so one that dies again and again takes one of them.
            let dead: BTreeSet<u16> =
                history.kills.iter().filter(|kill| soon(kill.at)).map(|kill| kill.host).collect();
            let deaths = dead.len();
            let views = history.installed.iter();
            let around = views.filter(|i| i.at + window > first.at && i.at <= first.at + window);
            let members = around.map(|i| i.view.members.len()).min().unwrap_or(self.replicas);
            deaths >= members.min(self.replicas) || disturbed(first.at)
        })
    }

    /// Whether a split in the middle of a move left two of this life: at two nodes, or it went on where it was too.
    pub(crate) fn is_forked(&self, life: u32) -> bool {
        let went_to = &self.went_to[life as usize];
        let stayed =
            !matches!(self.history.lives[life as usize].ended, Some((_, End::Moved | End::NodeKilled)));
        went_to.len() > 1 || (stayed && !went_to.is_empty())
    }

    /// Whether every start of the name asked for a permanent process.
    pub(crate) fn is_permanent(&self, name: usize) -> bool {
        self.policies(name).all(|policy| policy == RestartPolicy::Permanent)
    }

    pub(crate) fn policies(&self, name: usize) -> impl Iterator<Item = RestartPolicy> + '_ {
        self.ops[name].iter().filter_map(|op| match self.history.ops[*op as usize].kind {
            OpKind::Start(policy) => Some(policy),
            _ => None,
        })
    }

    /// Whether somebody asked, between two times, for this name to be stopped, as far as it could take effect.
    pub(crate) fn stop_between(&self, name: usize, from: Micros, until: Micros) -> bool {
        self.ops[name].iter().map(|op| &self.history.ops[*op as usize]).any(|op| {
            let over = op.completed.as_ref().map_or(NEVER, |(at, _)| *at);
            op.kind == OpKind::Stop && op.invoked <= until && over >= from
        })
    }

    /// Whether a life of the name ended for good between two times, by its policy.
    pub(crate) fn ended_between(&self, name: usize, from: Micros, until: Micros) -> bool {
        self.lives[name].iter().map(|life| &self.history.lives[*life as usize]).any(|life| {
            let ends_record = match (life.policy, life.ended) {
                (RestartPolicy::Temporary, Some(_)) | (RestartPolicy::Transient, Some((_, End::Normal))) => {
                    true
                }
                (_, Some((_, end))) => matches!(end, End::Stopped),
                (_, None) => false,
            };
            ends_record && life.end() <= until && life.end() >= from.saturating_sub(SECOND)
        })
    }

    /// Whether a node began or ended between two times, or was about to.
    pub(crate) fn nodes_change_between(&self, from: Micros, until: Micros) -> bool {
        let within = |at: Micros| at >= from && at <= until;
        self.history.kills.iter().any(|kill| within(kill.at))
            || self.history.boots.iter().chain(&self.history.leaves).any(|(_, at)| within(*at))
    }

    /// Times in which nothing is promised about who runs: disturbances and what follows them.
    pub(crate) fn excused_windows(&self) -> Vec<(Micros, Micros)> {
        let history = self.history;
        let disturbed = history.disturbances.iter().map(|d| (d.from, d.until.saturating_add(self.grace)));
        let changes = history.line_changes.iter().map(|(_, at)| (*at, at + self.grace));
        let mut windows: Vec<_> = disturbed.chain(changes).collect();
        windows.sort_unstable();
        windows
    }
}

/// How much longer than C a node waits that was expelled often: 2^k s for k times within a minute.
fn penalty(history: &History) -> Micros {
    let recent = |(host, at): &(u16, Micros)| {
        let counts = |e: &Micros| e <= at && e + 60 * SECOND > *at && !history.killed_between(*host, *e, *at);
        history.expulsions.iter().filter(|(other, e)| other == host && counts(e)).count()
    };
    let worst = history.expulsions.iter().map(recent).max().unwrap_or(0);
    if worst < 2 { 0 } else { SECOND << worst.min(6) }
}

/// All that a run broke, the worst first.
pub(crate) fn judge(history: &History, replicas: usize, delay_max: Micros) -> Vec<Violation> {
    let facts = Facts::new(history, replicas, delay_max);
    let mut found = Vec::new();
    for text in &history.oddities {
        found.push(Violation { checker: "world", what: text.clone() });
    }
    instances::check(&facts, &mut found);
    order::check(&facts, &mut found);
    outcomes::check(&facts, &mut found);
    durability::check(&facts, &mut found);
    restarts::check(&facts, &mut found);
    progress::check(&facts, &mut found);
    linear::check(&facts, &mut found);
    bounds::check(&facts, &mut found);
    room::check(&facts, &mut found);
    isolation::check(&facts, &mut found);
    moves::check(&facts, &mut found);
    handoff::check(&facts, &mut found);
    placed::check(&facts, &mut found);
    drains::check(&facts, &mut found);
    groups::check(&facts, &mut found);
    monitors::check(&facts, &mut found);
    streams::check(&facts, &mut found);
    found
}

/// The mutants, with their names as the command line writes them.
pub(crate) fn mutant_name(mutant: Mutant) -> String {
    let debug = format!("{mutant:?}");
    let mut name = String::new();
    for letter in debug.chars() {
        if letter.is_ascii_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(letter.to_ascii_lowercase());
    }
    name
}

/// The mutant of this name.
pub(crate) fn mutant_of(text: &str) -> Option<Mutants> {
    Mutant::ALL.into_iter().find(|mutant| mutant_name(*mutant) == text).map(Mutants::planted)
}

fn violated(found: &mut Vec<Violation>, checker: &'static str, what: String) {
    found.push(Violation { checker, what });
}

/// A time as reports write it.
pub(crate) fn ms(at: Micros) -> String {
    if at == NEVER { "the end".into() } else { format!("{}.{:03} ms", at / 1000, at % 1000) }
}
