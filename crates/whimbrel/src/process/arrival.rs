//! A process that another node brought is made here, and waits for the owner's word before it runs.
//!
//! Promises: until then it takes no message and no timer fires, and nothing of it is seen at its name. Assumes: whoever
//! launches or gives up the arrival tells it, or aborts its task.

use std::sync::Arc;
use std::time::Duration;

use whimbrel_core::base::{ExitReason, Hindrance, Incarnation, Time};
use whimbrel_core::delivery::{Inbox, InboxImage};
use whimbrel_core::wire::image::{Image, TimerImage};

use super::context::Context;
use super::guard::{self, Guarded};
use super::handoff::{Skills, State, StateForm};
use super::image::messages_of;
use super::kind::Arriving;
use super::run::{self, Alive, ReadArgs, end_tasks};
use super::timers::{Tick, Ticks};
use super::{Process, run::open};
use crate::clock;
use crate::exchange::{Encoded, Envelope, MoveStage};
use crate::message::Work;
use crate::message::escort::{Escort, Owing};

/// Makes the process and waits for the owner's word; none if it is not to be.
pub(super) async fn arrive<P: Process>(
    mut cx: Context<P>,
    skills: Arc<Skills<P>>,
    arriving: Arriving,
    args: ReadArgs<P>,
) -> Option<Alive<P>> {
    let exchange = cx.entry.exchange().clone();
    let Arriving { passage, image, mailbox, go } = arriving;
    let (name, attempt) = (passage.name, passage.attempt);
    let made_at = clock::time();
    // Until it runs, the life at the source owes them.
    let owing = Arc::<Owing>::default();
    owing.silence();
    let made = match read(&mut cx, &skills, image.as_slice(), exchange.me()) {
        Ok(Read { state, inbox }) => match make(state, args, &owing, &mut cx).await {
            Ok(process) => Ok((process, inbox)),
            Err(reason) => Err(reason.to_string()),
        },
        Err(detail) => Err(detail),
    };
    // It may be large, and is not needed any more.
    drop(image);
    let made = made.and_then(|(process, image)| {
        let inbox = Inbox::of_image(passage.gate, attempt, image, mailbox, exchange.mutants());
        inbox.map(|inbox| (process, inbox)).map_err(str::to_owned)
    });
    let (process, inbox) = match made {
        Ok(made) => made,
        Err(detail) => {
            tracing::warn!(?name, detail, "a process that another node brought can not be made here");
            end_tasks(&mut cx).await;
            exchange.not_installed(&cx.entry, &cx.instance, attempt, Hindrance::Unreadable).await;
            return None;
        }
    };
    // Most owe nothing, and have nothing to remember of it.
    if Arc::strong_count(&owing) > 1 {
        cx.own().owing = owing;
    }
    exchange.installed(&cx.entry, attempt, inbox).await;
    if go.await.is_err() {
        // It was given up: this task is about to be aborted.
        let _panicked = guard::run(|| cx.current(None).run(|| drop(process)));
        end_tasks(&mut cx).await;
        return None;
    }
    cx.take_replies();
    if let Some(name) = cx.name() {
        exchange.tell_step(name, attempt, MoveStage::Runs);
    }
    if let Some(own) = &mut cx.own {
        own.timers.postpone(clock::time().since(made_at));
        if let Some(watches) = &mut own.watches {
            watches.ask();
        }
    }
    Some(Alive::new(process, cx, skills))
}

/// What an image holds, less what is in the context by now.
struct Read {
    state: Option<State>,
    inbox: InboxImage<Envelope>,
}

/// Reads the image: what the process owes itself goes into its context.
fn read<P: Process>(
    cx: &mut Context<P>,
    skills: &Arc<Skills<P>>,
    bytes: &[u8],
    me: Incarnation,
) -> Result<Read, String> {
    let image = Image::from_bytes(bytes).map_err(|error| error.to_string())?;
    let now = clock::time();
    let bad_name = |error: whimbrel_core::base::BadName| error.to_string();
    for note in messages_of(&image.notices, me, now).map_err(bad_name)? {
        let work = work(skills, &note)?;
        cx.own().notes.push_back(work);
    }
    for watch in image.watches {
        cx.watches().restore(watch).map_err(str::to_owned)?;
    }
    for timer in &image.timers {
        restore(cx, skills, timer, image.last_timer, now)?;
    }
    let messages = messages_of(&image.messages, me, now).map_err(bad_name)?;
    let read = match skills.form {
        StateForm::Moves { read, .. } => Some(read),
        StateForm::Restarts | StateForm::Stays => None,
    };
    let state = image.state.map(|state| State::arrived(state.version, state.codec, state.bytes, read));
    let messages = messages.into_iter().map(Envelope::Encoded).collect();
    Ok(Read { state, inbox: InboxImage { table: image.table, notices: Vec::new(), messages } })
}

/// Decodes a message of the process to itself: user code.
fn work<P: Process>(skills: &Skills<P>, encoded: &Encoded) -> Result<Box<dyn Work>, String> {
    open(&skills.messages, encoded)
        .map_err(|failure| format!("message {:?}: {}", encoded.message.as_str(), failure.detail))
}

fn restore<P: Process>(
    cx: &mut Context<P>,
    skills: &Arc<Skills<P>>,
    timer: &TimerImage<'_>,
    last: u64,
    now: Time,
) -> Result<(), String> {
    let encoded = Encoded::of_image(&timer.message, Incarnation { started_ms: 0, nonce: 0 }, now);
    let encoded = encoded.map_err(|error| error.to_string())?;
    // What can not be read is seen now, and not when it is due.
    let first = work(skills, &encoded)?;
    let tick = match timer.period_ms {
        None => Tick::Once(first),
        Some(period) => {
            let skills = skills.clone();
            let make = Box::new(move || work(&skills, &encoded).ok());
            Tick::Every { period: Duration::from_millis(period.max(1)), make, origin: Ticks::Encoded }
        }
    };
    let due = now + Duration::from_millis(timer.remaining_ms);
    cx.own().timers.restore(timer.id, last, due, tick).map_err(str::to_owned)
}

/// Runs `resume`, or `init` for a process that begins anew.
async fn make<P: Process>(
    state: Option<State>,
    args: ReadArgs<P>,
    owing: &Arc<Owing>,
    cx: &mut Context<P>,
) -> Result<P, ExitReason> {
    let Some(state) = state else { return run::init::<P>(args()?, cx).await };
    let current = cx.current(None);
    let escort = Escort::In { exchange: cx.entry.exchange().clone(), owing: owing.clone() };
    // `resume` is not always an async block: the call itself is user code too.
    let future = guard::run(|| current.run(|| escort.run(|| Box::pin(P::resume(state, cx)))))?;
    Guarded::new(current, Box::pin(escort.with(future))).await?.map_err(ExitReason::capped)
}
