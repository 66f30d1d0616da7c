//! JSON Web Tokens (RFC 7519) of a recording: their times shifted to now, signed again.
//!
//! With a shared secret only (HS256, HS384, HS512): who has it may. A token of another algorithm, or one without a key here,
//! is only replaced where the target issued another. How it fails: what is not a token is left as it is; a key that
//! cannot be read is an error when it is read.

use super::base64;
use super::text::substituted_json;
use aws_lc_rs::hmac;
use serde_json::{Map, Value};
use std::borrow::Cow;

/// A larger key file is not a key.
const KEY_BYTES_MAX: u64 = 64 << 10;

/// A secret that tokens are signed with.
#[derive(Clone)]
pub struct Key {
    name: &'static str,
    key: hmac::Key,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Key({})", self.name)
    }
}

impl Key {
    /// `HS256:secret`, or `HS256:@path` for the content of a file, less the line end; also `HS384`, `HS512`.
    ///
    /// # Errors
    /// One line, without the secret.
    pub fn parse(text: &str) -> Result<Key, String> {
        let wrong = "a JWT key is written `HS256:SECRET` or `HS256:@FILE` (also HS384, HS512)";
        let (name, secret) = text.split_once(':').ok_or(wrong)?;
        let (name, algorithm) = match name {
            "HS256" => ("HS256", hmac::HMAC_SHA256),
            "HS384" => ("HS384", hmac::HMAC_SHA384),
            "HS512" => ("HS512", hmac::HMAC_SHA512),
            _ => return Err(format!("JWT key: `{name}` is not an algorithm known here; {wrong}")),
        };
        let secret = match secret.strip_prefix('@') {
            None => Cow::Borrowed(secret.as_bytes()),
            Some(path) => {
                let read = || {
                    let mut bytes = Vec::new();
                    let file = std::fs::File::open(path)?;
                    std::io::Read::read_to_end(&mut std::io::Read::take(file, KEY_BYTES_MAX), &mut bytes)?;
                    Ok::<_, std::io::Error>(bytes)
                };
                let bytes = read().map_err(|error| format!("JWT key: {path}: {error}"))?;
                let end = bytes.iter().rposition(|b| !b"\r\n".contains(b)).map_or(0, |at| at + 1);
                Cow::Owned(bytes.get(..end).unwrap_or_default().to_vec())
            }
        };
        if secret.is_empty() {
            return Err(format!("JWT key: the secret is empty; {wrong}"));
        }
        Ok(Key { name, key: hmac::Key::new(algorithm, &secret) })
    }
}

/// Whether a text has a token's form.
pub(super) fn is_token(text: &str) -> bool {
    // `{"` is `ey` in base64.
    text.starts_with("ey")
        && text.len() <= super::values::VALUE_BYTES_MAX
        && text.bytes().filter(|b| *b == b'.').count() == 2
}

fn object(part: &str) -> Option<Map<String, Value>> {
    serde_json::from_slice(&base64::decode(part)?).ok()
}

/// The token with its times moved by `shift_s` and what `replace` knows replaced, signed again; `None`: it is no token, or
/// there is no key for it.
pub(super) fn renewed(
    keys: &[Key],
    token: &str,
    shift_s: i64,
    replace: &mut dyn FnMut(&str) -> Option<String>,
) -> Option<String> {
    let mut parts = token.split('.');
    let (head, claims) = (parts.next()?, parts.next()?);
    let algorithm = object(head)?;
    let key = keys.iter().find(|key| algorithm.get("alg").and_then(Value::as_str) == Some(key.name))?;
    let mut claims = object(claims)?;
    for name in ["exp", "nbf", "iat", "auth_time"] {
        if let Some(value) = claims.get_mut(name) {
            if let Some(at) = value.as_i64() {
                *value = at.saturating_add(shift_s).into();
            } else if let Some(at) = value.as_f64() {
                *value = (at + shift_s as f64).into();
            }
        }
    }
    let claims = serde_json::to_vec(&claims).ok()?;
    let claims = substituted_json(&claims, replace).unwrap_or(claims);
    let signed = format!("{head}.{}", base64::encode(&claims));
    let tag = hmac::sign(&key.key, signed.as_bytes());
    Some(format!("{signed}.{}", base64::encode(tag.as_ref())))
}
