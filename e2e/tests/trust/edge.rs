//! The edge: what a stranger says of itself, in any spelling, and what the rules of the edge say instead.

use crate::{Certificates, PARENT, TENANT, TRACE, ask, believed, is_anonymous, tells};
use e2e::frames::{self, Peer, request_with};
use e2e::tls::TlsClient;
use e2e::{RawClient, Setup, Sidelight, StrictBackend, chunked, get};

fn edge(app: &StrictBackend) -> Setup {
    Setup::app(app.address()).section("inbound", "trust: none").section("context", TENANT)
}

/// What claims to be context, in lines of HTTP/1.1.
const CLAIMS: [(&str, &str); 23] = [
    ("a user", "x-user-id: root\r\n"),
    ("an account", "x-account-id: root\r\n"),
    ("a license", "x-license: gold\r\n"),
    ("a tracer bullet", "x-request-type: TRACE\r\n"),
    ("flags", "x-feature-flags: admin\r\n"),
    ("a further field", "x-tenant: root\r\n"),
    ("capitals", "X-USER-ID: root\r\nX-License: gold\r\n"),
    ("capitals somewhere", "x-UsEr-iD: root\r\n"),
    ("twice", "x-user-id: root\r\nx-user-id: root\r\n"),
    ("twice, once empty", "x-user-id:\r\nX-User-Id: root\r\n"),
    ("twice, by case", "x-license: free\r\nX-LICENSE: gold\r\n"),
    ("no space", "x-user-id:root\r\n"),
    ("much space", "x-user-id: \t  root \t \r\n"),
    ("baggage", "baggage: user.id=root,license=gold\r\n"),
    ("baggage with capitals", "BaGGage: user.id=root\r\n"),
    ("baggage twice", "baggage: user.id=root\r\nbaggage: account.id=root\r\n"),
    ("baggage with room and properties", "baggage: \t user.id \t = root ;a=b;c , ,\tlicense=gold\r\n"),
    ("baggage with an encoded key", "baggage: user%2Eid=root,%6cicense=gold,accoun%74.id=root\r\n"),
    ("baggage with an encoded key in small", "baggage: user%2eid=root,request%2etype=TRACE\r\n"),
    ("baggage with an encoded space", "baggage: user.id%20=root,+license=gold,%09account.id=root\r\n"),
    ("baggage with an encoded further field", "baggage: ten%61nt=root,context%2Esignature=v1.a.1.1.b.c\r\n"),
    ("both", "x-user-id: root\r\nbaggage: user.id=root\r\n"),
    ("both, among others", "x-other: 1\r\nX-User-Id: root\r\nbaggage: a=1,user.id=root,b=2\r\n"),
];

#[test]
fn a_stranger_is_believed_nothing_in_any_spelling() {
    let app = StrictBackend::start();
    let proxy = Sidelight::start(&edge(&app));
    let mut failures = Vec::new();
    for (number, (name, lines)) in CLAIMS.into_iter().enumerate() {
        let id = format!("claim-{number}");
        let with_id = format!("x-request-id: {id}\r\n{lines}");
        let mut streams = Peer::connect(proxy.inbound());
        let fields: Vec<(String, String)> = with_id
            .lines()
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (&**name, &**value)).collect();
        let statuses = [
            ask(&proxy, get("/", &with_id)).status,
            streams.ask(1, &request_with("GET", "/", &fields)).unwrap().status(),
        ];
        let events = proxy.events().wait(2 * (number + 1));
        let events: Vec<_> = events.iter().filter(|event| event["request_id"] == *id).collect();
        let received = app.take();
        let is_right = statuses == [200, 200]
            && received.whole.len() == 2
            && received.whole.iter().all(|request| believed(request).is_empty())
            && events.len() == 2
            && events.iter().all(|event| is_anonymous(event) && event["sidelight.context.dropped"].is_u64());
        if !is_right {
            let told: Vec<_> = received.whole.iter().flat_map(believed).collect();
            let dropped: Vec<_> = events.iter().map(|event| &event["sidelight.context.dropped"]).collect();
            failures.push(format!("{name}: {statuses:?}, the app was told {told:?}, dropped {dropped:?}"));
        }
    }
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn what_is_no_header_of_http_is_refused() {
    let app = StrictBackend::start();
    let proxy = Sidelight::start(&edge(&app));
    for (name, lines) in [
        ("obs-fold", "x-user-id:\r\n root\r\n"),
        ("obs-fold behind another", "x-other: 1\r\n x-user-id: root\r\n"),
        ("space before the colon", "x-user-id : root\r\n"),
        ("a bare CR", "x-other: 1\rx-user-id: root\r\n"),
        ("a bare LF", "x-other: 1\nx-user-id: root\r\n"),
        ("a NUL", "x-user-id: root\0\r\n"),
        ("no name", ": root\r\n"),
    ] {
        let answer = ask(&proxy, get("/", lines));
        // A bare LF may end a line (RFC 9112 §2.2); then it is a field as any other.
        let is_read = name == "a bare LF" && answer.status == 200;
        assert!(is_read || tells(&answer, 400, "malformed_request").is_ok(), "{name}: {answer:?}");
    }
    assert!(app.take().whole.iter().all(|request| believed(request).is_empty()));
    for (name, field) in
        [("capitals", ("X-User-Id", "root")), ("a line end", ("x-a", "1\r\nx-user-id: root"))]
    {
        let answer = Peer::connect(proxy.inbound()).ask(1, &request_with("GET", "/", &[field]));
        assert!(answer.is_ok_and(|answer| matches!(answer.status(), 0 | 400)), "{name}");
    }
    assert!(app.take().whole.is_empty());
}

#[test]
fn trailers_name_nobody() {
    let app = StrictBackend::start();
    let proxy = Sidelight::start(&edge(&app));
    let trailers = "X-User-Id: root\r\nx-license: gold\r\nX-Request-Type: TRACE\r\nbaggage: user.id=root\r\n";
    assert_eq!(ask(&proxy, chunked(&format!("1\r\na\r\n0\r\n{trailers}x-sum: 7\r\n\r\n"))).status, 200);
    let mut peer = Peer::connect(proxy.inbound());
    peer.send(frames::headers(1, &request_with("POST", "/c", &[]), false));
    peer.send(frames::headers(
        1,
        &[("x-user-id", "root"), ("baggage", "user.id=root"), ("x-sum", "7")],
        true,
    ));
    assert_eq!(peer.finish(1).unwrap().status(), 200);
    for request in app.take_after(2).whole {
        assert_eq!(
            (believed(&request), request.trailers.get("x-sum")),
            (Vec::new(), Some("7")),
            "{request:?}"
        );
    }
}

#[test]
fn naming_context_in_connection_is_refused() {
    let app = StrictBackend::start();
    let proxy = Sidelight::start(&edge(&app));
    for name in [
        "x-user-id",
        "X-Account-Id",
        "x-license",
        "x-request-type",
        "x-feature-flags",
        "x-request-id",
        "x-context-signature",
        "traceparent",
        "TRACESTATE",
        "baggage",
        "b3",
        "X-B3-TraceId",
        "uber-trace-id",
        "x-amzn-trace-id",
    ] {
        let id = format!("nominated-{name}");
        let lines = format!("x-request-id: {id}\r\nConnection: close, {name}\r\n{name}: root\r\n");
        let lines = if name == "x-request-id" { lines.replace(": root", &format!(": {id}")) } else { lines };
        let answer = ask(&proxy, get("/", &lines));
        tells(&answer, 400, "protected_field_nominated").unwrap_or_else(|told| panic!("{name}: {told}"));
        if name != "x-request-id" {
            let event = proxy.events().of(&id);
            assert_eq!(event["sidelight.cause"], "protected_field_nominated", "{name}: {event}");
            assert!(is_anonymous(&event), "{name}: {event}");
        }
    }
    assert_eq!(app.connections(), 0);
}

/// A further field is as much a part of the context as the others: docs/trust.md says "everywhere".
#[test]
fn naming_a_further_field_in_connection_is_refused() {
    let app = StrictBackend::start();
    let setup = Setup::app(app.address())
        .section("context", "fields:\n  tenant: {}\n  region: { header: eu-region }");
    let proxy = Sidelight::start(&setup);
    for name in ["x-tenant", "X-Tenant", "eu-region"] {
        let answer = ask(&proxy, get("/", &format!("Connection: {name}\r\n{name}: t1\r\n")));
        tells(&answer, 400, "protected_field_nominated").unwrap_or_else(|told| panic!("{name}: {told}"));
    }
}

/// What a further field, a signature or another tracer's baggage is called may come as a trailer as well.
#[test]
fn trailers_carry_no_further_field_either() {
    let app = StrictBackend::start();
    let proxy = Sidelight::start(&edge(&app));
    let trailers = "x-tenant: root\r\nX-Context-Signature: v1.a.1.1.b.c\r\n";
    assert_eq!(ask(&proxy, chunked(&format!("0\r\n{trailers}\r\n"))).status, 200);
    let request = app.take_after(1).whole.remove(0);
    assert!(request.trailers.0.is_empty(), "{:?}", request.trailers);
}

/// CGI, WSGI, PHP and Rack make `HTTP_X_USER_ID` of `x_user_id` as well: an application behind them would read a stranger's
/// claim as the header that the sidecar guards. nginx drops such names for that reason.
#[test]
fn a_name_with_underscores_does_not_pass_for_ours() {
    let app = StrictBackend::start();
    let proxy = Sidelight::start(&edge(&app));
    let names = [
        "x_user_id",
        "X_User-ID",
        "x-account_id",
        "x_license",
        "X_REQUEST_TYPE",
        "x_feature_flags",
        "x_tenant",
    ];
    let lines: String = names.iter().map(|name| format!("{name}: root\r\n")).collect();
    assert_eq!(ask(&proxy, get("/", &lines)).status, 200);
    let request = app.take_after(1).whole.remove(0);
    let is_ours = |name: &str| crate::HEADERS.contains(&name.to_ascii_lowercase().replace('_', "-").as_str());
    let passed: Vec<_> = request.fields.0.iter().filter(|(name, _)| is_ours(name)).collect();
    assert!(passed.is_empty(), "{passed:?}");
}

/// OpenTelemetry's propagators for Jaeger and OpenTracing read their baggage into the same bag as W3C's: `uberctx-user.id`
/// becomes `baggage: user.id` on the application's next call, which its sidecar believes.
#[test]
fn baggage_of_other_tracers_names_nobody_either() {
    let app = StrictBackend::start();
    let proxy = Sidelight::start(&edge(&app));
    for name in [
        "uberctx-user.id",
        "Uberctx-User.Id",
        "uberctx-license",
        "ot-baggage-account.id",
        "ot-baggage-tenant",
    ] {
        assert_eq!(ask(&proxy, get("/", &format!("{name}: root\r\n"))).status, 200);
        let request = app.take_after(1).whole.remove(0);
        assert!(!request.fields.has(name), "{name} passed");
    }
    assert_eq!(ask(&proxy, get("/", "jaeger-baggage: user.id=root, other=1\r\n")).status, 200);
    let request = app.take_after(1).whole.remove(0);
    assert!(
        !request.fields.get("jaeger-baggage").is_some_and(|value| value.contains("user.id")),
        "{request:?}"
    );
}

#[test]
fn rules_of_the_edge_say_who_it_is_instead() {
    let app = StrictBackend::start();
    let rules = "edge: { trace: restart, request_id: replace, set: { license: free, tenant: public, flags: \"a,b\" } }";
    let proxy = Sidelight::start(&edge(&app).section("context", rules));
    let theirs = format!(
        "traceparent: 00-{TRACE}-{PARENT}-01\r\ntracestate: vendor=1\r\nb3: {TRACE}-{PARENT}-1\r\n\
         x-request-id: theirs\r\nx-license: gold\r\nbaggage: license=gold,other=1;p\r\nx-user-id: root\r\n"
    );
    assert_eq!(ask(&proxy, get("/", &theirs)).status, 200);
    let request = app.take().whole.remove(0);
    let traceparent = request.fields.get("traceparent").unwrap_or_default().to_owned();
    assert!(traceparent.len() == 55 && !traceparent.contains(TRACE), "{traceparent}");
    for name in ["tracestate", "b3", "x-user-id"] {
        assert!(!request.fields.has(name), "{name}: {:?}", request.fields);
    }
    for (name, value) in [
        ("x-license", "free"),
        ("x-tenant", "public"),
        ("x-feature-flags", "a,b"),
        ("x-client-request-id", "theirs"),
    ] {
        assert_eq!(request.fields.all(name).collect::<Vec<_>>(), [value], "{name}");
    }
    let members = request.fields.list("baggage");
    for member in ["license=free", "tenant=public", "other=1;p"] {
        assert!(members.contains(&member.to_owned()), "{members:?}");
    }
    assert!(!members.iter().any(|member| member.contains("gold")), "{members:?}");
    let id = request.fields.get("x-request-id").unwrap_or_default();
    assert_eq!(id.len(), 36, "{id}");
    let event = proxy.events().of(id);
    assert_eq!(event["trace_id"], traceparent[3..35], "{event}");
    assert!(event.get("parent_id").is_none() && event["sidelight.parent.source"] == "root", "{event}");
    assert_eq!(
        event["sidelight.links"],
        serde_json::json!([{ "trace_id": TRACE, "span_id": PARENT }]),
        "{event}"
    );
    assert_eq!((&event["license"], &event["tenant"]), (&"free".into(), &"public".into()), "{event}");
    assert_eq!(event["flags"], serde_json::json!(["a", "b"]), "{event}");
    assert!(event.get("user_id").is_none(), "{event}");
    // Who brings nothing gets the same, and no id that somebody else chose.
    assert_eq!(ask(&proxy, get("/", "")).status, 200);
    let request = app.take().whole.remove(0);
    assert_eq!(request.fields.get("x-license"), Some("free"));
    assert!(!request.fields.has("x-client-request-id"));
}

#[test]
fn a_certificate_says_who_it_is_and_its_owner_nothing_more() {
    let tls = Certificates::new();
    let identity = "spiffe://mesh.example/shop";
    let certificate = tls.authority.client(identity);
    let forged = "x-account-id: root\r\nbaggage: account.id=root,license=gold\r\nx-license: gold\r\n";
    for (trust, own, account, license) in [
        ("none", None, None, "free"),
        ("none", Some(&certificate), Some(identity), "free"),
        ("mtls", None, None, "free"),
        ("mtls", Some(&certificate), Some("root"), "gold"),
    ] {
        let name = format!("{trust}, certificate: {}", own.is_some());
        let app = StrictBackend::start();
        let setup = Setup::app(app.address())
            .section("inbound", &format!("trust: {trust}\n{}", tls.inbound()))
            .section("context", "edge: { identity: account_id, set: { license: free } }");
        let proxy = Sidelight::start(&setup);
        let client = TlsClient::start(
            tls.authority.trusting_client(own, &["http/1.1"]),
            "app.example",
            proxy.inbound(),
        );
        let answer =
            RawClient::connect(client.address()).ask(get("/", &format!("x-request-id: one\r\n{forged}")));
        assert_eq!(answer.unwrap().status, 200, "{name}");
        let fields = app.take().whole.remove(0).fields;
        assert_eq!(fields.all("x-account-id").collect::<Vec<_>>(), account.as_slice(), "{name}");
        assert_eq!(fields.all("x-license").collect::<Vec<_>>(), [license], "{name}");
        let members = fields.list("baggage");
        let ours = members.iter().find_map(|member| member.strip_prefix("account.id="));
        assert_eq!(ours, account, "{name}: {members:?}");
        let event = proxy.events().of("one");
        assert_eq!(
            (event["account_id"].as_str(), event["license"].as_str()),
            (account, Some(license)),
            "{name}: {event}"
        );
    }
}
