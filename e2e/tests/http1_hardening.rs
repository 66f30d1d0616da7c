//! Bounds: what is too large or too slow is refused with a cause, what nobody expects is refused early, and broken
//! clients harm none but themselves. RFC 9110, 10.1.1 and 15.5; RFC 6585, 5.

use std::thread;
use std::time::Duration;

use e2e::{Act, Answer, Bench, Case, Check, Reach, Script, Step, chunked, get, post};

const DATE: &str = "Date: Sun, 06 Nov 1994 08:49:37 GMT";

fn raw(status: &str, lines: &str, rest: &str) -> String {
    format!("HTTP/1.1 {status}\r\n{DATE}\r\n{lines}\r\n{rest}")
}

fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// The default bounds: target 16 KiB (414), head 64 KiB (431), 100 fields (431).
#[test]
fn heads_over_a_limit_are_refused() {
    let bench = Bench::start();
    let fields = |count: usize| get("/c", &(1..count).map(|n| format!("X-{n}: a\r\n")).collect::<String>());
    let large = |bytes: usize| get("/c", &format!("X: {}\r\n", "x".repeat(bytes)));
    let target = |bytes: usize| get(&format!("/{}", "x".repeat(bytes)), "");
    bench.run(&[
        Case::refuse("target of 17 KiB", &[414], target(17 << 10)),
        Case::refuse("target of 70 KiB", &[414, 431], target(70 << 10)),
        Case::refuse("target of 1 MiB", &[414, 431], target(1 << 20)),
        Case::refuse("query of 17 KiB", &[414], get(&format!("/c?{}", "x".repeat(17 << 10)), "")),
        Case::refuse("101 fields", &[431], fields(101)),
        Case::refuse("5,000 fields", &[431], fields(5000)),
        Case::refuse("one field of 65 KiB", &[431], large(65 << 10)),
        Case::refuse("one field of 1 MiB", &[431], large(1 << 20)),
        Case::refuse(
            "50 fields of 2 KiB",
            &[431],
            get("/c", &format!("X: {}\r\n", "x".repeat(2 << 10)).repeat(50)),
        ),
        Case::refuse("a name of 65 KiB", &[400, 431], get("/c", &format!("{}: a\r\n", "x".repeat(65 << 10)))),
        Case::refuse(
            "a head that never ends",
            &[431],
            format!("GET /c HTTP/1.1\r\nHost: a\r\n{}", "X: a\r\n".repeat(100_000)),
        ),
        Case::refuse("a line that never ends", &[400, 414, 431], "x".repeat(1 << 20)),
        Case::pass("target of 15 KiB", target(15 << 10)),
        Case::pass("100 fields", fields(100)),
        Case::pass("one field of 60 KiB", large(60 << 10)),
    ]);
    bench.finish();
}

/// Slow heads and bodies are answered 408, whatever they trickle.
#[test]
fn slow_requests_time_out() {
    let bench = Bench::with(|setup| setup.section("limits", "header_timeout: 300ms\nbody_timeout: 300ms"));
    let late = |name: &str, bytes: String| Case::refuse(name, &[408], bytes);
    let part = |case: Case| case.reach(Reach::NothingWhole);
    bench.run(&[
        late("half a request line", "GET /c HT".to_owned()),
        late("half a head", "GET /c HTTP/1.1\r\nHost: app.exa".to_owned()),
        late("a head without its last line", "GET /c HTTP/1.1\r\nHost: app.example\r\n".to_owned()),
        late("a head that trickles", "GET /c HTTP/1.1\r\nHost: app.example\r\nX-Slow: 1234567890".to_owned())
            .split(ms(10)),
        part(late("half a body", post("Content-Length: 10\r\n", "hello"))),
        part(late("no body", post("Content-Length: 10\r\n", ""))),
        part(late("half a chunk", chunked("a\r\nhello"))),
        part(late("no last chunk", chunked("5\r\nhello\r\n"))),
        part(late("half a trailer", chunked("5\r\nhello\r\n0\r\nX: "))),
        Case::pass("a body that pauses for less", post("Content-Length: 10\r\n", "hello"))
            .then(Act::Pause(ms(100)))
            .then(Act::Send(b"wo".to_vec()))
            .then(Act::Pause(ms(100)))
            .then(Act::Send(b"r".to_vec()))
            .then(Act::Pause(ms(150)))
            .then(Act::Send(b"ld".to_vec()))
            .saw_body("helloworld"),
    ]);
    bench.finish();
}

/// RFC 9110, 10.1.1.
#[test]
fn expectations() {
    let bench = Bench::start();
    let expect =
        |value: &str| format!("POST /c HTTP/1.1\r\nHost: a\r\nExpect: {value}\r\nContent-Length: 5\r\n\r\n");
    bench.run(&[
        Case::deny("an unknown expectation", &[417], expect("200-ok") + "hello"),
        Case::deny("one more than 100-continue", &[417], expect("100-continue, 200-ok") + "hello"),
        Case::pass("a client that does not wait", expect("100-continue") + "hello").saw_body("hello"),
        Case::pass("in capitals", expect("100-Continue") + "hello").saw_body("hello"),
        Case::pass("without a body", get("/c", "Expect: 100-continue\r\n")),
        // RFC 9110, 10.1.1: from an HTTP/1.0 client it is ignored; the client's parser refuses a 100.
        Case::pass(
            "in HTTP/1.0",
            "POST /c HTTP/1.0\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello",
        )
        .saw_body("hello"),
    ]);
    for (name, head, body) in [
        ("waits, by length", expect("100-continue"), "hello"),
        (
            "waits, by chunks",
            post("Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n", ""),
            "5\r\nhello\r\n0\r\n\r\n",
        ),
    ] {
        bench.backend().take();
        let mut client = bench.client();
        client.send(&head);
        match client.read_interim() {
            Ok(interim) => bench.check(name, interim.status == 100, format!("{interim:?}")),
            Err(fault) => bench.fail(name, format!("waited for 100: {fault}")),
        }
        let answer = client.ask(body);
        bench.check(name, answer.as_ref().is_ok_and(|answer| answer.status == 200), format!("{answer:?}"));
        bench.clean_request(name, &mut client);
        let bodies: Vec<_> =
            bench.backend().take_after(2).whole.into_iter().map(|request| request.body).collect();
        bench.check(name, bodies == [b"hello".to_vec(), Vec::new()], format!("the backend saw {bodies:?}"));
    }
    for (name, status, line) in [
        ("413 instead of 100", 413, "413 Content Too Large"),
        ("417 of the app", 417, "417 Expectation Failed"),
        ("200 instead of 100", 200, "200 OK"),
    ] {
        let reply = raw(line, "Content-Length: 2\r\nConnection: close\r\n", "no");
        bench.run(&[Case::pass(name, expect("100-continue"))
            .script(Script(vec![Step::Send(reply.into()), Step::Close]))
            .answer(Answer::Relayed(status))
            .reach(Reach::NothingWhole)
            .check(Check::GotInterim(&[]))]);
    }
    bench.finish();
}

/// RFC 9112, 9.3 and 9.5: an answer that comes before the request's end is delivered, and the connection ends or goes on cleanly.
#[test]
fn early_answers_are_delivered_while_uploading() {
    let bench = Bench::start();
    let large = "x".repeat(4 << 20);
    let head = |id: &str| post(&format!("x-request-id: {id}\r\nContent-Length: {}\r\n", large.len()), "");
    let early = raw("413 Content Too Large", "Content-Length: 2\r\n", "no");
    let closing = raw("413 Content Too Large", "Content-Length: 2\r\nConnection: close\r\n", "no");
    bench.run(&[
        Case::pass("the app reads the rest", head("early-1") + &large)
            .script(Script::early(&early))
            .answer(Answer::Relayed(413))
            .reach(Reach::AtMostOnce),
        Case::pass("the app closes", head("early-2") + &large)
            .script(Script(vec![Step::Send(closing.into()), Step::Close]))
            .answer(Answer::Relayed(413))
            .reach(Reach::NothingWhole),
    ]);
    let name = "a client that waits for the answer";
    bench.backend().script("/c", Script(vec![Step::Send(early.into()), Step::Pause(ms(50)), Step::Close]));
    let mut client = bench.client();
    client.send(head("early-3"));
    client.send(&large[..1000]);
    let answer = client.read("POST", 1);
    bench.check(name, answer.as_ref().is_ok_and(|answer| answer.status == 413), format!("{answer:?}"));
    client.wire().close();
    bench.clean_request(name, &mut bench.client());
    bench.backend().take();
    bench.finish();
}

/// Many clients at once, some of them broken: the answers of the others are their own.
#[test]
fn broken_clients_do_not_disturb_others() {
    let bench = Bench::start();
    let address = bench.proxy().inbound();
    let worker = |number: usize| {
        move || -> Result<(), String> {
            let mut client = e2e::RawClient::connect(address);
            for round in 0..25 {
                let mark = format!("{number}-{round}");
                let body = format!("{mark};").repeat(number + 1);
                let lines = format!("x-request-id: {mark}\r\nContent-Length: {}\r\n", body.len());
                let answer = client.ask(post(&lines, &body)).map_err(|fault| format!("{mark}: {fault}"))?;
                if answer.status != 200 {
                    return Err(format!("{mark}: {}", answer.status));
                }
                let mut broken = e2e::RawClient::connect(address);
                broken.send(post("Content-Length: 50\r\n", "part"));
                let refused = e2e::RawClient::connect(address).ask(get("/c", "X : bad\r\n"));
                if !refused.as_ref().is_ok_and(|answer| answer.status == 400) {
                    return Err(format!("{mark}: {refused:?}"));
                }
            }
            Ok(())
        }
    };
    let threads: Vec<_> = (0..8).map(|number| thread::spawn(worker(number))).collect();
    for thread in threads {
        if let Err(what) = thread.join().expect("a client thread") {
            bench.fail("at once", what);
        }
    }
    let received = bench.backend().take();
    bench.check("at once", received.whole.len() == 200, format!("{} whole requests", received.whole.len()));
    for request in &received.whole {
        let mark = format!("{};", request.fields.get("x-request-id").unwrap_or_default());
        let own =
            !request.body.is_empty() && String::from_utf8_lossy(&request.body).replace(&mark, "").is_empty();
        bench.check(
            "at once",
            own,
            format!("{mark} has the body {:?}", String::from_utf8_lossy(&request.body)),
        );
    }
    bench.check("at once", received.violations.is_empty(), format!("{:?}", received.violations));
    bench.finish();
}

/// An app that does not listen: 502, cause and header agree, and the client's connection goes on.
#[test]
fn an_app_that_is_down_is_502() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").expect("bind").local_addr().expect("address");
    let proxy = e2e::Sidelight::start(&e2e::Setup::app(nobody));
    let mut client = e2e::RawClient::connect(proxy.inbound());
    for number in 0..3 {
        let answer = client.ask(get("/c", &format!("x-request-id: down-{number}\r\n"))).expect("an answer");
        assert_eq!(answer.status, 502, "{}", answer.text());
        let said = answer.fields.get("proxy-status").unwrap_or_default();
        assert!(said.contains("error=connection_refused") && said.contains("connect_failed"), "{said}");
        let event = proxy.events().of(&format!("down-{number}"));
        assert_eq!(event["sidelight.cause"], "connect_failed", "{event}");
        assert_eq!(event["sidelight.response_flags"], "UF", "{event}");
    }
    assert_eq!(proxy.stop().len(), 3);
}
