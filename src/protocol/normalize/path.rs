//! One spelling for each path (RFC 3986 §6.2.2), found in one scan when it is that already.
//!
//! Escapes of unreserved characters are decoded, the digits of others are upper case, dot segments are resolved; what
//! climbs above the root, hides a control character or is not visible ASCII is refused. Escapes are decoded once:
//! `%252e` is not `%2e`.

use crate::limits::{self, EscapedSlashes};

/// What is a matter of configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    merge_slashes: bool,
    escaped_slashes: EscapedSlashes,
}

impl Rules {
    /// The rules that `limits.path` says.
    pub fn new(path: &limits::Path) -> Rules {
        Rules { merge_slashes: path.merge_slashes, escaped_slashes: path.escaped_slashes }
    }
}

/// The canonical form of `path`; `None` when it is that already.
///
/// # Errors
/// Why the path has no canonical form.
pub fn normalize(path: &[u8], rules: Rules) -> Result<Option<Vec<u8>>, &'static str> {
    if path.first() != Some(&b'/') {
        return Err("the path does not start with a slash");
    }
    if is_canonical(path, rules)? {
        return Ok(None);
    }
    let canonical = Writer { rules, out: Vec::with_capacity(path.len()), segment: 0 }.write(path)?;
    Ok((canonical != path).then_some(canonical)) // `/...` only looked as if it had a dot segment
}

/// Whether `query` is visible ASCII without a fragment. Everything else in it is between the client and the app.
///
/// # Errors
/// What is wrong.
pub(super) fn check_query(query: &[u8]) -> Result<(), &'static str> {
    // The query has no rule but this one, so all classes of a path but the refused one are fine; the backslash too.
    match query.iter().find(|byte| CLASS[usize::from(**byte)] == REFUSED && **byte != b'\\') {
        None => Ok(()),
        Some(byte) => Err(complaint(*byte)),
    }
}

/// The byte that two hexadecimal digits stand for.
pub(super) fn from_hex(digits: &[u8]) -> Option<u8> {
    let [high, low] = digits else { return None };
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    Some((digit(high)? << 4 | digit(low)?) as u8)
}

fn complaint(byte: u8) -> &'static str {
    match byte {
        b'#' => "the target has a fragment",
        b'\\' => "the path has a backslash",
        b' ' => "the target has a space",
        0x80.. => "the target has a byte that is not ASCII",
        _ => "the target has a control character",
    }
}

/// Stops at the first thing that has to be rewritten; the rewriting looks at everything again.
fn is_canonical(path: &[u8], rules: Rules) -> Result<bool, &'static str> {
    let mut at = 0;
    let mut is_after_slash = false;
    loop {
        while path.get(at).is_some_and(|byte| CLASS[usize::from(*byte)] == PLAIN) {
            at += 1;
            is_after_slash = false;
        }
        let Some(byte) = path.get(at) else { return Ok(true) };
        match CLASS[usize::from(*byte)] {
            SLASH if is_after_slash && rules.merge_slashes => return Ok(false),
            SLASH => is_after_slash = true,
            DOT => {
                // A dot segment, or something that may be one: `..`, `.%2e`, `..;`. Not `.well-known`.
                if is_after_slash && matches!(path.get(at + 1), None | Some(b'/' | b'.' | b'%' | b';')) {
                    return Ok(false);
                }
                is_after_slash = false;
            }
            PERCENT => {
                let digits = path.get(at + 1..at + 3).ok_or(BROKEN_ESCAPE)?;
                match escape(digits, rules)? {
                    Escape::Kept(upper) if upper == digits => at += 2,
                    _ => return Ok(false),
                }
                is_after_slash = false;
            }
            _ => return Err(complaint(*byte)),
        }
        at += 1;
    }
}

const BROKEN_ESCAPE: &str = "an escape is not two hexadecimal digits";

/// What becomes of an escape.
enum Escape {
    /// It is this character, and none that has a meaning in a path.
    Plain(u8),
    /// It is a slash.
    Slash,
    /// It stays, with these digits.
    Kept([u8; 2]),
}

fn escape(digits: &[u8], rules: Rules) -> Result<Escape, &'static str> {
    let byte = from_hex(digits).ok_or(BROKEN_ESCAPE)?;
    match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
            return Ok(Escape::Plain(byte));
        }
        0 => return Err("the path has an escaped NUL"),
        b'/' | b'\\' => match rules.escaped_slashes {
            EscapedSlashes::Keep => {}
            EscapedSlashes::Reject => return Err("the path has an escaped slash"),
            // Where a backslash separates, it separates as a slash does; a raw one is refused for the same reason.
            EscapedSlashes::Decode => return Ok(Escape::Slash),
        },
        _ => {}
    }
    let mut upper = [0; 2];
    for (to, from) in upper.iter_mut().zip(digits) {
        *to = from.to_ascii_uppercase();
    }
    Ok(Escape::Kept(upper))
}

/// Writes the canonical path, segment by segment.
struct Writer {
    rules: Rules,
    out: Vec<u8>,
    /// Where the segment that is being written starts: behind the last slash.
    segment: usize,
}

impl Writer {
    fn write(mut self, path: &[u8]) -> Result<Vec<u8>, &'static str> {
        self.out.push(b'/');
        self.segment = 1;
        let mut at = 1;
        while let Some(byte) = path.get(at) {
            match CLASS[usize::from(*byte)] {
                PLAIN | DOT => self.out.push(*byte),
                SLASH => self.slash()?,
                PERCENT => {
                    let digits = path.get(at + 1..at + 3).ok_or(BROKEN_ESCAPE)?;
                    match escape(digits, self.rules)? {
                        Escape::Plain(byte) => self.out.push(byte),
                        Escape::Slash => self.slash()?,
                        Escape::Kept([high, low]) => self.out.extend([b'%', high, low]),
                    }
                    at += 2;
                }
                _ => return Err(complaint(*byte)),
            }
            at += 1;
        }
        self.end_segment()?;
        Ok(self.out)
    }

    /// A slash ends the segment; behind a dot segment there is one already.
    fn slash(&mut self) -> Result<(), &'static str> {
        let is_dots = self.end_segment()?;
        let is_merged = self.rules.merge_slashes && self.segment == self.out.len();
        if !is_dots && !is_merged {
            self.out.push(b'/');
            self.segment = self.out.len();
        }
        Ok(())
    }

    /// Resolves the segment if it is a dot segment (RFC 3986 §5.2.4), and says whether it was.
    fn end_segment(&mut self) -> Result<bool, &'static str> {
        match self.out.get(self.segment..).unwrap_or_default() {
            b"." => self.out.truncate(self.segment),
            b".." => {
                let parent = self.out.get(..self.segment - 1).unwrap_or_default();
                let slash = memchr::memrchr(b'/', parent).ok_or("the path climbs above the root")?;
                self.segment = slash + 1;
                self.out.truncate(self.segment);
            }
            // Some servers cut `;…` off before they resolve dots, others do not.
            [b'.', b';', ..] | [b'.', b'.', b';', ..] => return Err("a dot segment has parameters"),
            _ => return Ok(false),
        }
        Ok(true)
    }
}

const PLAIN: u8 = 0;
const SLASH: u8 = 1;
const DOT: u8 = 2;
const PERCENT: u8 = 3;
const REFUSED: u8 = 4;

/// What each byte is in a path. Visible ASCII that RFC 3986 does not allow (`"<>[]^{|}` and the backtick) is carried as
/// it is: browsers send some of it, and none of it separates anything.
const CLASS: [u8; 256] = {
    let mut table = [REFUSED; 256];
    let mut byte = 0x21;
    while byte < 0x7f {
        table[byte] = match byte as u8 {
            b'/' => SLASH,
            b'.' => DOT,
            b'%' => PERCENT,
            b'#' | b'\\' => REFUSED,
            _ => PLAIN,
        };
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KEEP: Rules = Rules { merge_slashes: false, escaped_slashes: EscapedSlashes::Keep };
    const MERGE: Rules = Rules { merge_slashes: true, ..KEEP };
    const REJECT: Rules = Rules { escaped_slashes: EscapedSlashes::Reject, ..KEEP };
    const DECODE: Rules = Rules { escaped_slashes: EscapedSlashes::Decode, ..KEEP };

    fn canonical(path: &str, rules: Rules) -> Result<String, &'static str> {
        let changed = normalize(path.as_bytes(), rules)?;
        Ok(changed.map_or_else(|| path.to_owned(), |path| String::from_utf8(path).unwrap()))
    }

    #[test]
    fn canonical_paths_are_not_copied() {
        for path in [
            "/",
            "/a",
            "/a/",
            "/a//b",
            "/.well-known/x",
            "/a.b",
            "/a/...",
            "/a;b=1,2!$&'()*+:@",
            "/%2F%5C%20%C3%A9",
            "/%25",
            "/a|b",
            "/a..b/.c",
            "/...",
        ] {
            assert_eq!(canonical(path, KEEP).unwrap(), path, "{path}");
        }
        for path in ["/", "/a", "/a/b.c/", "/%2F%20", "/a//b", "/.well-known", "/..."] {
            assert_eq!(normalize(path.as_bytes(), KEEP), Ok(None), "{path}");
        }
    }

    #[test]
    fn every_path_has_one_spelling() {
        for (path, want) in [
            ("/a/../c", "/c"),
            ("/a/%2e%2E/c", "/c"),
            ("/a/%2E./c", "/c"),
            ("/a/b/..", "/a/"),
            ("/a/..", "/"),
            ("/.", "/"),
            ("/a/./c", "/a/c"),
            ("/a/%2e/c", "/a/c"),
            ("/a/.", "/a/"),
            ("/a/./", "/a/"),
            ("/a//../b", "/a/b"),
            ("/./a", "/a"),
            ("/%41%62%7a%30", "/Abz0"),
            ("/%2d%2e%5f%7e", "/-._~"),
            ("/%c3%a9", "/%C3%A9"),
            ("/a%2fb", "/a%2Fb"),
            ("/a/..%2fc", "/a/..%2Fc"),
            ("/%252e%252e/c", "/%252e%252e/c"),
            ("/%25%32e", "/%252e"),
            ("/a/b/../../c", "/c"),
        ] {
            assert_eq!(canonical(path, KEEP).unwrap(), want, "{path}");
        }
    }

    #[test]
    fn slashes_as_configured() {
        assert_eq!(canonical("//a///b//", MERGE).unwrap(), "/a/b/");
        assert_eq!(canonical("//a//..//b", MERGE).unwrap(), "/b");
        assert_eq!(canonical("/a%2F%2fb", DECODE).unwrap(), "/a//b");
        assert_eq!(canonical("/a/..%5cb", DECODE).unwrap(), "/b");
        assert!(canonical("/a%2f..%2f..%2fb", DECODE).is_err(), "above the root");
        assert_eq!(canonical("/a%252Fb", DECODE).unwrap(), "/a%252Fb");
        for path in ["/a%2Fb", "/a%5cb", "/a/../b%2f"] {
            assert!(canonical(path, REJECT).is_err(), "{path}");
        }
    }

    #[test]
    fn what_has_no_canonical_form() {
        for path in [
            "",
            "a",
            "*",
            "?",
            "/..",
            "/../c",
            "/a/../../c",
            "/%2e%2e/c",
            "/.%2E/c",
            "/a%00b",
            "/a%zzb",
            "/a%2",
            "/a%",
            "/a%%41",
            "/a%+1",
            "/a b",
            "/a\u{1}b",
            "/a\0",
            "/a\tb",
            "/a\u{7f}",
            "/caf\u{e9}",
            "/c#f",
            "/a\\b",
            "/a/..;/b",
            "/a/..;x",
            "/.;/a",
            "/a/%2e%2e;/b",
            "/a/../ b",
        ] {
            for rules in [KEEP, MERGE, REJECT, DECODE] {
                assert!(canonical(path, rules).is_err(), "{path:?} {rules:?}");
            }
        }
    }

    #[test]
    fn a_query_is_visible_ascii() {
        for good in ["", "a=b&c=/../x", "?x=%zz", "a=[1]|\"<>\\", "%00"] {
            assert_eq!(check_query(good.as_bytes()), Ok(()), "{good}");
        }
        for bad in ["a b", "a#b", "a\u{1}", "a\0", "a\u{7f}", "\u{e9}", "a\tb"] {
            assert!(check_query(bad.as_bytes()).is_err(), "{bad:?}");
        }
    }

    fn any_rules() -> impl Strategy<Value = Rules> {
        let escaped =
            prop::sample::select(vec![EscapedSlashes::Keep, EscapedSlashes::Reject, EscapedSlashes::Decode]);
        (any::<bool>(), escaped)
            .prop_map(|(merge_slashes, escaped_slashes)| Rules { merge_slashes, escaped_slashes })
    }

    proptest! {
        #[test]
        fn a_canonical_path_stays_and_has_no_dot_segment(
            path in "/([a.;]|/|%2[eEfF]|%5[cC]|%41|%25|2e|\\.\\.){0,12}", rules in any_rules(),
        ) {
            if let Ok(path) = canonical(&path, rules) {
                prop_assert!(path.starts_with('/'));
                prop_assert!(path.split('/').all(|segment| segment != "." && segment != ".."), "{}", path);
                prop_assert_eq!(normalize(path.as_bytes(), rules), Ok(None), "{}", path);
                prop_assert!(!rules.merge_slashes || !path.contains("//"), "{}", path);
            }
        }

        #[test]
        fn any_bytes_are_made_canonical_or_refused(bytes: Vec<u8>, rules in any_rules()) {
            if let Ok(Some(path)) = normalize(&bytes, rules) {
                prop_assert_eq!(normalize(&path, rules), Ok(None));
            }
        }
    }
}
