//! Recording on the binary: what passes is in the files, the books agree, processes that are killed leave nothing that
//! cannot be read, and what was recorded can be sent again.

use e2e::{RawClient, Script, Setup, Sidelight, Step, StrictBackend, wait_for};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

fn ask(client: &mut RawClient, id: &str, account: &str) {
    let request = format!(
        "POST /{id}?token=s3cretT0ken HTTP/1.1\r\nHost: shop.example\r\nX-Request-Id: {id}\r\nX-Account-Id: {account}\r\n\
         Authorization: Bearer 0123456789abcdef\r\nContent-Type: application/json\r\nContent-Length: 30\r\n\r\n\
         {{\"name\":\"x\",\"password\":\"pppp\"}}"
    );
    assert_eq!(client.ask(request).expect("an answer").status, 200);
}

fn sidelight(arguments: &[&str]) -> Output {
    Command::new(e2e::binary()).args(arguments).output().expect("the binary runs")
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

/// The entries of a recording, as `recording ls` tells them.
fn entries(recording: &Path) -> Vec<Value> {
    let listed = sidelight(&["recording", "ls", text(recording), "--entries", "--format", "json"]);
    let lines = String::from_utf8_lossy(&listed.stdout).into_owned();
    lines.lines().map(|line| serde_json::from_str(line).expect("JSON lines")).collect()
}

fn verified(recording: &Path) -> Value {
    let told = sidelight(&["recording", "verify", text(recording), "--format", "json"]);
    serde_json::from_slice(&told.stdout)
        .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&told.stderr)))
}

/// A directory that outlives the proxy, and the section that names it.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Place {
        Place(tempfile::tempdir().expect("a directory"))
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("recording")
    }

    fn lines(&self) -> String {
        format!("directory: {:?}", self.path())
    }
}

fn books(proxy: &Sidelight) -> Value {
    let shown: Value = serde_json::from_str(&proxy.admin("/recording").text()).expect("JSON");
    shown["books"].clone()
}

/// Waits until so many were seen and nothing is under way; the books.
fn settled(proxy: &Sidelight, seen: u64) -> Value {
    let is_settled = |books: &Value| books["pending"] == 0 && books["seen"] == seen;
    wait_for("the recorder to be done", || Some(books(proxy)).filter(is_settled))
}

fn change(proxy: &Sidelight, method: &str, content: &str) -> u16 {
    let request = format!(
        "{method} /recording HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{content}",
        content.len()
    );
    RawClient::connect(proxy.address("admin")).ask(request).expect("an answer").status
}

#[test]
fn every_exchange_is_recorded_once_and_no_secret_is() {
    let (backend, place) = (StrictBackend::start(), Place::new());
    let proxy = Sidelight::start(&Setup::app(backend.address()).section("recording", &place.lines()));
    let mut client = RawClient::connect(proxy.inbound());
    for number in 0..200 {
        ask(&mut client, &format!("r{number}"), "acme");
    }
    let counted = settled(&proxy, 200);
    assert_eq!((&counted["seen"], &counted["recorded"]), (&200.into(), &200.into()), "{counted}");
    assert_eq!(proxy.metric("sidelight_recording_exchanges_total{result=\"recorded\"}"), Some(200.0));
    let events = proxy.events().wait(200);
    assert!(events.iter().all(|event| event["sidelight.recorded"] == true), "{}", events[0]);
    let directory = place.path();
    proxy.stop();
    let found = entries(&directory);
    let ids: Vec<String> =
        found.iter().map(|entry| entry["request_id"].as_str().unwrap_or("").into()).collect();
    assert_eq!(ids, (0..200).map(|number| format!("r{number}")).collect::<Vec<_>>());
    let sequences: Vec<u64> = found.iter().filter_map(|entry| entry["sequence"].as_u64()).collect();
    assert_eq!(sequences, (1..=200).collect::<Vec<_>>());
    let first = &found[0];
    assert_eq!((&first["account_id"], &first["status"]), (&"acme".into(), &200.into()));
    assert_eq!((&first["request_bytes"], &first["authority"]), (&30.into(), &"shop.example".into()));
    let verdict = verified(&directory);
    assert_eq!(
        (&verdict["is_whole"], &verdict["books"]["recorded"]),
        (&true.into(), &200.into()),
        "{verdict}"
    );
    let shown = sidelight(&["recording", "show", text(&directory), "1"]);
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    for secret in ["s3cretT0ken", "0123456789abcdef", "pppp"] {
        assert!(!shown.contains(secret), "{shown}");
    }
    assert!(shown.contains("Bearer ") && shown.contains("\"password\""), "{shown}");
}

#[test]
fn nothing_is_recorded_without_a_directory_and_a_demand_holds_for_its_time() {
    let (backend, place) = (StrictBackend::start(), Place::new());
    let proxy = Sidelight::start(&Setup::app(backend.address()));
    assert_eq!(change(&proxy, "PUT", "{\"ttl\": \"1m\"}"), 400, "there is nowhere to write to");
    let lines = format!("{}\nenabled: false", place.lines());
    let proxy = Sidelight::start(&Setup::app(backend.address()).section("recording", &lines));
    let mut client = RawClient::connect(proxy.inbound());
    ask(&mut client, "before", "acme");
    assert_eq!(change(&proxy, "PUT", "{\"match\": {\"accounts\": [\"acme\"]}}"), 400, "for how long?");
    assert_eq!(change(&proxy, "PUT", "{\"ttl\": \"1m\", \"match\": {\"statuses\": [\"9xx\"]}}"), 400);
    let demand =
        "{\"ttl\": \"1m\", \"match\": {\"accounts\": [\"acme\"]}, \"by\": \"ann\", \"reason\": \"4711\"}";
    assert_eq!(change(&proxy, "PUT", demand), 200);
    ask(&mut client, "during", "acme");
    ask(&mut client, "other", "bolt");
    assert_eq!(change(&proxy, "DELETE", ""), 200);
    ask(&mut client, "after", "acme");
    let counted = settled(&proxy, 2);
    assert_eq!(
        (&counted["seen"], &counted["recorded"], &counted["filtered"]),
        (&2.into(), &1.into(), &1.into())
    );
    let audits = proxy.events().all("sidelight/audit/1");
    assert!(audits.iter().any(|event| event["sidelight.audit.by"] == "ann"), "{audits:?}");
    let directory = place.path();
    proxy.stop();
    let found = entries(&directory);
    assert_eq!(found.iter().map(|entry| &entry["request_id"]).collect::<Vec<_>>(), ["during"]);
}

#[test]
fn a_reload_changes_what_is_recorded_and_routes_have_a_say() {
    let (backend, place) = (StrictBackend::start(), Place::new());
    let base = Setup::app(backend.address()).section(
        "inbound",
        "routes:\n- { name: health, match: { path: { prefix: /health } }, record: { enabled: false } }\n- { name: rest, record: { body_limit: 10 } }",
    );
    let proxy = Sidelight::start(&base);
    let mut client = RawClient::connect(proxy.inbound());
    ask(&mut client, "unseen", "acme");
    proxy.rewrite(&base.clone().section("recording", &place.lines()));
    wait_for("the recording", || {
        let shown: Value = serde_json::from_str(&proxy.admin("/recording").text()).ok()?;
        (shown["is_on"] == true).then_some(())
    });
    ask(&mut client, "health", "acme");
    ask(&mut client, "seen", "acme");
    let counted = settled(&proxy, 2);
    assert_eq!(
        (&counted["seen"], &counted["recorded"], &counted["filtered"]),
        (&2.into(), &1.into(), &1.into())
    );
    let directory = place.path();
    proxy.stop();
    let found = entries(&directory);
    assert_eq!(found.len(), 1);
    assert_eq!((&found[0]["request_id"], &found[0]["is_truncated"]), (&"seen".into(), &true.into()));
    assert_eq!(found[0]["request_bytes"], 30, "its whole length is known");
}

/// Kills the process so often, at random moments, while it is asked.
fn killed(rounds: usize) {
    let (backend, place) = (StrictBackend::start(), Place::new());
    let lines = format!("{}\nsegment_bytes_max: 256KiB", place.lines());
    let setup = Setup::app(backend.address()).section("recording", &lines);
    let mut proxy = Sidelight::start(&setup);
    let (mut old, mut die) = (0, 88_172_645_463_325_252_u64);
    for round in 0..rounds {
        die ^= die << 13;
        die ^= die >> 7;
        die ^= die << 17;
        let until = Instant::now() + Duration::from_millis(20 + die % 280);
        let mut client = RawClient::connect(proxy.inbound());
        let mut answered = Vec::new();
        let mut number = 0;
        while Instant::now() < until {
            ask(&mut client, &format!("r{round}-{number}"), "acme");
            answered.push(Instant::now());
            number += 1;
        }
        let killed_at = Instant::now();
        proxy.kill();
        let is_old = |at: &&Instant| killed_at.duration_since(**at) > Duration::from_millis(100);
        let must_be_there = answered.iter().filter(is_old).count();
        old += must_be_there;
        let there: Vec<String> = entries(&place.path())
            .iter()
            .filter_map(|entry| entry["request_id"].as_str().map(str::to_owned))
            .filter(|id| id.starts_with(&format!("r{round}-")))
            .collect();
        let in_order: Vec<String> = (0..there.len()).map(|number| format!("r{round}-{number}")).collect();
        assert_eq!(there, in_order, "round {round}: each once, without a gap");
        assert!(there.len() >= must_be_there, "round {round}: {} of {must_be_there}", there.len());
        proxy.start_again();
    }
    assert!(old > rounds, "there was traffic");
    let directory = place.path();
    proxy.stop();
    let told = sidelight(&["recording", "ls", text(&directory), "--format", "json"]);
    assert!(told.status.success(), "every segment can be read: {}", String::from_utf8_lossy(&told.stderr));
}

#[test]
fn a_process_that_is_killed_leaves_segments_that_can_be_read() {
    killed(std::env::var("KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(12));
}

#[test]
fn an_account_whose_key_is_deleted_is_forgotten_and_the_others_are_not() {
    let (backend, place) = (StrictBackend::start(), Place::new());
    let keys = place.0.path().join("keys");
    // A status may be a number.
    let lines =
        format!("{}\nencrypt: {{ keys: {keys:?} }}\nmatch: {{ statuses: [200, 5xx] }}", place.lines());
    let proxy = Sidelight::start(&Setup::app(backend.address()).section("recording", &lines));
    let mut client = RawClient::connect(proxy.inbound());
    ask(&mut client, "a1", "acme");
    settled(&proxy, 1);
    let files = || -> Vec<PathBuf> {
        let found = std::fs::read_dir(&keys).expect("the keys").map(|file| file.expect("a file").path());
        found.filter(|path| path.extension().is_none()).collect()
    };
    let before = wait_for("the key of acme", || Some(files()).filter(|files| files.len() > 1));
    ask(&mut client, "b1", "bolt");
    settled(&proxy, 2);
    let of_bolt: Vec<PathBuf> = files().into_iter().filter(|file| !before.contains(file)).collect();
    proxy.stop();
    let (recording, keys) = (place.path(), text(&keys).to_owned());
    assert_eq!(entries(&recording).len(), 0, "nothing can be read without keys");
    let list = |more: &[&str]| {
        let told =
            sidelight(&[&["recording", "ls", text(&recording), "--entries", "--keys", &keys], more].concat());
        String::from_utf8_lossy(&told.stdout).into_owned()
    };
    assert!(list(&[]).contains("/a1?") && list(&[]).contains("/b1?"), "{}", list(&[]));
    assert!(list(&["--account", "bolt"]).contains("/b1?") && !list(&["--account", "bolt"]).contains("/a1?"));
    let shown = sidelight(&["recording", "show", text(&recording), "b1", "--keys", &keys]);
    assert!(shown.status.success() && String::from_utf8_lossy(&shown.stdout).contains("shop.example"));
    let exported = sidelight(&["recording", "export", text(&recording), "--as", "curl", "--keys", &keys]);
    assert_eq!(String::from_utf8_lossy(&exported.stdout).matches("curl").count(), 2);
    assert_eq!(of_bolt.len(), 1);
    std::fs::remove_file(&of_bolt[0]).expect("delete the key");
    assert!(list(&[]).contains("/a1?") && !list(&[]).contains("/b1?"), "{}", list(&[]));
    let told = sidelight(&["recording", "verify", text(&recording), "--keys", &keys, "--format", "json"]);
    let found: Value = serde_json::from_slice(&told.stdout).expect("JSON");
    let counts = (&found["is_whole"], &found["entries"], &found["sealed_entries"]);
    assert_eq!(counts, (&true.into(), &1.into(), &1.into()), "{found}");
}

#[test]
fn a_websocket_is_recorded_frame_by_frame() {
    let (backend, place) = (StrictBackend::start(), Place::new());
    let switch = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                  Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
    // A text frame, and the end.
    let frames = b"\x81\x05hello\x88\x02\x03\xe8".to_vec();
    backend.script(
        "/ws",
        Script(vec![Step::ReadBody, Step::Send(switch.into()), Step::Send(frames), Step::Close]),
    );
    let proxy = Sidelight::start(&Setup::app(backend.address()).section("recording", &place.lines()));
    let mut client = RawClient::connect(proxy.inbound());
    client.send(
        "GET /ws HTTP/1.1\r\nHost: app.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    );
    assert_eq!(client.read_head("GET", 1).expect("a head").status, 101);
    let mut rest = Vec::new();
    client.wire().to_end("the end", &mut rest).expect("the frames");
    drop(client);
    let counted = settled(&proxy, 1);
    assert_eq!(counted["recorded"], 1, "{counted}");
    let directory = place.path();
    proxy.stop();
    let shown = sidelight(&["recording", "show", text(&directory), "1"]);
    let shown = String::from_utf8_lossy(&[shown.stdout, shown.stderr].concat()).into_owned();
    assert!(shown.contains("101") && shown.contains("hello") && shown.contains("close"), "{shown}");
}

#[test]
fn a_recording_is_sent_again_as_tracer_bullets() {
    let (backend, place) = (StrictBackend::start(), Place::new());
    let proxy = Sidelight::start(&Setup::app(backend.address()).section("recording", &place.lines()));
    let mut client = RawClient::connect(proxy.inbound());
    for number in 0..20 {
        ask(&mut client, &format!("r{number}"), if number % 2 == 0 { "acme" } else { "bolt" });
    }
    settled(&proxy, 20);
    let directory = place.path();
    proxy.stop();
    let before = backend.take().whole.len();
    assert_eq!(before, 20);
    let target = format!("http://{}", backend.address());
    let refused = sidelight(&["replay", text(&directory), "--to", &target, "--allow-unsafe", "POST"]);
    assert!(!refused.status.success(), "the application is what was recorded");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("--grant"), "it says how");
    let candidate = StrictBackend::start();
    let target = format!("http://{}", candidate.address());
    let nothing_left = sidelight(&["replay", text(&directory), "--to", &target]);
    let told = String::from_utf8_lossy(&nothing_left.stderr).into_owned();
    assert!(!nothing_left.status.success() && told.contains("unsafe"), "POST is left out: {told}");
    assert_eq!(candidate.take().whole.len(), 0);
    let sent = sidelight(&[
        "replay",
        text(&directory),
        "--to",
        &target,
        "--allow-unsafe",
        "POST",
        "--speed",
        "10",
        "--compare",
        "--ignore",
        "/request",
        "--format",
        "json",
    ]);
    let told: Value = serde_json::from_slice(&sent.stdout).unwrap_or_default();
    assert_eq!(told["targets"][0]["answered"], 20, "{told} {}", String::from_utf8_lossy(&sent.stderr));
    let received = candidate.take().whole;
    assert_eq!(received.len(), 20);
    for request in &received {
        assert_eq!(request.fields.get("x-request-type"), Some("TRACE"));
        assert!(request.fields.get("x-sidelight-replay").is_some_and(|value| value.contains("run=")));
        assert_eq!(request.fields.get("host"), Some("shop.example"));
    }
    let of = |account: &str| -> Vec<String> {
        let is_of = |request: &&e2e::Request| request.fields.get("x-account-id") == Some(account);
        received.iter().filter(is_of).map(|request| request.path().to_owned()).collect()
    };
    let expected: Vec<String> = (0..20).step_by(2).map(|number| format!("/r{number}")).collect();
    assert_eq!(of("acme"), expected, "in the order of the account");
}
