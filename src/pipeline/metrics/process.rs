//! What the system says of this process, read from `/proc/self`.
//!
//! How it fails: a number that cannot be read (no `/proc`, no permission) is absent.

use std::fs;
use std::time::Duration;

/// A look at the process.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Usage {
    /// Resident memory.
    pub resident_bytes: Option<u64>,
    /// CPU time, user and system, all threads.
    pub cpu: Option<Duration>,
    /// Open file descriptors.
    pub open_fds: Option<u64>,
    /// How many file descriptors may be open.
    pub max_fds: Option<u64>,
}

impl Usage {
    /// Memory and CPU time; cheap.
    pub fn read() -> Usage {
        Usage { resident_bytes: resident_bytes(), cpu: cpu(), ..Usage::default() }
    }

    /// Everything, file descriptors too (which are counted one by one).
    pub fn read_all() -> Usage {
        let (open_fds, max_fds) =
            (fs::read_dir("/proc/self/fd").ok().map(|fds| fds.count() as u64), max_fds());
        Usage { open_fds, max_fds, ..Usage::read() }
    }
}

fn system(name: libc::c_int) -> Option<u64> {
    // SAFETY: sysconf takes any number and touches no memory of ours.
    u64::try_from(unsafe { libc::sysconf(name) }).ok().filter(|value| *value > 0)
}

fn resident_bytes() -> Option<u64> {
    let statm = fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(pages * system(libc::_SC_PAGESIZE)?)
}

fn cpu() -> Option<Duration> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The second field is the program's name in parentheses and may hold anything; user and system time are the 14th
    // and 15th.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut times = rest.split_ascii_whitespace().skip(11).map(|ticks| ticks.parse::<u64>().ok());
    let ticks = times.next()?? + times.next()??;
    Some(Duration::from_secs_f64(ticks as f64 / system(libc::_SC_CLK_TCK)? as f64))
}

fn max_fds() -> Option<u64> {
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_memory_and_files() {
        let usage = Usage::read_all();
        assert!(usage.resident_bytes.unwrap() > 100_000);
        assert!(usage.cpu.is_some());
        assert!(usage.open_fds.unwrap() >= 3 && usage.max_fds.unwrap() >= usage.open_fds.unwrap());
    }
}
