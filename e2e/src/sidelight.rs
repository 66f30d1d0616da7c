//! The process under test.

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;

use serde_json::Value;
use tempfile::TempDir;

use crate::{Events, RawClient, Response, Setup, wait_for};

/// A running `sidelight run --config …`; killed when dropped.
#[derive(Debug)]
pub struct Sidelight {
    child: Child,
    log: Arc<Mutex<Vec<Value>>>,
    addresses: HashMap<String, SocketAddr>,
    directory: TempDir,
    kills: usize,
}

impl Sidelight {
    /// Starts with the configuration of `setup` and waits until it is ready.
    ///
    /// # Panics
    /// When it does not become ready; the message has its log.
    pub fn start(setup: &Setup) -> Self {
        Sidelight::start_with(setup, &[])
    }

    /// The same with more arguments after the configuration: `["--", "app", "args"]`.
    ///
    /// # Panics
    /// When it does not become ready; the message has its log.
    pub fn start_with(setup: &Setup, arguments: &[&str]) -> Self {
        let directory =
            tempfile::Builder::new().prefix("sidelight-e2e-").tempdir().expect("temporary directory");
        let yaml = setup.yaml(&directory.path().join("events.ndjson"));
        std::fs::write(directory.path().join("sidelight.yaml"), yaml).expect("configuration file");
        let (child, log) = spawn(directory.path(), arguments);
        let mut running = Sidelight { child, log, addresses: HashMap::new(), directory, kills: 0 };
        running.wait_for_ready();
        running
    }

    /// Kills it (SIGKILL) and waits for its end. Its directory stays.
    ///
    /// # Panics
    /// When the process cannot be waited for.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        self.child.wait().expect("wait for the child");
        self.kills += 1;
    }

    /// Starts it anew after its end, with the same configuration and directory; the log and the addresses are new.
    ///
    /// # Panics
    /// When it does not become ready.
    pub fn start_again(&mut self) {
        (self.child, self.log) = spawn(self.directory.path(), &[]);
        self.addresses.clear();
        self.wait_for_ready();
    }

    fn wait_for_ready(&mut self) {
        let log = self.log.clone();
        wait_for("the line \"ready\"", || {
            let lines = log.lock().unwrap_or_else(PoisonError::into_inner);
            if let Ok(Some(status)) = self.child.try_wait() {
                panic!("ended with {status} before it was ready: {:#?}", *lines);
            }
            lines.iter().any(|line| field(line, "message") == "ready").then_some(())
        });
        for line in self.log().iter().filter(|line| field(line, "message") == "listening") {
            let address = field(line, "address").as_str().and_then(|text| text.parse().ok());
            let name = field(line, "listener").as_str().map(str::to_owned);
            if let (Some(name), Some(address)) = (name, address) {
                self.addresses.insert(name, address);
            }
        }
    }

    /// Where a listener is: `inbound`, `outbound`, `admin`, `telemetry`, `tcp:<cluster>`.
    ///
    /// # Panics
    /// When none was announced under that name.
    pub fn address(&self, listener: &str) -> SocketAddr {
        *self
            .addresses
            .get(listener)
            .unwrap_or_else(|| panic!("no listener {listener} in {:?}", self.addresses))
    }

    /// Where inbound traffic goes in.
    pub fn inbound(&self) -> SocketAddr {
        self.address("inbound")
    }

    /// Where outbound traffic goes in.
    pub fn outbound(&self) -> SocketAddr {
        self.address("outbound")
    }

    /// `GET path` of the admin API.
    ///
    /// # Panics
    /// When there is no whole answer.
    pub fn admin(&self, path: &str) -> Response {
        // The admin API answers to no name but localhost: a page of another site must not reach it by rebinding DNS.
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        let answer = RawClient::connect(self.address("admin")).ask(request);
        answer.unwrap_or_else(|fault| panic!("admin {path}: {fault}"))
    }

    /// The value of a series on `/metrics`, as it stands there: `name{label="value"}`.
    pub fn metric(&self, series: &str) -> Option<f64> {
        let page = self.admin("/metrics").text();
        let line = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '))?;
        line.split(' ').next()?.parse().ok()
    }

    /// The books of a sink: produced, delivered, dropped for whatever reason, queued.
    pub fn books(&self, sink: &str) -> Option<[u64; 4]> {
        let overview: Value = serde_json::from_str(&self.admin("/").text()).ok()?;
        let sinks = overview["events"].as_array()?;
        let row = sinks.iter().find(|row| row["sink"] == sink)?;
        let [produced, delivered, dropped, queued] =
            ["produced", "delivered", "dropped", "queued"].map(|name| row[name].as_u64());
        Some([produced?, delivered?, dropped?, queued?])
    }

    /// Its events.
    pub fn events(&self) -> Events {
        Events::at(&self.directory.path().join("events.ndjson")).with_kills(self.kills)
    }

    /// The lines of its own log so far; a line that is no JSON is a string.
    pub fn log(&self) -> Vec<Value> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits for a log line with this message.
    pub fn wait_for_log(&self, message: &str) -> Value {
        wait_for(&format!("log line {message:?}"), || {
            self.log().into_iter().find(|line| field(line, "message") == message)
        })
    }

    /// Its directory: `sidelight.yaml`, `events.ndjson`, and what a test puts there.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Replaces its configuration file, as an editor does: the file is whole at any moment.
    ///
    /// # Panics
    /// When the file cannot be written.
    pub fn rewrite(&self, setup: &Setup) {
        let draft = self.directory.path().join("draft.yaml");
        std::fs::write(&draft, setup.yaml(&self.directory.path().join("events.ndjson"))).expect("draft");
        std::fs::rename(&draft, self.directory.path().join("sidelight.yaml")).expect("rename");
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Resident memory in bytes.
    ///
    /// # Panics
    /// When the process is gone.
    pub fn resident_bytes(&self) -> u64 {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("status of the process");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
        let kib = line.trim().trim_end_matches(" kB").trim().parse::<u64>().expect("VmRSS in kB");
        kib * 1024
    }

    /// Sends it a signal (`libc::SIGTERM`, `libc::SIGHUP`).
    ///
    /// # Panics
    /// When the process is gone.
    pub fn signal(&self, signal: i32) {
        let pid = i32::try_from(self.pid()).expect("a process id");
        // SAFETY: `kill` takes no pointer; the child was not waited for, so the id is still its own.
        assert_eq!(unsafe { libc::kill(pid, signal) }, 0, "signal {signal}");
    }

    /// Waits until it has ended by itself.
    ///
    /// # Panics
    /// When it does not.
    pub fn wait(&mut self) -> ExitStatus {
        wait_for("the process to end", || self.child.try_wait().expect("wait for the child"))
    }

    /// Asks it to drain and waits for its end; then every event is written. Gives them.
    ///
    /// # Panics
    /// When it does not end, or not with success.
    pub fn stop(mut self) -> Vec<Value> {
        self.signal(libc::SIGTERM);
        let status = self.wait();
        assert!(status.success(), "ended with {status}: {:#?}", self.log());
        self.events().exchanges()
    }
}

impl Drop for Sidelight {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            let log = self.log();
            let tail = &log[log.len().saturating_sub(20)..];
            eprintln!("last lines of the log of process {}:", self.pid());
            tail.iter().for_each(|line| eprintln!("  {line}"));
        }
    }
}

fn spawn(directory: &Path, arguments: &[&str]) -> (Child, Arc<Mutex<Vec<Value>>>) {
    let mut child = Command::new(binary())
        .arg("run")
        .arg("--config")
        .arg(directory.join("sidelight.yaml"))
        .args(arguments)
        .current_dir(directory)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("start of the binary");
    let log = Arc::new(Mutex::new(Vec::new()));
    collect(child.stderr.take().expect("stderr is piped"), log.clone());
    (child, log)
}

/// A field of a log line, which the JSON format keeps under `fields` or at the top.
pub fn field<'a>(line: &'a Value, name: &str) -> &'a Value {
    line.pointer(&format!("/fields/{name}")).unwrap_or(&line[name])
}

fn collect(stderr: ChildStderr, log: Arc<Mutex<Vec<Value>>>) {
    thread::spawn(move || {
        for line in BufReader::new(stderr).lines() {
            let Ok(line) = line else { return };
            let line = serde_json::from_str(&line).unwrap_or(Value::String(line));
            log.lock().unwrap_or_else(PoisonError::into_inner).push(line);
        }
    });
}

/// The binary: `SIDELIGHT_BIN`, or the one of this build, built once if it is not there.
///
/// # Panics
/// When it cannot be built.
pub fn binary() -> PathBuf {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY
        .get_or_init(|| {
            if let Some(named) = std::env::var_os("SIDELIGHT_BIN") {
                return named.into();
            }
            let test = std::env::current_exe().expect("own path");
            // target/<profile>/deps/<test>-<hash>
            let profile =
                test.parent().and_then(Path::parent).expect("a test runs from target/<profile>/deps");
            let binary = profile.join("sidelight");
            if !binary.exists() {
                let mut build = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
                build.args(["build", "--package", "sidelight", "--bin", "sidelight"]);
                if profile.ends_with("release") {
                    build.arg("--release");
                }
                build.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."));
                assert!(build.status().expect("cargo").success(), "cargo build of the binary");
            }
            binary
        })
        .clone()
}
