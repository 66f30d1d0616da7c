//! What a route does with a request: splits, redirects, own answers.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One part of a `split`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Weighted {
    /// The cluster.
    pub cluster: String,
    /// Its share, relative to the sum of all weights; 0: none.
    #[schemars(range(max = 1000000))]
    pub weight: u32,
}

/// The context field that a sticky split hashes; a request without it is split at random.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Sticky {
    /// Which customer.
    AccountId,
    /// Who.
    UserId,
    /// What they bought.
    License,
}

/// `redirect`: what is not set stays as in the request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Redirect {
    /// Another host, with a port where it needs one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "authority"))]
    pub host: Option<String>,
    /// Another path; the query stays.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "path"))]
    pub path: Option<String>,
    /// In place of the prefix that `match.path.prefix` matched.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "path"))]
    pub prefix: Option<String>,
    /// Another scheme.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheme: Option<RedirectScheme>,
    /// 301, 302, 303, 307 or 308.
    #[schemars(range(min = 301, max = 308))]
    pub status: u16,
}

impl Default for Redirect {
    fn default() -> Self {
        Redirect { host: None, path: None, prefix: None, scheme: None, status: 301 }
    }
}

/// The scheme of a redirection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RedirectScheme {
    /// Cleartext.
    Http,
    /// TLS.
    Https,
}

/// `respond`: an answer without an upstream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Respond {
    /// Status.
    #[schemars(range(min = 200, max = 599))]
    pub status: u16,
    /// Body.
    pub body: String,
    /// Header fields.
    pub headers: BTreeMap<String, String>,
}

impl Default for Respond {
    fn default() -> Self {
        Respond { status: 200, body: String::new(), headers: BTreeMap::new() }
    }
}
