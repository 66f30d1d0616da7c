//! Durations, sizes, counts and addresses as a user writes them.
//!
//! What: the texts `"250ms"`, `"64KiB"`, `auto`, `none` and `"10.0.0.7:8080"`, read from and written to every
//! document of the proxy in the same way, and described to JSON Schema with the formats `duration`, `size`,
//! `address` and `host_port`. Why: a bare number has no unit, and a wrong guess of the unit is an outage.
//! How it fails: each parser says what it found and what to write instead; none panics, none rounds silently.

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

pub mod moment;
pub mod one_or_many;
mod schema;
pub mod some;
pub use schema::any_of;
pub use some::Some;
#[cfg(test)]
mod tests;
mod text;
pub use text::{duration_text, parse_duration, parse_size, size_text};

/// The word that switches a bound or a listener off.
pub const NONE: &str = "none";
/// The word that leaves a value to the proxy.
pub const AUTO: &str = "auto";

/// What was written where a text or a whole number may stand.
struct Written;

/// A scalar, as it came from the document.
enum Scalar {
    Text(String),
    Number(u64),
}

impl de::Visitor<'_> for Written {
    type Value = Scalar;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text or a whole number")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Scalar, E> {
        Ok(Scalar::Text(text.to_owned()))
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Scalar, E> {
        Ok(Scalar::Number(number))
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Scalar, E> {
        u64::try_from(number).map(Scalar::Number).map_err(|_| E::custom("a negative number"))
    }
}

fn read_size<'de, D: Deserializer<'de>>(d: D, off: Option<&str>) -> Result<Option<usize>, D::Error> {
    let bytes = match d.deserialize_any(Written)? {
        Scalar::Text(text) if Some(text.as_str()) == off => return Ok(None),
        Scalar::Text(text) => parse_size(&text).map_err(de::Error::custom)?,
        Scalar::Number(bytes) => bytes,
    };
    usize::try_from(bytes).map(Some).map_err(|_| de::Error::custom("larger than this machine's memory"))
}

fn read_count<'de, D: Deserializer<'de>>(d: D, off: &str) -> Result<Option<usize>, D::Error> {
    match d.deserialize_any(Written)? {
        Scalar::Text(text) if text == off => Ok(None),
        Scalar::Text(text) => {
            Err(de::Error::custom(format!("`{text}` is neither `{off}` nor a whole number")))
        }
        Scalar::Number(0) => Err(de::Error::custom(format!("0 allows nothing: write `{off}` or 1 or more"))),
        Scalar::Number(count) => usize::try_from(count).map(Some).map_err(de::Error::custom),
    }
}

fn read_duration<'de, D: Deserializer<'de>>(d: D, off: &str) -> Result<Option<Duration>, D::Error> {
    let text = String::deserialize(d)?;
    if text == off { Ok(None) } else { parse_duration(&text).map(Some).map_err(de::Error::custom) }
}

/// `Duration` written as `"250ms"`.
pub mod duration {
    use super::*;

    /// Reads `"250ms"`; fails on a bare number, an unknown unit and an overflow.
    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Duration, D::Error> {
        parse_duration(&String::deserialize(d)?).map_err(de::Error::custom)
    }

    /// Writes the shortest exact text.
    pub fn serialize<S: Serializer>(value: &Duration, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&duration_text(*value))
    }
}

/// `Option<Duration>` written as `"250ms"` or `none`.
pub mod duration_or_none {
    use super::*;

    /// Reads `none` as `None`.
    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Duration>, D::Error> {
        read_duration(d, NONE)
    }

    /// Writes `None` as `none`.
    pub fn serialize<S: Serializer>(value: &Option<Duration>, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&value.map_or_else(|| NONE.to_owned(), duration_text))
    }
}

/// `Option<Duration>` written as `"30s"` or `auto`.
pub mod duration_or_auto {
    use super::*;

    /// Reads `auto` as `None`.
    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Duration>, D::Error> {
        read_duration(d, AUTO)
    }

    /// Writes `None` as `auto`.
    pub fn serialize<S: Serializer>(value: &Option<Duration>, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&value.map_or_else(|| AUTO.to_owned(), duration_text))
    }
}

/// `usize` bytes written as `"64KiB"` or as a whole number of bytes.
pub mod size {
    use super::*;

    /// Reads `"64KiB"`, `"1MiB"`, `512`; fails on an unknown unit and an overflow.
    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<usize, D::Error> {
        read_size(d, None).map(Option::unwrap_or_default)
    }

    /// Writes the largest binary unit that divides the number.
    pub fn serialize<S: Serializer>(value: &usize, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&size_text(*value as u64))
    }
}

/// `Option<usize>` bytes written as `"64KiB"` or `none`.
pub mod size_or_none {
    use super::*;

    /// Reads `none` as `None`.
    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Option<usize>, D::Error> {
        read_size(d, Some(NONE))
    }

    /// Writes `None` as `none`.
    pub fn serialize<S: Serializer>(value: &Option<usize>, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&value.map_or_else(|| NONE.to_owned(), |bytes| size_text(bytes as u64)))
    }
}

/// `Option<usize>` bytes written as `"64KiB"` or `auto`.
pub mod size_or_auto {
    use super::*;

    /// Reads `auto` as `None`.
    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Option<usize>, D::Error> {
        read_size(d, Some(AUTO))
    }

    /// Writes `None` as `auto`.
    pub fn serialize<S: Serializer>(value: &Option<usize>, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&value.map_or_else(|| AUTO.to_owned(), |bytes| size_text(bytes as u64)))
    }
}

/// `Option<usize>` written as a whole number or `none`.
pub mod count_or_none {
    use super::*;

    /// Reads `none` as `None`; refuses 0.
    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Option<usize>, D::Error> {
        read_count(d, NONE)
    }

    /// Writes `None` as `none`.
    pub fn serialize<S: Serializer>(value: &Option<usize>, s: S) -> Result<S::Ok, S::Error> {
        match value {
            Some(count) => s.serialize_u64(*count as u64),
            None => s.serialize_str(NONE),
        }
    }
}

/// `Option<usize>` written as a whole number or `auto`.
pub mod count_or_auto {
    use super::*;

    /// Reads `auto` as `None`; refuses 0.
    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Option<usize>, D::Error> {
        read_count(d, AUTO)
    }

    /// Writes `None` as `auto`.
    pub fn serialize<S: Serializer>(value: &Option<usize>, s: S) -> Result<S::Ok, S::Error> {
        match value {
            Some(count) => s.serialize_u64(*count as u64),
            None => s.serialize_str(AUTO),
        }
    }
}

/// `Option<SocketAddr>` of a listener, written as `"127.0.0.1:15000"` or `none` (no listener).
pub mod listen {
    use super::*;

    /// Reads an IP address and a port (0 lets the system choose); `none` is `None`.
    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Option<SocketAddr>, D::Error> {
        let text = String::deserialize(d)?;
        if text == NONE { Ok(None) } else { text.parse().map(Some).map_err(de::Error::custom) }
    }

    /// Writes `None` as `none`.
    pub fn serialize<S: Serializer>(value: &Option<SocketAddr>, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&value.map_or_else(|| NONE.to_owned(), |address| address.to_string()))
    }
}

/// A timeout that a route may set or switch off: `"15s"` or `none`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timeout {
    /// `none`: wait for ever.
    Never,
    /// Give up after this time.
    After(Duration),
}

impl Timeout {
    /// The time, or `None` for [`Timeout::Never`].
    pub fn duration(self) -> Option<Duration> {
        match self {
            Timeout::Never => None,
            Timeout::After(time) => Some(time),
        }
    }
}

impl<'de> Deserialize<'de> for Timeout {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Ok(read_duration(d, NONE)?.map_or(Timeout::Never, Timeout::After))
    }
}

impl Serialize for Timeout {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        duration_or_none::serialize(&self.duration(), s)
    }
}

impl JsonSchema for Timeout {
    fn schema_name() -> Cow<'static, str> {
        "Timeout".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        DurationOrNone::json_schema(generator)
    }
}

/// A bound on bytes that may be switched off: `"64KiB"` or `none`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SizeLimit(pub Option<usize>);

impl<'de> Deserialize<'de> for SizeLimit {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Ok(SizeLimit(read_size(d, Some(NONE))?))
    }
}

impl Serialize for SizeLimit {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        size_or_none::serialize(&self.0, s)
    }
}

impl JsonSchema for SizeLimit {
    fn schema_name() -> Cow<'static, str> {
        "SizeLimit".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        SizeOrNone::json_schema(generator)
    }
}

/// A host (name or IP address) and a port: `"payments.local:8080"`, `"[::1]:8080"`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostPort {
    /// The name in lower case, or the IP address without brackets.
    pub host: String,
    /// The port, 1 or more.
    pub port: u16,
}

impl HostPort {
    /// The socket address, if the host is an IP address and needs no resolver.
    pub fn socket_addr(&self) -> Option<SocketAddr> {
        self.host.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, self.port))
    }
}

impl From<SocketAddr> for HostPort {
    fn from(address: SocketAddr) -> Self {
        HostPort { host: address.ip().to_string(), port: address.port() }
    }
}

impl FromStr for HostPort {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (host, port) = text.rsplit_once(':').ok_or("the port is missing")?;
        let port = match port.parse::<u16>() {
            Ok(0) => return Err("port 0 cannot be connected to".into()),
            Ok(port) if port_is_digits(port, text) => port,
            _ => return Err(format!("`{port}` is not a port (1 to 65535)")),
        };
        if let Some(inner) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            let ip: Ipv6Addr = inner.parse().map_err(|_| format!("`{inner}` is not an IPv6 address"))?;
            return Ok(HostPort { host: ip.to_string(), port });
        }
        if host.contains(':') {
            return Err("an IPv6 address needs brackets: `[::1]:8080`".into());
        }
        host_name(host).map(|host| HostPort { host, port })
    }
}

/// `u16::from_str` takes `+80`; an address does not.
fn port_is_digits(port: u16, text: &str) -> bool {
    !text.ends_with(&format!("+{port}"))
}

/// Checks and lower-cases a DNS name or an IPv4 address (RFC 1123 §2.1, RFC 1035 §2.3.4; `_` is allowed, as in SRV
/// and container names). Fails with the reason.
pub fn host_name(host: &str) -> Result<String, String> {
    if host.is_empty() {
        return Err("the host is empty".into());
    }
    if host.len() > 253 {
        return Err("a host name has at most 253 characters".into());
    }
    let numeric = host.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    if numeric && host.parse::<std::net::Ipv4Addr>().is_err() {
        return Err(format!("`{host}` is not an IPv4 address"));
    }
    for label in host.strip_suffix('.').unwrap_or(host).split('.') {
        let legal = label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        if label.is_empty() || label.len() > 63 || !legal || label.starts_with('-') || label.ends_with('-') {
            return Err(format!("`{host}` is not a host name"));
        }
    }
    Ok(host.to_ascii_lowercase())
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl<'de> Deserialize<'de> for HostPort {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(de::Error::custom)
    }
}

impl Serialize for HostPort {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl JsonSchema for HostPort {
    fn schema_name() -> Cow<'static, str> {
        "HostPort".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "host_port", "examples": ["10.0.0.7:8080", "payments.local:8080"] })
    }
}

/// Schema of a [`duration`] above zero.
pub struct DurationText;
/// Schema of a [`duration`] that may be `0s`.
pub struct DurationOrZero;
/// Schema of a [`duration_or_none`].
pub struct DurationOrNone;
/// Schema of a [`duration_or_auto`].
pub struct DurationOrAuto;
/// Schema of a [`size`].
pub struct SizeText;
/// Schema of a [`size_or_none`].
pub struct SizeOrNone;

/// Schema of a size or `auto`.
pub struct SizeOrAuto;
/// Schema of a [`count_or_none`].
pub struct CountOrNone;
/// Schema of a [`count_or_auto`].
pub struct CountOrAuto;
/// Schema of a [`listen`] address.
pub struct ListenText;
/// Schema of a [`one_or_many`].
pub struct OneOrMany;
