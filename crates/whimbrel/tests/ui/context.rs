//! The context comes first after `self`.

#![allow(unused)]

use whimbrel::{Context, ExitReason, Process, handlers};

struct Counter;

impl Process for Counter {
    const KIND: &'static str = "counter";
    type Args = ();
    async fn init(_: (), _cx: &mut Context<Self>) -> Result<Self, ExitReason> {
        Ok(Counter)
    }
}

#[handlers]
impl Counter {
    #[call]
    async fn add(&mut self, n: u64, cx: &mut Context<Self>) {}
}

fn main() {}
