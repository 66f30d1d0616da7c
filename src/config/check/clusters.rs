//! `clusters`: where endpoints come from, and keys that belong together.

use super::{Check, is_empty};
use crate::config::node::{Entry, Node, Value, excerpt};

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
    }

    fn source(&mut self, entry: &Entry) {
        let cluster = &entry.value;
        let name = excerpt(&entry.key);
        match (cluster.entry("endpoints"), cluster.entry("discovery")) {
            (Some(_), Some(discovery)) => self.error(
                discovery.key_span,
                format!("cluster `{name}` has both `endpoints` and `discovery`"),
                "keep the one that is meant",
            ),
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
            (None, Some(_)) => {}
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
