//! Fields and trailers: by name, several of a name joined as RFC 9110 §5.3 has it; cookies by their names and attributes.

use super::difference::{Found, Kind};
use super::rules::Rules;
use super::seen::Seen;
use crate::record::Field;
use std::collections::BTreeMap;

/// Fields of gRPC that are trailers, unless there is nothing but a head.
const GRPC_TRAILERS: [&[u8]; 3] = [b"grpc-status", b"grpc-message", b"grpc-status-details-bin"];

pub(super) fn compare(rules: &Rules, left: &Seen<'_>, right: &Seen<'_>, found: &mut Found) {
    let (a, b) = (named(left, "header"), named(right, "header"));
    sides(rules, &a, &b, found);
    let (a, b) = (named(left, "trailer"), named(right, "trailer"));
    sides(rules, &a, &b, found);
}

/// The fields by path.
fn named(seen: &Seen<'_>, place: &str) -> BTreeMap<String, String> {
    let is_grpc = seen.is_grpc();
    let is_moved = |field: &Field| is_grpc && GRPC_TRAILERS.iter().any(|name| field.is(name));
    let own = if place == "header" { seen.fields } else { seen.trailers };
    let moved = if place == "header" { &[] } else { seen.fields };
    let fields = own.iter().filter(|field| place != "header" || !is_moved(field));
    let mut out = BTreeMap::<String, String>::new();
    for field in fields.chain(moved.iter().filter(|field| is_moved(field))) {
        let name = String::from_utf8_lossy(&field.name).to_ascii_lowercase();
        let value = String::from_utf8_lossy(&field.value);
        let (path, value) = match (place, &*name) {
            ("header", "set-cookie") => {
                let (pair, attributes) = value.split_once(';').unwrap_or((&value, ""));
                let (cookie, _) = pair.split_once('=').unwrap_or((pair, ""));
                // Its value and when it ends are the session's.
                let kept = attributes.split(';').map(str::trim).filter(|attribute| {
                    !attribute.get(..8).is_some_and(|start| start.eq_ignore_ascii_case("expires="))
                });
                (format!("header:set-cookie/{}", cookie.trim()), kept.collect::<Vec<_>>().join("; "))
            }
            _ => (format!("{place}:{name}"), value.trim().to_owned()),
        };
        let joined = out.entry(path).or_default();
        if !joined.is_empty() {
            joined.push_str(", ");
        }
        joined.push_str(&value);
    }
    out
}

fn sides(
    rules: &Rules,
    left: &BTreeMap<String, String>,
    right: &BTreeMap<String, String>,
    found: &mut Found,
) {
    let is_ignored = |path: &str| {
        path.strip_prefix("header:").is_some_and(|name| rules.is_header_ignored(name))
            || rules.is_ignored(path)
    };
    for (path, value) in left.iter().filter(|(path, _)| !is_ignored(path)) {
        match right.get(path) {
            Some(other) if value == other || rules.is_equal(path, value, other) => {}
            Some(other) => found.add(path, Kind::Value, value, other),
            None => found.add(path, Kind::Missing, value, ""),
        }
    }
    for (path, value) in right.iter().filter(|(path, _)| !left.contains_key(*path) && !is_ignored(path)) {
        found.add(path, Kind::Added, "", value);
    }
}
