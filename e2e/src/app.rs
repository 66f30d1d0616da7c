//! The applications in `e2e/apps`, each beside a sidecar: plain ones of the usual frameworks.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;

use serde_json::Value;
use tokio::net::TcpSocket;

use crate::{python, tool, wait_for};

/// What would send an application's calls elsewhere than to its sidecar.
const PROXIES: [&str; 6] =
    ["http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"];

/// A port of loopback that is kept for an application: its sidecar has to know it before the application runs.
///
/// The system gives the port to nobody else while this lives. The application gets it nevertheless, because both sides set
/// `SO_REUSEADDR` (http.server, werkzeug, uvicorn and Node do) and this one never listens.
#[derive(Debug)]
pub struct Reserved {
    _socket: TcpSocket,
    address: SocketAddr,
}

impl Reserved {
    /// The address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// A running application; killed when dropped.
#[derive(Debug)]
pub struct App {
    child: Child,
    at: Reserved,
    lines: Arc<Mutex<Vec<Value>>>,
    errors: Arc<Mutex<String>>,
    name: String,
}

impl App {
    /// Keeps an address for an application.
    ///
    /// # Panics
    /// When loopback has no port left.
    pub fn reserve() -> Reserved {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_reuseaddr(true).expect("SO_REUSEADDR");
        socket.bind((Ipv4Addr::LOCALHOST, 0).into()).expect("a free port");
        let address = socket.local_addr().expect("its address");
        Reserved { _socket: socket, address }
    }

    /// Starts `e2e/apps/<script>`, which listens at the address that was kept for it and calls out through `outbound`, and
    /// waits until it listens. `settings` are more of its environment.
    ///
    /// # Panics
    /// When it does not come up; says what it complained of.
    pub fn start(script: &str, at: Reserved, outbound: SocketAddr, settings: &[(&str, &str)]) -> App {
        let mut command = if script.ends_with(".js") {
            let mut node = Command::new("node");
            node.env("NODE_PATH", node_modules());
            node
        } else if script.starts_with("datadog") {
            Command::new(python::interpreter_for_datadog())
        } else {
            Command::new(python::interpreter())
        };
        for name in PROXIES {
            command.env_remove(name);
        }
        command.arg(source(script)).env("PORT", at.address.port().to_string());
        command.env("NEXT", format!("http://{outbound}")).envs(settings.iter().copied());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{script}: {error}"));
        let (lines, errors) = (Arc::default(), Arc::default());
        collect(child.stdout.take().expect("stdout is piped"), &lines, |lines: &mut Vec<Value>, line| {
            lines.extend(serde_json::from_str::<Value>(line).ok());
        });
        collect(child.stderr.take().expect("stderr is piped"), &errors, |text: &mut String, line| {
            text.push_str(line);
            text.push('\n');
        });
        let mut app = App { child, at, lines, errors, name: script.to_owned() };
        wait_for(&format!("{script} to listen"), || {
            if let Ok(Some(status)) = app.child.try_wait() {
                panic!("{script} ended with {status}: {}", app.errors());
            }
            TcpStream::connect(app.at.address).ok()
        });
        app
    }

    /// The lines of JSON that it has written to its standard output.
    pub fn lines(&self) -> Vec<Value> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits for a line that `is_it` accepts.
    pub fn wait_for_line(&self, what: &str, is_it: impl Fn(&Value) -> bool) -> Value {
        wait_for(what, || self.lines().into_iter().find(|line| is_it(line)))
    }

    fn errors(&self) -> String {
        self.errors.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for App {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("standard error of {}:\n{}", self.name, self.errors());
        }
    }
}

/// The text of a file in `e2e/apps`.
///
/// # Panics
/// When it is not there.
pub fn text(script: &str) -> String {
    fs::read_to_string(source(script)).unwrap_or_else(|error| panic!("{script}: {error}"))
}

fn source(script: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("apps").join(script)
}

/// What `e2e/apps/package-lock.json` names, in `target/e2e-node`, where it is installed if it is not there.
fn node_modules() -> &'static Path {
    static MODULES: OnceLock<PathBuf> = OnceLock::new();
    MODULES.get_or_init(|| {
        let home = tool::target().join("e2e-node");
        let modules = home.join("node_modules");
        fs::create_dir_all(&home).expect("a folder in target");
        let lock = File::create(tool::target().join("e2e-node.lock")).expect("a file in target");
        // SAFETY: the descriptor is open as long as `lock` lives; the lock ends with it.
        unsafe { libc::flock(lock.as_raw_fd(), libc::LOCK_EX) };
        // npm writes its own note of what it installed last of all.
        let is_there = modules.join(".package-lock.json").exists()
            && fs::read_to_string(home.join("package-lock.json"))
                .is_ok_and(|have| have == text("package-lock.json"));
        if !is_there {
            for name in ["package.json", "package-lock.json"] {
                fs::write(home.join(name), text(name)).expect("a file in target");
            }
            let home = home.display().to_string();
            let install =
                ["ci", "--prefix", &home, "--omit=dev", "--ignore-scripts", "--no-audit", "--no-fund"];
            tool::output("npm", &install);
        }
        modules
    })
}

fn collect<T: Send + 'static>(
    from: impl Read + Send + 'static,
    into: &Arc<Mutex<T>>,
    put: impl Fn(&mut T, &str) + Send + 'static,
) {
    let into = into.clone();
    thread::spawn(move || {
        for line in BufReader::new(from).lines() {
            let Ok(line) = line else { return };
            put(&mut into.lock().unwrap_or_else(PoisonError::into_inner), &line);
        }
    });
}
