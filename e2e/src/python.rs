//! Python with the clients and servers that only PyPI has, in a virtual environment inside `target`.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use serde_json::Value;

use crate::tool;

fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("clients")
}

/// A virtual environment inside `target`.
struct Environment {
    /// Its folder.
    home: &'static str,
    /// The file in `clients` that names what is in it.
    requirements: &'static str,
    /// Whether this works says whether it is whole.
    imports: &'static str,
    interpreter: OnceLock<PathBuf>,
}

static MAIN: Environment = Environment {
    home: "e2e-venv",
    requirements: "requirements.txt",
    imports: "import grpc, websockets, flask",
    interpreter: OnceLock::new(),
};

static DATADOG: Environment = Environment {
    home: "e2e-venv-datadog",
    requirements: "requirements-datadog.txt",
    imports: "import ddapm_test_agent",
    interpreter: OnceLock::new(),
};

static RECORDING: Environment = Environment {
    home: "e2e-venv-recording",
    requirements: "requirements-recording.txt",
    imports: "import haralyzer, locust",
    interpreter: OnceLock::new(),
};

/// The interpreter of the virtual environment `target/e2e-venv`, which is made if it is not there.
///
/// # Panics
/// When it cannot be made; says how to make it by hand.
pub fn interpreter() -> &'static Path {
    MAIN.interpreter()
}

/// The same for what Datadog's test agent needs.
pub(crate) fn interpreter_for_datadog() -> &'static Path {
    DATADOG.interpreter()
}

/// The same for what reads the files that recordings are exported to.
///
/// # Panics
/// When it cannot be made.
pub fn interpreter_for_recordings() -> &'static Path {
    RECORDING.interpreter()
}

/// Where the scripts are.
pub fn script(name: &str) -> PathBuf {
    scripts().join(name)
}

impl Environment {
    fn interpreter(&'static self) -> &'static Path {
        self.interpreter.get_or_init(|| self.make())
    }

    fn make(&self) -> PathBuf {
        let target = tool::target();
        let home = target.join(self.home);
        let python = home.join("bin/python");
        let lock = File::create(target.join(format!("{}.lock", self.home))).expect("a file in target");
        // SAFETY: the descriptor is open as long as `lock` lives; the lock ends with it.
        unsafe { libc::flock(lock.as_raw_fd(), libc::LOCK_EX) };
        let requirements = scripts().join(self.requirements);
        // What was installed, written when all of it was.
        let installed = home.join("requirements.txt");
        let is_there = || {
            let check = Command::new(&python).args(["-c", self.imports]).output();
            let is_current = matches!((fs::read(&requirements), fs::read(&installed)), (Ok(want), Ok(have)) if want == have);
            is_current && check.is_ok_and(|done| done.status.success())
        };
        if !is_there() {
            let home = home.display().to_string();
            tool::output("python3", &["-m", "venv", &home]);
            let pip = format!("{home}/bin/pip");
            let named = requirements.display().to_string();
            let install = ["install", "--quiet", "--disable-pip-version-check", "-r", &named];
            let done = tool::run(&pip, &install);
            if done.status.success() {
                fs::copy(&requirements, &installed).expect("a file in target");
            }
            assert!(
                done.status.success() && is_there(),
                "what {named} names is needed: {pip} {}: {}",
                install.join(" "),
                String::from_utf8_lossy(&done.stderr)
            );
        }
        python
    }
}

/// A server among the scripts; killed when dropped. It says its port in its first line.
#[derive(Debug)]
pub struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    /// Starts `clients/<script>`.
    ///
    /// # Panics
    /// When it does not say its port.
    pub fn start(script: &str, arguments: &[&str]) -> Self {
        let mut child = Command::new(interpreter())
            .arg(scripts().join(script))
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .expect("start of python");
        let mut line = String::new();
        let _ = BufReader::new(child.stdout.take().expect("stdout is piped")).read_line(&mut line);
        let port: u16 =
            line.trim().parse().unwrap_or_else(|_| panic!("{script} said {line:?} instead of a port"));
        Server { child, address: ([127, 0, 0, 1], port).into() }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs `clients/<script>` to its end. It prints one JSON object a line, `{"case": …, "problem": null or …}`.
///
/// # Panics
/// When it fails, or a case has a problem, or there is no case.
pub fn run(script: &str, arguments: &[&str]) -> Vec<String> {
    let path = scripts().join(script);
    let mut all = vec![path.as_os_str()];
    all.extend(arguments.iter().map(AsRef::<std::ffi::OsStr>::as_ref));
    let program = interpreter().display().to_string();
    let text = tool::output(&program, &all);
    let mut cases = Vec::new();
    let mut problems = Vec::new();
    for line in text.lines() {
        let report: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"));
        cases.push(report["case"].as_str().unwrap_or_default().to_owned());
        if !report["problem"].is_null() {
            problems.push(format!("{}: {}", report["case"], report["problem"]));
        }
    }
    assert!(
        problems.is_empty() && !cases.is_empty(),
        "{} problems:\n  {}",
        problems.len(),
        problems.join("\n  ")
    );
    cases
}
