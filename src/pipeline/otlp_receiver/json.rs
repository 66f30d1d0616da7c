//! OTLP's values as JSON that can be read back without loss.
//!
//! What is empty or zero is left out: in Protocol Buffers that is the same. Bytes are `{"@bytes":"base64"}`; doubles that
//! JSON has no number for are `{"@double":"NaN"}`, `"inf"`, `"-inf"`; lists of pairs with two of one name, or a name that
//! begins with `@`, are `{"@kvlist":[["name",value],…]}`. A double always has a point or an exponent, a whole number never.

use crate::svc::base64;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use serde::Serialize;
use std::collections::HashSet;

/// An object that is being written.
pub(super) struct Object<'o> {
    out: &'o mut Vec<u8>,
    is_first: bool,
}

/// Writes an object.
pub(super) fn object(out: &mut Vec<u8>, members: impl FnOnce(&mut Object<'_>)) {
    out.push(b'{');
    members(&mut Object { out, is_first: true });
    out.push(b'}');
}

impl Object<'_> {
    fn key(&mut self, name: &str) -> &mut Vec<u8> {
        if !std::mem::take(&mut self.is_first) {
            self.out.push(b',');
        }
        put(self.out, name);
        self.out.push(b':');
        self.out
    }

    /// A text, unless it is empty.
    pub(super) fn text(&mut self, name: &str, value: &str) {
        if !value.is_empty() {
            put(self.key(name), value);
        }
    }

    /// A text, also an empty one.
    pub(super) fn text_always(&mut self, name: &str, value: &str) {
        put(self.key(name), value);
    }

    /// A number, unless it is 0.
    pub(super) fn unsigned(&mut self, name: &str, value: impl Into<u64>) {
        let value = value.into();
        if value != 0 {
            unsigned(self.key(name), value);
        }
    }

    /// A number, unless it is 0.
    pub(super) fn signed(&mut self, name: &str, value: i32) {
        if value != 0 {
            put(self.key(name), &value);
        }
    }

    /// A whole number, also 0.
    pub(super) fn int(&mut self, name: &str, value: i64) {
        put(self.key(name), &value);
    }

    /// A fraction, also 0.
    pub(super) fn double(&mut self, name: &str, value: f64) {
        double(self.key(name), value);
    }

    /// `true`, or nothing.
    pub(super) fn flag(&mut self, name: &str, value: bool) {
        if value {
            self.key(name).extend_from_slice(b"true");
        }
    }

    /// The name of a number; the number itself, where it has none. The first name is left out.
    pub(super) fn named(&mut self, name: &str, number: i32, names: &[&str]) {
        match usize::try_from(number).ok().and_then(|at| names.get(at)) {
            Some(known) if number != 0 => self.text(name, known),
            Some(_) => {}
            None => self.signed(name, number),
        }
    }

    /// An id in hex digits, unless it is empty.
    pub(super) fn id(&mut self, name: &str, id: &[u8]) {
        if id.is_empty() {
            return;
        }
        let out = self.key(name);
        out.push(b'"');
        for byte in id {
            let digit = |half: u8| if half < 10 { b'0' + half } else { b'a' + half - 10 };
            out.extend_from_slice(&[digit(byte >> 4), digit(byte & 15)]);
        }
        out.push(b'"');
    }

    /// A value.
    pub(super) fn value(&mut self, name: &str, value: &AnyValue) {
        any(self.key(name), Some(value));
    }

    /// Attributes as an object, unless there are none. Of several with one name, which OTLP forbids, the first counts;
    /// returns how many do not.
    pub(super) fn attributes(&mut self, name: &str, attributes: &[KeyValue]) -> u32 {
        if attributes.is_empty() {
            return 0;
        }
        let mut seen = HashSet::new();
        let mut dropped = 0;
        object(self.key(name), |object| {
            for KeyValue { key, value, .. } in attributes {
                if seen.insert(key.as_str()) {
                    any(object.key(key), value.as_ref());
                } else {
                    dropped += 1;
                }
            }
        });
        dropped
    }

    /// Attributes, and how many there are not.
    pub(super) fn attributes_and_dropped(&mut self, attributes: &[KeyValue], dropped: u32) {
        let twice = self.attributes("attributes", attributes);
        self.unsigned("dropped_attributes_count", dropped.saturating_add(twice));
    }

    /// An object.
    pub(super) fn object(&mut self, name: &str, members: impl FnOnce(&mut Object<'_>)) {
        object(self.key(name), members);
    }

    /// An array, unless it is empty.
    pub(super) fn array<T>(&mut self, name: &str, items: &[T], mut item: impl FnMut(&mut Vec<u8>, &T)) {
        if items.is_empty() {
            return;
        }
        let out = self.key(name);
        out.push(b'[');
        for (index, each) in items.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            item(out, each);
        }
        out.push(b']');
    }

    /// What is JSON already.
    pub(super) fn raw(&mut self, name: &str, json: &[u8]) {
        self.key(name).extend_from_slice(json);
    }
}

fn put(out: &mut Vec<u8>, value: &(impl Serialize + ?Sized)) {
    // Texts and numbers into memory: neither fails.
    let _ = serde_json::to_writer(out, value);
}

/// A number without sign; one beyond 63 bits as a text.
pub(super) fn unsigned(out: &mut Vec<u8>, value: u64) {
    match i64::try_from(value) {
        Ok(value) => put(out, &value),
        Err(_) => put(out, &value.to_string()),
    }
}

/// A fraction.
pub(super) fn double(out: &mut Vec<u8>, value: f64) {
    if value.is_finite() {
        put(out, &value);
    } else {
        object(out, |object| object.text("@double", &value.to_string()));
    }
}

fn any(out: &mut Vec<u8>, value: Option<&AnyValue>) {
    match value.and_then(|value| value.value.as_ref()) {
        // References into a table are for profiles only.
        None | Some(Any::StringValueStrindex(_)) => out.extend_from_slice(b"null"),
        Some(Any::StringValue(text)) => put(out, text),
        Some(Any::BoolValue(flag)) => put(out, flag),
        Some(Any::IntValue(number)) => put(out, number),
        Some(Any::DoubleValue(number)) => double(out, *number),
        Some(Any::BytesValue(bytes)) => {
            object(out, |object| object.text_always("@bytes", &base64::text(bytes)))
        }
        Some(Any::ArrayValue(array)) => list(out, &array.values, |out, value| any(out, Some(value))),
        Some(Any::KvlistValue(pairs)) => {
            let mut seen = HashSet::new();
            let is_object =
                pairs.values.iter().all(|pair| !pair.key.starts_with('@') && seen.insert(pair.key.as_str()));
            if is_object {
                object(out, |object| {
                    for pair in &pairs.values {
                        any(object.key(&pair.key), pair.value.as_ref());
                    }
                });
            } else {
                object(out, |object| {
                    list(object.key("@kvlist"), &pairs.values, |out, pair| {
                        out.push(b'[');
                        put(out, &pair.key);
                        out.push(b',');
                        any(out, pair.value.as_ref());
                        out.push(b']');
                    });
                });
            }
        }
    }
}

fn list<T>(out: &mut Vec<u8>, items: &[T], mut item: impl FnMut(&mut Vec<u8>, &T)) {
    out.push(b'[');
    for (index, each) in items.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        item(out, each);
    }
    out.push(b']');
}

/// The member `resource`, as it is put into each event.
pub(super) fn resource(resource: Option<&Resource>, schema_url: &str) -> Vec<u8> {
    let mut out = Vec::new();
    object(&mut out, |object| {
        if let Some(resource) = resource {
            if resource.attributes.is_empty() {
                // That there is one is said by its attributes.
                object.raw("attributes", b"{}");
            }
            object.attributes_and_dropped(&resource.attributes, resource.dropped_attributes_count);
        }
        object.text("schema_url", schema_url);
    });
    out
}

/// The member `scope`, as it is put into each event.
pub(super) fn scope(scope: Option<&InstrumentationScope>, schema_url: &str) -> Vec<u8> {
    let mut out = Vec::new();
    object(&mut out, |object| {
        if let Some(scope) = scope {
            object.text_always("name", &scope.name);
            object.text("version", &scope.version);
            object.attributes_and_dropped(&scope.attributes, scope.dropped_attributes_count);
        }
        object.text("schema_url", schema_url);
    });
    out
}
