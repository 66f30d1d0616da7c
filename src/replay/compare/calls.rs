//! What a service asked of others while it answered: the outbound calls of one trace, recorded and observed.
//!
//! Compared as a set with counts: calls that run at once have no order. Ids in paths are `*`, as they differ.

use super::difference::{Difference, Found, Kind};
use super::rules::Rules;
use super::shape;
use crate::record::Entry;
use std::collections::BTreeMap;

/// Calls of one exchange that are compared.
pub(super) const CALLS_MAX: usize = 1024;

/// One outbound call, as it is compared.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Call(String);

impl Call {
    /// `METHOD host/path`, with `*` for ids.
    pub fn new(method: &str, authority: &str, target: &str) -> Call {
        let path = target.split(['?', '#']).next().unwrap_or_default();
        let steps = path.split('/').map(|step| {
            let is_id =
                shape::is_generated(step) || !step.is_empty() && step.bytes().all(|b| b.is_ascii_digit());
            if is_id { "*" } else { step }
        });
        let host = authority.rsplit_once(':').filter(|(_, port)| port.bytes().all(|b| b.is_ascii_digit()));
        let host = host.map_or(authority, |(host, _)| host);
        Call(format!("{method} {host}{}", steps.collect::<Vec<_>>().join("/")))
    }

    /// Of a recorded call.
    pub fn of(entry: &Entry) -> Option<Call> {
        let head = entry.request_head()?;
        let text = |bytes| String::from_utf8_lossy(bytes);
        Some(Call::new(&text(&head.method), &text(&head.authority), &text(&head.target)))
    }
}

/// Where the calls of an exchange differ.
pub fn compare(rules: &Rules, recorded: &[Call], observed: &[Call]) -> Vec<Difference> {
    let mut counts = BTreeMap::<&Call, (u64, u64)>::new();
    recorded.iter().take(CALLS_MAX).for_each(|call| counts.entry(call).or_default().0 += 1);
    observed.iter().take(CALLS_MAX).for_each(|call| counts.entry(call).or_default().1 += 1);
    let mut found = Found::default();
    for (call, (recorded, observed)) in
        counts.into_iter().filter(|(_, (recorded, observed))| recorded != observed)
    {
        let path = format!("call:{}", call.0);
        let kind = match (recorded, observed) {
            (_, 0) => Kind::Missing,
            (0, _) => Kind::Added,
            _ => Kind::Count,
        };
        if !rules.is_ignored(&path) {
            found.add(&path, kind, &told(recorded), &told(observed));
        }
    }
    found.list
}

fn told(count: u64) -> String {
    if count == 1 { "1 call".into() } else { format!("{count} calls") }
}
