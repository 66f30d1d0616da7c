//! The `traceparent` header of W3C Trace Context, level 2, <https://www.w3.org/TR/trace-context-2/#traceparent-header>.
//!
//! What: `00-{trace id}-{parent id}-{flags}` in lowercase hex, to and from 25 bytes.
//! Why our own: validators differ from level 2 in just the places that matter to a proxy (versions to come,
//! unknown flags, duplicates), and this one reads from the request's buffer without an allocation.
//!
//! How it fails: a header that breaks a rule does not exist. The caller then starts a new trace and must not
//! forward the `tracestate` that came with it.

use super::ids::{self, Rng};
use super::trim_ows;

/// Bytes in a version 00 value, the only form that is written.
pub const BYTES: usize = 55;

/// The caller may have recorded this trace.
pub const FLAG_SAMPLED: u8 = 0b01;
/// At least the right-most 7 bytes of the trace id are random (level 2).
pub const FLAG_RANDOM: u8 = 0b10;
/// The flags that have a meaning; the others must be written as zero.
const FLAGS_KNOWN: u8 = FLAG_SAMPLED | FLAG_RANDOM;

/// The version that no header may have.
const VERSION_FORBIDDEN: u8 = 0xff;

/// A request's place in a trace, as its caller named it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TraceParent {
    /// The version as it was received. Whatever it is, version 00 is written.
    pub version: u8,
    /// The whole trace; not all zero in a parsed value.
    pub trace_id: [u8; 16],
    /// The caller's span; not all zero in a parsed value.
    pub parent_id: [u8; 8],
    /// The flags as they were received, unknown ones included; those are not written.
    pub flags: u8,
}

/// What a request brought in its `traceparent` headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// No header: a new trace begins here.
    Absent,
    /// A header that breaks a rule, or more than one: a new trace begins here, and `tracestate` goes.
    Invalid,
    /// One valid header: the trace goes on.
    Valid(TraceParent),
}

impl Received {
    /// Judges the first `traceparent` value together with how many such headers the request has. Several are
    /// invalid even when they are equal, because the field is not a list and nobody can say which one counts.
    pub fn from_headers(first: Option<&[u8]>, count: usize) -> Received {
        match (first, count) {
            (None, _) | (_, 0) => Received::Absent,
            (Some(value), 1) => TraceParent::parse(value).map_or(Received::Invalid, Received::Valid),
            (Some(_), _) => Received::Invalid,
        }
    }
}

impl TraceParent {
    /// Reads one header value. `None` when it breaks a rule of the specification:
    /// lowercase hex only, ids not all zero, version not `ff`, version `00` exactly 55 bytes, a higher version at
    /// least 55 bytes and then nothing or a hyphen. Spaces and tabs around the value are not part of it.
    pub fn parse(value: &[u8]) -> Option<TraceParent> {
        let value = trim_ows(value);
        let head = value.first_chunk::<BYTES>()?;
        if head[2] != b'-' || head[35] != b'-' || head[52] != b'-' {
            return None;
        }
        let (mut version, mut trace_id, mut parent_id, mut flags) = ([0; 1], [0; 16], [0; 8], [0; 1]);
        let seen = read_hex(&head[0..2], &mut version)
            | read_hex(&head[3..35], &mut trace_id)
            | read_hex(&head[36..52], &mut parent_id)
            | read_hex(&head[53..55], &mut flags);
        let ([version], [flags]) = (version, flags);
        let ends_well = match value.get(BYTES) {
            None => true,
            Some(next) => version != 0 && *next == b'-',
        };
        let valid = seen != NOT_HEX
            && version != VERSION_FORBIDDEN
            && trace_id != [0; 16]
            && parent_id != [0; 8]
            && ends_well;
        valid.then_some(TraceParent { version, trace_id, parent_id, flags })
    }

    /// The beginning of a new trace, with `span_id` as its first span. The trace id is random throughout, so the
    /// random flag is set.
    pub fn root(rng: &mut Rng, span_id: [u8; 8], sampled: bool) -> TraceParent {
        let flags = if sampled { FLAGS_KNOWN } else { FLAG_RANDOM };
        TraceParent { version: 0, trace_id: ids::trace_id(rng), parent_id: span_id, flags }
    }

    /// The same trace with `span_id` as the parent: what goes to the next hop when this hop has a span. Both
    /// flags are carried on unchanged, as level 2 demands of the random flag.
    #[must_use]
    pub fn child(self, span_id: [u8; 8]) -> TraceParent {
        TraceParent { version: 0, parent_id: span_id, flags: self.flags & FLAGS_KNOWN, ..self }
    }

    /// The same with the sampled flag set or cleared. Allowed only together with a new parent id
    /// ([`child`](Self::child)) or a new trace.
    #[must_use]
    pub fn with_sampled(self, sampled: bool) -> TraceParent {
        let others = self.flags & !FLAG_SAMPLED;
        TraceParent { flags: if sampled { others | FLAG_SAMPLED } else { others }, ..self }
    }

    /// Whether the caller may have recorded this trace.
    pub fn is_sampled(&self) -> bool {
        self.flags & FLAG_SAMPLED != 0
    }

    /// Whether the right-most 7 bytes of the trace id are random.
    pub fn is_random(&self) -> bool {
        self.flags & FLAG_RANDOM != 0
    }

    /// Writes the header value: version 00, which is the highest this code knows, with only the known flags.
    pub fn write(&self, out: &mut [u8; BYTES]) {
        *out = [b'-'; BYTES];
        out[0..2].copy_from_slice(b"00");
        ids::write_hex(&self.trace_id, &mut out[3..35]);
        ids::write_hex(&self.parent_id, &mut out[36..52]);
        ids::write_hex(&[self.flags & FLAGS_KNOWN], &mut out[53..55]);
    }

    /// The header value, as [`write`](Self::write) makes it.
    pub fn to_bytes(&self) -> [u8; BYTES] {
        let mut out = [0; BYTES];
        self.write(&mut out);
        out
    }
}

/// Marks a byte that is no lowercase hex digit. It has all bits set, so the union of what was seen equals it
/// exactly when such a byte was among it: digits are below 16.
const NOT_HEX: u8 = 0xff;

/// The value of every lowercase hex digit.
const DIGITS: [u8; 256] = {
    let mut table = [NOT_HEX; 256];
    let digits = b"0123456789abcdef";
    let mut value = 0;
    while value < 16 {
        table[digits[value] as usize] = value as u8;
        value += 1;
    }
    table
};

/// Reads pairs of digits; returns the union of the digits' values, [`NOT_HEX`] when one was none. There is no
/// branch for each digit: valid headers are the rule, and an invalid one is noticed once at the end.
fn read_hex(digits: &[u8], out: &mut [u8]) -> u8 {
    let mut seen = 0;
    let (pairs, _) = digits.as_chunks::<2>();
    for (byte, [high, low]) in out.iter_mut().zip(pairs) {
        let (high, low) = (DIGITS[usize::from(*high)], DIGITS[usize::from(*low)]);
        seen |= high | low;
        *byte = (high << 4) | (low & 15);
    }
    seen
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TRACE: &str = "12345678901234567890123456789012";
    const PARENT: &str = "1234567890123456";

    fn parse(value: &str) -> Option<TraceParent> {
        TraceParent::parse(value.as_bytes())
    }

    fn text(parent: &TraceParent) -> String {
        String::from_utf8(parent.to_bytes().to_vec()).unwrap()
    }

    #[track_caller]
    fn refused(values: &[String]) {
        for value in values {
            assert_eq!(parse(value), None, "{value}");
        }
    }

    #[test]
    fn the_example_of_the_specification_is_read_field_by_field() {
        let parent = parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01").unwrap();
        assert_eq!(parent.version, 0);
        assert_eq!(parent.trace_id, 0x4bf92f3577b34da6a3ce929d0e0e4736_u128.to_be_bytes());
        assert_eq!(parent.parent_id, 0x00f067aa0ba902b7_u64.to_be_bytes());
        assert_eq!(parent.flags, 1);
        assert_eq!(text(&parent), "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
    }

    #[test]
    fn version_00_has_exactly_55_bytes() {
        refused(&[
            format!("00-{TRACE}-{PARENT}-01."),
            format!("00-{TRACE}-{PARENT}-01-"),
            format!("00-{TRACE}-{PARENT}-01-what-the-future-will-be-like"),
            format!("00-{TRACE}-{PARENT}-0"),
            format!("00-{TRACE}-{PARENT}-"),
            format!("00-{TRACE}-{PARENT}"),
        ]);
    }

    #[test]
    fn a_higher_version_is_read_when_it_ends_or_goes_on_with_a_hyphen() {
        for value in [
            format!("cc-{TRACE}-{PARENT}-01"),
            format!("cc-{TRACE}-{PARENT}-01-"),
            format!("cc-{TRACE}-{PARENT}-01-what-the-future-will-be-like"),
            format!("01-{TRACE}-{PARENT}-01"),
            format!("fe-{TRACE}-{PARENT}-01"),
        ] {
            assert_eq!(text(&parse(&value).unwrap()), format!("00-{TRACE}-{PARENT}-01"), "{value}");
        }
        refused(&[
            format!("cc-{TRACE}-{PARENT}-01.what-the-future-will-be-like"),
            format!("cc-{TRACE}-{PARENT}-012"),
            format!("cc-{TRACE}-{PARENT}-0"),
        ]);
    }

    #[test]
    fn version_ff_is_forbidden() {
        refused(&[format!("ff-{TRACE}-{PARENT}-01"), format!("ff-{TRACE}-{PARENT}-01-more")]);
    }

    #[test]
    fn the_version_is_two_lowercase_hex_digits() {
        let versions = ["", "0", "000", "0000", ".0", "0.", "CC", "0x", " 0", "-0"];
        refused(&versions.map(|version| format!("{version}-{TRACE}-{PARENT}-01")));
    }

    #[test]
    fn the_trace_id_is_32_lowercase_hex_digits() {
        let ids = [
            "".to_owned(),
            TRACE[1..].to_owned(),
            format!("{TRACE}3"),
            format!(".{}", &TRACE[1..]),
            format!("{}.", &TRACE[1..]),
            format!("A{}", &TRACE[1..]),
            format!("{}g", &TRACE[1..]),
        ];
        refused(&ids.map(|id| format!("00-{id}-{PARENT}-01")));
    }

    #[test]
    fn the_parent_id_is_16_lowercase_hex_digits() {
        let ids = [
            "".to_owned(),
            PARENT[1..].to_owned(),
            format!("{PARENT}7"),
            format!(".{}", &PARENT[1..]),
            format!("{}.", &PARENT[1..]),
            format!("{}F", &PARENT[1..]),
        ];
        refused(&ids.map(|id| format!("00-{TRACE}-{id}-01")));
    }

    #[test]
    fn the_flags_are_two_lowercase_hex_digits() {
        let flags = ["", "1", "001", ".0", "0.", "0A", "xx", "  "];
        refused(&flags.map(|flags| format!("00-{TRACE}-{PARENT}-{flags}")));
        refused(&flags.map(|flags| format!("cc-{TRACE}-{PARENT}-{flags}")));
    }

    #[test]
    fn ids_of_zeros_are_invalid() {
        refused(&[
            format!("00-{}-{PARENT}-01", "0".repeat(32)),
            format!("00-{TRACE}-{}-01", "0".repeat(16)),
            format!("cc-{}-{PARENT}-01", "0".repeat(32)),
            format!("cc-{TRACE}-{}-01", "0".repeat(16)),
        ]);
    }

    #[test]
    fn the_separators_are_hyphens() {
        let good = format!("00-{TRACE}-{PARENT}-01");
        for at in [2, 35, 52] {
            for other in ["_", " ", "0", "\0"] {
                let mut value = good.clone();
                value.replace_range(at..=at, other);
                assert_eq!(parse(&value), None, "{value:?}");
            }
        }
    }

    #[test]
    fn optional_whitespace_around_the_value_is_ignored_and_other_bytes_are_not() {
        let good = format!("00-{TRACE}-{PARENT}-01");
        for (before, after) in [(" ", ""), ("\t", ""), ("", " "), ("", "\t"), ("\t ", " \t")] {
            assert_eq!(parse(&format!("{before}{good}{after}")), parse(&good));
        }
        refused(&[format!("\n{good}"), format!("{good}\r"), format!("{good}\0"), format!("{good},{good}")]);
    }

    #[test]
    fn several_headers_restart_the_trace_even_when_they_are_equal() {
        let good = format!("00-{TRACE}-{PARENT}-01");
        let parsed = parse(&good).unwrap();
        let receive = |first: Option<&str>, count| Received::from_headers(first.map(str::as_bytes), count);
        assert_eq!(receive(None, 0), Received::Absent);
        assert_eq!(receive(Some(&good), 1), Received::Valid(parsed));
        assert_eq!(receive(Some(&good), 2), Received::Invalid);
        assert_eq!(receive(Some("nonsense"), 1), Received::Invalid);
        assert_eq!(receive(Some(""), 1), Received::Invalid);
    }

    #[test]
    fn flags_are_bits_and_not_a_number() {
        for (flags, sampled, random) in [
            ("00", false, false),
            ("01", true, false),
            ("02", false, true),
            ("03", true, true),
            ("ff", true, true),
        ] {
            let parent = parse(&format!("00-{TRACE}-{PARENT}-{flags}")).unwrap();
            assert_eq!((parent.is_sampled(), parent.is_random()), (sampled, random), "{flags}");
        }
    }

    #[test]
    fn the_random_flag_is_carried_and_unknown_flags_become_zero() {
        let table = [
            ("00", "00"),
            ("01", "01"),
            ("02", "02"),
            ("03", "03"),
            ("04", "00"),
            ("fd", "01"),
            ("ff", "03"),
        ];
        for version in ["00", "cc"] {
            for (received, written) in table {
                let parent = parse(&format!("{version}-{TRACE}-{PARENT}-{received}")).unwrap();
                assert_eq!(text(&parent), format!("00-{TRACE}-{PARENT}-{written}"));
                assert_eq!(text(&parent.child([1; 8])), format!("00-{TRACE}-0101010101010101-{written}"));
            }
        }
    }

    #[test]
    fn the_sampled_flag_changes_alone() {
        let parent = parse(&format!("00-{TRACE}-{PARENT}-02")).unwrap().child([1; 8]);
        assert_eq!(parent.with_sampled(true).flags, FLAG_SAMPLED | FLAG_RANDOM);
        assert_eq!(parent.with_sampled(true).with_sampled(false), parent);
    }

    #[test]
    fn a_new_trace_sets_the_random_flag_and_can_be_read_back() {
        for sampled in [false, true] {
            let root = TraceParent::root(&mut ids::Rng::new(1), [9; 8], sampled);
            assert_eq!((root.is_sampled(), root.is_random(), root.parent_id), (sampled, true, [9; 8]));
            assert_eq!(TraceParent::parse(&root.to_bytes()), Some(root));
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(
            trace_id in any::<[u8; 16]>(), parent_id in any::<[u8; 8]>(), flags in 0..4_u8,
        ) {
            let parent = TraceParent { version: 0, trace_id, parent_id, flags };
            let valid = trace_id != [0; 16] && parent_id != [0; 8];
            prop_assert_eq!(TraceParent::parse(&parent.to_bytes()), valid.then_some(parent));
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            if let Some(parent) = TraceParent::parse(&bytes) {
                prop_assert!(TraceParent::parse(&parent.to_bytes()).is_some());
            }
        }

        /// Near misses find more than noise does: one byte of a good value is replaced.
        #[test]
        fn one_changed_byte_is_read_or_refused_as_the_grammar_says(at in 0..BYTES, byte: u8) {
            let mut value = format!("00-{TRACE}-{PARENT}-01").into_bytes();
            value[at] = byte;
            let lowercase_hex = matches!(byte, b'0'..=b'9' | b'a'..=b'f');
            let want = if matches!(at, 2 | 35 | 52) { byte == b'-' } else { lowercase_hex };
            prop_assert_eq!(TraceParent::parse(&value).is_some(), want);
        }
    }
}
