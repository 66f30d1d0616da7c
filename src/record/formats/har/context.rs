//! `_sidelight`: what HAR has no member for.

use super::base64;
use crate::exchange::{Direction, Outcome};
use crate::record::{Content, Entry, Event, Field, ResponseHead, Side, What};
use crate::svc::Version;
use bytes::Bytes;
use serde_json::{Map, Value, json};

fn hex(bytes: &[u8]) -> String {
    let mut digits = vec![0; bytes.len() * 2];
    crate::context::ids::write_hex(bytes, &mut digits);
    String::from_utf8(digits).unwrap_or_default()
}

fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut out = [0; N];
    if text.len() != 2 * N || !text.is_ascii() {
        return None;
    }
    for (index, byte) in out.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * index..2 * index + 2)?, 16).ok()?;
    }
    Some(out)
}

fn outcome(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Complete => "complete",
        Outcome::Cut => "cut",
        Outcome::None => "none",
    }
}

/// Bytes as a text where they are one, and as `{"base64": …}` otherwise.
fn bytes(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.into(),
        Err(_) => json!({ "base64": base64::encode(bytes) }),
    }
}

fn bytes_of(value: &Value) -> Option<Bytes> {
    match value {
        Value::String(text) => Some(text.clone().into()),
        other => base64::decode(other.get("base64")?.as_str()?).map(Bytes::from),
    }
}

fn fields(fields: &[Field]) -> Value {
    fields.iter().map(|field| json!([bytes(&field.name), bytes(&field.value)])).collect()
}

fn fields_of(value: &Value) -> Option<Vec<Field>> {
    let one = |pair: &Value| Some(Field { name: bytes_of(pair.get(0)?)?, value: bytes_of(pair.get(1)?)? });
    value.as_array()?.iter().map(one).collect()
}

fn content(content: &Content) -> Value {
    json!({
        "bytes": content.bytes,
        "hash": format!("{:016x}", content.hash),
        "is_truncated": content.is_truncated,
    })
}

fn content_of(value: &Value) -> Option<Content> {
    Some(Content {
        bytes: value.get("bytes")?.as_u64()?,
        hash: u64::from_str_radix(value.get("hash")?.as_str()?, 16).ok()?,
        is_truncated: value.get("is_truncated")?.as_bool()?,
    })
}

fn event(event: &Event, is_tunnel: bool, last_response: usize, index: usize) -> Value {
    let mut out = Map::new();
    out.insert("at_ns".into(), event.at_ns.into());
    match &event.what {
        What::Request(head) => {
            out.insert("head".into(), "request".into());
            out.insert("scheme".into(), bytes(&head.scheme));
            out.insert("authority".into(), bytes(&head.authority));
            out.insert("target".into(), bytes(&head.target));
            out.insert("upgrade".into(), bytes(&head.upgrade));
        }
        What::Response(_) if index == last_response => {
            out.insert("head".into(), "response".into());
        }
        What::Response(head) => {
            out.insert("interim".into(), head.status.into());
            out.insert("fields".into(), fields(&head.fields));
        }
        // What a tunnel carried is nowhere else.
        What::Data(side, piece) if is_tunnel => {
            out.insert("data".into(), side.as_str().into());
            out.insert("base64".into(), base64::encode(piece).into());
        }
        What::Data(side, piece) => {
            out.insert("data".into(), side.as_str().into());
            out.insert("bytes".into(), piece.len().into());
        }
        What::Trailers(side, trailers) => {
            out.insert("trailers".into(), side.as_str().into());
            out.insert("fields".into(), fields(trailers));
        }
        What::End(side) => {
            out.insert("end".into(), side.as_str().into());
        }
        What::Reset(side, cause) => {
            out.insert("reset".into(), side.as_str().into());
            out.insert("cause".into(), cause.as_str().into());
        }
    }
    out.into()
}

/// The member for an entry.
pub(super) fn write(entry: &Entry) -> Value {
    let is_response = |event: &Event| matches!(event.what, What::Response(_));
    let last_response = entry.events.iter().rposition(is_response).unwrap_or(usize::MAX);
    let is_tunnel = entry.is_tunnel();
    let events: Vec<Value> = entry
        .events
        .iter()
        .enumerate()
        .map(|(index, it)| event(it, is_tunnel, last_response, index))
        .collect();
    json!({
        "version": 1,
        "sequence": entry.sequence,
        "direction": entry.direction.as_str(),
        "connection": entry.connection.to_string(),
        "stream": entry.stream,
        // Numbers above 2^53 would not pass through other programs.
        "started_ns": entry.started_ns.to_string(),
        "duration_ns": entry.duration_ns,
        "first_byte_ns": entry.first_byte_ns,
        "http_version": entry.version.as_str(),
        "is_tls": entry.is_tls,
        "peer": entry.peer,
        "identity": entry.identity,
        "trace_id": hex(&entry.trace_id),
        "span_id": hex(&entry.span_id),
        "parent_id": hex(&entry.parent_id),
        "request_id": entry.request_id,
        "user_id": entry.user_id,
        "account_id": entry.account_id,
        "license": entry.license,
        "request_type": entry.request_type,
        "flags": entry.flags,
        "route": entry.route,
        "cluster": entry.cluster,
        "endpoint": entry.endpoint,
        "attempts": entry.attempts,
        "grpc_status": entry.grpc_status,
        "status": entry.status,
        "cause": entry.cause,
        "outcome": outcome(entry.outcome),
        "sampled_millionths": entry.sampled_millionths,
        "kept_by": entry.kept_by,
        "redactions": entry.redactions,
        "request": content(&entry.request),
        "response": content(&entry.response),
        "events": events,
    })
}

/// Whether a file says that it has this member in a form that is known.
pub(super) fn is_known(value: &Value) -> bool {
    value.get("version").and_then(Value::as_u64) == Some(1)
}

/// Fills an entry's context with what the member has; members of wrong types are passed over.
pub(super) fn read(value: &Value, entry: &mut Entry) {
    let number = |name: &str| value.get(name).and_then(Value::as_u64);
    let text = |name: &str| value.get(name).and_then(Value::as_str);
    let long = |name: &str| text(name).and_then(|text| text.parse::<u64>().ok());
    let numbers = [
        (number("sequence"), &mut entry.sequence),
        (long("connection"), &mut entry.connection),
        (number("stream"), &mut entry.stream),
        (long("started_ns"), &mut entry.started_ns),
        (number("duration_ns"), &mut entry.duration_ns),
        (number("first_byte_ns"), &mut entry.first_byte_ns),
    ];
    for (value, slot) in numbers {
        *slot = value.unwrap_or(*slot);
    }
    let texts = [
        ("peer", &mut entry.peer),
        ("identity", &mut entry.identity),
        ("request_id", &mut entry.request_id),
        ("user_id", &mut entry.user_id),
        ("account_id", &mut entry.account_id),
        ("license", &mut entry.license),
        ("request_type", &mut entry.request_type),
        ("flags", &mut entry.flags),
        ("route", &mut entry.route),
        ("cluster", &mut entry.cluster),
        ("endpoint", &mut entry.endpoint),
        ("cause", &mut entry.cause),
        ("kept_by", &mut entry.kept_by),
    ];
    for (name, slot) in texts {
        if let Some(text) = text(name) {
            text.clone_into(slot);
        }
    }
    let small = |name: &str| number(name).and_then(|number| u32::try_from(number).ok());
    entry.attempts = small("attempts").unwrap_or_default();
    entry.redactions = small("redactions").unwrap_or_default();
    entry.sampled_millionths = small("sampled_millionths").unwrap_or(entry.sampled_millionths);
    entry.status = number("status").and_then(|status| u16::try_from(status).ok()).unwrap_or_default();
    entry.grpc_status = number("grpc_status").and_then(|status| u8::try_from(status).ok());
    entry.trace_id = text("trace_id").and_then(unhex).unwrap_or_default();
    entry.span_id = text("span_id").and_then(unhex).unwrap_or_default();
    entry.parent_id = text("parent_id").and_then(unhex).unwrap_or_default();
    entry.is_tls = value.get("is_tls").and_then(Value::as_bool).unwrap_or(entry.is_tls);
    if text("direction") == Some("outbound") {
        entry.direction = Direction::Outbound;
    }
    entry.version = match text("http_version") {
        Some("1.0") => Version::Http10,
        Some("1.1") => Version::Http11,
        Some("2") => Version::Http2,
        _ => entry.version,
    };
    entry.outcome = match text("outcome") {
        Some("complete") => Outcome::Complete,
        Some("cut") => Outcome::Cut,
        Some("none") => Outcome::None,
        _ => entry.outcome,
    };
    entry.request = value.get("request").and_then(content_of).unwrap_or(entry.request);
    entry.response = value.get("response").and_then(content_of).unwrap_or(entry.response);
}

fn side(text: &str) -> Option<Side> {
    match text {
        "request" => Some(Side::Request),
        "response" => Some(Side::Response),
        _ => None,
    }
}

/// The events in their order and with their times, made of the member and of what an entry already has. `None` if they
/// do not go together: somebody edited the file.
pub(super) fn events(value: &Value, entry: &Entry) -> Option<Vec<Event>> {
    let mut bodies = [entry.body(Side::Request), entry.body(Side::Response)];
    let mut out = Vec::new();
    for it in value.get("events")?.as_array()? {
        let text = |name: &str| it.get(name).and_then(Value::as_str);
        let of = |name: &str| text(name).and_then(side);
        let what = if let Some(side) = of("head") {
            match side {
                Side::Request => {
                    let mut head = entry.request_head()?.clone();
                    let part = |name: &str| it.get(name).and_then(bytes_of);
                    head.scheme = part("scheme").unwrap_or(head.scheme);
                    head.authority = part("authority").unwrap_or(head.authority);
                    head.target = part("target").unwrap_or(head.target);
                    head.upgrade = part("upgrade").unwrap_or(head.upgrade);
                    What::Request(head)
                }
                Side::Response => What::Response(entry.response_head()?.clone()),
            }
        } else if let Some(status) = it.get("interim").and_then(Value::as_u64) {
            What::Response(ResponseHead {
                status: u16::try_from(status).ok()?,
                fields: fields_of(it.get("fields")?)?,
            })
        } else if let Some(side) = of("data") {
            match (text("base64"), it.get("bytes").and_then(Value::as_u64)) {
                (Some(piece), _) => What::Data(side, base64::decode(piece)?.into()),
                (None, Some(len)) => {
                    let body = bodies.get_mut(usize::from(side == Side::Response))?;
                    let len = usize::try_from(len).ok().filter(|len| *len <= body.len())?;
                    What::Data(side, body.split_to(len))
                }
                (None, None) => return None,
            }
        } else if let Some(side) = of("trailers") {
            What::Trailers(side, fields_of(it.get("fields")?)?)
        } else if let Some(side) = of("end") {
            What::End(side)
        } else if let Some(side) = of("reset") {
            What::Reset(side, text("cause").unwrap_or_default().into())
        } else {
            continue;
        };
        out.push(Event { at_ns: it.get("at_ns").and_then(Value::as_u64)?, what });
    }
    // Content that no event accounts for was edited in.
    let is_all = entry.is_tunnel() || bodies.iter().all(Bytes::is_empty);
    (is_all && out.iter().any(|it| matches!(it.what, What::Request(_)))).then_some(out)
}
