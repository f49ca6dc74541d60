//! Two messages of a process differ in their wire names and in their types.

#![allow(unused)]

use whimbrel::handlers;

struct Counter;

#[handlers]
impl Counter {
    #[call]
    async fn add(&mut self, n: u64) {}

    #[cast(name = "add")]
    async fn add_silently(&mut self, n: u64) {}

    #[call]
    async fn add_all(&mut self) {}

    #[call]
    async fn add__all(&mut self) {}

    #[call]
    async fn r#ref(&mut self) {}
}

fn main() {}
