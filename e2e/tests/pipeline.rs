//! The pipeline on the binary: sinks that come and go, that fail, and processes that are killed. What counts is what
//! stands in the files, and that the books agree with it.

use e2e::{Events, RawClient, Setup, Sidelight, StrictBackend, wait_for};
use serde_json::Value;
use std::collections::HashSet;
use std::time::{Duration, Instant};

fn ask(client: &mut RawClient, id: &str) {
    let request = format!("GET /{id} HTTP/1.1\r\nHost: app.example\r\nX-Request-Id: {id}\r\n\r\n");
    assert_eq!(client.ask(request).expect("an answer").status, 200);
}

fn request_ids(events: &[Value]) -> Vec<&str> {
    events.iter().filter_map(|event| event["request_id"].as_str()).collect()
}

/// Waits until nothing is queued for the sink; the books.
fn settled(proxy: &Sidelight, sink: &str) -> [u64; 4] {
    wait_for(&format!("everything to be settled for {sink}"), || {
        proxy.books(sink).filter(|[produced, _, _, queued]| *produced > 0 && *queued == 0)
    })
}

#[test]
fn sinks_come_and_go_by_reload_and_each_has_what_came_in_its_time() {
    let backend = StrictBackend::start();
    let base = Setup::app(backend.address());
    let proxy = Sidelight::start(&base);
    let mut client = RawClient::connect(proxy.inbound());
    for number in 0..20 {
        ask(&mut client, &format!("a{number}"));
    }
    proxy.events().wait(20);
    let second = proxy.directory().join("second.ndjson");
    let two = format!("- {{ path: EVENTS }}\n- {{ name: second, path: {second:?} }}");
    proxy.rewrite(&base.clone().sink("file", &two));
    wait_for("the second sink", || proxy.books("second"));
    for number in 0..20 {
        ask(&mut client, &format!("b{number}"));
    }
    let [produced, delivered, dropped, _] = settled(&proxy, "second");
    assert_eq!((produced, dropped), (delivered, 0));
    let in_second = Events::at(&second).everything();
    assert_eq!(in_second.len() as u64, delivered);
    let wanted: Vec<String> = (0..20).map(|number| format!("b{number}")).collect();
    assert_eq!(request_ids(&in_second), wanted, "from its beginning on, in order, once");

    let only = format!("- {{ name: second, path: {second:?} }}");
    proxy.rewrite(&base.clone().sink("file", &only));
    wait_for("the first sink to be gone", || proxy.books("file").is_none().then_some(()));
    for number in 0..20 {
        ask(&mut client, &format!("c{number}"));
    }
    settled(&proxy, "second");
    let (first, all) = (proxy.events().exchanges(), Events::at(&second).everything());
    assert_eq!(request_ids(&first).len(), 40, "the first has nothing of the third part");
    assert_eq!(request_ids(&all).len(), 40);
    let sequences: Vec<u64> = all.iter().filter_map(|event| event["id"]["sequence"].as_u64()).collect();
    assert!(sequences.windows(2).all(|pair| pair[1] == pair[0] + 1), "no gap: {sequences:?}");
}

#[test]
fn a_sink_that_fails_keeps_its_events_and_costs_the_other_one_nothing() {
    let backend = StrictBackend::start();
    let two = "- { path: EVENTS }\n- { name: full, path: /dev/full }";
    let proxy = Sidelight::start(&Setup::app(backend.address()).sink("file", two));
    let mut client = RawClient::connect(proxy.inbound());
    for number in 0..500 {
        ask(&mut client, &number.to_string());
    }
    let events = proxy.events().wait(500);
    assert_eq!(request_ids(&events), (0..500).map(|number| number.to_string()).collect::<Vec<_>>());
    let told = wait_for("the event that tells of it", || proxy.events().all("sidelight/sink/1").pop());
    assert_eq!((&told["sidelight.sink"], &told["sidelight.sink.state"]), (&"full".into(), &"down".into()));
    assert!(told["sidelight.cause"].as_str().is_some_and(|cause| cause.contains("/dev/full")), "{told}");
    let [produced, delivered, dropped, queued] = proxy.books("full").expect("books");
    assert_eq!((delivered, dropped, queued), (0, 0, produced), "they wait");
    assert!(produced >= 501);
    assert_eq!(proxy.metric("sidelight_sink_up{sink=\"full\"}"), Some(0.0));
    assert_eq!(proxy.metric("sidelight_sink_up{sink=\"file\"}"), Some(1.0));
    let since = Instant::now();
    proxy.stop();
    assert!(since.elapsed() < Duration::from_secs(20), "a sink that never works does not keep the process");
}

#[test]
fn a_second_process_with_the_same_spool_is_refused() {
    let backend = StrictBackend::start();
    let directory = tempfile::tempdir().unwrap();
    let spool = format!("spool:\n  directory: {:?}", directory.path());
    let setup = Setup::app(backend.address()).section("pipeline", &spool);
    let _first = Sidelight::start(&setup);
    let file = directory.path().join("second.yaml");
    std::fs::write(&file, setup.yaml(&directory.path().join("events"))).unwrap();
    let second =
        std::process::Command::new(e2e::binary()).arg("run").arg("--config").arg(&file).output().unwrap();
    assert!(!second.status.success());
    let told = String::from_utf8_lossy(&second.stderr);
    assert!(told.contains("another process has it") && told.contains("spool"), "{told}");
}

/// Kills the process so often, at random moments, while it is asked.
fn killed(rounds: usize) {
    let backend = StrictBackend::start();
    let setup = Setup::app(backend.address()).section("pipeline", "spool:\n  directory: spool");
    let mut proxy = Sidelight::start(&setup);
    let mut answered: Vec<(String, Instant)> = Vec::new();
    let mut must_be_there: HashSet<String> = HashSet::new();
    let mut audits = 0;
    let mut die = 88_172_645_463_325_252_u64;
    for round in 0..rounds {
        die ^= die << 13;
        die ^= die >> 7;
        die ^= die << 17;
        let life = Duration::from_millis(20 + die % 280);
        let until = Instant::now() + life;
        let mut client = RawClient::connect(proxy.inbound());
        answered.clear();
        let mut number = 0;
        while Instant::now() < until {
            let id = format!("r{round}-{number}");
            ask(&mut client, &id);
            answered.push((id, Instant::now()));
            number += 1;
        }
        if round % 4 == 0 {
            // A change whose record must survive, because it was acknowledged.
            let content = format!("{{\"level\": \"info\", \"reason\": \"round {round}\"}}");
            let request = format!(
                "POST /log-level HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{content}",
                content.len()
            );
            let answer = RawClient::connect(proxy.address("admin")).ask(request).expect("an answer");
            assert_eq!(answer.status, 200, "{}", answer.text());
            audits += 1;
        }
        let killed_at = Instant::now();
        proxy.kill();
        let is_old = |at: &Instant| killed_at.duration_since(*at) > Duration::from_millis(100);
        must_be_there.extend(answered.drain(..).filter(|(_, at)| is_old(at)).map(|(id, _)| id));
        proxy.start_again();
        // In every reading the books agree.
        let [produced, delivered, dropped, queued] = proxy.books("file").expect("books");
        assert_eq!(produced, delivered + dropped + queued, "round {round}");
    }
    let [produced, delivered, dropped, _] = settled(&proxy, "file");
    assert_eq!((produced, dropped), (delivered, 0), "nothing was dropped");
    let events = proxy.events().everything();
    let there: HashSet<&str> = request_ids(&events).into_iter().collect();
    let lost: Vec<&String> = must_be_there.iter().filter(|id| !there.contains(id.as_str())).collect();
    assert!(lost.is_empty(), "{} of {} are lost: {:?}", lost.len(), must_be_there.len(), lost.first());
    assert!(must_be_there.len() > rounds, "there was traffic");
    let audited: HashSet<String> = events
        .iter()
        .filter(|event| event["schema"] == "sidelight/audit/1")
        .map(|event| event["sidelight.audit.reason"].to_string())
        .collect();
    assert_eq!(audited.len(), audits, "no acknowledged change is lost");
    // What comes twice has the same id, so that it can be told; everything else comes once.
    let ids: HashSet<String> = events.iter().map(|event| event["id"].to_string()).collect();
    assert_eq!(ids.len() as u64, delivered, "every event that counts as delivered is there");
}

#[test]
fn a_process_that_is_killed_loses_nothing_that_is_older_than_a_tenth_of_a_second() {
    let rounds = std::env::var("KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(25);
    killed(rounds);
}
