//! Licences of everything we link: permissive ones, and MPL-2.0 for `foca` alone.

mod expression;

use serde_json::Value;

use super::lock;
use crate::finding::Finding;

/// Allowed for everybody.
const ALLOWED: [&str; 12] = [
    "0BSD",
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "ISC",
    "MIT",
    "MIT-0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// Allowed for these packages alone. The Blue Oak licence is permissive, without conditions beyond its notice.
const ALLOWED_FOR: [(&str, &str); 3] =
    [("foca", "MPL-2.0"), ("minicbor", "BlueOak-1.0.0"), ("minicbor-derive", "BlueOak-1.0.0")];

pub(crate) fn check(metadata: &Value, lock: &str) -> Vec<Finding> {
    let packages = metadata["packages"].as_array().map(Vec::as_slice).unwrap_or_default();
    packages
        .iter()
        .filter_map(|package| {
            let name = package["name"].as_str().unwrap_or_default();
            let text = complaint(name, package["license"].as_str())?;
            Some(Finding::new("Cargo.lock", lock::line_of(lock, name), "licence", text))
        })
        .collect()
}

fn complaint(package: &str, licence: Option<&str>) -> Option<String> {
    let Some(licence) = licence else {
        return Some(format!("{package} names no licence"));
    };
    let allowed = |id: &str| ALLOWED.contains(&id) || ALLOWED_FOR.contains(&(package, id));
    match expression::holds(licence, &allowed) {
        Some(true) => None,
        Some(false) => Some(format!("{package} is under {licence}")),
        None => Some(format!("the licence of {package} can not be read: {licence}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_permissive_is_found() {
        for (package, licence) in [
            ("a", Some("MIT OR Apache-2.0")),
            ("a", Some("MIT/Apache-2.0")),
            ("a", Some("(MIT OR GPL-3.0) AND Unicode-3.0")),
            ("foca", Some("MPL-2.0")),
        ] {
            assert_eq!(complaint(package, licence), None, "{package} {licence:?}");
        }
        for (package, licence) in
            [("a", Some("MPL-2.0")), ("a", Some("MIT AND GPL-3.0")), ("a", Some("MIT OR")), ("a", None)]
        {
            assert!(complaint(package, licence).is_some(), "{package} {licence:?}");
        }
    }

    #[test]
    fn a_finding_points_into_the_lock_file() {
        let metadata = serde_json::json!({"packages": [{"name": "b", "license": "GPL-3.0"}]});
        let found = check(&metadata, "\nname = \"b\"\n");
        assert_eq!(found[0].to_string(), "Cargo.lock:2: [licence] b is under GPL-3.0");
    }
}
