//! What stands in for a value: a text of the same length, made by HMAC-SHA256.
//!
//! The same value has the same text wherever it stands, a header field, a cookie or a JSON member, so that one can still see
//! that the token of a login is the one of the next request. A token is the first characters of one endless stream for the
//! value, so a value of n bytes has n characters of 62 (letters and digits), or of 10 where the value has digits only.
//! For values shorter than 8 bytes two values may have the same token: of two 4-digit codes one pair in 10,000, of
//! two 4-letter passwords one pair in 15 million. Whoever has the key can try values.

use aws_lc_rs::hmac;

/// What kind of value: equal values of different kinds have different tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Anything that is secret.
    Secret = b's' as isize,
    /// An address of e-mail.
    Email = b'e' as isize,
    /// Digits.
    Digits = b'd' as isize,
}

const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const DOMAIN: &[u8] = b"sidelight redaction v1\0";

/// Makes tokens.
pub(super) struct Tokens {
    key: hmac::Key,
    /// How many were made since it was asked last.
    pub(super) made: u32,
    /// The value without what does not count.
    plain: Vec<u8>,
}

impl Tokens {
    pub(super) fn new(key: [u8; 32]) -> Tokens {
        Tokens { key: hmac::Key::new(hmac::HMAC_SHA256, &key), made: 0, plain: Vec::new() }
    }

    fn block(&self, kind: Kind, value: &[u8]) -> hmac::Tag {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(DOMAIN);
        context.update(&[kind as u8]);
        context.update(value);
        context.sign()
    }

    /// Replaces a value; nothing where it is empty.
    pub(super) fn secret(&mut self, value: &mut [u8]) {
        if value.is_empty() {
            return;
        }
        if value.iter().all(u8::is_ascii_digit) {
            return self.digits(value);
        }
        self.made += 1;
        let block = self.block(Kind::Secret, value);
        let mut slots = value.iter_mut();
        fill(&self.key, block, |byte| match slots.next() {
            Some(slot) => {
                *slot = BASE62.get(usize::from(byte) % 62).copied().unwrap_or(b'0');
                true
            }
            None => false,
        });
    }

    /// Replaces the digits of a value, and leaves all else. What comes out is never a card number: where it would be, the
    /// last digit is another one.
    pub(super) fn digits(&mut self, value: &mut [u8]) {
        self.plain.clear();
        self.plain.extend(Digits::new(value).map(|at| value.get(at).copied().unwrap_or(b'0')));
        if self.plain.is_empty() {
            return;
        }
        self.made += 1;
        let block = self.block(Kind::Digits, &self.plain);
        let mut slots = self.plain.iter_mut();
        fill(&self.key, block, |byte| match slots.next() {
            Some(slot) => {
                *slot = b'0' + byte % 10;
                true
            }
            None => false,
        });
        if let Some(first) = self.plain.first_mut().filter(|first| **first == b'0') {
            *first = b'1'; // a number with a leading zero is not JSON
        }
        if super::card::is_luhn(&self.plain)
            && let Some(last) = self.plain.last_mut()
        {
            *last = b'0' + (*last - b'0' + 1) % 10;
        }
        let mut at = 0;
        for digit in &self.plain {
            let Some(place) = Digits::from(value, at).next() else { return };
            if let Some(slot) = value.get_mut(place) {
                *slot = *digit;
            }
            at = place + 1;
        }
    }

    /// Replaces an address of e-mail: `@` (however it is written; `at` is where) and the dots stay.
    pub(super) fn email(&mut self, address: &mut [u8], at: std::ops::Range<usize>) {
        self.plain.clear();
        self.plain.extend_from_slice(address.get(..at.start).unwrap_or_default());
        self.plain.push(b'@');
        self.plain.extend_from_slice(address.get(at.end..).unwrap_or_default());
        self.made += 1;
        let block = self.block(Kind::Email, &self.plain);
        let mut slots = address
            .iter_mut()
            .enumerate()
            .filter(|(index, byte)| !at.contains(index) && **byte != b'.')
            .map(|(_, slot)| slot);
        fill(&self.key, block, |byte| match slots.next() {
            Some(slot) => {
                *slot = BASE62.get(usize::from(byte) % 62).copied().unwrap_or(b'0');
                true
            }
            None => false,
        });
    }
}

/// Calls `put` with bytes that nobody can foresee, until it wants no more.
fn fill(key: &hmac::Key, first: hmac::Tag, mut put: impl FnMut(u8) -> bool) {
    let mut block = first;
    loop {
        for byte in block.as_ref() {
            if !put(*byte) {
                return;
            }
        }
        block = hmac::sign(key, block.as_ref());
    }
}

/// The places of digits; those of `%20` and the like are none.
struct Digits<'a> {
    value: &'a [u8],
    at: usize,
}

impl<'a> Digits<'a> {
    fn new(value: &'a [u8]) -> Digits<'a> {
        Digits { value, at: 0 }
    }

    fn from(value: &'a [u8], at: usize) -> Digits<'a> {
        Digits { value, at }
    }
}

impl Iterator for Digits<'_> {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        loop {
            match self.value.get(self.at)? {
                b'%' => self.at += 3,
                byte if byte.is_ascii_digit() => {
                    self.at += 1;
                    return Some(self.at - 1);
                }
                _ => self.at += 1,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_has_the_length_and_the_alphabet_of_what_it_stands_for() {
        let mut tokens = Tokens::new([7; 32]);
        for value in ["a", "hunter2", "0", "123456", "4111 1111 1111 1111", &"x".repeat(1000)] {
            let mut token = value.as_bytes().to_vec();
            tokens.secret(&mut token);
            assert_eq!(token.len(), value.len());
            assert!(token.iter().all(u8::is_ascii_alphanumeric), "{value}");
            assert_eq!(
                token.iter().all(u8::is_ascii_digit),
                value.bytes().all(|b| b.is_ascii_digit()),
                "{value}"
            );
            let mut again = value.as_bytes().to_vec();
            tokens.secret(&mut again);
            assert_eq!(token, again);
            if value.len() > 4 {
                assert_ne!(token, value.as_bytes());
            }
        }
    }

    #[test]
    fn another_key_another_token_and_never_a_card() {
        let (mut one, mut two) = (Tokens::new([1; 32]), Tokens::new([2; 32]));
        let (mut a, mut b) = (*b"a long secret value", *b"a long secret value");
        one.secret(&mut a);
        two.secret(&mut b);
        assert_ne!(a, b);
        for number in 0..500u64 {
            let mut card = format!("{}", 4_111_111_111_111_111 + number).into_bytes();
            one.digits(&mut card);
            assert!(!super::super::card::is_luhn(&card));
        }
    }

    #[test]
    fn separators_of_digits_and_the_at_sign_stay() {
        let mut tokens = Tokens::new([1; 32]);
        let (mut grouped, mut plain, mut escaped) =
            (*b"4111-1111-1111-1111", *b"4111111111111111", *b"4111%201111%201111%201111");
        tokens.digits(&mut grouped);
        tokens.digits(&mut plain);
        tokens.digits(&mut escaped);
        assert_eq!(grouped.iter().filter(|b| **b != b'-').copied().collect::<Vec<_>>(), plain);
        assert_eq!(
            std::str::from_utf8(&escaped).unwrap().replace("%20", ""),
            std::str::from_utf8(&plain).unwrap()
        );
        let mut mail = *b"jane.doe@example.com";
        tokens.email(&mut mail, 8..9);
        assert_eq!((mail[4], mail[8], mail[16]), (b'.', b'@', b'.'));
        assert!(!mail.windows(3).any(|w| w == b"doe"));
    }
}
