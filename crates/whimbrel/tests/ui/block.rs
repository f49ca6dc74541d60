//! The attribute stands on the inherent `impl` block of a type with a name.

#![allow(unused)]

use whimbrel::handlers;

#[handlers]
struct Counter;

#[handlers]
impl Drop for Counter {
    fn drop(&mut self) {}
}

trait Counting {}

#[handlers]
impl dyn Counting {
    #[call]
    fn add(&mut self, n: u64) {}
}

fn main() {}
