//! When whoever answered wants to be asked again: `Retry-After` (RFC 9110 §10.2.3) and `grpc-retry-pushback-ms` (gRPC
//! proposal A6).
//!
//! How it fails: a `Retry-After` that is neither a number of seconds nor a date is none. A pushback that is not a number
//! forbids a retry, as A6 says.

use super::{Fields, Known};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushback {
    /// Not before so much time has passed.
    After(Duration),
    /// Not at all; only gRPC can say so.
    Never,
}

impl Pushback {
    /// What a head or a trailer section says. `now` is asked only where it gives a date.
    pub fn of(fields: &Fields, now: impl FnOnce() -> SystemTime) -> Option<Pushback> {
        if let Some(value) = fields.get(Known::GrpcRetryPushbackMs) {
            let time = digits(value).map(Duration::from_millis);
            return Some(time.map_or(Pushback::Never, Pushback::After));
        }
        let value = fields.get(Known::RetryAfter)?.trim_ascii();
        let time = match digits(value) {
            Some(seconds) => Duration::from_secs(seconds),
            None => date(value)?.duration_since(now()).unwrap_or_default(),
        };
        Some(Pushback::After(time))
    }

    /// The time to wait, where there is one.
    pub fn time(self) -> Option<Duration> {
        match self {
            Pushback::After(time) => Some(time),
            Pushback::Never => None,
        }
    }
}

/// A number of digits only; one that is too large is as large as can be.
fn digits(value: &[u8]) -> Option<u64> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(value.iter().fold(0, |number: u64, digit| {
        number.saturating_mul(10).saturating_add(u64::from(digit - b'0')).min(u64::from(u32::MAX))
    }))
}

/// An IMF-fixdate: `Sun, 06 Nov 1994 08:49:37 GMT`. The two obsolete forms of RFC 9110 §5.6.7 are not written by anybody
/// who is still there. Civil date to days by Howard Hinnant's `days_from_civil`.
fn date(value: &[u8]) -> Option<SystemTime> {
    const MONTHS: [&[u8]; 12] =
        [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];
    if value.len() != 29 || value.get(3..5) != Some(b", ") || value.get(25..) != Some(b" GMT") {
        return None;
    }
    let is_apart = [(7, b' '), (11, b' '), (16, b' '), (19, b':'), (22, b':')];
    if is_apart.iter().any(|(at, byte)| value.get(*at) != Some(byte)) {
        return None;
    }
    let number = |from: usize, to: usize| digits(value.get(from..to)?);
    let month = MONTHS.iter().position(|month| value.get(8..11) == Some(*month))? as u64 + 1;
    let (day, year) = (number(5, 7)?, number(12, 16)?);
    let (hour, minute, second) = (number(17, 19)?, number(20, 22)?, number(23, 25)?);
    if !(1..=31).contains(&day) || year < 1970 || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let year = year - u64::from(month <= 2);
    let (era, year_of_era) = (year / 400, year % 400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    let days = (era * 146_097 + day_of_era).checked_sub(719_468)?;
    UNIX_EPOCH.checked_add(Duration::from_secs(days * 86_400 + hour * 3600 + minute * 60 + second))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &str, value: &str) -> Option<Pushback> {
        let mut fields = Fields::new();
        fields.push(name.as_bytes(), value.as_bytes());
        Pushback::of(&fields, || UNIX_EPOCH + Duration::from_secs(784_111_770))
    }

    fn after(ms: u64) -> Option<Pushback> {
        Some(Pushback::After(Duration::from_millis(ms)))
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        for (value, expected) in [
            ("0", after(0)),
            ("120", after(120_000)),
            (" 5 ", after(5000)),
            ("99999999999999999999", after(u64::from(u32::MAX) * 1000)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", after(7000)),
            ("Sun, 06 Nov 1994 08:49:00 GMT", after(0)),
            ("Sunday, 06-Nov-94 08:49:37 GMT", None),
            ("Sun, 06 Nov 1994 08:49:37 CET", None),
            ("Sun, 06 Nov 1994 24:49:37 GMT", None),
            ("Sun, 06 Foo 1994 08:49:37 GMT", None),
            ("Sun, +6 Nov 1994 08:49:37 GMT", None),
            ("1.5", None),
            ("-1", None),
            ("soon", None),
            ("", None),
        ] {
            assert_eq!(of("retry-after", value), expected, "{value}");
        }
    }

    #[test]
    fn a_date_is_what_date_says() {
        for (text, unix) in [
            ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
            ("Tue, 29 Feb 2000 12:00:00 GMT", 951_825_600),
            ("Wed, 31 Dec 2025 23:59:59 GMT", 1_767_225_599),
            ("Thu, 01 Mar 2029 00:00:00 GMT", 1_867_017_600),
        ] {
            assert_eq!(date(text.as_bytes()), Some(UNIX_EPOCH + Duration::from_secs(unix)), "{text}");
        }
    }

    #[test]
    fn a_pushback_that_is_negative_or_no_number_forbids_a_retry() {
        assert_eq!(of("grpc-retry-pushback-ms", "250"), after(250));
        assert_eq!(of("grpc-retry-pushback-ms", "-1"), Some(Pushback::Never));
        assert_eq!(of("grpc-retry-pushback-ms", "soon"), Some(Pushback::Never));
        assert_eq!(of("x-other", "1"), None);
    }
}
