//! What the rest of the node knows about a running instance.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tokio::task::AbortHandle;
use whimbrel_core::base::{ExitReason, Incarnation, Token};
use whimbrel_core::directory::RestartPolicy;

use super::current::InstanceId;
use crate::exchange::{Entry, Shown, lock};
use crate::message::reply::ReplyTo;

/// When an instance is started again, in one byte: there may be very many of them.
const NEVER: u8 = 0;
const UNLESS_NORMAL: u8 = 1;
const ALWAYS: u8 = 2;

/// What an instance was told from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// Finish the message in hand, run `terminate`, end.
    Stop(ExitReason),
    /// Finish the message in hand, come to rest, make an image of itself.
    Move,
    /// It runs on another node now: run `terminate`, end without a word.
    Depart,
}

/// One attempt to move an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Move {
    pub(crate) attempt: Token,
    pub(crate) to: Incarnation,
}

/// How far a move is, as the instance knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Ordered,
    /// Its image has been handed out: it may run elsewhere at any time.
    Captured,
    Departed,
}

/// One life of a process on this node: shared by its task, its entries and the driver.
#[derive(Debug)]
pub(crate) struct Instance {
    pub(crate) id: InstanceId,
    /// One word, as a text is two: there may be very many instances.
    kind: &'static &'static str,
    token: AtomicU64,
    /// Rises when `inner` changed, so that the task need not lock to find that nothing did.
    version: AtomicU32,
    /// `init` has returned Ok.
    serving: AtomicBool,
    /// Read and written while `inner` is locked.
    ended: AtomicBool,
    restarts: AtomicU8,
    /// It is a child of a supervisor.
    supervised: AtomicBool,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    rare: Option<Box<Rare>>,
    abort: Option<AbortHandle>,
}

/// What few instances have; there may be very many of them.
#[derive(Debug, Default)]
struct Rare {
    stop: Option<ExitReason>,
    moving: Option<(Move, Stage)>,
    /// Callers that were told that their answers come from where it moves.
    owed: Vec<ReplyTo>,
    /// Entries of names that were registered for it, beside its own.
    names: Vec<Arc<Entry>>,
    shown: Shown,
}

impl Instance {
    pub(crate) fn new(id: InstanceId, kind: &'static &'static str, token: Token) -> Arc<Self> {
        Arc::new(Self {
            id,
            kind,
            token: AtomicU64::new(token.as_u64()),
            version: AtomicU32::new(0),
            serving: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            restarts: AtomicU8::new(NEVER),
            supervised: AtomicBool::new(false),
            inner: Mutex::default(),
        })
    }

    pub(crate) fn kind(&self) -> &'static str {
        self.kind
    }

    pub(crate) fn token(&self) -> Token {
        Token::from_u64(self.token.load(Ordering::Relaxed))
    }

    pub(crate) fn set_token(&self, token: Token) {
        self.token.store(token.as_u64(), Ordering::Relaxed);
    }

    pub(crate) fn set_serving(&self) {
        self.serving.store(true, Ordering::Release);
    }

    pub(crate) fn is_serving(&self) -> bool {
        self.serving.load(Ordering::Acquire)
    }

    pub(crate) fn set_supervised(&self) {
        self.supervised.store(true, Ordering::Release);
    }

    pub(crate) fn is_supervised(&self) -> bool {
        self.supervised.load(Ordering::Acquire)
    }

    /// When its owner starts it again; one that has no owner is not.
    pub(crate) fn set_policy(&self, policy: RestartPolicy) {
        let restarts = match policy {
            RestartPolicy::Permanent => ALWAYS,
            RestartPolicy::Transient => UNLESS_NORMAL,
            RestartPolicy::Temporary => NEVER,
        };
        self.restarts.store(restarts, Ordering::Relaxed);
    }

    /// Whether no other life takes over its mailbox if it ends for this reason.
    pub(crate) fn ends_with(&self, reason: &ExitReason) -> bool {
        self.stops()
            || match self.restarts.load(Ordering::Relaxed) {
                NEVER => true,
                UNLESS_NORMAL => reason.is_normal(),
                _ => false,
            }
    }

    /// Changes whenever an order or a name was added or removed.
    pub(crate) fn version(&self) -> u32 {
        self.version.load(Ordering::Acquire)
    }

    /// Tells it to stop; the first such order stays. The caller wakes its task.
    pub(crate) fn stop(&self, reason: ExitReason) {
        self.change(|rare| _ = rare.stop.get_or_insert(reason));
    }

    /// Tells it to stop; if its image is out, it goes without a word: its mailbox may be answered elsewhere.
    pub(crate) fn stop_or_depart(&self, reason: ExitReason) {
        self.change(|rare| match &mut rare.moving {
            Some((_, stage @ Stage::Captured)) => *stage = Stage::Departed,
            _ => _ = rare.stop.get_or_insert(reason),
        });
    }

    /// Whether it was told to stop.
    pub(crate) fn stops(&self) -> bool {
        lock(&self.inner).rare.as_ref().is_some_and(|rare| rare.stop.is_some())
    }

    /// What it is to do next instead of handling messages.
    pub(crate) fn ordered(&self) -> Option<Order> {
        let inner = lock(&self.inner);
        let rare = inner.rare.as_ref()?;
        match (&rare.stop, rare.moving) {
            (Some(reason), _) => Some(Order::Stop(reason.clone())),
            (None, Some((_, Stage::Ordered))) => Some(Order::Move),
            (None, Some((_, Stage::Departed))) => Some(Order::Depart),
            (None, Some((_, Stage::Captured)) | None) => None,
        }
    }

    /// Tells it to come to rest. The caller wakes its task.
    pub(crate) fn order_move(&self, order: Move) {
        self.change(|rare| rare.moving = Some((order, Stage::Ordered)));
    }

    /// The move that is under way.
    pub(crate) fn moving(&self) -> Option<Move> {
        let inner = lock(&self.inner);
        inner.rare.as_ref().and_then(|rare| rare.moving).map(|(order, _)| order)
    }

    /// Whether this attempt is under way.
    pub(crate) fn moves_as(&self, attempt: Token) -> bool {
        self.moving().is_some_and(|order| order.attempt == attempt)
    }

    /// Its image is handed out; false when nobody wants it any more.
    pub(crate) fn captured(&self, attempt: Token, owed: Vec<ReplyTo>) -> bool {
        let mut inner = lock(&self.inner);
        match inner.rare.as_deref_mut() {
            Some(Rare { stop: None, moving: Some((order, stage @ Stage::Ordered)), owed: known, .. })
                if order.attempt == attempt =>
            {
                *stage = Stage::Captured;
                *known = owed;
                true
            }
            _ => false,
        }
    }

    /// Nothing comes of this attempt. Says how far it was, and whom it owes answers that were to come from there; none if it
    /// was not under way.
    pub(crate) fn withdraw(&self, attempt: Token) -> Option<(Stage, Vec<ReplyTo>)> {
        let mut before = None;
        self.change(|rare| {
            let moving = rare.moving.take_if(|(order, _)| order.attempt == attempt);
            before = moving.map(|(_, stage)| (stage, std::mem::take(&mut rare.owed)));
        });
        before
    }

    /// It runs elsewhere. The caller wakes its task.
    pub(crate) fn depart(&self, order: Move) {
        self.change(|rare| rare.moving = Some((order, Stage::Departed)));
    }

    fn change(&self, change: impl FnOnce(&mut Rare)) {
        change(lock(&self.inner).rare.get_or_insert_default());
        self.version.fetch_add(1, Ordering::Release);
    }

    /// Adds a name; false when the instance has ended.
    pub(crate) fn add_name(&self, entry: Arc<Entry>) -> bool {
        let mut inner = lock(&self.inner);
        if self.ended.load(Ordering::Relaxed) {
            return false;
        }
        inner.rare.get_or_insert_default().names.push(entry);
        drop(inner);
        self.version.fetch_add(1, Ordering::Release);
        true
    }

    pub(crate) fn remove_name(&self, entry: &Arc<Entry>) {
        if let Some(rare) = &mut lock(&self.inner).rare {
            rare.names.retain(|other| !Arc::ptr_eq(other, entry));
        }
        self.version.fetch_add(1, Ordering::Release);
    }

    pub(crate) fn names(&self) -> Vec<Arc<Entry>> {
        lock(&self.inner).rare.as_ref().map(|rare| rare.names.clone()).unwrap_or_default()
    }

    /// Works on the states that it shows.
    pub(crate) fn show<T>(&self, change: impl FnOnce(&mut Shown) -> T) -> T {
        change(&mut lock(&self.inner).rare.get_or_insert_default().shown)
    }

    pub(crate) fn set_abort(&self, abort: AbortHandle) {
        lock(&self.inner).abort = Some(abort);
    }

    /// Ends the task at its next await, without its consent.
    pub(crate) fn abort(&self) {
        if let Some(abort) = &lock(&self.inner).abort {
            abort.abort();
        }
    }

    /// Marks it ended; true the first time. Returns the registered names, which are free from now on.
    pub(crate) fn end(&self) -> Option<Vec<Arc<Entry>>> {
        let mut inner = lock(&self.inner);
        if self.ended.swap(true, Ordering::Relaxed) {
            return None;
        }
        Some(inner.rare.as_mut().map(|rare| std::mem::take(&mut rare.names)).unwrap_or_default())
    }

    pub(crate) fn has_ended(&self) -> bool {
        let _inner = lock(&self.inner);
        self.ended.load(Ordering::Relaxed)
    }
}
