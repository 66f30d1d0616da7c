//! What two answers to one request say about values: the recorded one and the one of this replay.

use super::text;
use super::values::Values;
use crate::record::Field;
use crate::replay::compare::shape;
use regex::Regex;
use serde_json::Value;
use std::sync::LazyLock;

/// Values within values.
const DEPTH_MAX: usize = 64;
/// Fields of forms and pages that are looked at.
const INPUTS_MAX: usize = 1_000;
/// A larger page is not looked through.
const PAGE_BYTES_MAX: usize = 4 << 20;

/// Fields whose values are learned even if they do not look generated.
const HEADERS: [&str; 11] = [
    "etag",
    "location",
    "content-location",
    "x-csrf-token",
    "x-xsrf-token",
    "csrf-token",
    "x-auth-token",
    "x-access-token",
    "authorization",
    "x-session-id",
    "www-authenticate",
];

/// Pairs of cookies, name by name.
pub(super) fn cookies(values: &mut Values, recorded: &[Field], now: &[Field]) -> usize {
    let before: Vec<(&str, &str, bool)> = recorded.iter().filter_map(cookie).collect();
    let mut learned = 0;
    for (name, value, is_gone) in now.iter().filter_map(cookie) {
        let pair = before.iter().rev().find(|(other, ..)| *other == name);
        if is_gone {
            values.set(name, None);
            continue;
        }
        values.set(name, Some((value, pair.is_some())));
        if let Some((_, recorded, false)) = pair {
            learned += usize::from(values.learn(recorded, value));
        }
    }
    learned
}

/// Name, value, and whether it deletes the cookie.
fn cookie(field: &Field) -> Option<(&str, &str, bool)> {
    if !field.is(b"set-cookie") {
        return None;
    }
    let text = std::str::from_utf8(&field.value).ok()?;
    let (pair, attributes) = text.split_once(';').unwrap_or((text, ""));
    let (name, value) = pair.split_once('=')?;
    let is_gone = attributes.split(';').any(|attribute| {
        let attribute = attribute.trim().to_ascii_lowercase();
        attribute.strip_prefix("max-age=").is_some_and(|age| age.parse::<i64>().is_ok_and(|age| age <= 0))
            || attribute.starts_with("expires=") && attribute.contains(" 1970 ")
    });
    Some((name.trim(), value.trim().trim_matches('"'), is_gone || value.trim().is_empty()))
}

/// Pairs of other fields.
pub(super) fn headers(values: &mut Values, recorded: &[Field], now: &[Field]) -> usize {
    let mut learned = 0;
    for field in recorded {
        let name = String::from_utf8_lossy(&field.name).to_ascii_lowercase();
        let is_listed = HEADERS.contains(&&*name);
        let is_passed =
            ["set-cookie", "date", "expires", "content-length", "server", "via", "age"].contains(&&*name);
        let other = now.iter().find(|other| other.is(&field.name));
        let (Ok(before), Some(Ok(after))) =
            (std::str::from_utf8(&field.value), other.map(|other| std::str::from_utf8(&other.value)))
        else {
            continue;
        };
        if is_passed || before == after {
            continue;
        }
        if name.ends_with("location") || name == "link" || name == "refresh" {
            learned += address(values, before, after);
        } else if name == "www-authenticate" {
            learned += parameters(values, before, after);
        } else if is_listed || shape::is_generated(before) {
            learned += usize::from(values.learn(before, after));
        }
    }
    learned
}

/// Pairs of segments and query values, where both addresses have equally many.
fn address(values: &mut Values, before: &str, after: &str) -> usize {
    let parts = |text: &str| text.split(['/', '?', '&', '=', '#']).map(str::to_owned).collect::<Vec<_>>();
    // Host and port are the target's, not the application's.
    let path = |text: &str| match text.split_once("://") {
        Some((_, rest)) => rest.find('/').and_then(|at| rest.get(at..)).unwrap_or_default().to_owned(),
        None => text.to_owned(),
    };
    let (before, after) = (parts(&path(before)), parts(&path(after)));
    if before.len() != after.len() {
        return 0;
    }
    let pairs = before.iter().zip(&after).filter(|(before, after)| before != after);
    pairs
        .map(|(before, after)| {
            let is_id =
                shape::is_generated(before) || before.len() > 1 && before.bytes().all(|b| b.is_ascii_digit());
            usize::from(is_id && learn_both(values, before, after))
        })
        .sum()
}

/// As it is, and without its encoding.
fn learn_both(values: &mut Values, before: &str, after: &str) -> bool {
    let plain = |text: &str| text::unescaped(text).unwrap_or_else(|| text.to_owned());
    values.learn(&plain(before), &plain(after))
}

/// `nonce="…"` and others of a challenge (RFC 9110 §11.2).
fn parameters(values: &mut Values, before: &str, after: &str) -> usize {
    let pairs = |text: &str| {
        let pair = |part: &str| {
            let (name, value) = part.trim().split_once('=')?;
            let name = name.rsplit(' ').next().unwrap_or(name).to_ascii_lowercase();
            Some((name, value.trim().trim_matches('"').to_owned()))
        };
        text.split(',').take(INPUTS_MAX).filter_map(pair).collect::<Vec<_>>()
    };
    by_name(values, &pairs(before), &pairs(after))
}

fn by_name(values: &mut Values, before: &[(String, String)], after: &[(String, String)]) -> usize {
    let mut learned = 0;
    for (name, value) in before {
        let other = after.iter().find(|(other, _)| other == name);
        if let Some((_, now)) = other
            && (shape::is_generated(value)
                || shape::is_id_name(name) && value.len() >= shape::GENERATED_BYTES_MIN)
        {
            learned += usize::from(values.learn(value, now));
        }
    }
    learned
}

/// Pairs of content.
pub(super) fn body(
    values: &mut Values,
    listed: &[String],
    kind: &[u8],
    before: &[u8],
    after: &[u8],
) -> usize {
    let kind = kind.split(|b| *b == b';').next().unwrap_or_default().trim_ascii().to_ascii_lowercase();
    if kind.ends_with(b"json") {
        let (Ok(before), Ok(after)) = (serde_json::from_slice(before), serde_json::from_slice(after)) else {
            return 0;
        };
        return json(values, listed, "", "", &before, &after, 0);
    }
    let (Ok(before), Ok(after)) = (std::str::from_utf8(before), std::str::from_utf8(after)) else { return 0 };
    if kind.ends_with(b"html") || kind.ends_with(b"+xml") || kind.ends_with(b"/xml") {
        return by_name(values, &inputs(before), &inputs(after));
    }
    if kind == b"application/x-www-form-urlencoded" {
        let pairs = |text: &str| {
            let plain = |text: &str| text::unescaped(text).unwrap_or_else(|| text.to_owned());
            let pairs = text.split('&').take(INPUTS_MAX).filter_map(|pair| pair.split_once('='));
            pairs.map(|(name, value)| (plain(name), plain(value))).collect::<Vec<_>>()
        };
        return by_name(values, &pairs(before), &pairs(after));
    }
    let (before, after) = (before.trim(), after.trim());
    usize::from(kind == b"text/plain" && shape::is_generated(before) && values.learn(before, after))
}

fn json(
    values: &mut Values,
    listed: &[String],
    path: &str,
    name: &str,
    before: &Value,
    after: &Value,
    depth: usize,
) -> usize {
    if depth > DEPTH_MAX || before == after {
        return 0;
    }
    match (before, after) {
        (Value::Object(a), Value::Object(b)) => {
            let pairs = a.iter().filter_map(|(name, value)| Some((name, value, b.get(name)?)));
            pairs
                .map(|(name, a, b)| json(values, listed, &format!("{path}/{name}"), name, a, b, depth + 1))
                .sum()
        }
        (Value::Array(a), Value::Array(b)) => {
            let at = format!("{path}/*");
            a.iter().zip(b).map(|(a, b)| json(values, listed, &at, name, a, b, depth + 1)).sum()
        }
        (Value::String(_) | Value::Number(_), Value::String(_) | Value::Number(_)) => {
            let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            let (a, b) = (text(before), text(after));
            let is_listed = listed.iter().any(|listed| listed == path);
            let is_address = a.starts_with('/') || a.starts_with("http://") || a.starts_with("https://");
            if is_address && !is_listed {
                return address(values, &a, &b);
            }
            let is_generated = match before {
                Value::Number(_) => shape::is_generated_integer(&a, name),
                _ => {
                    shape::is_generated(&a)
                        || shape::is_id_name(name) && a.len() >= shape::GENERATED_BYTES_MIN
                }
            };
            usize::from((is_listed || is_generated) && values.learn(&a, &b))
        }
        _ => 0,
    }
}

/// Hidden inputs, and `meta` elements about CSRF, of a page.
fn inputs(page: &str) -> Vec<(String, String)> {
    static ELEMENT: LazyLock<Option<Regex>> =
        LazyLock::new(|| Regex::new(r"(?is)<(input|meta)\b([^>]*)>").ok());
    static ATTRIBUTE: LazyLock<Option<Regex>> =
        LazyLock::new(|| Regex::new(r#"(?is)([a-z-]+)\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s"'>]+))"#).ok());
    let (Some(element), Some(attribute)) = (&*ELEMENT, &*ATTRIBUTE) else { return Vec::new() };
    if page.len() > PAGE_BYTES_MAX {
        return Vec::new();
    }
    let mut out = Vec::new();
    for found in element.captures_iter(page).take(INPUTS_MAX) {
        let part = |index| found.get(index).map_or("", |part| part.as_str());
        let of = |wanted: &str| {
            attribute
                .captures_iter(part(2))
                .find(|pair| pair.get(1).is_some_and(|name| name.as_str().eq_ignore_ascii_case(wanted)))
                .map(|pair| {
                    let value = [2, 3, 4]
                        .iter()
                        .find_map(|index| pair.get(*index))
                        .map_or("", |value| value.as_str());
                    value
                        .replace("&quot;", "\"")
                        .replace("&#x2F;", "/")
                        .replace("&#43;", "+")
                        .replace("&amp;", "&")
                })
        };
        let is_meta = part(1).eq_ignore_ascii_case("meta");
        let is_hidden = of("type").is_some_and(|kind| kind.eq_ignore_ascii_case("hidden"));
        let value = if is_meta { of("content") } else { of("value").filter(|_| is_hidden) };
        let name = of("name").filter(|name| !is_meta || name.to_ascii_lowercase().contains("csrf"));
        out.extend(name.zip(value));
    }
    out
}
