#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use simple_dns::ResourceRecord;
use simple_dns::rdata::SRV;
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

use super::*;

/// How a server behaves besides what it knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    Plain,
    /// What does not belong to the question comes before what does.
    NoiseFirst,
    /// Over UDP only the head of an answer; the rest over TCP.
    Cut,
    /// It can not answer.
    Fails,
}

#[derive(Debug)]
struct Zone {
    manner: Manner,
    records: BTreeMap<String, Vec<String>>,
}

/// A DNS server on loopback that knows SRV records.
pub(in crate::discovery) struct Server {
    address: SocketAddr,
    zone: Arc<Mutex<Zone>>,
    _tasks: [AbortOnDropHandle<()>; 2],
}

impl Server {
    pub(in crate::discovery) async fn start() -> Self {
        Self::with(Manner::Plain).await
    }

    async fn with(manner: Manner) -> Self {
        // UDP and TCP on one port: the free one of TCP is most likely free for UDP too.
        let (tcp, udp) = loop {
            let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
            if let Ok(udp) = UdpSocket::bind(tcp.local_addr().unwrap()).await {
                break (tcp, udp);
            }
        };
        let address = tcp.local_addr().unwrap();
        let zone = Arc::new(Mutex::new(Zone { manner, records: BTreeMap::new() }));
        let tasks = [tokio::spawn(serve_udp(udp, zone.clone())), tokio::spawn(serve_tcp(tcp, zone.clone()))];
        Self { address, zone, _tasks: tasks.map(AbortOnDropHandle::new) }
    }

    pub(in crate::discovery) fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on this name has these targets.
    pub(in crate::discovery) fn say(&self, name: &str, targets: &[&str]) {
        let targets = targets.iter().map(ToString::to_string).collect();
        self.zone.lock().unwrap().records.insert(name.to_owned(), targets);
    }
}

async fn serve_udp(socket: UdpSocket, zone: Arc<Mutex<Zone>>) {
    let mut buffer = [0; 4_096];
    loop {
        let (length, from) = socket.recv_from(&mut buffer).await.unwrap();
        let question = &buffer[..length];
        let manner = zone.lock().unwrap().manner;
        if manner == Manner::NoiseFirst {
            // Right in everything but what binds it to the question: the targets must not get through.
            let wrong = Mutex::new(Zone { manner, records: BTreeMap::new() });
            for name in ["nodes.test", "other.test"] {
                wrong.lock().unwrap().records.insert(name.to_owned(), vec!["wrong.test:1".to_owned()]);
            }
            let mut other_id = answer(question, &wrong, Manner::Plain);
            other_id[0] ^= 1;
            let other_question = self::question(id_of(question), "other.test").unwrap();
            let other_name = answer(&other_question, &wrong, Manner::Plain);
            for noise in [&b"noise"[..], &other_id, &other_name, question] {
                socket.send_to(noise, from).await.unwrap();
            }
        }
        socket.send_to(&answer(question, &zone, manner), from).await.unwrap();
    }
}

async fn serve_tcp(listener: TcpListener, zone: Arc<Mutex<Zone>>) {
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut question = vec![0; usize::from(stream.read_u16().await.unwrap())];
        stream.read_exact(&mut question).await.unwrap();
        let answer = answer(&question, &zone, Manner::Plain);
        stream.write_u16(answer.len() as u16).await.unwrap();
        stream.write_all(&answer).await.unwrap();
    }
}

fn id_of(question: &[u8]) -> u16 {
    Packet::parse(question).unwrap().id()
}

fn answer(question: &[u8], zone: &Mutex<Zone>, manner: Manner) -> Vec<u8> {
    let question = Packet::parse(question).unwrap();
    let asked = &question.questions[0];
    let mut packet = Packet::new_reply(question.id());
    packet.questions.push(asked.clone());
    let zone = zone.lock().unwrap();
    let known = zone.records.get(&asked.qname.to_string());
    match (manner, known) {
        (Manner::Fails, _) => *packet.rcode_mut() = RCODE::ServerFailure,
        (Manner::Cut, _) => packet.set_flags(PacketFlag::TRUNCATION),
        (_, None) => *packet.rcode_mut() = RCODE::NameError,
        (_, Some(targets)) => {
            for target in targets {
                let (host, port) = target.rsplit_once(':').unwrap();
                let target = Name::new(host).unwrap().into_owned();
                let srv = SRV { priority: 1, weight: 1, port: port.parse().unwrap(), target };
                let record = ResourceRecord::new(asked.qname.clone(), CLASS::IN, 5, RData::SRV(srv));
                packet.answers.push(record);
            }
        }
    }
    packet.build_bytes_vec_compressed().unwrap()
}

#[tokio::test]
async fn what_does_not_belong_to_the_question_is_passed_over() {
    let server = Server::with(Manner::NoiseFirst).await;
    server.say("nodes.test", &["a.test:1"]);
    assert_eq!(srv(&[server.address()], "nodes.test").await.unwrap(), ["a.test:1"]);
}

#[tokio::test]
async fn an_answer_that_does_not_fit_into_a_packet_comes_over_tcp() {
    let server = Server::with(Manner::Cut).await;
    let many: Vec<String> = (0..500).map(|at| format!("node-{at}.nodes.test:4100")).collect();
    server.say("nodes.test", &many.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(srv(&[server.address()], "nodes.test").await.unwrap(), many);
}

#[tokio::test]
async fn the_next_server_is_asked_when_one_can_not_answer() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let (failing, good) = (Server::with(Manner::Fails).await, Server::start().await);
    good.say("nodes.test", &["a.test:1"]);
    let servers = [closed, failing.address(), good.address()];
    assert_eq!(srv(&servers, "nodes.test").await.unwrap(), ["a.test:1"]);
    let error = srv(&servers[..2], "nodes.test").await.unwrap_err().to_string();
    assert!(error.contains("ServerFailure"), "{error}");
    let unknown = srv(&[good.address(), failing.address()], "unknown.test").await.unwrap_err();
    assert!(matches!(unknown, LookupError::NoSuchName(_)), "{unknown}");
    assert!(matches!(srv(&[], "nodes.test").await.unwrap_err(), LookupError::Nobody));
}

#[tokio::test]
async fn a_target_that_can_not_be_dialled_is_left_out() {
    let server = Server::start().await;
    server.say("nodes.test", &[".:4100", "a.test:0", "b.test:1"]);
    assert_eq!(srv(&[server.address()], "nodes.test").await.unwrap(), ["b.test:1"]);
}

#[test]
fn no_damaged_answer_does_harm() {
    let zone = Zone { manner: Manner::Plain, records: BTreeMap::new() };
    let zone = Mutex::new(zone);
    let targets = ["a.test:1", "b.test:2"].map(String::from).to_vec();
    zone.lock().unwrap().records.insert("nodes.test".to_owned(), targets);
    let question = question(7, "nodes.test").unwrap();
    let good = answer(&question, &zone, Manner::Plain);
    assert!(matches!(read(&good, &question), Ok(Reading::Whole(targets)) if targets.len() == 2));
    for length in 0..good.len() {
        assert!(read(&good[..length], &question).is_err(), "{length}");
    }
    for at in 0..good.len() {
        for byte in [0, 1, 0x3f, 0x7f, 0x80, 0xc0, 0xff] {
            let mut damaged = good.clone();
            damaged[at] = byte;
            if let Ok(Reading::Whole(targets)) = read(&damaged, &question) {
                assert!(targets.iter().all(|target| is_address(target)), "{at} {byte}: {targets:?}");
            }
        }
    }
    let mut many = good;
    many[6..8].copy_from_slice(&[0xff, 0xff]);
    assert!(check_numbers(&many).is_err());
}

#[test]
fn name_servers_are_read_as_every_resolver_does() {
    let servers = |text: &str| parse_config(text).iter().map(ToString::to_string).collect::<Vec<_>>();
    let text =
        "# nameserver 9.9.9.9\nsearch a b\n nameserver\t10.0.0.1 # first\nnameserver ::1\nnameserver x\n";
    assert_eq!(servers(text), ["10.0.0.1:53", "[::1]:53"]);
    assert_eq!(servers(&"nameserver 10.0.0.1\n".repeat(9)).len(), SERVERS_MAX);
    assert_eq!(servers("options ndots:5"), ["127.0.0.1:53"]);
}
