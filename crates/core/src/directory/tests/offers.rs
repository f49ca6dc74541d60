//! Two lives of one name that meet: which of them stays.

use super::*;

fn at(token: u64) -> Record {
    Record { token: Token::from_u64(token), born: Token::from_u64(token), ..record(3, &Bytes::default()) }
}

/// A directory that has this record, and is offered that life by another node; whether it found a conflict.
fn met(known: Record, offered: Record) -> (Directory, bool) {
    let mut directory = alone();
    let slot = directory.slot_of(&known.name);
    directory.write(slot, Change::Put(known.into()), Vec::new(), Time::ZERO);
    let offered = Record { host: OTHER, ..offered };
    directory.on_offer(OTHER, offered, true, Time::ZERO);
    let outputs: Vec<Output> = std::iter::from_fn(|| directory.poll_output()).collect();
    let conflict = |output: &Output| matches!(output, Output::Event(DirectoryEvent::Conflict { .. }));
    let found = outputs.iter().any(conflict);
    (directory, found)
}

fn host_after(known: Record, offered: Record) -> (Incarnation, bool) {
    let name = known.name.clone();
    let (directory, conflict) = met(known, offered);
    (directory.record(&name).unwrap().host, conflict)
}

fn gate(gate: u64, record: Record) -> Record {
    Record { gate: Token::from_u64(gate), ..record }
}

#[test]
fn the_older_of_two_lives_stays() {
    assert_eq!(host_after(gate(1, at(5)), gate(2, at(9))), (ME, true));
    assert_eq!(host_after(gate(1, at(9)), gate(2, at(5))), (OTHER, true));
}

#[test]
fn a_life_that_has_run_stays_before_one_that_is_still_in_init() {
    let begins = |record| Record { state: RecordState::Starting, has_run: false, ..record };
    assert_eq!(host_after(begins(gate(1, at(5))), gate(2, at(9))), (OTHER, true));
    assert_eq!(host_after(gate(1, at(9)), begins(gate(2, at(5)))), (ME, true));
}

#[test]
fn of_two_stations_of_one_way_the_later_goes_on_and_two_ways_are_a_conflict() {
    let moved = |token: u64, before: u64| {
        let mut record = at(before);
        record.set_token(Token::from_u64(token));
        record
    };
    assert_eq!(host_after(moved(9, 5), at(5)), (ME, false), "it has moved on to here");
    assert_eq!(host_after(at(5), moved(9, 5)), (OTHER, false), "it has moved on to there");
    // The life 5 went on where it was, and as 9 at another node, which was never told of it.
    let (directory, conflict) = met(moved(8, 5), moved(9, 5));
    assert!(conflict);
    assert_eq!(directory.record(&at(5).name).unwrap().host, ME);
}
