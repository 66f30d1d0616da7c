//! The lines of a file, whatever it is.
//!
//! How it fails: of a line that is longer than the bound only the beginning is held; the next one is read.

use std::io::{self, BufRead};

/// What is held of a line; a piece's event has some 180 KiB.
const LINE_BYTES_MAX: usize = 4 << 20;

/// Reads lines.
pub struct Lines<R> {
    input: R,
    number: u64,
    offset: u64,
    buffer: Vec<u8>,
}

/// A line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line<'a> {
    /// The how-manieth, from 1.
    pub number: u64,
    /// Where it begins, in bytes of the unpacked file.
    pub offset: u64,
    /// What it says, without its end.
    pub bytes: &'a [u8],
    /// It is longer than what is held, and `bytes` are its beginning.
    pub is_cut: bool,
}

impl<R: BufRead> Lines<R> {
    /// Of this input.
    pub fn new(input: R) -> Lines<R> {
        Lines { input, number: 0, offset: 0, buffer: Vec::new() }
    }

    /// Where the next line begins.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The number of the last line.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The next line; `None` at the end.
    ///
    /// # Errors
    /// Those of the input, which has no more lines then.
    pub fn next_line(&mut self) -> io::Result<Option<Line<'_>>> {
        self.buffer.clear();
        let (start, mut is_cut, mut is_ended) = (self.offset, false, false);
        while !is_ended {
            let piece = match self.input.fill_buf() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                other => other?,
            };
            if piece.is_empty() {
                break;
            }
            let end = memchr::memchr(b'\n', piece);
            let text = piece.get(..end.unwrap_or(piece.len())).unwrap_or_default();
            let room = LINE_BYTES_MAX.saturating_sub(self.buffer.len());
            is_cut |= text.len() > room;
            self.buffer.extend_from_slice(text.get(..room).unwrap_or(text));
            let used = text.len() + usize::from(end.is_some());
            is_ended = end.is_some();
            self.input.consume(used);
            self.offset += used as u64;
        }
        if self.offset == start {
            return Ok(None);
        }
        self.number += 1;
        Ok(Some(Line { number: self.number, offset: start, bytes: &self.buffer, is_cut }))
    }
}
