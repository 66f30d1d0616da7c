//! TLS as a user writes it: files in PEM, read again when they change.
//!
//! Relative paths are resolved against the configuration file's directory. How it fails: a file that is missing or
//! broken at start is one clear line; at reload the old one stays.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `inbound.tls`: the certificate that is shown, and whose client certificates are accepted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ServerTls {
    /// PEM file with the certificate and its intermediates.
    #[schemars(with = "String", extend("format" = "file"))]
    pub certificate: PathBuf,
    /// PEM file with the private key.
    #[schemars(with = "String", extend("format" = "file"))]
    pub key: PathBuf,
    /// PEM file with the authorities that client certificates are verified against; absent: none is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "file"))]
    pub client_ca: Option<PathBuf>,
    /// Whether a client must show a certificate; only with `client_ca`.
    #[serde(default, skip_serializing_if = "ClientCertificate::is_required")]
    #[schemars(extend("default" = "required"))]
    pub client_certificate: ClientCertificate,
}

/// Whether a client must show a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ClientCertificate {
    /// No certificate, no connection.
    #[default]
    Required,
    /// A certificate is verified if there is one.
    Optional,
}

impl ClientCertificate {
    /// Whether it is the default; it is not written then, since it means something only with `client_ca`.
    fn is_required(&self) -> bool {
        *self == ClientCertificate::Required
    }
}

/// `clusters.*.tls`: how an upstream is verified, and what is shown to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClientTls {
    /// PEM file with the authorities that the upstream's certificate is verified against.
    #[schemars(with = "String", extend("format" = "file"))]
    pub ca: PathBuf,
    /// Name in SNI and in the upstream's certificate; absent: the endpoint's host name or address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "host"))]
    pub server_name: Option<String>,
    /// PEM file with the client certificate (mutual TLS); with `key`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "file"))]
    pub certificate: Option<PathBuf>,
    /// PEM file with the client certificate's private key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "file"))]
    pub key: Option<PathBuf>,
}
