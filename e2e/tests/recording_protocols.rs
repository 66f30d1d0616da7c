//! What was recorded of gRPC and WebSocket, with the clients and servers of others, is sent again as it was.

use e2e::{Launch, RawClient, RawServer, Setup, Sidelight, process, python, wait_for};
use serde_json::Value;
use std::io::{Read, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// A directory that outlives the proxy, and a recording in it.
fn section(home: &Path) -> String {
    format!("directory: {:?}\nbody_limit: none\nmemory_bytes_max: 64MiB", home.join("recording"))
}

/// Waits until everything that was seen is in the file.
fn settle(proxy: &Sidelight) -> u64 {
    let books = wait_for("the recorder to be done", || {
        let shown: Value = serde_json::from_str(&proxy.admin("/recording").text()).expect("JSON");
        Some(shown["books"].clone()).filter(|books| books["pending"] == 0)
    });
    assert_eq!((&books["recorded"], &books["dropped"]), (&books["seen"], &serde_json::json!({})), "{books}");
    books["seen"].as_u64().expect("a number")
}

fn replayed(home: &Path, words: &[&str]) -> (i32, Value, String) {
    let (status, out, errors) = Launch::run(home, &[&["replay", "recording"], words].concat());
    (status, serde_json::from_str(&out).unwrap_or_default(), errors)
}

#[test]
fn grpc_calls_of_every_kind_are_sent_again() {
    let home = tempfile::tempdir().expect("a directory");
    let home = home.path();
    let server = python::Server::start("grpc_server.py", &[]);
    let setup = Setup::app_speaking(server.address(), "http2").section("recording", &section(home));
    let callee = Sidelight::start(&setup);
    let cluster = format!("echo:\n  endpoints: [\"{}\"]\n  protocol: http2", callee.inbound());
    let caller = Sidelight::start(&Setup::bare().section("clusters", &cluster));
    python::run("grpc_client.py", &[&caller.outbound().to_string(), "echo", "all"]);
    let seen = settle(&callee);
    callee.stop();
    let other = python::Server::start("grpc_server.py", &[]);
    let to = format!("http://{}", other.address());
    // What the server says of the request's fields, and of the time that is left, is not the same twice. How much it produced
    // for a client that does not read depends on when that client leaves.
    let words = ["--to", &to, "--allow-unsafe", "POST", "--compare", "--lag-max", "5s", "--format", "json"];
    let ignored = ["x-forwarded-for", "x-forwarded-proto", "x-request-type", "x-sidelight-replay"];
    let ignored: Vec<String> = ignored.iter().map(|name| format!("header:echo-{name}")).collect();
    let words: Vec<&str> = words.into_iter().chain(ignored.iter().flat_map(|it| ["--ignore", it])).collect();
    let words = [&words[..], &["--ignore", "trailer:x-deadline"]].concat();
    let (_, told, errors) = replayed(home, &words);
    let target = &told["targets"][0];
    let sent = target["sent"].as_u64().expect("a number");
    // Calls that never came to the server (a deadline that had passed before) have nothing to send.
    assert!(sent + 5 >= seen && sent > 200, "{sent} of {seen}: {errors}");
    assert_eq!(
        target["answered"].as_u64().map(|answered| answered + target["cancelled"].as_u64().unwrap_or(0)),
        Some(sent),
        "{target:#}"
    );
    let fields = told["comparison"]["fields"].as_array().expect("a list");
    let differing: Vec<(&str, u64)> = fields
        .iter()
        .map(|field| (field["path"].as_str().unwrap_or_default(), field["raw"].as_u64().unwrap_or(u64::MAX)))
        .collect();
    // Calls that a deadline or their client ends: a handful, and where they are cut is a matter of time.
    let different = told["comparison"]["different"].as_u64().expect("a number");
    assert!(
        different <= 8,
        "messages, statuses and trailers are those of the recording: {differing:?} {errors}"
    );
}

#[test]
fn websockets_are_sent_again() {
    let home = tempfile::tempdir().expect("a directory");
    let home = home.path();
    let server = python::Server::start("ws_server.py", &[]);
    let callee = Sidelight::start(&Setup::app(server.address()).section("recording", &section(home)));
    let cluster = format!("chat:\n  endpoints: [\"{}\"]\n  protocol: http1", callee.inbound());
    let caller = Sidelight::start(&Setup::bare().section("clusters", &cluster));
    python::run("ws_client.py", &[&caller.outbound().to_string(), "chat"]);
    let seen = settle(&callee);
    callee.stop();
    let other = python::Server::start("ws_server.py", &[]);
    let to = format!("http://{}", other.address());
    let (status, told, errors) =
        replayed(home, &["--to", &to, "--compare", "--lag-max", "5s", "--format", "json"]);
    assert_eq!(status, 0, "{told:#} {errors}");
    // The one that carries messages of up to 16 MiB is longer than what is redacted in one piece.
    assert_eq!(told["excluded"], serde_json::json!({ "truncated": 1 }), "{told:#}");
    let found = (&told["targets"][0]["answered"], &told["comparison"]["different"]);
    assert_eq!(found, (&(seen - 1).into(), &0.into()), "{told:#}");
}

/// What is uploaded: blocks that each begin with their number.
const BLOCK_BYTES: usize = 64 << 10;
const BLOCKS: u64 = 1 << 14;

fn block(number: u64, out: &mut [u8]) {
    for (byte, value) in out.iter_mut().zip((0u8..251).cycle()) {
        *byte = value;
    }
    out[..8].copy_from_slice(&number.to_be_bytes());
}

/// An application that reads uploads, and counts the blocks that came whole and in their order.
struct Uploads {
    server: RawServer,
    blocks: Arc<AtomicU64>,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Uploads {
    fn start() -> Uploads {
        let (blocks, heads) = (Arc::new(AtomicU64::new(0)), Arc::new(Mutex::new(Vec::new())));
        let (counted, kept) = (blocks.clone(), heads.clone());
        let server = RawServer::start(move |mut wire, _| {
            let mut head = Vec::new();
            loop {
                match wire.line("head") {
                    Ok(line) if line.is_empty() => break,
                    Ok(line) => head.push(String::from_utf8_lossy(&line).into_owned()),
                    Err(_) => return,
                }
            }
            kept.lock().unwrap_or_else(PoisonError::into_inner).push(head.join("\n"));
            let pending = wire.pending().to_vec();
            let mut content = pending.as_slice().chain(wire.handle());
            let (mut expected, mut found) = (vec![0; BLOCK_BYTES], vec![0; BLOCK_BYTES]);
            for number in 0..BLOCKS {
                block(number, &mut expected);
                if content.read_exact(&mut found).is_err() || found != expected {
                    return;
                }
                counted.fetch_add(1, Ordering::Relaxed);
            }
            let _ = wire.send(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok");
        });
        Uploads { server, blocks, heads }
    }

    /// Blocks and heads that came.
    fn came(&self) -> (u64, Vec<String>) {
        let heads = self.heads.lock().unwrap_or_else(PoisonError::into_inner).clone();
        (self.blocks.load(Ordering::Relaxed), heads)
    }
}

#[test]
fn an_upload_of_a_gibibyte_is_recorded_whole_and_sent_again() {
    let home = tempfile::tempdir().expect("a directory");
    let home = home.path();
    let app = Uploads::start();
    let setup = Setup::app(app.server.address()).section("recording", &section(home));
    let proxy = Sidelight::start(&setup.section("limits", "request_timeout: none"));
    let mut client = RawClient::connect(proxy.inbound());
    let length = BLOCKS * BLOCK_BYTES as u64;
    client.send(format!("POST /film HTTP/1.1\r\nHost: app.example\r\nContent-Length: {length}\r\n\r\n"));
    let mut bytes = vec![0; BLOCK_BYTES];
    for number in 0..BLOCKS {
        block(number, &mut bytes);
        client.wire().handle().write_all(&bytes).expect("a proxy that reads");
        if number % 64 == 0 {
            // A network is slower than this machine is with itself: 16 MiB of memory are for what waits for the disk.
            wait_for("room", || {
                let shown: Value = serde_json::from_str(&proxy.admin("/recording").text()).expect("JSON");
                shown["held_bytes"].as_u64().filter(|held| *held < 6 << 20)
            });
        }
    }
    assert_eq!(client.read("POST", 1).expect("an answer").text(), "ok");
    assert_eq!(settle(&proxy), 1);
    let peak = process::resident_peak_bytes(proxy.pid());
    assert!(peak < 80 << 20, "{peak} bytes resident");
    proxy.stop();
    let other = Uploads::start();
    let to = format!("http://{}", other.server.address());
    let words = ["--to", &to, "--allow-unsafe", "POST", "--compare", "--lag-max", "5s", "--format", "json"];
    let (status, told, errors) = replayed(home, &words);
    assert_eq!(status, 0, "{told:#} {errors}");
    let (blocks, heads) = other.came();
    assert_eq!((blocks, heads.len()), (BLOCKS, 1));
    assert!(heads[0].starts_with("POST /film HTTP/1.1\n"), "{}", heads[0]);
    assert!(heads[0].to_lowercase().contains(&format!("content-length: {length}")), "{}", heads[0]);
}
