//! Which folder an event belongs to: service, kind, date and hour, in the form of Hive's partitions.
//!
//! The hour is that of the event's `timestamp`, not of now: what is looked for in an hour is found in its folder, however
//! late it came. How it fails: what has no timestamp is in the first hour of 1970, what has no kind is `other`.

use crate::pipeline::encode::rfc3339;
use crate::pipeline::event::{Value, member, members};
use crate::pipeline::trace_view::moment;
use std::fmt::Write;
use std::time::{Duration, UNIX_EPOCH};

/// The partitions' keys, in the order of folders. None may be the name of a column: `schema` is none, see `columns`.
const KEYS: [&str; 4] = ["service", "kind", "date", "hour"];

/// Longest value of a key, in bytes of its name on disk.
const VALUE_BYTES_MAX: usize = 128;

const HOUR_MICROS: i64 = 3_600_000_000;

/// What an event's place is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head<'a> {
    /// `exchange` of `sidelight/exchange/1`.
    pub(super) kind: &'a str,
    /// Hours since 1970.
    pub(super) hour: u64,
    /// When the process began that made the event.
    pub(super) epoch: u64,
}

impl<'a> Head<'a> {
    /// Reads an event, as far as needed.
    pub(super) fn of(event: &'a [u8]) -> Head<'a> {
        let mut head = Head { kind: "other", hour: 0, epoch: 0 };
        let mut missing = 3;
        for (name, value) in members(event) {
            match (name.raw(), value) {
                (b"schema", Value::Text(text)) => head.kind = kind(text.raw()).unwrap_or(head.kind),
                (b"timestamp", Value::Text(text)) => head.hour = hour(text.raw()).unwrap_or(0),
                (b"id", Value::Object(id)) => {
                    if let Some(Value::Int(epoch)) = member(id, "epoch") {
                        head.epoch = u64::try_from(epoch).unwrap_or(0);
                    }
                }
                _ => continue,
            }
            missing -= 1;
            if missing == 0 {
                break;
            }
        }
        head
    }
}

/// The middle of `sidelight/exchange/1`.
fn kind(schema: &[u8]) -> Option<&str> {
    let text = str::from_utf8(schema).ok()?;
    text.split('/').nth(1).filter(|kind| !kind.is_empty())
}

fn hour(timestamp: &[u8]) -> Option<u64> {
    let micros = moment::parse(str::from_utf8(timestamp).ok()?)?;
    u64::try_from(micros.div_euclid(HOUR_MICROS)).ok()
}

/// A partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Partition {
    kind: String,
    hour: u64,
}

impl Partition {
    /// That of an event.
    pub(super) fn of(head: Head<'_>) -> Partition {
        Partition { kind: head.kind.to_owned(), hour: head.hour }
    }

    /// Whether an event belongs here.
    pub(super) fn has(&self, head: Head<'_>) -> bool {
        self.hour == head.hour && self.kind == head.kind
    }

    /// `service=checkout/kind=exchange/date=2025-01-01/hour=07`; `service` as [`escape`] makes it.
    pub(super) fn path(&self, service: &str) -> String {
        let moment = rfc3339(UNIX_EPOCH + Duration::from_secs(self.hour.saturating_mul(3600)));
        let (date, hour) = (moment.get(..10).unwrap_or_default(), moment.get(11..13).unwrap_or_default());
        let mut path = String::with_capacity(96);
        for (key, value) in KEYS.into_iter().zip([service, &escape(&self.kind), date, hour]) {
            let between = if path.is_empty() { "" } else { "/" };
            // Writing into memory does not fail.
            let _ = write!(path, "{between}{key}={value}");
        }
        path
    }
}

/// A value as Hive writes it in a folder's name: what is special to paths and shells in hex. Never empty, never `.`.
pub(super) fn escape(value: &str) -> String {
    let mut escaped = String::with_capacity(value.len());
    for byte in value.bytes() {
        if escaped.len() + 3 > VALUE_BYTES_MAX {
            break;
        }
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' => escaped.push(byte.into()),
            b'.' if !escaped.is_empty() => escaped.push('.'),
            _ => {
                let _ = write!(escaped, "%{byte:02X}");
            }
        }
    }
    // Hive's name for a value that is not there.
    if escaped.is_empty() { "__HIVE_DEFAULT_PARTITION__".to_owned() } else { escaped }
}

/// A text as a part of a file's name, of at most 64 letters, digits, `_` and `.`.
pub(super) fn name_part(text: &str) -> String {
    let is_plain = |char: char| char.is_ascii_alphanumeric() || matches!(char, '_' | '.' | '-');
    let mut part: String =
        text.chars().take(64).map(|char| if is_plain(char) { char } else { '_' }).collect();
    if part.is_empty() || part.starts_with('.') {
        part.insert(0, '_');
    }
    part
}
