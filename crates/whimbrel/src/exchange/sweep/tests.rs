//! What is due is looked at, however it came to be due, and nothing else is.
#![allow(clippy::unwrap_used)]

use tokio::sync::broadcast;
use whimbrel_core::base::{ErrorCode, Incarnation, Mutants, Name, Rng, Token};
use whimbrel_core::delivery::{Here, Port, PortOutput, Sent, Whereabouts};

use super::super::entry::UNWATCHED;
use super::super::envelope::{Encoded, Envelope, Head, Label};
use super::super::{Budget, DeadLetter, Hooks};
use super::*;
use crate::process::KindTable;
use crate::tasks::Tasks;

const SECOND: Duration = Duration::from_secs(1);

fn budgets() -> (Budget, Budget) {
    (Budget::new(usize::MAX), Budget::new(usize::MAX))
}

fn exchange() -> Arc<Exchange> {
    // Nobody listens to what the exchange has to tell.
    let (control, _) = tokio::sync::mpsc::channel(1);
    Exchange::new(
        KindTable::default(),
        control,
        Tasks::new(),
        Hooks::default(),
        budgets(),
        Mutants::default(),
    )
}

fn entry(exchange: &Arc<Exchange>, number: usize) -> Arc<Entry> {
    exchange.entry(&Name::new(&format!("name {number}")).unwrap())
}

/// Sends a cast that is held until `deadline`: nobody tells where the name is, or no link leads there.
fn hold(exchange: &Exchange, entry: &Arc<Entry>, now: Time, deadline: Time) {
    let head = Head { deadline: Some(deadline), ..Head::cast(Token::NONE) };
    let (kind, message) = (Label::Here("kind"), Label::Here("message"));
    let envelope = Envelope::Encoded(Arc::new(Encoded {
        head,
        kind,
        message,
        codec: 1,
        payload: vec![1].into(),
        share: None,
        sending: None,
    }));
    input(exchange, entry, now, |port, here, out| match port.send(envelope, now) {
        Sent::Held { .. } => {}
        Sent::Transmit { to, packet } => port.on_unsent(here, to, packet.epoch, packet.seq, out),
        other => panic!("{other:?}"),
    });
}

fn input(
    exchange: &Exchange,
    entry: &Arc<Entry>,
    now: Time,
    input: impl FnOnce(&mut Port<Envelope>, &Here<'_>, &mut PortOutput<Envelope>),
) {
    let mut out = PortOutput::default();
    let mut state = entry.lock();
    input(&mut state.port, &exchange.here(now), &mut out);
    let left = entry.settle(&mut state, &mut out);
    drop(state);
    entry.finish(left);
}

fn expired(exchange: &Exchange) -> u64 {
    exchange.dead_letters().count(ErrorCode::Deadline)
}

/// The times at which entries stand in the list, in order.
fn times(exchange: &Exchange) -> Vec<Time> {
    lock(&exchange.watched).0.keys().map(|(at, _)| *at).collect()
}

#[test]
fn entries_come_out_at_their_time_and_stand_in_the_list_once() {
    let (exchange, start) = (exchange(), Time::ZERO);
    let entries: Vec<_> = (0..3).map(|number| entry(&exchange, number)).collect();
    let mut watched = Watched::default();
    for (entry, seconds) in entries.iter().zip([3, 1, 1]) {
        watched.put(entry.clone(), None, start + SECOND * seconds);
    }
    watched.put(entries[0].clone(), Some(start + SECOND * 3), start + SECOND * 2);
    assert_eq!(watched.take_due(start).len(), 0);
    assert_eq!(watched.take_due(start + SECOND).len(), 2, "two of one time");
    let due = watched.take_due(start + SECOND * 9);
    assert_eq!((due.len(), due[0].0), (1, start + SECOND * 2));
    assert!(Arc::ptr_eq(&due[0].1, &entries[0]) && watched.next().is_none());
}

#[test]
fn a_deadline_that_moves_earlier_is_met() {
    let (exchange, now) = (exchange(), clock::time());
    let entry = entry(&exchange, 0);
    hold(&exchange, &entry, now, now + SECOND * 20);
    hold(&exchange, &entry, now, now + SECOND);
    assert_eq!(times(&exchange), [now + SECOND]);
    assert_eq!(exchange.look(now + SECOND), Some(now + SECOND * 10));
    assert_eq!(expired(&exchange), 1);
    assert_eq!(times(&exchange), [now + SECOND * 10], "the owner is asked again");
    exchange.look(now + SECOND * 20);
    assert_eq!(expired(&exchange), 2);
    assert_eq!(exchange.look(now + SECOND * 20), None, "nothing waits");
}

#[test]
fn a_deadline_that_moved_later_is_found_when_the_earlier_time_comes() {
    let (exchange, now) = (exchange(), clock::time());
    let entry = entry(&exchange, 0);
    hold(&exchange, &entry, now, now + SECOND);
    input(&exchange, &entry, now, |port, here, out| port.on_negative(here, ErrorCode::NotFound, out));
    hold(&exchange, &entry, now, now + SECOND * 3);
    assert_eq!(times(&exchange), [now + SECOND]);
    assert_eq!(exchange.look(now + SECOND), Some(now + SECOND * 3));
    assert_eq!((expired(&exchange), times(&exchange)), (0, vec![now + SECOND * 3]));
    assert_eq!(exchange.look(now + SECOND * 3), None);
    assert_eq!(expired(&exchange), 1);
}

#[test]
fn whatever_happens_an_entry_is_watched_in_time() {
    const HOST: Incarnation = Incarnation { started_ms: 7, nonce: 7 };
    for seed in 0..50 {
        let (mut rng, exchange, mut now) = (Rng::new(seed), exchange(), clock::time());
        let entries: Vec<_> = (0..8).map(|number| entry(&exchange, number)).collect();
        let mut held = 0;
        for life in 1..500 {
            let entry = &entries[rng.below(8) as usize];
            match rng.below(8) {
                0..3 => {
                    held += 1;
                    hold(&exchange, entry, now, now + SECOND * rng.below(40) as u32);
                }
                3 => input(&exchange, entry, now, |port, here, out| {
                    port.on_negative(here, ErrorCode::NotFound, out);
                }),
                // With something to send the route asks again, later and later.
                4 => input(&exchange, entry, now, |port, here, out| {
                    let token = Token::new(life, 0).unwrap();
                    port.on_located(here, Whereabouts { host: HOST, token, gate: token }, out);
                }),
                5 => now = now + Duration::from_millis(rng.below(5_000)),
                6 => {
                    let next = exchange.look(now);
                    assert_eq!(next, times(&exchange).first().copied(), "seed {seed}");
                }
                _ => {
                    // Something happens between the sweeper's taking it out and its looking at it.
                    let due = lock(&exchange.watched).take_due(now);
                    let entry = due.first().map_or(entry, |(_, entry)| entry);
                    let deadline = if rng.below(2) == 0 { Time::ZERO } else { now + SECOND };
                    held += 1;
                    hold(&exchange, entry, now, deadline);
                    due.into_iter().for_each(|(at, entry)| entry.sweep(at, now));
                }
            }
            check(&exchange, &entries);
        }
        for entry in &entries {
            input(&exchange, entry, now, |port, here, out| {
                port.on_negative(here, ErrorCode::NotFound, out);
            });
        }
        // What waits for nothing goes when its time comes, and no look is needed after that.
        assert_eq!(exchange.look(now + SECOND * 40), None, "seed {seed}");
        assert_eq!(exchange.dead_letters().total(), held, "seed {seed}: each has ended");
    }
}

fn check(exchange: &Exchange, entries: &[Arc<Entry>]) {
    let mut standing = 0;
    for entry in entries {
        let state = entry.lock();
        let (due, watched) = (state.port.next_deadline(), state.watched);
        let watched = (watched != UNWATCHED).then_some(watched);
        assert!(due.is_none() || watched.is_some_and(|at| Some(at) <= due), "{due:?} {watched:?}");
        let address = Arc::as_ptr(entry).addr();
        let stands = watched.is_some_and(|at| lock(&exchange.watched).0.contains_key(&(at, address)));
        assert_eq!(stands, watched.is_some());
        standing += usize::from(stands);
    }
    assert_eq!(lock(&exchange.watched).0.len(), standing, "each once");
}

#[tokio::test]
async fn a_sleeping_or_looking_sweeper_is_in_time_for_an_earlier_deadline() {
    let exchange = exchange();
    let mut letters: broadcast::Receiver<DeadLetter> = exchange.dead_letters().subscribe();
    let sweeper = tokio::spawn(exchange.clone().sweep());
    let entry = entry(&exchange, 0);
    for _ in 0..3 {
        let now = clock::time();
        hold(&exchange, &entry, now, now + Duration::from_millis(60));
        hold(&exchange, &entry, now, now + Duration::from_millis(30));
        for _ in 0..2 {
            let letter = tokio::time::timeout(SECOND * 20, letters.recv()).await.unwrap().unwrap();
            assert_eq!(letter.reason(), ErrorCode::Deadline);
        }
    }
    sweeper.abort();
}

#[test]
fn entries_that_nothing_refers_to_are_forgotten() {
    let (exchange, now) = (exchange(), clock::time());
    let held = entry(&exchange, 0);
    drop(entry(&exchange, 1));
    hold(&exchange, &entry(&exchange, 2), now, now + SECOND);
    exchange.forget_idle();
    assert_eq!(exchange.all_entries().len(), 2, "one is referred to, one holds a message");
    exchange.look(now + SECOND * 2);
    drop(held);
    exchange.forget_idle();
    assert_eq!(exchange.all_entries().len(), 0);
}
