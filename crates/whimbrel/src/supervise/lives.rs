//! One life of a child, from its start to its end.
//!
//! Promises: it ends by itself once it was killed, and returns only when nothing of it runs any more. A panic in it
//! becomes its reason.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use whimbrel_core::base::ExitReason;

use super::child::{Present, Start, Stopping, TaskFuture, present};
use super::plan::Key;
use super::{Child, tree};
use crate::Cluster;
use crate::exchange::Entry;
use crate::message::Speaks;
use crate::process::current::Current;
use crate::process::guard::{self, Guarded};
use crate::process::{Instance, Launching, ProcessRef, supervised};

/// Where a tree lives.
#[derive(Clone)]
pub(crate) struct Home {
    /// Does not keep the node alive.
    pub(crate) cluster: Cluster,
    /// As whom its tasks run.
    pub(crate) current: Current,
}

/// How a life is told to end.
#[derive(Clone)]
pub(super) struct Orders {
    /// In order, when it likes.
    pub(super) stop: CancellationToken,
    /// At once.
    pub(super) kill: CancellationToken,
}

/// A word of a life that is up.
pub(super) struct Up {
    pub(super) key: Key,
    /// Who asks for the child from now on gets this; none for a task.
    pub(super) present: Option<Present>,
}

/// Says that a life is up.
pub(super) struct Teller {
    pub(super) key: Key,
    pub(super) ups: mpsc::Sender<Up>,
}

impl Teller {
    async fn up(self, present: Option<Present>) {
        // Without a supervisor it is about to be ended.
        let _gone = self.ups.send(Up { key: self.key, present }).await;
    }
}

/// A process whose `init` is under way.
pub(super) struct Begun {
    entry: Arc<Entry>,
    instance: Arc<Instance>,
    present: Present,
    /// How `init` went.
    born: oneshot::Receiver<Result<(), ExitReason>>,
    /// Why it ended; gone without a word when it was ended by force.
    over: oneshot::Receiver<ExitReason>,
}

impl Home {
    /// Begins the life of a process without a name, which belongs to a tree.
    pub(super) fn begin<P: Speaks>(&self, args: P::Args) -> Result<Begun, ExitReason> {
        let exchange = self.cluster.exchange();
        let options = exchange.kinds().get(P::KIND).map(|kind| kind.options().clone()).unwrap_or_default();
        let (tell_born, born) = oneshot::channel();
        let (tell_over, over) = oneshot::channel();
        let (cluster, mut begun) = (self.cluster.clone(), None);
        let entry = exchange.launch_unnamed(&P::KIND, options.mailbox, |tasks, entry, instance| {
            begun = Some(instance.clone());
            supervised::<P>(tasks, Launching { entry, instance, cluster }, args, tell_born, tell_over)
        });
        let (Some(entry), Some(instance)) = (entry, begun) else {
            return Err(ExitReason::Error(format!("kind {:?} is no name", P::KIND)));
        };
        let present = present(ProcessRef::<P>::new(entry.clone()));
        Ok(Begun { entry, instance, present, born, over })
    }
}

/// Lives one life. Told to stop it has `shutdown`, then it is killed.
pub(super) async fn live(home: Home, child: Arc<Child>, orders: Orders, teller: Teller) -> ExitReason {
    let current = home.current;
    let life = Box::pin(begin(home, child.clone(), orders.clone(), teller));
    let mut life = pin!(Guarded::new(current, life));
    let over = tokio::select! {
        biased;
        over = &mut life => Some(over),
        () = orders.stop.cancelled() => None,
    };
    let over = match over {
        Some(over) => over,
        None => match timeout(child.shutdown, &mut life).await {
            Ok(over) => over,
            Err(_) => {
                tracing::warn!(
                    id = &*child.id,
                    "a child that was told to stop goes on: it is ended by force"
                );
                orders.kill.cancel();
                life.await
            }
        },
    };
    over.unwrap_or_else(|panic| panic)
}

async fn begin(home: Home, child: Arc<Child>, orders: Orders, teller: Teller) -> ExitReason {
    match &child.start {
        Start::Task(make) => task(make(Stopping::new(orders.stop)), &orders.kill, teller).await,
        Start::Process(begin) => match guard::run(|| begin(&home)) {
            Ok(Ok(begun)) => process(&home, begun, orders, teller).await,
            Ok(Err(reason)) | Err(reason) => reason,
        },
        Start::Supervisor(inner) => {
            let (supervisor, inner) = tree::Running::new(home, inner, orders);
            let present = supervisor.clone();
            let started = async {
                if supervisor.started().await.is_ok() {
                    teller.up(Some(Arc::new(present))).await;
                }
            };
            let (reason, ()) = tokio::join!(inner.run(), started);
            reason
        }
    }
}

async fn task(mut life: TaskFuture, kill: &CancellationToken, teller: Teller) -> ExitReason {
    // What it does before its first await is done before others start.
    let first = poll_fn(|task| Poll::Ready(life.as_mut().poll(task))).await;
    if let Poll::Ready(Err(reason)) = first {
        return reason.capped();
    }
    teller.up(None).await;
    let over = async {
        match first {
            Poll::Ready(output) => output,
            Poll::Pending => life.await,
        }
    };
    tokio::select! {
        biased;
        () = kill.cancelled() => ExitReason::Killed,
        output = over => match output {
            Ok(()) => ExitReason::Normal,
            Err(reason) => reason.capped(),
        },
    }
}

async fn process(home: &Home, begun: Begun, orders: Orders, teller: Teller) -> ExitReason {
    let Begun { entry, instance, present, born, mut over } = begun;
    let told = async {
        orders.stop.cancelled().await;
        instance.stop(ExitReason::Shutdown);
        entry.wake();
        std::future::pending::<()>().await;
    };
    let life = async {
        match born.await {
            Ok(Ok(())) => teller.up(Some(present)).await,
            Ok(Err(reason)) => {
                // No word, but its task is gone then.
                let _gone = (&mut over).await;
                return reason;
            }
            // It was ended by force: so says the other end.
            Err(_) => {}
        }
        (&mut over).await.unwrap_or(ExitReason::Killed)
    };
    tokio::select! {
        biased;
        () = orders.kill.cancelled() => {}
        reason = life => return reason,
        () = told => {}
    }
    instance.abort();
    // Its task is gone when this is.
    let ended = over.await;
    let exchange = home.cluster.exchange();
    if instance.is_serving() {
        exchange.ended(&entry, &instance, ExitReason::Killed).await;
    } else {
        exchange.init_failed(&entry, &instance, ExitReason::Killed).await;
    }
    ended.unwrap_or(ExitReason::Killed)
}
