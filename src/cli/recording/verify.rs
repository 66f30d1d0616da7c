//! `sidelight recording verify`.

use super::{Keys, plain};
use crate::cli::{Format, print};
use crate::record::{Books, Query, Recording};
use clap::Args;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

pub(super) const STATUS: &str = "\
Every frame is read and its checksum compared; the numbers of the entries are looked through for gaps; what was
seen must be what was recorded, sampled out, filtered, dropped or under way. A segment that was not ended is no
damage: its process was killed or still writes.

Exit status: 1 when something is damaged or missing.";

/// Problems of a file that are printed; the others are counted.
const SHOWN_MAX: usize = 100;

/// The arguments of `verify`.
#[derive(Args)]
pub(super) struct Verify {
    /// Recordings: directories of segments, or segments
    #[arg(required = true, value_name = "RECORDING")]
    recordings: Vec<PathBuf>,
    #[command(flatten)]
    keys: Keys,
    /// How the answer is printed
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

/// What was found of one recording (one run of a recorder).
#[derive(Default)]
struct Run {
    first: u64,
    last: u64,
    entries: u64,
    gaps: Vec<(u64, u64)>,
    repeated: u64,
    segments: Vec<u32>,
}

impl Run {
    fn add(&mut self, sequence: u64) {
        self.entries += 1;
        if self.first == 0 {
            self.first = sequence;
        } else if sequence <= self.last {
            self.repeated += 1;
            return;
        } else if sequence > self.last + 1 && self.gaps.len() < SHOWN_MAX {
            self.gaps.push((self.last + 1, sequence - 1));
        }
        self.last = sequence;
    }
}

#[derive(Default)]
struct Found {
    /// What is wrong, with its place.
    problems: Vec<String>,
    problem_count: u64,
    notes: Vec<String>,
    sealed: u64,
    entries: u64,
    bytes: u64,
    runs: BTreeMap<String, Run>,
}

impl Found {
    fn problem(&mut self, text: String) {
        self.problem_count += 1;
        if self.problems.len() < SHOWN_MAX {
            self.problems.push(text);
        }
    }

    fn verify(&mut self, recording: &Recording, keys: &Keys) {
        for error in recording.problems() {
            self.problem(error.to_string());
        }
        // One after the other, so that each entry is known to be of the recording that its segment names.
        for segment in recording.segments() {
            self.bytes += segment.bytes;
            if segment.blocks.is_none() {
                self.notes.push(format!(
                    "{}: was not ended; it was read to its last whole frame",
                    segment.path.display()
                ));
            }
            let opened = match keys.open(&segment.path) {
                Ok(opened) => opened,
                Err(error) => {
                    self.problem(error);
                    continue;
                }
            };
            let name = segment.header.recording.clone();
            self.runs.entry(name.clone()).or_default().segments.push(segment.header.segment);
            let mut has_sealed = false;
            for entry in opened.entries(&Query::default()) {
                match entry {
                    Ok(entry) => {
                        self.entries += 1;
                        if let Some(run) = self.runs.get_mut(&name).filter(|_| !has_sealed) {
                            run.add(entry.sequence);
                        }
                        if entry.parts > 0 {
                            self.parts(recording, &entry, &segment.path);
                        }
                    }
                    // Without its key an entry is whole, but what it says is not known.
                    Err(problem) if problem.is_sealed => {
                        self.sealed += 1;
                        has_sealed = true;
                    }
                    Err(problem) => self.problem(problem.to_string()),
                }
            }
        }
        let books = recording.books();
        if !books.is_balanced() {
            self.problem(format!(
                "{}: the books do not balance: {}",
                recording.path().display(),
                line(&books)
            ));
        }
    }

    fn parts(&mut self, recording: &Recording, entry: &crate::record::Entry, path: &std::path::Path) {
        let mut events = recording.events(entry);
        for event in events.by_ref() {
            if let Err(problem) = event {
                self.problem(problem.to_string());
            }
        }
        if !events.is_whole() {
            self.problem(format!(
                "{}: entry {}: parts of its content are missing",
                path.display(),
                entry.sequence
            ));
        }
    }

    /// Gaps and repetitions, once all segments were read.
    fn gaps(&mut self) {
        let runs = std::mem::take(&mut self.runs);
        for (name, run) in &runs {
            let name = plain(name.as_bytes());
            for (from, to) in &run.gaps {
                let which = if from == to {
                    format!("entry {from} is")
                } else {
                    format!("entries {from} to {to} are")
                };
                self.problem(format!("recording {name}: {which} missing"));
            }
            if run.repeated > 0 {
                self.problem(format!(
                    "recording {name}: {} entries are there twice, or out of order",
                    run.repeated
                ));
            }
            if run.first > 1 {
                self.notes.push(format!(
                    "recording {name}: begins with entry {}; older ones were removed",
                    run.first
                ));
            }
            let mut segments = run.segments.clone();
            segments.sort_unstable();
            for pair in segments.windows(2) {
                if let [a, b] = pair
                    && *b > a.saturating_add(1)
                {
                    self.problem(format!("recording {name}: no segment between {a} and {b}"));
                }
            }
        }
        self.runs = runs;
    }
}

fn line(books: &Books) -> String {
    format!(
        "seen {} = recorded {} + sampled out {} + filtered {} + dropped {} + pending {}",
        books.seen,
        books.recorded,
        books.sampled_out,
        books.filtered,
        books.dropped_total(),
        books.pending
    )
}

impl Verify {
    pub(super) fn execute(&self) -> Result<ExitCode, String> {
        let (mut found, mut books) = (Found::default(), Books::default());
        for path in &self.recordings {
            match self.keys.open(path) {
                Ok(recording) => {
                    found.verify(&recording, &self.keys);
                    books.add(&recording.books());
                }
                Err(error) => found.problem(error),
            }
        }
        found.gaps();
        let is_whole = found.problem_count == 0;
        let printed = match self.format {
            Format::Json => {
                print(&serde_json::to_string_pretty(&document(&found, &books)).unwrap_or_default())
            }
            Format::Text => print(&text(&found, &books)),
        };
        Ok(if is_whole { printed } else { ExitCode::FAILURE })
    }
}

fn document(found: &Found, books: &Books) -> Value {
    json!({
        "schema": "sidelight/recording-verify/1",
        "is_whole": found.problem_count == 0,
        "entries": found.entries,
        "sealed_entries": found.sealed,
        "bytes": found.bytes,
        "problem_count": found.problem_count,
        "problems": found.problems,
        "notes": found.notes,
        "books": books,
    })
}

fn text(found: &Found, books: &Books) -> String {
    let mut out = String::new();
    for problem in &found.problems {
        out.push_str(&format!("damage: {problem}\n"));
    }
    if found.problem_count > found.problems.len() as u64 {
        out.push_str(&format!("damage: {} more\n", found.problem_count - found.problems.len() as u64));
    }
    for note in &found.notes {
        out.push_str(&format!("note: {note}\n"));
    }
    if found.sealed > 0 {
        out.push_str(&format!(
            "note: {} entries are sealed: their frames are whole, what they say was not read\n",
            found.sealed
        ));
    }
    out.push_str(&format!("books: {}\n", line(books)));
    let verdict = if found.problem_count == 0 { "whole" } else { "DAMAGED" };
    let files: usize = found.runs.values().map(|run| run.segments.len()).sum();
    out.push_str(&format!(
        "{verdict}: {files} segments, {} entries, {} bytes, {} problems\n",
        found.entries, found.bytes, found.problem_count
    ));
    out
}
