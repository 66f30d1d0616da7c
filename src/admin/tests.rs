//! The admin API over real sockets.

mod graph;

use super::*;
use crate::cluster::{self, Cluster, Target};
use crate::error::Kind;
use crate::exchange::{Record, Sink};
use crate::pipeline::{Config, Pipeline, WorkerSink};
use serde_json::json;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, UNIX_EPOCH};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

#[derive(Default)]
struct Fake {
    is_draining: AtomicBool,
    level: Mutex<String>,
}

impl Control for Arc<Fake> {
    fn snapshot(&self) -> Snapshot {
        let cluster = Cluster::plain("pay<ments>", &cluster::Config::default());
        cluster.update(&[Target::new("127.0.0.1:9".parse().unwrap())]);
        cluster.endpoints().endpoints[0]
            .load
            .observe(Duration::from_micros(2_500), crate::cluster::clock_ns(tokio::time::Instant::now()));
        cluster.mark_stale("SERVFAIL");
        Snapshot {
            revision: "r7".into(),
            loaded_at: UNIX_EPOCH,
            yaml: "service:\n  name: checkout\n".into(),
            json: Arc::new(json!({ "service": { "name": "checkout" } })),
            refused: Some(Refused { at: UNIX_EPOCH, reason: "3:1: unknown key <script>".into() }),
            clusters: vec![Arc::new(cluster)],
            checks: Default::default(),
            limits: Arc::default(),
            admissions: Vec::new(),
            overload: Arc::new(crate::resilience::overload::Overload::new(&Default::default())),
            routes: Arc::new(json!([{ "name": "gold" }])),
        }
    }

    fn drain(&self) -> bool {
        !self.is_draining.swap(true, Ordering::Relaxed)
    }

    fn explain(&self, question: &Value) -> Result<Value, String> {
        match question.get("url") {
            Some(url) => Ok(json!({ "url": url, "route": "gold" })),
            None => Err("no url".into()),
        }
    }

    fn recording(&self) -> Value {
        json!({ "is_on": true })
    }

    fn record(&self, given: &Value) -> Result<Value, String> {
        given.get("ttl").map(|ttl| json!({ "ttl": ttl })).ok_or_else(|| "say for how long".into())
    }

    fn stop_recording(&self, id: Option<&str>) -> usize {
        usize::from(id.is_none())
    }

    fn set_log_level(&self, level: &str) -> Result<(), String> {
        if level == "loud" {
            return Err("no such level".into());
        }
        *self.level.lock().unwrap() = level.into();
        Ok(())
    }
}

struct Proxy {
    fake: Arc<Fake>,
    state: Arc<State>,
    address: SocketAddr,
    events: tempfile::TempDir,
    pipeline: Option<Pipeline>,
    worker: WorkerSink,
}

async fn start(role: Role, token: Option<&str>) -> Proxy {
    let events = tempfile::tempdir().unwrap();
    let token_file = token.map(|token| {
        let file = events.path().join("token");
        std::fs::write(&file, token).unwrap();
        file
    });
    let sinks = serde_json::json!({ "file": { "path": events.path().join("events.ndjson") } });
    let sinks = serde_json::from_value(sinks).unwrap();
    let service = Service { name: "checkout".into(), ..Service::default() };
    let (pipeline, mut workers) = Pipeline::start(
        &Config { sinks, ..Config::default() },
        service.clone(),
        1,
        std::path::Path::new("."),
    )
    .unwrap();
    let fake = Arc::new(Fake::default());
    let state = Arc::new(State {
        service,
        control: Box::new(Arc::clone(&fake)),
        readiness: Readiness::new(),
        metrics: Arc::clone(pipeline.registry()),
        events: pipeline.emitter(),
        token_file,
    });
    let listener = bind(&Address::Tcp("127.0.0.1:0".parse().unwrap()), role).unwrap();
    let address = listener.address().unwrap();
    tokio::spawn(serve(listener, Arc::clone(&state)));
    Proxy { fake, state, address, events, pipeline: Some(pipeline), worker: workers.pop().unwrap() }
}

/// Status, head in lower case, content.
async fn exchange(mut stream: impl AsyncRead + AsyncWrite + Unpin, request: &[u8]) -> (u16, String, String) {
    stream.write_all(request).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, content) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, head.to_ascii_lowercase(), content.into())
}

impl Proxy {
    async fn raw(&self, request: &[u8]) -> (u16, String, String) {
        exchange(TcpStream::connect(self.address).await.unwrap(), request).await
    }

    async fn ask(&self, method: &str, path: &str, fields: &str, content: &str) -> (u16, String, String) {
        let length = content.len();
        let (fields, host) = match fields.contains("host:") {
            true => (fields.to_owned(), String::new()),
            false => (fields.to_owned(), format!("host: {}\r\n", self.address)),
        };
        let request =
            format!("{method} {path} HTTP/1.1\r\n{host}{fields}content-length: {length}\r\n\r\n{content}");
        self.raw(request.as_bytes()).await
    }

    async fn get(&self, path: &str) -> Value {
        let (status, head, content) = self.ask("GET", path, "", "").await;
        assert_eq!(status, 200, "{path}: {content}");
        assert!(head.contains("content-type: application/json"));
        serde_json::from_str(&content).unwrap()
    }

    /// What was put on record, once everything is written.
    fn audits(mut self) -> Vec<Value> {
        assert!(self.pipeline.take().unwrap().stop(Duration::from_secs(30)));
        let text = std::fs::read_to_string(self.events.path().join("events.ndjson")).unwrap();
        let events = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        events.filter(|event| event["schema"] == "sidelight/audit/1").collect()
    }
}

#[tokio::test]
async fn readiness_names_what_is_missing() {
    let proxy = start(Role::Telemetry, None).await;
    let dns = proxy.state.readiness.wait_for("cluster payments");
    let (status, _, content) = proxy.ask("GET", "/ready", "", "").await;
    assert_eq!(status, 503);
    assert_eq!(serde_json::from_str::<Value>(&content).unwrap()["pending"], json!(["cluster payments"]));
    assert_eq!(proxy.get("/live").await["live"], true);
    drop(dns);
    assert_eq!(proxy.get("/ready").await["ready"], true);
}

#[tokio::test]
async fn metrics_come_in_the_format_that_was_asked_for() {
    let proxy = start(Role::Telemetry, None).await;
    let (status, head, content) = proxy.ask("GET", "/metrics", "", "").await;
    assert_eq!(status, 200);
    assert!(head.contains("text/plain; version=0.0.4"));
    assert!(content.contains("\nsidelight_build_info{"));
    let (_, head, content) =
        proxy.ask("GET", "/metrics", "accept: application/openmetrics-text;version=1.0.0\r\n", "").await;
    assert!(head.contains("application/openmetrics-text"));
    assert!(content.ends_with("# EOF\n"));
    let (status, head, content) = proxy.ask("HEAD", "/metrics", "", "").await;
    assert_eq!((status, content.as_str()), (200, ""));
    assert!(!head.contains("content-length: 0"));
}

#[tokio::test]
async fn telemetry_is_read_only_and_can_be_scraped_by_name() {
    let proxy = start(Role::Telemetry, None).await;
    for path in ["/", "/config", "/clusters", "/graph", "/routes", "/drain"] {
        assert_eq!(proxy.ask("GET", path, "", "").await.0, 404, "{path}");
        assert_eq!(proxy.ask("POST", path, "", "").await.0, 404, "{path}");
    }
    assert_eq!(proxy.ask("GET", "/metrics", "host: checkout.shop.svc:15090\r\n", "").await.0, 200);
    assert!(!proxy.fake.is_draining.load(Ordering::Relaxed));
}

#[tokio::test]
async fn the_configuration_is_shown_as_json_or_yaml() {
    let proxy = start(Role::Admin, None).await;
    let config = proxy.get("/config").await;
    assert_eq!(config["revision"], "r7");
    assert_eq!(config["config"]["service"]["name"], "checkout");
    assert_eq!(config["last_reload_refused"]["reason"], "3:1: unknown key <script>");
    let (_, head, content) = proxy.ask("GET", "/config", "accept: application/yaml\r\n", "").await;
    assert!(head.contains("content-type: application/yaml"));
    assert_eq!(content, "# revision: r7\nservice:\n  name: checkout\n");
    assert_eq!(proxy.get("/routes").await[0]["name"], "gold");
    let clusters = proxy.get("/clusters").await;
    assert_eq!(clusters[0]["stale"], "SERVFAIL");
    assert_eq!(clusters[0]["policy"], "peak_ewma");
    assert_eq!(clusters[0]["endpoints"][0]["address"], "127.0.0.1:9");
    let latency_ms = clusters[0]["endpoints"][0]["latency_ms"].as_f64().unwrap();
    assert!((2.4..=2.5).contains(&latency_ms), "it fades from 2.5 ms on: {latency_ms}");
}

#[tokio::test]
async fn the_overview_is_a_page_for_browsers_and_shows_texts_as_texts() {
    let proxy = start(Role::Admin, None).await;
    let mut record: Box<Record> = proxy.worker.spare();
    record.cause = Some(Kind::ConnectFailed);
    proxy.worker.exchange(record);
    let overview = proxy.get("/").await;
    assert_eq!(overview["causes"][0]["cause"], "connect_failed");
    assert_eq!(overview["exchanges"], json!({ "active": 0, "ended": 1 }));
    assert_eq!(overview["paths"]["/drain"]["method"], "POST");
    let (status, head, content) =
        proxy.ask("GET", "/", "accept: text/html,application/xhtml+xml;q=0.9\r\n", "").await;
    assert_eq!(status, 200);
    assert!(head.contains("content-type: text/html") && head.contains("default-src 'none'"));
    for shown in [
        "checkout",
        "r7",
        "pay&lt;ments&gt;",
        "unknown key &lt;script&gt;",
        "connect_failed",
        "127.0.0.1:9",
        "2.5 ms",
    ] {
        assert!(content.contains(shown), "{shown}");
    }
    assert!(!content.contains("<script") && !content.contains("http://") && !content.contains("https://"));
}

#[tokio::test]
async fn explain_and_log_level_reach_the_control() {
    let proxy = start(Role::Admin, None).await;
    let (status, _, content) = proxy.ask("POST", "/explain", "", r#"{"method":"GET","url":"/a"}"#).await;
    assert_eq!(
        (status, serde_json::from_str::<Value>(&content).unwrap()["route"].clone()),
        (200, json!("gold"))
    );
    for wrong in ["{}", "[]", "", "{"] {
        assert_eq!(proxy.ask("POST", "/explain", "", wrong).await.0, 400, "{wrong}");
    }
    for (content, status) in
        [("debug", 200), (r#"{"level":"trace"}"#, 200), ("", 400), ("loud", 400), ("{", 400)]
    {
        assert_eq!(proxy.ask("POST", "/log-level", "", content).await.0, status, "{content}");
    }
    assert_eq!(*proxy.fake.level.lock().unwrap(), "trace");
}

#[tokio::test]
async fn changes_need_the_token_and_are_put_on_record() {
    let proxy = start(Role::Admin, Some("s3cret\n")).await;
    for fields in [
        "",
        "authorization: Bearer wrong\r\n",
        "authorization: Basic s3cret\r\n",
        "authorization: Bearer \r\n",
    ] {
        let (status, head, _) = proxy.ask("POST", "/drain", fields, "").await;
        assert_eq!(status, 401);
        assert!(head.contains("www-authenticate: bearer"));
    }
    assert!(!proxy.fake.is_draining.load(Ordering::Relaxed));
    let given = r#"{"by":"ops","reason":"upgrade"}"#;
    let (status, _, content) = proxy.ask("POST", "/drain", "authorization: Bearer s3cret\r\n", given).await;
    assert_eq!(status, 200, "{content}");
    assert!(proxy.fake.is_draining.load(Ordering::Relaxed));
    assert_eq!(proxy.ask("GET", "/config", "", "").await.0, 200, "reading needs no token");
    let audits = proxy.audits();
    assert_eq!(audits.len(), 5);
    assert_eq!(audits[0]["sidelight.audit.result"], "denied");
    assert_eq!(audits[4]["sidelight.audit.result"], "done");
    assert_eq!(
        (&audits[4]["sidelight.audit.by"], &audits[4]["sidelight.audit.reason"]),
        (&json!("ops"), &json!("upgrade"))
    );
}

#[tokio::test]
async fn another_sites_page_can_neither_read_nor_change() {
    let proxy = start(Role::Admin, None).await;
    assert_eq!(proxy.ask("GET", "/config", "host: rebound.example:15000\r\n", "").await.0, 403);
    assert_eq!(proxy.ask("POST", "/drain", "origin: http://evil.example\r\n", "").await.0, 403);
    assert_eq!(proxy.ask("POST", "/drain", "origin: null\r\n", "").await.0, 403);
    assert!(!proxy.fake.is_draining.load(Ordering::Relaxed));
    let own = format!("origin: http://{}\r\n", proxy.address);
    assert_eq!(proxy.ask("POST", "/drain", &own, "").await.0, 200);
}

#[tokio::test]
async fn wrong_paths_and_methods_are_told_the_right_ones() {
    let proxy = start(Role::Admin, None).await;
    let (status, _, content) = proxy.ask("GET", "/nope", "", "").await;
    assert_eq!(status, 404);
    let paths = serde_json::from_str::<Value>(&content).unwrap()["paths"].clone();
    assert!(paths.as_array().unwrap().contains(&json!("/clusters")));
    let (status, head, _) = proxy.ask("GET", "/drain", "", "").await;
    assert_eq!(status, 405);
    assert!(head.contains("allow: post"));
    let (status, head, _) = proxy.ask("DELETE", "/config", "", "").await;
    assert_eq!(status, 405);
    assert!(head.contains("allow: get, head"));
}

#[tokio::test]
async fn what_is_broken_or_too_large_is_refused() {
    let proxy = start(Role::Admin, None).await;
    assert_eq!(proxy.raw(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03").await.0, 400);
    let long = format!("GET / HTTP/1.1\r\nhost: localhost\r\nx: {}\r\n\r\n", "a".repeat(20_000));
    assert_eq!(proxy.raw(long.as_bytes()).await.0, 431);
    let large = "a".repeat(70_000);
    assert_eq!(proxy.ask("POST", "/explain", "", &large).await.0, 413);
}

/// With the clock paused, the server's timeouts pass as soon as nothing else can happen.
#[tokio::test(start_paused = true)]
async fn a_caller_that_stalls_is_cut_off() {
    let proxy = start(Role::Admin, None).await;
    assert_eq!(proxy.raw(b"GET / HTTP/1.1\r\nhost: localhost\r\n").await.0, 408);
    let head = b"POST /explain HTTP/1.1\r\nhost: localhost\r\ncontent-length: 10\r\n\r\n{";
    assert_eq!(proxy.raw(head).await.0, 408);
}

#[tokio::test]
async fn the_sixty_fifth_connection_is_refused_and_places_come_back() {
    let proxy = start(Role::Admin, None).await;
    let mut held = Vec::new();
    for _ in 0..64 {
        held.push(TcpStream::connect(proxy.address).await.unwrap());
    }
    let (status, ..) = exchange(TcpStream::connect(proxy.address).await.unwrap(), b"").await;
    assert_eq!(status, 503);
    drop(held);
    // The server learns of the closed connections one by one.
    for _ in 0..10_000 {
        let mut stream = TcpStream::connect(proxy.address).await.unwrap();
        let _ = stream.write_all(b"GET /live HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        if answer.starts_with(b"HTTP/1.1 200") {
            return;
        }
    }
    panic!("the places never came back");
}

#[tokio::test]
async fn a_unix_socket_serves_replaces_a_dead_one_and_is_removed() {
    let proxy = start(Role::Admin, None).await;
    let path = proxy.events.path().join("admin.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists(), "a dead socket's file is left behind");
    let address: Address = format!("unix:{}", path.display()).parse().unwrap();
    let server = tokio::spawn(serve(bind(&address, Role::Admin).unwrap(), Arc::clone(&proxy.state)));
    let stream = UnixStream::connect(&path).await.unwrap();
    let (status, ..) = exchange(stream, b"GET /config HTTP/1.1\r\nhost: any.name\r\n\r\n").await;
    assert_eq!(status, 200);
    assert!(bind(&address, Role::Admin).is_err(), "a socket in use is not taken over");
    server.abort();
    assert!(server.await.unwrap_err().is_cancelled());
    assert!(!path.exists());
}

#[tokio::test]
async fn the_admin_api_is_never_offered_to_others() {
    for (text, is_local) in [
        ("127.0.0.1:15000", true),
        ("[::1]:15000", true),
        ("127.8.8.8:1", true),
        ("0.0.0.0:15000", false),
        ("10.0.0.1:15000", false),
        ("[::]:15000", false),
    ] {
        let address: Address = text.parse().unwrap();
        assert_eq!(address.is_local(), is_local, "{text}");
        if !is_local {
            assert!(bind(&address, Role::Admin).is_err(), "{text}");
        }
    }
    assert_eq!("unix:/run/a.sock".parse(), Ok(Address::Unix(Path::new("/run/a.sock").into())));
    assert!("unix:a.sock".parse::<Address>().is_err());
    assert!("localhost:15000".parse::<Address>().is_err());
}
