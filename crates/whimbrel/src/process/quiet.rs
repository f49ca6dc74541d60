//! A process comes to rest, so that another node can make it anew from its image.
//!
//! ```text
//!   handling ── told to move ──> its tasks end ──> gate sealed ──> `handoff` ──> image ──> at rest ──> departs
//!       ^                              │                │              │           │          │
//!       └──────────────────────────────┴── nothing comes of it ────────┴───────────┴──────────┘
//! ```
//!
//! All of it runs in the task of the process. The value stays alive at rest, and goes on as if nothing had been when the
//! move is called off. What can not be undone: its tasks have ended, and what `handoff` has changed is changed.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use whimbrel_core::base::limits::IMAGE_BYTES_MAX;
use whimbrel_core::base::{Bytes, Hindrance};
use whimbrel_core::wire::image::{IMAGE_MESSAGES_MAX, Image, StateImage};

use super::context::{Context, log_panic};
use super::guard::Guarded;
use super::handoff::{Handoff, Left, StateForm};
use super::instance::{Move, Order};
use super::run::Alive;
use super::timers::Moved;
use super::{Instance, Process};
use crate::clock;
use crate::exchange::{Captured, Encoded, Entry, MoveStage};
use crate::message::escort::Escort;
use crate::message::work::Handling;

/// How long tasks that the process owns may go on before they are aborted.
const TASKS_MAX: Duration = Duration::from_secs(2);
/// How long blocking tasks, which can not be aborted, and what was sent may take before the move is off.
const BLOCKING_MAX: Duration = Duration::from_secs(8);

/// Why there is no image.
enum Off {
    /// The move is not to be, and its owner is told why.
    Hindered(Hindrance),
    /// It was called off, or the process is to end: whoever said so knows.
    Superseded,
}

impl From<Hindrance> for Off {
    fn from(why: Hindrance) -> Self {
        Off::Hindered(why)
    }
}

/// Comes to rest and stays there until the move is decided; then its task looks for its orders again. As for a message,
/// a panic on the way is a crash.
pub(super) fn rest<P: Process>(alive: &mut Alive<P>) -> Guarded<Handling<'_>> {
    let current = alive.cx.current(None);
    Guarded::new(current, Box::pin(come_to_rest(alive)))
}

async fn come_to_rest<P: Process>(alive: &mut Alive<P>) {
    // None when it was called off after the order was seen.
    let Some(order) = alive.cx.instance.moving() else { return };
    let (entry, instance) = (alive.cx.entry.clone(), alive.cx.instance.clone());
    entry.exchange().tell_step(entry.name(), order.attempt, MoveStage::Rests);
    let image = image(alive, order).await;
    match image {
        Err(Off::Superseded) => {}
        Err(Off::Hindered(why)) => entry.exchange().not_captured(&entry, order, why).await,
        Ok(image) => {
            // What it owes is owed by two lives from now on, and this one does nothing.
            alive.cx.leave_replies();
            if entry.exchange().captured(&entry, &instance, order, image).await {
                decided(&entry, &instance, order).await;
            }
            if instance.ordered() != Some(Order::Depart) {
                alive.cx.take_replies();
            }
        }
    }
    if !matches!(instance.ordered(), Some(Order::Depart | Order::Stop(_))) {
        if let Some(trees) = alive.cx.trees() {
            trees.resume();
        }
        entry.exchange().tell_step(entry.name(), order.attempt, MoveStage::GoesOn);
    }
}

/// Completes when this move is over, or the process is to end.
async fn decided(entry: &Entry, instance: &Instance, order: Move) {
    poll_fn(|task| {
        // Before the look, so that what is said in between wakes this task.
        entry.leave_waker(task.waker());
        if is_off(instance, order) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

fn is_off(instance: &Instance, order: Move) -> bool {
    let ordered = instance.ordered();
    !instance.moves_as(order.attempt) || ordered.is_some_and(|ordered| ordered != Order::Move)
}

async fn image<P: Process>(alive: &mut Alive<P>, order: Move) -> Result<Captured, Off> {
    let Alive { process, cx, skills, .. } = alive;
    let form = skills.form;
    if matches!(form, StateForm::Stays) || !cx.entry.is_named() || !cx.instance.names().is_empty() {
        return Err(Hindrance::Stays.into());
    }
    quiet(cx, order).await?;
    if !cx.entry.seal(&cx.instance, order.attempt) {
        return Err(Off::Superseded);
    }
    let escort = Escort::out(cx.entry.exchange().me());
    let handoff = escort.with(process.handoff(cx)).await;
    if cx.stop.is_some() || is_off(&cx.instance, order) {
        return Err(Off::Superseded);
    }
    let state = escort.run(|| state(process, handoff, form, cx))?;
    let owed = escort.written();
    if owed.len() < cx.owed_replies() {
        // Of those that are not in the state nobody would hear there.
        return Err(Hindrance::Stays.into());
    }
    let state =
        state.as_ref().map(|(codec, bytes)| StateImage { version: P::STATE_VERSION, codec: *codec, bytes });
    let unencodable = |detail: String, cx: &Context<P>| {
        tracing::warn!(name = ?cx.entry.name(), detail, "a process does not move: a message of it can not be encoded");
        Off::Hindered(Hindrance::Unencodable)
    };
    let (notes, timers, last_timer) = own(cx).map_err(|detail| unencodable(detail, cx))?;
    let (messages, table) = cx.entry.unread().map_err(|detail| unencodable(detail, cx))?;
    let now = clock::time();
    let me = cx.entry.exchange().me();
    let mut image = Image::new(state, table);
    image.notices = notes.iter().map(|note| note.image(me, now)).collect();
    image.messages = messages.iter().map(|message| message.image(me, now)).collect();
    image.timers = timers.iter().map(|timer| timer.image(me, now)).collect();
    image.last_timer = last_timer;
    image.watches =
        cx.own.as_ref().and_then(|own| own.watches.as_ref()).map(|all| all.image()).unwrap_or_default();
    let bytes = image.to_bytes();
    if bytes.len() > IMAGE_BYTES_MAX || messages.len() as u64 > IMAGE_MESSAGES_MAX {
        return Err(Hindrance::TooLarge.into());
    }
    cx.entry.exchange().pass_on_last(&cx.entry, &cx.instance);
    let calls = messages.iter().filter_map(|message| message.head.reply).collect();
    Ok(Captured { image: Bytes::from(bytes), calls, owed })
}

/// Waits for what is beside the process: its trees, its tasks, then what blocks, then what it has sent. What its tasks owe they give
/// first.
async fn quiet<P: Process>(cx: &mut Context<P>, order: Move) -> Result<(), Off> {
    let begun = Instant::now();
    if let Some(trees) = cx.trees() {
        trees.rest();
    }
    if !ended_by(cx, order, begun + TASKS_MAX, Beside::Trees).await? {
        if let Some(trees) = cx.trees() {
            trees.hurry();
        }
        if !ended_by(cx, order, begun + BLOCKING_MAX, Beside::Trees).await? {
            return Err(Hindrance::Slow.into());
        }
    }
    if !ended_by(cx, order, begun + TASKS_MAX, Beside::Tasks).await? {
        if cx.owed_replies() > 0 {
            // A task may be about to give them; to abort it would answer with an error.
            return Err(Hindrance::Stays.into());
        }
        if let Some(mut tasks) = cx.own.as_mut().and_then(|own| own.tasks.take()) {
            tracing::debug!(name = ?cx.entry.name(), "tasks of a process that moves are aborted");
            tasks.shutdown().await;
        }
    }
    if !ended_by(cx, order, begun + BLOCKING_MAX, Beside::Blocking).await? {
        return Err(Hindrance::Slow.into());
    }
    if ended_by(cx, order, begun + BLOCKING_MAX, Beside::Messages).await? {
        Ok(())
    } else {
        Err(Hindrance::Slow.into())
    }
}

/// What is beside a process.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Beside {
    /// They rest: if nothing comes of the move they go on.
    Trees,
    Tasks,
    Blocking,
    /// What it has sent, until it is decided: what it sends from its next node is not to be faster.
    Messages,
}

/// Whether all of these ended in time.
async fn ended_by<P: Process>(
    cx: &mut Context<P>,
    order: Move,
    until: Instant,
    beside: Beside,
) -> Result<bool, Off> {
    let mut late = Box::pin(sleep_until(until));
    let sendings = cx.entry.exchange().sendings().clone();
    poll_fn(|task| {
        cx.entry.leave_waker(task.waker());
        if is_off(&cx.instance, order) {
            return Poll::Ready(Err(Off::Superseded));
        }
        let none = match beside {
            Beside::Trees => cx.trees().is_none_or(|trees| trees.poll_rests(task).is_ready()),
            Beside::Messages => sendings.none_or_wait(cx.instance.id, task.waker()),
            Beside::Tasks => poll_all(cx.own.as_mut().and_then(|own| own.tasks.as_mut()), task).is_ready(),
            Beside::Blocking => {
                poll_all(cx.own.as_mut().and_then(|own| own.blocking.as_mut()), task).is_ready()
            }
        };
        if none {
            return Poll::Ready(Ok(true));
        }
        late.as_mut().poll(task).map(|()| Ok(false))
    })
    .await
}

/// Ready when all of these tasks have ended.
fn poll_all(set: Option<&mut JoinSet<()>>, task: &mut std::task::Context<'_>) -> Poll<()> {
    let Some(set) = set else { return Poll::Ready(()) };
    loop {
        match std::task::ready!(set.poll_join_next(task)) {
            Some(ended) => log_panic(ended),
            None => return Poll::Ready(()),
        }
    }
}

/// The state as bytes, with how it is encoded; none for a process that begins anew.
fn state<P: Process>(
    process: &P,
    handoff: Handoff,
    form: StateForm<P>,
    cx: &Context<P>,
) -> Result<Option<(u8, Vec<u8>)>, Off> {
    match Left::of(process, handoff, form) {
        Left::Stays => Err(Hindrance::Stays.into()),
        Left::Restarts => Ok(None),
        Left::State(Ok(state)) => Ok(Some(state)),
        Left::State(Err(detail)) => {
            tracing::warn!(name = ?cx.entry.name(), detail, "a process does not move: its state can not be encoded");
            Err(Off::Hindered(Hindrance::Unencodable))
        }
    }
}

/// What the process owes itself: messages, timers, and the number of the last timer.
fn own<P: Process>(cx: &mut Context<P>) -> Result<(Vec<Encoded>, Vec<Moved>, u64), String> {
    let Some(own) = &mut cx.own else { return Ok((Vec::new(), Vec::new(), 0)) };
    let notes = own.notes.iter().map(|note| Encoded::of(&**note)).collect::<Result<_, _>>()?;
    Ok((notes, own.timers.moved(clock::time())?, own.timers.last()))
}
