//! What was meant for this hop stays on it (RFC 9110 §7.6.1), in both directions.
//!
//! A field that `Connection` names is removed, as the RFC demands. But obeying a peer that names the context, the
//! credentials or the framing would lose whom a request belongs to (CVE-2026-105299 and its kin), so that is refused.

use crate::error::{Error, Kind, Result};
use crate::svc::fields::tokens;
use crate::svc::{Fields, Known, RequestHead, ResponseHead, Version};

/// Most fields that one message may nominate; each costs a walk over the section.
const NOMINATED_MAX: usize = 64;

const fn mask(known: &[Known]) -> u64 {
    let mut bits = 0;
    let mut at = 0;
    while at < known.len() {
        bits |= 1 << known[at] as u8;
        at += 1;
    }
    bits
}

/// Fields of this hop. `TE` is among them, but `trailers` is said again to the next hop; `Trailer` is end to end.
const OF_THIS_HOP: [Known; 6] = [
    Known::Connection,
    Known::KeepAlive,
    Known::ProxyConnection,
    Known::Upgrade,
    Known::Http2Settings,
    Known::TransferEncoding,
];

/// Options that nominate nothing which is not handled anyway.
const HANDLED: u64 = mask(&[
    Known::Connection,
    Known::KeepAlive,
    Known::ProxyConnection,
    Known::Upgrade,
    Known::Http2Settings,
    Known::Te,
]);

/// Fields that are for all recipients, and that something on the way relies on.
const PROTECTED: u64 = mask(&[
    Known::Host,
    Known::ContentLength,
    Known::TransferEncoding,
    Known::ContentType,
    Known::ContentEncoding,
    Known::Authorization,
    Known::Cookie,
    Known::SetCookie,
    Known::Forwarded,
    Known::XForwardedFor,
    Known::XForwardedProto,
    Known::Via,
    Known::XRequestId,
    Known::XUserId,
    Known::XAccountId,
    Known::XLicense,
    Known::XRequestType,
    Known::XFeatureFlags,
    Known::Traceparent,
    Known::Tracestate,
    Known::Baggage,
    Known::IdempotencyKey,
    Known::GrpcTimeout,
    Known::GrpcStatus,
    Known::GrpcMessage,
]);

/// What an option of `Connection` means.
enum Nomination {
    /// `close`, or a field that never goes on anyway.
    Handled,
    /// A field that must not be removed.
    Protected,
    /// A field to remove.
    Other,
}

fn nomination(option: &[u8]) -> Nomination {
    match Known::classify(option) {
        Some(known) if HANDLED & (1 << known as u8) != 0 => Nomination::Handled,
        Some(known) if PROTECTED & (1 << known as u8) != 0 => Nomination::Protected,
        Some(_) => Nomination::Other,
        None if option.eq_ignore_ascii_case(b"close") => Nomination::Handled,
        None if option.starts_with(b":") || starts_with(option, b"x-forwarded-") => Nomination::Protected,
        None if crate::context::is_context_header(option) => Nomination::Protected,
        None => Nomination::Other,
    }
}

fn starts_with(option: &[u8], start: &[u8]) -> bool {
    option.get(..start.len()).is_some_and(|it| it.eq_ignore_ascii_case(start))
}

/// Cleans a request.
///
/// # Errors
/// [`Kind::ProtectedFieldNominated`]; [`Kind::RequestRefused`] for a flood of nominations.
pub(super) fn strip_request(head: &mut RequestHead) -> Result<()> {
    if head.fields.has(Known::Connection) {
        let mut count = 0;
        for option in head.fields.all(Known::Connection).flat_map(tokens) {
            match nomination(option) {
                Nomination::Handled => {}
                Nomination::Protected => {
                    let detail = format!("Connection names `{}`", String::from_utf8_lossy(option));
                    return Err(Error::new(Kind::ProtectedFieldNominated, detail));
                }
                Nomination::Other => count += 1,
            }
        }
        if count > NOMINATED_MAX {
            return Err(Error::new(Kind::RequestRefused, "Connection names more than 64 fields"));
        }
        if count > 0 {
            remove_nominated(&mut head.fields);
        }
    }
    remove_own(&mut head.fields);
    if head.fields.has(Known::Te) {
        keep_trailers(&mut head.fields, head.version);
    }
    Ok(())
}

/// Cleans a response. A tunnel's 101 names its protocol to the client: that is of the next hop, and written anew.
pub(super) fn strip_response(head: &mut ResponseHead, is_tunnel: bool) {
    let fields = &mut head.fields;
    if fields.has(Known::Connection) {
        let others = fields.all(Known::Connection).flat_map(tokens);
        if others.filter(|option| matches!(nomination(option), Nomination::Other)).count() > 0 {
            remove_nominated(fields);
        }
    }
    let protocol =
        if is_tunnel && head.status == 101 { fields.get(Known::Upgrade).map(<[u8]>::to_vec) } else { None };
    remove_own(fields);
    fields.remove(Known::Te);
    if let Some(protocol) = protocol {
        fields.set(Known::Connection, b"upgrade");
        fields.set(Known::Upgrade, &protocol);
    }
}

/// Removes up to [`NOMINATED_MAX`] of the fields that `Connection` names, without the protected ones.
fn remove_nominated(fields: &mut Fields) {
    let mut names: Vec<Vec<u8>> = Vec::new();
    for option in fields.all(Known::Connection).flat_map(tokens) {
        if matches!(nomination(option), Nomination::Other) && names.len() < NOMINATED_MAX {
            names.push(option.to_vec());
        }
    }
    for name in &names {
        fields.remove_named(name);
    }
}

fn remove_own(fields: &mut Fields) {
    for known in OF_THIS_HOP {
        if fields.has(known) {
            fields.remove(known);
        }
    }
}

/// `TE: trailers` goes on by itself (RFC 9110 §10.1.4; gRPC insists on it); codings are between neighbours. An HTTP/1.0
/// client cannot be sent trailers.
fn keep_trailers(fields: &mut Fields, version: Version) {
    if fields.get(Known::Te) == Some(b"trailers")
        && !fields.is_repeated(Known::Te)
        && version != Version::Http10
    {
        return;
    }
    let name =
        |coding: &[u8]| coding.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii().to_vec();
    let takes_trailers =
        fields.all(Known::Te).flat_map(tokens).any(|coding| name(coding).eq_ignore_ascii_case(b"trailers"));
    fields.remove(Known::Te);
    if takes_trailers && version != Version::Http10 {
        fields.append(Known::Te, b"trailers");
    }
}
