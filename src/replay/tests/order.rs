//! Order, times and clones.

use super::server::{OK, Server};
use super::*;
use crate::record::{Header, Recording, Writer};
use crate::replay::Answer;
use crate::replay::Passes;
use crate::replay::plan::{Plan, Wanted};
use crate::replay::seam::{Actor, Request, Session};
use std::time::Instant;

#[test]
fn what_ended_before_it_began_is_waited_for_and_what_was_concurrent_is_not() {
    let server = Server::start(|seen| {
        if seen.target() == "/slow" {
            std::thread::sleep(Duration::from_millis(300));
        }
        OK.to_vec()
    });
    // `/after` began when `/slow` was over; `/beside` while it ran; another account has nothing to do with it.
    let mut slow = entry(1, 0, 1, "a", "GET /slow HTTP/1.1");
    slow.duration_ns = 10 * MS;
    let beside = entry(2, 5, 2, "a", "GET /beside HTTP/1.1");
    let after = entry(3, 20, 3, "a", "GET /after HTTP/1.1");
    let other = entry(4, 25, 4, "b", "GET /other HTTP/1.1");
    let run = replay(vec![beside, slow, after, other], &options(server.address));
    let seen = server.seen();
    let of = |target: &str| seen.iter().find(|seen| seen.target() == target).unwrap();
    let answered = of("/slow").answered.unwrap();
    assert!(of("/beside").at < answered && of("/other").at < answered);
    assert!(of("/after").at >= answered, "it waits for what had ended");
    // It was not the replayer that was late.
    assert!(run.targets[0].send_lag.max_us < 250_000, "{:?}", run.targets[0].send_lag);
    assert!(run.targets[0].latency_intended.max_us >= 300_000 - 25_000);
}

#[test]
fn times_are_kept_and_scaled() {
    let server = Server::start(|_| OK.to_vec());
    let entries =
        || (0..10).map(|n| entry(n + 1, n * 100, n + 1, &format!("a{n}"), "GET / HTTP/1.1")).collect();
    let mut options = options(server.address);
    options.timing = Timing::Recorded { speed: 5.0 };
    let run = replay(entries(), &options);
    let seen: Vec<Instant> = server.seen().iter().map(|seen| seen.at).collect();
    let took = *seen.iter().max().unwrap() - *seen.iter().min().unwrap();
    assert!((Duration::from_millis(160)..Duration::from_millis(400)).contains(&took), "{took:?}");
    assert!((run.scheduled_seconds - 0.18).abs() < 1e-9, "{}", run.scheduled_seconds);
    // The same input has the same sequence, another speed another.
    assert_eq!(replay(entries(), &options).dispatch_hash, run.dispatch_hash);
    options.timing = Timing::Recorded { speed: 6.0 };
    assert_ne!(replay(entries(), &options).dispatch_hash, run.dispatch_hash);
    options.timing = Timing::parse_rate("poisson:1000").unwrap();
    let poisson = replay(entries(), &options).dispatch_hash;
    options.seed = 1;
    assert_ne!(replay(entries(), &options).dispatch_hash, poisson);
}

#[test]
fn loops_and_clones_are_all_accounted_for() {
    let server = Server::start(|_| OK.to_vec());
    let entries = || {
        (0..5)
            .map(|n| entry(n + 1, n, n % 2 + 1, "acme", "GET / HTTP/1.1\nx-account-id: acme"))
            .collect::<Vec<_>>()
    };
    let mut options = options(server.address);
    (options.passes, options.clones) = (Passes::Count(3), 2);
    let run = replay(entries(), &options);
    assert_eq!((run.planned, run.targets[0].answered), (30, 30), "{run:#?}");
    let seen = server.seen();
    let of = |account: &str| seen.iter().filter(|seen| seen.field("x-account-id") == Some(account)).count();
    assert_eq!((of("acme"), of("acme~1")), (15, 15));
    // Two connections for each clone and pass.
    let connections: std::collections::BTreeSet<usize> = seen.iter().map(|seen| seen.connection).collect();
    assert_eq!(connections.len(), 12);
    (options.passes, options.clones) = (Passes::For(Duration::from_millis(200)), 1);
    options.timing = Timing::Fixed { rate: 100.0 };
    let run = replay(entries(), &options);
    assert_eq!((run.planned, run.targets[0].answered), (20, 20), "{run:#?}");
}

#[test]
fn exchanges_without_a_connection_share_a_pool() {
    let server = Server::start(|_| OK.to_vec());
    let entries = (0..20).map(|n| entry(n + 1, n * 10, 0, "a", "GET / HTTP/1.1")).collect();
    let run = replay(entries, &options(server.address));
    assert_eq!(run.targets[0].answered, 20);
    assert!(server.seen().iter().map(|seen| seen.connection).max().unwrap() < 3);
}

#[test]
fn a_closed_loop_has_so_many_connections() {
    let server = Server::start(|_| {
        std::thread::sleep(Duration::from_millis(5));
        OK.to_vec()
    });
    let entries =
        (0..60).map(|n| entry(n + 1, n * 1000, n + 1, &format!("a{n}"), "GET / HTTP/1.1")).collect();
    let mut options = options(server.address);
    options.timing = Timing::Closed { connections: 3 };
    let run = replay(entries, &options);
    assert_eq!(run.targets[0].answered, 60, "{run:#?}");
    assert_eq!(server.seen().iter().map(|seen| seen.connection).max(), Some(2));
    assert!(run.seconds < 10.0);
}

#[test]
fn a_recording_in_the_order_of_ends_is_sent_in_the_order_of_starts() {
    let directory = tempfile::tempdir().unwrap();
    let header = Header { authorities: vec!["shop.example".into()], ..Header::default() };
    let mut writer = Writer::create(directory.path(), &header).unwrap();
    // The first of 300 started long before the others, and ended last: it is held, for little may be read ahead.
    for n in 1..300 {
        writer.write(&entry(n, n, n, &format!("a{n}"), &format!("GET /{n} HTTP/1.1"))).unwrap();
    }
    let mut long = entry(300, 0, 300, "long", "GET /0 HTTP/1.1");
    long.duration_ns = 400 * MS;
    writer.write(&long).unwrap();
    writer.finish().unwrap();
    let recording = Recording::open(directory.path()).unwrap();
    let plan = Plan::build_within(&recording, &Wanted::default(), 1, 4_096).unwrap();
    assert_eq!(plan.items.iter().filter(|item| item.is_held).count(), 1);
    assert!(plan.items[0].is_held && plan.items[0].start_ns == 0);
    let source: Arc<dyn Source> = Arc::new(recording);
    let (out, fed) = std::sync::mpsc::sync_channel(1000);
    let feed = crate::replay::feed::Feed {
        source,
        plan: Arc::new(plan),
        passes: 2,
        out,
        waiting_bytes: Arc::default(),
        is_stopped: Box::new(|| false),
    };
    assert_eq!(feed.run(), 0);
    let targets: Vec<String> = fed
        .iter()
        .map(|fed| String::from_utf8_lossy(&fed.entry.request_head().unwrap().target).into_owned())
        .collect();
    let expected: Vec<String> = (0..600).map(|n| format!("/{}", n % 300)).collect();
    assert_eq!(targets, expected);
}

#[test]
fn accounts_and_connections_stay_on_one_thread() {
    let entries: Vec<Entry> = (0..100)
        .map(|n| entry(n + 1, n, n / 3 + 1, &format!("a{}", n / 2), "GET / HTTP/1.1"))
        .chain((100..200).map(|n| entry(n + 1, n, n + 1_000, &format!("b{}", n % 10), "GET / HTTP/1.1")))
        .collect();
    let plan = Plan::build(&entries, &Wanted::default(), 3).unwrap();
    let mut drivers = std::collections::HashMap::new();
    for item in &plan.items {
        assert_eq!(*drivers.entry(item.actor).or_insert(item.driver), item.driver);
        assert_eq!(*drivers.entry(item.connection).or_insert(item.driver), item.driver);
    }
    let used: std::collections::BTreeSet<u16> = drivers.values().copied().collect();
    assert_eq!(used.len(), 3);
}

/// Puts the token of the login's answer into what follows.
struct Tokens(Option<String>);

impl Session for Tokens {
    fn rewrite(&mut self, _: &Actor, _: &Entry, request: &mut Request) {
        if let (Some(token), Some(field)) =
            (&self.0, request.head.fields.iter_mut().find(|field| field.is(b"authorization")))
        {
            field.value = token.clone().into();
            request.body = Some("rewritten".into());
        }
    }

    fn learn(&mut self, _: &Actor, _: &Entry, answer: &Answer) {
        let token = answer.fields.iter().find(|field| field.is(b"x-token"));
        self.0 = token.map(|field| String::from_utf8_lossy(&field.value).into_owned()).or(self.0.take());
    }
}

#[test]
fn a_session_learns_from_answers_before_what_follows_is_sent() {
    let server = Server::start(|_| b"HTTP/1.1 200 OK\r\nX-Token: new\r\nContent-Length: 0\r\n\r\n".to_vec());
    let login = entry(1, 0, 1, "a", "GET /login HTTP/1.1");
    let cart =
        with_body(entry(2, 5, 2, "a", "POST /cart HTTP/1.1\nauthorization: old\ncontent-length: 3"), b"old");
    let hooks = Hooks { session: Some(Arc::new(|| Box::new(Tokens(None)))), collector: None };
    replay_with(vec![login, cart], &options(server.address), hooks);
    let seen = server.seen();
    assert_eq!(seen[1].field("authorization"), Some("new"));
    assert_eq!((seen[1].field("content-length"), &*seen[1].body), (Some("9"), &b"rewritten"[..]));
}
