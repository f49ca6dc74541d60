//! Timers of an instance: data in its task, not tasks.

use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use tokio::time::{Instant, Sleep};
use whimbrel_core::base::Time;

use super::guard;
use crate::exchange::Encoded;
use crate::message::Work;

/// Timers that one instance may have at a time.
const TIMERS_MAX: usize = 4_096;

/// Names a timer of one process, also after it has moved: keep it in the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct TimerId(u64);

/// What a timer brings.
pub(crate) enum Tick {
    Once(Box<dyn Work>),
    Every { period: Duration, make: Make, origin: Ticks },
}

/// Makes the message of one tick: user code.
pub(crate) type Make = Box<dyn FnMut() -> Option<Box<dyn Work>> + Send>;

/// Where the messages of a repeated timer come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ticks {
    /// From bytes: the timer moves with its process.
    Encoded,
    /// From a closure.
    Made,
}

/// A timer on its way to another node.
pub(crate) struct Moved {
    pub(crate) id: u64,
    pub(crate) message: Encoded,
    pub(crate) remaining: Duration,
    pub(crate) period: Option<Duration>,
}

struct Timer {
    id: TimerId,
    due: Time,
    tick: Tick,
}

/// All timers of an instance, next due first.
#[derive(Default)]
pub(crate) struct Timers {
    timers: Vec<Timer>,
    last: u64,
    /// Wakes the task at the time beside it.
    sleep: Option<(Time, Pin<Box<Sleep>>)>,
}

impl Timers {
    /// A new timer; with too many of them the id of none, and the first message that it would have brought.
    pub(crate) fn add(&mut self, due: Time, tick: Tick) -> (TimerId, Option<Box<dyn Work>>) {
        // Another node may have brought any number.
        self.last = self.last.wrapping_add(1);
        let id = TimerId(self.last);
        if self.timers.len() < TIMERS_MAX {
            self.insert(Timer { id, due, tick });
            return (id, None);
        }
        tracing::warn!("a process has {TIMERS_MAX} timers; one more was refused");
        match tick {
            Tick::Once(work) => (id, Some(work)),
            Tick::Every { mut make, .. } => (id, make()),
        }
    }

    /// The number of the last one.
    pub(crate) fn last(&self) -> u64 {
        self.last
    }

    /// All of them, as bytes; they stay. User code runs.
    pub(crate) fn moved(&mut self, now: Time) -> Result<Vec<Moved>, String> {
        let moved = |timer: &mut Timer| {
            let (message, period) = match &mut timer.tick {
                Tick::Once(work) => (Encoded::of(&**work)?, None),
                Tick::Every { origin: Ticks::Made, .. } => {
                    return Err("a timer of `send_every_with` stays on its node".to_owned());
                }
                Tick::Every { period, make, origin: Ticks::Encoded } => {
                    let work = guard::run(make).map_err(|panic| panic.to_string())?;
                    let work = work.ok_or_else(|| "a timer without a message".to_owned())?;
                    (Encoded::of(&*work)?, Some(*period))
                }
            };
            Ok(Moved { id: timer.id.0, message, remaining: timer.due.since(now), period })
        };
        self.timers.iter_mut().map(moved).collect()
    }

    /// Takes in one that another node brought; more than a process may have are none of its making.
    pub(crate) fn restore(&mut self, id: u64, last: u64, due: Time, tick: Tick) -> Result<(), &'static str> {
        if self.timers.len() >= TIMERS_MAX {
            return Err("more timers than a process may have");
        }
        self.last = self.last.max(last).max(id);
        self.insert(Timer { id: TimerId(id), due, tick });
        Ok(())
    }

    /// All are due later by so much: their process was not there.
    pub(crate) fn postpone(&mut self, by: Duration) {
        self.timers.iter_mut().for_each(|timer| timer.due = timer.due + by);
    }

    pub(crate) fn cancel(&mut self, id: TimerId) {
        self.timers.retain(|timer| timer.id != id);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.timers.is_empty()
    }

    /// The message of the first timer that is due.
    pub(crate) fn due(&mut self, now: Time) -> Option<Box<dyn Work>> {
        while self.timers.last().is_some_and(|timer| timer.due <= now) {
            let mut timer = self.timers.pop()?;
            match timer.tick {
                Tick::Once(work) => return Some(work),
                Tick::Every { period, ref mut make, .. } => {
                    let work = make();
                    // Missed ticks merge into this one; the phase stays.
                    let late = now.since(timer.due).as_micros();
                    let period_micros = period.as_micros().max(1);
                    let steps = u32::try_from(late / period_micros + 1).unwrap_or(u32::MAX);
                    timer.due = timer.due + period.saturating_mul(steps);
                    self.insert(timer);
                    if work.is_some() {
                        return work;
                    }
                }
            }
        }
        None
    }

    /// Registers the task to be woken when the next timer is due; ready if one is due already.
    pub(crate) fn poll_due(&mut self, now: Time, task: &mut std::task::Context<'_>) -> Poll<()> {
        let Some(due) = self.timers.last().map(|timer| timer.due) else {
            return Poll::Pending;
        };
        if due <= now {
            return Poll::Ready(());
        }
        if self.sleep.as_ref().is_none_or(|(at, _)| *at != due) {
            // One microsecond more than the difference: the clocks are read apart.
            let until = Instant::now() + due.since(now) + Duration::from_micros(1);
            match &mut self.sleep {
                Some((at, sleep)) => {
                    *at = due;
                    sleep.as_mut().reset(until);
                }
                None => self.sleep = Some((due, Box::pin(tokio::time::sleep_until(until)))),
            }
        }
        let Some((_, sleep)) = &mut self.sleep else {
            return Poll::Pending;
        };
        let elapsed = sleep.as_mut().poll(task);
        if elapsed.is_ready() {
            self.sleep = None;
        }
        elapsed
    }

    /// Keeps the list sorted, last one due first; of equal ones the older stays nearer to its end.
    fn insert(&mut self, timer: Timer) {
        let at = self.timers.partition_point(|other| other.due > timer.due);
        self.timers.insert(at, timer);
    }
}

use std::future::Future as _;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::any::{Any, TypeId};

    use whimbrel_core::base::{ShortBytes, Token};

    use super::*;
    use crate::exchange::Head;
    use crate::message::work::Handling;

    struct Named(&'static str, Head);

    impl Work for Named {
        fn head(&self) -> &Head {
            &self.1
        }
        fn head_mut(&mut self) -> &mut Head {
            &mut self.1
        }
        fn name(&self) -> &'static str {
            self.0
        }
        fn kind(&self) -> &'static str {
            "test"
        }
        fn process_type(&self) -> TypeId {
            TypeId::of::<()>()
        }
        fn message_type(&self) -> TypeId {
            TypeId::of::<()>()
        }
        fn give(self: Box<Self>, _: &mut dyn Any) {}
        fn travels(&self) -> bool {
            false
        }
        fn encode(&self) -> Result<ShortBytes, String> {
            Err("local".into())
        }
        fn start<'a>(
            self: Box<Self>,
            _: &'a mut (dyn Any + Send),
            _: &'a mut (dyn Any + Send),
        ) -> Option<Handling<'a>> {
            None
        }
    }

    fn at(ms: u64) -> Time {
        Time::from_micros(ms * 1_000)
    }

    fn due(timers: &mut Timers, ms: u64) -> Vec<&'static str> {
        std::iter::from_fn(|| timers.due(at(ms))).map(|work| work.name()).collect()
    }

    #[test]
    fn timers_fire_in_the_order_in_which_they_are_due() {
        let mut timers = Timers::default();
        timers.add(at(20), Tick::Once(Box::new(Named("late", Head::cast(Token::NONE)))));
        timers.add(at(10), Tick::Once(Box::new(Named("early", Head::cast(Token::NONE)))));
        let (cancelled, _) =
            timers.add(at(5), Tick::Once(Box::new(Named("cancelled", Head::cast(Token::NONE)))));
        timers.cancel(cancelled);
        assert_eq!(due(&mut timers, 9), [] as [&str; 0]);
        assert_eq!(due(&mut timers, 30), ["early", "late"]);
        assert!(timers.is_empty());
    }

    #[test]
    fn one_timer_too_many_gives_its_message_back() {
        let mut timers = Timers::default();
        for _ in 0..TIMERS_MAX {
            assert!(
                timers.add(at(10), Tick::Once(Box::new(Named("kept", Head::cast(Token::NONE))))).1.is_none()
            );
        }
        let (id, refused) =
            timers.add(at(1), Tick::Once(Box::new(Named("refused", Head::cast(Token::NONE)))));
        assert_eq!(refused.map(|work| work.name()), Some("refused"));
        timers.cancel(id);
        assert_eq!(due(&mut timers, 9), [] as [&str; 0]);
        assert_eq!(due(&mut timers, 10).len(), TIMERS_MAX);
    }

    #[test]
    fn missed_ticks_merge_into_one_and_keep_the_phase() {
        let mut timers = Timers::default();
        let make: Box<dyn FnMut() -> Option<Box<dyn Work>> + Send> =
            Box::new(|| Some(Box::new(Named("tick", Head::cast(Token::NONE)))));
        timers.add(at(10), Tick::Every { period: Duration::from_millis(10), make, origin: Ticks::Made });
        assert_eq!(due(&mut timers, 47), ["tick"]);
        assert_eq!(due(&mut timers, 49), [] as [&str; 0]);
        assert_eq!(due(&mut timers, 50), ["tick"]);
    }
}
