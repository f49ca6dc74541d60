//! A way of one's own to find other nodes: here a table in memory, in earnest one in a database, or a cloud's API.
//!
//! A node enters its own address and reads those of all. It may fail at any time: the node goes on with the last
//! answer and asks again.

use std::collections::BTreeSet;
use std::error::Error;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use whimbrel::{Cluster, Discovered, Discovery, DiscoveryError, Here};

/// Where nodes enter themselves.
#[derive(Clone, Default)]
struct Table(Arc<Mutex<BTreeSet<String>>>);

impl Discovery for Table {
    fn discover<'a>(&'a self, here: &'a Here) -> Discovered<'a> {
        Box::pin(async {
            let mut rows = self.0.lock().map_err(|error| DiscoveryError::new(error.to_string()))?;
            rows.insert(here.address().to_owned());
            Ok(rows.iter().map(|address| address.as_str().into()).collect()) // its own may be among them
        })
    }

    fn pause(&self) -> Duration {
        Duration::from_millis(200) // how often it is asked, for ever
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let table = Table::default();
    let join = || Cluster::builder("shop").listen("127.0.0.1:0").discovery(table.clone()).join();
    let (a, b, c) = tokio::join!(join(), join(), join());
    let nodes = [a?, b?, c?];
    for node in &nodes {
        let view = node.wait_for_members(3, Duration::from_secs(30)).await?;
        println!("{} sees {} nodes", node.node_name(), view.members.len());
    }
    for node in nodes {
        node.leave().await;
    }
    Ok(())
}
