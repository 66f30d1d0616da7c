//! Makes the map: finds the services behind names and certificates, and counts each call once.

use super::{Aliases, Finding, Link, Node, NodeKind, Reporter, Row};
use crate::pipeline::graph::document::{About, CLIENTS, Edge, Latency, Part, Report};
use crate::pipeline::graph::stats::Stats;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// See the module.
#[derive(Default)]
pub(super) struct Builder<'a> {
    pub(super) nodes: Vec<Node>,
    names: HashSet<String>,
    pub(super) services: HashMap<(&'a str, &'a str), usize>,
    by_name: HashMap<&'a str, Vec<usize>>,
    others: HashMap<(NodeKind, &'a str), usize>,
    pub(super) links: Vec<Link<'a>>,
    places: HashMap<(usize, usize), usize>,
    /// What services received from nobody in particular.
    anonymous: BTreeMap<usize, Anonymous<'a>>,
    /// What services received at all.
    received: BTreeMap<usize, u64>,
}

#[derive(Default)]
struct Anonymous<'a> {
    total: Stats,
    rate: f64,
    latency: Latency,
    rows: Vec<Row<'a>>,
}

impl<'a> Builder<'a> {
    fn node(&mut self, plain_name: &str, kind: NodeKind, about: Option<&About>) -> usize {
        let namespace = about.map_or("", |about| &about.namespace);
        let mark = match kind {
            NodeKind::Service if !namespace.is_empty() => namespace,
            NodeKind::Service => "service",
            NodeKind::Cluster => "cluster",
            NodeKind::Peer => "peer",
            NodeKind::Clients | NodeKind::NoRoute => "sidelight",
        };
        let mut name = plain_name.to_owned();
        let mut tries = 0;
        while !self.names.insert(name.clone()) {
            tries += 1;
            name = if tries == 1 {
                format!("{plain_name} ({mark})")
            } else {
                format!("{plain_name} ({mark} {tries})")
            };
        }
        self.nodes.push(Node {
            name,
            kind,
            namespace: namespace.to_owned(),
            environment: about.map(|about| about.environment.clone()).unwrap_or_default(),
            versions: BTreeSet::new(),
            zones: BTreeSet::new(),
            instances: 0,
            plain_name: plain_name.to_owned(),
        });
        self.nodes.len() - 1
    }

    pub(super) fn service(&mut self, about: &'a About) {
        let key = (about.namespace.as_str(), about.name.as_str());
        let at = self.services.get(&key).copied().unwrap_or_else(|| {
            let at = self.node(&about.name, NodeKind::Service, Some(about));
            self.services.insert(key, at);
            self.by_name.entry(&about.name).or_default().push(at);
            at
        });
        let Some(node) = self.nodes.get_mut(at) else { return };
        node.instances += 1;
        for (set, text) in [(&mut node.versions, &about.version), (&mut node.zones, &about.zone)] {
            if !text.is_empty() && !set.contains(text) {
                set.insert(text.clone());
            }
        }
    }

    /// The service of that name as somebody in `namespace` means it: theirs, or the only one, or `name.namespace`.
    fn resolve(&self, name: &str, namespace: &str) -> Option<usize> {
        if let Some(at) = self.services.get(&(namespace, name)) {
            return Some(*at);
        }
        if let Some(all) = self.by_name.get(name) {
            return all.first().copied();
        }
        let (name, rest) = name.split_once('.')?;
        let namespace = rest.split('.').next().unwrap_or(rest);
        self.services.get(&(namespace, name)).copied()
    }

    fn other(&mut self, kind: NodeKind, name: &'a str) -> usize {
        if let Some(at) = self.others.get(&(kind, name)) {
            return *at;
        }
        let at = self.node(name, kind, None);
        self.others.insert((kind, name), at);
        at
    }

    fn link(&mut self, from: usize, to: usize) -> Option<&mut Link<'a>> {
        let at = *self.places.entry((from, to)).or_insert_with(|| {
            self.links.push(Link { from, to, ..Link::default() });
            self.links.len() - 1
        });
        self.links.get_mut(at)
    }

    pub(super) fn outbound(
        &mut self,
        report: &'a Report,
        own: usize,
        edge: &'a Edge,
        aliases: &'a Aliases,
        seconds: f64,
    ) {
        let to = match (&edge.to, &edge.service) {
            (None, _) => self.other(NodeKind::NoRoute, "(no route)"),
            (Some(cluster), service) => {
                let name = aliases.get(cluster).or(service.as_ref()).unwrap_or(cluster);
                match self.resolve(name, &report.service.namespace) {
                    Some(at) => at,
                    None => self.other(NodeKind::Cluster, name),
                }
            }
        };
        let Some(link) = self.link(own, to) else { return };
        let told = link.source_calls.is_some();
        let mut sum = Stats::default();
        for part in &edge.parts {
            sum.merge(&part.stats);
            link.rows.push(Row { reporter: Reporter::Source, part });
        }
        let unseen = edge.calls.saturating_sub(sum.calls);
        sum.calls = sum.calls.max(edge.calls);
        sum.failures = sum.failures.max(edge.failures);
        let attempts = sum.attempts.saturating_sub(sum.unreached());
        link.arrivals_max = link.arrivals_max.saturating_add(attempts).saturating_add(unseen);
        link.arrivals_min = link.arrivals_min.saturating_add(sum.arrived());
        link.source_calls = Some(link.source_calls.unwrap_or(0).saturating_add(sum.calls));
        link.lost_context = link.lost_context.saturating_add(edge.lost_context.unwrap_or(0));
        if told {
            link.total.merge(&sum);
            link.rate += edge.calls as f64 / seconds;
        } else {
            // What the destination said before gives way.
            (link.total, link.rate) = (sum, edge.calls as f64 / seconds);
            link.latency = edge.latency_ms;
        }
        link.clusters.extend(edge.to.as_deref());
    }

    pub(super) fn inbound(&mut self, report: &'a Report, own: usize, edge: &'a Edge, seconds: f64) {
        let mut by_peer: BTreeMap<&'a str, Vec<&'a Part>> = BTreeMap::new();
        let mut anonymous: Vec<&'a Part> = Vec::new();
        for part in &edge.parts {
            match &part.peer {
                Some(peer) => by_peer.entry(peer).or_default().push(part),
                None => anonymous.push(part),
            }
        }
        let mut identified = 0_u64;
        for (peer, parts) in by_peer {
            let name = name_of_identity(peer);
            let namespace = namespace_of_identity(peer).unwrap_or(&report.service.namespace);
            let from = match self.resolve(name, namespace).or_else(|| self.resolve(peer, namespace)) {
                Some(at) => at,
                None => self.other(NodeKind::Peer, peer),
            };
            let Some(link) = self.link(from, own) else { continue };
            let mut sum = Stats::default();
            for part in parts {
                sum.merge(&part.stats);
                link.rows.push(Row { reporter: Reporter::Destination, part });
            }
            identified = identified.saturating_add(sum.calls);
            link.destination_calls = Some(link.destination_calls.unwrap_or(0).saturating_add(sum.calls));
            if link.source_calls.is_none() {
                link.rate += sum.calls as f64 / seconds;
                link.total.merge(&sum);
            }
        }
        let mut sum = Stats::default();
        anonymous.iter().for_each(|part| sum.merge(&part.stats));
        let rest = edge.calls.saturating_sub(identified);
        sum.calls = sum.calls.max(rest);
        if edge.parts.is_empty() {
            sum.failures = edge.failures;
        }
        let received = self.received.entry(own).or_default();
        *received = received.saturating_add(edge.calls.max(identified));
        let all = self.anonymous.entry(own).or_default();
        all.total.merge(&sum);
        all.rate += sum.calls as f64 / seconds;
        all.latency = edge.latency_ms;
        all.rows.extend(anonymous.into_iter().map(|part| Row { reporter: Reporter::Destination, part }));
    }

    /// Takes what the senders told off what came from nobody in particular, and says what does not fit.
    pub(super) fn settle(&mut self) -> Vec<Finding> {
        let mut findings = Vec::new();
        let mut into: HashMap<usize, Vec<usize>> = HashMap::new();
        for (at, link) in self.links.iter().enumerate().filter(|(_, link)| link.source_calls.is_some()) {
            into.entry(link.to).or_default().push(at);
        }
        for (own, received) in std::mem::take(&mut self.received) {
            let anonymous = self.anonymous.remove(&own).unwrap_or_default();
            let senders = into.remove(&own).unwrap_or_default();
            let name =
                |nodes: &[Node], at: usize| nodes.get(at).map(|node| node.name.clone()).unwrap_or_default();
            let (mut explained, mut least) = (0_u64, 0_u64);
            let mut unidentified = Vec::new();
            for at in senders {
                let Some(link) = self.links.get(at) else { continue };
                least = least.saturating_add(link.arrivals_min);
                let seen = link.destination_calls.unwrap_or(0);
                explained = explained.saturating_add(link.arrivals_max.saturating_sub(seen));
                match link.destination_calls {
                    None => unidentified.push(at),
                    Some(seen) if seen > link.arrivals_max => findings.push(Finding {
                        kind: "mismatch",
                        from: Some(name(&self.nodes, link.from)),
                        to: name(&self.nodes, own),
                        text: format!(
                            "the destination counts {seen} calls, the source at most {}: a sidecar of the source is \
                             missing here, or was restarted",
                            link.arrivals_max
                        ),
                    }),
                    Some(_) => {}
                }
            }
            if least > received {
                findings.push(Finding {
                    kind: "mismatch",
                    from: None,
                    to: name(&self.nodes, own),
                    text: format!(
                        "{least} calls were answered as its callers say, and its own sidecars count {received}: {} went \
                         past them, or one of them is missing here",
                        least - received
                    ),
                });
            }
            let rest = anonymous.total.calls.saturating_sub(explained);
            if let ([only], 0) = (unidentified.as_slice(), rest)
                && let Some(link) = self.links.get_mut(*only)
            {
                link.destination_calls = Some(anonymous.total.calls);
                link.rows.extend(&anonymous.rows);
            }
            if rest == 0 {
                continue;
            }
            let clients = self.other(NodeKind::Clients, CLIENTS);
            let share = rest as f64 / anonymous.total.calls as f64;
            if let Some(link) = self.link(clients, own) {
                link.total = anonymous.total;
                link.total.calls = rest;
                link.total.failures = link.total.failures.min(rest);
                link.rate = anonymous.rate * share;
                link.destination_calls = Some(rest);
                link.latency = anonymous.latency;
                link.rows = anonymous.rows;
            }
        }
        findings
    }
}

/// What a service is called by its certificate: the last part of a SPIFFE path
/// (`spiffe://cluster.local/ns/shop/sa/checkout`), or the name itself.
fn name_of_identity(identity: &str) -> &str {
    match identity.strip_prefix("spiffe://") {
        Some(path) => path.rsplit('/').next().unwrap_or(path),
        None => identity,
    }
}

/// The namespace in the SPIFFE path that Istio made usual: `/ns/shop/sa/checkout`.
fn namespace_of_identity(identity: &str) -> Option<&str> {
    let mut parts = identity.strip_prefix("spiffe://")?.split('/');
    parts.find(|part| *part == "ns")?;
    parts.next()
}
