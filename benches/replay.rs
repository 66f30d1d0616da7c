//! How exactly a replay keeps its schedule, and how much one thread sends.
//!
//! `cargo bench --bench replay -- [SECONDS]`: 3,000 exchanges a second for so long (10; the bar is for 600), then a
//! closed loop as fast as it goes. The target is a thread of this process, so that on two cores they share them; the
//! figure of one core is exchanges for each second of the sending thread's CPU time.

#![allow(clippy::unwrap_used, missing_docs)]

use sidelight::record::{Entry, Event, Field, RequestHead, ResponseHead, Side, What};
use sidelight::replay::schedule::Timing;
use sidelight::replay::seam::Hooks;
use sidelight::replay::verdict::Run;
use sidelight::replay::{Options, Passes, Source, Stop, Target, run};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}";

/// Entries of 300 accounts on 300 connections.
fn entries(count: u64) -> Vec<Entry> {
    let one = |n: u64| {
        let fields = [
            ("accept", "application/json"),
            ("user-agent", "shop/4.2"),
            ("x-account-id", "acme"),
            ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
            ("cookie", "session=0123456789abcdef0123456789abcdef"),
        ];
        let head = RequestHead {
            method: "GET".into(),
            scheme: "http".into(),
            authority: "shop.example".into(),
            target: format!("/carts/{n}").into(),
            fields: fields.iter().map(|(name, value)| Field::new(*name, *value)).collect(),
            ..RequestHead::default()
        };
        Entry {
            sequence: n + 1,
            connection: n % 300 + 1,
            stream: n / 300 + 1,
            started_ns: 1_700_000_000_000_000_000 + n * 333_333,
            duration_ns: 100_000,
            account_id: format!("a{}", n % 300),
            route: "carts".into(),
            status: 200,
            events: vec![
                Event { at_ns: 0, what: What::Request(head) },
                Event { at_ns: 0, what: What::End(Side::Request) },
                Event {
                    at_ns: 90_000,
                    what: What::Response(ResponseHead { status: 200, fields: Vec::new() }),
                },
                Event { at_ns: 100_000, what: What::End(Side::Response) },
            ],
            ..Entry::default()
        }
    };
    (0..count).map(one).collect()
}

fn serve() -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    listener.set_nonblocking(true).unwrap();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                stream.set_nodelay(true).unwrap();
                tokio::spawn(async move {
                    let mut buffer = [0; 4096];
                    // A request is one segment here.
                    while let Ok(1..) = stream.read(&mut buffer).await {
                        if stream.write_all(ANSWER).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
    });
    address
}

/// CPU seconds of the threads of this name that are still there, from procfs.
fn cpu_seconds(name: &str) -> f64 {
    let mut ticks = 0u64;
    for task in std::fs::read_dir("/proc/self/task").unwrap().flatten() {
        let Ok(stat) = std::fs::read_to_string(task.path().join("stat")) else { continue };
        let (head, tail) = stat.rsplit_once(')').unwrap();
        if head.ends_with(name) {
            let fields: Vec<&str> = tail.split_whitespace().collect();
            ticks += fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
        }
    }
    ticks as f64 / 100.0
}

fn measure(source: &Arc<dyn Source>, options: &Options) -> (Run, f64, f64) {
    let (mut sent, mut cpu) = (0, 0.0);
    let run = run(source, options, Hooks::default(), &Stop::default(), &mut |progress| {
        sent = progress.ended;
        cpu = cpu_seconds("replay-send").max(cpu);
    });
    (run.unwrap(), sent as f64, cpu)
}

fn main() {
    let seconds = std::env::args().skip(1).find_map(|word| word.parse::<u64>().ok()).unwrap_or(10);
    let address = serve();
    let source: Arc<dyn Source> = Arc::new(entries(30_000));
    let mut options = Options {
        targets: vec![Target::open("target", &format!("http://{address}"), None).unwrap()],
        passes: Passes::For(Duration::from_secs(seconds)),
        ..Options::default()
    };
    let (run, _, _) = measure(&source, &options);
    let target = &run.targets[0];
    println!(
        "3,000/s for {seconds} s: {:?}, {} sent; dispatch error p50 {} p99 {} p99.9 {} max {} µs; p99 of the last second {} µs; drift {} ms",
        run.verdict,
        target.sent,
        target.send_lag.at(50.0),
        target.send_lag.at(99.0),
        target.send_lag.at(99.9),
        target.send_lag.at(100.0),
        target.seconds.iter().rev().nth(1).map_or(0, |second| second.lag_p99_us),
        // The clock of the schedule is the clock of the sends: what is left is how late the last were.
        target.seconds.iter().rev().nth(1).map_or(0, |second| second.lag_p99_us) / 1_000
    );
    options.timing = Timing::Closed { connections: 64 };
    options.passes = Passes::For(Duration::from_secs(10));
    let (run, sent, cpu) = measure(&source, &options);
    println!(
        "closed loop, 64 connections: {:.0}/s, {:.0} for each CPU second of the sending thread",
        run.targets[0].sent as f64 / run.seconds,
        sent / cpu
    );
    for rate in [20_000.0, 25_000.0] {
        options.timing = Timing::Fixed { rate };
        let (run, sent, cpu) = measure(&source, &options);
        println!(
            "{rate:.0}/s: {:?}, {:.0}/s sent, send lag p99 {} µs, {:.0} for each CPU second of the sending thread {:?}",
            run.verdict,
            run.targets[0].sent as f64 / run.seconds,
            run.targets[0].send_lag.at(99.0),
            sent / cpu,
            run.reasons
        );
    }
}
