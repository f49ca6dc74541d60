//! ractor: an actor with a name in its registry; between processes `ractor_cluster`, where only process groups tell of
//! actors of another node. The feature `cluster` is one for the whole build, so it is on for the local rows too.

use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::sync::Mutex;

use ractor::rpc::CallResult;
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, MessagingErr, RpcReplyPort, pg};
use ractor_cluster::node::NodeServerSessionInformation;
use ractor_cluster::{NodeEventSubscription, NodeServer, NodeServerMessage, RactorClusterMessage};
use tokio::sync::mpsc;

use crate::library::{Library, Listening};
use crate::meter::Target;

/// The actor that another process calls, and the group in which it finds it.
const GROUP: &str = "echoes";
/// Proof that two nodes belong together.
const COOKIE: &str = "whimbrel-bench";

#[derive(Default)]
pub(crate) struct Ractor;

struct Echo;

#[derive(RactorClusterMessage)]
pub(crate) enum Ask {
    #[rpc]
    Echo(String, RpcReplyPort<String>),
    Count(String),
}

impl Actor for Echo {
    type Msg = Ask;
    type State = u64;
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Ask>, _: ()) -> Result<u64, ActorProcessingErr> {
        Ok(0)
    }

    async fn handle(&self, _: ActorRef<Ask>, message: Ask, seen: &mut u64) -> Result<(), ActorProcessingErr> {
        match message {
            Ask::Echo(text, reply) => reply.send(text)?,
            Ask::Count(text) => *seen += u64::from(!text.is_empty()),
        }
        Ok(())
    }
}

#[derive(Clone)]
pub(crate) struct Process(ActorRef<Ask>);

impl Target for Process {
    type Error = String;

    async fn call(&self, text: String) -> Result<(), String> {
        match self.0.call(|reply| Ask::Echo(text, reply), None).await {
            Ok(CallResult::Success(_)) => Ok(()),
            Ok(CallResult::Timeout) => Err("timeout".to_owned()),
            Ok(CallResult::SenderError) => Err("no reply".to_owned()),
            Err(error) => Err(not_sent(&error)),
        }
    }

    async fn cast(&self, text: String) -> Result<(), String> {
        self.0.cast(Ask::Count(text)).map_err(|error| not_sent(&error))
    }
}

impl Library for Ractor {
    const PACKAGES: &'static [&'static str] = &["ractor", "ractor_cluster"];

    type Here = Process;
    type There = Process;

    async fn start(&self, name: String) -> Result<Process, String> {
        let (echo, _) = Actor::spawn(Some(name), Echo, ()).await.map_err(|error| error.to_string())?;
        Ok(Process(echo))
    }

    async fn listen(&self) -> Result<Listening, String> {
        let Process(echo) = self.start(GROUP.to_owned()).await?;
        pg::join(GROUP.to_owned(), vec![echo.get_cell()]);
        let (port, _) = node("there").await?;
        Ok(Listening::At(port))
    }

    async fn connect(&self, port: u16) -> Result<Process, String> {
        let (_, node) = node("here").await?;
        let (ready, mut connected) = mpsc::channel(1);
        let subscription = Box::new(Ready(Mutex::new(Some(ready))));
        node.cast(NodeServerMessage::SubscribeToEvents { id: "bench".to_owned(), subscription })
            .map_err(|error| error.to_string())?;
        ractor_cluster::client_connect(&node, (Ipv4Addr::LOCALHOST, port))
            .await
            .map_err(|error| error.to_string())?;
        connected.recv().await.ok_or("the session ended before it was ready")?;
        let there = pg::get_members(&GROUP.to_owned()).into_iter().find(|cell| !cell.get_id().is_local());
        there.map(|cell: ActorCell| Process(cell.into())).ok_or_else(|| "the group is empty here".to_owned())
    }
}

/// Starts the part that speaks to other nodes; its port.
async fn node(name: &str) -> Result<(u16, ActorRef<NodeServerMessage>), String> {
    // It does not tell which port it got, so one is chosen for it. Should somebody else take it meanwhile, it says so.
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
    let port = free.map_err(|error| error.to_string())?.port();
    let server =
        NodeServer::new(port, COOKIE.to_owned(), name.to_owned(), "localhost".to_owned(), None, None)
            .with_listen_addr(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let (node, _) = Actor::spawn(None, server, ()).await.map_err(|error| error.to_string())?;
    Ok((port, node))
}

/// Tells, once, that a session has everything the other side had to tell.
struct Ready(Mutex<Option<mpsc::Sender<()>>>);

impl NodeEventSubscription for Ready {
    fn node_session_opened(&self, _: NodeServerSessionInformation) {}

    fn node_session_authenticated(&self, _: NodeServerSessionInformation) {}

    fn node_session_disconnected(&self, _: NodeServerSessionInformation) {
        self.tell(None);
    }

    fn node_session_ready(&self, _: NodeServerSessionInformation) {
        self.tell(Some(()));
    }
}

impl Ready {
    /// Nothing to tell ends the wait as well.
    fn tell(&self, ready: Option<()>) {
        let sender = self.0.lock().ok().and_then(|mut sender| sender.take());
        if let (Some(sender), Some(())) = (sender, ready) {
            // Nobody else sends, and there is room for one.
            let _waiting = sender.try_send(());
        }
    }
}

fn not_sent(error: &MessagingErr<Ask>) -> String {
    error.to_string()
}
