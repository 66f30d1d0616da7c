//! The TCP check: a connection, and perhaps a text that is sent and another that must come back.

use super::{CONTENT_BYTES_MAX, Limit, Stream, Verdict, close, io_text};
use crate::cluster::config::TcpCheck;
use bytes::BytesMut;
use memchr::memmem;
use std::io;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// What is sent, and what must come back.
pub(super) struct Tcp {
    send: String,
    receive: String,
}

impl Tcp {
    pub(super) fn new(config: &TcpCheck) -> Tcp {
        Tcp { send: config.send.clone(), receive: config.receive.clone() }
    }

    /// Asks on a connection that was made; that alone may be enough.
    pub(super) async fn ask(&self, mut stream: Box<dyn Stream>, limit: Limit) -> Verdict {
        limit.wait("answer", self.talk(&mut stream)).await??;
        close(stream).await;
        Ok(())
    }

    async fn talk(&self, stream: &mut Box<dyn Stream>) -> Verdict {
        let text = |error: io::Error| io_text(&error);
        if !self.send.is_empty() {
            stream.write_all(self.send.as_bytes()).await.map_err(text)?;
            stream.flush().await.map_err(text)?;
        }
        let mut received = BytesMut::new();
        // The empty text is found in nothing.
        while memmem::find(&received, self.receive.as_bytes()).is_none() {
            if received.len() >= CONTENT_BYTES_MAX {
                return Err(format!("the first 64 KiB do not contain `{}`", self.receive.escape_debug()));
            }
            received.reserve(4 << 10);
            if stream.read_buf(&mut received).await.map_err(text)? == 0 {
                let (len, wanted) = (received.len(), self.receive.escape_debug());
                return Err(format!("connection closed after {len} bytes without `{wanted}`"));
            }
        }
        Ok(())
    }
}
