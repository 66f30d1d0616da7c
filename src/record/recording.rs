//! A recording that is read: a directory of segments, or one of them.
//!
//! Entries come in the order in which they were written, which is that in which exchanges ended. Where a segment has an
//! index, a query reads only the blocks that have what is asked for. How it fails: what cannot be read is told as a
//! [`Problem`] with its place, and reading goes on; memory is bounded by a block and an entry.

use super::entry::{Entry, Event, What};
use super::error::{Error, Problem};
use super::header::{Books, Header};
use super::seal::{self, KEY_ID_BYTES, Keys, PURPOSE, Sealed};
use super::segment::block::Record;
use super::segment::index::{Block, Term};
use super::segment::{EXTENSION, Kind, Opened, Piece, Reader};
use crate::exchange::Direction;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What is asked for; what is `None` is not asked about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    /// Exchanges that began then or later, nanoseconds since 1970.
    pub from_ns: Option<u64>,
    /// Exchanges that began before.
    pub until_ns: Option<u64>,
    /// One trace.
    pub trace_id: Option<[u8; 16]>,
    /// One account.
    pub account_id: Option<String>,
    /// One user.
    pub user_id: Option<String>,
    /// One route.
    pub route: Option<String>,
    /// One side of the application.
    pub direction: Option<Direction>,
}

impl Query {
    /// Whether the entry is asked for.
    pub fn matches(&self, entry: &Entry) -> bool {
        let is = |wanted: &Option<String>, text: &str| wanted.as_deref().is_none_or(|wanted| wanted == text);
        self.from_ns.is_none_or(|from| entry.started_ns >= from)
            && self.until_ns.is_none_or(|until| entry.started_ns < until)
            && self.trace_id.is_none_or(|id| entry.trace_id == id)
            && is(&self.account_id, &entry.account_id)
            && is(&self.user_id, &entry.user_id)
            && is(&self.route, &entry.route)
            && self.direction.is_none_or(|direction| entry.direction == direction)
    }

    fn has_time(&self, block: &Block) -> bool {
        self.from_ns.is_none_or(|from| block.last_ns >= from)
            && self.until_ns.is_none_or(|until| block.first_ns < until)
    }

    fn terms(&self) -> Vec<Term<'_>> {
        let trace = self.trace_id.as_ref().map(Term::Trace);
        let account = self.account_id.as_ref().map(|id| Term::Account(id.as_bytes()));
        let user = self.user_id.as_ref().map(|id| Term::User(id.as_bytes()));
        let route = self.route.as_ref().map(|name| Term::Route(name.as_bytes()));
        [trace, account, user, route].into_iter().flatten().collect()
    }

    fn is_all(&self) -> bool {
        *self == Query::default()
    }
}

/// A segment of an opened recording.
#[derive(Clone, Debug)]
pub struct Segment {
    /// The file.
    pub path: PathBuf,
    /// What it says of itself.
    pub header: Header,
    /// How long the file is.
    pub bytes: u64,
    /// Its blocks; `None`: it was not ended, because its process was killed or still writes.
    pub blocks: Option<Vec<Block>>,
}

/// See the module.
pub struct Recording {
    path: PathBuf,
    segments: Vec<Segment>,
    problems: Vec<Error>,
    keys: Option<Mutex<Keys>>,
}

impl Recording {
    /// Opens a directory of segments, or one segment.
    pub fn open(path: &Path) -> Result<Recording, Error> {
        let about = std::fs::metadata(path).map_err(|error| Error::new(path, error.to_string()))?;
        let mut files = Vec::new();
        if about.is_dir() {
            let listed = std::fs::read_dir(path).map_err(|error| Error::new(path, error.to_string()))?;
            let named = |path: &PathBuf| path.extension().is_some_and(|extension| extension == EXTENSION);
            files.extend(listed.flatten().map(|file| file.path()).filter(named));
        } else {
            files.push(path.to_path_buf());
        }
        let (mut segments, mut problems) = (Vec::new(), Vec::new());
        for file in files {
            match open(&file) {
                Ok((_, segment)) => segments.push(segment),
                Err(error) => problems.push(error),
            }
        }
        if segments.is_empty() {
            let none = || Error::new(path, format!("has no segments (files that end in .{EXTENSION})"));
            return Err(problems.into_iter().next().unwrap_or_else(none));
        }
        segments.sort_by(|a, b| {
            (a.header.created_ns, a.header.segment, &a.path).cmp(&(
                b.header.created_ns,
                b.header.segment,
                &b.path,
            ))
        });
        Ok(Recording { path: path.into(), segments, problems, keys: None })
    }

    /// Opens a recording whose entries are sealed, with the directory of its keys.
    pub fn open_with_keys(path: &Path, keys: &Path) -> Result<Recording, Error> {
        let recording = Recording::open(path)?;
        // A directory is made where there is none, which is no help to a reader.
        if !keys.is_dir() {
            return Err(Error::new(keys, "is no directory of keys"));
        }
        let keys = Keys::open(keys).map_err(|what| Error::new(keys, what))?;
        Ok(Recording { keys: Some(Mutex::new(keys)), ..recording })
    }

    fn keys(&self) -> Option<MutexGuard<'_, Keys>> {
        self.keys.as_ref().map(|keys| keys.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The record, unsealed where it is sealed; `None`: of a kind that is not known.
    fn open_record(&self, record: &Record) -> Result<Option<(Kind, Bytes)>, Unopened> {
        let kind = match record.kind {
            Kind::Entry | Kind::Part => return Ok(Some((record.kind, record.bytes.clone()))),
            Kind::SealedEntry => Kind::Entry,
            Kind::SealedPart => Kind::Part,
            Kind::Other(_) => return Ok(None),
        };
        let Some(mut keys) = self.keys() else {
            let what = "an entry that is sealed: give the directory of keys (--keys)".into();
            return Err(Unopened { what, is_sealed: true });
        };
        let failed = |error: seal::Error| Unopened {
            what: error.to_string(),
            is_sealed: error == seal::Error::Forgotten,
        };
        let sealed = Sealed::decode(&record.bytes).map_err(failed)?;
        let plain = keys.unseal(&sealed, PURPOSE).map_err(failed)?;
        Ok(Some((kind, plain.into())))
    }

    /// What was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The segments, oldest first.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// Files that are no segments, or not whole enough to be opened.
    pub fn problems(&self) -> &[Error] {
        &self.problems
    }

    /// What each segment says of itself.
    pub fn headers(&self) -> impl Iterator<Item = &Header> {
        self.segments.iter().map(|segment| &segment.header)
    }

    /// The entries that are asked for.
    pub fn entries(&self, query: &Query) -> Entries<'_> {
        Entries {
            recording: self,
            segments: self.segments.iter().collect(),
            query: query.clone(),
            key_id: None,
            pieces: None,
            ready: VecDeque::new(),
        }
    }

    /// The events of an entry: the request's head, those of its parts, which are read one after the other, then its own. The
    /// heads that an entry repeats from its parts come once.
    pub fn events(&self, entry: &Entry) -> Events<'_> {
        let segments = if entry.parts > 0 { self.segments.iter().collect() } else { VecDeque::new() };
        let mut own: VecDeque<Event> = entry.events.clone().into();
        let is_head = |event: &Event| matches!(event.what, What::Request(_));
        let head = own.iter().position(is_head).filter(|_| entry.parts > 0).and_then(|at| own.remove(at));
        Events {
            recording: self,
            segments,
            token: entry.token,
            pieces: None,
            has_head: head.is_some(),
            ready: head.into_iter().collect(),
            own,
            answers: Vec::new(),
            parts: 0,
            parts_wanted: entry.parts,
        }
    }

    /// The books of all recordings in it: of each the last that were written.
    pub fn books(&self) -> Books {
        let mut last: BTreeMap<&str, Books> = BTreeMap::new();
        for segment in &self.segments {
            if let Some(books) = last_books(segment) {
                last.insert(&segment.header.recording, books);
            }
        }
        let mut all = Books::default();
        last.values().for_each(|books| all.add(books));
        all
    }
}

fn open(path: &Path) -> Result<(Reader, Segment), Error> {
    let (reader, Opened { head, placed, bytes }) = Reader::open(path)?;
    let header = Header::decode(&head).map_err(|what| Error::new(path, what))?;
    let blocks = placed.map(|placed| placed.blocks);
    Ok((reader, Segment { path: path.into(), header, bytes, blocks }))
}

fn last_books(segment: &Segment) -> Option<Books> {
    let (mut reader, _) = Reader::open(&segment.path).ok()?;
    // They are behind the last block.
    let last = segment.blocks.as_ref().and_then(|blocks| blocks.last());
    if let Some(block) = last {
        reader.seek(block.offset).ok()?;
    }
    let books = reader.filter_map(|piece| match piece {
        Ok(Piece::Books(books)) => Some(books),
        _ => None,
    });
    books.last().and_then(|books| serde_json::from_slice(&books).ok())
}

/// The pieces of a segment that may have what is asked for.
struct Pieces {
    reader: Reader,
    /// The blocks to read; `None`: all.
    blocks: Option<VecDeque<(u32, u64)>>,
    current: Option<u32>,
}

impl Pieces {
    fn open(
        segment: &Segment,
        terms: &[Term<'_>],
        has_time: impl Fn(&Block) -> bool,
    ) -> Result<Pieces, Problem> {
        let failed = |what: String| Problem { path: segment.path.clone(), offset: 0, what, is_sealed: false };
        let (mut reader, opened) = Reader::open(&segment.path).map_err(|error| failed(error.what))?;
        let start = reader.offset();
        let Some(placed) = opened.placed else { return Ok(Pieces { reader, blocks: None, current: None }) };
        let mut wanted: Option<BTreeSet<u32>> = None;
        for term in terms {
            let found = placed.blocks_of(reader.file(), *term).map_err(|error| failed(error.to_string()))?;
            let found: BTreeSet<u32> = found.into_iter().collect();
            wanted = Some(match wanted {
                Some(before) => before.intersection(&found).copied().collect(),
                None => found,
            });
        }
        reader.seek(start).map_err(|error| failed(error.to_string()))?;
        let numbered = placed.blocks.iter().zip(0_u32..).filter(|(block, number)| {
            has_time(block) && wanted.as_ref().is_none_or(|wanted| wanted.contains(number))
        });
        let blocks: VecDeque<(u32, u64)> = numbered.map(|(block, number)| (number, block.offset)).collect();
        let is_all = blocks.len() == placed.blocks.len();
        Ok(Pieces { reader, blocks: (!is_all).then_some(blocks), current: None })
    }
}

impl Iterator for Pieces {
    type Item = Result<(u64, Vec<Record>), Problem>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if self.current.is_none()
                && let Some(blocks) = &mut self.blocks
            {
                let (number, offset) = blocks.pop_front()?;
                self.current = Some(number);
                if self.reader.seek(offset).is_err() {
                    return None;
                }
            }
            match self.reader.next() {
                Some(Ok(Piece::Records { block, offset, records })) => {
                    match self.current {
                        Some(current) if current != block => self.current = None,
                        _ => return Some(Ok((offset, records))),
                    };
                }
                Some(Ok(Piece::Books(_))) => {}
                Some(Ok(Piece::Rest)) if self.blocks.is_none() => {}
                // Behind the last block.
                Some(Ok(Piece::Rest)) | None if self.blocks.is_some() => self.current = None,
                Some(Ok(Piece::Rest)) | None => return None,
                Some(Err(problem)) => return Some(Err(problem)),
            }
        }
    }
}

/// See [`Recording::entries`].
pub struct Entries<'a> {
    recording: &'a Recording,
    /// Of the account that is asked for, in sealed segments.
    key_id: Option<[u8; KEY_ID_BYTES]>,
    segments: VecDeque<&'a Segment>,
    query: Query,
    pieces: Option<(Pieces, &'a Segment)>,
    ready: VecDeque<Result<Entry, Problem>>,
}

impl Iterator for Entries<'_> {
    type Item = Result<Entry, Problem>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(entry) = self.ready.pop_front() {
                return Some(entry);
            }
            let Some((pieces, segment)) = &mut self.pieces else {
                let segment = self.segments.pop_front()?;
                let mut terms = self.query.terms();
                if segment.header.is_sealed {
                    // There an account stands under the id of its key.
                    terms.retain(|term| !matches!(term, Term::Account(_) | Term::User(_)));
                    self.key_id = match (&self.query.account_id, self.recording.keys()) {
                        (Some(account), Some(mut keys)) => Some(keys.key_id(account)),
                        _ => None,
                    };
                    terms.extend(self.key_id.as_ref().map(|id| Term::Account(id)));
                }
                match Pieces::open(segment, &terms, |block| self.query.has_time(block)) {
                    Ok(pieces) => self.pieces = Some((pieces, segment)),
                    Err(problem) => return Some(Err(problem)),
                }
                continue;
            };
            match pieces.next() {
                None => self.pieces = None,
                Some(Err(problem)) => return Some(Err(problem)),
                Some(Ok((offset, records))) => {
                    for record in records {
                        match read(self.recording, &record, segment, offset) {
                            Some(Ok(entry)) if self.query.is_all() || self.query.matches(&entry) => {
                                self.ready.push_back(Ok(entry));
                            }
                            Some(Err(problem)) => self.ready.push_back(Err(problem)),
                            Some(Ok(_)) | None => {}
                        }
                    }
                }
            }
        }
    }
}

/// Why a sealed record was not opened.
struct Unopened {
    what: String,
    is_sealed: bool,
}

/// The entry that a record is; `None`: it is none.
fn read(
    recording: &Recording,
    record: &Record,
    segment: &Segment,
    offset: u64,
) -> Option<Result<Entry, Problem>> {
    let problem = |what: String, is_sealed| Problem { path: segment.path.clone(), offset, what, is_sealed };
    if matches!(record.kind, Kind::Part | Kind::SealedPart) {
        return None;
    }
    match recording.open_record(record) {
        Ok(Some((_, bytes))) => {
            Some(Entry::decode(&bytes).map_err(|_| problem("an entry that is damaged".into(), false)))
        }
        Ok(None) => None,
        Err(unopened) => Some(Err(problem(unopened.what, unopened.is_sealed))),
    }
}

/// See [`Recording::events`].
pub struct Events<'a> {
    recording: &'a Recording,
    segments: VecDeque<&'a Segment>,
    token: u64,
    pieces: Option<(Pieces, &'a Segment)>,
    ready: VecDeque<Event>,
    own: VecDeque<Event>,
    /// The request's head came already.
    has_head: bool,
    /// Statuses of the heads that came in parts.
    answers: Vec<u16>,
    parts: u32,
    parts_wanted: u32,
}

impl Events<'_> {
    /// Whether every part was there. Ask at the end.
    pub fn is_whole(&self) -> bool {
        self.parts == self.parts_wanted
    }

    fn of_part(&mut self, events: Vec<Event>) {
        for event in events {
            match &event.what {
                What::Request(_) if self.has_head => continue,
                What::Request(_) => self.has_head = true,
                What::Response(head) => self.answers.push(head.status),
                _ => {}
            }
            self.ready.push_back(event);
        }
    }

    /// The next of its own events.
    fn own(&mut self) -> Option<Event> {
        loop {
            let event = self.own.pop_front()?;
            let is_repeated = match &event.what {
                What::Response(head) => self.answers.contains(&head.status),
                _ => false,
            };
            if !is_repeated {
                return Some(event);
            }
        }
    }
}

impl Iterator for Events<'_> {
    type Item = Result<Event, Problem>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(Ok(event));
            }
            if self.parts == self.parts_wanted {
                return self.own().map(Ok);
            }
            let Some((pieces, segment)) = &mut self.pieces else {
                let Some(segment) = self.segments.pop_front() else {
                    return self.own().map(Ok);
                };
                match Pieces::open(segment, &[Term::Part(self.token)], |_| true) {
                    Ok(pieces) => self.pieces = Some((pieces, segment)),
                    Err(problem) => return Some(Err(problem)),
                }
                continue;
            };
            match pieces.next() {
                None => self.pieces = None,
                Some(Err(problem)) => return Some(Err(problem)),
                Some(Ok((offset, records))) => {
                    let is_part = |record: &&Record| matches!(record.kind, Kind::Part | Kind::SealedPart);
                    let mut found = Vec::new();
                    for record in records.iter().filter(is_part) {
                        // Parts of other accounts, whose keys are gone, are not asked for.
                        let Ok(Some((_, bytes))) = self.recording.open_record(record) else { continue };
                        match Entry::decode(&bytes) {
                            Ok(part) if part.token == self.token => {
                                self.parts += 1;
                                found.extend(part.events);
                            }
                            Ok(_) => {}
                            Err(_) => {
                                let what = "a part that is damaged".into();
                                let path = segment.path.clone();
                                return Some(Err(Problem { path, offset, what, is_sealed: false }));
                            }
                        }
                    }
                    self.of_part(found);
                }
            }
        }
    }
}
