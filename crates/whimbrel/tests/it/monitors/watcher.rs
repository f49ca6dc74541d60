//! The processes of these tests: one that is watched, and two that watch and tell what they hear.

use serde::{Deserialize, Serialize};
use whimbrel::{
    Builder, Cluster, Context, Down, ExitReason, KindOptions, MonitorError, MonitorId, Process, Rebalance,
    RestartPolicy, StaticList, handlers,
};

use crate::kinds::LONG;
use crate::moves::doors::{self, Doors};

/// What a process has heard. Public, as the messages are that `handlers` makes.
#[allow(unreachable_pub)]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heard {
    pub(crate) name: String,
    pub(crate) reason: String,
    pub(crate) snapshot: Option<Vec<u8>>,
    pub(crate) id: MonitorId,
}

impl Heard {
    fn of(down: &Down, id: MonitorId) -> Self {
        let snapshot = down.snapshot.as_ref().map(|bytes| bytes.as_slice().to_vec());
        Self { name: down.name.to_string(), reason: down.reason.to_string(), snapshot, id }
    }
}

macro_rules! watcher {
    ($type:ident, $kind:literal, $traps:literal) => {
        #[derive(Default, Serialize, Deserialize)]
        pub(crate) struct $type {
            heard: Vec<Heard>,
            marks: Vec<String>,
        }

        impl Process for $type {
            const KIND: &'static str = $kind;
            const TRAPS_EXITS: bool = $traps;
            type Args = ();

            async fn init(_args: (), _cx: &mut Context<Self>) -> Result<Self, ExitReason> {
                Ok(Self::default())
            }

            async fn down(&mut self, down: Down, id: MonitorId, _cx: &mut Context<Self>) {
                self.marks.push(format!("down {}", down.name));
                self.heard.push(Heard::of(&down, id));
            }
        }

        #[handlers]
        impl $type {
            #[call]
            async fn watch(&mut self, cx: &mut Context<Self>, name: String) -> Option<MonitorId> {
                cx.monitor(&name).set().ok()
            }

            #[call]
            async fn watch_all(&mut self, cx: &mut Context<Self>, name: String) -> Option<MonitorId> {
                cx.monitor(&name).until_name_ends().with_moves().set().ok()
            }

            #[call]
            async fn forget(&mut self, cx: &mut Context<Self>, id: MonitorId) {
                cx.demonitor(id);
            }

            #[call]
            async fn link(&mut self, cx: &mut Context<Self>, name: String) -> Option<MonitorId> {
                cx.link(&name).ok()
            }

            #[call]
            async fn unlink(&mut self, cx: &mut Context<Self>, name: String) {
                cx.unlink(&name).unwrap();
            }

            #[call]
            async fn refusals(&mut self, cx: &mut Context<Self>) -> bool {
                matches!(cx.monitor("").set(), Err(MonitorError::BadName(_)))
                    && matches!(cx.link("\n"), Err(MonitorError::BadName(_)))
            }

            /// How many it can set.
            #[call]
            async fn watch_many(&mut self, cx: &mut Context<Self>, name: String) -> u64 {
                let mut set = 0;
                loop {
                    match cx.monitor(&name).set() {
                        Ok(_) => set += 1,
                        Err(error) => {
                            assert_eq!(error, MonitorError::Overloaded);
                            return set;
                        }
                    }
                }
            }

            #[call]
            async fn heard_so_many(&self) -> usize {
                self.heard.len()
            }

            #[call]
            async fn heard(&self) -> Vec<Heard> {
                self.heard.clone()
            }

            #[call]
            async fn marks(&self) -> Vec<String> {
                self.marks.clone()
            }

            #[cast]
            async fn mark(&mut self, mark: String) {
                self.marks.push(mark);
            }

            #[cast]
            async fn wait_at(&mut self, cx: &mut Context<Self>, name: String) {
                doors::open(cx.cluster(), &format!("{name} reached"));
                doors::pass(cx.cluster(), &name).await;
            }

            #[cast]
            async fn crash_at(&mut self, cx: &mut Context<Self>, name: String) {
                doors::open(cx.cluster(), &format!("{name} reached"));
                doors::pass(cx.cluster(), &name).await;
                panic!("told to fail");
            }

            #[cast]
            async fn fail(&mut self, text: String) {
                panic!("{text}");
            }

            #[cast]
            async fn stop_well(&mut self, cx: &mut Context<Self>) {
                cx.stop(ExitReason::Normal);
            }

            #[call]
            async fn place(&self, cx: &mut Context<Self>) -> (String, u64) {
                (cx.cluster().node_name().to_owned(), cx.token().as_u64())
            }
        }
    };
}

watcher!(Watcher, "watcher", false);
watcher!(Trapper, "trapper", true);

/// Does what it is told.
#[derive(Default, Serialize, Deserialize)]
pub(crate) struct Worker {
    done: u64,
    tells: Option<Tells>,
}

/// What its `snapshot` does.
#[allow(unreachable_pub)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Tells {
    Done,
    TooMuch,
    Panics,
}

impl Process for Worker {
    const KIND: &'static str = "worker";
    type Args = Option<String>;

    async fn init(fails: Option<String>, _cx: &mut Context<Self>) -> Result<Self, ExitReason> {
        match fails {
            Some(text) => Err(ExitReason::Error(text)),
            None => Ok(Self::default()),
        }
    }

    fn snapshot(&self) -> Option<Vec<u8>> {
        match self.tells? {
            Tells::Done => Some(format!("done {}", self.done).into_bytes()),
            Tells::TooMuch => Some(vec![7; whimbrel::limits::SNAPSHOT_BYTES_MAX + 1]),
            Tells::Panics => panic!("told to panic in snapshot"),
        }
    }
}

#[handlers]
impl Worker {
    #[call]
    async fn work(&mut self) -> u64 {
        self.done += 1;
        self.done
    }

    #[call]
    async fn tells(&mut self, tells: Tells) {
        self.tells = Some(tells);
    }

    #[call]
    async fn show(&mut self, cx: &mut Context<Self>, state: Vec<u8>) -> bool {
        cx.publish_snapshot(state).is_ok()
    }

    #[cast]
    async fn fail(&mut self, text: String) {
        self.done += 1;
        panic!("{text}");
    }

    #[call]
    async fn fail_asked(&mut self, text: String) {
        panic!("{text}");
    }

    #[cast]
    async fn end(&mut self, cx: &mut Context<Self>, text: Option<String>) {
        cx.stop(text.map_or(ExitReason::Normal, ExitReason::Error));
    }

    #[cast]
    async fn mark_there(&mut self, cx: &mut Context<Self>, to: String) {
        let to = cx.cluster().process::<Watcher>(&to).unwrap();
        to.mark("before the end".into()).unwrap();
    }

    #[cast]
    async fn wait_at(&mut self, cx: &mut Context<Self>, name: String) {
        doors::open(cx.cluster(), &format!("{name} reached"));
        doors::pass(cx.cluster(), &name).await;
    }

    #[call]
    async fn place(&self, cx: &mut Context<Self>) -> (String, u64) {
        (cx.cluster().node_name().to_owned(), cx.token().as_u64())
    }
}

pub(crate) fn builder(node: &str, seeds: &[&Cluster]) -> Builder {
    // Ends find room in a mailbox that is as good as full.
    let temporary = KindOptions::default().policy(RestartPolicy::Temporary).mailbox_max(4);
    Cluster::builder("test")
        .node_name(node)
        .listen("127.0.0.1:0")
        .discovery(StaticList::new(seeds.iter().map(|seed| seed.address().to_owned())))
        .kind::<Watcher>(temporary.clone())
        .kind::<Trapper>(temporary.clone())
        .kind::<Worker>(temporary)
        .local_kind::<Doors>(KindOptions::default())
        .rebalance(Rebalance::Off)
}

pub(crate) async fn watchers(count: usize) -> Vec<Cluster> {
    let mut nodes: Vec<Cluster> = Vec::new();
    for at in 0..count {
        let seeds: Vec<&Cluster> = nodes.iter().take(1).collect();
        nodes.push(builder(&format!("node-{at}"), &seeds).join().await.unwrap());
    }
    for node in &nodes {
        node.wait_for_members(count, LONG).await.unwrap();
    }
    doors::start(&nodes[0]).await;
    nodes
}
