//! Histories of real runs, each with one lie: the checker that should see it does.

#![allow(clippy::unwrap_used)]

mod bonds;

use whimbrel_core::base::Mutants;
use whimbrel_core::base::limits::Usage;

use super::{Violation, judge};
use crate::history::{End, Fullest, Handled, History, Life, MILLI, OpKind, Outcome, SECOND};
use crate::plan::{Plan, Profile, Storm};
use crate::run::delay_max;
use crate::world::World;

/// The history of the first storm that is like this, and what judging it needs.
fn storm(is_like: impl Fn(&Plan, Storm) -> bool) -> impl Fn(&dyn Fn(&mut History)) -> Vec<Violation> {
    let drawn = (1..).map(|seed| Plan::draw(Profile::Storm, seed, Mutants::default()));
    let plan = drawn.into_iter().find(|plan| plan.storm.is_some_and(|storm| is_like(plan, storm))).unwrap();
    move |lie| {
        let (replicas, delay) = (plan.replicas, delay_max(&plan));
        let mut world = World::new(plan.clone(), false);
        world.run();
        assert_eq!(judge(&world.history, replicas, delay).len(), 0, "the truth is judged green");
        lie(&mut world.history);
        judge(&world.history, replicas, delay)
    }
}

fn only(violations: &[Violation], checker: &str, text: &str) {
    assert!(!violations.is_empty(), "{checker} saw nothing");
    for violation in violations {
        assert_eq!(violation.checker, checker, "{}", violation.what);
        assert!(violation.what.contains(text), "{}", violation.what);
    }
}

#[test]
fn a_table_beyond_its_limit_is_seen() {
    let judged = storm(|_, storm| storm == Storm::Hang);
    let violations = judged(&|history| {
        let usage = Usage::new("requests", 65, 64);
        history.fullest.insert("requests", Fullest { usage, host: 0, at: SECOND });
    });
    only(&violations, "bounds", "requests of n1 hold 65 of at most 64");
}

#[test]
fn a_node_with_more_processes_than_it_may_have_is_seen() {
    let plan = Plan::draw(Profile::Room, 1, Mutants::default());
    let mut world = World::new(plan.clone(), false);
    world.run();
    assert_eq!(judge(&world.history, plan.replicas, delay_max(&plan)).len(), 0, "the truth is judged green");
    // A process that ended goes on, as if nobody had waited for its end.
    let most = plan.capacity.unwrap();
    for host in 0..world.history.finals.len() as u16 {
        let lives = world.history.lives.iter_mut().filter(|life| life.host == host);
        lives.take(most + 1).for_each(|life| life.ended = None);
    }
    let violations = judge(&world.history, plan.replicas, delay_max(&plan));
    assert!(violations.iter().any(|v| v.checker == "room"), "{violations:?}");
}

#[test]
fn a_member_that_is_left_out_without_having_died_is_seen() {
    let judged = storm(|plan, storm| matches!(storm, Storm::Rolling { .. }) && plan.faults.is_empty());
    let violations = judged(&|history| {
        // As if the first that died had been alive when the others went on without it.
        let host = history.kills[0].host;
        history.kills.retain(|kill| kill.host != host);
        history.leaves.retain(|(leaver, _)| *leaver != host);
    });
    assert!(violations.iter().any(|v| v.checker == "bounds" && v.what.contains("lives and is left out")));
}

#[test]
fn a_name_that_waits_for_the_user_code_of_another_is_seen() {
    let judged = storm(|plan, storm| storm == Storm::Hang && plan.faults.is_empty());
    let violations = judged(&|history| {
        let (odd, settled) = (history.odd_names, 12 * SECOND);
        let asked = |op: &&mut crate::history::Op| {
            op.kind == OpKind::Locate && op.name >= odd && op.invoked > settled && op.completed.is_some()
        };
        let op = history.ops.iter_mut().find(asked).unwrap();
        op.deadline = op.invoked + 5 * SECOND;
        let outcome = op.completed.take().map(|(_, outcome)| outcome).unwrap();
        assert!(!matches!(outcome, Outcome::Started { .. }));
        op.completed = Some((op.invoked + 3 * SECOND, outcome));
    });
    assert!(violations.iter().any(|v| v.checker == "isolation"), "{violations:?}");
}

#[test]
fn a_suspect_may_wait_until_it_has_passed_its_trial_and_no_longer() {
    let judged = storm(|plan, storm| storm == Storm::Hang && plan.faults.is_empty());
    let suspected_before = |history: &mut History, passed: bool| {
        let (odd, settled) = (history.odd_names, 12 * SECOND);
        let runs_long = |life: &crate::history::Life| life.running.is_some() && life.end() > 2 * settled;
        let at = history.lives.iter().position(|life| life.name >= odd && runs_long(life)).unwrap();
        let (name, launched) = (history.lives[at].name, history.lives[at].launched);
        history.suspected.push((name, if passed { launched - 1 } else { launched + 1 }));
        let mut op = history.ops.iter().find(|op| op.kind == OpKind::Locate).unwrap().clone();
        (op.name, op.invoked, op.deadline) = (name, settled, settled + 5 * SECOND);
        op.completed = Some((
            settled + 3 * SECOND,
            Outcome::Located { token: history.lives[at].token, host: history.incarnations[0].1 },
        ));
        history.ops.push(op);
    };
    let isolated = |violations: Vec<Violation>| violations.iter().all(|v| v.checker != "isolation");
    assert!(isolated(judged(&|history| suspected_before(history, false))));
    assert!(!isolated(judged(&|history| suspected_before(history, true))));
}

#[test]
fn a_slot_that_moves_without_need_is_seen() {
    let judged = storm(|plan, storm| matches!(storm, Storm::Rolling { .. }) && plan.faults.is_empty());
    let violations = judged(&|history| {
        // In the last view a slot went from one that stays to another that stays.
        let last = history.installed.iter().max_by_key(|installed| installed.view.id).unwrap();
        let owners = history.owners.get_mut(&last.view.id).unwrap();
        let other = owners.iter().copied().find(|owner| *owner != owners[0]).unwrap();
        owners[0] = other;
    });
    only(&violations, "moves", "without need");
}

#[test]
fn a_name_that_starts_twice_for_one_death_is_seen() {
    let judged = storm(|plan, storm| {
        let is_slow = matches!(storm, Storm::Rolling { gap, .. } if gap > 2 * SECOND);
        is_slow && plan.replicas == 3 && plan.faults.is_empty()
    });
    let violations = judged(&|history| {
        // A name that nobody asks for from the first death on, and that did not run there.
        let kill = history.kills[0];
        let mut life = history.lives.iter().find(|life| life.host != kill.host).unwrap().clone();
        life.name = history.names.len() as u32;
        history.names.push(history.names[0].clone());
        life.launched = kill.at + SECOND;
        life.in_place = false;
        life.running = None;
        life.ended = None;
        history.lives.push(life);
        let near = |at: u64| at != kill.at && at + 5 * SECOND > kill.at && at < kill.at + 5 * SECOND;
        history.boots.retain(|(_, at)| !near(*at));
        history.leaves.retain(|(_, at)| !near(*at));
        history.kills.retain(|kill| !near(kill.at));
    });
    assert!(violations.iter().any(|v| v.checker == "moves" && v.what.contains("starts 1 times")));
}

#[test]
fn views_that_go_on_changing_while_nothing_else_does_are_seen() {
    let judged = storm(|plan, storm| storm == Storm::Hang && plan.faults.is_empty());
    let violations = judged(&|history| {
        let last = history.installed.last().unwrap().clone();
        for step in 0..11 {
            let at = last.at + 10 * SECOND + step * SECOND / 2;
            history.installed.push(crate::history::Installed { at, ..last.clone() });
        }
    });
    only(&violations, "progress", "installs 11 views");
}

/// The history of the first run of `handoff` in which a life stood still for a move that was called off, and that life.
fn rested() -> (Plan, History, usize) {
    for seed in 1..100 {
        let plan = Plan::draw(Profile::Handoff, seed, Mutants::default());
        let mut world = World::new(plan.clone(), false);
        world.run();
        let rested = |life: &Life| life.rests.first().is_some_and(|(from, until)| *from + MILLI < *until);
        let at = world.history.lives.iter().position(rested);
        if let Some(at) = at.filter(|_| world.history.crash_only()) {
            assert_eq!(judge(&world.history, plan.replicas, delay_max(&plan)).len(), 0, "judged green");
            return (plan, world.history, at);
        }
    }
    panic!("no move is called off in all these runs");
}

#[test]
fn a_life_that_handles_a_message_on_its_way_is_seen() {
    let (plan, mut history, at) = rested();
    let (from, until) = history.lives[at].rests[0];
    let op = history.handled[0].op;
    history.handled.push(Handled { op, life: at as u32, at: from.midpoint(until) });
    let violations = judge(&history, plan.replicas, delay_max(&plan));
    assert!(violations.iter().any(|v| v.checker == "instances" && v.what.contains("on its way")));
}

#[test]
fn a_life_beside_one_that_goes_on_after_its_move_was_called_off_is_seen() {
    let (plan, mut history, at) = rested();
    let (from, until) = history.lives[at].rests[0];
    let twin = Life {
        running: Some(from),
        rests: Vec::new(),
        ended: Some((until, End::Terminated)),
        ..history.lives[at].clone()
    };
    history.lives.push(twin.clone());
    let twice = |history: &History| {
        let violations = judge(history, plan.replicas, delay_max(&plan));
        violations.iter().any(|v| v.checker == "instances" && v.what.contains("runs twice"))
    };
    assert!(!twice(&history), "who stands still does not run");
    history.lives.push(Life { ended: Some((until + 1, End::Terminated)), ..twin });
    history.lives.swap_remove(history.lives.len() - 2);
    assert!(twice(&history));
}
