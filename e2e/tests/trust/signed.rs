//! Signed context inside the mesh: it crosses, and whatever is changed on the way is reported, dropped or refused.

use crate::keys::{KeyFiles, Signed, text};
use crate::{TENANT, TRACE, ask, believed, is_anonymous, signatures, tells};
use e2e::frames::{Peer, request_with};
use e2e::{RawClient, Setup, Sidelight, StrictBackend, get, wait_for};
use serde_json::Value;

/// What the edge of these tests says of everybody.
const SET: &str = "license: free, account_id: a1, tenant: t1, flags: \"a,b\"";

/// A sidecar of the mesh that verifies.
fn inner(app: &StrictBackend, keys: &KeyFiles, unsigned: &str) -> Sidelight {
    let name = format!("{unsigned}.yaml");
    let sign = keys.sign(&name, None, &["k1"], &format!(", unsigned: {unsigned}, skew: 1s"));
    Sidelight::start(&Setup::app(app.address()).section("context", TENANT).section("context", &sign))
}

#[test]
fn what_the_edge_signed_crosses_the_mesh() {
    // A secret that all share; or a private key at the edge (RFC 8032 §7.1, the first one), and its public half inside.
    let (private, public) =
        ("nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=", "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=");
    let ed25519 = |half: &str| format!("keys: {{ k1: {{ algorithm: ed25519, {half} }} }}\n");
    let rows = [
        (text(Some("k1"), &["k1"]), text(None, &["k1"])),
        (
            format!("active: k1\n{}", ed25519(&format!("private: \"{private}\""))),
            ed25519(&format!("public: \"{public}\"")),
        ),
    ];
    for (at_the_edge, inside) in rows {
        crosses(&at_the_edge, &inside);
    }
}

fn crosses(at_the_edge: &str, inside: &str) {
    let (app, keys) = (StrictBackend::start(), KeyFiles::new());
    let sign =
        |name: &str, text: &str| format!("sign: {{ keys: {:?}, unsigned: refuse }}", keys.write(name, text));
    let setup = Setup::app(app.address()).section("context", TENANT);
    let proxy = Sidelight::start(&setup.section("context", &sign("inner.yaml", inside)));
    let setup = Setup::app(proxy.inbound())
        .section("inbound", "trust: none")
        .section("context", TENANT)
        .section("context", &format!("edge: {{ set: {{ {SET} }} }}"))
        .section("context", &sign("edge.yaml", at_the_edge));
    let edge = Sidelight::start(&setup);
    let forged = "x-license: gold\r\nx-context-signature: v1.k1.1.300.me.AAAA\r\n\
                  baggage: license=gold,context.signature=v1.x,theirs=1\r\nx-request-id: one\r\n";
    assert_eq!(ask(&edge, get("/", forged)).status, 200);
    let request = app.take().whole.remove(0);
    let fields = &request.fields;
    for (name, value) in
        [("x-license", "free"), ("x-account-id", "a1"), ("x-tenant", "t1"), ("x-feature-flags", "a,b")]
    {
        assert_eq!(fields.all(name).collect::<Vec<_>>(), [value], "{name}");
    }
    let token = fields.get("x-context-signature").expect("a signature").to_owned();
    let members: Vec<&str> = fields.all("baggage").flat_map(|list| list.split(',')).collect();
    assert!(members.contains(&format!("context.signature={token}").as_str()), "{members:?}");
    assert!(members.contains(&"theirs=1") && members.contains(&"license=free"), "{members:?}");
    let (made, verified) = (edge.events().of("one"), proxy.events().of("one"));
    assert_eq!(made["sidelight.context.signed"], true, "{made}");
    assert!(made.get("sidelight.context.signature").is_none(), "{made}");
    for (field, value) in [("signature", "valid"), ("signature.key", "k1"), ("signature.issuer", "checkout")]
    {
        assert_eq!(verified[format!("sidelight.context.{field}")], value, "{verified}");
    }
    assert_eq!((&verified["license"], &verified["account_id"]), (&"free".into(), &"a1".into()), "{verified}");
    for event in [&made, &verified] {
        let text = event.to_string();
        assert!(
            !text.contains("gold") && !text.contains(&token),
            "an event has a token or what was forged: {event}"
        );
    }
}

/// The edge strips a forged signature also where it has no key to make one.
#[test]
fn a_stranger_brings_no_signature() {
    let (app, keys) = (StrictBackend::start(), KeyFiles::new());
    let valid = Signed::new(SET, "");
    let sign = keys.sign("keys.yaml", None, &["k1"], "");
    let setup = Setup::app(app.address()).section("inbound", "trust: none").section("context", TENANT);
    let proxy = Sidelight::start(&setup.section("context", &sign));
    assert_eq!(ask(&proxy, valid.request("/", "one")).status, 200);
    let request = app.take().whole.remove(0);
    assert_eq!((believed(&request), signatures(&request)), (Vec::new(), Vec::new()));
    let event = proxy.events().of("one");
    assert!(is_anonymous(&event) && event["sidelight.context.dropped"].as_u64() >= Some(4), "{event}");
}

type Change = fn(&mut Signed);

/// What may happen on the way, and what a verifier calls it.
const CHANGES: [(&str, Change, &str); 32] = [
    ("nothing", |_| {}, "valid"),
    (
        "the plain headers were lost, as with an SDK",
        |it| {
            for name in ["x-license", "x-account-id", "x-tenant", "x-feature-flags", "x-context-signature"] {
                it.remove(name);
            }
        },
        "valid",
    ),
    ("the baggage was lost", |it| it.remove("baggage"), "valid"),
    ("the token only in baggage", |it| it.remove("x-context-signature"), "valid"),
    ("the token only as a header", |it| it.member("context.signature", None), "valid"),
    ("flags with room", |it| it.both("x-feature-flags", "feature.flags", Some("a, b")), "valid"),
    ("STANDARD said aloud", |it| it.both("x-request-type", "request.type", Some("STANDARD")), "valid"),
    ("another license", |it| it.both("x-license", "license", Some("gold")), "altered"),
    ("another license in the header", |it| it.set("x-license", "gold"), "altered"),
    ("another license in capitals", |it| it.both("x-license", "license", Some("FREE")), "altered"),
    ("no license", |it| it.both("x-license", "license", None), "altered"),
    ("another account", |it| it.both("x-account-id", "account.id", Some("a2")), "altered"),
    ("a user more", |it| it.both("x-user-id", "user.id", Some("root")), "altered"),
    ("another tenant", |it| it.both("x-tenant", "tenant", Some("t2")), "altered"),
    ("a flag more", |it| it.both("x-feature-flags", "feature.flags", Some("a,b,c")), "altered"),
    ("flags in another order", |it| it.both("x-feature-flags", "feature.flags", Some("b,a")), "altered"),
    ("made a tracer bullet", |it| it.both("x-request-type", "request.type", Some("TRACE")), "altered"),
    ("in another trace", |it| it.set("traceparent", &format!("00-{TRACE}-b7ad6b7169203331-01")), "altered"),
    ("without a trace", |it| it.remove("traceparent"), "altered"),
    (
        "a later hour",
        |it| {
            let token = it.token();
            let parts: Vec<&str> = token.split('.').collect();
            let later = parts[2].parse::<u64>().expect("seconds") - 1;
            it.signature(Some(&token.replace(parts[2], &later.to_string())));
        },
        "altered",
    ),
    ("another issuer", |it| it.signature(Some(&it.token().replace(".checkout.", ".root."))), "altered"),
    (
        "another signature",
        |it| {
            let token = it.token();
            let last = if token.contains(".checkout.A") { "B" } else { "A" };
            let at = token.rfind('.').expect("a dot") + 1;
            it.signature(Some(&format!("{}{last}{}", &token[..at], &token[at + 1..])));
        },
        "altered",
    ),
    (
        "a key that nobody knows",
        |it| it.signature(Some(&it.token().replace("v1.k1.", "v1.k9."))),
        "unknown_key",
    ),
    ("another version", |it| it.signature(Some(&it.token().replace("v1.", "v2."))), "malformed"),
    ("half a token", |it| it.signature(Some(&it.token()[..40])), "malformed"),
    ("two tokens", |it| it.add("x-context-signature", &it.token()), "malformed"),
    ("a token of 10 KB", |it| it.signature(Some(&"v1.k1.".repeat(1700))), "malformed"),
    ("a token that is no text", |it| it.set("x-context-signature", "v1.k1.\u{e9}"), "malformed"),
    (
        "two tokens in baggage, of which the last counts",
        |it| {
            it.remove("x-context-signature");
            let baggage = it.get("baggage");
            it.set("baggage", &format!("context.signature=v1.x,{baggage}"));
        },
        "valid",
    ),
    (
        "another token in baggage, where the header wins",
        |it| it.member("context.signature", Some("v1.x")),
        "valid",
    ),
    ("an empty token", |it| it.signature(Some("")), "unsigned"),
    ("no token", |it| it.signature(None), "unsigned"),
];

#[test]
fn what_was_changed_on_the_way_is_reported_dropped_or_refused() {
    let (keys, signed) = (KeyFiles::new(), Signed::new(SET, ""));
    let mut failures = Vec::new();
    for mode in ["report", "drop", "refuse"] {
        let app = StrictBackend::start();
        let proxy = inner(&app, &keys, mode);
        for (number, (name, change, expected)) in CHANGES.into_iter().enumerate() {
            let (mut sent, id) = (signed.clone(), format!("{mode}-{number}"));
            change(&mut sent);
            let answer = ask(&proxy, sent.request("/", &id));
            let (request, event) = (app.take().whole.pop(), proxy.events().of(&id));
            let mut wrong = Vec::new();
            let mut must = |holds: bool, what: String| {
                if !holds {
                    wrong.push(what)
                }
            };
            must(event["sidelight.context.signature"] == *expected, "signature".into());
            let believed = request.as_ref().map(believed).unwrap_or_default();
            let signatures = request.as_ref().map(signatures).unwrap_or_default();
            let license = request.as_ref().and_then(|request| request.fields.get("x-license"));
            match (expected, mode) {
                ("valid", _) => {
                    let fields = request.as_ref().map(|request| request.fields.clone()).unwrap_or_default();
                    must(answer.status == 200 && license == Some("free"), "passes".into());
                    must(
                        fields.get("x-context-signature") == Some(signed.token().as_str()),
                        "goes on".into(),
                    );
                    must(event["license"] == "free" && event["tenant"] == "t1", "is told".into());
                }
                (_, "report") => {
                    must(answer.status == 200, "passes".into());
                    let said = sent.get("x-license");
                    must(
                        license.unwrap_or_default() == said
                            && event["license"].as_str().unwrap_or_default() == said,
                        "is believed".into(),
                    );
                    must(signatures.is_empty(), format!("{signatures:?}"));
                }
                (_, "drop") => {
                    must(answer.status == 200 && request.is_some(), "passes".into());
                    // Who says that it is a tracer bullet is believed in any case: it destroys nothing.
                    let is_bullet = name == "made a tracer bullet";
                    let kept: &[&str] = match is_bullet {
                        true => &["x-request-type: TRACE", "request.type=TRACE"],
                        false => &[],
                    };
                    must(believed == kept && signatures.is_empty(), format!("{believed:?} {signatures:?}"));
                    let is_told = match is_bullet {
                        true => event["request_type"] == "TRACE" && event.get("license").is_none(),
                        false => is_anonymous(&event),
                    };
                    must(
                        is_told && event["sidelight.context.dropped"].as_u64() > Some(0),
                        "is dropped".into(),
                    );
                }
                _ => {
                    tells(&answer, 403, "context_refused").unwrap_or_else(|told| must(false, told));
                    must(request.is_none(), "reached the app".into());
                    must(event["sidelight.cause"] == "context_refused", "cause".into());
                    let detail = event["sidelight.detail"].as_str().unwrap_or_default();
                    must(detail.contains(expected), detail.to_owned());
                    must(!answer.text().contains(expected), "tells the caller why".into());
                }
            }
            if !wrong.is_empty() {
                failures.push(format!("{mode}, {name}: {wrong:?}\n    {event}"));
            }
        }
    }
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn http2_and_grpc_are_told_alike() {
    let (app, keys, signed) = (StrictBackend::start(), KeyFiles::new(), Signed::new(SET, ""));
    let proxy = inner(&app, &keys, "refuse");
    let mut altered = signed.clone();
    altered.both("x-license", "license", Some("gold"));
    let mut peer = Peer::connect(proxy.inbound());
    let mut ask = |stream: u32, signed: &Signed, more: &[(&str, &str)]| {
        let context = signed.fields();
        let fields = [request_with("POST", "/p.S/M", more), context].concat();
        peer.ask(stream, &fields).unwrap_or_else(|fault| panic!("{fault}"))
    };
    assert_eq!(ask(1, &signed, &[]).status(), 200);
    assert_eq!(app.take().whole[0].fields.get("x-license"), Some("free"));
    let refused = ask(3, &altered, &[]);
    assert_eq!(refused.status(), 403, "{refused:?}");
    assert!(refused.get("proxy-status").is_some_and(|told| told.contains("context_refused")), "{refused:?}");
    let refused = ask(5, &altered, &[("content-type", "application/grpc"), ("te", "trailers")]);
    let status = refused.get("grpc-status").or(refused.trailer("grpc-status"));
    assert_eq!((refused.status(), status), (200, Some("7")), "{refused:?}");
    assert!(app.take().whole.is_empty());
}

#[test]
fn a_tracer_bullet_stays_one() {
    let (app, keys) = (StrictBackend::start(), KeyFiles::new());
    let proxy = inner(&app, &keys, "refuse");
    let bullet = Signed::new("request_type: TRACE", "");
    assert_eq!(ask(&proxy, bullet.request("/", "whole")).status, 200);
    assert_eq!(app.take().whole[0].fields.get("x-request-type"), Some("TRACE"));
    let changes: [(&str, Change); 3] = [
        ("its type is lost", |it| it.both("x-request-type", "request.type", None)),
        ("it is made real", |it| it.both("x-request-type", "request.type", Some("STANDARD"))),
        ("everything is lost", |it| {
            it.remove("x-request-type");
            it.remove("x-context-signature");
            it.remove("baggage");
        }),
    ];
    for (name, change) in changes {
        let mut sent = bullet.clone();
        change(&mut sent);
        let answer = ask(&proxy, sent.request("/", name.split(' ').next().unwrap_or_default()));
        tells(&answer, 403, "context_refused").unwrap_or_else(|told| panic!("{name}: {told}"));
    }
    assert!(app.take().whole.is_empty());
}

#[test]
fn a_signature_ends_with_its_time() {
    let (app, keys) = (StrictBackend::start(), KeyFiles::new());
    let (refuses, drops) = (inner(&app, &keys, "refuse"), inner(&app, &keys, "drop"));
    // Its second may be nearly over when it arrives: another one is younger.
    let short = wait_for("a signature that is still valid", || {
        let short = Signed::new(SET, ", ttl: 1s");
        (ask(&refuses, short.request("/", "in-time")).status == 200).then_some(short)
    });
    let event =
        refuses.events().find("the valid one", |event| event["sidelight.context.signature"] == "valid");
    assert_eq!(event["license"], "free", "{event}");
    let answer = wait_for("its end", || {
        let answer = ask(&refuses, short.request("/", "too-late"));
        (answer.status != 200).then_some(answer)
    });
    tells(&answer, 403, "context_refused").unwrap();
    let event =
        refuses.events().find("the expired one", |event| event["sidelight.context.signature"] == "expired");
    assert_eq!(event["sidelight.cause"], "context_refused", "{event}");
    app.take();
    assert_eq!(ask(&drops, short.request("/", "late")).status, 200);
    let request = app.take().whole.remove(0);
    assert_eq!((believed(&request), signatures(&request)), (Vec::new(), Vec::new()));
    assert_eq!(drops.events().of("late")["sidelight.context.signature"], "expired");
}

/// What was refused is served by nobody: a call of the application that happens meanwhile must not be taken for its, and
/// be given, signed, what was just refused.
#[test]
fn a_refused_request_is_nobodys_parent() {
    let (app, next, keys) = (StrictBackend::start(), StrictBackend::start(), KeyFiles::new());
    let sign = keys.sign("keys.yaml", Some("k1"), &["k1"], ", unsigned: refuse");
    let setup = Setup::app(app.address())
        .section("context", &sign)
        .section("clusters", &format!("next: {{ endpoints: [\"{}\"], protocol: http1 }}", next.address()));
    let proxy = Sidelight::start(&setup);
    // A client of HTTP/2 that takes no byte of the answer keeps the exchange under way.
    let mut forger = Peer::connect_with(proxy.inbound(), &[(4, 0)]);
    let fields = [("x-license", "gold"), ("x-user-id", "root"), ("x-request-id", "forged")];
    forger.send(e2e::frames::headers(1, &request_with("GET", "/", &fields), true));
    forger.read_until(|peer| peer.stream(1).status() > 0).unwrap();
    assert_eq!(forger.stream(1).status(), 403);
    let mut app_call = RawClient::connect(proxy.outbound());
    assert_eq!(app_call.ask("GET /next HTTP/1.1\r\nHost: next\r\n\r\n").unwrap().status, 200);
    let request = next.take_after(1).whole.remove(0);
    assert_eq!(believed(&request), Vec::<String>::new());
    let event: Value = proxy.events().find("the call", |event| event["url.path"] == "/next");
    assert!(is_anonymous(&event), "{event}");
    assert_ne!(event["sidelight.parent.source"], "sole", "{event}");
    drop((forger, app));
}

/// `report` believes for now what is not signed; a signature of our own would make it true for everybody behind.
#[test]
fn what_is_only_reported_is_not_signed() {
    let (keys, signed) = (KeyFiles::new(), Signed::new(SET, ""));
    let (next, verifier) = (StrictBackend::start(), KeyFiles::new());
    let behind = inner(&next, &verifier, "refuse");
    let app = StrictBackend::start();
    let slow = e2e::Script(vec![e2e::Step::ReadBody, e2e::Step::AwaitHangUp]);
    app.script("/slow", slow);
    let setup = Setup::app(app.address())
        .section("context", TENANT)
        .section("context", &keys.sign("keys.yaml", Some("k1"), &["k1"], ", unsigned: report"))
        .section("clusters", &format!("next: {{ endpoints: [\"{}\"], protocol: http1 }}", behind.inbound()));
    let proxy = Sidelight::start(&setup);
    let mut forged = signed;
    forged.both("x-license", "license", Some("gold"));
    let mut client = RawClient::connect(proxy.inbound());
    client.send(forged.request("/slow", "forged"));
    app.take_after(1);
    let answer =
        RawClient::connect(proxy.outbound()).ask("GET /next HTTP/1.1\r\nHost: next\r\n\r\n").unwrap();
    let seen = next.take().whole;
    let gold = seen.iter().filter(|request| request.fields.get("x-license") == Some("gold")).count();
    assert_eq!(
        (answer.status, gold),
        (403, 0),
        "a forged license was signed by the sidecar that only reports"
    );
}
