//! HTTP/1.1 as the demo's own services and clients speak it: blocking, with `content-length` only.
//!
//! Why not the proxy's codec: what the demo shows should not be read by the code that it shows. How it fails: anything
//! but a whole message is an [`io::Error`].

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Longest head that is read.
const HEAD_BYTES_MAX: u64 = 64 << 10;

/// Longest content that is read.
const CONTENT_BYTES_MAX: u64 = 1 << 20;

/// How long a call may be silent.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);

/// A request or a response.
#[derive(Clone, Debug, Default)]
pub(super) struct Message {
    /// `GET / HTTP/1.1`, or `HTTP/1.1 200 OK`.
    pub(super) start: String,
    /// Names in lower case, and values.
    pub(super) fields: Vec<(String, String)>,
    /// The content.
    pub(super) content: Vec<u8>,
}

impl Message {
    /// A request.
    pub(super) fn request(method: &str, path: &str, host: &str) -> Message {
        Message { start: format!("{method} {path} HTTP/1.1"), ..Message::default() }.with("host", host)
    }

    /// A response with JSON content.
    pub(super) fn response(status: u16, content: &serde_json::Value) -> Message {
        let reason = if status == 200 { "OK" } else { "Error" };
        let message = Message {
            start: format!("HTTP/1.1 {status} {reason}"),
            content: format!("{content}\n").into_bytes(),
            ..Message::default()
        };
        message.with("content-type", "application/json")
    }

    /// The same with a field more.
    pub(super) fn with(mut self, name: &str, value: &str) -> Message {
        self.fields.push((name.into(), value.into()));
        self
    }

    /// The value of the first field of that name (in lower case).
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The word at `index` of the first line: method and target, or the status.
    pub(super) fn word(&self, index: usize) -> &str {
        self.start.split(' ').nth(index).unwrap_or_default()
    }

    /// The status of a response; 0 for anything else.
    pub(super) fn status(&self) -> u16 {
        self.word(1).parse().unwrap_or(0)
    }

    /// The content as JSON; null when it is none.
    pub(super) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.content).unwrap_or_default()
    }

    /// Reads a message; `None` when the peer closed before it began.
    pub(super) fn read(from: &mut impl BufRead) -> io::Result<Option<Message>> {
        let mut message = Message::default();
        let mut head = from.take(HEAD_BYTES_MAX);
        let mut line = String::new();
        if head.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        message.start = line.trim_end().to_owned();
        loop {
            line.clear();
            if head.read_line(&mut line)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let Some((name, value)) = line.trim_end().split_once(':') else { break };
            message.fields.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        let length = message.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
        if length > CONTENT_BYTES_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
        from.take(length).read_to_end(&mut message.content)?;
        if (message.content.len() as u64) < length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(Some(message))
    }

    /// Writes the message with its length, in one piece.
    pub(super) fn write(&self, to: &mut impl Write) -> io::Result<()> {
        let mut bytes = format!("{}\r\n", self.start).into_bytes();
        for (name, value) in self.fields.iter().filter(|(name, _)| name != "content-length") {
            bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        bytes.extend_from_slice(format!("content-length: {}\r\n\r\n", self.content.len()).as_bytes());
        bytes.extend_from_slice(&self.content);
        to.write_all(&bytes)
    }
}

/// A client that keeps its connections, as HTTP libraries do.
#[derive(Debug)]
pub(super) struct Client {
    address: SocketAddr,
    idle: Mutex<Vec<BufReader<TcpStream>>>,
}

impl Client {
    /// A client of the server at `address`.
    pub(super) fn new(address: SocketAddr) -> Client {
        Client { address, idle: Mutex::default() }
    }

    /// Sends a request and waits for the response.
    pub(super) fn call(&self, request: &Message) -> io::Result<Message> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut connection = match idle {
            Some(connection) => connection,
            None => BufReader::new(connect(self.address)?),
        };
        request.write(connection.get_mut())?;
        let response = Message::read(&mut connection)?.ok_or(io::ErrorKind::UnexpectedEof)?;
        if response.get("connection") != Some("close") {
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
        }
        Ok(response)
    }

    /// Closes the idle connections.
    pub(super) fn close(&self) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, CALL_TIMEOUT)?;
    stream.set_read_timeout(Some(CALL_TIMEOUT))?;
    stream.set_write_timeout(Some(CALL_TIMEOUT))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// One request on a connection of its own, byte for byte as given.
pub(super) fn send_raw(address: SocketAddr, bytes: &[u8]) -> io::Result<Message> {
    let mut stream = connect(address)?;
    stream.write_all(bytes)?;
    Message::read(&mut BufReader::new(stream))?.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}

/// `GET` on a connection of its own.
pub(super) fn get(address: SocketAddr, path: &str) -> io::Result<Message> {
    let mut stream = connect(address)?;
    Message::request("GET", path, &address.to_string()).with("connection", "close").write(&mut stream)?;
    Message::read(&mut BufReader::new(stream))?.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}
