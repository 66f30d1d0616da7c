//! The time of an event: RFC 3339 (<https://www.rfc-editor.org/rfc/rfc3339#section-5.6>), as microseconds since 1970.
//!
//! Written by hand for the same reason as its counterpart in [`encode`](super::super::encode): the calendar is Howard
//! Hinnant's `days_from_civil`, and nothing else of a calendar is needed. How it fails: what is no such text is `None`.

/// Microseconds since 1970 of a text like `2025-01-01T00:00:00.123456Z`. Any number of decimals is read, six count.
pub(in crate::pipeline) fn parse(text: &str) -> Option<i64> {
    let (date, rest) = text.split_at_checked(10)?;
    let rest = rest.strip_prefix(['T', 't', ' '])?;
    let (time, rest) = rest.split_at_checked(8)?;
    let [year, month, day] = numbers(date, '-', [4, 2, 2])?;
    let [hour, minute, second] = numbers(time, ':', [2, 2, 2])?;
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let (micros, zone) = match rest.strip_prefix('.') {
        None => (0, rest),
        Some(rest) => {
            let decimals = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
            let (decimals, zone) = rest.split_at_checked(decimals)?;
            (micros(decimals)?, zone)
        }
    };
    let seconds = days_from_civil(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second;
    Some((seconds - offset(zone)?) * 1_000_000 + micros)
}

/// Three numbers of fixed width.
fn numbers(text: &str, between: char, widths: [usize; 3]) -> Option<[i64; 3]> {
    let mut parts = text.split(between);
    let mut found = [0; 3];
    for (number, width) in found.iter_mut().zip(widths) {
        *number = digits(parts.next().filter(|part| part.len() == width)?)?;
    }
    parts.next().is_none().then_some(found)
}

fn digits(text: &str) -> Option<i64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

fn micros(decimals: &str) -> Option<i64> {
    if decimals.is_empty() {
        return None;
    }
    let places = decimals.bytes().chain(std::iter::repeat(b'0')).take(6);
    Some(places.fold(0, |sum, digit| sum * 10 + i64::from(digit.saturating_sub(b'0'))))
}

/// Seconds that the zone is ahead of UTC.
fn offset(zone: &str) -> Option<i64> {
    if matches!(zone, "Z" | "z") {
        return Some(0);
    }
    let (sign, rest) = zone.split_at_checked(1)?;
    let (hours, minutes) = rest.split_once(':').filter(|(one, two)| one.len() == 2 && two.len() == 2)?;
    let seconds = digits(hours)? * 3_600 + digits(minutes)? * 60;
    match sign {
        "+" => Some(seconds),
        "-" => Some(-seconds),
        _ => None,
    }
}

/// Days since 1970-01-01 in the Gregorian calendar.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
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
