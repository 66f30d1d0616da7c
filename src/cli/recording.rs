//! `sidelight recording`: what is in recordings, and what other programs make of them.

mod copy;
mod export;
mod filter;
mod import;
mod list;
mod show;
#[cfg(test)]
mod tests;
mod verify;

use crate::record::Recording;
use clap::{Args, Subcommand};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

pub(super) const EXAMPLES: &str = "\
Examples:
  sidelight recording ls recordings/
  sidelight recording ls recordings/ --entries --account a1 --status 5xx --from -5m
  sidelight recording show recordings/ 4bf92f3577b34da6a3ce929d0e0e4736
  sidelight recording verify recordings/
  sidelight recording export recordings/ --as har -o traffic.har
  sidelight recording import traffic.har requests.gor -o imported/
  sidelight recording merge one/ two/ -o both/
  sidelight recording cut recordings/ --account a1 -o a1/

A recording is a directory of segments (files that end in .slr), or one of them.";

/// The arguments of `recording`.
#[derive(Args)]
pub(super) struct RecordingCommand {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// List the segments of recordings, or their entries
    #[command(after_help = filter::TIMES)]
    Ls(list::List),
    /// Show one exchange: context, heads, content, messages, times
    #[command(after_help = show::EXAMPLES)]
    Show(show::Show),
    /// Check every frame, look for gaps, and see whether the books balance
    #[command(after_help = verify::STATUS)]
    Verify(verify::Verify),
    /// Write a recording in the format of another program
    #[command(after_help = export::EXAMPLES)]
    Export(export::Export),
    /// Make a recording of what another program wrote (HAR, GoReplay, Envoy tap), or of what a sink kept of one
    #[command(after_help = import::EXAMPLES)]
    Import(import::Import),
    /// Put recordings together, by time; what is in several of them is there once
    Merge(copy::Merge),
    /// Take a part out of a recording
    #[command(after_help = filter::TIMES)]
    Cut(copy::Cut),
}

/// The keys of recordings that are sealed.
#[derive(Args, Clone, Debug, Default)]
struct Keys {
    /// The directory of keys, of recordings that are sealed; what is written of their entries is not sealed again
    #[arg(long, value_name = "DIR")]
    keys: Option<PathBuf>,
}

impl Keys {
    fn open(&self, recording: &Path) -> Result<Recording, String> {
        let opened = match &self.keys {
            Some(keys) => Recording::open_with_keys(recording, keys),
            None => Recording::open(recording),
        };
        opened.map_err(|error| error.to_string())
    }
}

impl RecordingCommand {
    pub(super) fn execute(self) -> ExitCode {
        let done = match &self.command {
            Command::Ls(list) => list.execute(),
            Command::Show(show) => show.execute(),
            Command::Verify(verify) => verify.execute(),
            Command::Export(export) => export.execute(),
            Command::Import(import) => import.execute(),
            Command::Merge(merge) => merge.execute(),
            Command::Cut(cut) => cut.execute(),
        };
        done.unwrap_or_else(|problem| {
            eprintln!("error: {problem}");
            ExitCode::FAILURE
        })
    }
}

/// Text from a recording, fit for a terminal: a stranger wrote it.
fn plain(bytes: &[u8]) -> String {
    let shown = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    String::from_utf8_lossy(bytes).chars().map(shown).collect()
}

/// Lowercase digits of an id; empty for zeros.
fn hex(id: &[u8]) -> String {
    if id.iter().all(|byte| *byte == 0) {
        return String::new();
    }
    let mut digits = vec![0; id.len() * 2];
    crate::context::ids::write_hex(id, &mut digits);
    String::from_utf8(digits).unwrap_or_default()
}

/// `8`: a hexadecimal id of so many bytes.
fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    if text.len() != 2 * N || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let mut out = [0; N];
    for (index, byte) in out.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * index..2 * index + 2)?, 16).ok()?;
    }
    Some(out)
}

/// Nanoseconds for people: `1.234ms`.
fn span(ns: u64) -> String {
    match ns {
        0..1_000 => format!("{ns}ns"),
        1_000..1_000_000 => format!("{:.1}us", ns as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.3}ms", ns as f64 / 1e6),
        _ => format!("{:.3}s", ns as f64 / 1e9),
    }
}

/// Rows under a head, each column as wide as it has to be; the last as long as it is.
fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = head.iter().map(|name| name.len()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let mut out = String::new();
        for (cell, width) in cells.zip(&widths) {
            out.push_str(cell);
            let pad = width.saturating_sub(cell.chars().count()) + 2;
            out.extend(std::iter::repeat_n(' ', pad));
        }
        format!("{}\n", out.trim_end())
    };
    let mut out = line(&mut head.iter().copied());
    for row in rows {
        out.push_str(&line(&mut row.iter().map(String::as_str)));
    }
    out
}
