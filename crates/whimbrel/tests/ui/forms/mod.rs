//! Every form of a method that `#[handlers]` accepts, called through the trait that it makes.

mod hostile;
mod local;

use serde::{Deserialize, Serialize};
use whimbrel::serde;
use whimbrel::{Cluster, Context, ExitReason, KindOptions, Message, Process, ProcessRef, Token, handlers};

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(crate = "whimbrel::serde")]
struct Counter {
    value: u64,
    label: String,
}

impl Process for Counter {
    const KIND: &'static str = "counter";
    type Args = u64;

    async fn init(value: u64, _cx: &mut Context<Self>) -> Result<Self, ExitReason> {
        Ok(Self { value, label: String::new() })
    }
}

#[handlers(pub(self))]
impl Counter {
    #[call]
    async fn add(&mut self, n: u64) -> u64 {
        self.add_quietly(n);
        self.value
    }

    #[cast(name = "zero")]
    async fn reset(&mut self) {
        self.value = 0;
    }

    #[call]
    fn value(&self) -> u64 {
        self.value
    }

    #[call]
    fn checked_sub(&mut self, mut n: u64) -> Result<u64, String> {
        n += 1;
        self.value = self.value.checked_sub(n).ok_or_else(|| format!("{n} is too much"))?;
        Ok(self.value)
    }

    #[call]
    fn token(&mut self, cx: &mut Context<Self>) -> u64 {
        let token: Token = cx.token();
        token.as_u64()
    }

    #[call]
    async fn many(
        &mut self,
        _cx: &mut Context<Self>,
        a: u8,
        b: (u16, u32),
        c: Vec<Option<u64>>,
        #[serde(default)] r#type: String,
    ) -> usize {
        self.label = r#type;
        usize::from(a) + usize::from(b.0) + b.1 as usize + c.len()
    }

    #[call]
    async fn merge(&mut self, with: Self) -> Option<Self> {
        Some(Self { value: self.value + with.value, label: with.label })
    }

    #[call]
    async fn r#move(&mut self, message: u64, cx: u64, list: u64) -> u64 {
        message + cx + list
    }

    #[call]
    #[cfg(not(test))]
    fn somewhere(&self) -> u8 {
        0
    }

    #[call]
    #[cfg(test)]
    fn somewhere(&self) -> String {
        "here".to_owned()
    }

    fn add_quietly(&mut self, n: u64) {
        self.value += n;
    }
}

async fn counter(value: u64) -> (Cluster, ProcessRef<Counter>) {
    let cluster = Cluster::local().kind::<Counter>(KindOptions::default()).join().await.unwrap();
    let counter = cluster.get_or_start::<Counter>("counter", value).await.unwrap();
    (cluster, counter)
}

#[tokio::test]
async fn every_form_is_called_by_the_name_of_its_method() {
    let (_cluster, counter) = counter(1).await;
    assert_eq!(counter.add(2).await.unwrap(), 3);
    assert_eq!(counter.value().await.unwrap(), 3);
    assert_eq!(counter.checked_sub(1).await.unwrap(), Ok(1));
    assert_eq!(counter.checked_sub(1).await.unwrap(), Err("2 is too much".to_owned()));
    counter.reset().unwrap();
    assert_eq!(counter.value().await.unwrap(), 0);
    assert!(counter.token().await.unwrap() > 0);
    assert_eq!(counter.many(1, (2, 3), vec![None, Some(4)], "t".to_owned()).await.unwrap(), 8);
    let with = Counter { value: 5, label: "five".to_owned() };
    assert_eq!(counter.merge(with).await.unwrap(), Some(Counter { value: 5, label: "five".to_owned() }));
    assert_eq!(counter.r#move(1, 2, 3).await.unwrap(), 6);
    assert_eq!(counter.somewhere().await.unwrap(), "here");
}

#[test]
fn wire_names_are_those_of_the_methods_unless_chosen() {
    assert_eq!(CounterAdd::NAME, "add");
    assert_eq!(CounterReset::NAME, "zero");
    assert_eq!(CounterMove::NAME, "move");
    assert_eq!(CounterCheckedSub::NAME, "checked_sub");
}
