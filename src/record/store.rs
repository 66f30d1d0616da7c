//! A directory that segments are written to: the next one begins when one is full, and the oldest go.
//!
//! How it fails: an error of the disk ends the segment, and what was not flushed of it is lost and told; the next write
//! tries a new one.

use super::entry::Entry;
use super::header::{Books, Header};
use super::segment::{self, EXTENSION, Keys, Kind, Limits, OnFrame};
use super::shipped::Shipping;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How much is kept.
#[derive(Clone, Debug)]
pub struct Retention {
    /// When the next segment begins.
    pub limits: Limits,
    /// Bytes of all segments in the directory; beyond them the oldest go.
    pub disk_bytes_max: u64,
    /// The age at which a segment goes; `None`: never.
    pub age_max: Option<Duration>,
    /// zstd's level.
    pub level: i32,
}

impl Default for Retention {
    fn default() -> Self {
        Retention { limits: Limits::default(), disk_bytes_max: u64::MAX, age_max: None, level: 3 }
    }
}

/// See the module.
pub struct Store {
    directory: PathBuf,
    header: Header,
    retention: Retention,
    segment: Option<segment::Writer>,
    shipping: Option<Shipping>,
}

impl Store {
    /// In a directory, which is made where it is missing. `header` is that of every segment, but for number and time.
    pub fn new(directory: &Path, header: Header, retention: Retention) -> io::Result<Store> {
        std::fs::create_dir_all(directory)?;
        Ok(Store { directory: directory.into(), header, retention, segment: None, shipping: None })
    }

    /// What the next segments are to say of themselves.
    pub fn header(&mut self) -> &mut Header {
        &mut self.header
    }

    /// What is kept from now on.
    pub fn retain(&mut self, retention: Retention) {
        self.retention = retention;
    }

    /// Where the frames of the next segments go, beside their files.
    pub fn ship(&mut self, shipping: Option<Shipping>) {
        self.shipping = shipping;
    }

    /// The segment that is written, if there is one.
    pub fn segment(&self) -> Option<&segment::Writer> {
        self.segment.as_ref()
    }

    /// Adds a record. On an error the segment is given up, with [`segment::Writer::unflushed`] entries that are told in it.
    pub fn push(&mut self, kind: Kind, record: &[&[u8]], keys: &Keys<'_>) -> Result<(), Lost> {
        let segment = match &mut self.segment {
            Some(segment) => segment,
            None => {
                let opened = self.begin().map_err(|error| Lost { entries: 0, is_push: false, error })?;
                self.segment.insert(opened)
            }
        };
        let result = segment.push(kind, record, keys);
        let is_push = matches!(kind, Kind::Entry | Kind::SealedEntry);
        self.settle(result).map_err(|lost| Lost { is_push, ..lost })
    }

    /// Brings everything to the file.
    pub fn flush(&mut self) -> Result<(), Lost> {
        let Some(segment) = &mut self.segment else { return Ok(()) };
        let result = segment.flush();
        self.settle(result)
    }

    fn settle(&mut self, result: io::Result<()>) -> Result<(), Lost> {
        result.map_err(|error| {
            let entries = self.segment.take().map_or(0, |segment| segment.unflushed());
            Lost { entries, is_push: false, error }
        })
    }

    /// Whether the segment should end now.
    pub fn is_full(&self) -> bool {
        self.segment.as_ref().is_some_and(|segment| segment.is_full(&self.retention.limits))
    }

    /// Ends the segment: writes books and index. Its path.
    pub fn end_segment(&mut self, books: &Books) -> Result<Option<PathBuf>, Lost> {
        let Some(segment) = self.segment.take() else { return Ok(None) };
        let (entries, path) = (segment.unflushed(), segment.path().to_path_buf());
        let books = serde_json::to_vec(books).unwrap_or_default();
        segment.finish(&books).map(|()| Some(path)).map_err(|error| Lost { entries, is_push: false, error })
    }

    /// Writes the books as they are.
    pub fn note_books(&mut self, books: &Books) -> Result<(), Lost> {
        let Some(segment) = &mut self.segment else { return Ok(()) };
        let result = segment.note_books(&serde_json::to_vec(books).unwrap_or_default());
        self.settle(result)
    }

    /// Asks the kernel to bring it to the disk.
    pub fn sync(&self) -> io::Result<()> {
        self.segment.as_ref().map_or(Ok(()), segment::Writer::sync)
    }

    fn begin(&mut self) -> io::Result<segment::Writer> {
        self.make_room()?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.header.version = segment::VERSION;
        self.header.segment += 1;
        self.header.created_ns = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        let name = format!("{}-{:06}.{EXTENSION}", self.header.recording, self.header.segment);
        let path = self.directory.join(name);
        let (recording, number) = (self.header.recording.clone(), self.header.segment);
        let on_frame = self.shipping.clone().map(|shipping| -> OnFrame {
            Box::new(move |offset, frame| shipping.frame(&recording, number, offset, frame))
        });
        segment::Writer::create_told(&path, &self.header.encode(), self.retention.level, on_frame)
    }

    /// Removes what is too old or too much: oldest first, whole segments.
    fn make_room(&self) -> io::Result<()> {
        let mut files = Vec::new();
        for file in std::fs::read_dir(&self.directory)?.flatten() {
            let path = file.path();
            if path.extension().is_some_and(|extension| extension == EXTENSION)
                && let Ok(about) = file.metadata()
            {
                files.push((about.modified().unwrap_or(UNIX_EPOCH), about.len(), path));
            }
        }
        files.sort();
        let now = SystemTime::now();
        let mut total: u64 = files.iter().map(|(_, bytes, _)| bytes).sum();
        let budget = self.retention.disk_bytes_max.saturating_sub(self.retention.limits.segment_bytes);
        for (modified, bytes, path) in files {
            let is_old = self
                .retention
                .age_max
                .is_some_and(|max| now.duration_since(modified).is_ok_and(|age| age > max));
            if is_old || total > budget {
                std::fs::remove_file(&path)?;
                total -= bytes;
            }
        }
        Ok(())
    }
}

/// The disk refused: the error, and how many entries that were pushed before are lost with it.
#[derive(Debug)]
pub struct Lost {
    /// Entries that were pushed and not flushed.
    pub entries: u64,
    /// Whether the entry that was being pushed is one of them.
    pub is_push: bool,
    /// What the disk said.
    pub error: io::Error,
}

/// Writes entries that are already there: imports, cuts, merges.
pub struct Writer {
    store: Store,
    sequence: u64,
    record: Vec<u8>,
}

impl Writer {
    /// Into a directory. The header's `recording` is the name of the files; empty: made of the time.
    pub fn create(directory: &Path, header: &Header) -> io::Result<Writer> {
        let mut header = header.clone();
        header.segment = 0;
        if header.recording.is_empty() {
            header.recording = recording_id(SystemTime::now(), std::process::id());
        }
        if header.writer.is_empty() {
            header.writer = concat!("sidelight ", env!("CARGO_PKG_VERSION")).into();
        }
        Ok(Writer {
            store: Store::new(directory, header, Retention::default())?,
            sequence: 0,
            record: Vec::new(),
        })
    }

    /// Adds an entry. It gets the next number. Parts are added with [`Writer::write_part`] before.
    pub fn write(&mut self, entry: &Entry) -> io::Result<()> {
        self.sequence += 1;
        self.put(Kind::Entry, entry, self.sequence)
    }

    /// Adds a part of an entry that is still to come: only its `token`, `parts` (its number) and `events` count.
    pub fn write_part(&mut self, part: &Entry) -> io::Result<()> {
        self.put(Kind::Part, part, 0)
    }

    fn put(&mut self, kind: Kind, entry: &Entry, sequence: u64) -> io::Result<()> {
        self.record.clear();
        entry.encode_as(&mut self.record, sequence);
        let keys = Keys {
            started_ns: entry.started_ns,
            trace_id: Some(&entry.trace_id),
            account_id: entry.account_id.as_bytes(),
            user_id: entry.user_id.as_bytes(),
            route: entry.route.as_bytes(),
            token: entry.token,
        };
        self.store.push(kind, &[&self.record], &keys).map_err(|lost| lost.error)?;
        if self.store.is_full() { self.end() } else { Ok(()) }
    }

    fn end(&mut self) -> io::Result<()> {
        let books = Books { seen: self.sequence, recorded: self.sequence, ..Books::default() };
        self.store.end_segment(&books).map(|_| ()).map_err(|lost| lost.error)
    }

    /// Writes the index of the last segment.
    pub fn finish(mut self) -> io::Result<()> {
        self.end()
    }
}

/// A name that sorts by time: of a recording that this process begins now.
pub(super) fn recording_id(now: SystemTime, process: u32) -> String {
    let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("{:012x}{:05x}", since.as_micros() & 0xffff_ffff_ffff_ffff, process & 0xf_ffff)
}
