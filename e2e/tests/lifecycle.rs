//! From start to end: the app beside, readiness, draining, and everything that keeps the proxy from starting.

use e2e::frames::{Peer, request, request_with};
use e2e::{Fault, Launch, RawClient, Script, Setup, Sidelight, Step, StrictBackend, field, wait_for};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::time::{Duration, Instant};

/// An app that takes `delay` seconds to listen, answers everything with 204, and ends with 3 on SIGTERM.
const APP: &str = r#"
import http.server, signal, sys, time
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        self.send_response(204); self.end_headers()
    def log_message(self, *_): pass
def stop(*_):
    open("stopped", "w").close()
    sys.exit(3)
signal.signal(signal.SIGTERM, stop)
time.sleep(float(sys.argv[2]))
print("the app speaks", flush=True)
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"#;

/// An address that nobody uses now.
fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").expect("bind on loopback").local_addr().expect("bind on loopback")
}

fn configure(directory: &Path, setup: &Setup) {
    let yaml = setup.yaml(&directory.join("events.ndjson"));
    std::fs::write(directory.join("sidelight.yaml"), yaml).expect("a file");
}

fn run(directory: &Path, setup: &Setup, app: &[&str]) -> Launch {
    configure(directory, setup);
    Launch::start(directory, &[&["run", "--config", "sidelight.yaml", "--"], app].concat())
}

#[test]
fn it_is_ready_within_fifty_milliseconds() {
    let backend = StrictBackend::start();
    // The quickest of some: what else the machine does is no time of ours.
    let took = (0..5).map(|_| {
        let proxy = Sidelight::start(&Setup::app(backend.address()).workers(2));
        field(&proxy.wait_for_log("ready"), "start_ms").as_u64().unwrap()
    });
    let took = took.min().unwrap();
    assert!(took < 50, "{took} ms at best");
    println!("start to ready: {took} ms");
}

#[test]
fn the_exit_status_of_the_app_is_ours() {
    for (script, expected) in [("exit 7", 7), ("exit 0", 0), ("kill -9 $$", 137)] {
        let directory = tempfile::tempdir().unwrap();
        let setup = Setup::app(free_address());
        let mut process = run(directory.path(), &setup, &["sh", "-c", script]);
        assert_eq!(process.wait().code(), Some(expected), "{script}");
        assert_eq!(field(&process.wait_for_log("the application ended"), "status"), expected);
    }
}

#[test]
fn an_app_that_cannot_be_started_is_one_line() {
    let directory = tempfile::tempdir().unwrap();
    let mut process = run(directory.path(), &Setup::app(free_address()), &["./no-such-program"]);
    assert_eq!(process.wait().code(), Some(1));
    assert!(process.stderr().contains("no-such-program"), "{}", process.stderr());
}

#[test]
fn readiness_waits_for_the_app_and_signals_reach_it() {
    let directory = tempfile::tempdir().unwrap();
    let address = free_address();
    let port = address.port().to_string();
    let setup = Setup::app(address);
    let mut process = run(directory.path(), &setup, &["python3", "-S", "-c", APP, &port, "0.3"]);
    let (telemetry, inbound) = (process.listener("telemetry"), process.listener("inbound"));
    let ready = || RawClient::get(telemetry, "/ready").map(|answer| answer.status);
    assert_eq!(RawClient::get(telemetry, "/live").unwrap().status, 200);
    assert_eq!(ready().unwrap(), 503, "ready before the app");
    process.wait_for_log("ready");
    assert_eq!(ready().unwrap(), 200);
    assert_eq!(RawClient::get(inbound, "/").unwrap().status, 204);
    process.signal(libc::SIGTERM);
    assert_eq!(process.wait().code(), Some(3), "{}", process.stderr());
    assert!(directory.path().join("stopped").exists(), "the app was not asked to stop");
    assert!(process.stdout().contains("the app speaks"), "{}", process.stdout());
}

#[test]
fn the_app_is_stopped_with_us_also_when_it_ignores_the_signal() {
    let directory = tempfile::tempdir().unwrap();
    let setup = Setup::app(free_address()).section("limits", "drain_timeout: 600ms");
    let script = "trap '' TERM; echo $$ > pid; while :; do sleep 0.1; done";
    let mut process = run(directory.path(), &setup, &["sh", "-c", script]);
    let file = directory.path().join("pid");
    let pid: i32 = wait_for("the app", || std::fs::read_to_string(&file).ok()?.trim().parse().ok());
    process.signal(libc::SIGTERM);
    assert_eq!(process.wait().code(), Some(137), "{}", process.stderr());
    // SAFETY: `kill` takes no pointer; signal 0 only asks whether the process is there.
    wait_for("the app to be gone", || (unsafe { libc::kill(pid, 0) } != 0).then_some(()));
}

#[test]
fn sigterm_lets_exchanges_finish() {
    let backend = StrictBackend::start();
    let slow = Script(vec![
        Step::ReadBody,
        Step::Pause(Duration::from_millis(700)),
        Step::Send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nslow".to_vec()),
    ]);
    backend.script("/slow", slow);
    let mut proxy = Sidelight::start(&Setup::app(backend.address()));
    let (mut idle, mut busy) = (RawClient::connect(proxy.inbound()), RawClient::connect(proxy.inbound()));
    let mut streams = Peer::connect(proxy.inbound());
    assert_eq!(idle.ask("GET / HTTP/1.1\r\nHost: app.example\r\n\r\n").unwrap().status, 200);
    busy.send("GET /slow HTTP/1.1\r\nHost: app.example\r\n\r\n");
    streams.send(e2e::frames::headers(1, &request("GET", "/slow"), true));
    backend.take_after(3);
    proxy.signal(libc::SIGTERM);
    proxy.wait_for_log("draining");
    assert_eq!(RawClient::get(proxy.address("telemetry"), "/ready").unwrap().status, 503);
    assert_eq!(RawClient::get(proxy.address("telemetry"), "/live").unwrap().status, 200);
    assert!(idle.is_closed(), "an idle connection stays");
    // A client that does not know yet is served, once.
    let late =
        RawClient::connect(proxy.inbound()).ask("GET / HTTP/1.1\r\nHost: app.example\r\n\r\n").unwrap();
    assert_eq!((late.status, late.fields.get("connection")), (200, Some("close")));
    let answer = busy.read("GET", 1).unwrap();
    assert_eq!((answer.text().as_str(), answer.fields.get("connection")), ("slow", Some("close")));
    let answer = streams.finish(1).unwrap();
    assert_eq!(answer.text(), "slow", "{answer:?}, goaway {:?}", streams.goaway);
    streams.read_until(|_| false).unwrap();
    assert!(streams.goaway.is_some_and(|(_, code)| code == 0), "{:?}", streams.goaway);
    assert!(proxy.wait().success());
    assert_eq!(field(&proxy.wait_for_log("drained"), "cut"), 0);
    let events = proxy.events().exchanges();
    assert_eq!(events.len(), 4, "{events:#?}");
    assert!(events.iter().all(|event| event["http.response.status_code"] == 200));
}

#[test]
fn the_deadline_cuts_what_is_left_and_says_so() {
    let backend = StrictBackend::start();
    backend.script("/never", Script(vec![Step::ReadBody, Step::AwaitHangUp]));
    let mut proxy =
        Sidelight::start(&Setup::app(backend.address()).section("limits", "drain_timeout: 500ms"));
    let mut clients: Vec<RawClient> = (0..3).map(|_| RawClient::connect(proxy.inbound())).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        client
            .send(format!("GET /never HTTP/1.1\r\nHost: app.example\r\nx-request-id: cut-{number}\r\n\r\n"));
    }
    backend.take_after(3);
    let at = Instant::now();
    proxy.signal(libc::SIGTERM);
    assert!(proxy.wait().success());
    assert!(at.elapsed() < Duration::from_secs(3), "took {:?}", at.elapsed());
    assert_eq!(field(&proxy.wait_for_log("drained"), "cut"), 3);
    for client in &mut clients {
        let answer = client.read("GET", 1);
        let is_told = answer.as_ref().is_ok_and(|answer| answer.status == 503);
        assert!(is_told || matches!(answer, Err(Fault::Closed)), "{answer:?}");
    }
    for number in 0..3 {
        let event = proxy.events().of(&format!("cut-{number}"));
        assert_eq!(event["sidelight.cause"], "draining", "{event}");
    }
}

#[test]
fn a_second_signal_stops_at_once() {
    let backend = StrictBackend::start();
    backend.script("/never", Script(vec![Step::ReadBody, Step::AwaitHangUp]));
    let mut proxy = Sidelight::start(&Setup::app(backend.address()));
    let mut client = Peer::connect(proxy.inbound());
    client.send(e2e::frames::headers(1, &request_with("GET", "/never", &[("x-request-id", "cut")]), true));
    backend.take_after(1);
    proxy.signal(libc::SIGTERM);
    proxy.wait_for_log("draining");
    let at = Instant::now();
    proxy.signal(libc::SIGTERM);
    proxy.wait();
    assert!(at.elapsed() < Duration::from_secs(2), "took {:?}", at.elapsed());
    assert!(proxy.log().iter().any(|line| line.to_string().contains("at once")), "{:#?}", proxy.log());
}

#[test]
fn draining_can_be_asked_for_by_the_admin_api() {
    let backend = StrictBackend::start();
    let mut proxy = Sidelight::start(&Setup::app(backend.address()));
    let request = "POST /drain HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    let answer = RawClient::connect(proxy.address("admin")).ask(request).unwrap();
    assert!((200..300).contains(&answer.status), "{answer:?}");
    assert!(proxy.wait().success());
}

/// Starts with `yaml`; the exit status and what it said.
fn refused(yaml: &str) -> (i32, String) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    std::fs::write(directory.path().join("sidelight.yaml"), yaml).expect("a file");
    let (exit, _, errors) = Launch::run(directory.path(), &["run", "--config", "sidelight.yaml"]);
    (exit, errors)
}

const ALL_PORTS: &str =
    "outbound: { address: none }\nadmin: { address: none }\ntelemetry: { address: none }\n";

#[test]
fn a_port_in_use_is_one_line() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let text = format!(
        "service: {{ name: a, app: \"127.0.0.1:9\" }}\ninbound: {{ address: \"{address}\" }}\n{ALL_PORTS}"
    );
    let (exit, errors) = refused(&text);
    assert_eq!(exit, 1, "{errors}");
    let said: Vec<&str> = errors.lines().filter(|line| !line.starts_with('{')).collect();
    assert_eq!(said.len(), 1, "{errors}");
    assert!(said[0].contains(&address.to_string()), "{errors}");
    for listener in ["admin", "telemetry"] {
        let others = ALL_PORTS.replace(
            &format!("{listener}: {{ address: none }}"),
            &format!("{listener}: {{ address: \"{address}\" }}"),
        );
        let (exit, errors) = refused(&format!("inbound: {{ address: none }}\n{others}"));
        assert_eq!(exit, 1, "{listener}: {errors}");
        assert!(errors.contains(&address.to_string()), "{errors}");
    }
}

#[test]
fn what_cannot_be_configured_does_not_start() {
    let directory = tempfile::tempdir().unwrap();
    let (exit, _, errors) = Launch::run(directory.path(), &["run", "--config", "missing.yaml"]);
    assert_eq!((exit, errors.contains("missing.yaml")), (64, true), "{errors}");
    let tls = "inbound: { address: \"127.0.0.1:0\", tls: { certificate: missing.pem, key: missing.key } }\n";
    let (exit, errors) = refused(&format!("{tls}{ALL_PORTS}"));
    assert_eq!((exit, errors.contains("missing.pem")), (64, true), "{errors}");
    let (exit, errors) = refused("service: { nmae: a }");
    assert_eq!((exit, errors.contains("name")), (64, true), "{errors}");
    // A file that is there and is no certificate.
    let directory = tempfile::tempdir().unwrap();
    for name in ["cert.pem", "cert.key"] {
        std::fs::write(directory.path().join(name), "nothing").unwrap();
    }
    let tls = tls.replace("missing", "cert");
    std::fs::write(directory.path().join("sidelight.yaml"), format!("{tls}{ALL_PORTS}")).unwrap();
    let (exit, _, errors) = Launch::run(directory.path(), &["run", "--config", "sidelight.yaml"]);
    assert_eq!((exit, errors.contains("cert.pem")), (64, true), "{errors}");
}
