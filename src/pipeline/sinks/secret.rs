//! A secret in a file: a token, a key.
//!
//! What: its text without the white space around it, read at start and again by [`Secret::reload`], which a sink calls when
//! it was told that it may not (401, 403): so a token that an operator replaced works without a restart. Why files: they can
//! be mounted, rotated and kept out of the configuration. How it fails: one line that names the file, never the secret.

use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Longest secret; a session token of AWS has some 1,000 characters.
const SECRET_BYTES_MAX: u64 = 16 << 10;

/// See the module.
pub(crate) struct Secret {
    path: PathBuf,
    value: String,
}

impl Secret {
    /// Reads the file; a relative path counts from `base_dir`.
    ///
    /// # Errors
    /// It cannot be read, is empty or too long, or holds what cannot stand in a header.
    pub(crate) fn read(path: &Path, base_dir: &Path) -> Result<Secret, String> {
        let path = base_dir.join(path);
        let value = read(&path)?;
        Ok(Secret { path, value })
    }

    /// The secret.
    pub(crate) fn get(&self) -> &str {
        &self.value
    }

    /// Reads the file again. Returns whether there is another secret now; a file that cannot be read changes nothing.
    pub(crate) fn reload(&mut self) -> bool {
        match read(&self.path) {
            Ok(value) if value != self.value => {
                self.value = value;
                true
            }
            _ => false,
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secret").field("path", &self.path).finish_non_exhaustive()
    }
}

fn read(path: &Path) -> Result<String, String> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(SECRET_BYTES_MAX + 1).read_to_end(&mut bytes))
        .map_err(|error| format!("cannot read the secret in {}: {error}", path.display()))?;
    let bytes = bytes.trim_ascii();
    let is_printable = bytes.iter().all(u8::is_ascii_graphic);
    match str::from_utf8(bytes) {
        Ok(text) if is_printable && !text.is_empty() && text.len() as u64 <= SECRET_BYTES_MAX => {
            Ok(text.to_owned())
        }
        _ => Err(format!(
            "{} is not a secret: one line of printable characters is expected, at most {SECRET_BYTES_MAX} bytes",
            path.display()
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_one_line_and_is_never_told() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        for (bytes, is_good) in [
            (b" s3cret+/=\r\n".as_slice(), true),
            (b"", false),
            (b"\n", false),
            (b"two words", false),
            (b"two\nlines", false),
            (b"\xff", false),
            (&[b'x'; 20_000], false),
        ] {
            std::fs::write(&path, bytes).unwrap();
            let read = Secret::read(Path::new("token"), directory.path());
            assert_eq!(read.is_ok(), is_good, "{read:?}");
            if !is_good {
                assert!(read.unwrap_err().contains("token"));
            }
        }
    }

    #[test]
    fn one_that_was_replaced_is_read_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        std::fs::write(&path, "old").unwrap();
        let mut secret = Secret::read(&path, directory.path()).unwrap();
        assert!(!secret.reload());
        std::fs::write(&path, "new\n").unwrap();
        assert!(secret.reload());
        assert_eq!(secret.get(), "new");
        std::fs::remove_file(&path).unwrap();
        assert!(!secret.reload());
        assert_eq!(secret.get(), "new");
        assert!(!format!("{secret:?}").contains("new"));
    }
}
