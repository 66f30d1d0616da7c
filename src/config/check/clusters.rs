//! `clusters`: where endpoints come from, their priorities, and keys that belong together.

use super::cluster::Cluster;
use super::{Check, is_empty, timeout};
use crate::config::node::{Entry, Node, Value, excerpt};
use crate::units::duration_text;

/// Longest name of a cluster: that of a host, which names it.
const NAME_BYTES_MAX: usize = 253;

impl<'a> Check<'a, '_> {
    pub(super) fn clusters(&mut self) {
        for entry in self.root.get("clusters").map_or(&[][..], Node::entries) {
            self.cluster(entry);
        }
    }

    fn cluster(&mut self, entry: &'a Entry) {
        let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        if entry.key.len() > NAME_BYTES_MAX || !entry.key.bytes().all(legal) {
            let message = format!("`{}` cannot be the name of a cluster", excerpt(&entry.key));
            self.error(
                entry.key_span,
                message,
                "use letters, digits, `-`, `_` and `.`: the Host of a request names it",
            );
        }
        if !matches!(entry.value.value, Value::Map(_) | Value::Null) {
            return; // the schema said so
        }
        self.source(entry);
        self.endpoints(&entry.value);
        self.dns(&entry.value);
        self.client_tls(&entry.value);
        self.connect_timeout(&entry.value);
        let cluster = Cluster::new(&entry.key, entry.key_span, &entry.value, self);
        self.priorities(&cluster);
        self.balance(&cluster);
        self.health(&cluster);
        self.outlier_detection(&cluster);
        self.circuit_breaker(&cluster);
        self.retry_budget(&cluster);
    }

    fn source(&mut self, entry: &Entry) {
        let cluster = &entry.value;
        let name = excerpt(&entry.key);
        match (cluster.entry("endpoints"), cluster.entry("discovery")) {
            (None, None) => self.error(
                entry.key_span,
                format!("cluster `{name}` has neither `endpoints` nor `discovery`"),
                "add `endpoints: [\"10.0.0.7:8080\"]`",
            ),
            (Some(endpoints), None) => {
                if is_empty(&endpoints.value) {
                    let message = format!("cluster `{name}` has no endpoint");
                    self.error(
                        endpoints.value.span,
                        message,
                        "write at least one, as in `[\"10.0.0.7:8080\"]`",
                    );
                }
            }
            // Both are used; an empty list adds nothing.
            (_, Some(_)) => {}
        }
    }

    fn endpoints(&mut self, cluster: &Node) {
        let items = cluster.get("endpoints").map_or(&[][..], Node::items);
        let mut seen = std::collections::HashMap::new();
        for node in items {
            let Some(address) = endpoint_address(node) else { continue };
            let Some(text) = address.text() else { continue };
            if let Some(line) = seen.insert(text.to_ascii_lowercase(), address.span.line) {
                let message = format!("endpoint `{}` is written twice", excerpt(text));
                self.warning(
                    address.span,
                    message,
                    format!("it is already on line {line}: use `weight` for a larger share"),
                );
            }
        }
    }

    /// A level without endpoints between two that have some.
    fn priorities(&mut self, cluster: &Cluster<'a>) {
        let Some(endpoints) = cluster.endpoints().filter(|_| !cluster.has_discovery()) else { return };
        let mut levels: Vec<u32> = endpoints.iter().map(|(_, endpoint)| endpoint.priority).collect();
        levels.sort_unstable();
        levels.dedup();
        let gap = levels.iter().zip(0..).find(|(level, wanted)| *level != wanted);
        let Some((level, wanted)) = gap else { return };
        let place = endpoints.iter().find(|(_, endpoint)| endpoint.priority == *level);
        let span = place.map_or(cluster.span, |(node, _)| node.get("priority").unwrap_or(node).span);
        let message = format!("no endpoint of cluster `{}` has priority {wanted}", cluster.name);
        self.warning(span, message, format!("number them without gaps: write {wanted}"));
    }

    fn connect_timeout(&mut self, cluster: &Node) {
        let Some(node) = cluster.get("connect_timeout") else { return };
        if let (Some(Some(connect)), Some(Some(whole))) = (timeout(Some(node)), self.default_timeout())
            && connect >= whole
        {
            let whole = duration_text(whole);
            let message = format!(
                "connecting may take as long as the whole request (`limits.request_timeout`: {whole})"
            );
            self.warning(node.span, message, "write `1s`: another endpoint is tried then");
        }
    }

    fn dns(&mut self, cluster: &Node) {
        let Some(dns) = cluster.at(&["discovery", "dns"]) else { return };
        let is_srv = dns.get("type").and_then(Node::text) == Some("srv");
        if !is_srv && dns.get("name").is_some() && dns.get("port").is_none() {
            let help = "add `port: 8080`, or `type: srv` if the records bring the port";
            self.error(dns.span, "`port` is missing: addresses have none", help);
        }
        if let (true, Some(port)) = (is_srv, dns.entry("port")) {
            self.warning(port.key_span, "`port` is not used: SRV records bring their own", "remove it");
        }
    }

    fn client_tls(&mut self, cluster: &Node) {
        let Some(tls) = cluster.get("tls") else { return };
        match (tls.entry("certificate"), tls.entry("key")) {
            (Some(certificate), None) => {
                self.error(certificate.key_span, "a client certificate without its key", "add `key: …`");
            }
            (None, Some(key)) => {
                self.error(key.key_span, "a key without its certificate", "add `certificate: …`")
            }
            _ => {}
        }
    }
}

/// The address of an endpoint in either form.
pub(super) fn endpoint_address(node: &Node) -> Option<&Node> {
    match &node.value {
        Value::Text(_) => Some(node),
        _ => node.get("address"),
    }
}
