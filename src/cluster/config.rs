//! `clusters.*`: a named set of endpoints that can all answer the same requests.
//!
//! How it fails: a cluster without endpoints and without discovery is refused by `check`. One that has both uses both.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer, Serialize, de};

use crate::context::third_party;
use crate::identity::config::ClientTls;
use crate::units::{self, HostPort};

mod balance;
mod circuit_breaker;
mod health;
mod outlier;

pub use balance::{
    Balance, ContextField, HashOn, Locality, Policy, Ring, SlowStart, SubsetFallback, SubsetFrom, SubsetValue,
};
pub use circuit_breaker::{Breaker, CircuitBreaker, RetryBudget};
pub use health::{GrpcCheck, HealthCheck, HttpCheck, StatusRange, TcpCheck};
pub use outlier::OutlierDetection;

/// The last level of priority.
pub const PRIORITY_MAX: u32 = 15;

/// `clusters.NAME`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Cluster")]
pub struct Config {
    /// Fixed endpoints. With `discovery` too, both are used, and these stay whatever it finds.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub endpoints: Vec<Endpoint>,
    /// Where further endpoints come from. Of the same address, what `endpoints` says counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub discovery: Option<Discovery>,
    /// What the endpoints speak; `auto`: HTTP/1.1 in cleartext, by ALPN with TLS, HTTP/2 for gRPC.
    pub protocol: Protocol,
    /// How an endpoint is chosen.
    pub balance: Balance,
    /// Active health checks; absent: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health: Option<HealthCheck>,
    /// Ejection of endpoints by how real requests went.
    pub outlier_detection: OutlierDetection,
    /// Caps on what the cluster is given at once, and the breaker.
    pub circuit_breaker: CircuitBreaker,
    /// How many retries there may be, relative to requests.
    pub retry_budget: RetryBudget,
    /// Time to connect to an endpoint, TLS not included (else the next endpoint, then 504).
    #[serde(with = "units::duration")]
    #[schemars(with = "units::DurationText")]
    pub connect_timeout: Duration,
    /// A pooled connection without a request is closed after this time. Keep it below the upstream's own
    /// (Node.js: 5 s), or the upstream closes it just as a request is written.
    #[serde(with = "units::duration")]
    #[schemars(with = "units::DurationText")]
    pub idle_timeout: Duration,
    /// TLS to the endpoints; absent: cleartext.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<ClientTls>,
    /// What of the context goes to them.
    pub context: third_party::Config,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            endpoints: Vec::new(),
            discovery: None,
            protocol: Protocol::default(),
            balance: Balance::default(),
            health: None,
            outlier_detection: OutlierDetection::default(),
            circuit_breaker: CircuitBreaker::default(),
            retry_budget: RetryBudget::default(),
            connect_timeout: Duration::from_secs(1),
            idle_timeout: Duration::from_secs(4),
            tls: None,
            context: third_party::Config::default(),
        }
    }
}

/// What an application or an endpoint speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// Told by ALPN or by the request.
    #[default]
    Auto,
    /// HTTP/1.1.
    Http1,
    /// HTTP/2, with prior knowledge in cleartext.
    Http2,
    /// Bytes; nothing is parsed, so a server may speak first.
    Tcp,
}

/// One endpoint: `"10.0.0.7:8080"`, or a mapping when there is more to say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Endpoint {
    /// Host and port.
    pub address: HostPort,
    /// Share of the traffic, relative to the other endpoints.
    pub weight: u32,
    /// Zone that the endpoint is in; empty: not known.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub zone: String,
    /// Endpoints of a higher number are used when those below it are not healthy enough.
    #[serde(skip_serializing_if = "is_zero")]
    pub priority: u32,
    /// Free labels, shown in events; what subsets are chosen by.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

impl From<HostPort> for Endpoint {
    fn from(address: HostPort) -> Self {
        Endpoint { address, weight: 1, zone: String::new(), priority: 0, labels: BTreeMap::new() }
    }
}

/// An endpoint as a mapping.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct EndpointMapping {
    /// Host and port.
    address: HostPort,
    /// Share of the traffic, relative to the other endpoints.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 10000))]
    weight: u32,
    /// Zone that the endpoint is in; empty: not known.
    #[serde(default)]
    zone: String,
    /// Endpoints of a higher number are used when those below it are not healthy enough.
    #[serde(default)]
    #[schemars(range(max = PRIORITY_MAX))]
    priority: u32,
    /// Free labels, shown in events; what subsets are chosen by.
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

fn one() -> u32 {
    1
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

struct EndpointVisitor;

impl<'de> de::Visitor<'de> for EndpointVisitor {
    type Value = Endpoint;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("`host:port` or a mapping with `address`")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Endpoint, E> {
        text.parse::<HostPort>().map(Endpoint::from).map_err(E::custom)
    }

    fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Endpoint, A::Error> {
        let EndpointMapping { address, weight, zone, priority, labels } =
            EndpointMapping::deserialize(de::value::MapAccessDeserializer::new(map))?;
        Ok(Endpoint { address, weight, zone, priority, labels })
    }
}

impl<'de> Deserialize<'de> for Endpoint {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_any(EndpointVisitor)
    }
}

impl JsonSchema for Endpoint {
    fn schema_name() -> Cow<'static, str> {
        "Endpoint".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        units::any_of(&[HostPort::json_schema(generator), EndpointMapping::json_schema(generator)])
    }
}

/// Where endpoints come from: exactly one of its keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Discovery {
    /// DNS; the last good answer is kept when DNS fails.
    Dns(Dns),
    /// A file with a list of endpoints in YAML or JSON, read again when it changes.
    File(File),
}

/// `discovery.dns`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "DnsDiscovery")]
pub struct Dns {
    /// The name that is looked up.
    #[schemars(extend("format" = "host"))]
    pub name: String,
    /// Port of every address; needed unless SRV records bring it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<u16>,
    /// Which records.
    #[serde(default, rename = "type")]
    pub record_type: RecordType,
    /// A DNS server to ask instead of the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "socket_address"))]
    pub server: Option<SocketAddr>,
    /// Time between look-ups; `auto`: the records' time to live, 1 s at least and 5 m at most.
    #[serde(default, with = "units::duration_or_auto")]
    #[schemars(with = "units::DurationOrAuto")]
    pub refresh: Option<Duration>,
}

/// Which DNS records are looked up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RecordType {
    /// A and AAAA.
    #[default]
    Auto,
    /// IPv4 addresses.
    A,
    /// IPv6 addresses.
    Aaaa,
    /// Hosts, ports, weights and priorities; the lowest priority is level 0, the next one 1, and so on.
    Srv,
}

/// `discovery.file`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "FileDiscovery")]
pub struct File {
    /// The file: a list in the form of `endpoints`.
    #[schemars(with = "String", extend("format" = "file"))]
    pub path: PathBuf,
}
