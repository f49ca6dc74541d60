//! Very many monitors, set before, during and after the ends and the moves of those that they watch.

use std::collections::{BTreeMap, BTreeSet};

use tokio::task::JoinSet;
use whimbrel::{Cluster, ExitReason, Monitor, ProcessRef};

use super::told::heard;
use super::watcher::*;
use super::{down_of, worker};
use crate::nodes::{answer, leave_all};

const NAMES: usize = 100;
/// Of code outside, for each name and node, in each of three parts.
const PART: usize = 10;
/// Of a process that moves, for each name.
const INSIDE: usize = 10;

fn name(at: usize) -> String {
    format!("watched:{at}")
}

/// Sets a part of the monitors of all nodes, at the same time.
fn set_part(nodes: &[Cluster]) -> JoinSet<Vec<Monitor>> {
    let mut setting = JoinSet::new();
    for node in nodes {
        for at in 0..NAMES {
            let node = node.clone();
            setting.spawn(async move {
                let mut monitors = Vec::new();
                for _ in 0..PART {
                    monitors.push(node.monitor(&name(at)).await.unwrap());
                }
                monitors
            });
        }
    }
    setting
}

/// How many ends they hear, by their reasons.
async fn hear(setting: JoinSet<Vec<Monitor>>) -> BTreeMap<String, usize> {
    let mut reasons = BTreeMap::new();
    for mut monitor in setting.join_all().await.into_iter().flatten() {
        *reasons.entry(down_of(&mut monitor).await.reason.to_string()).or_default() += 1;
    }
    reasons
}

/// Moves all, then ends all.
async fn move_and_end(nodes: &[Cluster], watcher: &ProcessRef<Watcher>) {
    let mut ending = JoinSet::new();
    for at in 0..NAMES {
        let (node, to) = (nodes[at % 3].clone(), nodes[(at + 1) % 3].node_name().to_owned());
        ending.spawn(async move {
            node.move_to(&name(at), &to).await.unwrap();
            node.process::<Worker>(&name(at)).unwrap().end(Some("at last".into())).unwrap();
        });
    }
    for node in nodes {
        node.move_to("watcher", node.node_name()).await.unwrap();
        answer(|| watcher.heard()).await;
    }
    ending.join_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn ten_thousand_monitors_hear_ten_thousand_ends() {
    let nodes = watchers(3).await;
    for at in 0..NAMES {
        worker(&nodes[at % 3], &name(at)).await;
    }
    let watcher = nodes[0].start::<Watcher>("watcher", ()).await.unwrap().process;
    let mut ids = BTreeSet::new();
    for at in 0..NAMES {
        for _ in 0..INSIDE {
            ids.insert(watcher.watch(name(at)).await.unwrap().unwrap());
        }
    }
    let before = set_part(&nodes).join_all().await;
    let during = set_part(&nodes);
    move_and_end(&nodes, &watcher).await;
    let part = 3 * NAMES * PART;
    let (gone, nobody) = (ExitReason::Error("at last".into()).to_string(), ExitReason::NoProcess.to_string());
    let before = before.into_iter().map(|monitors| async move { monitors }).collect();
    assert_eq!(hear(before).await, BTreeMap::from([(gone.clone(), part)]));
    let after = set_part(&nodes);
    assert_eq!(hear(after).await, BTreeMap::from([(nobody.clone(), part)]));
    let during = hear(during).await;
    assert_eq!(during.values().sum::<usize>(), part);
    assert!(during.keys().all(|reason| *reason == gone || *reason == nobody), "{during:?}");
    let inside = heard(&watcher, ids.len()).await;
    assert!(inside.iter().all(|one| one.reason == gone), "{inside:?}");
    assert_eq!(inside.iter().map(|one| one.id).collect::<BTreeSet<_>>(), ids);
    assert_eq!(answer(|| watcher.heard()).await.len() + 3 * part, 10_000);
    leave_all(nodes).await;
}
