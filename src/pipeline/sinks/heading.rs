//! What an event says of itself first: its kind, its id, and whom it is about.
//!
//! For sinks that put it where their protocol has a place for it: topic, key, tag, subject, message id. How it fails:
//! what is missing or of another form is `None`; an event without a schema of ours is of the kind `other`.

#![cfg_attr(not(all(feature = "kafka", feature = "nats")), allow(dead_code, reason = "read by those two"))]

use crate::pipeline::event::{Text, Value, members};

/// The kind of an event whose schema is not one of ours.
const OTHER: &str = "other";

/// The members that say what an event is.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Heading<'a> {
    /// `schema`.
    pub(super) schema: Option<Text<'a>>,
    /// `timestamp`.
    pub(super) timestamp: Option<Text<'a>>,
    /// `trace_id`.
    pub(super) trace_id: Option<Text<'a>>,
    /// `account_id`.
    pub(super) account_id: Option<Text<'a>>,
    id: Option<&'a [u8]>,
}

impl<'a> Heading<'a> {
    /// Reads it from a whole event.
    pub(super) fn of(event: &'a [u8]) -> Heading<'a> {
        let mut heading = Heading::default();
        for (name, value) in members(event) {
            let place = match (name.raw(), value) {
                (b"id", Value::Object(id)) => {
                    heading.id = Some(id);
                    continue;
                }
                (b"schema", Value::Text(_)) => &mut heading.schema,
                (b"timestamp", Value::Text(_)) => &mut heading.timestamp,
                (b"trace_id", Value::Text(_)) => &mut heading.trace_id,
                (b"account_id", Value::Text(_)) => &mut heading.account_id,
                _ => continue,
            };
            *place = value.text();
            if heading.account_id.is_some() && heading.trace_id.is_some() {
                // The head stands before both, see docs/events.md.
                break;
            }
        }
        heading
    }

    /// `exchange` of `sidelight/exchange/1`. Lower-case letters, digits and `_` only, so it may stand in any name.
    pub(super) fn kind(&self) -> &'a str {
        let is_legal = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'_';
        self.schema
            .and_then(|schema| schema.raw().strip_prefix(b"sidelight/"))
            .and_then(|rest| rest.split(|byte| *byte == b'/').next())
            .filter(|kind| (1..=64).contains(&kind.len()) && kind.iter().all(is_legal))
            .and_then(|kind| str::from_utf8(kind).ok())
            .unwrap_or(OTHER)
    }

    /// The event's id, which no other event has: instance, epoch and sequence. What could end a header line is `_`.
    pub(super) fn id(&self, separator: char) -> Option<String> {
        let (mut instance, mut epoch, mut sequence) = (None, None, None);
        for (name, value) in members(self.id?) {
            match (name.raw(), value) {
                (b"instance", Value::Text(text)) => instance = Some(text.get()),
                (b"epoch", Value::Int(number)) => epoch = Some(number),
                (b"sequence", Value::Int(number)) => sequence = Some(number),
                _ => {}
            }
        }
        let instance = instance?.replace(|c: char| c.is_control() || c.is_whitespace(), "_");
        Some(format!("{instance}{separator}{}{separator}{}", epoch?, sequence?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_known_by_its_first_members() {
        let event = br#"{"schema":"sidelight/app_log/1","id":{"instance":"a b","epoch":3,"sequence":7},"timestamp":"t","trace_id":"77","account_id":"ac"}"#;
        let heading = Heading::of(event);
        assert_eq!(heading.kind(), "app_log");
        assert_eq!(heading.id('/').as_deref(), Some("a_b/3/7"));
        assert_eq!(heading.account_id.map(|text| text.get().into_owned()).as_deref(), Some("ac"));
        assert_eq!(heading.trace_id.map(|text| text.get().into_owned()).as_deref(), Some("77"));
        assert_eq!(heading.timestamp.map(|text| text.get().into_owned()).as_deref(), Some("t"));
    }

    #[test]
    fn what_is_not_ours_is_other_and_has_no_id() {
        let rows: [&[u8]; 7] = [
            b"",
            b"{}",
            br#"{"schema":7,"id":3}"#,
            br#"{"schema":"sidelight/"}"#,
            br#"{"schema":"sidelight/a.b*/1","id":{"instance":"a","epoch":1}}"#,
            br#"{"schema":"their/exchange/1","id":{"epoch":1,"sequence":2}}"#,
            br#"{"schema":"sidelight/A\u0041/1"}"#,
        ];
        for event in rows {
            let heading = Heading::of(event);
            assert_eq!((heading.kind(), heading.id('/')), ("other", None), "{}", event.escape_ascii());
        }
    }
}
