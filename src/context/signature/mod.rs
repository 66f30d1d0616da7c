//! A signature that binds the business context of a request to its trace, so that inside the mesh nobody can invent
//! a user, raise a license or turn a tracer bullet into real work, or carry a context over to another trace.
//!
//! # The token
//!
//! `v1.{key id}.{issued}.{lifetime}.{issuer}.{signature}` in the header [`HEADER`], and under [`BAGGAGE_KEY`] in
//! baggage for applications that forward only that:
//!
//! `v1.k2.1795392000.300.edge-eu.Fj2X…` (about 80 bytes with HMAC, 120 with Ed25519)
//!
//! Times are decimal seconds since 1970 and a number of seconds; names have `A-Z a-z 0-9 _ -`; the signature is
//! base64url without padding. Nothing of it needs escaping in a header, in baggage or in a URL, and every token has one
//! spelling. It is detached (RFC 7515, appendix F): the fields stay where everybody reads them, in their headers.
//! It is no JWT on purpose: a JWS header lets the sender name the algorithm, which has been the source of its forgeries
//! (RFC 8725 §2.1). Here the key decides.
//!
//! # What is signed
//!
//! A domain of its own, the text before the signature, the trace id, user, account, license, request type, flags and the
//! further fields, each with its name and length. An empty field is an absent one, and a missing request type is
//! STANDARD: so to take a field away, or to make a TRACE request STANDARD, breaks the signature as much as to add one.
//! Not signed are the request id and the sampled flag, which hops may set, and for whom it is meant: every
//! service of the mesh believes the same context.
//!
//! # Keys
//!
//! [`Keys`]: `hmac_sha256` (RFC 2104), under 1 µs, for a mesh that trusts its members; `ed25519` (RFC 8032), about 30 µs to
//! verify, when only the edge may sign. A few keys verify at once and one signs, so keys are rotated without a gap. A
//! [`Cache`] makes the second request with the same token cheap.
//!
//! # How it fails
//!
//! A token that does not hold is [`Refused`] with a stable name; what becomes of the request is the caller's policy. A
//! token lives at most [`TTL_MAX_S`]. Time is only compared, never waited for: a clock that steps back makes new tokens
//! `not_yet_valid`, one that steps forward makes them `expired`, until it is right again; none makes a token live
//! longer than its lifetime and the skew on that clock. Within its life a token may be used again for the same trace with
//! the same fields: that is what it is for.

mod base64;
mod cache;
mod file;
mod keys;
#[cfg(test)]
mod tests;
mod token;

pub use cache::Cache;
pub use file::KeyError;
pub use keys::{KEYS_MAX, Keys, SECRET_BYTES_MIN};
pub use token::Issuer;

pub(in crate::context) use base64::{decode, encode};
pub(in crate::context) use file::{KeyFile, Listed};
pub(in crate::context) use keys::secret;
pub(in crate::context) use token::KEY_ID_BYTES_MAX;

use super::fields::RequestType;

/// The header that carries the token, in lower case.
pub const HEADER: &str = "x-context-signature";
/// The key in baggage that carries the token.
pub const BAGGAGE_KEY: &str = "context.signature";
/// The longest life of a token, in seconds, and how long one should be given: five minutes cover every request that is
/// not a stream, and a token is worth nothing outside its trace.
pub const TTL_MAX_S: u64 = 300;
/// By how many seconds the clocks of two machines may differ. Machines that keep time by NTP are within one second; 30
/// forgives one that has just started.
pub const SKEW_DEFAULT_S: u64 = 30;
/// The longest token in bytes.
pub const TOKEN_BYTES_MAX: usize = 256;
/// What a request without a token is called, beside the names of [`Refused`].
pub const UNSIGNED: &str = "unsigned";

/// What a signature speaks of. Empty means absent.
#[derive(Clone, Copy, Debug, Default)]
pub struct Claims<'a> {
    /// The trace that the request belongs to, as it goes on.
    pub trace_id: [u8; 16],
    /// The user, after pseudonymisation.
    pub user_id: &'a [u8],
    /// The account.
    pub account_id: &'a [u8],
    /// The license.
    pub license: &'a [u8],
    /// STANDARD unless the request says otherwise.
    pub request_type: RequestType,
    /// The list of flags; how it is spaced does not count, its order does.
    pub flags: &'a [u8],
    /// Further fields by name, in the order of their names (that of [`Extra`](super::extra::Extra)).
    pub extra: &'a [(&'a str, &'a [u8])],
}

/// What a token that holds says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verified<'t> {
    /// The key that signed.
    pub key_id: &'t str,
    /// Who signed, as it calls itself.
    pub issuer: &'t str,
    /// When it was signed, in seconds since 1970.
    pub issued_s: u64,
    /// From when on it is no longer valid (without the skew), in seconds since 1970.
    pub expires_s: u64,
}

/// Why a token is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refused {
    /// It is no token: another version, another form, or a lifetime over [`TTL_MAX_S`].
    Malformed,
    /// It was signed by a key that is not in the file.
    UnknownKey,
    /// Its time is over.
    Expired,
    /// Its time has not come: a clock is wrong, here or there.
    NotYetValid,
    /// It is not the signature of these fields in this trace.
    Altered,
}

impl Refused {
    /// Every reason.
    pub const ALL: [Refused; 5] =
        [Refused::Malformed, Refused::UnknownKey, Refused::Expired, Refused::NotYetValid, Refused::Altered];

    /// The stable name in events and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Refused::Malformed => "malformed",
            Refused::UnknownKey => "unknown_key",
            Refused::Expired => "expired",
            Refused::NotYetValid => "not_yet_valid",
            Refused::Altered => "altered",
        }
    }
}
