//! The same counter as in `counter.rs`, with all that `#[handlers]` would write: the messages, their handlers, and
//! the list of what the kind speaks. Nothing is registered behind the scenes.

use std::error::Error;

use serde::{Deserialize, Serialize};
use whimbrel::{
    Cluster, Context, ExitReason, Handler, KindOptions, Message, MessageList, Process, Speaks, Wire,
};

#[derive(Serialize, Deserialize)]
struct Counter {
    value: u64,
}

impl Process for Counter {
    const KIND: &'static str = "counter";
    type Args = u64;

    async fn init(start: u64, _cx: &mut Context<Self>) -> Result<Self, ExitReason> {
        Ok(Counter { value: start })
    }
}

/// Answered with the new value.
#[derive(Serialize, Deserialize)]
struct Add {
    n: u64,
}

impl Message for Add {
    type Reply = u64;
    const NAME: &'static str = "add"; // on the wire; never derived from a type's name
    const WIRE: Wire<Self> = Wire::NAMED; // leave it out and the message stays within its node
}

impl Handler<Add> for Counter {
    async fn handle(&mut self, message: Add, _cx: &mut Context<Self>) -> u64 {
        self.value += message.n;
        self.value
    }
}

/// Only ever cast: nobody waits for its `()`.
#[derive(Serialize, Deserialize)]
struct Reset;

impl Message for Reset {
    type Reply = ();
    const NAME: &'static str = "reset";
    const WIRE: Wire<Self> = Wire::NAMED;
}

impl Handler<Reset> for Counter {
    async fn handle(&mut self, _message: Reset, _cx: &mut Context<Self>) {
        self.value = 0;
    }
}

impl Speaks for Counter {
    fn messages(list: &mut MessageList<Self>) {
        list.add::<Add>();
        list.add::<Reset>();
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let cluster = Cluster::local().kind::<Counter>(KindOptions::default()).join().await?;
    let basket = cluster.get_or_start::<Counter>("basket:42", 40).await?;
    assert_eq!(whimbrel::call(&basket, Add { n: 2 }).await?, 42);
    whimbrel::cast(&basket, Reset)?;
    let total = whimbrel::call(&basket, Add { n: 1 }).await?;
    println!("basket:42 holds {total}, counted from zero again");
    assert_eq!(total, 1);
    cluster.leave().await;
    Ok(())
}
