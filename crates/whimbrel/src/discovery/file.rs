//! Addresses in a file that somebody else keeps up to date.
//!
//! The file is read anew every second instead of being watched: at most 64 KiB cost nothing, no change is missed,
//! whether it was written in place, replaced, or is behind a link that was turned (as in a mounted ConfigMap), and it
//! works on every file system. A file that is not whole or has a line that is no address is an error, so the last
//! good answer stays.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use thiserror::Error;
use whimbrel_core::base::Address;

use super::{ADDRESSES_MAX, Discovered, Discovery, DiscoveryError, Here, is_address};

/// Pause between two readings.
const PAUSE: Duration = Duration::from_secs(1);
/// Bytes of such a file.
const FILE_BYTES_MAX: usize = 64 * 1024;

/// A text file with one `host:port` on each line; empty lines and what follows a `#` do not count.
///
/// It is read anew every second. At most 64 KiB and 1,024 addresses. Write it to another name and rename it: a file
/// that is written in place may be read when half of it is there.
#[derive(Clone, Debug)]
pub struct SeedsFile {
    path: PathBuf,
}

/// Why a file gives no addresses.
#[derive(Debug, Error)]
enum FileError {
    #[error("can not be read: {0}")]
    Unreadable(#[from] io::Error),
    #[error("is not a regular file")]
    NotAFile,
    #[error("has more than {FILE_BYTES_MAX} bytes")]
    TooLong,
    #[error("is not UTF-8 text")]
    NotText,
    #[error("line {line}: `{text}` is not host:port")]
    NoAddress { line: usize, text: String },
    #[error("has more than {ADDRESSES_MAX} addresses")]
    TooMany,
}

impl SeedsFile {
    /// The file at this path. It need not exist yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }
}

impl Discovery for SeedsFile {
    fn discover<'a>(&'a self, _: &'a Here) -> Discovered<'a> {
        let path = self.path.clone();
        Box::pin(async move {
            // On a thread for blocking calls: a network file system may take its time.
            let read = tokio::task::spawn_blocking(move || read(&path)).await;
            let addresses = read.map_err(DiscoveryError::new)?;
            addresses.map_err(|error| DiscoveryError::new(format!("{} {error}", self.path.display())))
        })
    }

    fn pause(&self) -> Duration {
        PAUSE
    }

    fn name(&self) -> String {
        format!("seeds file {}", self.path.display())
    }
}

fn read(path: &Path) -> Result<Vec<Address>, FileError> {
    // Asked before it is opened, since opening a pipe waits for its other end.
    if !std::fs::metadata(path)?.is_file() {
        return Err(FileError::NotAFile);
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(FILE_BYTES_MAX as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > FILE_BYTES_MAX {
        return Err(FileError::TooLong);
    }
    parse(std::str::from_utf8(&bytes).map_err(|_| FileError::NotText)?)
}

fn parse(text: &str) -> Result<Vec<Address>, FileError> {
    let mut addresses = Vec::new();
    for (at, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let address = line.split_once('#').map_or(line, |(before, _)| before).trim();
        if address.is_empty() {
            continue;
        }
        if !is_address(address) {
            let text = address.chars().take(80).collect::<String>().escape_debug().to_string();
            return Err(FileError::NoAddress { line: at + 1, text });
        }
        if addresses.len() == ADDRESSES_MAX {
            return Err(FileError::TooMany);
        }
        addresses.push(Address::from(address));
    }
    Ok(addresses)
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// A file of its own that is removed at the end of the test.
    pub(in crate::discovery) struct Scratch(PathBuf);

    impl Scratch {
        pub(in crate::discovery) fn new(name: &str, content: &str) -> Self {
            let name = format!("whimbrel-seeds-{}-{name}", std::process::id());
            let scratch = Self(std::env::temp_dir().join(name));
            std::fs::write(&scratch.0, content).unwrap();
            scratch
        }

        pub(in crate::discovery) fn path(&self) -> &Path {
            &self.0
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(&self.0);
        }
    }

    async fn discover(file: &SeedsFile) -> Result<Vec<String>, String> {
        let here = Here::new("test", "", None);
        let answer = file.discover(&here).await;
        answer.map(|found| found.iter().map(ToString::to_string).collect()).map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn each_question_reads_the_file_as_it_is_now() {
        let scratch = Scratch::new("changes", "# nodes\na:1\n\n  b:2  # the second\n");
        let file = SeedsFile::new(scratch.path());
        assert_eq!(discover(&file).await.unwrap(), ["a:1", "b:2"]);
        // Of the same length and within the same tick of the file system's clock.
        std::fs::write(scratch.path(), "# nodes\na:1\n\n  c:3  # the second\n").unwrap();
        assert_eq!(discover(&file).await.unwrap(), ["a:1", "c:3"]);
        std::fs::write(scratch.path(), "").unwrap();
        assert_eq!(discover(&file).await.unwrap(), [""; 0]);
        std::fs::remove_file(scratch.path()).unwrap();
        let missing = discover(&file).await.unwrap_err();
        assert!(missing.contains("can not be read"), "{missing}");
        std::fs::write(scratch.path(), "d:4").unwrap();
        assert_eq!(discover(&file).await.unwrap(), ["d:4"]);
    }

    #[tokio::test]
    async fn a_file_that_is_no_list_is_an_error_that_says_where() {
        for (content, word) in [
            ("a:1\nb\n", "line 2: `b`"),
            ("a:1, b:2\n", "line 1"),
            ("a:1\n\u{1b}[2J:1\n", "line 2: `\\u{1b}"),
            (&"a:1\n".repeat(ADDRESSES_MAX + 1), "more than 1024 addresses"),
            (&"#".repeat(FILE_BYTES_MAX + 1), "more than 65536 bytes"),
        ] {
            let scratch = Scratch::new("bad", content);
            let error = discover(&SeedsFile::new(scratch.path())).await.unwrap_err();
            assert!(error.contains(word), "{error}");
        }
        let binary = Scratch::new("binary", "");
        std::fs::write(binary.path(), [0xff, 0xfe]).unwrap();
        assert!(discover(&SeedsFile::new(binary.path())).await.unwrap_err().contains("UTF-8"));
        let folder = discover(&SeedsFile::new(std::env::temp_dir())).await.unwrap_err();
        assert!(folder.contains("not a regular file"), "{folder}");
    }
}
