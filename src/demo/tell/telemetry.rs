//! Where the telemetry went, and what the sidecars cost.

use super::Failure;
use crate::demo::expect::Expectations;
use crate::demo::mesh::Mesh;
use crate::demo::message;
use crate::demo::observed::Observed;
use crate::demo::terminal::{Cell, Style, Terminal};
use std::collections::HashMap;
use std::time::Duration;

/// Prints the event files.
pub(in crate::demo) fn files(
    terminal: Terminal,
    mesh: &Mesh,
    observed: &Observed,
    expectations: &mut Expectations,
) {
    terminal.heading("The event files, and the metrics");
    let mut rows = Vec::new();
    for (node, (_, events)) in mesh.nodes.iter().zip(&observed.by_node) {
        let bytes = std::fs::metadata(&node.sidecar.events).map_or(0, |metadata| metadata.len());
        let outbound = events.iter().filter(|event| !event.is_inbound()).count();
        rows.push(vec![
            Cell::text(format!("{}.events.ndjson", node.name)),
            Cell::number(events.len() - outbound),
            Cell::number(outbound),
            Cell::number(bytes / 1024),
        ]);
    }
    terminal.table(&["file", "inbound", "outbound", "KiB"], &rows);
    let is_complete =
        observed.by_node.iter().zip(&observed.expected).all(|((_, events), count)| events.len() == *count);
    let total: usize = observed.expected.iter().sum();
    expectations.expect(
        is_complete,
        format!("{total} exchanges, {total} events: one for each, also for the refused"),
    );
}

/// Prints some of what a scraper reads.
pub(in crate::demo) fn metrics(
    terminal: Terminal,
    mesh: &Mesh,
    failure: &Failure,
    sent: u64,
    expectations: &mut Expectations,
) -> Result<(), String> {
    let node = mesh.node("checkout")?;
    let address = node.sidecar.address("telemetry")?;
    let page = message::get(address, "/metrics").map_err(|error| format!("/metrics: {error}"))?;
    let page = String::from_utf8_lossy(&page.content).into_owned();
    let series = page.lines().filter(|line| !line.starts_with('#')).count();
    let command = format!("\n   $ curl http://{address}/metrics        # checkout; 4 of its {series} lines");
    terminal.line(&terminal.paint(Style::Dim, &command));
    let failed = mesh.node(failure.name)?.sidecar.address("inbound")?.to_string();
    let wanted = [
        ("http_client_request_duration_seconds_count", "payments-standard"),
        ("sidelight_retries_total", "payments-gold"),
        ("sidelight_endpoint_connect_failures_total", failed.as_str()),
        ("sidelight_pipeline_dropped_total", "queue_full"),
    ];
    let mut is_there = true;
    for (name, label) in wanted {
        let line = page.lines().find(|line| line.starts_with(name) && line.contains(label));
        if let Some(line) = line {
            terminal.broken(line);
        }
        is_there &= line.is_some();
    }
    let counted: u64 = page
        .lines()
        .filter(|line| {
            line.starts_with("http_client_request_duration_seconds_count") && line.contains("payments-")
        })
        .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
        .sum();
    expectations.expect(is_there && counted == sent, format!("metrics and events agree: {counted} charges"));
    Ok(())
}

/// The CPU time of the sidecars when the traffic began.
#[derive(Debug)]
pub(in crate::demo) struct Cost(HashMap<u32, Duration>);

impl Cost {
    /// Reads the clocks.
    pub(in crate::demo) fn begin(mesh: &Mesh) -> Cost {
        let pids = mesh.nodes.iter().map(|node| node.sidecar.pid);
        Cost(pids.filter_map(|pid| Some((pid, cpu(pid)?))).collect())
    }
}

/// Prints what a request cost each sidecar that lives.
pub(in crate::demo) fn cost(terminal: Terminal, mesh: &Mesh, observed: &Observed, cost: &Cost) {
    terminal.heading("What it cost");
    let mut rows = Vec::new();
    for node in &mesh.nodes {
        let pid = node.sidecar.pid;
        let (Some(before), Some(now)) = (cost.0.get(&pid), cpu(pid)) else { continue };
        let exchanges = observed.of(node.name).len().max(1);
        let each = now.saturating_sub(*before).as_micros() / exchanges as u128;
        rows.push(vec![
            Cell::text(node.name).styled(Style::Name),
            Cell::number(exchanges),
            Cell::number(each),
            Cell::number(format!("{:.1}", resident_bytes(pid).unwrap_or(0) as f64 / 1048576.0)),
            Cell::number(node.sidecar.start_ms),
        ]);
    }
    if rows.is_empty() {
        terminal.note("This system has no /proc to read it from.");
        return;
    }
    terminal.table(&["sidecar", "exchanges", "CPU µs each", "resident MiB", "ms to ready"], &rows);
    terminal.note("From /proc, every thread of the process, events and metrics included.");
    if cfg!(debug_assertions) {
        terminal
            .note("This is a debug build: a release build takes a fraction of it (`make bench` measures).");
    } else {
        terminal.note("Few requests, with pauses: `make bench` measures under load.");
    }
}

/// The CPU time of a process: what each thread ran, in nanoseconds, as the scheduler counts it.
fn cpu(pid: u32) -> Option<Duration> {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).ok()?;
    let nanos = threads.filter_map(|thread| {
        let text = std::fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<u64>().ok()
    });
    Some(Duration::from_nanos(nanos.sum()))
}

fn resident_bytes(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().trim_end_matches(" kB").parse::<u64>().ok().map(|kib| kib * 1024)
}
