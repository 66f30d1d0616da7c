//! Verdicts: what adds up, what is refused, what ends a run.

use super::server::{OK, Server};
use super::*;
use crate::replay::safety::Grant;
use crate::replay::seam::Collector;
use crate::replay::verdict::{Slo, Verdict};
use crate::replay::{Answer, Wanted};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::Mutex;
use std::time::Instant;

fn gets(count: u64) -> Vec<Entry> {
    (0..count).map(|n| entry(n + 1, n, n + 1, &format!("a{}", n % 3), "GET / HTTP/1.1")).collect()
}

/// Accepts, and does this with each connection.
fn listen(act: impl Fn(std::net::TcpStream) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let act = Arc::new(act);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let act = Arc::clone(&act);
            std::thread::spawn(move || act(stream.unwrap()));
        }
    });
    address
}

#[test]
fn what_must_not_be_sent_is_left_out_and_counted() {
    let server = Server::start(|_| OK.to_vec());
    let mut truncated = entry(3, 2, 3, "a", "GET /cut HTTP/1.1");
    truncated.request.is_truncated = true;
    let headless = Entry { sequence: 4, started_ns: truncated.started_ns, ..Entry::default() };
    let mut outbound = entry(5, 3, 5, "a", "GET /out HTTP/1.1");
    outbound.direction = crate::exchange::Direction::Outbound;
    let hostile = entry(6, 4, 6, "a", "GET /a\u{7f}b HTTP/1.1");
    let entries = vec![
        entry(1, 0, 1, "a", "GET /ok HTTP/1.1"),
        entry(2, 1, 2, "a", "DELETE /all HTTP/1.1"),
        truncated,
        headless,
        outbound,
        hostile,
    ];
    let mut options = options(server.address);
    options.wanted = Wanted::default();
    let run = replay(entries.clone(), &options);
    let count = |name: &str| run.excluded.get(name).copied().unwrap_or(0);
    assert_eq!((count("unsafe_method"), count("truncated"), count("no_head")), (1, 1, 1));
    assert_eq!((run.planned, run.targets[0].sent), (5, 1));
    assert_eq!(run.targets[0].not_sent, BTreeMap::from([("malformed_head".to_owned(), 1)]));
    assert_eq!(server.seen().len(), 1);
    options.wanted.unsafe_methods = vec!["DELETE".into()];
    options.wanted.allow_truncated = true;
    assert_eq!(replay(entries, &options).targets[0].sent, 3);
}

#[test]
fn the_recorded_production_is_not_a_target() {
    let server = Server::start(|_| OK.to_vec());
    let mut entries = gets(1);
    if let What::Request(head) = &mut entries[0].events[0].what {
        head.authority = server.address.to_string().into();
    }
    let source: Arc<dyn Source> = Arc::new(entries.clone());
    let mut options = options(server.address);
    let refused = run(&source, &options, Hooks::default(), &Stop::default(), &mut |_| ()).unwrap_err();
    assert!(refused.contains("is what was recorded"), "{refused}");
    assert!(server.seen().is_empty());
    options.grants = vec![Grant::parse("production,until=2999-01-01T00:00:00Z").unwrap()];
    assert_eq!(replay(entries, &options).targets[0].sent, 1);
}

#[test]
fn a_target_that_is_down_is_a_verdict() {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let run = replay(gets(10), &options(address));
    assert_eq!((run.verdict, run.planned), (Verdict::TargetDown, 10));
    assert!(run.reasons[0].contains("does not take connections"), "{run:#?}");
}

#[test]
fn bad_targets_end_with_errors_and_in_time() {
    for (name, act) in [
        (
            "timeout",
            Box::new(|stream: std::net::TcpStream| {
                std::thread::sleep(Duration::from_secs(20));
                drop(stream);
            }) as Box<dyn Fn(std::net::TcpStream) + Send + Sync>,
        ),
        (
            "closed",
            Box::new(|mut stream| {
                let _ = stream.read(&mut [0; 4096]);
            }),
        ),
        (
            "protocol",
            Box::new(|mut stream| {
                let _ = stream.read(&mut [0; 4096]);
                let _ = stream.write_all(b"SSH-2.0-OpenSSH_9.6\r\n\r\n");
                std::thread::sleep(Duration::from_secs(20));
            }),
        ),
        (
            "incomplete",
            Box::new(|mut stream| {
                let _ = stream.read(&mut [0; 4096]);
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc");
            }),
        ),
    ] {
        let mut options = options(listen(act));
        options.timeout = Duration::from_millis(300);
        let since = Instant::now();
        let run = replay(gets(6), &options);
        let target = &run.targets[0];
        assert_eq!(target.errors, BTreeMap::from([(name.to_owned(), 6)]), "{run:#?}");
        assert_eq!((target.failed, target.answered), (6, 0));
        assert!(since.elapsed() < Duration::from_secs(6), "{name}: {:?}", since.elapsed());
        // HTTP/2 to the same: a verdict as well.
        let mut entries = gets(2);
        entries.iter_mut().for_each(|entry| entry.version = crate::svc::Version::Http2);
        let run = replay(entries, &options);
        assert_eq!(run.targets[0].answered, 0, "{name}: {run:#?}");
        assert!(since.elapsed() < Duration::from_secs(15), "{name}: {:?}", since.elapsed());
    }
}

#[test]
fn bounds_are_judged() {
    let server = Server::start(|seen| match seen.field("x-sidelight-replay").unwrap().ends_with("=3") {
        true => b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n".to_vec(),
        false => OK.to_vec(),
    });
    let mut options = options(server.address);
    options.slo = Some(Slo::parse("errors<20%,p99<5s").unwrap());
    assert_eq!(replay(gets(10), &options).verdict, Verdict::Ok);
    options.slo = Some(Slo::parse("errors<5%").unwrap());
    let run = replay(gets(10), &options);
    assert_eq!(run.verdict, Verdict::SloBroken);
    assert_eq!(run.reasons, ["target: 10.00 % failed, not below 5.00 %"]);
    assert_eq!(run.targets[0].statuses, BTreeMap::from([(200, 9), (500, 1)]));
    let rows: Vec<(&str, u64)> =
        run.targets[0].by_account.iter().map(|row| (row.name.as_str(), row.count)).collect();
    assert_eq!(rows, [("a0", 4), ("a1", 3), ("a2", 3)]);
    let text = run.text();
    assert!(text.contains("planned 10 = sent 10 + excluded (0) + not sent (0)"), "{text}");
}

#[test]
fn a_replayer_that_is_late_or_full_says_invalid() {
    let server = Server::start(|_| OK.to_vec());
    let mut options = options(server.address);
    options.lag_p99_max = Duration::ZERO;
    let run = replay(gets(50), &options);
    assert_eq!(run.verdict, Verdict::Invalid);
    assert!(run.reasons[0].contains("did not keep its schedule"), "{:?}", run.reasons);
    let slow = listen(|mut stream| {
        let _ = stream.read(&mut [0; 4096]);
        std::thread::sleep(Duration::from_millis(500));
        let _ = stream.write_all(OK);
    });
    let mut options = super::options(slow);
    options.in_flight_bytes_max = 8_192;
    let run = replay(gets(50), &options);
    assert_eq!(run.verdict, Verdict::Invalid);
    assert!(run.targets[0].not_sent["memory"] > 0, "{run:#?}");
}

#[test]
fn a_stop_finishes_what_is_under_way_and_reports() {
    let server = Server::start(|_| {
        std::thread::sleep(Duration::from_millis(100));
        OK.to_vec()
    });
    let entries: Vec<Entry> =
        (0..200).map(|n| entry(n + 1, n * 50, n + 1, &format!("a{n}"), "GET / HTTP/1.1")).collect();
    let source: Arc<dyn Source> = Arc::new(entries);
    let stop = Stop::default();
    let stopper = stop.clone();
    let mut halt = move |progress: &crate::replay::Progress| {
        if progress.handed >= 5 {
            stopper.stop();
        }
    };
    let since = Instant::now();
    let run = run(&source, &options(server.address), Hooks::default(), &stop, &mut halt).unwrap();
    assert!(since.elapsed() < Duration::from_secs(5));
    let target = &run.targets[0];
    assert_eq!(run.verdict, Verdict::Stopped);
    assert!(run.adds_up() && run.planned == 200, "{run:#?}");
    assert!(target.sent >= 5 && target.answered == target.sent, "{target:#?}");
    assert!(target.not_sent["stopped"] > 100);
}

#[derive(Default)]
struct Pairs(Arc<Mutex<Statuses>>);

/// By entry, of each target.
type Statuses = Vec<(u64, Vec<u16>)>;

impl Collector for Pairs {
    fn take(&mut self, entry: &Entry, answers: &[Option<Answer>]) {
        let statuses =
            answers.iter().map(|answer| answer.as_ref().map_or(0, |answer| answer.status)).collect();
        self.0.lock().unwrap().push((entry.sequence, statuses));
    }

    fn finish(self: Box<Self>) -> (serde_json::Value, bool) {
        (serde_json::json!({ "compared": self.0.lock().unwrap().len() }), false)
    }
}

#[test]
fn each_exchange_goes_to_all_three_and_their_answers_together_to_the_comparison() {
    let old = Server::start(|_| OK.to_vec());
    let new = Server::start(|_| b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n".to_vec());
    let mut options = options(old.address);
    options.targets = [("primary", old.address), ("secondary", old.address), ("candidate", new.address)]
        .map(|(name, address)| Target::open(name, &format!("http://{address}"), None).unwrap())
        .to_vec();
    let pairs = Pairs::default();
    let seen = Arc::clone(&pairs.0);
    let run = replay_with(gets(20), &options, Hooks { session: None, collector: Some(Box::new(pairs)) });
    assert_eq!(run.verdict, Verdict::Different);
    assert_eq!(run.comparison["compared"], 20);
    assert!(seen.lock().unwrap().iter().all(|(_, statuses)| statuses == &[200, 200, 201]));
    assert_eq!((old.seen().len(), new.seen().len()), (40, 20));
    assert_eq!(run.targets.iter().map(|target| target.answered).collect::<Vec<_>>(), [20, 20, 20]);
    let read: Run = serde_json::from_str(&serde_json::to_string(&run).unwrap()).unwrap();
    assert_eq!(read.targets[2].statuses, run.targets[2].statuses);
}

#[test]
fn the_rate_is_raised_until_a_bound_breaks() {
    // One at a time, 10 ms each by an absolute schedule, so that sleeping late does not add up: 100 a second, exactly.
    let free = Mutex::new(Instant::now());
    let server = Server::start(move |_| {
        let until = {
            let mut free = free.lock().unwrap();
            *free = (*free).max(Instant::now()) + Duration::from_millis(10);
            *free
        };
        std::thread::sleep(until.saturating_duration_since(Instant::now()));
        OK.to_vec()
    });
    let mut options = options(server.address);
    options.timing = Timing::Led { from: 60.0 };
    options.slo = Some(Slo::parse("p99<200ms").unwrap());
    options.step = Duration::from_secs(3);
    let entries = (0..50).map(|n| entry(n + 1, n, 0, &format!("a{n}"), "GET / HTTP/1.1")).collect();
    let run = replay(entries, &options);
    let capacity = run.capacity.clone().unwrap();
    assert_eq!(run.verdict, Verdict::Ok, "{run:#?}");
    assert!((85.0..=115.0).contains(&capacity.rate), "{capacity:#?}");
    assert!(!capacity.is_at_least && !capacity.is_limited, "{capacity:#?}");
    assert!(capacity.steps.iter().any(|step| step.broken.is_some()), "{capacity:#?}");
}

#[test]
fn a_replayer_that_is_the_bound_of_the_search_makes_it_invalid() {
    let server = Server::start(|_| OK.to_vec());
    let mut options = options(server.address);
    options.timing = Timing::Led { from: 500.0 };
    options.slo = Some(Slo::parse("p99<5s").unwrap());
    options.step = Duration::from_secs(3);
    // Nothing is sent so fast.
    options.lag_p99_max = Duration::ZERO;
    let entries = (0..50).map(|n| entry(n + 1, n, 0, &format!("a{n}"), "GET / HTTP/1.1")).collect();
    let source: Arc<dyn Source> = Arc::<Vec<Entry>>::new(entries);
    let stop = Stop::default();
    let stopper = stop.clone();
    // The search below would not end differently: two steps at the first rate are enough.
    let mut halt = move |progress: &crate::replay::Progress| {
        if progress.rate.is_some_and(|rate| rate < 500.0) {
            stopper.stop();
        }
    };
    let run = run(&source, &options, Hooks::default(), &stop, &mut halt).unwrap();
    let capacity = run.capacity.clone().unwrap();
    assert!(capacity.is_limited && capacity.is_at_least && capacity.rate == 0.0, "{capacity:#?}");
    assert_eq!(run.verdict, Verdict::Invalid);
    assert!(
        run.reasons[0].contains("at least 0/s: beyond it the replayer itself: its send lag"),
        "{:?}",
        run.reasons
    );
    assert!(run.text().contains("capacity at least 0/s"), "{}", run.text());
}
