mod h2;
pub(crate) mod server;
mod tls;

use super::*;
use proptest::prelude::*;
use server::{Server, read_request};
use std::io::{Read, Write};
use std::sync::mpsc;

pub(crate) fn client(url: &str) -> HttpClient {
    HttpClient::new(url, None, Path::new("/"), Protocol::Http1).unwrap()
}

pub(crate) fn within(ms: u64) -> Instant {
    Instant::now() + Duration::from_millis(ms)
}

fn post(client: &mut HttpClient, body: &'static str) -> Result<Answer, Failure> {
    client.request(
        "POST",
        "/v1/traces?a=b",
        &[("content-type", "text/plain")],
        Bytes::from_static(body.as_bytes()),
        within(5000),
    )
}

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

#[test]
fn a_request_arrives_as_it_was_asked_for_and_its_connection_is_used_again() {
    let (seen, requests) = mpsc::channel();
    let server = Server::start(move |mut stream| {
        while let Some(request) = read_request(&mut stream) {
            seen.send(request).unwrap();
            stream.write_all(OK).unwrap();
        }
    });
    let mut client = client(&format!("http://{}/base/", server.address));
    assert_eq!((client.authority(), client.base_path()), (&*server.address.to_string(), "/base"));
    for body in ["one", "two", ""] {
        let answer = post(&mut client, body).unwrap();
        assert_eq!((answer.status, &answer.body[..]), (200, &b"ok"[..]));
        let request = requests.recv().unwrap().to_lowercase();
        assert!(request.starts_with("post /v1/traces?a=b http/1.1\r\n"), "{request}");
        for line in [
            format!("\r\nhost: {}\r\n", server.address),
            "\r\ncontent-type: text/plain\r\n".into(),
            "\r\nuser-agent: sidelight/".into(),
        ] {
            assert!(request.contains(&line), "{line} is not in {request}");
        }
        assert!(request.contains(&format!("\r\ncontent-length: {}\r\n", body.len())), "{request}");
        assert!(request.ends_with(&format!("\r\n\r\n{body}")), "{request}");
    }
    assert_eq!(server.accepted(), 1);
}

#[test]
fn host_and_agent_of_the_caller_are_kept() {
    let (seen, requests) = mpsc::channel();
    let server = Server::start(move |mut stream| {
        seen.send(read_request(&mut stream).unwrap()).unwrap();
        stream.write_all(OK).unwrap();
    });
    let headers = [("Host", "bucket.test"), ("User-Agent", "mine")];
    client(&server.url()).request("PUT", "/", &headers, Bytes::new(), within(5000)).unwrap();
    let request = requests.recv().unwrap().to_lowercase();
    assert_eq!(request.matches("host: ").count(), 1, "{request}");
    assert!(
        request.contains("host: bucket.test\r\n") && request.contains("user-agent: mine\r\n"),
        "{request}"
    );
}

#[test]
fn a_kept_connection_that_was_closed_is_replaced_without_a_word() {
    // Closed after the answer; said to be closed; closed only when the next request is there.
    let close: &[u8] = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok";
    for (answer, reads_another) in [(OK, false), (close, false), (OK, true)] {
        let server = Server::start(move |mut stream| {
            read_request(&mut stream).unwrap();
            stream.write_all(answer).unwrap();
            if reads_another {
                read_request(&mut stream);
            }
        });
        let mut client = client(&server.url());
        for _ in 0..3 {
            assert_eq!(post(&mut client, "x").unwrap().status, 200);
        }
        assert_eq!(server.accepted(), 3, "reads another: {reads_another}");
    }
}

#[test]
fn a_new_connection_that_breaks_is_a_failure_and_not_tried_for_ever() {
    let server = Server::start(|mut stream| {
        read_request(&mut stream);
    });
    let failure = post(&mut client(&server.url()), "x").unwrap_err();
    assert!(matches!(&failure, Failure::Retry { after: None, .. }), "{failure:?}");
    assert!(failure.reason().starts_with(&server.address.to_string()), "{failure:?}");
    assert_eq!(server.accepted(), 1);
}

#[test]
fn what_does_not_answer_costs_no_more_than_the_deadline_and_its_connection() {
    let half: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nab";
    for (said, why) in [(&b""[..], "no answer in time"), (half, "did not end in time")] {
        let (closed, is_closed) = mpsc::channel();
        let server = Server::start(move |mut stream| {
            read_request(&mut stream).unwrap();
            stream.write_all(said).unwrap();
            // Ends when the client closes.
            closed.send(stream.read(&mut [0]).unwrap_or(0)).unwrap();
        });
        let (mut client, begin) = (client(&server.url()), Instant::now());
        let failure = client.request("POST", "/", &[], Bytes::from_static(b"x"), within(150)).unwrap_err();
        assert!(matches!(&failure, Failure::Retry { reason, .. } if reason.contains(why)), "{failure:?}");
        assert!(begin.elapsed() < Duration::from_secs(3));
        assert_eq!(
            is_closed.recv_timeout(Duration::from_secs(5)),
            Ok(0),
            "the client still has the connection"
        );
    }
}

#[test]
fn nobody_there_is_a_failure_that_names_the_place() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let failure = post(&mut client(&format!("http://{address}")), "x").unwrap_err();
    assert!(matches!(&failure, Failure::Retry { .. }));
    assert!(
        failure.reason().contains(&address.to_string()) && failure.reason().contains("refused"),
        "{failure:?}"
    );
    let failure =
        client("http://nobody.invalid").request("GET", "/", &[], Bytes::new(), within(20_000)).unwrap_err();
    assert!(failure.reason().starts_with("nobody.invalid: "), "{failure:?}");
}

#[test]
fn a_connection_that_is_idle_is_let_go_when_the_peer_closes() {
    let (close, may_close) = mpsc::channel::<()>();
    let may_close = std::sync::Mutex::new(may_close);
    let server = Server::start(move |mut stream| {
        read_request(&mut stream).unwrap();
        stream.write_all(OK).unwrap();
        let _ = may_close.lock().unwrap().recv();
    });
    let mut client = client(&server.url());
    post(&mut client, "x").unwrap();
    client.idle();
    assert!(client.link.is_some(), "nobody closed it");
    close.send(()).unwrap();
    let limit = within(5000);
    while client.link.is_some() && Instant::now() < limit {
        client.idle();
    }
    assert!(client.link.is_none());
    drop(close);
}

#[test]
fn a_huge_answer_is_cut_and_its_connection_given_up() {
    let server = Server::start(|mut stream| {
        while read_request(&mut stream).is_some() {
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", 8 << 20);
            // The client stops reading on the way.
            if stream
                .write_all(head.as_bytes())
                .and_then(|()| stream.write_all(&vec![b'x'; 8 << 20]))
                .is_err()
            {
                return;
            }
        }
    });
    let mut client = client(&server.url());
    for _ in 0..2 {
        let answer = post(&mut client, "x").unwrap();
        assert_eq!((answer.status, answer.body.len()), (200, 1 << 20));
    }
    assert_eq!(server.accepted(), 2);
}

#[test]
fn a_head_without_end_is_a_failure() {
    let server = Server::start(|mut stream| {
        read_request(&mut stream);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n");
        while stream.write_all(&[b'a'; 4096]).is_ok() {}
    });
    assert!(matches!(post(&mut client(&server.url()), "x"), Err(Failure::Retry { .. })));
}

fn answer(status: u16, retry_after: Option<&str>, body: &[u8]) -> Answer {
    let mut headers = ::http::HeaderMap::new();
    if let Some(value) = retry_after {
        headers.insert("retry-after", value.parse().unwrap());
    }
    Answer { status, headers, trailers: None, body: Bytes::copy_from_slice(body) }
}

#[test]
fn a_status_says_whether_to_come_again_and_when() {
    let later = |ms: u64| Some(Duration::from_millis(ms));
    for (status, retry_after, is_retry, after) in [
        (429, Some("7"), true, later(7000)),
        (503, Some("0"), true, later(0)),
        (503, Some("Sun, 06 Nov 1994 08:49:37 GMT"), true, later(0)),
        (503, Some("soon"), true, None),
        (503, Some("99999999999999999999"), true, later(3_600_000)),
        (429, None, true, None),
        (408, None, true, None),
        (425, None, true, None),
        (500, None, true, None),
        (599, None, true, None),
        (400, Some("7"), false, None),
        (401, None, false, None),
        (301, None, false, None),
        (413, None, false, None),
    ] {
        match answer(status, retry_after, b"").failure() {
            Failure::Retry { after: found, .. } => {
                assert_eq!((true, after), (is_retry, found), "{status} {retry_after:?}")
            }
            Failure::Refused { .. } => assert!(!is_retry, "{status}"),
        }
    }
    let Failure::Retry { after: Some(after), .. } =
        answer(503, Some("Fri, 31 Dec 9999 23:59:59 GMT"), b"").failure()
    else {
        panic!("a date is a time to come again");
    };
    assert_eq!(after, Duration::from_secs(3600));
}

#[test]
fn the_reason_is_one_clean_line() {
    let reason = |body: &[u8]| answer(400, None, body).failure().reason().to_owned();
    assert_eq!(reason(b""), "status 400");
    assert_eq!(reason(b"\r\n\n  no \x1b[31msuch\tindex \nand more"), "status 400: no  [31msuch index");
    assert_eq!(reason(&[b'x'; 5000]).len(), 200);
    assert_eq!(reason("é".repeat(500).as_bytes()).len(), 200);
    assert!(reason(&[0xff, 0xfe]).starts_with("status 400: "));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn no_answer_whatever_makes_it_panic_or_hang(said in prop::collection::vec(any::<u8>(), 0..200), is_http: bool) {
        let begin: &[u8] = if is_http { b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" } else { b"" };
        let mut bytes = begin.to_vec();
        bytes.extend_from_slice(&said);
        let server = Server::start(move |mut stream| {
            read_request(&mut stream);
            let _ = stream.write_all(&bytes);
        });
        let begin = Instant::now();
        match post(&mut client(&server.url()), "x") {
            Ok(answer) => prop_assert!(answer.body.len() <= said.len()),
            Err(failure) => {
                let is_retry = matches!(failure, Failure::Retry { .. });
                prop_assert!(is_retry);
            }
        }
        prop_assert!(begin.elapsed() < Duration::from_secs(4));
    }
}
