//! Members of a HAR's entries: what browsers write, and what it means.

use super::super::make;
use super::super::{ENTRY_BYTES_MAX, FIELDS_MAX};
use crate::record::entry::field;
use crate::record::{Field, RequestHead};
use crate::svc::Version;
use bytes::Bytes;
use serde_json::Value;

pub(super) fn text_is_base64(content: &Value) -> bool {
    text(content, "encoding").is_some_and(|encoding| encoding.eq_ignore_ascii_case("base64"))
}

pub(super) fn text<'a>(value: &'a Value, name: &str) -> Option<&'a str> {
    value.get(name).and_then(Value::as_str)
}

pub(super) fn bounded(body: &Bytes) -> Result<(), String> {
    let is_fine = body.len() <= ENTRY_BYTES_MAX;
    is_fine
        .then_some(())
        .ok_or_else(|| format!("content of {} bytes is more than {ENTRY_BYTES_MAX}", body.len()))
}

/// The begin of a text, for a message.
pub(super) fn shorten(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(80).collect()
}

/// Milliseconds, with decimals, as nanoseconds; -1 is "does not apply".
pub(super) fn nanos(value: Option<&Value>) -> Option<u64> {
    let millis = value?.as_f64().filter(|millis| millis.is_finite() && *millis >= 0.0)?;
    Some((millis * 1e6).round() as u64)
}

pub(super) fn version(text: &str) -> Version {
    match text.to_ascii_lowercase().as_str() {
        "http/1.0" => Version::Http10,
        // HTTP/3 has the same exchanges as HTTP/2.
        "h2" | "h3" | "http/2" | "http/2.0" | "http/3" | "http/3.0" | "h3-29" | "h2c" => Version::Http2,
        _ => Version::Http11,
    }
}

/// The fields of a message. Chrome puts several values of a field into one, a line each.
pub(super) fn fields(message: &Value) -> Result<Vec<Field>, String> {
    let Some(list) = message.get("headers").and_then(Value::as_array) else { return Ok(Vec::new()) };
    let mut out = Vec::new();
    for pair in list {
        let (Some(name), Some(value)) = (text(pair, "name"), text(pair, "value")) else { continue };
        if !make::is_name(name.strip_prefix(':').unwrap_or(name).as_bytes()) {
            return Err(format!("`{}` is no name of a header", shorten(name)));
        }
        for line in value.split('\n') {
            let line = line.trim_matches(['\r', ' ', '\t']);
            if !make::is_value(line.as_bytes()) {
                return Err(format!("the value of header `{}` has a line end", shorten(name)));
            }
            if out.len() == FIELDS_MAX {
                return Err(format!("more than {FIELDS_MAX} headers"));
            }
            out.push(Field::new(name.to_owned(), line.to_owned()));
        }
    }
    Ok(out)
}

/// What HTTP/2 has in pseudo fields is in the head; `host` is too.
pub(super) fn take_pseudo(head: &mut RequestHead) {
    if let Some(authority) = field(&head.fields, b":authority").or(field(&head.fields, b"host"))
        && !authority.is_empty()
        && make::is_word(authority)
    {
        head.authority = Bytes::copy_from_slice(authority);
    }
    head.fields.retain(|field| !field.name.starts_with(b":") && !field.is(b"host"));
}

/// The parameters of a form, where the text is missing.
pub(super) fn form(data: &Value) -> String {
    let mut out = String::new();
    for pair in data.get("params").and_then(Value::as_array).into_iter().flatten() {
        let Some(name) = text(pair, "name") else { continue };
        if !out.is_empty() {
            out.push('&');
        }
        encode(name, &mut out);
        out.push('=');
        encode(text(pair, "value").unwrap_or_default(), &mut out);
    }
    out
}

/// `application/x-www-form-urlencoded`.
fn encode(text: &str, out: &mut String) {
    use std::fmt::Write;
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'*' => out.push(byte.into()),
            b' ' => out.push('+'),
            _ => {
                let _ = write!(out, "%{byte:02X}");
            }
        }
    }
}
