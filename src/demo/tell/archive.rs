//! What the archive holds, once the sidecars have ended and all its files are complete.

use super::sinks::Lines;
use crate::demo::event;
use crate::demo::expect::Expectations;
use crate::demo::mesh::{ARCHIVE, Mesh};
use crate::demo::terminal::{Cell, Style, Terminal};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

/// How files that are complete end; those that are being written have another name.
const SUFFIX: &str = ".ndjson.zst";
/// Directories in one another, at most: `service=`, `kind=`, `date=`, `hour=`.
const DEPTH_MAX: usize = 4;

/// The files of a service.
#[derive(Clone, Copy, Debug, Default)]
struct Folder {
    files: u64,
    events: u64,
    bytes: u64,
    packed_bytes: u64,
}

/// Prints what is in the archive below `directory`.
pub(in crate::demo) fn archive(
    terminal: Terminal,
    mesh: &Mesh,
    directory: &Path,
    expectations: &mut Expectations,
) -> Result<(), String> {
    terminal.heading("What the archive holds, after the end");
    let mut folders = BTreeMap::new();
    let root = directory.join(ARCHIVE);
    walk(&root, "", DEPTH_MAX, &mut folders).map_err(|error| format!("{}: {error}", root.display()))?;
    let rows = folders.iter().map(|(folder, of)| {
        vec![
            Cell::text(folder).styled(Style::Name),
            Cell::number(of.files),
            Cell::number(of.events),
            Cell::number(kib(of.bytes)),
            Cell::number(kib(of.packed_bytes)),
        ]
    });
    terminal.table(&["folder", "files", "events", "KiB", "KiB packed"], &rows.collect::<Vec<_>>());
    terminal.note(
        "Below each `date=…/hour=…`: folders that DuckDB, Athena and Spark take as columns, as they are.",
    );
    let held: u64 = folders.values().map(|folder| folder.events).sum();
    let written = mesh.nodes.iter().map(|node| Lines::of(&event::all(&node.sidecar.events)).different);
    let written: u64 = written.sum();
    expectations.expect(
        held == written,
        format!("the archive has the {written} events of all event files, each once: {held}"),
    );
    Ok(())
}

fn kib(bytes: u64) -> String {
    format!("{:.1}", bytes as f64 / 1024.0)
}

/// Counts what is in the complete files below `directory`, by the first two folders.
fn walk(
    directory: &Path,
    name: &str,
    depth: usize,
    folders: &mut BTreeMap<String, Folder>,
) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let own = path.file_name().map(|own| own.to_string_lossy().into_owned()).unwrap_or_default();
        if path.is_dir() && depth > 0 {
            let name = match depth {
                DEPTH_MAX => own,
                _ if depth + 1 == DEPTH_MAX => format!("{name}/{own}"),
                _ => name.to_owned(),
            };
            walk(&path, &name, depth - 1, folders)?;
        } else if own.ends_with(SUFFIX) {
            let packed = fs::read(&path)?;
            let events = zstd::decode_all(packed.as_slice())?;
            let folder = folders.entry(name.to_owned()).or_default();
            folder.files += 1;
            folder.events += events.iter().filter(|byte| **byte == b'\n').count() as u64;
            folder.bytes += events.len() as u64;
            folder.packed_bytes += packed.len() as u64;
        }
    }
    Ok(())
}
