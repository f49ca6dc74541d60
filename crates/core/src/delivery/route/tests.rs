//! Every event in every state, printed: a new transition is a visible difference.
#![allow(clippy::unwrap_used)]

use std::fmt::Write as _;

use super::*;
use crate::delivery::MailboxLimits;
use crate::delivery::packet::Epochs;
use crate::delivery::tests::{Note, at_ms, here, incarnation, note, token, told};

type Step = fn(&mut Route<Note>, &Here<'_>, &mut PortOutput<Note>);

fn at(host: u64, life: u64, gate: u64) -> Whereabouts {
    Whereabouts { host: incarnation(host), token: token(life), gate: token(gate) }
}

fn name(state: RouteState) -> String {
    match state {
        RouteState::Resolving { .. } => "Resolving".to_owned(),
        RouteState::Bound { host } => format!("Bound {}", host.started_ms),
        RouteState::AtHome => "AtHome".to_owned(),
    }
}

/// A route in each state: with 1 and 2 sent to host 2 and not decided, unless never bound; with 3 waiting, unless
/// bound.
fn route(state: &str, epochs: &Epochs) -> Route<Note> {
    let (here, mut out) = (here(epochs, 0), PortOutput::default());
    let mut route = Route::new(here.now, Mutants::default());
    if state != "Unknown" {
        route.on_located(&here, at(2, 10, 10), &mut out);
        route.send(note(1), here.now);
        route.send(note(2), here.now);
    }
    match state {
        "Resolving" => route.on_host_lost(here.now, incarnation(2), &mut out),
        "AtHome" => {
            let mut inbox = Inbox::new(token(11), MailboxLimits::of_messages(8), Mutants::default());
            route.come_home(&here, &mut inbox, &mut out);
        }
        _ => {}
    }
    if state != "Bound" {
        route.send(note(3), here.now);
    }
    route
}

const EVENTS: [(&str, Step); 17] = [
    ("located, same gate and host", |r, h, o| r.on_located(h, at(2, 10, 10), o)),
    ("located, same gate, other host", |r, h, o| r.on_located(h, at(3, 11, 10), o)),
    ("located, other gate", |r, h, o| r.on_located(h, at(3, 12, 12), o)),
    ("located at a lower token", |r, h, o| r.on_located(h, at(3, 9, 9), o)),
    ("located here", |r, h, o| r.on_located(h, at(1, 13, 13), o)),
    ("not found", |r, h, o| r.on_negative(h.now, ErrorCode::NotFound, o)),
    ("locate failed", |r, h, o| r.on_locate_failed(h.now, o)),
    ("confirm 1", |r, h, _| r.on_confirm(h, 1, 1)),
    ("admitted 2", |r, h, _| r.on_admitted(h, 1, 2)),
    ("refused 1", |r, h, o| r.on_refused(h, 1, 1, ErrorCode::Overloaded, o)),
    ("missing 2", |r, h, o| r.on_missing(h, incarnation(2), 1, 2, o)),
    ("missing 2 says another host", |r, h, o| r.on_missing(h, incarnation(4), 1, 2, o)),
    ("not here 1", |r, h, o| r.on_returned(h.now, incarnation(2), 1, 1, o)),
    ("not here 1 of another epoch", |r, h, o| r.on_returned(h.now, incarnation(2), 9, 1, o)),
    ("host 2 lost", |r, h, o| r.on_host_lost(h.now, incarnation(2), o)),
    ("host 3 lost", |r, h, o| r.on_host_lost(h.now, incarnation(3), o)),
    ("reincarnated", |r, h, o| r.on_reincarnated(h.now, o)),
];

#[test]
fn the_table_of_transitions_is_as_committed() {
    let mut table = String::new();
    for state in ["Unknown", "Resolving", "Bound", "AtHome"] {
        for (event, step) in EVENTS {
            let epochs = Epochs::new();
            let (mut route, mut out) = (route(state, &epochs), PortOutput::default());
            step(&mut route, &here(&epochs, 1), &mut out);
            let kept = format!("{}+{}", route.unconfirmed.len(), route.waiting.len());
            let next = name(route.state());
            writeln!(table, "{state:9} | {event:30} | {next:9} {kept} | {}", told(&mut out)).unwrap();
        }
        table.push('\n');
    }
    if std::env::var_os("UPDATE_TABLES").is_some() {
        std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/src/delivery/route/transitions.txt"), &table)
            .unwrap();
    } else {
        assert_eq!(
            table,
            include_str!("transitions.txt"),
            "run with UPDATE_TABLES=1 and review the difference"
        );
    }
}

#[test]
fn where_no_link_leads_what_waits_ends_and_what_comes_is_refused_for_a_while() {
    let epochs = Epochs::new();
    let (h, mut out) = (here(&epochs, 0), PortOutput::default());
    let mut route = route("Resolving", &epochs);
    // 3 came after the question: it is asked for anew.
    route.on_negative(h.now, ErrorCode::NodeLost, &mut out);
    assert_eq!(told(&mut out), "end 1 node_lost unknown; end 2 node_lost unknown; locate");
    route.on_negative(h.now, ErrorCode::NodeLost, &mut out);
    assert_eq!(told(&mut out), "end 3 node_lost no");
    let refused = Sent::Refused { message: note(4), code: ErrorCode::NodeLost };
    assert_eq!(route.send(note(4), h.now), refused);
    assert_eq!(route.send(note(4), h.now + CUT_PATIENCE), Sent::Held { locate: true });
}

#[test]
fn what_no_copy_is_out_of_goes_on_with_all_behind_it() {
    let epochs = Epochs::new();
    let (h, mut out) = (here(&epochs, 0), PortOutput::default());
    let mut route = route("Bound", &epochs);
    for id in 4..=6 {
        route.send(note(id), h.now); // 3, 4 and 5 in this epoch
    }
    route.on_returned(h.now, incarnation(2), 1, 4, &mut out);
    route.on_host_lost(h.now, incarnation(2), &mut out);
    out.clear();
    route.on_located(&h, at(3, 12, 12), &mut out);
    assert_eq!(
        told(&mut out),
        "send 5 2.1 to 3; send 6 2.2 to 3; end 1 node_lost unknown; end 2 node_lost unknown; \
         end 4 node_lost unknown"
    );
}

#[test]
fn a_living_host_has_time_to_say_what_became_of_its_copies() {
    let epochs = Epochs::new();
    let (h, mut out) = (here(&epochs, 0), PortOutput::default());
    let mut route = route("Bound", &epochs);
    route.on_located(&h, at(3, 12, 12), &mut out);
    assert_eq!((route.send(note(4), h.now), told(&mut out)), (Sent::Held { locate: false }, String::new()));
    route.on_confirm(&h, 1, 1);
    route.settle(h.now, &mut out);
    assert_eq!(told(&mut out), "", "the second one may have been admitted");
    route.on_returned(h.now, incarnation(2), 1, 2, &mut out);
    route.settle(h.now, &mut out);
    assert_eq!(told(&mut out), "locate");
    route.on_located(&h, at(3, 12, 12), &mut out);
    assert_eq!(told(&mut out), "send 2 2.1 to 3; send 4 2.2 to 3");
}

#[test]
fn a_host_that_says_nothing_is_not_waited_for_for_ever() {
    let epochs = Epochs::new();
    let mut out = PortOutput::default();
    let mut bound = route("Bound", &epochs);
    bound.on_located(&here(&epochs, 0), at(3, 12, 12), &mut out);
    assert_eq!(bound.next_deadline(), Some(Time::ZERO + SETTLE_PATIENCE));
    bound.poll(Time::ZERO + SETTLE_PATIENCE, &mut out);
    assert_eq!(told(&mut out), "locate");
    let late = Here { now: Time::ZERO + SETTLE_PATIENCE, ..here(&epochs, 0) };
    bound.on_negative(late.now, ErrorCode::NotFound, &mut out);
    assert_eq!(told(&mut out), "end 1 node_lost unknown; end 2 node_lost unknown");
}

#[test]
fn a_copy_that_may_still_arrive_makes_it_unknown() {
    let epochs = Epochs::new();
    let (h, mut out) = (here(&epochs, 0), PortOutput::default());
    let mut route = route("Bound", &epochs);
    route.on_located(&h, at(3, 11, 10), &mut out); // a second copy of each
    route.on_returned(h.now, incarnation(2), 1, 1, &mut out);
    route.on_returned(h.now, incarnation(3), 1, 2, &mut out);
    route.on_host_lost(h.now, incarnation(3), &mut out);
    out.clear();
    route.on_located(&h, at(4, 12, 12), &mut out);
    assert_eq!(told(&mut out), "end 1 node_lost unknown; end 2 node_lost unknown");
}

#[test]
fn repeated_questions_back_off_until_something_is_decided() {
    let epochs = Epochs::new();
    let mut route = route("Bound", &epochs);
    let (mut ms, mut delays, mut out) = (0, Vec::new(), PortOutput::default());
    for _ in 0..9 {
        route.on_returned(at_ms(ms), incarnation(2), 1, 9, &mut out);
        let asked = ms;
        while !std::mem::take(&mut out.locate) {
            ms += 1;
            route.poll(at_ms(ms), &mut out);
        }
        delays.push(ms - asked);
        route.on_located(&here(&epochs, ms), at(2, 10, 10), &mut out);
    }
    assert_eq!(delays, [0, 5, 10, 20, 40, 80, 160, 200, 200]);
    route.on_confirm(&here(&epochs, ms), 1, 1);
    out.clear();
    route.on_returned(at_ms(ms), incarnation(2), 1, 2, &mut out);
    assert_eq!(told(&mut out), "locate");
}

#[test]
fn an_unanswered_question_and_a_silent_host_have_a_way_on() {
    let epochs = Epochs::new();
    let mut out = PortOutput::default();
    let mut unknown = route("Unknown", &epochs);
    assert_eq!(
        unknown.next_deadline(),
        Some(Time::ZERO + LOCATE_PATIENCE),
        "it was asked when the first came"
    );
    unknown.poll(Time::ZERO + LOCATE_PATIENCE, &mut out);
    assert_eq!(told(&mut out), "locate");
    let mut bound = route("Bound", &epochs);
    assert_eq!(bound.next_deadline(), Some(Time::ZERO + CONFIRM_PATIENCE));
    bound.poll(Time::ZERO + CONFIRM_PATIENCE, &mut out);
    assert_eq!(told(&mut out), "locate");
    bound.on_located(&here(&epochs, 5_000), at(2, 10, 10), &mut out);
    assert_eq!(told(&mut out), "send 1 1.1 to 2; send 2 1.2 to 2");
}

#[test]
fn only_what_waits_unsent_ends_at_its_deadline() {
    let epochs = Epochs::new();
    let mut out = PortOutput::default();
    let late = |id| Note { deadline: Some(at_ms(10)), ..note(id) };
    let mut bound = route("Bound", &epochs);
    bound.send(late(7), Time::ZERO);
    let mut resolving = route("Resolving", &epochs);
    resolving.send(late(8), Time::ZERO);
    resolving.send(note(9), Time::ZERO);
    assert_eq!(resolving.next_deadline(), Some(at_ms(10)));
    for route in [&mut bound, &mut resolving] {
        route.poll(at_ms(9), &mut out);
        assert_eq!(told(&mut out), "");
        route.poll(at_ms(10), &mut out);
    }
    assert_eq!(told(&mut out), "end 8 deadline no");
    resolving.on_located(&here(&epochs, 11), at(2, 10, 10), &mut out);
    assert_eq!(told(&mut out), "send 1 2.1 to 2; send 2 2.2 to 2; send 3 2.3 to 2; send 9 2.4 to 2");
}

#[test]
fn a_full_mailbox_is_believed_until_there_is_room() {
    let epochs = Epochs::new();
    let (h, mut out) = (here(&epochs, 0), PortOutput::default());
    let mut route = route("Bound", &epochs);
    let refused = |sent: &Sent<Note>| matches!(sent, Sent::Refused { code: ErrorCode::Overloaded, .. });
    route.on_refused(&h, 1, 2, ErrorCode::Overloaded, &mut out);
    assert_eq!(told(&mut out), "end 2 overloaded no");
    assert!(refused(&route.send(note(5), h.now)));
    route.on_room();
    assert!(!refused(&route.send(note(6), h.now)));
    route.on_refused(&h, 1, 3, ErrorCode::Overloaded, &mut out);
    assert!(refused(&route.send(note(7), h.now)));
    assert!(!refused(&route.send(note(8), Time::ZERO + FULL_PATIENCE)), "room may have been told to nobody");
}

#[test]
fn when_all_is_decided_after_a_refusal_a_new_epoch_begins() {
    let epochs = Epochs::new();
    let (h, mut out) = (here(&epochs, 0), PortOutput::default());
    let mut route = route("Bound", &epochs);
    route.on_refused(&h, 1, 1, ErrorCode::Stopped, &mut out);
    let Sent::Transmit { packet, .. } = route.send(note(4), h.now) else { panic!("not bound") };
    assert_eq!((packet.epoch, packet.seq), (1, 3));
    route.on_admitted(&h, 1, 3);
    route.on_admitted(&h, 1, 2);
    assert!(route.is_empty());
    let Sent::Transmit { packet, .. } = route.send(note(5), h.now) else { panic!("not bound") };
    assert_eq!((packet.epoch, packet.seq), (2, 1));
}

#[test]
fn the_number_of_a_message_taken_back_is_used_again() {
    let epochs = Epochs::new();
    let mut route = route("Bound", &epochs);
    assert_eq!(route.take_back(1, 1), None, "not the last");
    assert_eq!(route.take_back(1, 2), Some(note(2)));
    assert_eq!(route.take_back(1, 2), None);
    let Sent::Transmit { packet, .. } = route.send(note(4), Time::ZERO) else { panic!("not bound") };
    assert_eq!((packet.epoch, packet.seq), (1, 2));
}

#[test]
fn a_gate_that_has_lost_its_table_is_left_after_repeated_questions() {
    let epochs = Epochs::new();
    let (h, mut out) = (here(&epochs, 0), PortOutput::default());
    let mut route = route("Bound", &epochs);
    route.on_confirm(&h, 1, 1);
    for _ in 0..CONTRADICTIONS_MAX {
        route.on_missing(&h, incarnation(2), 1, 1, &mut out);
        assert_eq!(told(&mut out), "", "it may be a late question");
    }
    route.on_missing(&h, incarnation(2), 1, 1, &mut out);
    assert_eq!(told(&mut out), "send 2 2.1 to 2");
    let Sent::Transmit { packet, .. } = route.send(note(4), h.now) else { panic!("not bound") };
    assert_eq!((packet.epoch, packet.seq), (2, 2));
}

#[test]
fn an_answer_that_seems_old_for_very_long_is_believed() {
    let epochs = Epochs::new();
    let mut route = route("Resolving", &epochs);
    let mut out = PortOutput::default();
    let bound = (0..1000).find(|_| {
        route.on_located(&here(&epochs, 0), at(3, 9, 9), &mut out);
        route.state() == RouteState::Bound { host: incarnation(3) }
    });
    assert_eq!(bound, Some(TRIES_MAX as usize - 1));
}

#[test]
fn a_full_route_refuses() {
    let epochs = Epochs::new();
    let mut route = Route::new(Time::ZERO, Mutants::default());
    for id in 0..ROUTE_MESSAGES_MAX as u64 {
        assert_eq!(route.send(note(id), Time::ZERO), Sent::Held { locate: id == 0 });
    }
    let refused = Sent::Refused { message: note(1), code: ErrorCode::Overloaded };
    assert_eq!(route.send(note(1), Time::ZERO), refused);
    let mut out = PortOutput::default();
    route.on_located(&here(&epochs, 0), at(2, 10, 10), &mut out);
    assert_eq!(out.transmit.len(), ROUTE_MESSAGES_MAX);
    assert_eq!(route.send(note(1), Time::ZERO), refused, "unconfirmed ones count");
}

#[cfg(feature = "mutants")]
#[test]
fn no_after_dispatch_is_a_planted_bug() {
    let epochs = Epochs::new();
    let mut out = PortOutput::default();
    let mut route = route("Bound", &epochs);
    route.mutants = Mutants::planted(Mutant::NoAfterDispatch);
    route.on_host_lost(Time::ZERO, incarnation(2), &mut out);
    assert_eq!(told(&mut out), "end 1 node_lost no; end 2 node_lost no; locate");
}

#[test]
fn a_route_keeps_only_so_many_bytes_and_has_room_again_when_they_are_decided() {
    use crate::base::limits::ROUTE_BYTES_MAX;
    let (epochs, mut out) = (Epochs::new(), PortOutput::default());
    let mut route = Route::new(at_ms(0), Mutants::default());
    let half = |id| Note { bytes: ROUTE_BYTES_MAX / 2, ..note(id) };
    let full = |sent| matches!(sent, Sent::Refused { code: ErrorCode::Overloaded, .. });
    assert!(!full(route.send(half(1), at_ms(0))) && !full(route.send(half(2), at_ms(0))));
    assert!(full(route.send(note(3), at_ms(0))), "while they wait");
    route.on_located(
        &here(&epochs, 0),
        Whereabouts { host: incarnation(2), token: token(5), gate: token(5) },
        &mut out,
    );
    assert!(full(route.send(note(3), at_ms(0))), "while they are not decided");
    let (_, packet) = &out.transmit[0];
    route.on_confirm(&here(&epochs, 0), packet.epoch, 1);
    assert_eq!(route.bytes(), ROUTE_BYTES_MAX / 2);
    assert!(!full(route.send(note(3), at_ms(0))));
    route.on_confirm(&here(&epochs, 0), packet.epoch, 3);
    assert_eq!((route.bytes(), route.is_empty()), (0, true));
}
