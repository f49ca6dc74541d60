//! A message is one type with one wire name, so nothing about it is generic.

#![allow(unused)]

use whimbrel::handlers;

struct Store<T>(T);

#[handlers]
impl<T> Store<T> {
    #[call]
    async fn put(&mut self, value: T) {}
}

#[handlers]
impl Store<u64> {
    #[call]
    async fn put_number(&mut self, value: u64) {}
}

struct Counter;

#[handlers]
impl Counter {
    #[call]
    async fn add<N: Into<u64>>(&mut self, n: N) {}

    #[call]
    async fn add_later<'a>(&'a mut self, n: u64) {}

    #[call]
    async fn add_if(&mut self, n: u64)
    where
        u64: Copy,
    {
    }

    #[call]
    async fn add_any(&mut self, n: impl Into<u64>) {}

    // A plain method may be what it likes.
    fn add_now<N: Into<u64>>(&mut self, n: N) {}
}

fn main() {}
