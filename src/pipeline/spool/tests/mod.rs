//! The spool as its users see it: what is read, what is counted, what survives.

mod backlog;
mod budget;
mod kill;
mod model;
mod outage;
mod reading;
mod recovery;

use super::{Batch, Books, Class, Config, Cursor, Reason, Spool, Start, Writer};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tempfile::TempDir;

static EPOCH: AtomicU64 = AtomicU64::new(1);

/// An event as it was read.
type Read = (u64, Class, Vec<u8>);

/// Small segments, and room for everything.
fn config(directory: &Path) -> Config {
    Config {
        directory: Some(directory.into()),
        segment_bytes_max: 2 << 10,
        disk_bytes_max: 1 << 30,
        progress_interval: Duration::ZERO,
        ..Config::default()
    }
}

/// Tries again while the directory is locked: a process that another test is about to start has the lock, too, until it is
/// another program.
fn open(config: &Config) -> (Spool, Writer) {
    let since = Instant::now();
    loop {
        match Spool::open(config, "checkout-1", EPOCH.fetch_add(1, Ordering::Relaxed)) {
            Err(error) if error.kind() == ErrorKind::ResourceBusy && since.elapsed().as_secs() < 30 => {
                std::thread::yield_now();
            }
            opened => return opened.unwrap(),
        }
    }
}

fn fresh() -> (TempDir, Config, Spool, Writer) {
    let directory = tempfile::tempdir().unwrap();
    let config = config(directory.path());
    let (spool, writer) = open(&config);
    (directory, config, spool, writer)
}

fn text(sequence: u64) -> Vec<u8> {
    format!("event {sequence}").into_bytes()
}

/// Appends so many events that say their number, and hands them to the kernel.
fn append(writer: &mut Writer, class: Class, count: u64) {
    for _ in 0..count {
        let sequence = writer.next_sequence();
        assert_eq!(writer.append(class, &text(sequence)), sequence);
    }
    writer.tick(Instant::now());
}

fn events(batch: &Batch) -> Vec<Read> {
    batch.events().map(|event| (event.sequence, event.class, event.payload.to_vec())).collect()
}

/// Reads and commits all that is there.
fn drain(cursor: &mut Cursor) -> Vec<Read> {
    let mut batch = Batch::new(300, 7);
    let mut all = Vec::new();
    while cursor.read(&mut batch) > 0 {
        all.extend(events(&batch));
        cursor.commit(batch.last_sequence().unwrap(), Instant::now());
        assert!(cursor.books().is_balanced(), "{:?}", cursor.books());
    }
    all
}

/// The numbers of events, all of which say what they should.
fn numbers(events: &[Read]) -> Vec<u64> {
    for (sequence, _, payload) in events {
        assert_eq!(payload, &text(*sequence), "what was appended is what is read");
    }
    events.iter().map(|event| event.0).collect()
}

fn upto(first: u64, last: u64) -> Vec<u64> {
    (first..=last).collect()
}

fn dropped(books: &Books, reason: Reason) -> u64 {
    books.dropped[reason as usize]
}

/// The files of segments, oldest first.
fn files(directory: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "seg"));
    files.sort();
    files
}

/// This test again, in a process of its own, which finds `directory` in the environment.
fn again(test: &str, variable: &str, directory: &Path) -> std::process::Command {
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture", "--test-threads=1"]);
    command.env(variable, directory);
    command
}
