//! The binary with a file system of its own for its spool, in a mount namespace of its own.

use e2e::{RawClient, wait_for};
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

/// The binary with a file system of its own for its spool, so many KiB.
pub struct Boxed {
    child: Child,
    log: Arc<Mutex<String>>,
}

impl Boxed {
    /// `None`: this system lets nobody mount anything.
    pub fn start(directory: &Path, kib: u32) -> Option<Boxed> {
        // SAFETY: no arguments, no failure.
        let is_root = unsafe { libc::geteuid() } == 0;
        let apart = if is_root { "-m" } else { "-rm" };
        let mount = format!("mount -t tmpfs -o size={kib}k tmpfs spool");
        std::fs::create_dir(directory.join("spool")).expect("a directory");
        let unshare = |script: &str| {
            let mut command = Command::new("unshare");
            command.args([apart, "--", "sh", "-c", script]).arg(e2e::binary()).current_dir(directory);
            command
        };
        let probe = unshare(&mount).output().expect("util-linux");
        if !probe.status.success() {
            println!("not run: nothing can be mounted here: {}", String::from_utf8_lossy(&probe.stderr));
            return None;
        }
        let mut child = unshare(&format!("{mount} && exec \"$0\" run --config sidelight.yaml"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("util-linux");
        let (stderr, log) = (child.stderr.take().expect("a pipe"), Arc::<Mutex<String>>::default());
        let kept = Arc::clone(&log);
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let mut log = kept.lock().expect("the lock");
                log.push_str(&line);
                log.push('\n');
            }
        });
        Some(Boxed { child, log })
    }

    pub fn listener(&self, name: &str) -> SocketAddr {
        wait_for(&format!("the listener {name}"), || {
            let log = self.log.lock().expect("the lock").clone();
            let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            let found = lines.into_iter().find(|line| e2e::field(line, "listener") == name);
            found.and_then(|line| e2e::field(&line, "address").as_str()?.parse().ok())
        })
    }

    pub fn ask(&self, path: &str) -> String {
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        RawClient::connect(self.listener("admin")).ask(request).expect("an answer").text()
    }

    pub fn books(&self, sink: &str) -> [u64; 4] {
        let overview: Value = serde_json::from_str(&self.ask("/")).expect("JSON");
        let rows = overview["events"].as_array().expect("rows");
        let row = rows.iter().find(|row| row["sink"] == sink).expect("the sink");
        let [produced, delivered, dropped, queued] =
            ["produced", "delivered", "dropped", "queued"].map(|name| row[name].as_u64().expect("a number"));
        assert_eq!(produced, delivered + dropped + queued, "{row}");
        [produced, delivered, dropped, queued]
    }

    pub fn is_in_memory(&self) -> bool {
        self.ask("/metrics").contains("\nsidelight_spool_in_memory 1")
    }
}

impl Drop for Boxed {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("its log:\n{}", self.log.lock().expect("the lock"));
        }
    }
}
