//! Short histories of groups and monitors, true and false.

#![allow(clippy::unwrap_used)]

use whimbrel_core::base::{ErrorCode, Executed, ExitReason, Incarnation, Name, RequestId, Token};
use whimbrel_core::directory::{RestartPolicy, Until};

use super::super::judge;
use crate::history::{
    End, History, Inspected, Life, MILLI, Micros, Monitor, Op, OpKind, Outcome, Reading, Roll, SECOND,
    Snapshot, Told,
};

const ENDED: Micros = 60 * SECOND;

fn history(names: usize) -> History {
    History {
        names: (0..names).map(|name| Name::new(&format!("p{name}")).unwrap()).collect(),
        healed: 30 * SECOND,
        converged: Some(40 * SECOND),
        ended: ENDED,
        ..History::default()
    }
}

/// What the checker says first.
fn judged(history: &History, checker: &str) -> Option<String> {
    let violations = judge(history, 3, MILLI);
    violations.into_iter().find(|violation| violation.checker == checker).map(|violation| violation.what)
}

fn says(history: &History, checker: &str, text: &str) {
    let said = judged(history, checker);
    assert!(said.as_ref().is_some_and(|said| said.contains(text)), "{said:?}");
}

fn life(history: &mut History, name: u32, from: Micros, ended: Option<(Micros, End)>) -> u32 {
    let at = history.lives.len() as u32;
    let token = Token::from_u64(u64::from(at) + 1);
    let request = RequestId { caller: Incarnation { started_ms: 0, nonce: 0 }, number: 0 };
    history.lives.push(Life {
        name,
        token,
        retokens: Vec::new(),
        gate: token,
        host: 0,
        policy: RestartPolicy::Permanent,
        request,
        in_place: false,
        moved_from: None,
        launched: from,
        running: Some(from),
        sealed: None,
        rests: Vec::new(),
        ended,
        reason: ended.map(|_| ExitReason::Error("own".into())),
        state: 0,
        state_at_start: 0,
    });
    at
}

fn op(
    history: &mut History,
    kind: OpKind,
    name: u32,
    from: Micros,
    outcome: Option<(Micros, Outcome)>,
) -> u32 {
    history.ops.push(Op {
        kind,
        client: 0,
        host: 0,
        name,
        number: 0,
        invoked: from,
        deadline: from + 5 * SECOND,
        request: None,
        completed: outcome,
        second_outcome: false,
        dead_letter: None,
    });
    history.ops.len() as u32 - 1
}

fn monitor(history: &mut History, told: &[(Micros, u32, ExitReason)]) -> usize {
    let told = told.iter().map(|(at, life, reason)| Told {
        host: 1,
        at: *at,
        token: history.lives.get(*life as usize).map_or(Token::default(), |life| life.token),
        reason: reason.clone(),
        snapshot: None,
    });
    let told = told.collect();
    history.monitors.push(Monitor {
        host: 1,
        by: None,
        name: 0,
        of: None,
        until: Until::Life,
        moves: false,
        asked: 10 * SECOND,
        set: Some((11 * SECOND, Ok(()))),
        withdrawn: None,
        told,
    });
    history.monitors.len() - 1
}

/// A life that crashes at 20 s, and one that follows it.
fn crashed() -> (History, u32) {
    let mut history = history(1);
    let first = life(&mut history, 0, SECOND, Some((20 * SECOND, End::Crashed)));
    life(&mut history, 0, 21 * SECOND, None);
    (history, first)
}

fn own() -> ExitReason {
    ExitReason::Error("own".into())
}

#[test]
fn one_down_of_one_end_is_as_it_should_be() {
    let (mut history, first) = crashed();
    monitor(&mut history, &[(20 * SECOND + MILLI, first, own())]);
    assert_eq!(judged(&history, "monitors"), None);
}

#[test]
fn a_down_that_is_missing_or_doubled_is_seen() {
    let (mut history, first) = crashed();
    let at = monitor(&mut history, &[]);
    says(&history, "monitors", "is not told of the end at 20000.000 ms");
    history.monitors[at].withdrawn = Some(12 * SECOND);
    assert_eq!(judged(&history, "monitors"), None, "who has withdrawn needs not be told");
    let down = (20 * SECOND + MILLI, first, own());
    monitor(&mut history, &[down.clone(), down]);
    says(&history, "monitors", "told twice");
}

#[test]
fn a_watcher_that_did_not_live_to_the_end_needs_not_be_told() {
    let (mut history, _) = crashed();
    monitor(&mut history, &[]);
    history.kills.push(crate::history::Kill { host: 1, at: 19 * SECOND });
    assert_eq!(judged(&history, "monitors"), None);
}

#[test]
fn a_down_that_is_not_true_is_seen() {
    let cases = [
        (vec![(19 * SECOND, 0, own())], "which lives"),
        (vec![(20 * SECOND, 0, ExitReason::NodeLost)], "it gave"),
        (vec![(15 * SECOND, 0, ExitReason::NoProcess)], "there is no process, and there is"),
        (vec![(25 * SECOND, 9, own())], "which never was"),
        (vec![(25 * SECOND, 0, ExitReason::Moved)], "did not ask for moves"),
    ];
    for (told, text) in cases {
        let (mut history, _) = crashed();
        monitor(&mut history, &told);
        says(&history, "monitors", text);
    }
}

#[test]
fn a_move_is_no_end_and_the_end_behind_it_is_one() {
    let (mut history, first) = crashed();
    history.lives.truncate(1);
    history.lives[0].ended = Some((20 * SECOND, End::Moved));
    let second = life(&mut history, 0, 20 * SECOND, None);
    history.lives[second as usize].moved_from = Some(first);
    history.lives[second as usize].host = 2;
    monitor(&mut history, &[]);
    assert_eq!(judged(&history, "monitors"), None);
    history.lives[second as usize].ended = Some((25 * SECOND, End::Crashed));
    history.lives[second as usize].reason = Some(own());
    says(&history, "monitors", "is not told of the end at 25000.000 ms");
}

#[test]
fn a_snapshot_that_is_old_or_of_another_life_is_seen() {
    let (mut history, first) = crashed();
    let at = monitor(&mut history, &[(20 * SECOND + MILLI, first, own())]);
    history.snapshots.push(Snapshot { life: first, at: 12 * SECOND, last: false });
    says(&history, "monitors", "the last snapshot is Some(0)");
    history.monitors[at].told[0].snapshot = Some(0);
    assert_eq!(judged(&history, "monitors"), None);
    history.snapshots.push(Snapshot { life: first, at: 20 * SECOND, last: true });
    says(&history, "monitors", "the last snapshot is Some(0)".replace('0', "1").as_str());
    history.monitors[at].told[0].snapshot = Some(9);
    says(&history, "monitors", "did not publish");
}

#[test]
fn who_watches_a_name_is_told_when_it_is_stopped_and_not_when_it_crashed() {
    let (mut history, first) = crashed();
    let at = monitor(&mut history, &[(20 * SECOND + MILLI, first, own())]);
    history.monitors[at].until = Until::Name;
    says(&history, "monitors", "the name goes on");
    history.monitors[at].told.clear();
    assert_eq!(judged(&history, "monitors"), None);
    op(&mut history, OpKind::Stop, 0, 25 * SECOND, Some((26 * SECOND, Outcome::Ok)));
    says(&history, "monitors", "is not told of the end");
}

/// A join of p0 in g0 that was acknowledged at 6 s.
fn joined() -> (History, u32) {
    let mut history = history(2);
    let join = op(&mut history, OpKind::Join { group: 0 }, 0, 5 * SECOND, Some((6 * SECOND, Outcome::Ok)));
    (history, join)
}

fn read(history: &mut History, at: Micros, members: &[(u32, u32)]) -> usize {
    let members = members.iter().map(|(name, by)| (*name, Some(*by))).collect();
    let over = Some((at + MILLI, Roll { members, complete: true }));
    history.readings.push(Reading {
        group: 0,
        host: 0,
        invoked: at,
        deadline: at + SECOND,
        over,
        last: false,
    });
    history.readings.len() - 1
}

#[test]
fn a_member_that_is_missing_is_seen_unless_it_may_have_left() {
    let (mut history, _) = joined();
    read(&mut history, 7 * SECOND, &[]);
    says(&history, "groups", "misses p0");
    let failed = |executed| Outcome::Failed { code: ErrorCode::Deadline, executed };
    let unknown = failed(Executed::Unknown);
    let leave = op(&mut history, OpKind::Leave { group: 0 }, 0, 4 * SECOND, Some((7 * SECOND, unknown)));
    assert_eq!(judged(&history, "groups"), None);
    history.ops[leave as usize].completed = Some((7 * SECOND, failed(Executed::No)));
    says(&history, "groups", "misses p0");
    history.ops[leave as usize].completed = None;
    history.ops[leave as usize].kind = OpKind::Leave { group: 1 };
    says(&history, "groups", "misses p0");
    history.readings[0].invoked = 5 * SECOND;
    assert_eq!(judged(&history, "groups"), None, "it began before the join was acknowledged");
}

#[test]
fn a_member_that_has_left_or_never_joined_is_seen() {
    let (mut history, join) = joined();
    read(&mut history, 9 * SECOND, &[(0, join)]);
    assert_eq!(judged(&history, "groups"), None);
    let leave = op(&mut history, OpKind::Leave { group: 0 }, 0, 7 * SECOND, Some((8 * SECOND, Outcome::Ok)));
    says(&history, "groups", "has left");
    history.ops[leave as usize].kind = OpKind::Stop;
    assert_eq!(judged(&history, "groups"), None, "its index may not have heard of it yet");
    history.readings[0].deadline = 20 * SECOND;
    history.readings[0].invoked = 17 * SECOND;
    history.readings[0].over.as_mut().unwrap().0 = 18 * SECOND;
    says(&history, "groups", "has left");
    history.readings[0].invoked = 9 * SECOND;
    history.readings[0].over.as_mut().unwrap().0 = 9 * SECOND;
    history.ops[leave as usize].invoked = 10 * SECOND;
    history.ops[leave as usize].completed = Some((11 * SECOND, Outcome::Ok));
    history.readings[0].over.as_mut().unwrap().1.members.push((1, Some(join)));
    says(&history, "groups", "has p1 in g0");
}

#[test]
fn readings_and_records_that_do_not_agree_at_the_end_are_seen() {
    let (mut history, join) = joined();
    let one = read(&mut history, 50 * SECOND, &[(0, join)]);
    history.readings[one].last = true;
    assert_eq!(judged(&history, "groups"), None);
    let inspect = op(&mut history, OpKind::Inspect, 0, 51 * SECOND, Some((52 * SECOND, Outcome::Ok)));
    history.inspected.push(Inspected { op: inspect, groups: vec![(0, Some(join))] });
    assert_eq!(judged(&history, "groups"), None);
    history.inspected[0].groups.clear();
    says(&history, "groups", "against its record");
    history.inspected.clear();
    let not_found = Outcome::Failed { code: ErrorCode::NotFound, executed: Executed::No };
    history.ops[inspect as usize].completed = Some((52 * SECOND, not_found));
    says(&history, "groups", "is a member of g0 and not there");
    history.ops.pop();
    let other = read(&mut history, 50 * SECOND, &[]);
    history.readings[other].last = true;
    history.readings[other].host = 1;
    says(&history, "groups", "differently");
    history.readings[other].over.as_mut().unwrap().1.complete = false;
    says(&history, "groups", "in part alone");
}

#[test]
fn a_version_of_metadata_that_does_not_rise_is_seen() {
    let mut history = history(1);
    let set = OpKind::SetMeta { expected: None };
    op(&mut history, set, 0, SECOND, Some((2 * SECOND, Outcome::Changed { version: 1 })));
    op(&mut history, set, 0, 3 * SECOND, Some((4 * SECOND, Outcome::Changed { version: 2 })));
    assert_eq!(judged(&history, "groups"), None);
    history.ops[1].completed = Some((4 * SECOND, Outcome::Changed { version: 1 }));
    says(&history, "groups", "made version 1");
}
