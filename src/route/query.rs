//! Query parameters: pairs joined by `&`, names and values escaped as HTML forms and `URLSearchParams` do it (`%41` is
//! `A`, `+` is a space). A broken escape stands for itself.

use std::borrow::Cow;

/// The value of the first parameter of this name, decoded; `None` without one. `a` and `a=` have an empty value.
pub(super) fn parameter<'q>(query: &'q [u8], name: &[u8]) -> Option<Cow<'q, [u8]>> {
    query.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty()).find_map(|pair| {
        let (key, value) = match memchr::memchr(b'=', pair) {
            Some(at) => (pair.get(..at)?, pair.get(at + 1..)?),
            None => (pair, &[][..]),
        };
        Decode(key).eq(name.iter().copied()).then(|| decode(value))
    })
}

fn decode(text: &[u8]) -> Cow<'_, [u8]> {
    match memchr::memchr2(b'%', b'+', text) {
        None => Cow::Borrowed(text),
        Some(_) => Cow::Owned(Decode(text).collect()),
    }
}

struct Decode<'a>(&'a [u8]);

impl Iterator for Decode<'_> {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        let digit = |byte: u8| char::from(byte).to_digit(16);
        let (byte, rest) = match self.0 {
            [b'%', high, low, rest @ ..] => match (digit(*high), digit(*low)) {
                (Some(high), Some(low)) => ((high << 4 | low) as u8, rest),
                _ => (b'%', self.0.get(1..)?),
            },
            [b'+', rest @ ..] => (b' ', rest),
            [byte, rest @ ..] => (*byte, rest),
            [] => return None,
        };
        self.0 = rest;
        Some(byte)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_value_decoded() {
        for (query, name, want) in [
            ("a=1&b=2", "b", Some("2")),
            ("a=1&a=2", "a", Some("1")),
            ("a", "a", Some("")),
            ("a=", "a", Some("")),
            ("a=b=c", "a", Some("b=c")),
            ("&&a=1", "a", Some("1")),
            ("%61=%41%2b+x", "a", Some("A+ x")),
            ("a=%zz%4", "a", Some("%zz%4")),
            ("=1", "", Some("1")),
            ("", "a", None),
            ("&", "", None),
            ("ab=1", "a", None),
            ("A=1", "a", None),
        ] {
            let found = parameter(query.as_bytes(), name.as_bytes());
            assert_eq!(found.as_deref(), want.map(str::as_bytes), "{query} {name}");
        }
    }
}
