//! Everything one node knows about delivering to one name: the inbox if it runs here, the route if it does not.
//!
//! One short lock guards it. Whatever it wants transmitted must be handed to the links before that lock is
//! released, or the order of the numbers would not be the order on the link (nothing would be lost, but gates would
//! have to wait for each other's gaps).
//!
//! Both may be there: messages that were held while the name was elsewhere enter the mailbox first, as far as there is
//! room, and later ones go behind them.
//!
//! A port never calls back. If a link has no session for a packet, or its session ends before the packet is
//! written, tell [`Port::on_unsent`]; if a link is full for the packet that [`Port::send`] has just returned, use
//! [`Port::take_back`].

use super::gate::GateState;
use super::inbox::{Admission, Inbox, InboxRefused};
use super::packet::{Errand, Here, Packet, Parcel, PortOutput, Sent, Signal, Whereabouts};
use super::route::Route;
use crate::base::{ErrorCode, Executed, Incarnation, Mutants, Time};
use crate::view::View;

/// What one node knows about delivering to one name.
#[derive(Debug)]
pub struct Port<M> {
    inbox: Option<Inbox<M>>,
    route: Option<Box<Route<M>>>,
    mutants: Mutants,
}

impl<M: Parcel> Port<M> {
    /// Nothing is known.
    pub fn new(mutants: Mutants) -> Self {
        Self { inbox: None, route: None, mutants }
    }

    /// The inbox of the process that runs here.
    pub fn inbox(&self) -> Option<&Inbox<M>> {
        self.inbox.as_ref()
    }

    /// The inbox of the process that runs here: to suspend, resume or restart it.
    pub fn inbox_mut(&mut self) -> Option<&mut Inbox<M>> {
        self.inbox.as_mut()
    }

    /// The route, if the name was used from here.
    pub fn route(&self) -> Option<&Route<M>> {
        self.route.as_deref()
    }

    /// The process runs here.
    pub fn is_local(&self) -> bool {
        self.inbox.is_some()
    }

    /// What is sent now is decided now: nothing of this node waits before it, and the process is not being moved.
    pub fn takes_at_once(&self) -> bool {
        self.route.is_none() && self.inbox.as_ref().is_some_and(|inbox| !inbox.is_sealed())
    }

    /// Where the process is elsewhere, if that is known: a hint, it may be wrong by now.
    pub fn whereabouts(&self) -> Option<Whereabouts> {
        self.route.as_ref().and_then(|route| route.whereabouts())
    }

    /// Nothing is kept here: the entry may be forgotten.
    pub fn is_idle(&self) -> bool {
        self.inbox.is_none() && self.route.as_ref().is_none_or(|route| route.is_empty())
    }

    /// When [`Port::poll`] has something to do.
    pub fn next_deadline(&self) -> Option<Time> {
        let inbox = self.inbox.as_ref().and_then(Inbox::next_deadline);
        let route = self.route.as_ref().and_then(|route| route.next_deadline());
        [inbox, route].into_iter().flatten().min()
    }

    /// A message from this node.
    pub fn send(&mut self, message: M, now: Time) -> Sent<M> {
        match (&mut self.inbox, &mut self.route) {
            (Some(inbox), route) if !inbox.is_sealed() => {
                // What a route still holds was refused room in this mailbox. To let this message pass it would
                // break the order; to queue it there would make the mailbox larger than its limit.
                match route {
                    Some(route) if inbox.has_room() && !matches!(inbox.state(), GateState::Closed(_)) => {
                        route.send(message, now)
                    }
                    _ => match inbox.push_local(message) {
                        Ok(()) => Sent::Queued,
                        Err(InboxRefused { message, code }) => Sent::Refused { message, code },
                    },
                }
            }
            (Some(_), _) if message.errand() == Errand::FailFast => {
                Sent::Refused { message, code: ErrorCode::Moving }
            }
            (Some(_), None) => {
                // Sealed: it waits for the end of the move, whichever that is.
                self.route.insert(Box::new(Route::at_home(now, self.mutants))).send(message, now)
            }
            (_, route) => {
                let mutants = self.mutants;
                route.get_or_insert_with(|| Box::new(Route::new(now, mutants))).send(message, now)
            }
        }
    }

    /// A message of the process here to itself, handled before all others.
    ///
    /// # Errors
    /// The process is not here, has ended, or has too many of them; the message comes back, not executed.
    pub fn notify(&mut self, message: M) -> Result<(), InboxRefused<M>> {
        match &mut self.inbox {
            Some(inbox) => inbox.push_front(message),
            None => Err(InboxRefused { message, code: ErrorCode::Stopped }),
        }
    }

    /// What the process has asked to be told, in the order of its messages and beyond the limit of its mailbox.
    ///
    /// # Errors
    /// `Moving` when it is on its way to another node, or is not here: what is sent to its name finds it. Otherwise it has
    /// ended. The message comes back, not executed.
    pub fn tell(&mut self, message: M) -> Result<(), InboxRefused<M>> {
        match &mut self.inbox {
            Some(inbox) => inbox.tell(message),
            None => Err(InboxRefused { message, code: ErrorCode::Moving }),
        }
    }

    /// Undoes the last [`Port::send`], whose packet the link had no room for. None if that was not the last.
    pub fn take_back(&mut self, epoch: u64, seq: u64) -> Option<M> {
        self.route.as_mut().and_then(|route| route.take_back(epoch, seq))
    }

    /// The next message for the process, if it may have one now. Ask [`Port::wants_refill`] afterwards.
    pub fn pop(&mut self, clock: impl FnOnce() -> Time) -> Option<M> {
        self.inbox.as_mut()?.pop(clock)
    }

    /// Whether somebody waits for room that may be there now: [`Port::refill`] has something to do.
    pub fn wants_refill(&self) -> bool {
        self.route.is_some() || self.inbox.as_ref().is_some_and(Inbox::owes_room)
    }

    /// The process found nothing and sleeps.
    pub fn rest(&mut self) {
        if let Some(inbox) = &mut self.inbox {
            inbox.rest();
        }
    }

    /// A packet for this name arrived.
    pub fn on_packet(
        &mut self,
        here: &Here<'_>,
        from: Incarnation,
        packet: Packet<M>,
        out: &mut PortOutput<M>,
    ) {
        let Some(inbox) = &mut self.inbox else {
            let Packet { epoch, seq, .. } = packet;
            out.signals.push((from, Signal::NotHere { epoch, seq }));
            return;
        };
        out.wake |=
            inbox.on_packet(from, packet, here.now, here.room, &mut out.signals) == Admission::Admitted;
    }

    /// A signal about this node's packets for this name arrived.
    pub fn on_signal(&mut self, here: &Here<'_>, from: Incarnation, signal: Signal, out: &mut PortOutput<M>) {
        let Some(route) = &mut self.route else { return };
        let may_say = match signal {
            Signal::NotHere { .. } => route.may_return(from),
            _ => route.decider() == Some(from),
        };
        if !may_say {
            return;
        }
        match signal {
            Signal::Confirm { epoch, seq } => route.on_confirm(here, epoch, seq),
            Signal::Admitted { epoch, seq } => route.on_admitted(here, epoch, seq),
            Signal::Refused { epoch, seq, code } => route.on_refused(here, epoch, seq, code, out),
            Signal::Missing { epoch, seq } => route.on_missing(here, from, epoch, seq, out),
            Signal::NotHere { epoch, seq } => route.on_returned(here.now, from, epoch, seq, out),
            Signal::Moving { epoch, seq } => route.on_moving(here.now, epoch, seq, out),
            Signal::Room { .. } => route.on_room(),
        }
        route.settle(here.now, out);
        self.refill(out);
    }

    /// The owner's answer, or other certain news: the process is there.
    ///
    /// A host that is this node without an inbox is old news: the owner is asked again.
    pub fn on_located(&mut self, here: &Here<'_>, at: Whereabouts, out: &mut PortOutput<M>) {
        if self.inbox.is_none() && (self.route.is_some() || at.host != here.me) {
            let mutants = self.mutants;
            let route = self.route.get_or_insert_with(|| Box::new(Route::new(here.now, mutants)));
            route.on_located(here, at, out);
        }
    }

    /// The owner's answer to a question: not found, quarantined, or at a host that no link leads to. Everything that waits ends with this code, No.
    pub fn on_negative(&mut self, here: &Here<'_>, code: ErrorCode, out: &mut PortOutput<M>) {
        if let Some(route) = &mut self.route {
            route.on_negative(here.now, code, out);
        }
    }

    /// A question ended without an answer of the owner: it is asked again after a delay.
    pub fn on_locate_failed(&mut self, here: &Here<'_>, out: &mut PortOutput<M>) {
        if let Some(route) = &mut self.route {
            route.on_locate_failed(here.now, out);
        }
    }

    /// A packet that was to be transmitted was never written: there was no session, or it ended before. Once per
    /// packet at most.
    pub fn on_unsent(
        &mut self,
        here: &Here<'_>,
        to: Incarnation,
        epoch: u64,
        seq: u64,
        out: &mut PortOutput<M>,
    ) {
        if let Some(route) = &mut self.route {
            route.on_returned(here.now, to, epoch, seq, out);
            route.settle(here.now, out);
        }
        self.refill(out);
    }

    /// Messages sent and not decided whose calls do not end with the host that they were sent to, since the route knows
    /// better, or will: it was answered that they are not there, or the host left in order ([`super::Leavers`]).
    pub fn not_lost(&self, in_order: bool) -> impl Iterator<Item = &M> {
        self.route.iter().flat_map(move |route| route.not_lost(in_order))
    }

    /// Messages sent and not decided. When their gate comes here they are in its mailbox, and their calls at no other host
    /// any more ([`Calls::come_home`](super::Calls::come_home)): ask before [`Port::install`].
    pub fn undecided(&self) -> impl Iterator<Item = &M> {
        self.not_lost(true)
    }

    /// The session with a host is over, for whatever reason. Tell [`Port::on_unsent`] first.
    pub fn on_host_lost(&mut self, here: &Here<'_>, host: Incarnation, out: &mut PortOutput<M>) {
        if let Some(route) = &mut self.route {
            route.on_host_lost(here.now, host, out);
        }
        self.refill(out);
    }

    /// A view was installed, and no packet of an incarnation that it excludes will be given to this port any more.
    pub fn on_view(&mut self, here: &Here<'_>, view: &View, out: &mut PortOutput<M>) {
        if let Some(inbox) = &mut self.inbox {
            inbox.forget_except(view);
        }
        if let Some(route) = &mut self.route
            && let Some(host) = route.decider()
            && !view.contains(host)
        {
            route.on_host_lost(here.now, host, out);
        }
        self.refill(out);
    }

    /// This node goes on under a new incarnation: what was sent and not confirmed ends Unknown, the rest goes on.
    pub fn on_reincarnated(&mut self, here: &Here<'_>, out: &mut PortOutput<M>) {
        if let Some(route) = &mut self.route {
            route.on_reincarnated(here.now, out);
        }
    }

    /// A process starts here, or arrives with its gate. What was held for it enters first, in order.
    ///
    /// An inbox that is still here ends: its messages end with `Stopped`, No.
    pub fn install(&mut self, here: &Here<'_>, mut inbox: Inbox<M>, out: &mut PortOutput<M>) {
        if let Some(old) = self.uninstall(here, out) {
            let messages = old.into_messages().into_iter();
            messages.for_each(|(message, executed)| out.end(message, ErrorCode::Stopped, executed));
        }
        if let Some(route) = &mut self.route {
            route.come_home(here, &mut inbox, out);
        }
        self.inbox = Some(inbox);
        self.refill(out);
        out.wake |= self.inbox.as_ref().is_some_and(|inbox| !inbox.is_empty());
    }

    /// The process leaves this node, or has ended here: packets for it are answered `NotHere` from now on. What its
    /// mailbox holds goes with it.
    pub fn uninstall(&mut self, here: &Here<'_>, out: &mut PortOutput<M>) -> Option<Inbox<M>> {
        let mut inbox = self.inbox.take()?;
        inbox.leave(&mut out.signals);
        if let Some(route) = &mut self.route {
            route.leave_home(here.now, out);
        }
        Some(inbox)
    }

    /// The process has ended: all that waits in its mailbox ends with `code`, No (Unknown if copies of it were elsewhere),
    /// and so does what comes until the inbox is uninstalled.
    pub fn close(&mut self, code: ErrorCode, out: &mut PortOutput<M>) {
        if let Some(inbox) = &mut self.inbox {
            let messages = inbox.close(code, &mut out.signals);
            messages.into_iter().for_each(|(message, executed)| out.end(message, code, executed));
            self.refill(out);
        }
    }

    /// The process is being moved: nothing is admitted, and nothing said about it, until [`Port::unseal`] or
    /// [`Port::uninstall`].
    pub fn seal(&mut self) {
        if let Some(inbox) = &mut self.inbox {
            inbox.seal();
        }
    }

    /// The move was called off: what came meanwhile is admitted.
    pub fn unseal(&mut self, out: &mut PortOutput<M>) {
        if let Some(inbox) = &mut self.inbox {
            inbox.unseal(&mut out.signals);
            // Looking at a sealed mailbox, the process found nothing, whatever was in it.
            out.wake |= !inbox.is_empty();
            self.refill(out);
        }
    }

    /// Copies of what the sealed mailbox holds went to another node, which may handle them though the process goes on
    /// here: what does not come to its turn ends Unknown.
    pub fn share_unread(&mut self) {
        if let Some(inbox) = &mut self.inbox {
            inbox.share_unread();
        }
    }

    /// What the sealed mailbox holds may be handled by another life: it ends with `NodeLost`, Unknown.
    pub fn disown_unread(&mut self, out: &mut PortOutput<M>) {
        if let Some(inbox) = &mut self.inbox {
            inbox.disown_unread(out);
        }
    }

    /// Time has passed: asks for missing packets, ends what waits beyond its deadline, asks the owner again.
    pub fn poll(&mut self, here: &Here<'_>, out: &mut PortOutput<M>) {
        if let Some(inbox) = &mut self.inbox {
            inbox.poll(here.now, &mut out.signals);
        }
        if let Some(route) = &mut self.route {
            route.poll(here.now, out);
        }
        self.refill(out);
    }

    /// Senders that were refused are told that there is room again. What waits for the mailbox here enters as far as
    /// there is room; a route that is done with goes.
    pub fn refill(&mut self, out: &mut PortOutput<M>) {
        let Some(inbox) = &mut self.inbox else { return };
        if inbox.owes_room() {
            inbox.tell_room(&mut out.signals);
        }
        let Some(route) = &mut self.route else { return };
        let closed = matches!(inbox.state(), GateState::Closed(_));
        while !inbox.is_sealed() && !route.is_settling() && (inbox.has_room() || closed) {
            let Some(message) = route.take_waiting() else { break };
            match inbox.push_local(message) {
                Ok(()) => out.wake = true,
                Err(InboxRefused { message, code }) => out.end(message, code, Executed::No),
            }
        }
        if route.is_empty() {
            self.route = None;
        }
    }
}

#[cfg(test)]
mod tests;
