//! Metadata of names.

use whimbrel::limits::METADATA_BYTES_MAX;
use whimbrel::{Executed, Metadata, MetadataError, RecordState, RequestError};

use super::member::*;
use crate::nodes::leave_all;

fn one(key: &str, text: &str) -> Metadata {
    Metadata::new().with(key, text).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn metadata_is_read_and_replaced_from_every_node_and_stays_with_the_name() {
    let nodes = rooms(2).await;
    let process = nodes[0].start::<Member>("a", Origin::default()).await.unwrap().process;
    let empty = nodes[1].metadata("a").await.unwrap();
    assert_eq!((empty.version, empty.map.is_empty()), (0, true));
    let first = nodes[1].set_metadata("a", one("topic", "birds"), None).await.unwrap();
    assert_eq!(nodes[0].metadata("a").await.as_ref(), Ok(&first));

    let late = nodes[0].set_metadata("a", one("topic", "fish"), Some(empty.version)).await.unwrap_err();
    assert_eq!(late, MetadataError::Conflict { current: first.clone() });
    assert_eq!((late.executed(), late.is_passing()), (Executed::No, false));
    let second = nodes[0].set_metadata("a", one("topic", "fish"), Some(first.version)).await.unwrap();
    assert!(second.version > first.version);

    process.fail().unwrap();
    assert_eq!(process.heard().await.unwrap(), Heard::default(), "another life");
    let home = process.home().await.unwrap();
    let other = nodes.iter().find(|node| node.node_name() != home).unwrap();
    nodes[0].move_to("a", other.node_name()).await.unwrap();
    room(&nodes[0], "lobby").join(&process).await.unwrap();
    let inspected = nodes[1].inspect("a").await.unwrap();
    assert_eq!((inspected.meta, inspected.state), (second, RecordState::Running));
    assert_eq!(inspected.groups[0].group, *room(&nodes[0], "lobby").group());
    assert_eq!(inspected.located.host, other.incarnation());

    nodes[0].stop("a").await.unwrap();
    assert_eq!(nodes[1].metadata("a").await, Err(RequestError::NotFound));
    let gone = nodes[0].set_metadata("a", Metadata::new(), None).await.unwrap_err();
    assert_eq!(gone, RequestError::NotFound.into());
    leave_all(nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_update_of_several_at_the_same_time_is_lost() {
    let nodes = rooms(2).await;
    nodes[0].start::<Member>("a", Origin::default()).await.unwrap();
    let updates = nodes.iter().cycle().take(8).cloned().map(|node| {
        tokio::spawn(async move {
            for _ in 0..10 {
                let add = |map: Metadata| {
                    let n: u64 = map.get("n").map_or(0, |n| n.parse().unwrap());
                    map.with("n", &(n + 1).to_string())
                };
                node.update_metadata("a", add).await.unwrap();
            }
        })
    });
    for update in updates.collect::<Vec<_>>() {
        update.await.unwrap();
    }
    let read = nodes[1].metadata("a").await.unwrap();
    assert_eq!((read.version, read.map.get("n")), (80, Some("80")));
    let refused = nodes[0].update_metadata("a", |map| map.with("n", &"x".repeat(METADATA_BYTES_MAX))).await;
    assert!(matches!(refused, Err(MetadataError::BadMetadata(_))), "{refused:?}");
    assert_eq!(nodes[0].metadata("a").await.unwrap(), read);
    leave_all(nodes).await;
}
