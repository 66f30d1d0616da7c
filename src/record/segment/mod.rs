//! A segment: one file of a recording.
//!
//! Frames, each with its length and CRC32C, hold a head, blocks of entries, the books, and, at the end, an index. A block
//! is one zstd frame that is written in pieces: each piece is flushed, so that what was written before a crash is read
//! whatever comes behind it. A piece holds whole records. `docs/recording-format.md` has every byte.
//!
//! - [`frame`]: finding and checking frames; [`block`]: compressing and reading records; [`index`]: what is where
//! - [`Writer`]: a file that grows; [`Reader`]: a file that is read, in order or by the index

pub mod block;
pub mod frame;
pub mod index;
mod reader;
mod writer;

#[cfg(test)]
mod tests;

pub use reader::{Opened, Piece, Reader};
pub use writer::{Keys, Limits, OnFrame, Writer};

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An entry.
    Entry,
    /// Events of an entry that is still to come, because its content is large.
    Part,
    /// An entry that is sealed for its account.
    SealedEntry,
    /// A part that is sealed for its account.
    SealedPart,
    /// Of a later version; passed over.
    Other(u8),
}

impl Kind {
    /// The byte in front of a record.
    pub fn code(self) -> u8 {
        match self {
            Kind::Entry => 1,
            Kind::Part => 2,
            Kind::SealedEntry => 3,
            Kind::SealedPart => 4,
            Kind::Other(code) => code,
        }
    }

    /// The kind of this byte.
    pub fn of(code: u8) -> Kind {
        match code {
            1 => Kind::Entry,
            2 => Kind::Part,
            3 => Kind::SealedEntry,
            4 => Kind::SealedPart,
            other => Kind::Other(other),
        }
    }
}

/// The version of the format that is written. A reader reads this and all before; of a later one it says so.
pub const VERSION: u32 = 1;

/// How segments' names end.
pub const EXTENSION: &str = "slr";
