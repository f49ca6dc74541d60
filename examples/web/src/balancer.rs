//! What stands in front of a service: it asks every node now and then whether it is ready, and gives each request to
//! one that said so of late. It repeats nothing.
//!
//! A node is chosen for [`FRESH`] after the moment at which it was *asked*, not longer, however late the answer came:
//! so a node that goes on serving for longer than that after it began to say no gets all that was ever meant for it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::{Method, Request, Response, StatusCode};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Client, Error};
use hyper_util::rt::TokioExecutor;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

/// Between two questions to a node.
const ASK_EVERY: Duration = Duration::from_millis(100);
/// For how long a yes counts; a question without an answer ends then too.
const FRESH: Duration = Duration::from_millis(300);
/// Connections that are kept for each node.
const IDLE_MAX: usize = 256;
/// Bytes of an answer that are read.
const BODY_BYTES_MAX: usize = 16 * 1_024;

/// Sends requests to the nodes that are ready.
#[derive(Debug)]
pub(crate) struct Balancer {
    client: Client<HttpConnector, Body>,
    /// As host:port.
    nodes: Vec<String>,
    /// When each node was asked the last time it said yes.
    yes: watch::Sender<Vec<Option<Instant>>>,
    next: AtomicUsize,
}

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    /// Its status.
    pub(crate) status: StatusCode,
    /// Its body.
    pub(crate) body: Vec<u8>,
}

impl Balancer {
    pub(crate) fn new(nodes: Vec<String>) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new())
            .pool_max_idle_per_host(IDLE_MAX)
            // On by default: it would hide a connection that was closed on a request.
            .retry_canceled_requests(false)
            .build(connector);
        let (yes, _) = watch::channel(vec![None; nodes.len()]);
        Self { client, nodes, yes, next: AtomicUsize::new(0) }
    }

    /// The nodes, by their place.
    pub(crate) fn nodes(&self) -> &[String] {
        &self.nodes
    }

    /// Asks one node for ever.
    pub(crate) async fn watch(&self, node: usize) {
        let mut ticks = tokio::time::interval(ASK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let asked = Instant::now();
            let answer = tokio::time::timeout(FRESH, self.ask(node, Method::GET, "/ready")).await;
            let ready = matches!(answer, Ok(Ok(Answer { status: StatusCode::OK, .. })));
            self.yes.send_modify(|yes| yes[node] = ready.then_some(asked));
        }
    }

    /// Sends a request to a node that is ready, in turn; waits while there is none, so give it a deadline.
    pub(crate) async fn send(&self, method: Method, path: &str) -> Result<Answer, String> {
        let mut yes = self.yes.subscribe();
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        loop {
            let chosen = self.choose(turn, &yes.borrow_and_update());
            if let Some(node) = chosen {
                return self.ask(node, method, path).await;
            }
            // Its sender is in `self`.
            yes.changed().await.map_err(|error| error.to_string())?;
        }
    }

    /// The first from this one on that is ready.
    fn choose(&self, turn: usize, yes: &[Option<Instant>]) -> Option<usize> {
        let all = self.nodes.len();
        let mut from_turn = (turn..turn.saturating_add(all)).map(|node| node % all);
        from_turn.find(|node| yes[*node].is_some_and(|asked| asked.elapsed() < FRESH))
    }

    /// Sends a request to this node, ready or not.
    pub(crate) async fn ask(&self, node: usize, method: Method, path: &str) -> Result<Answer, String> {
        let uri = format!("http://{}{path}", self.nodes[node]);
        let request = Request::builder().method(method).uri(uri).body(Body::empty());
        let request = request.map_err(|error| error.to_string())?;
        let response = self.client.request(request).await.map_err(|error| cause(&error))?;
        let (head, body) = Response::into_parts(response);
        let body = axum::body::to_bytes(Body::new(body), BODY_BYTES_MAX).await;
        let body = body.map_err(|error| format!("the answer broke off: {error}"))?;
        Ok(Answer { status: head.status, body: body.to_vec() })
    }
}

/// The layer below says more than the one above: `connection refused` rather than `client error`.
fn cause(error: &Error) -> String {
    let mut innermost: &dyn std::error::Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    match innermost.downcast_ref::<std::io::Error>() {
        Some(io) => io.kind().to_string(),
        None => innermost.to_string(),
    }
}
