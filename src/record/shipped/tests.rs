//! From a recorder to events, and from events to the files that it wrote.

use super::*;
use crate::record::config::{Config, Encrypt};
use crate::record::tests::Bed;
use crate::record::{Books, Header, Query, Recording, Told};
use proptest::prelude::*;
use std::path::{Path, PathBuf};

/// An event, as the pipeline writes it.
fn event(members: &[u8]) -> String {
    let members = std::str::from_utf8(members).unwrap().strip_prefix('{').unwrap();
    format!(
        r#"{{"schema":"{SCHEMA}","id":{{"instance":"a","epoch":1,"sequence":2}},"timestamp":"2026-01-02T03:04:05Z",{members}"#
    )
}

fn piece(recording: &str, segment: u32, offset: u64, bytes: &[u8]) -> String {
    event(&Piece { recording, segment, offset, bytes }.members())
}

/// The events that a recorder told.
fn events(bed: &Bed) -> Vec<String> {
    let told = bed.told.lock().unwrap();
    let pieces = told.iter().filter_map(|told| match told {
        Told::Piece(members) => Some(event(members)),
        _ => None,
    });
    pieces.collect()
}

/// The segments of a directory: names and bytes.
fn files(directory: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = std::fs::read_dir(directory)
        .unwrap()
        .map(|file| file.unwrap().path())
        .map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), std::fs::read(&path).unwrap()))
        .collect();
    files.sort();
    files
}

fn shipped(sinks: &[&str]) -> Config {
    let sinks = sinks.iter().map(ToString::to_string).collect();
    Config { sinks, segment_bytes_max: 64 << 10, ..Config::default() }
}

/// Content that does not compress.
fn noise(seed: u64) -> Vec<u8> {
    let mut number = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let step = |_| {
        number ^= number << 13;
        number ^= number >> 7;
        number ^= number << 17;
        number as u8
    };
    (0..20_000).map(step).collect()
}

fn record(bed: &Bed, numbers: std::ops::Range<u64>) {
    for number in numbers {
        bed.exchange("acme", &format!("/{number}"), &[&noise(number)], |_| {});
        if number % 3 == 0 {
            assert!(bed.recorder.flush(std::time::Duration::from_secs(10)));
        }
    }
}

fn place(bed: &Bed) -> PathBuf {
    bed.directory.path().join("recording")
}

/// Lines in another order, the same each time.
fn shuffled(mut lines: Vec<String>) -> Vec<String> {
    lines.sort_by_key(|line| twox_hash::XxHash3_64::oneshot(line.as_bytes()));
    lines
}

/// What became of every line of a text, the segments, and where they are.
fn collected(text: &[u8]) -> (Vec<Result<Taken, Wrong>>, Vec<Collected>, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let mut collector = Collector::new(directory.path()).unwrap();
    let (mut became, mut lines) = (Vec::new(), Lines::new(text));
    while let Some(line) = lines.next_line().unwrap() {
        became.push(collector.take(&line));
    }
    let made = collector.finish().unwrap();
    (became, made, directory)
}

#[test]
fn what_was_shipped_becomes_the_same_files_in_whatever_order_and_however_often() {
    let bed = Bed::new(shipped(&["kafka"]));
    record(&bed, 0..20);
    bed.recorder.stop();
    let lines = events(&bed);
    let written = files(&place(&bed));
    assert!(written.len() >= 3 && lines.len() > 15, "{} files, {} pieces", written.len(), lines.len());
    let other = r#"{"schema":"sidelight/exchange/1","id":{}}"#.to_owned();
    let twice = [lines.clone(), lines.clone(), vec![other; 5]].concat();
    for text in [lines.join("\n"), shuffled(twice).join("\r\n")] {
        let (became, made, directory) = collected(text.as_bytes());
        assert_eq!(
            files(directory.path()),
            written,
            "names and bytes are the same, and no other file is there"
        );
        assert!(became.iter().all(Result::is_ok), "{became:?}");
        assert_eq!(became.iter().filter(|it| **it == Ok(Taken::New)).count(), lines.len());
        assert!(made.iter().all(|segment| segment.is_ended && segment.missing.is_empty()), "{made:?}");
    }
}

#[test]
fn nothing_is_told_without_sinks_and_one_that_comes_later_begins_with_a_segment() {
    let bed = Bed::new(shipped(&[]));
    record(&bed, 0..2);
    assert!(bed.recorder.flush(std::time::Duration::from_secs(10)) && events(&bed).is_empty());
    bed.apply(shipped(&["nats"]));
    record(&bed, 2..4);
    bed.recorder.stop();
    let (_, made, directory) = collected(events(&bed).join("\n").as_bytes());
    let written = files(&place(&bed));
    assert_eq!((written.len(), made.len()), (2, 1));
    assert_eq!(files(directory.path())[0], written[1]);
    let entries: Vec<u64> = Recording::open(directory.path())
        .unwrap()
        .entries(&Query::default())
        .map(|entry| entry.unwrap().sequence)
        .collect();
    assert_eq!(entries, [3, 4]);
}

#[test]
fn a_recording_that_is_sealed_from_now_on_goes_on_in_its_place() {
    let bed = Bed::new(shipped(&["nats"]));
    record(&bed, 0..2);
    let keys = tempfile::tempdir().unwrap();
    bed.apply(Config { encrypt: Some(Encrypt { keys: keys.path().join("keys") }), ..shipped(&["nats"]) });
    record(&bed, 2..4);
    bed.recorder.stop();
    let books: Books = bed.recorder.books();
    assert_eq!((books.recorded, books.dropped_total()), (4, 0), "{books:?}");
    let (_, _, directory) = collected(events(&bed).join("\n").as_bytes());
    assert_eq!(files(directory.path()), files(&place(&bed)));
    let opened = Recording::open_with_keys(directory.path(), &keys.path().join("keys")).unwrap();
    assert_eq!(opened.entries(&Query::default()).filter(Result::is_ok).count(), 4);
}

#[test]
fn a_frame_that_is_longer_than_an_event_comes_in_pieces() {
    for (event_bytes_max, longest) in [(0, 1 << 10), (100 << 10, 72 << 10), (usize::MAX, PIECE_BYTES_MAX)] {
        let told = Arc::new(std::sync::Mutex::new(Vec::new()));
        let ear = Arc::clone(&told);
        let ship: Ship = Arc::new(move |piece: &Piece<'_>| {
            ear.lock().unwrap().push((piece.offset, piece.bytes.to_vec(), piece.members().len()));
        });
        let frame: Vec<u8> = (0..300_001_u32).map(|number| (number % 251) as u8).collect();
        Shipping::new(event_bytes_max, ship).frame("r", 1, 77, &frame);
        let told = told.lock().unwrap();
        let mut at = 77;
        for (offset, bytes, event_bytes) in told.iter() {
            assert_eq!(*offset, at);
            at += bytes.len() as u64;
            assert!(bytes.len() <= longest && (event_bytes_max == 0 || event_bytes + 1000 < event_bytes_max));
        }
        assert_eq!(told.iter().flat_map(|(_, bytes, _)| bytes.clone()).collect::<Vec<u8>>(), frame);
    }
}

#[test]
fn what_is_missing_is_told_and_the_rest_is_read() {
    let bed = Bed::new(Config { segment_bytes_max: 64 << 20, ..shipped(&["kafka"]) });
    record(&bed, 0..30);
    bed.recorder.stop();
    let lines = events(&bed);
    let whole = &files(&place(&bed))[0].1;
    for lost in [0, lines.len() / 2, lines.len() - 1] {
        let mut rest = lines.clone();
        rest.remove(lost);
        let (_, made, directory) = collected(shuffled(rest).join("\n").as_bytes());
        let [segment] = &made[..] else { panic!("{made:?}") };
        let recording = Recording::open(directory.path()).unwrap();
        let entries = recording.entries(&Query::default()).filter(Result::is_ok).count();
        let file = std::fs::read(&segment.path).unwrap();
        match &segment.missing[..] {
            [] => assert!(lost == lines.len() - 1 && !segment.is_ended && entries == 30, "{segment:?}"),
            [gap] => {
                let (from, to) = (gap.start as usize, gap.end as usize);
                assert_eq!(
                    (&file[..from], &file[to..]),
                    (&whole[..from], &whole[to..]),
                    "only the gap is another"
                );
                // A lost head costs no entry.
                assert!(
                    if lost == 0 { from == 0 && entries == 30 } else { (10..30).contains(&entries) },
                    "{entries}"
                );
            }
            more => panic!("{more:?}"),
        }
        if lost == 0 {
            let header: &Header = recording.headers().next().unwrap();
            assert_eq!((&*header.source, header.segment), ("sidelight", 1));
        }
    }
}

#[test]
fn lines_that_are_hostile_are_told_and_harm_nothing() {
    let good = piece("r1", 1, 0, b"0123456789");
    let long = format!("{{\"schema\":\"{SCHEMA}\",\"x\":\"{}\"}}", "y".repeat(5 << 20));
    let cases: [(&str, &str); 15] = [
        (&piece("../../etc/x", 1, 0, b"x"), "names no recording"),
        (&piece("", 1, 0, b"x"), "names no recording"),
        (&piece(".hidden", 1, 0, b"x"), "names no recording"),
        (&piece("r\u{0}", 1, 0, b"x"), "names no recording"),
        (&piece(&"r".repeat(65), 1, 0, b"x"), "names no recording"),
        (&piece("r1", 0, 0, b"x"), "names no segment"),
        (&piece("r1", 1, u64::MAX, b"x"), "no segment is longer"),
        (&piece("r1", 1, 16 << 30, b"x"), "no segment is longer"),
        (&piece("r1", 1, 0, b""), "no data"),
        (&piece("r1", 1, 0, b"x").replace("eA==", "e!=="), "no data"),
        (&piece("r1", 1, 5, b"56X8"), "other bytes than an earlier line"),
        (
            &piece("r1", 1, 8, b"89abX")
                .replace("sidelight/recording_frame/1", "sidelight/recording_frame/7"),
            "newer sidelight",
        ),
        (&good[..good.len() - 9], "no whole event"),
        (
            &good.replace("\"sidelight.recording.segment\":1", "\"sidelight.recording.segment\":-1"),
            "no whole event",
        ),
        (&long, "longer than an event"),
    ];
    let lines: Vec<&str> = std::iter::once(&*good).chain(cases.iter().map(|(line, _)| *line)).collect();
    let (became, made, directory) = collected(lines.join("\n").as_bytes());
    assert_eq!(became.len(), 16);
    for (became, (line, want)) in became[1..].iter().zip(cases) {
        let Err(Wrong::Line(told)) = became else { panic!("{became:?} for {line:.200}") };
        assert!(told.contains(want), "{told} for {line:.200}");
    }
    assert_eq!(files(directory.path()), [("r1-000001.slr".to_owned(), b"0123456789".to_vec())]);
    assert_eq!(made[0].bytes, 10);
}

#[test]
fn pieces_that_overlap_are_put_together_and_files_that_are_there_stay() {
    let lines = [
        piece("r1", 1, 4, b"4567"),
        format!("key-of-kafka\t{}", piece("r1", 1, 0, b"0123456789")),
        piece("r1", 1, 2, b"23"),
        piece("r1", 2, 0, b"new"),
    ];
    let (became, ..) = collected(lines.join("\n").as_bytes());
    assert_eq!(became, [Ok(Taken::New), Ok(Taken::New), Ok(Taken::Repeated), Ok(Taken::New)]);
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("r1-000001.slr"), "mine").unwrap();
    let mut collector = Collector::new(directory.path()).unwrap();
    let mut take = |text: &str| {
        let line = Line { number: 1, offset: 0, bytes: text.as_bytes(), is_cut: false };
        collector.take(&line)
    };
    assert!(matches!(take(&lines[0]), Err(Wrong::Line(told)) if told.contains("is there already")));
    assert_eq!(take(&lines[2]), Ok(Taken::PassedOver), "it is told once");
    assert_eq!(take(&lines[3]), Ok(Taken::New));
    assert_eq!(collector.finish().unwrap().len(), 1);
    let names =
        [("r1-000001.slr".to_owned(), b"mine".to_vec()), ("r1-000002.slr".to_owned(), b"new".to_vec())];
    assert_eq!(files(directory.path()), names);
}

#[test]
fn an_import_that_ends_early_leaves_nothing_behind() {
    let directory = tempfile::tempdir().unwrap();
    let mut collector = Collector::new(directory.path()).unwrap();
    let line = piece("r1", 1, 0, b"x");
    assert!(collector.take(&Line { number: 1, offset: 0, bytes: line.as_bytes(), is_cut: false }).is_ok());
    assert_eq!(files(directory.path()).len(), 1);
    drop(collector);
    assert!(files(directory.path()).is_empty());
}

#[test]
fn a_file_of_events_is_known_by_its_first_line() {
    let rows: [(&str, bool); 7] = [
        (r#"{"schema":"sidelight/config/1","id":{}}"#, true),
        ("\n\n{\"id\": {}, \"schema\" : \"sidelight/exchange/1\"}\n", true),
        (&format!("acme\t{}", piece("r", 1, 0, b"x")), true),
        (r#"{"log":{"version":"1.2","creator":{"name":"sidelight/1"}}}"#, false),
        (r#"{"log":{"entries":[{"text":"{\"schema\":\"sidelight/exchange/1\"}"}]}}"#, false),
        ("1 a 2\nGET / HTTP/1.1\n{\"schema\":\"sidelight/exchange/1\"}", false),
        ("", false),
    ];
    for (start, is_so) in rows {
        assert_eq!(is_events(start.as_bytes()), is_so, "{start}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_lines_panic_and_nothing_is_written_outside(
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        recording in "[a./\\\\-]{0,5}", segment in 0_u32..3, offset in 0_u64..30, more: Vec<u8>,
    ) {
        let mut text = [piece(&recording, segment, offset, b"abc"), piece("r", 1, 0, b"0123")].join("\n").into_bytes();
        for (index, byte) in edits {
            let at = index.index(text.len());
            text[at] = byte;
        }
        text.push(b'\n');
        text.extend(more);
        let outside = tempfile::tempdir().unwrap();
        let directory = outside.path().join("in/here");
        let mut collector = Collector::new(&directory).unwrap();
        let mut lines = Lines::new(&text[..]);
        while let Some(line) = lines.next_line().unwrap() {
            let _ = collector.take(&line);
        }
        let made = collector.finish().unwrap();
        prop_assert_eq!(files(&directory).len(), made.len());
        prop_assert!(std::fs::read_dir(outside.path()).unwrap().count() == 1);
        prop_assert!(std::fs::read_dir(outside.path().join("in")).unwrap().count() == 1);
    }
}
