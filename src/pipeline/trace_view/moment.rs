//! The time of an event: RFC 3339 (<https://www.rfc-editor.org/rfc/rfc3339#section-5.6>), as microseconds since 1970.
//!
//! How it fails: what is no such text is `None`; a zone without its colon is none.

use crate::units::moment::{civil, offset};

/// Microseconds since 1970 of a text like `2025-01-01T00:00:00.123456Z`. Any number of decimals is read, six count.
pub(in crate::pipeline) fn parse(text: &str) -> Option<i64> {
    let (seconds, nanos, zone) = civil(text)?;
    if zone.len() > 1 && !zone.contains(':') {
        return None;
    }
    Some((seconds - offset(zone)?) * 1_000_000 + (nanos / 1_000) as i64)
}

#[cfg(test)]
mod tests {
    use super::super::super::encode::rfc3339;
    use super::*;
    use proptest::prelude::*;
    use std::time::{Duration, UNIX_EPOCH};

    #[test]
    fn what_rfc_3339_has_is_read_and_nothing_else() {
        let cases = [
            ("1970-01-01T00:00:00Z", Some(0)),
            ("1970-01-01T00:00:00.000001Z", Some(1)),
            ("1970-01-01t00:00:00.5z", Some(500_000)),
            ("1970-01-01 00:00:00.1234567Z", Some(123_456)),
            ("1970-01-01T01:00:00+01:00", Some(0)),
            ("1969-12-31T23:00:00-01:00", Some(0)),
            ("1969-12-31T23:59:59.999999Z", Some(-1)),
            ("2000-02-29T12:00:00Z", Some(951_825_600_000_000)),
            ("2025-01-01T00:00:00.123456Z", Some(1_735_689_600_123_456)),
            ("", None),
            ("yesterday", None),
            ("2025-01-01", None),
            ("2025-01-01T00:00:00", None),
            ("2025-01-01T00:00:00.Z", None),
            ("2025-13-01T00:00:00Z", None),
            ("2025-01-01T24:00:00Z", None),
            ("2025-1-01T00:00:00Z", None),
            ("+025-01-01T00:00:00Z", None),
            ("2025-01-01T00:00:00+1:00", None),
            ("2025-01-01T00:00:00Zx", None),
            ("２０２5-01-01T00:00:00Z", None),
        ];
        for (text, want) in cases {
            assert_eq!(parse(text), want, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_events_write_is_read_back(micros in 0..253_402_300_799_999_999_u64) {
            let text = rfc3339(UNIX_EPOCH + Duration::from_micros(micros));
            prop_assert_eq!(parse(&text), i64::try_from(micros).ok());
        }

        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,40}|[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.+Zé-]{0,30}") {
            let _ = parse(&text);
        }
    }
}
