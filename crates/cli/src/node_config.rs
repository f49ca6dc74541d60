//! The configuration file of `whimbrel node`.
//!
//! An unknown key is refused with the nearest known one: a misspelt `seeds` that is ignored would leave a node
//! alone without a word.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use serde::de::Error;
use serde::{Deserialize, Deserializer};
use toml::{Table, Value};

use crate::output::Failure;

/// A key, with what it is for.
type Key = (&'static str, &'static str);

/// Every key.
const KEYS: [Key; 16] = [
    ("cluster", "name of the cluster"),
    ("name", "stable name of this node; the advertised address by default"),
    ("listen", "address to listen on, as \"0.0.0.0:4100\""),
    ("advertise", "address under which others reach this node; `listen` by default"),
    ("secret_file", "file with the cluster's secret; needed beyond loopback"),
    ("seeds", "addresses of other nodes"),
    ("seeds_file", "file with one address on each line, read again when it changes"),
    ("dns", "names and ports whose A and AAAA records are other nodes, as [\"nodes.internal:4100\"]"),
    ("srv", "names whose SRV records are other nodes, as [\"_whimbrel._tcp.nodes.internal\"]"),
    ("multicast", "find others on the local network: true, or a table of group, port, interface, ttl"),
    ("labels", "what others may admit this node by, as { zone = \"eu-1\" }"),
    ("allow", "nodes that are admitted, by name (\"web-*\") or label (\"zone=eu-*\"); all by default"),
    ("deny", "nodes that are not admitted, whatever else they fit"),
    ("weight", "share of the work relative to other nodes, 100 by default"),
    ("mode", "\"available\" or \"strict\""),
    ("data_dir", "directory for what must survive a restart"),
];

/// Every key of the table `multicast`.
const MULTICAST_KEYS: [Key; 4] = [
    ("group", "address of the multicast group, \"233.252.1.32\" by default"),
    ("port", "UDP port, 45892 by default"),
    ("interface", "address of the interface to search on; the system's choice by default"),
    ("ttl", "networks that packets may cross, 1 by default"),
];

/// Keys that are known but not built yet: said so instead of ignored.
const LATER: [&str; 1] = ["data_dir"];

/// What a node is told.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct NodeConfig {
    /// Name of the cluster.
    pub(crate) cluster: String,
    /// Stable name of the node.
    pub(crate) name: Option<String>,
    /// Where it listens.
    pub(crate) listen: String,
    /// Where others reach it.
    pub(crate) advertise: Option<String>,
    /// File with the secret.
    pub(crate) secret_file: Option<PathBuf>,
    /// Other nodes.
    #[serde(default)]
    pub(crate) seeds: Vec<String>,
    /// File with other nodes.
    pub(crate) seeds_file: Option<PathBuf>,
    /// Names of other nodes, with a port.
    #[serde(default)]
    pub(crate) dns: Vec<String>,
    /// Names of SRV records of other nodes.
    #[serde(default)]
    pub(crate) srv: Vec<String>,
    /// How to search the local network.
    #[serde(default, deserialize_with = "multicast")]
    pub(crate) multicast: Option<MulticastConfig>,
    /// What it says of itself.
    #[serde(default)]
    pub(crate) labels: BTreeMap<String, String>,
    /// Nodes that are admitted.
    #[serde(default)]
    pub(crate) allow: Vec<String>,
    /// Nodes that are not.
    #[serde(default)]
    pub(crate) deny: Vec<String>,
    /// Share of the work.
    #[serde(default = "default_weight")]
    pub(crate) weight: u32,
}

const fn default_weight() -> u32 {
    100
}

/// How the local network is searched, where it is not by the defaults.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub(crate) struct MulticastConfig {
    /// The multicast group.
    pub(crate) group: Option<Ipv4Addr>,
    /// The UDP port.
    pub(crate) port: Option<u16>,
    /// The address of the interface.
    pub(crate) interface: Option<Ipv4Addr>,
    /// How many networks packets may cross.
    pub(crate) ttl: Option<u8>,
}

/// A switch, or a table that says more.
fn multicast<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<MulticastConfig>, D::Error> {
    match Value::deserialize(deserializer)? {
        Value::Boolean(on) => Ok(on.then(MulticastConfig::default)),
        Value::Table(table) => {
            table.try_into().map(Some).map_err(|error| D::Error::custom(format!("multicast: {error}")))
        }
        _ => Err(D::Error::custom("multicast is true, false, or a table of group, port, interface, ttl")),
    }
}

impl NodeConfig {
    /// Reads and checks the file. A relative `secret_file` or `seeds_file` is looked for beside it.
    pub(crate) fn read(path: &Path) -> Result<Self, Failure> {
        let text = std::fs::read_to_string(path).map_err(|error| {
            Failure::usage(format!("can not read the configuration {}", path.display())).detail(error)
        })?;
        let mut config = Self::parse(&text).map_err(|failure| failure.in_file(path))?;
        for file in [&mut config.secret_file, &mut config.seeds_file].into_iter().flatten() {
            if let Some(dir) = path.parent()
                && file.is_relative()
            {
                *file = dir.join(&file);
            }
        }
        Ok(config)
    }

    fn parse(text: &str) -> Result<Self, Failure> {
        let table: Table =
            text.parse().map_err(|error| Failure::usage("the configuration is not TOML").detail(error))?;
        check_keys(&table, &KEYS)?;
        if let Some(Value::Table(multicast)) = table.get("multicast") {
            check_keys(multicast, &MULTICAST_KEYS)?;
        }
        check_mode(&table)?;
        let config: NodeConfig = toml::from_str(text).map_err(|error| {
            Failure::usage("the configuration is not complete or a value has the wrong type")
                .detail(error)
                .hint("needed are `cluster` and `listen`; see `docs/guarantees.md` for the others")
        })?;
        if config.weight > 1_000 {
            return Err(Failure::usage(format!("weight = {} is out of range", config.weight))
                .hint("weight goes from 0 to 1000; 100 is the default"));
        }
        let dialled = config.advertise.iter().chain(&config.seeds).chain(&config.dns);
        for address in std::iter::once(&config.listen).chain(dialled) {
            check_address(address)?;
        }
        Ok(config)
    }
}

fn check_keys(table: &Table, keys: &[Key]) -> Result<(), Failure> {
    for key in table.keys() {
        let Some((known, purpose)) = keys.iter().find(|(known, _)| known == key) else {
            let (nearest, purpose) = nearest_key(key, keys);
            let all: Vec<&str> = keys.iter().map(|(known, _)| *known).collect();
            return Err(Failure::usage(format!("unknown key `{}` in the configuration", key.escape_debug()))
                .detail(format!("known keys: {}", all.join(", ")))
                .hint(format!("did you mean `{nearest}` ({purpose})?")));
        };
        if LATER.contains(known) {
            return Err(Failure::usage(format!("`{known}` ({purpose}) is not available in this version"))
                .hint("remove it; see the guarantees table in README.md for what holds today"));
        }
    }
    Ok(())
}

fn check_mode(table: &Table) -> Result<(), Failure> {
    match table.get("mode").map(|mode| mode.as_str()) {
        None | Some(Some("available")) => Ok(()),
        Some(Some("strict")) => Err(Failure::usage("mode = \"strict\" is not available in this version")
            .hint("mode = \"available\" is; a split cluster then keeps running on both sides")),
        Some(_) => Err(Failure::usage("`mode` is none of \"available\" and \"strict\"")),
    }
}

fn check_address(address: &str) -> Result<(), Failure> {
    let port =
        address.rsplit_once(':').filter(|(host, _)| !host.is_empty()).map(|(_, port)| port.parse::<u16>());
    match port {
        Some(Ok(_)) => Ok(()),
        _ => Err(Failure::usage(format!("`{}` is not an address", address.escape_debug()))
            .hint("addresses are host:port, as \"10.0.0.7:4100\" or \"db-1.internal:4100\"")),
    }
}

fn nearest_key(key: &str, keys: &[Key]) -> Key {
    let lowered = key.to_lowercase();
    keys.iter().copied().min_by_key(|(known, _)| distance(&lowered, known)).unwrap_or(KEYS[0])
}

/// Edits (insert, delete, replace, swap of neighbours) from one word to the other.
fn distance(from: &str, to: &str) -> usize {
    let (from, to): (Vec<char>, Vec<char>) = (from.chars().collect(), to.chars().collect());
    let mut rows = vec![(0..=to.len()).collect::<Vec<usize>>()];
    for (i, a) in from.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, b) in to.iter().enumerate() {
            let mut best = (rows[i][j + 1] + 1).min(row[j] + 1).min(rows[i][j] + usize::from(a != b));
            let swapped = i > 0 && j > 0 && *a == to[j - 1] && from[i - 1] == *b;
            if swapped {
                best = best.min(rows[i - 1][j - 1] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[from.len()][to.len()]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::output::Cause;

    const SMALL: &str = "cluster = \"shop\"\nlisten = \"127.0.0.1:4100\"\n";

    #[test]
    fn a_small_configuration_is_enough() {
        let config = NodeConfig::parse(SMALL).unwrap();
        assert_eq!((config.weight, config.seeds.len()), (100, 0));
        let config = NodeConfig::parse(&format!(
            "{SMALL}seeds = [\"b:1\", \"c:2\"]\nweight = 200\nmode = \"available\"\nadvertise = \"a:1\"\n\
             secret_file = \"cluster.key\"\nallow = [\"web-*\", \"zone=eu-*\"]\ndeny = [\"web-9\"]\n\
             labels = {{ zone = \"eu-1\" }}\n"
        ))
        .unwrap();
        assert_eq!((config.weight, config.seeds.len()), (200, 2));
        assert_eq!((config.allow.len(), config.deny.len(), config.labels["zone"].as_str()), (2, 1, "eu-1"));
    }

    #[test]
    fn an_unknown_key_is_refused_with_the_nearest_one() {
        for (wrong, right) in [
            ("seed", "seeds"),
            ("secretfile", "secret_file"),
            ("advertize", "advertise"),
            ("lsiten", "listen"),
        ] {
            let failure = NodeConfig::parse(&format!("{SMALL}{wrong} = 1\n")).unwrap_err();
            assert_eq!(failure.cause(), Cause::Usage);
            assert!(failure.to_string().contains(&format!("did you mean `{right}`")), "{failure}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (line, word) in [
            ("weight = 1001", "weight"),
            ("weight = \"much\"", "weight"),
            ("mode = \"strict\"", "strict"),
            ("mode = 3", "mode"),
            ("multicast = 3", "multicast is true, false"),
            ("multicast = { group = \"here\" }", "multicast"),
            ("multicast = { port = 70000 }", "multicast"),
            ("multicast = { grup = \"233.252.1.32\" }", "did you mean `group`"),
            ("multicast = { intreface = \"10.0.0.7\" }", "did you mean `interface`"),
            ("dns = [\"nodes.internal\"]", "nodes.internal"),
            ("srv = \"nodes.internal\"", "srv"),
            ("labels = 3", "labels"),
            ("seeds = [\"nohost\"]", "nohost"),
            ("advertise = \":1\"", ":1"),
            ("seeds = [", "TOML"),
        ] {
            let failure = NodeConfig::parse(&format!("{SMALL}{line}\n")).unwrap_err();
            assert_eq!(failure.cause(), Cause::Usage);
            assert!(failure.to_string().contains(word), "{failure}");
        }
        assert!(NodeConfig::parse("cluster = \"shop\"\n").unwrap_err().to_string().contains("listen"));
    }

    #[test]
    fn all_ways_to_find_others_can_be_named_at_once() {
        let config = NodeConfig::parse(&format!(
            "{SMALL}seeds = [\"b:1\"]\nseeds_file = \"nodes.txt\"\ndns = [\"nodes.internal:4100\"]\n\
             srv = [\"_whimbrel._tcp.nodes.internal\"]\nmulticast = true\n"
        ))
        .unwrap();
        assert_eq!((config.dns.len(), config.srv.len()), (1, 1));
        assert_eq!(config.multicast, Some(MulticastConfig::default()));
        let table = format!("{SMALL}[multicast]\ninterface = \"10.0.0.7\"\nttl = 2\n");
        let multicast = NodeConfig::parse(&table).unwrap().multicast.unwrap();
        assert_eq!((multicast.interface, multicast.ttl), (Some([10, 0, 0, 7].into()), Some(2)));
        assert_eq!((multicast.group, multicast.port), (None, None));
        assert_eq!(NodeConfig::parse(&format!("{SMALL}multicast = false\n")).unwrap().multicast, None);
    }

    #[test]
    fn files_are_looked_for_beside_the_configuration() {
        let dir = crate::temp::WorkDir::temporary("config-test").unwrap();
        let file = dir.path().join("node.toml");
        let files = "secret_file = \"cluster.key\"\nseeds_file = \"nodes.txt\"\n";
        std::fs::write(&file, format!("{SMALL}{files}")).unwrap();
        let config = NodeConfig::read(&file).unwrap();
        assert_eq!(config.secret_file, Some(dir.path().join("cluster.key")));
        assert_eq!(config.seeds_file, Some(dir.path().join("nodes.txt")));
        assert!(NodeConfig::read(&dir.path().join("none")).is_err());
    }

    #[test]
    fn distances_count_edits() {
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("seed", "seeds"), 1);
        assert_eq!(distance("lsiten", "listen"), 1);
        assert_eq!(distance("same", "same"), 0);
    }
}
