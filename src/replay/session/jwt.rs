//! JSON Web Tokens (RFC 7519) of a recording: their times shifted to now, signed again.
//!
//! The key is that of the service which issues them: a shared secret (HS256 and on), or a private key in a PEM file (RSA, ECDSA,
//! Ed25519; RFC 7518 §3.1, RFC 8037 §3.1), which a test environment has of its own. A token of another algorithm, or one without
//! a key here, is only replaced where the target issued another. How it fails: what is not a token is left as it is; a key that
//! cannot be read, or is none of its algorithm, is an error when it is read.

use super::base64;
use super::text::substituted_json;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    self, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, RsaEncoding, RsaKeyPair,
};
use aws_lc_rs::{error::KeyRejected, hmac};
use rustls::pki_types::{PrivateKeyDer, pem::PemObject};
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::sync::Arc;

/// A larger key file is not a key.
const KEY_BYTES_MAX: u64 = 64 << 10;

/// How a key is written.
const FORM: &str = "a JWT key is written `HS256:SECRET`, `HS256:@FILE`, or `RS256:@KEY.pem` (HS, RS, PS, ES with 256, 384 or 512, and EdDSA)";

/// What tokens of one algorithm are signed with.
#[derive(Clone)]
pub struct Key {
    name: &'static str,
    signer: Arc<Signer>,
}

enum Signer {
    Secret(Box<hmac::Key>),
    Rsa(RsaKeyPair, &'static dyn RsaEncoding),
    Ecdsa(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

/// An algorithm, as tokens name it.
enum Algorithm {
    Secret(hmac::Algorithm),
    Rsa(&'static dyn RsaEncoding),
    Ecdsa(&'static EcdsaSigningAlgorithm, &'static str),
    Ed25519,
}

impl Algorithm {
    fn named(name: &str) -> Option<(&'static str, Algorithm)> {
        Some(match name {
            "HS256" => ("HS256", Algorithm::Secret(hmac::HMAC_SHA256)),
            "HS384" => ("HS384", Algorithm::Secret(hmac::HMAC_SHA384)),
            "HS512" => ("HS512", Algorithm::Secret(hmac::HMAC_SHA512)),
            "RS256" => ("RS256", Algorithm::Rsa(&signature::RSA_PKCS1_SHA256)),
            "RS384" => ("RS384", Algorithm::Rsa(&signature::RSA_PKCS1_SHA384)),
            "RS512" => ("RS512", Algorithm::Rsa(&signature::RSA_PKCS1_SHA512)),
            "PS256" => ("PS256", Algorithm::Rsa(&signature::RSA_PSS_SHA256)),
            "PS384" => ("PS384", Algorithm::Rsa(&signature::RSA_PSS_SHA384)),
            "PS512" => ("PS512", Algorithm::Rsa(&signature::RSA_PSS_SHA512)),
            "ES256" => ("ES256", Algorithm::Ecdsa(&signature::ECDSA_P256_SHA256_FIXED_SIGNING, "P-256")),
            "ES384" => ("ES384", Algorithm::Ecdsa(&signature::ECDSA_P384_SHA384_FIXED_SIGNING, "P-384")),
            "ES512" => ("ES512", Algorithm::Ecdsa(&signature::ECDSA_P521_SHA512_FIXED_SIGNING, "P-521")),
            "EdDSA" => ("EdDSA", Algorithm::Ed25519),
            _ => return None,
        })
    }

    /// What its key has to be.
    fn key(&self) -> String {
        match self {
            Algorithm::Secret(_) => "a secret".into(),
            Algorithm::Rsa(_) => "an RSA key of 2048 bits or more".into(),
            Algorithm::Ecdsa(_, curve) => format!("an EC key on {curve}"),
            Algorithm::Ed25519 => "an Ed25519 key (PKCS#8)".into(),
        }
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Key({})", self.name)
    }
}

impl Key {
    /// `HS256:secret`, or `HS256:@path` for the content of a file, less the line end (also `HS384`, `HS512`); `RS256:@path` for a private
    /// key in PEM (PKCS#8, PKCS#1 or SEC 1), also `RS384`, `RS512`, `PS256` to `PS512`, `ES256` to `ES512` and `EdDSA`.
    ///
    /// # Errors
    /// One line, without the secret.
    pub fn parse(text: &str) -> Result<Key, String> {
        let (name, secret) = text.split_once(':').ok_or(FORM)?;
        let (name, algorithm) = Algorithm::named(name)
            .ok_or_else(|| format!("JWT key: `{name}` is not an algorithm known here; {FORM}"))?;
        let (secret, path) = match secret.strip_prefix('@') {
            Some(path) => (Cow::Owned(read(path)?), Some(path)),
            None => (Cow::Borrowed(secret.as_bytes()), None),
        };
        let signer = match (algorithm, path) {
            (Algorithm::Secret(_), _) if secret.is_empty() => {
                return Err(format!("JWT key: the secret is empty; {FORM}"));
            }
            (Algorithm::Secret(algorithm), _) => Signer::Secret(Box::new(hmac::Key::new(algorithm, &secret))),
            (_, None) => {
                return Err(format!("JWT key: {name} takes a private key in a PEM file: {name}:@key.pem"));
            }
            (algorithm, Some(path)) => signer(&algorithm, &secret)
                .map_err(|why| format!("JWT key: {path}: {why}; {name} needs {} in PEM", algorithm.key()))?,
        };
        Ok(Key { name, signer: Arc::new(signer) })
    }

    /// The signature; `None`: the provider failed.
    fn sign(&self, message: &[u8]) -> Option<Vec<u8>> {
        let random = SystemRandom::new();
        Some(match &*self.signer {
            Signer::Secret(key) => hmac::sign(key, message).as_ref().to_vec(),
            Signer::Rsa(key, encoding) => {
                let mut out = vec![0; key.public_modulus_len()];
                key.sign(*encoding, &random, message, &mut out).ok()?;
                out
            }
            Signer::Ecdsa(key) => key.sign(&random, message).ok()?.as_ref().to_vec(),
            Signer::Ed25519(key) => key.sign(message).as_ref().to_vec(),
        })
    }
}

/// A small file, less the line end.
fn read(path: &str) -> Result<Vec<u8>, String> {
    let read = || {
        let mut bytes = Vec::new();
        let file = std::fs::File::open(path)?;
        std::io::Read::read_to_end(&mut std::io::Read::take(file, KEY_BYTES_MAX), &mut bytes)?;
        Ok::<_, std::io::Error>(bytes)
    };
    let mut bytes = read().map_err(|error| format!("JWT key: {path}: {error}"))?;
    let end = bytes.iter().rposition(|b| !b"\r\n".contains(b)).map_or(0, |at| at + 1);
    bytes.truncate(end);
    Ok(bytes)
}

/// The private key in a PEM file.
fn signer(algorithm: &Algorithm, pem: &[u8]) -> Result<Signer, String> {
    let has = |words: &[u8]| memchr::memmem::find(pem, words).is_some();
    let key = PrivateKeyDer::from_pem_slice(pem).map_err(|_| match () {
        () if has(b"BEGIN ENCRYPTED PRIVATE KEY") || has(b"Proc-Type: 4,ENCRYPTED") => "the key is encrypted",
        () if has(b"BEGIN PUBLIC KEY") || has(b"BEGIN RSA PUBLIC KEY") || has(b"BEGIN CERTIFICATE") => {
            "there is a public key only, which cannot sign"
        }
        () => "no private key in PEM is in it",
    })?;
    let rejected = |why: KeyRejected| format!("the key is another ({why})");
    let other = || Err("the key is of another kind".to_owned());
    match (algorithm, &key) {
        (Algorithm::Rsa(encoding), PrivateKeyDer::Pkcs8(der)) => {
            RsaKeyPair::from_pkcs8(der.secret_pkcs8_der())
                .map(|key| Signer::Rsa(key, *encoding))
                .map_err(rejected)
        }
        (Algorithm::Rsa(encoding), PrivateKeyDer::Pkcs1(der)) => RsaKeyPair::from_der(der.secret_pkcs1_der())
            .map(|key| Signer::Rsa(key, *encoding))
            .map_err(rejected),
        (Algorithm::Ecdsa(curve, _), PrivateKeyDer::Pkcs8(der)) => {
            EcdsaKeyPair::from_pkcs8(curve, der.secret_pkcs8_der()).map(Signer::Ecdsa).map_err(rejected)
        }
        (Algorithm::Ecdsa(curve, _), PrivateKeyDer::Sec1(der)) => {
            EcdsaKeyPair::from_private_key_der(curve, der.secret_sec1_der())
                .map(Signer::Ecdsa)
                .map_err(rejected)
        }
        // Version 1 of PKCS#8 is what OpenSSL writes; it has no public key to check.
        (Algorithm::Ed25519, PrivateKeyDer::Pkcs8(der)) => {
            Ed25519KeyPair::from_pkcs8_maybe_unchecked(der.secret_pkcs8_der())
                .map(Signer::Ed25519)
                .map_err(rejected)
        }
        _ => other(),
    }
}

/// Whether a text has a token's form.
pub(super) fn is_token(text: &str) -> bool {
    // `{"` is `ey` in base64.
    text.starts_with("ey")
        && text.len() <= super::values::VALUE_BYTES_MAX
        && text.bytes().filter(|b| *b == b'.').count() == 2
}

fn object(part: &str) -> Option<Map<String, Value>> {
    serde_json::from_slice(&base64::decode(part)?).ok()
}

/// The token with its times moved by `shift_s` and what `replace` knows replaced, signed again; `None`: it is no token, or
/// there is no key for it.
pub(super) fn renewed(
    keys: &[Key],
    token: &str,
    shift_s: i64,
    replace: &mut dyn FnMut(&str) -> Option<String>,
) -> Option<String> {
    let mut parts = token.split('.');
    let (head, claims) = (parts.next()?, parts.next()?);
    let algorithm = object(head)?;
    let key = keys.iter().find(|key| algorithm.get("alg").and_then(Value::as_str) == Some(key.name))?;
    let mut claims = object(claims)?;
    for name in ["exp", "nbf", "iat", "auth_time"] {
        if let Some(value) = claims.get_mut(name) {
            if let Some(at) = value.as_i64() {
                *value = at.saturating_add(shift_s).into();
            } else if let Some(at) = value.as_f64() {
                *value = (at + shift_s as f64).into();
            }
        }
    }
    let claims = serde_json::to_vec(&claims).ok()?;
    let claims = substituted_json(&claims, replace).unwrap_or(claims);
    let signed = format!("{head}.{}", base64::encode(&claims));
    let tag = key.sign(signed.as_bytes())?;
    Some(format!("{signed}.{}", base64::encode(&tag)))
}
