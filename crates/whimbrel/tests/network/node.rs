//! One node: commands come by standard input, what happens goes to standard output, a line each.
//!
//! | line | meaning |
//! |---|---|
//! | `view n1 n2` | the members of its view |
//! | `born NAME LIFE`, `gone NAME LIFE` | a process began here, or is no more |
//! | `done ...` | the answer to the one command that is open |

use std::io::Write;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use whimbrel::{Cluster, Context, ExitReason, KindOptions, Process, StartError, StaticList, handlers};

/// The argument that makes this program a node.
pub(crate) const ROLE: &str = "node";
const SECRET: &str = "known to these three nodes";
/// How long a name is called until it answers.
const PATIENCE: Duration = Duration::from_secs(60);

fn say(line: &str) {
    // Without a parent nobody wants to know.
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// Says when it begins and when it is no more.
#[derive(Serialize, Deserialize)]
struct Counter {
    name: String,
    life: String,
}

impl Process for Counter {
    const KIND: &'static str = "counter";
    type Args = String;

    async fn init(name: String, cx: &mut Context<Self>) -> Result<Self, ExitReason> {
        let life = format!("{}@{}", cx.token(), cx.cluster().node_name());
        say(&format!("born {name} {life}"));
        Ok(Counter { name, life })
    }
}

impl Drop for Counter {
    fn drop(&mut self) {
        say(&format!("gone {} {}", self.name, self.life));
    }
}

#[handlers]
impl Counter {
    #[call]
    async fn life(&mut self) -> String {
        self.life.clone()
    }
}

pub(crate) fn run(name: &str, address: &str, seed: &str) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let cluster = runtime.block_on(join(name, address, seed));
    runtime.spawn(tell_views(cluster.clone()));
    // Without a parent there is nothing to do any more.
    for command in std::io::stdin().lines().map_while(Result::ok) {
        runtime.block_on(obey(&cluster, &command));
    }
    runtime.block_on(cluster.leave());
}

async fn join(name: &str, address: &str, seed: &str) -> Cluster {
    let builder = Cluster::builder("network").node_name(name).listen(address).secret(SECRET);
    let builder = builder.discovery(StaticList::new([seed.to_owned()]));
    builder.kind::<Counter>(KindOptions::default()).join().await.unwrap()
}

async fn obey(cluster: &Cluster, command: &str) {
    match command.split_once(' ') {
        Some(("start", name)) => say(&format!("done {}", start(cluster, name).await)),
        Some(("call", name)) => say(&format!("done {}", call(cluster, name).await)),
        _ => tell_view(cluster),
    }
}

fn tell_view(cluster: &Cluster) {
    let view = cluster.view();
    let members = view.iter().flat_map(|view| &view.members);
    let mut names: Vec<&str> = members.map(|member| member.name.as_str()).collect();
    names.sort_unstable();
    say(&format!("view {}", names.join(" ")));
}

async fn tell_views(cluster: Cluster) {
    let mut events = cluster.events();
    tell_view(&cluster);
    while events.next().await.is_some() {
        tell_view(&cluster);
    }
}

async fn start(cluster: &Cluster, name: &str) -> String {
    match cluster.start::<Counter>(name, name.to_owned()).await {
        Ok(_) | Err(StartError::AlreadyRunning { .. }) => "ok".into(),
        Err(error) => error.to_string(),
    }
}

/// The life that answers. A call that was under way when something ended may fail.
async fn call(cluster: &Cluster, name: &str) -> String {
    let counter = cluster.process::<Counter>(name).unwrap();
    let until = Instant::now() + PATIENCE;
    loop {
        match counter.life().await {
            Ok(life) => return life,
            Err(error) if Instant::now() > until => return error.to_string(),
            Err(_) => {}
        }
    }
}
