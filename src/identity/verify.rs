//! Who a certificate says that its holder is.
//!
//! The identity is the SPIFFE ID in the leaf's subject alternative names, else the subject's common name. Rules of the
//! SPIFFE X.509-SVID standard (§2 and §5.2): a leaf with a SPIFFE ID has exactly one URI name; the ID has a trust
//! domain, and neither a query, a fragment, a user nor a port. Whether the chain is trusted was decided in the
//! handshake; the time is checked again here, since a resumed session shows the certificate of its first handshake.

use rustls::pki_types::CertificateDer;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use x509_parser::prelude::{ASN1Time, FromDer, GeneralName, X509Certificate};

/// Bytes of a SPIFFE ID (SPIFFE-ID §2.3).
const SPIFFE_ID_BYTES_MAX: usize = 2048;

/// What a certificate chain says of its leaf.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// The SPIFFE ID, else the subject's common name, else a host name or address, else the subject.
    pub identity: Arc<str>,
    /// The leaf's serial number in hexadecimal.
    pub serial: String,
    /// When the last of the chain's certificates begins to be valid.
    pub not_before: SystemTime,
    /// When the first of the chain's certificates expires.
    pub not_after: SystemTime,
}

/// Why a chain tells no identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IdentityError {
    /// A certificate cannot be parsed.
    Malformed(String),
    /// There is a SPIFFE ID beside other URI names.
    SeveralUris,
    /// The SPIFFE ID breaks the standard's rules.
    BadSpiffeId(String),
    /// A certificate of the chain is expired.
    Expired,
    /// The leaf has no name at all.
    Nameless,
}

impl fmt::Display for IdentityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            IdentityError::Malformed(why) => write!(f, "malformed certificate: {why}"),
            IdentityError::SeveralUris => f.write_str("a SPIFFE certificate with more than one URI name"),
            IdentityError::BadSpiffeId(id) => write!(f, "`{id}` is not a SPIFFE ID"),
            IdentityError::Expired => f.write_str("expired certificate"),
            IdentityError::Nameless => f.write_str("a certificate with neither a SPIFFE ID nor another name"),
        }
    }
}

impl std::error::Error for IdentityError {}

/// The identity of a peer that showed `chain` (leaf first, verified in the handshake); `None` without one.
///
/// Fails where the identity is ambiguous or the chain expired before `now`: treat the peer as not authenticated.
pub fn peer(
    chain: Option<&[CertificateDer<'_>]>,
    now: SystemTime,
) -> Result<Option<Arc<str>>, IdentityError> {
    let Some(chain) = chain.filter(|chain| !chain.is_empty()) else { return Ok(None) };
    let certificate = describe(chain)?;
    if certificate.not_after < now { Err(IdentityError::Expired) } else { Ok(Some(certificate.identity)) }
}

/// What `chain` (leaf first) says of its leaf.
pub fn describe(chain: &[CertificateDer<'_>]) -> Result<Certificate, IdentityError> {
    let (leaf, issuers) = chain.split_first().ok_or(IdentityError::Nameless)?;
    let leaf = parse(leaf)?;
    let validity = leaf.validity();
    let (mut not_before, mut not_after) = (time(validity.not_before), time(validity.not_after));
    for issuer in issuers {
        let issuer = parse(issuer)?;
        not_before = not_before.max(time(issuer.validity().not_before));
        not_after = not_after.min(time(issuer.validity().not_after));
    }
    let serial = leaf.raw_serial().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(Certificate { identity: identity(&leaf)?, serial, not_before, not_after })
}

fn parse<'c>(der: &'c CertificateDer<'_>) -> Result<X509Certificate<'c>, IdentityError> {
    match X509Certificate::from_der(der) {
        Ok((_, certificate)) => Ok(certificate),
        Err(error) => Err(IdentityError::Malformed(error.to_string())),
    }
}

fn time(at: ASN1Time) -> SystemTime {
    let seconds = u64::try_from(at.timestamp()).unwrap_or(0);
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds)).unwrap_or(SystemTime::UNIX_EPOCH)
}

fn identity(leaf: &X509Certificate<'_>) -> Result<Arc<str>, IdentityError> {
    let names = leaf
        .subject_alternative_name()
        .map_err(|error| IdentityError::Malformed(error.to_string()))?
        .map_or(&[][..], |extension| &extension.value.general_names);
    let uris = || {
        names.iter().filter_map(|name| match name {
            GeneralName::URI(uri) => Some(*uri),
            _ => None,
        })
    };
    if let Some(id) = uris().find(|uri| is_spiffe(uri)) {
        return match uris().count() {
            1 if is_spiffe_id(id) => Ok(id.into()),
            1 => Err(IdentityError::BadSpiffeId(id.to_owned())),
            _ => Err(IdentityError::SeveralUris),
        };
    }
    if let Some(name) = leaf.subject().iter_common_name().next().and_then(|name| name.as_str().ok()) {
        return Ok(name.into());
    }
    let other = names.iter().find_map(|name| match name {
        GeneralName::DNSName(name) => Some((*name).into()),
        GeneralName::IPAddress(bytes) => address(bytes).map(|address| address.to_string().into()),
        _ => None,
    });
    match (other, leaf.subject().to_string()) {
        (Some(name), _) => Ok(name),
        (None, subject) if subject.is_empty() => Err(IdentityError::Nameless),
        (None, subject) => Ok(subject.into()),
    }
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}

fn is_spiffe(uri: &str) -> bool {
    uri.get(..9).is_some_and(|scheme| scheme.eq_ignore_ascii_case("spiffe://"))
}

/// SPIFFE-ID §2: `spiffe://` trust domain, then path segments that are neither empty nor dots.
fn is_spiffe_id(id: &str) -> bool {
    let Some(rest) = id.strip_prefix("spiffe://").filter(|_| id.len() <= SPIFFE_ID_BYTES_MAX) else {
        return false;
    };
    let (domain, path) = match rest.split_once('/') {
        Some((domain, path)) => (domain, Some(path)),
        None => (rest, None),
    };
    let is_domain_byte =
        |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'_');
    let is_path_byte = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
    let is_segment = |segment: &str| !matches!(segment, "" | "." | "..") && segment.bytes().all(is_path_byte);
    !domain.is_empty()
        && domain.len() <= 255
        && domain.bytes().all(is_domain_byte)
        && path.is_none_or(|path| path.split('/').all(is_segment))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spiffe_ids() {
        for good in ["spiffe://mesh.local", "spiffe://mesh.local/ns/shop/sa/checkout", "spiffe://a_b-1/C.d"] {
            assert!(is_spiffe_id(good), "{good}");
        }
        for bad in [
            "spiffe://",
            "spiffe:///path",
            "SPIFFE://mesh.local",
            "spiffe://Mesh.local",
            "spiffe://mesh.local:80/a",
            "spiffe://user@mesh.local/a",
            "spiffe://mesh.local/",
            "spiffe://mesh.local/a//b",
            "spiffe://mesh.local/a/../b",
            "spiffe://mesh.local/a?b",
            "spiffe://mesh.local/a#b",
            "spiffe://mesh.local/%61",
            "https://mesh.local/a",
        ] {
            assert!(!is_spiffe_id(bad), "{bad}");
        }
    }
}
