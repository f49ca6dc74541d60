//! Messages that never leave their node: neither parameters nor replies have serde, and both may be private.

use whimbrel::{Cluster, Context, ExitReason, KindOptions, Process, handlers};

struct Runner;

struct Secret(usize);

impl Process for Runner {
    const KIND: &'static str = "runner";
    type Args = ();

    async fn init((): (), _cx: &mut Context<Self>) -> Result<Self, ExitReason> {
        Ok(Self)
    }
}

#[handlers(local, pub(self))]
impl Runner {
    #[call]
    fn run(&mut self, job: Box<dyn FnOnce(&str) -> usize + Send>) -> Secret {
        Secret(job("three"))
    }
}

#[tokio::test]
async fn a_local_message_carries_what_has_no_serde() {
    let cluster = Cluster::local().local_kind::<Runner>(KindOptions::default()).join().await.unwrap();
    let runner = cluster.get_or_start::<Runner>("runner", ()).await.unwrap();
    assert_eq!(runner.run(Box::new(str::len)).await.unwrap().0, 5);
}
