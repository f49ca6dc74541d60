//! The monitors that this node has set, and whom each of them tells.
//!
//! Decides: nothing; the owner of the watched name does. Promises: whoever set one is told its end once, in the order of
//! its other messages if it is a process, and nothing more after it has given the monitor up. Assumes: the node asks
//! until the owner has it.
//!
//! Handlers and destructors can not wait. So what the node is to be told of monitors and of published states stands in a
//! list, of which the driver takes all before every command: what a process said before it ended is heard before its end.
//! The list is as long as there are monitors, at most, and processes that publish, once a second each.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Place;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tokio::sync::Notify;
use whimbrel_core::base::hash::mix;
use whimbrel_core::base::limits::MONITORS_MAX;
use whimbrel_core::base::{ErrorCode, ExitReason, Incarnation, Name, Token};
use whimbrel_core::delivery::InboxRefused;
use whimbrel_core::directory::{Down, Until};
use whimbrel_core::node::Input;

use super::{Entry, Envelope, Exchange, lock};
use crate::process::current::InstanceId;
use crate::process::tiding::Tiding;

/// Who is watched, and for what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Watch {
    pub(crate) name: Name,
    pub(crate) of: Option<Token>,
    pub(crate) until: Until,
    pub(crate) moves: bool,
}

impl Watch {
    /// For the next end of a life.
    pub(crate) fn of(name: Name) -> Self {
        Self { name, of: None, until: Until::Life, moves: false }
    }

    /// As the node is to be told.
    fn input(&self, id: u64, by: Option<Name>) -> Input {
        let Self { name, of, until, moves } = self.clone();
        Input::Monitor { id, name, of, until, moves, by }
    }

    /// The end that is told where none can be heard of.
    pub(crate) fn ends(&self, reason: ExitReason) -> Down {
        Down { name: self.name.clone(), token: Token::NONE, reason, snapshot: None, to: None }
    }
}

/// Why a monitor is not set when there are too many: the reason of its Down.
fn too_many() -> ExitReason {
    ExitReason::Error("not watched: too many monitors".to_owned())
}

/// Whom a monitor tells.
#[derive(Clone)]
pub(crate) enum Told {
    /// Code outside of processes.
    Code(Arc<Slot>),
    Process(Arc<Entry>, InstanceId),
}

/// All monitors of a node.
#[derive(Default)]
pub(super) struct Monitors {
    told: Mutex<HashMap<u64, (Watch, Told)>>,
    inputs: Mutex<Vec<Input>>,
    /// Numbers made without entropy.
    last: AtomicU64,
}

/// What code outside of processes has heard of its monitor.
#[derive(Debug, Default)]
pub(crate) struct Slot {
    heard: Mutex<Heard>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Heard {
    set: Option<Result<(), ErrorCode>>,
    /// The last move that nobody has asked for yet.
    moved: Option<Option<Incarnation>>,
    down: Option<Down>,
}

impl Slot {
    fn change(&self, change: impl FnOnce(&mut Heard)) {
        change(&mut lock(&self.heard));
        self.changed.notify_waiters();
    }

    fn hear(&self, down: Down) {
        self.change(|heard| match down.reason {
            ExitReason::Moved => heard.moved = Some(down.to),
            _ => _ = heard.down.get_or_insert(down),
        });
    }

    /// Waits until `look` finds something.
    async fn wait<T>(&self, mut look: impl FnMut(&mut Heard) -> Option<T>) -> T {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            // Registered before the look, so that a change in between is not missed.
            changed.as_mut().enable();
            if let Some(found) = look(&mut lock(&self.heard)) {
                return found;
            }
            changed.await;
        }
    }

    /// Whether it was set; one that is over was.
    pub(crate) async fn set(&self) -> Result<(), ErrorCode> {
        self.wait(|heard| if heard.down.is_some() { Some(Ok(())) } else { heard.set }).await
    }

    /// The end.
    pub(crate) async fn down(&self) -> Down {
        self.wait(|heard| heard.down.clone()).await
    }

    /// Where the process went last, if it has moved since this was asked; none at the end.
    pub(crate) async fn moved(&self) -> Option<Incarnation> {
        self.wait(|heard| heard.moved.take().or_else(|| heard.down.is_some().then_some(None))).await
    }
}

impl Exchange {
    /// Has the driver tell the node, soon and in order.
    pub(crate) fn tell_node(&self, input: Input) {
        if !self.is_closed() {
            lock(&self.monitors.inputs).push(input);
            self.asked.notify_one();
        }
    }

    /// What the node is to be told.
    pub(crate) fn take_inputs(&self) -> Vec<Input> {
        std::mem::take(&mut *lock(&self.monitors.inputs))
    }

    /// The number of a monitor that is still to be set.
    pub(crate) fn new_monitor(&self) -> u64 {
        getrandom::u64().unwrap_or_else(|_| {
            // Without entropy: no other node begins where this one does, and it never counts the same again.
            let last = self.monitors.last.fetch_add(1, Ordering::Relaxed);
            mix(self.me().nonce.wrapping_add(last))
        })
    }

    /// Sets a monitor, or sets it again where its process runs now. Whoever set it hears of it in any case.
    pub(crate) fn set_monitor(self: &Arc<Self>, id: u64, watch: &Watch, told: Told) {
        let by = match &told {
            Told::Process(entry, _) if entry.is_named() => Some(entry.name().clone()),
            Told::Process(..) | Told::Code(_) => None,
        };
        let mut all = lock(&self.monitors.told);
        if all.len() >= MONITORS_MAX || self.is_closed() {
            drop(all);
            let reason = if self.is_closed() { ExitReason::NodeLost } else { too_many() };
            return told.hear(id, watch.ends(reason));
        }
        all.insert(id, (watch.clone(), told));
        drop(all);
        self.tell_node(watch.input(id, by));
    }

    /// Code outside of processes does not wait for it any more.
    pub(crate) fn drop_monitor(&self, id: u64) {
        let dropped = lock(&self.monitors.told).remove(&id);
        if dropped.is_some() {
            self.tell_node(Input::Demonitor { ids: vec![id] });
        }
    }

    /// This life of a process does not wait for them any more. If it goes on elsewhere, it does so there.
    pub(crate) fn drop_monitors_of(
        &self,
        life: InstanceId,
        ids: impl Iterator<Item = u64>,
        goes_on_elsewhere: bool,
    ) {
        let mut all = lock(&self.monitors.told);
        // It may have come back meanwhile, as another life.
        let is_its = |id: &u64| match all.entry(*id) {
            Place::Occupied(row) if matches!(row.get().1, Told::Process(_, of) if of == life) => {
                row.remove();
                true
            }
            Place::Occupied(_) | Place::Vacant(_) => false,
        };
        let ids: Vec<u64> = ids.filter(is_its).collect();
        drop(all);
        if !ids.is_empty() && !goes_on_elsewhere {
            self.tell_node(Input::Demonitor { ids });
        }
    }

    /// What became of the setting.
    pub(crate) fn on_monitored(&self, id: u64, result: Result<(), ErrorCode>) {
        let mut all = lock(&self.monitors.told);
        let Place::Occupied(row) = all.entry(id) else { return };
        match (&row.get().1, result) {
            (Told::Code(slot), Ok(())) => slot.change(|heard| heard.set = Some(Ok(()))),
            (Told::Process(..), Ok(())) => {}
            (_, Err(code)) => {
                let (watch, told) = row.remove();
                drop(all);
                match told {
                    Told::Code(slot) => slot.change(|heard| heard.set = Some(Err(code))),
                    told @ Told::Process(..) => told.hear(id, watch.ends(too_many())),
                }
            }
        }
    }

    /// What a monitor waited for.
    pub(crate) fn on_down(&self, id: u64, down: Down) {
        let mut all = lock(&self.monitors.told);
        let told = match down.reason {
            // More follows.
            ExitReason::Moved => all.get(&id).map(|(_, told)| told.clone()),
            _ => all.remove(&id).map(|(_, told)| told),
        };
        drop(all);
        if let Some(told) = told {
            told.hear(id, down);
        }
    }

    /// This node hears of nothing any more.
    pub(super) fn end_monitors(&self) {
        let all = std::mem::take(&mut *lock(&self.monitors.told));
        for (watch, told) in all.into_values() {
            if let Told::Code(slot) = told {
                slot.hear(watch.ends(ExitReason::NodeLost));
            }
        }
    }
}

impl Told {
    fn hear(self, id: u64, down: Down) {
        match self {
            Told::Code(slot) => slot.hear(down),
            Told::Process(entry, _) => entry.tell(Tiding::down(id, down)),
        }
    }
}

impl Entry {
    /// Whether this life is what the name stands for on this node.
    pub(crate) fn is_at_home(&self, life: InstanceId) -> bool {
        self.lock().instance.as_ref().is_some_and(|present| present.id == life)
    }

    /// Tells the process what it has asked for. Moves may be many, and are nothing that it has to hear: they find room as
    /// others do.
    fn tell(self: &Arc<Self>, tiding: Tiding) {
        if tiding.is_move() {
            // Without room it is not told.
            let _full = self.cast(tiding.boxed());
            return;
        }
        let mut state = self.lock();
        match state.port.tell(Envelope::Work(tiding.boxed())) {
            Ok(()) => state.wake(),
            Err(InboxRefused { message, code }) => {
                drop(state);
                // It is on its way to another node or there already: this goes after it, as what others send it.
                if code == ErrorCode::Moving
                    && let Envelope::Work(work) = message
                    && let Err(error) = self.cast(work)
                {
                    tracing::warn!(name = ?self.name(), %error, "a process that moves is not told of an end");
                }
            }
        }
    }
}
