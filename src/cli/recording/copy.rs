//! `sidelight recording cut` and `merge`: recordings made of recordings.

use super::Keys;
use super::filter::Filter;
use crate::record::{Entry, Header, Problem, Query, Recording, What, Writer};
use clap::Args;
use std::collections::{BTreeSet, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// How much content goes into a part.
const PART_BYTES: usize = 4 << 20;

/// The arguments of `cut`.
#[derive(Args)]
pub(super) struct Cut {
    /// The recording: a directory of segments, or a segment
    #[arg(value_name = "RECORDING")]
    recording: PathBuf,
    /// The directory that becomes the new recording
    #[arg(long, short, value_name = "DIR")]
    output: PathBuf,
    #[command(flatten)]
    filter: Filter,
    #[command(flatten)]
    keys: Keys,
}

/// The arguments of `merge`.
#[derive(Args)]
pub(super) struct Merge {
    /// Recordings: directories of segments, or segments
    #[arg(required = true, value_name = "RECORDING")]
    recordings: Vec<PathBuf>,
    /// The directory that becomes the new recording
    #[arg(long, short, value_name = "DIR")]
    output: PathBuf,
    #[command(flatten)]
    keys: Keys,
}

fn open(path: &Path, keys: &Keys) -> Result<Recording, String> {
    let recording = keys.open(path)?;
    for problem in recording.problems() {
        eprintln!("warning: {problem}");
    }
    Ok(recording)
}

/// The head of a recording that is made of these.
fn header<'a>(of: impl Iterator<Item = &'a Header>) -> Header {
    let (mut made, mut authorities) = (Header::default(), BTreeSet::new());
    let mut is_first = true;
    // Several are named one after the other; what only one can be is left empty.
    let join = |texts: &mut String, text: &str| {
        if texts.is_empty() {
            text.clone_into(texts);
        } else if !text.is_empty() && !texts.split(',').any(|known| known == text) {
            texts.push(',');
            texts.push_str(text);
        }
    };
    for header in of {
        join(&mut made.service, &header.service);
        join(&mut made.instance, &header.instance);
        join(&mut made.source, &header.source);
        join(&mut made.sampled_by, &header.sampled_by);
        // Of different shares the smallest is true of all.
        made.sampled_millionths = if is_first {
            header.sampled_millionths
        } else {
            made.sampled_millionths.min(header.sampled_millionths)
        };
        authorities.extend(header.authorities.iter().cloned());
        is_first = false;
    }
    made.authorities = authorities.into_iter().collect();
    made
}

/// Refuses to write a recording into one that is read: it would be read again.
fn check_output(output: &Path, inputs: &[PathBuf]) -> Result<(), String> {
    let Ok(output_path) = output.canonicalize() else { return Ok(()) };
    for input in inputs {
        let Ok(input) = input.canonicalize() else { continue };
        if input == output_path || input.parent() == Some(&*output_path) {
            return Err(format!("{} is read, too: write to another directory", output.display()));
        }
    }
    Ok(())
}

/// Copies entries; their parts go before them.
struct Copier {
    writer: Writer,
    entries: u64,
}

impl Copier {
    fn new(output: &Path, header: &Header) -> io::Result<Copier> {
        Ok(Copier { writer: Writer::create(output, header)?, entries: 0 })
    }

    fn copy(&mut self, recording: &Recording, mut entry: Entry) -> Result<(), String> {
        let failed = |error: io::Error| error.to_string();
        self.entries += 1;
        if entry.parts > 0 {
            // A token of the new recording: those of several would meet.
            let token = self.entries;
            let mut part = Entry { token, ..Entry::default() };
            let (mut bytes, mut parts) = (0, 0);
            let mut events = recording.events(&entry);
            for event in events.by_ref() {
                let event = event.map_err(|problem| problem.to_string())?;
                if let What::Data(_, piece) = &event.what {
                    bytes += piece.len();
                }
                part.events.push(event);
                if bytes >= PART_BYTES {
                    part.parts = parts;
                    self.writer.write_part(&part).map_err(failed)?;
                    parts += 1;
                    part.events.clear();
                    bytes = 0;
                }
            }
            let is_whole = events.is_whole();
            drop(events);
            entry.request.is_truncated |= !is_whole;
            entry.response.is_truncated |= !is_whole;
            // Heads that went with a part are in the entry again.
            let mut events = entry.events;
            events.retain(|event| {
                matches!(event.what, What::Request(_) | What::Response(_)) && !part.events.contains(event)
            });
            events.append(&mut part.events);
            (entry.events, entry.parts, entry.token) = (events, parts, token);
        }
        self.writer.write(&entry).map_err(failed)
    }

    fn finish(self) -> io::Result<u64> {
        self.writer.finish()?;
        Ok(self.entries)
    }
}

impl Cut {
    pub(super) fn execute(&self) -> Result<ExitCode, String> {
        check_output(&self.output, std::slice::from_ref(&self.recording))?;
        let recording = open(&self.recording, &self.keys)?;
        let failed = |error: io::Error| format!("{}: {error}", self.output.display());
        let mut copier = Copier::new(&self.output, &header(recording.headers())).map_err(failed)?;
        let wanted = self.filter.of(&recording);
        let mut damaged = 0u64;
        for entry in recording.entries(&wanted.query) {
            let copied = match entry {
                Ok(entry) if wanted.matches(&entry) => copier.copy(&recording, entry),
                Ok(_) => continue,
                Err(problem) => Err(problem.to_string()),
            };
            if let Err(problem) = copied {
                eprintln!("warning: {problem}");
                damaged += 1;
            }
        }
        let entries = copier.finish().map_err(failed)?;
        end(entries, damaged, 0, &self.output)
    }
}

fn end(entries: u64, damaged: u64, repeated: u64, output: &Path) -> Result<ExitCode, String> {
    if entries == 0 {
        return Err("no exchange is meant: nothing was written".into());
    }
    if repeated > 0 {
        eprintln!("note: {repeated} exchanges were there more than once");
    }
    eprintln!("{entries} exchanges written to {}", output.display());
    Ok(if damaged > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// The entries of one run of a recorder, in one of the inputs.
struct Lane<'a> {
    /// Which run; the same one may be in several inputs.
    run: usize,
    root: &'a Recording,
    entries: Box<dyn Iterator<Item = Result<Entry, Problem>> + 'a>,
    head: Option<Entry>,
}

impl Lane<'_> {
    /// Takes the first entry; the next one becomes it.
    fn advance(&mut self, damaged: &mut u64) -> Option<Entry> {
        let next = loop {
            match self.entries.next() {
                Some(Ok(entry)) => break Some(entry),
                Some(Err(problem)) => {
                    eprintln!("warning: {problem}");
                    *damaged += 1;
                }
                None => break None,
            }
        };
        std::mem::replace(&mut self.head, next)
    }

    fn ended_ns(&self) -> Option<u64> {
        self.head.as_ref().map(|entry| entry.started_ns.saturating_add(entry.duration_ns))
    }
}

/// Which numbers were there: a bit each, as there may be many millions.
#[derive(Default)]
struct Seen(HashMap<(usize, u64), u64>);

impl Seen {
    /// Whether it is new.
    fn insert(&mut self, run: usize, sequence: u64) -> bool {
        let bits = self.0.entry((run, sequence / 64)).or_default();
        let bit = 1 << (sequence % 64);
        let is_new = *bits & bit == 0;
        *bits |= bit;
        is_new
    }
}

impl Merge {
    pub(super) fn execute(&self) -> Result<ExitCode, String> {
        check_output(&self.output, &self.recordings)?;
        let roots: Result<Vec<Recording>, String> =
            self.recordings.iter().map(|path| open(path, &self.keys)).collect();
        let roots = roots?;
        // Each segment on its own: entries do not say which run they are of, segments do.
        let mut segments = Vec::new();
        let mut runs: Vec<&str> = Vec::new();
        for root in &roots {
            for segment in root.segments() {
                let name = segment.header.recording.as_str();
                let known = runs.iter().position(|run| *run == name);
                let run = known.unwrap_or_else(|| {
                    runs.push(name);
                    runs.len() - 1
                });
                segments.push((root, run, self.keys.open(&segment.path)?));
            }
        }
        let mut lanes: Vec<Lane<'_>> = Vec::new();
        for root in &roots {
            for run in 0..runs.len() {
                let of: Vec<&Recording> = segments
                    .iter()
                    .filter(|(of_root, of_run, _)| std::ptr::eq(*of_root, root) && *of_run == run)
                    .map(|(_, _, segment)| segment)
                    .collect();
                if !of.is_empty() {
                    let entries = of.into_iter().flat_map(|segment| segment.entries(&Query::default()));
                    lanes.push(Lane { run, root, entries: Box::new(entries), head: None });
                }
            }
        }
        let failed = |error: io::Error| format!("{}: {error}", self.output.display());
        let header = header(roots.iter().flat_map(Recording::headers));
        let mut copier = Copier::new(&self.output, &header).map_err(failed)?;
        let (mut seen, mut repeated, mut damaged) = (Seen::default(), 0u64, 0u64);
        for lane in &mut lanes {
            lane.advance(&mut damaged);
        }
        // Always the one that ended first.
        while let Some(lane) =
            lanes.iter_mut().filter(|lane| lane.head.is_some()).min_by_key(|lane| lane.ended_ns())
        {
            let Some(mut entry) = lane.advance(&mut damaged) else { break };
            if entry.sequence > 0 && !seen.insert(lane.run, entry.sequence) {
                repeated += 1;
                continue;
            }
            // Numbers of connections are those of a run.
            entry.connection = (lane.run as u64) << 48 | entry.connection & 0xffff_ffff_ffff;
            if let Err(problem) = copier.copy(lane.root, entry) {
                eprintln!("warning: {problem}");
                damaged += 1;
            }
        }
        let entries = copier.finish().map_err(failed)?;
        end(entries, damaged, repeated, &self.output)
    }
}
