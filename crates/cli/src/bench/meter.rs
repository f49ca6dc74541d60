//! How things are measured: the same loops for Whimbrel, for the floor, and in `benches/peers` for other libraries,
//! which compile this very file.
//!
//! Every message is a text of [`PAYLOAD_BYTES`], made anew for each send. A cast counts when it was handled: a call
//! goes behind the last one. All waiting is for the thing measured, never for the clock.

use std::future::Future;
use std::time::{Duration, Instant};

/// Bytes of a payload.
pub(crate) const PAYLOAD_BYTES: usize = 64;
/// Casts of one burst.
pub(crate) const BURST: u64 = 1_024;

/// What can be measured: something that answers with what it is sent.
pub(crate) trait Target: Clone + Send + Sync + 'static {
    /// Why it did not.
    type Error: Send + 'static;

    /// Sends a text and waits for it to come back.
    fn call(&self, text: String) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Sends a text; waits until there is room for it, where room is limited.
    fn cast(&self, text: String) -> impl Future<Output = Result<(), Self::Error>> + Send;
}

/// What is sent.
pub(crate) fn payload() -> String {
    "x".repeat(PAYLOAD_BYTES)
}

/// The name of a process: 20 bytes with a prefix of 12.
pub(crate) fn name_of(prefix: &str, at: u64) -> String {
    format!("{prefix}-{at:07}")
}

/// Calls one after the other; nanoseconds each.
pub(crate) async fn call_ns<T: Target>(target: &T, calls: u64) -> Result<f64, T::Error> {
    let payload = payload();
    target.call(payload.clone()).await?;
    let began = Instant::now();
    for _ in 0..calls {
        target.call(payload.clone()).await?;
    }
    Ok(each_ns(began.elapsed(), calls))
}

/// Calls one after the other; the median in microseconds.
pub(crate) async fn call_p50_us<T: Target>(target: &T, calls: u64) -> Result<f64, T::Error> {
    let payload = payload();
    let mut each = Vec::with_capacity(usize::try_from(calls).unwrap_or(0));
    for _ in 0..calls {
        let began = Instant::now();
        target.call(payload.clone()).await?;
        each.push(each_ns(began.elapsed(), 1_000));
    }
    each.sort_by(f64::total_cmp);
    Ok(each.get(each.len() / 2).copied().unwrap_or(f64::NAN))
}

/// Calls from many tasks at the same time; how many a second.
pub(crate) async fn calls_per_s<T: Target>(
    target: &T,
    tasks: u32,
    during: Duration,
) -> Result<f64, T::Error> {
    let began = Instant::now();
    let counts = in_tasks(tasks, |_| {
        let target = target.clone();
        async move {
            let payload = payload();
            let mut calls = 0;
            while began.elapsed() < during {
                target.call(payload.clone()).await?;
                calls += 1;
            }
            Ok(calls)
        }
    });
    let calls: u64 = counts.await?.into_iter().sum();
    Ok(per_second(calls, began.elapsed()))
}

/// Casts until all were handled; how many a second.
pub(crate) async fn casts_per_s<T: Target>(target: &T, casts: u64) -> Result<f64, T::Error> {
    let payload = payload();
    let began = Instant::now();
    for _ in 0..casts {
        target.cast(payload.clone()).await?;
    }
    target.call(payload).await?;
    Ok(per_second(casts, began.elapsed()))
}

/// Bursts of casts, each until all of it was handled; how many casts a second.
pub(crate) async fn bursts_per_s<T: Target>(target: &T, bursts: u64) -> Result<f64, T::Error> {
    let payload = payload();
    let began = Instant::now();
    for _ in 0..bursts {
        for _ in 0..BURST {
            target.cast(payload.clone()).await?;
        }
        target.call(payload.clone()).await?;
    }
    Ok(per_second(bursts * BURST, began.elapsed()))
}

/// Starts so many named processes from many tasks at the same time; how many a second.
pub(crate) async fn starts_per_s<E, F>(
    prefix: &str,
    tasks: u32,
    count: u64,
    start: impl Fn(String) -> F + Clone + Send + 'static,
) -> Result<f64, E>
where
    E: Send + 'static,
    F: Future<Output = Result<(), E>> + Send,
{
    let began = Instant::now();
    let started = in_tasks(tasks, |task| {
        let (prefix, start) = (prefix.to_owned(), start.clone());
        async move {
            for at in (u64::from(task)..count).step_by(tasks as usize) {
                start(name_of(&prefix, at)).await?;
            }
            Ok(0)
        }
    });
    started.await?;
    Ok(per_second(count, began.elapsed()))
}

/// Starts so many named processes, calls each once and keeps them; bytes each, where the system tells.
pub(crate) async fn idle_bytes<T: Target, F>(
    count: u64,
    start: impl Fn(String) -> F,
) -> Result<Option<f64>, T::Error>
where
    F: Future<Output = Result<T, T::Error>>,
{
    let mut targets = Vec::with_capacity(usize::try_from(count).unwrap_or(0));
    // Written to, so that the list is resident before what it will hold.
    targets.resize(targets.capacity(), None);
    let Some(before) = resident_bytes_of(std::process::id()) else { return Ok(None) };
    for (at, place) in (0..).zip(&mut targets) {
        let target = start(name_of("idle-process", at)).await?;
        target.call(payload()).await?;
        *place = Some(target);
    }
    let bytes = each_bytes(before, count);
    drop(targets);
    Ok(bytes)
}

/// Runs so many tasks at the same time; what they came to.
async fn in_tasks<E, F>(tasks: u32, task: impl Fn(u32) -> F) -> Result<Vec<u64>, E>
where
    E: Send + 'static,
    F: Future<Output = Result<u64, E>> + Send + 'static,
{
    let mut running = tokio::task::JoinSet::new();
    for number in 0..tasks {
        running.spawn(task(number));
    }
    running.join_all().await.into_iter().collect()
}

/// Growth of the resident memory since `before`, for each of `count`.
#[allow(clippy::cast_precision_loss)]
fn each_bytes(before: u64, count: u64) -> Option<f64> {
    Some(resident_bytes_of(std::process::id())?.saturating_sub(before) as f64 / count as f64)
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
fn each_ns(during: Duration, count: u64) -> f64 {
    during.as_nanos() as f64 / count.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_of_an_idle_process_has_twenty_bytes() {
        assert_eq!(name_of("idle-process", 99_999).len(), 20);
    }
}
