//! Events to a file, appended.
//!
//! Log rotation: the file is opened anew when its path leads elsewhere (looked at once a second, before a write) and
//! when the proxy is told to (SIGHUP). Events carry people's ids, so a file that is created is readable by owner and
//! group only. How it fails: when the path cannot be opened again, the old file is written on.

use super::super::accounts::SinkStats;
use super::output::Output;
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often the path is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A file that is appended to.
pub(crate) struct File {
    path: PathBuf,
    file: fs::File,
    looked_at: Instant,
    output: Output,
}

fn open(path: &Path) -> io::Result<fs::File> {
    fs::OpenOptions::new().append(true).create(true).mode(0o640).open(path)
}

impl File {
    /// Opens or creates the file; the error names the path.
    pub(super) fn open(path: &Path) -> io::Result<File> {
        let file = open(path).map_err(|error| {
            io::Error::new(error.kind(), format!("cannot open {} for events: {error}", path.display()))
        })?;
        Ok(File { path: path.into(), file, looked_at: Instant::now(), output: Output::new("file") })
    }

    pub(super) fn write(&mut self, batch: &[u8], events: u64) {
        let now = Instant::now();
        if now.duration_since(self.looked_at) >= LOOK_EVERY {
            self.looked_at = now;
            if !self.is_current() {
                self.reopen();
            }
        }
        self.output.write(&mut self.file, batch, events);
    }

    /// Whether the path still leads to the open file.
    fn is_current(&self) -> bool {
        match (fs::metadata(&self.path), self.file.metadata()) {
            (Ok(path), Ok(open)) => path.ino() == open.ino() && path.dev() == open.dev(),
            (Err(_), _) => false,
            // The open file works; do not give it up for a question that failed.
            (Ok(_), Err(_)) => true,
        }
    }

    pub(super) fn reopen(&mut self) {
        match open(&self.path) {
            Ok(file) => {
                self.file = file;
                self.output.renewed();
            }
            Err(error) => self.output.warn("cannot open the file anew; writing on to the old one", &error),
        }
    }

    pub(super) fn stats(&self) -> &Arc<SinkStats> {
        self.output.stats()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::Ordering;

    #[test]
    fn a_rotated_file_is_followed_and_appended_to() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("events.ndjson");
        fs::write(&path, "{0}\n").unwrap();
        let mut sink = File::open(&path).unwrap();
        sink.write(b"{1}\n", 1);
        fs::rename(&path, directory.path().join("old")).unwrap();
        assert!(!sink.is_current());
        sink.write(b"{2}\n", 1);
        sink.reopen();
        assert!(sink.is_current());
        sink.write(b"{3}\n", 1);
        assert_eq!(fs::read_to_string(directory.path().join("old")).unwrap(), "{0}\n{1}\n{2}\n");
        assert_eq!(fs::read_to_string(&path).unwrap(), "{3}\n");
        assert_eq!(sink.stats().delivered.load(Ordering::Relaxed), 3);
    }

    #[test]
    fn a_device_without_space_loses_events_and_nothing_else() {
        let mut sink = File::open(Path::new("/dev/full")).unwrap();
        sink.write(b"{1}\n{2}\n", 2);
        assert_eq!(sink.stats().failed.load(Ordering::Relaxed), 2);
        assert_eq!(sink.stats().delivered.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_file_that_cannot_be_opened_is_named() {
        let Err(error) = File::open(Path::new("/nonexistent/events.ndjson")) else { panic!("opened") };
        assert!(error.to_string().contains("/nonexistent/events.ndjson"), "{error}");
    }
}
