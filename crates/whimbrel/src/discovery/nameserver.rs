//! Asks DNS servers for SRV records, which the system's resolver has no call for.
//!
//! A stub and nothing more: it asks the servers in their order, twice around, and believes the first that knows the
//! zone. No cache, no search domains. The wire format is `simple-dns`. An answer counts only if it comes from the
//! server asked (the socket is connected to it), to the port of this one question, with its random id and its text.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use simple_dns::rdata::{OPT, RData};
use simple_dns::{CLASS, Name, Packet, PacketFlag, QTYPE, Question, RCODE, SimpleDnsError, TYPE};
use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

use super::{ADDRESSES_MAX, is_address};

/// Servers that are asked: as many as the system's resolver does.
pub(super) const SERVERS_MAX: usize = 3;
/// How often all of them are asked before it is an error.
const ROUNDS: usize = 2;
/// How long one server has, over UDP and TCP each.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// Bytes of an answer over UDP that pass every network whole.
const UDP_BYTES_MAX: u16 = 1_232;
/// Bytes that are read of `/etc/resolv.conf`.
#[cfg(unix)]
const CONFIG_BYTES_MAX: u64 = 64 * 1024;
/// Bytes of a message before its questions, with the numbers of entries from the fourth on.
const HEADER_BYTES: usize = 12;
/// Fewest bytes of an entry: a root name, a type, a class.
const ENTRY_BYTES_MIN: usize = 5;
/// Port of DNS.
const PORT: u16 = 53;

/// Why there is no answer.
#[derive(Debug, Error)]
pub(super) enum LookupError {
    #[error("`{0}` is not a name in DNS")]
    BadName(String),
    #[error("can not read the name servers of this machine: {0}")]
    NoServers(io::Error),
    #[error("`{0}` does not exist")]
    NoSuchName(String),
    #[error("{server}: {error}")]
    Server { server: SocketAddr, error: ServerError },
    #[error("no name server is known")]
    Nobody,
}

/// What is wrong with one server.
#[derive(Debug, Error)]
pub(super) enum ServerError {
    #[error("no answer within {} s", ANSWER_WITHIN.as_secs())]
    Silent,
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("the answer can not be read: {0}")]
    Garbage(#[from] SimpleDnsError),
    #[error("the answer does not fit to the question")]
    OtherQuestion,
    #[error("it says {0:?}")]
    Says(RCODE),
    #[error("no random bytes: {0}")]
    Entropy(#[from] getrandom::Error),
}

/// Refuses what can never be a name of a service.
pub(super) fn check_name(name: &str) -> Result<(), LookupError> {
    let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'));
    match Name::new(name) {
        Ok(parsed) if plain && !parsed.get_labels().is_empty() => Ok(()),
        _ => Err(LookupError::BadName(name.escape_debug().to_string())),
    }
}

/// The name servers of this machine.
#[cfg(unix)]
pub(super) async fn of_system() -> Result<Vec<SocketAddr>, LookupError> {
    let read = || {
        let mut text = String::new();
        let file = std::fs::File::open("/etc/resolv.conf")?;
        io::Read::read_to_string(&mut io::Read::take(file, CONFIG_BYTES_MAX), &mut text)?;
        Ok(text)
    };
    let text = tokio::task::spawn_blocking(read).await.map_err(io::Error::other).and_then(|text| text);
    Ok(parse_config(&text.map_err(LookupError::NoServers)?))
}

#[cfg(not(unix))]
pub(super) async fn of_system() -> Result<Vec<SocketAddr>, LookupError> {
    Err(LookupError::NoServers(io::Error::from(io::ErrorKind::Unsupported)))
}

/// Lines `nameserver IP`; without any it is the machine itself, as for every resolver. Addresses with a scope
/// (`fe80::1%eth0`) are left out.
#[cfg_attr(not(unix), allow(dead_code))]
fn parse_config(text: &str) -> Vec<SocketAddr> {
    let server = |line: &str| {
        let mut words = line.split_whitespace();
        let ip: IpAddr = words.next().filter(|word| *word == "nameserver").and(words.next())?.parse().ok()?;
        Some(SocketAddr::new(ip, PORT))
    };
    let servers: Vec<SocketAddr> = text.lines().filter_map(server).take(SERVERS_MAX).collect();
    if servers.is_empty() { vec![SocketAddr::from((Ipv4Addr::LOCALHOST, PORT))] } else { servers }
}

/// The targets of the name's SRV records, each as `host:port`.
pub(super) async fn srv(servers: &[SocketAddr], name: &str) -> Result<Vec<String>, LookupError> {
    check_name(name)?;
    let mut last = LookupError::Nobody;
    for _ in 0..ROUNDS {
        for &server in servers.iter().take(SERVERS_MAX) {
            match ask(server, name).await {
                Ok(targets) => return Ok(targets),
                Err(ServerError::Says(RCODE::NameError)) => {
                    return Err(LookupError::NoSuchName(name.to_owned()));
                }
                Err(error) => last = LookupError::Server { server, error },
            }
        }
    }
    Err(last)
}

/// Asks one server; over TCP if the answer does not fit into a packet.
async fn ask(server: SocketAddr, name: &str) -> Result<Vec<String>, ServerError> {
    let id = getrandom::u32()? as u16;
    let question = question(id, name)?;
    let silent = |_| ServerError::Silent;
    let over_udp = tokio::time::timeout(ANSWER_WITHIN, ask_udp(server, &question));
    match over_udp.await.map_err(silent)?? {
        Reading::Whole(targets) => Ok(targets),
        Reading::Cut => {
            let over_tcp = tokio::time::timeout(ANSWER_WITHIN, ask_tcp(server, &question));
            match over_tcp.await.map_err(silent)?? {
                Reading::Whole(targets) => Ok(targets),
                Reading::Cut => Err(ServerError::OtherQuestion),
            }
        }
    }
}

fn question(id: u16, name: &str) -> Result<Vec<u8>, SimpleDnsError> {
    let mut packet = Packet::new_query(id);
    packet.set_flags(PacketFlag::RECURSION_DESIRED);
    packet.questions.push(Question::new(Name::new(name)?, TYPE::SRV.into(), CLASS::IN.into(), false));
    *packet.opt_mut() = Some(OPT { opt_codes: Vec::new(), udp_packet_size: UDP_BYTES_MAX, version: 0 });
    packet.build_bytes_vec()
}

async fn ask_udp(server: SocketAddr, question: &[u8]) -> Result<Reading, ServerError> {
    let any =
        if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { IpAddr::from(Ipv6Addr::UNSPECIFIED) };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    socket.send(question).await?;
    let mut buffer = vec![0; usize::from(UDP_BYTES_MAX)];
    loop {
        let length = socket.recv(&mut buffer).await?;
        match read(&buffer[..length], question) {
            // Somebody guesses, or a late answer: the right one may still come.
            Err(ServerError::OtherQuestion | ServerError::Garbage(_)) => {}
            reading => return reading,
        }
    }
}

async fn ask_tcp(server: SocketAddr, question: &[u8]) -> Result<Reading, ServerError> {
    let mut stream = TcpStream::connect(server).await?;
    let mut message = Vec::with_capacity(2 + question.len());
    message.extend_from_slice(&(question.len() as u16).to_be_bytes());
    message.extend_from_slice(question);
    stream.write_all(&message).await?;
    let length = usize::from(stream.read_u16().await?);
    let mut answer = Vec::new();
    // Grows with what arrives; two bytes of length say at most 64 KiB.
    (&mut stream).take(length as u64).read_to_end(&mut answer).await?;
    if answer.len() < length {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
    }
    read(&answer, question)
}

/// What an answer holds.
#[derive(Debug, PartialEq, Eq)]
enum Reading {
    /// The targets.
    Whole(Vec<String>),
    /// A part of them: there is more over TCP.
    Cut,
}

fn read(answer: &[u8], question: &[u8]) -> Result<Reading, ServerError> {
    check_numbers(answer)?;
    let (asked, answer) = (Packet::parse(question)?, Packet::parse(answer)?);
    let same = match (&asked.questions[..], &answer.questions[..]) {
        ([asked], [echo]) => echo.qname == asked.qname && echo.qtype == QTYPE::TYPE(TYPE::SRV),
        _ => false,
    };
    if !same || answer.id() != asked.id() || !answer.has_flags(PacketFlag::RESPONSE) {
        return Err(ServerError::OtherQuestion);
    }
    if answer.rcode() != RCODE::NoError {
        return Err(ServerError::Says(answer.rcode()));
    }
    if answer.has_flags(PacketFlag::TRUNCATION) {
        return Ok(Reading::Cut);
    }
    let targets = answer.answers.iter().filter_map(|record| match &record.rdata {
        // The root as target says that there is no such service.
        RData::SRV(srv) if !srv.target.get_labels().is_empty() => {
            Some(format!("{}:{}", srv.target, srv.port))
        }
        _ => None,
    });
    Ok(Reading::Whole(targets.filter(|target| is_address(target)).take(ADDRESSES_MAX).collect()))
}

/// Refuses a message that announces more entries than it has room for, before anything is allocated for them.
fn check_numbers(message: &[u8]) -> Result<(), SimpleDnsError> {
    let header = message.get(..HEADER_BYTES).ok_or(SimpleDnsError::InsufficientData)?;
    let entries: usize =
        header[4..].chunks_exact(2).map(|pair| usize::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    if entries * ENTRY_BYTES_MIN > message.len() - HEADER_BYTES {
        return Err(SimpleDnsError::InsufficientData);
    }
    Ok(())
}

#[cfg(test)]
pub(super) mod tests;
