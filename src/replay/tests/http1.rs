//! What an HTTP/1 target gets.

use super::server::{OK, Server};
use super::*;
use crate::replay::source::{Entries, Events};

#[test]
fn a_request_is_sent_as_it_was_recorded() {
    let server = Server::start(|_| OK.to_vec());
    let recorded = entry(
        1,
        0,
        1,
        "acme",
        "POST /a?b=1 HTTP/1.1\nX-Odd: 1\nContent-Length: 999\nuser-agent: curl\nCookie: a=1\nX-Odd: 2\nAccept: */*",
    );
    let run = replay(vec![with_body(recorded, b"hello")], &options(server.address));
    assert_eq!((run.verdict, run.targets[0].answered), (crate::replay::verdict::Verdict::Ok, 1), "{run:#?}");
    let seen = server.seen();
    let (trace, rest) = seen[0].head.split_once("traceparent: ").unwrap();
    assert_eq!(
        trace,
        "POST /a?b=1 HTTP/1.1\r\nHost: shop.example\r\nX-Odd: 1\r\nContent-Length: 5\r\nuser-agent: curl\r\nCookie: a=1\r\nX-Odd: 2\r\nAccept: */*\r\n"
    );
    let run_id = &run.run;
    assert!(rest.ends_with(&format!(
        "\r\nx-request-type: TRACE\r\nbaggage: replay.run={run_id},user_agent.synthetic.type=test\r\nx-sidelight-replay: run={run_id};trace={};span={};entry=1\r\n\r\n",
        "09".repeat(16),
        "08".repeat(8)
    )), "{rest}");
    assert_eq!(seen[0].body, b"hello");
}

#[test]
fn one_recorded_connection_is_one_connection() {
    let server = Server::start(|_| OK.to_vec());
    let get = |n, connection| entry(n, n, connection, &format!("a{n}"), "GET / HTTP/1.1");
    let entries = vec![get(1, 1), get(2, 2), get(3, 1), get(4, 2), get(5, 1)];
    let run = replay(entries, &options(server.address));
    assert_eq!((run.targets[0].answered, run.connections), (5, 2));
    let mut seen = server.seen();
    let name = |connection: usize| {
        seen.iter()
            .filter(|seen| seen.connection == connection)
            .map(|seen| seen.field("x-sidelight-replay").unwrap().rsplit_once('=').unwrap().1.to_owned())
            .collect::<Vec<_>>()
    };
    let mut connections = [name(0), name(1)];
    connections.sort();
    assert_eq!(connections, [vec!["1", "3", "5"], vec!["2", "4"]]);
    seen.clear();
    assert!(
        server.until(|server| server.closed.lock().unwrap().len() == 2),
        "they are closed behind their last"
    );
}

#[test]
fn a_connection_that_the_target_closes_is_opened_again() {
    let server =
        Server::start(|_| b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_vec());
    let entries = (1..=3).map(|n| entry(n, n * 20, 1, "a", "GET / HTTP/1.1")).collect();
    let run = replay(entries, &options(server.address));
    assert_eq!((run.targets[0].answered, run.targets[0].failed), (3, 0), "{run:#?}");
}

#[test]
fn content_without_a_length_goes_in_chunks_with_its_trailers() {
    let server = Server::start(|_| OK.to_vec());
    let mut recorded = with_body(entry(1, 0, 1, "a", "POST / HTTP/1.1\ntrailer: x-sum"), b"hello");
    let trailers = What::Trailers(Side::Request, vec![Field::new("x-sum", "1")]);
    recorded.events.insert(2, Event { at_ns: 0, what: trailers });
    replay(vec![recorded], &options(server.address));
    assert_eq!(server.seen()[0].body, b"5\r\nhello\r\n0\r\nx-sum: 1\r\n\r\n");
}

#[test]
fn pieces_keep_their_times_when_asked() {
    let server = Server::start(|_| OK.to_vec());
    let mut recorded = with_body(entry(1, 0, 1, "a", "POST / HTTP/1.1"), b"one");
    let late = What::Data(Side::Request, "two".into());
    recorded.events.insert(2, Event { at_ns: 200 * MS, what: late });
    let mut options = options(server.address);
    options.piece_timing = true;
    let run = replay(vec![recorded], &options);
    assert_eq!(server.seen()[0].body, b"3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n");
    let took_us = run.targets[0].latency_actual.max_us;
    assert!((200_000..2_000_000).contains(&took_us), "{took_us}");
}

/// 64 MiB that are nowhere in memory as a whole.
struct Large(Entry);

const LARGE_BYTES: u64 = 64 << 20;

impl Source for Large {
    fn entries(&self) -> Entries<'_> {
        Box::new(std::iter::once(Ok(self.0.clone())))
    }

    fn events<'s>(&'s self, entry: &'s Entry) -> Events<'s> {
        let piece = Bytes::from(vec![7; 1 << 16]);
        let pieces = (0..LARGE_BYTES >> 16)
            .map(move |_| Ok(Event { at_ns: 0, what: What::Data(Side::Request, piece.clone()) }));
        Box::new(pieces.chain(entry.events.iter().cloned().map(Ok)))
    }

    fn authorities(&self) -> Vec<String> {
        Vec::new()
    }
}

#[test]
fn a_large_upload_streams_out_of_the_recording() {
    let server = Server::start(|_| OK.to_vec());
    let mut recorded = entry(1, 0, 1, "a", &format!("PUT /big HTTP/1.1\nContent-Length: {LARGE_BYTES}"));
    (recorded.parts, recorded.token, recorded.request.bytes) = (1024, 1, LARGE_BYTES);
    let source: Arc<dyn Source> = Arc::new(Large(recorded));
    let mut options = options(server.address);
    options.timeout = Duration::from_secs(60);
    let run = run(&source, &options, Hooks::default(), &Stop::default(), &mut |_| ()).unwrap();
    assert_eq!(run.targets[0].answered, 1, "{run:#?}");
    let body = &server.seen()[0].body;
    assert!(body.len() as u64 == LARGE_BYTES && body.iter().all(|byte| *byte == 7));
}

#[test]
fn a_client_that_left_leaves_again_at_the_same_place() {
    let server = Server::start(|seen| {
        let mut answer = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n".to_vec();
        if seen.target() == "/answer" {
            answer.extend_from_slice(&[b'x'; 5_000]);
            return answer;
        }
        std::thread::sleep(Duration::from_secs(60));
        OK.to_vec()
    });
    // While sending, while waiting for the head, and while reading.
    let mut sending =
        with_body(entry(1, 0, 1, "a", "POST /send HTTP/1.1\nContent-Length: 100"), b"0123456789");
    sending.events.truncate(2);
    sending.events.push(Event { at_ns: MS, what: What::Reset(Side::Request, "cancelled".into()) });
    let mut waiting = entry(2, 0, 2, "b", "GET /wait HTTP/1.1");
    waiting.events.truncate(2);
    waiting.events.push(Event { at_ns: 50 * MS, what: What::Reset(Side::Request, "cancelled".into()) });
    let mut reading = entry(3, 0, 3, "c", "GET /answer HTTP/1.1");
    reading.events.truncate(3);
    reading.events.push(Event { at_ns: MS, what: What::Data(Side::Response, vec![0; 3_000].into()) });
    reading.events.push(Event { at_ns: MS, what: What::Reset(Side::Request, "cancelled".into()) });
    let run = replay(vec![sending, waiting, reading], &options(server.address));
    let target = &run.targets[0];
    assert_eq!((target.cancelled, target.failed, target.answered), (3, 0, 0), "{target:#?}");
    assert!(target.seconds.len() < 4, "none of them waited for its timeout");
    assert!(server.until(|server| server.closed.lock().unwrap().len() >= 2));
    let sent = server.seen().into_iter().find(|seen| seen.target() == "/send").unwrap();
    assert_eq!((sent.field("content-length"), &*sent.body), (Some("100"), &b"0123456789"[..]));
}
