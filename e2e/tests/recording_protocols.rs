//! What was recorded of gRPC and WebSocket, with the clients and servers of others, is sent again as it was.

use e2e::{Launch, Setup, Sidelight, python, wait_for};
use serde_json::Value;
use std::path::Path;

/// A directory that outlives the proxy, and a recording in it.
fn section(home: &Path) -> String {
    format!("directory: {:?}\nbody_limit: none", home.join("recording"))
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
    let words = ["--to", &to, "--allow-unsafe", "POST", "--compare", "--format", "json"];
    let (status, told, errors) = replayed(home, &words);
    println!("{seen} {status} {told:#} {errors}");
    assert_eq!(status, 0, "{told:#} {errors}");
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
    let (status, told, errors) = replayed(home, &["--to", &to, "--compare", "--format", "json"]);
    println!("{seen} {status} {told:#} {errors}");
    assert_eq!(status, 0, "{told:#} {errors}");
}
