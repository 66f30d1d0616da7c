//! Resident memory of a proxy at start, and for each idle keep-alive connection that has had one answer.

use crate::{
    Result,
    client::{Connection, request},
    peer::{Bench, Peer},
    work::Work,
};
use serde_json::{Value, json};
use std::time::Duration;

/// Open files that the harness needs for itself beside the idle connections, and the proxy for its own.
const FILES_SPARE: usize = 256;
/// What is still allocated a moment after the last request is what an idle connection costs.
const SETTLE: Duration = Duration::from_millis(500);

/// What one run measured.
#[derive(Clone, Copy, Debug)]
pub struct Footprint {
    /// Resident MiB once it listens.
    pub start_mib: f64,
    /// Connections that were open and idle.
    pub connections: usize,
    /// Growth in KiB for each of them.
    pub idle_kib: f64,
}

impl Footprint {
    /// The figures for the JSON file.
    pub fn to_json(self) -> Value {
        json!({ "start_mib": self.start_mib, "connections": self.connections, "idle_kib": self.idle_kib })
    }
}

/// As many connections as asked for, or as the limit on open files allows.
pub fn connections_possible(wanted: usize, files_max: usize) -> usize {
    wanted.min(files_max.saturating_sub(FILES_SPARE))
}

/// Starts `peer` and opens `connections`, each with one request.
///
/// Errors: it does not start, or one of the connections is not answered.
pub fn measure(bench: &Bench<'_>, peer: Peer, connections: usize) -> Result<Footprint> {
    let proxy = bench.start(peer, Work::Memory.plane(), None)?;
    std::thread::sleep(SETTLE);
    let start = proxy.process.resident_bytes()?;
    let request = request(Work::Memory.path());
    let mut open = Vec::with_capacity(connections);
    for index in 0..connections {
        let mut connection = Connection::open(proxy.port, Duration::from_secs(10))
            .map_err(|error| format!("connection {index}: {error}\n{}", proxy.process.log_tail()))?;
        let answered = connection.send(&request).and_then(|()| connection.receive());
        answered.map_err(|error| format!("connection {index}: {error}\n{}", proxy.process.log_tail()))?;
        open.push(connection);
    }
    std::thread::sleep(SETTLE);
    let idle = proxy.process.resident_bytes()?;
    // The first still works: the proxy did not make room by closing the oldest.
    if let Some(first) = open.first_mut() {
        let answered = first.send(&request).and_then(|()| first.receive());
        answered.map_err(|error| format!("the first of {connections} connections was not kept: {error}"))?;
    }
    drop(open);
    proxy.process.stop(Duration::from_secs(15))?;
    Ok(Footprint {
        start_mib: start as f64 / f64::from(1 << 20),
        connections,
        idle_kib: idle.saturating_sub(start) as f64 / 1024.0 / connections as f64,
    })
}
