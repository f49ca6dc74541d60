//! Where handlers wait until the test lets them go on: one process for the doors of a test.

use std::collections::{BTreeMap, VecDeque};

use whimbrel::{Cluster, Context, ExitReason, Placement, Process, ProcessRef, Reply, handlers};

use crate::kinds::LONG;

/// Doors, by name. Closed at first: each opening lets one through. Public, as the messages are that `handlers` makes.
#[allow(unreachable_pub)]
#[derive(Default)]
pub struct Doors {
    open: BTreeMap<String, u64>,
    waiting: BTreeMap<String, VecDeque<Reply<()>>>,
}

impl Process for Doors {
    const KIND: &'static str = "doors";
    type Args = ();

    async fn init(_args: (), _cx: &mut Context<Self>) -> Result<Self, ExitReason> {
        Ok(Self::default())
    }
}

#[handlers]
impl Doors {
    #[call]
    async fn wait(&mut self, cx: &mut Context<Self>, door: String) {
        self.waiting.entry(door.clone()).or_default().push_back(cx.reply_later::<DoorsWait>());
        self.let_through(&door);
    }

    #[cast]
    async fn release(&mut self, door: String) {
        *self.open.entry(door.clone()).or_default() += 1;
        self.let_through(&door);
    }
}

impl Doors {
    fn let_through(&mut self, door: &str) {
        if let Some(open) = self.open.get_mut(door).filter(|open| **open > 0)
            && let Some(reply) = self.waiting.get_mut(door).and_then(VecDeque::pop_front)
        {
            *open -= 1;
            reply.send(());
        }
    }
}

pub(crate) async fn start(node: &Cluster) {
    node.start::<Doors>("doors", ()).placement(Placement::Local).await.unwrap();
}

pub(crate) fn of(node: &Cluster) -> ProcessRef<Doors> {
    node.process::<Doors>("doors").unwrap()
}

/// Waits at a door.
pub(crate) async fn pass(node: &Cluster, door: &str) {
    of(node).wait(door.to_owned()).deadline(2 * LONG).await.unwrap();
}

/// Lets one through.
pub(crate) fn open(node: &Cluster, door: &str) {
    of(node).release(door.to_owned()).unwrap();
}
