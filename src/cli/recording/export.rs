//! `sidelight recording export`.

use super::Keys;
use super::filter::Filter;
use super::show::whole;
use crate::record::Recording;
use crate::record::formats::{self, Format, TapCoding};
use clap::Args;
use clap::builder::PossibleValuesParser;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;

pub(super) const EXAMPLES: &str = "\
Examples:
  sidelight recording export recordings/ --as har -o traffic.har
  sidelight recording export recordings/ --as gor -o requests.gor --direction inbound
  sidelight recording export recordings/ --as curl --trace 4bf92f3577b34da6a3ce929d0e0e4736
  sidelight recording export recordings/ --as locust -o locustfile.py --account a1
  sidelight recording export recordings/ --as envoy-tap --proto -o traces.pb_length_delimited

What a format cannot hold is told on standard error. Scripts (curl, k6, vegeta, locust) only have requests;
truncated ones are left out.
Times: 2026-11-23T10:00:00Z, or +30s (behind the recording's begin), or -5m (before its end).";

/// The arguments of `export`.
#[derive(Args)]
pub(super) struct Export {
    /// The recording: a directory of segments, or a segment
    #[arg(value_name = "RECORDING")]
    recording: PathBuf,
    /// The format
    #[arg(long = "as", value_name = "FORMAT", value_parser = PossibleValuesParser::new(Format::ALL.map(Format::name)))]
    format: String,
    /// Where to; without it, the standard output
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// envoy-tap as Protocol Buffers with their lengths, instead of JSON
    #[arg(long)]
    proto: bool,
    #[command(flatten)]
    filter: Filter,
    #[command(flatten)]
    keys: Keys,
}

impl Export {
    pub(super) fn execute(&self) -> Result<ExitCode, String> {
        let format = Format::named(&self.format).ok_or_else(|| format!("no format {}", self.format))?;
        let recording = self.keys.open(&self.recording)?;
        for problem in recording.problems() {
            eprintln!("warning: {problem}");
        }
        let name =
            self.output.as_ref().map_or_else(|| "standard output".into(), |path| path.display().to_string());
        let failed = |error: io::Error| format!("{name}: {error}");
        let out: Box<dyn Write> = match &self.output {
            Some(path) => Box::new(File::create(path).map_err(failed)?),
            None => Box::new(io::stdout().lock()),
        };
        let coding = if self.proto { TapCoding::Proto } else { TapCoding::Json };
        match self.write(&recording, format, coding, BufWriter::with_capacity(64 << 10, out)) {
            Ok((entries, damaged)) => {
                eprintln!("{entries} exchanges written as {}", format.name());
                Ok(if damaged > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
            }
            // A reader that closed the pipe has seen enough.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe && self.output.is_none() => {
                Ok(ExitCode::SUCCESS)
            }
            Err(error) => Err(failed(error)),
        }
    }

    fn write(
        &self,
        recording: &Recording,
        format: Format,
        coding: TapCoding,
        out: impl Write,
    ) -> io::Result<(u64, u64)> {
        let wanted = self.filter.of(recording);
        let mut export = formats::export(format, coding, out)?;
        let (mut entries, mut damaged) = (0, 0);
        for entry in recording.entries(&wanted.query) {
            let entry = match entry {
                Ok(entry) if wanted.matches(&entry) => entry,
                Ok(_) => continue,
                Err(problem) => {
                    eprintln!("warning: {problem}");
                    damaged += 1;
                    continue;
                }
            };
            match whole(recording, entry) {
                Ok(entry) => {
                    export.write(&entry)?;
                    entries += 1;
                }
                Err(problem) => {
                    eprintln!("warning: {problem}");
                    damaged += 1;
                }
            }
        }
        for (note, count) in export.finish()?.iter() {
            eprintln!("note: {note} ({count} exchanges)");
        }
        Ok((entries, damaged))
    }
}
