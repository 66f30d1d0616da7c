//! Short runs of the load generators against nginx upstream: not one error.

use e2e::{Setup, Sidelight, StrictBackend, tool, wait_for};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

/// nginx with one worker, serving 1 KiB at `/` and 1 MiB at `/large` in HTTP/1.1, and the same over h2c.
struct Nginx {
    child: Child,
    http1: SocketAddr,
    http2: SocketAddr,
    _directory: TempDir,
}

impl Nginx {
    fn start() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let at = directory.path().display();
        let free = || {
            TcpListener::bind("127.0.0.1:0")
                .expect("bind on loopback")
                .local_addr()
                .expect("bind on loopback")
        };
        let (http1, http2) = (free(), free());
        std::fs::write(directory.path().join("index.html"), vec![b'x'; 1024]).expect("a thread");
        std::fs::write(directory.path().join("large"), vec![b'x'; 1 << 20]).expect("a thread");
        let text = format!(
            "daemon off; worker_processes 1; pid {at}/pid; error_log {at}/error.log;\n\
             events {{ worker_connections 2048; }}\n\
             http {{ access_log off; client_body_temp_path {at}/b; proxy_temp_path {at}/p; fastcgi_temp_path {at}/f;\n\
             uwsgi_temp_path {at}/u; scgi_temp_path {at}/s; keepalive_requests 1000000; client_max_body_size 0;\n\
             server {{ listen {http1}; root {at}; location = /post {{ return 204; }} }}\n\
             server {{ listen {http2} http2; root {at}; }} }}\n"
        );
        let file = directory.path().join("nginx.conf");
        std::fs::write(&file, text).expect("a file");
        let child = Command::new("nginx")
            .args(["-c", &file.display().to_string(), "-p", &at.to_string()])
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("nginx: {error}; install it: apt-get install nginx"));
        for address in [http1, http2] {
            wait_for("nginx", || TcpStream::connect(address).ok());
        }
        Nginx { child, http1, http2, _directory: directory }
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let pid = i32::try_from(self.child.id()).unwrap_or(0);
        // SAFETY: `kill` takes no pointer; the child was not waited for. SIGTERM lets the master end its worker.
        unsafe { libc::kill(pid, libc::SIGTERM) };
        let _ = self.child.wait();
    }
}

/// The number before `word` in a line of h2load's summary that starts with `start`.
fn number(text: &str, start: &str, word: &str) -> u64 {
    let line = text.lines().find(|line| line.starts_with(start)).unwrap_or_else(|| panic!("{text}"));
    let words: Vec<&str> = line.split([' ', ',']).filter(|word| !word.is_empty()).collect();
    let index = words.iter().position(|found| *found == word).unwrap_or_else(|| panic!("{text}"));
    words[index - 1].parse().unwrap_or_else(|_| panic!("{text}"))
}

fn h2load(url: &str, requests: u64, more: &[&str]) {
    let count = requests.to_string();
    let said = tool::output("h2load", &[&["-n", &count], more, &[url]].concat());
    let good = number(&said, "requests:", "succeeded");
    assert_eq!(good, requests, "{said}");
    for word in ["failed", "errored", "timeout"] {
        assert_eq!(number(&said, "requests:", word), 0, "{said}");
    }
    let status = said.lines().find(|line| line.starts_with("status codes:")).expect("a summary");
    assert!(status.contains(&format!("{requests} 2xx")), "{said}");
}

fn inbound(nginx: SocketAddr, protocol: &str) -> (Sidelight, String) {
    let proxy = Sidelight::start(&Setup::app_speaking(nginx, protocol).workers(2));
    let url = format!("http://{}/", proxy.inbound());
    (proxy, url)
}

#[test]
fn h2load_sees_no_error() {
    let nginx = Nginx::start();
    for (upstream, protocol) in [(nginx.http1, "http1"), (nginx.http2, "http2")] {
        let (proxy, url) = inbound(upstream, protocol);
        h2load(&url, 5000, &["-c", "10", "-m", "10"]);
        h2load(&url, 2000, &["-c", "10", "--h1"]);
        h2load(&format!("{url}large"), 100, &["-c", "4", "-m", "5"]);
        let events = proxy.stop();
        assert_eq!(events.len(), 7100, "{protocol}");
        assert!(events.iter().all(|event| event["http.response.status_code"] == 200), "{protocol}");
    }
}

#[test]
fn h2load_uploads_without_an_error() {
    let nginx = Nginx::start();
    let (proxy, url) = inbound(nginx.http1, "http1");
    let content = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(content.path(), vec![b'u'; 64 << 10]).unwrap();
    let path = content.path().display().to_string();
    h2load(&format!("{url}post"), 500, &["-c", "8", "-m", "4", "-d", &path]);
    h2load(&format!("{url}post"), 500, &["-c", "8", "--h1", "-d", &path]);
    assert_eq!(proxy.stop().len(), 1000);
}

#[test]
fn wrk_sees_no_error() {
    let nginx = Nginx::start();
    let (proxy, url) = inbound(nginx.http1, "http1");
    for path in ["", "large"] {
        let said = tool::output("wrk", &["-t", "2", "-c", "32", "-d", "2", &format!("{url}{path}")]);
        assert!(said.contains("requests in"), "{said}");
        assert!(!said.contains("Socket errors") && !said.contains("Non-2xx"), "{said}");
    }
    let events = proxy.events().exchanges();
    assert!(events.len() > 1000, "{} events", events.len());
    assert!(events.iter().all(|event| event["http.response.status_code"] == 200));
}

#[test]
fn the_strict_backend_sees_no_fault_under_load() {
    let backend = StrictBackend::start();
    let (proxy, url) = inbound(backend.address(), "http1");
    h2load(&url, 2000, &["-c", "8", "-m", "8"]);
    h2load(&url, 1000, &["-c", "8", "--h1"]);
    let seen = backend.take();
    assert!(seen.violations.is_empty() && seen.cut.is_empty(), "{:?}", seen.violations);
    assert_eq!(seen.whole.len(), 3000);
    assert_eq!(proxy.stop().len(), 3000);
}
