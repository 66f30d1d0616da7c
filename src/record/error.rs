//! What is wrong with a recording, and where.

use std::fmt;
use std::path::{Path, PathBuf};

/// A recording cannot be opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// The file or directory.
    pub path: PathBuf,
    /// What is wrong, and what to do.
    pub what: String,
}

impl Error {
    pub(super) fn new(path: &Path, what: impl Into<String>) -> Error {
        Error { path: path.into(), what: what.into() }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.path.display(), self.what)
    }
}

impl std::error::Error for Error {}

/// A place in a recording that cannot be read. What is behind it can.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The segment.
    pub path: PathBuf,
    /// The byte at which the frame begins.
    pub offset: u64,
    /// What is wrong.
    pub what: String,
    /// It is whole, but sealed, and its key is not here.
    pub is_sealed: bool,
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: byte {}: {}", self.path.display(), self.offset, self.what)
    }
}

impl std::error::Error for Problem {}
