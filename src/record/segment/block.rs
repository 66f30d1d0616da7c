//! Blocks: records, compressed together, and read again piece by piece.
//!
//! A piece is the number of its block (4 bytes, little endian), flags (1: the first piece, 2: the last one) and a stretch
//! of that block's zstd frame, flushed. A record is a varint (how long it is), its kind (1 byte) and its bytes. How it
//! fails: [`Expander`] stops at the first byte that cannot be right; a block may expand to [`RAW_BYTES_MAX`] and no further.

use super::Kind;
use crate::record::wire;
use bytes::Bytes;
use std::io;
use zstd::stream::raw::{CParameter, Decoder, Encoder, InBuffer, Operation, OutBuffer};

/// Records of so many bytes make a block.
pub const BLOCK_BYTES: usize = 256 << 10;
/// The longest record, which may stand alone in a block: what an exchange may hold in memory.
pub const RECORD_BYTES_MAX: usize = 64 << 20;
/// What a block may expand to.
pub const RAW_BYTES_MAX: usize = RECORD_BYTES_MAX + BLOCK_BYTES;
/// Bytes of a piece before its data.
pub const PIECE_HEAD_BYTES: usize = 5;
const FIRST: u8 = 1;
const LAST: u8 = 2;

/// Compresses records. One block at a time.
pub struct Packer {
    encoder: Encoder<'static>,
    /// Records that were not compressed yet.
    pending: Vec<u8>,
    /// The piece so far.
    piece: Vec<u8>,
    block: u32,
    raw_bytes: usize,
    has_piece: bool,
}

/// Pending records are compressed when there are so many bytes of them: a call for each would cost more than it does.
const PENDING_BYTES: usize = 32 << 10;

impl Packer {
    /// With a compression level of zstd.
    pub fn new(level: i32) -> io::Result<Packer> {
        let mut encoder = Encoder::new(level)?;
        // A block is no longer than this; a larger window would only be memory.
        encoder.set_parameter(CParameter::WindowLog(18))?;
        Ok(Packer {
            encoder,
            pending: Vec::new(),
            piece: Vec::new(),
            block: 0,
            raw_bytes: 0,
            has_piece: false,
        })
    }

    /// The number of the block that is being made.
    pub fn block(&self) -> u32 {
        self.block
    }

    /// Bytes in the block so far.
    pub fn raw_bytes(&self) -> usize {
        self.raw_bytes
    }

    /// Whether something waits to be flushed.
    pub fn is_empty(&self) -> bool {
        self.pending.is_empty() && self.piece.is_empty()
    }

    /// Adds a record that `write` writes.
    pub fn push(&mut self, kind: Kind, record: &[&[u8]]) -> io::Result<()> {
        let len: usize = record.iter().map(|part| part.len()).sum();
        let before = self.pending.len();
        wire::put_varint(&mut self.pending, len as u64);
        self.pending.push(kind.code());
        record.iter().for_each(|part| self.pending.extend_from_slice(part));
        self.raw_bytes += self.pending.len() - before;
        if self.pending.len() >= PENDING_BYTES { self.compress() } else { Ok(()) }
    }

    fn head(&mut self) {
        if self.piece.is_empty() {
            self.piece.extend_from_slice(&self.block.to_le_bytes());
            self.piece.push(if self.has_piece { 0 } else { FIRST });
            self.has_piece = true;
        }
    }

    fn compress(&mut self) -> io::Result<()> {
        self.head();
        let pending = std::mem::take(&mut self.pending);
        let mut input = InBuffer::around(&pending);
        while input.pos() < pending.len() {
            room(&mut self.piece);
            let at = self.piece.len();
            let mut output = OutBuffer::around_pos(&mut self.piece, at);
            self.encoder.run(&mut input, &mut output)?;
        }
        self.pending = pending;
        self.pending.clear();
        if self.pending.capacity() > 4 * PENDING_BYTES {
            self.pending = Vec::new();
        }
        Ok(())
    }

    /// Ends the piece, so that all of it can be read; with `is_last` the block too. Gives it to `write`.
    pub fn flush(&mut self, is_last: bool, out: &mut Vec<u8>) -> io::Result<()> {
        self.compress()?;
        loop {
            room(&mut self.piece);
            let at = self.piece.len();
            let mut output = OutBuffer::around_pos(&mut self.piece, at);
            let left = match is_last {
                true => self.encoder.finish(&mut output, false)?,
                false => self.encoder.flush(&mut output)?,
            };
            if left == 0 {
                break;
            }
        }
        if is_last {
            if let Some(flags) = self.piece.get_mut(4) {
                *flags |= LAST;
            }
            self.begin()?;
        }
        out.clear();
        out.append(&mut self.piece);
        Ok(())
    }

    /// Begins the next block.
    fn begin(&mut self) -> io::Result<()> {
        self.encoder.reinit()?;
        self.block = self.block.wrapping_add(1);
        self.raw_bytes = 0;
        self.has_piece = false;
        Ok(())
    }

    /// As new, for the next segment.
    pub fn restart(&mut self) -> io::Result<()> {
        self.pending.clear();
        self.piece.clear();
        self.begin()?;
        self.block = 0;
        Ok(())
    }
}

fn room(out: &mut Vec<u8>) {
    if out.capacity() - out.len() < 4 << 10 {
        out.reserve(16 << 10);
    }
}

/// A record that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// What it is.
    pub kind: Kind,
    /// Its bytes.
    pub bytes: Bytes,
}

/// Why a piece cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damaged(pub String);

/// Reads blocks, piece by piece.
pub struct Expander {
    decoder: Decoder<'static>,
    /// The block whose pieces are read; `None`: its beginning is missing or a piece was damaged.
    block: Option<u32>,
    raw_bytes: usize,
}

impl Expander {
    /// Before the first piece.
    pub fn new() -> io::Result<Expander> {
        Ok(Expander { decoder: Decoder::new()?, block: None, raw_bytes: 0 })
    }

    /// The records of a piece. An error leaves out the rest of its block.
    pub fn piece(&mut self, piece: &[u8]) -> Result<(u32, Vec<Record>), Damaged> {
        let damaged = |what: &str| Damaged(what.into());
        let (head, data) =
            piece.split_first_chunk::<PIECE_HEAD_BYTES>().ok_or(damaged("a piece without a head"))?;
        let block = u32::from_le_bytes([head[0], head[1], head[2], head[3]]);
        if head[4] & FIRST != 0 {
            self.decoder.reinit().map_err(|error| Damaged(error.to_string()))?;
            (self.block, self.raw_bytes) = (Some(block), 0);
        } else if self.block != Some(block) {
            self.block = None;
            return Err(damaged("a piece whose block has lost its beginning"));
        }
        let records = self.expand(data).and_then(|raw| records(&raw));
        if records.is_err() {
            self.block = None;
        }
        Ok((block, records?))
    }

    /// What follows in this block cannot be read.
    pub fn lose(&mut self) {
        self.block = None;
    }

    fn expand(&mut self, data: &[u8]) -> Result<Bytes, Damaged> {
        let mut raw = Vec::with_capacity((data.len() * 8).min(BLOCK_BYTES + (4 << 10)));
        let mut input = InBuffer::around(data);
        loop {
            if raw.capacity() == raw.len() {
                raw.reserve(64 << 10);
            }
            let at = raw.len();
            let mut output = OutBuffer::around_pos(&mut raw, at);
            let run = self.decoder.run(&mut input, &mut output);
            run.map_err(|error| Damaged(format!("not compressed as it should be: {error}")))?;
            let is_stuck = raw.len() == at;
            if self.raw_bytes + raw.len() > RAW_BYTES_MAX {
                return Err(Damaged(format!("a block that expands to more than {RAW_BYTES_MAX} bytes")));
            }
            if input.pos() == data.len() && (is_stuck || raw.len() < raw.capacity()) {
                break;
            }
            if is_stuck && raw.len() < raw.capacity() {
                return Err(Damaged("more bytes than its block has".into()));
            }
        }
        self.raw_bytes += raw.len();
        Ok(raw.into())
    }
}

fn records(raw: &Bytes) -> Result<Vec<Record>, Damaged> {
    let mut records = Vec::new();
    let mut rest: &[u8] = raw;
    while !rest.is_empty() {
        let record = wire::varint(rest).and_then(|(len, after)| {
            let (kind, after) = after.split_first()?;
            let (bytes, after) = after.split_at_checked(usize::try_from(len).ok()?)?;
            let bytes = if bytes.is_empty() { Bytes::new() } else { raw.slice_ref(bytes) };
            Some((Record { kind: Kind::of(*kind), bytes }, after))
        });
        let Some((record, after)) = record else { return Err(Damaged("a record that is cut off".into())) };
        records.push(record);
        rest = after;
    }
    Ok(records)
}
