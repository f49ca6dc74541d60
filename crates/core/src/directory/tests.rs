//! Tables of the directory at their limits.
#![allow(clippy::unwrap_used)]

use super::copy::Copy;
use super::host::Host;
use super::names::Answered;
use super::offers::LOSERS_PER_HOST_MAX;
use super::record::StartOutcome;
use super::*;
use crate::base::Bytes;
use crate::base::limits::{ANSWERS_MAX, Limits, ORPHANS_MAX, TOMBSTONES_MAX};
use crate::view::MemberInfo;

mod restarts;

const ME: Incarnation = Incarnation { started_ms: 1, nonce: 1 };

fn name(number: usize) -> Name {
    Name::new(&format!("name {number}")).unwrap()
}

fn record(number: usize, args: &Bytes) -> Record {
    let request = RequestId { caller: ME, number: 1 };
    Record {
        name: name(number),
        kind: name(0),
        args: args.clone(),
        policy: RestartPolicy::Permanent,
        placement: Placement::Hash,
        host: ME,
        token: Token::from_u64(number as u64 + 1),
        gate: Token::from_u64(1),
        request,
        state: RecordState::Running,
        restart_ages_ms: Vec::new().into(),
        back_off_ms: 0,
        stopped_before: Vec::new().into(),
        stopping_by: Vec::new().into(),
        has_run: true,
        age_ms: 0,
        node_deaths_ms: Vec::new().into(),
        suspicion: Default::default(),
    }
}

fn directory() -> Directory {
    let settings = Settings {
        limits: Limits::default(),
        slots: 16,
        replicas: 2,
        detection: Duration::from_secs(2),
        restart: RestartIntensity::default(),
        mutants: Mutants::default(),
    };
    Directory::new(ME, settings, Rng::new(1))
}

/// A directory in a view of its own node alone, in which it owns every slot.
fn alone() -> Directory {
    let mut directory = directory();
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
fn an_owner_remembers_its_last_answers() {
    let mut answered = Answered::default();
    let request = |number| RequestId { caller: ME, number };
    for number in 0..=ANSWERS_MAX as u64 {
        answered.keep(request(number), &Answer::Done);
    }
    assert!(answered.of(request(0)).is_none());
    assert_eq!(answered.of(request(1)), Some(&Answer::Done));
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
