//! The pipeline as a whole: what is written, what is counted, and that the books agree.

use super::*;
use crate::error::Kind;
use crate::exchange::{Direction, Phase, Sink};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Long enough for any machine; a test that waits for it has failed.
const DEADLINE: Duration = Duration::from_secs(30);

fn config(path: Option<PathBuf>, ring_events_max: usize) -> Config {
    let file = path.map(|path| sinks::file::Config { name: None, path, rotate: None });
    let sinks = config::Sinks { file: file.into_iter().collect(), ..config::Sinks::default() };
    Config { sinks, ring_events_max, ..Config::default() }
}

fn service() -> Service {
    Service { name: "checkout".into(), instance: "i".into(), ..Service::default() }
}

fn end(sink: &WorkerSink, path: &[u8], status: u16) {
    let mut record = sink.spare();
    assert!(record.text.is_empty(), "a used record comes back empty");
    record.direction = Direction::Inbound;
    record.method = record.store(b"GET");
    record.path = record.store(path);
    record.status = status;
    record.phase = Phase::Done;
    record.duration = Duration::from_millis(3);
    record.cluster = Some("payments".into());
    sink.exchange(record);
}

fn events(path: &Path) -> Vec<Value> {
    std::fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn every_exchange_and_event_is_written_once_and_in_order() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("events.ndjson");
    let (pipeline, mut sinks) =
        Pipeline::start(&config(Some(path.clone()), 4096), service(), 1, Path::new(".")).unwrap();
    let sink = sinks.pop().unwrap();
    for number in 0..1000 {
        end(&sink, format!("/{number}").as_bytes(), 200);
    }
    pipeline.emitter().emit("sidelight/config/1", serde_json::json!({ "sidelight.config.revision": "r1" }));
    let registry = Arc::clone(pipeline.registry());
    assert!(pipeline.stop(DEADLINE));
    let events = events(&path);
    let exchanges: Vec<&Value> = events.iter().filter(|event| event["schema"] == encode::EXCHANGE).collect();
    assert_eq!((events.len(), exchanges.len()), (1001, 1000));
    for (number, exchange) in exchanges.iter().enumerate() {
        assert_eq!(exchange["url.path"], format!("/{number}"));
    }
    for (index, event) in events.iter().enumerate() {
        assert_eq!(event["id"]["sequence"], index as u64 + 1);
    }
    let account = registry.accounts().read().remove(0);
    assert_eq!((account.produced, account.delivered, account.queued), (1001, 1001, 0));
}

#[test]
fn an_event_is_written_within_its_time_whether_the_thread_naps_or_sleeps() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("events.ndjson");
    let (pipeline, mut sinks) =
        Pipeline::start(&config(Some(path.clone()), 64), service(), 1, Path::new(".")).unwrap();
    let sink = sinks.pop().unwrap();
    let registry = Arc::clone(pipeline.registry());
    let delivered = || registry.accounts().read()[0].delivered;
    let await_delivered = |count| {
        let since = Instant::now();
        while delivered() < count {
            assert!(since.elapsed() < DEADLINE, "event {count} was never written");
            std::thread::yield_now();
        }
    };
    for count in 1..=20 {
        end(&sink, b"/", 200);
        await_delivered(count);
    }
    let since = Instant::now();
    while !pipeline.wake.is_sleeping() {
        assert!(since.elapsed() < DEADLINE, "an idle pipeline must sleep");
        std::thread::yield_now();
    }
    end(&sink, b"/", 200);
    await_delivered(21);
    assert!(pipeline.stop(DEADLINE));
}

#[test]
fn the_books_agree_at_every_moment_under_full_rings() {
    const EXCHANGES: u64 = 20_000;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("events.ndjson");
    let (pipeline, sinks) =
        Pipeline::start(&config(Some(path.clone()), 16), service(), 3, Path::new(".")).unwrap();
    let (emitter, registry) = (pipeline.emitter(), Arc::clone(pipeline.registry()));
    let workers: Vec<_> = sinks
        .into_iter()
        .map(|sink| {
            let emitter = emitter.clone();
            std::thread::spawn(move || {
                for number in 0..EXCHANGES {
                    end(&sink, b"/x", 200);
                    if number % 100 == 0 {
                        emitter.emit("sidelight/app_log/1", Value::Null);
                    }
                }
            })
        })
        .collect();
    let mut readings = 0;
    while !workers.iter().all(std::thread::JoinHandle::is_finished) {
        let account = registry.accounts().read().remove(0);
        assert!(account.is_balanced(), "{account:?}");
        readings += 1;
    }
    workers.into_iter().for_each(|worker| worker.join().unwrap());
    assert!(readings > 0);
    assert!(pipeline.stop(DEADLINE));
    let account = registry.accounts().read().remove(0);
    assert_eq!(account.produced, 3 * (EXCHANGES + EXCHANGES / 100));
    assert_eq!(account.queued, 0);
    assert_eq!(account.delivered + account.dropped_all(), account.produced);
    let events = events(&path);
    assert_eq!(events.len() as u64, account.delivered);
    // The gaps are what was lost before the last event; nothing comes twice or out of order.
    let sequences: Vec<u64> = events.iter().map(|event| event["id"]["sequence"].as_u64().unwrap()).collect();
    assert!(sequences.is_sorted_by(|one, next| one < next));
    assert!(*sequences.last().unwrap() <= account.produced);
    // Metrics have every exchange, also those whose event was lost.
    assert_eq!(registry.ended(), 3 * EXCHANGES);
    let scrape = metrics::tests::parse(&registry.render(metrics::Format::Prometheus));
    let count = scrape.sum("http_server_request_duration_seconds_count");
    assert_eq!(count, (3 * EXCHANGES) as f64);
}

#[test]
fn a_sink_that_cannot_write_stops_nothing() {
    let (pipeline, mut sinks) =
        Pipeline::start(&config(Some("/dev/full".into()), 64), service(), 1, Path::new(".")).unwrap();
    let sink = sinks.pop().unwrap();
    for _ in 0..50 {
        end(&sink, b"/", 200);
    }
    let registry = Arc::clone(pipeline.registry());
    let since = Instant::now();
    while registry.accounts().read().remove(0).is_up {
        assert!(since.elapsed() < DEADLINE, "the sink never noticed");
        std::thread::yield_now();
    }
    pipeline.stop(Duration::from_millis(500));
    let account = registry.accounts().read().remove(0);
    // The event that says that the sink is down waits with the others.
    assert_eq!((account.delivered, account.dropped_all(), account.queued), (0, 0, 51));
    assert!(account.last_error.is_some_and(|(_, reason)| reason.contains("/dev/full")));
    assert_eq!(registry.ended(), 50);
}

#[test]
fn without_sinks_metrics_are_counted_and_records_go_round() {
    let (pipeline, mut sinks) = Pipeline::start(&config(None, 16), service(), 1, Path::new(".")).unwrap();
    let sink = sinks.pop().unwrap();
    for _ in 0..100 {
        end(&sink, b"/", 200);
    }
    pipeline.emitter().emit("sidelight/config/1", Value::Null);
    let mut huge = sink.spare();
    huge.store(&[b'x'; 100_000]);
    sink.exchange(huge);
    assert!(sink.spare().text.capacity() < 100_000, "one huge head does not pin its memory");
    assert_eq!(pipeline.registry().ended(), 101);
    assert!(pipeline.registry().accounts().read().is_empty());
    assert!(pipeline.stop(DEADLINE));
}

#[test]
fn records_are_reused() {
    let directory = tempfile::tempdir().unwrap();
    let (pipeline, mut sinks) =
        Pipeline::start(&config(Some(directory.path().join("e")), 64), service(), 1, Path::new(".")).unwrap();
    let sink = sinks.pop().unwrap();
    let record = sink.spare();
    let address = std::ptr::from_ref(&*record);
    sink.exchange(record);
    let registry = Arc::clone(pipeline.registry());
    assert!(pipeline.stop(DEADLINE));
    assert_eq!(registry.accounts().read()[0].delivered, 1);
    assert_eq!(std::ptr::from_ref(&*sink.spare()), address);
    assert_eq!(registry.active(), 1, "one that was handed out is under way");
}

#[test]
fn a_file_that_cannot_be_opened_stops_the_start() {
    let config = config(Some("/nonexistent/e".into()), 64);
    let Err(error) = Pipeline::start(&config, service(), 1, Path::new(".")) else { panic!("started") };
    assert!(error.to_string().contains("/nonexistent/e"));
}

#[test]
fn causes_are_remembered_the_latest_first() {
    let (pipeline, mut sinks) = Pipeline::start(&config(None, 16), service(), 1, Path::new(".")).unwrap();
    let sink = sinks.pop().unwrap();
    for (seconds, cause) in [(10, Kind::NoEndpoint), (30, Kind::ConnectFailed), (20, Kind::NoEndpoint)] {
        let mut record = sink.spare();
        record.started_at = UNIX_EPOCH + Duration::from_secs(seconds);
        record.cause = Some(cause);
        sink.exchange(record);
    }
    let causes: Vec<_> = pipeline.registry().causes().iter().map(|row| (row.cause, row.count)).collect();
    assert_eq!(causes, [(Kind::ConnectFailed, 1), (Kind::NoEndpoint, 2)]);
}
