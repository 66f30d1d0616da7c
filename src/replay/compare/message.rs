//! gRPC messages: one after the other, and within each by the fields of Protocol Buffers' wire format, without a schema.
//!
//! Sources: <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md> (length-prefixed messages),
//! <https://protobuf.dev/programming-guides/encoding/>. Compressed messages (`grpc-encoding`) are decoded.
//! How it fails: what does not parse, or cannot be decoded, is compared as bytes. Bytes are taken for a message within if they parse as one on both sides and are not text on both.

use super::body::bytes;
use super::coding::Codings;
use super::difference::{Found, Kind};
use super::rules::Rules;
use crate::record::wire::{Fields, Value};
use std::borrow::Cow;
use std::collections::BTreeMap;

/// Messages within messages.
const DEPTH_MAX: usize = 16;

/// The messages of a body; `None`: it is cut, or not framed so.
fn messages(mut body: &[u8]) -> Option<Vec<(bool, &[u8])>> {
    let mut out = Vec::new();
    while !body.is_empty() {
        let ([flag, length @ ..], rest) = body.split_first_chunk::<5>()?;
        let (message, rest) = rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
        out.push((flag & 1 == 1, message));
        body = rest;
    }
    Some(out)
}

/// Content, and how compressed messages in it are encoded; `None`: not as is known here.
pub(super) type Side<'a> = (&'a [u8], Option<&'a Codings>);

pub(super) fn compare(rules: &Rules, left: Side<'_>, right: Side<'_>, found: &mut Found) {
    let (Some(a), Some(b)) = (messages(left.0), messages(right.0)) else {
        return bytes(rules, left.0, right.0, found);
    };
    if a.len() != b.len() && !rules.is_ignored("messages") {
        found.add(
            "messages",
            Kind::Count,
            &format!("{} messages", a.len()),
            &format!("{} messages", b.len()),
        );
    }
    for (a, b) in a.into_iter().zip(b) {
        let (before, after) = (plain(a, left.1), plain(b, right.1));
        let parts = before.as_deref().and_then(parsed).zip(after.as_deref().and_then(parsed));
        match (parts, before == after) {
            (Some((a, b)), _) => fields(rules, "", &a, &b, 0, found),
            // Neither could be decoded: by their bytes.
            (None, true) if before.is_some() || a == b => {}
            (None, _) => bytes(rules, a.1, b.1, found),
        }
    }
}

/// A message as it was before it was compressed; `None`: in a way that is not known, or it is damaged.
fn plain<'a>((is_packed, message): (bool, &'a [u8]), codings: Option<&Codings>) -> Option<Cow<'a, [u8]>> {
    match codings {
        _ if !is_packed => Some(Cow::Borrowed(message)),
        Some(codings) if !codings.is_empty() => codings.decoded(message),
        _ => None,
    }
}

type Message<'a> = BTreeMap<u32, Vec<Value<'a>>>;

fn parsed(bytes: &[u8]) -> Option<Message<'_>> {
    let mut message = Message::new();
    for field in Fields::new(bytes) {
        let (number, value) = field.ok()?;
        message.entry(number).or_default().push(value);
    }
    Some(message)
}

fn fields(
    rules: &Rules,
    path: &str,
    left: &Message<'_>,
    right: &Message<'_>,
    depth: usize,
    found: &mut Found,
) {
    for number in left.keys().chain(right.keys().filter(|number| !left.contains_key(number))) {
        let at = format!("{path}/{number}");
        if found.is_full() {
            return;
        }
        if rules.is_ignored(&at) {
            continue;
        }
        match (left.get(number), right.get(number)) {
            (Some(a), Some(b)) => {
                if a.len() != b.len() {
                    found.add(&at, Kind::Count, &format!("{} times", a.len()), &format!("{} times", b.len()));
                }
                let (mut a, mut b) = (a.clone(), b.clone());
                if rules.is_set(&at) {
                    a.sort_by(|a, b| order(*a, *b));
                    b.sort_by(|a, b| order(*a, *b));
                }
                a.into_iter().zip(b).for_each(|(a, b)| values(rules, &at, a, b, depth, found));
            }
            (Some(a), None) => {
                found.add(&at, Kind::Missing, &a.first().map_or_else(String::new, |v| tell(*v)), "")
            }
            (None, Some(b)) => {
                found.add(&at, Kind::Added, "", &b.first().map_or_else(String::new, |v| tell(*v)))
            }
            (None, None) => {}
        }
    }
}

fn order(left: Value<'_>, right: Value<'_>) -> std::cmp::Ordering {
    (left.number(), left.bytes()).cmp(&(right.number(), right.bytes()))
}

fn values(rules: &Rules, path: &str, left: Value<'_>, right: Value<'_>, depth: usize, found: &mut Found) {
    if left == right {
        return;
    }
    let (Value::Bytes(a), Value::Bytes(b)) = (left, right) else {
        let kind = match (left, right) {
            (Value::Number(_), Value::Number(_)) | (Value::Fixed(_), Value::Fixed(_)) => Kind::Value,
            _ => Kind::Type,
        };
        if !rules.is_equal(path, &tell(left), &tell(right)) {
            found.add(path, kind, &tell(left), &tell(right));
        }
        return;
    };
    let is_text = text(a).is_some() && text(b).is_some();
    if !is_text
        && depth < DEPTH_MAX
        && let (Some(a), Some(b)) = (parsed(a), parsed(b))
    {
        return fields(rules, path, &a, &b, depth + 1, found);
    }
    if !rules.is_equal(path, &tell(left), &tell(right)) {
        found.add(path, Kind::Value, &tell(left), &tell(right));
    }
}

fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes)
        .ok()
        .filter(|text| !text.chars().any(|c| c.is_control() && c != '\n' && c != '\t'))
}

fn tell(value: Value<'_>) -> String {
    match value {
        Value::Number(number) | Value::Fixed(number) => number.to_string(),
        Value::Bytes(bytes) => match text(bytes) {
            Some(text) => text.to_owned(),
            None => bytes.iter().take(32).map(|byte| format!("{byte:02x}")).collect(),
        },
    }
}
