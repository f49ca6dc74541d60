//! A cast has no reply; the reply of a call is owned and has a type with a name.

#![allow(unused)]

use whimbrel::handlers;

struct Log(String);

#[handlers]
impl Log {
    #[cast]
    async fn line(&mut self, text: String) -> usize {
        0
    }

    #[call]
    async fn text(&self) -> &str {
        &self.0
    }

    #[call]
    async fn first(&self) -> Option<&str> {
        None
    }

    #[call]
    fn words(&self) -> impl Iterator<Item = String> {
        std::iter::empty()
    }
}

fn main() {}
