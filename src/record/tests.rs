//! From a tap to the entries that are read back.

use super::config::{Config, Flight, Match, Sample, SampleBy};
use super::*;
use crate::context::TraceParent;
use crate::error::{Error, Kind};
use crate::exchange::{Connection, Direction, Guard, NoSink, Outcome, Phase, Record, Sink, Tap};
use crate::svc::{Fields, Method, RequestHead, ResponseHead, Version};
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::Instant;

/// Of a key whose bytes are all 7.
const SEED: u64 = 0x0707_0707_0707_0707;

/// A sink that records.
struct Recording1(Taps, Mutex<Vec<Record>>);

impl Sink for Recording1 {
    fn exchange(&self, record: Box<Record>) {
        self.1.lock().unwrap().push(*record);
    }

    fn tap(&self, connection: &Connection) -> Option<Box<dyn Tap>> {
        self.0.begin(connection)
    }
}

pub(super) struct Bed {
    pub(super) directory: tempfile::TempDir,
    pub(super) recorder: Recorder,
    sink: Rc<Recording1>,
    connection: Connection,
    pub(super) told: Arc<Mutex<Vec<Told>>>,
}

impl Bed {
    pub(super) fn new(config: Config) -> Bed {
        let directory = tempfile::tempdir().unwrap();
        let told = Arc::<Mutex<Vec<Told>>>::default();
        let ear = Arc::clone(&told);
        let recorder = Recorder::new(Arc::new(move |what| ear.lock().unwrap().push(what)));
        let sink = Rc::new(Recording1(recorder.taps(), Mutex::default()));
        let bed = Bed { directory, recorder, sink, connection: connection(), told };
        bed.apply(config);
        bed
    }

    pub(super) fn apply(&self, config: Config) {
        let key_file = self.directory.path().join("key");
        std::fs::write(&key_file, [7; 32]).unwrap();
        let redact = redact::Config { key_file: Some(key_file), ..config.redact };
        let config = Config { directory: config.directory.or(Some("recording".into())), redact, ..config };
        let about = About { service: "checkout".into(), ..About::default() };
        let setup = Setup::new(&config, about, self.directory.path()).unwrap();
        self.recorder.apply(setup, Rules::new(&config)).unwrap();
    }

    /// An exchange as a codec would tell of it.
    pub(super) fn exchange(
        &self,
        account: &str,
        path: &str,
        pieces: &[&[u8]],
        end: impl FnOnce(&mut Record),
    ) {
        let sink: Rc<dyn Sink> = self.sink.clone();
        let (recorder, guard) = crate::exchange::Recorder::start(&sink, &self.connection, Instant::now());
        let mut fields = Fields::new();
        fields.push(b"Content-Type", b"text/plain");
        let mut head =
            RequestHead { method: Method::Post, version: Version::Http11, fields, ..RequestHead::new() };
        head.set_authority(b"shop.example");
        head.set_path(path.as_bytes());
        head.set_query(Some(b"q=1"));
        recorder.note_request(&head);
        {
            let mut record = recorder.edit();
            record.account_id = record.store(account.as_bytes());
            record.route = Some("all".into());
            record.trace = TraceParent { version: 0, trace_id: [9; 16], parent_id: [8; 8], flags: 1 };
        }
        pieces.iter().for_each(|piece| recorder.tap_data(Side::Request, piece));
        let mut fields = Fields::new();
        fields.push(b"X-Answer", b"yes");
        recorder.tap_response(&ResponseHead { status: 200, fields, ..ResponseHead::new(200) });
        recorder.tap_data(Side::Response, b"answered");
        recorder.edit().status = 200;
        end(&mut recorder.edit());
        let phase = recorder.edit().phase;
        finish(phase, guard);
    }

    pub(super) fn read(&self, query: &Query) -> Vec<Entry> {
        assert!(self.recorder.flush(Duration::from_secs(10)));
        let recording = super::Recording::open(&self.directory.path().join("recording")).unwrap();
        recording.entries(query).map(Result::unwrap).collect()
    }

    fn books(&self) -> Books {
        assert!(self.recorder.flush(Duration::from_secs(10)));
        let books = self.recorder.books();
        assert!(books.is_balanced(), "{books:?}");
        books
    }
}

fn finish(phase: Phase, guard: Guard) {
    match phase {
        Phase::Response => drop(guard),
        _ => guard.complete(),
    }
}

fn connection() -> Connection {
    let address = "127.0.0.1:4711".parse().unwrap();
    Connection {
        direction: Direction::Inbound,
        peer: address,
        local: address,
        is_tls: false,
        identity: None,
        is_trusted: true,
        serial: Default::default(),
    }
}

#[test]
fn an_exchange_is_read_back_as_it_was_told() {
    let bed = Bed::new(Config::default());
    bed.exchange("acme", "/a", &[b"one ", b"two"], |_| {});
    bed.exchange("", "/b", &[], |_| {});
    let entries = bed.read(&Query::default());
    let [first, second] = &entries[..] else { panic!("{entries:?}") };
    assert_eq!((first.sequence, second.sequence), (1, 2));
    assert_eq!((first.connection, first.stream, second.stream), (second.connection, 1, 2));
    assert_eq!((&*first.account_id, &*first.route, &*first.peer), ("acme", "all", "127.0.0.1:4711"));
    assert_eq!((first.trace_id, first.span_id, first.status), ([9; 16], [8; 8], 200));
    assert_eq!((first.outcome, &*first.cause), (Outcome::Complete, ""));
    let head = first.request_head().unwrap();
    assert_eq!((&head.method[..], &head.target[..]), (&b"POST"[..], &b"/a?q=1"[..]));
    assert_eq!((&head.scheme[..], &head.authority[..]), (&b"http"[..], &b"shop.example"[..]));
    assert_eq!(head.fields, [Field::new("Content-Type", "text/plain")]);
    let answer = first.response_head().unwrap();
    assert_eq!((answer.status, &answer.fields[..]), (200, &[Field::new("X-Answer", "yes")][..]));
    assert_eq!(
        (first.body(Side::Request), first.body(Side::Response)),
        ("one two".into(), "answered".into())
    );
    let sum = twox_hash::XxHash3_64::oneshot_with_seed(SEED, b"one two");
    assert_eq!(first.request, Content { bytes: 7, hash: sum, is_truncated: false });
    assert_eq!(second.request, Content::default());
    assert_eq!(bed.sink.1.lock().unwrap()[0].recorded, Some(crate::exchange::Recorded::Kept));
}

#[test]
fn content_over_the_limit_is_marked_and_summed_whole() {
    let bed = Bed::new(Config { body_limit: Some(10), ..Config::default() });
    bed.exchange("acme", "/", &[b"12345678", b"90abcdef", b"ghi"], |_| {});
    let entry = bed.read(&Query::default()).remove(0);
    let sum = twox_hash::XxHash3_64::oneshot_with_seed(SEED, b"1234567890abcdefghi");
    assert_eq!(entry.request, Content { bytes: 19, hash: sum, is_truncated: true });
    assert_eq!(entry.body(Side::Request), "1234567890");
    assert!(!entry.is_whole());
}

#[test]
fn large_content_comes_in_parts_and_is_read_as_one() {
    let bed = Bed::new(Config { body_limit: None, memory_bytes_max: 64 << 20, ..Config::default() });
    let piece: Vec<u8> = (0..300_000_u32).map(|number| (number % 251) as u8).collect();
    let pieces = vec![&piece[..]; 40];
    bed.exchange("acme", "/large", &pieces, |_| {});
    let entry = bed.read(&Query::default()).remove(0);
    assert!(entry.parts >= 8, "{} parts", entry.parts);
    assert_eq!((entry.request.bytes, entry.request.is_truncated), (12_000_000, false));
    bed.recorder.stop();
    let recording = super::Recording::open(&bed.directory.path().join("recording")).unwrap();
    let mut sum = twox_hash::xxhash3_64::Hasher::with_seed(SEED);
    let (mut bytes, mut heads) = (0, 0);
    for event in recording.events(&entry) {
        match event.unwrap().what {
            What::Data(Side::Request, data) => {
                bytes += data.len();
                std::hash::Hasher::write(&mut sum, &data);
            }
            What::Request(_) => heads += 1,
            _ => {}
        }
    }
    assert_eq!((bytes, heads), (12_000_000, 1));
    assert_eq!(std::hash::Hasher::finish(&sum), entry.request.hash);
}

#[test]
fn what_is_wanted_is_recorded_and_all_is_accounted_for() {
    let failed = |record: &mut Record| {
        record.status = 503;
        record.cause = Some(Kind::NoHealthyEndpoint);
    };
    let cases: [(&str, Match, &[&str]); 5] = [
        ("all", Match::default(), &["/1", "/2", "/3", "/4"]),
        ("account", Match { accounts: vec!["acme".into()], ..Match::default() }, &["/1", "/3"]),
        ("status", Match { statuses: vec!["5xx".into()], ..Match::default() }, &["/3", "/4"]),
        (
            "failed",
            Match { statuses: vec!["failed".into()], accounts: vec!["acme".into()], ..Match::default() },
            &["/3"],
        ),
        ("route", Match { routes: vec!["other".into()], ..Match::default() }, &[]),
    ];
    for (name, wanted, expected) in cases {
        let bed = Bed::new(Config { r#match: wanted, ..Config::default() });
        bed.exchange("acme", "/1", &[], |_| {});
        bed.exchange("bolt", "/2", &[], |_| {});
        bed.exchange("acme", "/3", &[], failed);
        bed.exchange("bolt", "/4", &[], failed);
        let books = bed.books();
        assert_eq!(
            (books.seen, books.recorded, books.filtered),
            (4, expected.len() as u64, 4 - expected.len() as u64),
            "{name}"
        );
        if !expected.is_empty() {
            let paths: Vec<String> = bed.read(&Query::default()).iter().map(path).collect();
            assert_eq!(paths, expected, "{name}");
        }
    }
}

fn path(entry: &Entry) -> String {
    let target = &entry.request_head().unwrap().target;
    String::from_utf8_lossy(target).split('?').next().unwrap().to_owned()
}

#[test]
fn sampling_takes_accounts_whole() {
    let sample = Sample { ratio: 0.3, by: SampleBy::Account };
    let bed = Bed::new(Config { sample, ..Config::default() });
    for number in 0..2000 {
        bed.exchange(&format!("account-{}", number % 200), "/", &[], |_| {});
    }
    let mut by_account = std::collections::BTreeMap::<String, u32>::new();
    for entry in bed.read(&Query::default()) {
        assert_eq!(entry.sampled_millionths, 300_000);
        *by_account.entry(entry.account_id).or_default() += 1;
    }
    assert!(by_account.values().all(|count| *count == 10), "whole or not at all: {by_account:?}");
    assert!((40..80).contains(&by_account.len()), "{} of 200", by_account.len());
    let books = bed.books();
    assert_eq!((books.seen, books.recorded + books.sampled_out), (2000, 2000));
}

#[test]
fn what_was_asked_for_at_runtime_ends_with_its_time() {
    let bed = Bed::new(Config { enabled: false, ..Config::default() });
    bed.exchange("acme", "/before", &[], |_| {});
    let wanted = Match { accounts: vec!["acme".into()], ..Match::default() };
    let rule = Rule::new(&wanted, &Sample::default(), None);
    let until = std::time::Instant::now() + Duration::from_millis(300);
    bed.recorder.demand(rule.on_demand("mine", until)).unwrap();
    bed.exchange("acme", "/during", &[], |_| {});
    bed.exchange("bolt", "/other", &[], |_| {});
    let since = std::time::Instant::now();
    while bed.recorder.status().is_on {
        assert!(since.elapsed() < Duration::from_secs(10), "it does not end");
        std::thread::sleep(Duration::from_millis(10));
    }
    bed.exchange("acme", "/after", &[], |_| {});
    let paths: Vec<String> = bed.read(&Query::default()).iter().map(path).collect();
    assert_eq!(paths, ["/during"]);
    let books = bed.books();
    assert_eq!((books.seen, books.recorded, books.filtered), (2, 1, 1), "what nobody asked for is not seen");
}

#[test]
fn the_flight_recorder_is_written_out_when_something_fails() {
    let bed = Bed::new(Config { enabled: false, flight: Some(Flight::default()), ..Config::default() });
    for number in 0..5 {
        bed.exchange("acme", &format!("/{number}"), &[], |_| {});
    }
    bed.exchange("acme", "/failed", &[], |record| record.status = 500);
    bed.exchange("acme", "/after", &[], |_| {});
    let entries = bed.read(&Query::default());
    let paths: Vec<String> = entries.iter().map(path).collect();
    assert_eq!(paths, ["/0", "/1", "/2", "/3", "/4", "/failed"]);
    assert!(entries.iter().all(|entry| entry.kept_by == "error"));
    assert_eq!(*bed.told.lock().unwrap(), [Told::Kept { reason: "error", entries: 5 }]);
    assert_eq!(bed.recorder.books().pending, 1, "the last one is still held");
    bed.recorder.stop();
    let books = bed.recorder.books();
    assert_eq!((books.seen, books.recorded, books.filtered, books.pending), (7, 6, 1, 0));
}

#[test]
fn the_flight_recorder_holds_no_more_than_it_may() {
    let flight = Flight { bytes_max: 100_000, ..Flight::default() };
    let bed = Bed::new(Config { enabled: false, flight: Some(flight), ..Config::default() });
    let piece = [b'x'; 1000];
    for _ in 0..1000 {
        bed.exchange("acme", "/", &[&piece], |_| {});
    }
    bed.recorder.keep();
    let entries = bed.read(&Query::default());
    assert!((30..100).contains(&entries.len()), "{} kept", entries.len());
    assert_eq!(bed.recorder.status().held_bytes.0, 0);
}

#[test]
fn an_exchange_without_memory_is_left_out_whole() {
    let bed = Bed::new(Config { memory_bytes_max: 64 << 10, ..Config::default() });
    bed.exchange("acme", "/small", &[b"x"], |_| {});
    bed.exchange("acme", "/large", &[&[b'x'; 200_000]], |_| {});
    let paths: Vec<String> = bed.read(&Query::default()).iter().map(path).collect();
    assert_eq!(paths, ["/small"]);
    let books = bed.books();
    assert_eq!((books.seen, books.recorded, books.dropped.get("queue_full")), (2, 1, Some(&1)));
    assert_eq!(bed.sink.1.lock().unwrap()[1].recorded, Some(crate::exchange::Recorded::Dropped));
    assert_eq!(bed.recorder.status().held_bytes.0, 0, "what was granted is given back");
}

#[test]
fn an_exchange_that_was_cut_says_by_whom() {
    let bed = Bed::new(Config::default());
    bed.exchange("acme", "/", &[], |record| {
        record.phase = Phase::Response;
        record.cause = Some(Kind::UpstreamClosed);
    });
    let entry = bed.read(&Query::default()).remove(0);
    assert_eq!(entry.outcome, Outcome::Cut);
    let Some(What::Reset(side, cause)) = entry.events.last().map(|event| &event.what) else {
        panic!("{entry:?}")
    };
    assert_eq!((*side, &**cause), (Side::Response, Error::from(Kind::UpstreamClosed).kind().answer().cause));
}

#[test]
fn a_disk_that_is_full_stops_the_recording_and_is_told_once() {
    let bed = Bed::new(Config::default());
    bed.exchange("acme", "/1", &[], |_| {});
    bed.books();
    // What a directory that is gone and cannot be made again says, the disk would say as well.
    let directory = bed.directory.path().join("recording");
    let full = Config { directory: Some("/dev/full/recording".into()), ..Config::default() };
    let about = About::default();
    let setup = Setup::new(&full, about, bed.directory.path()).unwrap();
    assert!(bed.recorder.apply(setup, Rules::new(&full)).unwrap_err().contains("/dev/full"));
    std::fs::remove_dir_all(&directory).unwrap();
    bed.apply(Config {
        segment_bytes_max: 1 << 20,
        directory: Some("recording".into()),
        ..Config::default()
    });
    bed.exchange("acme", "/2", &[], |_| {});
    assert_eq!(bed.books().recorded, 2, "the directory is made again");
}

#[test]
fn nothing_is_recorded_where_nothing_is_configured() {
    let recorder = Recorder::new(Arc::new(|_| {}));
    assert!(recorder.taps().begin(&connection()).is_none());
    let rule =
        Rule::new(&Match::default(), &Sample::default(), None).on_demand("x", std::time::Instant::now());
    assert!(recorder.demand(rule).unwrap_err().contains("recording.directory"));
    let _: &dyn Sink = &NoSink;
}

#[test]
fn secrets_do_not_reach_the_disk() {
    let bed = Bed::new(Config::default());
    let body = br#"{"user":"ann@example.org","password":"hunter22","card":"4111 1111 1111 1111"}"#;
    bed.exchange("ann@example.org", "/login", &[&body[..30], &body[30..]], |_| {});
    let entry = bed.read(&Query::default()).remove(0);
    let text = String::from_utf8(entry.body(Side::Request).to_vec()).unwrap();
    for secret in ["ann@example", "hunter22", "4111 1111"] {
        assert!(!text.contains(secret), "{text}");
    }
    assert_eq!((text.len(), entry.redactions > 2), (body.len(), true), "{text}");
    let account = entry.account_id.clone();
    assert_ne!(account, "ann@example.org");
    let by_token = Query { account_id: Some(account), ..Query::default() };
    bed.recorder.stop();
    let recording = super::Recording::open(&bed.directory.path().join("recording")).unwrap();
    assert_eq!(recording.entries(&by_token).count(), 1, "the index knows what the entry says");
}

#[test]
fn a_sealed_account_is_forgotten_with_its_key() {
    let keys = tempfile::tempdir().unwrap();
    let encrypt = Some(super::config::Encrypt { keys: keys.path().into() });
    let bed = Bed::new(Config { encrypt, body_limit: None, memory_bytes_max: 64 << 20, ..Config::default() });
    bed.exchange("acme", "/1", &[b"one"], |_| {});
    bed.exchange("bolt", "/2", &[&vec![b'x'; 3 << 20]], |_| {});
    bed.exchange("acme", "/3", &[b"three"], |_| {});
    bed.recorder.stop();
    let path = bed.directory.path().join("recording");
    let without = super::Recording::open(&path).unwrap();
    let told: Vec<String> = without.entries(&Query::default()).map(|entry| entry.unwrap_err().what).collect();
    assert!(told.len() == 3 && told.iter().all(|what| what.contains("directory of keys")), "{told:?}");
    let read = |query: &Query| {
        let recording = super::Recording::open_with_keys(&path, keys.path()).unwrap();
        let (entries, problems): (Vec<_>, Vec<_>) = recording.entries(query).partition(Result::is_ok);
        let bytes: Vec<usize> = entries
            .iter()
            .map(|entry| {
                let events = recording.events(entry.as_ref().unwrap()).map(Result::unwrap);
                events
                    .map(
                        |event| if let What::Data(Side::Request, data) = event.what { data.len() } else { 0 },
                    )
                    .sum()
            })
            .collect();
        (bytes, problems.len())
    };
    assert_eq!(read(&Query::default()), (vec![3, 3 << 20, 5], 0));
    let acme = Query { account_id: Some("acme".into()), ..Query::default() };
    assert_eq!(read(&acme), (vec![3, 5], 0));
    assert!(super::seal::Keys::open(keys.path()).unwrap().forget("acme").unwrap());
    assert_eq!(read(&Query::default()), (vec![3 << 20], 2), "the other account's are still there");
}
