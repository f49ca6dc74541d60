//! Every dependency has its reason in CONTRIBUTING.md.

use crate::finding::Finding;

/// `manifest` is that of the workspace, `contributing` the text with the table of reasons.
pub(crate) fn check(manifest: &str, contributing: &str) -> Vec<Finding> {
    let mut section = "";
    let mut findings = Vec::new();
    for (at, line) in manifest.lines().enumerate() {
        if line.starts_with('[') {
            section = line;
        }
        let Some((name, _)) = line.split_once('=').filter(|_| section == "[workspace.dependencies]") else {
            continue;
        };
        let name = name.trim();
        if !name.starts_with("whimbrel") && !has_reason(name, contributing) {
            findings.push(Finding::new(
                "Cargo.toml",
                at + 1,
                "reasons",
                format!("`{name}` has no row in CONTRIBUTING.md"),
            ));
        }
    }
    findings
}

/// Whether a row of the table begins with this package; a row may be about several.
fn has_reason(name: &str, contributing: &str) -> bool {
    let packages = contributing.lines().filter_map(|line| line.strip_prefix('|')?.split('|').next());
    packages.flat_map(|cell| cell.split(',')).any(|package| package.trim() == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dependency_without_a_reason_is_found() {
        let manifest = "[workspace.dependencies]\nwhimbrel = { path = \"x\" }\na = \"1\"\nb = \"1\"\nc = \"1\"\n[profile.dev]\nd = 1\n";
        let lines: Vec<_> = check(manifest, "| a, b | core | why |\nc is not a row")
            .iter()
            .map(|finding| finding.line)
            .collect();
        assert_eq!(lines, [5]);
    }
}
