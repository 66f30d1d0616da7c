//! The dependency graph: of one sidecar, of several, and against what was declared.

use e2e::{Launch, RawClient, Setup, Sidelight, StrictBackend, wait_for};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

fn get(to: SocketAddr, host: &str, license: &str) -> u16 {
    let request =
        format!("GET / HTTP/1.1\r\nHost: {host}\r\nx-license: {license}\r\nConnection: close\r\n\r\n");
    RawClient::connect(to).ask(request).expect("an answer").status
}

/// Sends requests to the service of a sidecar, or from it.
fn send(to: SocketAddr, host: &str, license: &str, count: usize) {
    for _ in 0..count {
        assert_eq!(get(to, host, license), 200);
    }
}

struct Mesh {
    _app: StrictBackend,
    shop: Sidelight,
    payments: Sidelight,
}

/// A shop that calls payments, each with a sidecar.
fn mesh(depends_on: &str) -> Mesh {
    let app = StrictBackend::start();
    let payments = Setup::named("payments", app.address());
    let payments = Sidelight::start(&payments);
    let clusters = format!(
        "payments: {{ endpoints: [\"{}\"] }}\nstock: {{ endpoints: [\"{}\"] }}",
        payments.inbound(),
        app.address()
    );
    let shop = Setup::named("shop", app.address())
        .section("service", &format!("version: \"1.4\"\n{depends_on}"))
        .section("clusters", &clusters);
    Mesh { shop: Sidelight::start(&shop), payments, _app: app }
}

impl Mesh {
    fn admin(&self) -> [String; 2] {
        [&self.shop, &self.payments].map(|sidecar| format!("http://{}", sidecar.address("admin")))
    }

    /// Waits until no call is on its way into the graph any more.
    fn settle(&self) {
        for sidecar in [&self.shop, &self.payments] {
            wait_for("every call in detail", || {
                let graph: Value = serde_json::from_slice(&sidecar.admin("/graph").body).ok()?;
                graph["edges"].as_array()?.iter().all(|edge| edge.get("missed").is_none()).then_some(())
            });
        }
    }
}

fn graph(at: &Path, line: &[&str]) -> (i32, String, String) {
    Launch::run(at, &[&["graph"], line].concat())
}

fn document(at: &Path, from: &[&str]) -> Value {
    let (exit, out, errors) = graph(at, &[&["--format", "json", "--from"], from].concat());
    assert_eq!(exit, 0, "{errors}");
    serde_json::from_str(&out).expect("a document")
}

/// Calls of each link, by its ends.
fn calls(graph: &Value) -> Vec<(String, String, u64)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let edges = graph["edges"].as_array().expect("edges").iter();
    edges.map(|edge| (text(&edge["from"]), text(&edge["to"]), edge["calls"].as_u64().unwrap_or(0))).collect()
}

fn call(from: &str, to: &str, calls: u64) -> (String, String, u64) {
    (from.into(), to.into(), calls)
}

#[test]
fn two_sidecars_make_one_map_with_exact_counts() {
    let mesh = mesh("");
    send(mesh.shop.inbound(), "shop", "gold", 7);
    send(mesh.shop.outbound(), "payments", "gold", 5);
    send(mesh.shop.outbound(), "payments", "free", 3);
    mesh.settle();
    let at = mesh.shop.directory();
    let [shop, payments] = mesh.admin();
    let ports = document(at, &[&shop, &payments]);
    assert_eq!(calls(&ports), [call("clients", "shop", 7), call("shop", "payments", 8)]);
    let edge = &ports["edges"][1];
    assert_eq!((&edge["source_calls"], &edge["destination_calls"]), (&json!(8), &json!(8)));
    assert_eq!(edge["licenses"], json!({ "free": 3, "gold": 5 }));
    assert_eq!(edge["protocols"], json!(["http1"]));
    assert!(edge["latency_ms"]["p99"].as_f64().is_some_and(|millis| millis > 0.0), "{edge}");
    assert_eq!(ports["findings"], json!([]));
    // The same out of the events, and out of both: the same process counts once.
    mesh.shop.events().wait(15);
    mesh.payments.events().wait(8);
    let files =
        [&mesh.shop, &mesh.payments].map(|it| it.directory().join("events.ndjson").display().to_string());
    let [one, two] = files.each_ref().map(String::as_str);
    assert_eq!(calls(&document(at, &[one, two])), calls(&ports));
    assert_eq!(
        calls(&document(at, &[one, &shop, two, one])),
        calls(&ports),
        "the port of the second is its file"
    );
    for (format, mark) in [
        ("table", "shop     payments"),
        ("dot", "digraph"),
        ("mermaid", "flowchart LR"),
        ("vizceral", "\"INTERNET\""),
        ("spigo", "sidelight.*.*.payments00"),
        ("jaeger", "\"callCount\": 8"),
        ("zipkin", "\"callCount\": 8"),
        ("prometheus", "traces_service_graph_request_total{client=\"shop\",server=\"payments\"} 8"),
        ("declared", "shop:\n- service: payments"),
    ] {
        let (exit, out, errors) = graph(at, &["--from", &shop, &payments, "--format", format]);
        assert!(exit == 0 && out.contains(mark), "{format}: {out}{errors}");
    }
}

#[test]
fn a_changelog_of_the_architecture_fails_a_build() {
    let mesh = mesh("");
    send(mesh.shop.outbound(), "payments", "gold", 2);
    mesh.settle();
    let at = mesh.shop.directory();
    let [shop, payments] = mesh.admin();
    let save = |name: &str| {
        let saved = document(at, &[&shop, &payments]).to_string();
        std::fs::write(at.join(name), saved).expect("a file");
    };
    save("before.json");
    send(mesh.shop.outbound(), "stock", "gold", 1);
    mesh.settle();
    save("after.json");
    let (exit, out, _) = graph(at, &["diff", "before.json", "before.json"]);
    assert_eq!((exit, out.as_str()), (0, "no difference\n"));
    let (exit, out, _) = graph(at, &["diff", "before.json", "after.json", "--format", "json"]);
    let changed: Value = serde_json::from_str(&out).expect("a document");
    assert_eq!(exit, 1, "{changed}");
    let changes: Vec<_> = changed["differences"].as_array().into_iter().flatten().collect();
    assert_eq!(changes.len(), 1, "{changed}");
    assert_eq!((&changes[0]["change"], &changes[0]["to"]), (&json!("new"), &json!("stock")));
    assert_eq!(graph(at, &["diff", "before.json", "after.json", "--fail-on", "gone"]).0, 0);
    assert_eq!(graph(at, &["diff", "after.json", "before.json", "--fail-on", "gone"]).0, 1);
    std::fs::write(at.join("dependencies.yaml"), "shop: [payments, mail]\npayments: []\n").expect("a file");
    let check = ["check", "--declared", "dependencies.yaml", "--from", "after.json"];
    let (exit, out, _) = graph(at, &check);
    assert_eq!(exit, 1, "{out}");
    for line in ["undeclared  shop  stock", "unused      shop  mail"] {
        assert!(out.contains(line), "{out}");
    }
    std::fs::write(at.join("dependencies.yaml"), "shop: [payments, stock, mail]\n").expect("a file");
    assert_eq!(graph(at, &check).0, 0);
    assert_eq!(graph(at, &[&check[..], &["--fail-on", "unused"]].concat()).0, 1);
}

#[test]
fn a_call_that_nobody_declared_is_told_within_five_seconds() {
    let mesh = mesh("depends_on: [payments, mail]");
    send(mesh.shop.outbound(), "payments", "gold", 1);
    send(mesh.shop.outbound(), "stock", "gold", 2);
    let began = Instant::now();
    let events = wait_for("the event", || {
        let events = mesh.shop.events().all("sidelight/dependency/1");
        (!events.is_empty()).then_some(events)
    });
    assert!(began.elapsed() < Duration::from_secs(5));
    assert_eq!(events.len(), 1, "{events:?}");
    assert_eq!(
        (&events[0]["sidelight.dependency.state"], &events[0]["sidelight.cluster"]),
        (&json!("undeclared"), &json!("stock"))
    );
    mesh.settle();
    let graph: Value = serde_json::from_slice(&mesh.shop.admin("/graph").body).expect("a document");
    let state = |at: usize, name: &str| graph["depends_on"][at][name].clone();
    assert_eq!(
        (state(0, "service"), state(0, "state"), state(0, "calls")),
        ("payments".into(), "used".into(), 1.into())
    );
    assert_eq!((state(1, "service"), state(1, "state")), ("mail".into(), "unused".into()));
    assert_eq!(
        (state(2, "service"), state(2, "state"), state(2, "calls")),
        ("stock".into(), "undeclared".into(), 2.into())
    );
    let metrics = RawClient::get(mesh.shop.address("telemetry"), "/metrics").expect("metrics").text();
    assert!(
        metrics.contains("sidelight_dependency_undeclared_calls_total{sidelight_cluster=\"stock\"} 2"),
        "{metrics}"
    );
    assert!(metrics.contains("sidelight_dependency_used{dependency=\"mail\"} 0"), "{metrics}");
}

#[test]
fn what_is_refused_when_undeclared_does_not_start() {
    let at = tempfile::tempdir().expect("a directory");
    std::fs::write(at.path().join("dependencies.yaml"), "shop: [payments]\n").expect("a file");
    let config = |cluster: &str| {
        let text = format!(
            "service:\n  name: shop\n  app: \"127.0.0.1:8080\"\n  depends_on: {{ file: dependencies.yaml, undeclared: refuse }}\n\
             clusters:\n  {cluster}: {{ endpoints: [\"10.0.0.7:8080\"] }}\n"
        );
        std::fs::write(at.path().join("sidelight.yaml"), text).expect("a file");
        Launch::run(at.path(), &["check", "sidelight.yaml"])
    };
    assert_eq!(config("payments").0, 0);
    let (exit, _, errors) = config("stock");
    assert_eq!(exit, 64, "{errors}");
    assert!(errors.contains("cluster `stock` is not declared in `service.depends_on`"), "{errors}");
}

#[test]
fn what_cannot_be_read_is_a_failure_that_names_it() {
    let at = tempfile::tempdir().expect("a directory");
    let (exit, _, errors) = graph(at.path(), &["--from", "nothing.ndjson"]);
    assert!(exit == 1 && errors.contains("nothing.ndjson: cannot be opened"), "{errors}");
    std::fs::write(at.path().join("empty.ndjson"), "").expect("a file");
    let (exit, _, errors) = graph(at.path(), &["--from", "empty.ndjson"]);
    assert!(exit == 1 && errors.contains("neither an event nor a graph"), "{errors}");
    for line in
        [&["--format", "svg", "--from", "a"][..], &[], &["diff", "a"], &["--from", "a", "--alias", "b"]]
    {
        assert_eq!(graph(at.path(), line).0, 2, "{line:?}");
    }
}
