//! What came back, and what it means for the events that were sent.

use crate::pipeline::sinks::sink::Failure;
use crate::svc::{Fields, Pushback};
use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::Body;
use hyper::body::Incoming;
use std::pin::Pin;
use std::time::{Duration, SystemTime};

/// Most bytes of an answer's content that are read.
const BODY_BYTES_MAX: usize = 1 << 20;

/// The longest reason, in bytes.
const REASON_BYTES_MAX: usize = 200;

/// The longest wait that is believed: a `Retry-After` of years must not stop a sink for years.
const AFTER_MAX: Duration = Duration::from_secs(3600);

/// An answer, whatever its status.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    /// The HTTP status.
    pub(crate) status: u16,
    /// The head's fields.
    pub(crate) headers: HeaderMap,
    /// The fields after the content: gRPC's status.
    pub(crate) trailers: Option<HeaderMap>,
    /// The content, at most its first MiB.
    pub(crate) body: Bytes,
}

impl Answer {
    /// Reads the content; `false`: there is more than is read.
    pub(super) async fn read(response: http::Response<Incoming>) -> hyper::Result<(Answer, bool)> {
        let (head, mut content) = response.into_parts();
        let (mut body, mut trailers, mut is_whole) = (BytesMut::new(), None, true);
        while let Some(frame) = std::future::poll_fn(|cx| Pin::new(&mut content).poll_frame(cx)).await {
            match frame?.into_data() {
                Ok(data) => {
                    let room = BODY_BYTES_MAX - body.len();
                    body.extend_from_slice(data.get(..room).unwrap_or(&data));
                    if data.len() > room {
                        is_whole = false;
                        break;
                    }
                }
                Err(frame) => trailers = frame.into_trailers().ok(),
            }
        }
        let status = head.status.as_u16();
        Ok((Answer { status, headers: head.headers, trailers, body: body.freeze() }, is_whole))
    }

    /// What a status other than success means: 408, 425, 429 and 5xx may pass, everything else will not. `Retry-After`
    /// (seconds or a date) is believed up to an hour. The reason has the status and the first line of the content.
    pub(crate) fn failure(&self) -> Failure {
        let reason = self.reason();
        match self.status {
            408 | 425 | 429 | 500..=599 => Failure::Retry { reason, after: self.retry_after() },
            _ => Failure::Refused { reason },
        }
    }

    /// The status and the first line of the content, without control characters, at most 200 bytes.
    pub(crate) fn reason(&self) -> String {
        let line =
            self.body.split(|byte| matches!(byte, b'\r' | b'\n')).find(|line| !line.trim_ascii().is_empty());
        let line = line.unwrap_or_default();
        let line = line.get(..REASON_BYTES_MAX).unwrap_or(line);
        let text = String::from_utf8_lossy(line);
        match text.trim() {
            "" => format!("status {}", self.status),
            said => clean(&format!("status {}: {said}", self.status)),
        }
    }

    /// When to come again, where that was said.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        let value = self.headers.get(http::header::RETRY_AFTER)?;
        let mut fields = Fields::new();
        fields.push(b"retry-after", value.as_bytes());
        let time = Pushback::of(&fields, SystemTime::now)?.time()?;
        Some(time.min(AFTER_MAX))
    }
}

/// A text for people: one line, no control characters, not too long.
pub(crate) fn clean(text: &str) -> String {
    let mut cleaned = String::with_capacity(text.len().min(REASON_BYTES_MAX));
    for char in text.chars().map(|char| if char.is_control() { ' ' } else { char }) {
        if cleaned.len() + char.len_utf8() > REASON_BYTES_MAX {
            break;
        }
        cleaned.push(char);
    }
    cleaned
}
