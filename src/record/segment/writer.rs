//! A segment that is written.
//!
//! How it fails: a write that fails cuts the file back to its last whole frame, so that everything before stays readable;
//! the writer is of no use then. What was not flushed is lost, and [`Writer::unflushed`] says how many entries that are.

use super::block::{BLOCK_BYTES, Packer};
use super::frame::{self, HEAD_BYTES};
use super::index::{Block, Index, Term};
use super::{Kind, frame::Kind as FrameKind};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// What a segment may be.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes on disk, after which the next segment begins.
    pub segment_bytes: u64,
    /// Bytes of the index in memory, after which the next segment begins.
    pub index_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        // An index of 8 MiB is that of 64 MiB of the smallest exchanges.
        Limits { segment_bytes: 64 << 20, index_bytes: 8 << 20 }
    }
}

/// What is indexed of a record.
#[derive(Clone, Copy, Debug, Default)]
pub struct Keys<'a> {
    /// When the exchange began.
    pub started_ns: u64,
    /// Its trace.
    pub trace_id: Option<&'a [u8; 16]>,
    /// Its account.
    pub account_id: &'a [u8],
    /// Its user.
    pub user_id: &'a [u8],
    /// Its route.
    pub route: &'a [u8],
    /// The token of its parts.
    pub token: u64,
}

/// Is given each frame that was written: where it begins, and its bytes.
pub type OnFrame = Box<dyn Fn(u64, &[u8]) + Send>;

/// See the module.
pub struct Writer {
    file: File,
    path: PathBuf,
    on_frame: Option<OnFrame>,
    packer: Packer,
    index: Index,
    /// The block that is being made.
    block: Option<Block>,
    /// What is on disk.
    bytes: u64,
    frames: u64,
    entries: u64,
    /// Entries whose frame is not made yet, and those whose frame is not in the file yet.
    packed: u64,
    framed: u64,
    piece: Vec<u8>,
    /// Frames that are not in the file yet, and where each ends.
    frames_out: Vec<u8>,
    ends: Vec<usize>,
}

/// Frames are brought to the file when there are so many bytes of them: a call for each would cost more than it does.
const OUT_BYTES: usize = 128 << 10;

impl Writer {
    /// Creates the file, which must not exist, and writes its head.
    pub fn create(path: &Path, head: &[u8], level: i32) -> io::Result<Writer> {
        Writer::create_told(path, head, level, None)
    }

    /// The same; of each frame, from the head on, `on_frame` is told when it is in the file.
    pub fn create_told(
        path: &Path,
        head: &[u8],
        level: i32,
        on_frame: Option<OnFrame>,
    ) -> io::Result<Writer> {
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(path)?;
        let mut writer = Writer {
            file,
            path: path.into(),
            on_frame,
            packer: Packer::new(level)?,
            index: Index::default(),
            block: None,
            bytes: 0,
            frames: 0,
            entries: 0,
            packed: 0,
            framed: 0,
            piece: Vec::new(),
            frames_out: Vec::new(),
            ends: Vec::new(),
        };
        writer.put(FrameKind::Head, head)?;
        writer.write_out()?;
        Ok(writer)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes on disk.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Entries that were pushed.
    pub fn entries(&self) -> u64 {
        self.entries
    }

    /// Entries that are not on disk yet.
    pub fn unflushed(&self) -> u64 {
        self.packed + self.framed
    }

    /// Whether the next segment should begin.
    pub fn is_full(&self, limits: &Limits) -> bool {
        self.bytes >= limits.segment_bytes || self.index.bytes() >= limits.index_bytes
    }

    /// Adds a record, given in pieces that are one after the other.
    pub fn push(&mut self, kind: Kind, record: &[&[u8]], keys: &Keys<'_>) -> io::Result<()> {
        let is_entry = matches!(kind, Kind::Entry | Kind::SealedEntry);
        let block =
            self.block.get_or_insert(Block { offset: self.bytes, first_ns: u64::MAX, ..Block::default() });
        block.first_ns = block.first_ns.min(keys.started_ns);
        block.last_ns = block.last_ns.max(keys.started_ns);
        block.entries += u32::from(is_entry);
        let number = self.packer.block();
        if let Some(trace_id) = keys.trace_id.filter(|id| **id != [0; 16]) {
            self.index.note(Term::Trace(trace_id), number);
        }
        let texts = [Term::Account(keys.account_id), Term::User(keys.user_id), Term::Route(keys.route)];
        for term in texts {
            let (Term::Account(text) | Term::User(text) | Term::Route(text)) = term else { continue };
            if !text.is_empty() {
                self.index.note_in(term, number);
            }
        }
        if keys.token != 0 {
            self.index.note(Term::Part(keys.token), number);
        }
        self.entries += u64::from(is_entry);
        self.packed += u64::from(is_entry);
        self.packer.push(kind, record)?;
        if self.packer.raw_bytes() >= BLOCK_BYTES { self.end_block() } else { Ok(()) }
    }

    /// Brings everything to the file, so that a reader sees it whatever happens to this process.
    pub fn flush(&mut self) -> io::Result<()> {
        if !self.packer.is_empty() {
            let mut piece = std::mem::take(&mut self.piece);
            self.packer.flush(false, &mut piece)?;
            let put = self.put(FrameKind::Block, &piece);
            self.piece = piece;
            put?;
        }
        self.write_out()
    }

    fn end_block(&mut self) -> io::Result<()> {
        let Some(mut block) = self.block.take() else { return Ok(()) };
        block.raw_bytes = u32::try_from(self.packer.raw_bytes()).unwrap_or(u32::MAX);
        let mut piece = std::mem::take(&mut self.piece);
        self.packer.flush(true, &mut piece)?;
        let put = self.put(FrameKind::Block, &piece);
        self.piece = piece;
        put?;
        self.index.blocks.push(block);
        self.index.tidy();
        Ok(())
    }

    /// Asks the kernel to bring it to the disk.
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// Writes the books, the index and the end.
    pub fn finish(mut self, books: &[u8]) -> io::Result<()> {
        self.end_block()?;
        self.put(FrameKind::Books, books)?;
        let at = self.bytes;
        self.index.sort();
        let index = self.index.encode();
        self.put(FrameKind::Index, &index)?;
        let mut end = [0; END_BYTES];
        end[..8].copy_from_slice(&at.to_le_bytes());
        end[8..].copy_from_slice(&(index.len() as u64).to_le_bytes());
        self.put(FrameKind::End, &end)?;
        self.write_out()
    }

    /// Writes the books as they are now: what a reader knows of a segment that has no end.
    pub fn note_books(&mut self, books: &[u8]) -> io::Result<()> {
        self.put(FrameKind::Books, books)?;
        self.write_out()
    }

    fn put(&mut self, kind: FrameKind, payload: &[u8]) -> io::Result<()> {
        if kind == FrameKind::Block {
            self.framed += std::mem::take(&mut self.packed);
        }
        frame::put(&mut self.frames_out, kind, self.frames, payload);
        self.ends.push(self.frames_out.len());
        self.bytes += (HEAD_BYTES + payload.len()) as u64;
        self.frames += 1;
        if self.frames_out.len() >= OUT_BYTES { self.write_out() } else { Ok(()) }
    }

    /// Brings the frames to the file. After an error what was not in it is lost, and the file ends with a whole frame.
    fn write_out(&mut self) -> io::Result<()> {
        let written = self.bytes - self.frames_out.len() as u64;
        if let Err(error) = self.file.write_all(&self.frames_out) {
            // Half a frame would be found to be one at the end of a file that goes on: it does not.
            let _ = self.file.set_len(written);
            return Err(error);
        }
        if let Some(on_frame) = &self.on_frame {
            let mut from = 0;
            for end in &self.ends {
                on_frame(written + from as u64, self.frames_out.get(from..*end).unwrap_or_default());
                from = *end;
            }
        }
        self.framed = 0;
        self.ends.clear();
        self.frames_out.clear();
        self.frames_out.shrink_to(2 * OUT_BYTES);
        Ok(())
    }
}

/// The payload of the last frame: where the index frame begins, and how long its payload is.
pub(super) const END_BYTES: usize = 16;
