//! Servers with a shared key.

use super::config;
use super::server::{Blob, End, Server};
use crate::pipeline::sinks::fluent::handshake::digest;
use crate::pipeline::sinks::fluent::{Config, Fluent};
use crate::pipeline::sinks::kit::{batch, exchanges, in_time, retry, service};
use crate::pipeline::sinks::sink::{Sent, Sink};
use serde_json::json;
use std::net::TcpStream;
use std::path::Path;

const NONCE: [u8; 4] = [0xff, 0, 1, 2];

/// What a server has, and how it treats a client that has it too.
#[derive(Clone, Copy)]
struct Guard {
    shared_key: &'static str,
    /// What it proves that it has.
    own_key: &'static str,
    user: Option<(&'static str, &'static str)>,
}

impl Guard {
    /// As the specification says it; `false`: the client was sent away.
    fn shakes(self, end: &mut End<TcpStream>) -> bool {
        let auth = if self.user.is_some() { "salt" } else { "" };
        // The nonce as `bin`, and no text: `["HELO", {"nonce": …, "auth": …, "keepalive": true}]`.
        let mut helo = vec![0x92, 0xa4];
        helo.extend_from_slice(b"HELO\x83\xa5nonce\xc4\x04");
        helo.extend_from_slice(&NONCE);
        helo.extend_from_slice(b"\xa4auth");
        helo.extend_from_slice(&rmp_serde::to_vec(auth).unwrap());
        helo.extend_from_slice(b"\xa9keepalive\xc3");
        end.send(&helo);
        let Some((ping, host, Blob(salt), proof, user, password)) =
            end.next::<(String, String, Blob, String, String, String)>()
        else {
            return false;
        };
        assert_eq!((ping.as_str(), host.as_str()), ("PING", "sidelight-checkout-1"));
        let is_same = proof == digest(&[&salt, host.as_bytes(), &NONCE, self.shared_key.as_bytes()]);
        let is_user = self.user.is_none_or(|(name, secret)| {
            user == name && password == digest(&[b"salt", name.as_bytes(), secret.as_bytes()])
        });
        if !is_same || !is_user {
            end.say(&json!(["PONG", false, "shared_key mismatch", "", ""]));
            return false;
        }
        let own = digest(&[&salt, b"server", &NONCE, self.own_key.as_bytes()]);
        end.say(&json!(["PONG", true, "", "server", own]));
        true
    }

    fn server(self) -> Server {
        Server::start(move |_, stream, told| {
            let mut end = End::new(stream);
            if self.shakes(&mut end) {
                end.ack_all(told);
            }
        })
    }
}

fn configured(server: &Server, directory: &Path, user: Option<&str>) -> Fluent {
    std::fs::write(directory.join("key"), "sesame\n").unwrap();
    std::fs::write(directory.join("password"), "hunter2\n").unwrap();
    let config = Config {
        shared_key_file: Some("key".into()),
        username: user.map(Into::into),
        password_file: user.map(|_| "password".into()),
        ..config(server.address)
    };
    Fluent::new(&config, &service(), directory).unwrap()
}

#[test]
fn both_sides_prove_the_key() {
    let directory = tempfile::tempdir().unwrap();
    let good = Guard { shared_key: "sesame", own_key: "sesame", user: None };
    let with_user = Guard { user: Some(("ann", "hunter2")), ..good };
    for (guard, user) in [(good, None), (good, Some("ann")), (with_user, Some("ann"))] {
        let server = guard.server();
        let mut sink = configured(&server, directory.path(), user);
        let batch = batch(&exchanges(2));
        assert_eq!(sink.send(&batch, in_time()), Ok(Sent::all(&batch)));
        assert_eq!(server.next().sequences(), [1, 2]);
    }
}

#[test]
fn who_cannot_prove_it_gets_no_events() {
    let directory = tempfile::tempdir().unwrap();
    let good = Guard { shared_key: "sesame", own_key: "sesame", user: None };
    let rows = [
        (Guard { shared_key: "other", ..good }, None, "refuses the handshake: shared_key mismatch"),
        (Guard { own_key: "guessed", ..good }, None, "has not the shared key"),
        (Guard { user: Some(("ann", "hunter2")), ..good }, None, "set `username` and `password_file`"),
        (Guard { user: Some(("ann", "hunter2")), ..good }, Some("bob"), "refuses the handshake"),
    ];
    for (guard, user, told) in rows {
        let server = guard.server();
        let reason =
            retry(configured(&server, directory.path(), user).send(&batch(&exchanges(1)), in_time()));
        assert!(reason.contains(told), "{reason}");
        assert!(!reason.contains("sesame") && !reason.contains("hunter2"), "{reason}");
        assert!(server.is_done(), "{told}");
    }
}

#[test]
fn a_server_without_a_key_is_told_from_one_that_is_slow() {
    let server = Server::good();
    let directory = tempfile::tempdir().unwrap();
    let mut sink = configured(&server, directory.path(), None);
    let reason = retry(sink.send(&batch(&exchanges(1)), crate::pipeline::sinks::kit::within(300)));
    assert!(reason.contains("waiting for HELO (has the server a shared key?)"), "{reason}");
}

#[test]
fn a_handshake_that_is_something_else_is_an_error() {
    for said in [json!(["PONG", true, "", "", ""]), json!({"ack": "x"}), json!(["HELO"]), json!(7)] {
        let server = Server::start(move |_, stream, _| End::new(stream).say(&said));
        let directory = tempfile::tempdir().unwrap();
        let reason =
            retry(configured(&server, directory.path(), None).send(&batch(&exchanges(1)), in_time()));
        assert!(reason.contains("does not begin with HELO"), "{reason}");
    }
}
