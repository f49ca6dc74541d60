//! Options that do not exist, come twice, or are no names.

#![allow(unused)]

use whimbrel::handlers;

struct Counter;

#[handlers(remote)]
impl Counter {}

#[handlers(local, local)]
impl Counter {}

#[handlers]
impl Counter {
    #[call(nme = "add")]
    fn a(&mut self) {}

    #[call(name = 5)]
    fn b(&mut self) {}

    #[call(name = "")]
    fn c(&mut self) {}

    #[cast(name = "line\nfeed")]
    fn d(&mut self) {}

    #[cast(name = "e", name = "f")]
    fn e(&mut self) {}

    #[cast = "g"]
    fn g(&mut self) {}
}

fn main() {}
