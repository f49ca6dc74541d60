//! A message borrows the process while it is handled.

#![allow(unused)]

use whimbrel::handlers;

struct Counter;

#[handlers]
impl Counter {
    #[call]
    fn new() -> u64 {
        0
    }

    #[call]
    fn consume(self) {}

    #[call]
    fn boxed(self: Box<Self>) {}
}

fn main() {}
