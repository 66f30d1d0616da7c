//! From a file, a text or flags to a checked [`Config`].

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::diagnostics::{Diagnostic, Diagnostics, Severity};
use super::node::{Span, Value};
use super::{Config, check, read, walk, yaml};

/// Longest file.
pub const FILE_BYTES_MAX: usize = 16 << 20;

/// A configuration without an error.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What was written, with every default; paths are resolved.
    pub config: Config,
    /// Short hash of the text: FNV-1a, 64 bits, as 16 hexadecimal digits.
    pub revision: String,
    /// What is accepted but probably not meant.
    pub warnings: Diagnostics,
}

/// Reads and checks a file. Relative paths in it are taken from its directory, and files that it names are looked at.
/// Fails with every problem at once.
pub fn load(path: impl AsRef<Path>) -> Result<Loaded, Diagnostics> {
    let path = path.as_ref();
    let name = path.display().to_string();
    let bytes = read_file(path).map_err(|problem| Diagnostics::whole_file(&name, problem))?;
    let text = match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => {
            let valid = error.utf8_error().valid_up_to();
            let before = error.as_bytes().get(..valid).unwrap_or_default();
            return Err(not_utf8(&name, &String::from_utf8_lossy(before)));
        }
    };
    let base = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    checked(&name, &text, Some(base))
}

/// Checks a text; `name` stands for the file in messages. No file is looked at, and relative paths stay relative.
/// Fails with every problem at once.
pub fn parse(name: &str, text: &str) -> Result<Loaded, Diagnostics> {
    checked(name, text, None)
}

fn read_file(path: &Path) -> Result<Vec<u8>, Diagnostic> {
    let cannot = |error: std::io::Error| Diagnostic::error(format!("the file cannot be read: {error}"));
    let metadata = std::fs::metadata(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Diagnostic::error("there is no such file"),
        _ => cannot(error),
    })?;
    if metadata.is_dir() {
        return Err(Diagnostic::error("this is a directory").help("write the path of a file in it"));
    }
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(cannot)?;
    file.take(FILE_BYTES_MAX as u64 + 1).read_to_end(&mut bytes).map_err(cannot)?;
    Ok(bytes)
}

fn not_utf8(name: &str, before: &str) -> Diagnostics {
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    let problem = Diagnostic::error("the file is not UTF-8 text").at(Span { line, column, length: 1 });
    Diagnostics::new(name, before.into(), vec![problem.help("save it as UTF-8")])
}

fn checked(name: &str, text: &str, base: Option<&Path>) -> Result<Loaded, Diagnostics> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.len() > FILE_BYTES_MAX {
        let problem = Diagnostic::error("the file is larger than 16 MiB");
        return Err(Diagnostics::whole_file(name, problem.help("is it the right file?")));
    }
    let shared: Arc<str> = text.into();
    let mut problems = Vec::new();
    let mut node = match yaml::read(text, &mut problems) {
        Ok(Some(node)) if !matches!(node.value, Value::Null) => node,
        Ok(_) => {
            let help = "the smallest useful one: `service: { name: checkout, app: \"127.0.0.1:8080\" }`";
            let problem = Diagnostic::error("the file is empty").help(help);
            return Err(Diagnostics::whole_file(name, problem));
        }
        Err(problem) => {
            problems.push(problem);
            return Err(Diagnostics::new(name, shared, problems));
        }
    };
    walk::walk(&mut node, &mut problems);
    if matches!(node.value, Value::Map(_)) {
        check::check(&node, base, &mut problems);
    }
    if problems.iter().any(|problem| problem.severity == Severity::Error) {
        return Err(Diagnostics::new(name, shared, problems));
    }
    let mut config: Config = match read::from_node(&node) {
        Ok(config) => config,
        Err(problem) => {
            problems.push(problem);
            return Err(Diagnostics::new(name, shared, problems));
        }
    };
    if let Some(base) = base {
        resolve_paths(&mut config, base);
    }
    config.pipeline.sinks.recorded.clone_from(&config.recording.sinks);
    Ok(Loaded { config, revision: revision(text), warnings: Diagnostics::new(name, shared, problems) })
}

/// FNV-1a (draft-eastlake-fnv): the same text has the same revision on every machine. No defence against forgery.
fn revision(text: &str) -> String {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    format!("{:016x}", text.bytes().fold(0xcbf2_9ce4_8422_2325, step))
}

/// Makes every relative path one below `base`.
fn resolve_paths(config: &mut Config, base: &Path) {
    let resolve = |path: &mut PathBuf| *path = base.join(&*path);
    if let Some(tls) = &mut config.inbound.tls {
        resolve(&mut tls.certificate);
        resolve(&mut tls.key);
        tls.client_ca.iter_mut().for_each(resolve);
    }
    for cluster in config.clusters.values_mut() {
        if let Some(crate::cluster::config::Discovery::File(file)) = &mut cluster.discovery {
            resolve(&mut file.path);
        }
        if let Some(tls) = &mut cluster.tls {
            resolve(&mut tls.ca);
            tls.certificate.iter_mut().for_each(resolve);
            tls.key.iter_mut().for_each(resolve);
        }
    }
    for file in &mut config.pipeline.sinks.file {
        resolve(&mut file.path);
    }
    config.pipeline.spool.directory.iter_mut().for_each(resolve);
    config.service.depends_on.file_mut().into_iter().for_each(resolve);
    config.admin.token_file.iter_mut().for_each(resolve);
}
