//! Groups, in a process of the bench: what joins them, and what is published to them.

use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use whimbrel::{Cluster, GroupError, GroupRef};

use super::child::{Echo, EchoCount, EchoEcho};
use super::command::Command;
use super::meter::{self, name_of, per_second};
use crate::control::Trouble;

/// The scope of all groups of the bench.
const SCOPE: &str = "bench";
/// Messages that are published before it is asked whether all were handled: far below the limit of a mailbox.
const BURST: u64 = 256;
/// How long the last of these may take.
const HANDLED_WITHIN: Duration = Duration::from_secs(30);

/// Carries out a command about groups.
pub(crate) async fn answer(cluster: &Cluster, command: Command) -> Result<Option<f64>, Trouble> {
    match command {
        Command::JoinAll { prefix, names, groups, tasks } => {
            join_all(cluster, &prefix, names, groups, tasks).await.map(Some)
        }
        Command::FillGroup { prefix, names, tasks } => {
            each(cluster, &prefix, names, 1, tasks, Step::Join).await.map(|()| None)
        }
        Command::Publish { prefix, names, times } => publish(cluster, &prefix, names, times).await.map(Some),
        _ => Ok(None),
    }
}

/// Puts names into groups from this many tasks; answered with how many a second. Then takes them out again.
async fn join_all(
    cluster: &Cluster,
    prefix: &str,
    names: u64,
    groups: u64,
    tasks: u32,
) -> Result<f64, Trouble> {
    let began = Instant::now();
    each(cluster, prefix, names, groups, tasks, Step::Join).await?;
    let rate = per_second(names, began.elapsed());
    each(cluster, prefix, names, groups, tasks, Step::Leave).await?;
    Ok(rate)
}

#[derive(Clone, Copy)]
enum Step {
    Join,
    Leave,
}

/// Every task takes its part of the names, one after the other.
async fn each(
    cluster: &Cluster,
    prefix: &str,
    names: u64,
    groups: u64,
    tasks: u32,
    step: Step,
) -> Result<(), Trouble> {
    let mut running = JoinSet::new();
    for task in 0..u64::from(tasks) {
        let (cluster, prefix) = (cluster.clone(), prefix.to_owned());
        running.spawn(async move {
            for at in (task..names).step_by(tasks as usize) {
                let group = group(&cluster, &name_of(&prefix, at % groups))?;
                let process = cluster.process::<Echo>(&name_of(&prefix, at));
                let process = process.map_err(|error| Trouble::new("not a name", error))?;
                let done = match step {
                    Step::Join => group.join(&process).await,
                    Step::Leave => group.leave(&process).await,
                };
                done.map_err(|error| Trouble::new("a group could not be joined or left", error))?;
            }
            Ok::<(), Trouble>(())
        });
    }
    while let Some(done) = running.join_next().await {
        done.map_err(|error| Trouble::new("a task failed", error))??;
    }
    Ok(())
}

/// Publishes to the group that was filled until all was handled; answered with how many members were told in a second.
async fn publish(cluster: &Cluster, prefix: &str, names: u64, times: u64) -> Result<f64, Trouble> {
    let group = group(cluster, &name_of(prefix, 0))?;
    let failed = |error: GroupError| Trouble::new("a group could not be told", error);
    let began = Instant::now();
    for at in 1..=times {
        let told = group.publish::<Echo, _>(EchoCount { text: meter::payload() }).await.map_err(failed)?;
        if told as u64 != names {
            return Err(Trouble::new(format!("{told} of {names} members took a message"), "one has no room"));
        }
        if at % BURST == 0 || at == times {
            // Behind all that was published.
            let ask = EchoEcho { text: String::new() };
            let all = group.call_all::<Echo, _>(ask, HANDLED_WITHIN).await.map_err(failed)?;
            if all.replies.len() as u64 != names {
                return Err(Trouble::new("a member did not answer", format!("{:?}", all.failures.first())));
            }
        }
    }
    Ok(per_second(names * times, began.elapsed()))
}

fn group(cluster: &Cluster, name: &str) -> Result<GroupRef, Trouble> {
    cluster.group(SCOPE, name).map_err(|error| Trouble::new("not a name", error))
}
