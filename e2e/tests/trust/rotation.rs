//! Keys change by file while requests flow, and none is lost.

use crate::keys::{KeyFiles, Signed, text};
use crate::{ask, tells};
use e2e::{RawClient, Setup, Sidelight, StrictBackend, field, get, wait_for};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

const READ_AGAIN: &str = "the keys of the context were read again";

fn times(proxy: &Sidelight, message: &str) -> usize {
    proxy.log().iter().filter(|line| field(line, "message") == message).count()
}

/// Replaces a key file, and waits until it is in force.
fn rotate(proxy: &Sidelight, keys: &KeyFiles, name: &str, text: &str) {
    let before = times(proxy, READ_AGAIN);
    keys.write(name, text);
    wait_for("the new keys", || (times(proxy, READ_AGAIN) > before).then_some(()));
}

#[test]
fn keys_rotate_by_file_and_no_request_is_lost() {
    let (app, keys, old) = (StrictBackend::start(), KeyFiles::new(), Signed::new("license: free", ""));
    let sign = keys.sign("inner.yaml", None, &["k1"], ", unsigned: refuse");
    let inner = Sidelight::start(&Setup::app(app.address()).section("context", &sign));
    let setup = Setup::app(inner.inbound())
        .section("inbound", "trust: none")
        .section("context", "edge: { set: { license: free } }")
        .section("context", &keys.sign("edge.yaml", Some("k1"), &["k1"], ""));
    let edge = Sidelight::start(&setup);
    let (stop, done) = (AtomicBool::new(false), AtomicUsize::new(0));
    // Every step is seen by traffic before the next one.
    let flow = || {
        let now = done.load(Ordering::SeqCst);
        wait_for("requests meanwhile", || (done.load(Ordering::SeqCst) >= now + 20).then_some(()));
    };
    let by = |key: &str| inner.events().find(key, |event| event["sidelight.context.signature.key"] == key);
    thread::scope(|scope| {
        let load = scope.spawn(|| {
            let mut client = RawClient::connect(edge.inbound());
            let mut lost = Vec::new();
            while !stop.load(Ordering::SeqCst) {
                match client.ask(get("/load", "")) {
                    Ok(answer) if answer.status == 200 => {}
                    other => {
                        lost.push(format!("{other:?}"));
                        client = RawClient::connect(edge.inbound());
                    }
                }
                done.fetch_add(1, Ordering::SeqCst);
            }
            lost
        });
        flow();
        assert_eq!(ask(&inner, old.request("/", "old-key")).status, 200);

        rotate(&inner, &keys, "inner.yaml", &text(None, &["k1", "k2"]));
        flow();
        assert_eq!(ask(&inner, old.request("/", "both-keys")).status, 200);
        rotate(&edge, &keys, "edge.yaml", &text(Some("k2"), &["k1", "k2"]));
        by("k2");
        assert_eq!(ask(&inner, old.request("/", "still-both")).status, 200);

        // A broken file changes nothing, and what is wrong with it is told without a part of a secret.
        let secret = "c29tZXRoaW5nIHRoYXQgbm9ib2R5";
        let broken = format!("keys:\n  k2:\n    algorithm: hmac_sha256\n    secret: {secret}\n");
        keys.write("inner.yaml", &broken);
        let told = inner.wait_for_log("a changed certificate or key was not taken; the old one stays");
        let problem = field(&told, "problem").as_str().unwrap_or_default().to_owned();
        for part in ["context.sign.keys", "inner.yaml", "line 4", "key `k2`", "openssl rand -base64 32"] {
            assert!(problem.contains(part), "{part} is not in {problem}");
        }
        flow();
        assert_eq!(ask(&inner, old.request("/", "broken")).status, 200);
        keys.write("inner.yaml", &format!("keys: {{ k2: {{ secret: {secret}\n"));
        wait_for("the other problem", || {
            inner.log().iter().any(|line| line.to_string().contains("not valid YAML")).then_some(())
        });
        std::fs::remove_file(keys.write("inner.yaml", "")).expect("removal");
        flow();

        rotate(&inner, &keys, "inner.yaml", &text(None, &["k2"]));
        flow();
        let answer = ask(&inner, old.request("/", "gone"));
        tells(&answer, 403, "context_refused").unwrap();
        assert_eq!(inner.events().of("gone")["sidelight.context.signature"], "unknown_key");
        stop.store(true, Ordering::SeqCst);
        let lost = load.join().expect("the load");
        assert!(lost.is_empty(), "{} requests were lost: {:?}", lost.len(), lost.first());
        for proxy in [&inner, &edge] {
            let log = format!("{:?}", proxy.log());
            for part in [secret, "MDEyMzQ1", "ZmVkY2Jh"] {
                assert!(!log.contains(&part[..8]), "a part of a secret is in the log");
            }
        }
    });
    drop(app);
}

#[test]
fn a_proxy_does_not_start_with_broken_keys() {
    let keys = KeyFiles::new();
    let secret = "aGFsZiBhIHNlY3JldA==";
    let path = keys.write(
        "keys.yaml",
        &format!("active: k1\nkeys:\n  k1: {{ algorithm: hmac_sha256, secret: {secret} }}\n"),
    );
    let directory = tempfile::tempdir().unwrap();
    let setup = Setup::bare().section("context", &format!("sign: {{ keys: {path:?} }}"));
    std::fs::write(directory.path().join("a.yaml"), setup.yaml(&directory.path().join("events"))).unwrap();
    for arguments in [&["check", "a.yaml"][..], &["run", "--config", "a.yaml"]] {
        let (exit, out, errors) = e2e::Launch::run(directory.path(), arguments);
        let said = format!("{out}{errors}");
        assert_eq!(exit, 64, "{said}");
        for part in ["a.yaml:", "keys.yaml", "line 3", "key `k1`", "13 bytes"] {
            assert!(said.contains(part), "{part} is not in {said}");
        }
        assert!(!said.contains(&secret[..8]), "{said}");
    }
}
