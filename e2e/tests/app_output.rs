//! What the application prints: an event for each line, with the context of the exchange that it belongs to.

use e2e::{Events, Launch, RawClient, Setup, wait_for};
use serde_json::{Value, json};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::time::{Duration, Instant};

/// Logs while it serves a request, and after it has answered; in JSON with the trace, and in plain text with the request id.
const APP: &str = r#"
import http.server, json, sys, threading, time
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        trace, request = self.headers["traceparent"].split("-"), self.headers["x-request-id"]
        # One write for each line: print() makes two, and other threads get between them.
        def put(out, line):
            out.write(line + "\n"); out.flush()
        say = lambda text, **more: put(sys.stdout, json.dumps({"level": "warn", "msg": text, "trace_id": trace[1], **more}))
        say("before", n=[1, {"a": 2.50}])
        say("of the span", span_id="00f067aa0ba902b7")
        put(sys.stderr, f"ERROR plain request_id={request} end")
        time.sleep(0.02)
        self.send_response(204); self.end_headers(); self.wfile.flush()
        threading.Timer(0.1, lambda: say("after")).start()
    def log_message(self, *_): pass
print("the app speaks", flush=True)
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"#;

const SCHEMA: &str = "sidelight/app_log/1";

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").expect("bind on loopback").local_addr().expect("bind on loopback")
}

fn run(directory: &Path, setup: &Setup, app: &[&str]) -> Launch {
    let yaml = setup.yaml(&directory.join("events.ndjson"));
    std::fs::write(directory.join("sidelight.yaml"), yaml).expect("a file");
    Launch::start(directory, &[&["run", "--config", "sidelight.yaml", "--"], app].concat())
}

fn lines(directory: &Path) -> Vec<Value> {
    Events::at(&directory.join("events.ndjson")).all(SCHEMA)
}

#[test]
fn lines_have_the_context_of_their_exchange() {
    let directory = tempfile::tempdir().unwrap();
    let address = free_address();
    let setup = Setup::app(address).workers(2);
    let port = address.port().to_string();
    let process = run(directory.path(), &setup, &["python3", "-S", "-c", APP, &port]);
    process.wait_for_log("ready");
    let inbound = process.listener("inbound");
    let count = 20;
    let clients: Vec<_> = (0..count)
        .map(|number| {
            std::thread::spawn(move || {
                let head = format!(
                    "GET / HTTP/1.1\r\nHost: app.example\r\nx-request-id: r-{number}\r\nx-account-id: a-{number}\r\n\
                     x-license: gold\r\nx-feature-flags: beta,dark\r\nConnection: close\r\n\r\n"
                );
                assert_eq!(RawClient::connect(inbound).ask(head).unwrap().status, 204);
            })
        })
        .collect();
    clients.into_iter().for_each(|client| client.join().unwrap());
    let all = wait_for("four lines of each exchange", || {
        let all = lines(directory.path());
        (all.len() > 4 * count).then_some(all)
    });
    assert_eq!(all.len(), 4 * count + 1, "{all:#?}");
    let exchanges = wait_for("the exchanges", || {
        let exchanges = Events::at(&directory.path().join("events.ndjson")).exchanges();
        (exchanges.len() >= count).then_some(exchanges)
    });
    for exchange in &exchanges {
        let mine: Vec<&Value> = all.iter().filter(|line| line["trace_id"] == exchange["trace_id"]).collect();
        assert_eq!(mine.len(), 4, "{exchange}");
        for line in mine {
            for name in ["request_id", "account_id", "license", "request_type", "flags", "service.name"] {
                assert_eq!(line[name], exchange[name], "{name} of {line}");
            }
            assert_eq!(line["flags"], json!(["beta", "dark"]));
            let is_own = line["body"] == "of the span";
            let span = if is_own { &json!("00f067aa0ba902b7") } else { &exchange["span_id"] };
            assert_eq!(&line["span_id"], span, "{line}");
            if line["log.iostream"] == "stderr" {
                assert_eq!(line["severity_text"], "ERROR");
                assert!(line["body"].as_str().unwrap().starts_with("ERROR plain request_id=r-"), "{line}");
            } else {
                assert_eq!((&line["severity_text"], &line["severity_number"]), (&json!("warn"), &json!(13)));
                assert_eq!(line["attributes"]["msg"], line["body"]);
            }
            if line["body"] == "before" {
                assert_eq!(line["attributes"]["n"], json!([1, {"a": 2.5}]));
            }
        }
    }
}

#[test]
fn fifty_thousand_lines_of_each_stream_are_fifty_thousand_events_in_order() {
    let directory = tempfile::tempdir().unwrap();
    let setup = Setup::app(free_address());
    let script = "seq 1 50000 & seq 1 50000 1>&2 & wait; kill -9 $$";
    let at = Instant::now();
    let mut process = run(directory.path(), &setup, &["sh", "-c", script]);
    assert_eq!(process.wait().code(), Some(137));
    println!("100,000 lines in {:?}", at.elapsed());
    let all = lines(directory.path());
    for stream in ["stdout", "stderr"] {
        let bodies =
            all.iter().filter(|line| line["log.iostream"] == stream).map(|line| line["body"].as_str());
        let bodies: Vec<&str> = bodies.map(Option::unwrap_or_default).collect();
        let want: Vec<String> = (1..=50_000).map(|number| number.to_string()).collect();
        assert!(bodies == want, "{stream}: {} lines", bodies.len());
    }
    // The lines passed through are whole, too.
    let printed = process.stdout();
    assert!(printed.lines().eq((1..=50_000).map(|number| number.to_string())), "printed otherwise");
}

#[test]
fn what_breaks_other_collectors_has_an_event_each() {
    let directory = tempfile::tempdir().unwrap();
    let setup = Setup::app(free_address()).section("app_output", "line_bytes_max: 1KiB\npass_through: never");
    let script = "head -c 10000000 /dev/zero | tr '\\0' x; echo; printf '\\000\\377\\n'; printf '\\033[31mred\\033[0m\\n'; printf 'no end'";
    let mut process = run(directory.path(), &setup, &["sh", "-c", script]);
    assert_eq!(process.wait().code(), Some(0));
    let all = lines(directory.path());
    let bodies: Vec<&Value> = all.iter().map(|line| &line["body"]).collect();
    assert_eq!(bodies[1..], [&json!("\0\u{fffd}"), &json!("red"), &json!("no end")]);
    assert_eq!(all[0]["body"].as_str().map(str::len), Some(1024));
    assert_eq!(all[0]["sidelight.truncated_bytes"], 10_000_000 - 1024);
    assert_eq!(all[1]["sidelight.encoding"], "binary");
    assert_eq!(process.stdout(), "");
}

#[test]
fn lines_and_events_are_never_in_one_stream() {
    let directory = tempfile::tempdir().unwrap();
    let base = format!(
        "service: {{ name: checkout, app: \"{}\" }}\ninbound: {{ address: \"127.0.0.1:0\" }}\noutbound: {{ address: none }}\n\
         admin: {{ address: none }}\ntelemetry: {{ address: none }}\npipeline: {{ sinks: {{ stdout: {{}} }} }}\n",
        free_address()
    );
    for (more, want) in [
        ("", (0, 1)),
        ("app_output: { pass_through: always }\n", (1, 1)),
        ("app_output: { pass_through: never }\n", (0, 1)),
        ("app_output: { collect: false, pass_through: never }\n", (0, 0)),
    ] {
        std::fs::write(directory.path().join("sidelight.yaml"), format!("{base}{more}")).unwrap();
        let command = ["run", "--config", "sidelight.yaml", "--", "sh", "-c", "echo the app speaks"];
        let (exit, out, errors) = Launch::run(directory.path(), &command);
        assert_eq!(exit, 0, "{errors}");
        let raw = |text: &str| text.lines().filter(|line| *line == "the app speaks").count();
        let events = out.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let events =
            events.filter(|event| event["schema"] == SCHEMA && event["body"] == "the app speaks").count();
        assert_eq!((raw(&errors), events), want, "{more}: {out}\n{errors}");
        let is_collected = !more.contains("collect: false");
        assert_eq!(raw(&out), usize::from(!is_collected), "{more}: {out}");
    }
}

#[test]
fn an_output_that_nobody_reads_holds_neither_the_application_nor_the_events_up() {
    let directory = tempfile::tempdir().unwrap();
    let setup = Setup::app(free_address()).section("app_output", "stall_max: 100ms");
    let yaml = setup.yaml(&directory.path().join("events.ndjson"));
    std::fs::write(directory.path().join("sidelight.yaml"), yaml).unwrap();
    let mut child = std::process::Command::new(e2e::binary())
        .args(["run", "--config", "sidelight.yaml", "--", "sh", "-c", "seq 1 100000; exit 5"])
        .current_dir(directory.path())
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let at = Instant::now();
    let exit = wait_for("the end of the application", || child.try_wait().unwrap());
    assert_eq!(exit.code(), Some(5));
    assert!(at.elapsed() < Duration::from_secs(8), "{:?}", at.elapsed());
    assert_eq!(lines(directory.path()).len(), 100_000);
}
