//! The context layer as a whole.

mod allocations;
mod correlation;
mod hostile;
mod properties;
mod trust;

use super::*;
use crate::context::{RequestType, config, formats, sampling};
use crate::exchange::ParentSource;
use crate::exchange::in_flight::InFlight;

fn configured(context: &config::Config) -> Propagate {
    let layer = Propagate::new(Setup { rng: Rng::new(1), in_flight: InFlight::new(), workers: 1 });
    let source = Source {
        context,
        sampling: &sampling::Config::default(),
        revision: None,
        service: "checkout",
        has_both_sides: true,
        has_sink: true,
        seed: 7,
    };
    layer.configure(&Arc::new(Rules::compile(&source).unwrap()));
    layer
}

fn run(list: &[(&str, &str)], is_trusted: bool) -> (Fields, Record) {
    let mut fields = Fields::new();
    for (name, value) in list {
        fields.push(name.as_bytes(), value.as_bytes());
    }
    let mut record = Record::new();
    let layer = Propagate::new(Setup { rng: Rng::new(1), in_flight: InFlight::new(), workers: 1 });
    layer.state.borrow_mut().carry(&mut fields, &mut record, is_trusted).unwrap();
    (fields, record)
}

fn get(fields: &Fields, known: Known) -> Option<String> {
    fields.get(known).map(|value| String::from_utf8_lossy(value).into_owned())
}

#[test]
fn a_request_without_context_gets_a_trace_and_an_id_and_nothing_else() {
    let (fields, record) = run(&[], true);
    assert_eq!(get(&fields, Known::Traceparent).unwrap().len(), 55);
    assert_eq!(get(&fields, Known::XRequestId).unwrap().len(), 36);
    assert_eq!(fields.len(), 2);
    assert_eq!(record.parent_id, None);
    assert!(record.trace.is_sampled());
}

#[test]
fn a_trace_is_continued_with_a_span_of_our_own() {
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let (fields, record) = run(&[("traceparent", parent), ("tracestate", "a=1,b=2")], true);
    let ours = get(&fields, Known::Traceparent).unwrap();
    assert!(ours.starts_with("00-0af7651916cd43dd8448eb211c80319c-") && ours != parent);
    assert_eq!(record.parent_id, Some([0xb7, 0xad, 0x6b, 0x71, 0x69, 0x20, 0x33, 0x31]));
    assert_eq!(get(&fields, Known::Tracestate).as_deref(), Some("a=1,b=2"));
    let (fields, record) = run(&[("traceparent", "00-zz"), ("tracestate", "a=1")], true);
    assert_eq!((record.parent_id, get(&fields, Known::Tracestate)), (None, None));
}

#[test]
fn both_carriers_are_read_and_written_and_the_plain_one_wins() {
    let list = [("x-account-id", "a1"), ("baggage", "account.id=a2,user.id=u%201x,other=1")];
    let (fields, record) = run(&list, true);
    assert_eq!(record.text(record.account_id), b"a1");
    assert_eq!(record.context_disagreed, 1);
    let baggage = get(&fields, Known::Baggage).unwrap();
    assert!(baggage.contains("account.id=a1") && baggage.contains("other=1"), "{baggage}");
    let (fields, record) = run(&[("baggage", "license=gold,request.type=TRACE")], true);
    assert_eq!(get(&fields, Known::XLicense).as_deref(), Some("gold"));
    assert_eq!(record.request_type, RequestType::Trace);
}

#[test]
fn an_untrusted_peer_keeps_its_trace_and_loses_its_fields() {
    let list = [("x-account-id", "a1"), ("baggage", "user.id=u,other=1"), ("x-license", "gold")];
    let (fields, record) = run(&list, false);
    assert!(record.account_id.is_empty() && record.user_id.is_empty() && record.license.is_empty());
    assert_eq!(record.context_dropped, 3);
    assert_eq!(get(&fields, Known::Baggage).as_deref(), Some("other=1"));
    assert_eq!((get(&fields, Known::XAccountId), get(&fields, Known::XLicense)), (None, None));
}

#[test]
fn a_field_that_comes_twice_is_believed_neither_time() {
    let (fields, record) = run(&[("x-account-id", "a1"), ("x-account-id", "a2")], true);
    assert!(record.account_id.is_empty());
    assert_eq!((get(&fields, Known::XAccountId), record.context_dropped), (None, 1));
}

const B3: &str = "80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-1-05e3ac9a4f6e3b90";

#[test]
fn a_trace_in_another_format_is_continued_and_written_again_with_our_span() {
    let (fields, record) = run(&[("b3", B3), ("tracestate", "a=1")], true);
    let span: String = record.trace.parent_id.iter().map(|byte| format!("{byte:02x}")).collect();
    let w3c = format!("00-80f198ee56343ba864fe8b2a57d3eff7-{span}-01");
    assert_eq!(get(&fields, Known::Traceparent), Some(w3c));
    assert_eq!(get(&fields, Known::Tracestate), None, "it belongs to a traceparent");
    let b3: Vec<_> = fields.named(b"b3").map(|value| String::from_utf8_lossy(value).into_owned()).collect();
    assert_eq!(b3, [format!("80f198ee56343ba864fe8b2a57d3eff7-{span}-1-e457b5a2e4d86bd1")]);
    assert_eq!(record.parent_id, Some(0xe457_b5a2_e4d8_6bd1_u64.to_be_bytes()));
    assert_eq!(record.parent_source, ParentSource::Format(formats::Format::B3));
    // Only a decision: a new trace that obeys it.
    let (_, record) = run(&[("b3", "0")], true);
    assert!(record.parent_id.is_none() && !record.trace.is_sampled());
}

#[test]
fn w3c_wins_and_a_format_that_names_another_trace_is_counted() {
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let (fields, record) = run(&[("traceparent", parent), ("b3", B3), ("uber-trace-id", "x")], true);
    assert_eq!(record.parent_source, ParentSource::Header);
    assert_eq!((record.context_disagreed, record.context_dropped), (1, 1));
    for name in ["b3", "uber-trace-id"] {
        let value = fields.named(name.as_bytes()).next().unwrap();
        assert!(value.starts_with(b"0af7651916cd43dd8448eb211c80319c"), "{name}: no stale trace goes on");
    }
}

#[test]
fn formats_are_read_and_written_as_configured() {
    let mut context = config::Config::default();
    context.formats.read = Vec::new();
    context.formats.write = vec![formats::Format::B3Multi];
    let layer = configured(&context);
    let mut fields = Fields::new();
    fields.push(b"b3", B3.as_bytes());
    let mut record = Record::new();
    layer.state.borrow_mut().carry(&mut fields, &mut record, true).unwrap();
    assert_eq!(record.parent_source, ParentSource::Root);
    assert_eq!(fields.named(b"b3").next(), Some(B3.as_bytes()), "what is not read goes on as it came");
    let trace_id: String = record.trace.trace_id.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(fields.named(b"x-b3-traceid").next(), Some(trace_id.as_bytes()));
}
