//! The text of a signature, and the bytes that are signed.

use super::{Claims, TOKEN_BYTES_MAX, TTL_MAX_S, base64};
use crate::context::fields::{self, Field};

/// Keeps these signatures apart from everything else that the same key may sign. Ends in a zero byte, so that no
/// other prefix begins with it.
const DOMAIN: &[u8] = b"sidelight context signature v1\0";
/// The only version.
const VERSION: &[u8] = b"v1";
/// The most bytes of a key id.
pub(in crate::context) const KEY_ID_BYTES_MAX: usize = 16;
/// The most bytes of an issuer.
const ISSUER_BYTES_MAX: usize = 64;
/// The most digits of a time: seconds until the year 33658.
const TIME_DIGITS_MAX: usize = 12;
/// Bytes of the longest signature, Ed25519's.
const SIGNATURE_BYTES_MAX: usize = 64;
/// Bytes of the shortest signature, HMAC-SHA256's.
const SIGNATURE_BYTES_MIN: usize = 32;

const _: () = assert!(
    "v1".len() + KEY_ID_BYTES_MAX + TIME_DIGITS_MAX + "300".len() + ISSUER_BYTES_MAX + 86 + 5
        <= TOKEN_BYTES_MAX
);

/// Who signs, as it stands in the token: the name of the service in `A-Z a-z 0-9 _ -`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issuer(Box<str>);

impl Issuer {
    /// Takes any name: what a token cannot hold becomes `-`, after 64 bytes it is cut, and nothing is called
    /// `unnamed`. It is told to people and grants nothing, so two names may become one.
    pub fn new(name: &str) -> Issuer {
        let text: String = name
            .chars()
            .take(ISSUER_BYTES_MAX)
            .map(|char| if char.is_ascii() && is_name_byte(char as u8) { char } else { '-' })
            .collect();
        Issuer(if text.is_empty() { "unnamed".into() } else { text.into() })
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A token that is well formed; nothing is said about whether it is true.
#[derive(Clone, Copy, Debug)]
pub(super) struct Token<'t> {
    /// All before the signature and its dot.
    pub head: &'t [u8],
    pub key_id: &'t str,
    pub issued_s: u64,
    pub expires_s: u64,
    pub issuer: &'t str,
    pub signature: Signature,
}

/// The bytes of a signature.
#[derive(Clone, Copy, Debug)]
pub(super) struct Signature {
    bytes: [u8; SIGNATURE_BYTES_MAX],
    len: usize,
}

impl Signature {
    /// `None` when there are more bytes than a signature has.
    pub(super) fn new(from: &[u8]) -> Option<Signature> {
        let mut bytes = [0; SIGNATURE_BYTES_MAX];
        bytes.get_mut(..from.len())?.copy_from_slice(from);
        Some(Signature { bytes, len: from.len() })
    }

    fn parse(text: &[u8]) -> Option<Signature> {
        let mut bytes = [0; SIGNATURE_BYTES_MAX];
        let len = base64::decode(text, &mut bytes)?.len();
        matches!(len, SIGNATURE_BYTES_MIN | SIGNATURE_BYTES_MAX).then_some(Signature { bytes, len })
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

impl<'t> Token<'t> {
    pub(super) fn parse(bytes: &'t [u8]) -> Option<Token<'t>> {
        if bytes.len() > TOKEN_BYTES_MAX {
            return None;
        }
        let mut parts = bytes.splitn(6, |byte| *byte == b'.');
        let version = parts.next()?;
        let key_id = name(parts.next()?, KEY_ID_BYTES_MAX)?;
        let issued_s = number(parts.next()?)?;
        let ttl_s = number(parts.next()?)?;
        let issuer = name(parts.next()?, ISSUER_BYTES_MAX)?;
        let text = parts.next()?;
        let head = bytes.get(..bytes.len().checked_sub(text.len() + 1)?)?;
        let signature = Signature::parse(text)?;
        let is_valid = version == VERSION && (1..=TTL_MAX_S).contains(&ttl_s);
        let expires_s = issued_s + ttl_s; // both are bounded by their digits
        is_valid.then_some(Token { head, key_id, issued_s, expires_s, issuer, signature })
    }
}

/// Appends what comes before the signature. `false`, and nothing is appended, when the time has too many digits.
pub(super) fn write_head(
    key_id: &str,
    issued_s: u64,
    ttl_s: u64,
    issuer: &Issuer,
    out: &mut Vec<u8>,
) -> bool {
    if issued_s >= 10_u64.pow(TIME_DIGITS_MAX as u32) {
        return false;
    }
    out.extend_from_slice(VERSION);
    out.push(b'.');
    out.extend_from_slice(key_id.as_bytes());
    out.push(b'.');
    write_number(issued_s, out);
    out.push(b'.');
    write_number(ttl_s, out);
    out.push(b'.');
    out.extend_from_slice(issuer.0.as_bytes());
    true
}

/// Appends the signed bytes: domain, the token's head as it is spelled, the trace, and every claim.
///
/// No two sets of claims give the same bytes: everything whose length may vary has its length before it, the five
/// fields of every request come in one order whether they are there or not, and further fields come after them.
pub(super) fn write_signed(head: &[u8], claims: &Claims<'_>, out: &mut Vec<u8>) {
    write_domain(head.len(), out);
    out.extend_from_slice(head);
    write_claims(claims, out);
}

/// [`write_signed`] for the head that is the end of `out`, from `start` on.
pub(super) fn write_signed_within(start: usize, claims: &Claims<'_>, out: &mut Vec<u8>) {
    let end = out.len();
    write_domain(end - start, out);
    out.extend_from_within(start..end);
    write_claims(claims, out);
}

fn write_domain(head_bytes: usize, out: &mut Vec<u8>) {
    out.extend_from_slice(DOMAIN);
    out.push(u8::try_from(head_bytes).unwrap_or(u8::MAX)); // a head is shorter than TOKEN_BYTES_MAX
}

fn write_claims(claims: &Claims<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(&claims.trace_id);
    write_claim(Field::UserId.name(), claims.user_id, out);
    write_claim(Field::AccountId.name(), claims.account_id, out);
    write_claim(Field::License.name(), claims.license, out);
    write_claim(Field::RequestType.name(), claims.request_type.as_str().as_bytes(), out);
    write_flags(claims.flags, out);
    for (name, value) in claims.extra.iter().filter(|(_, value)| !value.is_empty()) {
        write_claim(name, value, out);
    }
}

fn write_claim(name: &str, value: &[u8], out: &mut Vec<u8>) {
    write_name(name, out);
    out.extend_from_slice(&length(value.len()));
    out.extend_from_slice(value);
}

/// Flags are signed as the list that they are, for a hop may write `a,b` where it read `a, b`.
fn write_flags(list: &[u8], out: &mut Vec<u8>) {
    write_name(Field::Flags.name(), out);
    let place = out.len();
    out.extend_from_slice(&length(0));
    let start = out.len();
    for flag in fields::flags(list) {
        if out.len() > start {
            out.push(b',');
        }
        out.extend_from_slice(flag);
    }
    let bytes = length(out.len() - start);
    if let Some(place) = out.get_mut(place..start) {
        place.copy_from_slice(&bytes);
    }
}

fn write_name(name: &str, out: &mut Vec<u8>) {
    out.push(u8::try_from(name.len()).unwrap_or(u8::MAX)); // names have at most 32 bytes
    out.extend_from_slice(name.as_bytes());
}

/// Values are bounded far below 4 GiB.
fn length(bytes: usize) -> [u8; 4] {
    u32::try_from(bytes).unwrap_or(u32::MAX).to_be_bytes()
}

fn write_number(number: u64, out: &mut Vec<u8>) {
    let (mut digits, mut rest, mut at) = ([0; 20], number, 20_usize);
    while let Some(slot) = at.checked_sub(1).and_then(|before| digits.get_mut(before)) {
        *slot = b'0' + (rest % 10) as u8;
        at -= 1;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.get(at..).unwrap_or_default());
}

/// Digits without a leading zero, at most [`TIME_DIGITS_MAX`].
fn number(text: &[u8]) -> Option<u64> {
    let is_number = (1..=TIME_DIGITS_MAX).contains(&text.len())
        && text.iter().all(u8::is_ascii_digit)
        && (text.len() == 1 || text.first() != Some(&b'0'));
    is_number.then(|| text.iter().fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0')))
}

fn name(text: &[u8], bytes_max: usize) -> Option<&str> {
    std::str::from_utf8(text).ok().filter(|text| is_name(text, bytes_max))
}

/// Whether a key id or an issuer may be called this.
pub(in crate::context) fn is_name(text: &str, bytes_max: usize) -> bool {
    (1..=bytes_max).contains(&text.len()) && text.bytes().all(is_name_byte)
}

/// What needs no escaping anywhere and is not the dot that separates.
fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')
}
