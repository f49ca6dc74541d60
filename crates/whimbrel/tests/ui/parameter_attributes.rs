//! What stands on a parameter holds for a field of the message.

#![allow(unused)]

use whimbrel::handlers;

struct Counter;

#[handlers]
impl Counter {
    #[call]
    async fn add(&mut self, #[cfg(unix)] n: u64) {}
}

struct Runner;

#[handlers(local)]
impl Runner {
    #[call]
    fn run(&mut self, #[serde(default)] n: u64) {}
}

fn main() {}
