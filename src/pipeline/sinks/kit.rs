//! For the tests of sinks: events as they are, and batches as a cursor reads them.

use super::sink::{Failure, Sent};
use crate::pipeline::Service;
use crate::pipeline::spool::{Batch, Class, Config, Spool, Start};
use std::time::{Duration, Instant};

/// Nothing waits that long when all is well.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// Whose events they are.
pub(super) fn service() -> Service {
    Service { name: "checkout".into(), instance: "checkout-1".into(), ..Service::default() }
}

/// An event of any kind, of an account if that is not empty.
pub(super) fn event(kind: &str, sequence: u64, account: &str) -> String {
    let account = if account.is_empty() { String::new() } else { format!(r#","account_id":"{account}""#) };
    format!(
        r#"{{"schema":"sidelight/{kind}/1","id":{{"instance":"checkout-1","epoch":17,"sequence":{sequence}}},"timestamp":"2026-01-02T03:04:05.{sequence:06}Z","trace_id":"0af7651916cd43dd8448eb211c80319c"{account},"sidelight.direction":"inbound","http.response.status_code":200,"sidelight.duration_ms":1.5,"sampled":true,"flags":["a","b"]}}"#
    )
}

/// Exchanges with these numbers, without an account.
pub(super) fn exchanges(count: u64) -> Vec<String> {
    (1..=count).map(|sequence| event("exchange", sequence, "")).collect()
}

/// A batch of these events; the first has this number in the spool.
pub(super) fn batch_from<E: AsRef<[u8]>>(first: u64, events: &[E]) -> Batch {
    let room = 64 << 20;
    let config = Config { memory_bytes_max: room, event_bytes_max: room, ..Config::default() };
    let (spool, mut writer) = Spool::open(&config, "checkout-1", 1).unwrap();
    let mut cursor = spool.cursor("test", Start::Beginning).unwrap();
    for _ in 1..first {
        writer.append(Class::Event, b"{}");
    }
    for event in events {
        writer.append(Class::Event, event.as_ref());
    }
    writer.tick(Instant::now());
    let mut before = Batch::new(room, usize::try_from(first - 1).unwrap());
    while first > 1 && cursor.read(&mut before) > 0 {
        let last = before.last_sequence().unwrap();
        cursor.commit(last, Instant::now());
        if last + 1 == first {
            break;
        }
        before = Batch::new(room, usize::try_from(first - 1 - last).unwrap());
    }
    let mut batch = Batch::new(room, events.len());
    assert_eq!(cursor.read(&mut batch), events.len());
    assert_eq!(batch.events().next().unwrap().sequence, first);
    batch
}

/// A batch of these events, which begin at 1.
pub(super) fn batch<E: AsRef<[u8]>>(events: &[E]) -> Batch {
    batch_from(1, events)
}

/// So long from now.
pub(super) fn within(millis: u64) -> Instant {
    Instant::now() + Duration::from_millis(millis)
}

/// As long as anything may take.
pub(super) fn in_time() -> Instant {
    Instant::now() + PATIENCE
}

/// The reason of a failure that may pass.
#[track_caller]
pub(super) fn retry(result: Result<Sent, Failure>) -> String {
    match result {
        Err(Failure::Retry { reason, .. }) => reason,
        other => panic!("{other:?}"),
    }
}

/// Polls until there is something.
#[track_caller]
pub(super) fn wait_for<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let end = in_time();
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(Instant::now() < end, "waited {PATIENCE:?} in vain for {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
