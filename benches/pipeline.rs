//! The pipeline as a whole, with a sink that works and one that hangs, and a backlog before the binary.
//!
//!     cargo bench --bench pipeline -- [--check] [--events N] [--rounds N] [--backlog-gib N] [--directory DIR]
//!
//! In each round the file sink runs alone and beside an OTLP sink whose receiver accepts and never answers, in turns that
//! change. Bars: at least 200,000 events a second and core into the spool; at most 2 µs of an exchange on the worker's side
//! (a record taken, reset and handed over, its metrics counted); the sink that hangs moves the other's throughput by less
//! than 1 %; a backlog is opened, and its first event delivered, within a second and 64 MiB. `--check` ends with 1 when one
//! is missed by more than a tenth. Times of threads are what the scheduler gave them (`/proc/self/task/*/schedstat`), so a
//! neighbour's work moves them little; the wall clock's figures are printed beside.

use serde_json::json;
use sidelight::exchange::{Direction, Phase, Record, Sink};
use sidelight::pipeline::spool::{self, Class, Spool, Start};
use sidelight::pipeline::{Config, Pipeline, Service, WorkerSink};
use std::io::Read;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What a benchmark needs of its machine.
const WORKS: &str = "a directory, a /proc and a pipeline that work";
/// Exchanges that are handed over in one go: they fit into the ring.
const BURST: usize = 1024;
/// Events that may be between the worker and the spool: fewer than the ring has.
const AHEAD_MAX: u64 = 2048;
/// Nothing takes so long.
const PATIENCE: Duration = Duration::from_secs(300);

struct Options {
    is_checked: bool,
    events: u64,
    rounds: usize,
    backlog_gib: u64,
    directory: PathBuf,
}

impl Options {
    fn read() -> Result<Options, String> {
        let events = if cfg!(debug_assertions) { 20_000 } else { 200_000 };
        let directory = std::env::temp_dir();
        let mut options = Options { is_checked: false, events, rounds: 5, backlog_gib: 1, directory };
        let mut arguments = std::env::args().skip(1);
        while let Some(name) = arguments.next() {
            let mut value = || arguments.next().ok_or(format!("{name}: a value is missing"));
            let number = |text: String| text.parse::<u64>().map_err(|error| format!("{text}: {error}"));
            match name.as_str() {
                "--check" => options.is_checked = true,
                "--events" => options.events = number(value()?)?.max(BURST as u64),
                "--rounds" => options.rounds = usize::try_from(number(value()?)?).unwrap_or(1).max(1),
                "--backlog-gib" => options.backlog_gib = number(value()?)?,
                "--directory" => options.directory = value()?.into(),
                // Cargo's own.
                "--bench" => {}
                other => return Err(format!("{other}: not known")),
            }
        }
        Ok(options)
    }
}

fn main() -> ExitCode {
    let options = match Options::read() {
        Ok(options) => options,
        Err(why) => {
            eprintln!("{why}");
            return ExitCode::from(2);
        }
    };
    let mut verdict = Verdict { is_met: true };
    exchanges(&options, &mut verdict);
    backlog(&options, &mut verdict);
    match verdict.is_met || !options.is_checked {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

struct Verdict {
    is_met: bool,
}

impl Verdict {
    /// Whether a figure is within its bar.
    fn judge(&mut self, what: &str, figure: f64, bar: f64, is_least: bool) {
        let share = if is_least { figure / bar } else { bar / figure };
        let (word, more) = match share {
            share if share >= 1.0 => ("ok", ""),
            share if share >= 0.9 => ("MISS", " by less than a tenth"),
            _ => ("MISS", ""),
        };
        self.is_met &= share >= 0.9;
        let sign = if is_least { ">=" } else { "<=" };
        println!("  {word}{more}: {what}: {figure:.3} (bar {sign} {bar})");
    }
}

/// What one run showed.
#[derive(Clone, Copy)]
struct Run {
    /// Events a second of the pipeline's thread on a core.
    spooled_per_core: f64,
    /// Events a second of the file sink's thread on a core.
    filed_per_core: f64,
    /// Events a second from the first exchange until the file has the last one, by the clock on the wall.
    through: f64,
    /// Nanoseconds of an exchange on the worker's side.
    exchange_ns: f64,
}

fn exchanges(options: &Options, verdict: &mut Verdict) {
    println!("{} events a run, {} rounds", options.events, options.rounds);
    let receiver = receiver_that_hangs();
    let (mut alone, mut beside) = (Vec::new(), Vec::new());
    for round in 0..options.rounds {
        // Who goes first changes, so that what the machine does meanwhile falls on both.
        for is_beside in if round % 2 == 0 { [false, true] } else { [true, false] } {
            let dead = is_beside.then(|| receiver.clone());
            let run = run(options, dead.as_deref());
            let name = if is_beside { "file, and one that hangs" } else { "file" };
            println!(
                "  {round} {name:<24} spool {:>9.0}/s a core, file {:>9.0}/s a core, through {:>9.0}/s, exchange {:>6.0} ns",
                run.spooled_per_core, run.filed_per_core, run.through, run.exchange_ns
            );
            if is_beside { beside.push(run) } else { alone.push(run) }
        }
    }
    let of = |runs: &[Run], figure: fn(&Run) -> f64| median(runs.iter().map(figure).collect());
    let ratio = |figure: fn(&Run) -> f64| {
        median(alone.iter().zip(&beside).map(|(alone, beside)| figure(beside) / figure(alone)).collect())
    };
    let spooled = of(&alone, |run| run.spooled_per_core);
    verdict.judge("events a second and core into the spool", spooled, 200_000.0, true);
    let exchange_us = of(&alone, |run| run.exchange_ns) / 1000.0;
    verdict.judge("microseconds of an exchange on the worker's side", exchange_us, 2.0, false);
    // What a thread needs for an event, for the same work: the clock on the wall says more of the machine than of us.
    let filed = ratio(|run| run.filed_per_core);
    verdict.judge("the file sink's events a second and core beside one that hangs", filed, 0.99, true);
    let spooled = ratio(|run| run.spooled_per_core);
    println!(
        "  beside one that hangs: spool x {spooled:.3}, through x {:.3}, exchange x {:.3}",
        ratio(|run| run.through),
        ratio(|run| run.exchange_ns)
    );
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    let of = |at: usize| figures.get(at).copied().unwrap_or(f64::NAN);
    (of(figures.len() / 2) + of(figures.len().saturating_sub(1) / 2)) / 2.0
}

/// Accepts, reads, and never answers. Its URL.
fn receiver_that_hangs() -> Arc<str> {
    let listener = TcpListener::bind("127.0.0.1:0").expect(WORKS);
    let url = format!("http://{}", listener.local_addr().expect(WORKS));
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || while stream.read(&mut [0; 4096]).is_ok_and(|bytes| bytes > 0) {});
        }
    });
    url.into()
}

fn run(options: &Options, dead: Option<&str>) -> Run {
    let directory = tempfile::tempdir_in(&options.directory).expect(WORKS);
    let file = directory.path().join("events.ndjson");
    let mut sinks = json!({ "file": { "path": file } });
    if let Some(endpoint) = dead {
        sinks["otlp"] = json!({ "endpoint": endpoint, "protocol": "http_protobuf", "metrics": false });
    }
    let spool = json!({ "directory": directory.path().join("spool"), "disk_bytes_max": "64GiB" });
    let config: Config = serde_json::from_value(json!({ "sinks": sinks, "spool": spool })).expect(WORKS);
    let (pipeline, mut ends) = Pipeline::start(&config, service(), 1, directory.path()).expect(WORKS);
    let end = ends.pop().expect(WORKS);
    let registry = Arc::clone(pipeline.registry());
    let assigned = || registry.accounts().spool().map_or(0, |spool| spool.assigned);
    let delivered = || {
        let all = registry.accounts().read();
        all.iter().find(|account| account.sink == "file").map_or(0, |account| account.delivered)
    };
    // Everything has its memory, and the sinks have begun.
    feed(&end, 4 * BURST as u64, &assigned);
    wait("the first events", || delivered() >= 4 * BURST as u64);

    let (spool_before, file_before) = (thread_ns("pipeline"), thread_ns("sink-file"));
    let (since, before) = (Instant::now(), delivered());
    let exchange_ns = feed(&end, options.events, &assigned);
    wait("the last event", || delivered() >= before + options.events);
    let through = since.elapsed();
    let (spool_after, file_after) = (thread_ns("pipeline"), thread_ns("sink-file"));
    assert_eq!(registry.accounts().dropped_full(), 0, "the worker was to wait for the ring");
    let of = |ns: u64| options.events as f64 / (ns as f64 / 1e9);
    let figures = Run {
        spooled_per_core: of(spool_after - spool_before),
        filed_per_core: of(file_after - file_before),
        through: options.events as f64 / through.as_secs_f64(),
        exchange_ns,
    };
    // One that hangs is left behind; there is nothing to wait for.
    pipeline.stop(Duration::from_millis(100));
    figures
}

/// Hands over so many exchanges, never more than the ring takes. Returns the nanoseconds of one.
fn feed(end: &WorkerSink, events: u64, assigned: &dyn Fn() -> u64) -> f64 {
    let (mut fed, base) = (0, assigned());
    let mut took = Duration::ZERO;
    let mut burst: Vec<Box<Record>> = Vec::with_capacity(BURST);
    while fed < events {
        wait("room in the ring", || fed.saturating_sub(assigned() - base) <= AHEAD_MAX);
        let count = BURST.min((events - fed) as usize);
        let since = Instant::now();
        burst.extend((0..count).map(|_| end.spare()));
        took += since.elapsed();
        burst.iter_mut().for_each(|record| fill(record));
        let since = Instant::now();
        burst.drain(..).for_each(|record| end.exchange(record));
        took += since.elapsed();
        fed += count as u64;
    }
    took.as_nanos() as f64 / events as f64
}

/// An exchange as most are.
fn fill(record: &mut Record) {
    record.direction = Direction::Inbound;
    record.phase = Phase::Done;
    record.method = record.store(b"GET");
    record.authority = record.store(b"checkout.shop.svc:8080");
    record.path = record.store(b"/orders/42");
    record.request_id = record.store(b"01941f29-7c00-7aaa-8bbb-ccccdddd0000");
    record.user_id = record.store(b"u-184467");
    record.account_id = record.store(b"acme");
    record.license = record.store(b"gold");
    record.flags = record.store(b"beta");
    record.status = 200;
    record.attempts = 1;
    record.response_bytes = 1024;
    record.duration = Duration::from_micros(12_345);
    record.queue = Some(Duration::from_micros(104));
    record.upstream_first_byte = Some(Duration::from_micros(11_870));
}

fn service() -> Service {
    Service {
        name: "checkout".into(),
        version: "1.2.3".into(),
        environment: "production".into(),
        zone: "eu-1a".into(),
        instance: "checkout-7d9f8b6c5-x2k4p".into(),
        ..Service::default()
    }
}

/// What the scheduler gave the threads of this name so far.
fn thread_ns(name: &str) -> u64 {
    let mut total = 0;
    for task in std::fs::read_dir("/proc/self/task").expect(WORKS).flatten() {
        // One that ended meanwhile has neither.
        let comm = std::fs::read_to_string(task.path().join("comm")).unwrap_or_default();
        let times = std::fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
        if comm.trim_end() == name {
            total += times.split(' ').next().and_then(|ns| ns.parse::<u64>().ok()).unwrap_or(0);
        }
    }
    total
}

fn wait(what: &str, mut is_there: impl FnMut() -> bool) {
    let since = Instant::now();
    while !is_there() {
        assert!(since.elapsed() < PATIENCE, "waited {PATIENCE:?} in vain for {what}");
        std::thread::sleep(Duration::from_micros(200));
    }
}

/// The binary before a backlog.
fn backlog(options: &Options, verdict: &mut Verdict) {
    if options.backlog_gib == 0 {
        return;
    }
    let directory = tempfile::tempdir_in(&options.directory).expect(WORKS);
    let spool = directory.path().join("spool");
    let events = write_backlog(&spool, options.backlog_gib << 30);
    let out = directory.path().join("events.ndjson");
    let config = directory.path().join("sidelight.yaml");
    let text = json!({
        "service": { "name": "checkout", "app": "127.0.0.1:9" },
        "workers": 1,
        "inbound": { "address": "127.0.0.1:0" },
        "outbound": { "address": "none" },
        "admin": { "address": "none" },
        "telemetry": { "address": "none" },
        "pipeline": {
            "sinks": { "file": { "path": out } },
            "spool": { "directory": spool, "disk_bytes_max": "64GiB" },
        },
    });
    std::fs::write(&config, text.to_string()).expect(WORKS);
    let since = Instant::now();
    let mut child = Command::new(env!("CARGO_BIN_EXE_sidelight"))
        .args(["run", "--config"])
        .arg(&config)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect(WORKS);
    wait("the first event", || {
        assert!(child.try_wait().expect(WORKS).is_none(), "the binary ended");
        std::fs::metadata(&out).is_ok_and(|file| file.len() > 0)
    });
    let took = since.elapsed();
    let first_mib = peak_mib(child.id());
    // And while it is sent.
    let goal = (options.backlog_gib << 30).min(256 << 20);
    wait("more of it", || std::fs::metadata(&out).is_ok_and(|file| file.len() >= goal));
    let sent = since.elapsed();
    let mib = peak_mib(child.id());
    child.kill().expect(WORKS);
    child.wait().expect(WORKS);
    println!(
        "a backlog of {} GiB, {events} events: the first after {took:.0?} with {first_mib:.0} MiB, {} MiB after {sent:.1?}",
        options.backlog_gib,
        goal >> 20
    );
    verdict.judge("seconds from the start to the first event of the backlog", took.as_secs_f64(), 1.0, false);
    verdict.judge("MiB resident at most", mib, 64.0, false);
}

/// The spool as a process leaves it whose sink was away. Returns how many events there are.
fn write_backlog(directory: &Path, bytes: u64) -> u64 {
    let config = spool::Config {
        directory: Some(directory.into()),
        disk_bytes_max: 64 << 30,
        ..spool::Config::default()
    };
    let (spool, mut writer) = Spool::open(&config, "bench", 1).expect(WORKS);
    drop(spool.cursor("file", Start::End).expect(WORKS));
    let since = Instant::now();
    let filler = "x".repeat(1100);
    while spool.status().disk_bytes < bytes {
        for _ in 0..1000 {
            let sequence = writer.next_sequence();
            let event = format!(
                r#"{{"schema":"sidelight/exchange/1","id":{{"instance":"bench","epoch":1,"sequence":{sequence}}},"url.path":"/{filler}"}}"#
            );
            writer.append(Class::Event, event.as_bytes());
        }
        writer.tick(Instant::now());
    }
    let events = writer.next_sequence() - 1;
    let (mib, took) = (spool.status().disk_bytes >> 20, since.elapsed());
    println!("{mib} MiB of backlog written in {took:.1?}");
    events
}

/// The most memory that a process had.
fn peak_mib(process: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).expect(WORKS);
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect(WORKS);
    line.trim().trim_end_matches(" kB").trim().parse::<f64>().expect(WORKS) / 1024.0
}
