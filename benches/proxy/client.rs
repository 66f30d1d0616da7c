//! A bare HTTP/1.1 client over blocking sockets, for the rows that count connections and instructions rather than time.

use crate::{Result, work::HEADERS};
use std::{
    fmt::Write as _,
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    time::Duration,
};

/// One keep-alive connection.
pub struct Connection {
    stream: TcpStream,
}

/// The request that every connection sends: a GET of 1 KiB with seven headers.
pub fn request(path: &str) -> String {
    let mut text = format!("GET {path} HTTP/1.1\r\nHost: bench.example\r\n");
    for (name, value) in HEADERS {
        let _ = write!(text, "{name}: {value}\r\n"); // a String takes everything
    }
    text.push_str("\r\n");
    text
}

impl Connection {
    /// Connects to `port`, with `patience` for each later answer.
    pub fn open(port: u16, patience: Duration) -> Result<Self> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let stream =
            TcpStream::connect_timeout(&address, patience).map_err(|error| format!("connect: {error}"))?;
        stream.set_read_timeout(Some(patience)).map_err(|error| error.to_string())?;
        stream.set_nodelay(true).map_err(|error| error.to_string())?;
        Ok(Self { stream })
    }

    /// Sends one request.
    pub fn send(&mut self, request: &str) -> Result<()> {
        self.stream.write_all(request.as_bytes()).map_err(|error| format!("send: {error}"))
    }

    /// Reads one whole answer.
    ///
    /// Errors: not a 200, no Content-Length (the upstream always sends one), or the connection ends or stalls.
    pub fn receive(&mut self) -> Result<()> {
        let mut received = Vec::with_capacity(2048);
        let mut chunk = [0; 4096];
        let mut whole = None;
        while whole.is_none_or(|whole| received.len() < whole) {
            match self.stream.read(&mut chunk) {
                Ok(0) => {
                    return Err(format!("the proxy closed the connection after {} bytes", received.len()));
                }
                Ok(count) => received.extend_from_slice(&chunk[..count]),
                Err(error) => return Err(format!("receive: {error}")),
            }
            if whole.is_none() {
                whole = answer_bytes(&received)?;
            }
        }
        Ok(())
    }
}

/// Length of head and body, once the head is complete.
fn answer_bytes(received: &[u8]) -> Result<Option<usize>> {
    let Some(end) = received.windows(4).position(|bytes| bytes == b"\r\n\r\n") else { return Ok(None) };
    let head = String::from_utf8_lossy(&received[..end]).to_ascii_lowercase();
    let mut lines = head.lines();
    let status = lines.next().unwrap_or_default();
    if status.split(' ').nth(1) != Some("200") {
        return Err(format!("the proxy answered {status:?}"));
    }
    let length = lines.find_map(|line| line.strip_prefix("content-length:")?.trim().parse::<usize>().ok());
    length.map(|length| Some(end + 4 + length)).ok_or_else(|| format!("no content-length in {head:?}"))
}
