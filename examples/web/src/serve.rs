//! One OS process of the service: a node of Whimbrel, and an HTTP server in front of it.
//!
//! Any node answers for any session, wherever it is, so no balancer has to know which node has which. What takes care
//! is the end: see [`run`], whose order is why nobody meets an error in a deployment.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use axum::extract::{Path, Request, State};
use axum::http::header::{CONNECTION, HeaderValue};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use clap::Args;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use whimbrel::{
    BadName, CallError, Cluster, ErrorCode, Executed, JoinError, KindOptions, StartError, StaticList,
};

use crate::session::{Session, SessionRef as _, Visits};

/// How long requests in hand may take after the listener is closed. More than a call's deadline of 5 s, so only a
/// client that is slow to send or to read is cut off.
const FINISH_MAX: Duration = Duration::from_secs(10);

#[derive(Clone, Debug, Args)]
pub(crate) struct ServeArgs {
    /// The node's name: unique, and the same after a restart
    #[arg(long)]
    pub(crate) name: String,
    /// Where to serve HTTP, as host:port
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) http: String,
    /// Where the other nodes reach this one, as host:port; not on loopback it needs a secret
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) listen: String,
    /// Where another node listens; given once for each
    #[arg(long = "peer", value_name = "ADDRESS")]
    pub(crate) peers: Vec<String>,
    /// What all nodes know, 16 to 4,096 bytes
    #[arg(long, value_name = "FILE")]
    pub(crate) secret_file: Option<PathBuf>,
    /// Milliseconds for which HTTP is served after `GET /ready` began to say no; more than the balancer needs to see it
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u64).range(0..=60_000))]
    pub(crate) grace_ms: u64,
    /// Milliseconds that sessions have to move away
    #[arg(long, default_value_t = 30_000, value_parser = clap::value_parser!(u64).range(0..=600_000))]
    pub(crate) drain_ms: u64,
    /// Milliseconds after which a silent node counts as dead; the same on all nodes
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u64).range(200..=60_000))]
    pub(crate) detection_ms: u64,
}

/// Serves until SIGTERM or SIGINT, then goes without anybody noticing:
///
/// 1. `/ready` says no, so the balancer chooses other nodes; and the sessions move to other nodes, live. Requests that
///    come meanwhile are served as ever, wherever their session is by then: the node is still a member and can call
///    every name.
/// 2. Only when both are done - the sessions are gone, the balancer had time to look - HTTP ends: no new connections,
///    requests in hand are finished.
/// 3. Only then the node leaves the cluster. Before that, a request in hand would have lost what it calls.
///
/// A second signal ends the OS process at once: to the others that is a crash.
pub(crate) async fn run(args: &ServeArgs) -> Result<(), ServeError> {
    // From here on no signal ends the OS process by itself.
    let mut signals = Signals::listen()?;
    // A port that is taken is better known before the others know of this node. Nothing is answered on it yet.
    let listener = TcpListener::bind(&args.http).await?;
    let cluster = join(args).await?;
    let (end_http, http_ends) = oneshot::channel();
    let server = axum::serve(listener, routes(cluster.clone())).with_graceful_shutdown(async {
        let _told_or_dropped = http_ends.await;
    });
    let http = tokio::spawn(server.into_future());

    signals.next().await;
    tokio::select! {
        biased;
        () = signals.next() => return Err(ServeError::Interrupted),
        () = go(&cluster, args) => {}
    }
    let _ = end_http.send(());
    if tokio::time::timeout(FINISH_MAX, http).await.is_err() {
        tracing::warn!("a client takes over {FINISH_MAX:?} for a request: it is cut off");
    }
    cluster.leave().await;
    Ok(())
}

/// The first step of the end.
async fn go(cluster: &Cluster, args: &ServeArgs) {
    let drained = cluster.drain(Duration::from_millis(args.drain_ms));
    // Nobody tells when the balancer has seen it: this is a time, and has to be longer than the balancer's.
    let grace = tokio::time::sleep(Duration::from_millis(args.grace_ms));
    // What stayed, and why, stands in the log; here it is the end of the session.
    let (_report, ()) = tokio::join!(drained, grace);
}

/// All nodes have the same settings but for names and addresses.
async fn join(args: &ServeArgs) -> Result<Cluster, JoinError> {
    let mut node = Cluster::builder("web")
        .node_name(&args.name)
        .listen(&args.listen)
        .discovery(StaticList::new(args.peers.clone()))
        .detection(Duration::from_millis(args.detection_ms))
        // `go` has drained before: `leave` need not wait for what did not move then.
        .drain_within(Duration::ZERO)
        .kind::<Session>(KindOptions::default());
    if let Some(file) = &args.secret_file {
        node = node.secret_file(file);
    }
    node.join().await
}

fn routes(cluster: Cluster) -> Router {
    Router::new()
        .route("/sessions/{id}/visit", post(visit))
        .route("/sessions/{id}", get(look))
        .route("/ready", get(ready))
        .layer(from_fn_with_state(cluster.clone(), close_when_not_ready))
        .with_state(cluster)
}

/// One visit more. The first one starts the session, on the node that its name belongs to.
async fn visit(State(cluster): State<Cluster>, Path(id): Path<String>) -> Result<Json<Visits>, Refusal> {
    let session = cluster.get_or_start::<Session>(&name(&id), ()).await?;
    Ok(Json(session.visit().await?))
}

/// What a session says, if there is one.
async fn look(State(cluster): State<Cluster>, Path(id): Path<String>) -> Result<Json<Visits>, Refusal> {
    let session = cluster.process::<Session>(&name(&id))?;
    Ok(Json(session.visits().await?))
}

/// Names of all kinds are in one space.
fn name(id: &str) -> String {
    format!("session:{id}")
}

/// What balancers and deployments ask.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Readiness {
    /// Whether new requests are welcome here.
    pub(crate) ready: bool,
    /// Nodes in the view of this one: a deployment goes on with the next node when all are there again.
    pub(crate) members: usize,
}

async fn ready(State(cluster): State<Cluster>) -> (StatusCode, Json<Readiness>) {
    let ready = cluster.is_ready();
    let members = cluster.view().map_or(0, |view| view.members.len());
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(Readiness { ready, members }))
}

/// A kept connection would bring its next request here, however the balancer chooses: so none is kept.
async fn close_when_not_ready(State(cluster): State<Cluster>, request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    if !cluster.is_ready() {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// Why a request has no answer, in the words of HTTP.
#[derive(Debug)]
struct Refusal {
    code: ErrorCode,
    executed: Executed,
}

impl Refusal {
    /// 503 says: not executed, send it again. 500 says: it may have been executed, so think first.
    fn status(&self) -> StatusCode {
        match (self.code, self.executed) {
            (ErrorCode::BadName, _) => StatusCode::BAD_REQUEST,
            (ErrorCode::NotFound, _) => StatusCode::NOT_FOUND,
            (_, Executed::No) => StatusCode::SERVICE_UNAVAILABLE,
            (_, Executed::Unknown) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = self.status();
        let body = serde_json::json!({
            "error": self.code.as_str(),
            "executed": if self.executed == Executed::No { "no" } else { "unknown" },
        });
        let mut headers = HeaderMap::new();
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert("retry-after", HeaderValue::from_static("1"));
        }
        (status, headers, Json(body)).into_response()
    }
}

impl From<CallError> for Refusal {
    fn from(error: CallError) -> Self {
        Refusal { code: error.code(), executed: error.executed() }
    }
}

impl From<StartError<Session>> for Refusal {
    fn from(error: StartError<Session>) -> Self {
        // Whatever became of the start, the visit was not made: starting again does no harm.
        Refusal { code: error.code(), executed: Executed::No }
    }
}

impl From<BadName> for Refusal {
    fn from(_: BadName) -> Self {
        Refusal { code: ErrorCode::BadName, executed: Executed::No }
    }
}

/// Why the service does not run.
#[derive(Debug)]
pub(crate) enum ServeError {
    /// A second signal came before the node had gone.
    Interrupted,
    /// The node is in no cluster.
    Join(JoinError),
    /// No signals, or no port.
    Io(io::Error),
}

impl From<JoinError> for ServeError {
    fn from(error: JoinError) -> Self {
        ServeError::Join(error)
    }
}

impl From<io::Error> for ServeError {
    fn from(error: io::Error) -> Self {
        ServeError::Io(error)
    }
}

/// What tells a service to end: SIGTERM from a supervisor, SIGINT from a keyboard.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            biased;
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use axum::http::Method;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;

    use super::*;
    use crate::balancer::Balancer;

    /// A service of one node, and where it serves.
    async fn service() -> (Cluster, String) {
        let cluster = Cluster::local().kind::<Session>(KindOptions::default()).join().await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        tokio::spawn(axum::serve(listener, routes(cluster.clone())).into_future());
        (cluster, address)
    }

    #[tokio::test]
    async fn a_session_counts_its_visits() {
        let (cluster, address) = service().await;
        let balancer = Balancer::new(vec![address]);
        let long = format!("/sessions/{}/visit", "a".repeat(255));
        for (method, path, status, body) in [
            (Method::GET, "/ready", 200, r#"{"ready":true,"members":1}"#),
            (Method::GET, "/sessions/ada", 404, r#"{"error":"not_found","executed":"no"}"#),
            (Method::POST, "/sessions/ada/visit", 200, r#"{"number":1,"node":"local"}"#),
            (Method::POST, "/sessions/ada/visit", 200, r#"{"number":2,"node":"local"}"#),
            (Method::POST, "/sessions/bob/visit", 200, r#"{"number":1,"node":"local"}"#),
            (Method::GET, "/sessions/ada", 200, r#"{"number":2,"node":"local"}"#),
            (Method::POST, &long, 400, r#"{"error":"bad_name","executed":"no"}"#),
        ] {
            let answer = balancer.ask(0, method, path).await.unwrap();
            let text = String::from_utf8(answer.body).unwrap();
            assert_eq!((answer.status.as_u16(), text.as_str()), (status, body), "{path}");
        }
        cluster.leave().await;
    }

    #[tokio::test]
    async fn a_node_that_drains_says_so_and_serves_on_and_keeps_no_connection() {
        let (cluster, address) = service().await;
        let balancer = Balancer::new(vec![address.clone()]);
        balancer.ask(0, Method::POST, "/sessions/ada/visit").await.unwrap();

        cluster.drain(Duration::ZERO).await;
        let answer = balancer.ask(0, Method::GET, "/ready").await.unwrap();
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
        let mut connection = TcpStream::connect(&address).await.unwrap();
        connection.write_all(b"POST /sessions/ada/visit HTTP/1.1\r\nhost: here\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        // Ends when the server closes the connection: by itself it would keep it.
        connection.read_to_string(&mut answer).await.unwrap();
        assert!(
            answer.starts_with("HTTP/1.1 200") && answer.ends_with(r#"{"number":2,"node":"local"}"#),
            "{answer}"
        );
        cluster.leave().await;
    }
}
