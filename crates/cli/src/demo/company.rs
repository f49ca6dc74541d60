//! Who belongs together and who ends: the counters' groups, and a watcher on each node that hears of every end.

use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use whimbrel::{Cluster, ExitReason};

use super::evidence::{
    CLEANER, Channel, GroupLine, MonitorAt, MonitorLine, counter_name, group_name, write_line,
};
use super::kinds::{Counter, node_name};
use crate::control::Trouble;
use crate::os;

/// Scope of the demo's groups.
const SCOPE: &str = "demo";
/// Joins, readings and monitors under way at the same time.
const AT_ONCE: usize = 128;
/// Counters that a node watches at most.
const WATCHED_MAX: u32 = 1_000;
/// Pause before a monitor that could not be set is set again.
const RETRY: Duration = Duration::from_millis(100);
/// Characters of a reason that are written down.
const REASON_CHARS_MAX: usize = 100;

/// Puts each of these counters into its group.
pub(crate) async fn join_groups(cluster: &Cluster, counters: Vec<u32>) -> Result<(), Trouble> {
    each(counters, |counter| {
        let cluster = cluster.clone();
        async move {
            let process = cluster.process::<Counter>(&counter_name(counter));
            let process = process.map_err(|error| Trouble::new("a counter has a bad name", error))?;
            let group = cluster.group(SCOPE, &group_name(counter));
            let group = group.map_err(|error| Trouble::new("a group has a bad name", error))?;
            let joined = group.join(&process).await;
            joined.map_err(|error| Trouble::new(format!("{} could not join", counter_name(counter)), error))
        }
    })
    .await
}

/// Reads every group of so many counters, and writes down who is in it.
pub(crate) async fn read_groups(cluster: &Cluster, step: String, counters: u32) -> Result<(), Trouble> {
    let groups: std::collections::BTreeSet<String> = (0..counters).map(group_name).collect();
    each(groups.into_iter().collect(), |name| {
        let (cluster, step) = (cluster.clone(), step.clone());
        async move {
            let group = cluster.group(SCOPE, &name);
            let group = group.map_err(|error| Trouble::new("a group has a bad name", error))?;
            let members = group.members().await;
            let members = members.map_err(|error| Trouble::new(format!("{name} can not be read"), error))?;
            let members = members.into_iter().map(|member| member.name.to_string()).collect();
            let (node, t_us) = (node_name(), os::monotonic_us());
            write_line(Channel::Groups, &GroupLine { step, group: name, members, node, t_us });
            Ok(())
        }
    })
    .await
}

/// Watches the first of so many counters, and the cleaner, for as long as this node lives. Returns when every monitor is
/// set.
pub(crate) async fn watch(cluster: &Cluster, counters: u32) -> Result<(), Trouble> {
    let names = (0..counters.min(WATCHED_MAX)).map(counter_name).chain([CLEANER.to_owned()]);
    each(names.collect(), |name| {
        let cluster = cluster.clone();
        async move {
            let (set, is_set) = tokio::sync::oneshot::channel();
            tokio::spawn(watch_one(cluster, name.clone(), set));
            is_set.await.map_err(|error| Trouble::new(format!("{name} can not be watched"), error))
        }
    })
    .await
}

/// One life after the other.
async fn watch_one(cluster: Cluster, name: String, set: tokio::sync::oneshot::Sender<()>) {
    let mut set = Some(set);
    let mut number = 0;
    loop {
        let Ok(mut monitor) = cluster.monitor(&name).await else {
            tokio::time::sleep(RETRY).await;
            continue;
        };
        number += 1;
        write_monitor(&name, number, MonitorAt::Set, None, None);
        if let Some(set) = set.take() {
            // Whoever asked may be gone.
            let _gone = set.send(());
        }
        let down = monitor.down().await;
        if down.reason == ExitReason::NodeLost && down.token == whimbrel::Token::default() {
            // This node is closed: it hears of nothing any more.
            return;
        }
        write_monitor(&name, number, MonitorAt::Down, Some(down.token.as_u64()), Some(&down.reason));
        if down.reason == ExitReason::NoProcess {
            tokio::time::sleep(RETRY).await;
        }
    }
}

fn write_monitor(name: &str, number: u64, at: MonitorAt, token: Option<u64>, reason: Option<&ExitReason>) {
    let reason = reason.map(|reason| reason.to_string().chars().take(REASON_CHARS_MAX).collect());
    let (node, pid, t_us) = (node_name(), std::process::id(), os::monotonic_us());
    let line = MonitorLine { name: name.to_owned(), number, at, token, reason, node, pid, t_us };
    write_line(Channel::Monitors, &line);
}

/// Does so with each of these, some at a time; the first trouble ends it.
async fn each<T, F>(all: Vec<T>, mut what: impl FnMut(T) -> F) -> Result<(), Trouble>
where
    F: Future<Output = Result<(), Trouble>> + Send + 'static,
{
    let turns = std::sync::Arc::new(Semaphore::new(AT_ONCE));
    let mut under_way = JoinSet::new();
    for one in all {
        let (turns, doing) = (turns.clone(), what(one));
        under_way.spawn(async move {
            let _turn = turns.acquire().await;
            doing.await
        });
    }
    while let Some(done) = under_way.join_next().await {
        done.map_err(|error| Trouble::new("a task of the demo ended", error))??;
    }
    Ok(())
}
