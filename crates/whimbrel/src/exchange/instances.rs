//! Instances on this node: launched, told to stop, ended.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hashbrown::HashTable;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use whimbrel_core::base::hash::mix;
use whimbrel_core::base::{ErrorCode, ExitReason, Name, Token};
use whimbrel_core::delivery::{Inbox, MailboxLimits, PortOutput};
use whimbrel_core::directory::{Launch, Located, Record};
use whimbrel_core::node::Input;

use super::{Entry, Exchange, lock};
use crate::Cluster;
use crate::clock;
use crate::driver::Command;
use crate::process::current::InstanceId;
use crate::process::{Hosting, Instance, Launching, TERMINATE_MAX};
use crate::tasks::Tasks;

/// How long an instance may go on after it was told to stop, before it is ended by force: its handler, its
/// `terminate`, its blocking tasks.
pub(crate) const STOP_MAX: Duration = Duration::from_secs(3 * TERMINATE_MAX.as_secs());

/// All instances of this node.
#[derive(Default)]
pub(super) struct Instances {
    last: AtomicU64,
    alive: Mutex<HashTable<Alive>>,
    none_alive: Notify,
    leaving: AtomicBool,
    pub(super) arrivals: super::moves::Arrivals,
}

/// An instance and the entry that it was launched at.
type Alive = (Arc<Entry>, Arc<Instance>);

impl Instances {
    /// Whether no instance begins any more.
    pub(super) fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::SeqCst)
    }
}

// This program gives the numbers: nobody can choose them so that they collide.
fn hash(id: InstanceId) -> u64 {
    mix(id.0)
}

impl Exchange {
    pub(super) fn new_instance(&self, kind: &'static &'static str, token: Token) -> Arc<Instance> {
        let id = self.instances.last.fetch_add(1, Ordering::Relaxed) + 1;
        Instance::new(InstanceId(id), kind, token)
    }

    /// Runs the life of an instance as a task.
    pub(super) fn start_task(
        &self,
        entry: &Arc<Entry>,
        instance: &Arc<Instance>,
        life: impl FnOnce(&Tasks) -> AbortHandle,
    ) {
        lock(&self.instances.alive).insert_unique(
            hash(instance.id),
            (entry.clone(), instance.clone()),
            |alive| hash(alive.1.id),
        );
        instance.set_abort(life(&self.tasks));
        if self.is_closed() {
            instance.abort();
        }
    }

    /// Begins a life that the owner has granted. An error ends it before it began.
    pub(crate) fn launch(
        self: &Arc<Self>,
        record: &Record,
        launch: Launch,
        cluster: Cluster,
    ) -> Result<(), ExitReason> {
        if self.instances.leaving.load(Ordering::SeqCst) || self.is_closed() {
            // Without an answer the owner asks again, until a view without this node is installed. A refusal would
            // make it place the name anew at once, here again if no other node is left.
            return Ok(());
        }
        let unknown = || ExitReason::Error(format!("kind {:?} is not hosted here", record.kind.as_str()));
        let kind = self.kinds.get(record.kind.as_str()).ok_or_else(unknown)?;
        if kind.options().hosting == Hosting::Elsewhere {
            return Err(unknown());
        }
        let entry = self.entry(&record.name);
        let instance = self.new_instance(kind.name(), record.token);
        instance.set_policy(record.policy);
        let mut out = PortOutput::default();
        let mut state = entry.lock();
        match (launch, state.port.inbox_mut()) {
            (Launch::InPlace { previous }, Some(inbox)) if inbox.token() == previous => {
                inbox.restart(record.token);
            }
            // One that has arrived begins in `moves.rs`.
            (Launch::InPlace { .. } | Launch::Fresh | Launch::Arrived, _) => {
                let mut inbox = Inbox::new(record.gate, kind.options().mailbox, self.mutants);
                inbox.retoken(record.token);
                state.port.install(&self.here(clock::time()), inbox, &mut out);
            }
        }
        state.instance = Some(instance.clone());
        state.args = kind.stays().then(|| Box::new(record.args.clone()));
        state.kind = Some(kind.kind().clone());
        let left = entry.settle(&mut state, &mut out);
        drop(state);
        entry.finish(left);
        let launching = Launching { entry: entry.clone(), instance: instance.clone(), cluster };
        self.start_task(&entry, &instance, |tasks| {
            kind.clone().launch(tasks, launching, record.args.clone())
        });
        self.send_bequest(&record.name);
        Ok(())
    }

    /// Begins the life of an instance without a name of its own in the cluster.
    pub(crate) fn launch_unnamed(
        self: &Arc<Self>,
        kind: &'static &'static str,
        mailbox: MailboxLimits,
        life: impl FnOnce(&Tasks, Arc<Entry>, Arc<Instance>) -> AbortHandle,
    ) -> Option<Arc<Entry>> {
        let instance = self.new_instance(kind, Token::NONE);
        let name = Name::new(&format!("unnamed {kind} {}", instance.id.0)).ok()?;
        let entry = Entry::new(name, super::Naming::Unnamed, self.clone());
        entry.with_port(|port, here, out| {
            port.install(here, Inbox::new(Token::NONE, mailbox, self.mutants), out);
        });
        entry.lock().instance = Some(instance.clone());
        self.start_task(&entry, &instance, |tasks| life(tasks, entry.clone(), instance.clone()));
        Some(entry)
    }

    /// Gives a process of this node a name that the owner has granted; false when it has ended meanwhile.
    pub(crate) fn adopt(
        self: &Arc<Self>,
        name: &Arc<Entry>,
        process: &Arc<Entry>,
        located: &Located,
    ) -> bool {
        let Some(instance) = process.lock().instance.clone() else {
            return false;
        };
        let limits = process.lock().port.inbox().map(Inbox::limits).unwrap_or_default();
        let mut out = PortOutput::default();
        let mut state = name.lock();
        let mut inbox = Inbox::new(located.gate, limits, self.mutants);
        inbox.retoken(located.token);
        state.port.install(&self.here(clock::time()), inbox, &mut out);
        state.instance = Some(instance.clone());
        state.kind = Some(located.kind.clone());
        let left = name.settle(&mut state, &mut out);
        drop(state);
        name.finish(left);
        if instance.token() == Token::NONE {
            instance.set_token(located.token);
        }
        if instance.add_name(name.clone()) {
            process.wake();
            return true;
        }
        self.remove_name(name, ErrorCode::Stopped, None);
        false
    }

    /// `init` of a named instance returned Ok.
    pub(crate) async fn launched(&self, entry: &Arc<Entry>, instance: &Arc<Instance>) {
        instance.set_serving();
        if entry.is_named() {
            let (name, token) = (entry.name().clone(), instance.token());
            self.report(Input::Launched { name, token, result: Ok(()) }).await;
        }
    }

    /// `init` failed: the mailbox stays until the owner has decided.
    pub(crate) async fn init_failed(&self, entry: &Arc<Entry>, instance: &Arc<Instance>, reason: ExitReason) {
        let Some(names) = instance.end() else {
            return;
        };
        let exits = self.take_names(names, &reason);
        self.forget_instance(entry, instance, &reason);
        if entry.is_named() {
            let (name, token) = (entry.name().clone(), instance.token());
            self.report(Input::Launched { name, token, result: Err(reason.clone()) }).await;
        }
        for (name, token) in exits {
            self.report(Input::Exited { name, token, reason: reason.clone() }).await;
        }
    }

    /// Takes the registered names from an instance that has ended.
    fn take_names(&self, names: Vec<Arc<Entry>>, reason: &ExitReason) -> Vec<(Name, Token)> {
        let take = |name: Arc<Entry>| {
            let token = name.lock().token();
            self.remove_name(&name, ErrorCode::Stopped, Some(reason));
            (name.name().clone(), token)
        };
        names.into_iter().map(take).collect()
    }

    /// An instance has ended and its tasks with it. Tells everybody who has to know, once.
    pub(crate) async fn ended(&self, entry: &Arc<Entry>, instance: &Arc<Instance>, reason: ExitReason) {
        if instance.has_ended() {
            return;
        }
        self.pass_on_last(entry, instance);
        let Some(names) = instance.end() else {
            return;
        };
        let mut exits = self.take_names(names, &reason);
        self.forget_instance(entry, instance, &reason);
        if entry.is_named() {
            exits.push((entry.name().clone(), instance.token()));
        }
        for (name, token) in exits {
            self.report(Input::Exited { name, token, reason: reason.clone() }).await;
        }
    }

    pub(super) fn forget_instance(&self, entry: &Arc<Entry>, instance: &Arc<Instance>, reason: &ExitReason) {
        let mut state = entry.lock();
        if state.instance.as_ref().is_some_and(|present| Arc::ptr_eq(present, instance)) {
            state.instance = None;
            let _nobody_waits = state.take_waker();
            let mut out = PortOutput::default();
            // It may have ended while it was at rest for a move: its gate is to decide again.
            state.port.unseal(&mut out);
            if instance.stops() || !entry.is_named() {
                state.port.close(ErrorCode::Stopped, &mut out);
            } else if let Some(inbox) = state.port.inbox_mut() {
                inbox.suspend();
            }
            let left = entry.settle(&mut state, &mut out);
            drop(state);
            entry.finish_stopped(left, reason);
        } else {
            drop(state);
        }
        let mut alive = lock(&self.instances.alive);
        if let Ok(found) = alive.find_entry(hash(instance.id), |(_, other)| other.id == instance.id) {
            found.remove();
        }
        if alive.is_empty() {
            self.instances.none_alive.notify_waiters();
        }
    }

    /// Takes a registered name from its process.
    pub(super) fn remove_name(&self, name: &Arc<Entry>, code: ErrorCode, reason: Option<&ExitReason>) {
        let mut out = PortOutput::default();
        let mut state = name.lock();
        state.instance = None;
        let _nobody_waits = state.take_waker();
        state.port.close(code, &mut out);
        // Closed before, so there is nothing in it.
        drop(state.port.uninstall(&self.here(clock::time()), &mut out));
        let left = name.settle(&mut state, &mut out);
        drop(state);
        match reason {
            Some(reason) => name.finish_stopped(left, reason),
            None => name.finish(left),
        }
    }

    pub(super) async fn report(&self, input: Input) {
        if !self.instances.leaving.load(Ordering::SeqCst) {
            // Without a driver the node has ended, and nobody is left to be told.
            let _gone = self.control.send(Command::Input(input)).await;
        }
    }

    /// Tells an instance to end. Returns what the node is to be told at once, when there is none.
    pub(crate) fn terminate(self: &Arc<Self>, name: Name, token: Token, reason: ExitReason) -> Option<Input> {
        let entry = self.known(name.as_str());
        let found = entry.and_then(|entry| {
            let state = entry.lock();
            let instance = state.instance.clone().filter(|_| state.token() == token);
            drop(state);
            instance.map(|instance| (entry, instance))
        });
        let Some((entry, instance)) = found else {
            return Some(Input::Exited { name, token, reason });
        };
        let main = lock(&self.instances.alive)
            .find(hash(instance.id), |(_, other)| other.id == instance.id)
            .map(|(main, _)| main.clone());
        instance.stop(reason);
        let main = main.unwrap_or(entry);
        main.wake();
        self.end_by_force_later(main, instance);
        None
    }

    /// An instance that does not end by itself in time is ended without its consent.
    fn end_by_force_later(self: &Arc<Self>, entry: Arc<Entry>, instance: Arc<Instance>) {
        let exchange = self.clone();
        self.tasks.spawn_until_stopped("end by force", async move {
            for wait in [TERMINATE_MAX, STOP_MAX.saturating_sub(TERMINATE_MAX)] {
                tokio::time::sleep(wait).await;
                if instance.has_ended() {
                    return;
                }
                tracing::warn!(name = ?entry.name(), "a process that was told to stop goes on");
            }
            instance.abort();
            if instance.is_serving() {
                exchange.ended(&entry, &instance, ExitReason::Killed).await;
            } else {
                exchange.init_failed(&entry, &instance, ExitReason::Killed).await;
            }
        });
    }

    /// Nothing follows the life that ended here, or the name is taken from its process.
    pub(crate) fn discard(&self, name: &Name, token: Token, code: ErrorCode) {
        let Some(entry) = self.known(name.as_str()) else {
            return;
        };
        let mut state = entry.lock();
        if state.port.inbox().is_none_or(|inbox| inbox.token() != token) {
            return;
        }
        let (instance, args, kind) = (state.instance.take(), state.args.take(), state.kind.clone());
        drop(state);
        if let Some(instance) = instance {
            instance.remove_name(&entry);
        }
        self.remove_name(&entry, code, None);
        // A quarantined name may be released, with the same arguments.
        if let (Some(args), Some(kind)) = (args.filter(|_| code != ErrorCode::Quarantined), kind)
            && let Some(kind) = self.kinds.get(kind.as_str())
        {
            kind.forget_args(&args);
        }
        entry.exchange().send_bequest(name);
    }

    /// A life goes on under a higher token.
    pub(crate) fn retoken(&self, name: &Name, old: Token, new: Token) {
        let Some(entry) = self.known(name.as_str()) else {
            return;
        };
        let mut state = entry.lock();
        if state.token() != old {
            return;
        }
        if let Some(inbox) = state.port.inbox_mut() {
            inbox.retoken(new);
        }
        if let Some(instance) = &state.instance {
            instance.set_token(new);
        }
    }

    /// Lets no instance begin any more, tells all to stop and waits until they have, or for this long.
    pub(crate) async fn stop_all(&self, at_most: Duration) {
        self.instances.leaving.store(true, Ordering::SeqCst);
        self.end_arrivals();
        let alive: Vec<_> = lock(&self.instances.alive).iter().cloned().collect();
        // What a supervisor has started ends with that.
        for (entry, instance) in alive.into_iter().filter(|(_, instance)| !instance.is_supervised()) {
            instance.stop_or_depart(ExitReason::Shutdown);
            entry.wake();
        }
        let all_ended = async {
            loop {
                let ended = self.instances.none_alive.notified();
                let mut ended = std::pin::pin!(ended);
                // Registered before the look, so an end in between is not missed.
                ended.as_mut().enable();
                if lock(&self.instances.alive).is_empty() {
                    return;
                }
                ended.await;
            }
        };
        if tokio::time::timeout(at_most, all_ended).await.is_err() {
            tracing::warn!("not every process has stopped in time");
        }
    }

    pub(super) fn abort_all(&self) {
        let alive = std::mem::take(&mut *lock(&self.instances.alive));
        for (_, instance) in alive {
            instance.abort();
        }
    }
}
