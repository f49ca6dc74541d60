//! The example of the README: a counter with a name, on a cluster of one node.

use serde::{Deserialize, Serialize};
use whimbrel::{Cluster, Context, ExitReason, KindOptions, Process, handlers};

#[derive(Serialize, Deserialize)]
struct Counter {
    value: u64,
}

impl Process for Counter {
    const KIND: &'static str = "counter";
    type Args = u64; // kept by the cluster and used at every start and restart

    async fn init(start: u64, _cx: &mut Context<Self>) -> Result<Self, ExitReason> {
        Ok(Counter { value: start })
    }
}

#[handlers] // makes the messages, and the trait `CounterRef` that sends them
impl Counter {
    #[call]
    async fn add(&mut self, n: u64) -> u64 {
        self.value += n;
        self.value
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let cluster = Cluster::local().kind::<Counter>(KindOptions::default()).join().await?;
    let basket = cluster.get_or_start::<Counter>("basket:42", 0).await?;
    let total = basket.add(1).await?; // the same line on any node
    println!("basket:42 holds {total}");
    assert_eq!(total, 1);
    cluster.leave().await;
    Ok(())
}
