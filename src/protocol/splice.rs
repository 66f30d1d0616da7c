//! Moving bytes between two streams: opaque TCP, and tunnels after an upgrade.
//!
//! Each direction ends on its own: the end of one side's stream is passed on as the end of the other's (half-close),
//! and the other direction goes on. Buffers are held only while they have something in them.

use crate::error::{Error, Kind};
use crate::exchange::{Recorder, Side};
use crate::svc::{Input, Output, Timer};
use bytes::Bytes;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

const READ_BYTES_MAX: usize = 64 * 1024;

/// How long a tunnel may be silent once one of its sides has ended: protocols that are upgraded to, WebSocket above all,
/// say goodbye in their own frames, and a client that forgets to close must not hold both sockets.
pub const TUNNEL_LINGER: Duration = Duration::from_secs(1);

/// How long a splice may be silent.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silence {
    /// While both sides may still say something; `None` for ever.
    pub both: Option<Duration>,
    /// Once one side has ended; `None` as long as `both`.
    pub half_closed: Option<Duration>,
}

/// What a splice moved, and why it ended.
#[derive(Debug, Default)]
pub struct Moved {
    /// From the client to the upstream.
    pub received_bytes: u64,
    /// From the upstream to the client.
    pub sent_bytes: u64,
    /// Why it ended before both sides were done.
    pub error: Option<Error>,
}

impl Moved {
    /// Writes the counts, and the failure if there is one, into the record.
    pub fn record(&self, recorder: &Recorder) {
        if let Some(error) = &self.error {
            recorder.fail(error);
        }
        let mut record = recorder.edit();
        record.request_bytes += self.received_bytes;
        record.response_bytes += self.sent_bytes;
    }
}

/// Which side of a direction failed.
enum Failed {
    From(io::Error),
    To(io::Error),
}

fn client_gone(error: &io::Error) -> Error {
    Error::new(Kind::ClientGone, error.to_string())
}

fn upstream_closed(error: &io::Error) -> Error {
    Error::new(Kind::UpstreamClosed, error.to_string())
}

/// One direction.
struct Half {
    input: Input,
    output: Output,
    is_read: bool,
    is_done: bool,
    bytes: u64,
    /// Who hears of the bytes, and which way they go.
    tapped: Option<(Recorder, Side)>,
}

impl Half {
    fn new(ahead: Bytes, tapped: Option<(Recorder, Side)>) -> Half {
        let (input, output) = (Input::new(ahead), Output::default());
        Half { input, output, is_read: false, is_done: false, bytes: 0, tapped }
    }

    /// Moves what can be moved; `Ok(true)` when something was.
    fn poll<R, W>(&mut self, from: &mut R, to: &mut W, cx: &mut Context<'_>) -> Result<bool, Failed>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        let mut has_moved = false;
        while !self.is_done {
            if !self.input.bytes.is_empty() && self.output.has_room() {
                let data = self.input.bytes.split().freeze();
                self.bytes += data.len() as u64;
                if let Some((recorder, side)) = &self.tapped {
                    recorder.tap_data(*side, &data);
                }
                self.output.push(data);
            }
            match self.output.poll_flush(to, cx) {
                Poll::Ready(result) => result.map_err(Failed::To)?,
                Poll::Pending => return Ok(has_moved),
            }
            if self.is_read {
                match Pin::new(&mut *to).poll_shutdown(cx) {
                    Poll::Ready(_) => self.is_done = true,
                    Poll::Pending => return Ok(has_moved),
                }
                continue;
            }
            match self.input.poll_fill(from, cx, READ_BYTES_MAX) {
                Poll::Ready(Ok(0)) => self.is_read = true,
                Poll::Ready(Ok(_)) => has_moved = true,
                Poll::Ready(Err(error)) => return Err(Failed::From(error)),
                Poll::Pending => {
                    return Ok(has_moved);
                }
            }
        }
        Ok(has_moved)
    }
}

/// Moves bytes between `client` and `upstream` until both directions ended, one failed, or nothing moved for too long.
/// The aheads, the client's and the upstream's, are sent first. `tapped` is told of what passes.
pub async fn run<C, U>(
    client: &mut C,
    upstream: &mut U,
    (client_ahead, upstream_ahead): (Bytes, Bytes),
    silence: Silence,
    tapped: Option<&Recorder>,
) -> Moved
where
    C: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
{
    let tapped = |side| tapped.map(|recorder| (recorder.clone(), side));
    let mut up = Half::new(client_ahead, tapped(Side::Request));
    let mut down = Half::new(upstream_ahead, tapped(Side::Response));
    let mut timer = Timer::new();
    let mut deadline = None;
    let mut was_half_closed = false;
    let error = poll_fn(|cx| {
        let moved_up = match up.poll(client, upstream, cx) {
            Ok(moved) => moved,
            Err(Failed::From(error)) => return Poll::Ready(Some(client_gone(&error))),
            Err(Failed::To(error)) => return Poll::Ready(Some(upstream_closed(&error))),
        };
        let moved_down = match down.poll(upstream, client, cx) {
            Ok(moved) => moved,
            Err(Failed::From(error)) => return Poll::Ready(Some(upstream_closed(&error))),
            Err(Failed::To(error)) => return Poll::Ready(Some(client_gone(&error))),
        };
        if up.is_done && down.is_done {
            return Poll::Ready(None);
        }
        let is_half_closed = up.is_done || down.is_done;
        if moved_up || moved_down || is_half_closed != was_half_closed {
            deadline = None;
            was_half_closed = is_half_closed;
        }
        let timeout = if is_half_closed { silence.half_closed.or(silence.both) } else { silence.both };
        let Some(timeout) = timeout else { return Poll::Pending };
        let until = *deadline.get_or_insert_with(|| Instant::now() + timeout);
        match timer.poll(cx, until) {
            // Whoever had ended had said all; the other only forgot to close.
            Poll::Ready(()) if is_half_closed && silence.half_closed.is_some() => Poll::Ready(None),
            Poll::Ready(()) => {
                Poll::Ready(Some(Error::new(Kind::ResponseBodyTimeout, "nothing moved for too long")))
            }
            Poll::Pending => Poll::Pending,
        }
    })
    .await;
    Moved { received_bytes: up.bytes, sent_bytes: down.bytes, error }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test]
    async fn both_directions_end_on_their_own() {
        let (mut client, mut near) = tokio::io::duplex(16);
        let (mut far, mut server) = tokio::io::duplex(16);
        let splice =
            run(&mut near, &mut far, (Bytes::from_static(b"ahead "), Bytes::new()), Silence::default(), None);
        let client_side = async {
            client.write_all(b"request, longer than the pipe").await.unwrap();
            client.shutdown().await.unwrap();
            let mut answer = String::new();
            client.read_to_string(&mut answer).await.unwrap();
            answer
        };
        let server_side = async {
            let mut request = String::new();
            server.read_to_string(&mut request).await.unwrap();
            server.write_all(b"an answer after the end of the request").await.unwrap();
            drop(server);
            request
        };
        let (moved, answer, request) = tokio::join!(splice, client_side, server_side);
        assert_eq!(request, "ahead request, longer than the pipe");
        assert_eq!(answer, "an answer after the end of the request");
        assert!(moved.error.is_none(), "{:?}", moved.error);
        assert_eq!((moved.received_bytes, moved.sent_bytes), (35, 38));
    }

    #[tokio::test(start_paused = true)]
    async fn silence_ends_it() {
        let (_client, mut near) = tokio::io::duplex(16);
        let (mut far, _server) = tokio::io::duplex(16);
        let silence = Silence { both: Some(Duration::from_secs(60)), half_closed: None };
        let moved = run(&mut near, &mut far, Default::default(), silence, None).await;
        assert_eq!(moved.error.map(|error| error.kind()), Some(Kind::ResponseBodyTimeout));
    }

    #[tokio::test(start_paused = true)]
    async fn a_tunnel_whose_one_side_ended_does_not_wait_for_ever() {
        let (_client, mut near) = tokio::io::duplex(16);
        let (mut far, server) = tokio::io::duplex(16);
        drop(server);
        let started = Instant::now();
        let silence = Silence { both: Some(Duration::from_secs(60)), half_closed: Some(TUNNEL_LINGER) };
        let moved = run(&mut near, &mut far, Default::default(), silence, None).await;
        assert!(moved.error.is_none(), "{:?}", moved.error);
        assert_eq!(started.elapsed(), TUNNEL_LINGER);
    }
}
