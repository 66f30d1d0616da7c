//! Response heads.

use super::head::{BadFraming, framing, has_bare_lf, span_of};
use super::request::connection_options;
use super::{FIELDS_MAX, Framing, HeadLimits};
use crate::error::{Error, Kind, Result};
use crate::svc::{Fields, Known, Method, ResponseHead, Version};
use std::mem::MaybeUninit;

/// A parsed response head, and what its connection has to know.
#[derive(Debug)]
pub struct Response {
    /// The head; `Transfer-Encoding` is taken out of its fields.
    pub head: ResponseHead,
    /// How many bytes of the input it took.
    pub head_bytes: usize,
    /// How its content ends.
    pub framing: Framing,
    /// Whether the connection can carry another exchange after this one.
    pub is_keep_alive: bool,
}

/// Parses the response head at the start of `bytes`, interim (1xx) or final; `None` while it is incomplete.
///
/// # Errors
/// [`Kind::UpstreamProtocol`] or [`Kind::ResponseHeadTooLarge`]; the connection cannot be used after either.
pub fn parse_interim_or_final(bytes: &[u8], limits: &HeadLimits, method: Method) -> Result<Option<Response>> {
    let mut slots = [const { MaybeUninit::<httparse::Header<'_>>::uninit() }; 256];
    if limits.fields_max <= slots.len() {
        return parse_into(bytes, limits, method, slots.get_mut(..limits.fields_max).unwrap_or_default());
    }
    let mut slots = vec![MaybeUninit::<httparse::Header<'_>>::uninit(); limits.fields_max.min(FIELDS_MAX)];
    parse_into(bytes, limits, method, &mut slots)
}

fn parse_into<'b>(
    bytes: &'b [u8],
    limits: &HeadLimits,
    method: Method,
    slots: &mut [MaybeUninit<httparse::Header<'b>>],
) -> Result<Option<Response>> {
    let mut raw = httparse::Response::new(&mut []);
    let status = httparse::ParserConfig::default().parse_response_with_uninit_headers(&mut raw, bytes, slots);
    let head_bytes = match status {
        Ok(httparse::Status::Complete(len)) if len <= limits.head_bytes_max => len,
        Ok(httparse::Status::Partial) if bytes.len() < limits.head_bytes_max => return Ok(None),
        Ok(_) => return Err(too_large(format!("more than {} bytes", limits.head_bytes_max))),
        Err(httparse::Error::TooManyHeaders) => {
            return Err(too_large(format!("more than {} fields", limits.fields_max)));
        }
        Err(error) => return Err(Error::new(Kind::UpstreamProtocol, error.to_string())),
    };
    let head = bytes.get(..head_bytes).unwrap_or(bytes);
    if has_bare_lf(head) {
        return Err(Error::new(Kind::UpstreamProtocol, "a line of the head ends in a bare LF"));
    }
    let (Some(status), Some(version)) = (raw.code, raw.version) else { return Ok(None) };
    if !(100..=599).contains(&status) {
        return Err(Error::new(Kind::UpstreamProtocol, format!("status {status}")));
    }
    let mut fields = Fields::with_bytes(head);
    for field in raw.headers.iter() {
        fields.index(span_of(head, field.name.as_bytes()), span_of(head, field.value));
    }
    let version = if version == 0 { Version::Http10 } else { Version::Http11 };
    let reason = raw.reason.filter(|reason| !reason.is_empty());
    let reason = reason.map_or_else(Default::default, |reason| span_of(head, reason.as_bytes()));
    finish(ResponseHead { status, version, reason, fields }, head_bytes, method).map(Some)
}

fn finish(mut head: ResponseHead, head_bytes: usize, method: Method) -> Result<Response> {
    let is_http_10 = head.version == Version::Http10;
    let declared = framing(&mut head.fields, is_http_10).map_err(|bad| {
        let why = match bad {
            BadFraming::Ambiguous(why) => why,
            BadFraming::Coding => "a transfer coding that was not asked for",
        };
        Error::new(Kind::UpstreamProtocol, why)
    })?;
    let framing = if head.is_bodiless() || method == Method::Head {
        Framing::None
    } else {
        match declared {
            Some(Framing::Length(0)) => Framing::None,
            Some(framing) => framing,
            None => Framing::Close,
        }
    };
    // RFC 9110 §8.6: no Content-Length in 1xx and 204; what it said cannot be true.
    if matches!(head.status, 100..=199 | 204) {
        head.fields.remove(Known::ContentLength);
    }
    let is_keep_alive =
        framing != Framing::Close && connection_options(&head.fields).is_keep_alive(is_http_10);
    Ok(Response { head, head_bytes, framing, is_keep_alive })
}

fn too_large(detail: String) -> Error {
    Error::new(Kind::ResponseHeadTooLarge, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: HeadLimits = HeadLimits { head_bytes_max: 1024, fields_max: 8, target_bytes_max: 64 };

    fn parse(text: &str, method: Method) -> Result<Option<Response>> {
        parse_interim_or_final(text.as_bytes(), &LIMITS, method)
    }

    #[test]
    fn framing_follows_status_method_and_fields() {
        for (head, method, framing, is_keep_alive) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n", Method::Get, Framing::Length(5), true),
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n", Method::Head, Framing::None, true),
            ("HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n", Method::Get, Framing::None, true),
            ("HTTP/1.1 204 No Content\r\n", Method::Get, Framing::None, true),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n", Method::Get, Framing::Chunked, true),
            ("HTTP/1.1 200 OK\r\n", Method::Get, Framing::Close, false),
            ("HTTP/1.0 200 OK\r\nContent-Length: 1\r\n", Method::Get, Framing::Length(1), false),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: close\r\n",
                Method::Get,
                Framing::Length(1),
                false,
            ),
            ("HTTP/1.1 200\r\nContent-Length: 0\r\n", Method::Get, Framing::None, true),
        ] {
            let response = parse(&format!("{head}\r\n"), method).unwrap().unwrap();
            assert_eq!((response.framing, response.is_keep_alive), (framing, is_keep_alive), "{head:?}");
        }
    }

    #[test]
    fn what_is_refused() {
        for head in [
            "HTTP/1.1 099 X\r\n",
            "HTTP/1.1 1000 X\r\n",
            "HTTP/1.1 600 X\r\n",
            "HTTP/1.1 abc X\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 1, 1\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n",
            "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n",
            "HTTP/1.1 200 OK\nX: 1\r\n",
            "ICY 200 OK\r\n",
        ] {
            let error = parse(&format!("{head}\r\n"), Method::Get).expect_err(head);
            assert_eq!(error.kind(), Kind::UpstreamProtocol, "{head:?}");
        }
        let many: String = (0..9).map(|n| format!("x{n}: 1\r\n")).collect();
        let error = parse(&format!("HTTP/1.1 200 OK\r\n{many}\r\n"), Method::Get).unwrap_err();
        assert_eq!(error.kind(), Kind::ResponseHeadTooLarge);
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_parsed_or_refused(bytes: Vec<u8>) {
            let _ = parse_interim_or_final(&bytes, &LIMITS, Method::Get);
        }
    }
}
