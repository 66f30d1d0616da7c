//! What a strict recipient demands of a message: RFC 9112 (framing, syntax), RFC 9110 (fields, forms).

use crate::message::{Fields, Framing, Request, Response};

/// Fields that may not come as trailers (RFC 9110, 6.5.1: framing, routing, authentication, modifiers,
/// content format), and those of this mesh, which are read from the head alone.
const NEVER_TRAILERS: &[&str] = &[
    "content-length",
    "transfer-encoding",
    "host",
    "connection",
    "te",
    "trailer",
    "upgrade",
    "keep-alive",
    "authorization",
    "proxy-authorization",
    "cookie",
    "set-cookie",
    "content-type",
    "content-encoding",
    "content-range",
    "expect",
    "max-forwards",
    "cache-control",
    "range",
    "x-request-id",
    "x-user-id",
    "x-account-id",
    "x-license",
    "x-request-type",
    "x-feature-flags",
    "traceparent",
    "tracestate",
    "baggage",
];

fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

/// One field line: the name is a token, the value has no control character but HTAB.
pub fn field(name: &[u8], value: &[u8]) -> Result<(), String> {
    if !std::str::from_utf8(name).is_ok_and(is_token) {
        return Err(format!("field name {:?} is not a token", String::from_utf8_lossy(name)));
    }
    if value.iter().any(|&byte| (byte < 0x20 && byte != b'\t') || byte == 0x7f) {
        return Err(format!("control character in {}", String::from_utf8_lossy(name)));
    }
    Ok(())
}

/// Framing by the fields: at most one Content-Length of digits, or one `chunked`; never both.
fn framing(fields: &Fields) -> Result<Option<Framing>, String> {
    let lengths: Vec<&str> = fields.all("content-length").collect();
    let codings: Vec<&str> = fields.all("transfer-encoding").collect();
    match (lengths.as_slice(), codings.as_slice()) {
        ([], []) => Ok(None),
        ([length], []) => {
            let digits = !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit());
            match length.parse() {
                Ok(length) if digits => Ok(Some(Framing::Length(length))),
                _ => Err(format!("Content-Length {length:?}")),
            }
        }
        ([], [coding]) if coding.eq_ignore_ascii_case("chunked") => Ok(Some(Framing::Chunked)),
        _ => Err(format!("Content-Length {lengths:?} with Transfer-Encoding {codings:?}")),
    }
}

fn is_host(host: &str) -> bool {
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => (name, port),
        _ => (host, ""),
    };
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~%!$&'()*+;=".contains(&b);
    let literal = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let good_name = literal.map_or_else(
        || name.bytes().all(plain),
        |inside| inside.bytes().all(|b| b.is_ascii_hexdigit() || b":.".contains(&b)),
    );
    good_name && (port.is_empty() || port.parse::<u16>().is_ok())
}

fn target(method: &str, target: &str) -> Result<(), String> {
    if target == "*" {
        return if method == "OPTIONS" { Ok(()) } else { Err(format!("{method} *")) };
    }
    if !target.starts_with('/') {
        return Err(format!("target {target:?} is not in origin form"));
    }
    if target.bytes().any(|byte| !byte.is_ascii_graphic() || byte == b'#') {
        return Err(format!("target {target:?} has a character that no target has"));
    }
    let path = target.split('?').next().unwrap_or_default();
    let lower = path.to_ascii_lowercase().replace("%2e", ".");
    if lower.split('/').any(|segment| segment == "." || segment == "..") {
        return Err(format!("target {target:?} has a dot segment"));
    }
    let escapes = path.split('%').skip(1);
    for escape in escapes {
        if !escape.as_bytes().get(..2).is_some_and(|two| two.iter().all(u8::is_ascii_hexdigit)) {
            return Err(format!("target {target:?} has a broken escape"));
        }
    }
    Ok(())
}

fn connection(fields: &Fields) -> Result<(), String> {
    let options = fields.list("connection");
    for option in &options {
        if !["close", "keep-alive", "te", "upgrade"].contains(&option.as_str()) {
            return Err(format!("Connection nominates {option}"));
        }
    }
    for (name, option) in [("te", "te"), ("upgrade", "upgrade")] {
        if fields.has(name) && !options.iter().any(|have| have == option) {
            return Err(format!("{name} without Connection: {option} (RFC 9110, 7.6.1)"));
        }
    }
    for name in ["proxy-connection", "http2-settings"] {
        if fields.has(name) {
            return Err(format!("{name} was forwarded"));
        }
    }
    Ok(())
}

/// What a backend demands of the head of a request; gives how the body ends.
pub fn request(request: &Request) -> Result<Framing, String> {
    if !is_token(&request.method) {
        return Err(format!("method {:?}", request.method));
    }
    if request.version != "HTTP/1.1" {
        return Err(format!("version {:?}", request.version));
    }
    target(&request.method, &request.target)?;
    let hosts: Vec<&str> = request.fields.all("host").collect();
    match hosts.as_slice() {
        [host] if is_host(host) => {}
        _ => return Err(format!("Host {hosts:?}")),
    }
    connection(&request.fields)?;
    if request.fields.has("keep-alive") {
        return Err("keep-alive was forwarded".to_owned());
    }
    Ok(framing(&request.fields)?.unwrap_or(Framing::None))
}

/// What a client demands of the head of an answer to a `method` request of HTTP/1.`minor`; gives how the body ends.
pub fn response(response: &Response, method: &str, minor: u8) -> Result<Framing, String> {
    if !["HTTP/1.1", "HTTP/1.0"].contains(&response.version.as_str()) {
        return Err(format!("version {:?}", response.version));
    }
    if response.reason.bytes().any(|byte| byte < 0x20 && byte != b'\t') {
        return Err("control character in the reason phrase".to_owned());
    }
    let status = response.status;
    let framed = framing(&response.fields)?;
    if status < 200 && minor == 0 {
        return Err(format!("{status} sent to an HTTP/1.0 client (RFC 9110, 15.2)"));
    }
    if framed == Some(Framing::Chunked) && minor == 0 {
        return Err("Transfer-Encoding sent to an HTTP/1.0 client (RFC 9112, 6.1)".to_owned());
    }
    if (status < 200 || status == 204) && framed.is_some() {
        return Err(format!("{status} with {framed:?} (RFC 9110, 8.6; RFC 9112, 6.1)"));
    }
    if status != 101 {
        connection(&response.fields)?;
    }
    if (200..500).contains(&status) && !response.fields.has("date") {
        return Err("no Date (RFC 9110, 6.6.1)".to_owned());
    }
    if status < 200 || status == 204 || status == 304 || method == "HEAD" {
        return Ok(Framing::None);
    }
    let framing = framed.unwrap_or(Framing::Close);
    let closes = response.fields.list("connection").iter().any(|option| option == "close");
    if framing == Framing::Close && minor == 1 && !closes {
        return Err("a body that ends with the connection, without Connection: close".to_owned());
    }
    Ok(framing)
}

/// What a recipient demands of trailers.
pub fn trailers(fields: &Fields) -> Result<(), String> {
    match fields.0.iter().find(|(name, _)| NEVER_TRAILERS.contains(&name.to_ascii_lowercase().as_str())) {
        Some((name, _)) => Err(format!("{name} as a trailer (RFC 9110, 6.5.1)")),
        None => Ok(()),
    }
}
