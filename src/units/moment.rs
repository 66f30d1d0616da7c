//! Moments as RFC 3339 texts, to the nanosecond (<https://www.rfc-editor.org/rfc/rfc3339#section-5.6>).
//!
//! Why by hand: events are written to the microsecond, and a recording counts nanoseconds. The calendar is Howard Hinnant's
//! `days_from_civil`. How it fails: what is no such text is `None`; so is what is before 1970, for [`parse`].

const SECOND_NS: u64 = 1_000_000_000;

/// Nanoseconds since 1970 of a text like `2026-11-23T10:00:00.123456789Z`. Any number of decimals is read, nine count.
pub fn parse(text: &str) -> Option<u64> {
    let (seconds, nanos, zone) = civil(text)?;
    u64::try_from(seconds - offset(zone)?).ok()?.checked_mul(SECOND_NS)?.checked_add(nanos)
}

/// Seconds since 1970 by the clock of the zone, nanoseconds within, and how the zone is written; see [`offset`].
pub fn civil(text: &str) -> Option<(i64, u64, &str)> {
    let (date, rest) = text.split_at_checked(10)?;
    let rest = rest.strip_prefix(['T', 't', ' '])?;
    let (time, rest) = rest.split_at_checked(8)?;
    let [year, month, day] = numbers(date, '-', [4, 2, 2])?;
    let [hour, minute, second] = numbers(time, ':', [2, 2, 2])?;
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let (nanos, zone) = match rest.strip_prefix('.') {
        None => (0, rest),
        Some(rest) => {
            let count = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
            let (decimals, zone) =
                rest.split_at_checked(count).filter(|(decimals, _)| !decimals.is_empty())?;
            let places = decimals.bytes().chain(std::iter::repeat(b'0')).take(9);
            (places.fold(0, |sum, digit| sum * 10 + u64::from(digit.saturating_sub(b'0'))), zone)
        }
    };
    let seconds = days_from_civil(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second;
    Some((seconds, nanos, zone))
}

/// The text, with nine decimals.
pub fn text(at_ns: u64) -> String {
    let (seconds, nanos) = (at_ns / SECOND_NS, at_ns % SECOND_NS);
    let (year, month, day) = civil_from_days((seconds / 86_400) as i64);
    let (hour, minute, second) = (seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{nanos:09}Z")
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

/// Seconds that the zone is ahead of UTC.
pub fn offset(zone: &str) -> Option<i64> {
    if matches!(zone, "Z" | "z") {
        return Some(0);
    }
    let (sign, rest) = zone.split_at_checked(1)?;
    // `+0100` is what some browsers write.
    let (hours, minutes) = match rest.split_once(':') {
        Some(both) => both,
        None => rest.split_at_checked(2)?,
    };
    let is_whole = hours.len() == 2 && minutes.len() == 2;
    let seconds = is_whole.then(|| Some(digits(hours)? * 3_600 + digits(minutes)? * 60))??;
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

/// The inverse of [`days_from_civil`].
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn moments_are_read() {
        for (text, want) in [
            ("1970-01-01T00:00:00Z", Some(0)),
            ("1970-01-01T01:00:00+01:00", Some(0)),
            ("2009-04-16T12:07:23.596Z", Some(1_239_883_643_596_000_000)),
            ("2009-04-16T15:07:23.596+0300", Some(1_239_883_643_596_000_000)),
            ("2024-02-29T00:00:00.1234567891Z", Some(1_709_164_800_123_456_789)),
            ("1969-12-31T23:59:59Z", None),
            ("2026-13-01T00:00:00Z", None),
            ("2026-11-23", None),
            ("2026-11-23T10:00:00", None),
            ("2026-11-23T10:00:00.Z", None),
            ("9999-12-31T23:59:59Z", None),
            ("ä026-11-23T10:00:00Z", None),
        ] {
            assert_eq!(parse(text), want, "{text}");
        }
        assert_eq!(super::text(1_709_164_800_123_456_789), "2024-02-29T00:00:00.123456789Z");
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(at_ns: u64) {
            prop_assert_eq!(parse(&text(at_ns)), Some(at_ns));
        }

        #[test]
        fn no_text_panics(text: String) {
            let _ = parse(&text);
        }
    }
}
