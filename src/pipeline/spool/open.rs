//! Opening a directory: what the last process left.
//!
//! What is read: the names of the files; of each segment its header and its seal (some 300 bytes); and the last segment,
//! in which the last process may have been stopped in the middle of a frame: it is read to the end of the last whole frame
//! and cut there. So 10 GiB cost as much as 64 MiB. What is not complete (`*.tmp`) goes; what is not ours stays.
//! How it fails: what cannot be read counts as damaged when a cursor comes there. An error is returned only where the
//! directory itself cannot be used; the caller decides (with no directory the spool works in memory).

use super::books::{Settled, State};
use super::frame::{self, Kind, Step};
use super::index::{Index, LOCK, Shared, settle_lost};
use super::segment::{self, Gap, HEADER_BYTES, Header, Segment, Storage, Tally};
use super::slots::{self, Slots};
use super::{Config, Spool, Writer};
use std::collections::BTreeMap;
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt};
use std::path::Path;
use std::sync::Arc;

/// The last segment is read in pieces of this size.
const PIECE_BYTES: usize = 1 << 20;

impl Spool {
    /// Opens the spool of `config`, and goes on where the last process stopped. `instance` and `epoch` (which no earlier
    /// opening had: microseconds since 1970) are written to segments for who looks at them. Cursors that are known are
    /// there, and hold their events: see [`Spool::retain`].
    ///
    /// # Errors
    /// The directory cannot be made, read or locked (`ResourceBusy`: another process has it).
    pub fn open(config: &Config, instance: &str, epoch: u64) -> io::Result<(Spool, Writer)> {
        let shared = match &config.directory {
            Some(directory) => open(config, directory).map_err(|error| {
                io::Error::new(error.kind(), format!("spool {}: {error}", directory.display()))
            })?,
            None => Shared::new(config.clone(), Index::default(), 0, 0, 0, None),
        };
        let shared = Arc::new(shared);
        let mut writer = Writer::new(Arc::clone(&shared), instance, epoch);
        writer.free();
        Ok((Spool(shared), writer))
    }
}

/// What is in a directory.
#[derive(Default)]
struct Listing {
    /// Sequence to the newest generation.
    segments: BTreeMap<u64, u32>,
    cursors: Vec<String>,
}

fn open(config: &Config, directory: &Path) -> io::Result<Shared> {
    DirBuilder::new().recursive(true).mode(0o750).create(directory)?;
    let lock = OpenOptions::new().write(true).create(true).truncate(false).open(directory.join(LOCK))?;
    lock.try_lock().map_err(|error| match error {
        TryLockError::WouldBlock => io::Error::new(io::ErrorKind::ResourceBusy, "another process has it"),
        TryLockError::Error(error) => error,
    })?;
    let listing = list(directory)?;
    let mut opening_bytes = 0;
    let mut segments: Vec<Segment> = Vec::new();
    let mut assigned = 0;
    let mut names: Vec<(u64, u32)> = listing.segments.into_iter().collect();
    // From the end: the last one that holds anything says how far the last process came.
    while let Some((first, generation)) = names.pop() {
        let next = segments.last().map(|next| next.first);
        let path = directory.join(segment::name(first, generation));
        let found = match (File::options().read(true).write(next.is_none()).open(&path), next) {
            (Ok(file), Some(next)) => read_sealed(&file, first, generation, next, &mut opening_bytes),
            (Ok(file), None) => read_last(&file, first, generation, &mut opening_bytes),
            (Err(error), Some(next)) => {
                warn(first, &error);
                Ok(Some(Segment::new(first, generation, None, Storage::File).sealed(0, next - 1, None)))
            }
            (Err(error), None) => Err(error),
        };
        assigned = assigned.max(first - 1);
        match found.inspect_err(|error| warn(first, error)) {
            Ok(Some(segment)) => {
                assigned = assigned.max(segment.last());
                segments.push(segment);
            }
            // Nothing in it can be read.
            Ok(None) | Err(_) => {
                tracing::warn!(segment = first, "the end of the spool holds no event");
                let _ = std::fs::remove_file(path);
            }
        }
    }
    segments.reverse();
    let first = segments.first().map(|segment| segment.first);
    let cursors: Vec<Arc<State>> = listing
        .cursors
        .iter()
        .filter_map(|name| open_cursor(directory, name, first, &mut assigned))
        .collect();
    let end = first.unwrap_or(assigned + 1);
    for state in &cursors {
        settle_lost(&mut segment::lock(&state.settled), end);
        state.persist();
    }
    if let Some(last) = segments.last() {
        // What cursors have had beyond it went with the power.
        last.last.store(assigned, std::sync::atomic::Ordering::Release);
    }
    let disk_bytes = segments.iter().map(Segment::len).sum();
    let index = Index { segments: segments.into_iter().map(Arc::new).collect(), cursors };
    Ok(Shared::new(config.clone(), index, assigned, disk_bytes, opening_bytes, Some(lock)))
}

fn warn(segment: u64, error: &io::Error) {
    tracing::warn!(segment, %error, "cannot read a segment of the spool");
}

fn list(directory: &Path) -> io::Result<Listing> {
    let mut listing = Listing::default();
    for entry in std::fs::read_dir(directory)? {
        let name = entry?.file_name();
        let Some(name) = name.to_str() else { continue };
        if let Some((first, generation)) = segment::parse_name(name).filter(|(first, _)| *first > 0) {
            // A process may have been stopped between making the new one and deleting the old.
            if let Some(older) = listing.segments.insert(first, generation) {
                let (older, newer) = (older.min(generation), older.max(generation));
                listing.segments.insert(first, newer);
                let _ = std::fs::remove_file(directory.join(segment::name(first, older)));
            }
        } else if let Some(cursor) = slots::parse_name(name) {
            listing.cursors.push(cursor.into());
        } else if name.ends_with(".seg.tmp") {
            let _ = std::fs::remove_file(directory.join(name));
        }
    }
    listing.cursors.sort();
    Ok(listing)
}

/// A cursor as it was left. One whose file is damaged begins with the oldest event.
fn open_cursor(directory: &Path, name: &str, first: Option<u64>, assigned: &mut u64) -> Option<Arc<State>> {
    let (slots, settled) = match Slots::open(directory, name) {
        Ok(opened) => opened,
        Err(error) => {
            tracing::warn!(cursor = name, %error, "cannot open a cursor's file");
            return None;
        }
    };
    if settled.is_none() {
        tracing::warn!(
            cursor = name,
            "a cursor's file says nothing: its sink gets all events that are there"
        );
    }
    let settled = settled.unwrap_or_else(|| Settled::at(first.map_or(*assigned, |first| first - 1)));
    *assigned = settled.position.max(*assigned);
    let persisted = settled.position;
    Some(Arc::new(State::new(name, settled, Some(slots), persisted)))
}

fn read_header(file: &File, opening_bytes: &mut u64) -> io::Result<(u64, Option<u32>)> {
    let len = file.metadata()?.len();
    let mut header = [0; HEADER_BYTES];
    if len < HEADER_BYTES as u64 {
        return Ok((len, None));
    }
    file.read_exact_at(&mut header, 0)?;
    *opening_bytes += HEADER_BYTES as u64;
    Ok((len, Header::decode(&header).map(|header| header.salt)))
}

/// A segment that has another behind it.
fn read_sealed(
    file: &File,
    first: u64,
    generation: u32,
    next: u64,
    opening_bytes: &mut u64,
) -> io::Result<Option<Segment>> {
    let (len, salt) = read_header(file, opening_bytes)?;
    let sealed = salt.and_then(|salt| Tally::read(file, len, salt));
    *opening_bytes += frame::HEAD_BYTES as u64;
    let segment = Segment::new(first, generation, salt, Storage::File);
    Ok(Some(segment.sealed(len, next - 1, sealed.map(|(_, tally)| tally))))
}

/// The last segment. None: there is nothing in it.
fn read_last(
    file: &File,
    first: u64,
    generation: u32,
    opening_bytes: &mut u64,
) -> io::Result<Option<Segment>> {
    let (len, salt) = read_header(file, opening_bytes)?;
    let Some(salt) = salt else { return Ok(None) };
    let segment = Segment::new(first, generation, Some(salt), Storage::File);
    if let Some((last, tally)) = Tally::read(file, len, salt) {
        return Ok(Some(segment.sealed(len, last, Some(tally))));
    }
    let (mut offset, mut end, mut last) = (HEADER_BYTES as u64, HEADER_BYTES as u64, first - 1);
    let (mut tally, mut piece, mut needs) = (Tally::default(), Vec::new(), 0);
    while offset < len {
        let left = usize::try_from(len - offset).unwrap_or(usize::MAX);
        piece.resize(PIECE_BYTES.max(needs).min(left), 0);
        file.read_exact_at(&mut piece, offset)?;
        *opening_bytes += piece.len() as u64;
        let is_end = piece.len() == left;
        let mut at = 0;
        while let Some(rest) = piece.get(at..).filter(|rest| !rest.is_empty()) {
            match frame::step(rest, salt, is_end) {
                Step::More(more) => {
                    needs = more;
                    break;
                }
                Step::Skip(len) => at += len,
                Step::Frame { kind, sequence, payload, len } => {
                    at += len;
                    end = offset + at as u64;
                    let gap_end = || Gap::decode(sequence, payload).map_or(0, |gap| gap.last);
                    last = last.max(if kind == Kind::Gap { gap_end() } else { sequence });
                    if let Kind::Event(class) = kind {
                        tally.add(class, len);
                    }
                }
            }
        }
        offset += at as u64;
    }
    if end == HEADER_BYTES as u64 {
        return Ok(None);
    }
    if end < len {
        tracing::info!(segment = first, bytes = len - end, "the end of the spool was torn; cutting it");
        // Where it cannot be cut, cursors skip it.
        let _ = file.set_len(end);
    }
    Ok(Some(segment.sealed(end, last, Some(tally))))
}
