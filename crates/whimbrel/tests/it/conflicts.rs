//! Two instances of one name meet, as those on the two sides of a split do.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::timeout;
use whimbrel::{Cluster, Context, ExitReason, Handoff, KindOptions, Process, SeedsFile, State, handlers};

use crate::discovery::{Seeds, all_see, node};
use crate::kinds::*;

/// Gives its whole state.
#[derive(Serialize, Deserialize)]
struct Basket {
    items: BTreeSet<String>,
}

impl Process for Basket {
    const KIND: &'static str = "basket";
    const RESOLVES_CONFLICTS: bool = true;
    type Args = ();

    async fn init(_args: (), _cx: &mut Context<Self>) -> Result<Self, ExitReason> {
        Ok(Basket { items: BTreeSet::new() })
    }

    async fn resolve_conflict(&mut self, other: State, _cx: &mut Context<Self>) {
        self.items.extend(other.read::<Basket>().unwrap().items);
    }
}

#[handlers]
impl Basket {
    #[call]
    async fn put(&mut self, item: String) {
        self.items.insert(item);
    }

    #[call]
    async fn items(&self) -> BTreeSet<String> {
        self.items.clone()
    }
}

/// Gives bytes of its own, and counts whom it has met.
#[derive(Serialize, Deserialize)]
struct Tally {
    sum: u64,
    met: u64,
}

impl Process for Tally {
    const KIND: &'static str = "tally";
    const RESOLVES_CONFLICTS: bool = true;
    const STATE_VERSION: u32 = 7;
    type Args = u64;

    async fn init(sum: u64, _cx: &mut Context<Self>) -> Result<Self, ExitReason> {
        Ok(Tally { sum, met: 0 })
    }

    async fn handoff(&mut self, _cx: &mut Context<Self>) -> Handoff {
        Handoff::Resume(State::of_bytes(self.sum.to_be_bytes().to_vec()))
    }

    async fn resolve_conflict(&mut self, other: State, _cx: &mut Context<Self>) {
        assert_eq!(other.version(), 7);
        self.sum += u64::from_be_bytes(other.as_bytes().try_into().unwrap());
        self.met += 1;
    }
}

#[handlers]
impl Tally {
    #[call]
    async fn sum(&self) -> (u64, u64) {
        (self.sum, self.met)
    }
}

/// Two nodes that do not know of each other yet.
async fn apart(seeds: &Seeds) -> [Cluster; 2] {
    seeds.write("");
    let join = |name| {
        let kinds = node(name).kind::<Basket>(KindOptions::default()).kind::<Tally>(KindOptions::default());
        kinds.found_alone_after(Duration::ZERO).discovery(SeedsFile::new(seeds.path())).join()
    };
    let (a, b) = tokio::join!(join("a"), join("b"));
    [a.unwrap(), b.unwrap()]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_instance_that_stays_is_given_the_state_of_the_other() {
    let seeds = Seeds::new("conflicts");
    let nodes = apart(&seeds).await;
    let names: Vec<String> = (0..20).map(|number| format!("basket:{number}")).collect();
    for node in &nodes {
        for name in &names {
            let basket = node.get_or_start::<Basket>(name, ()).await.unwrap();
            basket.put(format!("put on {}", node.node_name())).await.unwrap();
        }
        node.get_or_start::<Tally>("tally", 5).await.unwrap();
    }
    seeds.write(&format!("{}\n{}\n", nodes[0].address(), nodes[1].address()));
    all_see(&nodes).await;
    let both = BTreeSet::from(["put on a".to_owned(), "put on b".to_owned()]);
    for node in &nodes {
        for name in &names {
            let basket = node.process::<Basket>(name).unwrap();
            // While the lines meet a call may still reach the one that ends.
            let merged = async { while basket.items().await.ok().as_ref() != Some(&both) {} };
            timeout(LONG, merged).await.unwrap();
        }
        let tally = node.process::<Tally>("tally").unwrap();
        let merged = async { while tally.sum().await.ok() != Some((10, 1)) {} };
        timeout(LONG, merged).await.unwrap();
    }
}
