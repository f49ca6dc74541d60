//! The models.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use loom::thread::{self, JoinHandle};
use whimbrel_core::base::ErrorCode;

use crate::entry::{Entry, Note, Planted};
use crate::park::block_on;

/// Forced switches of one schedule.
const SWITCHES_MAX: usize = 3;
/// More than any model sends.
const ROOM: usize = 8;
/// The process goes on until it is told to stop.
const UNTIL_STOPPED: usize = usize::MAX;

/// Runs a model in all schedules, and returns all that it came to.
fn outcomes<T: Ord + Send + 'static>(model: impl Fn() -> T + Send + Sync + 'static) -> BTreeSet<T> {
    let all = Arc::new(Mutex::new(BTreeSet::new()));
    let seen = all.clone();
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(SWITCHES_MAX);
    builder.check(move || {
        let outcome = model();
        seen.lock().unwrap().insert(outcome);
    });
    std::mem::take(&mut *all.lock().unwrap())
}

/// Sends notes 1 to `last` in a thread of its own; returns those that were accepted, and why the others were not.
fn sending(entry: &Arc<Entry>, sender: u64, last: u64) -> JoinHandle<(Vec<u64>, Vec<ErrorCode>)> {
    let entry = entry.clone();
    thread::spawn(move || {
        let (mut accepted, mut refused) = (Vec::new(), Vec::new());
        for number in 1..=last {
            match entry.send(Note { sender, number }) {
                Ok(()) => accepted.push(number),
                Err(code) => refused.push(code),
            }
        }
        (accepted, refused)
    })
}

/// The process, in a thread of its own.
fn serving(entry: &Arc<Entry>) -> JoinHandle<Vec<Note>> {
    let entry = entry.clone();
    thread::spawn(move || block_on(entry.handle(UNTIL_STOPPED)))
}

/// The notes of one sender, in the order in which they stand.
fn of(sender: u64, notes: &[Note]) -> Vec<u64> {
    notes.iter().filter(|note| note.sender == sender).map(|note| note.number).collect()
}

fn two_senders(planted: Planted) -> impl Fn() -> Vec<u64> + Send + Sync + 'static {
    move || {
        let entry = Entry::with_room_for(ROOM, planted);
        let senders = [1, 2].map(|sender| sending(&entry, sender, 2));
        let handled = block_on(entry.handle(4));
        for sender in senders {
            assert_eq!(sender.join().unwrap(), (vec![1, 2], Vec::new()));
        }
        for sender in [1, 2] {
            assert_eq!(of(sender, &handled), [1, 2], "each in its order, once");
        }
        handled.iter().map(|note| note.sender).collect()
    }
}

#[test]
fn every_message_wakes_its_process_and_every_sender_keeps_its_order() {
    let orders = outcomes(two_senders(Planted::No));
    assert_eq!(orders.len(), 6, "two senders of two messages: all ways to mix them");
}

#[test]
#[should_panic(expected = "deadlock")]
fn a_waker_left_after_the_look_is_found() {
    outcomes(two_senders(Planted::WakerLeftLate));
}

#[test]
#[should_panic(expected = "deadlock")]
fn a_push_that_wakes_nobody_is_found() {
    outcomes(two_senders(Planted::Silent));
}

#[test]
fn a_link_and_a_local_sender_wake_the_same_process() {
    let orders = outcomes(|| {
        let entry = Entry::with_room_for(ROOM, Planted::No);
        let local = sending(&entry, 1, 2);
        let link = {
            let entry = entry.clone();
            thread::spawn(move || (1..=2).for_each(|number| entry.receive(Note { sender: 2, number })))
        };
        let handled = block_on(entry.handle(4));
        local.join().unwrap();
        link.join().unwrap();
        assert_eq!((of(1, &handled), of(2, &handled)), (vec![1, 2], vec![1, 2]));
        handled.iter().map(|note| note.sender).collect::<Vec<_>>()
    });
    assert_eq!(orders.len(), 6);
}

/// How many of three notes were handled, ended in the mailbox, and were refused.
fn stop_races_pushes(planted: Planted) -> impl Fn() -> (usize, usize, usize) + Send + Sync + 'static {
    move || {
        let entry = Entry::with_room_for(ROOM, planted);
        let sender = sending(&entry, 1, 3);
        let stopper = {
            let entry = entry.clone();
            thread::spawn(move || entry.order_stop())
        };
        let handled = block_on(entry.handle(UNTIL_STOPPED));
        let ended = entry.input(|port, _, out| port.close(ErrorCode::Stopped, out));
        let (accepted, refused) = sender.join().unwrap();
        stopper.join().unwrap();
        assert_eq!([of(1, &handled), of(1, &ended)].concat(), accepted, "each has one end, in order");
        assert!(refused.iter().all(|code| *code == ErrorCode::Stopped));
        (handled.len(), ended.len(), refused.len())
    }
}

#[test]
fn a_stop_that_races_pushes_gives_every_message_one_end() {
    let ends = outcomes(stop_races_pushes(Planted::No));
    for end in [(3, 0, 0), (0, 3, 0), (0, 0, 3), (1, 1, 1)] {
        assert!(ends.contains(&end), "{end:?} did not happen: {ends:?}");
    }
}

#[test]
#[should_panic(expected = "deadlock")]
fn an_order_that_is_looked_for_before_the_mailbox_only_is_found() {
    outcomes(stop_races_pushes(Planted::OrderLookedForOnce));
}

#[test]
fn a_process_of_two_names_is_woken_through_either() {
    let orders = outcomes(|| {
        let names = [1, 2].map(|_| Entry::with_room_for(ROOM, Planted::No));
        let senders = [sending(&names[0], 1, 2), sending(&names[1], 2, 2)];
        let both = [&*names[0], &*names[1]];
        let mut handled = block_on(Entry::handle_both(both, 2));
        // Under another waker; the old one may have been left at the name that gave nothing.
        handled.extend(block_on(Entry::handle_both(both, 2)));
        for sender in senders {
            sender.join().unwrap();
        }
        assert_eq!((of(1, &handled), of(2, &handled)), (vec![1, 2], vec![1, 2]));
        handled.iter().map(|note| note.sender).collect::<Vec<_>>()
    });
    assert!(orders.len() > 1, "{orders:?}");
}

#[test]
fn a_restart_in_place_that_races_pushes_keeps_what_is_unread() {
    outcomes(|| {
        let entry = Entry::with_room_for(ROOM, Planted::No);
        let sender = sending(&entry, 1, 3);
        let mut handled = block_on(entry.handle(1));
        entry.crash();
        entry.restart();
        handled.extend(block_on(entry.handle(2)));
        assert_eq!(sender.join().unwrap(), (vec![1, 2, 3], Vec::new()));
        assert_eq!(of(1, &handled), [1, 2, 3]);
    });
}

/// SCENARIOS, local_push_races_capture.
#[test]
fn a_local_push_that_races_the_capture_is_captured_or_waits_for_the_new_host() {
    let ends = outcomes(|| {
        let entry = Entry::with_room_for(ROOM, Planted::No);
        let sender = sending(&entry, 1, 3);
        let process = serving(&entry);
        entry.input(|port, _, _| port.seal());
        let mut captured = Vec::new();
        entry.input(|port, here, out| {
            let messages = port.uninstall(here, out).unwrap().into_messages().into_iter();
            captured = messages.map(|(note, _)| note).collect();
        });
        entry.order_stop();
        let handled = process.join().unwrap();
        assert_eq!(sender.join().unwrap(), (vec![1, 2, 3], Vec::new()));
        let mut waiting = Vec::new();
        while waiting.len() + captured.len() + handled.len() < 3 {
            // An answer ends what came before its question; what came later has a question of its own.
            let ended = entry.input(|port, here, out| port.on_negative(here, ErrorCode::NotFound, out));
            assert!(!ended.is_empty(), "a message is nowhere");
            waiting.extend(ended);
        }
        let notes = [&handled[..], &captured, &waiting].concat();
        assert_eq!(of(1, &notes), [1, 2, 3], "each in one place, in order");
        (handled.len(), captured.len(), waiting.len())
    });
    for end in [(3, 0, 0), (0, 3, 0), (0, 0, 3), (1, 1, 1)] {
        assert!(ends.contains(&end), "{end:?} did not happen: {ends:?}");
    }
}

/// A capture that is called off while a sender sends three notes to a mailbox with so much room.
fn called_off(room: usize) -> impl Fn() + Send + Sync + 'static {
    move || {
        let entry = Entry::with_room_for(room, Planted::No);
        let sender = {
            let entry = entry.clone();
            thread::spawn(move || {
                for number in 1..=3 {
                    while entry.send(Note { sender: 1, number }) == Err(ErrorCode::Overloaded) {
                        thread::yield_now();
                    }
                }
            })
        };
        let mover = {
            let entry = entry.clone();
            thread::spawn(move || {
                entry.input(|port, _, _| port.seal());
                entry.input(|port, _, out| port.unseal(out));
            })
        };
        assert_eq!(of(1, &block_on(entry.handle(3))), [1, 2, 3]);
        sender.join().unwrap();
        mover.join().unwrap();
    }
}

#[test]
fn a_capture_that_is_called_off_wakes_the_process_for_all_that_came() {
    outcomes(called_off(ROOM));
}

#[test]
fn what_was_held_during_a_capture_that_is_called_off_enters_as_there_is_room() {
    outcomes(called_off(1));
}
