//! What travels between nodes has serde; the error shows the parameter or the reply that has not.

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

#[derive(whimbrel::serde::Deserialize)]
#[serde(crate = "whimbrel::serde")]
pub struct ReadOnly;

#[derive(whimbrel::serde::Serialize)]
#[serde(crate = "whimbrel::serde")]
pub struct WriteOnly;

#[handlers]
impl Counter {
    #[cast]
    async fn give(&mut self, value: ReadOnly) {}

    #[call]
    async fn take(&mut self) -> WriteOnly {
        WriteOnly
    }
}

fn main() {}
