//! The load generators: wrk for HTTP/1.1 (its latency and counts come out through a Lua script), h2load for HTTP/2.
//!
//! A run that met an error, an answer that is not 2xx or an answer that is too short is refused: a fast wrong answer
//! is not a result.

use crate::{
    Result,
    process::{find_program, run_to_end},
    work::{HEADERS, Work},
};
use std::{
    fmt::Write as _,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

/// What a load generator reports.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Requests answered.
    pub requests: u64,
    /// Answered in a second.
    pub rate: f64,
    /// Median latency.
    pub p50: Duration,
    /// 99th percentile of the latency.
    pub p99: Duration,
}

/// Drives `port` with `work` for `window` from `cores`.
///
/// Errors: the generator is not installed or fails, or an answer was wrong.
pub fn drive(work: Work, port: u16, window: Duration, directory: &Path, cores: &[usize]) -> Result<Load> {
    let load = match work {
        Work::H2 => h2load(work, port, window, directory, cores),
        _ => wrk(work, port, window, directory, cores),
    }?;
    if load.requests == 0 { Err("the load generator completed no request".into()) } else { Ok(load) }
}

/// Which load generator a row needs and does not find.
pub fn missing(work: Work) -> Option<&'static str> {
    let program = match work {
        Work::H2 => "h2load",
        Work::Memory | Work::Balance => return None,
        Work::Callgrind => "valgrind",
        Work::H1
        | Work::Otlp
        | Work::DeadSink
        | Work::Recording
        | Work::Download
        | Work::Tls
        | Work::Upload => "wrk",
    };
    find_program(program).is_none().then_some(program)
}

/// `done` is called by wrk once, after the run; nothing of this script runs for a request.
const WRK_DONE: &str = r#"
done = function(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format("bench-result %d %d %d %d %d %d %d %d %d\n", summary.requests, summary.duration,
    summary.bytes, errors.connect, errors.read, errors.write, errors.timeout, latency:percentile(50),
    latency:percentile(99)))
  io.write(string.format("bench-status %d\n", errors.status))
end
"#;

fn wrk(work: Work, port: u16, window: Duration, directory: &Path, cores: &[usize]) -> Result<Load> {
    let mut script = String::new();
    for (name, value) in HEADERS {
        let _ = writeln!(script, "wrk.headers[\"{name}\"] = \"{value}\""); // a String takes everything
    }
    if work == Work::Upload {
        script.push_str("wrk.method = \"POST\"\nwrk.body = string.rep(\"u\", 65536)\n");
    }
    script.push_str(WRK_DONE);
    let file = directory.join(format!("{}.lua", work.name()));
    std::fs::write(&file, script).map_err(|error| format!("{}: {error}", file.display()))?;
    let scheme = if work == Work::Tls { "https" } else { "http" };
    let mut command = Command::new(find_program("wrk").ok_or("wrk is not installed")?);
    command.args(["-t1", "--latency", &format!("-c{}", work.connections()), "-s"]).arg(&file);
    command.arg(format!("-d{}s", window.as_secs().max(1)));
    command.arg(format!("{scheme}://127.0.0.1:{port}{}", work.path()));
    let log = directory.join("wrk.log");
    let printed = run_to_end("wrk", command, cores, log, window + Duration::from_secs(20))?;
    read_wrk(&printed, work)
}

fn read_wrk(printed: &str, work: Work) -> Result<Load> {
    let unread = || format!("wrk printed no result:\n{printed}");
    let line = |start: &str| printed.lines().find_map(|line| line.strip_prefix(start)).ok_or_else(unread);
    let numbers: Vec<u64> = line("bench-result ")?.split(' ').filter_map(|word| word.parse().ok()).collect();
    let status: u64 = line("bench-status ")?.parse().map_err(|_| unread())?;
    let [requests, duration_us, bytes, connect, read, write, timeout, p50_us, p99_us] =
        numbers.try_into().map_err(|_| unread())?;
    if connect + read + write + timeout + status > 0 {
        return Err(format!(
            "of {requests} requests: {status} answers that are not 2xx or 3xx, errors: connect {connect}, read {read}, \
             write {write}, timeout {timeout}"
        ));
    }
    if bytes < requests * work.body_bytes_min() {
        let mean = bytes / requests.max(1);
        return Err(format!("answers of {mean} bytes where at least {} are right", work.body_bytes_min()));
    }
    Ok(Load {
        requests,
        rate: requests as f64 * 1e6 / duration_us.max(1) as f64,
        p50: Duration::from_micros(p50_us),
        p99: Duration::from_micros(p99_us),
    })
}

fn h2load(work: Work, port: u16, window: Duration, directory: &Path, cores: &[usize]) -> Result<Load> {
    let samples = directory.join("h2load.samples");
    let mut command = Command::new(find_program("h2load").ok_or("h2load is not installed")?);
    command.args([
        "-t1",
        "-m10",
        &format!("-c{}", work.connections()),
        &format!("-D{}", window.as_secs().max(1)),
    ]);
    for (name, value) in HEADERS {
        command.arg("-H").arg(format!("{name}: {value}"));
    }
    command.arg("--log-file").arg(&samples).arg(format!("http://127.0.0.1:{port}{}", work.path()));
    let log = directory.join("h2load.log");
    let printed = run_to_end("h2load", command, cores, log, window + Duration::from_secs(20))?;
    read_h2load(&printed, work, &samples)
}

fn read_h2load(printed: &str, work: Work, samples: &PathBuf) -> Result<Load> {
    let unread = || format!("h2load printed no result:\n{printed}");
    let line = |start: &str| printed.lines().find_map(|line| line.strip_prefix(start)).ok_or_else(unread);
    let count = |text: &str, what: &str| {
        let mut parts = text.split(',').map(str::trim);
        parts.find_map(|part| part.strip_suffix(what)?.trim().parse::<u64>().ok()).ok_or_else(unread)
    };
    let requests = line("requests: ")?;
    let (done, succeeded) = (count(requests, " done")?, count(requests, " succeeded")?);
    let wrong = count(requests, " failed")? + count(requests, " errored")? + count(requests, " timeout")?;
    if wrong > 0 || succeeded < done {
        return Err(format!("h2load: requests: {requests}; {}", line("status codes: ").unwrap_or_default()));
    }
    let rate =
        line("finished in ")?.split(',').find_map(|part| part.trim().strip_suffix(" req/s")?.parse().ok());
    let data = line("traffic: ")?.rsplit(',').next().unwrap_or_default();
    let bytes: u64 = data.split(['(', ')']).nth(1).and_then(|text| text.parse().ok()).ok_or_else(unread)?;
    if bytes < done * work.body_bytes_min() {
        return Err(format!(
            "answers of {} bytes where at least {} are right",
            bytes / done,
            work.body_bytes_min()
        ));
    }
    let (p50, p99) = percentiles(samples)?;
    Ok(Load { requests: done, rate: rate.ok_or_else(unread)?, p50, p99 })
}

/// Median and 99th percentile of h2load's samples: start in µs, status, duration in µs, one request a line.
fn percentiles(samples: &PathBuf) -> Result<(Duration, Duration)> {
    let file = std::fs::File::open(samples).map_err(|error| format!("{}: {error}", samples.display()))?;
    let lines = BufReader::new(file).lines().map_while(std::result::Result::ok);
    let mut durations: Vec<u64> =
        lines.filter_map(|line| line.split_ascii_whitespace().nth(2)?.parse().ok()).collect();
    std::fs::remove_file(samples).map_err(|error| format!("{}: {error}", samples.display()))?;
    durations.sort_unstable();
    let at = |part: usize| durations.get(durations.len() * part / 100).copied().unwrap_or(0);
    Ok((Duration::from_micros(at(50)), Duration::from_micros(at(99))))
}
