//! Appending: the pipeline's thread has this, and nobody else.
//!
//! What: events are encoded into a buffer, which goes to the current segment when it is full and at each
//! [`Writer::tick`]; a segment that is full is sealed, and the next one begins. A segment in memory takes the buffer itself,
//! in pieces, so that nothing is copied. Cursors see what was written, never less
//! than a whole frame. Why a buffer: one `write` for some hundred events; a process that is killed loses what it holds, so
//! `tick` is called at least every 100 ms. How it fails: see [`super::outage`].

use super::budget::Thinning;
use super::frame::{self, Kind};
use super::index::Shared;
use super::outage::RESTORED_MAX;
use super::segment::{Gap, HEADER_BYTES, Header, Segment, Storage, Tally, lock};
use super::{Class, Reason};
use bytes::Bytes;
use std::collections::hash_map::RandomState;
use std::fs::{File, OpenOptions};
use std::hash::{BuildHasher, Hasher};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

/// The buffer is written when it has so many bytes.
pub(super) const BUFFER_BYTES: usize = 256 << 10;
/// Room of a piece for a segment in memory. Small, so that little is left over when it goes; sixteen events or so share what
/// it costs.
const PIECE_BYTES: usize = 20 << 10;
/// A piece goes when it has less room than an event of usual size takes, or it would be made larger for the next one.
const PIECE_ROOM_MIN: usize = 2200;
/// Files that hold audit events, are full, and were not made durable: more are not kept open.
const UNSYNCED_MAX: usize = 4;

/// The one that appends.
pub struct Writer {
    pub(super) shared: Arc<Shared>,
    instance: Box<str>,
    epoch: u64,
    /// The last number that was given.
    sequence: u64,
    /// Numbers at the end that have no event and are not in the buffer yet.
    gap: Option<Gap>,
    /// Frames for the current segment.
    pub(super) buffer: Vec<u8>,
    /// Frames before those, for a segment in memory.
    pub(super) pieces: Vec<Bytes>,
    pieces_bytes: usize,
    /// The first number in the buffer.
    pub(super) buffer_first: u64,
    pub(super) buffer_tally: Tally,
    pub(super) active: Option<Active>,
    pub(super) salt: u32,
    pub(super) is_in_memory: bool,
    pub(super) retry_at: Option<Instant>,
    pub(super) last_error: Option<io::ErrorKind>,
    has_unsynced_audit: bool,
    is_directory_unsynced: bool,
    unsynced: Vec<File>,
    pub(super) thinning: Option<Thinning>,
}

/// The segment that is written to.
pub(super) struct Active {
    pub(super) segment: Arc<Segment>,
    /// None: in memory.
    pub(super) file: Option<File>,
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, instance: &str, epoch: u64) -> Writer {
        Writer {
            sequence: shared.assigned(),
            instance: instance.into(),
            epoch,
            gap: None,
            buffer: Vec::with_capacity(PIECE_BYTES),
            pieces: Vec::new(),
            pieces_bytes: 0,
            buffer_first: 0,
            buffer_tally: Tally::default(),
            active: None,
            salt: if shared.config.directory.is_some() { salt() } else { frame::UNSUMMED },
            is_in_memory: shared.config.directory.is_none(),
            retry_at: None,
            last_error: None,
            has_unsynced_audit: false,
            is_directory_unsynced: false,
            unsynced: Vec::new(),
            thinning: None,
            shared,
        }
    }

    /// The number that the next event gets: for its id.
    #[inline]
    pub fn next_sequence(&self) -> u64 {
        self.sequence + 1
    }

    /// Appends an event. Returns its number. An event longer than `event_bytes_max` is dropped, counted, and has its number.
    pub fn append(&mut self, class: Class, payload: &[u8]) -> u64 {
        self.append_with(class, |_, out| out.extend_from_slice(payload))
    }

    /// The same for an event that `encode` appends to what it is given, knowing its number. It must change nothing of what
    /// is there.
    #[inline]
    pub fn append_with(&mut self, class: Class, encode: impl FnOnce(u64, &mut Vec<u8>)) -> u64 {
        self.write_gap();
        let before = self.buffer.len();
        let at = frame::begin(&mut self.buffer);
        encode(self.sequence + 1, &mut self.buffer);
        if self.buffer.len() - at > self.shared.config.event_bytes() + frame::HEAD_BYTES {
            self.buffer.truncate(before);
            self.skip(1, Reason::TooLarge);
            return self.sequence;
        }
        self.sequence += 1;
        frame::finish(&mut self.buffer, at, self.salt, Kind::Event(class), self.sequence);
        if self.buffer_first == 0 {
            self.buffer_first = self.sequence;
        }
        self.buffer_tally.add(class, self.buffer.len() - before);
        self.has_unsynced_audit |= class == Class::Audit;
        self.shared.assigned.store(self.sequence, Ordering::Release);
        if self.buffer.len() >= PIECE_BYTES - PIECE_ROOM_MIN {
            self.filled();
        }
        self.sequence
    }

    /// Gives the next `count` numbers to events that were lost on their way here: every cursor counts them as dropped.
    pub fn skip(&mut self, count: u64, reason: Reason) {
        if count == 0 {
            return;
        }
        let first = self.sequence + 1;
        self.sequence = self.sequence.saturating_add(count);
        self.shared.assigned.store(self.sequence, Ordering::Release);
        match &mut self.gap {
            Some(gap) if gap.reason == reason => gap.last = self.sequence,
            _ => {
                self.write_gap();
                self.gap = Some(Gap { first, last: self.sequence, reason });
            }
        }
    }

    /// Hands everything to the kernel, and does what is due: segments that all cursors have had go, a disk that failed is
    /// tried again, and what is over the budget is given up. To be called at least every 100 ms while there are events or
    /// [`super::Status::is_in_memory`], and before the thread sleeps.
    pub fn tick(&mut self, now: Instant) {
        self.flush();
        self.free();
        self.restore(now, RESTORED_MAX);
        self.enforce();
    }

    /// Whether the next [`Writer::tick`] may have something to do though nothing was appended: then the thread should not
    /// sleep for long.
    pub fn has_work(&self) -> bool {
        let is_waiting_for_disk = self.is_in_memory && self.shared.config.directory.is_some();
        is_waiting_for_disk || self.thinning.is_some() || lock(&self.shared.index).segments.len() > 1
    }

    /// Returns when every audit event that was appended would survive a loss of power: acknowledge it then, not before.
    /// Costs an `fdatasync` if there are any; many events may share one.
    ///
    /// # Errors
    /// It would not: there is no directory, or the disk refuses. The event is still delivered.
    pub fn sync_audit(&mut self) -> io::Result<()> {
        self.flush();
        if !self.has_unsynced_audit {
            return Ok(());
        }
        if self.is_in_memory {
            return Err(self.last_error.unwrap_or(io::ErrorKind::Unsupported).into());
        }
        for file in &self.unsynced {
            file.sync_data()?;
        }
        self.unsynced.clear();
        if let Some(Active { file: Some(file), .. }) = &self.active {
            file.sync_data()?;
        }
        if let Some(directory) = self.shared.config.directory.as_ref().filter(|_| self.is_directory_unsynced)
        {
            File::open(directory)?.sync_all()?;
            self.is_directory_unsynced = false;
        }
        self.has_unsynced_audit = false;
        Ok(())
    }

    /// The buffer has enough for a piece, or for a write.
    fn filled(&mut self) {
        if self.is_in_memory {
            self.cut_piece();
        }
        if self.pieces_bytes + self.buffer.len() >= BUFFER_BYTES {
            self.flush();
        }
    }

    /// Makes a piece of what is in the buffer.
    pub(super) fn cut_piece(&mut self) {
        let (len, room) = (self.buffer.len(), self.buffer.capacity());
        self.pieces_bytes += len;
        if room - len <= room / 8 {
            let full = std::mem::replace(&mut self.buffer, Vec::with_capacity(PIECE_BYTES));
            self.pieces.push(full.into());
        } else if len > 0 {
            // What is left over would be held as long as the piece.
            let mut piece = Vec::with_capacity(len);
            copy(&self.buffer, |part| piece.extend_from_slice(part));
            self.pieces.push(piece.into());
            self.buffer.clear();
        }
    }

    /// Hands the buffer to the kernel, or to memory where that fails.
    pub(super) fn flush(&mut self) {
        self.write_gap();
        if self.buffer.is_empty() && self.pieces.is_empty() {
            return;
        }
        if !self.is_in_memory
            && let Err(error) = self.write_file()
        {
            self.fail(&error);
        }
        if self.is_in_memory {
            self.write_memory();
        }
        self.buffer.clear();
        self.pieces_bytes = 0;
        // An event may be much longer than the buffer usually is.
        self.buffer.shrink_to(2 * BUFFER_BYTES);
        self.buffer_first = 0;
        self.buffer_tally = Tally::default();
        self.shared.publish(self.sequence);
        let bytes_max = match self.is_in_memory {
            true => self.shared.config.memory_segment_bytes(),
            false => self.shared.config.segment_bytes(),
        };
        if self.active.as_ref().is_some_and(|active| active.segment.len() >= bytes_max) {
            self.seal();
            self.free();
        }
        self.enforce();
    }

    #[inline]
    fn write_gap(&mut self) {
        if self.gap.is_some()
            && let Some(gap) = self.gap.take()
        {
            if self.buffer_first == 0 {
                self.buffer_first = gap.first;
            }
            gap.encode(&mut self.buffer, self.salt);
        }
    }

    /// Writes the buffer to the current file, or to a new one.
    fn write_file(&mut self) -> io::Result<()> {
        let Some(directory) = &self.shared.config.directory else {
            return Err(io::ErrorKind::Unsupported.into());
        };
        let is_new = self.active.is_none();
        let active = match self.active.take() {
            Some(active) => active,
            None => {
                let segment = Arc::new(Segment::new(self.buffer_first, 0, Some(self.salt), Storage::File));
                let file = create(&segment.path(directory))?;
                file.write_all_at(&self.header(segment.first, 0, self.salt), 0).inspect_err(|_| {
                    // What is there holds no event; it is made anew when the disk takes bytes again.
                    let _ = std::fs::remove_file(segment.path(directory));
                })?;
                self.is_directory_unsynced = true;
                Active { segment, file: Some(file) }
            }
        };
        let at = active.segment.len().max(HEADER_BYTES as u64);
        let result = match &active.file {
            Some(file) => file.write_all_at(&self.buffer, at),
            None => Err(io::ErrorKind::Unsupported.into()),
        };
        let active = self.active.insert(active);
        result?;
        let len = at + self.buffer.len() as u64;
        self.shared.disk_bytes.fetch_add(len - active.segment.len(), Ordering::AcqRel);
        extend(&active.segment, len, self.sequence, &self.buffer_tally);
        if is_new {
            lock(&self.shared.index).segments.push_back(Arc::clone(&active.segment));
        }
        Ok(())
    }

    /// Ends the current segment.
    pub(super) fn seal(&mut self) {
        let Some(Active { segment, file }) = self.active.take() else { return };
        let tally = segment.tally().unwrap_or_default();
        if let Some(file) = file {
            let mut seal = Vec::new();
            tally.seal(&mut seal, self.salt, segment.last());
            // Without it, whoever opens the spool reads the segment, or knows less of it.
            if file.write_all_at(&seal, segment.len()).is_ok() {
                segment.len.fetch_add(seal.len() as u64, Ordering::AcqRel);
                self.shared.disk_bytes.fetch_add(seal.len() as u64, Ordering::AcqRel);
            }
            self.keep_unsynced(file, &segment);
        }
        segment.seal();
        if self.shared.config.directory.is_some() {
            self.salt = salt();
        }
    }

    /// A file that is written no more, and holds audit events that nobody asked about yet.
    pub(super) fn keep_unsynced(&mut self, file: File, segment: &Segment) {
        if !self.has_unsynced_audit || !segment.tally().is_some_and(|tally| tally.has(Class::Audit)) {
            return;
        }
        self.unsynced.push(file);
        if self.unsynced.len() > UNSYNCED_MAX {
            // An oldest one that fails is kept: whoever asks must be told.
            self.unsynced.retain(|file| file.sync_data().is_err());
        }
    }

    /// Lets go of the segments that all cursors have had.
    pub(super) fn free(&mut self) {
        let mut gone = Vec::new();
        let mut index = lock(&self.shared.index);
        // A restart must find what is not settled in a cursor's file; what is in memory no restart finds.
        let persisted = index.cursors.iter().map(|state| state.persisted.load(Ordering::Acquire)).min();
        let position = index.cursors.iter().map(|state| lock(&state.settled).position).min();
        let (persisted, position) = (persisted.unwrap_or(u64::MAX), position.unwrap_or(u64::MAX));
        while let Some(segment) = index.segments.front()
            && segment.is_sealed()
            && segment.last() <= if segment.is_file() { persisted } else { position }
        {
            gone.extend(index.segments.pop_front());
        }
        drop(index);
        gone.iter().for_each(|segment| self.discard(segment));
    }

    /// A segment that is in the index no longer: deletes it.
    pub(super) fn discard(&mut self, segment: &Arc<Segment>) {
        if self.thinning.as_ref().is_some_and(|thinning| thinning.is_of(segment)) {
            self.thinning = None;
        }
        match (&segment.storage, &self.shared.config.directory) {
            (Storage::File, Some(directory)) => {
                self.shared.disk_bytes.fetch_sub(segment.len(), Ordering::AcqRel);
                if let Err(error) = std::fs::remove_file(segment.path(directory))
                    && error.kind() != io::ErrorKind::NotFound
                {
                    tracing::warn!(segment = segment.first, %error, "cannot delete a segment");
                }
            }
            _ => {
                self.shared.memory_bytes.fetch_sub(segment.len(), Ordering::AcqRel);
            }
        }
    }

    pub(super) fn header(&self, first: u64, generation: u32, salt: u32) -> [u8; HEADER_BYTES] {
        let instance = self.instance.as_bytes();
        Header { salt, first, epoch: self.epoch, generation, instance }.encode()
    }

    pub(super) fn sequence(&self) -> u64 {
        self.sequence
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.flush();
        // Whatever is in memory has one more chance.
        self.retry_at = None;
        self.restore(Instant::now(), usize::MAX);
        self.seal();
    }
}

/// A segment has more.
pub(super) fn extend(segment: &Segment, len: u64, last: u64, tally: &Tally) {
    lock(&segment.tally).get_or_insert_default().join(tally);
    segment.last.store(last, Ordering::Release);
    segment.len.store(len, Ordering::Release);
}

/// Makes a file; one that is there holds nothing that anybody knows of.
pub(super) fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(true).mode(0o640).open(path)
}

/// The path that a file has until it is complete.
pub(super) fn temporary(path: &Path) -> PathBuf {
    path.with_extension("seg.tmp")
}

/// A random number but 0: the standard library's hasher has keys that nobody knows.
pub(super) fn salt() -> u32 {
    (RandomState::new().build_hasher().finish() as u32).max(1)
}

/// Copies in small pieces. A copy of a long stretch is one instruction that repeats itself for each byte (`rep movsb`): no
/// faster, and it makes a count of instructions say nothing.
pub(super) fn copy(from: &[u8], mut to: impl FnMut(&[u8])) {
    from.chunks(1 << 10).for_each(&mut to);
}
