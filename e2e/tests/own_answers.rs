//! The proxy's own answers: for every kind of error that can be provoked from outside, the answer's status, its
//! `Proxy-Status` (RFC 9209), its problem document (RFC 9457), the event and the metric name the same cause.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use e2e::{RawClient, Script, Setup, Sidelight, Step, StrictBackend, get, post, wait_for};
use serde_json::Value;

const OK_HEAD: &str = "HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n";

/// What is said of one kind of error.
struct Said {
    cause: &'static str,
    status: u16,
    token: &'static str,
    flag: &'static str,
}

const fn said(cause: &'static str, status: u16, token: &'static str, flag: &'static str) -> Said {
    Said { cause, status, token, flag }
}

/// Asks, then compares all four voices.
fn expect(proxy: &Sidelight, address: SocketAddr, request: impl AsRef<[u8]>, said: &Said) {
    let answer =
        RawClient::connect(address).ask(request).unwrap_or_else(|fault| panic!("{}: {fault}", said.cause));
    assert_eq!(answer.status, said.status, "{}: {}", said.cause, answer.text());
    let header = answer.fields.get("proxy-status").unwrap_or_default();
    let right = format!("sidelight; error={}", said.token);
    assert!(
        header.starts_with(&right) && header.contains(said.cause),
        "{}: Proxy-Status {header}",
        said.cause
    );
    let kind = answer.fields.get("content-type");
    assert_eq!(kind, Some("application/problem+json"), "{}", said.cause);
    let problem: Value = serde_json::from_slice(&answer.body).expect("a problem document");
    let names_it = problem["type"].as_str().is_some_and(|kind| kind.ends_with(said.cause));
    assert!(names_it && problem["status"] == said.status, "{}: {problem}", said.cause);
    let id = answer.fields.get("x-request-id").unwrap_or_default();
    heard(proxy, id, said);
}

/// The event of the exchange with this request id, and the metric, name the cause.
fn heard(proxy: &Sidelight, id: &str, said: &Said) {
    let event = proxy.events().of(id);
    assert_eq!(event["sidelight.cause"], said.cause, "{event}");
    assert_eq!(event["http.response.status_code"], said.status, "{event}");
    if !said.flag.is_empty() {
        assert_eq!(event["sidelight.response_flags"], said.flag, "{event}");
    }
    let label = format!("=\"{}\"", said.cause);
    wait_for(&format!("{label} in the metrics"), || {
        let metrics = RawClient::get(proxy.address("telemetry"), "/metrics").expect("metrics");
        metrics.text().contains(&label).then_some(())
    });
}

#[test]
fn what_is_wrong_with_a_request() {
    let backend = StrictBackend::start();
    let limits = "header_timeout: 300ms\nrequest_body_bytes_max: 1KiB";
    let proxy = Sidelight::start(&Setup::app(backend.address()).section("limits", limits));
    let large = "x".repeat(70 << 10);
    let rows = [
        (get("/c", "X : a\r\n"), said("malformed_request", 400, "http_request_error", "DPE")),
        (get("/%00", ""), said("request_refused", 400, "http_request_denied", "DPE")),
        (
            get("/c", "Connection: x-account-id\r\n"),
            said("protected_field_nominated", 400, "http_request_denied", "DPE"),
        ),
        (
            get("/c", &format!("X: {large}\r\n")),
            said("request_head_too_large", 431, "http_request_error", "DPE"),
        ),
        (get(&format!("/{large}"), ""), said("target_too_long", 414, "http_request_error", "DPE")),
        (
            post("Content-Length: 2000\r\n", &"x".repeat(2000)),
            said("request_body_too_large", 413, "http_request_error", "DPE"),
        ),
        ("GET /c HTTP/1.1\r\n".to_owned(), said("header_timeout", 408, "http_request_error", "DT")),
        (get("/c", "Expect: 200-ok\r\n"), said("expectation_failed", 417, "http_request_error", "DPE")),
        (
            "CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n".to_owned(),
            said("method_refused", 405, "http_request_denied", "DPE"),
        ),
        (
            post("Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n"),
            said("not_implemented", 501, "http_request_error", "DPE"),
        ),
        (
            "GET /c HTTP/2.0\r\nHost: a\r\n\r\n".to_owned(),
            said("version_not_supported", 505, "http_request_error", "DPE"),
        ),
    ];
    for (request, said) in &rows {
        expect(&proxy, proxy.inbound(), request, said);
    }
    assert_eq!(backend.take().whole.len(), 0, "something reached the app");
    assert_eq!(proxy.stop().len(), rows.len());
}

#[test]
fn what_is_wrong_with_the_way() {
    let backend = StrictBackend::start();
    let down = TcpListener::bind("127.0.0.1:0").expect("bind").local_addr().expect("address");
    let full = FullListener::new();
    let clusters = format!(
        "down: {{ endpoints: [\"{down}\"] }}\nfull: {{ endpoints: [\"{}\"], connect_timeout: 200ms }}\n\
         app: {{ endpoints: [\"{}\"], protocol: http1 }}",
        full.address,
        backend.address()
    );
    let routes = "routes:\n\
                  \x20 - { name: late, match: { host: late }, cluster: app, timeout: { request: 200ms } }\n\
                  \x20 - { name: try, match: { host: try }, cluster: app, timeout: { per_try: 200ms }, retry: { limit: 0 } }";
    let setup = Setup::bare().section("clusters", &clusters).section("outbound", routes);
    let proxy = Sidelight::start(&setup);
    let to = |host: &str, path: &str| format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n");
    let script = |path: &str, steps: Vec<Step>| backend.script(path, Script(steps));
    script("/silent", vec![Step::ReadBody, Step::AwaitHangUp]);
    script("/closes", vec![Step::ReadBody, Step::Close]);
    script("/garbage", vec![Step::ReadBody, Step::Send("hello\r\n\r\n".into()), Step::Close]);
    let large = format!("{OK_HEAD}X: {}\r\n\r\n", "x".repeat(100 << 10));
    script("/large", vec![Step::ReadBody, Step::Send(large.into()), Step::Close]);
    let switch = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n";
    script("/switches", vec![Step::ReadBody, Step::Send(switch.into()), Step::Close]);
    let rows = [
        (to("nobody.example", "/"), said("route_not_found", 404, "destination_not_found", "NR")),
        (to("down", "/"), said("connect_failed", 502, "connection_refused", "UF")),
        (to("full", "/"), said("connect_timeout", 504, "connection_timeout", "UF")),
        (to("late", "/silent"), said("request_timeout", 504, "http_response_timeout", "UT")),
        (to("try", "/silent"), said("per_try_timeout", 504, "http_response_timeout", "UT")),
        (to("app", "/closes"), said("upstream_closed", 502, "connection_terminated", "UC")),
        (to("app", "/garbage"), said("upstream_protocol", 502, "http_protocol_error", "UPE")),
        (
            to("app", "/large"),
            said("response_head_too_large", 502, "http_response_header_section_size", "UPE"),
        ),
        (to("app", "/switches"), said("upgrade_failed", 502, "http_upgrade_failed", "UPE")),
    ];
    for (request, said) in &rows {
        expect(&proxy, proxy.outbound(), request, said);
    }
    let answer = RawClient::connect(proxy.outbound()).ask(to("app", "/fine")).expect("an answer");
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(proxy.stop().len(), rows.len() + 1);
}

/// A name that is nearly right is told in the event, not to the client.
#[test]
fn an_unknown_host_has_its_nearest_names_in_the_event() {
    let setup = Setup::bare().section("clusters", "payments: { endpoints: [\"127.0.0.1:9\"] }");
    let proxy = Sidelight::start(&setup);
    let request = "GET / HTTP/1.1\r\nHost: paymenst\r\nx-request-id: typo\r\n\r\n";
    let answer = RawClient::connect(proxy.outbound()).ask(request).expect("an answer");
    assert_eq!(answer.status, 404);
    let event = proxy.events().of("typo");
    assert!(event.to_string().contains("payments"), "{event}");
    assert!(!answer.text().contains("payments"), "{}", answer.text());
}

/// After the head the status is said; the cause is in the event alone.
#[test]
fn what_goes_wrong_within_an_answer() {
    let backend = StrictBackend::start();
    let proxy = Sidelight::start(&Setup::app(backend.address()).section("limits", "body_timeout: 300ms"));
    let part = format!("{OK_HEAD}Content-Length: 100\r\n\r\nhello");
    let rows = [
        (
            "cut",
            vec![
                Step::ReadBody,
                Step::Send(part.clone().into()),
                Step::Pause(Duration::from_millis(20)),
                Step::Close,
            ],
            "response_incomplete",
        ),
        (
            "stalled",
            vec![Step::ReadBody, Step::Send(part.into()), Step::AwaitHangUp],
            "response_body_timeout",
        ),
    ];
    for (name, steps, cause) in rows {
        backend.script("/c", Script(steps));
        let answer = RawClient::connect(proxy.inbound()).ask(get("/c", &format!("x-request-id: {name}\r\n")));
        assert!(answer.is_err(), "{name}: {answer:?}");
        heard(&proxy, name, &said(cause, 200, "", ""));
    }
    assert_eq!(proxy.stop().len(), 2);
}

/// More at once than the endpoint's limits allow.
#[test]
fn an_endpoint_at_its_limit() {
    let backend = StrictBackend::start();
    backend.script("/held", Script(vec![Step::ReadBody, Step::AwaitHangUp]));
    let limits = "connections_per_endpoint_max: 1\nhalf_close_grace: 1ms";
    let proxy = Sidelight::start(&Setup::app(backend.address()).section("limits", limits));
    let mut holder = RawClient::connect(proxy.inbound());
    holder.send(get("/held", ""));
    backend.take_after(1);
    expect(&proxy, proxy.inbound(), get("/c", ""), &said("overflow", 503, "connection_limit_reached", "UO"));
    holder.reset();
    backend.wait_for_hang_up(1);
    wait_for("the place to be free again", || {
        let answer = RawClient::connect(proxy.inbound()).ask(get("/c", "")).ok()?;
        (answer.status == 200).then_some(())
    });
}

/// A listener whose backlog is full: the kernel answers no further SYN.
struct FullListener {
    address: SocketAddr,
    _listener: TcpListener,
    _waiting: Vec<TcpStream>,
}

impl FullListener {
    fn new() -> Self {
        use std::os::fd::AsRawFd;
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let address = listener.local_addr().expect("address");
        // SAFETY: the descriptor is open; `listen` on a listening socket changes its backlog and takes no pointer.
        assert_eq!(unsafe { libc::listen(listener.as_raw_fd(), 0) }, 0);
        let mut waiting = Vec::new();
        wait_for("the backlog to be full", || {
            match TcpStream::connect_timeout(&address, Duration::from_millis(100)) {
                Ok(stream) => waiting.push(stream),
                Err(_) => return Some(()),
            }
            None
        });
        FullListener { address, _listener: listener, _waiting: waiting }
    }
}
