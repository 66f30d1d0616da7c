//! The edge, signatures, pseudonyms, further fields, sampling.

use super::*;
use crate::context::config::{EdgeRequestId, EdgeTrace, Pseudonyms, Sign, Unsigned};
use crate::context::sampling::{self as rates, SampledBy};
use crate::context::{extra, signature};
use crate::error::Kind;
use std::path::PathBuf;
use std::time::Duration;

pub(super) const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
pub(super) const KEYS: &str = "active: k1\nkeys: { k1: { algorithm: hmac_sha256, secret: MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY= } }\n";
pub(super) const VERIFIES: &str =
    "keys: { k1: { algorithm: hmac_sha256, secret: MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY= } }\n";
pub(super) const PSEUDONYMS: &str =
    "keys: { p1: { secret: ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4NzY1NDMyMTA= } }\n";

/// A key file that lives as long as the test's process. Tests share it, so it is never half there.
pub(super) fn file(name: &str, text: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("sidelight-trust-{}-{name}.yaml", std::process::id()));
    let whole = path.with_extension(format!("{:?}", std::thread::current().id()));
    std::fs::write(&whole, text).unwrap();
    std::fs::rename(whole, &path).unwrap();
    path
}

pub(super) fn sign(keys: &str, name: &str, unsigned: Unsigned) -> Option<Sign> {
    let (ttl, skew) = (Duration::from_secs(300), Duration::from_secs(30));
    Some(Sign { keys: file(name, keys), unsigned, ttl, skew, for_app: false })
}

pub(super) struct Hop {
    pub fields: Fields,
    pub record: Record,
    pub refused: Option<Kind>,
}

impl Hop {
    pub fn get(&self, name: &str) -> Option<String> {
        self.fields.named(name.as_bytes()).next().map(|value| String::from_utf8_lossy(value).into_owned())
    }

    pub fn list(&self) -> Vec<(String, String)> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        self.fields.iter().map(|(name, value, _)| (text(name), text(value))).collect()
    }

    pub fn said(&self) -> crate::exchange::SignatureNote {
        self.record.notes.as_ref().and_then(|notes| notes.signature.clone()).unwrap_or_default()
    }
}

pub(super) fn pass<N: AsRef<str>>(
    layer: &Propagate,
    direction: Direction,
    list: &[(N, N)],
    is_trusted: bool,
) -> Hop {
    let mut fields = Fields::new();
    for (name, value) in list {
        fields.push(name.as_ref().as_bytes(), value.as_ref().as_bytes());
    }
    let mut record = Record::new();
    record.direction = direction;
    record.started_at = std::time::SystemTime::now();
    let refused = layer.state.borrow_mut().carry(&mut fields, &mut record, is_trusted).err();
    Hop { fields, record, refused: refused.map(|error| error.kind()) }
}

#[test]
fn at_the_edge_fields_are_set_by_rules_and_never_by_the_caller() {
    let mut context = config::Config::default();
    context.edge.trace = EdgeTrace::Restart;
    context.edge.request_id = EdgeRequestId::Replace;
    context.edge.set.insert("license".into(), "free".into());
    let layer = configured(&context);
    let said = [
        ("traceparent", TRACE),
        ("tracestate", "a=1"),
        ("x-request-id", "theirs"),
        ("x-license", "gold"),
        ("x-user-id", "root"),
        ("baggage", "license=gold,user%2Eid=root,other=1"),
        ("b3", "80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-1"),
    ];
    let hop = pass(&layer, Direction::Inbound, &said, false);
    assert_eq!(hop.get("x-license").as_deref(), Some("free"));
    assert_eq!((hop.get("x-user-id"), hop.get("b3"), hop.get("tracestate")), (None, None, None));
    assert_eq!(hop.get("baggage").as_deref(), Some("license=free,other=1"));
    assert_eq!(hop.get("x-client-request-id").as_deref(), Some("theirs"));
    assert!(hop.get("x-request-id").is_some_and(|id| id.len() == 36));
    assert!(!hop.get("traceparent").unwrap().contains("0af7651916cd43dd8448eb211c80319c"));
    let trace_id = 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c_u128.to_be_bytes();
    let span_id = 0xb7ad_6b71_6920_3331_u64.to_be_bytes();
    assert_eq!(hop.record.notes.unwrap().links, [(trace_id, span_id)]);
    assert_eq!(hop.record.context_dropped, 3, "the license, the user, the user in disguise");
}

#[test]
fn what_the_edge_signed_is_believed_and_what_was_altered_is_not() {
    let mut context = config::Config::default();
    context.edge.set.insert("license".into(), "free".into());
    context.sign = sign(KEYS, "edge", Unsigned::Drop);
    let edge = configured(&context);
    let signed = pass(
        &edge,
        Direction::Inbound,
        &[("x-license", "gold"), ("x-context-signature", "v1.forged")],
        false,
    );
    assert!(signed.said().is_signed);
    let token = signed.get(signature::HEADER).unwrap();
    assert!(
        token.starts_with("v1.k1.")
            && signed.get("baggage").unwrap().contains(&format!("context.signature={token}"))
    );

    let context =
        config::Config { sign: sign(VERIFIES, "inner", Unsigned::Drop), ..config::Config::default() };
    let inner = configured(&context);
    let hop = pass(&inner, Direction::Inbound, &signed.list(), true);
    assert_eq!(hop.said().found, Some("valid"));
    assert_eq!(hop.get("x-license").as_deref(), Some("free"));
    assert_eq!(hop.get(signature::HEADER).as_deref(), Some(&*token), "it goes on as it is");
    // Only in baggage, as an OpenTelemetry application carries it on.
    let list: Vec<_> = signed.list().into_iter().filter(|(name, _)| name != signature::HEADER).collect();
    assert_eq!(pass(&inner, Direction::Inbound, &list, true).said().found, Some("valid"));

    type List = Vec<(String, String)>;
    let changed = |change: &dyn Fn(&mut List)| {
        let mut list = signed.list();
        change(&mut list);
        pass(&inner, Direction::Inbound, &list, true)
    };
    let set = |list: &mut List, name: &str, value: &str| {
        list.retain(|(other, _)| other != name);
        list.push((name.into(), value.into()));
    };
    for (what, change, want) in [
        ("license", &(|list: &mut List| set(list, "x-license", "gold")) as &dyn Fn(&mut List), "altered"),
        ("a field more", &|list| set(list, "x-account-id", "a1"), "altered"),
        ("another trace", &|list| set(list, "traceparent", TRACE), "altered"),
        ("TRACE", &|list| set(list, "x-request-type", "TRACE"), "altered"),
        (
            "no token",
            &|list| {
                set(list, "baggage", "license=free");
                list.retain(|(name, _)| name != signature::HEADER);
            },
            "unsigned",
        ),
        ("two tokens", &|list| list.push((signature::HEADER.into(), "v1.x".into())), "malformed"),
        ("nonsense", &|list| set(list, signature::HEADER, "v2.k1.1.1.e.s"), "malformed"),
    ] {
        let hop = changed(change);
        assert_eq!(hop.said().found, Some(want), "{what}");
        assert_eq!((hop.get("x-license"), hop.get(signature::HEADER)), (None, None), "{what}");
        assert!(hop.record.license.is_empty() && hop.record.context_dropped > 0, "{what}");
        assert!(!hop.get("baggage").is_some_and(|baggage| baggage.contains("license")), "{what}");
    }
}

#[test]
fn a_tracer_bullet_is_never_taken_for_real_work() {
    let context =
        config::Config { sign: sign(VERIFIES, "bullet", Unsigned::Drop), ..config::Config::default() };
    let (drops, plain) = (configured(&context), configured(&config::Config::default()));
    for (layer, said) in [
        (&drops, &[("x-request-type", "TRACE"), ("x-license", "gold")][..]),
        (&plain, &[("x-request-type", "TRACE"), ("x-request-type", "STANDARD")]),
        (&plain, &[("x-request-type", "STANDARD"), ("baggage", "request.type=TRACE")]),
        (&plain, &[("x-request-type", "nonsense"), ("baggage", "request.type=%54RACE")]),
    ] {
        let hop = pass(layer, Direction::Inbound, said, true);
        assert_eq!(hop.record.request_type, RequestType::Trace, "{said:?}");
        assert_eq!(hop.get("x-request-type").as_deref(), Some("TRACE"), "{said:?}");
        assert_eq!(hop.fields.named(b"x-request-type").count(), 1, "{said:?}");
        assert!(hop.get("baggage").unwrap().contains("RACE"), "in either spelling: {said:?}");
        assert!(hop.record.license.is_empty() && hop.get("x-license").is_none(), "{said:?}");
        let stranger = pass(layer, Direction::Inbound, said, false);
        assert_eq!(stranger.record.request_type, RequestType::Standard, "{said:?}");
    }
}

#[test]
fn unsigned_fields_are_reported_or_refused_by_policy() {
    let list = [("traceparent", TRACE), ("x-license", "gold")];
    for (unsigned, want) in [(Unsigned::Report, None), (Unsigned::Refuse, Some(Kind::ContextRefused))] {
        let context =
            config::Config { sign: sign(VERIFIES, "policy", unsigned), ..config::Config::default() };
        let layer = configured(&context);
        let hop = pass(&layer, Direction::Inbound, &list, true);
        assert_eq!((hop.refused, hop.said().found), (want, Some("unsigned")));
        assert_eq!(hop.record.text(hop.record.license), b"gold", "the event tells what was said");
        let nothing = pass(&layer, Direction::Inbound, &list[..1], true);
        assert_eq!(nothing.refused, want, "a tracer bullet whose fields were all taken away looks like this");
    }
}

#[test]
fn an_application_cannot_raise_its_context_and_one_that_forgets_the_signature_keeps_it() {
    let context = config::Config { sign: sign(KEYS, "app", Unsigned::Refuse), ..config::Config::default() };
    let edge = configured(&config::Config {
        edge: config::Edge {
            set: [("license".to_owned(), "free".to_owned())].into(),
            ..config::Edge::default()
        },
        ..context.clone()
    });
    let signed = pass(&edge, Direction::Inbound, &[("traceparent", TRACE)], false);
    let layer = configured(&context);
    let served = pass(&layer, Direction::Inbound, &signed.list(), true);
    assert_eq!(served.refused, None);
    // It copies nothing: the exchange that it serves says it all, and the token goes on.
    let hop = pass::<&str>(&layer, Direction::Outbound, &[], true);
    assert_eq!((hop.refused, hop.said().found), (None, Some("valid")));
    assert_eq!(hop.get(signature::HEADER), signed.get(signature::HEADER));
    // It copies all but the token.
    let trace = served.get("traceparent").unwrap();
    let hop = pass(&layer, Direction::Outbound, &[("traceparent", &*trace), ("x-license", "free")], true);
    assert_eq!((hop.refused, hop.said().found), (None, Some("valid")));
    // It claims more.
    for license in ["gold", "Free"] {
        let hop =
            pass(&layer, Direction::Outbound, &[("traceparent", &*trace), ("x-license", license)], true);
        assert_eq!(hop.refused, Some(Kind::ContextRefused), "{license}");
    }
    // A call of its own claims nothing, and is signed as that.
    drop(served);
    let hop = pass::<&str>(&layer, Direction::Outbound, &[("x-request-id", "own")], true);
    assert!(hop.refused.is_none() && hop.said().is_signed);
    assert_eq!(pass(&layer, Direction::Inbound, &hop.list(), true).refused, None);
}

#[test]
fn a_forger_at_the_edge_gets_nothing_through_in_a_million_tries() {
    let mut context = config::Config::default();
    context.fields.insert("tenant".into(), extra::Config::default());
    let layer = configured(&context);
    let mut rng = Rng::new(99);
    let names = [
        "x-user-id",
        "X-User-ID",
        "x-account-id",
        "x-license",
        "x-request-type",
        "x-feature-flags",
        "x-tenant",
        "baggage",
        "Baggage",
        "x-context-signature",
    ];
    let keys = [
        "user.id",
        "user%2Eid",
        "user%2eid",
        " account.id",
        "account.id ",
        "license",
        "%6cicense",
        "request.type",
        "feature.flags",
        "feature%2Eflags",
        "tenant",
        "t%65nant",
        "context.signature",
        "+license",
        "lic%65nse%20",
    ];
    let values = ["root", "gold", "TRACE", "a,b", "%72oot", "root;p=1", "", "\"root\"", "a b", "root%0d%0a"];
    let any = |rng: &mut Rng, list: &[&'static str]| list[(rng.next_u64() % list.len() as u64) as usize];
    for tries in 0..1_000_000_u32 {
        let mut fields = Fields::new();
        for _ in 0..=rng.next_u64() % 3 {
            let name = any(&mut rng, &names);
            if name.eq_ignore_ascii_case("baggage") {
                let (key, value) = (any(&mut rng, &keys), any(&mut rng, &values));
                fields.push(name.as_bytes(), format!("x=1,{key}={value},y=2").as_bytes());
            } else {
                fields.push(name.as_bytes(), any(&mut rng, &values).as_bytes());
            }
        }
        let mut record = Record::new();
        layer.state.borrow_mut().carry(&mut fields, &mut record, false).unwrap();
        let believed = [record.user_id, record.account_id, record.license, record.flags];
        assert!(believed.iter().all(|value| value.is_empty()), "{tries}");
        assert_eq!(record.request_type, RequestType::Standard);
        for (name, value, _) in fields.iter() {
            let lower = name.to_ascii_lowercase();
            let is_ours =
                ["x-user-id", "x-account-id", "x-license", "x-request-type", "x-feature-flags", "x-tenant"]
                    .iter()
                    .any(|ours| lower == ours.as_bytes());
            assert!(!is_ours, "{tries}: {}", name.escape_ascii());
            if lower == b"baggage" {
                for (key, _) in crate::context::baggage::entries([value]) {
                    assert!(
                        matches!(key, b"x" | b"y" | b"b" | b"context.signature"),
                        "{tries}: {}",
                        value.escape_ascii()
                    );
                }
            }
        }
    }
}

#[test]
fn a_person_has_a_pseudonym_everywhere_and_the_record_keeps_no_name() {
    let keys = file("pseudonyms", PSEUDONYMS);
    let pseudonyms = Some(Pseudonyms { keys, fields: vec!["user_id".into()] });
    let layer = configured(&config::Config { pseudonyms, ..config::Config::default() });
    let hop =
        pass(&layer, Direction::Inbound, &[("x-user-id", "alice@example.com"), ("x-account-id", "a1")], true);
    let name = hop.get("x-user-id").unwrap();
    assert!(name.starts_with("p1_") && name.len() == 31, "{name}");
    assert!(hop.get("baggage").unwrap().contains(&format!("user.id={name}")));
    assert!(!hop.record.text.windows(5).any(|part| part == b"alice"), "not even where the texts lie");
    assert_eq!(hop.record.text(hop.record.account_id), b"a1");
    let again = pass(&layer, Direction::Inbound, &hop.list(), true);
    assert_eq!(again.get("x-user-id").as_deref(), Some(&*name), "the next hop leaves it");
}

#[test]
fn further_fields_go_in_both_carriers_and_into_the_record() {
    let mut context = config::Config::default();
    context.fields.insert("tenant".into(), extra::Config { length_max: 8, ..extra::Config::default() });
    let layer = configured(&context);
    let hop = pass(&layer, Direction::Inbound, &[("baggage", "tenant=t%201,other=1")], true);
    assert_eq!(
        (hop.get("x-tenant"), hop.record.context_dropped),
        (None, 1),
        "a space is none of its alphabet"
    );
    let hop = pass(&layer, Direction::Inbound, &[("baggage", "tenant=t1,other=1")], true);
    assert_eq!(hop.get("x-tenant").as_deref(), Some("t1"));
    let notes = hop.record.notes.as_ref().unwrap();
    assert_eq!((&*notes.extra[0].0, hop.record.text(notes.extra[0].1)), ("tenant", &b"t1"[..]));
    let hop = pass(&layer, Direction::Outbound, &[("x-tenant", "t2")], true);
    assert_eq!(hop.get("baggage").as_deref(), Some("tenant=t2"));
    let hop = pass(&layer, Direction::Inbound, &[("x-tenant", "t1")], false);
    assert_eq!((hop.get("x-tenant"), hop.record.context_dropped), (None, 1));
}

#[test]
fn a_trace_is_decided_once_and_a_stranger_cannot_hide() {
    let sampled = |config: rates::Config, list: &[(&str, &str)], is_trusted| {
        let layer = configured(&config::Config::default());
        let rules = Rules { sampling: config, ..Rules::default() };
        layer.configure(&Arc::new(rules));
        let hop = pass(&layer, Direction::Inbound, list, is_trusted);
        let flags = hop.get("traceparent").unwrap().split_off(53);
        assert_eq!(hop.record.trace.is_sampled(), flags == "01" || flags == "03");
        (hop.record.trace.is_sampled(), hop.record.sampled_by.unwrap())
    };
    let none = || rates::Config { ratio: 0.0, ..rates::Config::default() };
    let on = [("traceparent", TRACE)];
    let off = [("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00")];
    assert_eq!(sampled(none(), &on, true), (true, SampledBy::Parent));
    assert_eq!(sampled(rates::Config::default(), &off, true), (false, SampledBy::Parent));
    assert_eq!(sampled(rates::Config::default(), &off, false), (true, SampledBy::Ratio));
    assert_eq!(sampled(none(), &[], true), (false, SampledBy::None));
    let bullet = [("x-request-type", "TRACE")];
    assert_eq!(sampled(none(), &bullet, true), (true, SampledBy::ForcedTrace));
    assert_eq!(sampled(none(), &bullet, false), (false, SampledBy::None), "it is believed from nobody");
}

#[test]
fn a_proxy_that_tells_nobody_of_its_span_leaves_the_trace_alone() {
    let layer = configured(&config::Config::default());
    layer.configure(&Arc::new(Rules { has_sink: false, ..Rules::default() }));
    let hop = pass(&layer, Direction::Inbound, &[("traceparent", TRACE), ("tracestate", "a=1")], true);
    assert_eq!(hop.get("traceparent").as_deref(), Some(TRACE));
    assert_eq!(hop.get("tracestate").as_deref(), Some("a=1"));
}
