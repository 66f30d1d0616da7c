//! Third parties: byte for byte what somebody else's service is told of a request that carries everything.

use crate::{PARENT, TENANT, TRACE};
use e2e::frames::headers;
use e2e::{Fields, Http2Server, RawClient, Script, Setup, Sidelight, StrictBackend, answer};
use std::sync::atomic::{AtomicUsize, Ordering};

/// All that a mesh may say about a request, in every format.
const CONTEXT: &str = "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\ntracestate: vendor=1\r\n\
    baggage: user.id=alice,tenant=t1,theirs=1\r\nbaggage: more=2\r\nx-request-id: r-1\r\nx-user-id: alice\r\n\
    x-account-id: a1\r\nx-license: gold\r\nx-request-type: STANDARD\r\nx-feature-flags: a,b\r\nx-tenant: t1\r\n\
    x-context-signature: v1.k1.1.300.e.AAAA\r\nx-client-request-id: c-1\r\nb3: 0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-1\r\n\
    X-B3-TraceId: 0af7651916cd43dd8448eb211c80319c\r\nX-B3-SpanId: b7ad6b7169203331\r\nX-B3-Sampled: 1\r\n\
    X-Amzn-Trace-Id: Root=1-0af76519-16cd43dd8448eb211c80319c\r\nX-Cloud-Trace-Context: 0af7651916cd43dd8448eb211c80319c/1;o=1\r\n\
    uber-trace-id: 0af7651916cd43dd8448eb211c80319c:b7ad6b7169203331:0:1\r\nuberctx-user: alice\r\n\
    x-datadog-trace-id: 1\r\nx-datadog-parent-id: 2\r\nx-datadog-sampling-priority: 1\r\nx-datadog-tags: _dd.p.tid=0af7651916cd43dd\r\n\
    ot-tracer-traceid: 8448eb211c80319c\r\not-tracer-spanid: b7ad6b7169203331\r\not-tracer-sampled: true\r\not-baggage-user: alice\r\n\
    jaeger-baggage: user=alice\r\nx-forwarded-for: 10.0.0.7\r\nX-Forwarded-Host: inside.example\r\nforwarded: for=10.0.0.7\r\n\
    x-real-ip: 10.0.0.7\r\nx-envoy-expected-rq-timeout-ms: 900\r\n";

/// What is not the mesh's business.
const OWN: &str = "accept: */*\r\nauthorization: Bearer theirs\r\nidempotency-key: k\r\n";

/// A sidecar whose cluster `partner` is of somebody else.
fn setup(partner: std::net::SocketAddr, protocol: &str, keep: &str) -> Setup {
    let cluster = format!(
        "partner:\n  endpoints: [\"{partner}\"]\n  protocol: {protocol}\n  context: {{ zone: third_party{keep} }}"
    );
    let retry = "routes:\n  - { name: partner, match: { host: partner }, cluster: partner, \
                 retry: { on: [\"5xx\"], limit: 2, backoff: { base: 1ms, max: 2ms } } }";
    // What the sidecar itself adds.
    let formats =
        "formats: { write: [b3, b3_multi, xray, cloud_trace, jaeger, datadog, ot_tracer, grpc_trace_bin] }";
    Setup::bare()
        .section("context", TENANT)
        .section("context", formats)
        .section("clusters", &cluster)
        .section("outbound", retry)
}

/// What a third party is told of [`call`]: the request, and that a proxy made it (RFC 9110 §7.6.3).
fn told() -> String {
    format!("GET /pay HTTP/1.1\r\nhost: partner\r\n{OWN}via: 1.1 sidelight\r\n\r\n")
}

fn call(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: partner\r\n{OWN}{CONTEXT}\r\n")
}

fn ask(proxy: &Sidelight, path: &str) -> u16 {
    RawClient::connect(proxy.outbound()).ask(call(path)).expect("an answer").status
}

#[test]
fn a_third_party_gets_the_request_and_nothing_else() {
    let partner = StrictBackend::start();
    let proxy = Sidelight::start(&setup(partner.address(), "http1", ""));
    assert_eq!(ask(&proxy, "/pay"), 200);
    let request = partner.take().whole.remove(0);
    let expected = told();
    assert_eq!(request.raw.escape_ascii().to_string(), expected.as_bytes().escape_ascii().to_string());
    // The event has it all: it is ours.
    let event = proxy.events().of("r-1");
    assert_eq!(
        (&event["trace_id"], &event["user_id"], &event["tenant"]),
        (&TRACE.into(), &"alice".into(), &"t1".into()),
        "{event}"
    );
}

#[test]
fn nor_does_it_over_http2_or_by_a_retry() {
    let tries = AtomicUsize::new(0);
    let partner = Http2Server::answering(move |peer, stream, _| {
        if tries.fetch_add(1, Ordering::SeqCst) == 0 {
            peer.send(headers(stream, &[(":status", "503"), ("content-length", "0")], true));
        } else {
            answer(peer, stream);
        }
    });
    let proxy = Sidelight::start(&setup(partner.address(), "http2", ""));
    assert_eq!(ask(&proxy, "/pay"), 200);
    let tries = partner.take();
    assert_eq!(tries.len(), 2, "{tries:?}");
    for request in tries {
        let mut fields = request.fields.clone();
        fields.sort();
        let expected = [
            (":authority", "partner"),
            (":method", "GET"),
            (":path", "/pay"),
            (":scheme", "http"),
            ("accept", "*/*"),
            ("authorization", "Bearer theirs"),
            ("idempotency-key", "k"),
            ("via", "1.1 sidelight"),
        ];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(fields, expected);
    }
    assert_eq!(proxy.events().of("r-1")["sidelight.retries"], 1);
}

#[test]
fn retries_over_http1_tell_no_more() {
    let partner = StrictBackend::start();
    partner.script("/pay", Script::reply("HTTP/1.1 503 No\r\nDate: x\r\nContent-Length: 0\r\n\r\n"));
    let proxy = Sidelight::start(&setup(partner.address(), "http1", ""));
    assert_eq!(ask(&proxy, "/pay"), 503);
    let tries = partner.take().whole;
    assert!(tries.len() > 1, "no retry");
    let expected = told();
    for request in tries {
        assert_eq!(request.raw.escape_ascii().to_string(), expected.as_bytes().escape_ascii().to_string());
    }
}

#[test]
fn a_mirrored_copy_tells_no_more() {
    let (app, shadow) = (StrictBackend::start(), StrictBackend::start());
    let cluster = format!(
        "shadow:\n  endpoints: [\"{}\"]\n  protocol: http1\n  context: {{ zone: third_party }}",
        shadow.address()
    );
    let setup = Setup::app(app.address())
        .section("context", TENANT)
        .section("inbound", "routes:\n  - { name: all, mirror: { cluster: shadow } }")
        .section("clusters", &cluster);
    let proxy = Sidelight::start(&setup);
    assert_eq!(RawClient::connect(proxy.inbound()).ask(call("/pay")).unwrap().status, 200);
    let copy = shadow.take_after(1).whole.remove(0);
    let expected = told();
    assert_eq!(copy.raw.escape_ascii().to_string(), expected.as_bytes().escape_ascii().to_string());
    let given = app.take_after(1).whole.remove(0);
    assert_eq!(given.fields.get("x-user-id"), Some("alice"), "the app gets it all");
}

#[test]
fn what_is_kept_goes_and_nothing_beside_it() {
    let rows = [
        ("trace", "traceparent", None),
        ("request_id", "x-request-id", Some("r-1")),
        ("user_id", "x-user-id", Some("alice")),
        ("account_id", "x-account-id", Some("a1")),
        ("license", "x-license", Some("gold")),
        ("request_type", "x-request-type", Some("STANDARD")),
        ("flags", "x-feature-flags", Some("a,b")),
    ];
    for (keep, header, value) in rows {
        let partner = StrictBackend::start();
        let proxy = Sidelight::start(&setup(partner.address(), "http1", &format!(", keep: [{keep}]")));
        assert_eq!(ask(&proxy, "/pay"), 200);
        let Fields(fields) = partner.take().whole.remove(0).fields;
        let names: Vec<&str> = fields
            .iter()
            .map(|(name, _)| name.as_str())
            .filter(|name| !["host", "via"].contains(name))
            .collect();
        let mut expected = vec!["accept", "authorization", "idempotency-key", header];
        expected.sort();
        let mut sorted = names.clone();
        sorted.sort();
        assert_eq!(sorted, expected, "{keep}");
        let sent = &fields.iter().find(|(name, _)| name == header).expect("it is kept").1;
        match value {
            Some(value) => assert_eq!(sent, value),
            None => {
                let event = proxy.events().of("r-1");
                let span = event["span_id"].as_str().expect("a span");
                assert!(
                    sent.starts_with(&format!("00-{TRACE}-")) && !sent.contains(PARENT),
                    "{sent}, {span}"
                );
            }
        }
    }
}

/// What comes behind the content may name people as well.
#[test]
fn trailers_tell_a_third_party_nothing() {
    let partner = StrictBackend::start();
    let proxy = Sidelight::start(&setup(partner.address(), "http1", ""));
    let request = "POST /pay HTTP/1.1\r\nHost: partner\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\
                   x-user-id: alice\r\nbaggage: user.id=alice\r\nx-tenant: t1\r\nx-context-signature: v1\r\n\
                   b3: 0\r\nuberctx-user: alice\r\nx-client-request-id: c-1\r\nx-real-ip: 10.0.0.7\r\nx-sum: 7\r\n\r\n";
    assert_eq!(RawClient::connect(proxy.outbound()).ask(request).unwrap().status, 200);
    let Fields(trailers) = partner.take_after(1).whole.remove(0).trailers;
    assert_eq!(trailers, [("x-sum".to_owned(), "7".to_owned())]);
}
