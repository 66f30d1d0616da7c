//! HTTP/1.1 messages as a strict recipient reads them (RFC 9112; RFC 9110 for the fields).

use crate::rules;
use crate::wire::{Fault, Wire};

/// Header or trailer fields in the order received. Bytes above 0x7f appear as the char of the same number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields(pub Vec<(String, String)>);

impl Fields {
    /// The first value of `name` (any case).
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// Every value of `name`, in order.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// Whether there is a field `name`.
    pub fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// The members of the comma-separated list `name`, over all its lines, trimmed, in lower case.
    pub fn list(&self, name: &str) -> Vec<String> {
        self.all(name)
            .flat_map(|value| value.split(','))
            .map(|member| member.trim().to_ascii_lowercase())
            .filter(|member| !member.is_empty())
            .collect()
    }
}

/// How the end of a body was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// There is none, by the method or status or for want of a length.
    None,
    /// By `Content-Length`.
    Length(u64),
    /// By the last chunk.
    Chunked,
    /// By the end of the connection.
    Close,
}

/// A request as the strict backend received it.
#[derive(Clone, Debug)]
pub struct Request {
    /// Method, case kept.
    pub method: String,
    /// Request target as on the wire.
    pub target: String,
    /// `HTTP/1.1`.
    pub version: String,
    /// Header fields.
    pub fields: Fields,
    /// How the body ends.
    pub framing: Framing,
    /// The body, decoded.
    pub body: Vec<u8>,
    /// Trailer fields.
    pub trailers: Fields,
    /// Every byte as received.
    pub raw: Vec<u8>,
    /// Which connection of the backend it came on, from 0.
    pub connection: usize,
}

impl Request {
    /// The target without its query.
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }
}

/// An answer as the raw client received it.
#[derive(Clone, Debug)]
pub struct Response {
    /// `HTTP/1.1` or `HTTP/1.0`.
    pub version: String,
    /// Status code.
    pub status: u16,
    /// Reason phrase.
    pub reason: String,
    /// Header fields.
    pub fields: Fields,
    /// How the body ends.
    pub framing: Framing,
    /// The body, decoded.
    pub body: Vec<u8>,
    /// Trailer fields.
    pub trailers: Fields,
    /// The 1xx answers that came first.
    pub interim: Vec<Response>,
}

impl Response {
    /// The body as text, for messages.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// One char for each byte, so that nothing is lost and ASCII stays readable.
pub fn latin1(bytes: &[u8]) -> String {
    bytes.iter().map(|&byte| char::from(byte)).collect()
}

/// Reads field lines up to the empty one.
pub fn read_fields(wire: &mut Wire, what: &str) -> Result<Fields, Fault> {
    let mut fields = Vec::new();
    loop {
        let line = wire.line(what).map_err(|fault| match fault {
            Fault::Closed => Fault::Cut(what.to_owned()),
            other => other,
        })?;
        if line.is_empty() {
            return Ok(Fields(fields));
        }
        let colon = line
            .iter()
            .position(|&byte| byte == b':')
            .ok_or_else(|| Fault::Violation(format!("{what}: no colon in {:?}", latin1(&line))))?;
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        rules::field(name, value).map_err(|rule| Fault::Violation(format!("{what}: {rule}")))?;
        fields.push((latin1(name), latin1(value)));
    }
}

/// Reads a chunked body into `body`; gives the trailers.
pub fn read_chunked(wire: &mut Wire, body: &mut Vec<u8>) -> Result<Fields, Fault> {
    let inside = |fault| match fault {
        Fault::Closed => Fault::Cut("chunked body".to_owned()),
        other => other,
    };
    loop {
        let line = wire.line("chunk size").map_err(inside)?;
        let size = line.split(|&byte| byte == b';').next().unwrap_or_default();
        let digits = std::str::from_utf8(size).ok().filter(|text| {
            !text.is_empty() && text.len() <= 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
        });
        let size = digits
            .and_then(|text| u64::from_str_radix(text, 16).ok())
            .ok_or_else(|| Fault::Violation(format!("chunk size {:?}", latin1(&line))))?;
        if line.iter().any(|&byte| byte < 0x20 && byte != b'\t' || byte == 0x7f) {
            return Err(Fault::Violation(format!("control character in chunk line {:?}", latin1(&line))));
        }
        if size == 0 {
            return read_fields(wire, "trailers");
        }
        wire.exact(size, "chunk data", body)?;
        if !wire.line("end of chunk").map_err(inside)?.is_empty() {
            return Err(Fault::Violation("chunk data longer than its size".to_owned()));
        }
    }
}

/// Reads the head of a request.
pub fn read_request_head(wire: &mut Wire) -> Result<Request, Fault> {
    let line = latin1(&wire.line("request line")?);
    let mut parts = line.split(' ');
    let (method, target, version) = match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(method), Some(target), Some(version), None) => (method, target, version),
        _ => return Err(Fault::Violation(format!("request line {line:?}"))),
    };
    let fields = read_fields(wire, "request head")?;
    let mut request = Request {
        method: method.to_owned(),
        target: target.to_owned(),
        version: version.to_owned(),
        fields,
        framing: Framing::None,
        body: Vec::new(),
        trailers: Fields::default(),
        raw: Vec::new(),
        connection: 0,
    };
    request.framing = rules::request(&request).map_err(Fault::Violation)?;
    Ok(request)
}

/// Reads the body of `request` as its head frames it.
pub fn read_request_body(wire: &mut Wire, request: &mut Request) -> Result<(), Fault> {
    match request.framing {
        Framing::None | Framing::Close => Ok(()),
        Framing::Length(length) => wire.exact(length, "request body", &mut request.body),
        Framing::Chunked => {
            request.trailers = read_chunked(wire, &mut request.body)?;
            rules::trailers(&request.trailers).map_err(Fault::Violation)
        }
    }
}

/// Reads one response head, interim or final, as the answer to a `method` request of HTTP/1.`minor`.
pub fn read_response_head(wire: &mut Wire, method: &str, minor: u8) -> Result<Response, Fault> {
    let line = latin1(&wire.line("status line")?);
    let (version, rest) = line.split_once(' ').unwrap_or((&line, ""));
    let (code, reason) =
        rest.split_once(' ').ok_or_else(|| Fault::Violation(format!("status line {line:?}")))?;
    let is_code = code.len() == 3 && code.bytes().all(|byte| byte.is_ascii_digit());
    let status = code.parse::<u16>().ok().filter(|code| is_code && (100..=999).contains(code));
    let status = status.ok_or_else(|| Fault::Violation(format!("status code in {line:?}")))?;
    let fields = read_fields(wire, "response head")?;
    let mut response = Response {
        version: version.to_owned(),
        status,
        reason: reason.to_owned(),
        fields,
        framing: Framing::None,
        body: Vec::new(),
        trailers: Fields::default(),
        interim: Vec::new(),
    };
    response.framing = rules::response(&response, method, minor).map_err(Fault::Violation)?;
    Ok(response)
}

/// Reads the body of `response` as its head frames it; on a cut, what came is in `response.body`.
pub fn read_response_body(wire: &mut Wire, response: &mut Response) -> Result<(), Fault> {
    match response.framing {
        Framing::None => Ok(()),
        Framing::Length(length) => wire.exact(length, "response body", &mut response.body),
        Framing::Close => wire.to_end("response body", &mut response.body),
        Framing::Chunked => {
            response.trailers = read_chunked(wire, &mut response.body)?;
            rules::trailers(&response.trailers).map_err(Fault::Violation)
        }
    }
}
