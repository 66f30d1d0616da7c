//! What a forger, a careless application or a change of configuration could make of the context.

use super::trust::{Hop, KEYS, TRACE, VERIFIES, pass, sign};
use super::*;
use crate::context::config::{Config, EdgeTrace, Unsigned};
use crate::context::{extra, sampling as rates, signature};
use crate::error::Kind;
use crate::exchange::Direction::{Inbound, Outbound};

const TRACE_ID: &str = "0af7651916cd43dd8448eb211c80319c";

fn rules(context: &Config, sampling: &rates::Config, has_sink: bool) -> Arc<Rules> {
    let source = Source {
        context,
        sampling,
        revision: None,
        service: "checkout",
        has_both_sides: true,
        has_sink,
        seed: 7,
    };
    Arc::new(Rules::compile(&source).unwrap())
}

fn with_fields(names: &[&str]) -> Config {
    let fields = names.iter().map(|name| ((*name).to_owned(), extra::Config::default())).collect();
    Config { fields, ..Config::default() }
}

fn signed_at_the_edge(list: &[(&str, &str)]) -> Hop {
    let mut context = Config { sign: sign(KEYS, "hostile-edge", Unsigned::Drop), ..Config::default() };
    context.edge.set = list.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    pass(&configured(&context), Inbound, &[("traceparent", TRACE)], false)
}

#[test]
fn a_restart_leaves_the_trace_in_whatever_form_it_came() {
    for read in [formats::Format::ALL.to_vec(), Vec::new()] {
        let mut context = Config::default();
        context.edge.trace = EdgeTrace::Restart;
        context.formats.read = read;
        let layer = configured(&context);
        for (name, value) in [
            ("x-amzn-trace-id", "Root=1-0af76519-16cd43dd8448eb211c80319c;Sampled=1;Self=x"),
            ("x-datadog-trace-id", "9532127138774266268"),
            ("b3", "0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-1"),
            ("b3", "d"),
            ("b3", "0"),
            ("uber-trace-id", "nonsense"),
            ("x-b3-sampled", "1"),
        ] {
            let hop = pass(&layer, Inbound, &[(name, value), ("tracestate", "a=1")], false);
            assert!(!hop.get("traceparent").unwrap().contains("8448eb211c80319c"), "{name}: {value}");
            assert_eq!((hop.get(name), hop.get("tracestate")), (None, None), "{name}: {value}");
            assert_eq!(hop.record.parent_source, ParentSource::Root);
        }
    }
}

#[test]
fn a_stranger_cannot_have_everything_recorded_by_a_debug_flag() {
    let config = rates::Config { ratio: 0.0, untrusted_traces_per_second: 1, ..rates::Config::default() };
    let layer = configured(&Config::default());
    layer.configure(&rules(&Config::default(), &config, true));
    let b3 = format!("{TRACE_ID}-b7ad6b7169203331-d");
    let states: Vec<_> = (0..5)
        .map(|_| pass(&layer, Inbound, &[("b3", &*b3)], false).get("b3").unwrap()[50..51].to_owned())
        .collect();
    assert_eq!(states, ["d", "0", "0", "0", "0"], "as much as the rate has room for");
}

/// Python's SDK decodes keys and then strips what Unicode calls whitespace.
#[test]
fn no_spelling_of_a_key_in_baggage_passes_the_edge() {
    let layer = configured(&with_fields(&["tenant"]));
    for key in ["user.id", "license", "feature.flags", "tenant"] {
        for disguise in [
            format!("%C2%A0{key}"),
            format!("{key}%E2%80%83"),
            format!("%1F{key}%1c"),
            format!("%EF%BB%BF{key}"),
            format!("%C2%85{key}"),
            format!("{key}%00"),
            format!("\u{a0}{key}"),
            format!("{key}\u{85}"),
            format!("{key};p"),
            key.to_owned(),
        ] {
            let list = format!("a=1,{disguise}=root,b=2");
            let hop = pass(&layer, Inbound, &[("baggage", &*list)], false);
            assert_eq!(hop.get("baggage").as_deref(), Some("a=1,b=2"), "{disguise}");
        }
        for without_value in [key.to_owned(), format!("{key};p=1"), format!("{key} ; p")] {
            let list = format!("a=1,{without_value},b=2");
            let hop = pass(&layer, Inbound, &[("baggage", &*list)], false);
            assert_eq!(hop.get("baggage").as_deref(), Some("a=1,b=2"), "{without_value}");
        }
    }
    let foreign = "a%20b=1,us\u{e9}r=2,%=3,user.idx=4";
    let hop = pass(&layer, Inbound, &[("baggage", foreign)], false);
    assert_eq!(hop.get("baggage").as_deref(), Some(foreign), "what is no claim is not touched");
}

/// CGI and WSGI give `X_User_Id` the name of `X-User-Id`; SDKs with Jaeger's or OpenTracing's propagator make baggage of
/// theirs.
#[test]
fn no_other_header_that_an_application_takes_for_a_field_passes_the_edge() {
    let layer = configured(&with_fields(&["tenant"]));
    for (name, value) in [
        ("X_User_Id", "root"),
        ("x-account_id", "root"),
        ("x_license", "gold"),
        ("X_Request_Type", "TRACE"),
        ("x.feature.flags", "a"),
        ("X_TENANT", "t"),
        ("uberctx-user.id", "root"),
        ("Uberctx-License", "gold"),
        ("ot-baggage-account.id", "root"),
        ("ot-baggage-tenant", "t"),
        ("jaeger-baggage", "a=1, user.id=root"),
    ] {
        let hop = pass(&layer, Inbound, &[(name, value), ("accept", "a")], false);
        assert_eq!((hop.get(name), hop.record.context_dropped), (None, 1), "{name}");
        assert_eq!(hop.get("accept").as_deref(), Some("a"));
        assert_eq!(pass(&layer, Inbound, &[(name, value)], true).get(name).as_deref(), Some(value));
    }
    for (name, value) in
        [("x_user", "1"), ("uberctx-cart", "3"), ("ot-baggage-x", "1"), ("jaeger-baggage", "a=1")]
    {
        assert_eq!(pass(&layer, Inbound, &[(name, value)], false).get(name).as_deref(), Some(value));
    }
}

#[test]
fn what_nobody_signed_is_not_signed_on_its_way_through_an_application() {
    let context = Config { sign: sign(KEYS, "hostile-report", Unsigned::Report), ..Config::default() };
    let layer = configured(&context);
    let forged =
        pass(&layer, Inbound, &[("traceparent", TRACE), ("x-user-id", "root"), ("x-license", "gold")], true);
    assert_eq!(forged.said().found, Some("unsigned"));
    let trace = forged.get("traceparent").unwrap();
    for copied in [&[][..], &[("traceparent", &*trace)], &[("x-user-id", "root"), ("x-license", "gold")]] {
        let call = pass(&layer, Outbound, copied, true);
        assert_eq!(call.get("x-user-id").as_deref(), Some("root"), "it is believed, as the report says");
        assert_eq!((call.get(signature::HEADER), call.said().is_signed), (None, false), "{copied:?}");
    }
}

#[test]
fn a_tracer_bullet_stays_one_where_the_application_adds_what_it_may_not() {
    let signed = signed_at_the_edge(&[("license", "free"), ("request_type", "TRACE")]);
    for keys in [VERIFIES, KEYS] {
        let context = Config { sign: sign(keys, "hostile-drop", Unsigned::Drop), ..Config::default() };
        let layer = configured(&context);
        let served = pass(&layer, Inbound, &signed.list(), true);
        assert_eq!(served.said().found, Some("valid"));
        let trace = served.get("traceparent").unwrap();
        for said in [
            &[("x-account-id", "a9")][..],
            &[("traceparent", &*trace), ("x-license", "gold")],
            &[("traceparent", &*trace), ("x-context-signature", "v1.x"), ("x-license", "gold")],
            &[("traceparent", &*trace), ("x-request-type", "STANDARD"), ("baggage", "account.id=a9")],
        ] {
            let call = pass(&layer, Outbound, said, true);
            assert_eq!(call.get("x-request-type").as_deref(), Some("TRACE"), "{said:?}");
            assert_eq!(call.get("x-license").as_deref(), Some("free"), "{said:?}");
            assert_eq!(call.get("x-account-id"), None, "{said:?}");
            assert_eq!(pass(&layer, Inbound, &call.list(), true).said().found, Some("valid"), "{said:?}");
        }
    }
}

#[test]
fn fields_of_the_applications_own_are_signed_where_it_may_say_them() {
    let mut context = Config { sign: sign(KEYS, "hostile-own", Unsigned::Refuse), ..Config::default() };
    let signed = signed_at_the_edge(&[("license", "free")]);
    for (for_app, want) in [(true, None), (false, Some(Kind::ContextRefused))] {
        context.sign.as_mut().unwrap().for_app = for_app;
        let layer = configured(&context);
        let _served = pass(&layer, Inbound, &signed.list(), true);
        let call = pass(&layer, Outbound, &[("x-account-id", "a1")], true);
        assert_eq!((call.refused, call.said().found), (want, Some("unsigned")), "the app sent no token");
        assert_eq!(call.said().is_signed, for_app);
    }
}

#[test]
fn an_application_that_forwards_an_empty_signature_forwards_none() {
    let signed = signed_at_the_edge(&[("license", "free")]);
    let context = Config { sign: sign(VERIFIES, "hostile-empty", Unsigned::Refuse), ..Config::default() };
    let layer = configured(&context);
    let served = pass(&layer, Inbound, &signed.list(), true);
    let trace = served.get("traceparent").unwrap();
    let said = [("traceparent", &*trace), ("x-license", "free"), (signature::HEADER, "")];
    let call = pass(&layer, Outbound, &said, true);
    assert_eq!((call.refused, call.said().found), (None, Some("valid")));
    assert_eq!(call.get(signature::HEADER), signed.get(signature::HEADER));
    // One that was altered on the way is not needed either: the sidecar has the one that came.
    let said = [("traceparent", &*trace), ("x-license", "free"), (signature::HEADER, "v1.x")];
    let call = pass(&layer, Outbound, &said, true);
    assert_eq!((call.refused, call.said().found), (None, Some("in_flight")));
    assert_eq!(call.get(signature::HEADER), signed.get(signature::HEADER));
}

#[test]
fn what_others_put_beside_the_fields_cannot_push_them_out() {
    let member = |key: usize| format!("{}{key}={}", "k".repeat(100), "v".repeat(250));
    let tracestate = (0..32).map(member).collect::<Vec<_>>().join(",");
    let baggage = (0..60).map(|key| format!("b{key}={}", "v".repeat(120))).collect::<Vec<_>>().join(",");
    let layer = configured(&Config { baggage_bytes_max: 64 << 10, ..Config::default() });
    for baggage in [baggage.clone(), vec![baggage; 9].join(",")] {
        let list = [
            ("traceparent", TRACE),
            ("tracestate", &*tracestate),
            ("baggage", &*baggage),
            ("x-request-type", "TRACE"),
            ("x-account-id", "a1"),
        ];
        let served = pass(&layer, Inbound, &list, true);
        let call = pass::<&str>(&layer, Outbound, &[], true);
        assert_eq!(call.record.parent_source, ParentSource::Sole);
        assert_eq!(call.get("x-request-type").as_deref(), Some("TRACE"));
        assert_eq!(call.get("x-account-id").as_deref(), Some("a1"));
        assert_eq!(call.get("x-request-id"), served.get("x-request-id"));
        let mut served = served.record;
        (served.phase, served.attempts) = (crate::exchange::Phase::Done, 1);
        served.end(tokio::time::Instant::now());
    }
}

#[test]
fn a_change_of_the_further_fields_gives_no_value_to_another_field() {
    let layer = configured(&with_fields(&["a", "c"]));
    let _served = pass(&layer, Inbound, &[("x-a", "1"), ("x-c", "3")], true);
    layer.configure(&rules(&with_fields(&["a", "b", "c"]), &rates::Config::default(), true));
    let call = pass::<&str>(&layer, Outbound, &[], true);
    let got = ["x-a", "x-b", "x-c"].map(|name| call.get(name));
    assert_eq!(got, [Some("1".into()), None, Some("3".into())]);
    // Nor a value that its new rules refuse.
    let mut context = with_fields(&["a", "c"]);
    context.fields.insert("c".into(), extra::Config { length_max: 2, ..extra::Config::default() });
    let layer = configured(&with_fields(&["c"]));
    let _served = pass(&layer, Inbound, &[("x-c", "long")], true);
    layer.configure(&rules(&context, &rates::Config::default(), true));
    assert_eq!(pass::<&str>(&layer, Outbound, &[], true).get("x-c"), None);
}

/// The signature does not cover how it is spelled, and an application may compare bytes.
#[test]
fn a_request_type_goes_on_in_its_one_spelling() {
    let signed = signed_at_the_edge(&[("request_type", "tRaCe")]);
    assert_eq!(signed.get("x-request-type").as_deref(), Some("TRACE"));
    let context = Config { sign: sign(VERIFIES, "hostile-case", Unsigned::Drop), ..Config::default() };
    let mut list = signed.list();
    for (name, value) in &mut list {
        if name == "x-request-type" || name == "baggage" {
            *value = value.replace("TRACE", "Trace");
        }
    }
    let hop = pass(&configured(&context), Inbound, &list, true);
    assert_eq!(hop.said().found, Some("valid"));
    assert_eq!(hop.get("x-request-type").as_deref(), Some("TRACE"));
    assert!(hop.get("baggage").unwrap().contains("request.type=TRACE"));
}

#[test]
fn what_was_refused_is_nobodys_parent() {
    let context = Config { sign: sign(KEYS, "hostile-refused", Unsigned::Refuse), ..Config::default() };
    let layer = configured(&context);
    let forged = pass(&layer, Inbound, &[("traceparent", TRACE), ("x-user-id", "root")], true);
    assert_eq!(forged.refused, Some(Kind::ContextRefused));
    let call = pass::<&str>(&layer, Outbound, &[], true);
    assert_eq!((call.record.parent_source, call.get("x-user-id")), (ParentSource::Root, None));
}

#[test]
fn further_fields_may_not_be_named_in_connection() {
    let layer = configured(&with_fields(&["tenant"]));
    for (connection, want) in [
        ("close, X-Tenant", Some(Kind::ProtectedFieldNominated)),
        ("x-tenant", Some(Kind::ProtectedFieldNominated)),
        ("close, x-other", None),
    ] {
        let hop = pass(&layer, Inbound, &[("connection", connection), ("x-tenant", "t")], true);
        assert_eq!(hop.refused, want, "{connection}");
    }
}

#[test]
fn a_trace_without_a_span_is_a_trace_of_its_own_all_the_same() {
    let layer = configured(&Config::default());
    let served = pass(&layer, Inbound, &[("traceparent", TRACE), ("x-account-id", "a1")], true);
    let root = |id: &str| format!("Root=1-{}-{}", &id[..8], &id[8..]);
    let other = root("11111111111111112222222222222222");
    let call = pass(&layer, Outbound, &[("x-amzn-trace-id", &*other)], true);
    assert_eq!(call.get("x-account-id"), None, "the trace is nobody's that is known here");
    let own = root(TRACE_ID);
    let call = pass(&layer, Outbound, &[("x-amzn-trace-id", &*own)], true);
    assert_eq!(call.record.trace.trace_id, served.record.trace.trace_id);
    assert_eq!(call.get("x-account-id").as_deref(), Some("a1"));
}

#[test]
fn the_span_of_an_exchange_brings_its_tracestate_in_every_format() {
    let mut context = Config::default();
    context.formats.write = vec![formats::Format::B3];
    let layer = configured(&context);
    let served = pass(&layer, Inbound, &[("traceparent", TRACE), ("tracestate", "a=1")], true);
    let b3 = served.get("b3").unwrap();
    let call = pass(&layer, Outbound, &[("b3", &*b3)], true);
    assert_eq!(call.record.parent_id, Some(served.record.trace.parent_id));
    assert_eq!(call.get("tracestate").as_deref(), Some("a=1"));
}

#[test]
fn a_proxy_without_a_sink_puts_no_span_into_any_format() {
    let layer = configured(&Config::default());
    let mut context = Config::default();
    context.formats.write = vec![formats::Format::Jaeger];
    layer.configure(&rules(&context, &rates::Config::default(), false));
    let b3 = format!("{TRACE_ID}-b7ad6b7169203331-1-05e3ac9a4f6e3b90");
    let w3c = [("traceparent", TRACE), ("b3", &*b3)];
    for list in [&w3c[..], &w3c[1..]] {
        let hop = pass(&layer, Inbound, list, true);
        assert_eq!(hop.get("traceparent").as_deref(), Some(TRACE), "{list:?}");
        assert_eq!(hop.get("b3").as_deref(), Some(&*b3), "{list:?}");
        let jaeger = hop.get("uber-trace-id").unwrap();
        assert!(
            jaeger.starts_with(&format!("{TRACE_ID}:b7ad6b7169203331:0:")),
            "no span is its own parent: {jaeger}"
        );
    }
    let layer = configured(&Config::default());
    layer.configure(&rules(&context, &rates::Config::default(), false));
    let _served = pass(&layer, Inbound, &[("traceparent", TRACE), ("x-account-id", "a1")], true);
    let call = pass::<&str>(&layer, Outbound, &[], true);
    assert_eq!(call.record.parent_source, ParentSource::Sole);
    assert_eq!(call.get("traceparent").as_deref(), Some(TRACE));
}

#[test]
fn baggage_of_others_is_bounded_also_where_there_is_none_of_ours() {
    let layer = configured(&Config::default());
    let list = (0..40).map(|key| format!("b{key}={}", "v".repeat(1000))).collect::<Vec<_>>().join(",");
    let hop = pass(&layer, Inbound, &[("baggage", &*list)], true);
    let baggage = hop.get("baggage").unwrap();
    assert!(baggage.len() <= 8192 && list.starts_with(&baggage), "{}", baggage.len());
    assert_eq!(hop.record.context_dropped, 32);
}

#[test]
fn lists_in_several_headers_come_back_whole() {
    let layer = configured(&Config::default());
    layer.configure(&rules(&Config::default(), &rates::Config::default(), false));
    let list = [
        ("traceparent", TRACE),
        ("tracestate", "a=1"),
        ("tracestate", "b=2"),
        ("baggage", "k=1"),
        ("baggage", "l=2"),
    ];
    let _served = pass(&layer, Inbound, &list, true);
    let call = pass::<&str>(&layer, Outbound, &[], true);
    assert_eq!(call.get("tracestate").as_deref(), Some("a=1,b=2"));
    assert_eq!(call.get("baggage").as_deref(), Some("k=1,l=2"));
}

/// `context.sign` absent: none are made, asked for or taken away.
#[test]
fn a_proxy_without_keys_takes_no_signature_away() {
    let signed = signed_at_the_edge(&[("license", "free")]);
    let layer = configured(&with_fields(&["tenant"]));
    let hop = pass(&layer, Inbound, &signed.list(), true);
    let token = signed.get(signature::HEADER);
    assert!(token.is_some() && hop.get(signature::HEADER) == token);
    assert!(hop.get("baggage").unwrap().contains(&format!("context.signature={}", token.unwrap())));
}

#[test]
fn baggage_that_says_the_same_stays_in_its_place() {
    let layer = configured(&Config::default());
    for said in ["account.id=a1,other=1", "other = 1 , account.id=%611"] {
        let list = [("baggage", said), ("accept", "a"), ("x-account-id", "a1")];
        let hop = pass(&layer, Inbound, &list, true);
        assert_eq!(hop.list()[..3], list.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }
    for said in [
        "other=1,account.id=a1;p=1",
        "account.id=a0,other=1,account.id=a1",
        "other=1,account.id=A1",
        "other=1",
    ] {
        let hop = pass(&layer, Inbound, &[("baggage", said), ("x-account-id", "a1")], true);
        assert_eq!(hop.get("baggage").as_deref(), Some("account.id=a1,other=1"), "{said}");
    }
}
