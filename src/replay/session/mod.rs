//! Sessions: a value that the recorded server made (a cookie, a token, an id) is another one in the replay, so what later
//! requests say is replaced.
//!
//! What: [`Sessions::learn`] pairs what was recorded with what the target answered; [`Sessions::rewrite`] replaces, in a
//! recorded request, whole values by their pairs: cookies, credentials, other fields, path segments, query values, forms and
//! JSON. An actor is whoever has a session of its own: an account, a user, a clone of one, or a connection.
//! Redacted values work alike: a recording has one token for one value, wherever it was.
//! Why: without it the first login is the last request that succeeds.
//! How it fails: a value which is not learned stays as it was recorded, and the target says what it thinks of it. Content of gRPC
//! messages, and content in a coding that is not known (`br`), is neither read nor rewritten.

mod base64;
mod jwt;
mod learn;
#[cfg(test)]
mod tests;
mod text;
mod values;

pub use jwt::Key;
pub use values::{ACTORS_MAX, VALUE_BYTES_MAX, VALUES_MAX, VALUES_TOTAL_MAX};

use crate::record::{Entry, Field, RequestHead, Side, entry::field};
use crate::replay::Answer;
use crate::replay::compare::coding::Codings;
use aws_lc_rs::hmac;
use bytes::Bytes;
use std::collections::HashMap;
use std::time::SystemTime;
use values::{Actors, Cookie, Values};

/// Fields that make a request safe to send twice; see [`Config::idempotency_headers`].
pub const IDEMPOTENCY_HEADERS: [&str; 3] = ["idempotency-key", "x-idempotency-key", "x-request-token"];
/// A larger body is sent as it was recorded.
const BODY_BYTES_MAX: usize = 8 << 20;
/// Fields in which nothing is replaced: they say how, not what. Cookies have a way of their own.
const FIELDS_KEPT: [&[u8]; 14] = [
    b"content-length",
    b"content-type",
    b"content-encoding",
    b"transfer-encoding",
    b"connection",
    b"accept",
    b"accept-encoding",
    b"accept-language",
    b"user-agent",
    b"te",
    b"upgrade",
    b"date",
    b"host",
    b"cookie",
];

/// A request that is about to be sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// Its head.
    pub head: RequestHead,
    /// Its content.
    pub body: Bytes,
    /// Which pass over the recording, from 0: keys that make a request safe to send twice differ from pass to pass.
    pub pass: u32,
}

/// What a user may set.
#[derive(Clone, Debug)]
pub struct Config {
    /// Paths in JSON answers (`/items/*/no`) whose values are learned however they look.
    pub learn: Vec<String>,
    /// Keys that JSON Web Tokens are signed with again.
    pub jwt_keys: Vec<Key>,
    /// Fields (lower case) whose values are made anew for each run, pass and clone: [`IDEMPOTENCY_HEADERS`].
    pub idempotency_headers: Vec<String>,
    /// The time that tokens are shifted to, nanoseconds since 1970; `None`: the clock's.
    pub now_ns: Option<u64>,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            learn: Vec::new(),
            jwt_keys: Vec::new(),
            idempotency_headers: IDEMPOTENCY_HEADERS.map(str::to_owned).to_vec(),
            now_ns: None,
        }
    }
}

/// What was done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Counts {
    /// Pairs learned.
    pub learned: u64,
    /// Values replaced in requests.
    pub replaced: u64,
    /// Tokens signed again.
    pub signed: u64,
    /// Pairs known now.
    pub known: u64,
}

/// See the module.
pub struct Sessions {
    config: Config,
    run: hmac::Key,
    actors: Actors,
    counts: Counts,
}

impl Sessions {
    /// Knows nothing yet. Two runs of one id send the same idempotency keys.
    pub fn new(config: Config, run_id: &str) -> Sessions {
        let run = hmac::Key::new(hmac::HMAC_SHA256, run_id.as_bytes());
        Sessions { config, run, actors: Actors::default(), counts: Counts::default() }
    }

    /// What was done so far.
    pub fn counts(&self) -> Counts {
        Counts { known: self.actors.total() as u64, ..self.counts }
    }

    /// Learns from the answer to a recorded exchange.
    pub fn learn(&mut self, actor: u64, entry: &Entry, answer: &Answer) {
        let Some(head) = entry.response_head() else { return };
        let listed = &self.config.learn;
        let learned = self.actors.with(actor, |values| {
            let mut learned = learn::cookies(values, &head.fields, &answer.fields);
            learned += learn::headers(values, &head.fields, &answer.fields);
            let is_whole =
                entry.is_whole() && entry.parts == 0 && answer.body_bytes == answer.body.len() as u64;
            if is_whole && answer.body.len() <= BODY_BYTES_MAX {
                let kind = field(&head.fields, b"content-type").unwrap_or_default();
                let recorded = entry.body(Side::Response);
                let before = Codings::of(&head.fields).and_then(|codings| codings.decoded(&recorded));
                let after = Codings::of(&answer.fields).and_then(|codings| codings.decoded(&answer.body));
                if let Some((before, after)) = before.zip(after) {
                    learned += learn::body(values, listed, kind, &before, &after);
                }
            }
            learned
        });
        self.counts.learned += learned as u64;
    }

    /// Replaces what is known in a request; `request` is the recorded one, or what was made of it.
    pub fn rewrite(&mut self, actor: u64, entry: &Entry, request: &mut Request) {
        let now_ns = self.config.now_ns.unwrap_or_else(|| {
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)
        });
        let shift_s = (now_ns / 1_000_000_000) as i64 - (entry.started_ns / 1_000_000_000) as i64;
        let (config, run) = (&self.config, &self.run);
        let pass = request.pass;
        let (mut replaced, mut signed) = (0, 0);
        self.actors.with(actor, |values| {
            let Values { pairs, jar, .. } = values;
            let mut replace = |text: &str| {
                if text.len() < 2 || text.len() > VALUE_BYTES_MAX {
                    return None;
                }
                let known = pairs.get(text).map(str::to_owned);
                let now = known.or_else(|| {
                    let is_token = !config.jwt_keys.is_empty() && jwt::is_token(text);
                    let mut inner = |text: &str| pairs.get(text).map(str::to_owned);
                    let token =
                        is_token.then(|| jwt::renewed(&config.jwt_keys, text, shift_s, &mut inner)).flatten();
                    signed += u64::from(token.is_some());
                    token
                });
                replaced += u64::from(now.is_some());
                now
            };
            if let Some(now) =
                text_of(&request.head.target).and_then(|text| text::substituted_target(text, &mut replace))
            {
                request.head.target = now.into();
            }
            cookies(jar, &mut request.head.fields, &mut replace);
            for field in &mut request.head.fields {
                let name = field.name.to_ascii_lowercase();
                if FIELDS_KEPT.contains(&&*name) {
                    continue;
                }
                let Some(value) = text_of(&field.value) else { continue };
                let is_key = config.idempotency_headers.iter().any(|key| key.as_bytes() == name);
                let now = match is_key {
                    true => Some(renewed_key(run, actor, pass, value)),
                    false => text::substituted(value, &mut replace),
                };
                // A learned value came out of an answer; it must not end the field.
                if let Some(now) = now.filter(|now| !now.bytes().any(|b| b < b' ' && b != b'\t' || b == 0x7f))
                {
                    field.value = now.into();
                }
            }
            if let Some(body) = body(request, &mut replace) {
                request.body = body.into();
                let length = request.body.len().to_string();
                for field in request.head.fields.iter_mut().filter(|field| field.is(b"content-length")) {
                    field.value = length.clone().into();
                }
            }
        });
        self.counts.replaced += replaced;
        self.counts.signed += signed;
    }
}

fn text_of(bytes: &Bytes) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}

/// The content with its values replaced; `None`: it stays.
fn body(request: &Request, replace: text::Replace<'_>) -> Option<Vec<u8>> {
    let fields = &request.head.fields;
    if request.body.is_empty() || request.body.len() > BODY_BYTES_MAX {
        return None;
    }
    let codings = Codings::of(fields)?;
    let plain = codings.decoded(&request.body)?;
    let kind = field(fields, b"content-type").unwrap_or_default().to_ascii_lowercase();
    let kind = kind.split(|b| *b == b';').next().unwrap_or_default().trim_ascii();
    if kind.ends_with(b"json") {
        return codings.encoded(text::substituted_json(&plain, replace)?);
    }
    if kind == b"application/x-www-form-urlencoded" {
        let form = text::substituted_form(std::str::from_utf8(&plain).ok()?, replace)?;
        return codings.encoded(form.into_bytes());
    }
    None
}

/// Cookies: by their value, or by their name if this replay's server set one, and those that only it set.
fn cookies(jar: &HashMap<Box<str>, Cookie>, fields: &mut [Field], replace: text::Replace<'_>) {
    let mut is_first = true;
    for cookie in fields.iter_mut().filter(|field| field.is(b"cookie")) {
        let Some(text) = std::str::from_utf8(&cookie.value).ok().map(str::to_owned) else { continue };
        let mut out = Vec::new();
        for pair in text.split(';').map(str::trim).filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let bare = value.trim_matches('"');
            let known = text::whole(bare, replace);
            let now = known.or_else(|| jar.get(name).map(|cookie| cookie.value.to_string()));
            out.push(now.map_or_else(|| pair.to_owned(), |now| format!("{name}={now}")));
        }
        if std::mem::take(&mut is_first) {
            let mut own: Vec<_> = jar.iter().filter(|(_, cookie)| !cookie.is_recorded).collect();
            own.sort_by_key(|(name, _)| (*name).clone());
            out.extend(own.iter().map(|(name, cookie)| format!("{name}={}", cookie.value)));
        }
        let now = out.join("; ");
        if !now.bytes().any(|b| b < b' ' || b == 0x7f) {
            cookie.value = now.into();
        }
    }
}

/// Another key of the same form, the same for the same key within an actor and a pass of a run.
fn renewed_key(run: &hmac::Key, actor: u64, pass: u32, key: &str) -> String {
    let mut context = hmac::Context::with_key(run);
    context.update(&actor.to_be_bytes());
    context.update(&pass.to_be_bytes());
    context.update(key.as_bytes());
    let hex: String = context.sign().as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let mut letters = hex.chars().cycle();
    let is_uuid = key.len() == 36
        && key.bytes().enumerate().all(|(at, b)| (b == b'-') == [8, 13, 18, 23].contains(&at));
    if is_uuid {
        // Version 4 and its variant (RFC 9562 §5.4), which some servers check.
        let of = |(at, _): (usize, char)| match at {
            8 | 13 | 18 | 23 => '-',
            14 => '4',
            19 => 'a',
            _ => letters.next().unwrap_or('0'),
        };
        return key.char_indices().map(of).collect();
    }
    hex.get(..32).unwrap_or(&hex).to_owned()
}
