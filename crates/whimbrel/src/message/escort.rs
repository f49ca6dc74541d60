//! Answers that a process owes, on its way to another node.
//!
//! While its state is written, each reply in it writes who waits for it; while the state is read, each binds itself to the
//! node it is read on. Both need to know more than serde tells them, so that stands in a variable of the task, and only
//! then. A reply that is written in one place lives in two for a while: those of the life that does not run are *silent*,
//! whatever becomes of them.

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use serde::{Deserialize, Serialize};
use whimbrel_core::base::Incarnation;
use whimbrel_core::delivery::CallId;

use super::reply::{Caller, Owed, ReplyTo};
use crate::exchange::{Exchange, lock};

/// What the replies that one life owes have in common. As often referred to as there are such, and once more.
#[derive(Debug, Default)]
pub(crate) struct Owing {
    silent: AtomicBool,
}

impl Owing {
    /// Whether another life gives the answers.
    pub(crate) fn is_silent(&self) -> bool {
        self.silent.load(Ordering::Acquire)
    }

    /// Its process rests for a move, has left, or has not begun to run.
    pub(crate) fn silence(&self) {
        self.silent.store(true, Ordering::Release);
    }

    /// Its process runs here.
    pub(crate) fn speak(&self) {
        self.silent.store(false, Ordering::Release);
    }
}

/// A reply as it stands in a state: the life of the caller's node, and the number of the call there.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Written(u64, u64, u64);

/// Who goes with a state.
#[derive(Clone)]
pub(crate) enum Escort {
    /// It is written here, and these replies are in it.
    Out { me: Incarnation, written: Arc<Mutex<Vec<ReplyTo>>> },
    /// It is read here, for the life that owes these.
    In { exchange: Arc<Exchange>, owing: Arc<Owing> },
}

tokio::task_local! {
    static ESCORT: Escort;
}

impl Escort {
    /// For a state that is written on this node.
    pub(crate) fn out(me: Incarnation) -> Self {
        Self::Out { me, written: Arc::default() }
    }

    /// Runs code that writes or reads a state.
    pub(crate) fn run<T>(&self, code: impl FnOnce() -> T) -> T {
        ESCORT.sync_scope(self.clone(), code)
    }

    /// The same for a future.
    pub(crate) fn with<F: Future>(&self, future: F) -> impl Future<Output = F::Output> {
        ESCORT.scope(self.clone(), future)
    }

    /// The replies that were written, each once.
    pub(crate) fn written(&self) -> Vec<ReplyTo> {
        match self {
            Escort::Out { written, .. } => lock(written).clone(),
            Escort::In { .. } => Vec::new(),
        }
    }
}

/// Notes that this reply goes along.
pub(super) fn write(owed: ReplyTo, travels: bool) -> Result<Written, &'static str> {
    if !travels {
        return Err("the message of this reply does not leave its node");
    }
    let escort = ESCORT.try_with(Escort::clone);
    let Ok(Escort::Out { me, written }) = escort else { return Err("a reply is written on a move alone") };
    let mut written = lock(&written);
    if !written.contains(&owed) {
        written.push(owed);
    }
    let Incarnation { started_ms, nonce } = match owed.at {
        Caller::Here => me,
        Caller::At(node) => node,
    };
    Ok(Written(started_ms, nonce, owed.call.as_u64()))
}

/// Binds a reply to this node.
pub(super) fn read(Written(started_ms, nonce, call): Written) -> Result<(Owed, Arc<Owing>), &'static str> {
    let Ok(Escort::In { exchange, owing }) = ESCORT.try_with(Escort::clone) else {
        return Err("a reply is read on a move alone");
    };
    let caller = Incarnation { started_ms, nonce };
    let at = if caller == exchange.me() { Caller::Here } else { Caller::At(caller) };
    Ok((Owed::new(exchange, ReplyTo { at, call: CallId::from_u64(call) }), owing))
}
