//! What is where in a segment: blocks with their times, and in which of them a trace, an account, a user or a route is.
//!
//! The index is two tables of fixed rows, the second sorted, so that a reader looks into the file and holds nothing.
//! A key is the XXH3 (64 bits) of `trace:`, `account:`, `user:`, `route:` or `part:` and the value. Where the index is
//! missing (the process was killed) or does not fit, a scan of the segment makes it anew.

use std::io::{Read, Seek, SeekFrom};
use twox_hash::XxHash3_64;

/// A block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Block {
    /// Where its first frame begins.
    pub offset: u64,
    /// The first start of an entry in it, nanoseconds since 1970.
    pub first_ns: u64,
    /// The last one.
    pub last_ns: u64,
    /// How many entries it has.
    pub entries: u32,
    /// How many bytes it has uncompressed.
    pub raw_bytes: u32,
}

const HEAD_BYTES: usize = 16;
const BLOCK_BYTES: usize = 32;
const POSTING_BYTES: usize = 12;
/// How far back a term is looked for before it is noted again.
const RECENT: usize = 16;

/// What is indexed of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Term<'a> {
    /// A trace.
    Trace(&'a [u8; 16]),
    /// An account.
    Account(&'a [u8]),
    /// A user.
    User(&'a [u8]),
    /// A route.
    Route(&'a [u8]),
    /// The parts of one entry.
    Part(u64),
}

impl Term<'_> {
    /// The key.
    pub fn hash(self) -> u64 {
        let (prefix, value): (&[u8], &[u8]) = match &self {
            Term::Trace(id) => (b"trace:", *id),
            Term::Account(id) => (b"account:", id),
            Term::User(id) => (b"user:", id),
            Term::Route(name) => (b"route:", name),
            Term::Part(token) => (b"part:", &token.to_le_bytes()),
        };
        let mut text = [0; 128];
        match text.get_mut(..prefix.len() + value.len()) {
            Some(text) => {
                let (start, end) = text.split_at_mut(prefix.len());
                start.copy_from_slice(prefix);
                end.copy_from_slice(value);
                XxHash3_64::oneshot(text)
            }
            None => XxHash3_64::oneshot(&[prefix, value].concat()),
        }
    }
}

/// An index in memory: while a segment is written, or made by a scan.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Index {
    /// The blocks in their order.
    pub blocks: Vec<Block>,
    /// Key and block; sorted by [`Index::sort`].
    postings: Vec<(u64, u32)>,
    /// How many postings earlier blocks have; behind them are those of the block that is being made.
    settled: usize,
}

impl Index {
    /// Notes that a term occurs in this block.
    pub fn note(&mut self, term: Term<'_>, block: u32) {
        self.postings.push((term.hash(), block));
    }

    /// As [`Index::note`], for terms that most entries of a block share.
    pub fn note_in(&mut self, term: Term<'_>, block: u32) {
        let posting = (term.hash(), block);
        // The last few entries are mostly of the same routes and accounts; the rest is dropped with the block.
        let recent = self.postings.len().saturating_sub(RECENT).max(self.settled);
        if !self.postings.get(recent..).unwrap_or_default().contains(&posting) {
            self.postings.push(posting);
        }
    }

    /// A block has ended: what it has twice is dropped.
    pub fn tidy(&mut self) {
        if let Some(block) = self.postings.get_mut(self.settled..) {
            block.sort_unstable();
        }
        let (settled, mut kept) = (self.settled, self.settled);
        for at in settled..self.postings.len() {
            if at == settled
                || self.postings.get(at) != kept.checked_sub(1).and_then(|last| self.postings.get(last))
            {
                self.postings.swap(kept, at);
                kept += 1;
            }
        }
        self.postings.truncate(kept);
        self.settled = kept;
    }

    /// Bytes that it holds, about.
    pub fn bytes(&self) -> usize {
        self.postings.capacity() * 16 + self.blocks.capacity() * BLOCK_BYTES
    }

    /// Sorts, and drops what is twice.
    pub fn sort(&mut self) {
        self.postings.sort_unstable();
        self.postings.dedup();
    }

    /// The payload of an index frame. Sort before.
    pub fn encode(&self) -> Vec<u8> {
        let bytes = HEAD_BYTES + self.blocks.len() * BLOCK_BYTES + self.postings.len() * POSTING_BYTES;
        let mut out = Vec::with_capacity(bytes);
        out.extend_from_slice(&(self.blocks.len() as u64).to_le_bytes());
        out.extend_from_slice(&(self.postings.len() as u64).to_le_bytes());
        for block in &self.blocks {
            out.extend_from_slice(&block.offset.to_le_bytes());
            out.extend_from_slice(&block.first_ns.to_le_bytes());
            out.extend_from_slice(&block.last_ns.to_le_bytes());
            out.extend_from_slice(&block.entries.to_le_bytes());
            out.extend_from_slice(&block.raw_bytes.to_le_bytes());
        }
        for (key, block) in &self.postings {
            out.extend_from_slice(&key.to_le_bytes());
            out.extend_from_slice(&block.to_le_bytes());
        }
        out
    }

    /// The blocks that have the term, ascending. Sort before.
    pub fn blocks_of(&self, term: Term<'_>) -> Vec<u32> {
        let key = term.hash();
        let from = self.postings.partition_point(|(other, _)| *other < key);
        let found = self.postings.get(from..).unwrap_or_default();
        found.iter().take_while(|(other, _)| *other == key).map(|(_, block)| *block).collect()
    }
}

/// An index in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    /// The blocks in their order.
    pub blocks: Vec<Block>,
    /// Where the postings begin.
    postings_at: u64,
    postings: u64,
}

fn number<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

impl Placed {
    /// Reads the table of blocks of the index whose payload begins at `at` and is `len` bytes long; `None` if it is no
    /// index of a file of `file_bytes`.
    pub fn read(file: &mut (impl Read + Seek), at: u64, len: u64, file_bytes: u64) -> Option<Placed> {
        let mut head = [0; HEAD_BYTES];
        file.seek(SeekFrom::Start(at)).ok()?;
        file.read_exact(&mut head).ok()?;
        let blocks = u64::from_le_bytes(number(&head, 0)?);
        let postings = u64::from_le_bytes(number(&head, 8)?);
        let blocks_bytes = blocks.checked_mul(BLOCK_BYTES as u64)?;
        let whole = postings.checked_mul(POSTING_BYTES as u64)?.checked_add(blocks_bytes)?;
        if whole.checked_add(HEAD_BYTES as u64)? != len || at.checked_add(len)? > file_bytes {
            return None;
        }
        let mut table = vec![0; usize::try_from(blocks_bytes).ok()?];
        file.read_exact(&mut table).ok()?;
        let blocks = table.chunks_exact(BLOCK_BYTES).map(|row| {
            Some(Block {
                offset: u64::from_le_bytes(number(row, 0)?),
                first_ns: u64::from_le_bytes(number(row, 8)?),
                last_ns: u64::from_le_bytes(number(row, 16)?),
                entries: u32::from_le_bytes(number(row, 24)?),
                raw_bytes: u32::from_le_bytes(number(row, 28)?),
            })
        });
        let blocks = blocks.collect::<Option<Vec<_>>>()?;
        Some(Placed { blocks, postings_at: at + HEAD_BYTES as u64 + blocks_bytes, postings })
    }

    /// The blocks that have the term, ascending; reads some twenty rows.
    pub fn blocks_of(&self, file: &mut (impl Read + Seek), term: Term<'_>) -> std::io::Result<Vec<u32>> {
        let key = term.hash();
        let mut row = |at: u64| -> std::io::Result<(u64, u32)> {
            let mut row = [0; POSTING_BYTES];
            file.seek(SeekFrom::Start(self.postings_at + at * POSTING_BYTES as u64))?;
            file.read_exact(&mut row)?;
            let key = number(&row, 0).map_or(0, u64::from_le_bytes);
            Ok((key, number(&row, 8).map_or(0, u32::from_le_bytes)))
        };
        let (mut low, mut high) = (0, self.postings);
        while low < high {
            let middle = low + (high - low) / 2;
            if row(middle)?.0 < key { low = middle + 1 } else { high = middle }
        }
        let mut found = Vec::new();
        for at in low..self.postings {
            match row(at)? {
                (other, block) if other == key => found.push(block),
                _ => break,
            }
        }
        Ok(found)
    }
}
