//! A secret of any text in a file: a password with spaces, or a file of credentials with many lines. Read at start.
//!
//! How it fails: the error names the option and the file, never what is in it.

use std::fs::File;
use std::io::Read;
use std::path::Path;

/// More is no secret but a wrong file.
const BYTES_MAX: u64 = 64 << 10;

/// The text of a file, without spaces and line ends around it. Relative paths start at `base_dir`.
///
/// # Errors
/// The file cannot be read, is empty, is longer than 64 KiB, or is no text.
pub(super) fn read(option: &str, base_dir: &Path, path: &Path) -> Result<String, String> {
    let path = base_dir.join(path);
    let wrong = |why: &dyn std::fmt::Display| format!("{option}: {}: {why}", path.display());
    let mut text = String::new();
    let file = File::open(&path).map_err(|error| wrong(&error))?;
    let len = file.take(BYTES_MAX + 1).read_to_string(&mut text).map_err(|error| wrong(&error))?;
    if len as u64 > BYTES_MAX {
        return Err(wrong(&"longer than 64 KiB: is it the right file?"));
    }
    match text.trim() {
        "" => Err(wrong(&"is empty")),
        secret => Ok(secret.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_a_file_and_errors_do_not_tell_it() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, bytes: &[u8]| std::fs::write(directory.path().join(name), bytes).unwrap();
        write("good", b" hunter2\n");
        write("empty", b"\n");
        write("binary", b"hunter2\xff");
        write("long", "hunter2".repeat(10_000).as_bytes());
        let get = |name: &str| read("token_file", directory.path(), Path::new(name));
        assert_eq!(get("good").unwrap(), "hunter2");
        for name in ["missing", "empty", "binary", "long"] {
            let error = get(name).unwrap_err();
            assert!(error.starts_with("token_file: ") && error.contains(name), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}
