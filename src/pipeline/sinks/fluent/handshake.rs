//! The handshake of a server with a shared key: HELO, PING, PONG.
//!
//! What: both sides prove by SHA-512 that they have the key, over salts of both; the key is never sent. How it fails: a
//! side that cannot prove it, or speaks otherwise, is an error that says what to look at; the comparison of the server's
//! proof takes the same time wherever it differs.

use super::answer::Answer;
use super::message::write;
use crate::svc::hex;
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{Context, SHA512};
use aws_lc_rs::rand;

/// What this side proves itself with.
pub(super) struct Keys {
    /// What this side calls itself.
    pub(super) hostname: String,
    /// The shared key.
    pub(super) shared_key: String,
    /// User and password.
    pub(super) user: Option<(String, String)>,
}

/// A PING that was sent: what the PONG is compared with.
#[derive(Debug)]
pub(super) struct Asked {
    salt: String,
    nonce: Vec<u8>,
}

impl Keys {
    /// The PING that answers a HELO.
    ///
    /// # Errors
    /// It is no HELO, or it asks for a user and there is none.
    pub(super) fn ping(&self, helo: &Answer) -> Result<(Vec<u8>, Asked), String> {
        let options = helo.message("HELO").and_then(<[Answer]>::first);
        let options =
            options.ok_or("the handshake does not begin with HELO: has the server a shared key?")?;
        let text = |name: &str| options.entry(name).and_then(Answer::bytes).unwrap_or_default();
        let (nonce, user_salt) = (text("nonce"), text("auth"));
        let salt = random_hex()?;
        let proof = digest(&[salt.as_bytes(), self.hostname.as_bytes(), nonce, self.shared_key.as_bytes()]);
        let (user, password) = match (&self.user, user_salt) {
            (_, []) => ("", String::new()),
            (Some((user, password)), salt) => {
                (user.as_str(), digest(&[salt, user.as_bytes(), password.as_bytes()]))
            }
            (None, _) => return Err("the server asks for a user: set `username` and `password_file`".into()),
        };
        let mut ping = Vec::with_capacity(512);
        write(&mut ping, &("PING", &self.hostname, &salt, proof, user, password))?;
        Ok((ping, Asked { salt, nonce: nonce.to_vec() }))
    }

    /// Whether a PONG lets us in, from a server that has the key.
    ///
    /// # Errors
    /// It does not, or the server has another key.
    pub(super) fn check(&self, asked: &Asked, pong: &Answer) -> Result<(), String> {
        let Some([Answer::Bool(is_in), reason, hostname, proof, ..]) = pong.message("PONG") else {
            return Err("the handshake does not end with PONG".into());
        };
        if !is_in {
            let reason = reason.bytes().unwrap_or_default().escape_ascii().to_string();
            let reason = reason.get(..100).unwrap_or(&reason);
            return Err(format!("the server refuses the handshake: {reason}"));
        }
        let hostname = hostname.bytes().unwrap_or_default();
        let expected = digest(&[asked.salt.as_bytes(), hostname, &asked.nonce, self.shared_key.as_bytes()]);
        verify_slices_are_equal(expected.as_bytes(), proof.bytes().unwrap_or_default())
            .map_err(|_| "the server has not the shared key that it was configured with here".to_owned())
    }
}

/// 128 random bits.
pub(super) fn random_hex() -> Result<String, String> {
    let mut bytes = [0; 16];
    rand::fill(&mut bytes).map_err(|_| "the system has no random numbers".to_owned())?;
    Ok(hex::encode(&bytes))
}

/// SHA-512 of the parts together, in lower-case hex.
pub(super) fn digest(parts: &[&[u8]]) -> String {
    let mut context = Context::new(&SHA512);
    parts.iter().for_each(|part| context.update(part));
    hex::encode(context.finish().as_ref())
}
