//! The clients on one node: numbered operations, one order per (client, name), each written down with its outcome.
//!
//! A client's number is taken and its message sent under one lock, so that numbers and sending have the same
//! order. Calls are not awaited one after the other: a name that is away for a moment must not keep a client from
//! talking to others.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use whimbrel::{CallError, Cluster, Message, ProcessRef, StartError};

use super::evidence::{CLEANER, Channel, Executed, HistoryLine, Op, counter_name, write_line};
use super::kinds::{Cleaner, CleanerArgs, CleanerRef, Counter, CounterRef, Said, node_name};
use crate::control::Trouble;
use crate::os;

/// Clients on a node; a counter belongs to one of them.
const CLIENTS: u32 = 4;
/// Calls that a node has open at most; beyond, the load pauses.
const CALLS_MAX: u32 = 50_000;
/// How often the load sends what is due.
const LOAD_TICK: Duration = Duration::from_millis(5);
/// How far a load that was held up catches up.
const CATCH_UP: Duration = Duration::from_secs(1);
/// Pause after a failed try to reach a name.
const RETRY: Duration = Duration::from_millis(2);
/// Names that are started, or tried to be reached, at the same time.
const AT_ONCE: usize = 256;
/// Names that are told when they did not answer.
const SILENT_SHOWN: usize = 20;

/// All clients of this node.
#[derive(Clone)]
pub(crate) struct Clients {
    cluster: Cluster,
    node: Arc<str>,
    clients: Arc<Vec<Client>>,
    open: Arc<Semaphore>,
    load: watch::Sender<Load>,
}

/// One sender.
struct Client {
    name: String,
    /// The next number per name; also the order of sending.
    next: Mutex<HashMap<String, u64>>,
}

/// What the load is to do.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Load {
    /// Messages per second of this node.
    pub(crate) per_second: f64,
    /// Counters there are.
    pub(crate) counters: u32,
    /// Seed of the choice.
    pub(crate) seed: u64,
    /// The longest time that a handler is told to take.
    pub(crate) work_us_max: u64,
}

/// An operation to be sent: by which client, to which name, what, and how long its handler is to take.
type Operation<'a> = (u32, &'a str, Op, u64);

/// An operation that was sent.
struct Sent {
    client: u32,
    id: String,
    name: String,
    op: Op,
    n: u64,
    t0_us: u64,
    work_us: u64,
}

impl Clients {
    /// The clients of a node that has joined.
    pub(crate) fn new(cluster: Cluster) -> Self {
        let node = node_name();
        let clients = (0..CLIENTS)
            // A node that was restarted is another OS process, with other clients.
            .map(|index| format!("{node}.{}-{index}", std::process::id()))
            .map(|name| Client { name, next: Mutex::new(HashMap::new()) });
        let clients = Arc::new(clients.collect());
        let load = watch::Sender::new(Load::default());
        let open = Arc::new(Semaphore::new(CALLS_MAX as usize));
        let all = Self { cluster, node: node.into(), clients, open, load };
        for client in 0..CLIENTS {
            tokio::spawn(all.clone().keep_sending(client));
        }
        all
    }

    /// Changes the load. With rate 0 it returns when every open call has ended.
    pub(crate) async fn set_load(&self, load: Load) {
        self.load.send_replace(load);
        if load.per_second == 0.0 {
            let _ = self.open.acquire_many(CALLS_MAX).await;
        }
    }

    /// Calls counters until each has answered; returns who did not.
    pub(crate) async fn touch(&self, names: Vec<(u32, String)>, within: Duration) -> Vec<String> {
        let until = Instant::now() + within;
        let turns = Arc::new(Semaphore::new(AT_ONCE));
        let mut tries = tokio::task::JoinSet::new();
        for (client, name) in names {
            let (all, turns) = (self.clone(), Arc::clone(&turns));
            tries.spawn(async move {
                let _turn = turns.acquire().await;
                loop {
                    if all.call_counter(client, &name, 0).await.is_ok() {
                        return None;
                    }
                    if Instant::now() >= until {
                        return Some(name);
                    }
                    tokio::time::sleep(RETRY).await;
                }
            });
        }
        let mut silent: Vec<String> = tries.join_all().await.into_iter().flatten().collect();
        silent.sort();
        silent.truncate(SILENT_SHOWN);
        silent
    }

    /// Calls the cleaner until a life after `after_token` answers; its token.
    pub(crate) async fn await_cleaner(&self, after_token: u64, within: Duration) -> Result<u64, Trouble> {
        let until = Instant::now() + within;
        let cleaner = self.process::<Cleaner>(CLEANER)?;
        loop {
            let reply = self.call((0, CLEANER, Op::Ping, 0), |id| cleaner.ping(id)).await;
            match reply {
                Ok(said) if said.token > after_token => return Ok(said.token),
                Ok(_) | Err(_) if Instant::now() < until => tokio::time::sleep(RETRY).await,
                Ok(said) => {
                    let found = format!("token {}", said.token);
                    return Err(Trouble::new("the cleaner did not start anew", found));
                }
                Err(error) => return Err(Trouble::new("the cleaner does not answer", error)),
            }
        }
    }

    /// Tells the cleaner to panic.
    pub(crate) fn panic_cleaner(&self) -> Result<(), Trouble> {
        let cleaner = self.process::<Cleaner>(CLEANER)?;
        self.cast((0, CLEANER, Op::Panic, 0), |id| cleaner.fail(id))
            .map_err(|error| Trouble::new("the cleaner could not be told to panic", error))
    }

    /// Starts counters; all must start.
    pub(crate) async fn start_counters(&self, counters: Vec<u32>) -> Result<(), Trouble> {
        let turns = Arc::new(Semaphore::new(AT_ONCE));
        let mut starts = tokio::task::JoinSet::new();
        for counter in counters {
            let (all, turns) = (self.clone(), Arc::clone(&turns));
            starts.spawn(async move {
                let _turn = turns.acquire().await;
                let name = counter_name(counter);
                match all.start_counter(counter % CLIENTS, &name).await {
                    "started" => Ok(()),
                    other => Err(Trouble::new(format!("{name} could not be started"), other)),
                }
            });
        }
        starts.join_all().await.into_iter().collect()
    }

    /// Starts one counter and says how that ended.
    pub(crate) async fn start_counter(&self, client: u32, name: &str) -> &'static str {
        let t0_us = os::monotonic_us();
        let result = self.cluster.start::<Counter>(name, ()).await;
        self.write_start(client, name, t0_us, &result)
    }

    /// Asks for the singleton, as every node does: one starts it, the others find it running.
    pub(crate) async fn start_cleaner(&self, args: CleanerArgs) -> Result<(), Trouble> {
        let t0_us = os::monotonic_us();
        let result = self.cluster.start::<Cleaner>(CLEANER, args).await;
        match self.write_start(0, CLEANER, t0_us, &result) {
            "started" | "already_running" => Ok(()),
            other => Err(Trouble::new("the cleaner could not be started", other)),
        }
    }

    fn write_start<P: whimbrel::Process>(
        &self,
        client: u32,
        name: &str,
        t0_us: u64,
        result: &Result<whimbrel::Start<P>, StartError<P>>,
    ) -> &'static str {
        let (outcome, executed) = match result {
            Ok(_) => ("started", Executed::Yes),
            Err(error) => (error.code().as_str(), known(error.executed())),
        };
        let client = &self.clients[(client % CLIENTS) as usize].name;
        write_line(
            Channel::History,
            &HistoryLine {
                id: format!("{client}/{name}/start"),
                client: client.clone(),
                node: self.node.to_string(),
                name: name.to_owned(),
                op: Op::Start,
                n: 0,
                t0_us,
                t1_us: os::monotonic_us(),
                outcome: outcome.to_owned(),
                executed,
                token: None,
                value: None,
                work_us: 0,
            },
        );
        outcome
    }

    async fn keep_sending(self, client: u32) {
        let mut changes = self.load.subscribe();
        loop {
            let load = *changes.borrow_and_update();
            let mine = counters_of(client, load.counters);
            if load.per_second > 0.0 && mine > 0 {
                let whole = f64::from(mine) / f64::from(load.counters.max(1));
                let mut pace = Pace::new(load.per_second * whole, load.seed ^ (u64::from(client) << 32));
                while !changes.has_changed().unwrap_or(true) {
                    for _ in 0..pace.due() {
                        self.send_one(client, mine, load.work_us_max, &mut pace.random).await;
                    }
                    tokio::time::sleep(LOAD_TICK).await;
                }
            } else if changes.changed().await.is_err() {
                return;
            }
        }
    }

    /// One message to one of the client's counters: a call or a cast, as chance will have it.
    async fn send_one(&self, client: u32, mine: u32, work_us_max: u64, random: &mut SplitMix) {
        let choice = random.next();
        let index = u32::try_from((choice >> 1) % u64::from(mine)).unwrap_or(0);
        let name = counter_name(index * CLIENTS + client);
        let work_us = if work_us_max > 0 { random.next() % (work_us_max + 1) } else { 0 };
        if choice & 1 == 0 {
            if let Ok(counter) = self.process::<Counter>(&name) {
                let _ = self.cast((client, &name, Op::Cast, work_us), |id| counter.tell(id, work_us));
            }
            return;
        }
        let Ok(permit) = Arc::clone(&self.open).acquire_owned().await else { return };
        let call = self.call_counter(client, &name, work_us);
        tokio::spawn(finish(call, permit));
    }

    fn call_counter(
        &self,
        client: u32,
        name: &str,
        work_us: u64,
    ) -> Pin<Box<dyn Future<Output = Result<Said, CallError>> + Send + 'static>> {
        match self.process::<Counter>(name) {
            Ok(counter) => {
                Box::pin(self.call((client, name, Op::Call, work_us), |id| counter.add(id, work_us)))
            }
            Err(_) => Box::pin(std::future::ready(Err(CallError::NotFound))),
        }
    }

    fn process<P: whimbrel::Process>(&self, name: &str) -> Result<ProcessRef<P>, Trouble> {
        self.cluster.process::<P>(name).map_err(|error| Trouble::new("not a name", error))
    }

    /// Sends a call now and returns what waits for its reply.
    fn call<M: Message<Reply = Said>>(
        &self,
        what: Operation<'_>,
        make: impl FnOnce(String) -> whimbrel::Call<M>,
    ) -> impl Future<Output = Result<Said, CallError>> + Send + 'static
    where
        whimbrel::Call<M>: Send,
    {
        let (sent, (mut call, early)) = self.number(what, |id| {
            let mut call = Box::pin(make(id));
            // The first poll sends; the task that waits polls again with its own waker.
            let early = call.as_mut().poll(&mut std::task::Context::from_waker(Waker::noop()));
            (call, early)
        });
        let all = self.clone();
        async move {
            let result = match early {
                Poll::Ready(result) => result,
                Poll::Pending => call.as_mut().await,
            };
            let (outcome, executed, said) = match &result {
                Ok(said) => ("ok", Executed::Yes, Some(*said)),
                Err(error) => (error.code().as_str(), known(error.executed()), None),
            };
            all.write(sent, outcome, executed, said);
            result
        }
    }

    /// Sends a cast.
    fn cast(
        &self,
        what: Operation<'_>,
        make: impl FnOnce(String) -> Result<(), whimbrel::CastError>,
    ) -> Result<(), whimbrel::CastError> {
        let (sent, result) = self.number(what, make);
        match &result {
            Ok(()) => self.write(sent, "ok", Executed::Unknown, None),
            Err(error) => self.write(sent, error.code().as_str(), known(error.executed()), None),
        }
        result
    }

    /// Takes the next number and sends under one lock.
    fn number<T>(&self, what: Operation<'_>, send: impl FnOnce(String) -> T) -> (Sent, T) {
        let (client, name, op, work_us) = what;
        let client = client % CLIENTS;
        let sender = &self.clients[client as usize];
        let mut next = sender.next.lock().unwrap_or_else(PoisonError::into_inner);
        let n = next.entry(name.to_owned()).and_modify(|n| *n += 1).or_insert(1);
        let id = format!("{}/{name}/{n}", sender.name);
        let sent = Sent {
            client,
            id: id.clone(),
            name: name.to_owned(),
            op,
            n: *n,
            t0_us: os::monotonic_us(),
            work_us,
        };
        let result = send(id);
        (sent, result)
    }

    fn write(&self, sent: Sent, outcome: &str, executed: Executed, said: Option<Said>) {
        write_line(
            Channel::History,
            &HistoryLine {
                id: sent.id,
                client: self.clients[sent.client as usize].name.clone(),
                node: self.node.to_string(),
                name: sent.name,
                op: sent.op,
                n: sent.n,
                t0_us: sent.t0_us,
                t1_us: os::monotonic_us(),
                outcome: outcome.to_owned(),
                executed,
                token: said.map(|said| said.token),
                value: said.and_then(|said| said.value),
                work_us: sent.work_us,
            },
        );
    }
}

/// Awaits a call whose outcome writes itself down.
async fn finish(call: impl Future<Output = Result<Said, CallError>>, open: OwnedSemaphorePermit) {
    let _ = call.await;
    drop(open);
}

/// The counters of one client: those whose number is `client` modulo the number of clients.
const fn counters_of(client: u32, counters: u32) -> u32 {
    (counters + CLIENTS - 1 - client) / CLIENTS
}

/// The client that a counter belongs to.
pub(crate) const fn client_of(counter: u32) -> u32 {
    counter % CLIENTS
}

fn known(executed: whimbrel::Executed) -> Executed {
    match executed {
        whimbrel::Executed::No => Executed::No,
        whimbrel::Executed::Unknown => Executed::Unknown,
    }
}

/// How many messages are due.
#[derive(Debug)]
struct Pace {
    per_second: f64,
    since: Instant,
    sent: u64,
    random: SplitMix,
}

impl Pace {
    fn new(per_second: f64, seed: u64) -> Self {
        Self { per_second, since: Instant::now(), sent: 0, random: SplitMix(seed) }
    }

    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
    fn due(&mut self) -> u64 {
        let all = (self.since.elapsed().as_secs_f64() * self.per_second) as u64;
        let most = (CATCH_UP.as_secs_f64() * self.per_second) as u64 + 1;
        let due = all.saturating_sub(self.sent);
        self.sent = all;
        due.min(most)
    }
}

/// A small generator: the load needs variety and repeatability, nothing more.
#[derive(Debug)]
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_counter_belongs_to_one_client() {
        for counters in [1, 2, 3, 4, 5, 300, 301] {
            let all: u32 = (0..CLIENTS).map(|client| counters_of(client, counters)).sum();
            assert_eq!(all, counters);
            assert!((0..counters).all(|c| c / CLIENTS < counters_of(client_of(c), counters)));
        }
    }
}
