//! Sinks that fail in every way there is, and disks that do: each ends with every event delivered once, or counted, and
//! with an event that says so. What counts is what the other side has, and that the books agree in every reading.

#[path = "pipeline_faults/boxed.rs"]
mod boxed;
#[path = "pipeline_faults/collector.rs"]
mod collector;

use boxed::Boxed;
use collector::{Collector, Mood};
use e2e::{Events, RawClient, Setup, Sidelight, StrictBackend, wait_for};
use serde_json::Value;
use std::collections::HashSet;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::time::{Duration, Instant};

/// A hundred thousand events through a debug build on a busy machine.
const LONG: Duration = Duration::from_secs(120);

/// [`wait_for`] for what takes longer.
#[track_caller]
fn patiently<T>(what: &str, patience: Duration, mut probe: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + patience;
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(Instant::now() < end, "waited {patience:?} in vain for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The books of a sink, which agree.
#[track_caller]
fn books(proxy: &Sidelight, sink: &str) -> [u64; 4] {
    let [produced, delivered, dropped, queued] = proxy.books(sink).expect("books");
    assert_eq!(produced, delivered + dropped + queued, "{sink}: {delivered} {dropped} {queued}");
    [produced, delivered, dropped, queued]
}

/// Waits until nothing is queued for the sink; its books agree in every reading until then.
#[track_caller]
fn settled(proxy: &Sidelight, sink: &str) -> [u64; 4] {
    patiently(&format!("everything to be settled for {sink}"), LONG, || {
        Some(books(proxy, sink)).filter(|[produced, _, _, queued]| *produced > 0 && *queued == 0)
    })
}

fn sequences(events: &[Value]) -> Vec<u64> {
    events.iter().map(|event| event["id"]["sequence"].as_u64().expect("a number")).collect()
}

/// Each of them is there, once.
#[track_caller]
fn assert_once(what: &str, have: &[Value], want: &[Value]) {
    let (all, want) = (sequences(have), sequences(want));
    let distinct: HashSet<u64> = all.iter().copied().collect();
    assert_eq!(distinct.len(), all.len(), "{what}: {} came twice", all.len() - distinct.len());
    let missing: Vec<&u64> = want.iter().filter(|sequence| !distinct.contains(sequence)).collect();
    assert!(
        missing.is_empty(),
        "{what}: {} of {} are missing: {:?}",
        missing.len(),
        want.len(),
        missing.first()
    );
    assert_eq!(distinct.len(), want.len(), "{what}: more than there were");
}

fn ask(client: &mut RawClient, path: &str) {
    let request = format!("GET {path} HTTP/1.1\r\nHost: app.example\r\n\r\n");
    assert_eq!(client.ask(request).expect("an answer").status, 200, "the proxy serves");
}

/// What is said of a sink that is down.
fn told_down(proxy: &Sidelight, sink: &str) -> String {
    let told = wait_for(&format!("an event that {sink} is down"), || {
        let all = proxy.events().all("sidelight/sink/1");
        all.into_iter()
            .find(|event| event["sidelight.sink"] == sink && event["sidelight.sink.state"] == "down")
    });
    told["sidelight.cause"].as_str().expect("a cause").to_owned()
}

/// Splunk sinks; their token is a line that every machine has.
fn splunk(rows: &[(&str, SocketAddr)]) -> String {
    let row = |(name, address): &(&str, SocketAddr)| {
        format!("- {{ name: {name}, url: \"http://{address}\", token_file: /proc/sys/kernel/hostname }}")
    };
    rows.iter().map(row).collect::<Vec<_>>().join("\n")
}

/// An address where nobody listens.
fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").expect("bind on loopback").local_addr().expect("an address")
}

#[test]
fn sinks_that_fail_in_every_way_have_a_hundred_thousand_events_once_when_they_are_back() {
    let (backend, moody) = (StrictBackend::start(), Collector::start(Mood::Babble));
    let nobody = free_address();
    let setup = Setup::app(backend.address())
        .sink("splunk", &splunk(&[("moody", moody.address), ("nobody", nobody)]))
        .section("pipeline", "spool:\n  directory: spool")
        .section("app_output", "pass_through: never");
    // No digits alone: they would be JSON, and less of an event.
    let script = "yes 'INFO a line like many others' | head -n 100000; exec sleep 300";
    let mut proxy = Sidelight::start_with(&setup, &["--", "sh", "-c", script]);
    let sinks = ["file", "moody", "nobody"];
    let check = || sinks.map(|sink| books(&proxy, sink));

    // In the order in which a collector comes up behind its load balancer, and worse.
    for (met, next) in [
        (1, Mood::Refuse(401, None)),
        (1, Mood::Refuse(503, None)),
        (2, Mood::Refuse(429, Some(1))),
        (1, Mood::Refuse(400, None)),
        (1, Mood::Hang),
    ] {
        moody.turn(met, next);
        check();
    }
    // While one hangs and one is not there, the third has everything.
    let [produced, delivered, dropped, _] = patiently("the file to have everything", LONG, || {
        let [file, _, _] = check();
        (file[1] >= 100_000 && file[3] == 0).then_some(file)
    });
    assert_eq!((produced, dropped), (delivered, 0));
    for (sink, cause) in [("moody", "moody"), ("nobody", "refused")] {
        let told = told_down(&proxy, sink);
        assert!(cause == sink || told.contains(cause), "{sink}: {told}");
        assert!(told.contains(&moody.address.to_string()) || told.contains(&nobody.to_string()), "{told}");
        let [produced, delivered, dropped, queued] = books(&proxy, sink);
        assert_eq!((delivered, dropped, queued), (0, 0, produced), "{sink}: they wait");
        assert_eq!(proxy.metric(&format!("sidelight_sink_up{{sink=\"{sink}\"}}")), Some(0.0));
    }

    moody.turn(1, Mood::Take);
    let late = Collector::at(nobody, Mood::Take);
    for sink in ["moody", "nobody", "file"] {
        let [produced, delivered, dropped, _] = settled(&proxy, sink);
        assert_eq!((produced, dropped), (delivered, 0), "{sink}");
        assert_eq!(proxy.metric(&format!("sidelight_sink_up{{sink=\"{sink}\"}}")), Some(1.0));
    }
    // All that tell of a sink that is up again came after the last reading, perhaps.
    let events = patiently("the same in the file and at both collectors", LONG, || {
        let (file, moody, late) = (books(&proxy, "file"), books(&proxy, "moody"), books(&proxy, "nobody"));
        (file == moody && file == late && file[3] == 0).then(|| proxy.events().everything())
    });
    assert!(events.iter().filter(|event| event["schema"] == "sidelight/app_log/1").count() == 100_000);
    assert_once("moody", &moody.events(), &events);
    assert_once("nobody", &late.events(), &events);
    // The application ends with it, as it would not if it were killed.
    proxy.signal(libc::SIGTERM);
    proxy.wait();
}

#[test]
fn one_span_that_is_refused_goes_to_the_dead_letters_and_the_others_through() {
    let backend = StrictBackend::start();
    let zipkin = Collector::start(Mood::Gag("/poison"));
    let setup = Setup::app(backend.address())
        .sink("zipkin", &format!("url: \"http://{}\"", zipkin.address))
        .section("pipeline", "spool:\n  directory: spool");
    let proxy = Sidelight::start(&setup);
    let mut client = RawClient::connect(proxy.inbound());
    for number in 0..60 {
        ask(&mut client, &if number == 37 { "/poison".to_owned() } else { format!("/{number}") });
    }
    proxy.events().wait(60);
    let [_, _, dropped, _] = settled(&proxy, "zipkin");
    assert_eq!(dropped, 1);
    assert_eq!(proxy.metric("sidelight_sink_dead_letters_total{sink=\"zipkin\"}"), Some(1.0));
    let letters = Events::at(&proxy.directory().join("spool/dead-letters.ndjson")).everything();
    assert_eq!(letters.len(), 1, "{letters:?}");
    assert_eq!(
        (&letters[0]["sink"], &letters[0]["event"]["url.path"]),
        (&"zipkin".into(), &"/poison".into())
    );
    assert!(letters[0]["reason"].as_str().is_some_and(|reason| reason.contains("400")), "{}", letters[0]);
    let spans: Vec<Value> = zipkin.bodies().iter().flat_map(|body| spans(body)).collect();
    let ids: HashSet<String> = spans.iter().map(|span| span["id"].to_string()).collect();
    assert_eq!((spans.len(), ids.len()), (59, 59));
}

fn spans(body: &[u8]) -> Vec<Value> {
    match serde_json::from_slice(body).expect("a JSON list") {
        Value::Array(spans) => spans,
        other => panic!("{other}"),
    }
}

#[test]
fn a_sink_that_hangs_is_taken_out_put_in_and_left_behind_at_the_end() {
    let backend = StrictBackend::start();
    let hung = Collector::start(Mood::Hang);
    let base = Setup::app(backend.address()).section("pipeline", "spool:\n  directory: spool");
    let with = base.clone().sink("splunk", &splunk(&[("hung", hung.address)]));
    let mut proxy = Sidelight::start(&with);
    let mut client = RawClient::connect(proxy.inbound());
    for round in 1..=3 {
        ask(&mut client, "/");
        // It has a request, and will keep it.
        patiently("a request that hangs", LONG, || (hung.met() >= round).then_some(()));
        let since = Instant::now();
        proxy.rewrite(&base);
        wait_for("the sink to be gone", || proxy.books("hung").is_none().then_some(()));
        ask(&mut client, "/");
        proxy.rewrite(&with);
        let [produced, delivered, ..] = wait_for("the sink to be there again", || proxy.books("hung"));
        assert!(since.elapsed() < Duration::from_secs(9), "a reload waits for no sink");
        assert!(produced < 10 && delivered == 0, "it begins anew: {produced}");
    }
    // Changed, it goes on at its place as soon as the one that hangs has come back; until then all waits.
    ask(&mut client, "/");
    let other = Collector::start(Mood::Take);
    let before = wait_for("what waits", || Some(books(&proxy, "hung")).filter(|[.., queued]| *queued > 0));
    proxy.rewrite(&base.clone().sink("splunk", &splunk(&[("hung", other.address)])));
    let [produced, delivered, dropped, _] = settled(&proxy, "hung");
    assert!(produced >= before[0] && dropped == 0 && delivered == produced);
    assert_eq!(other.events().len() as u64, delivered);
    // And back to the one that hangs: the end does not wait for it.
    proxy.rewrite(&with);
    let met = hung.met();
    patiently("a request that hangs", LONG, || {
        ask(&mut client, "/");
        (hung.met() > met).then_some(())
    });
    let total = proxy.events().exchanges().len();
    let since = Instant::now();
    proxy.signal(libc::SIGTERM);
    assert!(proxy.wait().success());
    assert!(since.elapsed() < Duration::from_secs(9), "{:?}", since.elapsed());
    assert!(proxy.events().exchanges().len() >= total);
    // What it did not have is there for the next process.
    hung.turn(1, Mood::Take);
    proxy.start_again();
    patiently("the rest to be delivered, once", LONG, || {
        let [_, delivered, _, queued] = books(&proxy, "hung");
        let have = sequences(&[other.events(), hung.events()].concat());
        let distinct: HashSet<u64> = have.iter().copied().collect();
        assert_eq!(distinct.len(), have.len(), "nothing comes twice");
        (queued == 0 && have.len() as u64 == delivered).then_some(())
    });
}

#[test]
fn a_disk_that_is_full_neither_stops_the_proxy_nor_loses_an_event() {
    let directory = tempfile::tempdir().unwrap();
    let backend = StrictBackend::start();
    let nobody = free_address();
    let setup = Setup::app(backend.address())
        .sink("splunk", &splunk(&[("late", nobody)]))
        .section("pipeline", "spool:\n  directory: spool\n  segment_bytes_max: 256KiB");
    let events = directory.path().join("events.ndjson");
    std::fs::write(directory.path().join("sidelight.yaml"), setup.yaml(&events)).unwrap();
    let Some(proxy) = Boxed::start(directory.path(), 2048) else { return };
    let mut client = RawClient::connect(proxy.listener("inbound"));
    // Longer than the disk holds, and than it holds twice.
    let path = format!("/{}", "x".repeat(1000));
    let mut asked = 0;
    while asked < 3_000 {
        for _ in 0..100 {
            ask(&mut client, &path);
        }
        asked += 100;
        proxy.books("late");
        proxy.books("file");
    }
    assert!(proxy.is_in_memory(), "the disk is full");
    let states = || -> Vec<Value> {
        let told = Events::at(&events).all("sidelight/spool/1");
        told.into_iter().map(|event| event["sidelight.spool.state"].clone()).collect()
    };
    wait_for("an event that tells of it", || states().contains(&"memory".into()).then_some(()));
    // The sink that is up has everything, through memory.
    let have = patiently("the file to have everything", LONG, || {
        let [_, _, dropped, queued] = proxy.books("file");
        assert_eq!(dropped, 0);
        (queued == 0).then(|| Events::at(&events).exchanges()).filter(|exchanges| exchanges.len() >= asked)
    });
    assert_eq!(have.len(), asked);
    // The other one comes back, and what it has had frees the disk: nobody has to help.
    let late = Collector::at(nobody, Mood::Take);
    patiently("everything to be delivered", LONG, || {
        let [produced, delivered, dropped, queued] = proxy.books("late");
        assert_eq!(dropped, 0, "memory was enough");
        (queued == 0 && produced == delivered).then_some(())
    });
    patiently("the disk to be in use again", LONG, || (!proxy.is_in_memory()).then_some(()));
    wait_for("an event that tells of it", || (states().last() == Some(&"disk".into())).then_some(()));
    for _ in 0..100 {
        ask(&mut client, "/after");
    }
    let all = patiently("both to have everything", LONG, || {
        let (file, late) = (proxy.books("file"), proxy.books("late"));
        (file == late && file[3] == 0).then(|| Events::at(&events).everything())
    });
    assert_once("late", &late.events(), &all);
    assert_eq!(Events::at(&events).exchanges().len(), asked + 100);
}

#[test]
fn an_archive_whose_directory_is_no_directory_has_everything_when_it_is_one_again() {
    let backend = StrictBackend::start();
    let setup = Setup::app(backend.address())
        .sink("archive", "directory: archive\nformat: ndjson\nfile_age_max: 200ms")
        .section("pipeline", "spool:\n  directory: spool");
    let proxy = Sidelight::start(&setup);
    let (archive, away) = (proxy.directory().join("archive"), proxy.directory().join("away"));
    let mut client = RawClient::connect(proxy.inbound());
    (0..50).for_each(|number| ask(&mut client, &format!("/a{number}")));
    settled(&proxy, "archive");
    std::fs::rename(&archive, &away).unwrap();
    std::fs::write(&archive, "no directory").unwrap();
    (0..50).for_each(|number| ask(&mut client, &format!("/b{number}")));
    let told = told_down(&proxy, "archive");
    assert!(told.contains("archive"), "{told}");
    let [_, _, dropped, queued] = books(&proxy, "archive");
    assert!(dropped == 0 && queued >= 50, "they wait");
    settled(&proxy, "file");
    std::fs::remove_file(&archive).unwrap();
    std::fs::rename(&away, &archive).unwrap();
    (0..50).for_each(|number| ask(&mut client, &format!("/c{number}")));
    let want = patiently("the same in the file and in the archive", LONG, || {
        let (file, archive) = (books(&proxy, "file"), books(&proxy, "archive"));
        (file == archive && file[3] == 0).then(|| proxy.events().everything())
    });
    assert_once("archive", &archived(&archive), &want);
    assert!(want.len() >= 150);
}

/// Every event in the archive.
fn archived(folder: &Path) -> Vec<Value> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            all.extend(archived(&path));
        } else if path.extension().is_some_and(|end| end == "zst") {
            let text = zstd::decode_all(std::fs::File::open(&path).expect("a file")).expect("whole files");
            let lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
            all.extend(lines.map(|line| serde_json::from_slice::<Value>(line).expect("JSON")));
        }
    }
    all
}

#[test]
fn a_flood_of_labels_makes_no_flood_of_series() {
    let backend = StrictBackend::start();
    let setup = Setup::app(backend.address()).section("pipeline", "graph: { edges_max: 64 }");
    let proxy = Sidelight::start(&setup);
    let mut client = RawClient::connect(proxy.inbound());
    let flood = |client: &mut RawClient, from: usize, to: usize| {
        for number in from..to {
            let request = format!(
                "M{number} /flood-{number} HTTP/1.1\r\nHost: host-{number}.example\r\nX-License: license-{number}\r\n\
                 X-Account-Id: account-{number}\r\nUser-Agent: agent-{number}\r\nContent-Length: 0\r\n\r\n"
            );
            let answer = client.ask(request).expect("an answer");
            assert!(
                answer.status == 200 || answer.status == 405 || answer.status == 501,
                "{}",
                answer.status
            );
        }
    };
    flood(&mut client, 0, 200);
    proxy.events().wait(200);
    let series = || proxy.admin("/metrics").text().lines().filter(|line| !line.starts_with('#')).count();
    let before = series();
    flood(&mut client, 200, 5_000);
    patiently("all events", LONG, || (books(&proxy, "file")[1] >= 5_000).then_some(()));
    let page = proxy.admin("/metrics").text();
    let after = series();
    assert!(after <= before + 20, "{before} series, then {after}");
    for said in ["flood-4", "host-4", "license-4999", "account-4", "agent-4", "M4999"] {
        assert!(!page.contains(said), "{said} is a label");
    }
    assert!(page.contains("_OTHER") || page.contains("_other"), "what is beyond has a row");
    let count = |name: &str| -> f64 {
        let rows = page.lines().filter(|line| line.starts_with(name));
        rows.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    };
    assert!(count("sidelight_exchanges_total") >= 5_000.0, "all are counted");
    // The map is bounded, too, and knows what it has no room for.
    let graph = proxy.admin("/graph?format=json").text();
    assert!(
        graph.contains("_other") && !graph.contains("license-4999"),
        "{}",
        &graph[..graph.len().min(2000)]
    );
    assert!(graph.len() < 256 * 1024, "{} bytes", graph.len());
}
