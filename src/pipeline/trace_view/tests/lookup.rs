//! Which trace an id means, and what is said of lines and files that cannot be read.

use super::*;

fn ask(id: &str, mut sources: Vec<Source>) -> (Answer, Reading) {
    find(&Id::parse(id).unwrap(), &mut sources).unwrap()
}

fn shop_files() -> Vec<Source> {
    let shop = shop();
    files(shop.iter().map(Vec::as_slice))
}

#[test]
fn every_form_of_an_id_finds_the_trace() {
    for id in [
        TRACE,
        "4BF92F3577B34DA6A3CE929D0E0E4736",
        "4bf92f35",
        "4bf92f3577b34da6",
        " 4bf92f35\n",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00000000000000a1-01",
        "r-1",
    ] {
        assert_eq!(trace(id, shop_files()).spans.len(), 6, "{id}");
    }
    for id in ["", "   ", "a b", "ü", &"x".repeat(257)] {
        assert!(Id::parse(id).is_err(), "{id}");
    }
}

#[test]
fn an_id_that_nobody_has_is_nothing() {
    for id in [
        "4bf92f36",
        "4bf92f3",
        "r-2",
        "r-",
        "00000000000000a1",
        "storefront",
        "0af7651916cd43dd8448eb211c80319c",
    ] {
        let (answer, reading) = ask(id, shop_files());
        assert!(matches!(answer, Answer::Nothing), "{id}");
        assert_eq!(reading.faults_total, 0);
        let bytes = |file: &Vec<Value>| file.iter().map(|event| event.to_string().len() + 1).sum::<usize>();
        let [one, two, three] = shop();
        let want =
            format!(
            "  a.ndjson: 2 lines, {} bytes, from 2025-01-01T00:00:00.000000Z to 2025-01-01T00:00:00.001000Z
  b.ndjson: 3 lines, {} bytes, from 2025-01-01T00:00:00.001500Z to 2025-01-01T00:00:00.006000Z
  c.ndjson: 1 line, {} bytes, from 2025-01-01T00:00:00.006400Z to 2025-01-01T00:00:00.006400Z\n",
            bytes(&one), bytes(&two), bytes(&three)
        );
        assert_eq!(reading.searched(), want);
    }
    assert!(Id::parse("4bf92f3").unwrap().is_short() && !Id::parse("r-2").unwrap().is_short());
    assert!(!Id::parse("4bf92f36").unwrap().is_short());
}

/// A request id finds also spans that came before the first that has it, and those that never had it.
#[test]
fn a_request_id_finds_the_whole_trace() {
    let spans = [
        exchange(
            "c",
            "inbound",
            ("00000000000000a3", "00000000000000a2"),
            (2, 1.0),
            json!({ "request_id": "r-7" }),
        ),
        exchange(
            "b",
            "outbound",
            ("00000000000000a2", "00000000000000a1"),
            (1, 2.0),
            json!({ "request_id": null }),
        ),
        exchange("a", "inbound", ("00000000000000a1", ""), (0, 3.0), json!({ "request_id": "r-1" })),
    ];
    assert_eq!(outline(&trace("r-1", files([&spans[..]]))), outlined(&[("a1", 0), ("a2", 1), ("a3", 2)]));
}

#[test]
fn an_id_of_several_traces_gives_their_list() {
    let mine = exchange("shop", "inbound", ("00000000000000a1", ""), (0, 3.0), json!({}));
    let same_digits = json!({ "trace_id": "4bf92f3500000000000000000000000f" });
    let newer = exchange("shop", "inbound", ("00000000000000b1", ""), (9, 4.0), same_digits);
    let events = [mine.clone(), newer];
    for id in ["4bf92f35", "r-1"] {
        let (Answer::Several(list, 0), _) = ask(id, files([&events[..]])) else {
            panic!("{id} is not ambiguous")
        };
        let ids: Vec<u8> = list.iter().map(|summary| summary.trace_id[15]).collect();
        assert_eq!(ids, [0x0f, 0x36], "the newest first");
    }
    assert_eq!(trace("4bf92f357", files([&events[..]])).spans.len(), 1);
    // The id of a request may look like a trace's: the whole id of a trace means that trace.
    let named_so = json!({ "trace_id": "0af7651916cd43dd8448eb211c80319c", "request_id": TRACE });
    let other = exchange("shop", "inbound", ("00000000000000c1", ""), (9, 4.0), named_so);
    assert_eq!(trace(TRACE, files([&[other.clone(), mine][..]])).spans[0].span_id[7], 0xa1);
    assert_eq!(trace(TRACE, files([&[other][..]])).spans[0].span_id[7], 0xc1);
}

#[test]
fn of_very_many_traces_some_are_listed_and_the_rest_is_counted() {
    let event = |n: u32| {
        exchange(
            "shop",
            "inbound",
            ("00000000000000a1", ""),
            (n.into(), 1.0),
            json!({ "trace_id": format!("{n:032x}") }),
        )
    };
    let events: Vec<Value> = (1..100).map(event).collect();
    let (Answer::Several(list, more), _) = ask("r-1", files([&events[..]])) else { panic!("one trace") };
    assert_eq!((list.len(), more), (20, 79));
    // Though the list was full before it came, a trace that is named in full is found.
    let id = format!("{:032x}", 99);
    assert_eq!(trace(&id, files([&events[..]])).spans.len(), 1);
}

#[test]
fn lines_that_are_no_events_are_named_and_passed_over() {
    let good = exchange("shop", "inbound", ("00000000000000a1", ""), (0, 3.0), json!({}));
    let no = |more: Value| exchange("shop", "inbound", ("00000000000000a1", ""), (0, 3.0), more).to_string();
    let whole = no(json!({}));
    let lines = [
        whole.get(..90).unwrap().to_owned(), // 1: cut, and the next began behind it
        "not JSON".to_owned(),               // 2
        String::new(),                       // 3: nothing
        format!("{{\"{TRACE}\" 1}}"),        // 4
        no(json!({ "span_id": "xyz" })),     // 5
        no(json!({ "span_id": null })),      // 6
        no(json!({ "timestamp": "yesterday" })), // 7
        no(json!({ "parent_id": "1" })),     // 8
        no(json!({ "http.response.status_code": "200" })), // 9
        no(json!({ "schema": "sidelight/health/1", "flags": 7 })), // 10: of another schema
        no(json!({ "schema": null })),       // 11: of none
        no(json!({ "trace_id": null, "request_id": TRACE })), // 12: refused before it had a trace
        format!("{{\"x\":\"{TRACE}{}\"}}", "y".repeat(2 << 20)), // 13: too long
        format!("  {good}\r"),               // 14: as good as any
        whole.get(..whole.len() - 9).unwrap().to_owned(), // 15: cut at the end
    ];
    let (answer, reading) = ask(TRACE, sources([lines.join("\n")]));
    let Answer::Trace(found) = answer else { panic!("nothing was found: {reading:?}") };
    assert_eq!((found.spans.len(), found.spans[0].line), (1, 14));
    assert_eq!(
        reading.complaint(),
        "\
a.ndjson:1: cut: it does not end with }
a.ndjson:2: no JSON object
a.ndjson:4: no event: expected `:`
a.ndjson:5: no event: span_id is not 16 hex digits
a.ndjson:6: no event: span_id is not 16 hex digits
a.ndjson:7: no event: timestamp is not a time of RFC 3339
a.ndjson:8: no event: parent_id is not 16 hex digits
a.ndjson:9: no event: invalid type: string \"200\", expected u16
a.ndjson:13: longer than 1 MiB
a.ndjson:15: cut: the file ends within it
"
    );
    let many = "x\n".repeat(25);
    let (_, reading) = ask(TRACE, sources([many.as_str()]));
    assert_eq!((reading.faults.len(), reading.faults_total), (10, 25));
    assert!(
        reading.complaint().ends_with("a.ndjson:10: no JSON object\nand 15 more lines that are no events\n")
    );
}

#[test]
fn a_last_line_without_an_end_counts() {
    let good = exchange("shop", "inbound", ("00000000000000a1", ""), (0, 3.0), json!({}));
    let (answer, reading) = ask("r-1", sources([good.to_string()]));
    assert!(matches!(answer, Answer::Trace(_)));
    assert_eq!((reading.faults_total, reading.files[0].lines), (0, 1));
}

#[test]
fn files_are_read_from_disk_twice_where_that_is_needed() {
    let folder = tempfile::tempdir().unwrap();
    let paths: Vec<PathBuf> = shop()
        .iter()
        .zip(["one", "two", "three"])
        .map(|(events, name)| {
            let path = folder.path().join(name);
            std::fs::write(&path, events.iter().map(|event| format!("{event}\n")).collect::<String>())
                .unwrap();
            path
        })
        .collect();
    for id in [TRACE, "r-1"] {
        let again = paths.iter().chain(&paths).cloned().collect::<Vec<_>>();
        let sources = Source::open(&again).unwrap();
        assert_eq!(sources.len(), 3, "a file that is given twice is read once");
        let trace = trace(id, sources);
        assert_eq!((trace.spans.len(), trace.duplicates), (6, 0), "{id}");
    }
    let missing = folder.path().join("four");
    let error = Source::open(&[paths[0].clone(), missing.clone()]).err().unwrap();
    assert_eq!(error, format!("cannot open {}: No such file or directory (os error 2)", missing.display()));
    let error = Source::open(&[folder.path().into()]).err().unwrap();
    let name = folder.path().display();
    assert_eq!(error, format!("{name} is a directory: name the files in it, {name}/*.ndjson"));
}

#[test]
fn a_stream_that_fails_is_an_error_that_names_it() {
    struct Broken;
    impl std::io::Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            Err(std::io::Error::other("the disk is gone"))
        }
    }
    let mut sources = vec![Source::stream("-", Box::new(Broken))];
    let error = find(&Id::parse(TRACE).unwrap(), &mut sources).err().unwrap();
    assert_eq!(error, "cannot read -: the disk is gone");
}
