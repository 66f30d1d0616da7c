//! An HTTP/1 server on a thread for each connection, which remembers what it got.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// A request as it came.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    /// Which connection, from 0.
    pub connection: usize,
    pub at: Instant,
    /// When the answer was written.
    pub answered: Option<Instant>,
    pub head: String,
    pub body: Vec<u8>,
}

impl Seen {
    pub(super) fn target(&self) -> &str {
        self.head.split(' ').nth(1).unwrap()
    }

    pub(super) fn field(&self, name: &str) -> Option<&str> {
        self.head
            .lines()
            .filter_map(|line| line.split_once(": "))
            .find(|(found, _)| found.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }
}

#[derive(Clone)]
pub(super) struct Server {
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    pub closed: Arc<Mutex<Vec<usize>>>,
}

pub(super) const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

impl Server {
    /// Answers with what `answer` makes of a request; nothing: the connection is closed.
    pub(super) fn start(answer: impl Fn(&Seen) -> Vec<u8> + Send + Sync + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = Server { address, seen: Arc::default(), closed: Arc::default() };
        let (shared, answer) = (server.clone(), Arc::new(answer));
        std::thread::spawn(move || {
            let used = Arc::new(AtomicUsize::new(0));
            for stream in listener.incoming() {
                let (shared, answer, used) = (shared.clone(), Arc::clone(&answer), Arc::clone(&used));
                std::thread::spawn(move || {
                    let stream = stream.unwrap();
                    // One that says nothing only asked whether anything listens.
                    if stream.peek(&mut [0; 1]).is_ok_and(|len| len > 0) {
                        let connection = used.fetch_add(1, Ordering::SeqCst);
                        let _ = shared.serve(connection, stream, &*answer);
                        shared.closed.lock().unwrap().push(connection);
                    }
                });
            }
        });
        server
    }

    pub(super) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// Waits, up to 5 s, until it is so.
    pub(super) fn until(&self, is_so: impl Fn(&Server) -> bool) -> bool {
        let deadline = Instant::now() + Duration::from_secs(5);
        while Instant::now() < deadline {
            if is_so(self) {
                return true;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        false
    }

    fn serve(
        &self,
        connection: usize,
        mut stream: TcpStream,
        answer: &(dyn Fn(&Seen) -> Vec<u8> + Send + Sync),
    ) -> std::io::Result<()> {
        let mut buffer = Vec::new();
        loop {
            let end = loop {
                if let Some(at) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                    break at + 4;
                }
                if !fill(&mut stream, &mut buffer)? {
                    return Ok(());
                }
            };
            let at = Instant::now();
            let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
            buffer.drain(..end);
            let mut seen = Seen { connection, at, answered: None, head, body: Vec::new() };
            if let Some(length) = seen.field("content-length") {
                let length: usize = length.parse().unwrap();
                while buffer.len() < length {
                    if !fill(&mut stream, &mut buffer)? {
                        seen.body = std::mem::take(&mut buffer);
                        self.seen.lock().unwrap().push(seen);
                        return Ok(());
                    }
                }
                seen.body = buffer.drain(..length).collect();
            } else if seen.field("transfer-encoding").is_some() {
                // As it is on the wire, chunks and trailers.
                while !(buffer.ends_with(b"\r\n\r\n") && buffer.windows(3).any(|window| window == b"0\r\n")) {
                    if !fill(&mut stream, &mut buffer)? {
                        break;
                    }
                }
                seen.body = std::mem::take(&mut buffer);
            }
            let index = {
                let mut all = self.seen.lock().unwrap();
                all.push(seen.clone());
                all.len() - 1
            };
            let bytes = answer(&seen);
            if bytes.is_empty() {
                return Ok(());
            }
            // Before it is written: who has the answer may be faster than this thread.
            self.seen.lock().unwrap()[index].answered = Some(Instant::now());
            stream.write_all(&bytes)?;
        }
    }
}

fn fill(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> std::io::Result<bool> {
    let mut piece = [0; 65_536];
    let len = stream.read(&mut piece)?;
    buffer.extend_from_slice(&piece[..len]);
    Ok(len > 0)
}
