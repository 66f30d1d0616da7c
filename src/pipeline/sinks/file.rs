//! Events to a file, appended; rotated by itself where that is asked.
//!
//! Rotation from outside: the file is opened anew when its path leads elsewhere (looked at once a second, before a write)
//! and when the proxy is told to (SIGHUP). Rotation by itself: beyond `bytes_max` or `age_max` the file is renamed to
//! `PATH.YYYYMMDDTHHMMSS.NNN`, compressed to `….zst`, and of those the oldest beyond `keep` go. Events carry people's ids,
//! so a file that is created is readable by owner and group only.
//! How it fails: what cannot be written waits in the spool and is tried again. A crash between renaming and the end of
//! compression leaves the renamed file as it was, which the next rotation compresses.

use super::output::Output;
use super::sink::{Failure, Pace, Sent, Sink};
use crate::pipeline::encode::rfc3339;
use crate::pipeline::spool::Batch;
use crate::units;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::fs;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

/// How often the path is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The last number of files that were rotated in one second.
const NUMBER_MAX: u32 = 999;

/// `pipeline.sinks.file`: JSON lines to a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "FileSink")]
pub struct Config {
    /// The sink's name in metrics and events; absent: `file`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The file; it is appended to and created where it is missing.
    #[schemars(with = "String", extend("format" = "output_file"))]
    pub path: PathBuf,
    /// Begins a new file by itself; absent: that is left to others (logrotate, SIGHUP).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotate: Option<Rotate>,
}

/// `pipeline.sinks.file.rotate`: when a new file begins, and what becomes of the old ones.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "FileRotation")]
pub struct Rotate {
    /// Bytes of a file; more, and a new one begins. lumberjack, and so much of Go: 100 MB.
    #[serde(with = "units::size")]
    #[schemars(with = "units::SizeText")]
    pub bytes_max: usize,
    /// How long one file is written, however little comes; `none`: as long as it takes.
    #[serde(with = "units::duration_or_none")]
    #[schemars(with = "units::DurationOrNone")]
    pub age_max: Option<Duration>,
    /// Old files that are kept.
    #[schemars(range(min = 1, max = 10000))]
    pub keep: usize,
    /// What old files are compressed with.
    pub compress: Compress,
}

impl Default for Rotate {
    fn default() -> Self {
        Rotate { bytes_max: 100 << 20, age_max: None, keep: 8, compress: Compress::Zstd }
    }
}

/// What old files are compressed with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Compress {
    /// Zstandard, level 3: a tenth of the size.
    #[default]
    Zstd,
    /// They stay as they are.
    None,
}

/// A file that is appended to.
pub(super) struct File {
    config: Config,
    file: Option<fs::File>,
    looked_at: Instant,
    begun: Instant,
    bytes: u64,
    output: Output,
}

impl File {
    /// Opens or creates the file; the error names the path.
    pub(super) fn open(config: &Config) -> Result<File, String> {
        let now = Instant::now();
        let (config, output) = (config.clone(), Output::default());
        let mut sink = File { config, file: None, looked_at: now, begun: now, bytes: 0, output };
        sink.renew()
            .map_err(|error| format!("cannot open {} for events: {error}", sink.config.path.display()))?;
        Ok(sink)
    }

    fn renew(&mut self) -> io::Result<()> {
        let mut options = fs::OpenOptions::new();
        let mut file =
            options.append(true).read(true).create(true).mode(0o640).open(&self.config.path).or_else(
                |_| {
                    // A pipe or a device that cannot be read is written to all the same.
                    fs::OpenOptions::new().append(true).create(true).mode(0o640).open(&self.config.path)
                },
            )?;
        self.bytes = file.metadata()?.len();
        self.begun = Instant::now();
        self.output.renewed();
        if self.bytes > 0 && !ends_whole(&mut file) {
            // The process before was stopped in the middle of a line.
            self.output.torn();
        }
        self.file = Some(file);
        Ok(())
    }

    /// Whether the path still leads to the open file.
    fn is_current(&self, file: &fs::File) -> bool {
        match (fs::metadata(&self.config.path), file.metadata()) {
            (Ok(path), Ok(open)) => path.ino() == open.ino() && path.dev() == open.dev(),
            (Err(_), _) => false,
            // The open file works; do not give it up for a question that failed.
            (Ok(_), Err(_)) => true,
        }
    }

    /// The path leads elsewhere: from here on there.
    fn look(&mut self, now: Instant) {
        if now.duration_since(self.looked_at) < LOOK_EVERY {
            return;
        }
        self.looked_at = now;
        if self.file.as_ref().is_some_and(|file| !self.is_current(file)) {
            self.reopen();
        }
    }

    fn rotate_if_due(&mut self, now: Instant) {
        let Some(rotate) = &self.config.rotate else { return };
        let is_old = rotate.age_max.is_some_and(|age| now.duration_since(self.begun) >= age);
        let is_due = self.bytes >= rotate.bytes_max as u64 || (is_old && self.bytes > 0);
        if is_due && let Err(error) = self.rotate(rotate.clone()) {
            let path = self.config.path.display();
            tracing::warn!(%path, %error, "cannot rotate the file of events; writing on");
            // Not at once again.
            (self.begun, self.bytes) = (now, 0);
        }
    }

    fn rotate(&mut self, rotate: Rotate) -> io::Result<()> {
        let stamp = rfc3339(SystemTime::now());
        let stamp: String = stamp.chars().take(19).filter(|char| !matches!(char, '-' | ':')).collect();
        // Behind all of the same second, also when the first of them are gone: the order of names is the order of time.
        // With a clock that steps back it stays so: the last name goes on, or the newest file would be the first to go.
        let old = self.old_files()?;
        let stamp = old.last().and_then(|path| stamp_of(path)).filter(|last| *last > stamp).unwrap_or(stamp);
        let last = old.iter().rev().find_map(|path| number_of(path, &stamp));
        let number = last.map_or(0, |last| last + 1);
        if number > NUMBER_MAX {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "too many files in one second"));
        }
        let old = self.old_path(&format!("{stamp}.{number:03}"));
        fs::rename(&self.config.path, &old)?;
        self.renew()?;
        let mut all = self.old_files()?;
        if rotate.compress == Compress::Zstd {
            for path in all.iter_mut().filter(|path| path.extension().is_none_or(|end| end != "zst")) {
                *path = compress(path)?;
            }
        }
        let too_many = all.len().saturating_sub(rotate.keep);
        all.iter().take(too_many).try_for_each(fs::remove_file)
    }

    fn old_path(&self, stamp: &str) -> PathBuf {
        let mut path: OsString = self.config.path.clone().into_os_string();
        path.push(format!(".{stamp}"));
        path.into()
    }

    /// The files that were rotated, the oldest first: their names are in the order of time.
    fn old_files(&self) -> io::Result<Vec<PathBuf>> {
        let path = &self.config.path;
        let directory =
            path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut all: Vec<PathBuf> = Vec::new();
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            if entry.file_name().to_str().is_some_and(|other| is_old_name(other, &name)) {
                all.push(entry.path());
            }
        }
        all.sort();
        Ok(all)
    }
}

/// The second in the name of a file that was rotated.
fn stamp_of(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_str()?;
    let name = name.strip_suffix(".zst").unwrap_or(name);
    let (rest, _) = name.rsplit_once('.')?;
    rest.rsplit_once('.').map(|(_, stamp)| stamp.to_owned())
}

/// The number in the name of a file that was rotated in the second `stamp`.
fn number_of(path: &Path, stamp: &str) -> Option<u32> {
    let name = path.file_name()?.to_str()?;
    let name = name.strip_suffix(".zst").unwrap_or(name);
    let (rest, number) = name.rsplit_once('.')?;
    rest.ends_with(stamp).then(|| number.parse().ok())?
}

/// `NAME.YYYYMMDDTHHMMSS.NNN`, perhaps with `.zst`: nothing else is ours to delete.
fn is_old_name(other: &str, name: &str) -> bool {
    let Some(rest) = other.strip_prefix(name).and_then(|rest| rest.strip_prefix('.')) else { return false };
    let rest = rest.strip_suffix(".zst").unwrap_or(rest);
    rest.len() == 19
        && rest.char_indices().all(|(at, char)| match at {
            8 => char == 'T',
            15 => char == '.',
            _ => char.is_ascii_digit(),
        })
}

fn compress(path: &Path) -> io::Result<PathBuf> {
    let mut packed: OsString = path.to_path_buf().into_os_string();
    packed.push(".zst");
    let packed = PathBuf::from(packed);
    let mut part: OsString = packed.clone().into_os_string();
    part.push(".tmp");
    let mut source = fs::File::open(path)?;
    let target = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o640).open(&part)?;
    let mut encoder = zstd::Encoder::new(target, 3)?;
    io::copy(&mut source, &mut encoder)?;
    encoder.finish()?.sync_all()?;
    fs::rename(&part, &packed)?;
    fs::remove_file(path)?;
    Ok(packed)
}

/// Whether the last byte ends a line. What cannot be read (a device, a pipe) is left alone.
fn ends_whole(file: &mut fs::File) -> bool {
    let mut last = [b'\n'];
    let is_read = file.seek(SeekFrom::End(-1)).and_then(|_| file.read(&mut last));
    is_read.is_err() || last == [b'\n']
}

impl Sink for File {
    fn pace(&self) -> Pace {
        let idle_interval = match self.config.rotate.as_ref().and_then(|rotate| rotate.age_max) {
            Some(age) => age.clamp(Duration::from_secs(1), Duration::from_secs(60)),
            None => Duration::from_secs(3600),
        };
        Pace { bytes_max: 256 << 10, linger: Duration::ZERO, idle_interval, ..Pace::default() }
    }

    fn send(&mut self, batch: &Batch, _: Instant) -> Result<Sent, Failure> {
        let now = Instant::now();
        self.look(now);
        self.rotate_if_due(now);
        if self.file.is_none() {
            let path = self.config.path.clone();
            self.renew()
                .map_err(|error| Failure::retry(format!("cannot open {}: {error}", path.display())))?;
        }
        let Some(file) = &mut self.file else { return Ok(Sent::nothing()) };
        let (written, result) = self.output.write(file, batch);
        self.bytes += written;
        result.map_err(|failure| {
            Failure::retry(format!("{}: {}", self.config.path.display(), failure.reason()))
        })
    }

    fn idle(&mut self, _: Instant) -> Result<Sent, Failure> {
        self.rotate_if_due(Instant::now());
        Ok(Sent::nothing())
    }

    fn reopen(&mut self) {
        if let Err(error) = self.renew() {
            let path = self.config.path.display();
            tracing::warn!(%path, %error, "cannot open the file anew; writing on to the old one");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::sinks::tests::batch;

    fn sink(path: &Path, rotate: Option<Rotate>) -> File {
        File::open(&Config { name: None, path: path.into(), rotate }).unwrap()
    }

    fn send(sink: &mut File, events: &[&str]) {
        let sent = sink.send(&batch(events), Instant::now()).unwrap();
        assert_eq!(sent.through, Some(events.len() as u64));
    }

    #[test]
    fn a_rotated_file_is_followed_and_appended_to() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("events.ndjson");
        fs::write(&path, "{0}\n").unwrap();
        let mut sink = sink(&path, None);
        send(&mut sink, &["{1}"]);
        fs::rename(&path, directory.path().join("old")).unwrap();
        send(&mut sink, &["{2}"]);
        sink.reopen();
        send(&mut sink, &["{3}"]);
        assert_eq!(fs::read_to_string(directory.path().join("old")).unwrap(), "{0}\n{1}\n{2}\n");
        assert_eq!(fs::read_to_string(&path).unwrap(), "{3}\n");
    }

    #[test]
    fn a_line_that_a_killed_process_left_is_ended_before_the_next() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("events.ndjson");
        fs::write(&path, "{0}\n{cu").unwrap();
        send(&mut sink(&path, None), &["{1}"]);
        assert_eq!(fs::read_to_string(&path).unwrap(), "{0}\n{cu\n{1}\n");
    }

    #[test]
    fn a_device_without_space_keeps_events_waiting() {
        let mut sink = sink(Path::new("/dev/full"), None);
        let failure = sink.send(&batch(&["{1}", "{2}"]), Instant::now()).unwrap_err();
        assert!(matches!(&failure, Failure::Retry { .. }), "{failure:?}");
        assert!(failure.reason().contains("/dev/full"), "{}", failure.reason());
    }

    #[test]
    fn a_file_that_cannot_be_opened_is_named() {
        let path = PathBuf::from("/nonexistent/events.ndjson");
        let error = File::open(&Config { name: None, path, rotate: None }).err().unwrap();
        assert!(error.contains("/nonexistent/events.ndjson"), "{error}");
    }

    #[test]
    fn a_clock_that_stepped_back_does_not_make_the_newest_file_the_oldest() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("events.ndjson");
        // Rotated by a clock that was far ahead.
        fs::write(directory.path().join("events.ndjson.29990101T000000.000"), "{1}\n").unwrap();
        fs::write(directory.path().join("events.ndjson.29990101T000000.001"), "{2}\n").unwrap();
        let rotate = Rotate { bytes_max: 1, keep: 2, compress: Compress::None, ..Rotate::default() };
        let mut sink = sink(&path, Some(rotate));
        send(&mut sink, &["{3}"]);
        send(&mut sink, &["{4}"]);
        let old = sink.old_files().unwrap();
        let texts: Vec<String> = old.iter().map(|path| fs::read_to_string(path).unwrap()).collect();
        assert_eq!(texts, ["{2}\n", "{3}\n"], "the oldest went: {old:?}");
    }

    #[test]
    fn old_files_are_compressed_kept_and_then_deleted_and_nothing_is_lost_between() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("events.ndjson");
        fs::write(directory.path().join("events.ndjson.bak"), "mine").unwrap();
        let rotate = Rotate { bytes_max: 64, keep: 3, ..Rotate::default() };
        let mut sink = sink(&path, Some(rotate));
        for number in 0..60 {
            send(&mut sink, &[&format!("{{\"number\":{number:04}}}")]);
        }
        let mut old = sink.old_files().unwrap();
        assert_eq!(old.len(), 3);
        assert!(old.iter().all(|path| path.extension().is_some_and(|end| end == "zst")));
        old.sort();
        let mut text = String::new();
        for path in &old {
            let packed = fs::read(path).unwrap();
            text.push_str(&String::from_utf8(zstd::decode_all(&packed[..]).unwrap()).unwrap());
        }
        text.push_str(&fs::read_to_string(&path).unwrap());
        let last: Vec<String> = (0..60)
            .map(|number| format!("{{\"number\":{number:04}}}"))
            .rev()
            .take(text.lines().count())
            .collect();
        let lines: Vec<String> = text.lines().map(str::to_owned).rev().collect();
        assert_eq!(lines, last, "the newest are there, in order, none missing");
        assert!(lines.len() >= 12);
        assert_eq!(fs::read_to_string(directory.path().join("events.ndjson.bak")).unwrap(), "mine");
    }
}
