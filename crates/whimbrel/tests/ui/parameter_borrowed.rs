//! Parameters are owned.

#![allow(unused)]

use whimbrel::handlers;

struct Log;

#[handlers]
impl Log {
    #[cast]
    async fn line(&mut self, text: &str) {}

    #[call]
    async fn lines(&mut self, texts: Vec<&'static str>, flags: (u8, Option<&u8>)) -> u64 {
        0
    }

    #[call]
    async fn take(&mut self, buffer: &mut Vec<u8>) {}
}

fn main() {}
