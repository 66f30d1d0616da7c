//! The sink and a server by script: what is published, and what becomes of what is not acknowledged.

mod server;

use super::{Config, Nats};
use crate::pipeline::sinks::kit::{batch, batch_from, event, exchanges, in_time, retry, service, within};
use crate::pipeline::sinks::sink::{Sent, Sink};
use server::{Deed, Server};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

fn config(address: SocketAddr) -> Config {
    serde_json::from_value(serde_json::json!({ "servers": [address] })).unwrap()
}

fn sink(config: &Config) -> Nats {
    Nats::new(config, &service(), Path::new(".")).unwrap()
}

fn numbers(server: &Server) -> Vec<u64> {
    server.rest().iter().map(server::Published::sequence).collect()
}

#[test]
fn events_are_published_by_kind_with_their_ids() {
    let server = Server::start(|_, _| Deed::Ack);
    let events = [event("exchange", 1, "a"), event("audit", 2, "")];
    let batch = batch(&events);
    assert_eq!(sink(&config(server.address)).send(&batch, in_time()), Ok(Sent::all(&batch)));
    let (first, second) = (server.next(), server.next());
    assert_eq!((first.subject.as_str(), second.subject.as_str()), ("sidelight.exchange", "sidelight.audit"));
    assert_eq!(first.headers["Nats-Msg-Id"], "checkout-1-17-1");
    assert_eq!([first.payload, second.payload], events);
}

#[test]
fn what_is_not_acknowledged_comes_again_and_nothing_else() {
    let rows: [(&str, Deed, &str); 5] = [
        ("silence", Deed::Silence, "not acknowledged in time"),
        ("no stream", Deed::NoResponders, "make one (`nats stream add --subjects 'sidelight.*'`)"),
        (
            "a full stream",
            Deed::Answer(r#"{"error":{"code":503,"err_code":10077,"description":"maximum bytes exceeded"}}"#),
            "maximum bytes exceeded",
        ),
        ("garbage", Deed::Answer("+OK"), "expected"),
        ("the end", Deed::Close, "the connection broke"),
    ];
    for (name, deed, told) in rows {
        let misses = AtomicUsize::new(0);
        let server = Server::start(move |_, published| match published.sequence() {
            2 if misses.fetch_add(1, Ordering::Relaxed) == 0 => deed.clone(),
            _ => Deed::Ack,
        });
        let mut sink = sink(&config(server.address));
        let batch = batch(&exchanges(3));
        let reason = retry(sink.send(&batch, if name == "silence" { within(300) } else { in_time() }));
        assert!(reason.contains(told) && reason.starts_with(&server.address.to_string()), "{name}: {reason}");
        let before = numbers(&server);
        assert_eq!(sink.send(&batch, in_time()), Ok(Sent::all(&batch)), "{name}");
        let again = numbers(&server);
        if name == "the end" {
            // The connection broke before the third was read, or before it was written.
            assert!(again.contains(&2) && !again.contains(&1), "{again:?} after {before:?}");
        } else {
            assert_eq!(again, [2], "{name}: after {before:?}");
        }
    }
}

#[test]
fn what_is_too_large_is_refused_and_the_others_arrive() {
    let server = Server::with_info(r#","max_payload":2000"#, |_, published| {
        if published.payload.contains("too-large-for-the-stream") {
            return Deed::Answer(
                r#"{"error":{"code":400,"err_code":10054,"description":"message size exceeds maximum allowed"}}"#,
            );
        }
        Deed::Ack
    });
    let events = [
        event("exchange", 1, ""),
        event("exchange", 2, &"x".repeat(4000)),
        event("exchange", 3, "too-large-for-the-stream"),
        event("exchange", 4, ""),
    ];
    let sent = sink(&config(server.address)).send(&batch(&events), in_time()).unwrap();
    assert_eq!(sent.through, Some(4));
    assert_eq!(sent.rejected.iter().map(|(sequence, _)| *sequence).collect::<Vec<_>>(), [2, 3]);
    assert!(sent.rejected[1].1.contains("message size exceeds maximum allowed"), "{:?}", sent.rejected);
    assert_eq!(numbers(&server), [1, 3, 4]);
}

#[test]
fn a_server_that_went_away_is_replaced_by_another() {
    // The first server closes whatever it is sent; the second takes it.
    let (bad, good) = (Server::start(|_, _| Deed::Close), Server::start(|_, _| Deed::Ack));
    let config = Config { servers: vec![bad.address.into(), good.address.into()], ..config(bad.address) };
    let mut sink = sink(&config);
    let batch = batch(&exchanges(5));
    let sent =
        crate::pipeline::sinks::kit::wait_for("a server that takes it", || sink.send(&batch, in_time()).ok());
    assert_eq!(sent, Sent::all(&batch));
    // What was on its way when the connection broke may come twice; a stream tells that by the id.
    let mut received = numbers(&good);
    received.sort_unstable();
    received.dedup();
    assert_eq!(received, [1, 2, 3, 4, 5]);
}

#[test]
fn nobody_there_is_told_and_tried_again() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let mut sink = sink(&config(address));
    let batch = batch(&exchanges(1));
    let reason = retry(sink.send(&batch, in_time()));
    assert!(reason.contains("cannot connect") && reason.contains("refused"), "{reason}");
}

#[test]
fn a_server_that_says_nothing_is_given_up_at_the_deadline() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut sink = sink(&config(listener.local_addr().unwrap()));
    let reason = retry(sink.send(&batch(&exchanges(1)), within(300)));
    assert!(reason.contains("no answer in time"), "{reason}");
}

#[test]
fn a_stream_that_is_asked_for_is_verified_or_made() {
    const MISSING: &str = r#"{"error":{"code":404,"err_code":10059,"description":"stream not found"}}"#;
    const INFO: &str = r#"{"config":{"name":"EVENTS","subjects":["sidelight.*"],"retention":"limits","max_consumers":-1,"max_msgs":-1,"max_bytes":-1,"max_age":0,"discard":"old","storage":"file","num_replicas":1},"created":"2026-01-02T03:04:05Z","state":{"messages":0,"bytes":0,"first_seq":0,"first_ts":"0001-01-01T00:00:00Z","last_seq":0,"last_ts":"0001-01-01T00:00:00Z","consumer_count":0}}"#;
    let made = std::sync::Arc::new(AtomicUsize::new(0));
    let noted = made.clone();
    let server = Server::start(move |_, published| match published.subject.as_str() {
        "$JS.API.STREAM.INFO.EVENTS" => Deed::Answer(MISSING),
        "$JS.API.STREAM.CREATE.EVENTS" => {
            noted.fetch_add(1, Ordering::Relaxed);
            Deed::Answer(INFO)
        }
        _ => Deed::Ack,
    });
    let wanted =
        |create_stream| Config { stream: Some("EVENTS".into()), create_stream, ..config(server.address) };
    let batch = batch(&exchanges(1));
    let reason = retry(sink(&wanted(false)).send(&batch, in_time()));
    assert!(reason.contains("no stream `EVENTS`: make it, or set `create_stream: true`"), "{reason}");
    assert_eq!(made.load(Ordering::Relaxed), 0);
    let mut sink = sink(&wanted(true));
    assert_eq!(sink.send(&batch, in_time()), Ok(Sent::all(&batch)));
    let next = batch_from(2, &[event("exchange", 2, "")]);
    assert_eq!(sink.send(&next, in_time()), Ok(Sent::all(&next)));
    assert_eq!(made.load(Ordering::Relaxed), 1, "once");
    assert_eq!(server.next().headers["Nats-Expected-Stream"], "EVENTS");
}

#[test]
fn credentials_reach_the_server_and_nobody_else() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("secret"), "hunter2\n").unwrap();
    let server = Server::start(|_, _| Deed::Ack);
    let file = || Some("secret".into());
    let rows = [
        (Config { user: Some("ann".into()), password_file: file(), ..config(server.address) }, "pass"),
        (Config { token_file: file(), ..config(server.address) }, "auth_token"),
    ];
    for (config, member) in rows {
        let mut sink = Nats::new(&config, &service(), directory.path()).unwrap();
        let batch = batch(&exchanges(1));
        assert_eq!(sink.send(&batch, in_time()), Ok(Sent::all(&batch)));
        let said = server.connects().pop().unwrap();
        assert_eq!(said[member], "hunter2", "{said}");
        assert_eq!(said["name"], "sidelight checkout");
    }
}

#[test]
fn configurations_that_cannot_be_are_told() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("secret"), "hunter2\n").unwrap();
    let good = || config("127.0.0.1:4222".parse().unwrap());
    let tls = |name: Option<&str>| crate::identity::config::ClientTls {
        ca: "missing.pem".into(),
        server_name: name.map(Into::into),
        certificate: None,
        key: None,
    };
    let rows = [
        (Config { servers: Vec::new(), ..good() }, "servers: "),
        (Config { subject: "a..b".into(), ..good() }, "subject: "),
        (Config { subject: "a.>".into(), ..good() }, "subject: "),
        (Config { subject: "$SYS.{kind}".into(), ..good() }, "subject: "),
        (Config { subject: "a.{account}".into(), ..good() }, "subject: "),
        (Config { create_stream: true, ..good() }, "create_stream: "),
        (Config { stream: Some("a.b".into()), ..good() }, "stream: "),
        (Config { user: Some("ann".into()), ..good() }, "one of `user`"),
        (
            Config { token_file: Some("secret".into()), creds_file: Some("secret".into()), ..good() },
            "one of `user`",
        ),
        (Config { token_file: Some("missing".into()), ..good() }, "token_file: "),
        (Config { creds_file: Some("secret".into()), ..good() }, "creds_file: "),
        (Config { tls: Some(tls(Some("a.b"))), ..good() }, "tls.server_name: "),
        (Config { tls: Some(tls(None)), ..good() }, "missing.pem"),
    ];
    for (config, told) in rows {
        let error = Nats::new(&config, &service(), directory.path()).err().unwrap();
        assert!(error.contains(told) && !error.contains("hunter2"), "{error}");
    }
    assert!(Nats::new(&good(), &service(), directory.path()).is_ok());
}
