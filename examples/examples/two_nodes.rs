//! Two nodes in one OS process, over loopback. Any node calls any name; when a node is lost, its names are started
//! again on the other one, with the arguments they were first started with.

use std::error::Error;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use whimbrel::{Cluster, Context, Event, ExitReason, JoinError, KindOptions, Process, StaticList, handlers};

#[derive(Serialize, Deserialize)]
struct Basket {
    items: Vec<String>,
}

impl Process for Basket {
    const KIND: &'static str = "basket";
    type Args = String;

    async fn init(gift: String, _cx: &mut Context<Self>) -> Result<Self, ExitReason> {
        Ok(Basket { items: vec![gift] })
    }
}

#[handlers]
impl Basket {
    /// Puts `item` in and says how many there are.
    #[call]
    async fn put(&mut self, item: String) -> usize {
        self.items.push(item);
        self.items.len()
    }

    /// The node that the basket lives on.
    #[call]
    fn home(&self, cx: &mut Context<Self>) -> String {
        cx.cluster().node_name().to_owned()
    }
}

async fn join(node: &str, seed: Option<&str>) -> Result<Cluster, JoinError> {
    Cluster::builder("shop")
        .node_name(node)
        .listen("127.0.0.1:0")
        .secret(b"a secret that both nodes know")
        .discovery(StaticList::new(seed))
        .kind::<Basket>(KindOptions::default())
        .join()
        .await
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let one = join("one", None).await?;
    let two = join("two", Some(one.address())).await?;
    two.wait_for_members(2, Duration::from_secs(5)).await?;

    let mut homes = Vec::new();
    for n in 0..8 {
        let name = format!("basket:{n}");
        one.get_or_start::<Basket>(&name, "tea".into()).await?;
        let seen_by_two = two.process::<Basket>(&name)?;
        assert_eq!(seen_by_two.put("milk".into()).await?, 2);
        homes.push(seen_by_two.home().await?);
    }
    println!("started on one, filled from two; they live on {homes:?}");

    let mut events = two.events();
    drop(one); // without `leave`: to the others this is a crash
    while !matches!(events.next().await, Some(Event::MemberDown(..)) | None) {}
    for (n, home) in homes.iter().enumerate() {
        let basket = two.process::<Basket>(&format!("basket:{n}"))?;
        let items = basket.put("sugar".into()).await?;
        assert_eq!(items, if home == "two" { 3 } else { 2 });
        assert_eq!(basket.home().await?, "two");
    }
    println!("one is gone; all eight answer on two, those of one with a fresh basket");
    two.leave().await;
    Ok(())
}
