//! The processes of the tests, and how to wait for what they do.

use std::future::Future;
use std::pin::Pin;
use std::task::Waker;
use std::time::Duration;

use tokio::sync::mpsc;
use whimbrel::{
    CallError, Cluster, Context, ExitReason, Handler, KindOptions, Message, MessageList, Process, ProcessRef,
    Speaks, handlers,
};

/// More than anything in these tests takes; reached only by a failure.
pub(crate) const LONG: Duration = Duration::from_secs(20);

#[derive(serde::Serialize, serde::Deserialize)]
pub(crate) struct Counter {
    pub(crate) value: u64,
    log: Vec<u64>,
}

impl Process for Counter {
    const KIND: &'static str = "counter";
    type Args = u64;

    async fn init(start: u64, _cx: &mut Context<Self>) -> Result<Self, ExitReason> {
        Ok(Counter { value: start, log: Vec::new() })
    }
}

#[handlers]
impl Counter {
    #[call]
    async fn add(&mut self, n: u64) -> u64 {
        self.value += n;
        self.value
    }

    #[cast]
    async fn note(&mut self, n: u64) {
        self.log.push(n);
    }

    #[call]
    async fn notes(&self) -> Vec<u64> {
        self.log.clone()
    }

    #[call]
    async fn place(&self, cx: &mut Context<Self>) -> (String, u64) {
        (cx.cluster().node_name().to_owned(), cx.token().as_u64())
    }

    #[cast]
    async fn fail(&mut self) {
        panic!("told to fail");
    }
}

/// Tells a test what happens to it, as it happens.
#[derive(Clone, Debug)]
pub(crate) struct Script {
    pub(crate) tell: mpsc::UnboundedSender<String>,
    /// What `init` does.
    pub(crate) init: Init,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Init {
    Succeed,
    Fail,
    Panic,
}

impl Script {
    pub(crate) fn new(init: Init) -> (Self, mpsc::UnboundedReceiver<String>) {
        let (tell, told) = mpsc::unbounded_channel();
        (Self { tell, init }, told)
    }

    pub(crate) fn say(&self, text: impl Into<String>) {
        let _ = self.tell.send(text.into());
    }
}

pub(crate) struct Actor {
    script: Script,
}

impl Process for Actor {
    const KIND: &'static str = "actor";
    type Args = Script;

    async fn init(script: Script, cx: &mut Context<Self>) -> Result<Self, ExitReason> {
        script.say(format!("init {}", if cx.token().as_u64() > 0 { "named" } else { "unnamed" }));
        cx.notify_self(ActorSay { text: "note to myself".into() });
        match script.init {
            Init::Succeed => Ok(Self { script }),
            Init::Fail => Err(ExitReason::Error("told to fail".into())),
            Init::Panic => panic!("told to panic in init"),
        }
    }

    async fn terminate(&mut self, reason: &ExitReason, _cx: &mut Context<Self>) {
        self.script.say(format!("terminate {reason}"));
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        self.script.say("dropped");
    }
}

#[handlers(local)]
impl Actor {
    #[cast]
    async fn say(&mut self, text: String) {
        self.script.say(text);
    }

    #[call]
    async fn echo(&mut self, text: String) -> String {
        text
    }

    #[call]
    async fn fail(&mut self) {
        panic!("told to fail");
    }

    #[call]
    async fn wait_for(&mut self, gate: tokio::sync::oneshot::Receiver<()>) -> String {
        self.script.say("waiting");
        let _ = gate.await;
        "waited".into()
    }

    #[call]
    async fn ask_myself(&mut self, cx: &mut Context<Self>) -> Result<String, CallError> {
        cx.myself().echo("me".into()).await
    }

    #[call]
    async fn ask(
        &mut self,
        other: ProcessRef<Actor>,
        gate: tokio::sync::oneshot::Receiver<()>,
    ) -> Result<(), CallError> {
        other.wait_for(gate).deadline(LONG).await.map(|_| ())
    }

    #[cast]
    async fn say_after(&mut self, cx: &mut Context<Self>, ms: u64, text: String) {
        cx.send_after(Duration::from_millis(ms), ActorSay { text });
    }

    #[cast]
    async fn tick_every(&mut self, cx: &mut Context<Self>, ms: u64) {
        let mut ticks = 0;
        cx.send_every_with(Duration::from_millis(ms), move || {
            ticks += 1;
            ActorSay { text: format!("tick {ticks}") }
        });
    }

    #[cast]
    async fn own_task(&mut self, cx: &mut Context<Self>) {
        let guard = SayOnDrop(self.script.clone());
        cx.spawn(async move {
            guard.0.say("task runs");
            std::future::pending::<()>().await;
            drop(guard);
        });
    }

    #[cast]
    async fn stop_yourself(&mut self, cx: &mut Context<Self>) {
        cx.stop(ExitReason::Normal);
    }

    #[call]
    async fn later(&mut self, cx: &mut Context<Self>, n: u64) -> u64 {
        let reply = cx.reply_later::<ActorLater>();
        cx.spawn(async move { reply.send(n * 2) });
        0
    }

    #[call]
    async fn never(&mut self, cx: &mut Context<Self>) {
        drop(cx.reply_later::<ActorNever>());
    }
}

struct SayOnDrop(Script);

impl Drop for SayOnDrop {
    fn drop(&mut self) {
        self.0.say("task ended");
    }
}

/// Speaks under the kind of `Counter`'s rival: another type for the same names.
pub(crate) struct Other;

impl Process for Other {
    const KIND: &'static str = "other";
    type Args = ();

    async fn init(_args: (), _cx: &mut Context<Self>) -> Result<Self, ExitReason> {
        Ok(Other)
    }
}

/// A message that is written by hand, and stays on its node.
pub(crate) struct Ping;

impl Message for Ping {
    type Reply = u32;
    const NAME: &'static str = "ping";
}

impl Handler<Ping> for Other {
    async fn handle(&mut self, _ping: Ping, _cx: &mut Context<Self>) -> u32 {
        7
    }
}

impl Speaks for Other {
    fn messages(list: &mut MessageList<Self>) {
        list.add::<Ping>();
    }
}

/// One node without a socket that knows all kinds.
pub(crate) async fn local() -> Cluster {
    Cluster::local()
        .kind::<Counter>(KindOptions::default().mailbox_max(1_000))
        .local_kind::<Actor>(KindOptions::default())
        .restart_kind::<Other>(KindOptions::default().max_per_node(1))
        .join()
        .await
        .unwrap()
}

/// The next thing that an actor says.
pub(crate) async fn said(told: &mut mpsc::UnboundedReceiver<String>) -> String {
    tokio::time::timeout(LONG, told.recv()).await.expect("the actor says nothing").unwrap()
}

/// A call that was polled once, and so was sent.
pub(crate) fn sent<M: Message>(call: whimbrel::Call<M>) -> Pin<Box<whimbrel::Call<M>>> {
    let mut call = Box::pin(call);
    let polled = call.as_mut().poll(&mut std::task::Context::from_waker(Waker::noop()));
    assert!(polled.is_pending(), "nobody can have answered it yet");
    call
}
