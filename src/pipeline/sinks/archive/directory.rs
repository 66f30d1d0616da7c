//! Files in a directory: complete, or not there.
//!
//! What: a file is made under a temporary name in `.partial`, in the same file system, then written through to the disk,
//! renamed to its place, and the folder written through as well; only then are its events delivered. Readers of Hive
//! partitions leave out folders whose names begin with a dot. What a crash leaves is deleted when the next process begins,
//! if nobody has it locked: proxies of one host may share the directory. How it fails: with one line that names the path;
//! the temporary file goes.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The folder of files that are not complete.
const PARTIAL: &str = ".partial";
/// How they end.
const ENDING: &str = ".partial";
/// Left-over files that are looked at when a process begins.
const LEFT_OVER_MAX: usize = 4096;
/// Events carry people's ids: only owner and group may read them.
const FILE_MODE: u32 = 0o640;
const DIRECTORY_MODE: u32 = 0o750;

/// The directory of an archive.
pub(super) struct Directory {
    root: PathBuf,
    partial: PathBuf,
}

/// A file that is not complete. Dropped, it is deleted.
pub(super) struct Partial {
    file: File,
    path: PathBuf,
    is_published: bool,
}

impl Write for Partial {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if !self.is_published {
            // What cannot be deleted now is deleted when the next process begins.
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl Directory {
    /// Touches nothing yet.
    pub(super) fn new(root: PathBuf) -> Directory {
        Directory { partial: root.join(PARTIAL), root }
    }

    /// Makes the directory, and deletes what an earlier process of `instance` left in it.
    ///
    /// # Errors
    /// It cannot be made or read.
    pub(super) fn start(&self, instance: &str) -> Result<(), String> {
        make(&self.partial).map_err(|error| self.told("make", &self.partial, &error))?;
        let entries =
            fs::read_dir(&self.partial).map_err(|error| self.told("read", &self.partial, &error))?;
        for entry in entries.take(LEFT_OVER_MAX).flatten() {
            if entry.file_name().to_str().is_some_and(|name| is_ours(name, instance)) {
                delete_if_left(&entry.path());
            }
        }
        Ok(())
    }

    /// Begins the file `name`.
    ///
    /// # Errors
    /// It cannot be made, or another process is making it.
    pub(super) fn begin(&self, name: &str) -> Result<Partial, String> {
        let path = self.partial.join(format!("{name}{ENDING}"));
        let open = || {
            make(&self.partial)?;
            let file =
                OpenOptions::new().write(true).create(true).truncate(false).mode(FILE_MODE).open(&path)?;
            // Whoever deletes what was left over has the lock, too.
            file.try_lock()?;
            file.set_len(0)?;
            Ok(file)
        };
        let file = open().map_err(|error: io::Error| self.told("make", &path, &error))?;
        Ok(Partial { file, path, is_published: false })
    }

    /// Puts a file that is complete into its place, below the folder `partition`. When this returns it survives a loss of
    /// power. One that has the name already is replaced.
    ///
    /// # Errors
    /// The disk is full or broken, or something else stands in the way. The file is deleted.
    pub(super) fn publish(&self, mut partial: Partial, partition: &str, name: &str) -> Result<(), String> {
        let folder = self.root.join(partition);
        let path = folder.join(name);
        let publish = || {
            partial.file.sync_all()?;
            self.make_folders(partition)?;
            fs::rename(&partial.path, &path)?;
            sync(&folder)
        };
        publish().map_err(|error| self.told("write", &path, &error))?;
        partial.is_published = true;
        Ok(())
    }

    /// Makes the folders of a partition; each that is new is written through with the one above it.
    fn make_folders(&self, partition: &str) -> io::Result<()> {
        let mut folder = self.root.clone();
        for part in partition.split('/') {
            let above = folder.clone();
            folder.push(part);
            match DirBuilder::new().mode(DIRECTORY_MODE).create(&folder) {
                Ok(()) => sync(&above)?,
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn told(&self, what: &str, path: &Path, error: &io::Error) -> String {
        format!("cannot {what} {}: {error}", path.display())
    }
}

fn make(directory: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(directory)
}

fn sync(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// Whether `name` is `<instance>-<epoch>-<sequence>.<ending>.partial`.
fn is_ours(name: &str, instance: &str) -> bool {
    let Some(rest) = name.strip_prefix(instance).and_then(|rest| rest.strip_prefix('-')) else {
        return false;
    };
    let Some((numbers, ending)) = rest.split_once('.') else { return false };
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let endings = [".ndjson.zst", ".parquet"].map(|known| format!("{known}{ENDING}"));
    numbers.split_once('-').is_some_and(|(epoch, sequence)| is_number(epoch) && is_number(sequence))
        && endings.iter().any(|known| known.get(1..) == Some(ending))
}

fn delete_if_left(path: &Path) {
    let Ok(file) = OpenOptions::new().write(true).open(path) else { return };
    if file.try_lock().is_ok() && fs::remove_file(path).is_ok() {
        tracing::info!(path = %path.display(), "deleted an unfinished file of the archive; its events come again");
    }
}
