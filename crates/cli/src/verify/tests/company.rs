//! Groups and monitors of a run by hand, and every way to break them.

use super::*;
use crate::demo::evidence::{GroupLine, MonitorAt, MonitorLine, group_name};

/// Who watches from where: the node that is killed, and the one that lives.
const WATCHERS: [(&str, u32); 2] = [("n1", 101), ("n2", 102)];

pub(super) fn read(step: &str, node: &str, t_us: u64) -> GroupLine {
    let members = vec!["counter-00000".to_owned()];
    GroupLine { step: step.into(), group: group_name(0), members, node: node.into(), t_us }
}

pub(super) fn word(
    name: &str,
    number: u64,
    at: MonitorAt,
    told: Option<(u64, &str)>,
    t_us: u64,
) -> MonitorLine {
    let (token, reason) = (told.map(|(token, _)| token), told.map(|(_, reason)| reason.to_owned()));
    let (node, pid) = WATCHERS[1];
    MonitorLine { name: name.into(), number, at, token, reason, node: node.into(), pid, t_us }
}

/// What an honest run leaves: both nodes watch both names; the cleaner panics, then n1 dies with both.
pub(super) fn of_an_honest_run(run: &mut Run) {
    run.groups = vec![
        read("start", "n1", 1_500_000),
        read("start", "n2", 1_500_000),
        read("node_kill", "n2", 3_700_000),
    ];
    for (node, pid) in WATCHERS {
        let mut lines = vec![
            word("counter-00000", 1, MonitorAt::Set, None, 1_400_000),
            word(CLEANER, 1, MonitorAt::Set, None, 1_400_000),
            word(CLEANER, 1, MonitorAt::Down, Some((10, "panic: told to")), PANIC_US + 900),
            word(CLEANER, 2, MonitorAt::Set, None, PANIC_US + 1_500),
        ];
        if node == "n2" {
            lines.extend([
                word("counter-00000", 1, MonitorAt::Down, Some((20, "node lost")), KILL_US + 40_000),
                word("counter-00000", 2, MonitorAt::Set, None, KILL_US + 41_000),
                word(CLEANER, 2, MonitorAt::Down, Some((11, "node lost")), KILL_US + 40_000),
                word(CLEANER, 3, MonitorAt::Set, None, KILL_US + 41_000),
            ]);
        }
        run.monitors.extend(lines.into_iter().map(|line| MonitorLine { node: node.into(), pid, ..line }));
    }
}

fn verdict(change: impl FnOnce(&mut Run)) -> String {
    let mut run = Run::ok();
    change(&mut run);
    run.judge().verdict().to_owned()
}

#[test]
fn an_honest_run_has_its_figures() {
    let report = Run::ok().judge();
    assert_eq!(report.verdict(), "ok", "{:?}", report.failed().collect::<Vec<_>>());
    let json = report.to_json();
    assert_eq!(json["groups"], serde_json::json!({ "count": 1, "members_wrong": 0 }));
    assert_eq!(json["monitors"], serde_json::json!({ "set": 8, "downs": 4, "missing": 0, "twice": 0 }));
}

#[test]
fn a_group_with_somebody_too_few_or_too_many_is_found() {
    assert_eq!(verdict(|run| run.groups[2].members.clear()), "members_wrong");
    assert_eq!(verdict(|run| run.groups[1].members.push("counter-00007".into())), "members_wrong");
    assert_eq!(verdict(|run| run.groups[1].members.push("counter-00000".into())), "members_wrong");
    assert_eq!(verdict(|run| drop(run.groups.pop())), "groups_read");
    let report = |run: &Run| run.judge().to_json()["groups"]["members_wrong"].clone();
    assert!(report(&Run { groups: Vec::new(), ..Run::ok() }).is_null());
}

#[test]
fn an_end_that_a_watcher_did_not_hear_of_or_heard_of_twice_is_found() {
    let is_down = |line: &MonitorLine, number| line.at == MonitorAt::Down && line.number == number;
    let of_counter = move |line: &MonitorLine| line.name != CLEANER && is_down(line, 1);
    assert_eq!(verdict(|run| run.monitors.retain(|line| !of_counter(line))), "downs_missing");
    let panicked = move |line: &MonitorLine| line.pid == 102 && line.name == CLEANER && is_down(line, 1);
    assert_eq!(verdict(|run| run.monitors.retain(|line| !panicked(line))), "downs_missing");
    let again = |run: &mut Run| {
        let told = run.monitors.iter().find(|line| of_counter(line)).cloned().unwrap();
        run.monitors.push(MonitorLine { t_us: told.t_us + 500_000, ..told });
    };
    assert_eq!(verdict(again), "downs_twice");
    // The killed node hears of nothing.
    let report = Run::ok().judge();
    assert!(report.is_ok());
}

#[test]
fn an_end_that_was_none_is_found() {
    let moved = word("counter-00000", 2, MonitorAt::Down, Some((25, "shutdown")), MOVE_US + 900);
    assert_eq!(verdict(|run| run.monitors.push(moved)), "downs_unexplained");
    let other_reason = |run: &mut Run| {
        for line in run.monitors.iter_mut().filter(|line| line.reason.as_deref() == Some("node lost")) {
            line.reason = Some("normal".into());
        }
    };
    assert_eq!(verdict(other_reason), "downs_missing");
    assert_eq!(verdict(|run| run.monitors.clear()), "monitors_set");
}
