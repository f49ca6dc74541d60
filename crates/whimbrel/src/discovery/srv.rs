//! Addresses in SRV records, which name a port with each host.

use std::net::SocketAddr;

use whimbrel_core::base::Address;

use super::{Discovered, Discovery, DiscoveryError, Here, nameserver};

/// The SRV records of one name: as with Consul, or the ports of a Kubernetes headless service
/// (`_whimbrel._tcp.shop.default.svc.cluster.local`). Asked every 5 s; priorities and weights do not matter, since
/// every node is wanted. The hosts in them are resolved at each attempt to connect.
///
/// The system's resolver can not be asked for SRV, so this asks the name servers of `/etc/resolv.conf` itself, over
/// UDP and, for long answers, TCP. The name is taken as it is: search domains and the hosts file do not count. A name
/// that does not exist is an error, as with [`Dns`](super::Dns); an answer without records is an empty one.
#[derive(Clone, Debug)]
pub struct Srv {
    name: String,
    servers: Vec<SocketAddr>,
}

impl Srv {
    /// This name, in full.
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned(), servers: Vec::new() }
    }

    /// Asks this server instead of those of `/etc/resolv.conf`. Called again: the next, if the ones before do not
    /// answer; three at most.
    #[must_use]
    pub fn nameserver(mut self, server: SocketAddr) -> Self {
        self.servers.push(server);
        self
    }
}

impl Discovery for Srv {
    fn discover<'a>(&'a self, _: &'a Here) -> Discovered<'a> {
        Box::pin(async {
            let servers = match &self.servers[..] {
                [] => nameserver::of_system().await.map_err(DiscoveryError::new)?,
                servers => servers.to_vec(),
            };
            let targets = nameserver::srv(&servers, &self.name).await.map_err(DiscoveryError::new)?;
            Ok(targets.into_iter().map(Address::from).collect())
        })
    }

    fn name(&self) -> String {
        format!("srv {}", self.name)
    }

    fn check(&self, _: &Here) -> Result<(), DiscoveryError> {
        if self.servers.len() > nameserver::SERVERS_MAX {
            return Err(DiscoveryError::new(format!(
                "at most {} name servers are asked",
                nameserver::SERVERS_MAX
            )));
        }
        nameserver::check_name(&self.name).map_err(DiscoveryError::new)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::discovery::nameserver::tests::Server;

    #[tokio::test]
    async fn every_question_gets_the_records_of_the_moment() {
        let (server, here) = (Server::start().await, Here::new("test", "", None));
        let srv = Srv::new("_whimbrel._tcp.nodes.test").nameserver(server.address());
        assert!(srv.discover(&here).await.unwrap_err().to_string().contains("does not exist"));
        server.say("_whimbrel._tcp.nodes.test", &["a.nodes.test:4100", "b.nodes.test:4200"]);
        let found = srv.discover(&here).await.unwrap();
        assert_eq!(found, [Address::from("a.nodes.test:4100"), Address::from("b.nodes.test:4200")]);
        server.say("_whimbrel._tcp.nodes.test", &[]);
        assert_eq!(srv.discover(&here).await.unwrap(), []);
    }

    #[test]
    fn a_name_that_no_server_can_have_is_refused_before() {
        let here = Here::new("test", "", None);
        for bad in ["", ".", "a b", "nodes.test:4100", &"a".repeat(64), &"a.".repeat(128), "a\\", "a\u{7}"] {
            assert!(Srv::new(bad).check(&here).is_err(), "{bad:?}");
        }
        for good in ["_whimbrel._tcp.nodes.test", "nodes", "nodes.test."] {
            assert!(Srv::new(good).check(&here).is_ok(), "{good:?}");
        }
    }
}
