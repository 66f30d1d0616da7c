//! Events that a sink would not have: kept in a file, for people.
//!
//! What: one JSON object a line: which sink, why, when, and the event as it was. Bounded: a file that is full becomes
//! `….1`, and the one that was `….1` goes. How it fails: what cannot be written, or has no file, is told in the log, once a
//! minute; the event counts as rejected in any case.

use crate::pipeline::encode::rfc3339;
use crate::pipeline::spool::Event;
use serde_json::{Value, json};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

/// The file is exchanged when it has so many bytes.
const FILE_BYTES_MAX: u64 = 64 << 20;
/// How often a file that cannot be written is told of.
const WARN_EVERY: Duration = Duration::from_secs(60);

/// The file that all sinks share.
pub(in crate::pipeline) struct DeadLetters {
    /// `None`: nowhere to write to.
    path: Option<PathBuf>,
    bytes_max: u64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    file: Option<(File, u64)>,
    warned_at: Option<Instant>,
}

impl DeadLetters {
    /// Nothing is opened before the first one.
    pub(in crate::pipeline) fn new(path: Option<PathBuf>) -> DeadLetters {
        DeadLetters { path, bytes_max: FILE_BYTES_MAX, state: Mutex::default() }
    }

    /// Keeps an event.
    pub(super) fn keep(&self, sink: &str, event: Event<'_>, reason: &str) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(path) = &self.path else {
            if state.is_warning_due() {
                tracing::warn!(
                    sink,
                    sequence = event.sequence,
                    reason,
                    "an event was refused and is lost: there is no spool.directory for dead letters"
                );
            }
            return;
        };
        let content = serde_json::from_slice(event.payload)
            .unwrap_or_else(|_| Value::from(String::from_utf8_lossy(event.payload)));
        let letter = json!({
            "schema": "sidelight/dead_letter/1",
            "timestamp": rfc3339(SystemTime::now()),
            "sink": sink,
            "sequence": event.sequence,
            "reason": reason,
            "event": content,
        });
        let mut line = letter.to_string();
        line.push('\n');
        if let Err(error) = self.write(&mut state, line.as_bytes()) {
            state.file = None;
            if state.is_warning_due() {
                let path = path.display();
                tracing::warn!(sink, %path, %error, "a refused event cannot be kept");
            }
        }
    }

    fn write(&self, state: &mut State, line: &[u8]) -> io::Result<()> {
        let Some(path) = &self.path else { return Ok(()) };
        let (file, bytes) = match state.file.take() {
            Some(open) => open,
            None => open(path)?,
        };
        let (file, bytes) = if bytes >= self.bytes_max {
            let mut old = path.clone().into_os_string();
            old.push(".1");
            // Failing, it is tried again with the next letter: the file does not grow meanwhile.
            std::fs::rename(path, old)?;
            open(path)?
        } else {
            (file, bytes)
        };
        let (file, bytes) = state.file.insert((file, bytes));
        file.write_all(line)?;
        *bytes += line.len() as u64;
        Ok(())
    }
}

/// Opens the file, and ends a line that was cut, by a full disk or with the process before.
fn open(path: &Path) -> io::Result<(File, u64)> {
    let mut file = OpenOptions::new().append(true).read(true).create(true).mode(0o640).open(path)?;
    let bytes = file.metadata()?.len();
    let mut last = [b'\n'];
    if let Some(at) = bytes.checked_sub(1) {
        file.read_exact_at(&mut last, at)?;
    }
    if last != [b'\n'] {
        file.write_all(b"\n")?;
    }
    Ok((file, bytes))
}

impl State {
    fn is_warning_due(&mut self) -> bool {
        let now = Instant::now();
        let is_due = self.warned_at.is_none_or(|at| now.duration_since(at) >= WARN_EVERY);
        if is_due {
            self.warned_at = Some(now);
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::spool::Class;

    #[test]
    fn letters_say_what_was_refused_and_two_files_are_the_most() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("dead-letters.ndjson");
        let letters = DeadLetters { path: Some(path.clone()), bytes_max: 200, state: Mutex::default() };
        for sequence in 1..=9 {
            let payload: &[u8] = if sequence == 9 { b"no json \xff" } else { br#"{"schema":"x","n":1}"# };
            letters.keep("kafka", Event { sequence, class: Class::Event, payload }, "too large");
        }
        let old = std::fs::read_to_string(directory.path().join("dead-letters.ndjson.1")).unwrap();
        let now = std::fs::read_to_string(&path).unwrap();
        let last: Value = serde_json::from_str(now.lines().last().unwrap()).unwrap();
        assert_eq!(last["event"], "no json \u{fffd}");
        let first: Value = serde_json::from_str(old.lines().next().unwrap()).unwrap();
        assert_eq!((&first["sink"], &first["reason"]), (&"kafka".into(), &"too large".into()));
        assert_eq!(first["event"], json!({ "schema": "x", "n": 1 }));
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_letter_that_was_cut_is_ended_and_a_file_that_cannot_be_exchanged_does_not_grow() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("dead-letters.ndjson");
        std::fs::write(&path, "{\"cut").unwrap();
        let letters = DeadLetters { path: Some(path.clone()), bytes_max: 200, state: Mutex::default() };
        let keep = || letters.keep("s", Event { sequence: 1, class: Class::Event, payload: b"{}" }, "no");
        keep();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(
            text.lines().nth(1).is_some_and(|line| serde_json::from_str::<Value>(line).is_ok()),
            "{text}"
        );
        std::fs::create_dir(directory.path().join("dead-letters.ndjson.1")).unwrap();
        (0..20).for_each(|_| keep());
        assert!(std::fs::metadata(&path).unwrap().len() < 400);
        std::fs::remove_dir(directory.path().join("dead-letters.ndjson.1")).unwrap();
        keep();
        assert!(
            directory.path().join("dead-letters.ndjson.1").is_file(),
            "it is exchanged when that works again"
        );
    }
}
