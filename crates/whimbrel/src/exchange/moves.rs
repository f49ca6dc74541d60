//! Instances that go to another node, and those that come.
//!
//! What decides is in the core; here its effects meet the tasks of processes. A process on its way out stays at its
//! entry, with its gate sealed, until the owner of the name has decided. One on its way in stands in [`Arrivals`], where
//! nobody finds it, until the owner says that it runs.
//!
//! **The seal.** Order, seal and release meet under the lock of the entry: a release comes either before the seal, which
//! then does not happen, or after it and undoes it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::task::Waker;

use tokio::sync::oneshot;
use whimbrel_core::base::{Bytes, Decision, ErrorCode, ExitReason, Hindrance, Name, Token};
use whimbrel_core::delivery::{GateTable, Inbox, PortOutput};
use whimbrel_core::directory::Record;
use whimbrel_core::handoff::Passage;
use whimbrel_core::node::Input;

use super::calls::calls_of;
use super::entry::EntryState;
use super::locked::Lock;
use super::{Encoded, Entry, Envelope, Exchange, Failure, lock};
use crate::Cluster;
use crate::clock;
use crate::message::reply::ReplyTo;
use crate::process::{Arriving, Hosting, Instance, Launching, Move, Stage, guard};

/// A process at rest, as another node is to make it, and the calls that go with it.
pub(crate) struct Captured {
    pub(crate) image: Bytes,
    pub(crate) calls: Vec<ReplyTo>,
    /// Calls that it has handled, and is to answer there.
    pub(crate) owed: Vec<ReplyTo>,
}

/// A process that another node brings.
struct Arrival {
    entry: Arc<Entry>,
    instance: Arc<Instance>,
    /// Its gate and its mailbox, once it is made.
    inbox: Option<Box<Inbox<Envelope>>>,
    /// The owner's word that it runs.
    go: oneshot::Sender<()>,
}

/// Processes that other nodes bring, until they run: at most [`whimbrel_core::base::limits::MOVES_IN_MAX`].
#[derive(Default)]
pub(super) struct Arrivals(Mutex<BTreeMap<(Name, Token), Arrival>>);

impl Arrivals {
    fn take(&self, name: &Name, attempt: Token) -> Option<Arrival> {
        lock(&self.0).remove(&(name.clone(), attempt))
    }
}

impl Entry {
    /// Leaves a waker without a look for messages: what changes here next, or [`Entry::wake`], wakes it.
    pub(crate) fn leave_waker(&self, waker: &Waker) {
        let _nothing: Option<()> = self.lock().find_or_wait(waker, |_| None);
    }

    /// Lets nothing in any more; false when this attempt to move the instance is off.
    pub(crate) fn seal(&self, instance: &Instance, attempt: Token) -> bool {
        let mut state = self.lock();
        let moves = instance.moves_as(attempt);
        if moves {
            state.port.seal();
        }
        moves
    }

    /// What waits in the sealed mailbox, as bytes, and what its gate knows. It stays there. User code runs, outside of
    /// the lock.
    pub(crate) fn unread(self: &Arc<Self>) -> Result<(Vec<Arc<Encoded>>, GateTable), String> {
        let gone = || "the process has ended".to_owned();
        let mut lent = {
            let mut state = self.lock();
            let inbox = state.port.inbox_mut().filter(|inbox| inbox.is_sealed());
            inbox.ok_or_else(gone)?.lend()
        };
        let encoded = lent.iter_mut().try_for_each(Envelope::encode);
        let mut state = self.lock();
        let back = match state.port.inbox_mut() {
            Some(inbox) => inbox.give_back(lent),
            None => Err((lent, ErrorCode::Stopped)),
        };
        if let Err((messages, code)) = back {
            drop(state);
            let end =
                |message| self.undelivered(message, Failure::new(code, whimbrel_core::base::Executed::No));
            messages.into_iter().for_each(end);
            return Err(gone());
        }
        encoded?;
        let inbox = state.port.inbox_mut().filter(|inbox| inbox.is_sealed()).ok_or_else(gone)?;
        let image = inbox.image().map_err(|code| code.to_string())?;
        drop(state);
        let bytes = |message| match message {
            Envelope::Encoded(encoded) => Ok(encoded),
            Envelope::Work(_) => Err("a copy of a message is not bytes".to_owned()),
        };
        Ok((image.messages.into_iter().map(bytes).collect::<Result<_, _>>()?, image.table))
    }
}

impl Exchange {
    /// Tells a process to come to rest. Returns what the node is to be told at once, when it is not here.
    pub(crate) fn capture(&self, name: Name, token: Token, order: Move) -> Option<Input> {
        let found = self.known(name.as_str()).and_then(|entry| {
            let state = entry.lock();
            let instance = state.instance.clone().filter(|_| state.token() == token);
            drop(state);
            instance.filter(|instance| !instance.has_ended()).map(|instance| (entry, instance))
        });
        let Some((entry, instance)) = found else {
            return Some(Input::Captured { name, attempt: order.attempt, image: Err(Hindrance::Ended) });
        };
        instance.order_move(order);
        entry.wake();
        None
    }

    /// The move is off: the process goes on here.
    pub(crate) fn release(&self, name: &Name, attempt: Token, decision: Decision, copied: bool) {
        let Some(entry) = self.known(name.as_str()) else { return };
        let mut out = PortOutput::default();
        let mut state = entry.lock();
        let instance = state.instance.clone();
        let withdrawn = instance.and_then(|instance| instance.withdraw(attempt));
        let Some((stage, owed)) = withdrawn else { return };
        if decision == Decision::Superseded {
            state.port.disown_unread(&mut out);
        } else if copied {
            state.port.share_unread();
        }
        if stage == Stage::Captured {
            let unread = state.port.inbox().into_iter().flat_map(Inbox::unread);
            let calls: Vec<_> = unread.filter_map(|message| message.head().reply).collect();
            calls.into_iter().chain(owed).for_each(|call| self.call_moves(call, self.me()));
        }
        state.port.unseal(&mut out);
        out.wake = true;
        let left = entry.settle(&mut state, &mut out);
        drop(state);
        entry.finish(left);
    }

    /// The process ends here, and what it has not read may be handled elsewhere. Returns what the node is to be told at
    /// once, when it is not here any more.
    pub(crate) fn abandon(self: &Arc<Self>, name: Name, attempt: Token, reason: ExitReason) -> Option<Input> {
        let entry = self.known(name.as_str())?;
        let token = entry.lock().token();
        self.release(&name, attempt, Decision::Superseded, true);
        self.terminate(name, token, reason)
    }

    /// The process runs on another node: what is left of it here goes, its mailbox unanswered.
    pub(crate) fn depart(&self, name: &Name, order: Move) {
        let Some(entry) = self.known(name.as_str()) else { return };
        let state = entry.lock();
        // A later life has a token that is not below the attempt.
        let Some(instance) = state.instance.clone().filter(|_| state.token() < order.attempt) else { return };
        instance.depart(order);
        self.clear(&entry, state);
    }

    /// When the node leaves, a process departs before its move is decided: it may still be at its entry.
    fn clear_of(&self, entry: &Arc<Entry>, instance: &Arc<Instance>) {
        let state = entry.lock();
        if state.instance.as_ref().is_some_and(|present| Arc::ptr_eq(present, instance)) {
            self.clear(entry, state);
        }
    }

    /// Nothing of the process stays at its entry, and nobody is told: copies of its messages are at the target.
    fn clear(&self, entry: &Arc<Entry>, mut state: Lock<'_, EntryState>) {
        let mut out = PortOutput::default();
        state.instance = None;
        let args = state.args.take();
        let inbox = state.port.uninstall(&self.here(clock::time()), &mut out);
        out.wake = true;
        let left = entry.settle(&mut state, &mut out);
        drop(state);
        entry.finish(left);
        // Destructors of messages are user code.
        let _panicked = guard::run(|| drop((inbox, args)));
    }

    /// A process is at rest and this is its image. False when nobody wants it any more.
    pub(crate) async fn captured(
        &self,
        entry: &Arc<Entry>,
        instance: &Instance,
        order: Move,
        Captured { image, calls, owed }: Captured,
    ) -> bool {
        let wanted = instance.captured(order.attempt, owed.clone());
        if wanted {
            // Before anything of it leaves: the loss of this node must not end them then.
            calls.into_iter().chain(owed).for_each(|call| self.call_moves(call, order.to));
            let (name, attempt) = (entry.name().clone(), order.attempt);
            self.report(Input::Captured { name, attempt, image: Ok(image) }).await;
        }
        wanted
    }

    /// There is no image of the process, which goes on.
    pub(crate) async fn not_captured(&self, entry: &Arc<Entry>, order: Move, why: Hindrance) {
        let (name, attempt) = (entry.name().clone(), order.attempt);
        self.release(&name, attempt, Decision::Aborted, false);
        self.report(Input::Captured { name, attempt, image: Err(why) }).await;
    }

    /// A process has ended here because it runs on another node. Its node knows.
    pub(crate) async fn departed(&self, entry: &Arc<Entry>, instance: &Arc<Instance>) {
        let Some(names) = instance.end() else { return };
        let reason = ExitReason::Moved;
        self.clear_of(entry, instance);
        let mut exits = Vec::new();
        for name in names {
            let token = name.lock().token();
            self.remove_name(&name, ErrorCode::Stopped, Some(&reason));
            exits.push((name.name().clone(), token));
        }
        self.forget_instance(entry, instance, &reason);
        for (name, token) in exits {
            self.report(Input::Exited { name, token, reason: reason.clone() }).await;
        }
    }

    /// Makes a process that another node brings. Returns what the node is to be told at once, when it can not be.
    pub(crate) fn install(
        self: &Arc<Self>,
        passage: Passage,
        image: Bytes,
        cluster: Cluster,
    ) -> Option<Input> {
        let (name, attempt) = (passage.name.clone(), passage.attempt);
        match self.begin_arrival(passage, image, cluster) {
            Ok(()) => None,
            Err(why) => Some(Input::Installed { name, attempt, result: Err(why) }),
        }
    }

    fn begin_arrival(
        self: &Arc<Self>,
        passage: Passage,
        image: Bytes,
        cluster: Cluster,
    ) -> Result<(), Hindrance> {
        if self.instances.is_leaving() || self.is_closed() {
            return Err(Hindrance::Leaving);
        }
        let kind = self.kinds.get(passage.kind.as_str()).ok_or(Hindrance::UnknownKind)?;
        if kind.options().hosting == Hosting::Elsewhere || kind.stays() {
            return Err(Hindrance::UnknownKind);
        }
        let (name, attempt) = (passage.name.clone(), passage.attempt);
        let entry = self.entry(&name);
        let instance = self.new_instance(kind.name(), attempt);
        let (go, gone) = oneshot::channel();
        let arrival = Arrival { entry: entry.clone(), instance: instance.clone(), inbox: None, go };
        lock(&self.instances.arrivals.0).insert((name, attempt), arrival);
        let launching = Launching { entry: entry.clone(), instance: instance.clone(), cluster };
        let arriving = Arriving { passage, image, mailbox: kind.options().mailbox, go: gone };
        self.start_task(&entry, &instance, |tasks| kind.clone().resume(tasks, launching, arriving));
        Ok(())
    }

    /// A process that another node brought is made.
    pub(crate) async fn installed(&self, entry: &Arc<Entry>, attempt: Token, inbox: Inbox<Envelope>) {
        let name = entry.name().clone();
        let given_up = match lock(&self.instances.arrivals.0).get_mut(&(name.clone(), attempt)) {
            Some(arrival) => {
                arrival.inbox = Some(Box::new(inbox));
                None
            }
            None => Some(inbox),
        };
        match given_up {
            None => self.report(Input::Installed { name, attempt, result: Ok(()) }).await,
            Some(inbox) => drop(inbox),
        }
    }

    /// It can not be made.
    pub(crate) async fn not_installed(
        &self,
        entry: &Arc<Entry>,
        instance: &Arc<Instance>,
        attempt: Token,
        why: Hindrance,
    ) {
        let name = entry.name().clone();
        drop(self.instances.arrivals.take(&name, attempt));
        if instance.end().is_some() {
            self.forget_instance(entry, instance, &ExitReason::Moved);
        }
        self.report(Input::Installed { name, attempt, result: Err(why) }).await;
    }

    /// Nothing comes of an arrival: it ends without a word. Superseded, perhaps nobody else has its mailbox, which ends
    /// Unknown.
    pub(crate) fn uninstall(&self, name: &Name, attempt: Token, decision: Decision) {
        if let Some(arrival) = self.instances.arrivals.take(name, attempt) {
            self.give_up(arrival, decision);
        }
    }

    fn give_up(&self, arrival: Arrival, decision: Decision) {
        let Arrival { entry, instance, mut inbox, go } = arrival;
        instance.abort();
        if instance.end().is_some() {
            self.forget_instance(&entry, &instance, &ExitReason::Moved);
        }
        let mut out = PortOutput::default();
        if let Some(inbox) = inbox.as_mut().filter(|_| decision == Decision::Superseded) {
            inbox.disown_unread(&mut out);
        }
        let mut state = entry.lock();
        let left = entry.settle(&mut state, &mut out);
        drop(state);
        entry.finish(left);
        drop((inbox, go));
    }

    /// Nothing is known any more of what was on its way in.
    pub(super) fn end_arrivals(&self) {
        let all = std::mem::take(&mut *lock(&self.instances.arrivals.0));
        all.into_values().for_each(|arrival| self.give_up(arrival, Decision::Superseded));
    }

    /// The owner's word: the process that was brought here runs. Returns what the node is to be told when it is not here
    /// any more.
    pub(crate) fn run_arrival(self: &Arc<Self>, record: &Record) -> Option<Input> {
        let (name, token) = (record.name.clone(), record.token);
        let arrival = self.instances.arrivals.take(&name, token);
        let Some(Arrival { entry, instance, inbox: Some(inbox), go }) = arrival else {
            let reason = ExitReason::Killed;
            return Some(Input::Exited { name, token, reason });
        };
        let mut out = PortOutput::default();
        let mut state = entry.lock();
        let calls = calls_of(state.port.undecided());
        state.port.install(&self.here(clock::time()), *inbox, &mut out);
        state.instance = Some(instance.clone());
        state.args = None;
        let known = self.kinds.get(record.kind.as_str()).map(|kind| kind.kind());
        state.kind = Some(known.unwrap_or(&record.kind).clone());
        instance.set_policy(record.policy);
        instance.set_serving();
        let left = entry.settle(&mut state, &mut out);
        drop(state);
        entry.finish(left);
        self.calls_come_home(calls);
        // Without its task the process has ended, and has said so.
        let _gone = go.send(());
        None
    }
}
