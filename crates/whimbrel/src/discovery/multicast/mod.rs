//! Nodes that find each other on the local network by themselves.
//!
//! Every node tells a multicast group where it is reached, every 2.5 to 5 s; a node that hears somebody new tells it
//! at once, so a newcomer knows all others, and they know it, within moments. Nobody answers to an address of a
//! packet: the core dials what was heard, and the handshake decides. Defaults are those of libcluster's gossip
//! strategy: group 233.252.1.32, port 45892, TTL 1.
//!
//! **Strangers.** A packet counts only if it proves to know the cluster's secret, for this cluster, and is no older
//! than a minute ([`packet`], [`heard`]). Others are dropped without a word and counted. Without a secret, and where
//! the node itself is reached on loopback only, packets do not leave the machine. Nothing is encrypted: who is on the
//! network sees addresses, not the cluster's name.
//!
//! **Where it does not work** it says so instead of finding nobody: a node hears its own packets too, and when three
//! in a row have not come back (a firewall, an interface that went away) that is an error, and the sockets are opened
//! anew. Before the first one came back there is no answer, so a node that is deaf founds no cluster of its own.
//!
//! **Limits.** Packets of at most [`PACKET_BYTES_MAX`] bytes, 1,000 of them looked at in a second (the system drops
//! the others), 1,024 senders; own packets at most five a second, however many newcomers there are.

mod counts;
mod heard;
mod packet;
mod rhythm;
mod socket;

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use whimbrel_core::base::{Address, Now, Time};

use super::{Discovered, Discovery, DiscoveryError, Here};
use crate::clock;
use crate::secret::Secret;
use counts::Counts;
use heard::{Heard, News};
use packet::{ADDRESS_BYTES_MAX, PACKET_BYTES_MAX, Packet, Seal};
use rhythm::{Allowance, Rhythm};
use socket::{Place, Sockets};

pub use counts::PacketFate;

const GROUP: Ipv4Addr = Ipv4Addr::new(233, 252, 1, 32);
const PORT: u16 = 45_892;
const TTL: u32 = 1;
/// How long the first answer listens, so that those who are there already are in it.
const FIRST_ANSWER_AFTER: Duration = Duration::from_millis(500);
/// An answer comes at least this often, also when nothing changed.
const ANSWER_EVERY: Duration = Duration::from_secs(5);
/// Own packets that did not come back, in a row, before the sockets are given up.
const UNHEARD_MAX: u32 = 3;

/// Finds nodes of the same cluster and secret on the local network, by UDP multicast (IPv4).
///
/// Without a secret it searches on this machine only. Clones count together, and each searches by itself.
///
/// ```no_run
/// # use whimbrel::{Cluster, JoinError, Multicast};
/// # async fn join() -> Result<Cluster, JoinError> {
/// Cluster::builder("shop")
///     .listen("0.0.0.0:4100")
///     .secret_file("cluster.key")
///     .discovery(Multicast::default())
///     .join()
///     .await
/// # }
/// ```
#[derive(Debug)]
pub struct Multicast {
    group: Ipv4Addr,
    port: u16,
    ttl: u32,
    interface: Option<Ipv4Addr>,
    counts: Arc<Counts>,
    /// Held while one question is answered; questions of one node come one after the other.
    search: Mutex<Option<Search>>,
}

impl Clone for Multicast {
    fn clone(&self) -> Self {
        Self { counts: self.counts.clone(), search: Mutex::default(), ..*self }
    }
}

impl Default for Multicast {
    fn default() -> Self {
        Self {
            group: GROUP,
            port: PORT,
            ttl: TTL,
            interface: None,
            counts: Arc::default(),
            search: Mutex::default(),
        }
    }
}

impl Multicast {
    /// The group; default 233.252.1.32. The same on all nodes.
    #[must_use]
    pub fn group(mut self, group: Ipv4Addr) -> Self {
        self.group = group;
        self
    }

    /// The UDP port; default 45892. The same on all nodes; several nodes of one machine share it.
    #[must_use]
    pub fn port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// The address of the interface to search on; default the system's choice, or loopback without a secret and
    /// where the node itself is reached there.
    #[must_use]
    pub fn interface(mut self, interface: Ipv4Addr) -> Self {
        self.interface = Some(interface);
        self
    }

    /// How many networks packets may cross; default 1: they stay in the local one. On loopback always 0.
    #[must_use]
    pub fn ttl(mut self, ttl: u8) -> Self {
        self.ttl = u32::from(ttl);
        self
    }

    /// How many received packets had this fate so far.
    pub fn count(&self, fate: PacketFate) -> u64 {
        self.counts.of(fate)
    }

    /// Where a node with this address and secret searches.
    fn place(&self, here: &Here) -> Place {
        let local = here.secret.is_none() || is_loopback(here.address());
        let interface = self.interface.or(local.then_some(Ipv4Addr::LOCALHOST));
        let ttl = if interface.is_some_and(|interface| interface.is_loopback()) { 0 } else { self.ttl };
        Place { group: self.group, port: self.port, interface, ttl }
    }
}

impl Discovery for Multicast {
    fn discover<'a>(&'a self, here: &'a Here) -> Discovered<'a> {
        Box::pin(async {
            let mut search = self.search.lock().await;
            let search = match &mut *search {
                Some(search) => search,
                none => none.insert(Search::new(here)?),
            };
            search.ask(self.place(here), &self.counts).await
        })
    }

    fn pause(&self) -> Duration {
        // It waits in the answer, until there is something new.
        Duration::ZERO
    }

    fn name(&self) -> String {
        format!("multicast {}:{}", self.group, self.port)
    }

    fn check(&self, here: &Here) -> Result<(), DiscoveryError> {
        let refuse = |text: String| Err(DiscoveryError::new(text));
        if !self.group.is_multicast() {
            return refuse(format!(
                "group {} is no multicast address: 224.0.0.0 to 239.255.255.255",
                self.group
            ));
        }
        if self.port == 0 {
            return refuse("port 0 can not be shared: choose one, the same on all nodes".to_owned());
        }
        if here.address().len() > ADDRESS_BYTES_MAX {
            return refuse(format!("the address of this node has more than {ADDRESS_BYTES_MAX} bytes"));
        }
        match self.interface {
            Some(ip) if ip.is_multicast() || ip.is_broadcast() || ip.is_unspecified() => {
                refuse(format!("interface {ip} is no address of an interface"))
            }
            Some(ip) if here.secret.is_none() && !ip.is_loopback() => refuse(format!(
                "multicast on {ip} needs a secret: set `secret_file`, or leave the interface out"
            )),
            _ => Ok(()),
        }
    }
}

fn is_loopback(address: &str) -> bool {
    let host = address.rsplit_once(':').map_or("", |(host, _)| host);
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<Ipv4Addr>().is_ok_and(|ip| ip.is_loopback())
        || host == "[::1]"
}

/// What a node knows of the network. It outlives its sockets, so that no packet counts twice.
#[derive(Debug)]
struct Search {
    seal: Seal,
    address: Address,
    heard: Heard,
    rhythm: Rhythm,
    allowance: Allowance,
    /// None before the first question and after an error: the next question opens them anew.
    sockets: Option<Arc<Sockets>>,
    /// Own packets that were sent on these sockets since one came back.
    unheard: u32,
    /// The last answer that came from these sockets.
    answered: Option<Vec<Address>>,
    /// Whether something was heard since that the next answer may say.
    news: bool,
}

impl Search {
    fn new(here: &Here) -> Result<Self, DiscoveryError> {
        let sender = packet::new_sender().map_err(DiscoveryError::new)?;
        Ok(Self {
            seal: Seal::new(here.cluster(), here.secret.as_ref().map(Secret::as_bytes)),
            address: here.address.clone(),
            heard: Heard::new(sender),
            rhythm: Rhythm::new(clock::time()),
            allowance: Allowance::default(),
            sockets: None,
            unheard: 0,
            answered: None,
            news: false,
        })
    }

    /// One question; an error closes the sockets.
    async fn ask(&mut self, place: Place, counts: &Counts) -> Result<Vec<Address>, DiscoveryError> {
        let sockets = match &self.sockets {
            Some(sockets) => sockets.clone(),
            None => {
                let opened = Arc::new(Sockets::open(place).map_err(DiscoveryError::new)?);
                self.rhythm = Rhythm::new(clock::time());
                (self.unheard, self.answered) = (0, None);
                self.sockets.insert(opened).clone()
            }
        };
        let answer = self.listen(&sockets, counts).await;
        if answer.is_err() {
            self.sockets = None;
        }
        answer
    }

    /// Tells where this node is and listens, until there is something new or the time of an answer has come.
    async fn listen(&mut self, sockets: &Sockets, counts: &Counts) -> Result<Vec<Address>, DiscoveryError> {
        let wait = if self.answered.is_some() { ANSWER_EVERY } else { FIRST_ANSWER_AFTER };
        let answer_at = clock::time() + wait;
        // One byte more than allowed shows that a packet is too long.
        let mut buffer = [0; PACKET_BYTES_MAX + 1];
        loop {
            let now = clock::now();
            if self.rhythm.is_due(now.time) {
                self.tell(sockets, now).await?;
            }
            if let Some(answer) = self.answer(now.time, answer_at) {
                return Ok(answer);
            }
            let mut wake = self.rhythm.next();
            if self.answered.is_some() || self.unheard == 0 {
                wake = wake.min(answer_at);
            }
            let free = self.allowance.free_at(now.time);
            let wake = free.map_or(wake, |free| wake.min(free));
            tokio::select! {
                biased;
                () = tokio::time::sleep(wake.since(now.time)) => {}
                length = sockets.receive(&mut buffer), if free.is_none() => {
                    let fate = self.take(&buffer[..length.map_err(DiscoveryError::new)?], clock::now());
                    counts.add(fate);
                }
            }
        }
    }

    /// The answer, if it is time for one.
    fn answer(&mut self, now: Time, answer_at: Time) -> Option<Vec<Address>> {
        let is_due = now >= answer_at;
        match &self.answered {
            // It must have been shown that packets arrive at all.
            None if !is_due || self.unheard > 0 => return None,
            Some(_) if !is_due && !self.news => return None,
            None | Some(_) => {}
        }
        self.heard.forget(now);
        let answer = self.heard.addresses();
        self.news = false;
        if !is_due && self.answered.as_ref() == Some(&answer) {
            return None;
        }
        self.answered = Some(answer.clone());
        Some(answer)
    }

    async fn tell(&mut self, sockets: &Sockets, now: Now) -> Result<(), DiscoveryError> {
        if self.unheard >= UNHEARD_MAX {
            let text = "own packets do not come back: is UDP to the group let through, is the interface still there?";
            return Err(DiscoveryError::new(text));
        }
        let sender = self.heard.own_sender(now).map_err(DiscoveryError::new)?;
        let packet = Packet { sender, sent_ms: now.wall_ms, address: self.address.clone() };
        let random = getrandom::u32().map_err(DiscoveryError::new)?;
        // Dropped in this await, nothing was sent and nothing is noted: the next question begins with it.
        sockets.send(&self.seal.write(&packet)).await.map_err(DiscoveryError::new)?;
        self.rhythm.told(now.time, random);
        self.unheard += 1;
        Ok(())
    }

    fn take(&mut self, bytes: &[u8], now: Now) -> PacketFate {
        self.allowance.take(now.time);
        let packet = match self.seal.read(bytes) {
            Ok(packet) => packet,
            Err(fate) => return fate,
        };
        match self.heard.take(packet, now) {
            Ok(News::Own) => {
                self.unheard = 0;
                PacketFate::Own
            }
            Ok(News::Newcomer) => {
                self.news = true;
                self.rhythm.hurry(now.time);
                PacketFate::Accepted
            }
            Ok(News::Known) => PacketFate::Accepted,
            Err(fate) => fate,
        }
    }
}

#[cfg(test)]
pub(super) mod tests;
