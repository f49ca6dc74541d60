//! Manifests of members: the lints of the workspace, and no choice of versions or features of their own.

use crate::finding::Finding;

pub(crate) fn check(path: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut section = "";
    let mut has_lints = false;
    for (at, line) in text.lines().map(str::trim).enumerate() {
        if line.starts_with('[') {
            section = line.trim_matches(['[', ']']);
        } else if section == "lints" {
            has_lints |= line.replace(' ', "") == "workspace=true";
        } else if section == "workspace.dependencies" {
            // A package that is a workspace of its own chooses for itself.
        } else if section.ends_with("dependencies") && !line.is_empty() && !line.starts_with('#') {
            findings.extend(dependency(line).map(|text| Finding::new(path, at + 1, "manifest", text)));
        }
    }
    if !has_lints {
        findings.push(Finding::new(path, 1, "manifest", "no `[lints] workspace = true`"));
    }
    findings
}

fn dependency(line: &str) -> Option<String> {
    let name = line.split(['.', '=', ' ']).next().unwrap_or_default();
    if !line.replace(' ', "").contains("workspace=true") {
        return Some(format!("`{name}`: its version stands in the workspace, say `{name}.workspace = true`"));
    }
    // A second set of features would be a second build of it and of all above it.
    (line.contains("features") && !name.starts_with("whimbrel"))
        .then(|| format!("`{name}`: its features are chosen in the workspace alone"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_chooses_nothing_itself() {
        let good = "[package]\nname = \"a\"\n[dependencies]\n# why\na.workspace = true\n\
                    whimbrel-core = { workspace = true, features = [\"mutants\"] }\n[lints]\nworkspace = true\n";
        assert!(check("a/Cargo.toml", good).is_empty());
        let own = format!("[workspace.dependencies]\na = \"1\"\n{good}");
        assert!(check("b/Cargo.toml", &own).is_empty());

        let bad = "[dependencies]\na = \"1\"\nb = { workspace = true, features = [\"x\"] }\n";
        let lines: Vec<_> = check("a/Cargo.toml", bad).iter().map(|finding| finding.line).collect();
        assert_eq!(lines, [2, 3, 1]);
    }
}
