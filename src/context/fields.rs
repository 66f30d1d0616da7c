//! The business fields: who a request belongs to, what they bought, and what kind of request it is.
//!
//! What: the names of each field in its two carriers (a plain header, a W3C Baggage key), what a valid value is,
//! and which carrier wins. Why two carriers: a plain header is what scripts and old services read and write,
//! baggage is what any OpenTelemetry SDK carries on without a line of code.
//!
//! The plain header wins because it is the more explicit of the two, and both are written from the winner, so
//! a disagreement does not outlive one hop. Values are held to a small alphabet that needs no escaping in a header, in
//! baggage or in a log line.
//!
//! How it fails: an invalid value counts as absent and is reported, so that the other carrier may still give
//! one. An empty header is absent without a report: frameworks forward headers that they did not get.

use super::trim_ows;
use super::words::are_words;

/// The most bytes an id may have.
pub const ID_BYTES_MAX: usize = 256;
/// The most bytes a license may have.
pub const LICENSE_BYTES_MAX: usize = 64;
/// The most flags a request may have.
pub const FLAGS_MAX: usize = 64;
/// The most bytes one flag may have.
pub const FLAG_BYTES_MAX: usize = 256;
/// The most bytes the list of flags may have. With every field at its limit and every byte percent-encoded, the
/// fields still fit into [`baggage::BYTES_MAX`](super::baggage::BYTES_MAX).
pub const FLAGS_BYTES_MAX: usize = 2048;

/// A field of the context that a peer names in plain text. The numbers are small and dense, to index arrays of
/// [`Field::COUNT`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Field {
    /// This request, across all its hops; never rewritten inside the mesh.
    RequestId,
    /// The person or process that asked.
    UserId,
    /// The customer.
    AccountId,
    /// What the customer bought.
    License,
    /// Real work or a tracer bullet: a [`RequestType`].
    RequestType,
    /// The feature flags that are on, separated by commas.
    Flags,
}

impl Field {
    /// How many fields there are.
    pub const COUNT: usize = 6;
    /// Every field, in the order of its index.
    pub const ALL: [Field; Field::COUNT] =
        [Field::RequestId, Field::UserId, Field::AccountId, Field::License, Field::RequestType, Field::Flags];

    /// The position of this field in an array of [`Field::COUNT`].
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The name in configuration and events.
    pub const fn name(self) -> &'static str {
        match self {
            Field::RequestId => "request_id",
            Field::UserId => "user_id",
            Field::AccountId => "account_id",
            Field::License => "license",
            Field::RequestType => "request_type",
            Field::Flags => "flags",
        }
    }

    /// The name of the plain header, in lower case.
    pub const fn header(self) -> &'static str {
        match self {
            Field::RequestId => "x-request-id",
            Field::UserId => "x-user-id",
            Field::AccountId => "x-account-id",
            Field::License => "x-license",
            Field::RequestType => "x-request-type",
            Field::Flags => "x-feature-flags",
        }
    }

    /// The key in baggage. The request id has none: it names one request, and baggage outlives it.
    pub const fn baggage_key(self) -> Option<&'static str> {
        match self {
            Field::RequestId => None,
            Field::UserId => Some("user.id"),
            Field::AccountId => Some("account.id"),
            Field::License => Some("license"),
            Field::RequestType => Some("request.type"),
            Field::Flags => Some("feature.flags"),
        }
    }

    /// The field whose plain header has this name, in any case.
    pub fn from_header(name: &[u8]) -> Option<Field> {
        // The length alone rules out nearly every header; request and account id share one.
        let candidates: &[Field] = match name.len() {
            9 => &[Field::UserId, Field::License],
            12 => &[Field::RequestId, Field::AccountId],
            14 => &[Field::RequestType],
            15 => &[Field::Flags],
            _ => return None,
        };
        candidates.iter().copied().find(|field| name.eq_ignore_ascii_case(field.header().as_bytes()))
    }

    /// The field with this key in baggage. Keys there are case-sensitive.
    pub fn from_baggage_key(key: &[u8]) -> Option<Field> {
        match key {
            b"user.id" => Some(Field::UserId),
            b"account.id" => Some(Field::AccountId),
            b"license" => Some(Field::License),
            b"request.type" => Some(Field::RequestType),
            b"feature.flags" => Some(Field::Flags),
            _ => None,
        }
    }

    /// Whether `value` may be a value of this field: not empty, within the field's length, of its alphabet.
    /// Ids and licenses have visible ASCII without comma, semicolon, quote and backslash.
    pub fn is_valid(self, value: &[u8]) -> bool {
        match self {
            Field::RequestId | Field::UserId | Field::AccountId => is_word(value, ID_BYTES_MAX),
            Field::License => is_word(value, LICENSE_BYTES_MAX),
            Field::RequestType => RequestType::parse(value).is_some(),
            Field::Flags => are_flags(value),
        }
    }

    /// Whether two valid values of this field say the same.
    fn is_same(self, one: &[u8], other: &[u8]) -> bool {
        match self {
            Field::RequestType => one.eq_ignore_ascii_case(other),
            Field::Flags => one == other || flags(one).eq(flags(other)),
            _ => one == other,
        }
    }
}

/// Real work, or a tracer bullet that must not destroy anything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum RequestType {
    /// Real work; also what a request is that does not say.
    #[default]
    Standard,
    /// A tracer bullet: it goes the whole way, and changes nothing.
    Trace,
}

impl RequestType {
    /// Reads `STANDARD` or `TRACE` in any case.
    pub fn parse(value: &[u8]) -> Option<RequestType> {
        match value {
            // As every sidecar writes them: one comparison.
            b"STANDARD" => Some(RequestType::Standard),
            b"TRACE" => Some(RequestType::Trace),
            _ => [RequestType::Standard, RequestType::Trace]
                .into_iter()
                .find(|known| value.eq_ignore_ascii_case(known.as_str().as_bytes())),
        }
    }

    /// The name in headers, baggage and events: `STANDARD` or `TRACE`.
    pub const fn as_str(self) -> &'static str {
        match self {
            RequestType::Standard => "STANDARD",
            RequestType::Trace => "TRACE",
        }
    }
}

/// The flags in a list: what is between the commas, without whitespace around it and without empty ones.
pub fn flags(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    list.split(|byte| *byte == b',').map(trim_ows).filter(|flag| !flag.is_empty())
}

/// Where a value came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The plain header.
    Plain,
    /// The baggage member.
    Baggage,
}

/// One field after both carriers were read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Merged<'a> {
    /// The value that counts, and where it came from; `None` when neither carrier had a valid one.
    pub value: Option<(&'a [u8], Source)>,
    /// Both carriers had a valid value, and they say different things.
    pub disagreement: bool,
    /// A carrier had a value that is not valid for this field, and was not considered.
    pub invalid: bool,
}

/// Decides the value of `field`: the plain header's when it is valid, else baggage's. `baggage` is the decoded
/// value. A plain header that came more than once is ambiguous; the caller decides that before.
pub fn merge<'a>(field: Field, plain: Option<&'a [u8]>, baggage: Option<&'a [u8]>) -> Merged<'a> {
    let present = |value: Option<&'a [u8]>| value.map(trim_ows).filter(|value| !value.is_empty());
    let (plain, baggage) = (present(plain), present(baggage));
    let valid = |value: &&[u8]| field.is_valid(value);
    let plain_valid = plain.filter(valid);
    // Inside the mesh both carriers nearly always say the same, and equal bytes need no second look.
    let baggage_valid = if baggage == plain { plain_valid } else { baggage.filter(valid) };
    let value = plain_valid
        .map(|value| (value, Source::Plain))
        .or_else(|| baggage_valid.map(|value| (value, Source::Baggage)));
    Merged {
        value,
        disagreement: plain_valid.zip(baggage_valid).is_some_and(|(one, other)| !field.is_same(one, other)),
        invalid: plain.is_some() != plain_valid.is_some() || baggage.is_some() != baggage_valid.is_some(),
    }
}

/// Whether every byte is visible ASCII and none of those that separate or quote in headers, baggage and JSON.
fn is_word(value: &[u8], bytes_max: usize) -> bool {
    !value.is_empty() && value.len() <= bytes_max && are_words(value)
}

fn are_flags(list: &[u8]) -> bool {
    let mut count = 0;
    list.len() <= FLAGS_BYTES_MAX
        && flags(list).all(|flag| {
            count += 1;
            count <= FLAGS_MAX && is_word(flag, FLAG_BYTES_MAX)
        })
        && count > 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_name_leads_back_to_its_field() {
        for (index, field) in Field::ALL.into_iter().enumerate() {
            assert_eq!(field.index(), index);
            assert_eq!(Field::from_header(field.header().as_bytes()), Some(field));
            assert_eq!(Field::from_header(field.header().to_ascii_uppercase().as_bytes()), Some(field));
            if let Some(key) = field.baggage_key() {
                assert_eq!(Field::from_baggage_key(key.as_bytes()), Some(field));
                assert_eq!(Field::from_baggage_key(key.to_ascii_uppercase().as_bytes()), None);
            }
        }
        for other in ["", "x-user-ie", "x-request-ie", "x-licensee", "user.id", "x_user_id"] {
            assert_eq!(Field::from_header(other.as_bytes()), None, "{other}");
        }
        assert_eq!(Field::from_baggage_key(b"request.id"), None);
    }

    #[test]
    fn an_id_has_up_to_256_visible_bytes_that_need_no_escaping() {
        let longest = "a".repeat(ID_BYTES_MAX);
        for good in ["a", "42", "alice@example.com", "urn:uuid:1/2?x=%41", "{a}[b]<c>|d~!", &longest] {
            assert!(Field::UserId.is_valid(good.as_bytes()), "{good}");
        }
        let too_long = format!("{longest}a");
        for bad in
            ["", "a b", "a,b", "a;b", "a\"b", "a'b", "a\\b", "a\tb", "a\nb", "a\0", "\x7f", "é", &too_long]
        {
            assert!(!Field::UserId.is_valid(bad.as_bytes()), "{bad:?}");
            assert!(!Field::License.is_valid(bad.as_bytes()), "{bad:?}");
        }
    }

    #[test]
    fn a_license_has_up_to_64_bytes() {
        assert!(Field::License.is_valid("g".repeat(LICENSE_BYTES_MAX).as_bytes()));
        assert!(!Field::License.is_valid("g".repeat(LICENSE_BYTES_MAX + 1).as_bytes()));
    }

    #[test]
    fn a_request_type_is_one_of_two_words_in_any_case() {
        for (text, want) in [
            ("STANDARD", Some(RequestType::Standard)),
            ("standard", Some(RequestType::Standard)),
            ("TRACE", Some(RequestType::Trace)),
            ("Trace", Some(RequestType::Trace)),
            ("", None),
            ("TRACE ", None),
            ("TRACER", None),
        ] {
            assert_eq!(RequestType::parse(text.as_bytes()), want, "{text:?}");
            assert_eq!(Field::RequestType.is_valid(text.as_bytes()), want.is_some());
        }
        assert_eq!(RequestType::default(), RequestType::Standard);
    }

    #[test]
    fn flags_are_separated_by_commas_with_room_around() {
        let read = |list: &str| -> Vec<String> {
            flags(list.as_bytes()).map(|flag| String::from_utf8(flag.to_vec()).unwrap()).collect()
        };
        assert_eq!(read("beta, new-cart\t,,dark:mode/2 "), ["beta", "new-cart", "dark:mode/2"]);
        assert!(Field::Flags.is_valid(b"beta, new-cart,,dark:mode/2"));
        for bad in ["", ",", " , ", "two words", "a;b", "a,b\"", "a,\u{e9}"] {
            assert!(!Field::Flags.is_valid(bad.as_bytes()), "{bad:?}");
        }
    }

    #[test]
    fn flags_are_bounded_in_number_and_size() {
        let list = |count: usize, flag: &str| vec![flag; count].join(",");
        assert!(Field::Flags.is_valid(list(FLAGS_MAX, "f").as_bytes()));
        assert!(!Field::Flags.is_valid(list(FLAGS_MAX + 1, "f").as_bytes()));
        assert!(Field::Flags.is_valid("f".repeat(FLAG_BYTES_MAX).as_bytes()));
        assert!(!Field::Flags.is_valid("f".repeat(FLAG_BYTES_MAX + 1).as_bytes()));
        assert!(!Field::Flags.is_valid(list(60, &"f".repeat(40)).as_bytes()));
    }

    #[test]
    fn the_plain_header_wins_and_a_disagreement_is_seen() {
        use Source::{Baggage, Plain};
        let table = [
            (Field::UserId, None, None, None, false, false),
            (Field::UserId, Some("a"), None, Some(("a", Plain)), false, false),
            (Field::UserId, None, Some("b"), Some(("b", Baggage)), false, false),
            (Field::UserId, Some("a"), Some("a"), Some(("a", Plain)), false, false),
            (Field::UserId, Some("a"), Some("A"), Some(("a", Plain)), true, false),
            (Field::UserId, Some(" a\t"), None, Some(("a", Plain)), false, false),
            // An empty header says nothing.
            (Field::UserId, Some(" "), Some("b"), Some(("b", Baggage)), false, false),
            // An invalid value is as absent, but is reported.
            (Field::UserId, Some("a,b"), Some("b"), Some(("b", Baggage)), false, true),
            (Field::UserId, Some("a"), Some("b c"), Some(("a", Plain)), false, true),
            (Field::UserId, Some("a b"), Some("b;c"), None, false, true),
            // Spelling is no disagreement.
            (Field::RequestType, Some("trace"), Some("TRACE"), Some(("trace", Plain)), false, false),
            (Field::RequestType, Some("STANDARD"), Some("TRACE"), Some(("STANDARD", Plain)), true, false),
            (Field::RequestType, Some("tracer"), Some("TRACE"), Some(("TRACE", Baggage)), false, true),
            (Field::Flags, Some("a, b"), Some("a,b,"), Some(("a, b", Plain)), false, false),
            (Field::Flags, Some("a,b"), Some("a"), Some(("a,b", Plain)), true, false),
        ];
        for (field, plain, baggage, value, disagreement, invalid) in table {
            let value = value.map(|(text, source)| (text.as_bytes(), source));
            let merged = merge(field, plain.map(str::as_bytes), baggage.map(str::as_bytes));
            assert_eq!(merged, Merged { value, disagreement, invalid }, "{field:?} {plain:?} {baggage:?}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_merged_is_valid(
            at in 0..Field::COUNT,
            plain in prop::option::of(prop::collection::vec(any::<u8>(), 0..40)),
            baggage in prop::option::of("[ -~]{0,40}"),
        ) {
            let field = Field::ALL[at];
            let merged = merge(field, plain.as_deref(), baggage.as_deref().map(str::as_bytes));
            if let Some((value, _)) = merged.value {
                prop_assert!(field.is_valid(value));
            }
        }
    }
}
