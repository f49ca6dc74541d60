//! Every decoder, over bytes of any sort: none panics, and what one makes of them is what its encoder writes.
//!
//! The cases are the same in every run; the fuzz targets (`fuzz/`) look for others.

#![allow(clippy::unwrap_used)]

use std::cell::Cell;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use super::Names;
use super::control::{Body, Control, Turn};
use super::frame::{self, FrameKind, MessageFrame, Outcome, Reply};
use super::hello::{CHALLENGE_BYTES, Claim, Greeting, Hello, Mode, PROOF_BYTES, Proof, Refusal, Welcome};
use super::message::{Message, MessageHead};
use super::publish::{Publish, Target};
use crate::base::limits::{FRAME_BYTES_MAX, TURN_MESSAGES_MAX};
use crate::base::{
    Bytes, ErrorCode, Executed, ExitReason, Group, Incarnation, Metadata, Name, RequestId, ShortBytes,
    SlotId, Token,
};
use crate::delivery::{Errand, Signal};
use crate::directory::{self, Answer, Ask, Change, Filter, Mark, Placement, Record, RecordState, SlotWrite};
use crate::groups;
use crate::membership;
use crate::view::{MemberInfo, View, ViewId};

const CASES: u32 = 100_000;

/// All kinds of frame with a body.
const KINDS: [FrameKind; 9] = [
    FrameKind::Hello,
    FrameKind::Proof,
    FrameKind::Welcome,
    FrameKind::Refusal,
    FrameKind::Control,
    FrameKind::Message,
    FrameKind::Publish,
    FrameKind::Signal,
    FrameKind::Reply,
];

fn runner() -> TestRunner {
    let config = Config { cases: CASES, failure_persistence: None, ..Config::default() };
    TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::XorShift))
}

/// What is left of a body after it was read and written again; none if it can not be read.
fn written_again(kind: FrameKind, body: &[u8]) -> Option<Vec<u8>> {
    match kind {
        FrameKind::Control => Some(Control::from_bytes(body).ok()?.to_bytes()),
        FrameKind::Message | FrameKind::Publish | FrameKind::Signal | FrameKind::Reply => Some(
            MessageFrame::from_body(kind, body, &mut Names::default()).ok()?.to_body().as_slice().to_vec(),
        ),
        FrameKind::Ack => Some(frame::read_ack(body).ok()?.to_be_bytes().to_vec()),
        FrameKind::Hello | FrameKind::Proof | FrameKind::Welcome | FrameKind::Refusal => {
            let mut framed = Vec::new();
            Greeting::from_body(kind, body).ok()?.put(&mut framed);
            Some(frame::split(&framed, FRAME_BYTES_MAX).ok()??.body.to_vec())
        }
    }
}

/// Reads a body as this kind; what can be read is small, whole, and stays what it is. Counts what can be read.
fn read(kind: FrameKind, body: &[u8], could_be: &Cell<u32>) -> Result<(), TestCaseError> {
    let Some(again) = written_again(kind, body) else { return Ok(()) };
    could_be.set(could_be.get() + 1);
    // Nothing is made of a few bytes that is not in them: a missing field is at most a byte more.
    prop_assert!(again.len() <= 4 * body.len() + 64, "{kind:?} {} from {}", again.len(), body.len());
    prop_assert_eq!(written_again(kind, &again), Some(again.clone()), "{:?}", kind);
    // A byte more is no part of it.
    let mut longer = again;
    longer.push(0);
    prop_assert!(written_again(kind, &longer).is_none(), "{kind:?} with a byte more");
    Ok(())
}

fn life(nonce: u64) -> Incarnation {
    Incarnation { started_ms: 1_700_000_000_000, nonce }
}

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn member() -> MemberInfo {
    let (address, kinds) = ("127.0.0.1:4100".into(), vec![name("basket"), name("cleaner")]);
    MemberInfo {
        name: name("a"),
        incarnation: life(3),
        address,
        weight: 100,
        kinds,
        draining: false,
        labels: crate::view::Labels::new(),
    }
}

fn greetings() -> Vec<Greeting> {
    let hello = Hello {
        version_min: 1,
        version: 1,
        features: 0,
        incarnation: life(1),
        challenge: [5; CHALLENGE_BYTES],
    };
    let claim = Claim { session: u64::MAX, lost: 1 };
    let welcome = Welcome { mode: Mode::Available, slots: 4096, replicas: 2, member: member(), received: 9 };
    vec![
        Greeting::Hello(hello),
        Greeting::Proof(Proof { mac: [7; PROOF_BYTES], claim }),
        Greeting::Welcome(Box::new(welcome)),
        Greeting::Refusal(Refusal::NotAdmitted),
    ]
}

fn frames() -> Vec<MessageFrame> {
    let message = Message {
        name: name("basket:42"),
        kind: name("basket"),
        message: name("add"),
        head: MessageHead {
            gate: Token::from_u64(u64::MAX),
            epoch: 7,
            seq: 300,
            call: Some(1 << 40),
            remaining_ms: Some(5_000),
            sender: Token::from_u64(1 << 60),
            view: 1_000_000_000,
            codec: 1,
            errand: Errand::Deliver,
        },
        payload: vec![0x81, 0xa1, 0x6e, 0x01].into(),
    };
    let failed = Outcome::Failed {
        code: ErrorCode::Codec,
        executed: Executed::No,
        detail: Some("why".into()),
        reason: Some(ExitReason::Panic("boom".into())),
    };
    let mut cast = message.clone();
    cast.head.call = None;
    let target = Target { name: name("basket:7"), gate: Token::from_u64(9), epoch: 4, seq: 1 << 40 };
    vec![
        MessageFrame::Message(message),
        MessageFrame::Publish(Publish { first: cast, others: vec![target.clone(), target] }),
        MessageFrame::Signal(Signal::Refused { epoch: 3, seq: 70_000, code: ErrorCode::Overloaded }),
        MessageFrame::Signal(Signal::Moving { epoch: 3, seq: 70_000 }),
        MessageFrame::Reply(Reply { call: 9, outcome: failed }),
        MessageFrame::Reply(Reply {
            call: 9,
            outcome: Outcome::Done { codec: 1, payload: ShortBytes::default() },
        }),
        MessageFrame::Reply(Reply { call: 9, outcome: Outcome::Moved { to: life(3) } }),
    ]
}

fn record() -> Record {
    let request = RequestId { caller: life(3), number: 4 };
    Record {
        args: Bytes::from(vec![1, 2, 3]),
        gate: Token::from_u64(9),
        state: RecordState::Running,
        restart_ages_ms: vec![1, 70_000].into(),
        back_off_ms: 5,
        requests_before: vec![RequestId { caller: life(3), number: 2 }].into(),
        has_run: true,
        age_ms: 7,
        node_deaths_ms: vec![3].into(),
        placement: Placement::labels([("zone", "eu-1"), ("disk", "ssd")]).unwrap(),
        ..Record::first(name("basket:42"), name("basket"), life(2), Token::from_u64(1 << 60), request)
    }
}

fn controls() -> Vec<Control> {
    let id = ViewId { counter: 1_000_000_000, author: u64::MAX };
    let view = View { id, parent: Some(ViewId { counter: 9, author: 1 }), members: vec![member(), member()] };
    let request = RequestId { caller: life(3), number: 4 };
    let changes = [Change::Put(record().into()), Change::Runs(name("basket:42"), Token::from_u64(u64::MAX))];
    let writes = (1..).zip(changes).map(|(seq, change)| SlotWrite { slot: SlotId(7), seq, change }).collect();
    let (group, meta) = (Group::new("rooms", "lobby").unwrap(), Metadata::new().with("as", "guest").unwrap());
    let (kind, guest) = (name("basket"), name("basket:42"));
    let entry = Some(groups::Entry { kind: kind.clone(), meta: meta.clone() });
    let row = groups::Row { group: group.clone(), name: guest.clone(), entry };
    let version = Some(groups::GroupVersion { view: id, changes: u64::MAX });
    let question = groups::Question::Members { group, known: version };
    let member_of_group = groups::GroupMember { name: guest, kind, meta };
    let bodies = [
        Body::Membership(membership::Message::Probe(vec![1, 2, 3])),
        Body::Membership(membership::Message::Join { member: member(), counter_floor: u64::MAX }),
        Body::Membership(membership::Message::Chain {
            connected: true,
            views: vec![view.clone(), view],
            more: false,
        }),
        Body::Directory(directory::Message::Open(vec![(SlotId(7), Mark { opened: Some(id), seq: 1 })])),
        Body::Directory(directory::Message::Hosted {
            slots: vec![SlotId(4095)],
            records: vec![record(), record()],
            last: true,
        }),
        Body::Directory(directory::Message::Request { request, name: name("basket:42"), ask: Ask::Stop }),
        Body::Directory(directory::Message::Answer {
            request,
            name: name("basket:42"),
            answer: Answer::Started { located: record().located(), copies: 2 },
        }),
        Body::Directory(directory::Message::ListAsk { number: 1, filter: Filter::default() }),
        Body::Turn(Turn::new(vec![
            directory::Message::Request { request, name: name("basket:42"), ask: Ask::Locate },
            directory::Message::Write(writes),
            directory::Message::Grant(record().into()),
            directory::Message::Written(vec![(SlotId(7), u64::MAX)]),
        ])),
        Body::Groups(groups::Message::Enrol { number: u64::MAX, rows: vec![row; 3], whole: true }),
        Body::Groups(groups::Message::Ask { number: 7, question, after: Some(name("basket:42")) }),
        Body::Groups(groups::Message::Page {
            number: 7,
            after: None,
            rows: groups::Rows::Members(vec![member_of_group; 3]),
            version,
            more: true,
            complete: false,
        }),
    ];
    bodies.into_iter().map(|body| Control { view: Some(id), body }).collect()
}

/// Valid bodies of every kind.
fn samples() -> Vec<(FrameKind, Vec<u8>)> {
    let mut samples = Vec::new();
    for greeting in greetings() {
        let mut framed = Vec::new();
        greeting.put(&mut framed);
        let raw = frame::split(&framed, FRAME_BYTES_MAX).unwrap().unwrap();
        samples.push((raw.kind, raw.body.to_vec()));
    }
    samples.extend(frames().iter().map(|frame| (frame.kind(), frame.to_body().as_slice().to_vec())));
    samples.extend(controls().iter().map(|control| (FrameKind::Control, control.to_bytes())));
    samples
}

#[test]
fn every_sample_is_read_and_cut_anywhere_it_is_not() {
    for (kind, body) in samples() {
        assert_eq!(written_again(kind, &body).as_ref(), Some(&body), "{kind:?}");
        for cut in 0..body.len() {
            assert_eq!(written_again(kind, &body[..cut]), None, "{kind:?} cut at {cut}");
        }
    }
}

#[test]
fn a_turn_has_so_many_messages_and_none_within_another() {
    let turn = |messages: usize| {
        // The view, none; a turn of as many good-byes of a copy: `Settled` of no slots.
        let mut bytes = vec![0x82, 0xf6, 0x82, 0x02, 0x81, 0x9a];
        bytes.extend(u32::try_from(messages).unwrap().to_be_bytes());
        bytes.extend([0x82, 0x07, 0x81, 0x80].repeat(messages));
        bytes
    };
    for (messages, is_read) in
        [(0, true), (1, true), (TURN_MESSAGES_MAX, true), (TURN_MESSAGES_MAX + 1, false)]
    {
        assert_eq!(Control::from_bytes(&turn(messages)).is_ok(), is_read, "{messages}");
    }
    // A length without its messages, and turns in turns: neither takes memory or stack.
    let claims = [&turn(0)[..6], &[0xff; 4]].concat();
    let nested = [&[0x82, 0xf6][..], &[0x82, 0x02, 0x81, 0x81].repeat(200_000)].concat();
    for bytes in [claims, nested] {
        assert!(Control::from_bytes(&bytes).is_err());
    }
}

#[test]
fn bytes_of_any_sort_are_frames_or_none() {
    let bytes = prop::collection::vec(any::<u32>(), 0..24);
    let (cases, could_be) = (Cell::new(0), Cell::new(0));
    let outcome = runner().run(&(bytes, 0..64usize, 0..KINDS.len()), |(words, cut, kind)| {
        cases.set(cases.get() + 1);
        let mut bytes: Vec<u8> = words.into_iter().flat_map(u32::to_be_bytes).collect();
        bytes.truncate(bytes.len().saturating_sub(cut % 4));
        read(KINDS[kind], &bytes, &could_be)?;
        // As a length that is believable, so that it is not refused by that alone.
        let mut framed = (cut as u32).to_be_bytes().to_vec();
        framed.extend(&bytes);
        for limit in [16, FRAME_BYTES_MAX] {
            if let Ok(Some(raw)) = frame::split(&framed, limit) {
                prop_assert!(raw.taken <= framed.len() && raw.taken <= 4 + limit);
                prop_assert!(raw.body.len() < raw.taken);
                read(raw.kind, raw.body, &could_be)?;
            }
        }
        let _ = frame::split(&bytes, FRAME_BYTES_MAX);
        let _ = frame::read_ack(&bytes);
        Ok(())
    });
    outcome.unwrap();
    assert_eq!(cases.get(), CASES);
}

#[test]
fn a_valid_body_that_was_changed_is_read_as_something_else_or_not_at_all() {
    let samples = samples();
    let change = (any::<prop::sample::Index>(), any::<u8>(), 0..4u8);
    let changes = prop::collection::vec(change, 1..5);
    let (cases, could_be) = (Cell::new(0), Cell::new(0));
    let outcome = runner().run(&(0..samples.len(), 0..KINDS.len(), changes), |(sample, other, changes)| {
        cases.set(cases.get() + 1);
        let (kind, mut bytes) = samples[sample].clone();
        for (at, byte, how) in changes {
            let at = at.index(bytes.len() + 1);
            match how {
                0 => bytes.insert(at, byte),
                1 if at < bytes.len() => drop(bytes.remove(at)),
                2 => bytes.truncate(at),
                _ if at < bytes.len() => bytes[at] = byte,
                _ => bytes.push(byte),
            }
        }
        read(kind, &bytes, &could_be)?;
        read(KINDS[other], &bytes, &could_be)
    });
    outcome.unwrap();
    // Not all of it is refused at once: a good part gets through the decoder.
    assert!(cases.get() == CASES && could_be.get() > CASES / 20, "{} of {}", could_be.get(), cases.get());
}

#[test]
fn a_million_levels_are_an_error_in_every_body() {
    for byte in [0x81, 0x9f, 0xbf, 0xa1, 0xc1, 0xd8, 0x5f, 0x7f] {
        for kind in KINDS {
            assert!(written_again(kind, &vec![byte; 1_000_000]).is_none(), "{kind:?} {byte:#x}");
        }
    }
}
