//! The limit that a request ran into: what answer, event and metric say of it is the same.

use std::sync::Arc;
use std::time::Duration;

/// A limit that refused a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What refused: `requests`, `pending`, `connections`, `requests_per_account`, `breaker`, `rate_limit`,
    /// `concurrency`, `load_shed`, `memory`.
    pub breaker: &'static str,
    /// What it counts for: `cluster`, `route`, `account`, `endpoint`, `listener`.
    pub scope: &'static str,
    /// Which one; the name that the configuration has for it.
    pub name: Arc<str>,
    /// The limit, in the unit of `current`.
    pub limit: u64,
    /// What it would have been with this request.
    pub current: u64,
    /// When to come again.
    pub retry_after: Option<Duration>,
    /// Further fields of the answer, such as those that describe a rate limit; names in lower case.
    pub fields: Vec<(&'static str, String)>,
}

impl Refusal {
    /// A limit without a time to come again.
    pub fn new(
        breaker: &'static str,
        scope: &'static str,
        name: &Arc<str>,
        limit: u64,
        current: u64,
    ) -> Refusal {
        Refusal {
            breaker,
            scope,
            name: Arc::clone(name),
            limit,
            current,
            retry_after: None,
            fields: Vec::new(),
        }
    }
}
