//! A socket with a read buffer that gives strict lines: CRLF and nothing else ends one.

use std::fmt;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use crate::PATIENCE;

/// Longest line a strict peer reads; far above what the proxy may pass on.
const LINE_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Why a message could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The peer closed before the first byte of a message.
    Closed,
    /// The peer closed or reset within a message; says where.
    Cut(String),
    /// Nothing came in time; says what was awaited.
    Silence(String),
    /// The message breaks a rule; says which.
    Violation(String),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Closed => f.write_str("closed without a byte"),
            Fault::Cut(at) => write!(f, "cut in {at}"),
            Fault::Silence(what) => write!(f, "no {what} in time"),
            Fault::Violation(rule) => write!(f, "violation: {rule}"),
        }
    }
}

/// A buffered connection.
#[derive(Debug)]
pub struct Wire {
    stream: TcpStream,
    unread: Vec<u8>,
    start: usize,
    ended: bool,
    record: Option<Vec<u8>>,
}

impl Wire {
    /// Wraps a connected stream; reads wait for at most [`PATIENCE`].
    ///
    /// # Panics
    /// When the socket refuses its options.
    pub fn new(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).expect("read timeout");
        stream.set_write_timeout(Some(PATIENCE)).expect("write timeout");
        stream.set_nodelay(true).expect("nodelay");
        Wire { stream, unread: Vec::new(), start: 0, ended: false, record: None }
    }

    /// Connects to `address`.
    ///
    /// # Panics
    /// When nobody listens there.
    pub fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect_timeout(&address, PATIENCE)
            .unwrap_or_else(|error| panic!("connect to {address}: {error}"));
        Wire::new(stream)
    }

    /// Waits for at most `wait` at the next reads.
    ///
    /// # Panics
    /// When the socket refuses the option.
    pub fn set_patience(&mut self, wait: Duration) {
        self.stream.set_read_timeout(Some(wait)).expect("read timeout");
    }

    /// Sends all of `bytes`; an error means that the peer has gone.
    pub fn send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Ends the sending direction; what the peer still sends can be read.
    pub fn half_close(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Ends both directions.
    pub fn close(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    /// Ends the connection with a reset, as a process that was killed with unread input does.
    ///
    /// # Panics
    /// When the socket refuses the option.
    pub fn reset(self) {
        use std::os::fd::AsRawFd;
        let linger = libc::linger { l_onoff: 1, l_linger: 0 };
        // SAFETY: the descriptor is open (self owns it) and the pointer and length describe one `linger`.
        let done = unsafe {
            libc::setsockopt(
                self.stream.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_LINGER,
                std::ptr::from_ref(&linger).cast(),
                size_of::<libc::linger>() as libc::socklen_t,
            )
        };
        assert_eq!(done, 0, "SO_LINGER");
    }

    /// Starts to keep every byte that is consumed.
    pub fn record(&mut self) {
        self.record = Some(Vec::new());
    }

    /// The bytes consumed since [`Wire::record`].
    pub fn recorded(&mut self) -> Vec<u8> {
        self.record.take().unwrap_or_default()
    }

    /// Bytes that were read from the socket and not consumed.
    pub fn pending(&self) -> &[u8] {
        &self.unread[self.start..]
    }

    fn consume(&mut self, count: usize) -> Vec<u8> {
        let taken = self.unread[self.start..self.start + count].to_vec();
        self.start += count;
        if self.start == self.unread.len() {
            self.unread.clear();
            self.start = 0;
        }
        if let Some(record) = &mut self.record {
            record.extend_from_slice(&taken);
        }
        taken
    }

    /// Reads more; `false` at the end of the stream.
    fn fill(&mut self, what: &str) -> Result<bool, Fault> {
        if self.ended {
            return Ok(false);
        }
        let mut space = [0u8; 16 * 1024];
        loop {
            match self.stream.read(&mut space) {
                Ok(0) => {
                    self.ended = true;
                    return Ok(false);
                }
                Ok(count) => {
                    self.unread.extend_from_slice(&space[..count]);
                    return Ok(true);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    return Err(Fault::Silence(what.to_owned()));
                }
                Err(_) => {
                    self.ended = true;
                    return Ok(false);
                }
            }
        }
    }

    /// One line without its CRLF. A CR or LF that stands alone is a violation.
    pub fn line(&mut self, what: &str) -> Result<Vec<u8>, Fault> {
        let mut searched = 0;
        loop {
            let pending = self.pending();
            if let Some(found) = pending[searched..].iter().position(|&byte| byte == b'\n') {
                let length = searched + found + 1;
                let mut line = self.consume(length);
                line.pop();
                if line.pop() != Some(b'\r') {
                    return Err(Fault::Violation(format!("bare LF in {what}")));
                }
                if line.contains(&b'\r') {
                    return Err(Fault::Violation(format!("bare CR in {what}")));
                }
                return Ok(line);
            }
            searched = pending.len();
            if searched > LINE_BYTES_MAX {
                return Err(Fault::Violation(format!("endless line in {what}")));
            }
            if !self.fill(what)? {
                let nothing = self.pending().is_empty();
                return Err(if nothing { Fault::Closed } else { Fault::Cut(what.to_owned()) });
            }
        }
    }

    /// Exactly `count` bytes, appended to `into`; on a cut, what came is there.
    pub fn exact(&mut self, count: u64, what: &str, into: &mut Vec<u8>) -> Result<(), Fault> {
        let mut left = count;
        while left > 0 {
            if self.pending().is_empty() && !self.fill(what)? {
                return Err(Fault::Cut(what.to_owned()));
            }
            let take = usize::try_from(left).unwrap_or(usize::MAX).min(self.pending().len());
            let part = self.consume(take);
            into.extend_from_slice(&part);
            left -= take as u64;
        }
        Ok(())
    }

    /// Everything up to the end of the stream, appended to `into`.
    pub fn to_end(&mut self, what: &str, into: &mut Vec<u8>) -> Result<(), Fault> {
        loop {
            let part = self.consume(self.pending().len());
            into.extend_from_slice(&part);
            if !self.fill(what)? {
                return Ok(());
            }
        }
    }

    /// Whether the peer has ended its direction: waits for the end, or for a byte, which is a "no".
    pub fn is_closed(&mut self) -> bool {
        self.pending().is_empty() && matches!(self.fill("end of the connection"), Ok(false))
    }

    /// What comes within `time`, left unread; `None` when nothing does.
    pub fn within(&mut self, time: Duration) -> Option<String> {
        let before = self.stream.read_timeout().ok().flatten();
        self.set_patience(time);
        let _ = self.fill("a byte");
        self.set_patience(before.unwrap_or(PATIENCE));
        let pending = self.pending();
        (!pending.is_empty()).then(|| pending.escape_ascii().to_string())
    }

    /// A second handle of the socket, to end it from elsewhere.
    ///
    /// # Panics
    /// When the system is out of descriptors.
    pub fn handle(&self) -> TcpStream {
        self.stream.try_clone().expect("clone of a socket")
    }
}

/// A listener on a free port of loopback whose accept queue is as deep as the system allows.
///
/// The standard library asks for 128: a burst beyond that loses SYNs on a busy machine, and a test of hundreds of streams
/// would see connect timeouts that have nothing to do with the proxy.
///
/// # Panics
/// When loopback has no port left.
pub fn listen_on_loopback() -> TcpListener {
    use std::os::fd::AsRawFd;
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind on loopback");
    // SAFETY: the descriptor is open; `listen` on a listening socket changes its backlog and takes no pointer.
    assert_eq!(unsafe { libc::listen(listener.as_raw_fd(), 4096) }, 0, "a deeper backlog");
    listener
}
