//! States that processes show: to whoever watches them, and in their record.
//!
//! Promises: the last one is passed on, before the end of its process is; and no more than one a second.

use std::sync::Arc;
use std::time::Duration;

use whimbrel_core::base::{Bytes, Time};
use whimbrel_core::node::Input;

use super::{Entry, Exchange};
use crate::clock;
use crate::process::Instance;

/// Between two states of one process that are passed on.
const EVERY: Duration = Duration::from_secs(1);

/// What one life has shown.
#[derive(Debug, Default)]
pub(crate) struct Shown {
    /// The next one is not passed on before.
    next: Time,
    /// The last one, if it has yet to be passed on.
    waits: Option<Bytes>,
    /// A task will look at it when its time has come.
    is_timed: bool,
}

/// What is to be done with a state.
pub(crate) enum Passing {
    Now(Bytes),
    /// At this time, by a task.
    At(Time),
    /// A task will find it.
    Timed,
}

impl Shown {
    /// Another one is shown.
    pub(crate) fn show(&mut self, state: Bytes, now: Time) -> Passing {
        if !self.is_timed && now >= self.next {
            self.next = now + EVERY;
            return Passing::Now(state);
        }
        self.waits = Some(state);
        if std::mem::replace(&mut self.is_timed, true) { Passing::Timed } else { Passing::At(self.next) }
    }

    /// The time of the task has come.
    pub(crate) fn due(&mut self, now: Time) -> Option<Bytes> {
        self.is_timed = false;
        self.next = now + EVERY;
        self.waits.take()
    }

    /// Shown last, and not seen by anybody.
    pub(crate) fn take(&mut self) -> Option<Bytes> {
        self.waits.take()
    }

    /// The very last one.
    pub(crate) fn end_with(&mut self, state: Bytes) {
        self.waits = Some(state);
    }
}

impl Exchange {
    /// A process shows a state.
    pub(crate) fn publish(self: &Arc<Self>, entry: &Arc<Entry>, instance: &Arc<Instance>, state: Bytes) {
        match instance.show(|shown| shown.show(state, clock::time())) {
            Passing::Now(state) => self.pass_on(entry, instance, &state),
            Passing::Timed => {}
            Passing::At(at) => {
                let (exchange, entry, instance) = (self.clone(), entry.clone(), instance.clone());
                self.tasks.spawn_until_stopped("publish a state", async move {
                    tokio::time::sleep(at.since(clock::time())).await;
                    // Taken by whoever ended it, if it has.
                    if let Some(state) = instance.show(|shown| shown.due(clock::time())) {
                        exchange.pass_on(&entry, &instance, &state);
                    }
                });
            }
        }
    }

    fn pass_on(&self, entry: &Arc<Entry>, instance: &Instance, state: &Bytes) {
        let mut names = instance.names();
        if entry.is_named() {
            names.push(entry.clone());
        }
        for name in names {
            let token = name.lock().token();
            self.tell_node(Input::Snapshot { name: name.name().clone(), token, bytes: state.clone() });
        }
    }

    /// The process is about to leave this node, or to end: what it has shown last is passed on before.
    pub(crate) fn pass_on_last(&self, entry: &Arc<Entry>, instance: &Instance) {
        if let Some(state) = instance.show(Shown::take) {
            self.pass_on(entry, instance, &state);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Time {
        Time::from_micros(ms * 1_000)
    }

    fn bytes(text: &str) -> Bytes {
        Bytes::from(text.as_bytes())
    }

    #[test]
    fn one_a_second_is_passed_on_and_the_last_one_wins() {
        let mut shown = Shown::default();
        assert!(matches!(shown.show(bytes("a"), at(5_000)), Passing::Now(state) if state == bytes("a")));
        assert!(matches!(shown.show(bytes("b"), at(5_100)), Passing::At(time) if time == at(6_000)));
        assert!(matches!(shown.show(bytes("c"), at(5_200)), Passing::Timed));
        assert_eq!(shown.due(at(6_000)), Some(bytes("c")));
        assert!(matches!(shown.show(bytes("d"), at(6_999)), Passing::At(time) if time == at(7_000)));
        assert_eq!(shown.take(), Some(bytes("d")));
        assert_eq!(shown.due(at(7_000)), None, "the end has taken it");
        assert!(matches!(shown.show(bytes("e"), at(8_000)), Passing::Now(_)));
    }
}
