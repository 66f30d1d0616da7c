//! Files that the configuration names: there, readable, and of the kind that is needed.

use std::io::{ErrorKind, Read};
use std::path::Path;

use super::Check;
use crate::config::node::{Node, excerpt};

/// Bytes of a PEM file that are looked at.
const PEM_BYTES_MAX: u64 = 1 << 20;

/// What a file must hold.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Kind {
    Certificate,
    Key,
    Any,
}

/// The keys of `tls`, of either side.
pub(super) const TLS: [(&str, Kind); 4] = [
    ("certificate", Kind::Certificate),
    ("ca", Kind::Certificate),
    ("client_ca", Kind::Certificate),
    ("key", Kind::Key),
];

impl<'a> Check<'a, '_> {
    pub(super) fn files(&mut self, base: &Path) {
        let mut named: Vec<(Option<&Node>, Kind)> = Vec::new();
        let mut tls = |node: Option<&'a Node>| {
            for (key, kind) in TLS {
                named.push((node.and_then(|node| node.get(key)), kind));
            }
        };
        tls(self.root.at(&["inbound", "tls"]));
        let clusters = self.root.get("clusters").map_or(&[][..], Node::entries);
        clusters.iter().for_each(|entry| tls(entry.value.get("tls")));
        named
            .extend(clusters.iter().map(|entry| (entry.value.at(&["discovery", "file", "path"]), Kind::Any)));
        named.push((self.root.at(&["admin", "token_file"]), Kind::Any));
        for (node, kind) in named {
            if let Some(node) = node {
                self.file(base, node, kind);
            }
        }
        self.event_files(base);
    }

    pub(super) fn file(&mut self, base: &Path, node: &Node, kind: Kind) {
        let Some(text) = node.text().filter(|text| !text.is_empty()) else { return };
        let path = base.join(text);
        let shown = excerpt(text);
        let start = match read_start(&path) {
            Ok(start) => start,
            Err(error) => {
                let (message, help) = unreadable(&shown, &path, &error);
                return self.error(node.span, message, help);
            }
        };
        let holds_certificate = start.contains("-----BEGIN CERTIFICATE-----");
        let holds_key = start.contains("PRIVATE KEY-----");
        let (found, needed) = match kind {
            Kind::Certificate => (holds_certificate, "certificate"),
            Kind::Key => (holds_key, "private key"),
            Kind::Any => return,
        };
        if found {
            return;
        }
        let help = match kind {
            Kind::Certificate if holds_key => "it holds a private key: is it the wrong file?",
            Kind::Key if holds_certificate => "it holds a certificate: is it the wrong file?",
            _ => "a PEM file has a line `-----BEGIN …-----`",
        };
        self.error(node.span, format!("`{shown}` holds no {needed} in PEM"), help);
    }

    /// Event files, which are created: one, or those of a list.
    fn event_files(&mut self, base: &Path) {
        let Some(sinks) = self.root.at(&["pipeline", "sinks", "file"]) else { return };
        for path in std::iter::once(sinks).chain(sinks.items()).filter_map(|sink| sink.get("path")) {
            self.event_file(base, path);
        }
    }

    fn event_file(&mut self, base: &Path, node: &Node) {
        let Some(text) = node.text().filter(|text| !text.is_empty()) else { return };
        let path = base.join(text);
        if path.is_dir() {
            self.error(
                node.span,
                format!("`{}` is a directory", excerpt(text)),
                "write the path of a file in it",
            );
        } else if let Some(parent) = path.parent().filter(|parent| !parent.is_dir()) {
            let message = format!("`{}` cannot be created: its directory is missing", excerpt(text));
            self.error(node.span, message, format!("create `{}`", parent.display()));
        }
    }
}

/// The start of a regular file, whatever its bytes are.
fn read_start(path: &Path) -> std::io::Result<String> {
    let metadata = std::fs::metadata(path)?;
    if metadata.is_dir() {
        return Err(ErrorKind::IsADirectory.into());
    }
    let mut start = Vec::new();
    if metadata.is_file() {
        std::fs::File::open(path)?.take(PEM_BYTES_MAX).read_to_end(&mut start)?;
    }
    Ok(String::from_utf8_lossy(&start).into_owned())
}

fn unreadable(shown: &str, path: &Path, error: &std::io::Error) -> (String, String) {
    match error.kind() {
        ErrorKind::NotFound => {
            (format!("there is no file `{shown}`"), format!("looked for {}", path.display()))
        }
        ErrorKind::IsADirectory => {
            (format!("`{shown}` is a directory"), "write the path of a file in it".into())
        }
        ErrorKind::PermissionDenied => (
            format!("`{shown}` may not be read"),
            format!("let the user of the proxy read {}", path.display()),
        ),
        _ => (format!("`{shown}` cannot be read: {error}"), format!("looked at {}", path.display())),
    }
}
