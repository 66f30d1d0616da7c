//! Events, documents and admin ports as sources.

use super::super::events::Events;
use super::*;
use crate::pipeline::Service;
use crate::pipeline::encode::Encoder;
use proptest::prelude::*;
use std::io::{Read, Write};

fn read(sources: &[&std::path::Path]) -> Result<source::Reading, String> {
    source::read(&sources.iter().map(|path| path.display().to_string()).collect::<Vec<_>>())
}

/// Records, and the events that are written of them.
fn records() -> (Vec<Record>, Vec<Vec<u8>>) {
    let mut records = Vec::new();
    for number in 0..40_u16 {
        let direction = if number % 3 == 0 { Direction::Inbound } else { Direction::Outbound };
        let end = ["payments", "stock", "spiffe://a/sa/b"][usize::from(number % 3)];
        let end = (number % 7 != 0).then_some(end);
        let status = [200, 200, 404, 503, 0][usize::from(number % 5)];
        let mut record = record(direction, end, status, Duration::from_secs(1 + u64::from(number)));
        record.duration = Duration::from_millis(u64::from(number) + 1);
        record.cause = (status == 0).then_some(Kind::ClientGone);
        record.method = record.store(b"GET");
        record.trace.trace_id = [1; 16];
        (record.request_bytes, record.response_bytes) = (u64::from(number), 2 * u64::from(number));
        if number % 4 == 0 {
            record.route = Some("by \"name\"\\".into());
        }
        if number % 6 == 0 {
            (record.is_grpc, record.grpc_status) = (true, Some((number % 17) as u8));
        }
        if number % 11 == 10 {
            (record.is_opaque, record.status) = (true, 0);
        }
        records.push(if number % 2 == 0 { licensed(record, "gold") } else { record });
    }
    let service = Service { name: "checkout".into(), instance: "one".into(), ..Service::default() };
    let mut encoder = Encoder::new(&service, 7);
    let lines = records
        .iter()
        .zip(1..)
        .map(|(record, sequence)| {
            let mut line = Vec::new();
            encoder.exchange(sequence, record, &mut line);
            line
        })
        .collect();
    (records, lines)
}

#[test]
fn events_say_what_the_table_counted() {
    let (records, lines) = records();
    let live = Live::new(&Config::default(), 7);
    let mut visit = live.visit();
    records.iter().for_each(|record| visit.count(record));
    visit.end(at(Duration::from_secs(50)));
    let mut events = Events::default();
    lines.iter().for_each(|line| events.line(line));
    assert_eq!((events.faults, events.duplicates, events.absent().len()), (0, 0, 0));
    let of_events = events.reports().next().unwrap();
    let service = Service { name: "checkout".into(), instance: "one".into(), ..Service::default() };
    let of_table = live.report(&service, at(Duration::ZERO), at(Duration::from_secs(50)), &[]);
    let numbers = |report: &Report| -> Vec<_> {
        let edges = report.edges.iter();
        edges
            .map(|it| (it.direction, it.to.clone(), it.calls, it.failures, it.latency_ms, it.parts.clone()))
            .collect()
    };
    assert_eq!(numbers(&of_events), numbers(&of_table));
    assert_eq!((of_events.epoch, of_events.service.clone()), (of_table.epoch, of_table.service));
}

#[test]
fn an_event_that_is_there_twice_counts_once_and_one_that_is_not_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let (_, lines) = records();
    let write = |name: &str, lines: &[Vec<u8>]| {
        let path = directory.path().join(name);
        std::fs::write(&path, lines.join(&b'\n')).unwrap();
        path
    };
    let (one, two) = (write("one", &lines[20..40]), write("two", &lines[..25]));
    let whole = read(&[&write("whole", &lines)]).unwrap();
    assert!(whole.notes.is_empty(), "{:?}", whole.notes);
    let both = read(&[&one, &two]).unwrap();
    assert_eq!(both.graph, whole.graph);
    assert_eq!(both.notes, ["5 events were there before, and are counted once"]);
    let mut gap = lines.clone();
    gap.drain(3..6);
    gap.push(b"no event".to_vec());
    let gap = read(&[&write("gap", &gap)]).unwrap();
    assert_eq!(
        gap.notes,
        ["1 lines are no events", "3 events are absent of \"checkout\": lost, or in another file"]
    );
    // A first line that is cut makes it no document.
    let mut cut = lines.clone();
    cut.insert(0, b"{\"schema\":\"sidelight/exch".to_vec());
    let cut = read(&[&write("cut", &cut)]).unwrap();
    assert_eq!((cut.graph, cut.notes), (whole.graph.clone(), vec!["1 lines are no events".to_owned()]));
    // Packed, and as a saved graph.
    let packed = directory.path().join("packed.zst");
    std::fs::write(&packed, zstd::encode_all(lines.join(&b'\n').as_slice(), 1).unwrap()).unwrap();
    assert_eq!(read(&[&packed]).unwrap().graph, whole.graph);
    let aliases = Aliases::new();
    let saved = Format::Json.render(&Map::of(&whole.graph, &aliases), &whole.graph);
    // However others write the same: in another order, on many lines.
    let members: std::collections::BTreeMap<String, serde_json::Value> =
        serde_json::from_str(&saved).unwrap();
    let sorted = serde_json::to_vec(&members).unwrap();
    let pretty = serde_json::to_vec_pretty(&members).unwrap();
    for saved in [saved.into_bytes(), sorted, pretty] {
        let saved = write("saved.json", &[saved]);
        let again = read(&[&saved, &one, &saved]).unwrap();
        assert_eq!(again.graph, whole.graph, "of the same process the whole counts");
    }
}

#[test]
fn what_is_no_source_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let missing = read(&[&directory.path().join("nothing")]).unwrap_err();
    assert!(missing.contains("nothing: cannot be opened"), "{missing}");
    assert!(read(&[directory.path()]).unwrap_err().contains("is a directory"));
    let odd = directory.path().join("odd.json");
    for text in [
        "{\"schema\":\"sidelight/graph/2\"}",
        "{\"schema\":\"sidelight/graph/1\",\"reports\":3}",
        "{\"schema\":\"sidelight/graph/1\"",
    ] {
        std::fs::write(&odd, text).unwrap();
        assert!(read(&[&odd]).unwrap_err().contains("odd.json: "), "{text}");
    }
    let source = |text: &str| source::read(&[text.to_owned()]).unwrap_err();
    assert!(source("https://127.0.0.1:15000").contains("no TLS"));
    assert!(source("http://").contains("no URL"));
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    assert!(source(&format!("http://{closed}")).contains("no answer of"));
}

/// A port that gives one answer, and then what it was asked.
fn port(answer: Vec<u8>) -> (String, std::thread::JoinHandle<String>) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let asked = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut asked = Vec::new();
        while !asked.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            asked.push(byte[0]);
        }
        stream.write_all(&answer).unwrap();
        String::from_utf8(asked).unwrap()
    });
    (address, asked)
}

#[test]
fn an_admin_port_is_asked_for_its_graph() {
    let report = report("shop", 3, &[(Way::Outbound, Some("payments"), "gold", 200, 2)]);
    let content = serde_json::to_vec(&report).unwrap();
    let answer = |status: &str, length: usize| {
        let head = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n");
        [head.as_bytes(), &content].concat()
    };
    let (address, asked) = port(answer("200 OK", content.len()));
    let reading = source::read(&[format!("http://{address}")]).unwrap();
    let asked = asked.join().unwrap();
    assert!(
        asked.starts_with("GET /graph HTTP/1.1\r\n") && asked.contains(&format!("host: {address}\r\n")),
        "{asked}"
    );
    assert_eq!(reading.graph, graph([report]));
    for (answer, why) in [
        (answer("404 Not Found", content.len()), "status 404"),
        (answer("200 OK", content.len() + 1), "was cut"),
        (b"SSH-2.0-x\r\n".to_vec(), "no HTTP"),
    ] {
        let (address, asked) = port(answer);
        let error = source::read(&[format!("http://{address}/graph?format=json")]).unwrap_err();
        assert!(error.contains(why), "{error}");
        assert!(asked.join().unwrap().starts_with("GET /graph?format=json "));
    }
}

proptest! {
    #[test]
    fn no_line_and_no_document_make_it_panic(line: Vec<u8>, cut in 0_usize..700, put in 0_usize..700, byte: u8) {
        let mut events = Events::default();
        events.line(&line);
        let (_, lines) = records();
        let mut odd = lines[11].clone();
        odd.truncate(cut.max(1));
        events.line(&odd);
        let mut odd = lines[6].clone();
        let at = put % odd.len();
        odd[at] = byte;
        events.line(&odd);
        let mut graph = graph(events.reports());
        let mut document = serde_json::to_vec(&report("a", 1, &[(Way::Inbound, None, "", 200, 2)])).unwrap();
        let at = put % document.len();
        document[at] = byte;
        let _ = merge::read(&line);
        merge::read(&document).into_iter().flatten().for_each(|report| graph.add(report));
        let none = Aliases::new();
        let map = Map::of(&graph, &none);
        for format in Format::ALL {
            let _ = format.render(&map, &graph);
        }
    }
}
