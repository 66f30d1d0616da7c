//! The HTTP check over HTTP/1.1: parsed as strictly as the data path does, by the same codec.

use super::http_check::Http;
use super::{CONTENT_BYTES_MAX, Limit, Stream, Verdict, close, io_text};
use crate::error::{Error, Kind};
use crate::http1::chunked::{self, Decoder, Malformed, Step};
use crate::http1::{Framing, HeadLimits, may_be_complete, parse_interim_or_final};
use crate::svc::Method;
use crate::svc::fields::Span;
use bytes::{Buf, BytesMut};
use http::Request;
use std::io;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Bounds of the head of an answer, interim ones included.
const HEAD: HeadLimits = HeadLimits { head_bytes_max: 32 << 10, fields_max: 100, target_bytes_max: 0 };

/// Most interim answers before the final one.
const INTERIM_MAX: usize = 8;

/// Bounds of chunked content beside the content itself.
const CHUNKS: chunked::Limits =
    chunked::Limits { extension_bytes_max: 4 << 10, trailer_bytes_max: 8 << 10, trailers_max: 32 };

const UNFINISHED: &str = "connection closed before the end of the answer";

/// Sends `request` and judges the answer. The answer is read to its end, or as far as it is looked at: an endpoint that
/// does not finish it is not healthy, and one that does has no broken pipe in its log.
pub(super) async fn ask(
    mut stream: Box<dyn Stream>,
    http: &Http,
    request: &Request<()>,
    limit: Limit,
) -> Verdict {
    let text = request_text(request);
    limit.wait("answer", send(&mut stream, text.as_bytes())).await??;
    let mut buffer = BytesMut::with_capacity(4 << 10);
    let (status, framing) = limit.wait("answer", head(&mut stream, &mut buffer, request)).await??;
    http.judge_status(status)?;
    let content = limit.wait("end of the answer", content(&mut stream, buffer, framing)).await??;
    close(stream).await;
    http.judge_content(&content)
}

fn request_text(request: &Request<()>) -> String {
    let uri = request.uri();
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let mut text = format!("{} {path} HTTP/1.1\r\n", request.method());
    if let Some(authority) = uri.authority() {
        text.push_str(&format!("host: {authority}\r\n"));
    }
    for (name, value) in request.headers() {
        text.push_str(&format!("{name}: {}\r\n", value.to_str().unwrap_or_default()));
    }
    if [http::Method::POST, http::Method::PUT, http::Method::PATCH].contains(request.method()) {
        text.push_str("content-length: 0\r\n");
    }
    text.push_str("connection: close\r\n\r\n");
    text
}

async fn send(stream: &mut Box<dyn Stream>, bytes: &[u8]) -> Verdict {
    let sent = async {
        stream.write_all(bytes).await?;
        stream.flush().await
    };
    sent.await.map_err(|error: io::Error| io_text(&error))
}

/// Reads up to the end of the final head: its status, and how its content ends. What came behind it stays in `buffer`.
async fn head(
    stream: &mut Box<dyn Stream>,
    buffer: &mut BytesMut,
    request: &Request<()>,
) -> Result<(u16, Framing), String> {
    let method = Method::from_known(request.method().as_str().as_bytes());
    let method = method.unwrap_or(Method::Other(Span::default()));
    let (mut seen, mut interim) = (0, 0);
    loop {
        if may_be_complete(buffer, seen) || buffer.len() >= HEAD.head_bytes_max {
            let parsed = parse_interim_or_final(buffer, &HEAD, method).map_err(head_text)?;
            if let Some(response) = parsed {
                buffer.advance(response.head_bytes);
                seen = 0;
                // Nobody asked for another protocol, so 101 is final, and no success.
                if !matches!(response.head.status, 100 | 102..=199) {
                    return Ok((response.head.status, response.framing));
                }
                interim += 1;
                if interim > INTERIM_MAX {
                    return Err(format!("more than {INTERIM_MAX} interim answers"));
                }
                continue;
            }
        }
        seen = buffer.len();
        if read(stream, buffer).await? == 0 {
            // What came is not a head: its first line says whether it is HTTP at all.
            parse_interim_or_final(buffer, &HEAD, method).map_err(head_text)?;
            let text = if buffer.is_empty() { "connection closed without an answer" } else { UNFINISHED };
            return Err(text.into());
        }
    }
}

fn head_text(error: Error) -> String {
    match error.kind() {
        Kind::ResponseHeadTooLarge => format!("the head of the answer is too large: {}", error.detail()),
        _ => format!("the answer is not HTTP/1.1: {}", error.detail()),
    }
}

/// Reads the content to its end, or as far as it is looked at.
async fn content(
    stream: &mut Box<dyn Stream>,
    mut buffer: BytesMut,
    framing: Framing,
) -> Result<BytesMut, String> {
    match framing {
        Framing::None => return Ok(BytesMut::new()),
        Framing::Length(length) => {
            let wanted = usize::try_from(length).unwrap_or(usize::MAX).min(CONTENT_BYTES_MAX);
            while buffer.len() < wanted {
                if read(stream, &mut buffer).await? == 0 {
                    return Err(UNFINISHED.into());
                }
            }
            buffer.truncate(wanted);
        }
        Framing::Close => while buffer.len() < CONTENT_BYTES_MAX && read(stream, &mut buffer).await? > 0 {},
        Framing::Chunked => return chunks(stream, buffer).await,
    }
    Ok(buffer)
}

async fn chunks(stream: &mut Box<dyn Stream>, mut buffer: BytesMut) -> Result<BytesMut, String> {
    let mut decoder = Decoder::new(CHUNKS);
    let mut content = BytesMut::new();
    while content.len() < CONTENT_BYTES_MAX {
        let step = decoder.step(&buffer);
        match step.map_err(|Malformed(why)| format!("the answer is not HTTP/1.1: {why}"))? {
            Step::Data { skip, len } => {
                buffer.advance(skip.min(buffer.len()));
                content.extend_from_slice(&buffer.split_to(len.min(buffer.len())));
            }
            Step::End(_) => break,
            Step::More(used) => {
                buffer.advance(used.min(buffer.len()));
                if read(stream, &mut buffer).await? == 0 {
                    return Err(UNFINISHED.into());
                }
            }
        }
    }
    Ok(content)
}

/// Reads what is there; 0 at the end. The end of TLS without its alert is an end too, as many servers make it.
async fn read(stream: &mut Box<dyn Stream>, buffer: &mut BytesMut) -> Result<usize, String> {
    buffer.reserve(4 << 10);
    match stream.read_buf(buffer).await {
        Ok(count) => Ok(count),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(0),
        Err(error) => Err(io_text(&error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::config::HttpCheck;

    #[test]
    fn the_request_as_it_is_sent() {
        let config = HttpCheck { path: "/up".into(), method: "POST".into(), ..HttpCheck::default() };
        let http = Http::new(&config).unwrap();
        let request = http.request("http", "payments:8080", "127.0.0.1:8080".parse().unwrap());
        let expected = format!(
            "POST /up HTTP/1.1\r\nhost: payments:8080\r\nuser-agent: {}\r\naccept: */*\r\ncontent-length: 0\r\n\
             connection: close\r\n\r\n",
            super::super::USER_AGENT
        );
        assert_eq!(request_text(&request), expected);
    }
}
