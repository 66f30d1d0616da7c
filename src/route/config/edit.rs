//! Changes on the way: path, host and header fields.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `rewrite`: at most one of `path`, `prefix` and `regex`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Rewrite {
    /// Another path; the query stays.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "path"))]
    pub path: Option<String>,
    /// In place of the prefix that `match.path.prefix` matched.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "path"))]
    pub prefix: Option<String>,
    /// Replaces what a pattern matches in the path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub regex: Option<RegexRewrite>,
    /// Another host, with a port where it needs one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "authority"))]
    pub host: Option<String>,
}

impl Rewrite {
    /// Whether nothing changes.
    pub fn is_default(&self) -> bool {
        *self == Rewrite::default()
    }
}

/// `rewrite.regex`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RegexRewrite {
    /// What is replaced, in the syntax of the Rust crate `regex`.
    #[schemars(extend("format" = "regex"))]
    pub pattern: String,
    /// With what; `$1` or `${name}` is a group of the pattern.
    pub substitution: String,
}

/// `headers` of a route.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HeaderEdits {
    /// On the request, before it goes to the upstream.
    #[serde(skip_serializing_if = "Edits::is_default")]
    pub request: Edits,
    /// On the response, before it goes to the client.
    #[serde(skip_serializing_if = "Edits::is_default")]
    pub response: Edits,
}

impl HeaderEdits {
    /// Whether nothing changes.
    pub fn is_default(&self) -> bool {
        *self == HeaderEdits::default()
    }
}

/// Changes of one head: first `remove`, then `set`, then `append`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Edits {
    /// Fields that get this one value.
    pub set: BTreeMap<String, String>,
    /// Fields that get one more value.
    pub append: BTreeMap<String, String>,
    /// Fields that go.
    pub remove: Vec<String>,
}

impl Edits {
    /// Whether nothing changes.
    pub fn is_default(&self) -> bool {
        *self == Edits::default()
    }
}
