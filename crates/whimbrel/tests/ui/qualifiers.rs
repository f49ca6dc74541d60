//! A message method is a plain function.

#![allow(unused)]

use whimbrel::handlers;

struct Counter;

#[handlers]
impl Counter {
    #[call]
    const fn fixed(&self) {}

    #[call]
    unsafe fn trusted(&self) {}

    #[cast]
    extern "C" fn foreign(&self) {}
}

fn main() {}
