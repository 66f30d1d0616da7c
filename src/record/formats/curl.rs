//! A shell script with a `curl` command for each request.
//!
//! Why `--path-as-is -g` and headers taken away: what curl makes tidy, or adds, was not in the request. Quotes are those of
//! POSIX (<https://pubs.opengroup.org/onlinepubs/9799919799/utilities/V3_chap02.html#tag_19_02_02>): within them nothing
//! has a meaning, so that what a stranger sent cannot run. Bytes that no argument can hold go through `printf`.

use super::make;
use super::{Export, Notes, moment};
use crate::record::{Entry, Field};
use crate::svc::Version;
use std::io::{self, Write};

/// The longest content that is an argument: Linux takes 128 KiB for one.
const ARGUMENT_BYTES_MAX: usize = 64 << 10;

/// Writes a script.
pub(super) struct Writer<W> {
    out: W,
    notes: Notes,
}

impl<W: Write> Writer<W> {
    pub fn new(mut out: W) -> io::Result<Writer<W>> {
        out.write_all(b"#!/bin/sh\n# Recorded requests, written by sidelight. Run: sh FILE\n")?;
        Ok(Writer { out, notes: Notes::default() })
    }
}

/// Text within single quotes.
pub(super) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// Any bytes as the format of `printf`.
fn printf(body: &[u8]) -> String {
    use std::fmt::Write;
    let mut out = String::from("printf '");
    for byte in body {
        match byte {
            b'%' => out.push_str("%%"),
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b' ' | b'{' | b'}' | b'"' | b':' | b',' => {
                out.push((*byte).into())
            }
            _ => {
                let _ = write!(out, "\\{byte:03o}");
            }
        }
    }
    out.push('\'');
    out
}

/// The arguments for the fields, and for those that curl would add.
fn fields(fields: &[Field], has_body: bool, notes: &mut Notes) -> String {
    let mut out = String::new();
    for field in fields.iter().filter(|field| !make::is_framing(field)) {
        let (name, value) = (make::text_of(&field.name, notes), make::text_of(&field.value, notes));
        // A semicolon is how curl is told of an empty one.
        let argument = if value.is_empty() { format!("{name};") } else { format!("{name}: {value}") };
        out.push_str(&format!(" \\\n  -H {}", quoted(&argument)));
    }
    let added: &[&str] = if has_body {
        &["User-Agent", "Accept", "Content-Type", "Expect"]
    } else {
        &["User-Agent", "Accept"]
    };
    for name in added.iter().filter(|name| !fields.iter().any(|field| field.is(name.as_bytes()))) {
        out.push_str(&format!(" \\\n  -H '{name}:'"));
    }
    out
}

impl<W: Write> Export for Writer<W> {
    fn write(&mut self, entry: &Entry) -> io::Result<()> {
        let Some((head, body)) = make::sendable(entry, &mut self.notes) else { return Ok(()) };
        self.notes.add("times are in comments: the commands run one after the other");
        let method = String::from_utf8_lossy(&head.method);
        let version = match (entry.version, entry.is_tls) {
            (Version::Http10, _) => "--http1.0",
            (Version::Http11, _) => "--http1.1",
            (Version::Http2, true) => "--http2",
            (Version::Http2, false) => "--http2-prior-knowledge",
        };
        // With `-X HEAD`, curl would wait for content.
        let method = if method == "HEAD" { "--head".into() } else { format!("-X {}", quoted(&method)) };
        let text = std::str::from_utf8(&body)
            .ok()
            .filter(|text| text.len() <= ARGUMENT_BYTES_MAX && !text.contains('\0'));
        let (before, content) = match text {
            Some("") => (String::new(), String::new()),
            // An at sign would name a file.
            Some(text) if text.starts_with('@') => {
                (String::new(), format!(" \\\n  --data-raw {}", quoted(text)))
            }
            Some(text) => (String::new(), format!(" \\\n  --data-binary {}", quoted(text))),
            None => (format!("{} | ", printf(&body)), " \\\n  --data-binary @-".to_owned()),
        };
        let url = make::text_of(make::url(head).as_bytes(), &mut self.notes);
        let url = quoted(&url);
        let fields = fields(&head.fields, !body.is_empty(), &mut self.notes);
        let at = moment::text(entry.started_ns);
        writeln!(
            self.out,
            "\n# {} {at}\n{before}curl -sS -g --path-as-is {version} {method} {url}{fields}{content}",
            entry.sequence
        )
    }

    fn finish(mut self: Box<Self>) -> io::Result<Notes> {
        self.out.flush()?;
        Ok(self.notes)
    }
}
