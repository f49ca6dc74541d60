//! A job that has to run once in the whole cluster: every node asks for it when it starts, exactly one runs it, and when
//! that node is lost another one does.

use std::error::Error;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use whimbrel::{
    CallError, Cluster, Context, ExitReason, JoinError, KindOptions, Process, Singleton, StaticList, handlers,
};

#[derive(Serialize, Deserialize)]
struct Cleaner {
    sweeps: u64,
}

impl Process for Cleaner {
    const KIND: &'static str = "cleaner";
    type Args = u64;

    async fn init(period_ms: u64, cx: &mut Context<Self>) -> Result<Self, ExitReason> {
        cx.send_every(Duration::from_millis(period_ms), CleanerSweep {});
        Ok(Cleaner { sweeps: 0 })
    }
}

#[handlers]
impl Cleaner {
    #[cast]
    async fn sweep(&mut self) {
        self.sweeps += 1; // delete what has expired
    }

    /// The node it runs on, its token (one per life, rising), and how often it has swept.
    #[call]
    fn report(&self, cx: &mut Context<Self>) -> (String, u64, u64) {
        (cx.cluster().node_name().to_owned(), cx.token().as_u64(), self.sweeps)
    }
}

async fn join(node: &str, seed: Option<&str>) -> Result<Cluster, JoinError> {
    let builder =
        Cluster::builder("shop").node_name(node).listen("127.0.0.1:0").discovery(StaticList::new(seed));
    builder.kind::<Cleaner>(KindOptions::default()).join().await
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut nodes = vec![join("a", None).await?];
    let seed = nodes[0].address().to_string();
    nodes.push(join("b", Some(&seed)).await?);
    nodes.push(join("c", Some(&seed)).await?);

    // All at once, as nodes do when they start. Each gets the same process.
    let cleaner = || Singleton::<Cleaner>::new("cleaner", 50);
    let (a, b, c) =
        tokio::join!(cleaner().start(&nodes[0]), cleaner().start(&nodes[1]), cleaner().start(&nodes[2]));
    let (home, token, _) = a?.report().await?;
    println!("the cleaner runs on {home} as {token}");
    assert_eq!((b?.report().await?.1, c?.report().await?.1), (token, token));

    nodes.retain(|node| node.node_name() != home); // dropped without `leave`: a crash
    let cleaner = nodes[0].process::<Cleaner>("cleaner")?;
    loop {
        match cleaner.report().await {
            Ok((new_home, new_token, 3..)) => {
                println!(
                    "{home} is gone; the cleaner runs on {new_home} as {new_token}, and has swept three times there"
                );
                assert!(new_home != home && new_token > token);
                return Ok(());
            }
            // Asked again if the node was lost with the question; the library never does that by itself.
            Ok(_) | Err(CallError::NodeLost { .. }) => tokio::time::sleep(Duration::from_millis(20)).await,
            Err(error) => return Err(error.into()),
        }
    }
}
