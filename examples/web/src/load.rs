//! Users of the service: each has one session, visits it at its own times, one visit at a time, and looks whether the
//! number rises by one.
//!
//! A visit is due whether or not the service keeps up (open loop), and no visit is made twice: what fails is counted as
//! it would be seen by a user.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::http::Method;
use clap::Args;
use tokio::sync::{Barrier, watch};
use tokio::task::JoinSet;

use crate::balancer::Balancer;
use crate::figures::{Figures, Rise, rise};
use crate::session::Visits;

/// A visit that takes longer has failed.
const VISIT_MAX: Duration = Duration::from_secs(10);
/// Failures that are told one by one.
const FAILURES_TOLD_MAX: u64 = 10;

#[derive(Clone, Debug, Args)]
pub(crate) struct LoadArgs {
    /// Users, with one session each
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) sessions: u32,
    /// Requests per second in all
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) rate: u32,
    /// Part of the sessions' names, which decide where they are
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Print one JSON object as the last line of standard output
    #[arg(long)]
    pub(crate) json: bool,
}

/// A load that goes on.
pub(crate) struct Load {
    began: Instant,
    ground: Arc<Ground>,
    stop: watch::Sender<bool>,
    users: JoinSet<()>,
    /// Those who ask the nodes; ended when this is dropped.
    _watchers: JoinSet<()>,
}

/// What all users share.
struct Ground {
    balancer: Balancer,
    figures: Mutex<Figures>,
    /// All begin when each has made its first visit, which starts its session.
    all_here: Barrier,
    began: Instant,
}

impl Load {
    /// Returns when each session has been visited once.
    pub(crate) async fn start(nodes: Vec<String>, args: &LoadArgs) -> Self {
        let ground = Arc::new(Ground {
            balancer: Balancer::new(nodes),
            figures: Mutex::new(Figures::new(args.sessions)),
            all_here: Barrier::new(args.sessions as usize + 1),
            began: Instant::now(),
        });
        let mut watchers = JoinSet::new();
        for node in 0..ground.balancer.nodes().len() {
            let ground = Arc::clone(&ground);
            watchers.spawn(async move { ground.balancer.watch(node).await });
        }
        let (stop, stopped) = watch::channel(false);
        let mut users = JoinSet::new();
        let between = Duration::from_secs_f64(f64::from(args.sessions) / f64::from(args.rate));
        for user in 0..args.sessions {
            let offset = between.mul_f64(f64::from(user) / f64::from(args.sessions));
            let user = User::new(&format!("{}-{user}", args.seed), Arc::clone(&ground));
            users.spawn(user.run(between, offset, stopped.clone()));
        }
        ground.all_here.wait().await;
        Self { began: Instant::now(), ground, stop, users, _watchers: watchers }
    }

    /// What was seen so far.
    pub(crate) fn figures(&self) -> Figures {
        self.ground.figures().clone()
    }

    /// Ends it. Visits on their way are waited for.
    pub(crate) async fn stop(self) -> (Figures, f64) {
        let seconds = self.began.elapsed().as_secs_f64();
        let _ = self.stop.send(true);
        self.users.join_all().await;
        let figures = self.ground.figures().clone();
        (figures, seconds)
    }
}

impl Ground {
    /// Locked for a few additions.
    fn figures(&self) -> MutexGuard<'_, Figures> {
        self.figures.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One user, and what it knows of its session.
struct User {
    path: String,
    ground: Arc<Ground>,
    last: Option<Visits>,
    unanswered: u64,
    lost: bool,
}

impl User {
    fn new(id: &str, ground: Arc<Ground>) -> Self {
        Self { path: format!("/sessions/{id}/visit"), ground, last: None, unanswered: 0, lost: false }
    }

    async fn run(mut self, between: Duration, offset: Duration, mut stopped: watch::Receiver<bool>) {
        self.visit(None).await;
        self.ground.all_here.wait().await;
        let mut due = Instant::now() + offset;
        loop {
            tokio::select! {
                biased;
                _ = stopped.wait_for(|stopped| *stopped) => return,
                () = tokio::time::sleep_until(due.into()) => {}
            }
            self.visit(Some(due)).await;
            due += between;
        }
    }

    /// `due`: when the load wanted it; it has no time of its own if it is the first.
    async fn visit(&mut self, due: Option<Instant>) {
        let outcome = match tokio::time::timeout(VISIT_MAX, self.send()).await {
            Ok(outcome) => outcome,
            Err(_) => Err("no answer in time".to_owned()),
        };
        let ground = Arc::clone(&self.ground);
        let mut figures = ground.figures();
        match due {
            Some(due) => figures.request(due.elapsed()),
            None => figures.first_request(),
        }
        match outcome {
            Ok(visits) => self.compare(visits, &mut figures),
            Err(cause) => {
                self.unanswered += 1;
                let after = ground.began.elapsed();
                figures.failure(cause.clone());
                if figures.non_2xx() <= FAILURES_TOLD_MAX {
                    eprintln!("load: after {after:.1?} {}: {cause}", self.path);
                }
            }
        }
    }

    async fn send(&self) -> Result<Visits, String> {
        let answer = self.ground.balancer.send(Method::POST, &self.path).await?;
        if !answer.status.is_success() {
            let body = String::from_utf8_lossy(&answer.body);
            return Err(format!("{} {body}", answer.status.as_u16()));
        }
        serde_json::from_slice(&answer.body)
            .map_err(|error| format!("not an answer of this service: {error}"))
    }

    fn compare(&mut self, visits: Visits, figures: &mut Figures) {
        if let Some(last) = &self.last {
            match rise(last.number, self.unanswered, visits.number) {
                Rise::ByOne => {}
                Rise::Doubled => figures.visit_doubled(),
                // A session that was lost twice is one session.
                Rise::Lost if self.lost => {}
                Rise::Lost => {
                    self.lost = true;
                    figures.session_lost();
                }
            }
            if last.node != visits.node {
                figures.move_seen();
            }
        }
        self.last = Some(visits);
        self.unanswered = 0;
    }
}
