//! Child processes: started on given cores, measured through `/proc` and the kernel's CPU clocks, and never left behind.
//!
//! A child is killed by its own pid when its `Process` goes out of scope (return, error or panic), and by the kernel
//! (`PR_SET_PDEATHSIG`) if the harness itself is killed. What it prints goes to a file, whose end is quoted in errors.

use crate::Result;
use std::{
    fs::File,
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// A running child.
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command` on `cores` with its output in `log`.
    ///
    /// Errors: the program is not there or cannot be started.
    pub fn start(name: &str, mut command: Command, cores: &[usize], log: PathBuf) -> Result<Self> {
        let output = File::create(&log).map_err(|error| format!("{}: {error}", log.display()))?;
        let errors = output.try_clone().map_err(|error| error.to_string())?;
        command.stdin(Stdio::null()).stdout(output).stderr(errors);
        pin(&mut command, cores);
        let child = command
            .spawn()
            .map_err(|error| format!("{name}: {}: {error}", command.get_program().to_string_lossy()))?;
        Ok(Self { name: name.to_owned(), child, log })
    }

    /// The child's process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until `port` accepts connections.
    ///
    /// Errors: the child ended, or does not listen within `patience`; both quote the end of its output.
    pub fn wait_for_port(&mut self, port: u16, patience: Duration) -> Result<()> {
        let deadline = Instant::now() + patience;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        loop {
            if let Some(status) = self.child.try_wait().map_err(|error| error.to_string())? {
                return Err(format!(
                    "{} ended before it listened ({status}):\n{}",
                    self.name,
                    self.log_tail()
                ));
            }
            if TcpStream::connect_timeout(&address, Duration::from_millis(200)).is_ok() {
                return Ok(());
            }
            if Instant::now() >= deadline {
                let tail = self.log_tail();
                return Err(format!(
                    "{} does not listen on {address} after {patience:?}:\n{tail}",
                    self.name
                ));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// CPU time of the whole process so far, threads that have ended included.
    pub fn cpu_time(&self) -> Result<Duration> {
        let failed = || format!("{} ended during the run:\n{}", self.name, self.log_tail());
        let mut clock: libc::clockid_t = 0;
        // SAFETY: `clock` outlives the call and is the only memory written.
        if unsafe { libc::clock_getcpuclockid(self.pid() as libc::pid_t, &mut clock) } != 0 {
            return Err(failed());
        }
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: `time` outlives the call and is the only memory written.
        if unsafe { libc::clock_gettime(clock, &mut time) } != 0 {
            return Err(failed());
        }
        Ok(Duration::new(time.tv_sec as u64, time.tv_nsec as u32))
    }

    /// User and system time in clock ticks, from `/proc/PID/stat`: coarse, used only for the split between the two.
    pub fn ticks(&self) -> Result<(u64, u64)> {
        let path = format!("/proc/{}/stat", self.pid());
        let stat =
            std::fs::read_to_string(&path).map_err(|error| format!("{}: {path}: {error}", self.name))?;
        // The second field is the program's name in parentheses, which may hold blanks.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let field = |index: usize| fields.get(index).and_then(|text| text.parse().ok()).unwrap_or(0);
        Ok((field(11), field(12)))
    }

    /// Resident memory in bytes (`VmRSS`).
    pub fn resident_bytes(&self) -> Result<u64> {
        let path = format!("/proc/{}/status", self.pid());
        let status =
            std::fs::read_to_string(&path).map_err(|error| format!("{}: {path}: {error}", self.name))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib =
            line.and_then(|rest| rest.split_whitespace().next()).and_then(|text| text.parse::<u64>().ok());
        kib.map(|kib| kib * 1024).ok_or_else(|| format!("{}: no VmRSS in {path}", self.name))
    }

    /// The last lines that the child printed.
    pub fn log_tail(&self) -> String {
        log_tail(&self.log)
    }

    /// Asks the child to end (SIGTERM) and gives it `patience` before it is killed.
    ///
    /// Errors: it had to be killed; a caller that needs what is written at exit must know.
    pub fn stop(mut self, patience: Duration) -> Result<()> {
        // SAFETY: no memory is involved; the child has not been waited for, so the pid is still its own.
        unsafe { libc::kill(self.pid() as libc::pid_t, libc::SIGTERM) };
        let deadline = Instant::now() + patience;
        while Instant::now() < deadline {
            if self.child.try_wait().map_err(|error| error.to_string())?.is_some() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Err(format!("{} did not end within {patience:?} of SIGTERM and was killed", self.name))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only if the child has ended and been waited for already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs `command` on `cores` to its end and returns what it printed, which is also kept in `log`.
///
/// Errors: it cannot be started, reports failure, or takes longer than `patience` and is killed.
pub fn run_to_end(
    name: &str,
    command: Command,
    cores: &[usize],
    log: PathBuf,
    patience: Duration,
) -> Result<String> {
    let mut process = Process::start(name, command, cores, log)?;
    let deadline = Instant::now() + patience;
    let status = loop {
        if let Some(status) = process.child.try_wait().map_err(|error| error.to_string())? {
            break status;
        }
        if Instant::now() >= deadline {
            return Err(format!("{name} was still running after {patience:?}:\n{}", process.log_tail()));
        }
        std::thread::sleep(Duration::from_millis(1));
    };
    let text = std::fs::read(&process.log).map_err(|error| format!("{}: {error}", process.log.display()))?;
    let text = String::from_utf8_lossy(&text).into_owned();
    if status.success() { Ok(text) } else { Err(format!("{name} failed ({status}):\n{text}")) }
}

/// The last lines of a file, or why it cannot be read.
fn log_tail(path: &Path) -> String {
    match std::fs::read(path) {
        Ok(bytes) => {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            let lines: Vec<&str> = text.lines().collect();
            lines.get(lines.len().saturating_sub(15)..).unwrap_or_default().join("\n")
        }
        Err(error) => format!("{}: {error}", path.display()),
    }
}

/// Makes the child run on `cores` only, and die with the thread that started it.
fn set_affinity(cores: &[usize]) -> io::Result<()> {
    // SAFETY: an all-zero `cpu_set_t` is the empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    for core in cores {
        // SAFETY: `CPU_SET` checks the index against the size of the set.
        unsafe { libc::CPU_SET(*core, &mut set) };
    }
    // SAFETY: `set` is a whole `cpu_set_t`, of which the size is passed.
    if unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Keeps the calling thread on `cores`.
///
/// Errors: the system has no such core.
pub fn pin_this_thread(cores: &[usize]) -> Result<()> {
    set_affinity(cores).map_err(|error| format!("cores {cores:?}: {error}"))
}

fn pin(command: &mut Command, cores: &[usize]) {
    let cores = cores.to_vec();
    let set_up = move || {
        set_affinity(&cores)?;
        // SAFETY: this option takes one integer and touches no memory.
        if unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) } != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    };
    // SAFETY: between fork and exec the closure only reads a vector that exists already and makes two system calls;
    // both are async-signal-safe, and nothing is allocated or locked.
    unsafe { command.pre_exec(set_up) };
}

/// `N` different ports that were free a moment ago.
///
/// Another process may take one before the child binds it; that child then fails with its own message.
pub fn free_ports<const N: usize>() -> Result<[u16; N]> {
    let mut ports = [0; N];
    let mut held = Vec::with_capacity(N);
    for port in &mut ports {
        let listener =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(|error| format!("no free port: {error}"))?;
        *port = listener.local_addr().map_err(|error| error.to_string())?.port();
        held.push(listener); // until all are chosen, or the kernel may give the same one twice
    }
    Ok(ports)
}

/// Lets this process and its children open as many files as the system allows, and returns how many that is.
pub fn raise_file_limit() -> usize {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` outlives the call and is the only memory written.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) } != 0 {
        return 1024;
    }
    let wanted = libc::rlimit { rlim_cur: limit.rlim_max.max(65_536), rlim_max: limit.rlim_max.max(65_536) };
    let allowed = libc::rlimit { rlim_cur: limit.rlim_max, rlim_max: limit.rlim_max };
    for attempt in [wanted, allowed] {
        // SAFETY: `attempt` outlives the call, which only reads it.
        if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &attempt) } == 0 {
            return attempt.rlim_cur as usize;
        }
    }
    limit.rlim_cur as usize
}

/// Where `program` is found: in `PATH`, or where Debian keeps servers (a user's `PATH` often lacks it).
pub fn find_program(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places =
        std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin"), PathBuf::from("/usr/local/sbin")]);
    places.map(|place| place.join(program)).find(|file| file.is_file())
}
