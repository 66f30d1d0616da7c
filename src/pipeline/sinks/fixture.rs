//! What tests of sinks need: batches out of a real spool, and a server of HTTP/1.1 on a thread.

use super::sink::{Failure, Sent, Sink};
use crate::pipeline::spool::{Batch, Class, Config, Cursor, Spool, Start, Writer};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// A spool in memory with one cursor, driven as a sink's thread does it.
pub(super) struct Feed {
    writer: Writer,
    cursor: Cursor,
    _spool: Spool,
    /// What was rejected.
    pub(super) rejected: Vec<(u64, String)>,
    /// What was passed over.
    pub(super) passed_over: u64,
}

impl Feed {
    pub(super) fn new() -> Feed {
        let (spool, writer) =
            Spool::open(&Config { memory_bytes_max: 64 << 20, ..Config::default() }, "test", 1).unwrap();
        let cursor = spool.cursor("test", Start::Beginning).unwrap();
        Feed { writer, cursor, _spool: spool, rejected: Vec::new(), passed_over: 0 }
    }

    /// Appends an event; gives its number.
    pub(super) fn push(&mut self, event: &str) -> u64 {
        let sequence = self.writer.append(Class::Event, event.as_bytes());
        self.writer.tick(Instant::now());
        sequence
    }

    /// The next events, at most so many.
    pub(super) fn batch(&mut self, events_max: usize) -> Batch {
        let mut batch = Batch::new(1 << 20, events_max);
        self.cursor.read(&mut batch);
        batch
    }

    /// Sends all there is in batches of so many; stops at the first failure, after which everything not settled comes again.
    pub(super) fn drive(&mut self, sink: &mut impl Sink, events_max: usize) -> Result<(), Failure> {
        loop {
            let batch = self.batch(events_max);
            if batch.is_empty() {
                return Ok(());
            }
            let sent = sink.send(&batch, soon());
            self.settle(sent)?;
        }
    }

    /// Takes over what a sink says.
    pub(super) fn settle(&mut self, sent: Result<Sent, Failure>) -> Result<(), Failure> {
        match sent {
            Ok(sent) => {
                if let Some(through) = sent.through {
                    self.cursor.commit(through, Instant::now());
                }
                self.rejected.extend(sent.rejected);
                self.passed_over += sent.passed_over;
                Ok(())
            }
            Err(failure) => {
                self.cursor.rewind();
                Err(failure)
            }
        }
    }

    /// A new process: what was not settled comes again.
    pub(super) fn restart(&mut self) {
        self.cursor.rewind();
    }

    /// How many events are settled.
    pub(super) fn settled(&self) -> u64 {
        self.cursor.books().delivered
    }
}

/// A deadline that is not met by accident.
pub(super) fn soon() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

/// What a server was asked.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    /// `PUT`.
    pub(super) method: String,
    /// Path and query.
    pub(super) target: String,
    /// Names in lower case.
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

impl Asked {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// What it answers: status and content.
pub(super) type Reply = (u16, String);

/// A server that answers by a function of the request and its number, and keeps what it was asked.
pub(super) struct Server {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Server {
    pub(super) fn start(answer: impl Fn(usize, &Asked) -> Reply + Send + Sync + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (kept, answer) = (Arc::clone(&asked), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (kept, answer) = (Arc::clone(&kept), Arc::clone(&answer));
                std::thread::spawn(move || serve(stream, &kept, &*answer));
            }
        });
        Server { address, asked }
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What it was asked so far.
    pub(super) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

fn serve(stream: TcpStream, kept: &Mutex<Vec<Asked>>, answer: &impl Fn(usize, &Asked) -> Reply) {
    let mut reader = BufReader::new(stream);
    while let Some(asked) = read(&mut reader) {
        let mut all = kept.lock().unwrap();
        let (status, body) = answer(all.len(), &asked);
        all.push(asked);
        drop(all);
        let head = format!("HTTP/1.1 {status} \r\ncontent-length: {}\r\n\r\n", body.len());
        if reader.get_mut().write_all([head.as_bytes(), body.as_bytes()].concat().as_slice()).is_err() {
            return;
        }
    }
}

fn read(reader: &mut BufReader<TcpStream>) -> Option<Asked> {
    let mut line = || {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|count| *count > 0)?;
        Some(line.trim_end().to_owned())
    };
    let first = line()?;
    let mut parts = first.split(' ').map(str::to_owned);
    let (method, target) = (parts.next()?, parts.next()?);
    let mut headers = Vec::new();
    loop {
        let line = line()?;
        let Some((name, value)) = line.split_once(':') else { break };
        headers.push((name.to_lowercase(), value.trim().to_owned()));
    }
    let mut asked = Asked { method, target, headers, body: Vec::new() };
    let length = asked.header("content-length").map_or(0, |length| length.parse().unwrap());
    asked.body = vec![0; length];
    reader.read_exact(&mut asked.body).ok()?;
    Some(asked)
}

/// An event of an exchange as the encoder writes it, with further members.
pub(super) fn exchange(sequence: u64, timestamp: &str, more: &str) -> String {
    let more = if more.is_empty() { String::new() } else { format!(",{more}") };
    format!(
        r#"{{"schema":"sidelight/exchange/1","id":{{"instance":"host-1","epoch":77,"sequence":{sequence}}},"timestamp":"{timestamp}"{more}}}"#
    )
}
