//! `sidelight recording import`.

use super::plain;
use crate::record::formats::{self, Format};
use crate::record::{Header, Writer};
use clap::Args;
use clap::builder::PossibleValuesParser;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

pub(super) const EXAMPLES: &str = "\
Examples:
  sidelight recording import traffic.har -o imported/
  sidelight recording import requests_0.gor requests_1.gor -o imported/
  sidelight recording import --as envoy-tap tap_*.pb_length_delimited -o imported/

A record that cannot be read is told with its place, and the next is read. What a file does not tell (times,
truncation) is told, too.
Exit status: 1 when something could not be read; what could be is in the recording.";

/// Problems that are printed; the others are counted.
const SHOWN_MAX: u64 = 20;

/// Hosts that the recording notes as those that it was recorded at.
const AUTHORITIES_MAX: usize = 1000;

/// The arguments of `import`.
#[derive(Args)]
pub(super) struct Import {
    /// What other programs wrote
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The directory that becomes the recording
    #[arg(long, short, value_name = "DIR")]
    output: PathBuf,
    /// The format; without it, told by the first bytes of each file
    #[arg(
        long = "as", value_name = "FORMAT",
        value_parser = PossibleValuesParser::new(Format::ALL.into_iter().filter(|it| it.is_readable()).map(Format::name))
    )]
    format: Option<String>,
    /// The name of the service that it is of
    #[arg(long, value_name = "NAME", default_value = "")]
    service: String,
}

/// A file, and what it is.
fn open(path: &Path, named: Option<Format>) -> Result<(BufReader<File>, Format), String> {
    let failed = |error: std::io::Error| format!("{}: {error}", path.display());
    let mut input = BufReader::with_capacity(256 << 10, File::open(path).map_err(failed)?);
    let start = input.fill_buf().map_err(failed)?;
    if start.starts_with(&[0x1f, 0x8b]) {
        return Err(format!("{}: is packed with gzip; unpack it first: gunzip -k FILE", path.display()));
    }
    if start.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        return Err(format!("{}: is packed with zstd; unpack it first: zstd -dk FILE", path.display()));
    }
    let format = named.or_else(|| Format::guess(start.get(..4096).unwrap_or(start)));
    let format = format.ok_or_else(|| {
        format!(
            "{}: is neither HAR nor .gor nor an Envoy tap, by its first bytes; if it is, say so with --as",
            path.display()
        )
    })?;
    Ok((input, format))
}

impl Import {
    pub(super) fn execute(&self) -> Result<ExitCode, String> {
        let named = self.format.as_deref().and_then(Format::named);
        let mut opened = Vec::new();
        for path in &self.files {
            // Refused before anything is written: what the next file is, is known before the first is read.
            opened.push((path, open(path, named)?.1));
        }
        let mut sources: Vec<&str> = opened.iter().map(|(_, format)| format.name()).collect();
        sources.sort_unstable();
        sources.dedup();
        let authorities = self.authorities(&opened)?;
        let header = Header {
            service: self.service.clone(),
            source: sources.join(","),
            authorities,
            sampled_millionths: 1_000_000,
            ..Header::default()
        };
        let failed = |error: std::io::Error| format!("{}: {error}", self.output.display());
        let mut writer = Writer::create(&self.output, &header).map_err(failed)?;
        let (mut entries, mut problems) = (0u64, 0u64);
        // Numbers of connections mean something within a file only.
        let mut connections = 0u64;
        for (path, format) in opened {
            let (input, _) = open(path, Some(format))?;
            let Some(mut import) = formats::import(format, input) else { continue };
            let (mut last, before) = (connections, entries);
            let mut bad = 0u64;
            for entry in import.by_ref() {
                match entry {
                    Ok(mut entry) => {
                        entry.connection = entry.connection.wrapping_add(connections);
                        last = last.max(entry.connection.min(u64::MAX / 2));
                        writer.write(&entry).map_err(failed)?;
                        entries += 1;
                    }
                    Err(problem) => {
                        bad += 1;
                        if bad <= SHOWN_MAX {
                            eprintln!(
                                "warning: {}: {}",
                                path.display(),
                                plain(problem.to_string().as_bytes())
                            );
                        }
                    }
                }
            }
            connections = last;
            if bad > SHOWN_MAX {
                eprintln!("warning: {}: {} more records could not be read", path.display(), bad - SHOWN_MAX);
            }
            for (note, count) in import.notes().iter() {
                eprintln!("note: {}: {note} ({count})", path.display());
            }
            eprintln!(
                "{}: {}: {} exchanges, {bad} problems",
                path.display(),
                format.name(),
                entries - before
            );
            problems += bad;
        }
        writer.finish().map_err(failed)?;
        if entries == 0 {
            return Err("nothing was imported".into());
        }
        Ok(if problems > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }

    /// The hosts that requests were sent to: the header is written before the first entry, so files are read twice.
    fn authorities(&self, opened: &[(&PathBuf, Format)]) -> Result<Vec<String>, String> {
        let mut found = BTreeSet::new();
        for (path, format) in opened {
            let (input, _) = open(path, Some(*format))?;
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
