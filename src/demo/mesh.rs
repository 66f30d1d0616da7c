//! Three services, six instances, a sidecar beside each.
//!
//! storefront → checkout → payments; payments runs as two pools of two instances, `gold` and `standard`. Built from
//! the far end, because a sidecar's configuration names the inbound listeners of those that it calls.

use super::collector::Collector;
use super::process::Sidecar;
use super::service::{Role, Service};
use super::stage::Stage;
use serde_json::Value;
use std::collections::HashMap;
use std::fmt::Write;
use std::net::SocketAddr;
use std::time::Duration;

/// How long a charge takes at an instance of `gold`, and at one of `standard`.
const GOLD_WORK: Duration = Duration::from_millis(2);
pub(super) const STANDARD_WORK: Duration = Duration::from_millis(6);

/// The routes of checkout's outbound listener: what decides where a charge goes.
const CHECKOUT_ROUTES: &str = r#"    - name: gold
      match: { host: payments, context: { license: [gold, platinum] } }
      cluster: payments-gold
    - name: early-access
      match: { host: payments, context: { flags: [early-access] } }
      cluster: payments-gold
    - name: standard
      match: { host: payments }
      cluster: payments-standard
      retry: { limit: 2, on: [connect_failure, refused_stream, gateway_error] }
"#;

/// What checkout's clusters say beside their endpoints. Ejections are short, because a demo is.
const GOLD_CLUSTER: &str = "";
const STANDARD_CLUSTER: &str = ", balance: { policy: least_request }, outlier_detection: { consecutive_5xx: 3, base_ejection_time: 1s, interval: 1s }";

/// The sinks of every sidecar.
pub(super) const SINKS: [&str; 3] = ["file", "archive", "otlp"];

/// The instance whose traffic is recorded, and the directory of the recording.
pub(super) const RECORDED: (&str, &str) = ("standard-2", "standard-2.recording");

/// The directory of the archive, which all sidecars share.
pub(super) const ARCHIVE: &str = "archive";

/// An instance of a service, and its sidecar.
#[derive(Debug)]
pub(super) struct Node {
    /// `checkout`, `gold-1`.
    pub(super) name: &'static str,
    /// `checkout`, `payments`.
    pub(super) service_name: &'static str,
    /// The service.
    pub(super) service: Service,
    /// The sidecar.
    pub(super) sidecar: Sidecar,
}

/// The whole.
#[derive(Debug)]
pub(super) struct Mesh {
    /// The instances, callers first.
    pub(super) nodes: Vec<Node>,
    /// What receives the telemetry of all; closed at first.
    pub(super) collector: Collector,
    /// The inbound address of each sidecar, and whose it is.
    names: HashMap<String, &'static str>,
}

impl Mesh {
    /// Starts everything.
    pub(super) fn start(stage: &Stage) -> Result<Mesh, String> {
        let collector = Collector::closed().map_err(|error| format!("a port for the collector: {error}"))?;
        let mut mesh = Mesh { nodes: Vec::new(), collector, names: HashMap::new() };
        for (name, work) in [
            ("gold-1", GOLD_WORK),
            ("gold-2", GOLD_WORK),
            ("standard-1", STANDARD_WORK),
            ("standard-2", STANDARD_WORK),
        ] {
            mesh.add(stage, name, "payments", Role::Payments(work), &Calls::default())?;
        }
        let clusters = vec![
            ("payments-gold", mesh.inbound(&["gold-1", "gold-2"])?, GOLD_CLUSTER),
            ("payments-standard", mesh.inbound(&["standard-1", "standard-2"])?, STANDARD_CLUSTER),
        ];
        mesh.add(
            stage,
            "checkout",
            "checkout",
            Role::Checkout,
            &Calls { routes: CHECKOUT_ROUTES, clusters },
        )?;
        let clusters = vec![("checkout", mesh.inbound(&["checkout"])?, "")];
        mesh.add(stage, "storefront", "storefront", Role::Storefront, &Calls { routes: "", clusters })?;
        mesh.nodes.rotate_right(2);
        mesh.nodes.get_mut(..2).unwrap_or_default().reverse();
        Ok(mesh)
    }

    fn add(
        &mut self,
        stage: &Stage,
        name: &'static str,
        service_name: &'static str,
        role: Role,
        calls: &Calls,
    ) -> Result<(), String> {
        let service = Service::start(name, role).map_err(|error| format!("{name}: {error}"))?;
        let config = calls.configuration(service_name, name, &service, self.collector.address);
        let sidecar = Sidecar::start(name, &config, &stage.directory, &stage.processes)?;
        service.set_outbound(sidecar.address("outbound")?);
        self.names.insert(sidecar.address("inbound")?.to_string(), name);
        self.nodes.push(Node { name, service_name, service, sidecar });
        Ok(())
    }

    fn inbound(&self, names: &[&str]) -> Result<Vec<String>, String> {
        names.iter().map(|name| Ok(self.node(name)?.sidecar.address("inbound")?.to_string())).collect()
    }

    /// The instance of that name.
    pub(super) fn node(&self, name: &str) -> Result<&Node, String> {
        self.nodes.iter().find(|node| node.name == name).ok_or_else(|| format!("there is no {name}"))
    }

    /// Whose sidecar listens at an endpoint's address; the address itself when it is nobody's.
    pub(super) fn name_of<'a>(&'a self, endpoint: &'a str) -> &'a str {
        self.names.get(endpoint).copied().unwrap_or(endpoint)
    }

    /// What a sidecar's admin API answers.
    pub(super) fn ask(&self, name: &str, path: &str) -> Result<Value, String> {
        self.node(name)?.sidecar.ask(path)
    }
}

/// What a sidecar's configuration says of outbound traffic.
#[derive(Default)]
struct Calls {
    routes: &'static str,
    /// Name, endpoints, and what else is said of them.
    clusters: Vec<(&'static str, Vec<String>, &'static str)>,
}

impl Calls {
    fn configuration(
        &self,
        service_name: &str,
        name: &str,
        service: &Service,
        collector: SocketAddr,
    ) -> String {
        let mut text = format!(
            "service: {{ name: {service_name}, app: \"{}\", labels: {{ instance: {name} }} }}\nworkers: 1\n\
             inbound: {{ address: \"127.0.0.1:0\" }}\noutbound:\n  address: \"127.0.0.1:0\"\n",
            service.address
        );
        // Writing into a String does not fail.
        if !self.routes.is_empty() {
            let _ = write!(text, "  routes:\n{}", self.routes);
        }
        if !self.clusters.is_empty() {
            text.push_str("clusters:\n");
        }
        for (cluster, endpoints, rest) in &self.clusters {
            let _ = writeln!(text, "  {cluster}: {{ endpoints: {endpoints:?}{rest} }}");
        }
        // The names of the sinks are those of `SINKS`.
        let _ = write!(
            text,
            "pipeline:\n  spool: {{ directory: {name}.spool }}\n  sinks:\n    file: {{ path: {name}.events.ndjson }}\n    \
             archive: {{ directory: {ARCHIVE} }}\n    \
             otlp: {{ endpoint: \"http://{collector}\", protocol: http_protobuf }}\n"
        );
        if name == RECORDED.0 {
            let _ = writeln!(text, "recording: {{ directory: {} }}", RECORDED.1);
        }
        text.push_str("admin: { address: \"127.0.0.1:0\" }\ntelemetry: { address: \"127.0.0.1:0\" }\n");
        text
    }
}
