//! Listings, counts and streams over whole nodes: what is told in the end is what is there, whoever dies meanwhile.

use std::collections::BTreeSet;

use whimbrel_core::base::limits::{STREAM_EVENTS_MAX, STREAMS_MAX};
use whimbrel_core::base::{Group, Metadata};
use whimbrel_core::directory::StreamEnd;

use super::*;

/// A table that a reader keeps by the events of its stream.
#[derive(Debug, Default)]
struct Table {
    rows: BTreeMap<Name, Listed>,
    odd: Vec<String>,
    synced: usize,
    merged: u64,
}

impl Table {
    fn of<'e>(events: impl IntoIterator<Item = &'e StreamEvent>) -> Self {
        let mut table = Self::default();
        events.into_iter().for_each(|event| table.follow(event));
        table
    }

    fn row(&mut self, name: &Name, event: &StreamEvent) -> &mut Listed {
        if !self.rows.contains_key(name) {
            panic!("{event:?} of a name that is not there; odd: {:?}", self.odd);
        }
        self.rows.get_mut(name).unwrap()
    }

    fn follow(&mut self, event: &StreamEvent) {
        match event {
            StreamEvent::Registered(row) => {
                if self.rows.insert(row.name.clone(), row.clone()).is_some() {
                    self.odd.push(format!("{} was there", row.name));
                }
            }
            StreamEvent::Moved { name, from, to } => {
                let row = self.row(name, event);
                assert_eq!(row.located.host, *from);
                row.located = to.clone();
            }
            StreamEvent::Restarted { name, located, .. } => self.row(name, event).located = located.clone(),
            StreamEvent::Left { name, membership } => {
                let row = self.row(name, event);
                let before = row.groups.len();
                row.groups.retain(|known| known != membership);
                assert_eq!(row.groups.len() + 1, before, "it was in it");
            }
            StreamEvent::Joined { name, membership } => {
                let row = self.row(name, event);
                row.groups.push(membership.clone());
                row.groups.sort();
            }
            StreamEvent::Updated { name, before, now } => {
                let row = self.row(name, event);
                assert_eq!(row.meta.map, *before);
                row.meta.map = now.clone();
            }
            StreamEvent::Quarantined { name, .. } => self.row(name, event).state = RecordState::Quarantined,
            StreamEvent::Stopped { name, .. } => {
                if self.rows.remove(name).is_none() {
                    self.odd.push(format!("{name} was not there"));
                }
            }
            StreamEvent::Synced => self.synced += 1,
            StreamEvent::Lagged { merged } => self.merged += merged,
            StreamEvent::Ended(_) => {}
        }
    }

    /// What a reader knows of each name: where it is, its groups and its metadata.
    fn known(&self) -> BTreeMap<Name, (Incarnation, Vec<String>, Metadata)> {
        let known = |row: &Listed| {
            let groups = row.groups.iter().map(|known| format!("{known:?}")).collect();
            (row.located.host, groups, row.meta.map.clone())
        };
        self.rows.iter().map(|(name, row)| (name.clone(), known(row))).collect()
    }
}

impl Net {
    fn follow(&mut self, at: &str, number: u64, filter: Filter) {
        self.queue.push_back((at.into(), Input::Follow { number, filter }));
        self.settle();
    }

    fn table(&self, at: &str, number: u64) -> Table {
        let events = self.streamed.iter().filter(|(node, n, _)| node == at && *n == number);
        Table::of(events.map(|(_, _, event)| event))
    }

    /// What the owners have, as [`Table::known`].
    fn there_is(&self, prefix: &str) -> BTreeMap<Name, (Incarnation, Vec<String>, Metadata)> {
        let records = self.nodes.values().flat_map(|node| node.snapshot().records);
        let meant = records.filter(|record| record.has_run && record.name.as_str().starts_with(prefix));
        meant
            .map(|record| {
                let groups = record.groups().iter().map(|known| format!("{known:?}")).collect();
                (record.name.clone(), (record.host, groups, record.meta().map))
            })
            .collect()
    }

    fn page(&mut self, at: &str, filter: Filter) -> (Vec<Listed>, Option<Name>, bool) {
        self.numbers += 1;
        let (number, deadline) = (self.numbers, Duration::from_secs(5));
        self.queue.push_back((at.into(), Input::List { number, filter, deadline }));
        self.settle();
        for _ in 0..6_000 {
            if let Some(page) = self.pages.pop() {
                return page;
            }
            self.run(1);
        }
        panic!("no page");
    }

    fn count(&mut self, at: &str, filter: Filter) -> (usize, bool) {
        self.numbers += 1;
        let (number, deadline) = (self.numbers, Duration::from_secs(5));
        self.queue.push_back((at.into(), Input::Count { number, filter, deadline }));
        self.settle();
        for _ in 0..6_000 {
            if let Some(counted) = self.counted.pop() {
                return counted;
            }
            self.run(1);
        }
        panic!("no count");
    }

    fn crash(&mut self, name: &str, reason: ExitReason) {
        let name = Name::new(name).unwrap();
        let host = self.nodes.iter().find_map(|(at, node)| {
            let hosted = node.snapshot().hosted;
            hosted
                .into_iter()
                .find(|(hosted, _, runs)| *hosted == name && *runs)
                .map(|(_, token, _)| (at, token))
        });
        let (at, token) = host.map(|(at, token)| (at.clone(), token)).unwrap();
        self.queue.push_back((at, Input::Exited { name, token, reason }));
        self.settle();
    }

    fn elsewhere(&self, name: &str) -> String {
        let name = Name::new(name).unwrap();
        let runs = |node: &Node| node.snapshot().hosted.iter().any(|(hosted, ..)| *hosted == name);
        self.nodes.iter().find(|(_, node)| !runs(node)).map(|(at, _)| at.clone()).unwrap()
    }
}

fn meta(key: &str, text: &str) -> Metadata {
    Metadata::new().with(key, text).unwrap()
}

fn join(scope: &str, name: &str) -> Ask {
    Ask::Join { group: Group::new(scope, name).unwrap(), meta: meta("role", "guest") }
}

fn leave(scope: &str, name: &str) -> Ask {
    Ask::Leave { group: Group::new(scope, name).unwrap() }
}

fn set(map: Metadata) -> Ask {
    Ask::SetMeta { map, expected: None }
}

fn move_to(node: &str) -> Ask {
    Ask::Move { to: Some(Name::new(node).unwrap()) }
}

/// An event in a few words.
fn word(event: &StreamEvent) -> String {
    match event {
        StreamEvent::Registered(row) => format!("{} registered", row.name),
        StreamEvent::Moved { name, .. } => format!("{name} moved"),
        StreamEvent::Restarted { name, reason, .. } => format!("{name} restarted {reason:?}"),
        StreamEvent::Left { name, membership } => format!("{name} left {}", membership.group),
        StreamEvent::Joined { name, membership } => format!("{name} joined {}", membership.group),
        StreamEvent::Updated { name, before, now } => {
            format!("{name} updated {:?} {:?}", before.get("k"), now.get("k"))
        }
        StreamEvent::Quarantined { name, .. } => format!("{name} quarantined"),
        StreamEvent::Stopped { name, reason, .. } => format!("{name} stopped {reason:?}"),
        StreamEvent::Synced => "synced".into(),
        StreamEvent::Lagged { merged } => format!("lagged {merged}"),
        StreamEvent::Ended(why) => format!("ended {why:?}"),
    }
}

fn words(net: &mut Net) -> Vec<String> {
    std::mem::take(&mut net.streamed).iter().map(|(_, _, event)| word(event)).collect()
}

#[test]
fn each_change_is_told_once_in_order_with_what_was_before() {
    let mut net = three();
    net.start("a", "old");
    net.start("a", "other");
    net.follow("b", 1, Filter::all().prefix("o").kind("counter"));
    let mut there = words(&mut net);
    there[..2].sort();
    assert_eq!(there, ["old registered", "other registered", "synced"]);
    net.ask("c", "old", Ask::Stop);
    assert_eq!(words(&mut net), ["old stopped Some(Shutdown)"]);
    net.start("a", "old");
    net.start("a", "unmeant");
    net.ask("a", "unmeant", set(meta("k", "1")));
    assert_eq!(words(&mut net), ["old registered"]);
    net.ask("a", "old", set(meta("k", "1")));
    net.ask("c", "old", set(meta("k", "2")));
    assert_eq!(words(&mut net), ["old updated None Some(\"1\")", "old updated Some(\"1\") Some(\"2\")"]);
    net.ask("a", "old", join("chat", "lobby"));
    net.ask("a", "old", join("chat", "hall"));
    net.ask("b", "old", leave("chat", "lobby"));
    assert_eq!(words(&mut net), ["old joined chat/lobby", "old joined chat/hall", "old left chat/lobby"]);
    let to = net.elsewhere("old");
    assert_eq!(net.ask("a", "old", move_to(&to)), Answer::Done);
    assert_eq!(words(&mut net), ["old moved"]);
    net.crash("old", ExitReason::Error("oh".into()));
    assert_eq!(words(&mut net), ["old restarted Some(Error(\"oh\"))"]);
    net.ask("c", "old", Ask::Stop);
    assert_eq!(words(&mut net), ["old stopped Some(Shutdown)"]);
    net.run(30_000);
    assert_eq!(words(&mut net), Vec::<String>::new(), "sums are right, so nothing is told again");
}

#[test]
fn a_name_comes_and_goes_with_the_filter() {
    let mut net = three();
    net.start("a", "x");
    net.follow("b", 1, Filter::all().group(Group::new("chat", "lobby").unwrap()));
    net.follow("b", 2, Filter::all().metadata("k", "1"));
    assert_eq!(words(&mut net), ["synced", "synced"]);
    net.ask("a", "x", join("chat", "lobby"));
    net.ask("a", "x", leave("chat", "lobby"));
    assert_eq!(words(&mut net), ["x registered", "x left chat/lobby", "x stopped None"]);
    net.ask("a", "x", set(meta("k", "1")));
    net.ask("a", "x", set(meta("k", "2")));
    let gone = ["x registered", "x updated Some(\"1\") Some(\"2\")", "x stopped None"];
    assert_eq!(words(&mut net), gone);
    net.queue.push_back(("b".into(), Input::Unfollow { number: 2 }));
    net.settle();
    net.ask("a", "x", set(meta("k", "1")));
    assert_eq!(words(&mut net), Vec::<String>::new());
}

#[test]
fn restarts_are_told_with_their_reasons_and_so_is_a_quarantine() {
    let mut net = three();
    net.follow("c", 1, Filter::all());
    net.start("a", "x");
    for crash in 0..6 {
        net.crash("x", ExitReason::Panic("boom".into()));
        net.run(if crash == 0 { 1 } else { 120 << crash });
    }
    let told = words(&mut net);
    assert_eq!(told.iter().filter(|word| word.contains("restarted Some(Panic")).count(), 5);
    assert_eq!(told.last().unwrap(), "x quarantined");
    net.ask("a", "x", Ask::Stop);
    assert_eq!(words(&mut net), ["x stopped Some(Shutdown)"]);
}

/// One step of a run: which operation, on which of some names, asked at which node.
fn step(net: &mut Net, random: &mut u64, names: u64) {
    let mut draw = |below: u64| {
        *random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (*random >> 33) % below
    };
    let at: String = net.nodes.keys().nth(draw(net.nodes.len() as u64) as usize).unwrap().clone();
    let name = format!("n{}", draw(names));
    let ask = match draw(8) {
        0 => Ask::Stop,
        1 => join("chat", &format!("g{}", draw(3))),
        2 => leave("chat", &format!("g{}", draw(3))),
        3 => set(meta("k", &format!("{}", draw(5)))),
        4 => {
            let to = net.nodes.keys().nth(draw(net.nodes.len() as u64) as usize).unwrap().clone();
            move_to(&to)
        }
        _ => start(),
    };
    net.numbers += 1;
    let (number, deadline) = (net.numbers, Duration::from_secs(5));
    let name = Name::new(&name).unwrap();
    net.queue.push_back((at, Input::Request { number, name, ask, deadline }));
    // Not all that it leads to.
    let steps = std::cell::Cell::new(draw(40));
    net.settle_until(|_| {
        steps.set(steps.get().saturating_sub(1));
        steps.get() == 0
    });
}

fn assert_all_known(net: &Net, at: &str, number: u64) {
    let table = net.table(at, number);
    assert_eq!(table.known(), net.there_is("n"), "at {at}");
    assert_eq!((table.odd.as_slice(), table.synced), (&[][..], 1));
}

#[test]
fn whoever_dies_or_comes_a_follower_knows_in_the_end_what_there_is() {
    for seed in 0..6 {
        let mut net = three();
        let mut random = seed;
        for _ in 0..40 {
            step(&mut net, &mut random, 30);
        }
        net.follow("a", 1, Filter::all().prefix("n"));
        net.follow("b", 1, Filter::all().prefix("n"));
        for round in 0..120 {
            step(&mut net, &mut random, 30);
            match round {
                // In the middle of whatever is under way.
                30 => net.kill("c"),
                60 => net.boot("c", &["a"]),
                90 => net.kill("b"),
                _ => {}
            }
        }
        net.run(15_000);
        assert_all_known(&net, "a", 1);
        assert!(net.there_is("n").len() > 3, "there is something to know");
    }
}

#[test]
fn whatever_is_lost_a_follower_knows_in_the_end_what_there_is() {
    let mut net = three();
    net.follow("a", 1, Filter::all().prefix("n"));
    net.lose = |message, said| {
        let is_meant = matches!(message, Message::Followed { .. } | Message::Follow { .. });
        is_meant && said.is_multiple_of(3)
    };
    net.follow("b", 1, Filter::all().prefix("n"));
    let mut random = 7;
    for _ in 0..200 {
        step(&mut net, &mut random, 30);
    }
    net.run(10_000);
    net.lose = |_, _| false;
    net.run(25_000);
    assert_all_known(&net, "a", 1);
    assert_all_known(&net, "b", 1);
    // Followers leave, and the word of it is lost: owners learn of it when they say something.
    net.lose = |message, _| matches!(message, Message::Unfollow { .. });
    net.queue.push_back(("a".into(), Input::Unfollow { number: 1 }));
    net.queue.push_back(("b".into(), Input::Unfollow { number: 1 }));
    net.settle();
    let followers = |net: &Net| {
        let rows = net.nodes.values().flat_map(Node::usage);
        rows.filter(|row| row.table == "followers").map(|row| row.used).sum::<usize>()
    };
    assert!(followers(&net) > 0);
    net.lose = |_, _| false;
    for number in 0..100 {
        net.start("c", &format!("n:new:{number}"));
    }
    assert_eq!(followers(&net), 0);
}

#[test]
fn a_follower_that_changes_lines_knows_in_the_end_what_there_is() {
    let mut net = three();
    net.follow("c", 1, Filter::all().prefix("n"));
    let mut random = 11;
    (0..60).for_each(|_| step(&mut net, &mut random, 30));
    net.cut(&["c"]);
    net.run(6_000);
    assert_eq!(net.snapshot("c").view.unwrap().members.len(), 1);
    (0..60).for_each(|_| step(&mut net, &mut random, 30));
    net.far.clear();
    for name in ["a", "b", "c"] {
        net.queue.push_back((name.into(), Input::Discovered(addresses(&["a", "b", "c"]))));
    }
    net.run(20_000);
    assert_eq!(net.snapshot("c").view.unwrap().members.len(), 3);
    assert_all_known(&net, "c", 1);
}

#[test]
fn a_slow_reader_is_told_of_what_is_there_when_it_reads_on() {
    let mut net = three();
    for number in 0..100 {
        net.start("a", &format!("n{number}"));
    }
    net.follow("b", 1, Filter::all().prefix("n"));
    let changes = STREAM_EVENTS_MAX + 1_000;
    for number in 0..changes {
        let name = format!("n{}", number % 90);
        net.ask("a", &name, set(meta("k", &format!("{number}"))));
    }
    for number in 95..100 {
        net.ask("a", &format!("n{number}"), Ask::Stop);
        net.start("a", &format!("n{number}"));
    }
    let told = net.streamed.len();
    assert_eq!(told, STREAM_EVENTS_MAX, "and no more wait for the reader");
    net.queue.push_back(("b".into(), Input::Read { number: 1, events: told }));
    net.settle();
    assert_all_known(&net, "b", 1);
    let table = net.table("b", 1);
    let rest = net.streamed[told..].iter().map(|(_, _, event)| event).collect::<Vec<_>>();
    assert_eq!(
        rest.len(),
        1 + 90 + 2 * 5,
        "its last word on each name that changed, and that some were freed"
    );
    assert!(matches!(rest[0], StreamEvent::Lagged { .. }));
    assert!(table.merged > 800, "{}", table.merged);
    net.ask("a", "n1", set(Metadata::new()));
    assert_eq!(word(&net.streamed.last().unwrap().2).split(' ').next(), Some("n1"), "as it happens again");
}

#[test]
fn a_node_has_so_many_streams_and_what_no_name_can_have_is_no_stream() {
    let mut net = three();
    for number in 0..STREAMS_MAX as u64 {
        net.follow("a", number, Filter::all());
    }
    assert!(words(&mut net).iter().all(|word| word == "synced"));
    net.follow("a", 99, Filter::all());
    let end = format!("ended {:?}", StreamEnd::TooManyStreams);
    assert_eq!(words(&mut net), [end]);
    net.queue.push_back(("a".into(), Input::Unfollow { number: 5 }));
    net.follow("a", 100, Filter::all().prefix(&"x".repeat(300)));
    assert_eq!(words(&mut net), ["synced"]);
    assert_eq!(net.count("a", Filter::all().kind(&"x".repeat(300))), (0, true));
    net.follow("a", 101, Filter::all());
    assert_eq!((words(&mut net), net.refused.as_slice()), (vec!["synced".to_owned()], &[][..]));
}

#[test]
fn pages_put_together_are_all_names_and_a_count_says_how_many() {
    let mut net = three();
    let large = meta("large", &"x".repeat(4_000));
    for number in 0..300 {
        let name = format!("n{number:03}");
        net.start("a", &name);
        net.ask("a", &name, set(large.clone()));
    }
    for limit in [1, 7, 100, 299, 300, 0] {
        let (mut filter, mut names, mut pages) = (Filter::all().limit(limit), Vec::new(), 0);
        loop {
            let (rows, next, complete) = net.page("b", filter.clone());
            assert!(complete && (limit == 0 || rows.len() <= limit as usize));
            names.extend(rows.into_iter().map(|row| row.name.to_string()));
            pages += 1;
            match next {
                Some(next) => filter.after = Some(next),
                None => break,
            }
        }
        let all: Vec<String> = (0..300).map(|number| format!("n{number:03}")).collect();
        assert_eq!(names, all, "limit {limit}");
        assert_eq!(pages, if limit == 0 { 1 } else { 300_usize.div_ceil(limit as usize) });
    }
    // More than one message of each owner.
    const { assert!(300 * 4_000 > 3 * whimbrel_core::base::limits::FILL_BYTES_MAX) };
    assert_eq!(net.count("c", Filter::all()), (300, true));
    let some = Filter::all().prefix("n1").page_after(Name::new("n150").unwrap()).limit(3);
    assert_eq!(net.count("c", some), (100, true), "a count has no pages");
}

#[test]
fn a_listing_during_which_an_owner_dies_is_complete() {
    for steps in 1..12 {
        let mut net = three();
        for number in 0..40 {
            net.start("a", &format!("n{number:02}"));
        }
        for (number, filter) in [(1_000, Filter::all()), (1_001, Filter::all().limit(10))] {
            let deadline = Duration::from_secs(30);
            net.queue.push_back(("a".into(), Input::List { number, filter, deadline }));
        }
        net.queue.push_back((
            "a".into(),
            Input::Count { number: 1_002, filter: Filter::all(), deadline: Duration::from_secs(30) },
        ));
        let left = std::cell::Cell::new(steps);
        net.settle_until(|_| {
            left.set(left.get() - 1);
            left.get() == 0
        });
        net.kill("b");
        net.run(10_000);
        let mut lengths: Vec<_> =
            net.pages.iter().map(|(rows, next, whole)| (rows.len(), next.is_some(), *whole)).collect();
        lengths.sort_unstable();
        assert_eq!(lengths, [(10, true, true), (40, false, true)]);
        assert_eq!(net.counted, [(40, true)]);
        let names: BTreeSet<_> =
            net.pages.iter().flat_map(|(rows, ..)| rows.iter().map(|row| &row.name)).collect();
        assert_eq!(names.len(), 40);
    }
}

#[test]
fn what_does_not_answer_in_time_is_said_to_be_missing() {
    let mut net = three();
    for number in 0..40 {
        net.start("a", &format!("n{number:02}"));
    }
    net.lose = |message, _| matches!(message, Message::ListAsk { .. } | Message::CountAsk { .. });
    let (rows, _, complete) = net.page("a", Filter::all());
    assert!(!complete && !rows.is_empty() && rows.len() < 40, "its own");
    let (names, complete) = net.count("a", Filter::all());
    assert!(!complete && names < 40);
}
