//! Routes that no request can reach, because an earlier one takes all that they would match.
//!
//! Sound, not complete: only what follows from the conditions one by one is told. Comparing is quadratic, so over
//! [`COMPARED_MAX`] routes only an earlier route without conditions is looked for.

use std::collections::BTreeMap;

use super::Check;
use super::routes::route_span;
use crate::config::node::{Node, Span, excerpt};
use crate::config::read;
use crate::route::config::{Match, PathMatch, StringMatch};

/// Routes that are compared with each other.
const COMPARED_MAX: usize = 500;

impl Check<'_, '_> {
    pub(super) fn reach(&mut self, routes: &[Node]) {
        let mut earlier: Vec<(Match, Span)> = Vec::new();
        for route in routes {
            let matches = match route.get("match") {
                None => Match::default(),
                Some(node) => match read::from_node::<Match>(node) {
                    Ok(matches) => matches,
                    Err(_) => continue, // the schema said so
                },
            };
            let span = route_span(route);
            let compare = routes.len() <= COMPARED_MAX;
            let cover =
                earlier.iter().find(|(first, _)| first.is_all() || (compare && covers(first, &matches)));
            if let Some((first, place)) = cover {
                let what = if first.is_all() { "every request" } else { "all that this one matches" };
                let name = route.get("name").and_then(Node::text).unwrap_or_default();
                let name =
                    if name.is_empty() { "this route".into() } else { format!("route `{}`", excerpt(name)) };
                let message = format!("{name} is never reached");
                let help = format!("the route on line {} takes {what}: put this one before it", place.line);
                self.warning(span, message, help);
            }
            if compare || matches.is_all() {
                earlier.push((matches, span));
            }
        }
    }
}

/// Whether every request that `later` matches, `first` matches too.
fn covers(first: &Match, later: &Match) -> bool {
    let list = |first: &[String], later: &[String]| {
        first.is_empty() || (!later.is_empty() && later.iter().all(|value| first.contains(value)))
    };
    let (a, b) = (&first.context, &later.context);
    host(first.host.as_deref(), later.host.as_deref())
        && path(first.path.as_ref(), later.path.as_ref())
        && list(&first.method, &later.method)
        && values(&first.headers, &later.headers)
        && values(&first.query, &later.query)
        && list(&a.license, &b.license)
        && list(&a.account_id, &b.account_id)
        && list(&a.user_id, &b.user_id)
        && (a.request_type.is_none() || a.request_type == b.request_type)
        && a.flags.iter().all(|flag| b.flags.contains(flag))
}

fn host(first: Option<&str>, later: Option<&str>) -> bool {
    let (Some(first), later) = (first, later) else { return true };
    let Some(later) = later else { return false };
    let (first, later) = (first.to_ascii_lowercase(), later.to_ascii_lowercase());
    let suffix = first.strip_prefix('*').filter(|suffix| suffix.starts_with('.'));
    first == later || suffix.is_some_and(|suffix| later.ends_with(suffix))
}

fn path(first: Option<&PathMatch>, later: Option<&PathMatch>) -> bool {
    match (first, later) {
        (None, _) => true,
        (Some(first), Some(later)) if first == later => true,
        (Some(PathMatch::Prefix(prefix)), Some(PathMatch::Exact(path) | PathMatch::Prefix(path))) => {
            let prefix = prefix.trim_end_matches('/');
            path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        }
        _ => false,
    }
}

fn values(first: &BTreeMap<String, StringMatch>, later: &BTreeMap<String, StringMatch>) -> bool {
    first.iter().all(|(name, first)| match (first, later.get(name)) {
        (_, None) => false,
        (first, Some(later)) if first == later => true,
        (StringMatch::Present(true), Some(later)) => !matches!(later, StringMatch::Present(_)),
        (StringMatch::Prefix(prefix), Some(StringMatch::Exact(value) | StringMatch::Prefix(value))) => {
            value.starts_with(prefix.as_str())
        }
        _ => false,
    })
}
