//! Kinds: what a node knows about the processes it can start.

use std::any::{Any, TypeId};
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::oneshot;
use tokio::task::AbortHandle;
use whimbrel_core::base::{Bytes, ExitReason, Kind};
use whimbrel_core::delivery::MailboxLimits;
use whimbrel_core::directory::{Placement, RestartPolicy};
use whimbrel_core::handoff::Passage;

use super::handoff::{Skills, StateForm};
use super::run::{Birth, Origin, spawn, spawn_told};
use super::{Instance, Process};
use crate::Cluster;
use crate::codec;
use crate::error::JoinError;
use crate::exchange::{Entry, lock};
use crate::message::{MessageList, Speaks};
use crate::tasks::Tasks;

/// How processes of one kind are run on this node.
#[derive(Clone, Debug)]
pub struct KindOptions {
    pub(crate) mailbox: MailboxLimits,
    pub(crate) policy: RestartPolicy,
    pub(crate) placement: Placement,
    pub(crate) per_node_max: Option<usize>,
    pub(crate) hosting: Hosting,
}

/// Whether a node hosts a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hosting {
    Here,
    Elsewhere,
}

impl Default for KindOptions {
    fn default() -> Self {
        Self {
            mailbox: MailboxLimits::default(),
            policy: RestartPolicy::default(),
            placement: Placement::default(),
            per_node_max: None,
            hosting: Hosting::Here,
        }
    }
}

impl KindOptions {
    /// Messages that may wait in one mailbox; default 16,384, at least 1. A sender beyond it gets `Overloaded`.
    pub fn mailbox_max(mut self, messages: usize) -> Self {
        self.mailbox.messages = messages.max(1);
        self
    }

    /// Bytes of messages that may wait in one mailbox; default 64 MiB. A sender beyond it gets `Overloaded`; the message
    /// that reaches it may go beyond it, so every single message fits.
    ///
    /// A message of another node counts with its encoded length; one of this node, which is not encoded, with the size
    /// of its type and not of what that points to.
    pub fn mailbox_bytes_max(mut self, bytes: usize) -> Self {
        self.mailbox.bytes = bytes.max(1);
        self
    }

    /// When a process is restarted, unless its start says otherwise; default permanent.
    pub fn policy(mut self, policy: RestartPolicy) -> Self {
        self.policy = policy;
        self
    }

    /// Where a process is placed, unless its start says otherwise; default by hash.
    pub fn placement(mut self, placement: Placement) -> Self {
        self.placement = placement;
        self
    }

    /// Processes of this kind that run on this node at most, restarts and take-overs among them; no limit by default.
    ///
    /// A name that finds no room is started on the next node of its ranking; where none has room, or only this node
    /// was to have it, its start ends with `AtCapacity`, not executed. A process whose node died waits until a node
    /// has room. One that is restarted in place keeps its place, also while it waits for that; so does one that goes on
    /// here after a split. Unnamed and registered processes do not count.
    ///
    /// Each node keeps the limit that it was built with. There is none over all nodes.
    pub fn max_per_node(mut self, processes: usize) -> Self {
        self.per_node_max = Some(processes);
        self
    }

    /// This node knows the kind, so that it can start processes of it, but hosts none.
    pub fn not_hosted(mut self) -> Self {
        self.hosting = Hosting::Elsewhere;
        self
    }
}

/// What a kind needs to launch an instance.
pub(crate) struct Launching {
    pub(crate) entry: Arc<Entry>,
    pub(crate) instance: Arc<Instance>,
    pub(crate) cluster: Cluster,
}

/// What another node brought of a process.
pub(crate) struct Arriving {
    pub(crate) passage: Passage,
    pub(crate) image: Bytes,
    pub(crate) mailbox: MailboxLimits,
    /// The owner's word that it may run.
    pub(crate) go: oneshot::Receiver<()>,
}

/// A registered kind, its type erased.
pub(crate) trait HostedKind: Send + Sync {
    fn name(&self) -> &'static &'static str;
    fn process_type(&self) -> TypeId;
    /// Its name, as records and messages hold it: one text for all of them.
    fn kind(&self) -> &Kind;
    fn options(&self) -> &KindOptions;
    /// The policy that a start may have.
    fn allowed(&self, policy: RestartPolicy) -> RestartPolicy;
    /// Whether its arguments, and so its processes, stay on this node.
    fn stays(&self) -> bool;
    /// Arguments as bytes: `args` is an `Option<P::Args>`, which is emptied. User code.
    fn encode_args(&self, args: &mut dyn Any) -> Result<Vec<u8>, String>;
    /// These arguments are not needed any more.
    fn forget_args(&self, args: &Bytes);
    /// Runs the life of an instance, whose arguments stand in its record, as a task.
    fn launch(self: Arc<Self>, tasks: &Tasks, launching: Launching, args: Bytes) -> AbortHandle;
    /// Makes an instance that another node brought, as a task.
    fn resume(self: Arc<Self>, tasks: &Tasks, launching: Launching, arriving: Arriving) -> AbortHandle;
}

/// The kinds of one node, by name.
#[derive(Default)]
pub(crate) struct KindTable {
    kinds: BTreeMap<&'static str, Arc<dyn HostedKind>>,
}

impl KindTable {
    pub(crate) fn get(&self, kind: &str) -> Option<&Arc<dyn HostedKind>> {
        self.kinds.get(kind)
    }

    /// Kinds of which this node hosts only so many processes.
    pub(crate) fn capacity(&self) -> BTreeMap<Kind, usize> {
        let most = |kind: &Arc<dyn HostedKind>| Some((kind.kind().clone(), kind.options().per_node_max?));
        self.kinds.values().filter_map(most).collect()
    }

    /// Kinds that this node hosts.
    pub(crate) fn hosted(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.kinds.values().filter(|kind| kind.options().hosting == Hosting::Here).map(|kind| *kind.name())
    }

    pub(crate) fn add(&mut self, kind: Result<Arc<dyn HostedKind>, JoinError>) -> Result<(), JoinError> {
        let kind = kind?;
        let name = *kind.name();
        match self.kinds.insert(name, kind) {
            None => Ok(()),
            Some(_) => Err(JoinError::DuplicateKind { kind: name.to_owned() }),
        }
    }
}

/// A kind whose state and arguments are encoded.
pub(crate) fn moving<P>(options: KindOptions) -> Result<Arc<dyn HostedKind>, JoinError>
where
    P: Speaks + Serialize + DeserializeOwned,
    P::Args: Serialize + DeserializeOwned,
{
    encoded(options, StateForm::<P>::serde())
}

/// A kind whose arguments are encoded.
pub(crate) fn restarting<P>(options: KindOptions) -> Result<Arc<dyn HostedKind>, JoinError>
where
    P: Speaks,
    P::Args: Serialize + DeserializeOwned,
{
    encoded(options, StateForm::<P>::Restarts)
}

fn encoded<P>(options: KindOptions, form: StateForm<P>) -> Result<Arc<dyn HostedKind>, JoinError>
where
    P: Speaks,
    P::Args: Serialize + DeserializeOwned,
{
    let args = ArgsForm::Encoded { encode: codec::encode::<P::Args>, decode: codec::decode::<P::Args> };
    Ok(Arc::new(Registered::<P>::new(options, args, form)?))
}

/// A kind whose arguments stay on this node.
pub(crate) fn local<P>(options: KindOptions) -> Result<Arc<dyn HostedKind>, JoinError>
where
    P: Speaks,
    P::Args: Clone,
{
    let kept = Kept { clone: P::Args::clone, args: Mutex::default(), last: AtomicU64::new(0), mark: mark() };
    Ok(Arc::new(Registered::<P>::new(options, ArgsForm::Kept(kept), StateForm::Stays)?))
}

/// How the arguments of a kind are written into a record.
enum ArgsForm<A> {
    Encoded { encode: fn(&A) -> Result<Vec<u8>, String>, decode: fn(&[u8]) -> Result<A, String> },
    Kept(Kept<A>),
}

/// Arguments that have no encoding: the record holds a key to them.
struct Kept<A> {
    clone: fn(&A) -> A,
    args: Mutex<HashMap<u64, A>>,
    last: AtomicU64,
    /// Random, so that a key of another node is not taken for one of this node.
    mark: u64,
}

fn mark() -> u64 {
    getrandom::u64().unwrap_or_else(|_| crate::clock::time().as_micros())
}

struct Registered<P: Process> {
    kind: Kind,
    options: KindOptions,
    skills: Arc<Skills<P>>,
    args: ArgsForm<P::Args>,
}

impl<P: Speaks> Registered<P> {
    fn new(options: KindOptions, args: ArgsForm<P::Args>, form: StateForm<P>) -> Result<Self, JoinError> {
        let messages = MessageList::<P>::of();
        if let Some(message) = messages.duplicate() {
            return Err(JoinError::DuplicateMessage { kind: P::KIND.into(), message: message.into() });
        }
        let kind = Kind::new(P::KIND)
            .map_err(|error| JoinError::BadSetting { key: "kind", rule: error.to_string() })?;
        let skills = Arc::new(Skills { messages, form });
        Ok(Self { kind, options, skills, args })
    }
}

impl<A> Kept<A> {
    fn key(&self, args: &Bytes) -> Option<u64> {
        let (mark, number) = args.as_slice().split_first_chunk::<8>()?;
        let number = number.try_into().ok()?;
        (u64::from_be_bytes(*mark) == self.mark).then(|| u64::from_be_bytes(number))
    }

    fn put(&self, args: A) -> Vec<u8> {
        let number = self.last.fetch_add(1, Ordering::Relaxed);
        lock(&self.args).insert(number, args);
        [self.mark.to_be_bytes(), number.to_be_bytes()].concat()
    }

    fn read(&self, key: &Bytes) -> Option<A> {
        let key = self.key(key)?;
        lock(&self.args).get(&key).map(self.clone)
    }
}

impl<P: Process> Registered<P> {
    fn read_args(&self, args: &Bytes) -> Result<P::Args, ExitReason> {
        match &self.args {
            ArgsForm::Encoded { decode, .. } => {
                let decoded = super::guard::run(|| decode(args.as_slice()))?;
                decoded.map_err(|detail| ExitReason::Error(format!("arguments: {detail}")).capped())
            }
            // Started on a node that is gone: nothing of it can run here, and that is not a failure.
            ArgsForm::Kept(kept) => super::guard::run(|| kept.read(args))?.ok_or(ExitReason::Normal),
        }
    }
}

impl<P: Process> HostedKind for Registered<P> {
    fn name(&self) -> &'static &'static str {
        &P::KIND
    }

    fn process_type(&self) -> TypeId {
        TypeId::of::<P>()
    }

    fn kind(&self) -> &Kind {
        &self.kind
    }

    fn options(&self) -> &KindOptions {
        &self.options
    }

    fn allowed(&self, policy: RestartPolicy) -> RestartPolicy {
        match (&self.args, policy) {
            // After the loss of this node nobody has the arguments; `Normal` must then be the end of it.
            (ArgsForm::Kept(_), RestartPolicy::Permanent) => RestartPolicy::Transient,
            _ => policy,
        }
    }

    fn stays(&self) -> bool {
        matches!(self.args, ArgsForm::Kept(_))
    }

    fn encode_args(&self, args: &mut dyn Any) -> Result<Vec<u8>, String> {
        let args = args.downcast_mut::<Option<P::Args>>().and_then(Option::take);
        let args = args.ok_or_else(|| "the arguments are of another type".to_owned())?;
        match &self.args {
            ArgsForm::Encoded { encode, .. } => {
                super::guard::run(|| encode(&args)).unwrap_or_else(|panic| Err(panic.to_string()))
            }
            ArgsForm::Kept(kept) => Ok(kept.put(args)),
        }
    }

    fn forget_args(&self, args: &Bytes) {
        if let ArgsForm::Kept(kept) = &self.args
            && let Some(key) = kept.key(args)
        {
            let forgotten = lock(&kept.args).remove(&key);
            // Outside the lock: the destructor is user code.
            let _panicked = super::guard::run(|| drop(forgotten));
        }
    }

    fn launch(self: Arc<Self>, tasks: &Tasks, launching: Launching, args: Bytes) -> AbortHandle {
        let skills = self.skills.clone();
        let args = Box::new(move || self.read_args(&args));
        spawn(tasks, Birth { launching, origin: Origin::Args(args), skills, born: None })
    }

    fn resume(self: Arc<Self>, tasks: &Tasks, launching: Launching, arriving: Arriving) -> AbortHandle {
        let skills = self.skills.clone();
        let record_args = arriving.passage.args.clone();
        let args = Box::new(move || self.read_args(&record_args));
        spawn(tasks, Birth { launching, origin: Origin::Image { arriving, args }, skills, born: None })
    }
}

/// Runs the life of an instance that no kind table knows of.
pub(crate) fn unnamed<P: Speaks>(
    tasks: &Tasks,
    launching: Launching,
    args: P::Args,
    born: oneshot::Sender<Result<(), ExitReason>>,
) -> AbortHandle {
    spawn(tasks, birth::<P>(launching, args, born))
}

/// The same, as a child of a supervisor, which is told why it ended when nothing of it runs any more.
pub(crate) fn supervised<P: Speaks>(
    tasks: &Tasks,
    launching: Launching,
    args: P::Args,
    born: oneshot::Sender<Result<(), ExitReason>>,
    over: oneshot::Sender<ExitReason>,
) -> AbortHandle {
    launching.instance.set_supervised();
    spawn_told(tasks, birth::<P>(launching, args, born), over)
}

fn birth<P: Speaks>(
    launching: Launching,
    args: P::Args,
    born: oneshot::Sender<Result<(), ExitReason>>,
) -> Birth<P> {
    let skills = Arc::new(Skills { messages: MessageList::<P>::of(), form: StateForm::Stays });
    let origin = Origin::Args(Box::new(move || Ok(args)));
    Birth { launching, origin, skills, born: Some(born) }
}
