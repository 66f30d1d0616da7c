//! The keys that sign and verify.

use super::file::{KeyError, KeyFile, Listed};
use super::token::{self, Issuer, Signature, Token};
use super::{Claims, Refused, TTL_MAX_S, Verified, base64};
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, ParsedPublicKey};
use aws_lc_rs::{digest, hmac};
use std::fmt;

/// The most keys of a file: two are enough to rotate.
pub const KEYS_MAX: usize = 8;
/// The shortest secret in bytes: as many as HMAC-SHA256 has security for (RFC 2104 §3).
pub const SECRET_BYTES_MIN: usize = 32;
/// Bytes of an Ed25519 seed or public key (RFC 8032 §5.1).
const ED25519_BYTES: usize = 32;

const SECRET_HELP: &str = "write what `openssl rand -base64 32` prints";
const PRIVATE_HELP: &str =
    "write what `openssl genpkey -algorithm ed25519` prints, or its 32 bytes in base64";
const PUBLIC_HELP: &str = "write what `openssl pkey -pubout` prints for the private key";

/// The keys of a file: some verify, at most one signs. Shared by all workers.
pub struct Keys {
    list: Vec<Key>,
    /// The index of the key that signs.
    active: Option<usize>,
}

struct Key {
    id: Box<str>,
    /// Tells two keys of one id apart, without keeping the secret a second time.
    fingerprint: Fingerprint,
    material: Material,
}

enum Material {
    /// With its inner and outer state computed once, which takes a kilobyte.
    Hmac(Box<hmac::Key>),
    /// The private half is only where tokens are made.
    Ed25519(ParsedPublicKey, Option<Ed25519KeyPair>),
}

/// A digest of a key.
pub(super) type Fingerprint = [u8; 16];

impl Keys {
    /// Reads a key file, YAML or JSON:
    ///
    /// ```yaml
    /// active: k2                       # signs; without it, keys only verify
    /// keys:
    ///   k1: { algorithm: hmac_sha256, secret: "base64, 32 bytes or more" }
    ///   k2: { algorithm: ed25519, private: "base64 or PEM: PKCS #8, or the seed" }
    ///   k3: { algorithm: ed25519, public: "base64 or PEM: SPKI, or the 32 bytes" }
    /// ```
    ///
    /// # Errors
    /// The place, the key and what to write instead; never a part of a secret.
    pub fn parse(text: &str) -> Result<Keys, KeyError> {
        let file = KeyFile::parse(text, KEYS_MAX)?;
        let list = file.keys.iter().map(Key::read).collect::<Result<Vec<Key>, KeyError>>()?;
        let active = file.active(|index| list.get(index).is_some_and(Key::can_sign))?;
        Ok(Keys { list, active })
    }

    /// The id of the key that signs; `None` where keys only verify.
    pub fn active(&self) -> Option<&str> {
        self.list.get(self.active?).map(|key| &*key.id)
    }

    /// The ids of all keys, in the order of the file.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.list.iter().map(|key| &*key.id)
    }

    /// Appends a token for `claims` to `out`; `ttl_s` is held to 1..=[`TTL_MAX_S`]. `false`, with `out` as it was, when
    /// there is no key that signs, or `now_s` is beyond the year 33,000.
    pub fn sign(
        &self,
        claims: &Claims<'_>,
        issuer: &Issuer,
        now_s: u64,
        ttl_s: u64,
        out: &mut Vec<u8>,
    ) -> bool {
        let Some(key) = self.active.and_then(|index| self.list.get(index)) else { return false };
        let start = out.len();
        if !token::write_head(&key.id, now_s, ttl_s.clamp(1, TTL_MAX_S), issuer, out) {
            return false;
        }
        // What is signed lies behind the head for a moment, to need no second buffer.
        let head_end = out.len();
        token::write_signed_within(start, claims, out);
        let signature = key.sign(out.get(head_end..).unwrap_or_default());
        out.truncate(head_end);
        let Some(signature) = signature else {
            out.truncate(start);
            return false;
        };
        out.push(b'.');
        base64::encode(signature.bytes(), out);
        true
    }

    /// Whether `token` is a signature of `claims` at this time. `scratch` is overwritten. [`Cache`](super::Cache) does the
    /// same, and remembers.
    ///
    /// # Errors
    /// The first reason against it, in the order of [`Refused`]: what costs least is asked first.
    pub fn verify<'t>(
        &self,
        token: &'t [u8],
        claims: &Claims<'_>,
        now_s: u64,
        skew_s: u64,
        scratch: &mut Vec<u8>,
    ) -> Result<Verified<'t>, Refused> {
        let asked = self.ask(token, now_s, skew_s)?;
        scratch.clear();
        token::write_signed(asked.token.head, claims, scratch);
        asked.settle(scratch)
    }

    /// All that can be said without the claims.
    pub(super) fn ask<'k, 't>(
        &'k self,
        token: &'t [u8],
        now_s: u64,
        skew_s: u64,
    ) -> Result<Asked<'k, 't>, Refused> {
        let token = Token::parse(token).ok_or(Refused::Malformed)?;
        let key = self.list.iter().find(|key| &*key.id == token.key_id).ok_or(Refused::UnknownKey)?;
        if now_s >= token.expires_s.saturating_add(skew_s) {
            return Err(Refused::Expired); // RFC 7519 §4.1.4: on or after
        }
        if token.issued_s > now_s.saturating_add(skew_s) {
            return Err(Refused::NotYetValid);
        }
        Ok(Asked { token, key })
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list: Vec<_> = self.list.iter().map(|key| (&key.id, key.algorithm())).collect();
        f.debug_struct("Keys").field("active", &self.active()).field("keys", &list).finish_non_exhaustive()
    }
}

/// A token in its time, and the key that its signature must be of.
pub(super) struct Asked<'k, 't> {
    pub token: Token<'t>,
    key: &'k Key,
}

impl<'t> Asked<'_, 't> {
    pub(super) fn fingerprint(&self) -> &Fingerprint {
        &self.key.fingerprint
    }

    /// Asks the key.
    pub(super) fn settle(&self, signed: &[u8]) -> Result<Verified<'t>, Refused> {
        if self.key.verifies(signed, self.token.signature.bytes()) {
            Ok(self.verified())
        } else {
            Err(Refused::Altered)
        }
    }

    pub(super) fn verified(&self) -> Verified<'t> {
        let Token { key_id, issuer, issued_s, expires_s, .. } = self.token;
        Verified { key_id, issuer, issued_s, expires_s }
    }
}

impl Key {
    fn read(listed: &Listed) -> Result<Key, KeyError> {
        let material = match listed.text("algorithm") {
            Some("hmac_sha256") => {
                listed.only(&["algorithm", "secret"])?;
                Material::Hmac(Box::new(hmac::Key::new(hmac::HMAC_SHA256, &secret(listed)?)))
            }
            Some("ed25519") => {
                listed.only(&["algorithm", "private", "public"])?;
                ed25519(listed)?
            }
            _ => {
                return Err(listed.error(
                    "algorithm",
                    "no algorithm that is known",
                    "write `algorithm: hmac_sha256` or `algorithm: ed25519`",
                ));
            }
        };
        Ok(Key { id: listed.id.as_str().into(), fingerprint: material.fingerprint(), material })
    }

    fn algorithm(&self) -> &'static str {
        match &self.material {
            Material::Hmac(_) => "hmac_sha256",
            Material::Ed25519(_, Some(_)) => "ed25519",
            Material::Ed25519(_, None) => "ed25519, verifies only",
        }
    }

    fn can_sign(&self) -> bool {
        !matches!(&self.material, Material::Ed25519(_, None))
    }

    fn sign(&self, message: &[u8]) -> Option<Signature> {
        match &self.material {
            Material::Hmac(key) => Signature::new(hmac::sign(key, message).as_ref()),
            Material::Ed25519(_, private) => {
                Signature::new(private.as_ref()?.try_sign(message).ok()?.as_ref())
            }
        }
    }

    /// Both compare in constant time.
    fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        match &self.material {
            Material::Hmac(key) => hmac::verify(key, message, signature).is_ok(),
            Material::Ed25519(public, _) => public.verify_sig(message, signature).is_ok(),
        }
    }
}

impl Material {
    fn fingerprint(&self) -> Fingerprint {
        let mut fingerprint = Fingerprint::default();
        let full = match self {
            Material::Hmac(key) => hmac::sign(key, b"sidelight key fingerprint\0").as_ref().to_vec(),
            Material::Ed25519(public, _) => {
                digest::digest(&digest::SHA256, public.as_ref()).as_ref().to_vec()
            }
        };
        for (to, from) in fingerprint.iter_mut().zip(full) {
            *to = from;
        }
        fingerprint
    }
}

/// The secret of a key that is HMAC's.
pub(in crate::context) fn secret(listed: &Listed) -> Result<Vec<u8>, KeyError> {
    let text =
        listed.text("secret").ok_or_else(|| listed.error("secret", "there is no `secret`", SECRET_HELP))?;
    let secret = base64::decode_pasted(text)
        .ok_or_else(|| listed.error("secret", "the secret is not in base64", SECRET_HELP))?;
    if secret.len() < SECRET_BYTES_MIN {
        let message = format!("the secret has {} bytes: that can be guessed", secret.len());
        return Err(listed.error("secret", message, SECRET_HELP));
    }
    if secret.iter().all(|byte| Some(byte) == secret.first()) {
        return Err(listed.error(
            "secret",
            "the secret is one byte repeated: that can be guessed",
            SECRET_HELP,
        ));
    }
    Ok(secret)
}

fn ed25519(listed: &Listed) -> Result<Material, KeyError> {
    let bytes = |name: &'static str, help| {
        let Some(text) = listed.text(name) else { return Ok(None) };
        let message = format!("`{name}` is neither base64 nor PEM");
        base64::decode_pasted(text).map(Some).ok_or_else(|| listed.error(name, message, help))
    };
    let private = bytes("private", PRIVATE_HELP)?;
    let public = bytes("public", PUBLIC_HELP)?;
    let pair = private.map(|private| {
        let pair = match private.len() {
            ED25519_BYTES => Ed25519KeyPair::from_seed_unchecked(&private),
            _ => Ed25519KeyPair::from_pkcs8(&private),
        };
        pair.map_err(|_| listed.error("private", "`private` is no private key of Ed25519", PRIVATE_HELP))
    });
    let pair = pair.transpose()?;
    let parse = |bytes: &[u8]| {
        ParsedPublicKey::new(&ED25519, bytes)
            .map_err(|_| listed.error("public", "`public` is no public key of Ed25519", PUBLIC_HELP))
    };
    let public = match (public, &pair) {
        (Some(_), Some(_)) => {
            let message = "both `private` and `public`";
            return Err(listed.error(
                "public",
                message,
                "keep `private` at the edge, and `public` elsewhere",
            ));
        }
        (Some(public), None) => parse(&public)?,
        (None, Some(pair)) => parse(pair.public_key().as_ref())?,
        (None, None) => {
            let message = "neither `private` nor `public`";
            return Err(listed.error("algorithm", message, "write `private` to sign, `public` to verify"));
        }
    };
    Ok(Material::Ed25519(public, pair))
}
