//! The messages are `pub` unless the attribute says otherwise, and so their replies must be.

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

struct Hidden;

#[handlers(local)]
impl Counter {
    #[call]
    async fn take(&mut self) -> Hidden {
        Hidden
    }
}

fn main() {}
