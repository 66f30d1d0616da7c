//! Content, by its type, with its coding (`gzip`) taken off. What says that it is JSON and is not is compared as text; what
//! cannot be decoded as bytes.

use super::coding::Codings;
use super::difference::{Found, Kind};
use super::rules::Rules;
use super::seen::Seen;
use super::{json, message};
use serde_json::Value;

pub(super) fn compare(rules: &Rules, left: &Seen<'_>, right: &Seen<'_>, found: &mut Found) {
    let (a, b): (&[u8], &[u8]) = (&left.body, &right.body);
    let (before, after) = (Codings::of(left.fields), Codings::of(right.fields));
    // The same bytes are the same content, unless only one of them is encoded.
    if a == b && before == after {
        return;
    }
    let decoded =
        before.and_then(|codings| codings.decoded(a)).zip(after.and_then(|codings| codings.decoded(b)));
    let Some((a, b)) = decoded else {
        if a != b {
            bytes(rules, a, b, found);
        }
        return;
    };
    let (a, b): (&[u8], &[u8]) = (&a, &b);
    if a == b {
        return;
    }
    if left.is_grpc() && right.is_grpc() {
        let (before, after) = (Codings::of_messages(left.fields), Codings::of_messages(right.fields));
        return message::compare(rules, (a, before.as_ref()), (b, after.as_ref()), found);
    }
    let kind = left.content_type().to_ascii_lowercase();
    if kind.ends_with(b"/json") || kind.ends_with(b"+json") || kind.is_empty() {
        if let (Ok(a), Ok(b)) = (serde_json::from_slice::<Value>(a), serde_json::from_slice::<Value>(b)) {
            return json::compare(rules, "", &a, &b, found);
        }
    } else if kind == b"application/x-www-form-urlencoded" {
        return form(rules, a, b, found);
    }
    match (std::str::from_utf8(a), std::str::from_utf8(b)) {
        (Ok(a), Ok(b)) => text(rules, a, b, found),
        _ => bytes(rules, a, b, found),
    }
}

/// Name by name; several values of a name in their order.
fn form(rules: &Rules, left: &[u8], right: &[u8], found: &mut Found) {
    let as_object = |body: &[u8]| {
        let mut object = serde_json::Map::new();
        for pair in String::from_utf8_lossy(body).split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let values = object.entry(name).or_insert_with(|| Value::Array(Vec::new()));
            if let Value::Array(values) = values {
                values.push(Value::String(value.to_owned()));
            }
        }
        for value in object.values_mut() {
            if let Value::Array(values) = value
                && values.len() == 1
            {
                *value = values.pop().unwrap_or_default();
            }
        }
        Value::Object(object)
    };
    json::compare(rules, "", &as_object(left), &as_object(right), found);
}

/// Line by line; the first that differs is the example.
fn text(rules: &Rules, left: &str, right: &str, found: &mut Found) {
    const PATH: &str = "text";
    if rules.is_ignored(PATH) || rules.is_equal(PATH, left, right) {
        return;
    }
    let (mut a, mut b) = (left.lines(), right.lines());
    loop {
        match (a.next(), b.next()) {
            (Some(a), Some(b)) if a == b || rules.is_equal(PATH, a, b) => {}
            (Some(a), Some(b)) => return found.add(PATH, Kind::Value, a, b),
            (Some(a), None) => return found.add(PATH, Kind::Missing, a, ""),
            (None, Some(b)) => return found.add(PATH, Kind::Added, "", b),
            (None, None) => return,
        }
    }
}

pub(super) fn bytes(rules: &Rules, left: &[u8], right: &[u8], found: &mut Found) {
    const PATH: &str = "bytes";
    if !rules.is_ignored(PATH) && !rules.is_presence(PATH) {
        let at = left.iter().zip(right).take_while(|(a, b)| a == b).count();
        let tell = |bytes: &[u8]| {
            let here: String = bytes.iter().skip(at).take(16).map(|byte| format!("{byte:02x}")).collect();
            format!("{} bytes, from {at}: {here}", bytes.len())
        };
        found.add(PATH, Kind::Value, &tell(left), &tell(right));
    }
}
