//! HTTP/1: heads are written with their fields in the recorded order and case, over the codec of [`crate::http1`].

use super::exchange::{Content, Cut, Failure, Kept, Outgoing, Place};
use super::upload::{self, Piece};
use super::websocket;
use crate::http1::chunked::{Decoder, Limits, Step};
use crate::http1::{Framing, HeadLimits, parse_interim_or_final};
use crate::record::Field;
use crate::replay::Answer;
use crate::svc::{Fields, Io, Method, Version};
use bytes::{Bytes, BytesMut};
use std::rc::Rc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

const HEAD: HeadLimits =
    HeadLimits { head_bytes_max: 256 << 10, fields_max: 256, target_bytes_max: 64 << 10 };
const CHUNKS: Limits =
    Limits { extension_bytes_max: 64 << 10, trailer_bytes_max: 64 << 10, trailers_max: 256 };

/// Heads of interim answers that are passed over.
const INTERIM_MAX: usize = 32;

/// What is read at once.
const READ_BYTES: usize = 32 << 10;

/// A connection that carries one exchange at a time.
pub(super) struct Connection {
    io: Io,
    buffer: BytesMut,
}

impl Connection {
    pub(super) fn new(io: Io) -> Connection {
        Connection { io, buffer: BytesMut::new() }
    }

    /// Whether the target has left it open and said nothing unasked.
    pub(super) fn is_usable(&self) -> bool {
        if !self.buffer.is_empty() {
            return false;
        }
        let Some(stream) = self.io.socket().as_tcp() else { return true };
        let mut byte = [0; 1];
        match &self.io {
            // Over TLS, session tickets may wait to be read: a look at the socket says nothing.
            Io::Plain(_) => match stream.try_read(&mut byte) {
                Ok(_) => false,
                Err(error) => error.kind() == std::io::ErrorKind::WouldBlock,
            },
            _ => true,
        }
    }
}

/// Sends a request and reads its answer. Says whether the connection may carry another.
pub(super) async fn exchange(
    place: &Rc<Place>,
    connection: &mut Connection,
    out: &mut Outgoing,
    answer: &mut Answer,
) -> Result<bool, Failure> {
    let method = Method::from_known(&out.head.method).unwrap_or(Method::Get);
    let mut head = Vec::with_capacity(1024);
    let is_chunked = write_head(&mut head, out);
    let is_upgrade = !out.head.upgrade.is_empty();
    let Connection { io, buffer } = connection;
    let mut reply = Reply { place, method, is_upgrade, cut: out.cut, answer };
    let (read, is_written) = match &out.content {
        Content::Whole(body, trailers) => {
            if is_chunked {
                if !body.is_empty() {
                    head.extend_from_slice(format!("{:x}\r\n", body.len()).as_bytes());
                    head.extend_from_slice(body);
                    head.extend_from_slice(b"\r\n");
                }
                last_chunk(&mut head, trailers);
            } else if body.len() <= READ_BYTES {
                head.extend_from_slice(body);
            }
            reply.answer.sent_ns = place.now_ns();
            if io.write_all(&head).await.is_err() {
                return Err("closed");
            }
            if io.flush().await.is_err() {
                return Err("closed");
            }
            if is_chunked || body.len() <= READ_BYTES {
                (reply.read(io, buffer).await?, true)
            } else {
                let (mut reader, mut writer) = tokio::io::split(&mut *io);
                let write = async {
                    let result = writer.write_all(body).await;
                    let _ = writer.flush().await;
                    result.map_err(|_| "closed")
                };
                both(write, reply.read(&mut reader, buffer)).await?
            }
        }
        Content::Pieces => {
            let mut pieces = upload::pieces(place, &out.entry, out.cut);
            reply.answer.sent_ns = place.now_ns();
            if io.write_all(&head).await.is_err() || io.flush().await.is_err() {
                return Err("closed");
            }
            let (mut reader, mut writer) = tokio::io::split(&mut *io);
            let write = async {
                let mut trailers = Vec::new();
                while let Some(piece) = pieces.recv().await {
                    match piece {
                        Piece::Data(bytes) => {
                            write_piece(&mut writer, &bytes, is_chunked).await.map_err(|_| "closed")?
                        }
                        Piece::Trailers(fields) => trailers = fields,
                        Piece::Cut => return Err("cancelled"),
                        Piece::Unreadable => return Err("recording"),
                    }
                }
                if is_chunked {
                    let mut end = Vec::new();
                    last_chunk(&mut end, &trailers);
                    writer.write_all(&end).await.map_err(|_| "closed")?;
                }
                writer.flush().await.map_err(|_| "closed")
            };
            both(write, reply.read(&mut reader, buffer)).await?
        }
    };
    let read = Read { is_keep_alive: read.is_keep_alive && is_written, ..read };
    finish(place, io, buffer, out, answer, read).await
}

/// Writes and reads at once. An answer that comes before all is written ends the writing: the target wants no more. A
/// target that closes its side while it answers is still heard.
async fn both(
    write: impl Future<Output = Result<(), Failure>>,
    read: impl Future<Output = Result<Read, Failure>>,
) -> Result<(Read, bool), Failure> {
    tokio::pin!(write, read);
    tokio::select! {
        read = &mut read => Ok((read?, false)),
        written = &mut write => match written {
            Ok(()) => Ok((read.await?, true)),
            Err("closed") => match tokio::time::timeout(Duration::from_secs(1), read).await {
                Ok(Ok(read)) => Ok((read, false)),
                _ => Err("closed"),
            },
            Err(failure) => Err(failure),
        },
    }
}

async fn write_piece(
    writer: &mut (impl AsyncWrite + Unpin),
    bytes: &Bytes,
    is_chunked: bool,
) -> std::io::Result<()> {
    if !is_chunked {
        writer.write_all(bytes).await?;
        return writer.flush().await;
    }
    let mut frame = Vec::with_capacity(bytes.len() + 16);
    frame.extend_from_slice(format!("{:x}\r\n", bytes.len()).as_bytes());
    frame.extend_from_slice(bytes);
    frame.extend_from_slice(b"\r\n");
    writer.write_all(&frame).await?;
    writer.flush().await
}

fn last_chunk(out: &mut Vec<u8>, trailers: &[Field]) {
    out.extend_from_slice(b"0\r\n");
    for field in trailers.iter().filter(|field| crate::svc::fields::is_field_value(&field.value)) {
        if !field.name.is_empty() && field.name.iter().all(|byte| crate::svc::fields::is_token_byte(*byte)) {
            write_field(out, &field.name, &field.value);
        }
    }
    out.extend_from_slice(b"\r\n");
}

fn write_field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Writes the head; says whether content follows in chunks.
fn write_head(out: &mut Vec<u8>, outgoing: &Outgoing) -> bool {
    let Outgoing { entry, head, content, cut } = outgoing;
    let is_http_10 = entry.version == Version::Http10;
    let (length, has_trailers) = match content {
        Content::Whole(body, trailers) => (body.len() as u64, !trailers.is_empty()),
        Content::Pieces => (upload::length(entry), !entry.trailers(crate::record::Side::Request).is_empty()),
    };
    let has_length = head.fields.iter().any(|field| field.is(b"content-length"));
    let is_coded = head.fields.iter().any(|field| field.is(b"transfer-encoding"));
    // A request that was cut says the length that it said; what cannot be known goes in chunks.
    let is_cut = cut.is_some_and(|cut| cut.request_bytes.is_some());
    let is_short = matches!(content, Content::Pieces) && entry.request.is_truncated;
    let is_chunked =
        !is_http_10 && (is_coded || has_trailers || is_short || (!has_length && (length > 0 || is_cut)));
    let method =
        if &*head.method == b"CONNECT" && !head.upgrade.is_empty() { &b"GET"[..] } else { &head.method };
    out.extend_from_slice(method);
    out.push(b' ');
    out.extend_from_slice(&head.target);
    out.extend_from_slice(if is_http_10 { b" HTTP/1.0\r\n" } else { b" HTTP/1.1\r\n" });
    if !head.authority.is_empty() {
        write_field(out, b"Host", &head.authority);
    }
    if !head.upgrade.is_empty() {
        write_field(out, b"Connection", b"Upgrade");
        write_field(out, b"Upgrade", &head.upgrade);
        if !head.fields.iter().any(|field| field.is(b"sec-websocket-key")) {
            write_field(out, b"Sec-WebSocket-Key", b"c2lkZWxpZ2h0LXJlcGxheQ==");
        }
    }
    let mut is_length_written = false;
    for field in &head.fields {
        if field.is(b"transfer-encoding")
            || (!head.upgrade.is_empty() && (field.is(b"connection") || field.is(b"upgrade")))
        {
            continue;
        }
        if field.is(b"content-length") {
            if is_chunked || is_length_written {
                continue;
            }
            is_length_written = true;
            if is_cut {
                write_field(out, &field.name, &field.value);
            } else {
                write_field(out, &field.name, length.to_string().as_bytes());
            }
            continue;
        }
        write_field(out, &field.name, &field.value);
    }
    if is_chunked {
        write_field(out, b"Transfer-Encoding", b"chunked");
    } else if !is_length_written && length > 0 {
        write_field(out, b"Content-Length", length.to_string().as_bytes());
    }
    out.extend_from_slice(b"\r\n");
    is_chunked
}

/// An answer that was read.
struct Read {
    is_keep_alive: bool,
    is_tunnel: bool,
}

struct Reply<'a> {
    place: &'a Rc<Place>,
    method: Method,
    is_upgrade: bool,
    cut: Option<Cut>,
    answer: &'a mut Answer,
}

impl Reply<'_> {
    async fn read(
        &mut self,
        io: &mut (impl AsyncRead + Unpin),
        buffer: &mut BytesMut,
    ) -> Result<Read, Failure> {
        if let Some(Cut { request_bytes: None, response_bytes: None, at_ns }) = self.cut {
            // The client did not wait for the head: nor do we, unless it comes before.
            tokio::select! {
                biased;
                read = self.read_on(io, buffer) => return read,
                () = tokio::time::sleep(Duration::from_nanos(at_ns)) => return Err("cancelled"),
            }
        }
        self.read_on(io, buffer).await
    }

    async fn read_on(
        &mut self,
        io: &mut (impl AsyncRead + Unpin),
        buffer: &mut BytesMut,
    ) -> Result<Read, Failure> {
        let wants = self.place.settings.wants_content;
        let mut interim = 0;
        let (framing, is_keep_alive) = loop {
            if buffer.is_empty() {
                self.more(io, buffer).await?;
            }
            match parse_interim_or_final(buffer, &HEAD, self.method) {
                Ok(None) => self.more(io, buffer).await?,
                Err(_) => return Err("protocol"),
                Ok(Some(response)) => {
                    let status = response.head.status;
                    let bytes = buffer.split_to(response.head_bytes).freeze();
                    if status == 101 && self.is_upgrade {
                        self.head(status, &response.head.fields, &bytes, wants);
                        return Ok(Read { is_keep_alive: false, is_tunnel: true });
                    }
                    if status < 200 {
                        interim += 1;
                        if interim > INTERIM_MAX || status == 101 {
                            return Err("protocol");
                        }
                        continue;
                    }
                    self.head(status, &response.head.fields, &bytes, wants);
                    break (response.framing, response.is_keep_alive);
                }
            }
        };
        let until = self.cut.and_then(|cut| cut.response_bytes);
        let limit = if wants { self.place.settings.keep_body_bytes } else { 0 };
        let mut kept = Kept::new(limit);
        let result = self.content(io, buffer, framing, until, &mut kept).await;
        kept.into_answer(self.answer);
        result?;
        Ok(Read { is_keep_alive, is_tunnel: false })
    }

    fn head(&mut self, status: u16, fields: &Fields, bytes: &Bytes, wants: bool) {
        self.answer.status = status;
        self.answer.first_byte_ns = self.place.now_ns();
        if wants {
            self.answer.fields = list(fields, bytes);
        }
    }

    async fn more(&self, io: &mut (impl AsyncRead + Unpin), buffer: &mut BytesMut) -> Result<(), Failure> {
        buffer.reserve(READ_BYTES);
        match io.read_buf(buffer).await {
            Ok(0) => Err("closed"),
            Ok(_) => Ok(()),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {
                Err(if self.answer.status == 0 { "closed" } else { "reset" })
            }
            Err(_) => Err("reset"),
        }
    }

    async fn content(
        &mut self,
        io: &mut (impl AsyncRead + Unpin),
        buffer: &mut BytesMut,
        framing: Framing,
        until: Option<u64>,
        kept: &mut Kept,
    ) -> Result<(), Failure> {
        let is_over = |answer: &Answer| until.is_some_and(|until| answer.body_bytes >= until);
        match framing {
            Framing::None => {}
            Framing::Length(length) => {
                let mut left = length;
                while left > 0 {
                    if is_over(self.answer) {
                        return Err("cancelled");
                    }
                    if buffer.is_empty() {
                        self.more(io, buffer).await.map_err(|_| "incomplete")?;
                    }
                    let len = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
                    kept.push(self.answer, &buffer.split_to(len));
                    left -= len as u64;
                }
            }
            Framing::Close => loop {
                if is_over(self.answer) {
                    return Err("cancelled");
                }
                if buffer.is_empty() {
                    match self.more(io, buffer).await {
                        Ok(()) => {}
                        Err("closed") => return Ok(()),
                        Err(failure) => return Err(failure),
                    }
                }
                let bytes = buffer.split();
                kept.push(self.answer, &bytes);
            },
            Framing::Chunked => {
                let mut decoder = Decoder::new(CHUNKS);
                loop {
                    if is_over(self.answer) {
                        return Err("cancelled");
                    }
                    match decoder.step(buffer).map_err(|_| "protocol")? {
                        Step::More(used) => {
                            let _ = buffer.split_to(used.min(buffer.len()));
                            self.more(io, buffer).await.map_err(|_| "incomplete")?;
                        }
                        Step::Data { skip, len } => {
                            let _ = buffer.split_to(skip.min(buffer.len()));
                            let data = buffer.split_to(len.min(buffer.len()));
                            kept.push(self.answer, &data);
                        }
                        Step::End(used) => {
                            let _ = buffer.split_to(used.min(buffer.len()));
                            if let Some(trailers) = decoder.take_trailers() {
                                self.answer.trailers = copied(&trailers);
                            }
                            return Ok(());
                        }
                    }
                }
            }
        }
        Ok(())
    }
}

/// What an upgrade leads to; otherwise nothing more.
async fn finish(
    place: &Rc<Place>,
    io: &mut Io,
    buffer: &mut BytesMut,
    out: &Outgoing,
    answer: &mut Answer,
    read: Read,
) -> Result<bool, Failure> {
    if read.is_tunnel {
        let ahead = buffer.split().freeze();
        websocket::replay(place, io, ahead, &out.entry, answer).await?;
        return Ok(false);
    }
    Ok(read.is_keep_alive)
}

/// Fields as pieces of the head that they came in.
fn list(fields: &Fields, head: &Bytes) -> Vec<Field> {
    fields
        .iter()
        .map(|(name, value, _)| {
            let place = |part: &[u8]| {
                // The section keeps a copy of the head: places in it are places in the head.
                let start = (part.as_ptr() as usize).wrapping_sub(fields.buffer().as_ptr() as usize);
                match head.get(start..start.saturating_add(part.len())) {
                    Some(same) if same == part => head.slice(start..start + part.len()),
                    _ => Bytes::copy_from_slice(part),
                }
            };
            Field { name: place(name), value: place(value) }
        })
        .collect()
}

fn copied(fields: &Fields) -> Vec<Field> {
    fields
        .iter()
        .map(|(name, value, _)| Field::new(Bytes::copy_from_slice(name), Bytes::copy_from_slice(value)))
        .collect()
}
