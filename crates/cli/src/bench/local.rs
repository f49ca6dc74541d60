//! The floors inside one process: what tokio and the standard library need for the same.

use std::collections::HashMap;
use std::convert::Infallible;
use std::hint::black_box;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};

use super::meter::{Target, per_second};

/// Mailbox of the floor's task: as large as that of a process.
pub(crate) const QUEUE_MESSAGES: usize = 16_384;
/// Lookups between two looks at the clock.
const LOOKUPS: u64 = 1_024;

/// A task with a queue: the least that can be called.
#[derive(Clone, Debug)]
pub(crate) struct Task(mpsc::Sender<Message>);

#[derive(Debug)]
enum Message {
    Call(String, oneshot::Sender<String>),
    Cast(String),
}

impl Task {
    pub(crate) fn start() -> Self {
        let (sender, mut queue) = mpsc::channel(QUEUE_MESSAGES);
        tokio::spawn(async move {
            let mut seen = 0_u64;
            while let Some(message) = queue.recv().await {
                seen += 1;
                match message {
                    Message::Call(text, reply) => drop(reply.send(text)),
                    Message::Cast(text) => drop(black_box(text)),
                }
            }
            seen
        });
        Self(sender)
    }
}

impl Target for Task {
    // It ends with its last sender, and we are one.
    type Error = Infallible;

    async fn call(&self, text: String) -> Result<(), Infallible> {
        let (reply, answer) = oneshot::channel();
        if self.0.send(Message::Call(text, reply)).await.is_ok() {
            let _ = black_box(answer.await);
        }
        Ok(())
    }

    async fn cast(&self, text: String) -> Result<(), Infallible> {
        let _ = self.0.send(Message::Cast(text)).await;
        Ok(())
    }
}

/// Tasks by their names, in a locked map: the least that can be started and found.
#[derive(Clone, Debug, Default)]
pub(crate) struct Names(Arc<RwLock<HashMap<String, Task>>>);

impl Names {
    pub(crate) fn start(&self, name: String) -> Task {
        let task = Task::start();
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(name, task.clone());
        task
    }
}

/// Lookups a second in a locked map.
pub(crate) fn lookup_per_s(names: &[String], during: Duration) -> f64 {
    let map: HashMap<String, Arc<u64>> =
        (0..).map(Arc::new).zip(names).map(|(at, name)| (name.clone(), at)).collect();
    let map = RwLock::new(map);
    lookups(names, during, |name| map.read().ok().and_then(|map| map.get(name).cloned()).is_some())
}

/// Looks names up in turn until the time is over.
pub(crate) fn lookups(names: &[String], during: Duration, find: impl Fn(&str) -> bool) -> f64 {
    let began = Instant::now();
    let mut done = 0;
    let mut turn = names.iter().cycle();
    while began.elapsed() < during {
        for name in turn.by_ref().take(usize::try_from(LOOKUPS).unwrap_or(0)) {
            black_box(find(name));
        }
        done += LOOKUPS;
    }
    per_second(done, began.elapsed())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::meter;
    use super::*;

    #[tokio::test]
    async fn the_floors_measure_something() {
        let task = Task::start();
        assert!(meter::call_ns(&task, 100).await.unwrap() > 0.0);
        assert!(meter::casts_per_s(&task, 1_000).await.unwrap() > 0.0);
        assert!(meter::calls_per_s(&task, 4, Duration::from_millis(2)).await.unwrap() > 0.0);
        let names: Vec<String> = (0..10).map(|at| at.to_string()).collect();
        assert!(lookup_per_s(&names, Duration::from_millis(2)) > 0.0);
    }

    #[tokio::test]
    async fn so_many_are_started_as_are_asked_for() {
        let names = Names::default();
        let known = names.clone();
        let start = move |name| {
            names.start(name);
            std::future::ready(Ok::<(), Infallible>(()))
        };
        meter::starts_per_s("a", 3, 10, start).await.unwrap();
        assert_eq!(known.0.read().unwrap().len(), 10);
    }
}
