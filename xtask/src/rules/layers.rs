//! The import law inside `core`: a layer names only layers below it, siblings never name each other.
//!
//! base -> view -> {membership, placement} -> {directory, groups, handoff, delivery} -> wire -> node

use crate::finding::Finding;
use crate::source::Source;

const ROOT: &str = "crates/core/src/";

const LAYERS: [&[&str]; 6] = [
    &["base"],
    &["view"],
    &["membership", "placement"],
    &["directory", "groups", "handoff", "delivery"],
    &["wire"],
    &["node"],
];

pub(crate) fn check(source: &Source) -> Vec<Finding> {
    let Some(path) = source.path.strip_prefix(ROOT).filter(|path| *path != "lib.rs") else {
        return Vec::new();
    };
    let modules = module_path(path);
    let home = modules[0];
    let mut findings = Vec::new();
    let mut complain =
        |at, text: String| findings.push(Finding::new(&source.path, source.line_of(at), "layers", text));
    if rank(home).is_none() {
        complain(
            0,
            format!(
                "`{home}` is in no layer: add it to the table of the rule, with its place in ARCHITECTURE.md"
            ),
        );
        return findings;
    }
    let from_root =
        source.words("crate").filter_map(|at| Some((at, after_colons(source, at + "crate".len())?)));
    let from_super = escapes(source, modules.len());
    for (at, next) in from_root.chain(from_super) {
        for target in heads(&source.code[next..]) {
            if let Err(text) = allowed(home, target) {
                complain(at, text);
            }
        }
    }
    findings
}

fn allowed(home: &str, target: &str) -> Result<(), String> {
    match (rank(home), rank(target)) {
        _ if home == target => Ok(()),
        (Some(own), Some(other)) if other < own => Ok(()),
        (Some(own), Some(other)) if other == own => Err(format!("`{home}` names its sibling `{target}`")),
        (_, Some(_)) => Err(format!("`{home}` names `{target}`, which lies above it")),
        (_, None) => Err(format!("`crate::{target}` is in no layer: name the layer it comes from")),
    }
}

fn rank(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

/// The layers that a file stands in: `record` in `directory` is both of them, `mod` only its folder.
fn module_path(path: &str) -> Vec<&str> {
    let mut modules: Vec<&str> = path.trim_end_matches(".rs").split('/').collect();
    if modules.len() > 1 && modules.last() == Some(&"mod") {
        modules.pop();
    }
    modules
}

/// Where `super::super::` leaves the home module: the place, and the offset of the name that follows.
fn escapes(source: &Source, depth: usize) -> impl Iterator<Item = (usize, usize)> + '_ {
    source.words("super").filter_map(move |at| {
        if source.code[..at].trim_end().ends_with("super::") {
            return None;
        }
        let (mut supers, mut next) = (0, at);
        while source.word_at(next) == "super" {
            supers += 1;
            let word_end = next + source.code[next..].find("super")? + "super".len();
            next = after_colons(source, word_end)?;
        }
        (supers >= depth + inline_modules(source, at)).then_some((at, next))
    })
}

/// How many `mod x { }` in this file stand around an offset.
fn inline_modules(source: &Source, at: usize) -> usize {
    source.words("mod").filter(|start| (*start..source.item_end(*start)).contains(&at)).count()
}

fn after_colons(source: &Source, at: usize) -> Option<usize> {
    source.code[at..].starts_with("::").then_some(at + 2)
}

/// First names of a path or of a group of paths: `{a::b, c}` -> a, c.
fn heads(path: &str) -> Vec<&str> {
    let Some(group) = path.strip_prefix('{') else {
        return vec![head(path)];
    };
    let (mut depth, mut start, mut found) = (0, 0, Vec::new());
    for (at, byte) in group.bytes().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' if depth > 0 => depth -= 1,
            b',' | b'}' if depth == 0 => {
                found.push(head(&group[start..at]));
                start = at + 1;
                if byte == b'}' {
                    break;
                }
            }
            _ => {}
        }
    }
    found.retain(|name| !name.is_empty());
    found
}

fn head(path: &str) -> &str {
    let path = path.trim_start();
    &path[..path.bytes().take_while(|byte| crate::source::is_word(*byte)).count()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(path: &str, text: &str) -> Vec<String> {
        check(&Source::new(&format!("{ROOT}{path}"), text)).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn imports_flow_one_way() {
        let allowed = [
            (
                "directory/mod.rs",
                "use crate::base::Name; use crate::view::View; use crate::directory::record::Record;",
            ),
            ("node/io.rs", "use crate::{directory::{Ask, Record}, delivery::Port, wire::Control};"),
            ("directory/record.rs", "use super::request::Ask;"),
            ("lib.rs", "use crate::node::Node;"),
            ("view/mod.rs", "// crate::node\nconst A: &str = \"crate::node\";"),
        ];
        for (path, text) in allowed {
            assert_eq!(findings(path, text), [""; 0], "{path}: {text}");
        }
    }

    #[test]
    fn an_import_upwards_or_sidewards_is_found() {
        let refused = [
            (
                "base/name.rs",
                "\nuse crate::view::View;",
                ":2: [layers] `base` names `view`, which lies above it",
            ),
            (
                "delivery/gate.rs",
                "fn a(x: crate::directory::Ask) {}",
                "`delivery` names its sibling `directory`",
            ),
            ("view/mod.rs", "use crate::{base::Name, wire::Control};", "`view` names `wire`"),
            ("view/chain.rs", "use super::super::node::Node;", "`view` names `node`"),
            ("view/mod.rs", "mod tests { use super::super::node::Node; }", "`view` names `node`"),
            ("wire/mod.rs", "use crate::Name;", "`crate::Name` is in no layer"),
            ("extra.rs", "", "`extra` is in no layer"),
        ];
        for (path, text, want) in refused {
            let found = findings(path, text);
            assert!(found.len() == 1 && found[0].contains(want), "{path}: {text}: {found:?}");
        }
    }
}
