//! Short stories about one port, and about two that speak to each other.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::delivery::MailboxLimits;
use crate::delivery::packet::{Epochs, Errand, Expires as _};
use crate::delivery::tests::{Note, STOPPED, here, incarnation, note, token, told, view};

fn at(host: u64, life: u64, gate: u64) -> Whereabouts {
    Whereabouts { host: incarnation(host), token: token(life), gate: token(gate) }
}

fn inbox(gate: u64, limit: usize) -> Inbox<Note> {
    Inbox::new(token(gate), MailboxLimits::of_messages(limit), Mutants::default())
}

fn port() -> Port<Note> {
    Port::new(Mutants::default())
}

fn send(port: &mut Port<Note>, ids: std::ops::RangeInclusive<u64>) -> String {
    let sent = ids.map(|id| match port.send(note(id), Time::ZERO) {
        Sent::Queued => "queued".to_owned(),
        Sent::Transmit { to, packet } => format!("{}.{} to {}", packet.epoch, packet.seq, to.started_ms),
        Sent::Held { locate: true } => "held, locate".to_owned(),
        Sent::Held { locate: false } => "held".to_owned(),
        Sent::Refused { code, .. } => code.to_string(),
    });
    sent.collect::<Vec<_>>().join("; ")
}

fn take(port: &mut Port<Note>, out: &mut PortOutput<Note>) -> Option<Note> {
    let note = port.pop(|| Time::ZERO);
    port.refill(out);
    note
}

fn handled(port: &mut Port<Note>) -> Vec<u64> {
    let mut out = PortOutput::default();
    std::iter::from_fn(|| take(port, &mut out)).map(|note| note.id).collect()
}

/// Gives what one port transmits to the other, and the signals back.
fn exchange(from: &mut Port<Note>, to: &mut Port<Note>, out: &mut PortOutput<Note>) -> Vec<Signal> {
    let epochs = Epochs::new();
    let mut there = PortOutput::default();
    for (_, packet) in out.transmit.drain(..) {
        to.on_packet(&here(&epochs, 0), incarnation(1), packet, &mut there);
    }
    let signals: Vec<_> = there.signals.drain(..).map(|(_, signal)| signal).collect();
    for signal in &signals {
        from.on_signal(&here(&epochs, 0), incarnation(2), *signal, out);
    }
    signals
}

#[test]
fn a_first_message_waits_for_the_owners_answer_and_later_ones_behind_it() {
    let (mut port, epochs, mut out) = (port(), Epochs::new(), PortOutput::default());
    assert_eq!(send(&mut port, 1..=2), "held, locate; held");
    port.on_located(&here(&epochs, 0), at(2, 5, 5), &mut out);
    assert_eq!(told(&mut out), "send 1 1.1 to 2; send 2 1.2 to 2");
    assert_eq!(send(&mut port, 3..=3), "1.3 to 2");
    assert_eq!(port.whereabouts(), Some(at(2, 5, 5)));
    assert!(!port.is_idle());
    let confirm = Signal::Confirm { epoch: 1, seq: 3 };
    port.on_signal(&here(&epochs, 0), incarnation(2), confirm, &mut out);
    assert!(port.is_idle() && out.is_empty());
}

#[test]
fn a_wrong_cache_entry_is_never_an_error() {
    let (mut port, mut wrong, epochs, mut out) = (port(), port(), Epochs::new(), PortOutput::default());
    port.on_located(&here(&epochs, 0), at(2, 5, 5), &mut out);
    for id in 1..=3 {
        let Sent::Transmit { to, packet } = port.send(note(id), Time::ZERO) else { panic!("not bound") };
        out.transmit.push((to, packet));
    }
    // Only the first answer is back when the owner's answer comes: the others can not have been admitted either.
    let rest = out.transmit.split_off(1);
    exchange(&mut port, &mut wrong, &mut out);
    assert_eq!(told(&mut out), "locate");
    port.on_located(&here(&epochs, 0), at(3, 6, 6), &mut out);
    assert_eq!(told(&mut out), "send 1 2.1 to 3; send 2 2.2 to 3; send 3 2.3 to 3");
    out.transmit = rest;
    exchange(&mut port, &mut wrong, &mut out);
    assert_eq!(told(&mut out), "", "the other answers come too late to matter");
}

#[test]
fn a_name_that_is_gone_ends_what_was_answered_with_not_here_as_not_executed() {
    let (mut port, mut wrong, epochs, mut out) = (port(), port(), Epochs::new(), PortOutput::default());
    port.on_located(&here(&epochs, 0), at(2, 5, 5), &mut out);
    let Sent::Transmit { to, packet } = port.send(note(1), Time::ZERO) else { panic!("not bound") };
    out.transmit.push((to, packet));
    exchange(&mut port, &mut wrong, &mut out);
    out.clear();
    port.on_negative(&here(&epochs, 0), ErrorCode::NotFound, &mut out);
    assert_eq!(told(&mut out), "end 1 not_found no");
    assert!(port.is_idle());
}

#[test]
fn what_was_held_enters_the_installed_mailbox_before_what_comes_later() {
    let (mut port, epochs, mut out) = (port(), Epochs::new(), PortOutput::default());
    send(&mut port, 1..=3);
    port.install(&here(&epochs, 0), inbox(5, 2), &mut out);
    assert_eq!(told(&mut out), "wake");
    assert_eq!(send(&mut port, 4..=4), "overloaded", "3 still waits for room");
    assert_eq!(take(&mut port, &mut out).unwrap().id, 1);
    assert_eq!(send(&mut port, 5..=5), "overloaded", "3 took the room");
    assert_eq!(take(&mut port, &mut out).unwrap().id, 2);
    assert_eq!(send(&mut port, 6..=6), "queued");
    assert_eq!(handled(&mut port), [3, 6]);
    assert!(port.route().is_none());
}

#[test]
fn a_process_that_comes_home_with_its_gate_gets_each_message_once() {
    let (mut port, mut host, epochs, mut out) = (port(), port(), Epochs::new(), PortOutput::default());
    host.install(&here(&epochs, 0), inbox(5, 8), &mut out);
    port.on_located(&here(&epochs, 0), at(2, 5, 5), &mut out);
    out.clear();
    for id in 1..=3 {
        let Sent::Transmit { to, packet } = port.send(note(id), Time::ZERO) else { panic!("not bound") };
        out.transmit.push((to, packet));
    }
    out.transmit.truncate(2); // the third was on its way when the process left
    for (_, packet) in std::mem::take(&mut out.transmit) {
        host.on_packet(&here(&epochs, 0), incarnation(1), packet, &mut PortOutput::default());
    }
    let moved = host.uninstall(&here(&epochs, 0), &mut PortOutput::default()).unwrap();
    port.install(&here(&epochs, 0), moved, &mut out);
    assert_eq!((told(&mut out).as_str(), handled(&mut port)), ("wake", vec![1, 2, 3]));
}

#[test]
fn another_life_here_does_not_get_what_the_life_before_may_have_handled() {
    let (mut port, epochs, mut out) = (port(), Epochs::new(), PortOutput::default());
    port.on_located(&here(&epochs, 0), at(2, 5, 5), &mut out);
    send(&mut port, 1..=2);
    port.on_host_lost(&here(&epochs, 0), incarnation(2), &mut out);
    assert_eq!((told(&mut out).as_str(), send(&mut port, 3..=3).as_str()), ("locate", "held"));
    port.install(&here(&epochs, 0), inbox(6, 8), &mut out);
    assert_eq!(told(&mut out), "end 1 node_lost unknown; end 2 node_lost unknown; wake");
    assert_eq!(handled(&mut port), [3]);
}

#[test]
fn a_broken_session_sends_everything_again_and_the_gate_takes_it_once() {
    let (mut port, mut host, epochs, mut out) = (port(), port(), Epochs::new(), PortOutput::default());
    host.install(&here(&epochs, 0), inbox(5, 8), &mut out);
    send(&mut port, 1..=3);
    port.on_located(&here(&epochs, 0), at(2, 5, 5), &mut out);
    let copies = out.transmit.clone();
    exchange(
        &mut port,
        &mut host,
        &mut PortOutput { transmit: copies[..2].to_vec(), ..PortOutput::default() },
    );
    out.clear();
    // The session ends before the third arrives.
    port.on_host_lost(&here(&epochs, 0), incarnation(2), &mut out);
    port.on_located(&here(&epochs, 0), at(2, 5, 5), &mut out);
    assert_eq!(out.transmit.len(), 1, "two are confirmed");
    out.transmit = copies; // but their copies are late
    exchange(&mut port, &mut host, &mut out);
    assert!(port.is_idle());
    assert_eq!(handled(&mut host), [1, 2, 3]);
}

#[test]
fn a_refusal_that_was_not_heard_is_not_covered_by_a_later_confirmation() {
    let (mut port, mut host, epochs, mut out) = (port(), port(), Epochs::new(), PortOutput::default());
    host.install(&here(&epochs, 0), inbox(5, 1), &mut out);
    port.on_located(&here(&epochs, 0), at(2, 5, 5), &mut out);
    out.clear();
    for id in 1..=2 {
        let Sent::Transmit { to, packet } = port.send(note(id), Time::ZERO) else { panic!("not bound") };
        out.transmit.push((to, packet));
    }
    // Both are decided (2 is refused), and both signals are lost with the session.
    for (_, packet) in std::mem::take(&mut out.transmit) {
        host.on_packet(&here(&epochs, 0), incarnation(1), packet, &mut PortOutput::default());
    }
    assert_eq!(handled(&mut host), [1]);
    let Sent::Transmit { to, packet } = port.send(note(3), Time::ZERO) else { panic!("not bound") };
    out.transmit.push((to, packet));
    assert_eq!(exchange(&mut port, &mut host, &mut out), [Signal::Admitted { epoch: 1, seq: 3 }]);
    assert!(!port.is_idle(), "2 is still to be decided");
    port.on_host_lost(&here(&epochs, 0), incarnation(2), &mut out);
    port.on_located(&here(&epochs, 0), at(2, 5, 5), &mut out);
    exchange(&mut port, &mut host, &mut out);
    out.locate = false;
    assert_eq!(told(&mut out), "end 2 overloaded no");
    assert!(port.is_idle());
}

#[test]
fn a_message_for_a_sealed_gate_waits_for_the_end_of_the_move() {
    for called_off in [true, false] {
        let (mut port, epochs, mut out) = (port(), Epochs::new(), PortOutput::default());
        port.install(&here(&epochs, 0), inbox(5, 8), &mut out);
        send(&mut port, 1..=1);
        port.seal();
        assert_eq!(send(&mut port, 2..=3), "held; held");
        if called_off {
            port.unseal(&mut out);
            assert_eq!((told(&mut out).as_str(), handled(&mut port)), ("wake", vec![1, 2, 3]));
        } else {
            let moved = port.uninstall(&here(&epochs, 0), &mut out).unwrap();
            assert_eq!((told(&mut out).as_str(), moved.len()), ("locate", 1));
            port.on_located(&here(&epochs, 0), at(2, 6, 5), &mut out);
            assert_eq!(told(&mut out), "send 2 1.1 to 2; send 3 1.2 to 2");
        }
    }
}

#[test]
fn a_process_is_woken_for_what_came_before_a_move_that_is_called_off() {
    let (mut port, epochs, mut out) = (port(), Epochs::new(), PortOutput::default());
    port.install(&here(&epochs, 0), inbox(5, 8), &mut out);
    send(&mut port, 1..=1);
    port.seal();
    assert_eq!(handled(&mut port), [0; 0], "a sealed mailbox gives nothing away");
    port.unseal(&mut out);
    assert_eq!((told(&mut out).as_str(), handled(&mut port)), ("wake", vec![1]));
}

#[test]
fn a_process_that_has_ended_answers_what_waits_and_what_comes() {
    let (mut port, epochs, mut out) = (port(), Epochs::new(), PortOutput::default());
    port.install(&here(&epochs, 0), inbox(5, 2), &mut out);
    send(&mut port, 1..=2);
    port.close(STOPPED, &mut out);
    assert_eq!(told(&mut out), "end 1 stopped no; end 2 stopped no");
    assert_eq!(send(&mut port, 3..=3), "stopped");
    assert_eq!(port.notify(note(4)).unwrap_err().code, STOPPED);
    port.uninstall(&here(&epochs, 0), &mut out);
    assert!(port.is_idle());
    assert_eq!(send(&mut port, 5..=5), "held, locate");
}

#[test]
fn a_view_without_the_host_makes_the_route_ask() {
    let (mut port, epochs, mut out) = (port(), Epochs::new(), PortOutput::default());
    port.on_located(&here(&epochs, 0), at(2, 5, 5), &mut out);
    send(&mut port, 1..=1);
    port.on_view(&here(&epochs, 0), &view(1, &[1, 2, 3]), &mut out);
    assert!(out.is_empty());
    port.on_view(&here(&epochs, 0), &view(2, &[1, 3]), &mut out);
    assert_eq!(told(&mut out), "locate");
    port.on_located(&here(&epochs, 0), at(3, 6, 6), &mut out);
    assert_eq!(told(&mut out), "end 1 node_lost unknown");
}

#[test]
fn under_a_new_incarnation_nothing_is_sent_twice() {
    let (mut port, epochs, mut out) = (port(), Epochs::new(), PortOutput::default());
    port.on_located(&here(&epochs, 0), at(2, 5, 5), &mut out);
    send(&mut port, 1..=2);
    port.on_unsent(&here(&epochs, 0), incarnation(2), 1, 2, &mut out);
    assert_eq!(told(&mut out), "locate");
    port.on_reincarnated(&here(&epochs, 0), &mut out);
    assert_eq!(told(&mut out), "end 1 node_lost unknown; locate", "2 never left");
    port.on_located(&here(&epochs, 0), at(2, 4, 4), &mut out);
    assert_eq!(told(&mut out), "send 2 2.1 to 2", "tokens of another line are not compared");
}

#[test]
fn an_old_answer_that_names_this_node_is_not_believed() {
    let (mut port, epochs, mut out) = (port(), Epochs::new(), PortOutput::default());
    port.on_located(&here(&epochs, 0), at(1, 5, 5), &mut out);
    assert!(port.route().is_none() && out.is_empty());
    send(&mut port, 1..=1);
    port.on_located(&here(&epochs, 0), at(1, 5, 5), &mut out);
    assert_eq!(told(&mut out), "locate");
}

#[test]
fn a_message_that_can_not_leave_the_node_ends_with_its_code() {
    #[derive(Debug, PartialEq)]
    struct Bound;
    impl crate::delivery::Expires for Bound {
        fn deadline(&self) -> Option<Time> {
            None
        }

        fn bytes(&self) -> usize {
            1
        }

        fn void(&self) -> Self {
            Bound
        }
    }
    impl Parcel for Bound {
        fn copy(&mut self) -> Result<Self, ErrorCode> {
            Err(ErrorCode::Codec)
        }
    }
    let (epochs, mut out) = (Epochs::new(), PortOutput::default());
    let mut port = Port::new(Mutants::default());
    assert_eq!(port.send(Bound, Time::ZERO), Sent::Held { locate: true });
    port.on_located(&here(&epochs, 0), at(2, 5, 5), &mut out);
    assert_eq!((out.ended[0].code, out.ended[0].executed), (ErrorCode::Codec, Executed::No));
    assert_eq!(port.send(Bound, Time::ZERO), Sent::Refused { message: Bound, code: ErrorCode::Codec });
    assert!(port.is_idle());
}

#[test]
fn only_the_host_that_a_message_was_sent_to_decides_what_became_of_it() {
    let (mut port, epochs, mut out) = (port(), Epochs::new(), PortOutput::default());
    port.on_located(&here(&epochs, 0), at(2, 5, 5), &mut out);
    assert_eq!(send(&mut port, 1..=2), "1.1 to 2; 1.2 to 2");
    let code = ErrorCode::Overloaded;
    for signal in [
        Signal::Confirm { epoch: 1, seq: u64::MAX },
        Signal::Admitted { epoch: 1, seq: 1 },
        Signal::Refused { epoch: 1, seq: 1, code },
        Signal::Missing { epoch: 1, seq: 1 },
        Signal::NotHere { epoch: 1, seq: 1 },
        Signal::Room { epoch: 1 },
    ] {
        port.on_signal(&here(&epochs, 0), incarnation(3), signal, &mut out);
        assert!(out.is_empty() && !port.is_idle(), "{signal:?} of another node");
    }
    assert_eq!(port.whereabouts(), Some(at(2, 5, 5)));
    // The host itself acknowledges what was sent and what was not: nothing that is sent later counts as admitted.
    port.on_signal(&here(&epochs, 0), incarnation(2), Signal::Confirm { epoch: 1, seq: u64::MAX }, &mut out);
    assert!(port.is_idle());
    assert_eq!(send(&mut port, 3..=3), "1.3 to 2");
    assert!(!port.is_idle());
}

/// One that would rather fail than wait for a process on its way.
fn hasty(id: u64) -> Note {
    Note { errand: Errand::FailFast, ..note(id) }
}

#[test]
fn what_fails_fast_ends_while_the_process_is_on_its_way_and_its_number_is_used_up() {
    let (mut client, epochs, mut out) = (port(), Epochs::new(), PortOutput::default());
    let (mut source, mut silent) = (port(), PortOutput::default());
    source.install(&here(&epochs, 0), inbox(5, 9), &mut silent);
    client.on_located(&here(&epochs, 0), at(2, 5, 5), &mut out);
    let mut send_one = |client: &mut Port<Note>, source: &mut Port<Note>, note: Note, ms: u64| match client
        .send(note, Time::from_micros(ms * 1_000))
    {
        Sent::Transmit { packet, .. } => {
            let mut there = PortOutput::default();
            source.on_packet(&here(&epochs, ms), incarnation(1), packet, &mut there);
            for (_, signal) in there.signals {
                client.on_signal(&here(&epochs, ms), incarnation(2), signal, &mut out);
            }
            told(&mut out)
        }
        Sent::Refused { code, .. } => code.to_string(),
        other => panic!("{other:?}"),
    };
    assert_eq!(send_one(&mut client, &mut source, hasty(1), 0), "", "admitted: it goes along");
    source.seal();
    assert_eq!(send_one(&mut client, &mut source, hasty(2), 0), "end 2 moving no");
    assert_eq!(
        send_one(&mut client, &mut source, hasty(3), 1),
        "moving",
        "believed for a while, without a look"
    );
    assert_eq!(send_one(&mut client, &mut source, note(4), 1), "", "others wait");
    assert_eq!(send_one(&mut client, &mut source, hasty(5), 51), "end 5 moving no");
    let image = source.inbox_mut().unwrap().image().unwrap();
    source.uninstall(&here(&epochs, 0), &mut silent);
    let signals: Vec<_> = silent.signals.drain(..).map(|(_, signal)| signal).collect();
    assert_eq!(signals, [Signal::NotHere { epoch: 1, seq: 3 }]);
    client.on_signal(&here(&epochs, 60), incarnation(2), signals[0], &mut out);
    assert_eq!(told(&mut out), "locate");
    let mut target = port();
    let arrived = Inbox::of_image(token(5), token(6), image, MailboxLimits::default(), Mutants::default());
    target.install(&here(&epochs, 0), arrived.unwrap(), &mut silent);
    client.on_located(&here(&epochs, 60), at(2, 6, 5), &mut out);
    let sent: Vec<_> = out.transmit.iter().map(|(_, packet)| (packet.seq, packet.message.errand)).collect();
    assert_eq!(sent, [(2, Errand::Void), (3, Errand::Deliver), (4, Errand::Void)]);
    exchange(&mut client, &mut target, &mut out);
    assert_eq!(handled(&mut target), [1, 4]);
    assert!(client.is_idle() && out.is_empty(), "nobody is told twice");
}

#[test]
fn what_fails_fast_waits_while_another_copy_of_it_is_out() {
    let (mut client, epochs, mut out) = (port(), Epochs::new(), PortOutput::default());
    client.on_located(&here(&epochs, 0), at(2, 5, 5), &mut out);
    assert!(matches!(client.send(hasty(1), Time::ZERO), Sent::Transmit { .. }));
    client.on_host_lost(&here(&epochs, 0), incarnation(2), &mut out);
    client.on_located(&here(&epochs, 0), at(2, 5, 5), &mut out);
    out.clear();
    // The first copy may have been admitted, and its confirmation lost with the session.
    let moving = Signal::Moving { epoch: 1, seq: 1 };
    client.on_signal(&here(&epochs, 0), incarnation(2), moving, &mut out);
    assert_eq!(told(&mut out), "");
    client.on_signal(&here(&epochs, 0), incarnation(2), Signal::Confirm { epoch: 1, seq: 1 }, &mut out);
    assert!(client.is_idle() && out.is_empty());
}

#[test]
fn what_fails_fast_ends_at_once_beside_a_process_that_is_on_its_way() {
    let (mut port, epochs, mut out) = (port(), Epochs::new(), PortOutput::default());
    port.install(&here(&epochs, 0), inbox(5, 9), &mut out);
    assert_eq!(port.send(hasty(1), Time::ZERO), Sent::Queued);
    port.seal();
    assert_eq!(port.send(hasty(2), Time::ZERO), Sent::Refused { message: hasty(2), code: ErrorCode::Moving });
    port.unseal(&mut out);
    assert_eq!(port.send(hasty(3), Time::ZERO), Sent::Queued);
    assert_eq!(handled(&mut port), [1, 3]);
}

#[test]
fn what_was_taken_back_takes_no_room_and_is_told_to_nobody() {
    let (mut target, epochs, mut out) = (port(), Epochs::new(), PortOutput::default());
    target.install(&here(&epochs, 0), inbox(5, 1), &mut out);
    out.clear();
    let packet = |seq, message| Packet { gate: token(5), epoch: 1, seq, message };
    let void = note(0).void();
    for (seq, message) in [(1, note(1)), (2, void.clone()), (4, void.clone()), (3, void.clone()), (2, void)] {
        target.on_packet(&here(&epochs, 0), incarnation(1), packet(seq, message), &mut out);
    }
    let last = out.signals.last().cloned();
    assert!(!out.signals.iter().any(|(_, signal)| matches!(signal, Signal::Refused { .. })), "{last:?}");
    assert_eq!((handled(&mut target), target.inbox().unwrap().counts().refused), (vec![1], 0));
    // Its process has ended: refused as anything else, and nothing is told of it.
    let mut client = port();
    client.on_located(&here(&epochs, 0), at(2, 5, 5), &mut out);
    assert!(matches!(client.send(hasty(1), Time::ZERO), Sent::Transmit { .. }));
    out.clear();
    for signal in
        [Signal::Moving { epoch: 1, seq: 1 }, Signal::Refused { epoch: 1, seq: 1, code: ErrorCode::Stopped }]
    {
        client.on_signal(&here(&epochs, 0), incarnation(2), signal, &mut out);
    }
    assert_eq!(told(&mut out), "end 1 moving no");
    assert!(client.is_idle());
}
