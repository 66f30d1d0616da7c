//! Prometheus itself, and its tool: what it makes of our page, our exemplars, our alert rules and our dashboard.

use e2e::{Launch, RawClient, Setup, StrictBackend, tool, wait_for};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A sidecar with an application beside, a cluster, a breaker and a rate limit, after some traffic in both directions.
struct Running {
    process: Launch,
    _backend: StrictBackend,
    directory: tempfile::TempDir,
}

impl Running {
    fn start() -> Running {
        let backend = StrictBackend::start();
        let directory = tempfile::tempdir().expect("a temporary directory");
        let cluster = format!("payments:\n  endpoints: [\"{}\"]", backend.address());
        let setup = Setup::app(backend.address())
            .section("clusters", &cluster)
            .section("recording", "directory: recording");
        let yaml = setup.yaml(&directory.path().join("events.ndjson"));
        std::fs::write(directory.path().join("sidelight.yaml"), yaml).expect("a file");
        let app = ["run", "--config", "sidelight.yaml", "--", "sh", "-c", "echo line; exec sleep 600"];
        let process = Launch::start(directory.path(), &app);
        process.wait_for_log("ready");
        let running = Running { process, _backend: backend, directory };
        running.drive();
        running
    }

    fn drive(&self) {
        for _ in 0..10 {
            assert_eq!(RawClient::get(self.process.listener("inbound"), "/").expect("an answer").status, 200);
            let call = "GET / HTTP/1.1\r\nHost: payments\r\nConnection: close\r\n\r\n";
            assert_eq!(
                RawClient::connect(self.process.listener("outbound")).ask(call).expect("an answer").status,
                200
            );
        }
    }

    fn telemetry(&self) -> SocketAddr {
        self.process.listener("telemetry")
    }

    /// The page, once it has the exchanges.
    fn page(&self) -> String {
        wait_for("the exchanges in the metrics", || {
            let page = RawClient::get(self.telemetry(), "/metrics").expect("the page").text();
            let has = |name: &str| page.lines().any(|line| line.starts_with(name));
            (has("http_server_request_duration_seconds_count")
                && has("http_client_request_duration_seconds_count"))
            .then_some(page)
        })
    }
}

fn promtool(arguments: &[&str], at: &Path, input: &str) -> (bool, String) {
    let mut child = Command::new("promtool")
        .args(arguments)
        .current_dir(at)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("promtool: {error}; install it: apt-get install prometheus"));
    child.stdin.take().expect("stdin is piped").write_all(input.as_bytes()).expect("promtool reads");
    let done = child.wait_with_output().expect("its end");
    let text = [done.stdout, done.stderr].concat();
    (done.status.success(), String::from_utf8_lossy(&text).into_owned())
}

#[test]
fn the_page_keeps_prometheus_rules() {
    let running = Running::start();
    let (is_good, said) = promtool(&["check", "metrics"], Path::new("."), &running.page());
    assert!(is_good, "{said}");
}

/// Every expression of the rules and the dashboard.
fn expressions() -> Vec<String> {
    let mut all = Vec::new();
    let dashboard = std::fs::read_to_string(repository().join("proxy-config/grafana/sidelight.json"))
        .expect("the dashboard");
    let dashboard: Value = serde_json::from_str(&dashboard).expect("JSON");
    for panel in dashboard["panels"].as_array().expect("a list").iter().filter(|panel| panel["type"] != "row")
    {
        let targets = panel["targets"].as_array().unwrap_or_else(|| panic!("no targets: {panel}"));
        assert!(!targets.is_empty(), "{panel}");
        for target in targets {
            let text = target["expr"].as_str().expect("a text");
            let text =
                text.replace("$__rate_interval", "5m").replace("$job", ".+").replace("$instance", ".+");
            assert!(!text.contains('$'), "an unknown variable: {text}");
            all.push(text);
        }
    }
    assert!(all.len() > 20 && dashboard["schemaVersion"].as_u64() >= Some(36));
    let rules =
        std::fs::read_to_string(repository().join("proxy-config/prometheus/alerts.yaml")).expect("the rules");
    let mut lines = rules.lines().peekable();
    while let Some(line) = lines.next() {
        if line.trim() == "expr: |" {
            let mut text = String::new();
            while let Some(part) = lines.next_if(|next| next.starts_with("          ")) {
                text.push_str(part.trim());
                text.push(' ');
            }
            all.push(text);
        }
    }
    all
}

/// The names of metrics in an expression: what is not a label's name.
fn metrics(expression: &str) -> BTreeSet<String> {
    let (mut outside, mut depth) = (String::new(), 0);
    for char in expression.chars() {
        match char {
            '{' | '[' => depth += 1,
            '}' | ']' => depth -= 1,
            char if depth == 0 => outside.push(char),
            _ => {}
        }
    }
    for word in ["by (", "on ("] {
        while let Some(start) = outside.find(word) {
            let end = outside[start..].find(')').expect("a closing bracket") + start;
            outside.replace_range(start..=end, " ");
        }
    }
    let is_of_name = |char: char| char.is_ascii_alphanumeric() || char == '_' || char == ':';
    let words = outside.split(|char| !is_of_name(char));
    let families = ["sidelight_", "http_", "process_", "target_"];
    words
        .filter(|word| !word.contains(':') && families.iter().any(|family| word.starts_with(family)))
        .map(str::to_owned)
        .collect()
}

#[test]
fn every_metric_of_the_rules_and_the_dashboard_is_on_the_page() {
    let running = Running::start();
    let page = running.page();
    let families: BTreeSet<&str> =
        page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    let mut missing = BTreeSet::new();
    for expression in expressions() {
        for name in metrics(&expression) {
            let family = ["_bucket", "_count", "_sum"].iter().find_map(|part| name.strip_suffix(part));
            if !families.contains(name.as_str()) && !family.is_some_and(|family| families.contains(family)) {
                missing.insert(name);
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
}

#[test]
fn the_rules_and_the_dashboard_are_understood() {
    let folder = repository().join("proxy-config/prometheus");
    for arguments in [&["check", "rules", "alerts.yaml"][..], &["test", "rules", "alerts.test.yaml"]] {
        let (is_good, said) = promtool(arguments, &folder, "");
        assert!(is_good, "{arguments:?}: {said}");
    }
    let mut rules = String::from("groups:\n  - name: dashboard\n    rules:\n");
    for (number, expression) in expressions().into_iter().enumerate() {
        let _ =
            writeln!(rules, "      - record: dashboard:{number}\n        expr: {}", Value::from(expression));
    }
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("dashboard.yaml"), rules).unwrap();
    let (is_good, said) = promtool(&["check", "rules", "dashboard.yaml"], directory.path(), "");
    assert!(is_good, "{said}");
}

#[test]
fn every_alert_has_a_place_where_it_is_explained() {
    let rules = std::fs::read_to_string(repository().join("proxy-config/prometheus/alerts.yaml")).unwrap();
    let of = |name: &str| {
        let lines = rules.lines().filter_map(|line| line.trim().trim_start_matches("- ").strip_prefix(name));
        lines.map(|value| value.trim().to_owned()).collect::<Vec<_>>()
    };
    let (alerts, links) = (of("alert:"), of("runbook_url:"));
    assert!(alerts.len() >= 15);
    assert_eq!((alerts.len(), alerts.len()), (of("summary:").len(), of("description:").len()));
    assert_eq!(alerts.len(), links.len());
    for link in links {
        let (file, anchor) = link.split_once('#').unwrap();
        let text = std::fs::read_to_string(repository().join(file)).unwrap();
        let headings = text.lines().filter_map(|line| line.strip_prefix('#'));
        let mut anchors =
            headings.map(|heading| heading.trim_start_matches('#').trim().to_lowercase().replace(' ', "-"));
        assert!(anchors.any(|known| known == anchor), "{link}");
    }
}

/// A Prometheus that scrapes one target every second; killed when dropped.
struct Prometheus {
    child: Child,
    address: SocketAddr,
}

impl Prometheus {
    fn start(directory: &Path, target: SocketAddr) -> Prometheus {
        let rules = repository().join("proxy-config/prometheus/alerts.yaml");
        let config = format!(
            "global: {{ scrape_interval: 1s, evaluation_interval: 1s }}\nrule_files: [{rules:?}]\n\
             scrape_configs: [{{ job_name: sidelight, static_configs: [{{ targets: [\"{target}\"] }}] }}]\n"
        );
        std::fs::write(directory.join("prometheus.yaml"), config).expect("a file");
        let address =
            TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a free port");
        let child = Command::new("prometheus")
            .args(["--config.file=prometheus.yaml", "--storage.tsdb.path=tsdb"])
            .args(["--enable-feature=exemplar-storage", "--log.level=warn"])
            .arg(format!("--web.listen-address={address}"))
            .current_dir(directory)
            .spawn()
            .unwrap_or_else(|error| panic!("prometheus: {error}; install it: apt-get install prometheus"));
        Prometheus { child, address }
    }

    /// `data` of an answer of its API.
    fn ask(&self, path: &str) -> Option<Value> {
        let answer = tool::run("curl", &["-s", &format!("http://{}/api/v1/{path}", self.address)]);
        let answer: Value = serde_json::from_slice(&answer.stdout).ok()?;
        (answer["status"] == "success").then(|| answer["data"].clone())
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_real_scrape_finds_our_numbers_and_exemplars_that_lead_to_events() {
    let running = Running::start();
    running.page();
    let prometheus = Prometheus::start(running.directory.path(), running.telemetry());
    let count = "query?query=sum(http_server_request_duration_seconds_count)";
    wait_for("the count of exchanges", || {
        let data = prometheus.ask(count)?;
        (data["result"][0]["value"][1] == "10").then_some(())
    });
    let targets = prometheus.ask("targets").expect("its targets");
    assert_eq!(
        (&targets["activeTargets"][0]["health"], &targets["activeTargets"][0]["lastError"]),
        (&"up".into(), &"".into())
    );
    let path = "query_exemplars?query=http_server_request_duration_seconds_bucket&start=1&end=4102444800";
    let exemplars = wait_for("an exemplar", || {
        let data = prometheus.ask(path)?;
        let found: Vec<Value> = data
            .as_array()?
            .iter()
            .flat_map(|series| series["exemplars"].as_array().cloned())
            .flatten()
            .collect();
        (!found.is_empty()).then_some(found)
    });
    let events = std::fs::read_to_string(running.directory.path().join("events.ndjson")).unwrap();
    let events: Vec<Value> = events.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for exemplar in exemplars {
        let labels = &exemplar["labels"];
        let event = events
            .iter()
            .find(|event| event["trace_id"] == labels["trace_id"] && event["span_id"] == labels["span_id"]);
        let event = event.unwrap_or_else(|| panic!("no event of {exemplar}"));
        let seconds: f64 = exemplar["value"].as_str().unwrap().parse().unwrap();
        let millis = event["sidelight.duration_ms"].as_f64().unwrap();
        assert!((seconds * 1000.0 - millis).abs() < 0.01, "{exemplar} {event}");
        assert_eq!((&event["sidelight.direction"], &event["sampled"]), (&"inbound".into(), &true.into()));
    }
    let rules = wait_for("the rules", || {
        let groups = prometheus.ask("rules")?["groups"].as_array()?.clone();
        let rules: Vec<Value> =
            groups.iter().flat_map(|group| group["rules"].as_array().cloned()).flatten().collect();
        (rules.len() > 15 && rules.iter().all(|rule| rule["health"] == "ok")).then_some(rules)
    });
    let firing: Vec<&Value> = rules.iter().filter(|rule| rule["state"] == "firing").collect();
    assert!(firing.is_empty(), "{firing:#?}");
}
