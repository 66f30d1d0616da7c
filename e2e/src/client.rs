//! A client that sends any bytes and reads answers with a strict parser.

use std::net::SocketAddr;
use std::time::Duration;

use crate::message::{Response, read_response_body, read_response_head};
use crate::wire::{Fault, Wire};

/// One connection to the proxy.
#[derive(Debug)]
pub struct RawClient {
    wire: Wire,
}

impl RawClient {
    /// Connects to `address`.
    ///
    /// # Panics
    /// When nobody listens there.
    pub fn connect(address: SocketAddr) -> Self {
        RawClient { wire: Wire::connect(address) }
    }

    /// The connection itself, for what has no method here.
    pub fn wire(&mut self) -> &mut Wire {
        &mut self.wire
    }

    /// Sends bytes. That the peer has closed meanwhile is no error here: its answer tells.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.wire.send(bytes.as_ref());
    }

    /// Sends the bytes one at a time with `pause` between.
    pub fn send_split(&mut self, bytes: &[u8], pause: Duration) {
        for byte in bytes {
            self.send([*byte]);
            std::thread::sleep(pause);
        }
    }

    /// Ends the sending direction.
    pub fn half_close(&mut self) {
        self.wire.half_close();
    }

    /// Leaves with a reset, which unlike a mere end of sending says that nobody waits for the answer.
    pub fn reset(self) {
        self.wire.reset();
    }

    /// Reads the head of the final answer to a `method` request of HTTP/1.`minor`; the 1xx before it are in `interim`.
    pub fn read_head(&mut self, method: &str, minor: u8) -> Result<Response, Fault> {
        let mut interim = Vec::new();
        loop {
            let mut head = read_response_head(&mut self.wire, method, minor)?;
            if head.status >= 200 || head.status == 101 {
                head.interim = interim;
                return Ok(head);
            }
            interim.push(head);
        }
    }

    /// Reads one interim answer.
    pub fn read_interim(&mut self) -> Result<Response, Fault> {
        read_response_head(&mut self.wire, "GET", 1)
    }

    /// Reads the body that follows `head`; what came of a cut one is in `head.body`.
    pub fn read_body(&mut self, head: &mut Response) -> Result<(), Fault> {
        read_response_body(&mut self.wire, head)
    }

    /// Reads a whole answer.
    pub fn read(&mut self, method: &str, minor: u8) -> Result<Response, Fault> {
        let mut response = self.read_head(method, minor)?;
        self.read_body(&mut response)?;
        Ok(response)
    }

    /// Sends `bytes`, reads the whole answer to its method.
    pub fn ask(&mut self, bytes: impl AsRef<[u8]>) -> Result<Response, Fault> {
        let (method, minor) = method_and_minor(bytes.as_ref());
        self.send(bytes.as_ref());
        self.read(&method, minor)
    }

    /// Whether the proxy has ended the connection, with nothing sent before.
    pub fn is_closed(&mut self) -> bool {
        self.wire.is_closed()
    }

    /// `GET path` on a connection of its own.
    pub fn get(address: SocketAddr, path: &str) -> Result<Response, Fault> {
        let request = format!("GET {path} HTTP/1.1\r\nHost: app.example\r\nConnection: close\r\n\r\n");
        RawClient::connect(address).ask(request)
    }
}

/// What a recipient needs to know of a request to read its answer: the method, and 0 for HTTP/1.0.
pub fn method_and_minor(bytes: &[u8]) -> (String, u8) {
    let text = String::from_utf8_lossy(bytes);
    let line = text.trim_start().lines().next().unwrap_or_default().to_owned();
    let method = line.split(' ').next().unwrap_or_default().to_owned();
    (method, u8::from(!line.ends_with("HTTP/1.0")))
}
