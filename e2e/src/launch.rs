//! The binary run with any arguments, for what happens before it is ready and when it never is.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use serde_json::Value;

use crate::sidelight::{binary, field};
use crate::wait_for;

/// A process of the binary; killed when dropped.
#[derive(Debug)]
pub struct Launch {
    child: Child,
    stdout: Arc<Mutex<String>>,
    stderr: Arc<Mutex<String>>,
}

impl Launch {
    /// Starts it in `directory`.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start<A: AsRef<OsStr>>(directory: &Path, arguments: &[A]) -> Self {
        let mut command = Command::new(binary());
        command.args(arguments).current_dir(directory);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("start of the binary");
        let (stdout, stderr) = (Arc::default(), Arc::default());
        collect(child.stdout.take().expect("stdout is piped"), &stdout);
        collect(child.stderr.take().expect("stderr is piped"), &stderr);
        Launch { child, stdout, stderr }
    }

    /// Runs it to its end: exit status, standard output, standard error.
    ///
    /// # Panics
    /// When it does not end.
    pub fn run<A: AsRef<OsStr>>(directory: &Path, arguments: &[A]) -> (i32, String, String) {
        let output = Command::new(binary())
            .args(arguments)
            .current_dir(directory)
            .stdin(Stdio::null())
            .output()
            .expect("start of the binary");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When it does not end.
    pub fn wait(&mut self) -> ExitStatus {
        wait_for("the process to end", || self.child.try_wait().expect("wait for the child"))
    }

    /// Its standard output so far.
    pub fn stdout(&self) -> String {
        self.stdout.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Its standard error so far.
    pub fn stderr(&self) -> String {
        self.stderr.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits for a line of its log.
    pub fn wait_for_log(&self, message: &str) -> Value {
        self.wait_for_line(message, |line| field(line, "message") == message)
    }

    /// Waits until a listener is announced.
    ///
    /// # Panics
    /// When it never is.
    pub fn listener(&self, name: &str) -> SocketAddr {
        let line = self.wait_for_line(name, |line| {
            field(line, "message") == "listening" && field(line, "listener") == name
        });
        field(&line, "address").as_str().and_then(|text| text.parse().ok()).expect("an address")
    }

    fn wait_for_line(&self, what: &str, is_it: impl Fn(&Value) -> bool) -> Value {
        wait_for(&format!("log line {what:?}"), || {
            let text = self.stderr();
            text.lines().filter_map(|line| serde_json::from_str(line).ok()).find(|line| is_it(line))
        })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal.
    ///
    /// # Panics
    /// When the process is gone.
    pub fn signal(&self, signal: i32) {
        let pid = i32::try_from(self.pid()).expect("a process id");
        // SAFETY: `kill` takes no pointer; the child was not waited for, so the id is still its own.
        assert_eq!(unsafe { libc::kill(pid, signal) }, 0, "signal {signal}");
    }
}

impl Drop for Launch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("standard error of process {}:\n{}", self.pid(), self.stderr());
        }
    }
}

fn collect(from: impl Read + Send + 'static, into: &Arc<Mutex<String>>) {
    let into = into.clone();
    thread::spawn(move || {
        for line in BufReader::new(from).lines() {
            let Ok(line) = line else { return };
            let mut text = into.lock().unwrap_or_else(PoisonError::into_inner);
            text.push_str(&line);
            text.push('\n');
        }
    });
}
