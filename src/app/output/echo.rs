//! The application's lines on the proxy's own output.
//!
//! What: whole lines, many in one write, under the lock that the proxy's own log takes too; so nothing is interleaved. A pipe
//! that nobody reads is waited for no longer than `stall_max`, then lines are passed over and counted until there is room: what
//! is printed is for people, and must hold up neither the application nor the events.
//! How it fails: an output that is closed is given up. Two processes that share a pipe with us may still get between the
//! pieces of a line that is longer than [`PIECE_BYTES`].

use std::io::{self, Write};
use std::os::fd::RawFd;
use std::time::{Duration, Instant};

/// The kernel writes so many bytes into a pipe in one piece, and without waiting if the pipe says that it is ready
/// (`PIPE_BUF`, pipe(7)).
const PIECE_BYTES: usize = 4096;

/// One of the proxy's own two outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    Stdout,
    Stderr,
}

/// Prints the lines of one stream.
pub(super) struct Echo {
    target: Target,
    patience: Duration,
    /// Lines that wait to be written together.
    group: Vec<u8>,
    /// How many those are.
    count: u64,
    /// What is left of a line that was begun.
    rest: Vec<u8>,
    is_stalled: bool,
    is_closed: bool,
    /// Lines that were passed over.
    pub(super) unprinted: u64,
}

impl Echo {
    pub(super) fn new(target: Target, patience: Duration) -> Echo {
        Echo {
            target,
            patience,
            group: Vec::new(),
            count: 0,
            rest: Vec::new(),
            is_stalled: false,
            is_closed: false,
            unprinted: 0,
        }
    }

    /// Prints a line, now or with those that follow.
    pub(super) fn line(&mut self, line: &[u8]) {
        if self.is_closed {
            return;
        }
        if self.group.len() + line.len() + 1 > PIECE_BYTES {
            self.flush();
        }
        self.group.extend_from_slice(line);
        self.group.push(b'\n');
        self.count += 1;
        if self.group.len() > PIECE_BYTES {
            self.flush();
        }
    }

    /// Prints what waits.
    pub(super) fn flush(&mut self) {
        let patience = if self.is_stalled { Duration::ZERO } else { self.patience };
        let deadline = Instant::now() + patience;
        let rest = std::mem::take(&mut self.rest);
        let left = self.write(&rest, deadline);
        if left > 0 {
            self.rest = rest.get(rest.len() - left..).unwrap_or_default().to_vec();
            self.unprinted += self.count;
        } else {
            let group = std::mem::take(&mut self.group);
            let left = self.write(&group, deadline);
            if left == group.len() {
                self.unprinted += if group.is_empty() { 0 } else { self.count };
            } else {
                // Only a line that is longer than a piece is written in part.
                self.rest = group.get(group.len() - left..).unwrap_or_default().to_vec();
            }
            self.group = group;
        }
        self.group.clear();
        self.count = 0;
    }

    /// How many bytes are left.
    fn write(&mut self, bytes: &[u8], deadline: Instant) -> usize {
        let mut left = bytes;
        while !left.is_empty() && !self.is_closed {
            let is_ready = is_writable(self.target, deadline);
            self.is_stalled = !is_ready;
            if !is_ready {
                return left.len();
            }
            let (piece, after) = left.split_at(left.len().min(PIECE_BYTES));
            self.is_closed = self.target.write(piece).is_err();
            left = after;
        }
        0
    }
}

impl Target {
    fn fd(self) -> RawFd {
        match self {
            Target::Stdout => libc::STDOUT_FILENO,
            Target::Stderr => libc::STDERR_FILENO,
        }
    }

    fn write(self, piece: &[u8]) -> io::Result<()> {
        match self {
            Target::Stdout => {
                let mut out = io::stdout().lock();
                out.write_all(piece)?;
                out.flush()
            }
            Target::Stderr => io::stderr().lock().write_all(piece),
        }
    }
}

/// Waits until bytes can be written, or `deadline`. An output that is broken counts as ready: the write says so.
fn is_writable(target: Target, deadline: Instant) -> bool {
    let left = deadline.saturating_duration_since(Instant::now()).as_millis();
    let mut poll = libc::pollfd { fd: target.fd(), events: libc::POLLOUT, revents: 0 };
    // SAFETY: one entry, alive for the call.
    let ready = unsafe { libc::poll(&raw mut poll, 1, i32::try_from(left).unwrap_or(i32::MAX)) };
    ready != 0
}
