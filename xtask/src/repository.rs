//! The files of the working tree: what git tracks, and what it would track.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::source::Source;

/// Every text file that is committed or about to be.
#[derive(Debug)]
pub(crate) struct Repository {
    root: PathBuf,
    /// Path from the root -> content. Files that are not UTF-8 are left out.
    pub(crate) files: BTreeMap<String, String>,
}

impl Repository {
    /// Reads the working tree that this crate belongs to.
    pub(crate) fn open() -> Result<Self, String> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().ok_or("xtask has no parent folder")?;
        let list = run(root, "git", &["ls-files", "-z", "--cached", "--others", "--exclude-standard"])?;
        let mut files = BTreeMap::new();
        for path in list.split('\0').filter(|path| !path.is_empty()) {
            // A file deleted in the working tree is still in the index; one that is not text has no lines.
            if let Ok(text) = std::fs::read_to_string(root.join(path)) {
                files.insert(path.to_owned(), text);
            }
        }
        Ok(Self { root: root.to_owned(), files })
    }

    /// All files with their content.
    pub(crate) fn texts(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files.iter().map(|(path, text)| (path.as_str(), text.as_str()))
    }

    /// The content of one file.
    pub(crate) fn text(&self, path: &str) -> Option<&str> {
        self.files.get(path).map(String::as_str)
    }

    /// All Rust files.
    pub(crate) fn sources(&self) -> Vec<Source> {
        self.texts()
            .filter(|(path, _)| path.ends_with(".rs"))
            .map(|(path, text)| Source::new(path, text))
            .collect()
    }

    /// What cargo knows about all packages, those of other platforms too.
    pub(crate) fn metadata(&self) -> Result<Value, String> {
        let text = run(&self.root, env!("CARGO"), &["metadata", "--format-version", "1", "--locked"])?;
        serde_json::from_str(&text).map_err(|e| format!("cargo metadata can not be read: {e}"))
    }

    /// Replaces one file.
    pub(crate) fn write(&self, path: &str, text: &str) -> Result<(), String> {
        std::fs::write(self.root.join(path), text).map_err(|e| format!("{path} can not be written: {e}"))
    }
}

fn run(folder: &Path, program: &str, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(program)
        .args(arguments)
        .current_dir(folder)
        .output()
        .map_err(|e| format!("{program} can not be run: {e}"))?;
    if !output.status.success() {
        return Err(format!("{program} failed: {}", String::from_utf8_lossy(&output.stderr).trim()));
    }
    String::from_utf8(output.stdout).map_err(|_| format!("{program} printed something that is not text"))
}
