//! Entries out of a HAR.

use super::super::json::{Json, Taken};
use super::super::make::{self, Message};
use super::super::{Import, Notes, Problem, RECORD_BYTES_MAX, moment};
use super::members::{bounded, fields, form, nanos, shorten, take_pseudo, text, text_is_base64, version};
use super::{EXTENSION, MESSAGES, base64, context, websocket};
use crate::record::entry::field;
use crate::record::{Entry, RequestHead, ResponseHead, Side, What};
use bytes::Bytes;
use serde_json::Value;
use std::hash::{BuildHasher, Hasher};
use std::io::{self, BufRead};

/// Where in the document the reader is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Begin,
    /// In the list of entries.
    Entries,
    End,
}

/// Reads a HAR.
pub(in super::super) struct Reader<R> {
    json: Json<R>,
    place: Place,
    raw: Vec<u8>,
    number: u64,
    notes: Notes,
}

impl<R: BufRead> Reader<R> {
    pub fn new(input: R) -> Reader<R> {
        Reader {
            json: Json::new(input),
            place: Place::Begin,
            raw: Vec::new(),
            number: 0,
            notes: Notes::default(),
        }
    }

    /// Goes into the member `name` of the object that begins here; passes over the others.
    fn enter(&mut self, name: &str) -> io::Result<Result<(), Problem>> {
        if !self.json.take_byte(b'{')? {
            return Ok(Err(self
                .json
                .problem("no HAR: a JSON object with `log` and its `entries` is expected")));
        }
        loop {
            let _ = self.json.take_byte(b',')?;
            let Some(found) = self.json.take_name()? else {
                let what = format!(
                    "no HAR: the document has no member `{name}` where it has to be, or ends before it"
                );
                return Ok(Err(self.json.problem(what)));
            };
            if !self.json.take_byte(b':')? {
                return Ok(Err(self.json.problem(format!("a colon is missing behind `{found}`"))));
            }
            if found == name {
                return Ok(Ok(()));
            }
            match self.json.take_value(&mut self.raw, 0)? {
                Taken::Whole | Taken::TooLong(_) => {}
                Taken::Cut | Taken::None => {
                    return Ok(Err(self
                        .json
                        .problem(format!("the document ends, or is broken, in `{found}`"))));
                }
            }
        }
    }

    fn begin(&mut self) -> io::Result<Result<(), Problem>> {
        for name in ["log", "entries"] {
            if let Err(problem) = self.enter(name)? {
                return Ok(Err(problem));
            }
        }
        let is_list = self.json.take_byte(b'[')?;
        Ok(if is_list { Ok(()) } else { Err(self.json.problem("no HAR: `log.entries` is not a list")) })
    }

    fn step(&mut self) -> io::Result<Option<Result<Entry, Problem>>> {
        if self.place == Place::Begin {
            self.place = Place::Entries;
            if let Err(problem) = self.begin()? {
                self.place = Place::End;
                return Ok(Some(Err(problem)));
            }
        }
        if self.place == Place::End {
            return Ok(None);
        }
        let _ = self.json.take_byte(b',')?;
        let next = self.json.peek()?;
        let (offset, line) = (self.json.offset, self.json.line);
        let problem = |message: String| Some(Err(Problem::new(offset, Some(line), message)));
        Ok(match self.json.take_value(&mut self.raw, RECORD_BYTES_MAX)? {
            Taken::Whole => {
                self.number += 1;
                let raw = std::mem::take(&mut self.raw);
                let read = serde_json::from_slice::<Value>(&raw)
                    .map_err(|error| format!("entry {}: {error}", self.number))
                    .and_then(|value| {
                        self.entry(&value).map_err(|what| format!("entry {}: {what}", self.number))
                    });
                // A buffer for the largest entry is not kept for the small ones.
                if raw.capacity() < 1 << 20 {
                    self.raw = raw;
                }
                Some(read.map_err(|message| Problem::new(offset, Some(line), message)))
            }
            Taken::TooLong(bytes) => {
                self.number += 1;
                problem(format!(
                    "entry {}: {bytes} bytes are more than {RECORD_BYTES_MAX}; passed over",
                    self.number
                ))
            }
            Taken::Cut => {
                self.place = Place::End;
                problem(format!("the document ends within entry {}", self.number + 1))
            }
            Taken::None if next == Some(b']') => {
                self.place = Place::End;
                None
            }
            Taken::None => {
                self.place = Place::End;
                let what = if next.is_none() { "the document ends" } else { "the document is broken" };
                problem(format!("{what} behind entry {}: the end of the list is missing", self.number))
            }
        })
    }

    fn entry(&mut self, value: &Value) -> Result<Entry, String> {
        let request = value.get("request").filter(|it| it.is_object()).ok_or("no request")?;
        let method = text(request, "method").filter(|it| make::is_name(it.as_bytes())).ok_or("no method")?;
        let url = text(request, "url").ok_or("no URL")?;
        let (scheme, authority, target) =
            make::split_url(url).ok_or_else(|| format!("`{}` is no URL", shorten(url)))?;
        let extension = value.get(EXTENSION).filter(|it| context::is_known(it));
        let version = version(text(request, "httpVersion").unwrap_or_default());
        let mut head = RequestHead {
            method: method.to_owned().into(),
            scheme: scheme.to_owned().into(),
            authority: authority.to_owned().into(),
            target: match target {
                "" => "/".into(),
                query if query.starts_with('?') => format!("/{query}").into(),
                target => target.to_owned().into(),
            },
            upgrade: Bytes::new(),
            fields: fields(request)?,
        };
        if !make::is_word(&head.target) || !make::is_word(&head.authority) {
            return Err(format!("`{}` is no URL: it has spaces or control characters", shorten(url)));
        }
        take_pseudo(&mut head);
        if extension.is_none() {
            head.fields.retain(|field| !field.is(b"transfer-encoding"));
        }
        let messages = value.get(MESSAGES).and_then(Value::as_array);
        if messages.is_some() || text(value, "_resourceType") == Some("websocket") || url.starts_with("ws") {
            head.upgrade =
                websocket::upgrade(&head.fields).map_or("websocket".into(), Bytes::copy_from_slice);
        }
        let started_ns = text(value, "startedDateTime").and_then(moment::parse);
        self.notes.add_if(started_ns.is_none(), "entries without a time that can be read begin at 1970");
        let mut entry = Entry {
            sequence: self.number,
            connection: self.connection(value),
            stream: 1,
            started_ns: started_ns.unwrap_or_default(),
            duration_ns: nanos(value.get("time")).unwrap_or_default(),
            version,
            is_tls: scheme == "https",
            endpoint: text(value, "serverIPAddress").unwrap_or_default().into(),
            ..Entry::default()
        };
        let timings = value.get("timings").unwrap_or(&Value::Null);
        let timing = |name: &str| nanos(timings.get(name)).unwrap_or_default();
        let sent_ns =
            ["blocked", "dns", "connect", "send"].into_iter().map(timing).fold(0, u64::saturating_add);
        let first_byte_ns = sent_ns.saturating_add(timing("wait"));
        let end_ns = entry.duration_ns.max(first_byte_ns);
        let (body, request_bytes) = self.request_body(request)?;
        let request = Message {
            head,
            bytes: request_bytes,
            is_truncated: false,
            body,
            trailers: Vec::new(),
            head_ns: 0,
            end_ns: sent_ns,
        };
        let response = match value.get("response") {
            Some(response) => {
                self.response(response, method, extension.is_some(), [first_byte_ns, end_ns])?
            }
            None => None,
        };
        if let Some(error) = value.get("response").and_then(|response| text(response, "_error")) {
            entry.cause = error.to_owned();
        }
        if extension.is_none() && response.as_ref().is_some_and(|it| it.is_truncated) {
            self.notes.add("answers whose content is not in the file are marked truncated");
        }
        let mut entry = make::entry(entry, &request, response.as_ref());
        if let Some(messages) = messages.filter(|_| extension.is_none()) {
            let at = entry.events.iter().rposition(|event| matches!(event.what, What::End(Side::Request)));
            if let Some(at) = at {
                entry.events.remove(at);
            }
            entry.events.retain(|event| !matches!(event.what, What::End(_)));
            let before = entry.events.len();
            let bad = websocket::read(messages, entry.started_ns, &mut entry.events);
            self.notes.add_if(bad > 0, "WebSocket messages that cannot be read are left out");
            for event in entry.events.iter().skip(before) {
                match &event.what {
                    What::Data(Side::Request, piece) => entry.request.bytes += piece.len() as u64,
                    What::Data(Side::Response, piece) => entry.response.bytes += piece.len() as u64,
                    _ => {}
                }
                entry.duration_ns = entry.duration_ns.max(event.at_ns);
            }
            entry.request.is_truncated |= bad > 0;
            entry.response.is_truncated = bad > 0;
        }
        if let Some(extension) = extension {
            context::read(extension, &mut entry);
            match context::events(extension, &entry) {
                Some(events) => entry.events = events,
                None => self
                    .notes
                    .add("entries that were changed since they were exported lose the times of pieces"),
            }
        }
        Ok(entry)
    }

    /// A number for what the file calls a connection; where it calls it nothing, each exchange has its own.
    fn connection(&self, value: &Value) -> u64 {
        let name = match value.get("connection") {
            Some(Value::String(name)) if !name.is_empty() && name != "0" => name.clone(),
            Some(Value::Number(number)) => number.to_string(),
            _ => return self.number,
        };
        name.parse().unwrap_or_else(|_| {
            let mut hasher = foldhash::quality::FixedState::default().build_hasher();
            hasher.write(name.as_bytes());
            hasher.finish() >> 1
        })
    }

    /// The content, and how long it was.
    fn request_body(&mut self, request: &Value) -> Result<(Bytes, u64), String> {
        let size = request.get("bodySize").and_then(Value::as_i64).and_then(|size| u64::try_from(size).ok());
        let Some(data) = request.get("postData") else { return Ok((Bytes::new(), size.unwrap_or_default())) };
        let is_base64 = ["encoding", "_encoding"].iter().any(|name| text(data, name) == Some("base64"));
        let body: Bytes = match text(data, "text") {
            Some(text) if is_base64 => base64::decode(text).ok_or("postData is not Base64")?.into(),
            Some(text) => text.to_owned().into(),
            None => form(data).into(),
        };
        // `bodySize` counts what was sent: more than the text only if something is missing.
        let missing = size.filter(|size| body.is_empty() && *size > 0).unwrap_or_default();
        bounded(&body)?;
        let len = body.len() as u64;
        Ok((body, len.max(missing)))
    }

    fn response(
        &mut self,
        response: &Value,
        method: &str,
        is_ours: bool,
        [head_ns, end_ns]: [u64; 2],
    ) -> Result<Option<Message<ResponseHead>>, String> {
        let status = response.get("status").and_then(Value::as_i64).unwrap_or_default();
        // Browsers write 0, or -1, where there was no answer.
        let Some(status) = u16::try_from(status).ok().filter(|status| (100..1000).contains(status)) else {
            return Ok(None);
        };
        let mut fields = fields(response)?;
        fields.retain(|field| !field.name.starts_with(b":"));
        let content = response.get("content").unwrap_or(&Value::Null);
        let size = content.get("size").and_then(Value::as_i64).and_then(|size| u64::try_from(size).ok());
        let body: Bytes = match text(content, "text") {
            Some(text) if text_is_base64(content) => {
                base64::decode(text).ok_or("the answer's content is not Base64")?.into()
            }
            Some(text) => text.to_owned().into(),
            None => Bytes::new(),
        };
        bounded(&body)?;
        let has_content = method != "HEAD" && status >= 200 && !matches!(status, 204 | 304);
        let is_missing = has_content && body.is_empty() && size.is_some_and(|size| size > 0);
        if !is_ours && has_content && !body.is_empty() {
            // Browsers store what they decoded, under the fields of what was sent.
            if field(&fields, b"content-encoding").is_some() {
                fields.retain(|field| !field.is(b"content-encoding"));
                self.notes
                    .add("answers are in the file without their content-encoding; that field is left out");
            }
            for field in fields.iter_mut().filter(|field| field.is(b"content-length")) {
                field.value = body.len().to_string().into();
            }
            fields.retain(|field| !field.is(b"transfer-encoding"));
        }
        let bytes = if is_missing { size.unwrap_or_default() } else { body.len() as u64 };
        Ok(Some(Message {
            head: ResponseHead { status, fields },
            body,
            bytes,
            is_truncated: is_missing,
            trailers: Vec::new(),
            head_ns,
            end_ns,
        }))
    }
}

impl<R: BufRead> Iterator for Reader<R> {
    type Item = Result<Entry, Problem>;

    fn next(&mut self) -> Option<Self::Item> {
        self.step().unwrap_or_else(|error| {
            self.place = Place::End;
            Some(Err(self.json.problem(format!("cannot be read: {error}"))))
        })
    }
}

impl<R: BufRead> Import for Reader<R> {
    fn notes(&self) -> &Notes {
        &self.notes
    }
}
