//! Parameters have names, since they are the fields of the message.

#![allow(unused)]

use whimbrel::handlers;

struct Point {
    x: u64,
}

struct Plane;

#[handlers]
impl Plane {
    #[call]
    async fn pair(&mut self, (a, b): (u64, u64)) {}

    #[call]
    async fn point(&mut self, Point { x }: Point) {}

    #[cast]
    async fn ignored(&mut self, _: u64) {}

    #[cast]
    async fn by_reference(&mut self, ref n: u64) {}
}

fn main() {}
