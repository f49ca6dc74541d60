//! Processes that move between nodes.

use whimbrel::Cluster;

use crate::kinds::*;
use crate::nodes::{leave_all, nodes};

/// The node where a counter runs, asked of itself.
async fn home(node: &Cluster, name: &str) -> String {
    node.process::<Counter>(name).unwrap().place().await.unwrap().0
}

/// The name of another node than the one where the counter runs.
async fn elsewhere(nodes: &[Cluster], name: &str) -> String {
    let home = home(&nodes[0], name).await;
    nodes.iter().map(|node| node.node_name().to_owned()).find(|node| *node != home).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn process_moves_with_its_state_and_every_node_finds_it() {
    let nodes = nodes(2).await;
    let counter = nodes[0].start::<Counter>("a", 40).await.unwrap().process;
    assert_eq!(counter.add(2).await, Ok(42));
    let token = counter.place().await.unwrap().1;
    let target = elsewhere(&nodes, "a").await;
    nodes[0].move_to("a", &target).await.unwrap();
    for node in &nodes {
        assert_eq!(home(node, "a").await, target);
        assert_eq!(node.process::<Counter>("a").unwrap().add(0).await, Ok(42));
    }
    assert!(counter.place().await.unwrap().1 > token);
    nodes[1].move_to("a", &target).await.unwrap();
    leave_all(nodes).await;
}
