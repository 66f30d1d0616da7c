//! What the kernel says of a process.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// CPU time used so far, user and system.
///
/// # Panics
/// When the process is gone.
pub fn cpu_time(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("stat of the process");
    // The name in parentheses may hold spaces; fields 14 and 15 count from the state, which is field 3.
    let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks: u64 =
        rest.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    // SAFETY: `sysconf` takes a number and gives one.
    let per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    Duration::from_millis(ticks * 1000 / u64::try_from(per_second).unwrap_or(100).max(1))
}

/// The most memory that was ever resident, in bytes.
///
/// # Panics
/// When the process is gone.
pub fn resident_peak_bytes(pid: u32) -> u64 {
    status_kib(pid, "VmHWM:") * 1024
}

/// Memory of its own that is resident (heap and stacks, not pages of its program), in bytes.
///
/// # Panics
/// When the process is gone.
pub fn anonymous_bytes(pid: u32) -> u64 {
    status_kib(pid, "RssAnon:") * 1024
}

/// Looks at a process every millisecond, to tell how much memory of its own it took at most.
///
/// The kernel's own peak (`VmHWM`) counts pages of the program too: a process that gives those of its start back, as
/// the sidecar does, or that comes to a part of its program for the first time, moves it by tens of mebibytes.
#[derive(Debug)]
pub struct Growth {
    pid: u32,
    before: u64,
    is_over: Arc<AtomicBool>,
    peak: JoinHandle<u64>,
}

impl Growth {
    /// Begins to look at a process.
    ///
    /// # Panics
    /// When the process is gone.
    pub fn watch(pid: u32) -> Self {
        let before = anonymous_bytes(pid);
        let is_over = Arc::new(AtomicBool::new(false));
        let over = is_over.clone();
        let peak = thread::spawn(move || {
            let mut peak = 0;
            while !over.load(Ordering::Relaxed) {
                peak = anonymous_bytes(pid).max(peak);
                thread::sleep(Duration::from_millis(1));
            }
            peak
        });
        Growth { pid, before, is_over, peak }
    }

    /// Bytes more than at the beginning, at most.
    ///
    /// # Panics
    /// When the process is gone.
    pub fn end(self) -> u64 {
        self.is_over.store(true, Ordering::Relaxed);
        let peak = self.peak.join().expect("a process that is there");
        peak.max(anonymous_bytes(self.pid)).saturating_sub(self.before)
    }
}

/// How many descriptors it has open.
///
/// # Panics
/// When the process is gone.
pub fn descriptors(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).expect("descriptors of the process").count()
}

fn status_kib(pid: u32, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("status of the process");
    let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("a line of the status");
    line.trim().trim_end_matches(" kB").trim().parse().expect("kB")
}
