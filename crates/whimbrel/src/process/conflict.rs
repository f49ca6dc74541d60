//! Two instances of one name meet, as those on the two sides of a split do: the one that is to end gives its state to the
//! one that stays.
//!
//! It leaves the state with its node, which sends it as a message of Whimbrel's own once nothing of the instance is there
//! any more: before that the name leads to the instance that ends.

use tokio::time::timeout;
use whimbrel_core::base::{Bytes, ExitReason};

use super::Process;
use super::context::Context;
use super::guard::{self, Guarded};
use super::handoff::{Left, StateForm};
use super::run::TERMINATE_MAX;
use super::tiding::Tiding;

/// Asks an instance that has lost for the state that it would move with, and leaves it for the other one. What goes wrong
/// with that is logged: the instance ends in any case.
pub(super) async fn leave_state<P: Process>(
    process: &mut P,
    cx: &mut Context<P>,
    form: StateForm<P>,
    reason: &ExitReason,
) {
    if !P::RESOLVES_CONFLICTS || *reason != ExitReason::ConflictLost {
        return;
    }
    let current = cx.current(None);
    let (last, context) = (&mut *process, &mut *cx);
    let handoff = match guard::run(move || current.run(|| Box::pin(last.handoff(context)))) {
        Ok(future) => timeout(TERMINATE_MAX, Guarded::new(current, future)).await,
        Err(panic) => Ok(Err(panic)),
    };
    let left = match handoff {
        Ok(Ok(handoff)) => current.run(|| Left::of(process, handoff, form)),
        Ok(Err(panic)) => Left::State(Err(panic.to_string())),
        Err(_) => Left::State(Err("handoff took longer than 5 s".into())),
    };
    let detail = match left {
        Left::Stays | Left::Restarts => return,
        Left::State(Ok((codec, state))) => {
            let met = Tiding::Met { version: P::STATE_VERSION, codec, state: Bytes::from(state) };
            match cx.entry.exchange().bequeath(cx.entry.name(), met) {
                Ok(()) => return,
                Err(full) => full.to_string(),
            }
        }
        Left::State(Err(detail)) => detail,
    };
    tracing::warn!(name = ?cx.entry.name(), detail, "an instance that lost a conflict gives its state to nobody");
}
