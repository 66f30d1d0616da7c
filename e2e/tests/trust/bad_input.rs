//! Bad input: each has a defined outcome, and an event that says so.

use crate::{PARENT, TRACE, ask, tells};
use e2e::frames::{Peer, long_headers, request_with};
use e2e::{Setup, Sidelight, StrictBackend, get};

/// What is sent, and what becomes of it: the fields that the app gets (`None`: not this one), and how many parts of the
/// context were dropped.
struct Row {
    name: &'static str,
    lines: Vec<u8>,
    fields: &'static [(&'static str, Option<&'static str>)],
    dropped: u64,
}

fn row(
    name: &'static str,
    lines: impl AsRef<[u8]>,
    fields: &'static [(&'static str, Option<&'static str>)],
    dropped: u64,
) -> Row {
    Row { name, lines: lines.as_ref().to_vec(), fields, dropped }
}

#[test]
fn each_malformed_part_is_dropped_and_counted_and_the_rest_goes_on() {
    let app = StrictBackend::start();
    let proxy = Sidelight::start(&Setup::app(app.address()));
    let long = "a".repeat(10 << 10);
    let traceparent = format!("traceparent: 00-{TRACE}-{PARENT}-01\r\n");
    let good = "x-license: gold\r\n";
    let with = |lines: String| format!("{lines}{good}").into_bytes();
    let raw = |before: &[u8], bytes: &[u8]| [before, bytes, b"\r\n", good.as_bytes()].concat();
    let rows = [
        row(
            "two traceparents",
            with(format!(
                "{traceparent}{}tracestate: a=1\r\n",
                traceparent.replace(PARENT, "00f067aa0ba902b7")
            )),
            &[("tracestate", None), ("x-license", Some("gold"))],
            2,
        ),
        row(
            "the same traceparent twice",
            with(format!("{traceparent}{traceparent}")),
            &[("x-license", Some("gold"))],
            1,
        ),
        row(
            "a traceparent in capitals",
            with(traceparent.to_uppercase().replace("TRACEPARENT", "traceparent")),
            &[],
            1,
        ),
        row(
            "invalid UTF-8 in a header",
            raw(b"x-user-id: ", b"al\xff\xfeice"),
            &[("x-user-id", None), ("x-license", Some("gold"))],
            1,
        ),
        row("Latin-1 in a header", raw(b"x-user-id: ", b"al\xefce"), &[("x-user-id", None)], 1),
        row("UTF-8 in a header", raw(b"x-user-id: ", "älice".as_bytes()), &[("x-user-id", None)], 1),
        row(
            "invalid UTF-8 in baggage",
            with("baggage: user.id=al%ff%feice,a=1\r\n".into()),
            &[("x-user-id", None), ("baggage", Some("license=gold,a=1"))],
            1,
        ),
        row(
            "a line end in baggage",
            with("baggage: user.id=al%0d%0aice\r\n".into()),
            &[("x-user-id", None)],
            1,
        ),
        row(
            "a field of 10 KB",
            with(format!("x-account-id: {long}\r\n")),
            &[("x-account-id", None), ("x-license", Some("gold"))],
            1,
        ),
        row(
            "a field of 10 KB in baggage",
            with(format!("baggage: account.id={long}\r\n")),
            &[("x-account-id", None), ("baggage", Some("license=gold"))],
            1,
        ),
        row("a license of 65 bytes", format!("x-license: {}\r\n", &long[..65]), &[("x-license", None)], 1),
        row(
            "65 flags",
            with(format!("x-feature-flags: {}\r\n", vec!["f"; 65].join(","))),
            &[("x-feature-flags", None)],
            1,
        ),
        row("a type that is none", with("x-request-type: TRACER\r\n".into()), &[("x-request-type", None)], 1),
        row(
            "a header that is bad, and good baggage",
            with("x-user-id: a b\r\nbaggage: user.id=alice\r\n".into()),
            &[("x-user-id", Some("alice"))],
            1,
        ),
        row(
            "a user twice",
            with("x-user-id: a\r\nx-user-id: b\r\n".into()),
            &[("x-user-id", None), ("x-license", Some("gold"))],
            1,
        ),
        row("a B3 trace that is none", with("b3: zzz\r\n".into()), &[("x-license", Some("gold"))], 1),
    ];
    let mut failures = Vec::new();
    for row in rows {
        let path = format!("/{}", row.name.replace(' ', "-"));
        let answer = ask(
            &proxy,
            [format!("GET {path} HTTP/1.1\r\nHost: a\r\n").as_bytes(), &row.lines, b"\r\n"].concat(),
        );
        let received = app.take();
        let event = proxy.events().find(row.name, |event| event["url.path"] == *path);
        let mut wrong = Vec::new();
        match received.whole.first() {
            Some(request) if received.violations.is_empty() => {
                for (name, value) in row.fields {
                    if request.fields.all(name).collect::<Vec<_>>() != value.as_slice() {
                        wrong.push(format!("{name}: {:?}", request.fields.get(name)));
                    }
                }
                let is_restarted = !request.fields.get("traceparent").is_some_and(|it| it.contains(TRACE));
                if row.name.contains("traceparent")
                    && !(is_restarted && event["sidelight.parent.source"] == "root")
                {
                    wrong.push("the trace did not restart".into());
                }
            }
            _ => wrong.push(format!("{received:?}")),
        }
        if answer.status != 200 || event["sidelight.context.dropped"] != row.dropped {
            wrong.push(format!("{} {event}", answer.status));
        }
        if !wrong.is_empty() {
            failures.push(format!("{}: {wrong:?}", row.name));
        }
    }
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn a_request_id_that_is_none_is_replaced() {
    let app = StrictBackend::start();
    let proxy = Sidelight::start(&Setup::app(app.address()));
    let long = "a".repeat(10 << 10);
    for (name, bytes) in [
        ("long", long.as_bytes()),
        ("not-utf-8", b"a\xff"),
        ("two-words", b"a b"),
        ("twice", b"a\r\nx-request-id: b"),
    ] {
        let head = format!("GET /{name} HTTP/1.1\r\nHost: a\r\nx-request-id: ");
        assert_eq!(ask(&proxy, [head.as_bytes(), bytes, b"\r\n\r\n"].concat()).status, 200, "{name}");
        let request = app.take().whole.remove(0);
        let ids: Vec<_> = request.fields.all("x-request-id").collect();
        assert!(ids.len() == 1 && ids[0].len() == 36, "{name}: {ids:?}");
        let event = proxy.events().of(ids[0]);
        assert_eq!(event["sidelight.context.dropped"], 1, "{name}: {event}");
    }
}

fn members(bytes: usize) -> String {
    let members: Vec<String> = (0..bytes / 100).map(|n| format!("m{n:04}={}", "v".repeat(93))).collect();
    members.join(",")
}

#[test]
fn baggage_of_100_kb_is_refused_or_cut_to_whole_members() {
    let (app, large) = (StrictBackend::start(), members(100 << 10));
    let proxy = Sidelight::start(&Setup::app(app.address()));
    let request = get("/large", &format!("x-request-id: large\r\nbaggage: {large}\r\n"));
    tells(&ask(&proxy, &request), 431, "request_head_too_large").unwrap();
    let event =
        proxy.events().find("the refusal", |event| event["sidelight.cause"] == "request_head_too_large");
    assert_eq!(event["http.response.status_code"], 431, "{event}");
    let mut peer = Peer::connect(proxy.inbound());
    peer.send(long_headers(1, &request_with("GET", "/", &[("baggage", large.as_str())]), true));
    let answer = peer.finish(1).unwrap();
    assert!(answer.status() == 431 || answer.reset.is_some() || peer.goaway.is_some(), "{answer:?}");
    assert_eq!(app.connections(), 0);

    // Where heads may be as long, the list is cut to what W3C lets a hop carry: whole members, from the left.
    let proxy =
        Sidelight::start(&Setup::app(app.address()).section("limits", "request_head_bytes_max: 256KiB"));
    let lines = format!("x-request-id: cut\r\nx-license: gold\r\nbaggage: {large},license=free\r\n");
    assert_eq!(ask(&proxy, get("/cut", &lines)).status, 200);
    let request = app.take().whole.remove(0);
    let baggage: Vec<&str> = request.fields.all("baggage").collect();
    let left: Vec<&str> = baggage.iter().flat_map(|list| list.split(',')).collect();
    assert!(baggage.len() == 1 && baggage[0].len() <= 8192 && left.len() <= 64, "{} bytes", baggage[0].len());
    assert_eq!(left[0], "license=gold");
    let theirs: Vec<&str> = large.split(',').take(left.len() - 1).collect();
    assert_eq!(left[1..], theirs, "whole members, in their order");
    let event = proxy.events().of("cut");
    let cut = large.split(',').count() - theirs.len();
    assert_eq!(event["sidelight.context.dropped"], cut, "{event}");
    assert_eq!(event["license"], "gold", "{event}");
}

/// The same without a field of ours: what goes on is bounded in any case.
#[test]
fn baggage_without_a_field_of_ours_is_bounded_as_well() {
    let app = StrictBackend::start();
    for trust in ["all", "none"] {
        let setup = Setup::app(app.address())
            .section("inbound", &format!("trust: {trust}"))
            .section("limits", "request_head_bytes_max: 256KiB");
        let proxy = Sidelight::start(&setup);
        let request = get("/", &format!("x-request-id: one\r\nbaggage: {}\r\n", members(100 << 10)));
        assert_eq!(ask(&proxy, request).status, 200);
        let request = app.take().whole.remove(0);
        let bytes: usize = request.fields.all("baggage").map(str::len).sum();
        assert!(bytes <= 8192, "{trust}: {bytes} bytes of baggage went on");
        assert!(proxy.events().of("one")["sidelight.context.dropped"].as_u64() > Some(0), "{trust}");
    }
}
