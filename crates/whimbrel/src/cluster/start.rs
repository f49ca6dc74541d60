//! Starting processes by name.

use std::any::{Any, TypeId};
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::time::Duration;

use tokio::sync::oneshot;
use whimbrel_core::base::limits::ARGS_BYTES_MAX;
use whimbrel_core::base::{Bytes, Executed, Name};
use whimbrel_core::directory::{Answer, Ask, Located, Placement, RestartPolicy};

use super::{Cluster, DEADLINE};
use crate::driver::Command;
use crate::error::StartError;
use crate::message::Speaks;
use crate::process::{Hosting, Launching, Process, ProcessRef, unnamed};

/// A process that this start has made: it runs, and its record is replicated.
pub struct Start<P> {
    /// The process.
    pub process: ProcessRef<P>,
    /// Nodes that hold its record: the replicas, or all members if there are fewer.
    pub copies: u8,
}

impl<P> Clone for Start<P> {
    fn clone(&self) -> Self {
        Self { process: self.process.clone(), copies: self.copies }
    }
}

impl<P> std::fmt::Debug for Start<P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Start").field("process", &self.process).field("copies", &self.copies).finish()
    }
}

/// What both ways of starting share.
struct Request<P: Process> {
    cluster: Cluster,
    name: String,
    args: P::Args,
    deadline: Duration,
    policy: Option<RestartPolicy>,
    placement: Option<Placement>,
}

/// A start on its way: await it, or set how it is to be done first.
///
/// # Cancel safety
/// Dropped after its first poll, the process may or may not start.
#[must_use = "nothing is started until this is awaited"]
pub struct Starting<P: Process>(Request<P>);

/// A lookup that starts what it does not find: await it, or set how it is to be done first.
///
/// # Cancel safety
/// Dropped after its first poll, the process may or may not start.
#[must_use = "nothing is started until this is awaited"]
pub struct GetOrStart<P: Process>(Request<P>);

macro_rules! options {
    ($type:ident) => {
        impl<P: Process> $type<P> {
            /// How long it may take; default 5 s.
            pub fn deadline(mut self, deadline: Duration) -> Self {
                self.0.deadline = deadline;
                self
            }

            /// When the process is restarted; default as its kind says.
            pub fn policy(mut self, policy: RestartPolicy) -> Self {
                self.0.policy = Some(policy);
                self
            }

            /// Where it is placed; default as its kind says.
            pub fn placement(mut self, placement: Placement) -> Self {
                self.0.placement = Some(placement);
                self
            }
        }

        impl<P: Process> std::fmt::Debug for $type<P> {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct(stringify!($type)).field("name", &self.0.name).finish_non_exhaustive()
            }
        }
    };
}

options!(Starting);
options!(GetOrStart);

impl<P: Process> IntoFuture for Starting<P> {
    type Output = Result<Start<P>, StartError<P>>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.0.run())
    }
}

impl<P: Process> IntoFuture for GetOrStart<P> {
    type Output = Result<ProcessRef<P>, StartError<P>>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async {
            match self.0.run().await {
                Ok(started) => Ok(started.process),
                Err(StartError::AlreadyRunning { process }) => Ok(process),
                Err(error) => Err(error),
            }
        })
    }
}

impl Cluster {
    /// Starts a process under a name, somewhere in the cluster.
    ///
    /// Answers when `init` has returned Ok and the record of the process is on all its replicas. `args` are kept
    /// there and used at every restart. The kind must be known to this node (`kind`, `restart_kind`, `local_kind`).
    ///
    /// # Errors
    /// [`StartError`]; its `executed` says whether the process may start all the same. In particular
    /// `AlreadyRunning` when another start came first.
    pub fn start<P: Process>(&self, name: &str, args: P::Args) -> Starting<P> {
        Starting(self.starting(name, args))
    }

    /// The process of this name, started if there is none. The arguments of one that runs stay as they were.
    ///
    /// # Errors
    /// As [`Cluster::start`], without `AlreadyRunning`.
    pub fn get_or_start<P: Process>(&self, name: &str, args: P::Args) -> GetOrStart<P> {
        GetOrStart(self.starting(name, args))
    }

    fn starting<P: Process>(&self, name: &str, args: P::Args) -> Request<P> {
        let (cluster, name) = (self.clone(), name.to_owned());
        Request { cluster, name, args, deadline: DEADLINE, policy: None, placement: None }
    }

    /// Runs a process on this node without a name. It is not restarted; when it has ended, calls end with `Stopped`.
    ///
    /// # Errors
    /// `InitFailed` with the reason; `Stopped` when this node is closed.
    pub async fn spawn<P: Speaks>(&self, args: P::Args) -> Result<ProcessRef<P>, StartError<P>> {
        if self.exchange().is_closed() {
            return Err(StartError::Stopped);
        }
        let options =
            self.exchange().kinds().get(P::KIND).map(|kind| kind.options().clone()).unwrap_or_default();
        let (born, outcome) = oneshot::channel();
        let cluster = Cluster::for_processes(self.shared.clone());
        let entry = self
            .exchange()
            .launch_unnamed(&P::KIND, options.mailbox, move |tasks, entry, instance| {
                unnamed::<P>(tasks, Launching { entry, instance, cluster }, args, born)
            })
            .ok_or_else(|| StartError::NoHost { kind: P::KIND.into() })?;
        match outcome.await {
            Ok(Ok(())) => Ok(ProcessRef::new(entry)),
            Ok(Err(reason)) => Err(StartError::InitFailed { reason }),
            Err(_) => Err(StartError::Stopped),
        }
    }
}

impl<P: Process> Request<P> {
    async fn run(self) -> Result<Start<P>, StartError<P>> {
        let Request { cluster, name, args, deadline, policy, placement } = self;
        let name = Name::new(&name)?;
        let unknown = || StartError::NoHost { kind: P::KIND.into() };
        let kind = cluster.exchange().kinds().get(P::KIND).ok_or_else(unknown)?.clone();
        if kind.process_type() != TypeId::of::<P>() {
            return Err(unknown());
        }
        let options = kind.options();
        let args = Bytes::from(
            kind.encode_args(&mut Some(args) as &mut dyn Any)
                .map_err(|detail| StartError::Codec { detail })?,
        );
        if args.len() > ARGS_BYTES_MAX {
            return Err(StartError::ArgsTooLarge { bytes: args.len() });
        }
        let ask = Ask::Start {
            kind: kind.kind().clone(),
            args: args.clone(),
            policy: kind.allowed(policy.unwrap_or(options.policy)),
            // Arguments without an encoding can only be read here.
            placement: if kind.stays() {
                Placement::Local
            } else {
                placement.unwrap_or_else(|| options.placement.clone())
            },
        };
        if kind.stays() && options.hosting == Hosting::Elsewhere {
            return Err(unknown());
        }
        let (asker, answer) = oneshot::channel();
        let command = Command::Ask { name: name.clone(), ask, deadline, asker };
        cluster.shared.control.send(command).await.map_err(|_| StartError::Stopped)?;
        let answer = answer.await.map_err(|_| StartError::Stopped)?;
        if !matches!(answer, Answer::Started { .. } | Answer::Deadline(Executed::Unknown)) {
            kind.forget_args(&args);
        }
        cluster.outcome_of_start(&name, answer)
    }
}

impl Cluster {
    fn outcome_of_start<P: Process>(&self, name: &Name, answer: Answer) -> Result<Start<P>, StartError<P>> {
        let process = || ProcessRef::new(self.exchange().entry(name));
        match answer {
            Answer::Started { copies, .. } => Ok(Start { process: process(), copies }),
            Answer::AlreadyRunning(Located { kind, .. }) | Answer::Located(Located { kind, .. }) => {
                if kind.as_str() == P::KIND {
                    Err(StartError::AlreadyRunning { process: process() })
                } else {
                    Err(StartError::WrongKind { found: kind.to_string() })
                }
            }
            Answer::AtCapacity => Err(StartError::AtCapacity),
            Answer::InitFailed(reason) => Err(StartError::InitFailed { reason }),
            Answer::NoHost(kind) => Err(StartError::NoHost { kind: kind.to_string() }),
            Answer::Quarantined => Err(StartError::Quarantined),
            Answer::Deadline(executed) => Err(StartError::Deadline { executed }),
            Answer::Overloaded => Err(StartError::Overloaded),
            // Only questions end so: a start waits for the owner.
            Answer::Unlinked => Err(StartError::Deadline { executed: Executed::No }),
            Answer::NotFound
            | Answer::Done
            | Answer::Hindered(_)
            | Answer::Meta(_)
            | Answer::Conflict(_)
            | Answer::Inspected(_) => Err(StartError::Deadline { executed: Executed::Unknown }),
        }
    }
}
