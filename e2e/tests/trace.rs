//! `sidelight trace`: what it prints where, and its exit status.

use e2e::{Launch, Setup, Sidelight, StrictBackend, get};
use serde_json::Value;
use std::path::Path;
use std::process::{Command, Stdio};
use tempfile::TempDir;

/// A SERVER span, a CLIENT span below it, and a trace of somebody else.
const EVENTS: &str = r#"{"schema":"sidelight/exchange/1","timestamp":"2025-01-01T00:00:00.001000Z","trace_id":"4bf92f3577b34da6a3ce929d0e0e4736","span_id":"00000000000000a2","parent_id":"00000000000000a1","request_id":"r-1","account_id":"a1","service.name":"shop","http.request.method":"GET","url.path":"/stock","http.response.status_code":503,"error.type":"overflow","sidelight.cause":"overflow","sidelight.direction":"outbound","sidelight.duration_ms":0.5}
{"schema":"sidelight/exchange/1","timestamp":"2025-01-01T00:00:00.000000Z","trace_id":"4bf92f3577b34da6a3ce929d0e0e4736","span_id":"00000000000000a1","request_id":"r-1","account_id":"a1","service.name":"shop","http.request.method":"GET","url.path":"/","http.response.status_code":200,"sidelight.direction":"inbound","sidelight.duration_ms":2.0}
{"schema":"sidelight/exchange/1","timestamp":"2025-01-01T00:00:01.000000Z","trace_id":"4bf92f3500000000000000000000000f","span_id":"00000000000000b1","request_id":"r-2","service.name":"shop","http.request.method":"GET","url.path":"/other","http.response.status_code":200,"sidelight.direction":"inbound","sidelight.duration_ms":3000.0}
"#;

const TREE: &str = "\
trace 4bf92f3577b34da6a3ce929d0e0e4736  2.000 ms  2 spans of 1 service  began 2025-01-01T00:00:00.000000Z
request r-1  account a1

        start     duration                        span
    +0.000 ms     2.000 ms  ▆▆▆▆▆▆▆▆▆▆▆▆▆▆▆▆▆▆▆▆  shop SERVER GET / 200
    +1.000 ms     0.500 ms            ▆▆▆▆▆       └ shop CLIENT GET /stock 503 overflow
";

fn directory() -> TempDir {
    let directory = tempfile::tempdir().expect("a temporary directory");
    std::fs::write(directory.path().join("events.ndjson"), EVENTS).expect("a file");
    directory
}

fn sidelight(at: &TempDir, line: &str) -> (i32, String, String) {
    Launch::run(at.path(), &line.split(' ').collect::<Vec<_>>())
}

/// The same, with a file as its standard input and a terminal of any width that is wished for.
fn piped(at: &TempDir, from: &Path, line: &str, columns: &str) -> (i32, String) {
    let mut command = Command::new(e2e::binary());
    command.args(line.split(' ')).current_dir(at.path()).env("COLUMNS", columns);
    let input = std::fs::File::open(from).expect("the input");
    let done = command.stdin(input).stderr(Stdio::inherit()).output().expect("the binary");
    (done.status.code().unwrap_or(-1), String::from_utf8_lossy(&done.stdout).into_owned())
}

#[test]
fn a_trace_is_shown_by_any_of_its_ids() {
    let at = directory();
    for id in ["4bf92f3577b34da6a3ce929d0e0e4736", "4bf92f357", "r-1"] {
        let (exit, out, errors) = sidelight(&at, &format!("trace show {id} --from events.ndjson"));
        assert_eq!((exit, out.as_str(), errors.as_str()), (0, TREE, ""), "{id}");
        let from = at.path().join("events.ndjson");
        let (exit, out) = piped(&at, &from, &format!("trace show {id} --from -"), "120");
        assert_eq!((exit, out.as_str()), (0, TREE), "{id}");
    }
    let (_, narrow) = piped(&at, &at.path().join("events.ndjson"), "trace show r-1 --from -", "80");
    assert!(!narrow.contains('▆') && narrow.contains("└ shop CLIENT GET /stock 503 overflow\n"), "{narrow}");
    let (exit, out, _) = sidelight(&at, "trace show r-1 --from events.ndjson --format json");
    let tree: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((exit, tree["spans"].as_array().map(Vec::len)), (0, Some(2)), "{tree}");
    assert_eq!(tree["spans"][1]["cause"], "overflow");
}

#[test]
fn what_is_not_there_fails_and_says_what_was_searched() {
    let at = directory();
    let (exit, out, errors) = sidelight(&at, "trace show abc --from events.ndjson");
    let want = format!(
        "error: no trace or request abc (too short for a trace id: 8 digits are needed) in
  events.ndjson: 3 lines, {} bytes, from 2025-01-01T00:00:00.001000Z to 2025-01-01T00:00:01.000000Z\n",
        EVENTS.len()
    );
    assert_eq!((exit, out.as_str(), errors), (1, "", want));
    let (exit, out, errors) = sidelight(&at, "trace show 4bf92f35 --from events.ndjson");
    assert_eq!((exit, errors.as_str()), (1, "error: 4bf92f35 may mean 2 traces; name one of them in full\n"));
    assert!(
        out.contains("4bf92f3577b34da6a3ce929d0e0e4736") && out.contains("4bf92f3500000000000000000000000f")
    );
    let (exit, out, _) = sidelight(&at, "trace show 4bf92f35 --from events.ndjson --format json");
    let list: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((exit, list["several"].as_array().map(Vec::len)), (1, Some(2)), "{list}");
    for line in ["trace show r-1 --from missing.ndjson", "trace ls --from missing.ndjson"] {
        let (exit, out, errors) = sidelight(&at, line);
        let want = "error: cannot open missing.ndjson: No such file or directory (os error 2)\n";
        assert_eq!((exit, out.as_str(), errors.as_str()), (1, "", want), "{line}");
    }
    let (exit, _, errors) = sidelight(&at, "trace show r-1 --from .");
    assert_eq!((exit, errors.contains("is a directory")), (1, true), "{errors}");
}

#[test]
fn lines_that_are_no_events_are_told_on_standard_error() {
    let at = directory();
    let cut = format!("what\n{EVENTS}{}", &EVENTS[..50]);
    std::fs::write(at.path().join("events.ndjson"), cut).unwrap();
    let (exit, out, errors) = sidelight(&at, "trace show r-1 --from events.ndjson");
    let want = "events.ndjson:1: no JSON object\nevents.ndjson:5: cut: the file ends within it\n";
    assert_eq!((exit, out.as_str(), errors.as_str()), (0, TREE, want));
}

#[test]
fn traces_are_listed_and_chosen() {
    let at = directory();
    let ids = |line: &str| {
        let (exit, out, errors) =
            sidelight(&at, &format!("trace ls --from events.ndjson --format json{line}"));
        assert_eq!(exit, 0, "{errors}");
        let list: Value = serde_json::from_str(&out).unwrap();
        let names = list
            .as_array()
            .unwrap()
            .iter()
            .map(|trace| trace["name"].as_str().unwrap_or_default().to_owned());
        (names.collect::<Vec<_>>().join(", "), errors)
    };
    assert_eq!(ids("").0, "GET /other, GET /");
    assert_eq!(ids(" --errors").0, "GET /");
    assert_eq!(ids(" --account a1").0, "GET /");
    assert_eq!(ids(" --slower-than 1s").0, "GET /other");
    assert_eq!(ids(" --limit 1").0, "GET /other");
    let (none, errors) = ids(" --slower-than 1s --errors");
    assert_eq!(none, "");
    assert!(errors.starts_with("none of 2 traces is wanted, in\n  events.ndjson: 3 lines"), "{errors}");
    let (exit, out, errors) = sidelight(&at, "trace ls --from events.ndjson --limit 1");
    assert_eq!((exit, errors.as_str()), (0, "the newest 1 of 2; --limit shows more\n"));
    assert!(out.starts_with("start  ") && out.lines().count() == 2, "{out}");
}

#[test]
fn wrong_usage_is_two_and_help_has_examples() {
    let at = directory();
    for line in [
        "trace",
        "trace show",
        "trace show r-1",
        "trace show --from events.ndjson",
        "trace show r-1 --from",
        "trace ls",
        "trace ls --from events.ndjson --slower-than 5",
        "trace ls --from events.ndjson --limit many",
    ] {
        let (exit, _, errors) = sidelight(&at, line);
        assert!(exit == 2 && !errors.is_empty(), "{line}: {exit} {errors}");
    }
    for line in ["trace --help", "trace show --help", "trace ls --help"] {
        let (exit, help, _) = sidelight(&at, line);
        assert!(exit == 0 && help.contains("Examples:\n  sidelight trace"), "{help}");
        assert!(help.lines().all(|line| line.chars().count() <= 120), "too wide: {help}");
    }
}

#[test]
fn what_a_sidecar_writes_is_what_is_read() {
    let backend = StrictBackend::start();
    let proxy = Sidelight::start(&Setup::app(backend.address()));
    let lines = "x-request-id: mine\r\nx-account-id: a7\r\nx-license: gold\r\n";
    e2e::RawClient::connect(proxy.inbound()).ask(get("/orders/42", lines)).unwrap();
    proxy.events().of("mine");
    let (exit, out, errors) =
        Launch::run(proxy.directory(), &["trace", "show", "mine", "--from", "events.ndjson"]);
    assert_eq!((exit, errors.as_str()), (0, ""));
    assert!(out.contains("account a7  license gold"), "{out}");
    assert!(out.contains("checkout SERVER GET /orders/42 200\n"), "{out}");
}
