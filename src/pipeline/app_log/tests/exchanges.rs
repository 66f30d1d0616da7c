//! Whose exchange a line belongs to.

use super::{TRACE, event_of};
use crate::context::{Field, TraceParent};
use crate::exchange::in_flight::{InFlight, Keys};
use crate::exchange::{Direction, Record};
use crate::pipeline::app_log::{Exchanges, Ids};
use serde_json::json;
use std::sync::Arc;
use std::time::{Duration, Instant};

fn trace(id: u8, span: u8) -> TraceParent {
    TraceParent { version: 0, trace_id: [id; 16], parent_id: [span; 8], flags: 1 }
}

fn record(trace: TraceParent, request_id: &str, account: &str) -> Record {
    let mut record = Record::new();
    record.direction = Direction::Inbound;
    record.trace = trace;
    record.request_id = record.store(request_id.as_bytes());
    record.account_id = record.store(account.as_bytes());
    record.flags = record.store(b"beta, dark");
    record
}

fn ids(trace_id: Option<u8>, span_id: Option<u8>, request_id: &str) -> Ids<'_> {
    Ids {
        trace_id: trace_id.map(|id| [id; 16]),
        span_id: span_id.map(|id| [id; 8]),
        request_id: Some(request_id).filter(|id| !id.is_empty()).map(Into::into),
    }
}

fn account(exchanges: &Exchanges, wanted: &Ids<'_>) -> Option<String> {
    let context = exchanges.find(wanted)?;
    Some(String::from_utf8_lossy(context.text(Field::AccountId)).into_owned())
}

#[test]
fn an_exchange_that_ended_is_found_by_each_of_its_ids() {
    let exchanges = Exchanges::new(InFlight::new(), || {});
    let mut visit = exchanges.visit();
    visit.note(&record(trace(1, 1), "r-1", "a1"));
    visit.note(&record(trace(2, 1), "r-2", "a2"));
    visit.note(&record(trace(2, 2), "r-2", "a2"));
    visit.note(&record(trace(3, 1), "r-3", "a3"));
    visit.note(&record(trace(3, 2), "r-3", "a4"));
    let mut outbound = record(trace(4, 1), "r-4", "a5");
    outbound.direction = Direction::Outbound;
    visit.note(&outbound);
    assert_eq!(account(&exchanges, &ids(Some(1), None, "")), None, "not before the visit is over");
    drop(visit);
    for (wanted, want) in [
        (ids(Some(1), None, ""), Some("a1")),
        (ids(None, None, "r-1"), Some("a1")),
        (ids(Some(9), None, "r-1"), Some("a1")),
        (ids(Some(2), None, ""), Some("a2")),
        (ids(Some(3), None, ""), Some("")),
        (ids(Some(3), Some(1), ""), Some("a3")),
        (ids(Some(3), Some(2), ""), Some("a4")),
        (ids(None, None, "r-3"), Some("")),
        (ids(Some(4), None, "r-4"), None),
        (ids(Some(9), None, "r-9"), None),
    ] {
        assert_eq!(account(&exchanges, &wanted).as_deref(), want, "{wanted:?}");
    }
    let spans = |id| exchanges.find(&ids(Some(id), None, "")).unwrap().span_id;
    assert_eq!((spans(1), spans(2)), (Some([1; 8]), None), "of two nobody knows which");
    let context = exchanges.find(&ids(Some(1), None, "")).unwrap();
    let line = format!("request_id=r-1 trace_id={}", "01".repeat(16));
    let got = event_of(line.as_bytes(), 0, Some(&context));
    assert_eq!(got["flags"], json!(["beta", "dark"]));
    assert_eq!(
        (&got["account_id"], &got["request_type"], &got["span_id"], got.get("user_id")),
        (&json!("a1"), &json!("STANDARD"), &json!("01".repeat(8)), None)
    );
    // The trace of the line stands; the span of another one is not put below it.
    let got = event_of(format!("trace_id={TRACE} request_id=r-1").as_bytes(), 0, Some(&context));
    assert_eq!(
        (&got["trace_id"], got.get("span_id"), &got["account_id"]),
        (&json!(TRACE), None, &json!("a1"))
    );
}

#[test]
fn what_is_remembered_is_bounded() {
    let exchanges = Exchanges::new(InFlight::new(), || {});
    for number in 0..5 * 8192_u32 {
        let mut record = record(trace(1, 1), &format!("r-{number}"), "a1");
        record.trace.trace_id = u128::from(number + 1).to_be_bytes();
        exchanges.visit().note(&record);
    }
    let known = |number: u32| exchanges.find(&ids(None, None, &format!("r-{number}"))).is_some();
    assert!(!known(0) && !known(3 * 8192 - 1) && known(4 * 8192) && known(5 * 8192 - 1));
    for _ in 0..20_000 {
        exchanges.visit().note(&record(trace(7, 7), "same", "a1"));
    }
    assert_eq!(account(&exchanges, &ids(None, None, "same")).as_deref(), Some("a1"));
}

#[test]
fn an_exchange_is_known_from_the_moment_it_is_under_way_to_well_after_its_end() {
    // The pipeline's thread, as it is: it visits when it is roused, and meets records some time after the exchange left.
    let in_flight = InFlight::new();
    let (rouse, roused) = std::sync::mpsc::sync_channel::<()>(1);
    let exchanges = Exchanges::new(Arc::clone(&in_flight), move || {
        let _ = rouse.try_send(());
    });
    let (put, take) = std::sync::mpsc::channel::<Record>();
    let visitor = std::thread::spawn({
        let exchanges = Arc::downgrade(&exchanges);
        move || {
            while roused.recv_timeout(Duration::from_secs(5)).is_ok() {
                let Some(exchanges) = exchanges.upgrade() else { return };
                let mut visit = exchanges.visit();
                take.try_iter().for_each(|record| visit.note(&record));
            }
        }
    });
    let shard = in_flight.shard();
    for number in 1..=200_u8 {
        let request_id = format!("r-{number}");
        let keys = Keys { trace: trace(number, number), request_id: request_id.as_bytes(), echo: &[] };
        let place = shard.enter(&keys, 1, |_| {});
        // Under way: its context was too long to be kept here, so that only its ids are known.
        let wanted = ids(Some(number), None, "");
        assert_eq!(exchanges.find(&wanted).and_then(|context| context.span_id), Some([number; 8]));
        place.leave(true, 2);
        put.send(record(trace(number, number), &request_id, "a1")).unwrap();
        if exchanges.find(&wanted).is_none() {
            exchanges.catch_up();
        }
        assert_eq!(account(&exchanges, &wanted).as_deref(), Some("a1"), "{number}");
    }
    drop((exchanges, put));
    visitor.join().unwrap();
}

#[test]
fn a_thread_that_does_not_come_is_not_waited_for_again_and_again() {
    let exchanges = Exchanges::new(InFlight::new(), || {});
    let at = Instant::now();
    for _ in 0..100 {
        exchanges.catch_up();
    }
    let took = at.elapsed();
    assert!(took >= Duration::from_millis(100) && took < Duration::from_millis(900), "{took:?}");
}
