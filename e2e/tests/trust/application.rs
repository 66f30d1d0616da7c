//! An application between two sidecars of the mesh: one that copies nothing keeps what was signed, and none can raise it.

use crate::keys::{KeyFiles, Signed};
use crate::{ask, believed, signatures};
use e2e::{RawClient, RawServer, Setup, Sidelight, StrictBackend};
use serde_json::Value;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

/// An application that makes one call for each request, with these lines and no others, and answers with its status.
struct Caller {
    server: RawServer,
    /// Where it calls, and what it says there.
    says: Arc<Mutex<(Option<SocketAddr>, String)>>,
}

impl Caller {
    fn start() -> Self {
        let says: Arc<Mutex<(Option<SocketAddr>, String)>> = Arc::default();
        let shared = says.clone();
        let server = RawServer::start(move |mut wire, _| {
            while let Ok(line) = wire.line("a head") {
                if !line.is_empty() {
                    continue;
                }
                let (address, lines) = shared.lock().expect("nothing panics with it").clone();
                let call = format!("GET /call HTTP/1.1\r\nHost: next\r\n{lines}\r\n");
                let answer = RawClient::connect(address.expect("an address")).ask(call).expect("an answer");
                let body = answer.status.to_string();
                let _ = wire.send(
                    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).as_bytes(),
                );
            }
        });
        Caller { server, says }
    }
}

/// `client → sidecar → application → sidecar → sidecar → next`.
struct Chain {
    caller: Caller,
    proxy: Sidelight,
    next_proxy: Sidelight,
    next: StrictBackend,
    _keys: KeyFiles,
}

impl Chain {
    fn start(unsigned: &str, more: &str) -> Self {
        let (next, keys, caller) = (StrictBackend::start(), KeyFiles::new(), Caller::start());
        let sign = keys.sign("next.yaml", None, &["k1"], ", unsigned: drop");
        let next_proxy = Sidelight::start(&Setup::app(next.address()).section("context", &sign));
        let setup = Setup::app(caller.server.address())
            .section(
                "context",
                &keys.sign("keys.yaml", Some("k1"), &["k1"], &format!(", unsigned: {unsigned}{more}")),
            )
            .section(
                "clusters",
                &format!("next: {{ endpoints: [\"{}\"], protocol: http1 }}", next_proxy.inbound()),
            );
        let proxy = Sidelight::start(&setup);
        caller.says.lock().expect("nothing panics with it").0 = Some(proxy.outbound());
        Chain { caller, proxy, next_proxy, next, _keys: keys }
    }

    /// Asks with `signed` while the application says these lines; gives the status of its call, and its event.
    fn ask(&self, signed: &Signed, id: &str, lines: &str) -> (String, Value) {
        lines.clone_into(&mut self.caller.says.lock().expect("nothing panics with it").1);
        let answer = ask(&self.proxy, signed.request("/", id));
        let own = self.proxy.events().find("the request", |event| {
            event["sidelight.direction"] == "inbound" && event["request_id"] == id
        });
        let call = self.proxy.events().find("the call", |event| {
            event["sidelight.direction"] == "outbound"
                && event["trace_id"] == own["trace_id"]
                && event["parent_id"] == own["span_id"]
        });
        (answer.text(), call)
    }
}

#[test]
fn an_application_that_copies_nothing_keeps_the_signature() {
    let chain = Chain::start("refuse", "");
    let signed = Signed::new("license: free, account_id: a1", "");
    let (status, call) = chain.ask(&signed, "nothing", "");
    assert_eq!(status, "200", "{call}");
    let request = chain.next.take_after(1).whole.remove(0);
    for name in ["x-context-signature", "x-license", "x-account-id"] {
        assert_eq!(request.fields.get(name), Some(signed.get(name).as_str()), "{name}");
    }
    assert_eq!(
        (&call["sidelight.context.signature"], &call["sidelight.parent.source"]),
        (&"valid".into(), &"sole".into()),
        "{call}"
    );
    let event = chain.next_proxy.events().find("the call at next", |event| event["url.path"] == "/call");
    assert_eq!(
        (&event["sidelight.context.signature"], &event["license"]),
        (&"valid".into(), &"free".into()),
        "{event}"
    );
    // The same when it copies its license and not the signature.
    let (status, call) = chain.ask(&signed, "license", "x-license: free\r\n");
    assert_eq!((status.as_str(), &call["sidelight.context.signature"]), ("200", &"valid".into()), "{call}");
}

#[test]
fn an_application_cannot_raise_its_context() {
    let signed = Signed::new("license: free, account_id: a1", "");
    let rows = [
        ("its license", "x-license: gold\r\n", "unsigned"),
        ("its license in baggage", "baggage: license=gold\r\n", "unsigned"),
        ("a user", "x-user-id: root\r\n", "unsigned"),
        ("its type", "x-request-type: TRACE\r\n", "unsigned"),
        ("its license, with the signature", "x-license: gold\r\nx-context-signature: TOKEN\r\n", "altered"),
        (
            "its license, with the signature in baggage",
            "x-license: gold\r\nbaggage: context.signature=TOKEN\r\n",
            "altered",
        ),
    ];
    for mode in ["refuse", "drop"] {
        let chain = Chain::start(mode, "");
        for (number, (name, lines, expected)) in rows.into_iter().enumerate() {
            let name = format!("{mode}, {name}");
            let lines = lines.replace("TOKEN", &signed.token());
            let (status, call) = chain.ask(&signed, &format!("raised-{number}"), &lines);
            assert_eq!(call["sidelight.context.signature"], expected, "{name}: {call}");
            let received = chain.next.take().whole;
            if mode == "refuse" {
                assert_eq!((status.as_str(), received.len()), ("403", 0), "{name}");
                assert_eq!(call["sidelight.cause"], "context_refused", "{name}: {call}");
            } else {
                assert_eq!((status.as_str(), received.len()), ("200", 1), "{name}");
                // What it says goes; what it serves may stay, as it was signed.
                let (said, own) = (
                    believed(&received[0]),
                    ["x-account-id: a1", "x-license: free", "account.id=a1", "license=free"],
                );
                assert!(said.iter().all(|what| own.contains(&what.as_str())), "{name}: {said:?}");
                assert!(signatures(&received[0]).iter().all(|what| what.contains(&signed.token())), "{name}");
                assert_eq!(call["request_type"], "STANDARD", "{name}: {call}");
                assert!(call.get("user_id").is_none() && call["license"] != "gold", "{name}: {call}");
            }
        }
    }
}

/// Where requests begin, the sidecar signs what the application says; it does not repair what was altered.
#[test]
fn for_app_signs_what_the_application_says_of_its_own() {
    let chain = Chain::start("refuse", ", for_app: true");
    let signed = Signed::new("license: free", "");
    let call = "GET /own HTTP/1.1\r\nHost: next\r\nx-account-id: a7\r\nx-request-id: own\r\n\r\n";
    assert_eq!(RawClient::connect(chain.proxy.outbound()).ask(call).unwrap().status, 200);
    let request = chain.next.take_after(1).whole.remove(0);
    assert_eq!(request.fields.get("x-account-id"), Some("a7"));
    let event = chain.next_proxy.events().of("own");
    assert_eq!(
        (&event["sidelight.context.signature"], &event["account_id"]),
        (&"valid".into(), &"a7".into()),
        "{event}"
    );
    let lines = format!("x-license: gold\r\nx-context-signature: {}\r\n", signed.token());
    let (status, call) = chain.ask(&signed, "altered", &lines);
    assert_eq!((status.as_str(), &call["sidelight.context.signature"]), ("403", &"altered".into()), "{call}");
}
