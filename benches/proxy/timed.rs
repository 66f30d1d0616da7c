//! CPU time of a proxy for each request, under load.

use crate::{
    Result, load,
    peer::{Bench, Peer, Proxy},
    receiver::{self, Receiver},
    work::Work,
};
use serde_json::{Value, json};
use std::{
    io::{ErrorKind, Read},
    path::Path,
    time::{Duration, Instant},
};

/// Load before the measured window: connections, pools and caches are there when it begins.
const WARM_UP: Duration = Duration::from_secs(1);

/// How long after the load the last span may arrive.
const ARRIVAL_TIMEOUT: Duration = Duration::from_secs(30);
/// How often it is looked whether it did; this asks the receiver, and costs the proxy nothing.
const ARRIVAL_INTERVAL: Duration = Duration::from_millis(5);

/// The same where sidelight itself is asked, which costs it a little.
const BOOKS_INTERVAL: Duration = Duration::from_millis(50);

/// What one run measured.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// CPU µs a request in user space.
    pub user: f64,
    /// CPU µs a request in the kernel.
    pub system: f64,
    /// Requests in a second.
    pub rate: f64,
    /// Median latency in ms.
    pub p50_ms: f64,
    /// 99th percentile of the latency in ms.
    pub p99_ms: f64,
    /// Part of the window that the proxy used its core; near 1 the proxy, not the load, is the limit.
    pub busy: f64,
    /// Resident memory after the run in MiB.
    pub resident_mib: f64,
    /// Events that are missing from sidelight's file, of the requests made.
    pub events_missing: u64,
    /// Spans that the receiver counted, in the row that has one.
    pub spans: u64,
}

impl Sample {
    /// CPU µs a request.
    pub fn total(&self) -> f64 {
        self.user + self.system
    }

    /// The sample for the JSON file.
    pub fn to_json(self) -> Value {
        json!({
            "user_us": self.user, "system_us": self.system, "cpu_us": self.total(), "requests_per_second": self.rate,
            "p50_ms": self.p50_ms, "p99_ms": self.p99_ms, "core_busy": self.busy, "resident_mib": self.resident_mib,
            "events_missing": self.events_missing, "spans": self.spans,
        })
    }
}

/// Starts `peer`, warms it up, and measures `window` of `work`.
///
/// With a receiver, the window ends when the last span has arrived: what a backlog costs later is part of the cost.
///
/// Errors: it does not start, answers wrongly or ends; a span did not arrive, or sidelight's books do not agree.
pub fn measure(bench: &Bench<'_>, peer: Peer, work: Work, window: Duration) -> Result<Sample> {
    remove(&bench.events_file())?;
    let receiver = bench.receiver.filter(|_| work == Work::Otlp && peer == Peer::Sidelight);
    let arrived = receiver.map(Arrivals::begin).transpose()?;
    let proxy = bench.start(peer, work.plane(), None)?;
    let drive = |window| load::drive(work, proxy.port, window, bench.directory, bench.load_cores);
    let with_log = |error| format!("{error}\n{}", proxy.process.log_tail());
    let warm_up = drive(WARM_UP).map_err(with_log)?;
    arrived.iter().try_for_each(|arrived| arrived.wait(&proxy, warm_up.requests)).map_err(with_log)?;
    let (cpu_before, ticks_before) = (proxy.process.cpu_time()?, proxy.process.ticks()?);
    let began = std::time::Instant::now();
    let load = drive(window).map_err(with_log)?;
    arrived
        .iter()
        .try_for_each(|arrived| arrived.wait(&proxy, warm_up.requests + load.requests))
        .map_err(with_log)?;
    let elapsed = began.elapsed();
    let (cpu_after, ticks_after) = (proxy.process.cpu_time()?, proxy.process.ticks()?);
    let resident = proxy.process.resident_bytes()?;
    let cpu = cpu_after.saturating_sub(cpu_before);
    let (user, system) =
        (ticks_after.0.saturating_sub(ticks_before.0), ticks_after.1.saturating_sub(ticks_before.1));
    let user_part = user as f64 / (user + system).max(1) as f64;
    let each = cpu.as_secs_f64() * 1e6 / load.requests as f64;
    let spans = arrived.map(|arrived| arrived.judge(&proxy, warm_up.requests + load.requests));
    let spans = spans.transpose().map_err(with_log)?.unwrap_or(0);
    if work == Work::Recording && peer == Peer::Variant {
        recorded(&proxy).map_err(with_log)?;
    }
    proxy.process.stop(Duration::from_secs(15))?;
    let _ = std::fs::remove_dir_all(bench.recording_directory());
    let events_missing = match peer {
        Peer::Sidelight | Peer::Variant => {
            (warm_up.requests + load.requests).saturating_sub(lines_of(&bench.events_file())?)
        }
        _ => 0,
    };
    remove(&bench.events_file())?;
    Ok(Sample {
        user: each * user_part,
        system: each * (1.0 - user_part),
        rate: load.rate,
        p50_ms: load.p50.as_secs_f64() * 1e3,
        p99_ms: load.p99.as_secs_f64() * 1e3,
        busy: cpu.as_secs_f64() / elapsed.as_secs_f64(),
        resident_mib: resident as f64 / f64::from(1 << 20),
        events_missing,
        spans,
    })
}

/// What arrives at the receiver during one run.
struct Arrivals<'a> {
    receiver: &'a Receiver,
    before: Option<receiver::Counts>,
}

impl<'a> Arrivals<'a> {
    fn begin(receiver: &'a Receiver) -> Result<Self> {
        Ok(Self { receiver, before: receiver.counts()? })
    }

    /// Spans and log records since the begin; `None`: the receiver does not count.
    fn count(&self) -> Result<Option<(u64, u64)>> {
        let both = self.before.zip(self.receiver.counts()?);
        Ok(both.map(|(before, now)| {
            (now.spans.saturating_sub(before.spans), now.logs.saturating_sub(before.logs))
        }))
    }

    /// Waits until as many spans are there as requests were answered; what the receiver does not count, sidelight does.
    fn wait(&self, proxy: &Proxy, requests: u64) -> Result<()> {
        let deadline = Instant::now() + ARRIVAL_TIMEOUT;
        loop {
            let counted = self.count()?;
            let arrived = match counted {
                Some((spans, _)) => spans,
                None => delivered(&receiver::overview(proxy.admin)?),
            };
            if arrived >= requests {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(format!(
                    "INVALID: {requests} requests, but {arrived} spans after {ARRIVAL_TIMEOUT:?}"
                ));
            }
            std::thread::sleep(if counted.is_some() { ARRIVAL_INTERVAL } else { BOOKS_INTERVAL });
        }
    }

    /// Whether every exchange that the proxy counts is a span at the receiver, and its books agree: nothing dropped,
    /// nothing left, nothing twice. The load generator leaves when its time is over, with requests under way: so there are
    /// a few more exchanges than answered requests. The number of spans.
    fn judge(&self, proxy: &Proxy, requests: u64) -> Result<u64> {
        let deadline = Instant::now() + ARRIVAL_TIMEOUT;
        loop {
            let overview = receiver::overview(proxy.admin)?;
            let ended = overview["exchanges"]["ended"].as_u64().unwrap_or(0);
            let sinks = overview["events"].as_array().map(Vec::as_slice).unwrap_or_default();
            let is_settled = |sink: &Value| {
                let number = |key: &str| sink[key].as_u64();
                number("dropped") == Some(0)
                    && number("queued") == Some(0)
                    && number("produced") == number("delivered")
            };
            let (spans, logs) = match self.count()? {
                Some(counted) => counted,
                None => (ended, delivered(&overview).saturating_sub(ended)),
            };
            let is_whole = sinks.iter().all(is_settled) && delivered(&overview) == spans + logs;
            if is_whole && spans == ended && ended >= requests {
                return Ok(spans);
            }
            if Instant::now() >= deadline {
                return Err(format!(
                    "INVALID: {requests} requests answered, {ended} exchanges, {spans} spans and {logs} log records received; \
                     books: {}",
                    overview["events"]
                ));
            }
            std::thread::sleep(BOOKS_INTERVAL);
        }
    }
}

/// Whether everything is in the recording; says how much that is.
fn recorded(proxy: &Proxy) -> Result<()> {
    let books = |of: &Value| (of["books"]["seen"].as_u64(), of["books"]["recorded"].as_u64());
    let deadline = Instant::now() + ARRIVAL_TIMEOUT;
    loop {
        let shown = receiver::document(proxy.admin, "/recording")?;
        match books(&shown) {
            (Some(seen), Some(recorded)) if seen == recorded && seen > 0 => {
                eprintln!("  {recorded} exchanges recorded, none left out");
                return Ok(());
            }
            _ if Instant::now() >= deadline => {
                return Err(format!("INVALID: not everything was recorded: {}", shown["books"]));
            }
            _ => std::thread::sleep(BOOKS_INTERVAL),
        }
    }
}

/// What the sink otlp says that it delivered.
fn delivered(overview: &Value) -> u64 {
    let sinks = overview["events"].as_array().into_iter().flatten();
    sinks.filter(|sink| sink["sink"] == "otlp").filter_map(|sink| sink["delivered"].as_u64()).sum()
}

/// Lines of a file, in a bounded buffer: the events of a run are hundreds of MiB.
fn lines_of(path: &Path) -> Result<u64> {
    let failed = |error: std::io::Error| format!("{}: {error}", path.display());
    let mut file = std::fs::File::open(path).map_err(failed)?;
    let mut chunk = vec![0; 1 << 16];
    let mut lines = 0;
    loop {
        match file.read(&mut chunk).map_err(failed)? {
            0 => return Ok(lines),
            count => lines += chunk[..count].iter().filter(|byte| **byte == b'\n').count() as u64,
        }
    }
}

fn remove(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(format!("{}: {error}", path.display())),
        _ => Ok(()),
    }
}
