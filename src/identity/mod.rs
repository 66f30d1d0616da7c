//! Identity: certificates and authorities, TLS in both directions, and who the peer is.
//!
//! [`ServerTls`] and [`ClientTls`] are handles: each holds the `rustls` configuration that was made from its files and
//! replaces it as a whole when [`ServerTls::reload`] or [`ClientTls::reload`] finds the files changed. A handshake
//! takes the configuration of its moment; connections that are open keep theirs. The one cryptography provider is
//! aws-lc-rs, always passed explicitly. [`verify`] tells the identity of a peer from its certificate.
//!
//! How it fails: a file that is missing or broken is a [`LoadError`], one clear line; at a reload the old
//! configuration stays in use. A certificate that is expired or not yet valid is a warning in the log, because the
//! peer decides what it accepts.

mod client;
pub mod config;
mod error;
mod files;
mod server;
mod stamp;
pub mod verify;

pub use client::{Alpn, ClientTls};
pub use error::{LoadError, Problem};
pub use server::ServerTls;
pub use stamp::Stamp;

use rustls::crypto::CryptoProvider;
use std::sync::{Arc, OnceLock};

/// The protocol versions of both directions, the newest first.
const VERSIONS: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS13, &rustls::version::TLS12];

/// ALPN name of HTTP/2 (RFC 9113 §3.1).
pub const ALPN_HTTP2: &[u8] = b"h2";
/// ALPN name of HTTP/1.1 (RFC 7301 §6).
pub const ALPN_HTTP1: &[u8] = b"http/1.1";

/// The cryptography provider: aws-lc-rs.
pub fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    Arc::clone(PROVIDER.get_or_init(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider())))
}

/// Makes [`provider`] the default of the process, for libraries that ask for it. Any call but the first does nothing.
pub fn install_default() {
    // An error says that there is a default already, which is what was asked for.
    let _ = CryptoProvider::clone(&provider()).install_default();
}

#[cfg(test)]
mod tests;
