//! The sidecar processes: started, asked to end, killed; none outlives the demo.
//!
//! How it fails: a process that does not say `ready` in time fails the demo with the last lines of its log. On Linux
//! the kernel ends the sidecars when the demo is killed itself.

use super::message;
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long a sidecar may take to be ready; a debug build on a busy machine needs a fraction of it.
const READY_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a sidecar may take to drain.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// Lines of the log that are shown of a sidecar that did not start.
const LOG_LINES_SHOWN: usize = 5;

/// Every process that was started and has not been waited for.
#[derive(Clone, Debug, Default)]
pub(super) struct Processes(Arc<Mutex<BTreeMap<u32, Child>>>);

impl Processes {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<u32, Child>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends every process at once.
    pub(super) fn kill_all(&self) {
        let mut children = self.lock();
        for child in children.values_mut() {
            let _ = child.kill();
            let _ = child.wait();
        }
        children.clear();
    }

    fn kill(&self, pid: u32) {
        if let Some(mut child) = self.lock().remove(&pid) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    fn terminate(&self, pid: u32) {
        if let (true, Ok(pid)) = (self.lock().contains_key(&pid), i32::try_from(pid)) {
            // SAFETY: `kill` takes no pointer; the child was not waited for, so the number is its own.
            unsafe { libc::kill(pid, libc::SIGTERM) };
        }
    }

    fn wait(&self, pid: u32, timeout: Duration) -> Option<ExitStatus> {
        let deadline = Instant::now() + timeout;
        while Instant::now() < deadline {
            let ended = self.lock().get_mut(&pid).and_then(|child| child.try_wait().ok().flatten());
            if ended.is_some() {
                self.lock().remove(&pid);
                return ended;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        None
    }
}

/// A sidecar: a process of this same program.
#[derive(Debug)]
pub(super) struct Sidecar {
    /// Its name in the demo.
    pub(super) name: String,
    /// Its process.
    pub(super) pid: u32,
    /// Its configuration.
    pub(super) config: PathBuf,
    /// Its events.
    pub(super) events: PathBuf,
    /// From its start until it was ready, as it says.
    pub(super) start_ms: u64,
    addresses: BTreeMap<String, SocketAddr>,
    log: Receiver<Value>,
    processes: Processes,
}

impl Sidecar {
    /// Writes the configuration into `directory`, starts the sidecar and waits until it is ready.
    pub(super) fn start(
        name: &str,
        config: &str,
        directory: &Path,
        processes: &Processes,
    ) -> Result<Sidecar, String> {
        let file = directory.join(format!("{name}.yaml"));
        let events = directory.join(format!("{name}.events.ndjson"));
        std::fs::write(&file, config).map_err(|error| format!("{}: {error}", file.display()))?;
        let program = std::env::current_exe().map_err(|error| format!("the own program: {error}"))?;
        let mut command = Command::new(program);
        command.args(["run", "--config"]).arg(&file).env("SIDELIGHT_LOG", "info");
        // A group of its own: a Ctrl-C of the terminal is the demo's business.
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).process_group(0);
        die_with_parent(&mut command);
        let mut child = command.spawn().map_err(|error| format!("{name}: {error}"))?;
        let pid = child.id();
        let stderr = child.stderr.take();
        processes.lock().insert(pid, child);
        let (lines, log) = channel();
        std::thread::spawn(move || read_log(stderr, &lines));
        let mut sidecar = Sidecar {
            name: name.into(),
            pid,
            config: file,
            events,
            start_ms: 0,
            addresses: BTreeMap::new(),
            log,
            processes: processes.clone(),
        };
        sidecar.await_ready()?;
        Ok(sidecar)
    }

    /// Starts it anew, with the same configuration; it must have ended.
    pub(super) fn again(&self) -> Result<Sidecar, String> {
        let failed = |error: std::io::Error| format!("{}: {error}", self.config.display());
        let config = std::fs::read_to_string(&self.config).map_err(failed)?;
        let directory = self.config.parent().unwrap_or(Path::new("."));
        Sidecar::start(&self.name, &config, directory, &self.processes)
    }

    /// What its admin API answers.
    pub(super) fn ask(&self, path: &str) -> Result<Value, String> {
        let answer = message::get(self.address("admin")?, path);
        Ok(answer.map_err(|error| format!("{} {path}: {error}", self.name))?.json())
    }

    fn await_ready(&mut self) -> Result<(), String> {
        let deadline = Instant::now() + READY_TIMEOUT;
        let mut said = Vec::new();
        while let Ok(line) = self.log.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            match line["message"].as_str() {
                Some("listening") => {
                    let address = line["address"].as_str().and_then(|address| address.parse().ok());
                    if let (Some(listener), Some(address)) = (line["listener"].as_str(), address) {
                        self.addresses.insert(listener.into(), address);
                    }
                }
                Some("ready") => {
                    self.start_ms = line["start_ms"].as_u64().unwrap_or(0);
                    return Ok(());
                }
                _ => said.push(line.to_string()),
            }
        }
        let shown = said.get(said.len().saturating_sub(LOG_LINES_SHOWN)..).unwrap_or_default();
        Err(format!("the sidecar of {} did not become ready; it said: {}", self.name, shown.join(" ")))
    }

    /// The address of a listener: inbound, outbound, admin or telemetry.
    pub(super) fn address(&self, listener: &str) -> Result<SocketAddr, String> {
        self.addresses
            .get(listener)
            .copied()
            .ok_or_else(|| format!("the sidecar of {} did not say where `{listener}` listens", self.name))
    }

    /// Ends the process as a crash would.
    pub(super) fn kill(&self) {
        self.processes.kill(self.pid);
    }

    /// Asks the process to drain, without waiting.
    pub(super) fn terminate(&self) {
        self.processes.terminate(self.pid);
    }

    /// Waits for the end after [`Sidecar::terminate`]: its status, and what it said of draining.
    pub(super) fn await_end(&self) -> Result<(ExitStatus, Value), String> {
        let status = self.processes.wait(self.pid, STOP_TIMEOUT);
        let status = status.ok_or_else(|| format!("the sidecar of {} did not end", self.name))?;
        let drained = self.log.iter().filter(|line| line["message"] == "drained").last();
        Ok((status, drained.unwrap_or_default()))
    }
}

/// Passes the log's lines on until the process ends.
fn read_log(stderr: Option<ChildStderr>, lines: &Sender<Value>) {
    let Some(stderr) = stderr else { return };
    for line in BufReader::new(stderr).lines() {
        let Ok(line) = line else { return };
        let line = serde_json::from_str(&line).unwrap_or(Value::String(line));
        if lines.send(line).is_err() {
            return;
        }
    }
}

/// Lets the kernel end the child when the demo ends in a way that leaves no time to do it.
#[cfg(target_os = "linux")]
fn die_with_parent(command: &mut Command) {
    // SAFETY: between fork and exec only async-signal-safe calls are allowed; prctl is a plain system call.
    unsafe {
        command.pre_exec(|| {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            Ok(())
        });
    }
}

#[cfg(not(target_os = "linux"))]
fn die_with_parent(_command: &mut Command) {}
