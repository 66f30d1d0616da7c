//! What Jaeger's and Zipkin's dependency APIs answer.
//!
//! Both know services by their names only, and both have one entry for a pair. Clients and what has no route are no
//! services, and are left out, as they are there.

use super::super::map::{Link, Map, NodeKind};
use super::pretty;
use serde::Serialize;

/// The links between what both consumers call a service.
fn between_services<'a>(map: &'a Map<'a>) -> impl Iterator<Item = (&'a str, &'a str, &'a Link<'a>)> {
    let is_service =
        |at| map.node(at).is_some_and(|node| !matches!(node.kind, NodeKind::Clients | NodeKind::NoRoute));
    let links = map.links.iter().filter(move |link| is_service(link.from) && is_service(link.to));
    links.map(|link| (map.name(link.from), map.name(link.to), link))
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Dependency<'a> {
    parent: &'a str,
    child: &'a str,
    call_count: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_count: Option<u64>,
}

#[derive(Serialize)]
struct Answer<'a> {
    data: Vec<Dependency<'a>>,
    total: usize,
    limit: usize,
    offset: usize,
    errors: Option<()>,
}

/// `GET /api/dependencies` of Jaeger's query service, in the envelope of its JSON API.
pub(super) fn jaeger(map: &Map<'_>) -> String {
    let dependencies = between_services(map).map(|(parent, child, link)| Dependency {
        parent,
        child,
        call_count: link.total.calls,
        error_count: None,
    });
    pretty(&Answer { data: dependencies.collect(), total: 0, limit: 0, offset: 0, errors: None })
}

/// `GET /api/v2/dependencies` of Zipkin.
pub(super) fn zipkin(map: &Map<'_>) -> String {
    let dependencies = between_services(map).map(|(parent, child, link)| Dependency {
        parent,
        child,
        call_count: link.total.calls,
        error_count: (link.total.failures > 0).then_some(link.total.failures),
    });
    pretty(&dependencies.collect::<Vec<_>>())
}
