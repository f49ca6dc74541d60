//! A member made by hand: it knows the secret, joins as every node does, and then says what it likes.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use whimbrel::{Cluster, Incarnation, MemberInfo, Name, View, ViewId};
use whimbrel_core::base::RequestId;
use whimbrel_core::directory::{self, Answer, Ask, Located};
use whimbrel_core::membership;
use whimbrel_core::wire::Names;
use whimbrel_core::wire::frame::{self, FrameKind, MessageFrame, Outcome};
use whimbrel_core::wire::hello::{
    Claim, Greeting, Hello, Proof, Role, VERSION, VERSION_MIN, Welcome, proven,
};
use whimbrel_core::wire::{Body, Control};

use crate::kinds::LONG;

pub(super) const CLUSTER: &str = "test";
pub(super) const SECRET: &str = "the secret of all hostile tests";

pub(super) struct Peer {
    stream: TcpStream,
    buffer: Vec<u8>,
    pub(super) me: MemberInfo,
    /// Of the last numbered frame that was sent.
    number: u64,
    pub(super) view: Option<View>,
    /// So that its port does not refuse; nobody answers there.
    _listener: TcpListener,
}

/// What a node says to a peer.
#[derive(Debug)]
pub(super) enum Heard {
    Control(Control),
    Frame(MessageFrame),
    Acknowledged,
}

impl Peer {
    /// A session with this node.
    pub(super) async fn meets(node: &Cluster, name: &str) -> Peer {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let me = MemberInfo {
            labels: Default::default(),
            name: Name::new(name).unwrap(),
            incarnation: Incarnation { started_ms: now.as_millis() as u64, nonce: now.as_nanos() as u64 },
            address: listener.local_addr().unwrap().to_string().into(),
            // Next to no slot falls to it, so names do not wait for its answers.
            weight: 1,
            kinds: Vec::new(),
            draining: false,
        };
        let stream = TcpStream::connect(node.address()).await.unwrap();
        let (buffer, number, view) = (Vec::new(), 0, None);
        let mut peer = Peer { stream, buffer, me, number, view, _listener: listener };
        peer.shake_hands().await;
        peer
    }

    async fn shake_hands(&mut self) {
        let hello = Hello {
            version_min: VERSION_MIN,
            version: VERSION,
            features: 0,
            incarnation: self.me.incarnation,
            challenge: std::array::from_fn(|at| (self.me.incarnation.nonce >> (at % 8 * 8)) as u8),
        };
        let body = hello.to_body();
        self.greet(&[Greeting::Hello(hello)]).await;
        let (Greeting::Hello(_), theirs) = self.greeting().await else { panic!("no hello") };
        let claim = Claim::default();
        let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(SECRET.as_bytes()).unwrap();
        mac.update(&proven(Role::Dialler, CLUSTER, &body, &theirs, claim));
        let mac = mac.finalize().into_bytes().into();
        self.greet(&[Greeting::Proof(Proof { mac, claim })]).await;
        assert!(matches!(self.greeting().await, (Greeting::Proof(_), _)));
        let (Greeting::Welcome(welcome), _) = self.greeting().await else { panic!("no welcome") };
        let welcome = Welcome { member: self.me.clone(), received: 0, ..*welcome };
        self.greet(&[Greeting::Welcome(Box::new(welcome))]).await;
    }

    /// A member of the cluster of this node.
    pub(super) async fn joins(node: &Cluster, name: &str) -> Peer {
        let mut peer = Self::meets(node, name).await;
        let join = membership::Message::Join { member: peer.me.clone(), counter_floor: 0 };
        peer.say_control(Body::Membership(join)).await;
        while peer.view.is_none() {
            let heard = peer.hear().await.expect("the node hangs up");
            peer.note_view(&heard);
        }
        let id = peer.view.as_ref().unwrap().id;
        peer.say_control(Body::Membership(membership::Message::Installed(id))).await;
        peer
    }

    fn note_view(&mut self, heard: &Heard) {
        if let Heard::Control(Control { body: Body::Membership(membership::Message::Install(view)), .. }) =
            heard
            && view.contains(self.me.incarnation)
        {
            self.view = Some(view.clone());
        }
    }

    async fn greet(&mut self, greetings: &[Greeting]) {
        let mut bytes = Vec::new();
        greetings.iter().for_each(|greeting| greeting.put(&mut bytes));
        self.say_bytes(&bytes).await;
    }

    async fn greeting(&mut self) -> (Greeting, Vec<u8>) {
        let (kind, body) = self.next().await.expect("the node hangs up");
        (Greeting::from_body(kind, &body).unwrap(), body)
    }

    /// These bytes as they are. A node that has hung up is for `hear` to notice.
    pub(super) async fn say_bytes(&mut self, bytes: &[u8]) {
        let _gone = self.stream.write_all(bytes).await;
    }

    /// A numbered frame with this body.
    pub(super) async fn say_body(&mut self, kind: FrameKind, body: &[u8]) {
        self.number += 1;
        let mut bytes = Vec::new();
        frame::put(&mut bytes, kind, self.number, body);
        self.say_bytes(&bytes).await;
    }

    pub(super) async fn say(&mut self, frame: &MessageFrame) {
        self.say_body(frame.kind(), frame.to_body().as_slice()).await;
    }

    pub(super) async fn say_control(&mut self, body: Body) {
        let view = self.view.as_ref().map(|view| view.id);
        self.say_control_in(view, body).await;
    }

    pub(super) async fn say_control_in(&mut self, view: Option<ViewId>, body: Body) {
        self.say_body(FrameKind::Control, &Control { view, body }.to_bytes()).await;
    }

    /// The next frame; none when the node has hung up.
    async fn next(&mut self) -> Option<(FrameKind, Vec<u8>)> {
        loop {
            if let Some(raw) = frame::split(&self.buffer, 1 << 20).unwrap() {
                let (kind, body, taken) = (raw.kind, raw.body.to_vec(), raw.taken);
                self.buffer.drain(..taken);
                return Some((kind, body));
            }
            let read = tokio::time::timeout(LONG, self.stream.read_buf(&mut self.buffer)).await;
            match read.expect("the node neither speaks nor hangs up") {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    /// What the node says next; none when it has hung up.
    pub(super) async fn hear(&mut self) -> Option<Heard> {
        let (kind, body) = self.next().await?;
        Some(match kind {
            FrameKind::Ack => Heard::Acknowledged,
            FrameKind::Control => Heard::Control(Control::from_bytes(&body).unwrap()),
            _ => Heard::Frame(MessageFrame::from_body(kind, &body, &mut Names::default()).unwrap()),
        })
    }

    /// Listens until the node hangs up.
    pub(super) async fn hears_the_end(&mut self) {
        while self.hear().await.is_some() {}
    }

    /// The outcome of a call of this peer.
    pub(super) async fn outcome(&mut self, call: u64) -> Outcome {
        loop {
            match self.hear().await.expect("the node hangs up") {
                Heard::Frame(MessageFrame::Reply(reply)) if reply.call == call => return reply.outcome,
                _ => {}
            }
        }
    }

    /// Asks the node, which must be the name's owner, where the name is.
    pub(super) async fn locates(&mut self, name: &Name) -> Located {
        let request = RequestId { caller: self.me.incarnation, number: self.number + 1 };
        let ask = directory::Message::Request { request, name: name.clone(), ask: Ask::Locate };
        self.say_control(Body::Directory(ask)).await;
        loop {
            let heard = self.hear().await.expect("the node hangs up");
            let messages = match heard {
                Heard::Control(Control { body: Body::Directory(message), .. }) => vec![message],
                Heard::Control(Control { body: Body::Turn(turn), .. }) => turn.into_messages(),
                _ => continue,
            };
            for message in messages {
                if let directory::Message::Answer { answer: Answer::Located(located), .. } = message {
                    return located;
                }
            }
        }
    }
}
