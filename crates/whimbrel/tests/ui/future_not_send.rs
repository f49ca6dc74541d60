//! Handlers run on any thread of the runtime; the error shows the method whose future can not.

#![allow(unused)]

use std::rc::Rc;

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
    #[cast]
    async fn hold(&mut self) {
        let held = Rc::new(1);
        std::future::ready(()).await;
        drop(held);
    }
}

fn main() {}
