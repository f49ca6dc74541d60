//! The judge is judged: a small run by hand that is ok, and every way to break it.
#![allow(clippy::unwrap_used)]

mod company;

use std::collections::BTreeMap;
use std::io::Write;

use rusqlite::params;
use serde::Serialize;

use super::*;
use crate::demo::database;
use crate::demo::evidence::{
    DATABASE, DEADLETTERS, DeadLetterLine, Executed, ExitLine, GROUPS, GroupLine, HANDLED, HISTORY,
    HandledLine, HistoryLine, MONITORS, MOVES, MonitorLine, MoveAt, MoveLine, Purpose, RunLine, STEPS,
    StepLine,
};
use crate::temp::WorkDir;

/// The kill happens at this microsecond, in the step that lasts from 3 s to 4 s.
const KILL_US: u64 = 3_000_100;
const PANIC_US: u64 = 2_000_100;
const END_US: u64 = 6_000_000;
const STORY: [&str; 5] = ["start", "cleaner_panic", "node_kill", "node_join", "double_start"];

/// The counter moves to the node that has joined.
const MOVE_US: u64 = 4_200_000;

/// A run of two nodes and one counter at one message per second. `n1` hosts everything and is killed.
struct Run {
    history: Vec<HistoryLine>,
    handled: Vec<HandledLine>,
    dead: Vec<DeadLetterLine>,
    moves: Vec<MoveLine>,
    groups: Vec<GroupLine>,
    monitors: Vec<MonitorLine>,
    steps: Vec<StepLine>,
    /// (token, pid, started, last seen, ended)
    lives: Vec<(u64, u32, f64, f64, Option<f64>)>,
    /// (token, started, cutoff, ended)
    runs: Vec<(u64, f64, i64, Option<f64>)>,
    /// (added, expires)
    records: Vec<(f64, i64)>,
    /// (expires, deleted)
    deleted: Vec<(i64, i64)>,
}

impl Run {
    fn ok() -> Self {
        let mut run = Run {
            history: Vec::new(),
            handled: Vec::new(),
            dead: Vec::new(),
            moves: Vec::new(),
            groups: Vec::new(),
            monitors: Vec::new(),
            steps: Vec::new(),
            lives: vec![
                (10, 101, 1_000.0, 1_900.0, Some(2_000.2)),
                (11, 101, 2_003.0, 2_900.0, None),
                (12, 102, 3_050.0, 6_500.0, None),
            ],
            runs: vec![
                (10, 1_001.0, 500, Some(1_100.0)),
                (11, 2_990.0, 700, None),
                (12, 3_060.0, 800, Some(3_100.0)),
                (12, 6_100.0, 900, Some(6_200.0)),
            ],
            records: vec![(5_900.0, 2_000), (5_900.0, 950)],
            deleted: vec![(400, 500), (690, 700)],
        };
        run.tell_steps();
        company::of_an_honest_run(&mut run);
        run.history.push(op("n1.0", CLEANER, Op::Start, 1, 1_000_000, 1_000_900, Some(10)));
        run.history.push(op("n1.0", "counter-00000", Op::Start, 1, 1_000_000, 1_001_000, Some(20)));
        for (second, node, token) in
            [(1, "n1", 20), (2, "n1", 20), (3, "n2", 21), (4, "n3", 25), (5, "n3", 25)]
        {
            run.call("n2.0", "counter-00000", second * 1_000_000 + 500_000, node, token);
        }
        run.moves.push(step_of_move(MoveAt::Rests, "n2", MOVE_US));
        run.moves.push(step_of_move(MoveAt::Runs, "n3", MOVE_US + 700));
        run.message(
            op("n2.0", CLEANER, Op::Panic, 1, PANIC_US - 60, PANIC_US - 50, None),
            "n1",
            10,
            PANIC_US,
        );
        run.ping(PANIC_US + 4_000, "n1", 11);
        run.ping(KILL_US + 60_000, "n2", 12);
        run.history.push(op("n1.0", "race-000", Op::Start, 1, 5_000_000, 5_000_500, Some(30)));
        run.history.push(failed(
            op("n2.0", "race-000", Op::Start, 1, 5_000_000, 5_000_600, None),
            "already_running",
            Executed::No,
        ));
        run.call("n2.0", "counter-00000", END_US + 1_000, "n3", 25);
        run.call("n2.0", "race-000", END_US + 2_000, "n2", 30);
        run.ping(END_US + 3_000, "n2", 12);
        run
    }

    fn tell_steps(&mut self) {
        for (index, step) in STORY.iter().enumerate() {
            let t0_us = (index as u64 + 1) * 1_000_000;
            self.steps.push(StepLine {
                step: (*step).into(),
                t0_us,
                t1_us: t0_us + 1_000_000,
                pids_before: vec![101, 102],
                pids_after: vec![102],
                exits: Vec::new(),
                rss_max_bytes: None,
                run: None,
            });
        }
        self.steps[0].run = Some(RunLine {
            version: "0.0.0".into(),
            seed: 5,
            purpose: Purpose::Demo,
            nodes: 2,
            names: 1,
            rate: 1,
            seconds: 5,
            cleaner_period_ms: 500,
            races: 1,
            planned: STORY.map(String::from).to_vec(),
        });
        self.steps[2].exits.push(ExitLine {
            pid: 101,
            node: "n1".into(),
            killed_us: Some(KILL_US),
            waited_us: KILL_US + 500,
            signal: Some(9),
            code: None,
        });
    }

    fn next(&self, client: &str, name: &str) -> u64 {
        1 + self.history.iter().filter(|l| l.client == client && l.name == name && l.op != Op::Start).count()
            as u64
    }

    /// A message that is handled at `t_us`.
    fn message(&mut self, line: HistoryLine, node: &str, token: u64, t_us: u64) {
        self.handled.push(handled(&line, node, token, t_us));
        self.history.push(line);
    }

    fn call(&mut self, client: &str, name: &str, t0_us: u64, node: &str, token: u64) {
        let n = self.next(client, name);
        let line = op(client, name, Op::Call, n, t0_us, t0_us + 200, Some(token));
        self.message(line, node, token, t0_us + 100);
    }

    fn cast(&mut self, client: &str, name: &str, t0_us: u64) -> HistoryLine {
        let n = self.next(client, name);
        let line = op(client, name, Op::Cast, n, t0_us, t0_us + 1, None);
        self.history.push(line.clone());
        line
    }

    fn ping(&mut self, t1_us: u64, node: &str, token: u64) {
        let n = self.next("n2.0", CLEANER);
        let line = op("n2.0", CLEANER, Op::Ping, n, t1_us - 100, t1_us, Some(token));
        self.message(line, node, token, t1_us - 50);
    }

    fn judge(&self) -> Report {
        let dir = WorkDir::temporary("verify-test").unwrap();
        write_lines(&dir, HISTORY, &self.history_with_values());
        write_lines(&dir, HANDLED, &self.handled);
        write_lines(&dir, DEADLETTERS, &self.dead);
        write_lines(&dir, MOVES, &self.moves);
        write_lines(&dir, GROUPS, &self.groups);
        write_lines(&dir, MONITORS, &self.monitors);
        write_lines(&dir, STEPS, &self.steps);
        self.write_database(&dir);
        verify(dir.path()).unwrap()
    }

    /// Replies with what an honest counter would have said in them, where a test has not said it.
    fn history_with_values(&self) -> Vec<HistoryLine> {
        let mut handled = self.handled.clone();
        handled.sort_by_key(|line| line.t_us);
        let mut counters: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
        let mut values = BTreeMap::new();
        for line in &handled {
            let (token, count) = counters.entry(&line.name).or_insert((line.token, 0));
            let moved = self.moves.iter().any(|step| step.stage == MoveAt::Runs && step.token == line.token);
            if *token != line.token && !moved {
                *count = 0;
            }
            (*token, *count) = (line.token, *count + 1);
            values.insert(line.id.clone(), *count);
        }
        let mut history = self.history.clone();
        for line in history.iter_mut().filter(|line| line.op == Op::Call && line.outcome == "ok") {
            line.value = line.value.or_else(|| values.get(&line.id).copied());
        }
        history
    }

    fn write_database(&self, dir: &WorkDir) {
        let db = database::open(&dir.path().join(DATABASE)).unwrap();
        database::create_tables(&db).unwrap();
        for (token, pid, started, seen, ended) in &self.lives {
            db.execute(
                "INSERT INTO lives (token, node, pid, started_ms, last_seen_ms, ended_ms) VALUES (?1, 'n', ?2, ?3, ?4, ?5)",
                params![i64::try_from(*token).unwrap(), pid, started, seen, ended],
            )
            .unwrap();
        }
        for (token, started, cutoff, ended) in &self.runs {
            db.execute(
                "INSERT INTO runs (token, node, pid, started_ms, cutoff_ms, ended_ms) VALUES (?1, 'n', 1, ?2, ?3, ?4)",
                params![i64::try_from(*token).unwrap(), started, cutoff, ended],
            )
            .unwrap();
        }
        for (added, expires) in &self.records {
            db.execute(
                "INSERT INTO records (added_ms, expires_ms, payload) VALUES (?1, ?2, '')",
                params![added, expires],
            )
            .unwrap();
        }
        for (expires, deleted) in &self.deleted {
            db.execute("INSERT INTO deleted VALUES (1, 1000.0, ?1, ?2)", params![expires, deleted]).unwrap();
        }
    }
}

fn step_of_move(stage: MoveAt, node: &str, t_us: u64) -> MoveLine {
    MoveLine { name: "counter-00000".into(), token: 25, stage, node: node.into(), pid: 1, t_us }
}

fn write_lines<T: Serialize>(dir: &WorkDir, file: &str, lines: &[T]) {
    let mut out = std::fs::File::create(dir.path().join(file)).unwrap();
    for line in lines {
        writeln!(out, "{}", serde_json::to_string(line).unwrap()).unwrap();
    }
}

fn op(client: &str, name: &str, op: Op, n: u64, t0_us: u64, t1_us: u64, token: Option<u64>) -> HistoryLine {
    let kind = if op == Op::Start { "start" } else { "" };
    HistoryLine {
        id: format!("{client}/{name}/{kind}{n}"),
        client: client.into(),
        node: client.split('.').next().unwrap().into(),
        name: name.into(),
        op,
        n,
        t0_us,
        t1_us,
        outcome: if op == Op::Start { "started" } else { "ok" }.into(),
        executed: if op.is_cast() { Executed::Unknown } else { Executed::Yes },
        token,
        value: None,
        work_us: if op == Op::Call { 1 } else { 0 },
    }
}

fn failed(mut line: HistoryLine, outcome: &str, executed: Executed) -> HistoryLine {
    line.outcome = outcome.into();
    line.executed = executed;
    line.token = None;
    line
}

fn handled(line: &HistoryLine, node: &str, token: u64, t_us: u64) -> HandledLine {
    HandledLine { id: line.id.clone(), name: line.name.clone(), token, node: node.into(), pid: 1, t_us }
}

#[test]
fn an_honest_run_is_ok_and_every_figure_is_there() {
    let report = Run::ok().judge();
    assert_eq!(report.verdict(), "ok", "{:?}", report.failed().collect::<Vec<_>>());
    let figures = &report.figures;
    assert_eq!(figures.cleaner.runs, 4);
    assert_eq!(figures.cleaner.outdated_rows_left, Some(0));
    assert_eq!(figures.cleaner.back_after_panic_ms, Some(4.0));
    assert_eq!(figures.cleaner.back_after_kill_ms, Some(60.0));
    let back = figures.names_back_after_kill_ms.unwrap();
    assert!((back.max - 500.1).abs() < 0.001, "the counter's first call after the kill: {back:?}");
    assert_eq!(figures.steps.iter().map(|step| step.accepted).collect::<Vec<_>>(), [1; 5]);
    assert_eq!(figures.steps[2].moved, 2, "the counter and the cleaner");
    assert_eq!(figures.steps[3].moved, 1, "the counter, to the node that joined");
    assert_eq!(figures.steps[3].pause_ms.map(|pause| pause.max), Some(0.7));
    let json = report.to_json();
    for key in [
        "schema",
        "version",
        "seed",
        "verdict",
        "nodes",
        "cleaner",
        "counters",
        "groups",
        "monitors",
        "double_starts",
        "names_lost",
    ] {
        assert!(!json[key].is_null(), "{key}");
    }
}

#[test]
fn a_cast_that_nobody_handled_is_lost() {
    let mut run = Run::ok();
    run.cast("n2.0", "counter-00000", 4_600_000);
    let report = run.judge();
    assert_eq!((report.verdict(), report.figures.counters.lost), ("lost", 1));
    assert_eq!(report.figures.steps[3].lost, 1);
}

#[test]
fn a_cast_to_a_name_on_the_killed_node_is_lost_by_the_kill() {
    let mut run = Run::ok();
    run.cast("n2.0", "counter-00000", KILL_US - 50);
    let report = run.judge();
    assert_eq!((report.verdict(), report.figures.counters.lost_by_kill), ("ok", 1));
}

#[test]
fn a_reply_without_a_handled_line_is_lost_even_around_a_kill() {
    let mut run = Run::ok();
    let n = run.next("n2.0", "counter-00000");
    run.history.push(op("n2.0", "counter-00000", Op::Call, n, KILL_US - 50, KILL_US - 10, Some(20)));
    assert_eq!(run.judge().verdict(), "lost");
}

#[test]
fn a_dead_letter_explains_a_cast_but_only_for_names_of_the_killed_node() {
    let letter = |line: &HistoryLine, t_us| DeadLetterLine {
        id: Some(line.id.clone()),
        name: line.name.clone(),
        reason: "node_lost".into(),
        node: "n2".into(),
        t_us,
    };
    let mut run = Run::ok();
    let cast = run.cast("n2.0", "counter-00000", KILL_US - 50);
    run.dead.push(letter(&cast, KILL_US + 900));
    // One message less was accepted; another one makes up for it.
    run.call("n2.1", "counter-00000", 3_700_000, "n2", 21);
    let report = run.judge();
    assert_eq!((report.verdict(), report.figures.counters.lost_by_kill), ("ok", 0));

    let mut run = Run::ok();
    let cast = run.cast("n2.0", "counter-00009", KILL_US + 800);
    run.dead.push(letter(&cast, KILL_US + 900));
    assert_eq!(run.judge().verdict(), "dead_letters");
}

#[test]
fn a_message_handled_twice_is_doubled() {
    let mut run = Run::ok();
    let mut again = run.handled[3].clone();
    again.t_us += 40;
    run.handled.push(again);
    let report = run.judge();
    assert_eq!((report.verdict(), report.figures.counters.doubled), ("doubled", 1));
}

#[test]
fn two_messages_of_one_sender_in_the_wrong_order_are_reordered() {
    let mut run = Run::ok();
    let (first, second) = (run.handled[0].t_us, run.handled[1].t_us);
    run.handled[0].t_us = second;
    run.handled[1].t_us = first;
    let report = run.judge();
    assert_eq!((report.verdict(), report.figures.counters.reordered), ("reordered", 1));
    assert_eq!(report.figures.steps[1].reordered, 1);
}

#[test]
fn an_instance_that_acts_after_its_successor_is_found() {
    let mut run = Run::ok();
    let n = run.next("n2.1", "counter-00000");
    let line = op("n2.1", "counter-00000", Op::Call, n, 4_600_000, 4_600_200, Some(21));
    run.message(line, "n2", 21, 4_600_100);
    assert_eq!(run.judge().verdict(), "old_tokens");
}

#[test]
fn an_error_that_says_no_must_not_have_run() {
    let mut run = Run::ok();
    let n = run.next("n2.1", "counter-00000");
    let line = op("n2.1", "counter-00000", Op::Call, n, KILL_US + 600_000, KILL_US + 600_200, None);
    run.message(failed(line, "node_lost", Executed::No), "n2", 21, KILL_US + 600_100);
    assert_eq!(run.judge().verdict(), "no_but_handled");
}

#[test]
fn a_failed_call_counts_only_against_steps_that_promise_none() {
    let fail = |t0_us| {
        let mut run = Run::ok();
        let n = run.next("n2.0", "counter-00000");
        let line = op("n2.0", "counter-00000", Op::Call, n, t0_us, t0_us + 200, None);
        run.history.push(failed(line, "node_lost", Executed::Unknown));
        run.judge().verdict().to_owned()
    };
    assert_eq!(fail(KILL_US + 100), "ok");
    assert_eq!(fail(4_600_000), "calls_failed:node_join");
}

#[test]
fn a_message_that_nobody_sent_is_found() {
    let mut run = Run::ok();
    let line = op("n2.1", "counter-00000", Op::Cast, 99, 4_600_000, 4_600_001, None);
    run.handled.push(handled(&line, "n3", 25, 4_600_100));
    assert_eq!(run.judge().verdict(), "handled_but_never_sent");
    // A killed node's clients could not write down their last operations.
    let mut run = Run::ok();
    let line = op("n1.0", "counter-00000", Op::Cast, 1, KILL_US - 100, KILL_US - 90, None);
    run.handled.push(handled(&line, "n1", 20, KILL_US - 50));
    assert_eq!(run.judge().verdict(), "ok");
}

#[test]
fn runs_that_share_time_overlap() {
    let mut run = Run::ok();
    run.runs.push((12, 3_099.0, 800, Some(3_200.0)));
    let report = run.judge();
    assert_eq!((report.verdict(), report.figures.cleaner.overlapping_runs), ("overlapping_runs", 1));
}

#[test]
fn a_run_cut_off_by_a_kill_ends_with_it() {
    let mut run = Run::ok();
    run.runs.push((12, 3_000.05, 800, Some(3_050.0)));
    assert_eq!(run.judge().verdict(), "overlapping_runs");
}

#[test]
fn lives_that_share_time_overlap() {
    let mut run = Run::ok();
    run.lives[0].4 = Some(2_003.5);
    assert_eq!(run.judge().verdict(), "overlapping_lives");
    // A life without an end whose process was not killed goes on for ever.
    let mut run = Run::ok();
    run.lives[1].1 = 102;
    assert_eq!(run.judge().figures.cleaner.overlapping_lives, 1);
}

#[test]
fn a_life_that_is_seen_after_its_end_overlaps_the_next() {
    let mut run = Run::ok();
    run.lives[1].3 = 3_060.0;
    assert_eq!(run.judge().verdict(), "overlapping_lives");
}

#[test]
fn two_callers_that_started_one_name_are_a_double_start() {
    let mut run = Run::ok();
    let last = run.history.iter().rposition(|line| line.outcome == "already_running").unwrap();
    run.history[last].outcome = "started".into();
    let report = run.judge();
    assert_eq!((report.verdict(), report.figures.double_starts), ("double_starts", 1));
}

#[test]
fn a_race_that_nobody_won_is_found() {
    let mut run = Run::ok();
    let line = op("n2.0", "race-001", Op::Start, 1, 5_000_000, 5_000_600, None);
    run.history.push(failed(line, "deadline", Executed::Unknown));
    assert_eq!(run.judge().verdict(), "races_without_winner");
}

#[test]
fn a_fresh_row_that_was_deleted_is_found() {
    let mut run = Run::ok();
    run.deleted.push((701, 700));
    let report = run.judge();
    assert_eq!((report.verdict(), report.figures.cleaner.fresh_rows_deleted), ("fresh_rows_deleted", 1));
}

#[test]
fn an_outdated_row_that_the_last_run_left_is_found() {
    let mut run = Run::ok();
    run.records.push((5_900.0, 900));
    let report = run.judge();
    assert_eq!(
        (report.verdict(), report.figures.cleaner.outdated_rows_left),
        ("outdated_rows_left", Some(1))
    );
}

#[test]
fn without_a_full_run_after_the_last_arrival_nothing_is_ok() {
    let mut run = Run::ok();
    run.runs.pop();
    let report = run.judge();
    assert_eq!((report.verdict(), report.figures.cleaner.outdated_rows_left), ("outdated_rows_left", None));
}

#[test]
fn a_name_that_does_not_answer_at_the_end_is_lost() {
    for name in ["counter-00000", "race-000", CLEANER] {
        let mut run = Run::ok();
        run.history.retain(|line| line.t0_us < END_US || line.name != name);
        run.handled.retain(|line| line.t_us < END_US || line.name != name);
        let report = run.judge();
        assert_eq!((report.verdict(), report.figures.names_lost), ("names_lost", 1), "{name}");
    }
}

#[test]
fn a_name_that_never_came_back_after_the_kill_makes_its_figure_null() {
    let mut run = Run::ok();
    run.history.retain(|line| line.token != Some(12));
    run.handled.retain(|line| line.token != 12);
    let report = run.judge();
    assert_eq!(report.figures.cleaner.back_after_kill_ms, None);
    assert!(report.figures.names_back_after_kill_ms.is_none());
    assert_eq!(report.verdict(), "names_lost");
}

#[test]
fn a_step_without_load_is_found() {
    let mut run = Run::ok();
    run.history.retain(|line| !(4_000_000..5_000_000).contains(&line.t0_us));
    run.handled.retain(|line| !(4_000_000..5_000_000).contains(&line.t_us));
    assert_eq!(run.judge().verdict(), "accepted:node_join");
}

#[test]
fn a_step_that_was_not_told_is_found() {
    let mut run = Run::ok();
    run.steps.remove(3);
    assert_eq!(run.judge().verdict(), "steps");
}

#[test]
fn a_node_that_ended_by_anything_but_signal_9_is_found() {
    let mut run = Run::ok();
    run.steps[2].exits[0].signal = Some(11);
    assert_eq!(run.judge().verdict(), "exits");
    let mut run = Run::ok();
    let mut crash = run.steps[2].exits[0].clone();
    crash.killed_us = None;
    crash.node = "n3".into();
    run.steps[3].exits.push(crash);
    assert_eq!(run.judge().verdict(), "exits");
}

#[test]
fn a_counter_that_forgot_something_on_its_way_is_found() {
    let mut run = Run::ok();
    let first = run.history.iter().position(|line| line.token == Some(25)).unwrap();
    // Three were handled after the kill, two of them by others before it.
    run.history[first].value = Some(1);
    assert_eq!(run.judge().verdict(), "state_wrong");
}

#[test]
fn a_life_that_began_anew_without_a_kill_is_found() {
    let mut run = Run::ok();
    run.moves.clear();
    assert_eq!(run.judge().verdict(), "state_gone");
    // It moved, but from another node than it was on: something in between began anew.
    let mut run = Run::ok();
    run.moves[0].node = "n4".into();
    assert_eq!(run.judge().verdict(), "state_wrong");
}

#[test]
fn a_move_that_nobody_saw_begin_has_no_pause() {
    let mut run = Run::ok();
    run.moves.push(MoveLine { name: "race-000".into(), ..step_of_move(MoveAt::Runs, "n3", END_US + 5_000) });
    assert_eq!(run.judge().verdict(), "pauses_not_measured");
}

#[test]
fn a_planned_step_in_which_nothing_moves_is_found() {
    let mut run = Run::ok();
    for step in &mut run.moves {
        step.t_us -= 1_000_000;
    }
    for line in run.handled.iter_mut().filter(|line| line.t_us < MOVE_US && line.token == 21) {
        line.t_us -= 400_000;
    }
    assert_eq!(run.judge().verdict(), "moved:node_join");
}

/// The same run with its fourth step as one in which `n4` leaves.
fn with_leaver(code: Option<i32>, signal: Option<i32>) -> Run {
    let mut run = Run::ok();
    run.steps[3].step = "drain".into();
    let planned = &mut run.steps[0].run.as_mut().unwrap().planned;
    planned[3] = "drain".into();
    let left = ExitLine { pid: 104, node: "n4".into(), killed_us: None, waited_us: 4_900_000, signal, code };
    run.steps[3].exits.push(left);
    run
}

#[test]
fn a_node_that_was_told_to_leave_ends_without_an_error() {
    assert_eq!(with_leaver(Some(0), None).judge().verdict(), "ok");
    assert_eq!(with_leaver(Some(1), None).judge().verdict(), "exits");
    assert_eq!(with_leaver(None, Some(9)).judge().verdict(), "exits");
    let mut run = with_leaver(Some(0), None);
    run.steps[3].exits.clear();
    assert_eq!(run.judge().verdict(), "exits", "nobody left");
}

/// The same run as a soak without a kill, of a second per step.
fn soaked() -> Run {
    let mut run = Run::ok();
    run.steps[2].exits.clear();
    run.lives[1].4 = Some(3_040.0);
    run.runs[1].3 = Some(3_000.0);
    let names = ["start", "join", "join", "join", "join"];
    for (step, name) in run.steps.iter_mut().zip(names) {
        step.step = name.into();
        step.rss_max_bytes = Some(3 << 20);
    }
    let asked = run.steps[0].run.as_mut().unwrap();
    asked.purpose = Purpose::Soak;
    asked.planned = names.map(String::from).to_vec();
    // Every life but the first came with its state.
    for (token, from, to, t_us) in [(21, "n1", "n2", 3_100_000), (12, "n1", "n2", 3_040_000)] {
        let name = if token == 12 { CLEANER } else { "counter-00000" };
        for (stage, node, t_us) in [(MoveAt::Rests, from, t_us), (MoveAt::Runs, to, t_us + 900)] {
            run.moves.push(MoveLine { name: name.into(), token, stage, node: node.into(), pid: 1, t_us });
        }
    }
    for (token, t_us) in [(31, 2_100_000), (32, 5_100_000)] {
        for (stage, node, t_us) in [(MoveAt::Rests, "n1", t_us), (MoveAt::Runs, "n2", t_us + 900)] {
            run.moves.push(MoveLine { name: "quiet".into(), token, stage, node: node.into(), pid: 1, t_us });
        }
    }
    run
}

#[test]
fn a_soak_has_its_own_figures() {
    let report = soaked().judge();
    assert_eq!(report.verdict(), "ok", "{:?}", report.failed().collect::<Vec<_>>());
    let json = report.to_json();
    for key in ["minutes", "moves", "changes", "accepted", "handled", "added_call_p99_ms", "rss_max_mib"] {
        assert!(json[key].is_number(), "{key}");
    }
    assert_eq!((json["moves"].as_u64(), json["changes"].as_u64()), (Some(5), Some(4)));
    assert_eq!((json["rss_max_mib"].as_f64(), json["added_call_p99_ms"].as_f64()), (Some(3.0), Some(0.199)));
    assert!(json["pause_ms"]["max"].is_number() && json["calls_failed"].is_object());
}

#[test]
fn a_soak_that_moves_too_little_or_keeps_its_callers_waiting_is_found() {
    let mut run = soaked();
    run.steps[0].run.as_mut().unwrap().seconds = 60_000;
    assert_eq!(run.judge().verdict(), "moves");
    let mut run = soaked();
    for line in run.history.iter_mut().filter(|line| line.op == Op::Call) {
        line.t1_us += 300_000;
    }
    assert_eq!(run.judge().verdict(), "added_call_p99_ms");
    // What the handler was told to take is not added.
    for line in run.history.iter_mut().filter(|line| line.op == Op::Call) {
        line.work_us = 100_000;
    }
    assert_eq!(run.judge().verdict(), "ok");
}

#[test]
fn a_directory_that_is_no_evidence_is_a_usage_error() {
    let dir = WorkDir::temporary("verify-test").unwrap();
    assert_eq!(verify(dir.path()).unwrap_err().cause(), crate::output::Cause::Usage);
    assert_eq!(verify(&dir.path().join("nothing")).unwrap_err().cause(), crate::output::Cause::Usage);
}

#[test]
fn a_line_that_is_no_line_fails_the_check_and_says_where() {
    let dir = WorkDir::temporary("verify-test").unwrap();
    std::fs::write(dir.path().join(HANDLED), "{\"id\":\n").unwrap();
    let failure = verify(dir.path()).unwrap_err();
    assert_eq!(failure.cause(), crate::output::Cause::Check);
    assert!(failure.to_string().contains("handled.jsonl, line 1"));
}
