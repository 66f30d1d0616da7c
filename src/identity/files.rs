//! PEM files: read within a bound, and told apart from what was read before.
//!
//! The [`Stamp`] is taken from the open file, so that what is compared later is what was read.

use super::error::{LoadError, Problem};
use super::stamp::Stamp;
use super::verify::{self, Certificate};
use rustls::RootCertStore;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// The whole set of public authorities is below 300 KiB.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// A file of a `tls` section.
#[derive(Clone, Debug)]
pub(super) struct PemFile {
    /// The key that names it.
    pub(super) key: &'static str,
    /// Where it is.
    pub(super) path: PathBuf,
}

/// What was read from a [`PemFile`].
pub(super) struct Content<'f> {
    file: &'f PemFile,
    bytes: Vec<u8>,
    /// Which version it was.
    pub(super) stamp: Stamp,
}

impl PemFile {
    pub(super) fn new(key: &'static str, base_dir: &Path, path: &Path) -> PemFile {
        PemFile { key, path: base_dir.join(path) }
    }

    pub(super) fn error(&self, problem: Problem) -> LoadError {
        LoadError { key: self.key, path: self.path.clone(), problem }
    }

    /// Whether the file is no longer the version of `stamp`. A file that is gone has changed.
    pub(super) fn is_changed(&self, stamp: Stamp) -> bool {
        Stamp::of_path(&self.path).ok() != Some(stamp)
    }

    /// Reads the file.
    pub(super) fn read(&self) -> Result<Content<'_>, LoadError> {
        let unreadable = |error| self.error(Problem::Unreadable(error));
        let file = File::open(&self.path).map_err(unreadable)?;
        let stamp = Stamp::of(&file.metadata().map_err(unreadable)?);
        let mut bytes = Vec::new();
        file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
        if bytes.len() as u64 > FILE_BYTES_MAX {
            return Err(self.error(Problem::TooLarge(FILE_BYTES_MAX)));
        }
        if !bytes.windows(11).any(|window| window == b"-----BEGIN ") {
            return Err(self.error(Problem::NotPem));
        }
        Ok(Content { file: self, bytes, stamp })
    }
}

impl Content<'_> {
    /// Its certificates, in order; at least one.
    pub(super) fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, LoadError> {
        let certificates = CertificateDer::pem_slice_iter(&self.bytes)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| self.file.error(broken(error)))?;
        match certificates.is_empty() {
            true => Err(self.file.error(Problem::NoCertificate)),
            false => Ok(certificates),
        }
    }

    /// Its first private key.
    pub(super) fn key(&self) -> Result<PrivateKeyDer<'static>, LoadError> {
        PrivateKeyDer::from_pem_slice(&self.bytes).map_err(|error| {
            self.file.error(match error {
                pem::Error::NoItemsFound => Problem::NoKey,
                error => broken(error),
            })
        })
    }

    /// Its certificates as authorities. One that cannot be understood is left out with a warning, as long as there is
    /// another: bundles hold what some other library accepts.
    pub(super) fn authorities(&self) -> Result<RootCertStore, LoadError> {
        let mut store = RootCertStore::empty();
        let (mut ignored, mut last_error) = (0, None);
        for certificate in self.certificates()? {
            if let Err(error) = store.add(certificate) {
                ignored += 1;
                last_error = Some(error.to_string());
            }
        }
        let Some(why) = last_error else { return Ok(store) };
        if store.is_empty() {
            return Err(self.file.error(Problem::BadCertificate(why)));
        }
        tracing::warn!(file = %self.file.path.display(), ignored, why, "certificates of authorities ignored");
        Ok(store)
    }

    /// What `chain`, which was read from this file, says of itself. Warns of an expired one.
    pub(super) fn describe(&self, chain: &[CertificateDer<'_>]) -> Result<Certificate, LoadError> {
        let certificate = verify::describe(chain)
            .map_err(|error| self.file.error(Problem::BadCertificate(error.to_string())))?;
        let now = SystemTime::now();
        let file = self.file.path.display();
        let days = |time: Duration| time.as_secs() / 86_400;
        if let Ok(ago) = now.duration_since(certificate.not_after) {
            tracing::warn!(%file, identity = %certificate.identity, days = days(ago), "certificate is expired");
        } else if let Ok(ahead) = certificate.not_before.duration_since(now) {
            tracing::warn!(%file, identity = %certificate.identity, days = days(ahead), "certificate is not valid yet");
        }
        Ok(certificate)
    }
}

/// What the library says of a certificate and its key, in our words.
pub(super) fn pair_error(certificate: &PemFile, key: &PemFile, error: rustls::Error) -> LoadError {
    match error {
        rustls::Error::InconsistentKeys(_) => key.error(Problem::KeyMismatch(certificate.path.clone())),
        rustls::Error::InvalidCertificate(why) => {
            certificate.error(Problem::BadCertificate(format!("{why:?}")))
        }
        error => key.error(Problem::BadKey(error.to_string())),
    }
}

fn broken(error: pem::Error) -> Problem {
    Problem::BrokenPem(match error {
        pem::Error::MissingSectionEnd { .. } => "a section does not end".to_owned(),
        pem::Error::IllegalSectionStart { .. } => "a section's first line is malformed".to_owned(),
        pem::Error::Base64Decode(why) => format!("base64: {why}"),
        error => error.to_string(),
    })
}
