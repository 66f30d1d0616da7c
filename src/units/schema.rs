//! JSON Schema of the texts: what `#[schemars(with = "…")]` names.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use super::{
    CountOrAuto, CountOrNone, DurationOrAuto, DurationOrNone, DurationOrZero, DurationText, ListenText,
    OneOrMany, SizeOrAuto, SizeOrNone, SizeText,
};

impl JsonSchema for DurationText {
    fn schema_name() -> Cow<'static, str> {
        "DurationText".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "duration", "examples": ["250ms", "15s"] })
    }
}

impl JsonSchema for DurationOrNone {
    fn schema_name() -> Cow<'static, str> {
        "DurationOrNone".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "duration_or_none", "examples": ["15s", "none"] })
    }
}

impl JsonSchema for DurationOrZero {
    fn schema_name() -> Cow<'static, str> {
        "DurationOrZero".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "duration_or_zero", "examples": ["100ms", "0s"] })
    }
}

impl JsonSchema for DurationOrAuto {
    fn schema_name() -> Cow<'static, str> {
        "DurationOrAuto".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "duration_or_auto", "examples": ["30s", "auto"] })
    }
}

impl JsonSchema for SizeText {
    fn schema_name() -> Cow<'static, str> {
        "SizeText".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["string", "integer"], "format": "size", "minimum": 0, "examples": ["64KiB"] })
    }
}

impl JsonSchema for SizeOrNone {
    fn schema_name() -> Cow<'static, str> {
        "SizeOrNone".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["string", "integer"], "format": "size_or_none", "minimum": 0, "examples": ["1MiB", "none"] })
    }
}

impl JsonSchema for SizeOrAuto {
    fn schema_name() -> Cow<'static, str> {
        "SizeOrAuto".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["string", "integer"], "format": "size_or_auto", "minimum": 0, "examples": ["512MiB", "auto"] })
    }
}

impl JsonSchema for CountOrNone {
    fn schema_name() -> Cow<'static, str> {
        "CountOrNone".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [{ "const": "none" }, { "type": "integer", "minimum": 1 }] })
    }
}

impl JsonSchema for CountOrAuto {
    fn schema_name() -> Cow<'static, str> {
        "CountOrAuto".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [{ "const": "auto" }, { "type": "integer", "minimum": 1 }] })
    }
}

impl JsonSchema for ListenText {
    fn schema_name() -> Cow<'static, str> {
        "ListenText".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "listen_address", "examples": ["127.0.0.1:15001", "none"] })
    }
}

/// The schema of a value that may be written in several forms.
pub fn any_of(forms: &[Schema]) -> Schema {
    json_schema!({ "anyOf": forms })
}

impl JsonSchema for OneOrMany {
    fn schema_name() -> Cow<'static, str> {
        "OneOrMany".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [
            { "type": "string" },
            { "type": "array", "items": { "type": "string" }, "minItems": 1 }
        ] })
    }
}
