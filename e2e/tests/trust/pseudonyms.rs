//! Pseudonyms: who is asked for is the same person everywhere, and their name is nowhere.

use crate::keys::KeyFiles;
use crate::{Certificates, ask};
use e2e::tls::TlsClient;
use e2e::{RawClient, Setup, Sidelight, StrictBackend, get};

const KEY_FILE: &str = "keys: { p1: { secret: \"cHNldWRvbnltcyBhcmUgbWFkZSBvZiB0aGlzIGtleSE=\" } }\n";

#[test]
fn a_name_is_in_no_event_header_or_baggage_behind() {
    let (app, next, keys) = (StrictBackend::start(), StrictBackend::start(), KeyFiles::new());
    let file = keys.write("pseudonyms.yaml", KEY_FILE);
    let setup = Setup::app(app.address())
        .section("context", &format!("pseudonyms: {{ keys: {file:?}, fields: [user_id, employee] }}"))
        .section("context", "fields:\n  employee: {}")
        .section("context", &keys.sign("keys.yaml", Some("k1"), &["k1"], ", unsigned: report, for_app: true"))
        .section("clusters", &format!("next: {{ endpoints: [\"{}\"], protocol: http1 }}", next.address()));
    let proxy = Sidelight::start(&setup);
    let rows = [
        ("plain", "x-user-id: alice@example.com\r\nx-account-id: a1\r\n"),
        ("baggage", "baggage: theirs=1,user.id=alice%40example.com\r\n"),
        ("both", "X-User-Id: alice@example.com\r\nbaggage: user.id=alice@example.com\r\n"),
        ("two people", "x-user-id: alice@example.com\r\nbaggage: user.id=bob%40example.com\r\n"),
        (
            "twice",
            "x-user-id: bob@example.com\r\nx-user-id: bob@example.com\r\nbaggage: user.id=alice@example.com\r\n",
        ),
        ("another field", "x-employee: alice@example.com\r\nx-user-id: alice@example.com\r\n"),
    ];
    let mut names = Vec::new();
    for (name, lines) in rows {
        assert_eq!(
            ask(&proxy, get("/in", &format!("x-request-id: {name}-in\r\n{lines}").replace(' ', ""))).status,
            200,
            "{name}"
        );
        let out = format!("GET /out HTTP/1.1\r\nHost: next\r\nx-request-id: out\r\n{lines}\r\n");
        assert_eq!(RawClient::connect(proxy.outbound()).ask(out).unwrap().status, 200, "{name}");
        for backend in [&app, &next] {
            let request = backend.take_after(1).whole.remove(0);
            let raw = request.raw.escape_ascii().to_string();
            assert!(!raw.contains("alice") && !raw.contains("bob"), "{name}: {raw}");
            let pseudonym = request.fields.get("x-user-id").unwrap_or_default().to_owned();
            assert!(pseudonym.starts_with("p1_") && pseudonym.len() == 31, "{name}: {pseudonym}");
            assert!(raw.contains(&format!("user.id={pseudonym}")), "{name}: {raw}");
            assert_ne!(request.fields.get("x-employee"), Some(&*pseudonym), "{name}: fields are linked");
            names.push(pseudonym);
        }
    }
    names.dedup();
    assert_eq!(names.len(), 1, "one person has one pseudonym: {names:?}");
    // The next hop, with the same key, leaves it as it is.
    assert_eq!(ask(&proxy, get("/again", &format!("x-user-id: {}\r\n", names[0]))).status, 200);
    assert_eq!(app.take_after(1).whole[0].fields.get("x-user-id"), Some(&*names[0]));
    let events = proxy.stop();
    assert_eq!(events.len(), 2 * rows.len() + 1);
    for event in &events {
        let text = event.to_string();
        assert!(!text.contains("alice") && !text.contains("bob"), "{text}");
        assert_eq!(event["user_id"], names[0], "{text}");
    }
}

/// Who is known by a certificate is a person as well.
#[test]
fn a_name_in_a_certificate_is_in_no_event_either() {
    let (app, keys, tls) = (StrictBackend::start(), KeyFiles::new(), Certificates::new());
    let file = keys.write("pseudonyms.yaml", KEY_FILE);
    let setup = Setup::app(app.address())
        .section("inbound", &format!("trust: none\n{}", tls.inbound()))
        .section("context", "edge: { identity: user_id }")
        .section("context", &format!("pseudonyms: {{ keys: {file:?} }}"));
    let proxy = Sidelight::start(&setup);
    let alice = tls.authority.client("spiffe://people.example/alice");
    let config = tls.authority.trusting_client(Some(&alice), &["http/1.1"]);
    let client = TlsClient::start(config, "app.example", proxy.inbound());
    assert_eq!(
        RawClient::connect(client.address()).ask(get("/", "x-request-id: one\r\n")).unwrap().status,
        200
    );
    let request = app.take_after(1).whole.remove(0);
    let raw = request.raw.escape_ascii().to_string();
    assert!(request.fields.get("x-user-id").is_some_and(|id| id.starts_with("p1_")), "{raw}");
    assert!(!raw.contains("alice"), "{raw}");
    let event = proxy.events().of("one").to_string();
    assert!(!event.contains("alice"), "{event}");
}
