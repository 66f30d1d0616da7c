//! While the disk refuses bytes, and while there is none.
//!
//! What: a write that fails (no space, an I/O error, a directory that went away) ends the current file where it was whole,
//! and puts its events into a segment in memory; so do all that follow. Cursors read on without a difference. Once a second
//! the disk is tried again: segments go from memory to files in order, and then appending does. Why not wait: the proxy
//! does not stop for a disk (Vector exits on it). How it fails: see [`super::budget`] for when memory is full.

use super::Class;
use super::pieces::Pieces;
use super::segment::{HEADER_BYTES, Segment, Storage, lock};
use super::writer::{Active, Writer, create, extend, temporary};
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Between two tries.
const RETRY_EVERY: Duration = Duration::from_secs(1);
/// Segments that go from memory to the disk in one tick: a few milliseconds.
pub(super) const RESTORED_MAX: usize = 4;

impl Writer {
    /// The disk refused the buffer: from here on, memory.
    pub(super) fn fail(&mut self, error: &io::Error) {
        self.note_error(error);
        tracing::warn!(%error, "the spool's disk refuses: events go through memory");
        self.set_in_memory(true);
        self.retry_at = None;
        let Some(Active { segment, file }) = self.active.take() else { return };
        if segment.len() == 0 {
            // A new file, without anything that was published.
            if let Some(directory) = &self.shared.config.directory {
                let _ = std::fs::remove_file(segment.path(directory));
            }
            return;
        }
        // What was written of the buffer will be written again; were it to stay, it would be there twice, and read once.
        if let Some(file) = file {
            let _ = file.set_len(segment.len());
            self.keep_unsynced(file, &segment);
        }
        segment.seal();
    }

    fn note_error(&mut self, error: &io::Error) {
        self.last_error = Some(error.kind());
        self.shared.write_errors.fetch_add(1, Ordering::AcqRel);
    }

    fn set_in_memory(&mut self, is_in_memory: bool) {
        self.is_in_memory = is_in_memory;
        self.shared.is_in_memory.store(is_in_memory, Ordering::Release);
    }

    /// Writes the buffer to the current segment in memory, or to a new one.
    pub(super) fn write_memory(&mut self) {
        let active = match self.active.take() {
            Some(active) => active,
            None => {
                // The frames are in the buffer already: the segment has their salt.
                let pieces = Pieces::new(&self.header(self.buffer_first, 0, self.salt));
                self.shared.memory_bytes.fetch_add(HEADER_BYTES as u64, Ordering::AcqRel);
                let storage = Storage::Memory(pieces.into());
                let segment = Arc::new(Segment::new(self.buffer_first, 0, Some(self.salt), storage));
                segment.len.store(HEADER_BYTES as u64, Ordering::Release);
                lock(&self.shared.index).segments.push_back(Arc::clone(&segment));
                Active { segment, file: None }
            }
        };
        self.cut_piece();
        let bytes: u64 = self.pieces.iter().map(|piece| piece.len() as u64).sum();
        if let Storage::Memory(pieces) = &active.segment.storage {
            let mut pieces = lock(pieces);
            self.pieces.drain(..).for_each(|piece| pieces.push(piece));
        }
        self.shared.memory_bytes.fetch_add(bytes, Ordering::AcqRel);
        let len = active.segment.len() + bytes;
        extend(&active.segment, len, self.sequence(), &self.buffer_tally);
        self.active = Some(active);
    }

    /// Tries the disk again, when it is time. At most so many segments go to it.
    pub(super) fn restore(&mut self, now: Instant, segments_max: usize) {
        if !self.is_in_memory || self.shared.config.directory.is_none() {
            return;
        }
        if *self.retry_at.get_or_insert(now) > now {
            return;
        }
        if let Err(error) = self.restore_some(segments_max) {
            self.retry_at = Some(now + RETRY_EVERY);
            self.note_error(&error);
        }
    }

    fn restore_some(&mut self, segments_max: usize) -> io::Result<()> {
        self.probe()?;
        self.seal();
        for _ in 0..segments_max {
            let oldest = lock(&self.shared.index).segments.iter().find(|segment| !segment.is_file()).cloned();
            let Some(oldest) = oldest else {
                self.set_in_memory(false);
                tracing::info!("the spool's disk takes events again");
                break;
            };
            self.write_out(&oldest)?;
        }
        Ok(())
    }

    /// Whether the disk would take something.
    fn probe(&self) -> io::Result<()> {
        let Some(directory) = &self.shared.config.directory else { return Ok(()) };
        let path = directory.join("probe.tmp");
        let result = create(&path).and_then(|file| file.write_all_at(&[0; HEADER_BYTES], 0));
        let _ = std::fs::remove_file(path);
        result
    }

    /// Puts a segment from memory into a file. The bytes are the same, and so are all places in them.
    fn write_out(&self, segment: &Arc<Segment>) -> io::Result<()> {
        let (Storage::Memory(pieces), Some(directory)) = (&segment.storage, &self.shared.config.directory)
        else {
            return Ok(());
        };
        let path = segment.path(directory);
        let temporary = temporary(&path);
        let tally = segment.tally();
        // Not under the lock: no cursor waits for the disk.
        let pieces = lock(pieces).all();
        let result = create(&temporary).and_then(|file| {
            pieces.iter().try_for_each(|(at, piece)| file.write_all_at(piece, *at))?;
            if tally.is_some_and(|tally| tally.has(Class::Audit)) {
                file.sync_data()?;
            }
            std::fs::rename(&temporary, &path)
        });
        if result.is_err() {
            let _ = std::fs::remove_file(&temporary);
        }
        result?;
        let (first, generation) = (segment.first, segment.generation);
        let filed = Segment::new(first, generation, segment.salt, Storage::File);
        let filed = Arc::new(filed.sealed(segment.len(), segment.last(), tally));
        self.replace(segment, filed);
        Ok(())
    }

    /// Puts one segment in the place of another, and counts their bytes.
    pub(super) fn replace(&self, segment: &Arc<Segment>, by: Arc<Segment>) {
        self.count(&by, true);
        let mut index = lock(&self.shared.index);
        if let Some(slot) = index.position_of(segment).and_then(|at| index.segments.get_mut(at)) {
            *slot = by;
        }
        drop(index);
        self.count(segment, false);
    }

    fn count(&self, segment: &Segment, is_new: bool) {
        let bytes = if segment.is_file() { &self.shared.disk_bytes } else { &self.shared.memory_bytes };
        match is_new {
            true => bytes.fetch_add(segment.len(), Ordering::AcqRel),
            false => bytes.fetch_sub(segment.len(), Ordering::AcqRel),
        };
    }
}
