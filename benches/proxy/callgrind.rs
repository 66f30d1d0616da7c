//! User instructions a request, counted by valgrind's callgrind: the one figure that a noisy machine hardly moves.
//!
//! Two runs that differ in nothing but the number of requests; the difference of their counts, divided by the
//! difference of the requests, has start-up and shut-down cancelled. It counts user code of all threads, not the kernel. How
//! events fall into batches is a matter of time, which moves the figure by some per cent: the median of a few pairs is taken.

use crate::{
    Result,
    client::{Connection, request},
    peer::{Bench, Peer},
    process::find_program,
    work::Work,
};
use std::{path::Path, process::Command, time::Duration};

/// Requests of the two runs: enough that pools and free lists are warm in both.
const REQUESTS: [u64; 2] = [400, 2000];
/// Pairs of runs.
const PAIRS: usize = 5;
/// Connections, each with one request in flight.
const CONNECTIONS: usize = 8;
/// Everything is some fifty times slower under valgrind.
const PATIENCE: Duration = Duration::from_secs(60);
/// The name of the figure in the baseline file.
const BASELINE_NAME: &str = "h1_full_stack";

/// Instructions of `peer` for one request: the median of [`PAIRS`].
///
/// Errors: valgrind is missing, the proxy does not start under it, or does not end by itself.
pub fn measure(bench: &Bench<'_>, peer: Peer) -> Result<u64> {
    let mut figures = (0..PAIRS).map(|_| pair(bench, peer)).collect::<Result<Vec<_>>>()?;
    figures.sort_unstable();
    figures.get(PAIRS / 2).copied().ok_or_else(|| "nothing was measured".into())
}

fn pair(bench: &Bench<'_>, peer: Peer) -> Result<u64> {
    let [few, many] = REQUESTS;
    let (base, grown) = (count(bench, peer, few)?, count(bench, peer, many)?);
    grown
        .checked_sub(base)
        .map(|difference| difference / (many - few))
        .ok_or_else(|| format!("{many} requests took fewer instructions ({grown}) than {few} ({base})"))
}

fn count(bench: &Bench<'_>, peer: Peer, requests: u64) -> Result<u64> {
    let profile = bench.directory.join(format!("callgrind.{}.{requests}", peer.name()));
    let _ = std::fs::remove_file(&profile); // of an earlier run, if there was one
    let mut valgrind = Command::new(find_program("valgrind").ok_or("valgrind is not installed")?);
    valgrind.arg("--tool=callgrind").arg(format!("--callgrind-out-file={}", profile.display()));
    let proxy = bench.start(peer, Work::Callgrind.plane(), Some(valgrind))?;
    let text = request(Work::Callgrind.path());
    let answered = (0..CONNECTIONS)
        .map(|_| Connection::open(proxy.port, PATIENCE))
        .collect::<Result<Vec<_>>>()
        .and_then(|mut connections| exchange(&mut connections, &text, requests));
    answered.map_err(|error| format!("{error}\n{}", proxy.process.log_tail()))?;
    proxy.process.stop(PATIENCE)?;
    instructions(&profile)
}

/// Sends on all connections, then reads from all, until `requests` are answered.
fn exchange(connections: &mut [Connection], text: &str, requests: u64) -> Result<()> {
    for _ in 0..requests / CONNECTIONS as u64 {
        for connection in connections.iter_mut() {
            connection.send(text)?;
        }
        for connection in connections.iter_mut() {
            connection.receive()?;
        }
    }
    Ok(())
}

/// The total of a profile: the `totals:` line that callgrind writes at its end.
fn instructions(profile: &Path) -> Result<u64> {
    let text = std::fs::read_to_string(profile).map_err(|error| format!("{}: {error}", profile.display()))?;
    let total = text.lines().rev().find_map(|line| line.strip_prefix("totals: ")?.trim().parse().ok());
    total.ok_or_else(|| format!("{}: callgrind wrote no totals", profile.display()))
}

/// The committed figure, if there is one.
///
/// Errors: the file is there but cannot be read.
pub fn baseline(path: &Path) -> Result<Option<u64>> {
    let Ok(text) = std::fs::read_to_string(path) else { return Ok(None) };
    let line = text.lines().find_map(|line| line.strip_prefix(BASELINE_NAME)?.trim().strip_prefix('='));
    let figure = line.and_then(|value| value.trim().replace('_', "").parse().ok());
    figure.map(Some).ok_or_else(|| format!("{}: no line `{BASELINE_NAME} = N`", path.display()))
}

/// Writes the figure as the new baseline.
pub fn update_baseline(path: &Path, figure: u64) -> Result<()> {
    let text = format!(
        "# User instructions for one HTTP/1.1 request through the whole stack, by callgrind.\n\
         # Rewritten by `cargo bench --bench proxy -- --work callgrind --peers none --update`;\n\
         # a commit that raises it says why.\n\
         {BASELINE_NAME} = {figure}\n"
    );
    std::fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
}
