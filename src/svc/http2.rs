//! Heads at hyper's boundary: from and to `http`'s types, for HTTP/2.

use super::fields::{Span, is_field_value};
use super::{Fields, Known, Method, RequestHead, ResponseHead, Scheme, Version};
use crate::error::{Error, Kind, Result};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};

/// A section from hyper's map.
pub fn fields_from(map: &HeaderMap) -> Fields {
    let mut fields = Fields::new();
    for (name, value) in map {
        fields.push(name.as_str().as_bytes(), value.as_bytes());
    }
    fields
}

/// A request head from hyper's parts. `cookie` crumbs are joined (RFC 9113 §8.2.3); `host` gives way to `:authority`.
///
/// # Errors
/// [`Kind::RequestRefused`] where `:authority` and `host` disagree, or a pseudo-header is missing.
pub fn request_from(parts: &http::request::Parts, scheme: Scheme) -> Result<RequestHead> {
    let mut fields = Fields::new();
    for (name, value) in &parts.headers {
        if !is_field_value(value.as_bytes()) {
            return Err(Error::new(Kind::MalformedRequest, "a field value has a control character"));
        }
        fields.push(name.as_str().as_bytes(), value.as_bytes());
    }
    join_cookies(&mut fields);
    let method = parts.method.as_str().as_bytes();
    let method = Method::from_known(method).unwrap_or_else(|| Method::Other(fields.store(method)));
    let authority = authority(parts, &mut fields)?;
    let path = parts.uri.path();
    let path = if path.is_empty() { "/" } else { path };
    let (path, query) =
        (fields.store(path.as_bytes()), parts.uri.query().map(|query| fields.store(query.as_bytes())));
    let upgrade = parts
        .extensions
        .get::<hyper::ext::Protocol>()
        .map(|protocol| fields.store(protocol.as_str().as_bytes()));
    if method == Method::Connect && upgrade.is_none() {
        return Err(Error::new(Kind::MethodRefused, "CONNECT is not carried by a sidecar"));
    }
    Ok(RequestHead { method, version: Version::Http2, scheme, authority, path, query, upgrade, fields })
}

fn authority(parts: &http::request::Parts, fields: &mut Fields) -> Result<Span> {
    let host = fields.span_of(Known::Host);
    let is_repeated = fields.is_repeated(Known::Host);
    let authority = parts.uri.authority().map(|authority| authority.as_str());
    let span = match (authority, host) {
        _ if is_repeated => return Err(Error::new(Kind::RequestRefused, "host is there more than once")),
        (Some(authority), Some(host)) if !fields.bytes(host).eq_ignore_ascii_case(authority.as_bytes()) => {
            return Err(Error::new(Kind::RequestRefused, ":authority and host disagree"));
        }
        (Some(authority), _) => fields.store(authority.as_bytes()),
        (None, Some(host)) => host,
        (None, None) => return Err(Error::new(Kind::RequestRefused, "neither :authority nor host is there")),
    };
    fields.remove(Known::Host);
    Ok(span)
}

fn join_cookies(fields: &mut Fields) {
    if !fields.is_repeated(Known::Cookie) {
        return;
    }
    let mut joined = Vec::new();
    for crumb in fields.all(Known::Cookie) {
        if !joined.is_empty() {
            joined.extend_from_slice(b"; ");
        }
        joined.extend_from_slice(crumb);
    }
    fields.set(Known::Cookie, &joined);
}

/// A response head from hyper's parts.
pub fn response_from(parts: &http::response::Parts) -> ResponseHead {
    let mut head = ResponseHead::new(parts.status.as_u16());
    head.version = Version::Http2;
    head.fields = fields_from(&parts.headers);
    head
}

/// A section as hyper's map, without what HTTP/2 forbids (RFC 9113 §8.2.2). Values share one copy of the buffer.
pub fn map_from(fields: &Fields) -> HeaderMap {
    let bytes = Bytes::copy_from_slice(fields.buffer());
    let mut map = HeaderMap::with_capacity(fields.len() + 1);
    for (name, value, known) in fields.spans() {
        if known.is_some_and(|known| is_forbidden(known, fields.bytes(value))) {
            continue;
        }
        let value = bytes.slice(value.start as usize..(value.start + value.len) as usize);
        let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(fields.bytes(name)), HeaderValue::from_maybe_shared(value))
        else {
            continue; // what `http` refuses cannot be written in HTTP/2
        };
        map.append(name, value);
    }
    map
}

fn is_forbidden(known: Known, value: &[u8]) -> bool {
    match known {
        Known::Connection
        | Known::KeepAlive
        | Known::ProxyConnection
        | Known::TransferEncoding
        | Known::Upgrade
        | Known::Host
        | Known::Http2Settings => true,
        Known::Te => !value.eq_ignore_ascii_case(b"trailers"),
        _ => false,
    }
}

/// A request for hyper's HTTP/2 client.
///
/// # Errors
/// [`Kind::RequestRefused`] when the target cannot be written as a URI.
pub fn request_to<B>(head: &RequestHead, scheme: Scheme, body: B) -> Result<http::Request<B>> {
    let refused = |_| Error::new(Kind::RequestRefused, "the target cannot be written as a URI");
    let mut target =
        Vec::with_capacity(head.path.len as usize + head.query.map_or(0, |query| query.len as usize) + 1);
    target.extend_from_slice(head.path());
    if let Some(query) = head.query() {
        target.push(b'?');
        target.extend_from_slice(query);
    }
    let mut uri = http::uri::Parts::default();
    uri.scheme =
        Some(if scheme == Scheme::Https { http::uri::Scheme::HTTPS } else { http::uri::Scheme::HTTP });
    uri.path_and_query =
        Some(http::uri::PathAndQuery::from_maybe_shared(Bytes::from(target)).map_err(refused)?);
    let authority = Bytes::copy_from_slice(head.authority());
    uri.authority = Some(http::uri::Authority::from_maybe_shared(authority).map_err(refused)?);
    let mut request = http::Request::new(body);
    *request.version_mut() = http::Version::HTTP_2;
    *request.uri_mut() = http::Uri::from_parts(uri)
        .map_err(|_| Error::new(Kind::RequestRefused, "the target cannot be written as a URI"))?;
    *request.method_mut() = http::Method::from_bytes(head.method_bytes())
        .map_err(|_| Error::new(Kind::RequestRefused, "the method is not a token"))?;
    *request.headers_mut() = map_from(&head.fields);
    Ok(request)
}

/// A response for hyper's HTTP/2 server.
pub fn response_to<B>(head: &ResponseHead, body: B) -> http::Response<B> {
    let mut response = http::Response::new(body);
    *response.version_mut() = http::Version::HTTP_2;
    *response.status_mut() = http::StatusCode::from_u16(head.status).unwrap_or(http::StatusCode::BAD_GATEWAY);
    *response.headers_mut() = map_from(&head.fields);
    response
}
