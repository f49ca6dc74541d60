//! Messages belong to a process.

#![allow(unused)]

use whimbrel::handlers;

struct Counter;

#[handlers]
impl Counter {
    #[cast]
    async fn reset(&mut self) {}
}

fn main() {}
