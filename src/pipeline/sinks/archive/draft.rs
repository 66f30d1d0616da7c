//! A file of a partition that is not complete yet.

use super::config::Format;
use super::ndjson::Ndjson;
use super::partition::Partition;
#[cfg(feature = "parquet")]
use super::table::Table;
use super::target::Target;
use std::io;
use std::time::Instant;

/// See the module.
pub(super) struct Draft {
    /// Where its events belong.
    pub(super) partition: Partition,
    /// `<instance>-<epoch>-<first sequence>.<ending>`.
    pub(super) name: String,
    /// The first event in it.
    pub(super) first: u64,
    /// The last event in it.
    pub(super) last: u64,
    /// Bytes of events, as they came.
    pub(super) bytes: usize,
    /// When it was begun.
    pub(super) begun_at: Instant,
    content: Content,
}

enum Content {
    Ndjson(Ndjson),
    #[cfg(feature = "parquet")]
    Parquet(Box<Table>),
}

impl Format {
    /// How names of such files end.
    pub(super) fn ending(self) -> &'static str {
        match self {
            Format::Ndjson => "ndjson.zst",
            Format::Parquet => "parquet",
        }
    }

    /// Whether this build can write it.
    ///
    /// # Errors
    /// It cannot; what to do.
    pub(super) fn check(self) -> Result<(), String> {
        if self == Format::Parquet && cfg!(not(feature = "parquet")) {
            return Err(
                "this build has no Parquet: build with `--features parquet`, or write `format: ndjson`"
                    .into(),
            );
        }
        Ok(())
    }
}

impl Draft {
    /// A file without events, whose first will be `first`.
    ///
    /// # Errors
    /// What it is written to.
    pub(super) fn new(
        (format, level): (Format, i32),
        partition: Partition,
        name: String,
        first: u64,
        target: Target,
    ) -> io::Result<Draft> {
        let content = match format {
            Format::Ndjson => Content::Ndjson(Ndjson::new(target, level)?),
            #[cfg(feature = "parquet")]
            Format::Parquet => Content::Parquet(Box::new(Table::new(target, level)?)),
            #[cfg(not(feature = "parquet"))]
            Format::Parquet => return Err(io::Error::other("this build has no Parquet")),
        };
        Ok(Draft { partition, name, first, last: first, bytes: 0, begun_at: Instant::now(), content })
    }

    /// Appends an event.
    ///
    /// # Errors
    /// What it is written to; the file is of no use then.
    pub(super) fn push(&mut self, sequence: u64, event: &[u8]) -> io::Result<()> {
        self.last = sequence;
        self.bytes = self.bytes.saturating_add(event.len() + 1);
        match &mut self.content {
            Content::Ndjson(lines) => lines.push(event),
            #[cfg(feature = "parquet")]
            Content::Parquet(table) => table.push(event),
        }
    }

    /// Bytes that it holds in memory.
    pub(super) fn held(&self) -> usize {
        match &self.content {
            Content::Ndjson(lines) => lines.held(),
            #[cfg(feature = "parquet")]
            Content::Parquet(table) => table.held(),
        }
    }

    /// Completes the content.
    ///
    /// # Errors
    /// What it is written to; the file is of no use then.
    pub(super) fn finish(self) -> io::Result<Target> {
        match self.content {
            Content::Ndjson(lines) => lines.finish(),
            #[cfg(feature = "parquet")]
            Content::Parquet(table) => table.finish(),
        }
    }
}
