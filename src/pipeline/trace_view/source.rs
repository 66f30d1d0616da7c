//! Event files, line by line.
//!
//! What: a [`Source`] is a file, or a stream that can be read only once (`-`, a pipe). A request id is looked up in two
//! passes, so the first pass over a stream copies it into a temporary file that has no name any more: the system removes
//! it when the process ends, however that happens. How it fails: a file that cannot be opened or read is an error that
//! names it; a line longer than [`LINE_BYTES_MAX`] is passed over, and never held.

use super::reading::{FileRead, Reading};
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The longest line that is read. The largest event is that of the longest path and fields that `limits` allow, far below.
pub(super) const LINE_BYTES_MAX: u64 = 1 << 20;

/// How much is read at once.
const BUFFER_BYTES: usize = 256 << 10;

/// Where events come from.
pub struct Source {
    name: String,
    input: Input,
}

enum Input {
    /// Can be read again from its start.
    File(File),
    /// Can be read once.
    Stream(Box<dyn Read>),
}

impl Source {
    /// Opens files, in the order given; `-` is the standard input. A file that is given twice is read once.
    ///
    /// # Errors
    /// The first that cannot be opened, with its name.
    pub fn open(paths: &[PathBuf]) -> Result<Vec<Source>, String> {
        let mut sources = Vec::with_capacity(paths.len());
        let mut seen = Vec::with_capacity(paths.len());
        for path in paths {
            let name = path.display().to_string();
            if name == "-" {
                if !seen.contains(&None) {
                    seen.push(None);
                    sources.push(Source::stream("-", Box::new(io::stdin())));
                }
                continue;
            }
            let file = File::open(path).map_err(|error| format!("cannot open {name}: {error}"))?;
            let data = file.metadata().map_err(|error| format!("cannot open {name}: {error}"))?;
            if data.is_dir() {
                return Err(format!("{name} is a directory: name the files in it, {name}/*.ndjson"));
            }
            if seen.contains(&Some((data.dev(), data.ino()))) {
                continue;
            }
            seen.push(Some((data.dev(), data.ino())));
            let kind = data.file_type();
            let is_stream = kind.is_fifo() || kind.is_char_device() || kind.is_socket();
            let input = if is_stream { Input::Stream(Box::new(file)) } else { Input::File(file) };
            sources.push(Source { name, input });
        }
        Ok(sources)
    }

    /// A stream that can be read once.
    pub fn stream(name: &str, from: Box<dyn Read>) -> Source {
        Source { name: name.into(), input: Input::Stream(from) }
    }

    /// Its name, as it was given.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Gives every line but empty ones to `each`, with its number. `is_last` says that nobody will read this again, so
    /// a stream is not copied.
    ///
    /// # Errors
    /// The system's, with the name.
    pub(super) fn lines(
        &mut self,
        is_last: bool,
        reading: &mut Reading,
        each: &mut dyn FnMut(&mut Reading, u64, &[u8]),
    ) -> Result<(), String> {
        let name = self.name.clone();
        let failed = |error: io::Error| format!("cannot read {name}: {error}");
        let read = match &mut self.input {
            Input::File(file) => {
                file.seek(SeekFrom::Start(0)).map_err(failed)?;
                pass(&name, file, reading, each).map_err(failed)?
            }
            Input::Stream(stream) if is_last => pass(&name, stream, reading, each).map_err(failed)?,
            Input::Stream(stream) => {
                let copy = nameless(&std::env::temp_dir())
                    .map_err(|error| format!("cannot keep a copy of {name}: {error}"))?;
                let mut tee = Tee { from: stream, into: copy };
                let read = pass(&name, &mut tee, reading, each).map_err(failed)?;
                self.input = Input::File(tee.into);
                read
            }
        };
        reading.files.push(read);
        Ok(())
    }
}

/// Reads from one, and copies what it reads into the other.
struct Tee<'a> {
    from: &'a mut dyn Read,
    into: File,
}

impl Read for Tee<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.from.read(buffer)?;
        self.into.write_all(buffer.get(..count).unwrap_or_default())?;
        Ok(count)
    }
}

/// A new file without a name. Events carry people's ids: nobody else could have opened it meanwhile.
fn nameless(folder: &Path) -> io::Result<File> {
    let mut tries = 0;
    loop {
        let path = folder.join(format!("sidelight-trace-{}-{tries}", std::process::id()));
        match OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path) {
            Ok(file) => {
                fs::remove_file(&path)?;
                return Ok(file);
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && tries < 100 => tries += 1,
            Err(error) => return Err(error),
        }
    }
}

fn pass(
    name: &str,
    from: &mut dyn Read,
    reading: &mut Reading,
    each: &mut dyn FnMut(&mut Reading, u64, &[u8]),
) -> io::Result<FileRead> {
    let mut from = BufReader::with_capacity(BUFFER_BYTES, from);
    let mut read = FileRead { name: name.into(), ..FileRead::default() };
    let (mut line, mut previous) = (Vec::new(), Vec::new());
    loop {
        std::mem::swap(&mut line, &mut previous);
        line.clear();
        let bytes = from.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line)? as u64;
        if bytes == 0 {
            read.last = timestamp(&previous);
            return Ok(read);
        }
        read.bytes += bytes;
        read.lines += 1;
        let is_whole = line.last() == Some(&b'\n');
        if !is_whole && bytes == LINE_BYTES_MAX {
            read.bytes += skip_line(&mut from)?;
            reading.fault(name, read.lines, format!("longer than {} MiB", LINE_BYTES_MAX >> 20));
            line.clear();
            continue;
        }
        if read.lines == 1 {
            read.first = timestamp(&line);
        }
        match line.trim_ascii() {
            [] => {}
            [b'{', .., b'}'] => each(reading, read.lines, line.trim_ascii()),
            [b'{', ..] if !is_whole => reading.fault(name, read.lines, "cut: the file ends within it"),
            [b'{', ..] => reading.fault(name, read.lines, "cut: it does not end with }"),
            _ => reading.fault(name, read.lines, "no JSON object"),
        }
    }
}

/// Passes over the rest of a line; gives its length.
fn skip_line(from: &mut impl BufRead) -> io::Result<u64> {
    let mut skipped = 0;
    loop {
        let held = from.fill_buf()?;
        let (count, is_end) = match memchr::memchr(b'\n', held) {
            Some(at) => (at + 1, true),
            None => (held.len(), held.is_empty()),
        };
        from.consume(count);
        skipped += count as u64;
        if is_end {
            return Ok(skipped);
        }
    }
}

/// `timestamp` of a line, without parsing the whole.
fn timestamp(line: &[u8]) -> Option<String> {
    const KEY: &[u8] = br#""timestamp":""#;
    let rest = line.get(memchr::memmem::find(line, KEY)? + KEY.len()..)?;
    let text = rest.get(..memchr::memchr(b'"', rest)?).and_then(|text| std::str::from_utf8(text).ok())?;
    super::moment::parse(text).map(|_| text.to_owned())
}
