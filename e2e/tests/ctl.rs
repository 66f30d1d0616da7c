//! `sidelight ctl`: what it says of a running sidecar, and what it tells it.

use e2e::{Launch, RawClient, Setup, Sidelight, StrictBackend, wait_for};
use serde_json::Value;
use std::net::TcpListener;

fn ctl(proxy: &Sidelight, line: &str) -> (i32, String, String) {
    let admin = proxy.address("admin").to_string();
    let words: Vec<&str> = ["ctl", "--admin", &admin].into_iter().chain(line.split(' ')).collect();
    Launch::run(proxy.directory(), &words)
}

fn start(backend: &StrictBackend) -> Sidelight {
    let cluster = format!("payments:\n  endpoints: [\"{}\"]", backend.address());
    Sidelight::start(&Setup::app(backend.address()).section("clusters", &cluster))
}

#[test]
fn a_healthy_sidecar_is_ok_in_one_line() {
    let backend = StrictBackend::start();
    let proxy = start(&backend);
    for _ in 0..30 {
        assert_eq!(RawClient::get(proxy.inbound(), "/").unwrap().status, 200);
    }
    let (exit, out, errors) = ctl(&proxy, "check --interval 0s");
    assert_eq!((exit, errors.as_str()), (0, ""), "{out}");
    assert!(out.starts_with("SIDELIGHT OK - checkout: "), "{out}");
    assert_eq!(out.lines().count(), 1);
    let (text, numbers) = out.trim_end().split_once(" | ").expect("performance data");
    assert!(!text.contains('|'));
    for number in numbers.split(' ') {
        let (name, rest) = number.split_once('=').unwrap_or_else(|| panic!("{number}"));
        let fields: Vec<&str> = rest.split(';').collect();
        let value = fields[0].trim_end_matches('%');
        assert!(!name.is_empty() && fields.len() == 4 && value.parse::<f64>().is_ok(), "{number}");
    }
    assert!(numbers.contains("requests=30;"), "{numbers}");
    let (exit, out, _) = ctl(&proxy, "check --interval 10ms --format json");
    let report: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((exit, &report["state"], &report["service"]), (0, &"OK".into(), &"checkout".into()));
    // The telemetry port is enough.
    let telemetry = proxy.address("telemetry").to_string();
    let (exit, out, _) =
        Launch::run(proxy.directory(), &["ctl", "check", "--admin", &telemetry, "--interval", "0s"]);
    assert_eq!(exit, 0, "{out}");
}

#[test]
fn what_is_wrong_has_its_status_and_its_words() {
    let backend = StrictBackend::start();
    let proxy = start(&backend);
    // 404 of nobody's cluster is the caller's error; a dead endpoint is 502.
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let cluster = format!("payments:\n  endpoints: [\"{gone}\"]");
    proxy.rewrite(&Setup::app(backend.address()).section("clusters", &cluster));
    wait_for("the new configuration", || {
        proxy.admin("/clusters").text().contains(&gone.to_string()).then_some(())
    });
    for _ in 0..30 {
        let asked = "GET / HTTP/1.1\r\nHost: payments\r\nConnection: close\r\n\r\n";
        assert!(RawClient::connect(proxy.outbound()).ask(asked).unwrap().status >= 500);
    }
    let (exit, out, _) = ctl(&proxy, "check --interval 0s");
    assert_eq!(exit, 2, "{out}");
    assert!(
        out.starts_with("SIDELIGHT CRITICAL - checkout: ") && out.contains("100.0% of 30 answers"),
        "{out}"
    );
    let (exit, out, _) =
        ctl(&proxy, "check --interval 0s --crit-errors 101 --warn-errors 99 --crit-breakers 9");
    assert!(exit == 1 || out.contains("healthy"), "{exit} {out}");
    std::fs::write(proxy.directory().join("sidelight.yaml"), "service: { nmae: x }").unwrap();
    let (exit, out) = wait_for("a refused configuration", || {
        let (exit, out, _) = ctl(&proxy, "check --interval 0s --min-requests 1000");
        out.contains("configuration was refused").then_some((exit, out))
    });
    assert!(exit == 1 || exit == 2, "{exit} {out}");
}

#[test]
fn nobody_there_is_critical_and_wrong_usage_unknown() {
    let directory = tempfile::tempdir().unwrap();
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let run = |words: &[&str]| Launch::run(directory.path(), words);
    let (exit, out, _) = run(&["ctl", "--admin", &gone, "check"]);
    assert_eq!(exit, 2);
    assert!(out.starts_with("SIDELIGHT CRITICAL - ") && out.contains("is sidelight running?"), "{out}");
    let (exit, out, _) = run(&["ctl", "--admin", &gone, "check", "--format", "json"]);
    let report: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((exit, &report["exit"]), (2, &2.into()));
    let (exit, _, errors) = run(&["ctl", "check", "--warn-errors", "many"]);
    assert_eq!((exit, errors.is_empty()), (3, false));
    let (exit, _, errors) = run(&["ctl", "--admin", &gone, "ready"]);
    assert_eq!((exit, errors.contains("is sidelight running?")), (1, true), "{errors}");
    let (exit, _, errors) = run(&["ctl", "--admin", "nowhere", "ready"]);
    assert_eq!((exit, errors.is_empty()), (2, false));
    for words in [&["ctl", "--help"][..], &["ctl", "check", "--help"]] {
        let (exit, help, _) = run(words);
        assert!(exit == 0 && help.contains("Examples:\n  sidelight ctl"), "{help}");
        assert!(help.lines().all(|line| line.chars().count() <= 120), "too wide: {help}");
    }
}

#[test]
fn it_shows_and_changes() {
    let backend = StrictBackend::start();
    let directory = tempfile::tempdir().unwrap();
    let token = directory.path().join("token");
    std::fs::write(&token, "secret-of-sixteen-bytes\n").unwrap();
    let cluster = format!("payments:\n  endpoints: [\"{}\"]", backend.address());
    let setup = Setup::app(backend.address()).section("clusters", &cluster);
    let mut proxy = Sidelight::start(&setup.section("admin", &format!("token_file: {token:?}")));
    assert_eq!(ctl(&proxy, "ready"), (0, "ready\n".into(), String::new()));
    let (exit, out, _) = ctl(&proxy, "clusters");
    let address = backend.address().to_string();
    assert!(exit == 0 && out.contains("payments: 1 endpoints, ") && out.contains(&address), "{out}");
    let (exit, out, _) = ctl(&proxy, "clusters --format json");
    let clusters: Value = serde_json::from_str(&out).unwrap();
    assert!(exit == 0 && clusters[1]["name"] == "payments", "{clusters}");
    let (exit, out, _) = ctl(&proxy, "config");
    assert!(exit == 0 && out.contains("name: checkout"), "{out}");
    let (exit, out, _) = ctl(&proxy, "config --format json");
    let config: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((exit, &config["config"]["service"]["name"]), (0, &"checkout".into()));
    let (exit, _, errors) = ctl(&proxy, "log-level debug");
    assert_eq!((exit, errors.contains("401")), (1, true), "{errors}");
    assert!(errors.contains("--token-file"), "{errors}");
    let with = |line: &str| ctl(&proxy, &format!("--token-file {} {line}", token.display()));
    assert_eq!(with("log-level debug").0, 0);
    let (exit, _, errors) = with("log-level degub");
    assert_eq!((exit, errors.contains("degub")), (1, true), "{errors}");
    let (exit, _, errors) = ctl(&proxy, "--token-file missing drain");
    assert_eq!((exit, errors.contains("missing")), (1, true), "{errors}");
    let drained = with("drain");
    assert_eq!(drained, (0, "draining\n".into(), String::new()));
    assert!(proxy.wait().success());
}
