//! Exchanges out of traces: streamed segments are put together by their trace.

use super::make::{self, Message as Made};
use super::{Body, Message, Notes, Piece};
use crate::record::formats::{ENTRY_BYTES_MAX, FIELDS_MAX, PENDING_BYTES_MAX, PENDING_MAX};
use crate::record::{Entry, Event, Field, RequestHead, ResponseHead, Side, What};
use crate::svc::Version;
use bytes::Bytes;
use std::collections::{HashMap, VecDeque};

/// What a piece costs beside its bytes.
const PIECE_BYTES: usize = 256;

/// Splits the pseudo fields off; what is no field is an error.
fn request_head(headers: Vec<Field>) -> Result<RequestHead, &'static str> {
    let mut head = RequestHead { scheme: "http".into(), ..RequestHead::default() };
    for field in headers {
        match &*field.name {
            b":method" => head.method = field.value,
            b":scheme" => head.scheme = field.value,
            b":authority" => head.authority = field.value,
            b":path" => head.target = field.value,
            b":protocol" => head.upgrade = field.value,
            _ if field.is(b"host") => {
                if head.authority.is_empty() {
                    head.authority = field.value;
                }
            }
            _ => head.fields.push(field),
        }
    }
    if head.upgrade.is_empty()
        && let Some(protocol) = crate::record::entry::field(&head.fields, b"upgrade")
    {
        head.upgrade = Bytes::copy_from_slice(protocol);
    }
    check(&head.fields)?;
    if !make::is_name(&head.method) {
        return Err("the request has no :method");
    }
    let is_plain = [&head.target, &head.authority, &head.scheme].iter().all(|word| make::is_word(word));
    is_plain
        .then_some(head)
        .ok_or("the request's :path, :authority or :scheme has spaces or control characters")
}

fn response_head(headers: Vec<Field>) -> Result<ResponseHead, &'static str> {
    let mut head = ResponseHead::default();
    for field in headers {
        match &*field.name {
            b":status" => {
                head.status =
                    std::str::from_utf8(&field.value).ok().and_then(|text| text.parse().ok()).unwrap_or(0)
            }
            _ => head.fields.push(field),
        }
    }
    check(&head.fields)?;
    (head.status != 0).then_some(head).ok_or("the answer has no :status")
}

fn check(fields: &[Field]) -> Result<(), &'static str> {
    if fields.len() > FIELDS_MAX {
        return Err("more headers than 1024");
    }
    let are_fine = fields.iter().all(|field| make::is_name(&field.name) && make::is_value(&field.value));
    are_fine.then_some(()).ok_or("a header's name is none, or its value has a line end")
}

fn blank(number: u64, started_ns: u64) -> Entry {
    // HTTP/1.1 and HTTP/2 look alike in a tap.
    Entry {
        sequence: number,
        connection: number,
        stream: 1,
        started_ns,
        version: Version::Http11,
        ..Entry::default()
    }
}

/// How long content was that a head tells of, if that is more than there is.
fn length(fields: &[Field], is_truncated: bool) -> u64 {
    let told = crate::record::entry::field(fields, b"content-length");
    let told = told.and_then(|value| std::str::from_utf8(value).ok()?.trim().parse().ok());
    if is_truncated { told.unwrap_or_default() } else { 0 }
}

fn made<H>(head: H, bytes: u64, body: Body, trailers: Vec<Field>, at_ns: u64) -> Made<H> {
    let (is_truncated, body) = (body.is_truncated, body.bytes);
    Made { head, body, bytes, is_truncated, trailers, head_ns: at_ns, end_ns: at_ns }
}

/// The exchange of a buffered trace.
pub(super) fn buffered(
    request: Message,
    response: Option<Message>,
    peer: String,
    number: u64,
    notes: &mut Notes,
) -> Result<Entry, &'static str> {
    let started_ns = request.received_ns;
    notes.add_if(started_ns == 0, "traces without times begin at 1970: all at once");
    let head = request_head(request.headers)?;
    check(&request.trailers)?;
    let bytes = length(&head.fields, request.body.is_truncated);
    let request = made(head, bytes, request.body, request.trailers, 0);
    let response = match response.filter(|it| !it.headers.is_empty()) {
        Some(response) => {
            let head = response_head(response.headers)?;
            check(&response.trailers)?;
            let bytes = length(&head.fields, response.body.is_truncated);
            let at_ns = if started_ns == 0 { 0 } else { response.received_ns.saturating_sub(started_ns) };
            Some(made(head, bytes, response.body, response.trailers, at_ns))
        }
        None => None,
    };
    let mut entry = make::entry(Entry { peer, ..blank(number, started_ns) }, &request, response.as_ref());
    entry.is_tls = request.head.scheme == "https";
    Ok(entry)
}

/// A trace that is not complete yet.
#[derive(Default)]
struct Open {
    number: u64,
    bytes: usize,
    events: Vec<Event>,
    content: [usize; 2],
    is_truncated: [bool; 2],
    has_response: bool,
    is_early: bool,
}

/// Streamed traces under way.
#[derive(Default)]
pub(super) struct Traces {
    open: HashMap<u64, Open>,
    /// In the order in which they began.
    order: VecDeque<(u64, u64)>,
    bytes: usize,
    number: u64,
    ready: VecDeque<Open>,
}

impl Traces {
    /// Adds a piece.
    ///
    /// # Errors
    /// What is wrong with it, or with its place; it is left out.
    pub fn add(&mut self, id: u64, piece: Piece) -> Result<(), &'static str> {
        let (side, what) = match piece {
            Piece::RequestHeaders(headers) => {
                let head = request_head(headers)?;
                // Ids repeat: this is another one.
                if let Some(older) = self.open.remove(&id) {
                    self.bytes -= older.bytes;
                    self.ready.push_back(older);
                }
                self.number += 1;
                self.order.push_back((id, self.number));
                self.open.insert(id, Open { number: self.number, ..Open::default() });
                (Side::Request, What::Request(head))
            }
            Piece::ResponseHeaders(headers) => (Side::Response, What::Response(response_head(headers)?)),
            Piece::RequestTrailers(fields) => (Side::Request, trailers(Side::Request, fields)?),
            Piece::ResponseTrailers(fields) => (Side::Response, trailers(Side::Response, fields)?),
            Piece::RequestBody(body) => return self.body(id, Side::Request, body),
            Piece::ResponseBody(body) => return self.body(id, Side::Response, body),
        };
        let open = self.open.get_mut(&id).ok_or("a segment of a trace whose request is not before it")?;
        open.has_response |= side == Side::Response;
        let fields = match &what {
            What::Request(head) => &head.fields[..],
            What::Response(head) => &head.fields[..],
            What::Trailers(_, fields) => fields,
            _ => &[],
        };
        let bytes: usize = fields.iter().map(|field| field.name.len() + field.value.len() + 64).sum();
        open.events.push(Event { at_ns: 0, what });
        open.bytes += bytes + PIECE_BYTES;
        self.bytes += bytes + PIECE_BYTES;
        self.bound();
        Ok(())
    }

    fn body(&mut self, id: u64, side: Side, body: Body) -> Result<(), &'static str> {
        let open = self.open.get_mut(&id).ok_or("a segment of a trace whose request is not before it")?;
        let index = usize::from(side == Side::Response);
        let (Some(content), Some(is_truncated)) =
            (open.content.get_mut(index), open.is_truncated.get_mut(index))
        else {
            return Ok(());
        };
        *is_truncated |= body.is_truncated;
        *content += body.bytes.len();
        if *content > ENTRY_BYTES_MAX {
            *is_truncated = true;
            return Ok(());
        }
        let bytes = body.bytes.len() + PIECE_BYTES;
        open.events.push(Event { at_ns: 0, what: What::Data(side, body.bytes) });
        open.bytes += bytes;
        self.bytes += bytes;
        self.bound();
        Ok(())
    }

    /// Lets the oldest go.
    fn bound(&mut self) {
        while (self.bytes > PENDING_BYTES_MAX || self.open.len() > PENDING_MAX) && self.open.len() > 1 {
            match self.oldest() {
                Some(open) => self.ready.push_back(Open { is_early: true, ..open }),
                None => return,
            }
        }
        while self.order.len() > 2 * PENDING_MAX {
            self.order.retain(|(id, number)| self.open.get(id).is_some_and(|open| open.number == *number));
        }
    }

    fn oldest(&mut self) -> Option<Open> {
        loop {
            let (id, number) = self.order.pop_front()?;
            if self.open.get(&id).is_some_and(|open| open.number == number) {
                let open = self.open.remove(&id)?;
                self.bytes -= open.bytes;
                return Some(open);
            }
        }
    }

    /// An exchange that is complete, as far as can be known: at the end all are.
    pub fn ready(&mut self, is_ended: bool, notes: &mut Notes) -> Option<Entry> {
        let open = self.ready.pop_front().or_else(|| if is_ended { self.oldest() } else { None })?;
        notes.add("streamed traces have no times: all begin at 1970");
        notes.add_if(
            open.is_early,
            "streamed traces were too many at once: the oldest end early, and are marked truncated",
        );
        // Buffered traces of the same file count on their own.
        let mut entry = blank(open.number | 1 << 32, 0);
        let [request, response] = open.content;
        let [request_cut, response_cut] = open.is_truncated;
        entry.request.bytes = request as u64;
        entry.response.bytes = response as u64;
        entry.request.is_truncated = request_cut;
        entry.response.is_truncated = response_cut || open.is_early;
        entry.events = open.events;
        let end = |side| Event { at_ns: 0, what: What::End(side) };
        entry.events.push(end(Side::Request));
        if open.has_response {
            entry.events.push(end(Side::Response));
        } else {
            entry.outcome = crate::exchange::Outcome::None;
        }
        entry.is_tls = entry.request_head().is_some_and(|head| head.scheme == "https");
        make::tell(&mut entry);
        Some(entry)
    }
}

fn trailers(side: Side, fields: Vec<Field>) -> Result<What, &'static str> {
    check(&fields)?;
    Ok(What::Trailers(side, fields))
}
