//! `docs/destinations.md`: the blocks that name something that speaks OTLP, Splunk's HEC, Zipkin's JSON or StatsD are run as they
//! stand, but for the host, the port and TLS, which are those of a stand-in; what arrives there is what the block promises.
//! Kafka, NATS, Kinesis, Fluent and S3 have tests of their own against the real thing.

use e2e::frames::{data, headers};
use e2e::{Http2Server, Intake, Launch, RawClient, Reply, Setup, StrictBackend, wait_for};
use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

const PAGE: &str = "../docs/destinations.md";
/// Metrics go each 15 seconds.
const INTERVAL_MAX: Duration = Duration::from_secs(30);
/// Files with a secret that blocks name, and what is in them.
const FILES: [(&str, &str); 3] = [
    ("honeycomb-headers", "x-honeycomb-team: KEY\n"),
    ("grafana-headers", "authorization: Basic aTp0\n"),
    ("splunk-token", "sesame\n"),
];

/// What stands in for a destination.
enum Place {
    Grpc(Http2Server),
    Http(Intake),
    Udp(UdpSocket),
}

impl Place {
    /// By what is written from its address on to the next one.
    fn start(key: &str, rest: &str) -> Place {
        match key {
            "address" => {
                let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
                socket.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
                Place::Udp(socket)
            }
            "endpoint" if !rest.contains("http_protobuf") => {
                Place::Grpc(Http2Server::answering(|peer, stream, _| {
                    let head = [(":status", "200"), ("content-type", "application/grpc")];
                    let end = [("grpc-status", "0")];
                    peer.send(
                        [
                            headers(stream, &head, false),
                            data(stream, [0; 5], false),
                            headers(stream, &end, true),
                        ]
                        .concat(),
                    );
                }))
            }
            "endpoint" => Place::Http(Intake::start(|_| Reply::ok("application/x-protobuf", b""))),
            _ => Place::Http(Intake::start(|request| match request.path() {
                "/services/collector/ack" => Reply::ok("application/json", r#"{"acks":{"0":true}}"#),
                _ => Reply::ok("application/json", r#"{"text":"Success","code":0,"ackId":0}"#),
            })),
        }
    }

    fn port(&self) -> u16 {
        match self {
            Place::Grpc(server) => server.address().port(),
            Place::Http(intake) => intake.address().port(),
            Place::Udp(socket) => socket.local_addr().expect("an address").port(),
        }
    }

    /// Waits for what arrives first: its path, and the fields that came with it.
    fn arrived(&self, line: &str) -> (String, String) {
        match self {
            Place::Grpc(server) => wait_for(line, || {
                let call = server.take().into_iter().next()?;
                assert!(call.body.len() > 5, "{line}: an empty message");
                Some((call.get(":path").unwrap_or_default().to_owned(), format!("{:?}", call.fields)))
            }),
            Place::Http(intake) => {
                let until = Instant::now() + INTERVAL_MAX;
                let post = loop {
                    match intake.posts().into_iter().next() {
                        Some(post) => break post.request,
                        None => assert!(Instant::now() < until, "nothing arrived for {line}"),
                    }
                    std::thread::sleep(Duration::from_millis(20));
                };
                assert!(!post.body.is_empty(), "{line}: nothing in it");
                (post.path().to_owned(), format!("{:?}", post.fields))
            }
            Place::Udp(socket) => {
                let mut space = [0; 4096];
                let len = socket.recv(&mut space).unwrap_or_else(|error| panic!("{line}: {error}"));
                (String::from_utf8_lossy(&space[..len]).into_owned(), String::new())
            }
        }
    }
}

/// Each block of the page, with the number of its first line.
fn blocks() -> Vec<(usize, String)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(PAGE);
    let page = std::fs::read_to_string(path).expect("the page");
    let mut blocks = Vec::new();
    let mut lines = page.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        if line == "```yaml" {
            let block = lines.by_ref().map(|(_, line)| line).take_while(|line| *line != "```");
            blocks.push((number + 2, block.collect::<Vec<_>>().join("\n")));
        }
    }
    blocks
}

/// Puts stand-ins where the block names a destination. Those that are meant for this test: see the module.
fn placed(block: &str) -> (String, Vec<(String, Place)>) {
    let (mut text, mut places) = (String::new(), Vec::new());
    let mut rest = block;
    let keys = ["endpoint: \"", "url: \"", "address: \""];
    let next = |rest: &str| {
        let found = keys.iter().filter_map(|key| rest.find(key).map(|at| (at, *key)));
        found.min_by_key(|(at, _)| *at)
    };
    while let Some((at, key)) = next(rest) {
        let start = at + key.len();
        let end = start + rest[start..].find('"').expect("a closing quote");
        let written = &rest[start..end];
        let until = next(&rest[end..]).map_or(rest.len(), |(at, _)| end + at);
        let place = Place::start(key.split(':').next().unwrap_or_default(), &rest[at..until]);
        text.push_str(&rest[..start]);
        match written.split_once("://") {
            // The path stays.
            Some((_, after)) => {
                let path = after.find('/').map_or("", |slash| &after[slash..]);
                text.push_str(&format!("http://127.0.0.1:{}{path}", place.port()));
            }
            None => text.push_str(&format!("127.0.0.1:{}", place.port())),
        }
        places.push((written.to_owned(), place));
        rest = &rest[end..];
    }
    text.push_str(rest);
    (text, places)
}

#[test]
fn what_the_page_says_is_what_arrives() {
    let app = StrictBackend::start();
    let (mut run, mut destinations) = (Vec::new(), 0);
    for (line, block) in blocks() {
        let is_meant = ["otlp:", "splunk:", "zipkin:", "statsd:"].iter().any(|kind| block.contains(kind));
        if !is_meant || !block.starts_with("pipeline:") {
            continue;
        }
        let directory = tempfile::tempdir().expect("a directory");
        for (name, content) in FILES {
            let path = directory.path().join(name);
            std::fs::write(&path, content).expect("a file");
            std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).expect("its mode");
        }
        let (text, places) = placed(&block);
        let base = Setup::app(app.address()).yaml(&directory.path().join("events.ndjson"));
        let base = base.split("pipeline:").next().expect("what comes before");
        std::fs::write(directory.path().join("sidelight.yaml"), format!("{base}{text}\n")).expect("a file");
        let process = Launch::start(directory.path(), &["run", "--config", "sidelight.yaml"]);
        process.wait_for_log("ready");
        let mut client = RawClient::connect(process.listener("inbound"));
        let request = "GET /orders HTTP/1.1\r\nHost: a\r\ntraceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n\r\n";
        for _ in 0..5 {
            assert_eq!(client.ask(request).expect("an answer").status, 200);
        }
        // What is no exchange is a log record.
        let change = "{\"level\": \"info\", \"reason\": \"a log record\"}";
        let change = format!(
            "POST /log-level HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{change}",
            change.len()
        );
        assert_eq!(RawClient::connect(process.listener("admin")).ask(change).expect("an answer").status, 200);
        destinations += places.len();
        run.push((line, block, process, places, directory));
    }
    assert!(run.len() >= 12 && destinations >= 14, "{} blocks, {destinations} destinations", run.len());
    for (line, block, _process, places, _directory) in &run {
        for (index, (written, place)) in places.iter().enumerate() {
            // Metrics alone come once in their interval.
            let is_slow = block.contains("metrics_interval: 60s") && block.contains("traces: false");
            if is_slow && index > 0 {
                continue;
            }
            let (path, fields) = place.arrived(&format!("{PAGE}:{line}: {written}"));
            let expected = match place {
                Place::Grpc(_) => "/opentelemetry.proto.collector.",
                Place::Udp(_) if block.contains("prefix: mesh.checkout") => "mesh.checkout.",
                Place::Udp(_) => "sidelight.",
                Place::Http(_) if block.contains("zipkin:") => "/api/v2/spans",
                Place::Http(_) if block.contains("splunk:") => "/services/collector",
                Place::Http(_) if written.ends_with("/api/v1/otlp") => "/api/v1/otlp/v1/metrics",
                Place::Http(_) if written.ends_with("/otlp") => "/otlp/v1/",
                Place::Http(_) => panic!("{written}: what is that?"),
            };
            assert!(path.starts_with(expected), "{PAGE}:{line}: {written}: {path}");
            for (file, name, value) in [
                ("honeycomb-headers", "x-honeycomb-team", "KEY"),
                ("grafana-headers", "authorization", "Basic aTp0"),
                ("splunk-token", "authorization", "Splunk sesame"),
            ] {
                let has = fields.to_lowercase().contains(name) && fields.contains(value);
                assert!(!block.contains(file) || has, "{PAGE}:{line}: {name} is missing: {fields}");
            }
        }
    }
}
