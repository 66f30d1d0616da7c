//! Upstreams that are real processes, killed, stopped and answering garbage under load: what clients get, and what is
//! said about it.

use e2e::{RawClient, Setup, Sidelight, UpstreamProcess, wait_for};
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// A cluster of these upstreams, balanced so that all of them are used.
fn cluster(upstreams: &[&UpstreamProcess], more: &str) -> String {
    let endpoints: Vec<String> = upstreams.iter().map(|each| each.address().to_string()).collect();
    format!(
        "payments:\n  endpoints: {endpoints:?}\n  connect_timeout: 250ms\n  balance: {{ policy: least_request }}\n{more}"
    )
}

const EJECTION: &str = "  outlier_detection: { consecutive_5xx: 3, base_ejection_time: 1s, interval: 1s }\n";

const RETRYING: &str = "routes:\n  - name: all\n    cluster: payments\n    timeout: { request: 5s, per_try: 500ms }\n    \
    retry: { limit: 2, on: [connect_failure, refused_stream, reset, gateway_error] }";

fn start(upstreams: &[&UpstreamProcess], more: &str) -> Sidelight {
    let setup = Setup::bare().section("clusters", &cluster(upstreams, more)).section("outbound", RETRYING);
    Sidelight::start(&setup)
}

/// Clients that ask all the time.
struct Load {
    is_over: Arc<AtomicBool>,
    answers: Arc<Mutex<Vec<Answer>>>,
    clients: Vec<std::thread::JoinHandle<()>>,
}

struct Answer {
    at: Instant,
    took: Duration,
    status: u16,
    upstream: String,
}

impl Load {
    fn start(address: SocketAddr, clients: usize) -> Load {
        let (is_over, answers) = (Arc::new(AtomicBool::new(false)), Arc::default());
        let clients = (0..clients)
            .map(|_| {
                let (is_over, answers) = (Arc::clone(&is_over), Arc::clone(&answers));
                std::thread::spawn(move || ask_until(address, &is_over, &answers))
            })
            .collect();
        Load { is_over, answers, clients }
    }

    /// How many were answered since `since`, by upstream.
    fn by_upstream(&self, since: Instant) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for answer in self.answers.lock().expect("answers").iter().filter(|answer| answer.at >= since) {
            *counts.entry(answer.upstream.clone()).or_default() += 1;
        }
        counts
    }

    /// Waits until `upstream` answers again, or (`is_used` false) until it has not for 200 answers in a row.
    fn wait(&self, upstream: &str, is_used: bool) {
        let since = Instant::now();
        wait_for(&format!("{upstream} to be {}", if is_used { "used" } else { "left" }), || {
            let answers = self.answers.lock().expect("answers");
            let last = answers.iter().rev().take(200);
            let found = last.filter(|answer| answer.at >= since && answer.upstream == upstream).count();
            let is_enough = answers.iter().rev().take(200).all(|answer| answer.at >= since);
            if is_used { (found > 0).then_some(()) } else { (is_enough && found == 0).then_some(()) }
        });
    }

    /// Ends it; all answers.
    fn end(self) -> Vec<Answer> {
        self.is_over.store(true, Ordering::Relaxed);
        self.clients.into_iter().for_each(|client| client.join().expect("a client"));
        Arc::into_inner(self.answers).expect("the clients are gone").into_inner().expect("answers")
    }
}

fn ask_until(address: SocketAddr, is_over: &AtomicBool, answers: &Mutex<Vec<Answer>>) {
    let mut client = RawClient::connect(address);
    while !is_over.load(Ordering::Relaxed) {
        let at = Instant::now();
        let answer = client.ask("GET /sleep/2 HTTP/1.1\r\nHost: payments\r\n\r\n").expect("an answer");
        let upstream = answer.fields.get("x-upstream").unwrap_or_default().to_owned();
        let answer = Answer { at, took: at.elapsed(), status: answer.status, upstream };
        answers.lock().expect("answers").push(answer);
    }
}

/// Every answer was 200, and none took longer than `most`.
fn assert_all_well(answers: &[Answer], most: Duration) {
    let failed: Vec<u16> =
        answers.iter().map(|answer| answer.status).filter(|status| *status != 200).collect();
    assert!(failed.is_empty(), "{} of {} failed: {failed:?}", failed.len(), answers.len());
    let slowest = answers.iter().map(|answer| answer.took).max().unwrap_or_default();
    assert!(slowest < most, "an answer took {slowest:?}");
}

/// The health events of an endpoint, by state.
fn states(proxy: &Sidelight, upstream: &UpstreamProcess) -> Vec<Value> {
    let address = upstream.address().to_string();
    let all = proxy.events().all("sidelight/health/1");
    all.into_iter().filter(|event| event["sidelight.endpoint.address"] == *address).collect()
}

fn has_state(events: &[Value], state: &str) -> bool {
    events.iter().any(|event| event["sidelight.health.state"] == state)
}

#[test]
fn an_upstream_that_is_killed_costs_no_request() {
    let (one, mut two, three) =
        (UpstreamProcess::start("one"), UpstreamProcess::start("two"), UpstreamProcess::start("three"));
    let proxy = start(&[&one, &two, &three], EJECTION);
    let load = Load::start(proxy.outbound(), 8);
    load.wait("two", true);
    two.kill();
    load.wait("two", false);
    wait_for("the ejection", || has_state(&states(&proxy, &two), "ejected").then_some(()));
    two.start_again();
    load.wait("two", true);
    assert_all_well(&load.end(), Duration::from_secs(2));
    // An event is written some 20 ms after what it tells of, later on a busy machine.
    wait_for("the event of the return", || has_state(&states(&proxy, &two), "unejected").then_some(()));
    let health = states(&proxy, &two);
    let ejected = health.iter().find(|event| event["sidelight.health.state"] == "ejected").unwrap();
    assert_eq!(ejected["sidelight.health.detector"], "consecutive_5xx", "{ejected}");
    let retried = proxy.stop().into_iter().filter(|event| event["sidelight.retries"].as_u64() > Some(0));
    for event in retried {
        let reasons = event["sidelight.retry.reasons"].to_string();
        assert!(reasons.contains("connect_failed") || reasons.contains("upstream_closed"), "{event}");
    }
}

#[test]
fn an_upstream_that_is_stopped_is_left_after_its_timeouts() {
    let (one, two, three) =
        (UpstreamProcess::start("one"), UpstreamProcess::start("two"), UpstreamProcess::start("three"));
    let proxy = start(&[&one, &two, &three], EJECTION);
    let load = Load::start(proxy.outbound(), 8);
    load.wait("two", true);
    two.stop();
    load.wait("two", false);
    wait_for("the ejection", || has_state(&states(&proxy, &two), "ejected").then_some(()));
    two.go_on();
    load.wait("two", true);
    // Each try has half a second; who met it first was answered by another.
    assert_all_well(&load.end(), Duration::from_secs(2));
}

#[test]
fn an_upstream_that_answers_garbage_is_ejected() {
    let (one, two) = (UpstreamProcess::start("one"), UpstreamProcess::start("two"));
    let wrong = UpstreamProcess::start_garbage("wrong");
    let proxy = start(&[&one, &two, &wrong], EJECTION);
    let load = Load::start(proxy.outbound(), 4);
    wait_for("the ejection", || has_state(&states(&proxy, &wrong), "ejected").then_some(()));
    let since = Instant::now();
    load.wait("wrong", false);
    let counts = load.by_upstream(since);
    assert!(counts.contains_key("one") && counts.contains_key("two"), "{counts:?}");
    // What is not HTTP is no answer: a GET is asked again elsewhere.
    assert_all_well(&load.end(), Duration::from_secs(2));
    let retried = proxy.events().find("the retried", |event| event["sidelight.retries"].as_u64() > Some(0));
    assert!(retried["sidelight.retry.reasons"].to_string().contains("upstream_protocol"), "{retried}");
}

#[test]
fn when_everything_is_dead_each_request_says_so_and_when_it_lives_again_they_pass() {
    let (mut one, mut two) = (UpstreamProcess::start("one"), UpstreamProcess::start("two"));
    let proxy = start(&[&one, &two], EJECTION);
    let mut client = RawClient::connect(proxy.outbound());
    let mut ask = || client.ask("GET / HTTP/1.1\r\nHost: payments\r\n\r\n").expect("an answer");
    assert_eq!(ask().status, 200);
    one.kill();
    two.kill();
    for _ in 0..20 {
        let answer = ask();
        assert!(matches!(answer.status, 502 | 503), "{}", answer.status);
        let status = answer.fields.get("proxy-status").unwrap_or_default().to_owned();
        assert!(status.starts_with("sidelight; error="), "{status}");
    }
    one.start_again();
    two.start_again();
    wait_for("both to be used again", || {
        let mut seen: Vec<String> = (0..10)
            .map(|_| ask())
            .map(|answer| answer.fields.get("x-upstream").unwrap_or_default().into())
            .collect();
        seen.sort();
        seen.dedup();
        (seen == ["one", "two"]).then_some(())
    });
    assert!(proxy.events().exchanges().iter().all(|event| event["sidelight.outcome"] == "complete"));
}

#[test]
fn a_breaker_opens_refuses_by_name_and_lets_one_probe_through() {
    let mut one = UpstreamProcess::start("one");
    let breaker = "  outlier_detection: { enabled: false }\n  circuit_breaker:\n    \
                   breaker: { consecutive_failures: 3, backoff_min: 1s, jitter_percent: 0 }\n";
    let setup = Setup::bare()
        .section("clusters", &cluster(&[&one], breaker))
        .section("outbound", "routes: [{ name: all, cluster: payments, retry: { limit: 0 } }]");
    let proxy = Sidelight::start(&setup);
    let mut client = RawClient::connect(proxy.outbound());
    let mut ask = || client.ask("GET / HTTP/1.1\r\nHost: payments\r\n\r\n").expect("an answer");
    assert_eq!(ask().status, 200);
    one.kill();
    let statuses: Vec<u16> = (0..3).map(|_| ask().status).collect();
    assert_eq!(statuses, [502, 502, 502]);
    let refused = ask();
    let proxy_status = refused.fields.get("proxy-status").unwrap_or_default().to_owned();
    assert_eq!(refused.status, 503, "{proxy_status}");
    for part in ["details=\"breaker_open\"", "breaker=\"breaker\"", "scope=\"cluster\"", "name=\"payments\""]
    {
        assert!(proxy_status.contains(part), "{part} in {proxy_status}");
    }
    assert!(refused.fields.get("retry-after").is_some(), "when to come again");
    let problem: Value = serde_json::from_str(&refused.text()).expect("a problem document");
    assert_eq!(problem["limit"]["breaker"], "breaker", "{problem}");
    let shown: Value = serde_json::from_str(&proxy.admin("/breakers").text()).expect("JSON");
    assert!(shown.to_string().contains("\"open\""), "{shown}");
    let event = proxy.events().find("the refusal", |event| event["sidelight.cause"] == "breaker_open");
    assert_eq!(event["sidelight.breaker"], "breaker", "{event}");
    assert_eq!(event["sidelight.response_flags"], "UO", "{event}");
    one.start_again();
    wait_for("the breaker to close", || (ask().status == 200).then_some(()));
    wait_for("the events of the breaker", || {
        let changes = proxy.events().all("sidelight/breaker/1");
        let states: Vec<&str> =
            changes.iter().filter_map(|event| event["sidelight.breaker.state"].as_str()).collect();
        (states == ["open", "half_open", "closed"]).then_some(())
    });
}

#[test]
fn a_cap_refuses_by_name_with_limit_and_current_value() {
    let one = UpstreamProcess::start("one");
    let cap = "  circuit_breaker: { requests: 2 }\n";
    let setup = Setup::bare().section("clusters", &cluster(&[&one], cap));
    let proxy = Sidelight::start(&setup);
    let slow: Vec<RawClient> = (0..2)
        .map(|_| {
            let mut client = RawClient::connect(proxy.outbound());
            client.send("GET /sleep/3000 HTTP/1.1\r\nHost: payments\r\n\r\n");
            client
        })
        .collect();
    let refused = wait_for("the cap", || {
        let mut client = RawClient::connect(proxy.outbound());
        let answer = client.ask("GET / HTTP/1.1\r\nHost: payments\r\n\r\n").expect("an answer");
        (answer.status == 503).then_some(answer)
    });
    let status = refused.fields.get("proxy-status").unwrap_or_default().to_owned();
    assert!(status.contains("breaker=\"requests\"") && status.contains("limit=2; current=3"), "{status}");
    let event = proxy.events().find("the refusal", |event| event["sidelight.cause"] == "overflow");
    assert_eq!(event["sidelight.breaker.limit"], 2, "{event}");
    assert_eq!(event["sidelight.breaker.current"], 3, "{event}");
    drop(slow);
}
