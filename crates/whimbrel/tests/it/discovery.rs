//! Nodes that find each other, by every source and by several at once.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use whimbrel::{Builder, Cluster, Dns, JoinError, Multicast, SeedsFile, StaticList};

use crate::kinds::*;
use crate::machine::has_multicast;

const SECRET: &str = "known to these nodes alone";

/// A multicast port of this run's own: other runs on this machine do not disturb it.
fn multicast() -> Multicast {
    Multicast::default().port(30_000 + (std::process::id() % 10_000) as u16)
}

pub(crate) fn node(name: &str) -> Builder {
    Cluster::builder("discovery").node_name(name).listen("127.0.0.1:0").join_within(LONG)
}

pub(crate) async fn all_see(nodes: &[Cluster]) {
    for node in nodes {
        node.wait_for_members(nodes.len(), LONG).await.unwrap();
    }
}

/// A file of one test, removed at its end.
pub(crate) struct Seeds(PathBuf);

impl Seeds {
    pub(crate) fn new(test: &str) -> Self {
        Self(std::env::temp_dir().join(format!("whimbrel-discovery-{}-{test}", std::process::id())))
    }

    /// Replaces the file as one should: by another name, then renamed.
    pub(crate) fn write(&self, text: &str) {
        let new = self.0.with_extension("new");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(&new, &self.0).unwrap();
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Seeds {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn three_nodes_that_know_nothing_but_multicast_become_one_cluster() {
    if !has_multicast("three_nodes_that_know_nothing_but_multicast_become_one_cluster", Ipv4Addr::LOCALHOST) {
        return;
    }
    let join = |name| node(name).discovery(multicast()).join();
    let (a, b, c) = tokio::join!(join("a"), join("b"), join("c"));
    let nodes = [a.unwrap(), b.unwrap(), c.unwrap()];
    all_see(&nodes).await;
    let stranger =
        Cluster::builder("another").listen("127.0.0.1:0").discovery(multicast()).join().await.unwrap();
    assert_eq!(stranger.view().unwrap().members.len(), 1, "another cluster on the same port is left alone");
}

/// As in the README: no configuration but the secret, on every interface.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn three_nodes_on_a_network_need_no_more_than_the_secret() {
    if !has_multicast("three_nodes_on_a_network_need_no_more_than_the_secret", Ipv4Addr::UNSPECIFIED) {
        return;
    }
    let join = || {
        let builder = Cluster::builder("network").listen("0.0.0.0:0").secret(SECRET).join_within(LONG);
        builder.discovery(multicast()).join()
    };
    let (a, b, c) = tokio::join!(join(), join(), join());
    let nodes = [a.unwrap(), b.unwrap(), c.unwrap()];
    all_see(&nodes).await;
    assert!(!nodes[0].address().starts_with("0.0.0.0"), "others can dial {}", nodes[0].address());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_node_joins_when_the_file_names_one_and_others_when_it_changes() {
    let (seeds, others) = (Seeds::new("first"), Seeds::new("second"));
    seeds.write("# nobody yet\n");
    let a = node("a").discovery(SeedsFile::new(seeds.path())).join().await.unwrap();
    // The second node's file is not there: it founds no cluster, and joins once it is told where.
    let joining = tokio::spawn(node("b").discovery(SeedsFile::new(others.path())).join());
    others.write(&format!("{}\n", a.address()));
    let b = joining.await.unwrap().unwrap();
    let mut nodes = vec![a, b];
    all_see(&nodes).await;
    // Two lines that do not know of each other meet when a file of one names the other.
    let lonely = Seeds::new("third");
    lonely.write("");
    let c = node("c").discovery(SeedsFile::new(lonely.path())).join().await.unwrap();
    seeds.write(&format!("{}\n", c.address()));
    nodes.push(c);
    all_see(&nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_source_that_can_not_answer_keeps_nobody_from_joining_through_another() {
    let missing = Seeds::new("missing");
    let a = node("a").discovery(StaticList::new(Vec::<String>::new())).join().await.unwrap();
    let b = node("b")
        .discovery(SeedsFile::new(missing.path()))
        .discovery(StaticList::new([a.address()]))
        .found_alone_after(Duration::ZERO);
    let b = b.join().await.unwrap();
    let port = b.address().rsplit_once(':').unwrap().1;
    let c = node("c").discovery(Dns::new(&format!("localhost:{port}"))).join();
    let nodes = [a, b, c.await.unwrap()];
    all_see(&nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_node_founds_no_cluster_while_a_source_has_never_answered() {
    let missing = Seeds::new("never");
    let alone = node("a")
        .discovery(SeedsFile::new(missing.path()))
        .discovery(StaticList::new(Vec::<String>::new()))
        .found_alone_after(Duration::ZERO)
        .join_within(Duration::from_secs(2));
    assert!(matches!(alone.join().await, Err(JoinError::Deadline)));
    missing.write("");
    let founder = node("a").discovery(SeedsFile::new(missing.path())).found_alone_after(Duration::ZERO);
    assert_eq!(founder.join().await.unwrap().view().unwrap().members.len(), 1);
}

#[tokio::test]
async fn a_source_with_settings_that_can_not_work_is_refused_by_its_name() {
    let refused = node("a").discovery(Dns::new("nodes.internal")).join().await.unwrap_err().to_string();
    assert!(refused.contains("discovery: dns nodes.internal: "), "{refused}");
    let open = multicast().interface([10, 0, 0, 7].into());
    let refused = node("a").discovery(open).join().await.unwrap_err().to_string();
    assert!(refused.contains("needs a secret"), "{refused}");
}
