#![allow(clippy::unwrap_used)]
//! The transition tables of source and target, and a move over a link that loses what it likes.

use std::fmt::Write as _;

use super::source::{Source, SourceEvent};
use super::target::{Target, TargetEvent};
use super::*;
use crate::base::limits::MOVES_WAITING_MAX;

fn rules() -> Rules {
    Rules { chunk: IMAGE_CHUNK, mutants: Mutants::default() }
}

fn name() -> Name {
    Name::new("basket:42").unwrap()
}

fn node(nonce: u64) -> Incarnation {
    Incarnation { started_ms: 1, nonce }
}

fn order() -> Order {
    Order {
        name: name(),
        token: Token::from_u64(5),
        attempt: Token::from_u64(7),
        to: node(2),
        kind: Name::new("basket").unwrap(),
        args: Bytes::default(),
        gate: Token::from_u64(3),
    }
}

fn passage() -> Passage {
    let Order { name, attempt, kind, args, gate, .. } = order();
    Passage { name, attempt, kind, args, gate, from: node(1) }
}

fn short<T: std::fmt::Debug>(items: &[T]) -> String {
    let words = items.iter().map(|item| {
        let text = format!("{item:?}");
        let text = text.replace("Send(", "");
        let end = text.find([' ', '}']).unwrap_or(text.len());
        text[..end].to_owned()
    });
    words.collect::<Vec<_>>().join(", ")
}

#[test]
fn the_source_follows_its_table() {
    let image = || Bytes::from(vec![1; 10]);
    let states = || {
        let begun = Source::Quiescing;
        let captured = SourceEvent::Captured(Ok(image()));
        let installing = begun.on(captured, &order(), rules()).0.unwrap();
        [Source::Reserving, Source::Quiescing, installing, Source::Deciding(Plea::Commit), Source::Judged]
    };
    let events = || {
        [
            SourceEvent::Reserved,
            SourceEvent::Refused(Hindrance::Busy),
            SourceEvent::Captured(Ok(image())),
            SourceEvent::Captured(Err(Hindrance::Stays)),
            SourceEvent::Taken(10),
            SourceEvent::Installed,
            SourceEvent::TargetLost,
            SourceEvent::Decided(Decision::Committed),
            SourceEvent::Decided(Decision::Aborted),
            SourceEvent::Decided(Decision::Superseded),
            SourceEvent::Ended,
            SourceEvent::LineLeft,
            SourceEvent::Kept,
            SourceEvent::TooLate,
            SourceEvent::Repeat,
        ]
    };
    let mut table = String::new();
    for state in 0..states().len() {
        for event in events() {
            let before = states()[state].clone();
            let said = format!("{event:?}").replace("Bytes", "");
            let from = before.kind();
            let (next, effects) = before.on(event, &order(), rules());
            let to = next.map_or("-".into(), |next| format!("{:?}", next.kind()));
            let said = said.replace("10 bytes", "image");
            writeln!(table, "{:<11} {said:<22} {to:<11} {}", format!("{from:?}"), short(&effects)).unwrap();
        }
    }
    check_table("source", &table);
}

#[test]
fn the_target_follows_its_table() {
    let chunk = |offset: u32, length: usize| {
        let sum = super::source::sum_of(&[1; 10]);
        TargetEvent::Chunk { total: 10, sum, offset, bytes: vec![1; length].into(), fits: true }
    };
    let states = || {
        let receiving = Target::Reserved.on(chunk(0, 4), &passage()).0.unwrap();
        [Target::Reserved, receiving, Target::Resuming { total: 10 }, Target::Held { total: 10 }]
    };
    let events = || {
        [
            ("reserve", TargetEvent::Reserve),
            ("first part", chunk(0, 4)),
            ("last part", chunk(4, 6)),
            ("whole", chunk(0, 10)),
            ("question", chunk(10, 0)),
            ("made", TargetEvent::Made(Ok(()))),
            ("not made", TargetEvent::Made(Err(Hindrance::Unreadable))),
            ("source lost", TargetEvent::SourceLost),
            ("asked", TargetEvent::AskHolds(node(3))),
            ("granted", TargetEvent::Granted),
            ("aborted", TargetEvent::Dismissed(Decision::Aborted)),
            ("superseded", TargetEvent::Dismissed(Decision::Superseded)),
            ("too late", TargetEvent::TooLate),
            ("leaving", TargetEvent::Leaving),
            ("repeat", TargetEvent::Repeat),
        ]
    };
    let mut table = String::new();
    for state in 0..states().len() {
        for (said, event) in events() {
            let before = states()[state].clone();
            let from = before.kind();
            let (next, effects) = before.on(event, &passage());
            let to = next.map_or("-".into(), |next| format!("{:?}", next.kind()));
            writeln!(table, "{:<11} {said:<12} {to:<11} {}", format!("{from:?}"), short(&effects)).unwrap();
        }
    }
    check_table("target", &table);
}

/// A new transition is a visible change of a committed file; `UPDATE_TABLES=1` writes it.
fn check_table(machine: &str, table: &str) {
    let path = format!("{}/src/handoff/tables/{machine}.txt", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("UPDATE_TABLES").is_some() {
        std::fs::write(&path, table).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap();
    assert_eq!(table, committed, "the table of the {machine} changed; is that meant?");
}

/// Two handoffs and a link between them that loses every frame whose number is in `lost`.
struct Pair {
    nodes: [Handoff; 2],
    now: Time,
    frames: u32,
    lost: fn(u32) -> bool,
    image: Bytes,
    told: Vec<String>,
}

impl Pair {
    fn new(bytes: usize, lost: fn(u32) -> bool) -> Self {
        let image = Bytes::from((0..bytes).map(|at| at as u8).collect::<Vec<u8>>());
        let nodes =
            [Handoff::new(IMAGE_CHUNK, Mutants::default()), Handoff::new(IMAGE_CHUNK, Mutants::default())];
        Self { nodes, now: Time::from_micros(0), frames: 0, lost, image, told: Vec::new() }
    }

    fn settle(&mut self) {
        while let Some((at, output)) =
            (0..2).find_map(|at| self.nodes[at].poll_output().map(|output| (at, output)))
        {
            let now = self.now;
            match output {
                Output::Send(_, message) => {
                    self.frames += 1;
                    if !(self.lost)(self.frames) {
                        let from = node(at as u64 + 1);
                        self.nodes[1 - at].handle_message(from, message, now);
                    }
                }
                Output::Capture { name, attempt, .. } => {
                    let image = Ok(self.image.clone());
                    self.nodes[at].handle_captured(&name, attempt, image, now);
                }
                Output::Install { passage, image } => {
                    assert_eq!(image, self.image, "it arrives as it was sent");
                    self.nodes[at].handle_installed(&passage.name, passage.attempt, Ok(()), now);
                }
                Output::Ask { name, attempt, plea, .. } => {
                    self.told.push(format!("{plea:?}"));
                    let decision = if plea == Plea::Commit { Decision::Committed } else { Decision::Aborted };
                    self.nodes[at].handle_decided(&name, attempt, decision, now);
                }
                Output::Depart { .. } => self.told.push("gone".into()),
                Output::Abandon { .. } => self.told.push("ends".into()),
                Output::Release { .. } => self.told.push("goes on".into()),
                Output::Held { .. } => self.told.push("held".into()),
                Output::NotHeld { .. } | Output::Uninstall { .. } => self.told.push("undone".into()),
                Output::Holds { whole, .. } => self.told.push(format!("whole: {whole}")),
            }
        }
    }

    fn run(&mut self) {
        self.nodes[0].handle_order(order(), self.now);
        self.settle();
        for _ in 0..2_000 {
            if self.nodes[0].outbound.is_empty() {
                return;
            }
            self.now = self.now + Duration::from_millis(100);
            for at in 0..2 {
                self.nodes[at].handle_wake(self.now);
                self.settle();
            }
        }
        panic!("the move never ends: {:?}", self.told);
    }
}

#[test]
fn an_image_of_any_size_arrives_whole_and_once() {
    for bytes in [0, 1, IMAGE_CHUNK, IMAGE_CHUNK + 1, 9 * IMAGE_CHUNK + 5] {
        let mut pair = Pair::new(bytes, |_| false);
        pair.run();
        assert_eq!(pair.told, ["held", "Commit", "gone"], "{bytes} bytes");
    }
}

#[test]
fn whatever_frames_are_lost_the_move_is_decided() {
    let losses: [fn(u32) -> bool; 5] =
        [|n| chance(n, 50), |n| chance(n, 30), |n| chance(n + 99, 60), |n| (3..9).contains(&n), |n| n > 4];
    for (at, lost) in losses.into_iter().enumerate() {
        let mut pair = Pair::new(3 * IMAGE_CHUNK + 7, lost);
        pair.run();
        let count = |what: &str| pair.told.iter().filter(|word| *word == what).count();
        let (gone, goes_on) = (count("gone"), count("goes on"));
        assert_eq!(gone, count("Commit"), "{at}: {:?}", pair.told);
        assert_eq!(gone + goes_on, 1, "{at}: {:?}", pair.told);
        assert!(gone <= count("held"), "{at}: {:?}", pair.told);
    }
}

fn chance(frame: u32, percent: u64) -> bool {
    crate::base::hash::mix(u64::from(frame)) % 100 < percent
}

const IMAGE_CHUNK: usize = crate::base::limits::IMAGE_CHUNK_BYTES;

#[test]
fn a_process_that_has_left_in_part_does_not_end_before_its_move() {
    let mut pair = Pair::new(10, |_| false);
    let source = &mut pair.nodes[0];
    source.handle_order(order(), pair.now);
    let from = node(2);
    source.handle_message(from, Message::Reserved { name: name(), attempt: order().attempt }, pair.now);
    let stop = ExitReason::Shutdown;
    assert!(source.is_leaving(&name(), order().token));
    source.handle_captured(&name(), order().attempt, Ok(pair.image.clone()), pair.now);
    assert!(source.handle_terminate(&name(), order().token, &stop, pair.now), "it waits");
    source.handle_decided(&name(), order().attempt, Decision::Aborted, pair.now);
    let released = std::iter::from_fn(|| source.poll_output())
        .any(|output| matches!(output, Output::Release { ends: Some(ExitReason::Shutdown), .. }));
    assert!(released, "it goes on, and ends");
}

#[test]
fn a_target_that_said_no_never_holds_the_process() {
    let mut pair = Pair::new(3 * IMAGE_CHUNK, |_| false);
    let target = &mut pair.nodes[1];
    let Order { name, attempt, kind, args, gate, .. } = order();
    let reserve = Message::Reserve { name: name.clone(), attempt, kind, args, gate };
    target.handle_message(node(1), reserve, pair.now);
    target.handle_ask_holds(node(3), &name, order().gate, attempt, pair.now);
    let said: Vec<Output> = std::iter::from_fn(|| target.poll_output()).collect();
    let gate = order().gate;
    let no = Output::Holds { to: Some(node(3)), name: name.clone(), gate, attempt, whole: false };
    assert!(said.contains(&no));
    let bytes = Bytes::from(vec![0; 10]);
    let sum = super::source::sum_of(bytes.as_slice());
    let chunk = Message::Chunk { name: name.clone(), attempt, total: 10, sum, offset: 0, bytes };
    target.handle_message(node(1), chunk, pair.now);
    let refused = Message::Refused { name, attempt, why: Hindrance::Lost };
    assert_eq!(target.poll_output(), Some(Output::Send(node(1), refused)));
    assert_eq!(target.poll_output(), None);
}

fn reserve(at: usize) -> Message {
    let name = Name::new(&format!("p{at}")).unwrap();
    let Order { attempt, kind, args, gate, .. } = order();
    Message::Reserve { name, attempt, kind, args, gate }
}

#[test]
fn rooms_are_limited_and_a_full_node_says_so() {
    let mut handoff = Handoff::new(IMAGE_CHUNK, Mutants::default());
    let now = Time::from_micros(0);
    for at in 0..=MOVES_IN_MAX + MOVES_WAITING_MAX {
        handoff.handle_message(node(1), reserve(at), now);
        handoff.handle_message(node(1), reserve(at), now);
    }
    let said: Vec<Output> = std::iter::from_fn(|| handoff.poll_output()).collect();
    let busy = said
        .iter()
        .filter(|output| matches!(output, Output::Send(_, Message::Refused { why: Hindrance::Busy, .. })));
    assert_eq!(busy.count(), 2, "the last one, and again");
    assert!(handoff.usage().iter().all(|row| row.used <= row.limit));
    assert_eq!(handoff.take_question(), None);
    let cancel =
        |at: usize| Message::Cancel { name: reserve(at).about().0.clone(), attempt: order().attempt };
    handoff.handle_message(node(1), cancel(MOVES_IN_MAX), now);
    handoff.handle_message(node(1), cancel(0), now);
    assert_eq!(
        handoff.take_question(),
        Some((node(1), reserve(MOVES_IN_MAX + 1))),
        "who gave up is passed over"
    );
}

#[test]
fn orders_wait_until_a_move_under_way_has_ended() {
    let mut handoff = Handoff::new(IMAGE_CHUNK, Mutants::default());
    let now = Time::from_micros(0);
    let named = |at: usize| Order { name: reserve(at).about().0.clone(), ..order() };
    let reserves = |handoff: &mut Handoff| {
        let outputs = std::iter::from_fn(|| handoff.poll_output());
        outputs.filter(|output| matches!(output, Output::Send(_, Message::Reserve { .. }))).count()
    };
    (0..MOVES_OUT_MAX + 2).for_each(|at| handoff.handle_order(named(at), now));
    assert_eq!(reserves(&mut handoff), MOVES_OUT_MAX);
    let refused = Message::Refused { name: named(0).name, attempt: order().attempt, why: Hindrance::Busy };
    handoff.handle_message(node(2), refused, now);
    assert_eq!(reserves(&mut handoff), 1, "the next one begins at once");
}

#[test]
fn an_owner_that_orders_what_waits_for_its_decision_is_asked_at_once() {
    let now = Time::from_micros(0);
    let mut source = Handoff::new(IMAGE_CHUNK, Mutants::default());
    let Order { name, attempt, .. } = order();
    let asked = |source: &mut Handoff| {
        let outputs = std::iter::from_fn(|| source.poll_output());
        outputs.filter(|output| matches!(output, Output::Ask { plea: Plea::Commit, .. })).count()
    };
    source.handle_order(order(), now);
    source.handle_message(node(2), Message::Reserved { name: name.clone(), attempt }, now);
    source.handle_captured(&name, attempt, Ok(Bytes::from(vec![7; 10])), now);
    source.handle_order(order(), now);
    assert_eq!(asked(&mut source), 0, "nothing is to be decided yet");
    source.handle_message(node(2), Message::Installed { name, attempt }, now);
    assert_eq!(asked(&mut source), 1);
    source.handle_order(order(), now);
    assert_eq!(asked(&mut source), 1);
}
