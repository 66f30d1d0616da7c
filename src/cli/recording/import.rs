//! `sidelight recording import`.

use super::plain;
use crate::record::formats::{self, Format, packed};
use crate::record::shipped::{self, Collected, Collector, Lines, Taken, Wrong};
use crate::record::{Header, Writer};
use clap::Args;
use clap::builder::PossibleValuesParser;
use std::collections::BTreeSet;
use std::io::BufRead;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

pub(super) const EXAMPLES: &str = "\
Examples:
  sidelight recording import traffic.har -o imported/
  sidelight recording import requests_0.gor requests_1.gor.gz -o imported/
  sidelight recording import --as envoy-tap tap_*.pb_length_delimited -o imported/
  sidelight recording import from-kafka.ndjson *.ndjson.zst -o restored/

Files may be packed with gzip or zstd. A record that cannot be read is told with its place, and the next is read.
What a file does not tell (times, truncation) is told, too.

Lines with events of a sidelight that has recording.sinks are read in any order, and may come more than once; the
segments are made of them as they were, with the names that they had, and what is missing is told.
Exit status: 1 when something could not be read or is missing; what could be read is in the recording.";

/// Problems that are printed; the others are counted.
const SHOWN_MAX: u64 = 20;

/// Hosts that the recording notes as those that it was recorded at.
const AUTHORITIES_MAX: usize = 1000;

/// The name on the command line of lines with events that have pieces of recordings.
const SHIPPED: &str = "sidelight";

/// The arguments of `import`.
#[derive(Args)]
pub(super) struct Import {
    /// What other programs wrote, or what was kept of a recording somewhere else
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The directory that becomes the recording
    #[arg(long, short, value_name = "DIR")]
    output: PathBuf,
    /// The format; without it, told by the first bytes of each file
    #[arg(
        long = "as", value_name = "FORMAT",
        value_parser = PossibleValuesParser::new(
            Format::ALL.into_iter().filter(|it| it.is_readable()).map(Format::name).chain([SHIPPED])
        )
    )]
    format: Option<String>,
    /// The name of the service that it is of; of a sidelight's own events it is in them
    #[arg(long, value_name = "NAME", default_value = "")]
    service: String,
}

/// What a file is.
#[derive(Clone, Copy)]
enum What {
    /// Exchanges, as another program writes them.
    Foreign(Format),
    /// Pieces of segments.
    Shipped,
}

impl What {
    fn named(name: &str) -> Option<What> {
        if name == SHIPPED { Some(What::Shipped) } else { Format::named(name).map(What::Foreign) }
    }

    fn guess(start: &[u8]) -> Option<What> {
        if shipped::is_events(start) { Some(What::Shipped) } else { Format::guess(start).map(What::Foreign) }
    }
}

/// A file, unpacked, and what it is.
fn open(path: &Path, named: Option<What>) -> Result<(Box<dyn BufRead>, What), String> {
    let failed = |error: std::io::Error| format!("{}: {error}", path.display());
    let mut input = packed::open(path).map_err(failed)?;
    let start = input.fill_buf().map_err(failed)?;
    let what = named.or_else(|| What::guess(start.get(..4096).unwrap_or(start)));
    let what = what.ok_or_else(|| {
        format!(
            "{}: is neither HAR nor .gor nor an Envoy tap nor a sidelight's events, by its first bytes; if it is, say so with --as",
            path.display()
        )
    })?;
    Ok((input, what))
}

/// Problems of a file; the first are printed.
struct Problems<'a> {
    path: &'a Path,
    count: u64,
}

impl Problems<'_> {
    fn tell(&mut self, problem: &str) {
        self.count += 1;
        if self.count <= SHOWN_MAX {
            eprintln!("warning: {}: {}", self.path.display(), plain(problem.as_bytes()));
        }
    }

    fn end(&self) -> u64 {
        if self.count > SHOWN_MAX {
            let more = self.count - SHOWN_MAX;
            eprintln!("warning: {}: {more} more records could not be read", self.path.display());
        }
        self.count
    }
}

impl Import {
    pub(super) fn execute(&self) -> Result<ExitCode, String> {
        let named = self.format.as_deref().and_then(What::named);
        let (mut foreign, mut pieces) = (Vec::new(), Vec::new());
        for path in &self.files {
            // Refused before anything is written: what the next file is, is known before the first is read.
            match open(path, named)?.1 {
                What::Foreign(format) => foreign.push((path, format)),
                What::Shipped => pieces.push(path),
            }
        }
        let (mut made, mut problems) = (0, 0);
        for (count, wrong) in [self.foreign(&foreign)?, self.shipped(&pieces)?] {
            made += count;
            problems += wrong;
        }
        if made == 0 {
            return Err("nothing was imported".into());
        }
        Ok(if problems > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }

    /// Makes segments of their pieces. How many, and how much is wrong.
    fn shipped(&self, files: &[&PathBuf]) -> Result<(u64, u64), String> {
        if files.is_empty() {
            return Ok((0, 0));
        }
        let failed = |error: std::io::Error| format!("{}: {error}", self.output.display());
        let mut collector = Collector::new(&self.output).map_err(failed)?;
        let mut wrong = 0;
        for path in files {
            let (input, _) = open(path, Some(What::Shipped))?;
            let mut problems = Problems { path, count: 0 };
            let (mut new, mut repeated, mut passed_over) = (0u64, 0u64, 0u64);
            let mut lines = Lines::new(input);
            loop {
                let line = match lines.next_line() {
                    Ok(Some(line)) => line,
                    Ok(None) => break,
                    Err(error) => {
                        let at = lines.offset();
                        problems.tell(&format!("byte {at}: cannot be read any further: {error}"));
                        break;
                    }
                };
                match collector.take(&line) {
                    Ok(Taken::New) => new += 1,
                    Ok(Taken::Repeated) => repeated += 1,
                    Ok(Taken::PassedOver) => passed_over += 1,
                    Err(Wrong::Line(what)) => {
                        problems.tell(&format!("line {} (byte {}): {what}", line.number, line.offset));
                    }
                    Err(Wrong::Disk(what)) => return Err(what),
                }
            }
            eprintln!(
                "{}: {SHIPPED}: {new} pieces, {repeated} repeated, {passed_over} other events, {} problems",
                path.display(),
                problems.count
            );
            wrong += problems.end();
        }
        let segments = collector.finish()?;
        wrong += segments.iter().map(told).sum::<u64>();
        Ok((segments.len() as u64, wrong))
    }

    /// Makes a recording of exchanges. How many, and how many could not be read.
    fn foreign(&self, opened: &[(&PathBuf, Format)]) -> Result<(u64, u64), String> {
        if opened.is_empty() {
            return Ok((0, 0));
        }
        let mut sources: Vec<&str> = opened.iter().map(|(_, format)| format.name()).collect();
        sources.sort_unstable();
        sources.dedup();
        let authorities = self.authorities(opened)?;
        let header = Header {
            service: self.service.clone(),
            source: sources.join(","),
            authorities,
            sampled_millionths: 1_000_000,
            ..Header::default()
        };
        let failed = |error: std::io::Error| format!("{}: {error}", self.output.display());
        let mut writer = Writer::create(&self.output, &header).map_err(failed)?;
        let (mut entries, mut wrong) = (0u64, 0u64);
        // Numbers of connections mean something within a file only.
        let mut connections = 0u64;
        for (path, format) in opened {
            let (input, _) = open(path, Some(What::Foreign(*format)))?;
            let Some(mut import) = formats::import(*format, input) else { continue };
            let (mut last, before) = (connections, entries);
            let mut problems = Problems { path, count: 0 };
            for entry in import.by_ref() {
                match entry {
                    Ok(mut entry) => {
                        entry.connection = entry.connection.wrapping_add(connections);
                        last = last.max(entry.connection.min(u64::MAX / 2));
                        writer.write(&entry).map_err(failed)?;
                        entries += 1;
                    }
                    Err(problem) => problems.tell(&problem.to_string()),
                }
            }
            connections = last;
            wrong += problems.end();
            for (note, count) in import.notes().iter() {
                eprintln!("note: {}: {note} ({count})", path.display());
            }
            eprintln!(
                "{}: {}: {} exchanges, {} problems",
                path.display(),
                format.name(),
                entries - before,
                problems.count
            );
        }
        writer.finish().map_err(failed)?;
        Ok((entries, wrong))
    }

    /// The hosts that requests were sent to: the header is written before the first entry, so files are read twice.
    fn authorities(&self, opened: &[(&PathBuf, Format)]) -> Result<Vec<String>, String> {
        let mut found = BTreeSet::new();
        for (path, format) in opened {
            let (input, _) = open(path, Some(What::Foreign(*format)))?;
            let Some(import) = formats::import(*format, input) else { continue };
            for entry in import.flatten() {
                if let Some(head) = entry.request_head()
                    && found.len() < AUTHORITIES_MAX
                    && !head.authority.is_empty()
                {
                    found.insert(String::from_utf8_lossy(&head.authority).into_owned());
                }
            }
        }
        if found.len() == AUTHORITIES_MAX {
            eprintln!(
                "note: requests went to more than {AUTHORITIES_MAX} hosts; the recording names the first of them"
            );
        }
        Ok(found.into_iter().collect())
    }
}

/// Tells of a segment that was made. How much of it is missing: places, of which the first are named.
fn told(made: &Collected) -> u64 {
    let path = made.path.display();
    let missing: u64 = made.missing.iter().map(|gap| gap.end - gap.start).sum();
    eprintln!("{path}: {} bytes{}", made.bytes, if made.is_ended { "" } else { ", without an end" });
    if missing > 0 {
        let shown = made.missing.iter().take(SHOWN_MAX as usize);
        let places: Vec<String> = shown.map(|gap| format!("{} to {}", gap.start, gap.end - 1)).collect();
        let more = if made.missing.len() > places.len() { ", …" } else { "" };
        eprintln!("warning: {path}: {missing} bytes are missing: {}{more}", places.join(", "));
    }
    if made.missing.first().is_some_and(|gap| gap.start == 0) {
        eprintln!("note: {path}: its head is missing; it got a plain one, so that the rest can be read");
    }
    if !made.is_ended {
        eprintln!(
            "note: {path}: what is behind its last piece is not known: its process was killed or still writes, or its end is missing"
        );
    }
    made.missing.len() as u64
}
