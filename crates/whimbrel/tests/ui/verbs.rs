//! A method is a call or a cast, and only a method is one.

#![allow(unused)]

use whimbrel::handlers;

struct Counter;

#[handlers]
impl Counter {
    #[call]
    #[cast]
    fn both(&mut self) {}

    #[call]
    const LIMIT: u64 = 5;
}

fn main() {}
