//! Pseudonyms: a value of a field becomes a short text that is always the same for it, and that nobody without the key
//! can lead back.
//!
//! # The text
//!
//! `{key id}_{28 characters of base64url}`, such as `p1_` and 28 more: of HMAC-SHA256 over the field's name and the value,
//! 120 bits that stand for the value and 48 bits of a second HMAC over those, by which the text is known as a
//! pseudonym of that key. All of its characters are valid in every built-in field that names somebody.
//!
//! - **Stable**: every sidecar with the key gives a value the same text, so routes, limits and traces work as before.
//! - **Told once**: a text that is a pseudonym of a key in the file stays as it is, so every hop may apply this. The 48
//!   bits are why a user cannot call themselves by a made-up pseudonym. One who has seen another's pseudonym could use
//!   it as a name: make pseudonyms where the name is known to be true, behind authentication, and drop the field from
//!   peers that are not trusted.
//! - **Apart**: the same value in two fields has two pseudonyms.
//! - **Rotated**: new ones are made by the active key, those of the other keys in the file are still known. Where
//!   the old key is thrown away, the old pseudonyms can no longer be made for anybody, and a person's past and
//!   future are not linked.
//!
//! # What it protects, and what not
//!
//! Whoever reads headers, events, traces or a third party's log sees no name, and cannot try names, as with a hash that
//! has no key. Whoever has the key can try names: ids are few enough for that. The requests of one person stay linked, so
//! it is personal data still (GDPR art. 4(5), recital 26), and a body may tell the name anyway. OpenTelemetry calls such a
//! value `user.hash` or `enduser.pseudo.id`.
//!
//! How it fails: a key file that is wrong is refused ([`KeyError`]); with a key, nothing can fail.

use super::signature::{KEY_ID_BYTES_MAX, KeyError, KeyFile, Listed, decode, encode, secret};
use aws_lc_rs::{constant_time, hmac};
use std::fmt;

/// The most keys of a file.
pub const KEYS_MAX: usize = 8;
/// The longest pseudonym in bytes.
pub const BYTES_MAX: usize = KEY_ID_BYTES_MAX + 1 + TEXT_BYTES;

/// Bytes that stand for the value: two of 10¹² values are the same with a probability of 10⁻¹².
const ID_BYTES: usize = 15;
/// Bytes by which a pseudonym is known.
const CHECK_BYTES: usize = 6;
/// Characters of both in base64url: both are whole groups of three.
const TEXT_BYTES: usize = (ID_BYTES + CHECK_BYTES) / 3 * 4;

const ID_DOMAIN: &[u8] = b"sidelight pseudonym v1\0";
const CHECK_DOMAIN: &[u8] = b"sidelight pseudonym check v1\0";

/// Makes and knows pseudonyms. Shared by all workers.
pub struct Pseudonymizer {
    /// The first one makes them.
    keys: Vec<Key>,
}

struct Key {
    id: Box<str>,
    key: hmac::Key,
}

/// What became of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// A pseudonym was made of it.
    Made,
    /// It was one already, and stays.
    Kept,
}

impl Pseudonymizer {
    /// Reads a key file, YAML or JSON: `active: p1` and `keys: { p1: { secret: "base64, 32 bytes or more" } }`. With one
    /// key `active` may be left out. Never use the keys of signatures here: who may verify need not know names.
    ///
    /// # Errors
    /// The place, the key and what to write instead; never a part of a secret.
    pub fn parse(text: &str) -> Result<Pseudonymizer, KeyError> {
        let file = KeyFile::parse(text, KEYS_MAX)?;
        let mut keys = file.keys.iter().map(Key::read).collect::<Result<Vec<Key>, KeyError>>()?;
        match file.active(|_| true)? {
            Some(active) => keys.swap(0, active),
            None if keys.len() == 1 => {}
            None => {
                let help = "write `active: ` and the id of the newest one";
                return Err(KeyError::new(None, "there are several keys, and none makes pseudonyms", help));
            }
        }
        Ok(Pseudonymizer { keys })
    }

    /// The id of the key that makes pseudonyms.
    pub fn active(&self) -> &str {
        self.keys.first().map_or("", |key| &key.id)
    }

    /// Appends the pseudonym of `value` to `out`, or `value` itself when it is one. `field` is the field's name, such
    /// as `user_id`; `value` is valid and not empty.
    pub fn write(&self, field: &str, value: &[u8], out: &mut Vec<u8>) -> Applied {
        if self.is_pseudonym(field, value) {
            out.extend_from_slice(value);
            return Applied::Kept;
        }
        if let Some(key) = self.keys.first() {
            key.write(field, value, out);
        }
        Applied::Made
    }

    /// Whether `value` is a pseudonym for `field`, made by a key of this file.
    pub fn is_pseudonym(&self, field: &str, value: &[u8]) -> bool {
        let Some((id, text)) = value.split_last_chunk::<TEXT_BYTES>() else { return false };
        let Some((b'_', id)) = id.split_last() else { return false };
        let key = self.keys.iter().find(|key| key.id.as_bytes() == id);
        key.is_some_and(|key| key.made(field, text))
    }
}

impl fmt::Debug for Pseudonymizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids: Vec<_> = self.keys.iter().map(|key| &key.id).collect();
        f.debug_struct("Pseudonymizer").field("keys", &ids).finish_non_exhaustive()
    }
}

impl Key {
    fn read(listed: &Listed) -> Result<Key, KeyError> {
        if listed.text("algorithm").is_some_and(|algorithm| algorithm != "hmac_sha256") {
            let help = "write `hmac_sha256`, or leave it out";
            return Err(listed.error("algorithm", "pseudonyms need a secret", help));
        }
        listed.only(&["algorithm", "secret"])?;
        Ok(Key { id: listed.id.as_str().into(), key: hmac::Key::new(hmac::HMAC_SHA256, &secret(listed)?) })
    }

    fn write(&self, field: &str, value: &[u8], out: &mut Vec<u8>) {
        let id: [u8; ID_BYTES] = self.tag(ID_DOMAIN, field, value);
        let check: [u8; CHECK_BYTES] = self.tag(CHECK_DOMAIN, field, &id);
        out.extend_from_slice(self.id.as_bytes());
        out.push(b'_');
        encode(&id, out);
        encode(&check, out);
    }

    fn made(&self, field: &str, text: &[u8; TEXT_BYTES]) -> bool {
        let mut bytes = [0; ID_BYTES + CHECK_BYTES];
        let Some((id, check)) =
            decode(text, &mut bytes).and_then(|bytes| bytes.split_first_chunk::<ID_BYTES>())
        else {
            return false;
        };
        let want: [u8; CHECK_BYTES] = self.tag(CHECK_DOMAIN, field, id);
        constant_time::verify_slices_are_equal(&want, check).is_ok()
    }

    /// The first `N` bytes of HMAC-SHA256 over the domain, the field and the value; `N` is at most 32.
    fn tag<const N: usize>(&self, domain: &[u8], field: &str, value: &[u8]) -> [u8; N] {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(domain);
        context.update(&[u8::try_from(field.len()).unwrap_or(u8::MAX)]); // names have at most 32 bytes
        context.update(field.as_bytes());
        context.update(value);
        let mut short = [0; N];
        for (to, from) in short.iter_mut().zip(context.sign().as_ref()) {
            *to = *from;
        }
        short
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::Field;
    use proptest::prelude::*;
    use std::collections::HashSet;

    /// 32 bytes 0..32 and 32 bytes 32..64.
    const OLD: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    const NEW: &str = "ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8=";

    fn old() -> Pseudonymizer {
        Pseudonymizer::parse(&format!("keys: {{ p1: {{ secret: \"{OLD}\" }} }}")).unwrap()
    }

    /// After a rotation.
    fn both() -> Pseudonymizer {
        let text =
            format!("active: p2\nkeys:\n  p1: {{ secret: \"{OLD}\" }}\n  p2: {{ secret: \"{NEW}\" }}\n");
        Pseudonymizer::parse(&text).unwrap()
    }

    fn apply(by: &Pseudonymizer, field: Field, value: &str) -> (Applied, String) {
        let mut out = Vec::new();
        let applied = by.write(field.name(), value.as_bytes(), &mut out);
        (applied, String::from_utf8(out).unwrap())
    }

    fn made(by: &Pseudonymizer, field: Field, value: &str) -> String {
        let (applied, text) = apply(by, field, value);
        assert_eq!(applied, Applied::Made, "{value}");
        text
    }

    /// Computed by Python's `hmac`; another text would name every user anew.
    #[test]
    fn a_pseudonym_never_changes() {
        assert_eq!(made(&old(), Field::UserId, "alice@example.com"), "p1_5vJpxXD1yds4ImyVpb75Sg8cNpsJ");
    }

    #[test]
    fn it_is_short_valid_in_its_field_and_tells_nothing_of_the_value() {
        for field in [Field::UserId, Field::AccountId, Field::License] {
            for value in ["a", "alice@example.com", &"x".repeat(256)] {
                let text = made(&old(), field, value);
                assert!(field.is_valid(text.as_bytes()) && text.len() == "p1_".len() + 28, "{text}");
                assert!(text.starts_with("p1_") && !text.contains("alice"), "{text}");
            }
        }
    }

    #[test]
    fn the_same_value_has_one_pseudonym_and_others_have_others() {
        assert_eq!(made(&old(), Field::UserId, "alice"), made(&old(), Field::UserId, "alice"));
        assert_ne!(made(&old(), Field::UserId, "alice"), made(&old(), Field::AccountId, "alice"), "field");
        assert_ne!(made(&old(), Field::UserId, "alice"), made(&both(), Field::UserId, "alice"), "key");
        let texts: HashSet<_> = (0..2_000).map(|n| made(&old(), Field::UserId, &format!("u{n}"))).collect();
        assert_eq!(texts.len(), 2_000);
    }

    #[test]
    fn a_pseudonym_stays_through_hops_and_through_a_rotation() {
        let first = made(&old(), Field::UserId, "alice");
        assert_eq!(apply(&old(), Field::UserId, &first), (Applied::Kept, first.clone()));
        assert_eq!(
            apply(&both(), Field::UserId, &first),
            (Applied::Kept, first.clone()),
            "the old key is known"
        );
        let second = made(&both(), Field::UserId, "alice");
        assert!(second.starts_with("p2_"));
        // A sidecar that has not got the new key yet hides it once more, rather than believe it.
        assert!(made(&old(), Field::UserId, &second).starts_with("p1_"));
        // It is one for its own field only.
        assert_ne!(apply(&old(), Field::AccountId, &first).1, first);
    }

    #[test]
    fn a_made_up_pseudonym_is_a_name_like_any_other() {
        let real = made(&old(), Field::UserId, "alice");
        let made_up = [
            format!("p1_{}", "A".repeat(28)),
            real.replacen("p1_", "p2_", 1),
            real.replacen("p1_", "_", 1),
            real.replacen("p1_", "", 1),
            format!("{real}A"),
            real.to_ascii_uppercase(),
        ];
        for text in made_up {
            assert_ne!(made(&old(), Field::UserId, &text), text);
        }
        for at in 0..real.len() {
            let mut bytes = real.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            assert!(!old().is_pseudonym("user_id", &bytes), "{at}");
        }
    }

    #[test]
    fn a_key_file_that_is_wrong_is_refused_with_the_key_and_what_to_do() {
        let long = "x".repeat(17);
        for (text, want) in [
            ("keys: { p1: { secret: \"c2hvcnQ=\" } }".to_owned(), "key `p1`: the secret has 5 bytes"),
            ("keys: { p1: {} }".to_owned(), "there is no `secret`"),
            (format!("keys: {{ {long}: {{ secret: \"{OLD}\" }} }}"), "cannot have this id"),
            (
                format!("keys: {{ p1: {{ algorithm: ed25519, secret: \"{OLD}\" }} }}"),
                "pseudonyms need a secret",
            ),
            (format!("keys: {{ a: {{ secret: \"{OLD}\" }}, b: {{ secret: \"{NEW}\" }} }}"), "several keys"),
            (
                format!("active: p2\nkeys: {{ p1: {{ secret: \"{OLD}\" }} }}"),
                "key `p2`: `active` names a key",
            ),
        ] {
            let error = Pseudonymizer::parse(&text).unwrap_err().to_string();
            assert!(error.contains(want), "{error}");
            assert!(!error.contains(OLD) && !error.contains("c2hvcnQ"), "{error}");
        }
    }

    #[test]
    fn secrets_are_never_printed() {
        let shown = format!("{:?}", both());
        assert!(
            shown.contains("p1") && !shown.contains(&OLD[..8]) && !shown.contains("key_value"),
            "{shown}"
        );
    }

    proptest! {
        #[test]
        fn twice_is_once(value in "[!-~]{1,60}") {
            let (_, once) = apply(&both(), Field::UserId, &value);
            prop_assert_eq!(apply(&both(), Field::UserId, &once), (Applied::Kept, once.clone()));
        }

        #[test]
        fn any_bytes_are_judged_without_a_panic(value in prop::collection::vec(any::<u8>(), 0..80)) {
            prop_assert!(!both().is_pseudonym("user_id", &value));
        }
    }
}
