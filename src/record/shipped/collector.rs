//! Segments made of pieces.
//!
//! What: each piece is written to its place in a file beside the segment's; at the end the files get their names. In any
//! order, of many recordings, and more than once; of each segment only the ranges that are there are held.
//! How it fails: lines are hostile. A recording's id is a name and no path, a segment ends at [`SEGMENT_BYTES_MAX`], a piece
//! that contradicts an earlier one is told, and the earlier one stays. Files that are there are not touched. What is
//! missing stays a hole of zeros, so that everything else is where the index says; without its head a segment gets a
//! plain one, because nothing of it could be read otherwise.

use super::covered::Covered;
use super::{Line, SCHEMA};
use crate::record::segment::EXTENSION;
use crate::record::segment::frame::{self, HEAD_BYTES, Head, Kind};
use crate::svc::base64;
use serde::Deserialize;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The longest segment that is made; a recorder's have 64 MiB.
pub const SEGMENT_BYTES_MAX: u64 = 16 << 30;
/// Segments of an import.
const SEGMENTS_MAX: usize = 100_000;
/// Ranges of one segment: pieces that lie alone. With 128 KiB a piece, every other one of a segment may be missing.
const RANGES_MAX: usize = 1 << 16;
/// The longest id of a recording.
const ID_BYTES_MAX: usize = 64;
/// The payload of the frame that ends a segment.
const END_BYTES: usize = 16;

/// What became of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// Something of it was not known yet.
    New,
    /// All of it was there.
    Repeated,
    /// It is another event, or of a segment that is refused.
    PassedOver,
}

/// Why a line was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// What is wrong with it; the next one may be taken.
    Line(String),
    /// The disk refuses: there is no point in going on.
    Disk(String),
}

/// A segment that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Collected {
    /// Its file.
    pub path: PathBuf,
    /// How long it is.
    pub bytes: u64,
    /// What of it is not there.
    pub missing: Vec<Range<u64>>,
    /// Whether its last frame is there.
    pub is_ended: bool,
}

/// The members of an event that count.
#[derive(Deserialize)]
struct Event<'a> {
    #[serde(borrow)]
    schema: Cow<'a, str>,
    #[serde(rename = "sidelight.recording.id", default, borrow)]
    recording: Cow<'a, str>,
    #[serde(rename = "sidelight.recording.segment", default)]
    segment: u32,
    #[serde(rename = "sidelight.recording.offset", default)]
    offset: u64,
    #[serde(rename = "sidelight.recording.data", default, borrow)]
    data: Cow<'a, str>,
}

type Key = (String, u32);

#[derive(Default)]
struct Segment {
    covered: Covered,
    /// There is a file of its name.
    is_refused: bool,
}

/// See the module. Dropped before [`Collector::finish`], it takes away what it has begun.
pub struct Collector {
    directory: PathBuf,
    segments: BTreeMap<Key, Segment>,
    /// The file that was written last.
    open: Option<(Key, File)>,
}

impl Collector {
    /// Into a directory, which is made where it is missing.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn new(directory: &Path) -> io::Result<Collector> {
        std::fs::create_dir_all(directory)?;
        Ok(Collector { directory: directory.into(), segments: BTreeMap::new(), open: None })
    }

    /// Takes a line of a file.
    ///
    /// # Errors
    /// It is a damaged piece of a recording, contradicts an earlier one, or cannot be written.
    pub fn take(&mut self, line: &Line<'_>) -> Result<Taken, Wrong> {
        if memchr::memmem::find(line.bytes, b"sidelight/recording_frame/").is_none() {
            return Ok(Taken::PassedOver);
        }
        if line.is_cut {
            return Err(Wrong::Line("is longer than an event with a piece can be; left out".into()));
        }
        // Consumers print keys in front.
        let start = memchr::memchr(b'{', line.bytes).unwrap_or(0);
        let text = line.bytes.get(start..).unwrap_or_default().trim_ascii_end();
        let event: Event<'_> = serde_json::from_slice(text)
            .map_err(|error| Wrong::Line(format!("is no whole event: {error}; left out")))?;
        if event.schema != SCHEMA {
            return match event.schema.strip_prefix("sidelight/recording_frame/") {
                None => Ok(Taken::PassedOver),
                Some(_) => Err(Wrong::Line(format!(
                    "is of a later version than {SCHEMA}: use a newer sidelight; left out"
                ))),
            };
        }
        let key = named(&event).map_err(Wrong::Line)?;
        let bytes = base64::decode(&event.data).filter(|bytes| !bytes.is_empty());
        let bytes = bytes.ok_or_else(|| Wrong::Line("has no data in Base64; left out".into()))?;
        let end = event.offset.checked_add(bytes.len() as u64).filter(|end| *end <= SEGMENT_BYTES_MAX);
        let Some(end) = end else {
            return Err(Wrong::Line(format!(
                "has its place at byte {}, and no segment is longer than {SEGMENT_BYTES_MAX}; left out",
                event.offset
            )));
        };
        self.put(key, event.offset..end, &bytes)
    }

    fn put(&mut self, key: Key, range: Range<u64>, bytes: &[u8]) -> Result<Taken, Wrong> {
        if !self.segments.contains_key(&key) {
            self.begin(&key)?;
        }
        let Some(segment) = self.segments.get_mut(&key) else { return Ok(Taken::PassedOver) };
        if segment.is_refused {
            return Ok(Taken::PassedOver);
        }
        if segment.covered.ranges() >= RANGES_MAX {
            return Err(Wrong::Line(format!(
                "segment {} of {} has more than {RANGES_MAX} gaps; left out",
                key.1, key.0
            )));
        }
        let missing = segment.covered.missing(range.clone());
        let (path, place) = (self.draft(&key), key.clone());
        let file = match &mut self.open {
            Some((open, file)) if *open == key => file,
            other => {
                let file = OpenOptions::new().read(true).write(true).open(&path);
                &mut other.insert((key, file.map_err(|error| disk(&path, &error))?)).1
            }
        };
        let of = |gap: &Range<u64>| {
            let (from, to) = (gap.start - range.start, gap.end - range.start);
            bytes.get(from as usize..to as usize).unwrap_or_default()
        };
        let mut is_same = true;
        let mut at = range.start;
        for gap in missing.iter().cloned().chain(std::iter::once(range.end..range.end)) {
            if gap.start > at {
                let mut there = vec![0; (gap.start - at) as usize];
                file.read_exact_at(&mut there, at).map_err(|error| disk(&path, &error))?;
                is_same &= there == of(&(at..gap.start));
            }
            at = gap.end;
        }
        if !is_same {
            return Err(Wrong::Line(format!(
                "says other bytes than an earlier line, of segment {} of {} at byte {}; left out",
                place.1, place.0, range.start
            )));
        }
        for gap in &missing {
            file.write_all_at(of(gap), gap.start).map_err(|error| disk(&path, &error))?;
        }
        if missing.is_empty() {
            return Ok(Taken::Repeated);
        }
        if let Some(segment) = self.segments.get_mut(&place) {
            segment.covered.add(range);
        }
        Ok(Taken::New)
    }

    /// A segment that was not known.
    fn begin(&mut self, key: &Key) -> Result<(), Wrong> {
        if self.segments.len() >= SEGMENTS_MAX {
            return Err(Wrong::Line(format!("is of more than {SEGMENTS_MAX} segments; left out")));
        }
        let (path, draft) = (self.path(key), self.draft(key));
        if path.symlink_metadata().is_ok() {
            self.segments.insert(key.clone(), Segment { is_refused: true, ..Segment::default() });
            return Err(Wrong::Line(format!(
                "{} is there already, and stays as it is; to make it anew, name another directory",
                path.display()
            )));
        }
        // One that an import left behind that was killed.
        let _ = std::fs::remove_file(&draft);
        let made = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&draft);
        self.open = Some((key.clone(), made.map_err(|error| disk(&draft, &error))?));
        self.segments.insert(key.clone(), Segment::default());
        Ok(())
    }

    /// As a recorder names it.
    fn path(&self, (recording, segment): &Key) -> PathBuf {
        self.directory.join(format!("{recording}-{segment:06}.{EXTENSION}"))
    }

    /// Until it is done: no reader takes it for a segment.
    fn draft(&self, (recording, segment): &Key) -> PathBuf {
        self.directory.join(format!("{recording}-{segment:06}.{EXTENSION}.part"))
    }

    /// Gives the files their names, and tells what they are.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn finish(mut self) -> Result<Vec<Collected>, String> {
        self.open = None;
        let mut made = Vec::new();
        for (key, segment) in &self.segments {
            if segment.covered.ranges() == 0 {
                if !segment.is_refused {
                    let _ = std::fs::remove_file(self.draft(key));
                }
                continue;
            }
            let (draft, path) = (self.draft(key), self.path(key));
            let bytes = segment.covered.end();
            let missing = segment.covered.missing(0..bytes);
            let told = |error: io::Error| format!("{}: {error}", draft.display());
            let file = OpenOptions::new().read(true).write(true).open(&draft).map_err(told)?;
            if let Some(hole) = missing.first().filter(|hole| hole.start == 0) {
                put_head(&file, key, hole.end).map_err(told)?;
            }
            let is_ended = is_ended(&file, bytes);
            std::fs::rename(&draft, &path).map_err(told)?;
            made.push(Collected { path, bytes, missing, is_ended });
        }
        self.segments.clear();
        Ok(made)
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        for (key, segment) in &self.segments {
            if !segment.is_refused {
                let _ = std::fs::remove_file(self.draft(key));
            }
        }
    }
}

fn disk(path: &Path, error: &io::Error) -> Wrong {
    Wrong::Disk(format!("{}: {error}", path.display()))
}

/// Which segment it is of; what is to become a file's name is looked at closely.
fn named(event: &Event<'_>) -> Result<Key, String> {
    let id = &event.recording;
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if id.is_empty() || id.len() > ID_BYTES_MAX || !id.bytes().all(is_plain) {
        return Err(format!(
            "names no recording: an id has 1 to {ID_BYTES_MAX} letters, digits, - and _; left out"
        ));
    }
    if event.segment == 0 {
        return Err("names no segment: they are counted from 1; left out".into());
    }
    Ok((id.to_string(), event.segment))
}

/// A head for a segment whose own is not there; it fills the hole, as its reader looks for the next frame behind it.
fn put_head(file: &File, (recording, segment): &Key, hole: u64) -> io::Result<()> {
    let mut head = serde_json::json!({
        "version": crate::record::segment::VERSION,
        "recording": recording,
        "segment": segment,
        "source": "sidelight",
    })
    .to_string()
    .into_bytes();
    let Some(room) = usize::try_from(hole).ok().and_then(|hole| hole.checked_sub(HEAD_BYTES)) else {
        return Ok(());
    };
    if head.len() > room {
        return Ok(());
    }
    // JSON may end in spaces; a hole that is longer than this has room for what is left of it to be searched through.
    head.resize(room.min(head.len().max(64 << 10)), b' ');
    let mut bytes = Vec::new();
    frame::put(&mut bytes, Kind::Head, 0, &head);
    file.write_all_at(&bytes, 0)
}

/// Whether the last frame is the one that ends a segment.
fn is_ended(file: &File, bytes: u64) -> bool {
    let mut last = [0; HEAD_BYTES + END_BYTES];
    let Some(start) = bytes.checked_sub(last.len() as u64) else { return false };
    file.read_exact_at(&mut last, start).is_ok()
        && Head::read(&last).is_some_and(|head| {
            head.kind == Kind::End && head.is_payload(last.get(HEAD_BYTES..).unwrap_or_default())
        })
}
