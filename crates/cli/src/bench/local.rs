//! The floors inside one process: what tokio and the standard library need for the same.

use std::collections::HashMap;
use std::hint::black_box;
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};

/// Mailbox of the floor's task.
const QUEUE_MESSAGES: usize = 16_384;
/// Lookups between two looks at the clock.
const LOOKUPS: u64 = 1_024;

/// A task with a queue: the least that can be called.
#[derive(Clone, Debug)]
struct Task(mpsc::Sender<Message>);

#[derive(Debug)]
enum Message {
    Call(String, oneshot::Sender<String>),
    Cast(String),
}

impl Task {
    fn start() -> Self {
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

    async fn call(&self, text: String) {
        let (reply, answer) = oneshot::channel();
        if self.0.send(Message::Call(text, reply)).await.is_ok() {
            let _ = black_box(answer.await);
        }
    }
}

/// Nanoseconds of a call.
pub(crate) async fn call_ns(calls: u64, payload: &str) -> f64 {
    let task = Task::start();
    task.call(payload.to_owned()).await;
    let began = Instant::now();
    for _ in 0..calls {
        task.call(payload.to_owned()).await;
    }
    each_ns(began.elapsed(), calls)
}

/// Casts a second.
pub(crate) async fn cast_per_s(casts: u64, payload: &str) -> f64 {
    let task = Task::start();
    let began = Instant::now();
    for _ in 0..casts {
        let _ = task.0.send(Message::Cast(payload.to_owned())).await;
    }
    task.call(payload.to_owned()).await;
    per_second(casts, began.elapsed())
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

/// Bytes of a task that waits for its queue.
pub(crate) async fn idle_bytes(count: u64) -> Option<f64> {
    let before = resident_bytes()?;
    let mut tasks = Vec::new();
    for _ in 0..count {
        tasks.push(Task::start());
    }
    tokio::task::yield_now().await;
    let bytes = each_bytes(before, count);
    drop(tasks);
    bytes
}

/// Growth of the resident memory since `before`, for each of `count`.
#[allow(clippy::cast_precision_loss)]
pub(crate) fn each_bytes(before: u64, count: u64) -> Option<f64> {
    Some(resident_bytes()?.saturating_sub(before) as f64 / count as f64)
}

/// Resident memory of this process, where the system tells it.
pub(crate) fn resident_bytes() -> Option<u64> {
    resident_bytes_of(std::process::id())
}

/// Resident memory of a process of this user, where the system tells it.
pub(crate) fn resident_bytes_of(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    let kilobytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kilobytes * 1_024)
}

/// Rate.
#[allow(clippy::cast_precision_loss)]
pub(crate) fn per_second(count: u64, during: Duration) -> f64 {
    count as f64 / during.as_secs_f64().max(1e-9)
}

/// Duration of one of many.
#[allow(clippy::cast_precision_loss)]
pub(crate) fn each_ns(during: Duration, count: u64) -> f64 {
    during.as_nanos() as f64 / count.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_floors_measure_something() {
        assert!(call_ns(100, "x").await > 0.0);
        assert!(cast_per_s(1_000, "x").await > 0.0);
        let names: Vec<String> = (0..10).map(|at| at.to_string()).collect();
        assert!(lookup_per_s(&names, Duration::from_millis(2)) > 0.0);
    }
}
