//! Entries made of what foreign formats know, and the questions that writers of them ask.

use super::Notes;
use crate::context::TraceParent;
use crate::exchange::Outcome;
use crate::record::entry::field;
use crate::record::{Content, Entry, Event, Field, RequestHead, ResponseHead, Side, What};
use bytes::Bytes;

/// A message as most formats have it: a head, its content in one piece, trailers.
#[derive(Clone, Debug, Default)]
pub(super) struct Message<H> {
    pub head: H,
    pub body: Bytes,
    /// How long the content was, if that is more than there is.
    pub bytes: u64,
    pub is_truncated: bool,
    pub trailers: Vec<Field>,
    /// When the head was there, and when the last byte: nanoseconds since the entry's start.
    pub head_ns: u64,
    pub end_ns: u64,
}

impl<H> Message<H> {
    fn content(&self) -> Content {
        let there = self.body.len() as u64;
        Content {
            bytes: self.bytes.max(there),
            hash: 0,
            is_truncated: self.is_truncated || self.bytes > there,
        }
    }

    fn push_rest(&self, side: Side, into: &mut Vec<Event>) {
        let mut push = |what| into.push(Event { at_ns: self.end_ns, what });
        if !self.body.is_empty() {
            push(What::Data(side, self.body.clone()));
        }
        if !self.trailers.is_empty() {
            push(What::Trailers(side, self.trailers.clone()));
        }
        push(What::End(side));
    }
}

/// Fills the entry's events and all that they tell; keeps what was known before.
pub(super) fn entry(
    mut entry: Entry,
    request: &Message<RequestHead>,
    response: Option<&Message<ResponseHead>>,
) -> Entry {
    entry.events.push(Event { at_ns: request.head_ns, what: What::Request(request.head.clone()) });
    request.push_rest(Side::Request, &mut entry.events);
    entry.request = request.content();
    match response {
        Some(response) => {
            entry.events.push(Event { at_ns: response.head_ns, what: What::Response(response.head.clone()) });
            response.push_rest(Side::Response, &mut entry.events);
            entry.response = response.content();
            entry.first_byte_ns = response.head_ns;
            entry.duration_ns = entry.duration_ns.max(response.end_ns);
        }
        None => entry.outcome = Outcome::None,
    }
    entry.duration_ns = entry.duration_ns.max(request.end_ns);
    tell(&mut entry);
    entry
}

/// Fills what the heads tell and nobody said: status, gRPC status, trace, and the context of `x-…` fields.
pub(super) fn tell(entry: &mut Entry) {
    let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
    if entry.status == 0 {
        entry.status = entry.response_head().map_or(0, |head| head.status);
    }
    if entry.grpc_status.is_none() && entry.is_grpc() {
        let head = entry.response_head().map_or(&[][..], |head| &head.fields);
        let status = field(entry.trailers(Side::Response), b"grpc-status").or(field(head, b"grpc-status"));
        entry.grpc_status = status.and_then(|value| std::str::from_utf8(value).ok()?.trim().parse().ok());
    }
    let Some(fields) = entry.request_head().map(|head| head.fields.clone()) else { return };
    if entry.trace_id == [0; 16]
        && let Some(parent) = field(&fields, b"traceparent").and_then(TraceParent::parse)
    {
        (entry.trace_id, entry.parent_id) = (parent.trace_id, parent.parent_id);
    }
    let texts: [(&[u8], &mut String); 6] = [
        (b"x-request-id", &mut entry.request_id),
        (b"x-user-id", &mut entry.user_id),
        (b"x-account-id", &mut entry.account_id),
        (b"x-license", &mut entry.license),
        (b"x-request-type", &mut entry.request_type),
        (b"x-feature-flags", &mut entry.flags),
    ];
    for (name, known) in texts {
        if known.is_empty()
            && let Some(value) = field(&fields, name)
        {
            *known = text(value);
        }
    }
}

/// Whether these bytes may be a field's name (RFC 9110 §5.6.2).
pub(super) fn is_name(name: &[u8]) -> bool {
    !name.is_empty()
        && name.iter().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte))
}

/// Whether these bytes may be a field's value: nothing that ends a line.
pub(super) fn is_value(value: &[u8]) -> bool {
    memchr::memchr3(b'\r', b'\n', 0, value).is_none()
}

/// Whether a method, a target or an authority can be written on a line of its own parts.
pub(super) fn is_word(word: &[u8]) -> bool {
    word.iter().all(|byte| *byte > b' ' && *byte != 0x7f)
}

/// Fields that tell of a connection and not of a message: writers of other versions of HTTP make their own.
pub(super) fn is_framing(field: &Field) -> bool {
    [&b"connection"[..], b"keep-alive", b"proxy-connection", b"transfer-encoding", b"content-length", b"host"]
        .iter()
        .any(|name| field.is(name))
}

/// The URL of a request.
pub(super) fn url(head: &RequestHead) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let target = text(&head.target);
    if target.contains("://") && !target.starts_with('/') {
        return target;
    }
    let scheme = if head.scheme.is_empty() { "http".into() } else { text(&head.scheme) };
    let authority = if head.authority.is_empty() { "localhost".into() } else { text(&head.authority) };
    let slash = if target.starts_with('/') { "" } else { "/" };
    format!("{scheme}://{authority}{slash}{target}")
}

/// Scheme, authority and target of a URL; a fragment is not sent.
pub(super) fn split_url(url: &str) -> Option<(&str, &str, &str)> {
    let (scheme, rest) = url.split_once("://")?;
    let rest = rest.split_once('#').map_or(rest, |(rest, _)| rest);
    let at = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, target) = rest.split_at_checked(at)?;
    let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let scheme = match scheme {
        "ws" => "http",
        "wss" => "https",
        other => other,
    };
    (!authority.is_empty()).then_some((scheme, authority, target))
}

/// Fields as `name: value` for formats that are text, each a pair of texts; what is not UTF-8 is noted.
pub(super) fn text_of(bytes: &[u8], notes: &mut Notes) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.into(),
        Err(_) => {
            notes.add("bytes in a head that are not UTF-8 are written as Latin-1");
            bytes.iter().map(|byte| char::from(*byte)).collect()
        }
    }
}

/// What formats that only send requests leave out, noted; the head and the content, if it can be sent at all.
pub(super) fn sendable<'a>(entry: &'a Entry, notes: &mut Notes) -> Option<(&'a RequestHead, Bytes)> {
    let Some(head) = entry.request_head() else {
        notes.add("exchanges without a request's head are left out");
        return None;
    };
    if !head.upgrade.is_empty() || head.method == "CONNECT" {
        notes.add("WebSockets and tunnels are left out");
        return None;
    }
    if entry.request.is_truncated {
        notes.add("requests with truncated content are left out: they would not be what was sent");
        return None;
    }
    let is_plain = is_name(&head.method) && is_word(&head.target) && is_word(&head.authority);
    if !is_plain || head.fields.iter().any(|field| !is_name(&field.name) || !is_value(&field.value)) {
        notes.add("requests with a head that cannot be sent again are left out");
        return None;
    }
    notes.add_if(!entry.trailers(Side::Request).is_empty(), "trailers of requests are left out");
    notes.add_if(entry.is_grpc(), "gRPC calls are written as plain requests: their messages go out at once");
    let is_reset = entry.events.iter().any(|event| matches!(event.what, What::Reset(Side::Request, _)));
    notes.add_if(is_reset, "what a client gave up is sent to its end");
    Some((head, entry.body(Side::Request)))
}
