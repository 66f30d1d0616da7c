use super::*;
use crate::record::{
    Content, Entry, Event, Field, Header, Query, Recording, RequestHead, ResponseHead, Side, What, Writer,
};
use clap::Parser;
use std::path::Path;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    recording: RecordingCommand,
}

/// Runs a command; whether it succeeded.
fn run(words: &[&str]) -> bool {
    let line =
        Line::try_parse_from([&["recording"], words].concat()).unwrap_or_else(|error| panic!("{error}"));
    format!("{:?}", line.recording.execute()) == format!("{:?}", ExitCode::SUCCESS)
}

const SECOND: u64 = 1_000_000_000;

fn exchange(number: u64, account: &str) -> Entry {
    let head = RequestHead {
        method: "GET".into(),
        scheme: "http".into(),
        authority: "shop".into(),
        target: format!("/{number}").into(),
        ..RequestHead::default()
    };
    let answer = ResponseHead { status: 200 + number as u16, fields: vec![Field::new("x", "1")] };
    let whats = [
        What::Request(head),
        What::End(Side::Request),
        What::Response(answer),
        What::Data(Side::Response, "{\"a\":1}".into()),
        What::End(Side::Response),
    ];
    Entry {
        connection: 1,
        stream: number,
        started_ns: 1_000 * SECOND + number * SECOND,
        duration_ns: 4,
        first_byte_ns: 2,
        status: 200 + number as u16,
        account_id: account.into(),
        trace_id: [number as u8; 16],
        response: Content { bytes: 7, ..Content::default() },
        events: whats.into_iter().zip(0..).map(|(what, at_ns)| Event { at_ns, what }).collect(),
        ..Entry::default()
    }
}

fn write(directory: &Path, recording: &str, entries: &[Entry]) {
    let header = Header {
        recording: recording.into(),
        service: "shop".into(),
        source: "sidelight".into(),
        authorities: vec!["shop".into()],
        sampled_millionths: 1_000_000,
        ..Header::default()
    };
    let mut writer = Writer::create(directory, &header).unwrap();
    entries.iter().for_each(|entry| writer.write(entry).unwrap());
    writer.finish().unwrap();
}

fn read(directory: &Path) -> Vec<Entry> {
    Recording::open(directory).unwrap().entries(&Query::default()).collect::<Result<_, _>>().unwrap()
}

fn targets(directory: &Path) -> Vec<String> {
    let target = |entry: &Entry| String::from_utf8_lossy(&entry.request_head().unwrap().target).into_owned();
    read(directory).iter().map(target).collect()
}

fn folder(root: &Path, name: &str) -> String {
    root.join(name).display().to_string()
}

#[test]
fn a_cut_has_what_its_filters_mean() {
    let root = tempfile::tempdir().unwrap();
    let entries: Vec<Entry> =
        (1..=9).map(|number| exchange(number, if number % 2 == 0 { "even" } else { "odd" })).collect();
    let all = root.path().join("all");
    write(&all, "r1", &entries);
    let from = all.display().to_string();
    let trace = "05".repeat(16);
    let cases: [(&[&str], &[&str]); 8] = [
        (&["--account", "even"], &["/2", "/4", "/6", "/8"]),
        (&["--from", "+7s"], &["/8", "/9"]),
        (&["--from", "-1s"], &["/8", "/9"]),
        (&["--until", "+2s"], &["/1", "/2"]),
        (&["--from", "1970-01-01T00:16:43Z", "--until", "1970-01-01T00:16:45Z"], &["/3", "/4"]),
        (&["--trace", &trace], &["/5"]),
        (&["--status", "203-204"], &["/3", "/4"]),
        (
            &["--status", "2xx", "--account", "odd", "--direction", "inbound", "--until", "+5s"],
            &["/1", "/3", "/5"],
        ),
    ];
    for (number, (filters, want)) in cases.into_iter().enumerate() {
        let to = folder(root.path(), &number.to_string());
        assert!(run(&[&["cut", &from, "-o", &to], filters].concat()), "{filters:?}");
        assert_eq!(targets(Path::new(&to)), want, "{filters:?}");
        let sequences: Vec<u64> = read(Path::new(&to)).iter().map(|entry| entry.sequence).collect();
        assert_eq!(sequences, (1..=want.len() as u64).collect::<Vec<_>>());
        assert!(run(&["verify", &to]));
    }
    let to = folder(root.path(), "none");
    assert!(!run(&["cut", &from, "-o", &to, "--account", "nobody"]));
    assert!(!run(&["cut", &from, "-o", &from]), "into itself");
}

#[test]
fn a_merge_is_in_order_and_has_everything_once() {
    let root = tempfile::tempdir().unwrap();
    let [one, two, both, again] = ["one", "two", "both", "again"].map(|name| folder(root.path(), name));
    write(Path::new(&one), "r1", &[exchange(1, "a"), exchange(4, "a"), exchange(6, "a")]);
    write(Path::new(&two), "r2", &[exchange(2, "a"), exchange(3, "a"), exchange(5, "a")]);
    assert!(run(&["merge", &one, &two, &one, "-o", &both]));
    assert_eq!(targets(Path::new(&both)), ["/1", "/2", "/3", "/4", "/5", "/6"]);
    let entries = read(Path::new(&both));
    assert_eq!(entries.iter().map(|entry| entry.sequence).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6]);
    assert_ne!(entries[0].connection, entries[1].connection, "connections of two recordings are two");
    let opened = Recording::open(Path::new(&both)).unwrap();
    let header = opened.headers().next().unwrap();
    assert_eq!((&*header.service, &header.authorities[..]), ("shop", &["shop".to_owned()][..]));
    assert!(run(&["merge", &both, &one, "-o", &again]), "another recording has other numbers");
    assert_eq!(targets(Path::new(&again)).len(), 9);
}

#[test]
fn damage_is_found_and_the_rest_is_read() {
    let root = tempfile::tempdir().unwrap();
    let all = folder(root.path(), "all");
    write(Path::new(&all), "r1", &(1..=5).map(|number| exchange(number, "a")).collect::<Vec<_>>());
    assert!(
        run(&["verify", &all]) && run(&["ls", &all]) && run(&["ls", &all, "--entries", "--format", "json"])
    );
    let segment = Recording::open(Path::new(&all)).unwrap().segments()[0].clone();
    let mut bytes = std::fs::read(&segment.path).unwrap();
    let at = segment.blocks.unwrap()[0].offset as usize + 40;
    bytes[at] ^= 1;
    std::fs::write(&segment.path, &bytes).unwrap();
    assert!(!run(&["verify", &all]));
    assert!(!run(&["verify", &all, "--format", "json"]));
    assert!(!run(&["verify", &folder(root.path(), "nowhere")]));
}

#[test]
fn what_is_exported_as_har_comes_back() {
    let root = tempfile::tempdir().unwrap();
    let [all, back, file] = ["all", "back", "all.har"].map(|name| folder(root.path(), name));
    write(Path::new(&all), "r1", &(1..=5).map(|number| exchange(number, "a")).collect::<Vec<_>>());
    assert!(run(&["export", &all, "--as", "har", "-o", &file]));
    assert!(run(&["import", &file, "-o", &back]));
    assert_eq!(read(Path::new(&back)), read(Path::new(&all)));
    let opened = Recording::open(Path::new(&back)).unwrap();
    let header = opened.headers().next().unwrap();
    assert_eq!((&*header.source, &header.authorities[..]), ("har", &["shop".to_owned()][..]));
    let packed = folder(root.path(), "x.gor.gz");
    std::fs::write(&packed, b"\x1f\x8b\x08rest").unwrap();
    assert!(!run(&["import", &packed, "-o", &folder(root.path(), "never")]));
    assert!(!root.path().join("never").exists(), "nothing is written before all files are known");
}

#[test]
fn packed_files_are_unpacked_and_one_that_is_cut_is_read_up_to_there() {
    use std::io::Write;
    let root = tempfile::tempdir().unwrap();
    let [all, file, packed, back] =
        ["all", "all.gor", "all.gor.gz", "back"].map(|name| folder(root.path(), name));
    write(Path::new(&all), "r1", &(1..=200).map(|number| exchange(number, "a")).collect::<Vec<_>>());
    assert!(run(&["export", &all, "--as", "gor", "-o", &file]));
    let plain = std::fs::read(&file).unwrap();
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::none());
    encoder.write_all(&plain).unwrap();
    let bytes = encoder.finish().unwrap();
    std::fs::write(&packed, &bytes).unwrap();
    assert!(run(&["import", &packed, "-o", &back]));
    assert_eq!(targets(Path::new(&back)), targets(Path::new(&all)));
    std::fs::write(&packed, &bytes[..bytes.len() / 2]).unwrap();
    let half = folder(root.path(), "half");
    assert!(!run(&["import", &packed, "-o", &half]), "it is not whole");
    let found = targets(Path::new(&half)).len();
    assert!((90..=110).contains(&found), "{found} of 200");
}

#[test]
fn pieces_and_files_of_others_are_imported_together() {
    let root = tempfile::tempdir().unwrap();
    let [all, har, events, both] =
        ["all", "all.har", "events.ndjson", "both"].map(|name| folder(root.path(), name));
    write(Path::new(&all), "r1", &[exchange(1, "a"), exchange(2, "a")]);
    assert!(run(&["export", &all, "--as", "har", "-o", &har]));
    let segment = std::fs::read_dir(&all).unwrap().next().unwrap().unwrap().path();
    let bytes = std::fs::read(segment).unwrap();
    let (first, rest) = bytes.split_at(bytes.len() / 2);
    let event = |offset: usize, bytes: &[u8]| {
        let piece =
            crate::record::shipped::Piece { recording: "r1", segment: 1, offset: offset as u64, bytes };
        let members = String::from_utf8(piece.members()).unwrap();
        members.replacen('{', "{\"schema\":\"sidelight/recording_frame/1\",", 1)
    };
    let [first, rest] = [event(0, first), event(first.len(), rest)];
    std::fs::write(&events, format!("{rest}\n{{\"x\":1}}\n{first}\n")).unwrap();
    assert!(run(&["import", &events, &har, "-o", &both]) && run(&["verify", &both]));
    assert_eq!(targets(Path::new(&both)).len(), 4);
    assert!(!run(&["import", &events, "-o", &both]), "the segment is there already");
    std::fs::write(&events, format!("{rest}\n")).unwrap();
    let part = folder(root.path(), "part");
    assert!(!run(&["import", "--as", "sidelight", &events, "-o", &part]), "half of it is missing");
    std::fs::write(&events, "{\"x\":1}\n").unwrap();
    assert!(
        !run(&["import", "--as", "sidelight", &events, "-o", &folder(root.path(), "none")]),
        "there is none"
    );
}

#[test]
fn big_content_is_copied_in_parts() {
    let root = tempfile::tempdir().unwrap();
    let [all, cut] = ["all", "cut"].map(|name| folder(root.path(), name));
    let mut entry = exchange(1, "a");
    let piece =
        |number: u8| Event { at_ns: 3, what: What::Data(Side::Response, vec![number; 1 << 20].into()) };
    let mut writer =
        Writer::create(Path::new(&all), &Header { recording: "r1".into(), ..Header::default() }).unwrap();
    (entry.token, entry.parts) = (77, 10);
    for number in 0..10 {
        let part = Entry { token: 77, parts: number, events: vec![piece(number as u8)], ..Entry::default() };
        writer.write_part(&part).unwrap();
    }
    entry.response.bytes = (10 << 20) + 7;
    writer.write(&entry).unwrap();
    writer.finish().unwrap();
    assert!(run(&["cut", &all, "-o", &cut]) && run(&["verify", &cut]));
    let recording = Recording::open(Path::new(&cut)).unwrap();
    let [entry] = &read(Path::new(&cut))[..] else { panic!() };
    assert!(entry.parts >= 2);
    let whole = show::whole(&recording, entry.clone()).unwrap();
    let body = whole.body(Side::Response);
    assert_eq!(body.len(), (10 << 20) + 7);
    assert!((0..10).all(|number| body[number << 20] == number as u8) && body.ends_with(b"{\"a\":1}"));
    assert!(whole.is_whole());
}

#[test]
fn an_exchange_is_found_by_number_trace_and_request_id() {
    let root = tempfile::tempdir().unwrap();
    let all = folder(root.path(), "all");
    let entry = Entry { request_id: "req-7".into(), ..exchange(1, "a") };
    write(Path::new(&all), "r1", &[entry]);
    let trace = "01".repeat(16);
    for id in ["1", &trace, "req-7"] {
        assert!(run(&["show", &all, id]) && run(&["show", &all, id, "--format", "json"]), "{id}");
    }
    for id in ["2", "req-8", &"02".repeat(16)] {
        assert!(!run(&["show", &all, id]), "{id}");
    }
}

#[test]
fn what_strangers_wrote_does_not_reach_the_terminal() {
    assert_eq!(plain(b"a\x1b[31m\r\nb\xff"), "a\\u{1b}[31m\\r\\nb\u{fffd}");
    assert_eq!(table(&["A", "LONG"], &[vec!["wide".into(), "x".into()]]), "A     LONG\nwide  x\n");
}
