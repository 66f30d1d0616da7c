//! Through an application that passes on only some of its context, or none.

use super::*;
use crate::exchange::Phase;
use std::time::Duration;
use tokio::time::Instant;

const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
/// The full context of a caller.
const FULL: [(&str, &str); 8] = [
    ("traceparent", TRACE),
    ("tracestate", "vendor=1"),
    ("x-request-id", "r-1"),
    ("x-user-id", "u1"),
    ("x-account-id", "a1"),
    ("x-license", "gold"),
    ("x-feature-flags", "beta"),
    ("baggage", "other=1"),
];

struct Side(Propagate);

impl Side {
    fn new() -> Side {
        Side(configured(&config::Config::default()))
    }

    fn with(change: impl FnOnce(&mut config::Config)) -> Side {
        let mut context = config::Config::default();
        change(&mut context);
        Side(configured(&context))
    }

    fn pass(&self, direction: Direction, list: &[(&str, &str)]) -> (Fields, Record) {
        let mut fields = Fields::new();
        for (name, value) in list {
            fields.push(name.as_bytes(), value.as_bytes());
        }
        let mut record = Record::new();
        record.direction = direction;
        record.started = Instant::now();
        self.0.state.borrow_mut().carry(&mut fields, &mut record, true).unwrap();
        (fields, record)
    }

    fn inbound(&self, list: &[(&str, &str)]) -> (Fields, Record) {
        self.pass(Direction::Inbound, list)
    }

    fn outbound(&self, list: &[(&str, &str)]) -> (Fields, Record) {
        self.pass(Direction::Outbound, list)
    }
}

fn end(mut record: Record, phase: Phase) {
    (record.phase, record.attempts) = (phase, 1);
    record.end(Instant::now());
}

fn text(record: &Record, span: crate::exchange::Text) -> String {
    String::from_utf8_lossy(record.text(span)).into_owned()
}

/// That `called` has the whole context of `served`, and its span as the parent.
fn assert_serves(fields: &Fields, called: &Record, served: &Record) {
    assert_eq!(called.trace.trace_id, served.trace.trace_id);
    assert_eq!(called.parent_id, Some(served.trace.parent_id));
    assert_eq!(called.trace.is_sampled(), served.trace.is_sampled());
    assert_eq!(get(fields, Known::XRequestId).as_deref(), Some("r-1"));
    assert_eq!(get(fields, Known::XUserId).as_deref(), Some("u1"));
    assert_eq!(get(fields, Known::XAccountId).as_deref(), Some("a1"));
    assert_eq!(get(fields, Known::XLicense).as_deref(), Some("gold"));
    assert_eq!(get(fields, Known::XFeatureFlags).as_deref(), Some("beta"));
    assert_eq!(get(fields, Known::Tracestate).as_deref(), Some("vendor=1"));
    let baggage = get(fields, Known::Baggage).unwrap();
    assert!(baggage.contains("account.id=a1") && baggage.contains("other=1"), "{baggage}");
    assert_eq!(text(called, called.account_id), "a1");
}

#[test]
fn an_application_that_copies_nothing_keeps_its_parent_while_it_serves_one() {
    let side = Side::new();
    let (_, served) = side.inbound(&FULL);
    let (fields, called) = side.outbound(&[]);
    assert_eq!(called.parent_source, ParentSource::Sole);
    assert_serves(&fields, &called, &served);
}

#[test]
fn with_two_under_way_there_is_no_parent_but_links_and_no_field_is_taken_over() {
    let side = Side::new();
    let (_, one) = side.inbound(&FULL);
    let (_, two) = side.inbound(&[("x-account-id", "a2")]);
    let (fields, called) = side.outbound(&[]);
    assert_eq!(called.parent_source, ParentSource::Lost);
    assert_eq!(called.parent_id, None);
    assert!(called.trace.trace_id != one.trace.trace_id && called.trace.trace_id != two.trace.trace_id);
    assert_eq!((get(&fields, Known::XAccountId), get(&fields, Known::Baggage)), (None, None));
    let mut links = called.notes.unwrap().links.clone();
    links.sort_unstable();
    let mut want = [&one, &two].map(|record| (record.trace.trace_id, record.trace.parent_id));
    want.sort_unstable();
    assert_eq!(links, want);
}

#[test]
fn a_copied_request_id_or_echo_tells_which_of_many_it_serves() {
    let side = Side::with(|context| context.correlate.echo = "x-correlation-id".into());
    let with_echo: Vec<_> = FULL.into_iter().chain([("x-correlation-id", "c-1")]).collect();
    let (_, served) = side.inbound(&with_echo);
    let _others: Vec<_> = (0..20)
        .map(|n| side.inbound(&[("x-account-id", "b"), ("x-correlation-id", &format!("other-{n}"))]))
        .collect();
    let (fields, called) = side.outbound(&[("x-request-id", "r-1")]);
    assert_eq!(called.parent_source, ParentSource::RequestId);
    assert_serves(&fields, &called, &served);
    let (fields, called) = side.outbound(&[("X-Correlation-Id", "c-1")]);
    assert_eq!(called.parent_source, ParentSource::Echo);
    assert_serves(&fields, &called, &served);
    let (_, called) = side.outbound(&[("x-request-id", "unheard-of")]);
    assert_eq!((called.parent_source, called.parent_id), (ParentSource::Lost, None));
}

#[test]
fn an_application_that_copies_the_trace_only_gets_the_fields_back() {
    let side = Side::new();
    let (to_app, served) = side.inbound(&FULL);
    let _other = side.inbound(&[("x-account-id", "b")]);
    let trace = get(&to_app, Known::Traceparent).unwrap();
    let (fields, called) = side.outbound(&[("traceparent", &trace), ("tracestate", "vendor=1")]);
    assert_eq!(called.parent_source, ParentSource::Header);
    assert_serves(&fields, &called, &served);
    // A span of the application's own in between: its parent stays.
    let own = format!("{}00aa00aa00aa00aa-01", &trace[..36]);
    let (fields, called) = side.outbound(&[("traceparent", &own), ("x-account-id", "mine")]);
    assert_eq!(called.parent_id, Some(0x00aa_00aa_00aa_00aa_u64.to_be_bytes()));
    assert_eq!(get(&fields, Known::XAccountId).as_deref(), Some("mine"), "what it says itself counts");
    assert_eq!(get(&fields, Known::XLicense).as_deref(), Some("gold"));
    // A trace that nobody here knows.
    let foreign = "00-11111111111111111111111111111111-2222222222222222-01";
    let (fields, called) = side.outbound(&[("traceparent", foreign)]);
    assert_eq!(called.parent_source, ParentSource::Header);
    assert_eq!(get(&fields, Known::XLicense), None);
}

#[test]
fn a_tracer_bullet_stays_one_whatever_the_application_says() {
    let side = Side::new();
    let list: Vec<_> = FULL.into_iter().chain([("x-request-type", "TRACE")]).collect();
    let (_, _served) = side.inbound(&list);
    for said in
        [&[][..], &[("x-request-type", "STANDARD")], &[("x-request-id", "r-1"), ("x-request-type", "x")]]
    {
        let (fields, called) = side.outbound(said);
        assert_eq!(called.request_type, RequestType::Trace, "{said:?}");
        assert_eq!(get(&fields, Known::XRequestType).as_deref(), Some("TRACE"), "{said:?}");
    }
}

#[test]
fn sole_is_not_believed_after_an_exchange_that_was_cut_nor_where_it_is_off() {
    let side = Side::new();
    let (_, cut) = side.inbound(&FULL);
    end(cut, Phase::Response);
    let (_, _served) = side.inbound(&FULL);
    let (_, called) = side.outbound(&[]);
    assert_eq!(called.parent_source, ParentSource::Lost, "the application may still work for the first");

    let side = Side::with(|context| context.correlate.sole = false);
    let (_, served) = side.inbound(&FULL);
    assert_eq!(side.outbound(&[]).1.parent_source, ParentSource::Lost);
    end(served, Phase::Done);
    assert_eq!(side.outbound(&[]).1.parent_source, ParentSource::Root, "there is none");
}

#[test]
fn an_exchange_that_ended_is_nobodys_parent() {
    let side = Side::new();
    let (_, served) = side.inbound(&FULL);
    end(served, Phase::Done);
    let (_, called) = side.outbound(&[("x-request-id", "r-1")]);
    assert_eq!((called.parent_source, called.parent_id), (ParentSource::Root, None));
    let (_, record) = side.inbound(&FULL);
    assert!(record.duration == Duration::ZERO && record.place.is_some());
}
