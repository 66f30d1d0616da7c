//! Why certificates, keys and authorities could not be loaded.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::PathBuf;

/// A file of a `tls` section that cannot be used. Displays as one line: the key, the file, what is wrong, what to do.
#[derive(Debug)]
pub struct LoadError {
    /// The key that names the file (`tls.certificate`, …).
    pub key: &'static str,
    /// The file, or what else the key was given.
    pub path: PathBuf,
    /// What is wrong.
    pub problem: Problem,
}

/// What is wrong with a file of a `tls` section.
#[derive(Debug)]
pub enum Problem {
    /// It cannot be opened or read.
    Unreadable(io::Error),
    /// It is larger than this number of bytes.
    TooLarge(u64),
    /// It has no PEM section.
    NotPem,
    /// It has a PEM section that is broken.
    BrokenPem(String),
    /// It is PEM without a certificate.
    NoCertificate,
    /// It is PEM without a private key that is not encrypted.
    NoKey,
    /// A certificate in it cannot be understood.
    BadCertificate(String),
    /// The private key is of a kind that cannot be used.
    BadKey(String),
    /// The private key does not belong to the certificate of this file.
    KeyMismatch(PathBuf),
    /// A certificate was given without a key, or a key without a certificate.
    Alone(&'static str),
    /// It is neither a host name nor an IP address.
    BadServerName,
    /// The TLS library refuses it for another reason.
    Refused(String),
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: ", self.key, self.path.display())?;
        match &self.problem {
            Problem::Unreadable(error) if error.kind() == io::ErrorKind::NotFound => {
                f.write_str("no such file: create it or correct the path")
            }
            Problem::Unreadable(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                f.write_str("permission denied: let the user of this process read it")
            }
            Problem::Unreadable(error) => write!(f, "cannot be read: {error}"),
            Problem::TooLarge(max) => write!(f, "larger than {max} bytes: is this the right file?"),
            Problem::NotPem => {
                f.write_str("not PEM: expected `-----BEGIN …-----`; convert DER with `openssl x509 -inform der`")
            }
            Problem::BrokenPem(why) => write!(f, "broken PEM ({why}): write the file again"),
            Problem::NoCertificate => f.write_str("no certificate in it: expected `-----BEGIN CERTIFICATE-----`"),
            Problem::NoKey => f.write_str(
                "no private key in it: expected `-----BEGIN PRIVATE KEY-----` (PKCS#8, PKCS#1 or SEC1, not encrypted)",
            ),
            Problem::BadCertificate(why) => write!(f, "a certificate cannot be used ({why}): issue it again"),
            Problem::BadKey(why) => {
                write!(f, "the private key cannot be used ({why}): use ECDSA P-256, Ed25519 or RSA from 2048 bits")
            }
            Problem::KeyMismatch(certificate) => write!(
                f,
                "the private key does not belong to the certificate in {}: use the pair that was issued together",
                certificate.display()
            ),
            Problem::Alone(missing) => write!(f, "set without {missing}: set both, or none"),
            Problem::BadServerName => f.write_str("neither a host name nor an IP address"),
            Problem::Refused(why) => write!(f, "cannot be used ({why})"),
        }
    }
}

impl Error for LoadError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.problem {
            Problem::Unreadable(error) => Some(error),
            _ => None,
        }
    }
}
