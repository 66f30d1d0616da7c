//! Request hygiene: one canonical reading of every request, before anything is decided about it.
//!
//! Why: a route, a policy and the upstream must agree on what was asked, or each difference is a way around one of
//! them. What has two readings is refused; what has two spellings is rewritten to one; what was meant for this hop
//! stays on it. Sources: RFC 9110 §7.2 (Host), §7.6 (hop-by-hop fields, Max-Forwards, Via), §10.1.1 (Expect),
//! §10.1.4 (TE); RFC 3986 §3.2.2 and §6.2.2 (hosts, paths); Envoy's `path_normalization` for the options.
//!
//! Position: outside everything that reads the head (context, capture, route), so that nobody sees a field that a
//! peer smuggled past its hop, or a path that is not the one that is forwarded. The same for HTTP/1 and HTTP/2.
//!
//! Cost: a request that is canonical already costs one table look-up for each byte of host, path and query, and one
//! load for each field that is not there; nothing is copied.
//!
//! How it fails: with [`Kind::RequestRefused`], [`Kind::ProtectedFieldNominated`] or [`Kind::ExpectationFailed`] and a
//! detail for the event; the connection stays usable. Answers of an upstream are cleaned, never refused.

mod authority;
mod forwarding;
mod hop_by_hop;
mod path;
#[cfg(test)]
mod tests;

use crate::error::{Error, Kind, Result};
use crate::exchange::{Answer, Ctx, Exchange, Hook, Response};
use crate::limits;
use crate::svc::fields::is_token_byte;
use crate::svc::{Body, Known, Method, RequestHead, ResponseHead, Version};

pub use path::{Rules, normalize as normalize_path};

/// The hook. Two bytes of settings, so a clone for each exchange is free.
#[derive(Clone, Copy, Debug)]
pub struct Normalize {
    rules: path::Rules,
}

impl Normalize {
    /// Makes requests canonical as `limits.path` says.
    pub fn new(path: &limits::Path) -> Normalize {
        Normalize { rules: path::Rules::new(path) }
    }
}

impl Hook for Normalize {
    fn before(&self, exchange: &mut Exchange) -> Result<Option<Response>> {
        let ctx = &exchange.ctx;
        let head = &mut *exchange.head;
        check_authority(head, ctx)?;
        self.check_target(head)?;
        check_expect(head)?;
        hop_by_hop::strip_request(head)?;
        check_upgrade(head)?;
        if let Some(response) = count_forwards(head, ctx)? {
            return Ok(Some(response));
        }
        forwarding::append(head, &ctx.connection);
        Ok(None)
    }

    fn after(&self, _ctx: &Ctx, answer: &mut Answer) {
        if let Ok(response) = answer {
            let is_tunnel = response.tunnel.is_some();
            hop_by_hop::strip_response(&mut response.head, is_tunnel);
        }
    }
}

fn refused(why: &'static str) -> Error {
    Error::new(Kind::RequestRefused, why)
}

/// Host and port are what RFC 3986 calls so. An HTTP/1.0 client may name none; then the address that it reached
/// stands for it, because every later hop needs one (RFC 9112 §3.3).
fn check_authority(head: &mut RequestHead, ctx: &Ctx) -> Result<()> {
    if head.authority.is_empty() && head.version == Version::Http10 {
        let local = ctx.connection.local.to_string();
        head.set_authority(local.as_bytes());
        return Ok(());
    }
    let bytes = authority::check(head.authority()).map_err(refused)?;
    head.authority.len = bytes as u32; // shorter by the colon of an empty port, or the same
    Ok(())
}

impl Normalize {
    /// The path becomes canonical; the query is only looked at.
    fn check_target(&self, head: &mut RequestHead) -> Result<()> {
        if head.path() == b"*" {
            if head.method != Method::Options {
                return Err(refused("the path `*` is for OPTIONS"));
            }
        } else if let Some(canonical) = path::normalize(head.path(), self.rules).map_err(refused)? {
            head.set_path(&canonical);
        }
        match head.query() {
            Some(query) => path::check_query(query).map_err(refused),
            None => Ok(()),
        }
    }
}

/// The only expectation there is. From HTTP/1.0 it is ignored (RFC 9110 §10.1.1), so it goes no further: the upstream
/// would answer with a 100 that the client cannot read.
fn check_expect(head: &mut RequestHead) -> Result<()> {
    if !head.fields.has(Known::Expect) {
        return Ok(());
    }
    if !head.fields.all(Known::Expect).all(|value| value.eq_ignore_ascii_case(b"100-continue")) {
        return Err(Error::new(Kind::ExpectationFailed, "an expectation other than 100-continue"));
    }
    if head.version == Version::Http10 {
        head.fields.remove(Known::Expect);
    }
    Ok(())
}

/// An upgrade is carried when it is to one protocol, and that is not another form of HTTP: behind such an upgrade,
/// requests would pass that nobody looked at (h2c smuggling). What is not carried is ignored, as RFC 9110 §7.8 allows;
/// an extended CONNECT has no other meaning, so it is refused.
fn check_upgrade(head: &mut RequestHead) -> Result<()> {
    let Some(protocol) = head.upgrade() else { return Ok(()) };
    if is_carried(protocol) {
        return Ok(());
    }
    if head.method == Method::Connect {
        return Err(refused("`:protocol` is not a protocol that is carried"));
    }
    head.upgrade = None;
    Ok(())
}

/// `protocol = protocol-name ["/" protocol-version]`, one, neither HTTP nor TLS.
fn is_carried(protocol: &[u8]) -> bool {
    let mut parts = protocol.splitn(2, |byte| *byte == b'/');
    let name = parts.next().unwrap_or_default();
    let is_token = |part: &[u8]| !part.is_empty() && part.iter().all(|byte| is_token_byte(*byte));
    let is_http =
        [&b"h2"[..], b"h2c", b"http", b"https", b"tls"].iter().any(|other| name.eq_ignore_ascii_case(other))
            || name.get(..4).is_some_and(|start| start.eq_ignore_ascii_case(b"h2c-"));
    is_token(name) && parts.next().is_none_or(is_token) && !is_http
}

/// RFC 9110 §7.6.2: OPTIONS and TRACE say how far they go. At zero this proxy is the one that was meant.
fn count_forwards(head: &mut RequestHead, ctx: &Ctx) -> Result<Option<Response>> {
    if !head.fields.has(Known::MaxForwards) || !matches!(head.method, Method::Options | Method::Trace) {
        return Ok(None);
    }
    if head.fields.is_repeated(Known::MaxForwards) {
        return Ok(None);
    }
    let left = head.fields.get(Known::MaxForwards).and_then(decimal);
    match left {
        Some(0) if head.method == Method::Trace => {
            Err(Error::new(Kind::MethodRefused, "TRACE ends at this proxy, which echoes nothing"))
        }
        Some(0) => {
            ctx.recorder.fail(&Error::from(Kind::MaxForwards));
            Ok(Some(Response::new(ResponseHead::new(200), Body::empty())))
        }
        Some(hops) => {
            head.fields.set(Known::MaxForwards, (hops - 1).to_string().as_bytes());
            Ok(None)
        }
        None => Ok(None),
    }
}

/// `1*DIGIT` that fits a `u32`; more hops than that are no limit.
fn decimal(value: &[u8]) -> Option<u32> {
    let is_digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(value).ok().filter(|_| is_digits)?.parse().ok()
}
