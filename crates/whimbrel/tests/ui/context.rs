//! The context comes first after `self`.

#![allow(unused)]

use whimbrel::{Context, handlers};

struct Counter;

#[handlers]
impl Counter {
    #[call]
    async fn add(&mut self, n: u64, cx: &mut Context<Self>) {}
}

fn main() {}
