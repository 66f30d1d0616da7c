//! AWS Signature Version 4: how a request to AWS, or to what speaks like it, says who sends it.
//!
//! What: the `Authorization` header of one request, with the content's digest in it, and a session token where there is
//! one. Source: <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html>. The digests
//! are aws-lc's. How it fails: it cannot; a wrong key or clock is the other side's 403.

mod keys;

pub(crate) use keys::Keys;

use crate::pipeline::encode::rfc3339;
use crate::svc::hex;
use aws_lc_rs::{digest, hmac};
use std::fmt::Write;
use std::time::SystemTime;

/// What is signed of a request.
pub(crate) struct Request<'a> {
    /// `PUT`.
    pub(crate) method: &'a str,
    /// The path as it is sent: see [`encode`].
    pub(crate) path: &'a str,
    /// The query, encoded and sorted; empty: none.
    pub(crate) query: &'a str,
    /// The fields that are signed, `host` and `x-amz-date` among them; names in lower case.
    pub(crate) headers: &'a [(&'a str, &'a str)],
    /// The SHA-256 of the content, as [`sha256`] gives it.
    pub(crate) content: &'a str,
}

/// For whom a signature is.
#[derive(Clone, Copy)]
pub(crate) struct Scope<'a> {
    /// `eu-central-1`.
    pub(crate) region: &'a str,
    /// `s3`.
    pub(crate) service: &'a str,
}

/// The fields of a request, by name and value: those it has, `x-amz-date`, the token if there is one, and `authorization`.
/// `host` is signed, too, but not among them: the client writes it.
pub(crate) fn headers(
    request: &Request<'_>,
    scope: Scope<'_>,
    host: &str,
    keys: &Keys,
    at: SystemTime,
) -> Vec<(String, String)> {
    let date = amz_date(at);
    let mut signed = request.headers.to_vec();
    signed.push(("x-amz-date", &date));
    signed.extend(keys.session_token().map(|token| ("x-amz-security-token", token)));
    let mut sent: Vec<(String, String)> =
        signed.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    signed.push(("host", host));
    let authorization = authorization(&Request { headers: &signed, ..*request }, scope, keys, &date);
    sent.push(("authorization".to_owned(), authorization));
    sent
}

/// The value of `Authorization`, for a request that was made at `date` (`20150830T123600Z`).
pub(crate) fn authorization(request: &Request<'_>, scope: Scope<'_>, keys: &Keys, date: &str) -> String {
    let mut headers = request.headers.to_vec();
    headers.sort_unstable();
    let names = headers.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(";");
    let mut canonical = format!("{}\n{}\n{}\n", request.method, request.path, request.query);
    for (name, value) in &headers {
        // White space around the value, and more than one space in it, do not count.
        let value = value.split_ascii_whitespace().collect::<Vec<_>>().join(" ");
        // Writing into memory does not fail.
        let _ = writeln!(canonical, "{name}:{value}");
    }
    let _ = write!(canonical, "\n{names}\n{}", request.content);
    let day = date.get(..8).unwrap_or(date);
    let place = format!("{day}/{}/{}/aws4_request", scope.region, scope.service);
    let to_sign = format!("AWS4-HMAC-SHA256\n{date}\n{place}\n{}", sha256(canonical.as_bytes()));

    let mut key = hmac(format!("AWS4{}", keys.secret_access_key()).as_bytes(), day);
    for part in [scope.region, scope.service, "aws4_request"] {
        key = hmac(key.as_ref(), part);
    }
    let signature = hex::encode(hmac(key.as_ref(), &to_sign).as_ref());
    let id = keys.access_key_id();
    format!("AWS4-HMAC-SHA256 Credential={id}/{place}, SignedHeaders={names}, Signature={signature}")
}

/// The SHA-256 of `content` in hex digits.
pub(crate) fn sha256(content: &[u8]) -> String {
    hex::encode(digest::digest(&digest::SHA256, content).as_ref())
}

/// A moment as AWS writes it: `20150830T123600Z`.
pub(crate) fn amz_date(at: SystemTime) -> String {
    let text = rfc3339(at);
    let seconds = text.split('.').next().unwrap_or_default();
    let mut date: String = seconds.chars().filter(|char| !matches!(char, '-' | ':' | 'Z')).collect();
    date.push('Z');
    date
}

/// A path as it is sent and signed: everything but letters, digits, `-._~` and `/` in hex (RFC 3986's unreserved).
pub(crate) fn encode(path: &str) -> String {
    let mut encoded = String::with_capacity(path.len() + path.len() / 4);
    for byte in path.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                encoded.push(byte.into())
            }
            _ => {
                let _ = write!(encoded, "%{byte:02X}");
            }
        }
    }
    encoded
}

/// The domain of AWS in a region.
pub(crate) fn domain(region: &str) -> &'static str {
    if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" }
}

fn hmac(key: &[u8], text: &str) -> hmac::Tag {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes())
}

#[cfg(test)]
mod tests;
