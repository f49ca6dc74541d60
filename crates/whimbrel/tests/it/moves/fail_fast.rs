//! Calls that would rather fail than wait for a process on its way.

use whimbrel::{CallError, Executed};

use super::doors;
use super::traveller::*;
use crate::kinds::*;
use crate::nodes::leave_all;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn call_that_fails_fast_ends_while_its_process_is_on_its_way_and_is_not_handled() {
    let nodes = travellers(3).await;
    let process = nodes[0].start::<Traveller>("hasty", trip(How::WaitHere)).await.unwrap().process;
    for node in &nodes {
        let process = node.process::<Traveller>("hasty").unwrap();
        let client = node.node_name().to_owned();
        assert_eq!(process.count(client, 1).fail_fast_while_moving().await, Ok(1), "it does not move yet");
    }
    let target = elsewhere(&nodes, "hasty").await;
    let mover = nodes[1].clone();
    let moved = {
        let target = target.to_owned();
        tokio::spawn(async move { mover.move_to("hasty", &target).await })
    };
    doors::pass(&nodes[0], "handoff reached").await;
    // Its gate is sealed, on every node it is on its way.
    let mut waiting = Vec::new();
    for node in &nodes {
        let process = node.process::<Traveller>("hasty").unwrap();
        let client = node.node_name().to_owned();
        for _ in 0..3 {
            let error = process.count(client.clone(), 9).fail_fast_while_moving().deadline(LONG).await;
            let error = error.expect_err("it is on its way");
            assert!(matches!(error, CallError::Moving { .. }), "{error:?}");
            assert_eq!(error.executed(), Executed::No);
        }
        waiting.push(sent(process.count(client, 2).deadline(LONG)));
    }
    doors::open(&nodes[0], "handoff");
    assert_eq!(moved.await.unwrap(), Ok(()));
    for call in waiting {
        assert_eq!(call.await, Ok(2), "others wait, and are answered there");
    }
    for node in &nodes {
        let process = node.process::<Traveller>("hasty").unwrap();
        let client = node.node_name().to_owned();
        assert_eq!(process.count(client, 3).fail_fast_while_moving().deadline(LONG).await, Ok(3));
    }
    assert_eq!(home(&nodes[2], "hasty").await, target);
    assert_eq!(process.seen().await.unwrap().odd, [], "what failed was not handled");
    leave_all(nodes).await;
}
