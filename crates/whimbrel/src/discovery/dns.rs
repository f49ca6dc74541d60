//! Addresses behind a host name, from the resolver of the system: hosts file, DNS, whatever the machine uses.

use whimbrel_core::base::Address;

use super::{Discovered, Discovery, DiscoveryError, Here};

/// All A and AAAA records of one host name, each with the same port: a Kubernetes headless service, a round-robin
/// name. Asked every 5 s.
///
/// A name that can not be resolved, or does not exist, is an error: the last answer stays. So a node whose name has
/// never existed does not found a cluster; in Kubernetes set `publishNotReadyAddresses` on the service, or the first
/// pod waits to be ready before it can become so. How long a question takes is up to the system's resolver.
#[derive(Clone, Debug)]
pub struct Dns {
    name: String,
}

impl Dns {
    /// This name, as `name:port`.
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned() }
    }
}

impl Discovery for Dns {
    fn discover<'a>(&'a self, _: &'a Here) -> Discovered<'a> {
        Box::pin(async {
            let found = tokio::net::lookup_host(&self.name).await.map_err(DiscoveryError::new)?;
            Ok(found.map(|address| Address::from(address.to_string())).collect())
        })
    }

    fn name(&self) -> String {
        format!("dns {}", self.name)
    }

    fn check(&self, _: &Here) -> Result<(), DiscoveryError> {
        if super::is_address(&self.name) {
            return Ok(());
        }
        Err(DiscoveryError::new(format!("`{}` is not name:port", self.name.escape_debug())))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn a_name_stands_for_all_its_addresses_with_one_port() {
        let here = Here::new("test", "", None);
        let found = Dns::new("localhost:4100").discover(&here).await.unwrap();
        assert!(
            found.iter().any(|address| matches!(address.as_ref(), "127.0.0.1:4100" | "[::1]:4100")),
            "{found:?}"
        );
        assert!(found.iter().all(|address| address.ends_with(":4100")), "{found:?}");
    }

    #[tokio::test]
    async fn a_name_that_can_not_be_resolved_is_an_error_and_one_without_a_port_is_refused_before() {
        let here = Here::new("test", "", None);
        // Too long for a label: no server needs to be asked.
        let unknown = Dns::new(&format!("{}:1", "a".repeat(64)));
        assert!(unknown.check(&here).is_ok());
        assert!(unknown.discover(&here).await.is_err());
        assert!(Dns::new("nodes.test").check(&here).unwrap_err().to_string().contains("name:port"));
    }
}
