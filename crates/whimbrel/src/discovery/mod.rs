//! Discovery: where other nodes of the cluster might be.
//!
//! A discovery only gives addresses. Whether a node there belongs to the cluster is decided by the handshake,
//! and who is a member by views, so a wrong, old or forged address costs connection attempts and nothing else.
//! It is asked again and again while the node lives, and what it gives is tried for ever: that is how splits heal.
//!
//! A node may have several, its *sources*. Each is asked by a task of its own, so that a slow one holds up no
//! other; an error keeps the last answer of that source. What the sources know together goes to the core, and no
//! cluster is founded before each of them has answered once: one that can not might be the one that knows the
//! others.
//!
//! | source | asked every | what it gives |
//! |---|---|---|
//! | [`StaticList`] | 5 s | the addresses it was made with |
//! | [`SeedsFile`] | 1 s | the lines of a file |
//! | [`Dns`] | 5 s | the A and AAAA records of a name, from the system's resolver |
//! | [`Srv`] | 5 s | the SRV records of a name |
//! | [`Multicast`] | at once when somebody new is heard, else 5 s | who announced itself on the local network |

mod dns;
mod file;
mod health;
#[cfg(test)]
#[path = "../../tests/it/machine.rs"]
mod machine;
mod multicast;
mod nameserver;
mod sources;
mod srv;

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use thiserror::Error;
use whimbrel_core::base::Address;

use crate::secret::Secret;

pub use dns::Dns;
pub use file::SeedsFile;
pub use multicast::{Multicast, PacketFate};
pub(crate) use sources::Sources;
pub use srv::Srv;

/// Pause between two questions to a source that names no other.
const PAUSE: Duration = Duration::from_secs(5);
/// Shortest pause between two questions, whatever the source says.
const PAUSE_MIN: Duration = Duration::from_millis(100);
/// Shortest pause after an error.
const PAUSE_FAILED_MIN: Duration = Duration::from_secs(1);
/// Sources of one node.
const SOURCES_MAX: usize = 64;
/// Addresses that are kept of one answer.
const ADDRESSES_MAX: usize = 1_024;
/// Bytes of an address: the longest host name, a colon, a port.
const ADDRESS_BYTES_MAX: usize = 253 + 6;

/// Discovery could not answer this time. The node keeps the last answer and asks again.
#[derive(Debug, Error)]
#[error("{0}")]
pub struct DiscoveryError(#[source] Box<dyn std::error::Error + Send + Sync>);

impl DiscoveryError {
    /// Wraps what went wrong.
    pub fn new(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self(error.into())
    }
}

/// The node that a discovery works for.
#[derive(Clone, Debug)]
pub struct Here {
    cluster: String,
    address: Address,
    secret: Option<Secret>,
}

impl Here {
    /// A node of this cluster, reached at `address`: empty if nobody can dial it.
    pub fn new(cluster: &str, address: &str, secret: Option<Secret>) -> Self {
        Self { cluster: cluster.to_owned(), address: Address::from(address), secret }
    }

    /// The cluster's name.
    pub fn cluster(&self) -> &str {
        &self.cluster
    }

    /// Where others dial this node; empty if it does not listen.
    pub fn address(&self) -> &str {
        &self.address
    }
}

/// The answer of a [`Discovery`], on its way.
pub type Discovered<'a> = Pin<Box<dyn Future<Output = Result<Vec<Address>, DiscoveryError>> + Send + 'a>>;

/// Finds addresses of nodes, each as `host:port`.
///
/// ```
/// use std::time::Duration;
/// use whimbrel::{Discovered, Discovery, DiscoveryError, Here};
///
/// /// Addresses in an environment variable, separated by spaces.
/// struct Environment(&'static str);
///
/// impl Discovery for Environment {
///     fn discover<'a>(&'a self, _: &'a Here) -> Discovered<'a> {
///         Box::pin(async {
///             let text = std::env::var(self.0).map_err(DiscoveryError::new)?;
///             Ok(text.split_whitespace().map(Into::into).collect())
///         })
///     }
///
///     fn pause(&self) -> Duration {
///         Duration::from_secs(60)
///     }
/// }
/// ```
pub trait Discovery: Send + Sync + 'static {
    /// All addresses known now, in any order; the node's own may be among them, and none may answer. Of more than
    /// 1,024 the first in their order are kept.
    ///
    /// Asked when the node starts and again after each [`Discovery::pause`], by one task. It may take long: nothing
    /// waits for it but the birth of the cluster. A panic counts as an error.
    ///
    /// # Errors
    /// The node goes on with the last answer; the log says so once, and once when there is an answer again. If
    /// there never was one, the node may join a cluster and founds none.
    ///
    /// # Cancel safety
    /// Dropping the future must be harmless.
    fn discover<'a>(&'a self, here: &'a Here) -> Discovered<'a>;

    /// Whether there can be anybody to find. A node without that founds its cluster at once.
    fn finds_others(&self) -> bool {
        true
    }

    /// How long after an answer or error to ask again: 5 s. At least 100 ms, and 1 s after an error.
    fn pause(&self) -> Duration {
        PAUSE
    }

    /// What log lines call it.
    fn name(&self) -> String {
        std::any::type_name::<Self>().to_owned()
    }

    /// Looks once, before the node starts, for settings that can never work.
    ///
    /// # Errors
    /// `join` fails with them.
    fn check(&self, _: &Here) -> Result<(), DiscoveryError> {
        Ok(())
    }
}

/// A fixed list of addresses. Host names in it are resolved at each attempt to connect.
#[derive(Clone, Debug, Default)]
pub struct StaticList {
    addresses: Vec<Address>,
}

impl StaticList {
    /// These addresses, each as `host:port`.
    pub fn new<A: Into<Address>>(addresses: impl IntoIterator<Item = A>) -> Self {
        Self { addresses: addresses.into_iter().map(Into::into).collect() }
    }
}

impl Discovery for StaticList {
    fn discover<'a>(&'a self, _: &'a Here) -> Discovered<'a> {
        Box::pin(async { Ok(self.addresses.clone()) })
    }

    fn finds_others(&self) -> bool {
        !self.addresses.is_empty()
    }

    fn name(&self) -> String {
        "static list".to_owned()
    }
}

/// Nobody to find: the node is alone unless others dial it.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoDiscovery;

impl Discovery for NoDiscovery {
    fn discover<'a>(&'a self, _: &'a Here) -> Discovered<'a> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn finds_others(&self) -> bool {
        false
    }
}

/// Whether this can be dialled: a host of printable characters and a port.
fn is_address(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let plain = |c: char| !c.is_whitespace() && !c.is_control();
    text.len() <= ADDRESS_BYTES_MAX
        && !host.is_empty()
        && host.chars().all(plain)
        && port.bytes().all(|byte| byte.is_ascii_digit())
        && port.parse::<u16>().is_ok_and(|port| port != 0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::net::Ipv4Addr;

    use super::*;

    fn here() -> Here {
        Here::new("test", "127.0.0.1:4100", None)
    }

    /// The contract of every discovery: it answers, twice the same if nothing changed, and may be dropped.
    async fn holds_the_contract(discovery: &dyn Discovery) {
        let here = here();
        discovery.check(&here).unwrap();
        tokio::select! {
            biased;
            _ = discovery.discover(&here) => {}
            // It was begun, and is dropped.
            () = std::future::ready(()) => {}
        }
        let first = discovery.discover(&here).await.unwrap();
        assert_eq!(discovery.discover(&here).await.unwrap(), first);
        assert!(discovery.finds_others() || first.is_empty());
        assert!(!discovery.name().is_empty());
    }

    #[tokio::test]
    async fn every_discovery_holds_the_contract() {
        let file = file::tests::Scratch::new("contract", "127.0.0.1:4100\n");
        let server = nameserver::tests::Server::start().await;
        server.say("nodes.test", &["a.test:4100"]);
        holds_the_contract(&NoDiscovery).await;
        holds_the_contract(&StaticList::new(["127.0.0.1:4100", "localhost:4101"])).await;
        holds_the_contract(&StaticList::new(Vec::<String>::new())).await;
        holds_the_contract(&SeedsFile::new(file.path())).await;
        holds_the_contract(&Dns::new("localhost:4100")).await;
        holds_the_contract(&Srv::new("nodes.test").nameserver(server.address())).await;
        if machine::has_multicast("every_discovery_holds_the_contract", Ipv4Addr::LOCALHOST) {
            holds_the_contract(&Multicast::default().port(multicast::tests::port())).await;
        }
    }

    #[test]
    fn an_address_is_a_host_and_a_port() {
        for good in ["a:1", "10.0.0.7:4100", "[::1]:65535", "db-1.internal:4100"] {
            assert!(is_address(good), "{good}");
        }
        let long = format!("{}:1", "a".repeat(ADDRESS_BYTES_MAX));
        for bad in
            ["", "a", ":1", "a:", "a:0", "a:65536", "a:+1", "a:1 ", "a b:1", "a\n:1", "a\u{7}:1", &long]
        {
            assert!(!is_address(bad), "{bad:?}");
        }
    }
}
