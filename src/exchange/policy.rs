//! What a route says about an exchange, compiled: plain data that the layers read, so that one stack serves every
//! route.

use regex::bytes::Regex;
use std::sync::Arc;
use std::time::Duration;

/// The compiled settings of one route.
#[derive(Debug, Default)]
pub struct Policy {
    /// The route's name, as configured or made from its position.
    pub name: Arc<str>,
    /// What OpenTelemetry calls `http.route`: the path pattern that matched, if there is one.
    pub pattern: Option<Arc<str>>,
    /// How long the whole exchange may take until the head of the answer; `None` for ever.
    pub timeout: Option<Duration>,
    /// How long one try may take; `None` as long as the whole.
    pub per_try_timeout: Option<Duration>,
    /// How many retries beyond the first try.
    pub retries_max: u32,
    /// On what to retry.
    pub retry_on: RetryOn,
    /// Changes of path and host.
    pub rewrite: Option<Rewrite>,
    /// Changes of the request's fields.
    pub request_edits: Edits,
    /// Changes of the response's fields.
    pub response_edits: Edits,
}

/// Conditions of a retry. Whatever is set, nothing is repeated that could have happened twice unless the method is
/// idempotent or an `idempotency-key` is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RetryOn {
    /// No connection could be made.
    pub connect_failure: bool,
    /// The upstream refused the stream before it processed it.
    pub refused_stream: bool,
    /// 502, 503 or 504.
    pub gateway_error: bool,
    /// Any 5xx.
    pub server_error: bool,
    /// The upstream closed or reset before it answered.
    pub reset: bool,
}

/// Changes of the target.
#[derive(Debug)]
pub struct Rewrite {
    /// The new path.
    pub path: Option<PathRewrite>,
    /// The new authority.
    pub host: Option<Box<[u8]>>,
}

/// How a path changes.
#[derive(Debug)]
pub enum PathRewrite {
    /// The whole path.
    Full(Box<[u8]>),
    /// The prefix that matched (so many bytes) becomes this.
    Prefix {
        /// Length of the matched prefix, without a final slash.
        matched_bytes: usize,
        /// What takes its place.
        replacement: Box<[u8]>,
    },
    /// Every match becomes the substitution (`$1` is the first group).
    Regex {
        /// What to look for.
        pattern: Regex,
        /// What to write.
        substitution: Box<[u8]>,
    },
}

/// A field to write: name in lower case, and value.
pub type NameValue = (Box<[u8]>, Box<[u8]>);

/// Changes of a header section, in this order: remove, set, append.
#[derive(Debug, Default)]
pub struct Edits {
    /// Names, in lower case.
    pub remove: Vec<Box<[u8]>>,
    /// Fields that replace those of the same name.
    pub set: Vec<NameValue>,
    /// Fields that are added.
    pub append: Vec<NameValue>,
}

impl Edits {
    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.set.is_empty() && self.append.is_empty()
    }

    /// Applies the changes.
    pub fn apply(&self, fields: &mut crate::svc::Fields) {
        for name in &self.remove {
            fields.remove_named(name);
        }
        for (name, value) in &self.set {
            fields.set_named(name, value);
        }
        for (name, value) in &self.append {
            fields.push(name, value);
        }
    }
}
