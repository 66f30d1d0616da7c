//! A certificate authority, a server and a client certificate for the TLS row, made afresh for each run.
//!
//! P-256 keys: what service meshes issue, and what every peer's TLS library does well.

use crate::Result;
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use std::path::{Path, PathBuf};

/// Where the PEM files are.
pub struct Certificates {
    /// The authority's certificate.
    pub authority: PathBuf,
    /// Certificate and key of every server, for `localhost` and `127.0.0.1`.
    pub server: Pair,
    /// Certificate and key that a proxy shows upstream.
    pub client: Pair,
}

/// A certificate with its key.
pub struct Pair {
    /// The certificate.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// Both in one file, which is how haproxy reads them.
    pub joined: PathBuf,
}

impl Certificates {
    /// Makes the certificates in `directory`.
    ///
    /// Errors: a file cannot be written, or a key not be made.
    pub fn make(directory: &Path) -> Result<Self> {
        std::fs::create_dir_all(directory).map_err(|error| format!("{}: {error}", directory.display()))?;
        let key = KeyPair::generate().map_err(said)?;
        let mut params = named("bench authority", &[])?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = directory.join("ca.pem");
        write(&authority, &params.self_signed(&key).map_err(said)?.pem())?;
        let issuer = Issuer::new(params, key);
        let server = Pair::make(directory, "server", ExtendedKeyUsagePurpose::ServerAuth, &issuer)?;
        let client = Pair::make(directory, "client", ExtendedKeyUsagePurpose::ClientAuth, &issuer)?;
        Ok(Self { authority, server, client })
    }
}

impl Pair {
    fn make(
        directory: &Path,
        name: &str,
        usage: ExtendedKeyUsagePurpose,
        issuer: &Issuer<'_, KeyPair>,
    ) -> Result<Self> {
        let key = KeyPair::generate().map_err(said)?;
        let mut params = named(name, &["localhost", "127.0.0.1"])?;
        params.extended_key_usages = vec![usage];
        let certificate = params.signed_by(&key, issuer).map_err(said)?.pem();
        let file = |ending: &str| directory.join(format!("{name}{ending}"));
        let pair = Self { certificate: file(".pem"), key: file("-key.pem"), joined: file("-joined.pem") };
        write(&pair.certificate, &certificate)?;
        write(&pair.key, &key.serialize_pem())?;
        write(&pair.joined, &format!("{certificate}{}", key.serialize_pem()))?;
        Ok(pair)
    }
}

fn named(common_name: &str, names: &[&str]) -> Result<CertificateParams> {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).map_err(said)?;
    params.distinguished_name.push(DnType::CommonName, common_name);
    Ok(params)
}

fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
}

fn said(error: rcgen::Error) -> String {
    format!("certificates: {error}")
}
