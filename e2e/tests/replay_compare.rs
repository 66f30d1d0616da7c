//! `sidelight replay --downstream`: what a candidate asks of others, beside what the recorded version asked.

use e2e::{Launch, RawClient, Setup, Sidelight, StrictBackend, wait_for};
use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

/// An application that answers each request when it has made its calls, through its sidecar and under the request's trace.
struct Shop {
    address: SocketAddr,
    outbound: Arc<OnceLock<SocketAddr>>,
}

impl Shop {
    /// Calls `cluster path` of each of `calls`; `{n}` in it is the last segment of the request's path.
    fn start(calls: &'static [(&'static str, &'static str)]) -> Shop {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("its address");
        let outbound: Arc<OnceLock<SocketAddr>> = Arc::default();
        let sidecar = Arc::clone(&outbound);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, sidecar) = (stream.expect("a connection"), Arc::clone(&sidecar));
                std::thread::spawn(move || serve(stream, calls, &sidecar));
            }
        });
        Shop { address, outbound }
    }
}

fn serve(stream: TcpStream, calls: &[(&str, &str)], sidecar: &OnceLock<SocketAddr>) {
    let mut answers = stream.try_clone().expect("the other direction");
    let mut lines = BufReader::new(stream).lines();
    while let Some(Ok(first)) = lines.next() {
        let mut trace = String::new();
        for line in lines.by_ref().map_while(Result::ok).take_while(|line| !line.is_empty()) {
            if line.to_ascii_lowercase().starts_with("traceparent:") {
                trace = line;
            }
        }
        let path = first.split(' ').nth(1).unwrap_or_default();
        let number = path.rsplit('/').next().unwrap_or_default();
        for (cluster, path) in calls {
            let path = path.replace("{n}", number);
            let request =
                format!("GET {path} HTTP/1.1\r\nHost: {cluster}\r\n{trace}\r\nConnection: close\r\n\r\n");
            let sidecar = *sidecar.get().expect("the sidecar runs");
            assert_eq!(RawClient::connect(sidecar).ask(request).expect("an answer").status, 200);
        }
        let answer = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\ndone\n";
        if answers.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

/// A sidecar around the application, which records both sides into `directory`.
fn beside(shop: &Shop, backend: &StrictBackend, directory: &Path) -> Sidelight {
    let clusters =
        ["stock", "audit"].map(|name| format!("{name}:\n  endpoints: [\"{}\"]", backend.address()));
    let setup = Setup::app(shop.address)
        .section("clusters", &clusters.join("\n"))
        .section("recording", &format!("directory: {directory:?}"));
    let proxy = Sidelight::start(&setup);
    shop.outbound.set(proxy.outbound()).expect("once");
    proxy
}

/// Waits until so many exchanges are in the file.
fn settle(proxy: &Sidelight, seen: u64) {
    wait_for("the recorder to be done", || {
        let shown: Value = serde_json::from_str(&proxy.admin("/recording").text()).expect("JSON");
        (shown["books"]["seen"] == seen && shown["books"]["pending"] == 0).then_some(())
    });
}

/// 30 orders, each with a call to the stock; the directory of the recording.
fn recorded(home: &Path, backend: &StrictBackend) -> PathBuf {
    let directory = home.join("recording");
    let shop = Shop::start(&[("stock", "/items/{n}")]);
    let proxy = beside(&shop, backend, &directory);
    let mut client = RawClient::connect(proxy.inbound());
    for number in 1000..1030 {
        let request =
            format!("GET /orders/{number} HTTP/1.1\r\nHost: shop.example\r\nX-Account-Id: acme\r\n\r\n");
        assert_eq!(client.ask(request).expect("an answer").status, 200);
    }
    settle(&proxy, 60);
    proxy.stop();
    directory
}

/// Replays against a candidate; exit status, the result, and what was said on standard error.
fn replayed(home: &Path, to: SocketAddr, words: &[&str]) -> (i32, Value, String) {
    let to = format!("http://{to}");
    let all = [
        &["replay", "recording", "--to", &to, "--speed", "10", "--lag-max", "1s", "--format", "json"],
        words,
    ];
    let (status, out, errors) = Launch::run(home, &all.concat());
    (status, serde_json::from_str(&out).unwrap_or_default(), errors)
}

#[test]
fn one_call_more_is_a_difference_and_the_same_calls_are_none() {
    let home = tempfile::tempdir().expect("a directory");
    let (home, backend) = (home.path(), StrictBackend::start());
    recorded(home, &backend);
    for (name, calls, paths) in [
        ("same", &[("stock", "/items/{n}")][..], &[][..]),
        ("more", &[("stock", "/items/{n}"), ("audit", "/log")], &[("call:GET audit/log", "added")]),
        (
            "other",
            &[("stock", "/items/{n}/price")],
            &[("call:GET stock/items/*", "missing"), ("call:GET stock/items/*/price", "added")],
        ),
    ] {
        let shop = Shop::start(calls);
        let candidate = beside(&shop, &backend, &home.join(name));
        let (status, told, errors) = replayed(home, candidate.inbound(), &["--downstream", name]);
        let downstream = &told["comparison"]["downstream"];
        assert_eq!(
            (&downstream["traces"], &downstream["problem"]),
            (&30.into(), &Value::Null),
            "{told:#} {errors}"
        );
        assert_eq!(downstream["different"], if paths.is_empty() { 0 } else { 30 }, "{downstream}");
        let fields = told["comparison"]["fields"].as_array().expect("fields");
        let mut found: Vec<(&str, &str)> = fields
            .iter()
            .filter(|field| field["judgement"] == "regression")
            .filter_map(|field| Some((field["path"].as_str()?, field["kind"].as_str()?)))
            .collect();
        found.sort_unstable();
        assert_eq!(found, paths, "{name}: {told:#}");
        assert_eq!(status, i32::from(!paths.is_empty()), "{name}: {told:#} {errors}");
    }
    // Without a look at the calls the candidate passes.
    let shop = Shop::start(&[("stock", "/items/{n}"), ("audit", "/log")]);
    let candidate = beside(&shop, &backend, &home.join("unseen"));
    let (status, told, errors) = replayed(home, candidate.inbound(), &["--compare"]);
    assert_eq!(status, 0, "{told:#} {errors}");
}

#[test]
fn a_comparison_that_is_not_possible_is_not_passed() {
    let home = tempfile::tempdir().expect("a directory");
    let (home, backend) = (home.path(), StrictBackend::start());
    recorded(home, &backend);
    let (shop, directory) = (Shop::start(&[("stock", "/items/{n}")]), home.join("beside"));
    let candidate = beside(&shop, &backend, &directory);
    let missing = replayed(home, candidate.inbound(), &["--downstream", "nowhere"]);
    assert_eq!(missing.0, 2, "{missing:?}");
    assert!(missing.2.contains("nowhere: is no directory"), "{}", missing.2);
    // Another sidecar's directory, which has no call of the run.
    let (status, told, errors) = replayed(home, candidate.inbound(), &["--downstream", "recording"]);
    assert_eq!((status, &told["verdict"]), (1, &"invalid".into()), "{told:#} {errors}");
    let reason = told["reasons"][0].as_str().expect("a reason");
    assert!(reason.contains("no call of this run is in recording"), "{reason}");
}

#[test]
fn idempotency_keys_are_others_in_each_pass_and_clone_and_the_same_within() {
    let home = tempfile::tempdir().expect("a directory");
    let (home, backend) = (home.path(), StrictBackend::start());
    let recording = format!("directory: {:?}", home.join("recording"));
    let proxy = Sidelight::start(&Setup::app(backend.address()).section("recording", &recording));
    let mut client = RawClient::connect(proxy.inbound());
    // Each payment is sent twice, under one key, as by a client that saw no answer.
    for number in [1, 1, 2, 2, 3, 3] {
        let request = format!(
            "POST /pay/{number} HTTP/1.1\r\nHost: shop.example\r\nX-Account-Id: acme\r\nIdempotency-Key: key-000{number}\r\nContent-Length: 0\r\n\r\n"
        );
        assert_eq!(client.ask(request).expect("an answer").status, 200);
    }
    settle(&proxy, 6);
    proxy.stop();
    let candidate = StrictBackend::start();
    let words = ["--allow-unsafe", "POST", "--loop", "3", "--amplify", "2"];
    let (status, told, errors) = replayed(home, candidate.address(), &words);
    assert_eq!(status, 0, "{told:#} {errors}");
    let received = candidate.take().whole;
    assert_eq!(received.len(), 6 * 3 * 2);
    let mut keys = std::collections::BTreeMap::<String, Vec<String>>::new();
    for request in &received {
        let key = request.fields.get("idempotency-key").expect("a key").to_owned();
        let account = request.fields.get("x-account-id").unwrap_or_default();
        keys.entry(key).or_default().push(format!("{account} {}", request.path()));
    }
    assert_eq!(keys.len(), 3 * 3 * 2, "a key for each payment, pass and clone: {keys:?}");
    assert!(keys.values().all(|of| of.len() == 2 && of[0] == of[1]), "{keys:?}");
    assert!(!keys.keys().any(|key| key.starts_with("key-000")), "{keys:?}");
}
