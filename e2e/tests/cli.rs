//! The command line: what it prints, and its exit statuses (0 ok, 1 failed, 2 usage, 64 configuration refused).

use e2e::Launch;
use serde_json::Value;
use std::path::Path;
use tempfile::TempDir;

const GOOD: &str = "\
service: { name: checkout, app: \"127.0.0.1:8080\" }
outbound:
  routes:
    - name: gold
      match: { host: payments, context: { license: gold } }
      cluster: payments-gold
clusters:
  payments: { endpoints: [\"10.0.0.7:8080\", \"10.0.0.8:8080\"] }
  payments-gold: { endpoints: [\"10.0.0.9:8080\"] }
";

fn directory(files: &[(&str, &str)]) -> TempDir {
    let directory = tempfile::tempdir().expect("a temporary directory");
    for (name, text) in files {
        std::fs::write(directory.path().join(name), text).expect("a file");
    }
    directory
}

fn sidelight(at: &TempDir, arguments: &[&str]) -> (i32, String, String) {
    Launch::run(at.path(), arguments)
}

#[test]
fn help_is_there_for_every_command() {
    let at = directory(&[]);
    let (exit, help, _) = sidelight(&at, &["--help"]);
    assert_eq!(exit, 0);
    for word in ["run", "check", "schema", "explain", "Examples:", "64"] {
        assert!(help.contains(word), "{word} is not in {help}");
    }
    for command in ["run", "check", "schema", "explain"] {
        let (exit, help, _) = sidelight(&at, &[command, "--help"]);
        assert_eq!(exit, 0, "{command}");
        assert!(help.contains("Usage: sidelight"), "{help}");
        assert!(help.lines().all(|line| line.chars().count() <= 120), "too wide: {help}");
    }
    let (exit, version, _) = sidelight(&at, &["--version"]);
    assert_eq!(exit, 0);
    assert!(version.starts_with("sidelight 0."), "{version}");
}

#[test]
fn wrong_usage_is_two() {
    let at = directory(&[("good.yaml", GOOD)]);
    for arguments in [
        &["--no-such-flag"][..],
        &["no-such-command"],
        &[],
        &["run"],
        &["run", "--config", "good.yaml", "--app", "127.0.0.1:1"],
        &["check"],
        &["check", "--format", "xml", "good.yaml"],
        &["explain", "--config", "good.yaml", "GET"],
    ] {
        let (exit, out, errors) = sidelight(&at, arguments);
        assert_eq!(exit, 2, "{arguments:?}: {out} {errors}");
        assert!(!errors.is_empty(), "{arguments:?} says nothing");
    }
}

#[test]
fn check_tells_every_problem_at_once() {
    let broken = "service: { nmae: a, app: \"127.0.0.1:8080\" }\noutbound:\n  routes:\n    - cluster: paymnts\n\
                  clusters:\n  payments: { endpoints: [\"10.0.0.7\"], connect_timeout: 1 }\n";
    let at = directory(&[("good.yaml", GOOD), ("broken.yaml", broken)]);
    let (exit, out, errors) = sidelight(&at, &["check", "good.yaml"]);
    assert_eq!(exit, 0, "{errors}");
    assert!(out.contains("good.yaml: ok"), "{out}");
    let (exit, _, errors) = sidelight(&at, &["check", "good.yaml", "broken.yaml"]);
    assert_eq!(exit, 64);
    for part in ["broken.yaml:1:", "nmae", "name", "broken.yaml:4:", "paymnts", "payments", "broken.yaml:6:"]
    {
        assert!(errors.contains(part), "{part} is not in:\n{errors}");
    }
    let (exit, out, _) = sidelight(&at, &["check", "--format", "json", "good.yaml", "broken.yaml"]);
    assert_eq!(exit, 64);
    let report: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&report[0]["ok"], &report[1]["ok"]), (&true.into(), &false.into()), "{report}");
    assert!(report[1]["problems"].as_array().is_some_and(|problems| problems.len() >= 3), "{report}");
    let (exit, _, errors) = sidelight(&at, &["check", "missing.yaml"]);
    assert_eq!((exit, errors.contains("missing.yaml")), (64, true), "{errors}");
}

#[test]
fn the_schema_is_json_and_knows_every_section() {
    let (exit, out, _) = sidelight(&directory(&[]), &["schema"]);
    assert_eq!(exit, 0);
    let schema: Value = serde_json::from_str(&out).unwrap();
    let keys = schema["properties"].as_object().unwrap_or_else(|| panic!("{schema}"));
    for section in ["service", "inbound", "outbound", "clusters", "limits", "pipeline", "admin", "telemetry"]
    {
        assert!(keys.contains_key(section), "{section} in {:?}", keys.keys());
    }
}

#[test]
fn explain_says_which_way_and_why() {
    let at = directory(&[("good.yaml", GOOD)]);
    let explain = |more: &[&str]| {
        let (exit, out, errors) = sidelight(&at, &[&["explain", "--config", "good.yaml"], more].concat());
        assert_eq!(exit, 0, "{more:?}: {errors}");
        out
    };
    let plain = explain(&["GET", "http://payments/charge"]);
    assert!(plain.contains("payments") && plain.contains("10.0.0.7:8080"), "{plain}");
    let gold = explain(&["GET", "http://payments/charge", "-H", "x-license: gold"]);
    assert!(gold.contains("gold") && gold.contains("10.0.0.9:8080"), "{gold}");
    let json = explain(&["GET", "http://payments/charge", "-H", "x-license: gold", "--format", "json"]);
    let json: Value = serde_json::from_str(&json).unwrap();
    assert!(json.to_string().contains("payments-gold"), "{json}");
    let nobody = explain(&["GET", "http://paymets/"]);
    assert!(nobody.contains("payments"), "no nearest name: {nobody}");
    let inbound = explain(&["--direction", "inbound", "POST", "http://checkout/"]);
    assert!(inbound.contains("127.0.0.1:8080"), "{inbound}");
    let (exit, _, errors) =
        sidelight(&at, &["explain", "--config", "good.yaml", "G E T", "http://payments/"]);
    assert_eq!((exit, errors.is_empty()), (1, false));
    let (exit, ..) = sidelight(&at, &["explain", "--config", "missing.yaml", "GET", "/"]);
    assert_eq!(exit, 64);
}

#[test]
fn flags_stand_for_a_file_that_check_accepts() {
    let at = directory(&[]);
    let flags = [
        "run",
        "--app",
        "127.0.0.1:8080",
        "--cluster",
        "payments=10.0.0.7:8080,10.0.0.8:8080",
        "--print-config",
    ];
    let (exit, out, errors) = sidelight(&at, &flags);
    assert_eq!(exit, 0, "{errors}");
    std::fs::write(at.path().join("printed.yaml"), &out).unwrap();
    let (exit, _, errors) = sidelight(&at, &["check", "printed.yaml"]);
    assert_eq!(exit, 0, "{errors}");
    let (exit, again, _) = sidelight(&at, &["run", "--config", "printed.yaml", "--print-config"]);
    assert_eq!((exit, again), (0, out), "printing what was printed changes it");
    let (exit, ..) = sidelight(&at, &["run", "--app", "nowhere", "--print-config"]);
    assert_eq!(exit, 64);
}

#[test]
fn the_examples_of_the_repository_are_accepted() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../proxy-config");
    let mut count = 0;
    for entry in std::fs::read_dir(&examples).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "yaml") {
            let name = path.to_string_lossy().into_owned();
            let (exit, _, errors) = Launch::run(&examples, &["check", &name]);
            assert_eq!(exit, 0, "{name}: {errors}");
            count += 1;
        }
    }
    assert!(count >= 2, "{count} examples");
}
