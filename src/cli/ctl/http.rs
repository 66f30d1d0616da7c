//! One request to the admin API, on a connection of its own.
//!
//! Why by hand: a blocking request of a few bytes to a server of ours needs no client library. How it fails: one line that
//! says what to do; nothing is waited for longer than the timeout.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// The longest answer: the metrics of a thousand series are some MiB.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// Asks one server.
pub(super) struct Client {
    address: SocketAddr,
    timeout: Duration,
    token: Option<String>,
}

/// What it said.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) content: Vec<u8>,
}

impl Client {
    pub(super) fn new(address: SocketAddr, timeout: Duration) -> Client {
        Client { address, timeout, token: None }
    }

    pub(super) fn with_token(self, token: &str) -> Client {
        Client { token: Some(token.to_owned()), ..self }
    }

    pub(super) fn get(&self, path: &str, accept: &str) -> Result<Answer, String> {
        self.ask(&format!("GET {path} HTTP/1.1\r\nhost: {}\r\naccept: {accept}\r\n", self.address), "")
    }

    pub(super) fn post(&self, path: &str, content: &str) -> Result<Answer, String> {
        let token = self.token.as_deref();
        let token = token.map(|token| format!("authorization: Bearer {token}\r\n")).unwrap_or_default();
        let length = content.len();
        let address = self.address;
        self.ask(
            &format!("POST {path} HTTP/1.1\r\nhost: {address}\r\ncontent-length: {length}\r\n{token}"),
            content,
        )
    }

    fn ask(&self, head: &str, content: &str) -> Result<Answer, String> {
        if head.split("\r\n").any(|line| line.bytes().any(|byte| byte.is_ascii_control())) {
            return Err("the token has a character that no header can have".into());
        }
        let said = self.exchange(&format!("{head}connection: close\r\n\r\n{content}"));
        let said = said.map_err(|error| match error.kind() {
            io::ErrorKind::ConnectionRefused => {
                format!("{error}: nobody listens there; is sidelight running?")
            }
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                format!("no answer within {:?}", self.timeout)
            }
            _ => error.to_string(),
        })?;
        parse(&said).ok_or_else(|| "the answer is not sidelight's".into())
    }

    fn exchange(&self, request: &str) -> io::Result<Vec<u8>> {
        let deadline = Instant::now() + self.timeout;
        let left = || {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() { Err(io::Error::from(io::ErrorKind::TimedOut)) } else { Ok(left) }
        };
        let mut stream = TcpStream::connect_timeout(&self.address, left()?)?;
        stream.set_write_timeout(Some(left()?))?;
        stream.write_all(request.as_bytes())?;
        let mut said = Vec::new();
        let mut piece = vec![0; 64 << 10];
        loop {
            stream.set_read_timeout(Some(left()?))?;
            match stream.read(&mut piece) {
                Ok(0) => return Ok(said),
                Ok(count) => said.extend_from_slice(piece.get(..count).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
            if said.len() > ANSWER_BYTES_MAX {
                return Err(io::Error::other("the answer has no end"));
            }
        }
    }
}

/// Status and content of a whole answer; `None` when it is cut, or none. The admin API says each answer's length.
fn parse(said: &[u8]) -> Option<Answer> {
    let mut fields = [httparse::EMPTY_HEADER; 64];
    let mut head = httparse::Response::new(&mut fields);
    let httparse::Status::Complete(start) = head.parse(said).ok()? else { return None };
    let status = head.code?;
    let length = head.headers.iter().find(|field| field.name.eq_ignore_ascii_case("content-length"));
    let length = length.and_then(|field| str::from_utf8(field.value).ok()?.trim().parse::<usize>().ok())?;
    let content = said.get(start..start.checked_add(length)?)?.to_vec();
    Some(Answer { status, content })
}

impl Answer {
    /// What was said instead of 200.
    pub(super) fn refusal(&self) -> String {
        let document: Option<serde_json::Value> = serde_json::from_slice(&self.content).ok();
        let said = document.as_ref().and_then(|document| document["error"].as_str());
        let hint = if self.status == 401 { "; give it with --token-file FILE" } else { "" };
        format!("{} {}{hint}", self.status, said.unwrap_or("(not an answer of sidelight's admin API)"))
    }
}
