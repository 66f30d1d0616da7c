//! Which requests a route is for: every condition that is written must hold.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer, Serialize, de};

use crate::units::{OneOrMany, any_of, one_or_many};

/// `match`: nothing written matches every request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Match {
    /// Host without its port, in any case; `*.example` is every name below `example`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "host_pattern"))]
    pub host: Option<String>,
    /// Path, without the query.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<PathMatch>,
    /// Method or methods.
    #[serde(with = "one_or_many", skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "OneOrMany")]
    pub method: Vec<String>,
    /// Header fields by name, in any case.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, StringMatch>,
    /// Query parameters by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub query: BTreeMap<String, StringMatch>,
    /// Context fields.
    #[serde(skip_serializing_if = "ContextMatch::is_default")]
    pub context: ContextMatch,
}

impl Match {
    /// Whether every request matches.
    pub fn is_all(&self) -> bool {
        *self == Match::default()
    }
}

/// `match.path`: exactly one of its keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PathMatch {
    /// The whole path.
    Exact(#[schemars(extend("format" = "path"))] String),
    /// The path or a part of it that ends before a `/`: `/a` matches `/a` and `/a/b`, not `/ab`.
    Prefix(#[schemars(extend("format" = "path"))] String),
    /// A pattern, in the syntax of the Rust crate `regex`; it matches anywhere unless `^` and `$` say otherwise.
    Regex(#[schemars(extend("format" = "regex"))] String),
}

/// A condition on one value: `"exact"`, or a mapping with exactly one key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StringMatch {
    /// The whole value.
    Exact(String),
    /// Its beginning.
    Prefix(String),
    /// A pattern that matches anywhere unless `^` and `$` say otherwise.
    Regex(String),
    /// Whether it is there at all.
    Present(bool),
}

/// The forms of a condition as a mapping.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum StringMatchMapping {
    /// The whole value.
    Exact(String),
    /// Its beginning.
    Prefix(String),
    /// A pattern, in the syntax of the Rust crate `regex`; it matches anywhere unless `^` and `$` say otherwise.
    Regex(#[schemars(extend("format" = "regex"))] String),
    /// Whether it is there at all.
    Present(bool),
}

struct StringMatchVisitor;

impl<'de> de::Visitor<'de> for StringMatchVisitor {
    type Value = StringMatch;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text, or one of `exact`, `prefix`, `regex` and `present`")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<StringMatch, E> {
        Ok(StringMatch::Exact(text.to_owned()))
    }

    fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<StringMatch, A::Error> {
        let mapping = StringMatchMapping::deserialize(de::value::MapAccessDeserializer::new(map))?;
        Ok(match mapping {
            StringMatchMapping::Exact(text) => StringMatch::Exact(text),
            StringMatchMapping::Prefix(text) => StringMatch::Prefix(text),
            StringMatchMapping::Regex(text) => StringMatch::Regex(text),
            StringMatchMapping::Present(is_there) => StringMatch::Present(is_there),
        })
    }
}

impl<'de> Deserialize<'de> for StringMatch {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_any(StringMatchVisitor)
    }
}

impl JsonSchema for StringMatch {
    fn schema_name() -> Cow<'static, str> {
        "StringMatch".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let forms = [String::json_schema(generator), StringMatchMapping::json_schema(generator)];
        any_of(&forms)
    }
}

/// `match.context`: one value or a list of values for each field; every flag must be on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ContextMatch {
    /// What they bought.
    #[serde(with = "one_or_many", skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "OneOrMany")]
    pub license: Vec<String>,
    /// Which customer.
    #[serde(with = "one_or_many", skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "OneOrMany")]
    pub account_id: Vec<String>,
    /// Who.
    #[serde(with = "one_or_many", skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "OneOrMany")]
    pub user_id: Vec<String>,
    /// STANDARD or TRACE (a tracer bullet).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_type: Option<RequestType>,
    /// Feature flags that are all on.
    #[serde(with = "one_or_many", skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "OneOrMany")]
    pub flags: Vec<String>,
}

impl ContextMatch {
    /// Whether every context matches.
    pub fn is_default(&self) -> bool {
        *self == ContextMatch::default()
    }
}

/// The kind of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum RequestType {
    /// An ordinary request.
    Standard,
    /// A tracer bullet: nothing destructive happens.
    Trace,
}
