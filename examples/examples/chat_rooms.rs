//! Chat rooms are groups: who is in one hears what is said in it, on whatever node, and is still in it after a crash.

use std::error::Error;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use whimbrel::{Cluster, Context, ExitReason, JoinError, KindOptions, Process, StaticList, handlers};

#[derive(Serialize, Deserialize)]
struct Guest {
    heard: Vec<String>,
}

impl Process for Guest {
    const KIND: &'static str = "guest";
    type Args = String;

    async fn init(room: String, cx: &mut Context<Self>) -> Result<Self, ExitReason> {
        cx.join("chat", &room).await.map_err(|error| ExitReason::Error(error.to_string()))?;
        Ok(Guest { heard: Vec::new() })
    }
}

#[handlers]
impl Guest {
    #[cast]
    async fn hear(&mut self, line: String) {
        assert!(line != "boo", "a guest that is easily frightened");
        self.heard.push(line);
    }

    #[call]
    async fn heard(&self) -> Vec<String> {
        self.heard.clone()
    }
}

async fn join(node: &str, seed: Option<&str>) -> Result<Cluster, JoinError> {
    Cluster::builder("chat")
        .node_name(node)
        .listen("127.0.0.1:0")
        .secret(b"a secret that both nodes know")
        .discovery(StaticList::new(seed))
        .kind::<Guest>(KindOptions::default())
        .join()
        .await
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let one = join("one", None).await?;
    let two = join("two", Some(one.address())).await?;
    two.wait_for_members(2, Duration::from_secs(5)).await?;
    for (guest, room) in [("ann", "garden"), ("bob", "garden"), ("cleo", "kitchen"), ("dan", "garden")] {
        one.start::<Guest>(guest, room.into()).await?;
    }
    println!("rooms: {:?}", two.groups("chat").await?);

    let garden = two.group("chat", "garden")?;
    let told = garden.publish::<Guest, _>(GuestHear { line: "hello, garden".into() }).await?;
    assert_eq!((told, garden.count().await?), (3, 3));

    let bob = two.process::<Guest>("bob")?;
    bob.hear("boo".into())?; // the process fails, is restarted, and is in the room as before
    assert_eq!(bob.heard().await?, Vec::<String>::new());
    assert_eq!(garden.publish::<Guest, _>(GuestHear { line: "are you all right, bob?".into() }).await?, 3);

    let all = garden.call_all::<Guest, _>(GuestHeard {}, Duration::from_secs(5)).await?;
    assert!(all.failures.is_empty());
    for (guest, heard) in all.replies {
        println!("{guest} has heard {heard:?}");
        assert_eq!(heard.len(), if guest.as_str() == "bob" { 1 } else { 2 });
    }
    two.leave().await;
    one.leave().await;
    Ok(())
}
