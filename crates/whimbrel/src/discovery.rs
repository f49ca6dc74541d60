//! Discovery: where other nodes of the cluster might be.
//!
//! A discovery only gives addresses. Whether a node there belongs to the cluster is decided by the handshake,
//! and who is a member by views, so a wrong or old address costs a connection attempt and nothing else. It is
//! asked again and again while the node lives: addresses it has found once are tried for ever, which is how
//! splits heal.

use std::future::Future;
use std::pin::Pin;

use thiserror::Error;
use whimbrel_core::base::Address;

/// Discovery could not answer this time. The node keeps the last answer and asks again.
#[derive(Debug, Error)]
#[error("discovery failed: {0}")]
pub struct DiscoveryError(#[source] Box<dyn std::error::Error + Send + Sync>);

impl DiscoveryError {
    /// Wraps what went wrong.
    pub fn new(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self(error.into())
    }
}

/// The answer of a [`Discovery`], on its way.
pub type Discovered<'a> = Pin<Box<dyn Future<Output = Result<Vec<Address>, DiscoveryError>> + Send + 'a>>;

/// Finds addresses of nodes, each as `host:port`.
pub trait Discovery: Send + Sync + 'static {
    /// All addresses known now, in any order; the node's own may be among them, and none may answer.
    ///
    /// Asked when the node starts and repeatedly afterwards. It may take long: nothing waits for it but the
    /// birth of the cluster. Dropping the future must be harmless.
    fn discover(&self) -> Discovered<'_>;

    /// Whether there can be anybody to find. A node without that founds its cluster at once.
    fn finds_others(&self) -> bool {
        true
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
    fn discover(&self) -> Discovered<'_> {
        Box::pin(async { Ok(self.addresses.clone()) })
    }

    fn finds_others(&self) -> bool {
        !self.addresses.is_empty()
    }
}

/// Nobody to find: the node is alone unless others dial it.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoDiscovery;

impl Discovery for NoDiscovery {
    fn discover(&self) -> Discovered<'_> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn finds_others(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// The contract of every discovery: it answers, twice the same if nothing changed, and may be dropped.
    async fn holds_the_contract(discovery: &dyn Discovery) {
        drop(discovery.discover());
        let first = discovery.discover().await.unwrap();
        assert_eq!(discovery.discover().await.unwrap(), first);
        assert_eq!(discovery.finds_others(), !first.is_empty());
    }

    #[tokio::test]
    async fn every_discovery_holds_the_contract() {
        holds_the_contract(&NoDiscovery).await;
        holds_the_contract(&StaticList::new(["127.0.0.1:4100", "localhost:4101"])).await;
        holds_the_contract(&StaticList::new(Vec::<String>::new())).await;
    }
}
