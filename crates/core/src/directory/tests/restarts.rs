//! Which ends bring a name nearer to quarantine, and for how long.

use super::*;
use crate::directory::record::gate_of;

const OTHER: Incarnation = Incarnation { started_ms: 1, nonce: 2 };

fn at(seconds: u64) -> Time {
    Time::from_micros(seconds * 1_000_000)
}

fn panicked() -> ExitReason {
    ExitReason::Panic("boom".into())
}

/// A record of a life that begins here.
fn fresh() -> Record {
    let mut record = Record { state: RecordState::Starting, has_run: false, ..record(3, &Bytes::default()) };
    record.gate = gate_of(record.token, ME);
    record
}

fn launched(directory: &mut Directory) -> Vec<(Token, Launch)> {
    let outputs = std::iter::from_fn(|| directory.poll_output());
    let launch = |output| match output {
        Output::Launch { record, launch } => Some((record.token, launch)),
        _ => None,
    };
    outputs.filter_map(launch).collect()
}

/// A directory alone that runs one process since this time.
fn running(now: Time) -> Directory {
    let mut directory = alone();
    let record = fresh();
    directory.write(directory.slot_of(&record.name), Change::Put(record.clone().into()), Vec::new(), now);
    directory.on_grant(ME, record.clone().into(), now);
    assert_eq!(launched(&mut directory).len(), 1);
    directory.handle_launched(&record.name, record.token, Ok(()), now);
    directory
}

fn now_of(directory: &Directory) -> Record {
    directory.record(&fresh().name).unwrap().clone()
}

/// The process ends, its next life begins after its back-off, and `init` takes so long. False when there is none.
fn fail(directory: &mut Directory, reason: ExitReason, now: &mut Time, init: Duration) -> bool {
    let record = now_of(directory);
    directory.handle_exited(&record.name, record.token, reason, *now);
    *now = *now + Duration::from_secs(1);
    directory.handle_wake(*now);
    let [(token, _)] = launched(directory)[..] else { return false };
    *now = *now + init;
    directory.handle_launched(&record.name, token, Ok(()), *now);
    true
}

#[test]
fn a_process_that_fails_too_often_is_quarantined_whatever_reason_it_gives() {
    let reasons = [
        ExitReason::Shutdown,
        ExitReason::NodeLost,
        ExitReason::ConflictLost,
        ExitReason::Killed,
        ExitReason::Normal,
    ];
    let mut now = at(1);
    let mut directory = running(now);
    for reason in reasons {
        assert!(fail(&mut directory, reason, &mut now, Duration::ZERO));
    }
    assert!(!fail(&mut directory, ExitReason::Shutdown, &mut now, Duration::ZERO));
    assert_eq!(now_of(&directory).state, RecordState::Quarantined);
}

#[test]
fn a_life_that_was_told_to_end_counts_for_nothing_whatever_its_last_words() {
    for reason in [ExitReason::Shutdown, ExitReason::ConflictLost, ExitReason::Killed, panicked()] {
        let mut now = at(1);
        let mut directory = running(now);
        for _ in 0..5 {
            assert!(fail(&mut directory, panicked(), &mut now, Duration::ZERO));
        }
        // The word of an owner that another one has followed since: of a stop that was never written down here.
        let last = now_of(&directory);
        directory.on_end(ME, last.name.clone(), last.token, ExitReason::Shutdown, now);
        directory.handle_exited(&last.name, last.token, reason.clone(), now);
        let [(token, Launch::Fresh)] = launched(&mut directory)[..] else {
            panic!("not anew after {reason}")
        };
        let next = now_of(&directory);
        assert!(token == next.token && next.token > last.token && next.gate != last.gate);
        assert_eq!(next.restart_ages_ms.len(), 5, "after {reason}");
        // The next failure of its own is one too many.
        directory.handle_launched(&next.name, token, Ok(()), now);
        assert!(!fail(&mut directory, panicked(), &mut now, Duration::ZERO));
        assert_eq!(now_of(&directory).state, RecordState::Quarantined);
    }
}

#[test]
fn restarts_grow_old_while_init_runs() {
    let mut now = at(1);
    let mut directory = running(now);
    for _ in 0..12 {
        assert!(
            fail(&mut directory, panicked(), &mut now, Duration::from_secs(12)),
            "five in a minute at most"
        );
    }
    let mut directory = running(now);
    let lives = (0..12).take_while(|_| fail(&mut directory, panicked(), &mut now, Duration::from_secs(8)));
    assert_eq!(lives.count(), 5, "six in a minute");
}

#[test]
fn restarts_grow_old_on_a_host_that_speaks_for_its_names() {
    let mut now = at(1);
    let mut directory = running(now);
    assert!(fail(&mut directory, panicked(), &mut now, Duration::ZERO));
    let name = fresh().name;
    let slot = directory.slot_of(&name);
    let offered = directory.host.records_of(slot, now + Duration::from_secs(90)).next().unwrap();
    assert!(offered.restart_ages_ms.iter().all(|age| *age > 88_000), "{:?}", offered.restart_ages_ms);
}

#[test]
fn a_quarantined_name_that_comes_from_another_line_stays_quarantined() {
    let mut directory = alone();
    let record = Record { state: RecordState::Quarantined, host: OTHER, ..fresh() };
    directory.on_offer(ME, record, false, at(1));
    directory.handle_wake(at(100));
    assert_eq!(now_of(&directory).state, RecordState::Quarantined);
    assert!(launched(&mut directory).is_empty());
}

#[test]
fn the_next_owner_hears_how_a_life_ended_that_another_one_has_acknowledged() {
    let mut directory = running(at(1));
    let record = now_of(&directory);
    let member = |incarnation, name| MemberInfo {
        labels: Default::default(),
        name,
        incarnation,
        address: Arc::from("a:1"),
        weight: 100,
        kinds: vec![super::name(0)],
        draining: false,
    };
    // The other node owns the slot, acknowledges the end, and is followed by itself in a later view.
    let view = |counter, parent| {
        let members = vec![member(ME, super::name(0)), member(OTHER, super::name(1))];
        Arc::new(View { id: ViewId { counter, author: ME.nonce }, parent, members })
    };
    let second = view(2, None);
    let mut chain = Chain::new(Arc::clone(&second));
    directory.handle_view(&chain, at(2));
    let slot = directory.slot_of(&record.name);
    assert!(directory.owned.get(&slot).is_none(), "the name is chosen so");
    let told = |directory: &mut Directory| {
        let outputs: Vec<Output> = std::iter::from_fn(|| directory.poll_output()).collect();
        let news = |output: &Output| match output {
            Output::Send(OTHER, Message::Report { news, .. }) => Some(news.clone()),
            _ => None,
        };
        outputs.iter().filter_map(news).collect::<Vec<_>>()
    };
    told(&mut directory);
    directory.handle_exited(&record.name, record.token, panicked(), at(3));
    assert_eq!(told(&mut directory), [News::Exited(panicked())]);
    let reported = Message::Reported { name: record.name.clone(), token: record.token, ended: true };
    directory.handle_message(OTHER, Some(second.id), reported, at(3));
    directory.handle_wake(at(4));
    assert_eq!(told(&mut directory), [], "acknowledged");
    assert!(chain.push(view(3, Some(second.id))));
    directory.handle_view(&chain, at(5));
    assert_eq!(told(&mut directory), [News::Exited(panicked())]);
}

/// A directory whose process has ended for the second time, and that life; its next one waits for its back-off.
fn ended(mut now: Time) -> (Directory, Record) {
    let mut directory = running(now);
    assert!(fail(&mut directory, panicked(), &mut now, Duration::ZERO));
    let last = now_of(&directory);
    directory.handle_exited(&last.name, last.token, panicked(), now);
    assert_eq!(now_of(&directory).state, RecordState::BackingOff);
    (directory, last)
}

#[test]
fn a_life_is_not_ended_by_what_is_said_again_of_the_one_before() {
    let (mut directory, last) = ended(at(1));
    let now = at(4);
    directory.handle_wake(now);
    let [(token, _)] = launched(&mut directory)[..] else { panic!("it does not begin again") };
    let stop = RequestId { caller: OTHER, number: 1 };
    directory.on_request(stop, last.name.clone(), Ask::Stop, now);
    directory.on_report(ME, last.name.clone(), last.token, News::Exited(panicked()), None, now);
    assert_eq!(now_of(&directory).state, RecordState::Stopping, "the life that is to end has not ended");
    directory.on_report(ME, last.name.clone(), token, News::Ended(ExitReason::Shutdown), None, now);
    assert!(directory.record(&last.name).is_none());
}

#[test]
fn a_host_says_that_a_life_is_gone_whose_grant_it_never_got() {
    let now = at(3);
    let (mut directory, last) = ended(at(1));
    let next = Token::from_u64(last.token.as_u64() + 7);
    let _ = std::iter::from_fn(|| directory.poll_output()).count();
    directory.on_end(OTHER, last.name.clone(), next, ExitReason::Shutdown, now);
    let outputs: Vec<Output> = std::iter::from_fn(|| directory.poll_output()).collect();
    let gone = |output: &Output| match output {
        Output::Send(OTHER, Message::Report { token, news: News::Gone(_), .. }) => *token == next,
        _ => false,
    };
    assert!(outputs.iter().any(gone), "{outputs:?}");
    directory.on_discard(last.name.clone(), next, ErrorCode::Stopped);
    let outputs: Vec<Output> = std::iter::from_fn(|| directory.poll_output()).collect();
    let discarded = |output: &Output| match output {
        Output::Discard { token, .. } => *token == last.token,
        _ => false,
    };
    assert!(outputs.iter().any(discarded), "what the life before left goes with it: {outputs:?}");
}
