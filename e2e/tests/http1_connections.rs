//! The life of a connection: whatever a client or an app does to one at an awkward moment has one right outcome.
//! RFC 9112, 9; RFC 9110, 7.8 and 9.2.2.

use std::thread;
use std::time::{Duration, Instant};

use e2e::{Act, Bench, Case, Check, Fault, Script, Step, chunked, get, post};

const DATE: &str = "Date: Sun, 06 Nov 1994 08:49:37 GMT";

fn raw(status: &str, lines: &str, rest: &str) -> String {
    format!("HTTP/1.1 {status}\r\n{DATE}\r\n{lines}\r\n{rest}")
}

fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// An idle connection is closed without a word (RFC 9112, 9.5), a used one after its last answer.
#[test]
fn idle_connections_are_closed() {
    let bench = Bench::with(|setup| setup.section("limits", "idle_timeout: 300ms\nheader_timeout: 300ms"));
    let mut unused = bench.client();
    let mut used = bench.client();
    bench.clean_request("used", &mut used);
    bench.check("unused", unused.is_closed(), "open, or an answer to nothing");
    bench.check("used", used.is_closed(), "open, or an answer to nothing");
    bench.clean_request("after both", &mut bench.client());
    bench.finish();
}

/// RFC 9112, 9.3 and 9.6: who says close gets it; HTTP/1.0 has to ask for more.
#[test]
fn connections_persist_as_said() {
    let bench = Bench::start();
    let old = |lines: &str| format!("GET /c HTTP/1.0\r\nHost: a\r\n{lines}\r\n");
    bench.run(&[
        Case::pass("HTTP/1.1", get("/c", "")).check(Check::StaysOpen),
        Case::pass("HTTP/1.1, keep-alive", get("/c", "Connection: keep-alive\r\n")).check(Check::StaysOpen),
        Case::pass("HTTP/1.1, close", get("/c", "Connection: close\r\n")).check(Check::Closes),
        Case::pass("HTTP/1.1, Close", get("/c", "Connection: Close\r\n")).check(Check::Closes),
        Case::pass("HTTP/1.1, close and keep-alive", get("/c", "Connection: close, keep-alive\r\n"))
            .check(Check::Closes),
        Case::pass("HTTP/1.0", old("")),
        Case::pass("HTTP/1.0, keep-alive", old("Connection: keep-alive\r\n")),
        Case::pass("HTTP/1.0, close", old("Connection: close\r\n")),
    ]);
    let answer = bench.client().ask(get("/c", "Connection: close\r\n") + &get("/c?second", ""));
    bench.check("a request after close", answer.is_ok(), format!("{answer:?}"));
    bench.clean_request("a request after close", &mut bench.client());
    let targets: Vec<_> = bench.backend().take().whole.into_iter().map(|request| request.target).collect();
    bench.check("a request after close", !targets.contains(&"/c?second".to_owned()), format!("{targets:?}"));
    bench.finish();
}

/// A client that ends its sending direction still waits for its answer (RFC 9112, 9.6; netcat, some health checkers).
#[test]
fn a_half_closed_client_gets_its_answer() {
    let bench = Bench::start();
    let slow = || {
        Script(vec![
            Step::ReadBody,
            Step::Pause(ms(200)),
            Step::Send(raw("200 OK", "Content-Length: 2\r\n", "ok").into()),
        ])
    };
    let half = |name: &str, bytes: String| Case::pass(name, bytes).then(Act::HalfClose);
    bench.run(&[
        half("after GET", get("/c", "")),
        half("after GET, a slow answer", get("/c", "")).script(slow()),
        half("after a body by length", post("Content-Length: 5\r\n", "hello"))
            .script(slow())
            .saw_body("hello"),
        half("after a body by chunks", chunked("5\r\nhello\r\n0\r\n\r\n")).script(slow()).saw_body("hello"),
    ]);
    // The first answer is slow, so that the end of sending is seen before the second request's turn.
    let name = "two requests, then half-closed";
    bench.backend().script("/c", slow());
    let mut client = bench.client();
    client.send(get("/c", "") + &get("/clean", ""));
    client.half_close();
    for number in 1..=2 {
        match client.read("GET", 1) {
            Ok(answer) => {
                bench.check(name, answer.status == 200, format!("answer {number}: {}", answer.status))
            }
            Err(fault) => bench.fail(name, format!("answer {number}: {fault}")),
        }
    }
    bench.check(name, client.is_closed(), "still open");
    bench.finish();
}

/// The keep-alive race: the app closes an idle connection as the next request comes (RFC 9112, 9.3.1).
#[test]
fn a_stale_upstream_connection_is_not_the_clients_problem() {
    let bench = Bench::start();
    for round in 0..20 {
        bench.clean_request("before", &mut bench.client());
        bench.backend().close_connections();
        if round % 2 == 0 {
            bench.clean_request("closed while idle", &mut bench.client());
        } else {
            let answer =
                bench.client().ask("PUT /clean HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello");
            bench.check(
                "closed while idle, PUT",
                answer.as_ref().is_ok_and(|a| a.status == 200),
                format!("{answer:?}"),
            );
        }
    }
    // An app that says nothing of it and closes after each answer.
    let silent = Script::reply(raw("200 OK", "Content-Length: 2\r\n", "ok")).close();
    let rows: Vec<Case> = (0..20)
        .map(|n| Case::pass(&format!("closes after answer {n}"), get("/c", "")).script(silent.clone()))
        .collect();
    bench.run(&rows);
    bench.finish();
}

/// What may have been processed is not sent twice (RFC 9110, 9.2.2): a POST that an app swallows stays one POST.
#[test]
fn a_post_is_never_sent_twice() {
    let bench = Bench::start();
    let swallow = Script(vec![Step::ReadBody, Step::Close]);
    for round in 0..5 {
        bench.clean_request("a pooled connection is there", &mut bench.client());
        bench.run(&[Case::upstream(&format!("swallowed POST {round}"), swallow.clone())
            .request(post("Content-Length: 5\r\n", "hello"))]);
    }
    bench.finish();
}

/// Requests in a row share one upstream connection: the pool works, and refusals do not poison it.
#[test]
fn upstream_connections_are_reused() {
    let bench = Bench::start();
    let mut client = bench.client();
    for _ in 0..50 {
        bench.clean_request("in a row", &mut client);
    }
    for _ in 0..10 {
        bench.run(&[Case::deny("refused in between", &[400], get("/%00", ""))]);
    }
    let connections = bench.backend().connections();
    bench.check("in a row", connections == 1, format!("{connections} upstream connections"));
    bench.finish();
}

/// A client that leaves is noticed at once: the app's connection ends, and the event says so. A reset says it at any
/// time; the end of sending means it once the grace for half-closed clients is over.
#[test]
fn a_client_that_leaves_cancels_the_upstream() {
    let grace = ms(20);
    let bench = Bench::with(|setup| setup.section("limits", "half_close_grace: 20ms"));
    let head = raw("200 OK", "Content-Length: 100\r\n", "hello");
    let waiting = Script(vec![Step::ReadBody, Step::AwaitHangUp]);
    let streaming = Script(vec![Step::ReadBody, Step::Send(head.into()), Step::AwaitHangUp]);
    let rows = [
        ("reset before the answer", &waiting, false, true),
        ("reset within the answer", &streaming, true, true),
        ("close before the answer", &waiting, false, false),
        ("close within the answer", &streaming, true, false),
    ];
    for (count, (name, script, gets_head, is_reset)) in rows.into_iter().enumerate() {
        bench.backend().script("/c", script.clone());
        let id = format!("gone-{count}");
        let mut client = bench.client();
        client.send(get("/c", &format!("x-request-id: {id}\r\n")));
        bench.backend().take_after(1);
        if gets_head {
            let head = client.read_head("GET", 1);
            bench.check(name, head.is_ok(), format!("{head:?}"));
        }
        if !is_reset {
            thread::sleep(grace * 2);
        }
        let start = Instant::now();
        if is_reset {
            client.reset()
        } else {
            drop(client)
        }
        bench.backend().wait_for_hang_up(count + 1);
        bench.check(
            name,
            start.elapsed() < Duration::from_secs(1),
            format!("noticed after {:?}", start.elapsed()),
        );
        let event = bench.proxy().events().of(&id);
        bench.check(name, event["sidelight.cause"] == "client_gone", event);
    }
    bench.finish();
}

/// RFC 9110, 7.8: after 101 bytes pass both ways; before it, none of the client's reach the app.
#[test]
fn an_upgrade_is_a_tunnel_after_its_101() {
    let bench = Bench::start();
    let switch = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n";
    bench.backend().script(
        "/c",
        Script(vec![Step::ReadBody, Step::Silence(ms(100)), Step::Send(switch.into()), Step::Echo]),
    );
    let ask = get("/c", "Connection: Upgrade\r\nUpgrade: echo\r\n");
    let mut client = bench.client();
    client.send(format!("{ask}early bytes"));
    match client.read_head("GET", 1) {
        Ok(head) => bench.check(
            "101",
            head.status == 101 && head.fields.get("upgrade") == Some("echo"),
            format!("{head:?}"),
        ),
        Err(fault) => bench.fail("101", fault),
    }
    let mut echoed = Vec::new();
    client.send(", later bytes");
    let outcome = client.wire().exact(24, "echo", &mut echoed);
    bench.check("tunnel", outcome.is_ok() && echoed == b"early bytes, later bytes", echoed.escape_ascii());
    client.half_close();
    bench.check("tunnel", client.is_closed(), "open after the client ended");
    let received = bench.backend().take_after(2);
    bench.check("101", received.violations.is_empty(), format!("{:?}", received.violations));
    let seen = &received.whole[0].fields;
    bench.check("101", seen.get("upgrade") == Some("echo"), format!("{seen:?}"));

    // The app declines: the bytes that came along are no request to it, and they are none to the proxy's pool either.
    bench.backend().script("/c", Script::reply(raw("200 OK", "Content-Length: 2\r\n", "ok")));
    bench.backend().take();
    let mut client = bench.client();
    client.send(format!("{ask}{}", get("/smuggled", "X : bad\r\n")));
    let answer = client.read("GET", 1);
    bench.check("declined", answer.as_ref().is_ok_and(|answer| answer.status == 200), format!("{answer:?}"));
    match client.read("GET", 1) {
        Ok(second) => bench.check("declined", second.status == 400, format!("{second:?}")),
        Err(fault) => bench.check("declined", fault == Fault::Closed, fault),
    }
    bench.clean_request("declined", &mut bench.client());
    let targets: Vec<_> = bench.backend().take().whole.into_iter().map(|request| request.target).collect();
    bench.check("declined", targets.iter().all(|target| target != "/smuggled"), format!("{targets:?}"));
    bench.finish();
}
