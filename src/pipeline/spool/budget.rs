//! When there is too much: what is given up, and in which order.
//!
//! The oldest goes first, because a sink that is up has had it: what a dead sink costs, it alone pays. Debug events go
//! before others, and audit events last: a segment that holds both is replaced by one without the former (see `sieve`),
//! where that gains a quarter of it; one with nothing but other events goes as a whole. On disk this begins a segment
//! before the budget is reached and is done in pieces, so that appending never waits for a whole file to be read; if the
//! budget is reached all the same, the oldest segment goes as it is.
//! What is counted: cursors that stand in a segment that goes settle it at once (`disk_budget`; in memory `memory`), and
//! those that are before it when they come there.

use super::frame::{self, Step};
use super::pieces::Pieces;
use super::segment::{Gap, HEADER_BYTES, Segment, Storage, Tally, lock};
use super::sieve::{Keep, Sieve};
use super::writer::{Writer, create, salt, temporary};
use super::{Class, Reason};
use bytes::Bytes;
use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// What is read of a segment that is replaced, between two writes: two milliseconds, and eight times what a write appends.
const PIECE_BYTES: usize = 2 << 20;
/// Segments at most: with 64 MiB each, 256 GiB have passed since the oldest.
const SEGMENTS_MAX: usize = 4096;
/// Gaps that one stub tells apart.
const STUB_GAPS_MAX: usize = 1000;

impl Writer {
    /// Gives up what is too much, or a piece of it.
    pub(super) fn enforce(&mut self) {
        self.enforce_memory();
        self.enforce_disk();
    }

    fn enforce_memory(&mut self) {
        while self.shared.memory_bytes.load(Ordering::Acquire) > self.shared.config.memory_bytes() {
            let victim = memory_victim(&lock(&self.shared.index).segments);
            match victim {
                Some((segment, keep)) => self.thin_memory(&segment, keep),
                None if self.active.as_ref().is_some_and(|active| !active.segment.is_file()) => self.seal(),
                None => break,
            }
        }
    }

    /// Replaces a segment in memory.
    fn thin_memory(&mut self, segment: &Arc<Segment>, keep: Keep) {
        let (Storage::Memory(pieces), Some(salt)) = (&segment.storage, segment.salt) else { return };
        let mut sieve = Sieve::new(salt, segment.first, keep, Reason::Memory);
        let pieces = lock(pieces).frames();
        for frames in &pieces {
            sieve.feed(frames, true);
        }
        sieve.finish(segment.last());
        let is_stub = sieve.tally.is_empty();
        if is_stub {
            let index = lock(&self.shared.index);
            gaps(&sieve.out, salt).iter().for_each(|gap| drop(index.settle(*gap)));
        }
        let thinned = self.in_memory(segment, (salt, segment.first, segment.last()), &sieve.out, sieve.tally);
        self.replace(segment, Arc::clone(&thinned));
        if is_stub {
            self.join_stubs(&thinned);
        }
    }

    fn in_memory(
        &self,
        of: &Segment,
        (salt, first, last): (u32, u64, u64),
        frames: &[u8],
        tally: Tally,
    ) -> Arc<Segment> {
        let generation = of.generation + 1;
        let mut pieces = Pieces::new(&self.header(first, generation, salt));
        pieces.push(Bytes::copy_from_slice(frames));
        let len = (HEADER_BYTES + frames.len()) as u64;
        let segment = Segment::new(first, generation, Some(salt), Storage::Memory(pieces.into()));
        Arc::new(segment.sealed(len, last, Some(tally)))
    }

    /// Makes one of a stub, a segment without an event, and the stub before it: a sink that is dead for days leaves one.
    fn join_stubs(&mut self, stub: &Arc<Segment>) {
        let index = lock(&self.shared.index);
        let before =
            index.position_of(stub).and_then(|at| at.checked_sub(1)).and_then(|at| index.segments.get(at));
        let is_stub = |other: &&Arc<Segment>| {
            !other.is_file() && other.is_sealed() && other.tally().is_some_and(|tally| tally.is_empty())
        };
        let Some(before) = before.filter(is_stub).cloned() else { return };
        drop(index);
        let mut joined = Vec::new();
        for segment in [&before, stub] {
            if let (Storage::Memory(pieces), Some(salt)) = (&segment.storage, segment.salt) {
                joined.extend(lock(pieces).frames().iter().flat_map(|frames| gaps(frames, salt)));
            }
        }
        joined.dedup_by(|gap, before| {
            let is_same = gap.reason == before.reason;
            before.last = if is_same { gap.last } else { before.last };
            is_same
        });
        if joined.len() > STUB_GAPS_MAX {
            joined = vec![Gap { first: before.first, last: stub.last(), reason: Reason::Memory }];
        }
        let (salt, mut frames) = (salt(), Vec::new());
        joined.iter().for_each(|gap| gap.encode(&mut frames, salt));
        let of = (salt, before.first, stub.last());
        let joined = self.in_memory(&before, of, &frames, Tally::default());
        // In this order, so that a cursor never finds the numbers missing.
        self.replace(&before, joined);
        lock(&self.shared.index).segments.retain(|other| !Arc::ptr_eq(other, stub));
        self.discard(stub);
    }

    fn enforce_disk(&mut self) {
        let budget = self.shared.config.disk_bytes();
        let begin = budget - self.shared.config.segment_bytes();
        let used = |writer: &Writer| writer.shared.disk_bytes.load(Ordering::Acquire);
        if used(self) <= begin && self.thinning.is_none() && !self.has_too_many() {
            return;
        }
        while (used(self) > budget || self.has_too_many()) && self.remove_oldest() {}
        while used(self) > begin {
            if self.thinning.is_some() {
                return self.thin_on();
            }
            let victim = file_victim(&lock(&self.shared.index).segments);
            let is_begun = match victim {
                Some((segment, keep)) => self.begin_thinning(segment, keep),
                None => false,
            };
            if !is_begun && !self.remove_oldest() {
                return;
            }
        }
        self.thinning = None;
    }

    fn has_too_many(&self) -> bool {
        lock(&self.shared.index).segments.len() > SEGMENTS_MAX
    }

    /// Deletes the oldest file. Returns whether there was one that is not written to.
    fn remove_oldest(&mut self) -> bool {
        let mut index = lock(&self.shared.index);
        let at = index.segments.iter().position(|segment| segment.is_file() && segment.is_sealed());
        let Some(segment) = at.and_then(|at| index.segments.remove(at)) else { return false };
        let gap = Gap { first: segment.first, last: segment.last(), reason: Reason::DiskBudget };
        let settled_by = index.settle(gap);
        drop(index);
        for state in settled_by {
            // Failing, a restart finds them missing, and says so.
            let _ = state.persist();
        }
        self.discard(&segment);
        true
    }

    /// Begins to replace a file. Returns whether that is possible.
    fn begin_thinning(&mut self, segment: Arc<Segment>, keep: Keep) -> bool {
        let (Some(salt), Some(directory)) = (segment.salt, &self.shared.config.directory) else {
            return false;
        };
        let header = self.header(segment.first, segment.generation + 1, salt);
        let begun = Thinning::begin(directory, segment, salt, keep, &header);
        self.thinning = begun.inspect_err(warn).ok();
        self.thinning.is_some()
    }

    /// Goes on to replace a file.
    fn thin_on(&mut self) {
        let Some(mut thinning) = self.thinning.take() else { return };
        match thinning.go_on() {
            Ok(None) => self.thinning = Some(thinning),
            Ok(Some(thinned)) => {
                let path = self.shared.config.directory.as_ref().map(|to| thinning.segment.path(to));
                self.replace(&thinning.segment, Arc::new(thinned));
                // Cursors that read it have it open.
                let _ = path.map(std::fs::remove_file);
            }
            Err(error) => {
                // There may be no space for the smaller file either.
                warn(&error);
                drop(thinning);
                self.remove_oldest();
            }
        }
    }
}

fn warn(error: &io::Error) {
    tracing::warn!(%error, "cannot take events out of a segment; giving up the oldest");
}

/// The gaps that frames say.
fn gaps(mut frames: &[u8], salt: u32) -> Vec<Gap> {
    let mut gaps = Vec::new();
    while let Step::Frame { sequence, payload, len, .. } = frame::step(frames, salt, true) {
        gaps.extend(Gap::decode(sequence, payload).filter(|_| payload.len() == 9));
        frames = frames.get(len..).unwrap_or_default();
    }
    gaps
}

/// The segment in memory that is made smaller next, and what it keeps.
fn memory_victim(segments: &VecDeque<Arc<Segment>>) -> Option<(Arc<Segment>, Keep)> {
    let oldest = |class: Class| {
        let mut candidates = segments.iter().filter(|segment| !segment.is_file() && segment.is_sealed());
        candidates.find(|segment| segment.tally().is_some_and(|tally| tally.has(class))).cloned()
    };
    None.or_else(|| Some((oldest(Class::Debug)?, Keep::From(Class::Event))))
        .or_else(|| Some((oldest(Class::Event)?, Keep::From(Class::Audit))))
        .or_else(|| Some((oldest(Class::Audit)?, Keep::None)))
}

/// The file that is made smaller next, and what it keeps; none: the oldest goes as a whole.
fn file_victim(segments: &VecDeque<Arc<Segment>>) -> Option<(Arc<Segment>, Keep)> {
    let mut oldest = None;
    for (at, segment) in
        segments.iter().enumerate().filter(|(_, segment)| segment.is_file() && segment.is_sealed())
    {
        // What is in a segment that nobody sealed is not known: all of it may be.
        let tally = segment.tally();
        if tally.is_some_and(|tally| tally.bytes[Class::Debug as usize] * 4 >= segment.len()) {
            return Some((Arc::clone(segment), Keep::From(Class::Event)));
        }
        let has = |class| tally.is_none_or(|tally| tally.has(class));
        if oldest.is_none() && (has(Class::Event) || has(Class::Debug)) {
            let is_whole = at == 0 && !has(Class::Audit);
            oldest = Some((!is_whole).then(|| (Arc::clone(segment), Keep::From(Class::Audit))));
        }
    }
    oldest.flatten()
}

/// A file that is being replaced.
pub(super) struct Thinning {
    segment: Arc<Segment>,
    source: File,
    target: File,
    temporary: PathBuf,
    path: PathBuf,
    sieve: Sieve,
    salt: u32,
    offset: u64,
    written: u64,
    needs: usize,
    piece: Vec<u8>,
}

impl Thinning {
    fn begin(
        directory: &Path,
        segment: Arc<Segment>,
        salt: u32,
        keep: Keep,
        header: &[u8],
    ) -> io::Result<Thinning> {
        let source = File::open(segment.path(directory))?;
        let path = directory.join(super::segment::name(segment.first, segment.generation + 1));
        let temporary = temporary(&path);
        let target = create(&temporary)?;
        target.write_all_at(header, 0)?;
        let sieve = Sieve::new(salt, segment.first, keep, Reason::DiskBudget);
        let (offset, written) = (HEADER_BYTES as u64, header.len() as u64);
        let (needs, piece) = (0, Vec::new());
        Ok(Thinning { segment, source, target, temporary, path, sieve, salt, offset, written, needs, piece })
    }

    pub(super) fn is_of(&self, segment: &Arc<Segment>) -> bool {
        Arc::ptr_eq(&self.segment, segment)
    }

    /// Does a piece. Returns the new segment when all is done.
    fn go_on(&mut self) -> io::Result<Option<Segment>> {
        let len = self.segment.len();
        let left = usize::try_from(len - self.offset).unwrap_or(usize::MAX);
        self.piece.resize(PIECE_BYTES.max(self.needs).min(left), 0);
        self.source.read_exact_at(&mut self.piece, self.offset)?;
        let is_end = self.piece.len() == left;
        let (used, needs) = self.sieve.feed(&self.piece, is_end);
        self.offset += used as u64;
        self.needs = needs;
        if is_end {
            self.sieve.finish(self.segment.last());
        }
        self.target.write_all_at(&self.sieve.out, self.written)?;
        self.written += self.sieve.out.len() as u64;
        self.sieve.out.clear();
        if !is_end {
            return Ok(None);
        }
        let tally = self.sieve.tally;
        if tally.has(Class::Audit) {
            self.target.sync_data()?;
        }
        std::fs::rename(&self.temporary, &self.path)?;
        let thinned =
            Segment::new(self.segment.first, self.segment.generation + 1, Some(self.salt), Storage::File);
        Ok(Some(thinned.sealed(self.written, self.segment.last(), Some(tally))))
    }
}

impl Drop for Thinning {
    fn drop(&mut self) {
        // Gone already if it was completed.
        let _ = std::fs::remove_file(&self.temporary);
    }
}
