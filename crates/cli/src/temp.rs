//! A directory that is gone when its owner is, unless it was given by the user.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::os;
use crate::output::Failure;

/// A directory to work in.
#[derive(Debug)]
pub(crate) struct WorkDir {
    path: PathBuf,
    keep: bool,
}

impl WorkDir {
    /// A fresh directory among the system's temporary ones, removed on drop.
    pub(crate) fn temporary(purpose: &str) -> Result<Self, Failure> {
        loop {
            let unique = format!("whimbrel-{purpose}-{}-{}", std::process::id(), os::monotonic_us());
            let path = std::env::temp_dir().join(unique);
            match std::fs::create_dir(&path) {
                Ok(()) => return Ok(Self { path, keep: false }),
                // Another thread in the same microsecond, or somebody's idea of a trap.
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(unusable(&path, &error)),
            }
        }
    }

    /// A directory of the user's choice: made if it is not there, refused if anything is in it.
    pub(crate) fn kept(path: &Path) -> Result<Self, Failure> {
        std::fs::create_dir_all(path).map_err(|error| unusable(path, &error))?;
        let mut entries = std::fs::read_dir(path).map_err(|error| unusable(path, &error))?;
        if entries.next().is_some() {
            return Err(Failure::usage(format!("{} is not empty", path.display()))
                .detail("evidence of two runs in one directory could not be judged")
                .hint("give a directory that is empty or does not exist"));
        }
        Ok(Self { path: path.to_owned(), keep: true })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for WorkDir {
    fn drop(&mut self) {
        if !self.keep {
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}

fn unusable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::environment(format!("can not use the directory {}", path.display()))
        .detail(error)
        .hint("choose another place: --keep DIR, or TMPDIR for temporary files")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_temporary_directory_goes_with_its_owner() {
        let dir = WorkDir::temporary("test").unwrap();
        let path = dir.path().to_owned();
        std::fs::write(path.join("file"), "x").unwrap();
        drop(dir);
        assert!(!path.exists());
    }

    #[test]
    fn a_directory_with_something_in_it_is_refused() {
        let dir = WorkDir::temporary("test").unwrap();
        assert!(WorkDir::kept(&dir.path().join("new")).is_ok());
        assert!(WorkDir::kept(dir.path()).is_err());
    }
}
