//! An upstream in a process of its own, to be killed and stopped.

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

/// A running upstream; killed when dropped. Its address stays its own, so it can be started again.
#[derive(Debug)]
pub struct UpstreamProcess {
    name: &'static str,
    address: SocketAddr,
    child: Option<Child>,
}

impl UpstreamProcess {
    /// Starts one that answers with `name`.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start(name: &'static str) -> UpstreamProcess {
        let mut upstream = UpstreamProcess { name, address: free_address(), child: None };
        upstream.start_again();
        upstream
    }

    /// Starts one that answers what is not HTTP.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start_garbage(name: &'static str) -> UpstreamProcess {
        let mut upstream = UpstreamProcess { name, address: free_address(), child: None };
        upstream.launch(&["garbage"]);
        upstream
    }

    /// Starts it again at its old address, after it was killed.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start_again(&mut self) {
        self.launch(&[]);
    }

    fn launch(&mut self, arguments: &[&str]) {
        let mut child = Command::new(program())
            .arg(self.name)
            .arg(self.address.to_string())
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("start of the upstream");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("stdout is piped");
        BufReader::new(stdout).read_line(&mut line).expect("a line of the upstream");
        assert_eq!(line.trim(), "listening", "upstream {}", self.name);
        self.child = Some(child);
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its name.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Ends it at once (SIGKILL): its connections are reset, its port is closed.
    ///
    /// # Panics
    /// When it is not running.
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("a running upstream");
        child.kill().expect("kill");
        child.wait().expect("wait for the killed");
    }

    /// Stops it (SIGSTOP): the kernel still accepts, nothing is answered.
    pub fn stop(&self) {
        self.signal(libc::SIGSTOP);
    }

    /// Lets it go on (SIGCONT).
    pub fn go_on(&self) {
        self.signal(libc::SIGCONT);
    }

    fn signal(&self, signal: i32) {
        let pid = self.child.as_ref().expect("a running upstream").id();
        let pid = i32::try_from(pid).expect("a process id");
        // SAFETY: `kill` takes no pointer; the child was not waited for, so the id is still its own.
        assert_eq!(unsafe { libc::kill(pid, signal) }, 0, "signal {signal}");
    }
}

impl Drop for UpstreamProcess {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn free_address() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("its address")
}

/// The program beside the tests, built once if it is not there.
fn program() -> &'static Path {
    static PROGRAM: OnceLock<std::path::PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let test = std::env::current_exe().expect("own path");
        // target/<profile>/deps/<test>-<hash>
        let profile = test.parent().and_then(Path::parent).expect("a test runs from target/<profile>/deps");
        let program = profile.join("upstream");
        if !program.exists() {
            let mut build = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
            build.args(["build", "--package", "e2e", "--bin", "upstream"]);
            if profile.ends_with("release") {
                build.arg("--release");
            }
            build.current_dir(env!("CARGO_MANIFEST_DIR"));
            assert!(build.status().expect("cargo").success(), "cargo build of the upstream");
        }
        program
    })
}
