//! The plan, by tables: what happens, and what is to be done then.

#![allow(clippy::unwrap_used)]

use std::time::Duration;

use super::*;

/// A plan that is told in words what happens, and answers in words what is to be done.
struct Play {
    plan: Plan,
    now: Time,
    /// All that ever were.
    ids: Vec<(Key, String)>,
}

impl Play {
    /// Children in their order: `a` is permanent, `b?` transient, `c-` temporary.
    fn new(strategy: Strategy, children: &str) -> Self {
        let intensity = RestartIntensity { restarts_max: 3, ..RestartIntensity::default() };
        let plan = Plan::new(strategy, intensity, Rng::new(1));
        let mut play = Self { plan, now: Time::from_micros(1), ids: Vec::new() };
        for child in children.split_whitespace() {
            play.add(child).unwrap();
        }
        play
    }

    fn add(&mut self, child: &str) -> Result<Key, Refusal> {
        let policy = match child.chars().last() {
            Some('?') => RestartPolicy::Transient,
            Some('-') => RestartPolicy::Temporary,
            _ => RestartPolicy::Permanent,
        };
        let id = child.trim_end_matches(['?', '-']);
        let key = self.plan.add(id.into(), policy, self.now)?;
        self.ids.push((key, id.to_owned()));
        Ok(key)
    }

    fn key(&self, id: &str) -> Key {
        self.ids.iter().rev().find(|(_, other)| other == id).unwrap().0
    }

    fn id(&self, key: Key) -> &str {
        &self.ids.iter().find(|(other, _)| *other == key).unwrap().1
    }

    /// `up a`, `crash a`, `exit a`, `add a`, `stop a`, `remove a`, `restart a`, `wait 100` (ms), `end`, `rest`, `resume`,
    /// `start` (nothing happens).
    fn happens(&mut self, event: &str) -> String {
        let (verb, what) = event.split_once(' ').unwrap_or((event, ""));
        let crash = ExitReason::Panic(String::from("x"));
        let mut refused = None;
        match verb {
            "start" => {}
            "up" => self.plan.up(self.key(what)),
            "crash" => self.plan.ended(self.key(what), &crash, self.now),
            "exit" => self.plan.ended(self.key(what), &ExitReason::Normal, self.now),
            "add" => refused = self.add(what).err(),
            "stop" => refused = self.plan.stop(what).err(),
            "remove" => refused = self.plan.remove(what).err(),
            "restart" => refused = self.plan.restart(what, self.now).err(),
            "wait" => self.now = self.now + Duration::from_millis(what.parse().unwrap()),
            "end" => self.plan.end(ExitReason::Shutdown),
            "rest" => self.plan.rest(self.now),
            "resume" => self.plan.resume(),
            other => panic!("{other:?}"),
        }
        let mut done = Vec::new();
        while let Some(action) = self.plan.poll(self.now) {
            done.push(match action {
                Action::Start(key) => format!("start {}", self.id(key)),
                Action::Stop(key) => format!("stop {}", self.id(key)),
                Action::Tell(key, Told::Up) => format!("{} is up", self.id(key)),
                Action::Tell(key, Told::Down) => format!("{} is down", self.id(key)),
                Action::Tell(key, Told::Failed(_)) => format!("{} failed", self.id(key)),
            });
        }
        if let Some(refusal) = refused {
            done.push(format!("{refusal:?}"));
        }
        if self.plan.is_at_rest() {
            done.push(String::from("at rest"));
        }
        if let Some(reason) = self.plan.over() {
            done.push(format!("over: {reason}"));
        }
        done.join(", ")
    }

    fn play(strategy: Strategy, children: &str, table: &[(&str, &str)]) {
        let mut play = Self::new(strategy, children);
        for (line, (event, expected)) in table.iter().enumerate() {
            assert_eq!(play.happens(event), *expected, "{strategy:?} {children:?}, line {line}: {event}");
        }
    }
}

const UP: [(&str, &str); 4] =
    [("start", "start a"), ("up a", "a is up, start b"), ("up b", "b is up, start c"), ("up c", "c is up")];

fn play_from_up(strategy: Strategy, children: &str, table: &[(&str, &str)]) {
    Play::play(strategy, children, &[&UP, table].concat());
}

#[test]
fn children_start_in_order_and_stop_in_the_reverse_order() {
    for strategy in [Strategy::OneForOne, Strategy::OneForAll, Strategy::RestForOne] {
        play_from_up(
            strategy,
            "a b c",
            &[
                ("end", "stop c"),
                ("exit c", "c is down, stop b"),
                ("crash b", "b is down, stop a"),
                ("exit a", "a is down, over: shutdown"),
            ],
        );
    }
}

#[test]
fn who_is_started_again_with_a_child_that_failed() {
    let one = [("crash b", "start b"), ("up b", "b is up"), ("crash a", ""), ("wait 110", "start a")];
    play_from_up(Strategy::OneForOne, "a b c", &one);
    let all = [
        ("crash b", "stop c"),
        ("exit c", "stop a"),
        ("exit a", "start a"),
        ("up a", "a is up, start b"),
        ("up b", "b is up, start c"),
        ("up c", "c is up"),
    ];
    play_from_up(Strategy::OneForAll, "a b c", &all);
    let rest = [
        ("crash b", "stop c"),
        ("exit c", "start b"),
        ("up b", "b is up, start c"),
        ("up c", "c is up"),
        ("crash c", ""),
        ("wait 110", "start c"),
    ];
    play_from_up(Strategy::RestForOne, "a b c", &rest);
}

#[test]
fn policy_decides_whether_a_child_comes_back() {
    let table = [
        ("exit b", "b is down"),
        ("exit c", "c is down"),
        ("add c", "start c"),
        ("exit a", "start a"),
        ("up a", "a is up"),
        ("restart b", "start b"),
        ("up b", "b is up"),
        ("crash b", ""),
        ("wait 110", "start b"),
    ];
    play_from_up(Strategy::OneForOne, "a b? c-", &table);
    // Stopped for the sake of others, a temporary child goes.
    let table = [
        ("crash a", "stop c"),
        ("exit c", "c is down, stop b"),
        ("exit b", "start a"),
        ("up a", "a is up, start b"),
        ("up b", "b is up"),
        ("restart c", "Unknown"),
    ];
    play_from_up(Strategy::OneForAll, "a b? c-", &table);
    // What was stopped, or ended as it was to, is not started again with others.
    let table = [
        ("exit b", "b is down"),
        ("stop c", "stop c"),
        ("exit c", "c is down"),
        ("crash a", "start a"),
        ("up a", "a is up"),
        ("end", "stop a"),
    ];
    play_from_up(Strategy::OneForAll, "a b? c", &table);
}

#[test]
fn one_failure_too_many_within_the_window_ends_the_tree() {
    let table = [
        ("crash a", "start a"),
        ("up a", "a is up"),
        ("crash b", ""),
        ("wait 110", "start b"),
        ("up b", "b is up"),
        ("crash c", ""),
        ("wait 199", ""),
        ("wait 21", "start c"),
        ("up c", "c is up"),
        ("crash a", "stop c"),
        ("exit c", "c is down, stop b"),
        ("exit b", "b is down, over: error: 4 failures of children within 60s, at last of a: panic: x"),
    ];
    play_from_up(Strategy::OneForOne, "a b c", &table);
    let later = [&table[..9], &[("wait 59000", ""), ("wait 1000", ""), ("crash a", "start a")]].concat();
    play_from_up(Strategy::OneForOne, "a b c", &later);
}

#[test]
fn a_child_that_is_slow_to_come_back_holds_up_nobody_who_does_not_depend_on_it() {
    play_from_up(
        Strategy::OneForOne,
        "a b c",
        &[("crash a", "start a"), ("crash b", ""), ("wait 110", "start b")],
    );
    // Stopped meanwhile: the last one first, and nothing starts before.
    let table = [
        ("crash b", "stop c"),
        ("crash a", ""),
        ("wait 110", ""),
        ("exit c", "start a"),
        ("up a", "a is up, start b"),
        ("up b", "b is up, start c"),
    ];
    play_from_up(Strategy::RestForOne, "a b c", &table);
}

#[test]
fn a_child_that_does_not_start_at_first_ends_the_tree_and_later_counts_as_a_failure() {
    let table = [
        ("start", "start a"),
        ("up a", "a is up, start b"),
        ("crash b", "stop a"),
        ("exit a", "a is down, over: error: child b did not start: panic: x"),
    ];
    Play::play(Strategy::OneForOne, "a b c", &table);
    let table = [
        ("crash b", "start b"),
        ("crash b", ""),
        ("wait 110", "start b"),
        ("crash b", ""),
        ("wait 220", "start b"),
        ("crash b", "stop c"),
        ("exit c", "c is down, stop a"),
    ];
    play_from_up(Strategy::OneForOne, "a b c", &table);
    // One that is up may fail while others start for the first time.
    let table = [
        ("start", "start a"),
        ("up a", "a is up, start b"),
        ("crash a", "start a"),
        ("up b", "b is up"),
        ("up a", "a is up, start c"),
    ];
    Play::play(Strategy::OneForOne, "a b c", &table);
}

#[test]
fn what_is_asked_for_is_done_and_told() {
    let table = [
        ("add a", "Taken"),
        ("stop x", "Unknown"),
        ("add d", "start d"),
        ("up d", "d is up"),
        ("add e", "start e"),
        ("crash e", "e failed, e is down"),
        ("restart e", "Unknown"),
        ("stop b", "stop b"),
        ("stop b", ""),
        ("exit b", "b is down"),
        ("stop b", "b is down"),
        ("restart b", "start b"),
        ("crash b", "b failed, b is down"),
        ("add b", "start b"),
        ("restart b", "stop b"),
        ("exit b", "start b"),
        ("up b", "b is up"),
        ("remove a", "stop a"),
        ("exit a", "a is down"),
        ("restart a", "Unknown"),
        ("end", "stop b"),
        ("add f", "Ends"),
        ("exit b", "b is down, stop d"),
        ("crash d", "d is down, stop c"),
        ("exit c", "c is down, over: shutdown"),
    ];
    play_from_up(Strategy::OneForOne, "a b c", &table);
    let table = [("add d", "start d"), ("stop d", "stop d"), ("restart d", ""), ("exit d", "start d")];
    play_from_up(Strategy::RestForOne, "a b c", &table);
}

#[test]
fn a_tree_that_rests_comes_back_in_order() {
    for strategy in [Strategy::OneForOne, Strategy::OneForAll, Strategy::RestForOne] {
        let table = [
            ("rest", "stop c"),
            ("resume", ""),
            ("exit c", "c is down, stop b"),
            ("rest", ""),
            ("exit b", "stop a"),
            ("add d", ""),
            ("crash a", "at rest"),
            ("wait 1000", "at rest"),
            ("resume", "start a"),
            ("up a", "a is up, start b"),
            ("up b", "b is up, start d"),
            ("rest", "stop d"),
            ("end", ""),
            ("exit d", "d is down, stop b"),
        ];
        play_from_up(strategy, "a b c-", &table);
    }
}

#[test]
fn nothing_that_happens_in_any_order_runs_two_lives_of_a_child_or_leaves_one_behind() {
    for seed in 0..2_000 {
        let mut rng = Rng::new(seed);
        let strategy = [Strategy::OneForOne, Strategy::OneForAll, Strategy::RestForOne][seed as usize % 3];
        let mut play = Play::new(strategy, "a b? c- d");
        let (mut running, mut told) = (Vec::<String>::new(), Vec::<String>::new());
        for step in 0..200 {
            let id = ["a", "b", "c", "d"][rng.below(4) as usize];
            let lives = running.iter().any(|other| other == id);
            let event = match rng.below(12) {
                _ if step > 150 && play.plan.over().is_none() && !running.is_empty() => {
                    play.plan.end(ExitReason::Shutdown);
                    format!("exit {}", told.last().or(running.last()).unwrap())
                }
                0..=2 if lives => format!("up {id}"),
                3 if lives => format!("crash {id}"),
                4 if lives => format!("exit {id}"),
                5 => format!("stop {id}"),
                6 => format!("restart {id}"),
                7 => format!("add {id}"),
                8 => String::from("rest"),
                9 => String::from("resume"),
                _ => String::from("wait 500"),
            };
            if let Some(ended) = event.strip_prefix("exit ").or(event.strip_prefix("crash ")) {
                running.retain(|other| other != ended);
                told.retain(|other| other != ended);
            }
            for done in play.happens(&event).split(", ") {
                match done.split_once(' ') {
                    Some(("start", id)) => {
                        assert!(!running.iter().any(|other| other == id), "seed {seed}: two lives of {id}");
                        running.push(id.to_owned());
                    }
                    Some(("stop", id)) => {
                        assert!(running.iter().any(|other| other == id), "seed {seed}: {id} does not run");
                        told.push(id.to_owned());
                    }
                    _ => {}
                }
            }
            assert_eq!(play.plan.none_runs(), running.is_empty(), "seed {seed}, {event}");
        }
        play.plan.end(ExitReason::Shutdown);
        assert!(play.plan.over().is_some() && running.is_empty(), "seed {seed}: {running:?}");
    }
}
