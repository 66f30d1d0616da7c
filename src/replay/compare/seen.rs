//! An answer as it is compared, whoever noted it: the recorder or the replay.

use crate::record::{Entry, Field, Side, entry::field};
use crate::replay::Answer;
use bytes::Bytes;
use std::borrow::Cow;

/// An answer. Made for one comparison; it borrows.
#[derive(Clone, Debug)]
pub struct Seen<'a> {
    /// The status; 0 without an answer.
    pub status: u16,
    /// Fields.
    pub fields: &'a [Field],
    /// Trailers.
    pub trailers: &'a [Field],
    /// The content, as far as it is known.
    pub body: Cow<'a, Bytes>,
    /// Whether the content is not all there: then it is not compared.
    pub is_truncated: bool,
    /// Why there is no answer, or not all of it; empty if there is.
    pub error: &'a str,
    /// From the request's first byte to the answer's last; 0 if unknown.
    pub duration_ns: u64,
}

impl<'a> Seen<'a> {
    /// What was recorded.
    pub fn recorded(entry: &'a Entry) -> Seen<'a> {
        let head = entry.response_head();
        Seen {
            status: head.map_or(entry.status, |head| head.status),
            fields: head.map(|head| &*head.fields).unwrap_or_default(),
            trailers: entry.trailers(Side::Response),
            body: Cow::Owned(entry.body(Side::Response)),
            is_truncated: entry.response.is_truncated || entry.parts > 0,
            error: if head.is_none() { &entry.cause } else { "" },
            duration_ns: entry.duration_ns,
        }
    }

    /// What a target answered.
    pub fn answered(answer: &'a Answer) -> Seen<'a> {
        Seen {
            status: answer.status,
            fields: &answer.fields,
            trailers: &answer.trailers,
            body: Cow::Borrowed(&answer.body),
            is_truncated: answer.body_bytes > answer.body.len() as u64,
            error: answer.error.as_deref().unwrap_or_default(),
            duration_ns: answer.ended_ns.saturating_sub(answer.sent_ns),
        }
    }

    pub(super) fn content_type(&self) -> &'a [u8] {
        let value = field(self.fields, b"content-type").unwrap_or_default();
        value.split(|b| *b == b';').next().unwrap_or_default().trim_ascii()
    }

    pub(super) fn is_grpc(&self) -> bool {
        self.content_type().get(..16).is_some_and(|start| start.eq_ignore_ascii_case(b"application/grpc"))
    }
}
