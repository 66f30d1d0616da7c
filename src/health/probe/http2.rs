//! One request over HTTP/2, on a connection of its own; the HTTP check over it.
//!
//! The `h2` crate is used as it is, without hyper: the connection is polled beside the request, so that nothing of it
//! outlives the check. Its bounds are set, for its own defaults are wide.

use super::http_check::Http;
use super::{CLOSE_TIME, CONTENT_BYTES_MAX, Limit, Stream, Verdict, io_text};
use bytes::{Bytes, BytesMut};
use h2::client::{Builder, SendRequest};
use http::{HeaderMap, Request, response};
use std::pin::pin;
use tokio::time::timeout;

/// Decoded bytes of a header section.
const HEADER_LIST_BYTES_MAX: u32 = 16 << 10;

/// Flow-control windows. A little more than is looked at, so that what is looked at needs no update.
const WINDOW_BYTES: u32 = (CONTENT_BYTES_MAX as u32) + (1 << 10);

/// An answer.
pub(super) struct Answer {
    /// Its head.
    pub(super) head: response::Parts,
    /// Its content, or as much of it as is looked at.
    pub(super) content: BytesMut,
    /// Its trailers; none if the content was longer.
    pub(super) trailers: Option<HeaderMap>,
}

/// Sends `request` and judges the answer.
pub(super) async fn ask(stream: Box<dyn Stream>, http: &Http, request: Request<()>, limit: Limit) -> Verdict {
    let answer = exchange(stream, request, None, limit).await?;
    http.judge_status(answer.head.status.as_u16())?;
    http.judge_content(&answer.content)
}

/// Sends `request` with `content`, and reads the answer.
///
/// # Errors
/// Why there is none.
pub(super) async fn exchange(
    stream: Box<dyn Stream>,
    request: Request<()>,
    content: Option<Bytes>,
    limit: Limit,
) -> Result<Answer, String> {
    let mut builder = Builder::new();
    builder
        .enable_push(false)
        .max_header_list_size(HEADER_LIST_BYTES_MAX)
        .initial_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES);
    let handshake = limit.wait("answer", builder.handshake::<_, Bytes>(stream)).await?;
    let (send, connection) = handshake.map_err(|error| error_text(&error))?;
    let mut connection = pin!(connection);
    let mut is_over = false;
    let result = {
        let mut asked = pin!(one(send, request, content, limit));
        tokio::select! {
            biased;
            result = &mut asked => result,
            end = &mut connection => {
                is_over = true;
                // What came before the end is still to be read. If there was no answer, the end says best why.
                match (asked.await, end) {
                    (Err(_), Err(why)) => Err(error_text(&why)),
                    (result, _) => result,
                }
            }
        }
    };
    if !is_over {
        // Nobody holds the connection any more: it says so and closes.
        let _ = timeout(CLOSE_TIME / 2, connection).await;
    }
    result
}

async fn one(
    send: SendRequest<Bytes>,
    request: Request<()>,
    content: Option<Bytes>,
    limit: Limit,
) -> Result<Answer, String> {
    let head = async {
        let mut send = send.ready().await?;
        let (answer, mut stream) = send.send_request(request, content.is_none())?;
        if let Some(content) = content {
            stream.send_data(content, true)?;
        }
        answer.await
    };
    let answer = limit.wait("answer", head).await?.map_err(|error| error_text(&error))?;
    let (head, mut incoming) = answer.into_parts();
    let rest = async {
        let mut content = BytesMut::new();
        while let Some(data) = incoming.data().await {
            let data = data?;
            content.extend_from_slice(&data);
            if content.len() >= CONTENT_BYTES_MAX {
                return Ok((content, None));
            }
            let _ = incoming.flow_control().release_capacity(data.len());
        }
        let trailers = incoming.trailers().await?;
        Ok((content, trailers))
    };
    let rest = limit.wait("end of the answer", rest).await?;
    let (content, trailers) = rest.map_err(|error: h2::Error| error_text(&error))?;
    Ok(Answer { head, content, trailers })
}

/// An error of HTTP/2, in few words.
fn error_text(error: &h2::Error) -> String {
    if let Some(error) = error.get_io() {
        return io_text(error);
    }
    let reason = error.reason().map_or_else(|| error.to_string(), |reason| format!("{reason:?}"));
    match (error.is_remote(), error.is_go_away(), error.is_reset()) {
        (true, true, _) => format!("the endpoint ended the connection: {reason}"),
        (true, _, true) => format!("the endpoint reset the request: {reason}"),
        _ => format!("the answer is not HTTP/2: {reason}"),
    }
}
