#![allow(clippy::unwrap_used)]
use super::*;
use crate::delivery::tests::{Note, STOPPED, incarnation, note, token, view};

fn inbox(limit: usize) -> Inbox<Note> {
    Inbox::new(token(5), MailboxLimits::of_messages(limit), Mutants::default())
}

fn packet(epoch: u64, seq: u64) -> Packet<Note> {
    Packet { gate: token(5), epoch, seq, message: note(epoch * 100 + seq) }
}

fn ids(inbox: &mut Inbox<Note>) -> Vec<u64> {
    std::iter::from_fn(|| inbox.pop(|| Time::ZERO)).map(|note| note.id).collect()
}

/// Gives packets of one epoch from node 2 and returns what became of them, and the signals.
fn give(inbox: &mut Inbox<Note>, seqs: &[u64]) -> (Vec<Admission>, Vec<Signal>) {
    let mut signals = Vec::new();
    let admit =
        |seq: &u64| inbox.on_packet(incarnation(2), packet(1, *seq), Time::ZERO, Room::Some, &mut signals);
    let admissions = seqs.iter().map(admit).collect();
    (admissions, signals.into_iter().map(|(_, signal)| signal).collect())
}

#[test]
fn messages_to_oneself_are_handled_first_and_in_order() {
    let mut inbox = inbox(8);
    inbox.push_local(note(1)).unwrap();
    inbox.push_front(note(2)).unwrap();
    inbox.push_front(note(3)).unwrap();
    assert_eq!(ids(&mut inbox), [2, 3, 1]);
}

#[test]
fn what_a_process_asked_for_finds_room_in_a_full_mailbox_and_keeps_its_place() {
    let mut inbox = inbox(1);
    inbox.push_local(note(1)).unwrap();
    assert_eq!(inbox.push_local(note(2)).unwrap_err().code, ErrorCode::Overloaded);
    inbox.tell(note(3)).unwrap();
    inbox.tell(note(4)).unwrap();
    inbox.seal();
    assert_eq!(inbox.tell(note(5)).unwrap_err().code, ErrorCode::Moving);
    inbox.unseal(&mut Vec::new());
    assert_eq!(ids(&mut inbox), [1, 3, 4]);
    inbox.close(STOPPED, &mut Vec::new());
    assert_eq!(inbox.tell(note(6)).unwrap_err().code, STOPPED);
}

#[test]
fn packets_out_of_order_are_handled_in_order() {
    let mut inbox = inbox(8);
    let (admissions, signals) = give(&mut inbox, &[2, 3, 1, 2]);
    assert_eq!(admissions, [Admission::Held, Admission::Held, Admission::Admitted, Admission::Duplicate]);
    let confirmed: Vec<_> = [1, 2, 3, 2].map(|seq| Signal::Confirm { epoch: 1, seq }).into();
    assert_eq!(signals, confirmed);
    assert_eq!(ids(&mut inbox), [101, 102, 103]);
}

#[test]
fn a_gap_is_asked_about_after_its_patience() {
    let mut inbox = inbox(8);
    give(&mut inbox, &[1, 3]);
    let at = inbox.next_deadline().unwrap();
    let mut signals = Vec::new();
    inbox.poll(at, &mut signals);
    assert_eq!(signals, [(incarnation(2), Signal::Missing { epoch: 1, seq: 2 })]);
}

#[test]
fn a_full_mailbox_uses_up_the_number_and_tells_when_there_is_room() {
    let mut inbox = inbox(2);
    let (admissions, signals) = give(&mut inbox, &[1, 2, 3, 3, 2]);
    let full = Admission::Refused(ErrorCode::Overloaded);
    use Admission::{Admitted, Duplicate};
    assert_eq!(admissions, [Admitted, Admitted, full, Duplicate, Duplicate]);
    let refused = Signal::Refused { epoch: 1, seq: 3, code: ErrorCode::Overloaded };
    assert_eq!(signals[2..], [refused, refused, Signal::Admitted { epoch: 1, seq: 2 }]);
    let mut signals = Vec::new();
    assert!(!inbox.owes_room() && inbox.pop(|| Time::ZERO).is_some() && inbox.owes_room());
    inbox.tell_room(&mut signals);
    assert_eq!(signals, [(incarnation(2), Signal::Room { epoch: 1 })]);
    let (admissions, signals) = give(&mut inbox, &[4]);
    assert_eq!(admissions, [Admitted]);
    assert_eq!(signals, [Signal::Admitted { epoch: 1, seq: 4 }], "it does not cover the refused one");
}

#[test]
fn a_restart_in_place_keeps_gate_table_and_mailbox() {
    let mut inbox = inbox(8);
    give(&mut inbox, &[1, 2]);
    inbox.suspend();
    assert_eq!(inbox.pop(|| Time::ZERO), None);
    assert_eq!(give(&mut inbox, &[3]).0, [Admission::Admitted], "between two lives it admits on");
    inbox.restart(token(6));
    assert_eq!((inbox.token(), inbox.gate()), (token(6), token(5)));
    assert_eq!(give(&mut inbox, &[3]).0, [Admission::Duplicate]);
    assert_eq!(ids(&mut inbox), [101, 102, 103]);
}

#[test]
fn a_closed_inbox_gives_back_what_waits_and_refuses_what_comes() {
    let mut inbox = inbox(1);
    give(&mut inbox, &[1, 2]);
    let mut signals = Vec::new();
    assert_eq!(inbox.close(STOPPED, &mut signals), [(note(101), Executed::No)]);
    assert_eq!(signals, [(incarnation(2), Signal::Room { epoch: 1 })], "nobody waits for room in it");
    assert_eq!(give(&mut inbox, &[3]).0, [Admission::Refused(STOPPED)]);
    assert_eq!(inbox.push_local(note(9)).unwrap_err().code, STOPPED);
    assert_eq!(inbox.push_front(note(9)).unwrap_err().code, STOPPED);
}

#[test]
fn a_sealed_inbox_answers_nothing_until_its_fate_is_known() {
    for called_off in [true, false] {
        let mut inbox = inbox(8);
        give(&mut inbox, &[1]);
        inbox.seal();
        let (admissions, signals) = give(&mut inbox, &[3, 2, 2]);
        assert_eq!((admissions, signals), (vec![Admission::TurnedAway; 3], vec![]));
        let mut signals = Vec::new();
        match called_off {
            true => inbox.unseal(&mut signals),
            false => inbox.leave(&mut signals),
        }
        let copies = [3, 2, 2].map(|seq| (incarnation(2), Signal::NotHere { epoch: 1, seq }));
        assert_eq!(signals, copies);
    }
}

#[test]
fn held_packets_of_a_process_that_leaves_are_said_to_be_not_admitted() {
    let mut inbox = inbox(8);
    give(&mut inbox, &[1, 3]);
    let mut signals = Vec::new();
    inbox.leave(&mut signals);
    assert_eq!(signals, [(incarnation(2), Signal::NotHere { epoch: 1, seq: 3 })]);
    assert_eq!(inbox.next_deadline(), None);
}

#[test]
fn what_an_excluded_sender_left_held_is_dropped() {
    let mut inbox = inbox(8);
    inbox.forget_except(&view(1, &[1, 2]));
    give(&mut inbox, &[2]);
    inbox.forget_except(&view(2, &[1, 2]));
    assert!(inbox.next_deadline().is_some());
    inbox.forget_except(&view(3, &[1]));
    assert_eq!(inbox.next_deadline(), None);
}

#[cfg(feature = "mutants")]
#[test]
fn planted_bugs_show() {
    let planted = |mutant| Inbox::new(token(5), MailboxLimits::of_messages(8), Mutants::planted(mutant));
    let mut doubled = planted(Mutant::ResendNotDeduplicated);
    give(&mut doubled, &[1, 1]);
    assert_eq!(ids(&mut doubled), [101, 101]);
    let mut skipping = planted(Mutant::GapIgnored);
    give(&mut skipping, &[2, 1]);
    assert_eq!(ids(&mut skipping), [102]);
    let mut dropped = planted(Mutant::MailboxDroppedAtRestart);
    give(&mut dropped, &[1]);
    dropped.restart(token(6));
    assert_eq!(ids(&mut dropped), []);
}

#[test]
fn a_node_without_room_refuses_as_if_the_mailbox_were_full() {
    let mut inbox = inbox(8);
    let mut signals = Vec::new();
    let mut give =
        |seq, room| inbox.on_packet(incarnation(2), packet(1, seq), Time::ZERO, room, &mut signals);
    assert_eq!(give(1, Room::Some), Admission::Admitted);
    assert_eq!(give(2, Room::None), Admission::Refused(ErrorCode::Overloaded));
    assert_eq!(give(4, Room::None), Admission::Dropped, "nothing is held beyond the limit either");
    assert_eq!(give(3, Room::Some), Admission::Admitted);
    signals.clear();
    inbox.pop(|| Time::ZERO);
    inbox.tell_room(&mut signals);
    assert_eq!(
        signals,
        [(incarnation(2), Signal::Room { epoch: 1 })],
        "the sender is told when there is room"
    );
    inbox.close(ErrorCode::Stopped, &mut signals);
    let ended = inbox.on_packet(incarnation(2), packet(1, 4), Time::ZERO, Room::None, &mut signals);
    assert_eq!(
        ended,
        Admission::Refused(ErrorCode::Stopped),
        "the process has ended: that is the better answer"
    );
}

#[test]
fn what_a_sealed_inbox_has_lent_comes_back_before_all_others() {
    let mut inbox = inbox(2);
    inbox.push_local(note(1)).unwrap();
    inbox.push_local(note(2)).unwrap();
    inbox.seal();
    let lent = inbox.lend();
    assert!(inbox.is_empty() && lent.len() == 2);
    // The move is called off meanwhile.
    inbox.unseal(&mut Vec::new());
    inbox.push_local(note(3)).unwrap();
    inbox.give_back(lent).unwrap();
    assert_eq!(inbox.unread().map(|note| note.id).collect::<Vec<_>>(), [1, 2, 3]);
    assert!(!inbox.has_room(), "it counts as before");
    assert_eq!(ids(&mut inbox), [1, 2, 3]);
    inbox.push_local(note(4)).unwrap();
    inbox.seal();
    let lent = inbox.lend();
    assert!(inbox.close(STOPPED, &mut Vec::new()).is_empty());
    assert_eq!(inbox.give_back(lent), Err((VecDeque::from([note(4)]), STOPPED)), "nobody will read them");
}
