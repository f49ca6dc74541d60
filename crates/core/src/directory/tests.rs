//! Tables of the directory at their limits.
#![allow(clippy::unwrap_used)]

use super::copy::Copy;
use super::host::Host;
use super::names::Answered;
use super::offers::LOSERS_PER_HOST_MAX;
use super::record::{StartOutcome, gate_of};
use super::reports::STOPS_MAX;
use super::slots::Phase;
use super::*;
use crate::base::Bytes;
use crate::base::limits::{
    ANSWERS_MAX, ARGS_BYTES_MAX, Limits, ORPHANS_MAX, TOMBSTONES_MAX, WAITERS_BYTES_MAX,
};
use crate::view::MemberInfo;

mod offers;
mod restarts;
mod streams;

const ME: Incarnation = Incarnation { started_ms: 1, nonce: 1 };
const OTHER: Incarnation = Incarnation { started_ms: 2, nonce: 2 };

fn name(number: usize) -> Name {
    Name::new(&format!("name {number}")).unwrap()
}

fn record(number: usize, args: &Bytes) -> Record {
    let request = RequestId { caller: ME, number: 1 };
    Record {
        args: args.clone(),
        gate: Token::from_u64(1),
        state: RecordState::Running,
        has_run: true,
        ..Record::first(name(number), name(0), ME, Token::from_u64(number as u64 + 1), request)
    }
}

fn directory(capacity: BTreeMap<Kind, usize>) -> Directory {
    let settings = Settings {
        limits: Limits::default(),
        capacity,
        slots: 16,
        replicas: 2,
        detection: Duration::from_secs(2),
        restart: RestartIntensity::default(),
        rebalance: Rebalance::default(),
        policies: Policies::default(),
        mutants: Mutants::default(),
    };
    Directory::new(ME, settings, Rng::new(1))
}

/// A directory in a view of its own node alone, in which it owns every slot.
fn alone() -> Directory {
    alone_with(BTreeMap::new())
}

fn alone_with(capacity: BTreeMap<Kind, usize>) -> Directory {
    let mut directory = directory(capacity);
    let member = MemberInfo {
        labels: Default::default(),
        name: name(0),
        incarnation: ME,
        address: Arc::from("a:1"),
        weight: 100,
        kinds: vec![name(0)],
        draining: false,
    };
    let id = ViewId { counter: 1, author: ME.nonce };
    let view = Arc::new(View { id, parent: None, members: vec![member] });
    directory.handle_view(&Chain::new(view), Time::ZERO);
    assert_eq!(directory.slots_owned(), (16, 0));
    directory
}

#[test]
fn retries_of_the_first_stops_of_a_life_are_recognised() {
    let mut directory = alone();
    let (first, args) = (record(1, &Bytes::default()), Bytes::default());
    let slot = directory.slot_of(&first.name);
    directory.write(slot, Change::Put(record(1, &args).into()), Vec::new(), Time::ZERO);
    let stop = |number| RequestId { caller: OTHER, number };
    let answers = |directory: &mut Directory, numbers: std::ops::Range<u64>| {
        for number in numbers {
            directory.on_request(stop(number), first.name.clone(), Ask::Stop, Time::ZERO);
        }
        let outputs = std::iter::from_fn(|| directory.poll_output());
        let answers = outputs.filter_map(|output| match output {
            Output::Send(OTHER, Message::Answer { answer, .. }) => Some(answer),
            _ => None,
        });
        answers.collect::<Vec<_>>()
    };
    let stops = STOPS_MAX as u64 + 2;
    assert_eq!(answers(&mut directory, 0..stops), [], "they wait until it has ended");
    let ended = News::Exited(ExitReason::Shutdown);
    directory.on_report(ME, first.name.clone(), first.token, ended, None, Time::ZERO);
    assert_eq!(answers(&mut directory, 0..0), vec![Answer::Done; STOPS_MAX + 2]);
    // The owner of later knows no more than the tombstone.
    directory.answered = Answered::default();
    assert_eq!(answers(&mut directory, 0..STOPS_MAX as u64), vec![Answer::Done; STOPS_MAX]);
    assert_eq!(answers(&mut directory, STOPS_MAX as u64..stops), [Answer::NotFound, Answer::NotFound]);
}

#[test]
fn a_retry_of_a_stop_is_recognised_when_the_next_start_has_failed() {
    let mut directory = alone();
    let args = Bytes::default();
    let stop = RequestId { caller: OTHER, number: 7 };
    let fresh = Record { has_run: false, state: RecordState::Starting, ..record(1, &args) };
    let fresh = Record { requests_before: vec![stop].into(), ..fresh };
    let slot = directory.slot_of(&fresh.name);
    directory.write(slot, Change::Put(fresh.clone().into()), Vec::new(), Time::ZERO);
    directory.remove(slot, &fresh, &ExitReason::Error("no".into()), Vec::new(), Time::ZERO);
    directory.on_request(stop, fresh.name.clone(), Ask::Stop, Time::ZERO);
    let outputs = std::iter::from_fn(|| directory.poll_output());
    let is_done =
        |output: Output| matches!(output, Output::Send(OTHER, Message::Answer { answer: Answer::Done, .. }));
    assert_eq!(outputs.map(is_done).filter(|done| *done).count(), 1);
}

#[test]
fn old_tombstones_are_summed_up_in_the_watermark() {
    let mut copy = Copy::default();
    for number in 0..=TOMBSTONES_MAX {
        let token = Token::from_u64(number as u64 + 1);
        let started_by = RequestId { caller: ME, number: 1 };
        let outcome = StartOutcome::Failed(ExitReason::Killed);
        let tombstone = Tombstone { token, stopped_by: Vec::new(), started_by, outcome };
        copy.apply(Change::Remove(name(number), tombstone), TOMBSTONES_MAX, Time::ZERO);
    }
    assert!(copy.tombstone(&name(0)).is_none() && copy.tombstone(&name(1)).is_some());
    assert_eq!(copy.last_token(&name(TOMBSTONES_MAX + 1)), Token::from_u64(1), "what is left of the first");
}

#[test]
fn so_many_requests_wait_at_an_owner_and_no_more_bytes_of_arguments() {
    // Nobody has answered for the slots yet, so every request waits.
    let waiting = |limits: Limits, args: usize, requests: usize| {
        let mut directory = alone();
        directory.settings.limits = limits;
        directory.owned.values_mut().for_each(|owned| owned.phase = Phase::Load { from: ME });
        let ask = Ask::Start {
            kind: name(0),
            args: Bytes::from(vec![0; args]),
            policy: RestartPolicy::Permanent,
            placement: Placement::Hash,
        };
        let mut refused = 0;
        for number in 0..requests {
            let request = RequestId { caller: OTHER, number: number as u64 };
            directory.on_request(request, name(number), ask.clone(), Time::ZERO);
            let outputs = std::iter::from_fn(|| directory.poll_output());
            refused += outputs
                .filter(|output| {
                    matches!(output, Output::Send(OTHER, Message::Answer { answer: Answer::Overloaded, .. }))
                })
                .count();
        }
        assert!(directory.copies.values().all(|copy| copy.entries.is_empty()), "nothing is written");
        assert_eq!(directory.waiting.len(), requests - refused);
        // Whoever is forgotten makes room.
        let forgotten: Vec<_> = (0..requests as u64)
            .map(|number| (name(number as usize), RequestId { caller: OTHER, number }))
            .collect();
        directory.on_forget(&forgotten);
        assert_eq!((directory.waiting.len(), directory.waiting.bytes()), (0, 0));
        refused
    };
    let few = Limits { waiters: 40, ..Limits::default() };
    assert_eq!(waiting(few, 0, 50), 10);
    assert_eq!(waiting(Limits::default(), ARGS_BYTES_MAX, 1_030), 1_030 - WAITERS_BYTES_MAX / ARGS_BYTES_MAX);
}

#[test]
fn an_owner_remembers_its_last_answers() {
    let mut answered = Answered::default();
    let request = |number| RequestId { caller: ME, number };
    for number in 0..=ANSWERS_MAX as u64 {
        answered.keep(request(number), &Answer::Done);
    }
    assert!(answered.of(request(0)).is_none());
    assert_eq!(answered.of(request(1)), Some(&Answer::Done));
    // A lower number that was answered later; and of every caller that has asked once, none is left for ever.
    let other = |nonce, number| RequestId { caller: Incarnation { started_ms: 2, nonce }, number };
    answered.keep(other(1, 9), &Answer::Done);
    answered.keep(other(1, 7), &Answer::NotFound);
    assert_eq!(answered.of(other(1, 7)), Some(&Answer::NotFound));
    assert_eq!((answered.of(other(1, 8)), answered.of(other(1, 10))), (None, None));
    for nonce in 0..5 * ANSWERS_MAX as u64 {
        answered.keep(other(nonce, 3), &Answer::Done);
        assert_eq!(answered.of(other(nonce, 3)), Some(&Answer::Done));
        assert!(answered.callers() <= 2 * ANSWERS_MAX);
    }
}

#[test]
fn a_late_copy_of_a_grant_that_was_refused_begins_nothing() {
    let mut directory = alone_with(BTreeMap::from([(name(0), 1)]));
    let fresh = |number: usize| {
        let record = record(number, &Bytes::default());
        Record { gate: gate_of(record.token, ME), state: RecordState::Starting, ..record }
    };
    let launches = |directory: &mut Directory, number: usize| {
        directory.on_grant(ME, fresh(number).into(), Time::ZERO);
        let outputs = std::iter::from_fn(|| directory.poll_output());
        outputs.filter(|output| matches!(output, Output::Launch { .. })).count()
    };
    assert_eq!(launches(&mut directory, 1), 1);
    assert_eq!(launches(&mut directory, 2), 0, "there is room for one");
    // The word of it is lost with its session.
    directory.loopback.clear();
    let first = fresh(1);
    directory.handle_exited(&first.name, first.token, ExitReason::Normal, Time::ZERO);
    directory.on_discard(first.name, first.token, ErrorCode::Stopped);
    assert_eq!(launches(&mut directory, 2), 0, "its owner was told that there is no room");
    directory.on_discard(name(2), fresh(2).token, ErrorCode::Stopped);
    assert_eq!(launches(&mut directory, 3), 1);
}

#[test]
fn records_of_a_lost_line_are_kept_up_to_a_number() {
    let mut host = Host::default();
    let args = Bytes::default();
    (0..ORPHANS_MAX + 5).for_each(|number| host.keep_orphan(SlotId(0), record(number, &args), Time::ZERO));
    assert_eq!(host.orphans(), ORPHANS_MAX);
}

#[test]
fn lives_that_must_end_are_told_so_up_to_a_number_of_each_host() {
    let mut directory = alone();
    for number in 0..LOSERS_PER_HOST_MAX + 5 {
        directory.end_loser(ME, name(number), Token::from_u64(1), Time::ZERO);
    }
    assert_eq!(directory.losers.len(), LOSERS_PER_HOST_MAX);
}
