//! Setting up a node.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, mpsc, watch};
use whimbrel_core::base::limits::{ARRIVED_BYTES_MAX, FRAME_BYTES_MAX, LEAVING_BYTES_MAX, SESSIONS_MAX};
use whimbrel_core::base::text::is_address;
use whimbrel_core::base::{Address, Kind, Mutants, Name, NodeName};
use whimbrel_core::directory::{Rebalance, RestartIntensity};
use whimbrel_core::node::{Config, Event, Node};
use whimbrel_core::placement::PlacementPolicy;
use whimbrel_core::view::Labels;
use whimbrel_core::wire::hello::Mode;

use super::checks::{bad, check, check_founding, check_restarts};
use super::drain::DRAIN_MAX;
use super::policy::Guarded;
use super::{Cluster, Shared, advertise};
use crate::admission::{Admission, NodeRule, add_label};
use crate::clock;
use crate::discovery::{Discovery, Here, Sources};
use crate::driver::{COMMANDS_MAX, Command, Driver, TRANSPORT_EVENTS_MAX};
use crate::error::JoinError;
use crate::events::BEHIND_MAX;
use crate::exchange::{Budget, DeadLetter, Exchange, ExitTexts, Hooks, MoveStep};
use crate::message::Speaks;
use crate::process::{KindOptions, KindTable, local, moving, restarting};
use crate::secret::Secret;
use crate::supervise::Roots;
use crate::tasks::Tasks;
use crate::transport::{Timings, Transport, TransportConfig, TransportError};

/// How long `join` waits for a view unless it says otherwise.
const JOIN_MAX: Duration = Duration::from_secs(60);
/// Bits of the optional parts of the protocol: none so far.
const FEATURES: u64 = 0;

/// Whether panic=abort is accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OnAbort {
    Refuse,
    Allow,
}

/// Where the secret comes from.
#[derive(Clone, Debug)]
enum SecretSource {
    None,
    Bytes(Vec<u8>),
    File(PathBuf),
}

impl SecretSource {
    fn read(self) -> Result<Option<Secret>, JoinError> {
        let (key, secret) = match self {
            SecretSource::None => return Ok(None),
            SecretSource::Bytes(bytes) => ("secret", Secret::new(bytes)),
            SecretSource::File(path) => ("secret_file", Secret::from_file(path)),
        };
        secret.map(Some).map_err(|error| bad(key, error.to_string()))
    }
}

/// A node that is being set up. The defaults suit a data centre.
#[must_use = "a node starts with `join`"]
pub struct Builder {
    cluster: String,
    listen: Option<String>,
    advertise: Option<String>,
    node_name: Option<String>,
    secret: SecretSource,
    discovery: Vec<Arc<dyn Discovery>>,
    admission: Admission,
    /// The first error stays and is told by `join`.
    labels: Result<Labels, JoinError>,
    join_within: Duration,
    on_abort: OnAbort,
    common: Common,
}

/// A cluster of one node that is being set up.
#[must_use = "a node starts with `join`"]
pub struct LocalBuilder {
    on_abort: OnAbort,
    common: Common,
}

/// What both sorts of node have.
struct Common {
    kinds: Result<KindTable, JoinError>,
    config: Config,
    hooks: Hooks,
    leaving_bytes_max: usize,
    arrived_bytes_max: usize,
    drain_within: Duration,
}

impl Common {
    fn new() -> Self {
        let name = Name::new("local").expect("`local` is 5 bytes without a control character");
        Self {
            kinds: Ok(KindTable::default()),
            config: Config::new(name, Address::from(""), 0),
            hooks: Hooks::default(),
            leaving_bytes_max: LEAVING_BYTES_MAX,
            arrived_bytes_max: ARRIVED_BYTES_MAX,
            drain_within: DRAIN_MAX,
        }
    }

    fn budgets(&self) -> (Budget, Budget) {
        (Budget::new(self.leaving_bytes_max), Budget::new(self.arrived_bytes_max))
    }

    /// The first error stays and is told by `join`.
    fn add(&mut self, kind: Result<Arc<dyn crate::process::HostedKind>, JoinError>) {
        if let Ok(kinds) = &mut self.kinds
            && let Err(error) = kinds.add(kind)
        {
            self.kinds = Err(error);
        }
    }
}

macro_rules! common_options {
    ($type:ident) => {
        impl $type {
            /// Registers a kind whose state and arguments are serde: it moves with its state.
            pub fn kind<P>(mut self, options: KindOptions) -> Self
            where
                P: Speaks + Serialize + DeserializeOwned,
                P::Args: Serialize + DeserializeOwned,
            {
                self.common.add(moving::<P>(options));
                self
            }

            /// Registers a kind of which only the arguments are serde: on a move it begins anew with them, and its unread
            /// messages and timers go along.
            pub fn restart_kind<P>(mut self, options: KindOptions) -> Self
            where
                P: Speaks,
                P::Args: Serialize + DeserializeOwned,
            {
                self.common.add(restarting::<P>(options));
                self
            }

            /// Registers a kind without serde: it is started on the node that asks, restarts there, and ends with
            /// that node. Its policy is at most transient.
            pub fn local_kind<P>(mut self, options: KindOptions) -> Self
            where
                P: Speaks,
                P::Args: Clone,
            {
                self.common.add(local::<P>(options));
                self
            }

            /// Registers a rule of your own for where processes are placed, used as `Placement::Custom` with this name: the
            /// same on all nodes, since the owner of a name asks its own. It runs in the task that keeps the node a
            /// member, so it must return at once: see [`PlacementPolicy`]. A panic in it is logged and counts as no
            /// answer.
            ///
            /// ```
            /// # use std::sync::Arc;
            /// # use whimbrel::{Cluster, NodeName, PlacementPolicy, PlacementRequest};
            /// /// Of the nodes in Europe that with the least to do.
            /// struct Europe;
            ///
            /// impl PlacementPolicy for Europe {
            ///     fn choose(&self, request: &PlacementRequest<'_>) -> Option<NodeName> {
            ///         let zone = |labels: &whimbrel::Labels| {
            ///             labels.iter().any(|(key, value)| key.as_str() == "zone" && value.as_str().starts_with("eu-"))
            ///         };
            ///         let europe = request.candidates.iter().filter(|node| zone(node.labels));
            ///         europe.min_by_key(|node| node.load * 1_000 / u64::from(node.weight)).map(|node| node.name.clone())
            ///     }
            /// }
            ///
            /// # async fn example() -> Result<(), whimbrel::JoinError> {
            /// let cluster = Cluster::local().placement_policy("europe", Arc::new(Europe)).join().await?;
            /// # Ok(()) }
            /// ```
            pub fn placement_policy(mut self, name: &str, policy: Arc<dyn PlacementPolicy>) -> Self {
                match Name::new(name) {
                    Ok(name) => self.common.config.policies.insert(name, Arc::new(Guarded(policy))),
                    Err(error) => {
                        let rule = format!("`{name}`: {error}");
                        let first =
                            std::mem::replace(&mut self.common.kinds, Err(bad("placement_policy", rule)));
                        if first.is_err() {
                            self.common.kinds = first;
                        }
                    }
                }
                self
            }

            /// How restarts are spaced, and how many failures lead to quarantine.
            pub fn restart_intensity(mut self, intensity: RestartIntensity) -> Self {
                self.common.config.restart = intensity;
                self
            }

            /// How long [`Cluster::leave`] lets processes move before it ends those that are left; default 30 s.
            pub fn drain_within(mut self, deadline: Duration) -> Self {
                self.common.drain_within = deadline;
                self
            }

            /// Called for each dead letter of this node, where it arose: it must be quick and must not wait.
            pub fn on_dead_letter(mut self, hook: Arc<dyn Fn(&DeadLetter) + Send + Sync>) -> Self {
                self.common.hooks.dead_letter = Some(hook);
                self
            }

            /// Called at each step of a move that this node takes part in, in the task of the process that moves: what it
            /// takes, the move takes longer.
            pub fn on_move_step(mut self, hook: Arc<dyn Fn(&MoveStep) + Send + Sync>) -> Self {
                self.common.hooks.step = Some(hook);
                self
            }

            /// Whether the texts of errors and panics leave the process that failed: default true. With false monitors,
            /// callers and the record learn what sort of end it was and `(withheld)`; the text stands in the log of this
            /// node. It is at most 1,024 bytes in any case.
            pub fn share_exit_texts(mut self, share: bool) -> Self {
                self.common.hooks.exit_texts = if share { ExitTexts::Shared } else { ExitTexts::Withheld };
                self
            }

            /// Plants one bug, for the proof that the checkers can fail.
            #[doc(hidden)]
            pub fn mutants(mut self, mutants: Mutants) -> Self {
                self.common.config.mutants = mutants;
                self
            }

            /// Joins although the program was built with panic=abort: a panic of one process then ends them all.
            pub fn allow_abort(mut self) -> Self {
                self.on_abort = OnAbort::Allow;
                self
            }
        }

        impl std::fmt::Debug for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct(stringify!($type)).field("config", &self.common.config).finish_non_exhaustive()
            }
        }
    };
}

common_options!(Builder);
common_options!(LocalBuilder);

impl LocalBuilder {
    pub(super) fn new() -> Self {
        Self { on_abort: OnAbort::Refuse, common: Common::new() }
    }

    /// Starts the node.
    ///
    /// # Errors
    /// Two kinds or messages of one name, or panic=abort.
    pub async fn join(self) -> Result<Cluster, JoinError> {
        refuse_abort(self.on_abort)?;
        let budgets = self.common.budgets();
        let Common { kinds, mut config, hooks, drain_within, .. } = self.common;
        let kinds = kinds?;
        check_restarts(&config.restart)?;
        config.discovery = false;
        config.replicas = 1;
        config.found_alone_after = Duration::ZERO;
        let parts = Parts::new(kinds, hooks, budgets, drain_within, config.mutants);
        parts.run(config, None, Address::from(""), None, JOIN_MAX).await
    }
}

impl Builder {
    pub(super) fn new(cluster: &str) -> Self {
        Self {
            cluster: cluster.to_owned(),
            listen: None,
            advertise: None,
            node_name: None,
            secret: SecretSource::None,
            discovery: Vec::new(),
            admission: Admission::default(),
            labels: Ok(Labels::new()),
            join_within: JOIN_MAX,
            on_abort: OnAbort::Refuse,
            common: Common::new(),
        }
    }

    /// When processes move without being told to; default when nodes come and go. The same on all nodes. Away from a node
    /// that drains they move in any case.
    pub fn rebalance(mut self, rebalance: Rebalance) -> Self {
        self.common.config.rebalance = rebalance;
        self
    }

    /// Where to listen, as `host:port`; port 0 takes a free one. Other hosts than loopback need a secret. Without
    /// it the node dials others and nobody dials it.
    pub fn listen(mut self, address: &str) -> Self {
        self.listen = Some(address.to_owned());
        self
    }

    /// Where others dial this node, as `host:port`; default where it listens. If that is every interface (`0.0.0.0`)
    /// the default is the address from which this machine reaches others.
    pub fn advertise(mut self, address: &str) -> Self {
        self.advertise = Some(address.to_owned());
        self
    }

    /// The node's name: unique in the cluster, the same after a restart; default its advertised address.
    pub fn node_name(mut self, name: &str) -> Self {
        self.node_name = Some(name.to_owned());
        self
    }

    /// What all nodes of the cluster know: 16 to 4,096 bytes.
    pub fn secret(mut self, secret: impl AsRef<[u8]>) -> Self {
        self.secret = SecretSource::Bytes(secret.as_ref().to_vec());
        self
    }

    /// The file that holds the secret; it must not be readable by others.
    pub fn secret_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.secret = SecretSource::File(path.into());
        self
    }

    /// How other nodes are found; default not at all, which makes this node a cluster of its own until others
    /// dial it. Called again it adds another way, up to 64: what they find is put together, and one that fails
    /// keeps its last answer.
    pub fn discovery(mut self, discovery: impl Discovery) -> Self {
        self.discovery.push(Arc::new(discovery));
        self
    }

    /// D: a node that is silent is out of the view by then; default 2 s, 200 ms to 60 s. The same on all nodes.
    pub fn detection(mut self, detection: Duration) -> Self {
        self.common.config.detection = detection;
        self
    }

    /// Copies of each record: 1 to 3, default 2. The same on all nodes. With 1, a crash loses records.
    pub fn replicas(mut self, replicas: usize) -> Self {
        self.common.config.replicas = replicas;
        self
    }

    /// Slots of the cluster; default 4,096. The same on all nodes.
    pub fn slots(mut self, slots: u16) -> Self {
        self.common.config.slots = slots;
        self
    }

    /// This node's share of names relative to others: 0 to 1,000, default 100. With 0 it runs what names it alone:
    /// pinned and local processes, and what [`Cluster::move_to`] brings.
    pub fn weight(mut self, weight: u32) -> Self {
        self.common.config.weight = weight;
        self
    }

    /// Says something of this node, as `zone` = `eu-1`: at most 16 labels, each text by the rules of names.
    pub fn label(mut self, key: &str, value: &str) -> Self {
        if let Ok(labels) = &mut self.labels
            && let Err(error) = add_label(labels, key, value)
        {
            self.labels = Err(error);
        }
        self
    }

    /// Admits nodes that fit this rule, or another given here; without any, all that know the secret. The same on all
    /// nodes: one that only some admit is left out of the view.
    pub fn allow(mut self, rule: NodeRule) -> Self {
        self.admission.allow.push(rule);
        self
    }

    /// Admits no node that fits this rule, whatever else it fits. The same on all nodes.
    pub fn deny(mut self, rule: NodeRule) -> Self {
        self.admission.deny.push(rule);
        self
    }

    /// How long a node that starts and finds no cluster waits before it founds one alone; default 2 s, less than
    /// [`Builder::join_within`]. One that leaves a cluster for another that it met looks for it for the detection time at
    /// least.
    pub fn found_alone_after(mut self, wait: Duration) -> Self {
        self.common.config.found_alone_after = wait;
        self
    }

    /// Bytes of messages that this node keeps for processes on other nodes, over all names; default 256 MiB, at least
    /// one frame of 1 MiB. Beyond it a send to another node ends with `Overloaded`.
    pub fn leaving_bytes_max(mut self, bytes: usize) -> Self {
        self.common.leaving_bytes_max = bytes.max(FRAME_BYTES_MAX);
        self
    }

    /// Bytes of messages of other nodes that wait in the mailboxes here, over all names; default 256 MiB, at least one
    /// frame of 1 MiB. Beyond it they are refused with `Overloaded`, as if every mailbox were full.
    pub fn arrived_bytes_max(mut self, bytes: usize) -> Self {
        self.common.arrived_bytes_max = bytes.max(FRAME_BYTES_MAX);
        self
    }

    /// How long `join` may take; default 60 s.
    pub fn join_within(mut self, deadline: Duration) -> Self {
        self.join_within = deadline;
        self
    }

    /// Starts the node; returns when it is in a cluster, or has founded one.
    ///
    /// # Errors
    /// [`JoinError`]; nothing of the node is left.
    ///
    /// # Cancel safety
    /// Dropped on the way, the node is closed.
    pub async fn join(self) -> Result<Cluster, JoinError> {
        refuse_abort(self.on_abort)?;
        let budgets = self.common.budgets();
        let Common { kinds, mut config, hooks, drain_within, .. } = self.common;
        let kinds = kinds?;
        Name::new(&self.cluster).map_err(|error| bad("cluster", error.to_string()))?;
        check(&config, &kinds)?;
        if self.discovery.iter().any(|source| source.finds_others()) {
            check_founding(config.found_alone_after, self.join_within)?;
        }
        if self.advertise.as_deref().is_some_and(|address| !is_address(address)) {
            return Err(bad("advertise", "host:port, at most 320 bytes, without control characters"));
        }
        let secret = self.secret.read()?;
        config.labels = self.labels?;
        let parts = Parts::new(kinds, hooks, budgets, drain_within, config.mutants);
        let transport_config = TransportConfig {
            cluster: self.cluster.clone(),
            secret: secret.clone(),
            listen: self.listen,
            mode: Mode::default(),
            slots: config.slots,
            replicas: config.replicas as u8,
            sessions_max: SESSIONS_MAX,
            features: FEATURES,
            admission: self.admission,
            mutants: config.mutants,
            timings: Timings::default(),
        };
        let bound = Transport::bind(
            transport_config,
            &parts.tasks,
            parts.transport_sender.clone(),
            parts.exchange.clone(),
        )
        .await;
        let (transport, bound) = match bound {
            Ok(bound) => bound,
            Err(error) => {
                parts.tasks.stop();
                return Err(match error {
                    TransportError::SecretNeeded { .. } => bad("secret_file", error.to_string()),
                    TransportError::BadListen { .. } => bad("listen", error.to_string()),
                    TransportError::Bind { .. } => JoinError::Transport(error.to_string()),
                });
            }
        };
        let bound = bound.map(|address| advertise::reachable(address).to_string());
        let address = self.advertise.or(bound).unwrap_or_default();
        let named = self
            .node_name
            .unwrap_or_else(|| if address.is_empty() { random_name() } else { address.clone() });
        config.address = Address::from(address.as_str());
        let here = Here::new(&self.cluster, &address, secret);
        let name = NodeName::new(&named).map_err(|error| bad("node_name", error.to_string()));
        let sources = Sources::new(self.discovery, here).map_err(|rule| bad("discovery", rule));
        let sources = match name.and_then(|name| Ok((name, sources?))) {
            Ok((name, sources)) => {
                config.name = name;
                sources
            }
            Err(error) => {
                parts.tasks.stop();
                return Err(error);
            }
        };
        config.discovery = sources.find_others();
        parts.exchange.set_transport(transport.clone());
        parts.run(config, Some(transport), Address::from(address), Some(sources), self.join_within).await
    }
}

fn random_name() -> String {
    format!("node-{:08x}", getrandom::u32().unwrap_or(0))
}

/// Under panic=abort nothing can be caught, so a crash of one process would be a crash of the node.
fn refuse_abort(on_abort: OnAbort) -> Result<(), JoinError> {
    if cfg!(panic = "abort") && on_abort == OnAbort::Refuse {
        return Err(JoinError::PanicAborts);
    }
    Ok(())
}

/// The parts of a node before it runs.
struct Parts {
    tasks: Tasks,
    exchange: Arc<Exchange>,
    control: mpsc::Sender<Command>,
    commands: mpsc::Receiver<Command>,
    transport_sender: mpsc::Sender<crate::transport::TransportEvent>,
    transport_events: mpsc::Receiver<crate::transport::TransportEvent>,
    drain_within: Duration,
}

impl Parts {
    fn new(
        kinds: KindTable,
        hooks: Hooks,
        budgets: (Budget, Budget),
        drain_within: Duration,
        mutants: Mutants,
    ) -> Self {
        let tasks = Tasks::new();
        let (control, commands) = mpsc::channel(COMMANDS_MAX);
        let (transport_sender, transport_events) = mpsc::channel(TRANSPORT_EVENTS_MAX);
        let exchange = Exchange::new(kinds, control.clone(), tasks.clone(), hooks, budgets, mutants);
        Self { tasks, exchange, control, commands, transport_sender, transport_events, drain_within }
    }

    async fn run(
        self,
        mut config: Config,
        transport: Option<Transport>,
        address: Address,
        sources: Option<Sources>,
        join_within: Duration,
    ) -> Result<Cluster, JoinError> {
        let Parts { tasks, exchange, control, commands, transport_events, drain_within, .. } = self;
        config.seed = getrandom::u64().map_err(|error| JoinError::Transport(error.to_string()))?;
        config.capacity = exchange.kinds().capacity();
        config.kinds = exchange.kinds().hosted().filter_map(|kind| Kind::new(kind).ok()).collect();
        let (views, views_seen) = watch::channel(None);
        let (events, _) = broadcast::channel(BEHIND_MAX);
        let shared = Arc::new(Shared {
            exchange: exchange.clone(),
            control: control.clone(),
            tasks: tasks.clone(),
            transport: transport.clone(),
            name: config.name.clone(),
            address,
            views: views_seen,
            events: events.clone(),
            draining: AtomicBool::new(false),
            drain_within,
            roots: Roots::default(),
        });
        // From here on dropping `cluster` closes the node.
        let cluster = Cluster::for_users(shared.clone());
        let node = Node::new(config, clock::now());
        let driver = Driver {
            node,
            exchange: exchange.clone(),
            transport,
            cluster: Cluster::for_processes(shared),
            commands,
            transport_events,
            views,
            events,
        };
        // Before the driver runs, so that no word of it is missed.
        let mut told = driver.events.subscribe();
        tasks.spawn_until_stopped("driver", driver.run());
        tasks.spawn_until_stopped("sweeper", exchange.sweep());
        if let Some(sources) = sources.filter(Sources::find_others) {
            sources.start(&tasks, control);
        }
        let name_taken = async {
            loop {
                match told.recv().await {
                    Ok(Event::NameTaken(_)) => break,
                    Ok(_) | Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => std::future::pending().await,
                }
            }
        };
        tokio::select! {
            biased;
            joined = cluster.wait_for_members(1, join_within) => match joined {
                Ok(_) => Ok(cluster),
                Err(_) => Err(JoinError::Deadline),
            },
            () = name_taken => Err(JoinError::NameTaken { name: cluster.node_name().to_owned() }),
        }
    }
}
