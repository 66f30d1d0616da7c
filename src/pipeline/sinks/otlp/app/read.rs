//! Members of an event as the values that OTLP has.
//!
//! JSON has no bytes, no number that is none, and no two members with one name: such values are objects with one member
//! whose name begins with `@`; see the head of `otlp_receiver::json`.

use crate::pipeline::event::{self, Value};
use crate::svc::base64;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::common::v1::{
    AnyValue, ArrayValue, InstrumentationScope, KeyValue, KeyValueList,
};
use opentelemetry_proto::tonic::resource::v1::Resource;

/// How deep values are followed; nothing deeper comes through the receiver, whose decoder stops at 100 messages.
const DEPTH_MAX: usize = 50;

/// An object; what is none has no members.
#[derive(Clone, Copy)]
pub(super) struct Object<'a>(pub(super) &'a [u8]);

impl<'a> Object<'a> {
    pub(super) fn get(self, name: &str) -> Option<Value<'a>> {
        event::member(self.0, name)
    }

    pub(super) fn text(self, name: &str) -> String {
        self.get(name).and_then(Value::text).map(|text| text.get().into_owned()).unwrap_or_default()
    }

    pub(super) fn object(self, name: &str) -> Option<Object<'a>> {
        match self.get(name) {
            Some(Value::Object(raw)) => Some(Object(raw)),
            _ => None,
        }
    }

    /// The items of an array; none where there is none.
    pub(super) fn items(self, name: &str) -> impl Iterator<Item = Value<'a>> {
        let raw = match self.get(name) {
            Some(Value::Array(raw)) => raw,
            _ => &[],
        };
        event::items(raw)
    }

    /// The items that are objects.
    pub(super) fn objects(self, name: &str) -> impl Iterator<Item = Object<'a>> {
        self.items(name).filter_map(|item| match item {
            Value::Object(raw) => Some(Object(raw)),
            _ => None,
        })
    }

    pub(super) fn unsigned(self, name: &str) -> u64 {
        self.get(name).and_then(unsigned).unwrap_or(0)
    }

    pub(super) fn count(self, name: &str) -> u32 {
        u32::try_from(self.unsigned(name)).unwrap_or(u32::MAX)
    }

    pub(super) fn signed(self, name: &str) -> i32 {
        match self.get(name) {
            Some(Value::Int(number)) => i32::try_from(number).unwrap_or(0),
            _ => 0,
        }
    }

    pub(super) fn double(self, name: &str) -> Option<f64> {
        self.get(name).and_then(double)
    }

    /// An id in hex digits; empty where there is none.
    pub(super) fn id(self, name: &str) -> Vec<u8> {
        let Some(text) = self.get(name).and_then(Value::text) else { return Vec::new() };
        let bytes = text.raw().chunks(2).map(|pair| u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok());
        bytes.collect::<Option<Vec<u8>>>().unwrap_or_default()
    }

    pub(super) fn attributes(self, name: &str) -> Vec<KeyValue> {
        match self.get(name) {
            Some(Value::Object(raw)) => pairs(raw, 0),
            _ => Vec::new(),
        }
    }
}

/// A number without sign; one beyond 63 bits is written as a text.
pub(super) fn unsigned(value: Value<'_>) -> Option<u64> {
    match value {
        Value::Int(number) => u64::try_from(number).ok(),
        Value::Text(text) => text.get().parse().ok(),
        _ => None,
    }
}

/// A number; also one that JSON has not.
pub(super) fn double(value: Value<'_>) -> Option<f64> {
    match value {
        Value::Object(raw) => Object(raw).get("@double")?.text()?.get().parse().ok(),
        other => other.number(),
    }
}

fn pairs(raw: &[u8], depth: usize) -> Vec<KeyValue> {
    event::members(raw).map(|(key, value)| pair(key.get().into_owned(), value, depth)).collect()
}

fn pair(key: String, value: Value<'_>, depth: usize) -> KeyValue {
    KeyValue { key, value: Some(any(value, depth)), ..KeyValue::default() }
}

/// A value.
pub(super) fn any(value: Value<'_>, depth: usize) -> AnyValue {
    let value = match value {
        Value::Null => None,
        Value::Text(text) => Some(Any::StringValue(text.get().into_owned())),
        Value::Int(number) => Some(Any::IntValue(number)),
        Value::Double(number) => Some(Any::DoubleValue(number)),
        Value::Bool(flag) => Some(Any::BoolValue(flag)),
        Value::Array(raw) | Value::Object(raw) if depth >= DEPTH_MAX => {
            Some(Any::StringValue(String::from_utf8_lossy(raw).into_owned()))
        }
        Value::Array(raw) => {
            let values = event::items(raw).map(|item| any(item, depth + 1)).collect();
            Some(Any::ArrayValue(ArrayValue { values }))
        }
        Value::Object(raw) => Some(
            tagged(raw, depth)
                .unwrap_or_else(|| Any::KvlistValue(KeyValueList { values: pairs(raw, depth + 1) })),
        ),
    };
    AnyValue { value }
}

/// What is written as an object because JSON has no word for it.
fn tagged(raw: &[u8], depth: usize) -> Option<Any> {
    let (key, value) = event::members(raw).next()?;
    match (key.raw(), value) {
        (b"@bytes", Value::Text(text)) => Some(Any::BytesValue(base64::decode(&text.get())?)),
        (b"@double", Value::Text(_)) => Some(Any::DoubleValue(double(Value::Object(raw))?)),
        (b"@kvlist", Value::Array(list)) => {
            let values = event::items(list).filter_map(|item| {
                let Value::Array(item) = item else { return None };
                let mut parts = event::items(item);
                let key = parts.next()?.text()?.get().into_owned();
                Some(pair(key, parts.next()?, depth + 1))
            });
            Some(Any::KvlistValue(KeyValueList { values: values.collect() }))
        }
        _ => None,
    }
}

/// The member `resource`.
pub(super) fn resource(raw: &[u8]) -> Option<Resource> {
    let object = Object(raw);
    object.get("attributes")?;
    Some(Resource {
        attributes: object.attributes("attributes"),
        dropped_attributes_count: object.count("dropped_attributes_count"),
        ..Resource::default()
    })
}

/// The member `scope`.
pub(super) fn scope(raw: &[u8]) -> Option<InstrumentationScope> {
    let object = Object(raw);
    object.get("name")?;
    Some(InstrumentationScope {
        name: object.text("name"),
        version: object.text("version"),
        attributes: object.attributes("attributes"),
        dropped_attributes_count: object.count("dropped_attributes_count"),
    })
}
