//! The law between crates: who may name whom, and what must not be reachable from the pure ones.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::finding::Finding;

/// Crates of the workspace that each crate may name.
const MAY_NAME: [(&str, &str, &[&str]); 9] = [
    ("whimbrel-core", "crates/core", &[]),
    ("whimbrel-macros", "crates/macros", &[]),
    ("whimbrel", "crates/whimbrel", &["whimbrel-core", "whimbrel-macros"]),
    ("whimbrel-cli", "crates/cli", &["whimbrel"]),
    ("whimbrel-sim", "crates/sim", &["whimbrel-core"]),
    ("whimbrel-loom", "crates/loom", &["whimbrel-core"]),
    ("whimbrel-examples", "examples", &["whimbrel"]),
    ("whimbrel-web", "examples/web", &["whimbrel"]),
    ("xtask", "xtask", &[]),
];

/// All that `core` may name. Each can be run with time and randomness as arguments.
const CORE_MAY_NAME: [&str; 5] = ["foca", "minicbor", "rand", "serde", "thiserror"];

/// Not to be reached from `core` and the simulator: what waits, talks, logs.
const IMPURE: [&str; 8] = ["tokio", "mio", "socket2", "async-io", "smol", "tracing", "log", "rustls"];

pub(crate) fn check(metadata: &Value) -> Vec<Finding> {
    let packages = Packages::read(metadata);
    let mut findings = Vec::new();
    for (member, folder, may_name) in MAY_NAME {
        let Some(direct) = packages.direct.get(member) else { continue };
        let manifest = format!("{folder}/Cargo.toml");
        let mut complain = |text: String| findings.push(Finding::new(&manifest, 1, "crates", text));
        for name in direct.iter().filter(|name| packages.members.contains(**name) && !may_name.contains(name))
        {
            complain(format!("`{member}` must not depend on `{name}`"));
        }
        if member == "whimbrel-core" {
            for name in direct.iter().filter(|name| !CORE_MAY_NAME.contains(name)) {
                complain(format!("`{name}` is not among what the pure core may name"));
            }
        }
        if matches!(member, "whimbrel-core" | "whimbrel-sim") {
            let reached = packages.reached_from(member);
            for name in IMPURE.iter().filter(|name| reached.contains(*name)) {
                complain(format!("`{member}` reaches `{name}`"));
            }
        }
    }
    for name in packages.members.iter().filter(|name| MAY_NAME.iter().all(|(member, ..)| member != *name)) {
        findings.push(Finding::new(
            "Cargo.toml",
            1,
            "crates",
            format!("`{name}` has no row in the law between crates"),
        ));
    }
    findings
}

/// Names instead of package ids: two versions of one package count as one.
#[derive(Debug, Default)]
struct Packages<'m> {
    members: BTreeSet<&'m str>,
    /// What a package names in its manifest, for building and running; not for its tests.
    direct: BTreeMap<&'m str, BTreeSet<&'m str>>,
    /// What is really linked, after features and platforms.
    linked: BTreeMap<&'m str, BTreeSet<&'m str>>,
}

impl<'m> Packages<'m> {
    fn read(metadata: &'m Value) -> Self {
        let mut packages = Self::default();
        let mut names = BTreeMap::new();
        for package in list(&metadata["packages"]) {
            let name = text(&package["name"]);
            names.insert(text(&package["id"]), name);
            let direct = packages.direct.entry(name).or_default();
            let used = list(&package["dependencies"]).iter().filter(|dependency| dependency["kind"] != "dev");
            direct.extend(used.map(|dependency| text(&dependency["name"])));
        }
        let name_of = |id: &'m Value| names.get(text(id)).copied();
        packages.members = list(&metadata["workspace_members"]).iter().filter_map(name_of).collect();
        for node in list(&metadata["resolve"]["nodes"]) {
            let Some(name) = name_of(&node["id"]) else { continue };
            let used = list(&node["deps"]).iter().filter(|dependency| is_linked(dependency));
            packages
                .linked
                .entry(name)
                .or_default()
                .extend(used.filter_map(|dependency| name_of(&dependency["pkg"])));
        }
        packages
    }

    fn reached_from(&self, member: &'m str) -> BTreeSet<&'m str> {
        let mut reached = BTreeSet::new();
        let mut open = vec![member];
        while let Some(name) = open.pop() {
            for next in self.linked.get(name).into_iter().flatten() {
                if reached.insert(*next) {
                    open.push(next);
                }
            }
        }
        reached
    }
}

/// Neither for tests nor for the building machine.
fn is_linked(dependency: &Value) -> bool {
    list(&dependency["dep_kinds"]).iter().any(|kind| kind["kind"].is_null())
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Packages by name; ids are the names.
    fn metadata(members: &[&str], edges: &[(&str, &[&str])]) -> Value {
        let package = |(name, deps): &(&str, &[&str])| json!({"name": name, "id": name, "dependencies": deps.iter().map(|d| json!({"name": d, "kind": null})).collect::<Vec<_>>()});
        let node = |(name, deps): &(&str, &[&str])| json!({"id": name, "deps": deps.iter().map(|d| json!({"pkg": d, "dep_kinds": [{"kind": null}]})).collect::<Vec<_>>()});
        json!({
            "packages": edges.iter().map(package).collect::<Vec<_>>(),
            "workspace_members": members,
            "resolve": {"nodes": edges.iter().map(node).collect::<Vec<_>>()},
        })
    }

    fn findings(members: &[&str], edges: &[(&str, &[&str])]) -> Vec<String> {
        check(&metadata(members, edges)).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_lawful_order_is_quiet() {
        let members = ["whimbrel-core", "whimbrel", "whimbrel-cli", "whimbrel-sim"];
        let edges: [(&str, &[&str]); 6] = [
            ("whimbrel-core", &["serde"]),
            ("whimbrel", &["whimbrel-core", "tokio"]),
            ("whimbrel-cli", &["whimbrel", "tokio"]),
            ("whimbrel-sim", &["whimbrel-core"]),
            ("tokio", &[]),
            ("serde", &[]),
        ];
        assert_eq!(findings(&members, &edges), [""; 0]);
    }

    #[test]
    fn an_unlawful_edge_is_found() {
        let cases: [(&str, &[&str], &str); 3] = [
            ("whimbrel-core", &["bytes"], "`bytes` is not among"),
            ("whimbrel-core", &["foca"], "`whimbrel-core` reaches `tokio`"),
            ("whimbrel-cli", &["whimbrel-core"], "`whimbrel-cli` must not depend on `whimbrel-core`"),
        ];
        for (member, deps, want) in cases {
            let found = findings(
                &[member, "whimbrel-core"],
                &[
                    ("whimbrel-core", &[]),
                    (member, deps),
                    ("foca", &["tokio"]),
                    ("bytes", &[]),
                    ("tokio", &[]),
                ],
            );
            assert!(found.iter().any(|line| line.contains(want)), "{member}: {found:?}");
        }
    }

    #[test]
    fn a_crate_without_a_row_is_found() {
        assert!(findings(&["extra"], &[("extra", &[])])[0].contains("no row"));
    }
}
