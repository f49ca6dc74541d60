//! The secret that all nodes of a cluster share.

use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use thiserror::Error;

/// Fewest bytes of a secret.
const SECRET_BYTES_MIN: usize = 16;
/// Most bytes of a secret.
const SECRET_BYTES_MAX: usize = 4096;

/// Why a secret is refused. None of these texts shows any of its bytes.
#[derive(Debug, Error)]
pub enum SecretError {
    /// It could be guessed.
    #[error("a secret has at least {SECRET_BYTES_MIN} bytes, this one has {bytes}")]
    TooShort {
        /// Its length.
        bytes: usize,
    },
    /// It is no secret but some other file.
    #[error("a secret has at most {SECRET_BYTES_MAX} bytes")]
    TooLong,
    /// The file can not be read.
    #[error("can not read the secret file {path}: {error}", path = path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
    /// Other users of the machine could read or change it.
    #[error(
        "the secret file {path} has mode {mode:03o}: only its owner may have access (chmod 600)",
        path = path.display()
    )]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
}

/// What a node must know to be let into the cluster: 16 to 4,096 bytes.
///
/// It is proven in the handshake and never sent. `Debug` does not show it.
#[derive(Clone)]
pub struct Secret(Arc<[u8]>);

impl Secret {
    /// Checks `bytes`, which are used as they are.
    ///
    /// # Errors
    /// [`SecretError::TooShort`] or [`SecretError::TooLong`].
    pub fn new(bytes: impl AsRef<[u8]>) -> Result<Self, SecretError> {
        let bytes = bytes.as_ref();
        match bytes.len() {
            0..SECRET_BYTES_MIN => Err(SecretError::TooShort { bytes: bytes.len() }),
            SECRET_BYTES_MIN..=SECRET_BYTES_MAX => Ok(Self(Arc::from(bytes))),
            _ => Err(SecretError::TooLong),
        }
    }

    /// Reads a file. White space at its end is no part of the secret, since editors and `echo` add it.
    ///
    /// # Errors
    /// [`SecretError`]; on Unix also when anybody but the owner may read, write or execute the file.
    ///
    /// # Blocking
    /// Reads one small file.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, SecretError> {
        let path = path.as_ref();
        let unreadable = |error| SecretError::Unreadable { path: path.to_owned(), error };
        let file = std::fs::File::open(path).map_err(unreadable)?;
        // The mode of the opened file, not of the path: another file may stand there a moment later.
        refuse_exposed(path, &file.metadata().map_err(unreadable)?)?;
        let mut bytes = Vec::new();
        let limit = SECRET_BYTES_MAX as u64 + 64;
        file.take(limit).read_to_end(&mut bytes).map_err(unreadable)?;
        Self::new(bytes.trim_ascii_end())
    }

    /// The bytes, for the proof.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(unix)]
fn refuse_exposed(path: &Path, metadata: &std::fs::Metadata) -> Result<(), SecretError> {
    use std::os::unix::fs::PermissionsExt;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 == 0 { Ok(()) } else { Err(SecretError::Exposed { path: path.to_owned(), mode }) }
}

#[cfg(not(unix))]
fn refuse_exposed(_: &Path, _: &std::fs::Metadata) -> Result<(), SecretError> {
    Ok(())
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// A file of its own that is removed at the end of the test.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str, content: &[u8], mode: u32) -> Self {
            let path = std::env::temp_dir().join(format!("whimbrel-{}-{name}", std::process::id()));
            std::fs::write(&path, content).unwrap();
            #[cfg(unix)]
            {
                use std::os::unix::fs::PermissionsExt;
                std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            }
            let _ = mode;
            Self(path)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(&self.0);
        }
    }

    #[test]
    fn a_short_or_endless_secret_is_refused() {
        assert!(matches!(Secret::new(b"fifteen bytes.."), Err(SecretError::TooShort { bytes: 15 })));
        assert!(Secret::new(b"sixteen bytes...").is_ok());
        assert!(matches!(Secret::new(vec![7; SECRET_BYTES_MAX + 1]), Err(SecretError::TooLong)));
    }

    #[test]
    fn white_space_at_the_end_of_the_file_does_not_count() {
        let file = Scratch::new("newline", b"0123456789abcdef\n", 0o600);
        assert_eq!(Secret::from_file(&file.0).unwrap().as_bytes(), b"0123456789abcdef");
        let blank = Scratch::new("blank", &[b' '; 64], 0o600);
        assert!(matches!(Secret::from_file(&blank.0), Err(SecretError::TooShort { bytes: 0 })));
    }

    #[cfg(unix)]
    #[test]
    fn a_file_that_others_may_read_is_refused_with_its_mode() {
        for mode in [0o644, 0o640, 0o604, 0o620, 0o601] {
            let file = Scratch::new(&format!("mode-{mode:o}"), b"0123456789abcdef", mode);
            let refused = Secret::from_file(&file.0).unwrap_err().to_string();
            assert!(refused.contains(&format!("{mode:03o}")), "{refused}");
            assert!(!refused.contains("0123456789"), "{refused}");
        }
    }

    #[test]
    fn a_missing_file_is_named_and_debug_shows_no_byte() {
        let missing = Secret::from_file("no-such-secret-file").unwrap_err().to_string();
        assert!(missing.contains("no-such-secret-file"), "{missing}");
        assert_eq!(format!("{:?}", Secret::new(b"0123456789abcdef").unwrap()), "Secret(..)");
    }
}
