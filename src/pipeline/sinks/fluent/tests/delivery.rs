//! What arrives, and what is said of what does not.

use super::server::{End, Server};
use super::{config, sink};
use crate::pipeline::sinks::fluent::Config;
use crate::pipeline::sinks::fluent::answer::Answer;
use crate::pipeline::sinks::fluent::message::Entries;
use crate::pipeline::sinks::kit::{batch, batch_from, event, exchanges, in_time, retry, within};
use crate::pipeline::sinks::sink::{Sent, Sink};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::io::Write;
use std::sync::mpsc::Sender;
use std::thread;
use std::time::Duration;

#[test]
fn events_arrive_by_tag_and_in_order_with_their_types_and_time() {
    let server = Server::good();
    let mut sink = sink(&config(server.address));
    let events = [event("exchange", 1, "a"), event("audit", 2, ""), event("exchange", 3, "b")];
    let sent = sink.send(&batch(&events), in_time()).unwrap();
    assert_eq!(sent, Sent { through: Some(3), ..Sent::default() });
    let (exchanges, audit) = (server.next(), server.next());
    assert_eq!((exchanges.tag.as_str(), exchanges.sequences()), ("sidelight.exchange", vec![1, 3]));
    assert_eq!((audit.tag.as_str(), audit.sequences()), ("sidelight.audit", vec![2]));
    let whole: Value = serde_json::from_str(&events[2]).unwrap();
    // 2026-01-02T03:04:05.000003Z
    assert_eq!(exchanges.entries[1], (1_767_323_045, 3_000, whole));
    assert_ne!(exchanges.chunk, audit.chunk, "each chunk has an id of its own");
}

/// A server that does this with its first connection, after it has read a message, and acknowledges on all others.
fn server_that(does: impl Fn(&mut End<std::net::TcpStream>) + Send + 'static) -> Server {
    Server::start(move |index, stream, told| {
        let mut end = End::new(stream);
        if index == 0 {
            if end.message().is_some() {
                does(&mut end);
            }
        } else {
            end.ack_all(told);
        }
    })
}

#[test]
fn what_is_not_acknowledged_comes_again_and_the_reason_is_told() {
    type Deed = fn(&mut End<std::net::TcpStream>);
    let rows: [(&str, &str, Deed); 6] = [
        ("another chunk", "another chunk", |end| end.say(&json!({"ack": "bm90IHRoaXM="}))),
        ("garbage", "garbage", |end| end.send(&[0xc1; 20])),
        ("an answer of HTTP", "something else than an acknowledgement", |end| end.send(b"HTTP/1.1 400")),
        ("closed", "closed the connection", |_| {}),
        ("silence", "in time while waiting for the acknowledgement", |end| drop(end.message())),
        ("a handshake", "set `shared_key_file`", |end| end.say(&json!(["HELO", {"nonce": "x", "auth": ""}]))),
    ];
    for (name, told, deed) in rows {
        let server = server_that(deed);
        let mut sink = sink(&config(server.address));
        let batch = batch(&exchanges(3));
        let deadline = if name == "silence" { within(300) } else { in_time() };
        let reason = retry(sink.send(&batch, deadline));
        assert!(reason.contains(told) && reason.starts_with(&server.address.to_string()), "{name}: {reason}");
        assert_eq!(sink.send(&batch, in_time()), Ok(Sent::all(&batch)), "{name}");
        assert_eq!(server.next().sequences(), [1, 2, 3], "{name}");
    }
}

#[test]
fn a_tag_that_was_acknowledged_is_not_sent_again() {
    // Acknowledges the first message of the first connection only.
    let server = Server::start(|index, stream, told: &Sender<_>| {
        let mut end = End::new(stream);
        if index == 0 {
            let message = end.message().unwrap();
            end.ack(&message);
            told.send(message).unwrap();
            drop(end.message());
        } else {
            end.ack_all(told);
        }
    });
    let mut sink = sink(&config(server.address));
    let events = [event("exchange", 1, ""), event("audit", 2, "")];
    retry(sink.send(&batch(&events), in_time()));
    let more = [event("exchange", 1, ""), event("audit", 2, ""), event("exchange", 3, "")];
    let again = batch(&more);
    assert_eq!(sink.send(&again, in_time()), Ok(Sent::all(&again)));
    assert_eq!(server.next().sequences(), [1]);
    assert_eq!(server.next().sequences(), [2], "the audit event, and not the first again");
    assert_eq!(server.next().sequences(), [3]);
    assert!(server.is_done());
}

#[test]
fn a_connection_that_was_closed_meanwhile_costs_nothing() {
    let server = Server::start(|_, stream, told| {
        // One message, then the end: what a server does that is restarted.
        let mut end = End::new(stream);
        if let Some(message) = end.message() {
            end.ack(&message);
            drop(end);
            told.send(message).unwrap();
        }
    });
    let mut sink = sink(&config(server.address));
    for number in 1..=3 {
        let batch = batch_from(number, &[event("exchange", number, "")]);
        assert_eq!(sink.send(&batch, in_time()), Ok(Sent::all(&batch)), "batch {number}");
        // On loopback the end is with the client's kernel when the server has closed, which is before it tells.
        assert_eq!(server.next().sequences(), [number]);
    }
}

#[test]
fn without_acknowledgements_nothing_is_waited_for() {
    let server = Server::start(|_, stream, told| {
        let mut end = End::new(stream);
        while let Some(message) = end.message() {
            told.send(message).unwrap();
        }
    });
    let mut sink = sink(&Config { ack: false, tag: "all.{service}".into(), ..config(server.address) });
    let batch = batch(&exchanges(2));
    assert_eq!(sink.send(&batch, in_time()), Ok(Sent::all(&batch)));
    let message = server.next();
    assert_eq!((message.tag.as_str(), message.chunk.as_deref()), ("all.checkout", None));
}

#[test]
fn what_is_no_event_is_refused_and_the_others_arrive() {
    let server = Server::good();
    let mut sink = sink(&config(server.address));
    let events = [
        event("exchange", 1, ""),
        r#"{"schema":"sidelight/exchange/1","a":"#.into(),
        event("exchange", 3, ""),
    ];
    let sent = sink.send(&batch(&events), in_time()).unwrap();
    assert_eq!(sent.through, Some(3));
    assert_eq!(sent.rejected.iter().map(|(sequence, _)| *sequence).collect::<Vec<_>>(), [2]);
    assert_eq!(server.next().sequences(), [1, 3]);
}

#[test]
fn a_server_that_reads_nothing_is_given_up_at_the_deadline() {
    let server = Server::start(|_, stream, _| {
        let _kept = stream;
        thread::sleep(Duration::from_secs(3600));
    });
    let mut sink = sink(&config(server.address));
    let large = format!(r#"{{"schema":"sidelight/exchange/1","a":"{}"}}"#, "x".repeat(16 << 20));
    let reason = retry(sink.send(&batch(&[large]), within(500)));
    assert!(reason.contains("in time while sending"), "{reason}");
}

#[test]
fn deep_nesting_arrives_as_text() {
    let server = Server::good();
    let mut sink = sink(&config(server.address));
    let deep = format!(
        r#"{{"schema":"sidelight/app_log/1","id":{{"sequence":1}},"a":{}{}}}"#,
        "[".repeat(5000),
        "]".repeat(5000)
    );
    let batch = batch(&[deep]);
    assert_eq!(sink.send(&batch, in_time()), Ok(Sent::all(&batch)));
    let mut value = &server.next().entries[0].2["a"];
    let mut depth = 0;
    while let Value::Array(items) = value {
        value = &items[0];
        depth += 1;
    }
    assert!(depth < 40 && value.as_str().is_some_and(|text| text.starts_with("[[[[")), "{depth}");
}

#[test]
fn an_answer_that_never_ends_is_an_error() {
    let server = Server::start(|_, stream, _| {
        let mut end = End::new(stream.try_clone().unwrap());
        if end.message().is_some() {
            let mut stream = stream;
            // A text of 4 GiB begins.
            while stream.write_all(&[0xdb, 0xff, 0xff, 0xff, 0xff]).is_ok() {
                if stream.write_all(&[b'x'; 65_536]).is_err() {
                    return;
                }
            }
        }
    });
    let reason = retry(sink(&config(server.address)).send(&batch(&exchanges(1)), in_time()));
    assert!(reason.contains("garbage"), "{reason}");
}

proptest! {
    #[test]
    fn no_answer_whatever_makes_it_panic(bytes: Vec<u8>) {
        let _ = Answer::read(&bytes);
    }

    #[test]
    fn no_event_whatever_makes_it_panic(bytes: Vec<u8>, cut in 0_usize..300) {
        let mut entries = Entries::default();
        let _ = entries.push(1, &bytes, None);
        let whole = event("exchange", 1, "a");
        let is_cut = cut < whole.len();
        let pushed = entries.push(2, whole.as_bytes().get(..cut).unwrap_or(whole.as_bytes()), None);
        prop_assert_eq!(pushed.is_err(), is_cut);
    }
}
