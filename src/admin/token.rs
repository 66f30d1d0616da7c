//! The token that changes need.

use std::io::{self, Read};
use std::path::Path;

/// A token file larger than this is not one.
const TOKEN_BYTES_MAX: u64 = 4096;

/// Whether `given` is the token in the file. An empty file matches nothing.
///
/// # Errors
/// The file cannot be read, is too large or is empty; then nothing may be changed.
pub(super) fn matches(file: &Path, given: &[u8]) -> io::Result<bool> {
    let mut token = Vec::new();
    std::fs::File::open(file)?.take(TOKEN_BYTES_MAX + 1).read_to_end(&mut token)?;
    if token.len() as u64 > TOKEN_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the token file is too large"));
    }
    let token = token.trim_ascii();
    if token.is_empty() {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the token file is empty"));
    }
    Ok(is_same(token, given))
}

/// Compares without telling by the time it takes where the first difference is.
fn is_same(one: &[u8], other: &[u8]) -> bool {
    let differences = one.iter().zip(other).fold(0, |seen, (a, b)| std::hint::black_box(seen | (a ^ b)));
    one.len() == other.len() && differences == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_token_matches() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("token");
        std::fs::write(&file, " s3cret\n").unwrap();
        assert!(matches(&file, b"s3cret").unwrap());
        for wrong in ["", "s3cre", "s3cret ", "s3crets", "S3cret"] {
            assert!(!matches(&file, wrong.as_bytes()).unwrap(), "{wrong}");
        }
        std::fs::write(&file, "\n").unwrap();
        assert!(matches(&file, b"").is_err(), "an empty file is no open door");
        assert!(matches(&directory.path().join("absent"), b"x").is_err());
    }
}
