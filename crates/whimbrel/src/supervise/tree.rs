//! The task of one supervisor: carries out what its plan decides, and tells the plan what came of it.
//!
//! Decides nothing. Each life of a child is a task of its own, in a set that ends with this one.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use whimbrel_core::base::{ExitReason, Rng};

use super::child::Start;
use super::handle::{Request, Standing, State, Supervisor, What};
use super::lives::{self, Home, Orders, Teller, Up};
use super::plan::{Action, FirstStart, Key, Plan, Refusal, Told};
use super::{CHILDREN_MAX, Child, SuperviseError, Tree};
use crate::clock;
use crate::cluster::check_restarts;
use crate::error::JoinError;
use crate::exchange::lock;
use crate::process::guard;

/// Requests on their way to a supervisor; more wait where they are made.
const REQUESTS_MAX: usize = 64;
/// Requests that wait for what comes of a child.
const WAITERS_MAX: usize = 1_024;

/// What the owner of a tree wants of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    Run,
    /// That nothing of it runs for a while; each rest has a number.
    Rest(u64),
    /// The same, at once.
    Hurry(u64),
}

/// A supervisor, with what its task works on.
pub(super) struct Running {
    home: Home,
    orders: Orders,
    state: Arc<Mutex<State>>,
    children: BTreeMap<Key, Arc<Child>>,
    /// How those are told to end that run.
    lives: BTreeMap<Key, Orders>,
    tasks: JoinSet<(Key, ExitReason)>,
    tell_up: mpsc::Sender<Up>,
    ups: mpsc::Receiver<Up>,
    requests: mpsc::Receiver<Request>,
    waiters: Vec<Waiter>,
    wishes: Option<watch::Receiver<Wish>>,
    standing: watch::Sender<Standing>,
}

struct Waiter {
    key: Key,
    id: String,
    awaits: Awaits,
    answer: oneshot::Sender<Result<(), SuperviseError>>,
}

#[derive(Clone, Copy)]
enum Awaits {
    Up,
    Down,
}

/// Whether the settings of a tree, and of the trees in it, are within their bounds.
pub(super) fn check(tree: &Tree) -> Result<(), SuperviseError> {
    check_restarts(&tree.intensity).map_err(|error| match error {
        JoinError::BadSetting { rule, .. } => SuperviseError::BadSetting { key: "intensity", rule },
        other => SuperviseError::BadSetting { key: "intensity", rule: other.to_string() },
    })?;
    if tree.children.len() > CHILDREN_MAX {
        return Err(SuperviseError::Overloaded);
    }
    for (at, child) in tree.children.iter().enumerate() {
        if tree.children[..at].iter().any(|other| other.id == child.id) {
            return Err(SuperviseError::Taken { id: child.id.to_string() });
        }
        check_child(child)?;
    }
    Ok(())
}

fn check_child(child: &Child) -> Result<(), SuperviseError> {
    match &child.start {
        Start::Supervisor(inner) => check(inner),
        Start::Task(_) | Start::Process(_) => Ok(()),
    }
}

impl Running {
    /// Nothing runs before [`Running::run`]. The tree has been checked.
    pub(super) fn new(home: Home, tree: &Tree, orders: Orders) -> (Supervisor, Self) {
        // Without entropy restarts have the same jitter everywhere, and nothing worse.
        let rng = Rng::new(getrandom::u64().unwrap_or_default());
        let mut plan = Plan::new(tree.strategy, tree.intensity, rng);
        let mut children = BTreeMap::new();
        for child in &tree.children {
            // Ids are different: that was checked.
            if let Ok(key) = plan.add(child.id.clone(), child.restart, clock::time()) {
                children.insert(key, child.clone());
            }
        }
        let state = Arc::new(Mutex::new(State { plan, present: BTreeMap::new() }));
        let (ask, requests) = mpsc::channel(REQUESTS_MAX);
        let (tell_up, ups) = mpsc::channel(REQUESTS_MAX);
        let (standing, stands) = watch::channel(Standing::Starts);
        let handle = Supervisor::new(state.clone(), ask, orders.stop.clone(), stands);
        let (lives, tasks, waiters) = (BTreeMap::new(), JoinSet::new(), Vec::new());
        let wishes = None;
        let running = Self {
            home,
            orders,
            state,
            children,
            lives,
            tasks,
            tell_up,
            ups,
            requests,
            waiters,
            wishes,
            standing,
        };
        (handle, running)
    }

    /// It has an owner that may want it to rest.
    pub(super) fn with_wishes(self, wishes: watch::Receiver<Wish>) -> Self {
        Self { wishes: Some(wishes), ..self }
    }

    /// Runs until nothing of it runs any more. A tree may hold trees, so the type ends here.
    pub(super) fn run(self) -> Pin<Box<dyn Future<Output = ExitReason> + Send>> {
        Box::pin(self.work())
    }

    async fn work(mut self) -> ExitReason {
        let (mut stops, mut killed) = (false, false);
        loop {
            if let Some(reason) = self.carry_out() {
                self.standing.send_replace(Standing::Over(reason.clone()));
                return reason;
            }
            let due = lock(&self.state).plan.deadline().map(|due| due.since(clock::time()));
            tokio::select! {
                biased;
                () = self.orders.kill.cancelled(), if !killed => {
                    killed = true;
                    lock(&self.state).plan.end(ExitReason::Killed);
                }
                () = self.orders.stop.cancelled(), if !stops => {
                    stops = true;
                    lock(&self.state).plan.end(ExitReason::Shutdown);
                }
                // Before ends: a child that is up says so before it ends.
                Some(up) = self.ups.recv() => self.up(up),
                Some(Ok((key, reason))) = self.tasks.join_next() => self.ended(key, &reason),
                wish = wished(&mut self.wishes) => self.wish(wish),
                Some(request) = self.requests.recv() => self.request(request),
                () = sleep(due) => {}
            }
        }
    }

    /// Does what the plan wants done; why it is over, if it is.
    fn carry_out(&mut self) -> Option<ExitReason> {
        loop {
            let mut state = lock(&self.state);
            let Some(action) = state.plan.poll(clock::time()) else { break };
            drop(state);
            match action {
                Action::Start(key) => self.start(key),
                Action::Stop(key) => {
                    if let Some(orders) = self.lives.get(&key) {
                        orders.stop.cancel();
                    }
                }
                Action::Tell(key, told) => self.tell(key, &told),
            }
        }
        let state = lock(&self.state);
        let over = state.plan.over();
        let started = *state.plan.first_start() == FirstStart::Done;
        let rests = state.plan.is_at_rest();
        drop(state);
        if over.is_none() && started {
            let standing = match self.wishes.as_ref().map(|wishes| *wishes.borrow()) {
                Some(Wish::Rest(rest) | Wish::Hurry(rest)) if rests => Standing::Rests(rest),
                _ => Standing::Runs,
            };
            self.standing.send_if_modified(|stands| {
                let changes = *stands != standing;
                *stands = standing;
                changes
            });
        }
        over
    }

    fn start(&mut self, key: Key) {
        let Some(child) = self.children.get(&key).cloned() else { return };
        // Killed with the tree, but not stopped with it: each in its turn.
        let orders = Orders { stop: Default::default(), kill: self.orders.kill.child_token() };
        self.lives.insert(key, orders.clone());
        let teller = Teller { key, ups: self.tell_up.clone() };
        let home = self.home.clone();
        self.tasks.spawn(async move { (key, lives::live(home, child, orders, teller).await) });
    }

    fn up(&mut self, up: Up) {
        let mut state = lock(&self.state);
        if let Some(present) = up.present {
            state.present.insert(up.key, present);
        }
        state.plan.up(up.key);
    }

    fn ended(&mut self, key: Key, reason: &ExitReason) {
        self.lives.remove(&key);
        let mut state = lock(&self.state);
        let id = state.plan.children().find(|child| child.key == key).map(|child| child.id);
        let present = state.present.remove(&key);
        state.plan.ended(key, reason, clock::time());
        let left: BTreeSet<Key> = state.plan.children().map(|child| child.key).collect();
        drop(state);
        if !reason.is_normal() {
            tracing::warn!(?id, %reason, "a supervised child failed");
        }
        if left.len() < self.children.len() {
            let gone: Vec<Key> = self.children.keys().filter(|key| !left.contains(key)).copied().collect();
            let gone: Vec<_> = gone.iter().filter_map(|key| self.children.remove(key)).collect();
            // May hold the last references to what is the user's: outside the lock, and it may panic.
            let _panicked = guard::run(|| drop(gone));
        }
        let _panicked = guard::run(|| drop(present));
    }

    fn wish(&mut self, wish: Wish) {
        let mut state = lock(&self.state);
        match wish {
            Wish::Run => state.plan.resume(),
            Wish::Rest(_) | Wish::Hurry(_) => state.plan.rest(clock::time()),
        }
        drop(state);
        if matches!(wish, Wish::Hurry(_)) {
            for orders in self.lives.values() {
                orders.kill.cancel();
            }
        }
    }

    fn request(&mut self, request: Request) {
        let Request { what, answer } = request;
        let accepted = self.accept(&what);
        // A child that is refused is dropped, which is user code: outside the lock, and it may panic.
        let _panicked = guard::run(|| drop(what));
        match accepted {
            Ok((key, id, awaits)) => self.waiters.push(Waiter { key, id, awaits, answer }),
            Err(error) => {
                // Who asked may have gone.
                let _gone = answer.send(Err(error));
            }
        }
    }

    fn accept(&mut self, what: &What) -> Result<(Key, String, Awaits), SuperviseError> {
        self.waiters.retain(|waiter| !waiter.answer.is_closed());
        if self.waiters.len() >= WAITERS_MAX {
            return Err(SuperviseError::Overloaded);
        }
        let now = clock::time();
        let plan = &mut lock(&self.state).plan;
        let (id, awaits, accepted) = match what {
            What::Start(child) => {
                check_child(child)?;
                let accepted = plan.add(child.id.clone(), child.restart, now);
                if let Ok(key) = accepted {
                    self.children.insert(key, child.clone());
                }
                (child.id.to_string(), Awaits::Up, accepted)
            }
            What::Restart(id) => (id.clone(), Awaits::Up, plan.restart(id, now)),
            What::Stop(id) => (id.clone(), Awaits::Down, plan.stop(id)),
            What::Remove(id) => (id.clone(), Awaits::Down, plan.remove(id)),
        };
        match accepted {
            Ok(key) => Ok((key, id, awaits)),
            Err(Refusal::Full) => Err(SuperviseError::Overloaded),
            Err(Refusal::Ends) => Err(SuperviseError::Stopped),
            Err(Refusal::Taken) => Err(SuperviseError::Taken { id }),
            Err(Refusal::Unknown) => Err(SuperviseError::NotFound { id }),
        }
    }

    fn tell(&mut self, key: Key, told: &Told) {
        for waiter in self.waiters.extract_if(.., |waiter| waiter.key == key) {
            let Waiter { id, awaits, answer, .. } = waiter;
            let outcome = match (awaits, told) {
                (Awaits::Up, Told::Up) | (Awaits::Down, Told::Down | Told::Failed(_)) => Ok(()),
                (Awaits::Up, Told::Down) => Err(SuperviseError::ChildStopped { id }),
                (Awaits::Up, Told::Failed(reason)) => {
                    Err(SuperviseError::StartFailed { id, reason: reason.clone() })
                }
                // Told to start again before it had stopped.
                (Awaits::Down, Told::Up) => Ok(()),
            };
            // Who asked may have gone.
            let _gone = answer.send(outcome);
        }
    }
}

/// What the owner wants, when that changes.
async fn wished(wishes: &mut Option<watch::Receiver<Wish>>) -> Wish {
    if let Some(changing) = wishes
        && changing.changed().await.is_ok()
    {
        return *changing.borrow_and_update();
    }
    std::future::pending().await
}

async fn sleep(due: Option<Duration>) {
    match due {
        Some(due) => tokio::time::sleep(due).await,
        None => std::future::pending().await,
    }
}
