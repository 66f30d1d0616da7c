//! A segment that is read: in order, or from a block that the index names.
//!
//! How it fails: what is damaged becomes a [`Problem`] with its offset, and reading goes on at the next frame that is
//! whole. A tail that was torn by a crash is told as such; a file that is no segment, or one of a later version, cannot be
//! opened. Nothing that a file says makes a reader hold more than a block, or loop.

use super::block::{Expander, Record};
use super::frame::{self, HEAD_BYTES, Head, Kind};
use super::index::Placed;
use super::writer::END_BYTES;
use crate::record::{Error, Problem};
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// What is known of a segment that was opened.
#[derive(Clone, Debug)]
pub struct Opened {
    /// The head's JSON.
    pub head: Vec<u8>,
    /// The index; `None`: the process that wrote it did not end it.
    pub placed: Option<Placed>,
    /// How long the file is.
    pub bytes: u64,
}

/// What was read.
#[derive(Debug)]
pub enum Piece {
    /// Records of a block.
    Records {
        /// Which block.
        block: u32,
        /// Where the frame begins.
        offset: u64,
        /// The records.
        records: Vec<Record>,
    },
    /// The books as they were here, JSON.
    Books(Vec<u8>),
    /// The index or the end.
    Rest,
}

/// See the module.
pub struct Reader {
    file: BufReader<File>,
    path: PathBuf,
    /// Where `file` is.
    at: u64,
    bytes: u64,
    expander: Expander,
    payload: Vec<u8>,
    has_ended: bool,
}

impl Reader {
    /// Opens a segment and reads its head and, if it has one, where its index is.
    pub fn open(path: &Path) -> Result<(Reader, Opened), Error> {
        let failed = |error: std::io::Error| Error::new(path, error.to_string());
        let file = File::open(path).map_err(failed)?;
        let bytes = file.metadata().map_err(failed)?.len();
        let expander = Expander::new().map_err(failed)?;
        let file = BufReader::with_capacity(64 << 10, file);
        let mut reader =
            Reader { file, path: path.into(), at: 0, bytes, expander, payload: Vec::new(), has_ended: false };
        let head = match reader.frame() {
            Some(Ok((_, head))) if head.kind == Kind::Head => std::mem::take(&mut reader.payload),
            _ if bytes == 0 => {
                return Err(Error::new(path, "is empty: the process that made it was killed at once"));
            }
            _ => {
                let what = "is no segment of a recording (its first frame is missing or damaged)";
                return Err(Error::new(path, what));
            }
        };
        let placed = reader.find_index();
        let start = (HEAD_BYTES + head.len()) as u64;
        reader.seek(start).map_err(failed)?;
        Ok((reader, Opened { head, placed, bytes }))
    }

    /// Where the file is read.
    pub fn offset(&self) -> u64 {
        self.at
    }

    /// Goes to a frame.
    pub fn seek(&mut self, offset: u64) -> std::io::Result<()> {
        self.file.seek(SeekFrom::Start(offset))?;
        self.at = offset;
        self.has_ended = false;
        self.expander.lose();
        Ok(())
    }

    /// The file, for looking things up in the index. [`Reader::seek`] afterwards.
    pub fn file(&mut self) -> &mut BufReader<File> {
        &mut self.file
    }

    fn find_index(&mut self) -> Option<Placed> {
        let end = self.bytes.checked_sub((HEAD_BYTES + END_BYTES) as u64)?;
        self.seek(end).ok()?;
        let (_, head) = self.frame()?.ok()?;
        if head.kind != Kind::End {
            return None;
        }
        let number = |at: usize| self.payload.get(at..at + 8)?.try_into().ok().map(u64::from_le_bytes);
        let (at, len) = (number(0)?, number(8)?);
        Placed::read(&mut self.file, at.checked_add(HEAD_BYTES as u64)?, len, self.bytes)
    }

    fn problem(&self, offset: u64, what: impl Into<String>) -> Problem {
        Problem { path: self.path.clone(), offset, what: what.into(), is_sealed: false }
    }

    /// Reads a frame into `payload`: its offset and head.
    fn frame(&mut self) -> Option<Result<(u64, Head), Problem>> {
        let at = self.at;
        let mut bytes = [0; HEAD_BYTES];
        let left = self.bytes.saturating_sub(at);
        if left == 0 || self.has_ended {
            return None;
        }
        if left < HEAD_BYTES as u64 {
            self.has_ended = true;
            return Some(Err(self.problem(at, format!("{left} bytes at the end are no whole frame"))));
        }
        if let Err(error) = self.file.read_exact(&mut bytes) {
            self.has_ended = true;
            return Some(Err(self.problem(at, error.to_string())));
        }
        let Some(head) = Head::read(&bytes) else {
            return Some(Err(self.resume(at, "no frame begins here")));
        };
        if left - (HEAD_BYTES as u64) < head.len as u64 {
            self.has_ended = true;
            return Some(Err(self.problem(at, "the last frame is cut off")));
        }
        self.payload.resize(head.len, 0);
        if let Err(error) = self.file.read_exact(&mut self.payload) {
            self.has_ended = true;
            return Some(Err(self.problem(at, error.to_string())));
        }
        self.at = at + (HEAD_BYTES + head.len) as u64;
        if !head.is_payload(&self.payload) {
            self.expander.lose();
            let what = format!("frame {} is damaged: its checksum does not agree", head.sequence);
            return Some(Err(self.problem(at, what)));
        }
        Some(Ok((at, head)))
    }

    /// Searches for the next frame behind `at`.
    fn resume(&mut self, at: u64, what: &str) -> Problem {
        self.expander.lose();
        let mut from = at;
        let mut chunk = vec![0; 256 << 10];
        loop {
            let read = self.seek(from).and_then(|()| {
                let mut len = 0;
                while len < chunk.len() {
                    match self.file.read(chunk.get_mut(len..).unwrap_or_default())? {
                        0 => break,
                        more => len += more,
                    }
                }
                Ok(len)
            });
            let len = match read {
                Ok(len) if len >= HEAD_BYTES => len,
                _ => {
                    self.has_ended = true;
                    return self.problem(at, format!("{what}, nor later in this file"));
                }
            };
            let bytes = chunk.get(..len).unwrap_or_default();
            let mut within = if from == at { frame::find(bytes) } else { 0 };
            while let Some(rest) = bytes.get(within..).filter(|rest| rest.len() >= HEAD_BYTES) {
                if Head::read(rest).is_some() {
                    let next = from + within as u64;
                    let _ = self.seek(next);
                    return self.problem(at, format!("{what}; {} bytes are left out", next - at));
                }
                within += frame::find(rest);
            }
            // A head may begin in the last bytes of the chunk.
            let next = from + (len - (HEAD_BYTES - 1)) as u64;
            from = next.max(from + 1);
        }
    }
}

impl Iterator for Reader {
    type Item = Result<Piece, Problem>;

    fn next(&mut self) -> Option<Self::Item> {
        let (offset, head) = match self.frame()? {
            Ok(frame) => frame,
            Err(problem) => return Some(Err(problem)),
        };
        Some(match head.kind {
            Kind::Block => match self.expander.piece(&self.payload) {
                Ok((block, records)) => Ok(Piece::Records { block, offset, records }),
                Err(damaged) => Err(self.problem(offset, damaged.0)),
            },
            Kind::Books => Ok(Piece::Books(std::mem::take(&mut self.payload))),
            Kind::Head | Kind::Index | Kind::End | Kind::Other(_) => Ok(Piece::Rest),
        })
    }
}
