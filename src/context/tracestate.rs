//! The `tracestate` header of W3C Trace Context, level 2, <https://www.w3.org/TR/trace-context-2/#tracestate-header>.
//!
//! What: the list that tracing systems keep about a trace. This proxy owns no member of it, so it only judges
//! the list and hands it on: a valid list goes through byte for byte and in order, with several headers joined
//! into one. Why judge at all: the specification lets a receiver of a broken list drop it, and a bounded, clean
//! list protects the hops behind.
//!
//! How it fails: one member that breaks the grammar, or a 33rd member, discards the whole list. A key that comes
//! again loses its later member only (the left-most is the most recent one). Neither touches `traceparent`. The
//! caller must not come here at all when `traceparent` is absent or invalid: then the list has no meaning.

use super::trim_ows;
use memchr::memchr_iter;

/// The most members a list may have.
pub const MEMBERS_MAX: usize = 32;
/// The most bytes a key may have.
pub const KEY_BYTES_MAX: usize = 256;
/// The most bytes a value may have, trailing spaces not counted.
pub const VALUE_BYTES_MAX: usize = 256;

/// What became of the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// There was no member: nothing to send.
    Empty,
    /// The list is valid and was written.
    Accepted {
        /// Members that were written.
        members: usize,
        /// Members that were left out because their key had come before.
        duplicates: usize,
    },
    /// The list breaks a rule: nothing was written.
    Invalid,
}

/// Judges the values of all `tracestate` headers, in the order in which they came, and appends the one value to
/// send to `out`. `out` keeps its length unless the outcome is [`Outcome::Accepted`].
pub fn accept<'a>(values: impl IntoIterator<Item = &'a [u8]>, out: &mut Vec<u8>) -> Outcome {
    let start = out.len();
    let mut list = List { keys: [&[]; MEMBERS_MAX], members: 0, duplicates: 0 };
    for value in values {
        let value = trim_ows(value);
        if value.is_empty() {
            continue; // an empty header is legal, and not worth a comma
        }
        if list.append(value, start, out).is_none() {
            out.truncate(start);
            return Outcome::Invalid;
        }
    }
    if list.members == 0 {
        out.truncate(start);
        return Outcome::Empty;
    }
    // A duplicate at the end leaves the whitespace that was before its comma.
    while out.len() > start && matches!(out.last(), Some(b' ' | b'\t')) {
        out.pop();
    }
    Outcome::Accepted { members: list.members, duplicates: list.duplicates }
}

/// Members longer than this go first when a list must be shortened (W3C: "entries larger than 128 characters").
pub const MEMBER_BYTES_LONG: usize = 128;

/// Shortens the list in `list[start..]`, which [`accept`] wrote, to `bytes_max`, and returns how many members went.
/// Whitespace and empty members go first, then whole members in W3C's order: the long ones, then any, both from
/// the right. A limit below 512 bytes breaks a SHOULD of the specification.
pub fn shorten(list: &mut Vec<u8>, start: usize, bytes_max: usize) -> usize {
    if list.len().saturating_sub(start) <= bytes_max {
        return 0;
    }
    let old = list.split_off(start);
    let mut members: Vec<&[u8]> =
        old.split(|byte| *byte == b',').map(trim_ows).filter(|member| !member.is_empty()).collect();
    let count = members.len();
    // Each member is counted with one comma, so the limit is one byte further away.
    let mut bytes: usize = members.iter().map(|member| member.len() + 1).sum();
    for longer_than in [MEMBER_BYTES_LONG, 0] {
        let mut kept_after = Vec::new();
        while let Some(member) = members.pop() {
            if bytes > bytes_max.saturating_add(1) && member.len() > longer_than {
                bytes -= member.len() + 1;
            } else {
                kept_after.push(member);
            }
        }
        members = kept_after.into_iter().rev().collect();
    }
    list.extend_from_slice(&members.join(&b','));
    count - members.len()
}

/// The keys that were seen so far.
struct List<'a> {
    keys: [&'a [u8]; MEMBERS_MAX],
    members: usize,
    duplicates: usize,
}

impl<'a> List<'a> {
    /// Appends the members of one header. Elements are copied with the whitespace around them, and empty ones
    /// too, so that a valid value stays the same bytes.
    fn append(&mut self, value: &'a [u8], start: usize, out: &mut Vec<u8>) -> Option<()> {
        let mut begin = 0;
        for end in memchr_iter(b',', value).chain([value.len()]) {
            let element = value.get(begin..end)?;
            let first_of_header = begin == 0;
            begin = end + 1;
            let member = trim_ows(element);
            if !member.is_empty() && !self.admit(key_of(member)?)? {
                continue;
            }
            if !first_of_header || out.len() > start {
                out.push(b',');
            }
            out.extend_from_slice(element);
        }
        Some(())
    }

    /// Notes a key; `Some(false)` when it came before, `None` when the list is full.
    fn admit(&mut self, key: &'a [u8]) -> Option<bool> {
        if self.members + self.duplicates == MEMBERS_MAX {
            return None;
        }
        if self.keys.iter().take(self.members).any(|known| *known == key) {
            self.duplicates += 1;
            return Some(false);
        }
        *self.keys.get_mut(self.members)? = key;
        self.members += 1;
        Some(true)
    }
}

/// The key of one member without the whitespace around it; `None` when the member breaks the grammar.
fn key_of(member: &[u8]) -> Option<&[u8]> {
    let key_bytes = member.iter().position(|byte| !is(*byte, KEY))?;
    let (key, rest) = member.split_at_checked(key_bytes)?;
    let value = rest.strip_prefix(b"=")?;
    let starts_well = key.first().is_some_and(|first| is(*first, KEY_START));
    let valid = starts_well
        && key.len() <= KEY_BYTES_MAX
        && !value.is_empty() // trimmed before, so that it cannot end in a space
        && value.len() <= VALUE_BYTES_MAX
        && value.iter().all(|byte| is(*byte, VALUE));
    valid.then_some(key)
}

/// May begin a key: `a-z 0-9`.
const KEY_START: u8 = 1;
/// May be in a key: those and `_ - * / @`.
const KEY: u8 = 2;
/// May be in a value: space to `~` without `,` and `=`.
const VALUE: u8 = 4;

/// Which of the three classes each byte belongs to.
const CLASSES: [u8; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut class = 0;
        match byte as u8 {
            b'a'..=b'z' | b'0'..=b'9' => class = KEY_START | KEY,
            b'_' | b'-' | b'*' | b'/' | b'@' => class = KEY,
            _ => {}
        }
        if byte >= 0x20 && byte <= 0x7e && byte != b',' as usize && byte != b'=' as usize {
            class |= VALUE;
        }
        table[byte] = class;
        byte += 1;
    }
    table
};

fn is(byte: u8, class: u8) -> bool {
    CLASSES[usize::from(byte)] & class != 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn run(values: &[&str]) -> (Outcome, String) {
        let mut out = b"kept".to_vec();
        let outcome = accept(values.iter().map(|value| value.as_bytes()), &mut out);
        let written = out.strip_prefix(b"kept").expect("what was in the buffer stays");
        (outcome, String::from_utf8(written.to_vec()).unwrap())
    }

    #[track_caller]
    fn accepted(values: &[&str], members: usize, written: &str) {
        assert_eq!(
            run(values),
            (Outcome::Accepted { members, duplicates: 0 }, written.to_owned()),
            "{values:?}"
        );
    }

    #[track_caller]
    fn discarded(values: &[&str]) {
        assert_eq!(run(values), (Outcome::Invalid, String::new()), "{values:?}");
    }

    fn numbered(count: usize) -> String {
        (1..=count).map(|at| format!("bar{at:02}={at:02}")).collect::<Vec<_>>().join(",")
    }

    #[test]
    fn a_valid_list_goes_through_byte_for_byte() {
        accepted(&["rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"], 2, "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE");
        accepted(&["foo=1 \t , \t bar=2, \t baz=3"], 3, "foo=1 \t , \t bar=2, \t baz=3");
    }

    #[test]
    fn several_headers_are_joined_in_order() {
        accepted(&["foo=1,bar=2", "rojo=1,congo=2", "baz=3"], 5, "foo=1,bar=2,rojo=1,congo=2,baz=3");
    }

    #[test]
    fn whitespace_around_the_whole_value_is_not_part_of_it() {
        for value in [" foo=1", "\tfoo=1", "foo=1 ", "foo=1\t", "\t foo=1 \t"] {
            accepted(&[value], 1, "foo=1");
        }
    }

    #[test]
    fn empty_headers_and_empty_members_are_legal() {
        accepted(&["foo=1", ""], 1, "foo=1");
        accepted(&["", " \t", "foo=1"], 1, "foo=1");
        accepted(&["foo=1,,bar=2,"], 2, "foo=1,,bar=2,");
        for nothing in [&[][..], &[""], &["", " "], &[",", " , ,"]] {
            assert_eq!(run(nothing), (Outcome::Empty, String::new()), "{nothing:?}");
        }
    }

    #[test]
    fn a_key_begins_with_a_letter_or_digit_and_has_only_its_characters() {
        for key in ["a", "0", "foo@", "foo@@bar", "foo@bar@baz", "fw529a3039@dt", "a_-*/@z9"] {
            accepted(&[&format!("{key}=1,bar=2")], 2, &format!("{key}=1,bar=2"));
        }
        for key in ["", "@foo", "_a", "-a", "*a", "/a", "FOO", "fOo", "foo.bar", "foo ", "fo o", "fo\to", "é"]
        {
            discarded(&[&format!("{key}=1,bar=2")]);
        }
    }

    #[test]
    fn every_legal_character_is_accepted() {
        let key = format!("{}0123456789_-*/@", ('a'..='z').collect::<String>());
        let value: String = (' '..='~').filter(|c| !",=".contains(*c)).collect();
        let member = format!("{key}={value}");
        accepted(&[&member], 1, &member);
    }

    #[test]
    fn a_key_has_at_most_256_bytes() {
        let longest = "z".repeat(KEY_BYTES_MAX);
        accepted(&["foo=1", &format!("{longest}=1")], 2, &format!("foo=1,{longest}=1"));
        discarded(&["foo=1", &format!("{longest}z=1")]);
        let tenant = format!("{}@{}", "t".repeat(241), "v".repeat(14));
        accepted(&[&format!("{tenant}=1")], 1, &format!("{tenant}=1"));
    }

    #[test]
    fn a_value_has_1_to_256_bytes_and_ends_in_no_space() {
        let longest = "v".repeat(VALUE_BYTES_MAX);
        accepted(&[&format!("foo={longest}")], 1, &format!("foo={longest}"));
        accepted(&[&format!("foo={longest}  ,bar=1")], 2, &format!("foo={longest}  ,bar=1"));
        accepted(&["foo=  1"], 1, "foo=  1");
        discarded(&[&format!("foo={longest}v")]);
        discarded(&["foo=,bar=3"]);
        discarded(&["foo=  ,bar=3"]);
    }

    #[test]
    fn a_value_has_no_equals_sign_tab_control_or_other_byte() {
        for value in ["bar=baz", "a\tb", "a\nb", "a\x7fb", "a\0b", "é"] {
            discarded(&[&format!("foo={value}")]);
        }
        discarded(&["foo"]);
        discarded(&["=1"]);
        discarded(&["foo=1,bar"]);
    }

    #[test]
    fn a_list_has_at_most_32_members_over_all_headers() {
        accepted(&[&numbered(32)], 32, &numbered(32));
        discarded(&[&numbered(33)]);
        discarded(&[&numbered(32), "more=1"]);
        accepted(&[&format!("{},,", numbered(32)), ""], 32, &format!("{},,", numbered(32)));
        discarded(&[&numbered(32), "bar01=01"]);
    }

    #[test]
    fn a_duplicate_key_loses_its_later_member_and_not_the_list() {
        let kept =
            |members, duplicates, text: &str| (Outcome::Accepted { members, duplicates }, text.to_owned());
        assert_eq!(run(&["foo=1,foo=1"]), kept(1, 1, "foo=1"));
        assert_eq!(run(&["foo=1,foo=2"]), kept(1, 1, "foo=1"));
        assert_eq!(run(&["foo=1", "foo=2"]), kept(1, 1, "foo=1"));
        assert_eq!(run(&["foo=1, bar=2, foo=3", "foo=4,baz=5"]), kept(3, 2, "foo=1, bar=2,baz=5"));
        assert_eq!(run(&["foo=1 , foo=2"]), kept(1, 1, "foo=1"));
    }

    #[test]
    fn a_list_is_shortened_by_whole_members_the_long_ones_first_and_from_the_right() {
        let long = |key: &str| format!("{key}={}", "v".repeat(MEMBER_BYTES_LONG));
        let (x, y) = (long("x"), long("y"));
        let full = format!("a=1,{x},b=2, {y} ,c=3");
        for (bytes_max, removed, want) in [
            (full.len(), 0, full.clone()),
            (full.len() - 1, 0, full.replace(' ', "")),
            (full.len() - 3, 1, format!("a=1,{x},b=2,c=3")),
            (150, 1, format!("a=1,{x},b=2,c=3")),
            (140, 2, "a=1,b=2,c=3".to_owned()),
            (11, 2, "a=1,b=2,c=3".to_owned()),
            (10, 3, "a=1,b=2".to_owned()),
            (3, 4, "a=1".to_owned()),
            (2, 5, String::new()),
        ] {
            let mut list = format!("kept{full}").into_bytes();
            assert_eq!(shorten(&mut list, 4, bytes_max), removed, "{bytes_max}");
            assert_eq!(String::from_utf8(list).unwrap(), format!("kept{want}"), "{bytes_max}");
        }
        let mut first_is_long = format!("{x},a=1").into_bytes();
        assert_eq!((shorten(&mut first_is_long, 0, 10), first_is_long), (1, b"a=1".to_vec()));
    }

    #[test]
    fn one_bad_member_discards_the_list_wherever_it_is() {
        discarded(&["BAD=1", "foo=1"]);
        discarded(&["foo=1,BAD=1"]);
        discarded(&["foo=1", "bar=2,BAD"]);
        discarded(&["foo=1,foo="]);
    }

    fn member() -> impl Strategy<Value = String> {
        "[a-z0-9][a-z0-9_*/@-]{0,8}=[ -+--<>-~]{0,8}[!-+--<>-~]"
    }

    proptest! {
        #[test]
        fn members_with_different_keys_are_all_kept(
            values in prop::collection::vec("[!-+--<>-~]{1,8}", 1..=MEMBERS_MAX), per_header in 1..8_usize,
        ) {
            let members: Vec<_> = values.iter().enumerate().map(|(at, value)| format!("k{at}={value}")).collect();
            let headers: Vec<_> = members.chunks(per_header).map(|some| some.join(",")).collect();
            let headers: Vec<_> = headers.iter().map(String::as_str).collect();
            accepted(&headers, members.len(), &members.join(","));
        }

        #[test]
        fn what_was_accepted_is_accepted_unchanged_by_the_next_hop(
            members in prop::collection::vec(member(), 1..20),
        ) {
            let (first, written) = run(&[&members.join(" ,")]);
            let Outcome::Accepted { members, .. } = first else { panic!("{first:?}") };
            accepted(&[&written], members, &written);
        }

        #[test]
        fn a_shortened_list_is_valid_and_within_the_limit(
            members in prop::collection::vec(member(), 1..20), bytes_max in 0..200_usize,
        ) {
            let (_, list) = run(&[&members.join(",")]);
            let mut shortened = list.into_bytes();
            shorten(&mut shortened, 0, bytes_max);
            prop_assert!(shortened.len() <= bytes_max);
            prop_assert!(accept([shortened.as_slice()], &mut Vec::new()) != Outcome::Invalid);
        }

        #[test]
        fn any_bytes_are_judged_without_a_panic(
            headers in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 0..5),
        ) {
            let mut out = Vec::new();
            let outcome = accept(headers.iter().map(Vec::as_slice), &mut out);
            prop_assert_eq!(matches!(outcome, Outcome::Accepted { .. }), !out.is_empty());
        }
    }
}
