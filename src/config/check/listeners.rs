//! Listeners: addresses that collide, traffic that loops, trust that nobody can earn, and an app that is missing.

use std::net::SocketAddr;

use super::Check;
use super::clusters::endpoint_address;
use crate::config::Config;
use crate::config::node::{Node, Span, Value};

/// A listener's name, address and place.
struct Listener {
    name: String,
    address: SocketAddr,
    span: Span,
}

impl Check<'_, '_> {
    pub(super) fn listeners(&mut self) {
        let listeners = self.addresses();
        for (index, listener) in listeners.iter().enumerate() {
            let earlier =
                listeners.iter().take(index).find(|earlier| collide(earlier.address, listener.address));
            if let Some(earlier) = earlier {
                let (later, earlier) =
                    if listener.span > earlier.span { (listener, earlier) } else { (earlier, listener) };
                let message = format!("{} is the address of `{}` too", later.address, earlier.name);
                self.error(later.span, message, "give each listener its own port");
            }
        }
        for tcp in self.root.at(&["outbound", "tcp"]).map_or(&[][..], Node::items) {
            if let Some(cluster) = tcp.get("cluster") {
                self.cluster_exists(cluster);
            }
        }
        self.app(&listeners);
        self.loops(&listeners);
        self.admin();
        self.inbound_tls();
    }

    /// Every listener that is on, the defaults included.
    fn addresses(&self) -> Vec<Listener> {
        let defaults = Config::default();
        let fixed = [
            ("inbound", defaults.inbound.address),
            ("outbound", defaults.outbound.address),
            ("admin", defaults.admin.address),
            ("telemetry", defaults.telemetry.address),
        ];
        let mut listeners = Vec::new();
        for (name, default) in fixed {
            let node = self.root.at(&[name, "address"]);
            let address = match node {
                Some(node) => node.text().and_then(|text| text.parse().ok()),
                None => default,
            };
            let span = node.map_or(Span::default(), |node| node.span);
            listeners.extend(address.map(|address| Listener { name: name.into(), address, span }));
        }
        for (index, tcp) in self.root.at(&["outbound", "tcp"]).map_or(&[][..], Node::items).iter().enumerate()
        {
            let Some(node) = tcp.get("address") else { continue };
            let address = node.text().and_then(|text| text.parse().ok());
            let name = format!("outbound.tcp[{index}]");
            listeners.extend(address.map(|address| Listener { name, address, span: node.span }));
        }
        listeners
    }

    fn app(&mut self, listeners: &[Listener]) {
        let service = self.root.get("service");
        let Some(app) = service.and_then(|service| service.get("app")) else {
            let is_on = listeners.iter().any(|listener| listener.name == "inbound");
            if is_on && !self.routes_answer_all() && service.is_none_or(is_section) {
                let span = service.map_or(Span { line: 1, column: 1, length: 1 }, |node| node.span);
                let help = "add `app: \"127.0.0.1:8080\"` to `service`, or switch inbound off with `inbound: { address: none }`";
                self.error(span, "`service.app` is missing: inbound traffic has nowhere to go", help);
            }
            return;
        };
        let Some(address) = app.text().and_then(|text| text.parse::<SocketAddr>().ok()) else { return };
        if let Some(own) =
            listeners.iter().find(|own| collide(own.address, address) && address.ip().is_loopback())
        {
            let message = format!(
                "the app's address is that of the listener `{}`: traffic would go round in circles",
                own.name
            );
            self.error(app.span, message, "write the address that the app itself listens on");
        }
    }

    /// An endpoint that is one's own outbound listener gets its requests for ever.
    fn loops(&mut self, listeners: &[Listener]) {
        for cluster in self.root.get("clusters").map_or(&[][..], Node::entries) {
            for node in cluster.value.get("endpoints").map_or(&[][..], Node::items) {
                let node = endpoint_address(node).unwrap_or(node);
                let Some(address) = node.text().and_then(|text| text.parse::<SocketAddr>().ok()) else {
                    continue;
                };
                let own = listeners.iter().find(|own| {
                    own.name.starts_with("outbound")
                        && address.ip().is_loopback()
                        && collide(own.address, address)
                });
                if let Some(own) = own {
                    let message = format!(
                        "this endpoint is the listener `{}`: traffic would go round in circles",
                        own.name
                    );
                    self.error(node.span, message, "write the address that the upstream itself listens on");
                }
            }
        }
    }

    /// Whether some inbound route takes every request and does not need the app.
    fn routes_answer_all(&self) -> bool {
        let routes = self.root.at(&["inbound", "routes"]).map_or(&[][..], Node::items);
        let has_action = |route: &Node| !super::written(route, &super::routes::ACTIONS).is_empty();
        routes.iter().all(has_action)
            && routes.iter().any(|route| route.get("match").is_none_or(|node| node.entries().is_empty()))
    }

    fn admin(&mut self) {
        let Some(node) = self.root.at(&["admin", "address"]) else { return };
        let address = node.text().and_then(|text| text.parse::<SocketAddr>().ok());
        if let Some(address) = address.filter(|address| !address.ip().is_loopback()) {
            let help = format!("write `127.0.0.1:{}`; `telemetry` is for everybody", address.port());
            self.error(node.span, "the admin API listens on loopback only", help);
        }
    }

    fn inbound_tls(&mut self) {
        let Some(inbound) = self.root.get("inbound") else { return };
        let has_ca = inbound.at(&["tls", "client_ca"]).is_some();
        let demanded = inbound.get("tls").and_then(|tls| tls.entry("client_certificate"));
        if let Some(entry) = demanded.filter(|_| !has_ca) {
            self.error(
                entry.key_span,
                "client certificates need an authority to verify them",
                "add `client_ca: …`",
            );
        }
        let trust = inbound.get("trust").filter(|trust| trust.text() == Some("mtls"));
        if let Some(trust) = trust.filter(|_| !has_ca) {
            let message = "`trust: mtls` believes nobody while no client certificate is verified";
            self.error(trust.span, message, "add `tls: { certificate: …, key: …, client_ca: … }`");
        }
        let is_tcp = self.root.at(&["service", "app_protocol"]).and_then(Node::text) == Some("tcp");
        if let Some(routes) =
            inbound.entry("routes").filter(|routes| is_tcp && !routes.value.items().is_empty())
        {
            let message = "`app_protocol: tcp` parses nothing, so inbound routes match nothing";
            self.error(
                routes.key_span,
                message,
                "remove the routes, or set `service.app_protocol` to `auto`",
            );
        }
    }
}

fn is_section(node: &Node) -> bool {
    matches!(node.value, Value::Map(_) | Value::Null)
}

/// Whether two listeners cannot both be bound. Port 0 is a new port each time.
fn collide(a: SocketAddr, b: SocketAddr) -> bool {
    let same_ip = a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified();
    a.port() == b.port() && a.port() != 0 && same_ip
}
