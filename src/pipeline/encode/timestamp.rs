//! RFC 3339 timestamps with microseconds, in UTC, quickly.
//!
//! Events come nearly in order, so the text down to the second is kept and only the microseconds are written. The
//! calendar is Howard Hinnant's `civil_from_days`. How it fails: a moment before 1970 is 1970, one after the year 9999
//! is its last day.

use super::json::pair;
use std::time::{SystemTime, UNIX_EPOCH};

const SECONDS_A_DAY: u64 = 86_400;
/// The last second of the year 9999, the last that RFC 3339 can write.
const SECONDS_MAX: u64 = 253_402_300_799;

/// `2006-01-02T15:04:05.000000Z`.
pub(super) const BYTES: usize = 27;

/// Writes timestamps; keeps the last second's text.
pub(super) struct Clock {
    second: u64,
    text: [u8; BYTES],
}

impl Clock {
    pub(super) fn new() -> Clock {
        Clock { second: 0, text: *b"1970-01-01T00:00:00.000000Z" }
    }

    /// The text of a moment.
    #[inline]
    pub(super) fn text(&mut self, at: SystemTime) -> &[u8; BYTES] {
        let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
        if since.as_secs() != self.second {
            self.second = since.as_secs();
            self.write_second();
        }
        let micros = u64::from(since.subsec_micros());
        self.text[20..22].copy_from_slice(&pair(micros / 10_000));
        self.text[22..24].copy_from_slice(&pair(micros / 100));
        self.text[24..26].copy_from_slice(&pair(micros));
        &self.text
    }

    #[cold]
    fn write_second(&mut self) {
        let seconds = self.second.min(SECONDS_MAX);
        let (days, time) = (seconds / SECONDS_A_DAY, seconds % SECONDS_A_DAY);
        // Days since 0000-03-01, in eras of 400 years; years begin in March, so that leap days come last.
        let days = days + 719_468;
        let (era, day_of_era) = (days / 146_097, days % 146_097);
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * month + 2) / 5 + 1;
        let month = if month < 10 { month + 3 } else { month - 9 };
        let year = era * 400 + year_of_era + u64::from(month <= 2);
        let parts = [
            (0, year / 100),
            (2, year),
            (5, month),
            (8, day),
            (11, time / 3600),
            (14, time / 60 % 60),
            (17, time % 60),
        ];
        for (place, number) in parts {
            self.text[place..place + 2].copy_from_slice(&pair(number));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn moments_are_written_as_rfc_3339_has_them() {
        let mut clock = Clock::new();
        let cases = [
            (0, 0, "1970-01-01T00:00:00.000000Z"),
            (0, 1, "1970-01-01T00:00:00.000001Z"),
            (951_782_399, 999_999, "2000-02-28T23:59:59.999999Z"),
            (951_782_400, 0, "2000-02-29T00:00:00.000000Z"),
            (951_868_800, 0, "2000-03-01T00:00:00.000000Z"),
            (1_709_251_199, 0, "2024-02-29T23:59:59.000000Z"),
            (1_735_689_600, 123_456, "2025-01-01T00:00:00.123456Z"),
            (4_107_542_400, 0, "2100-03-01T00:00:00.000000Z"),
            (253_402_300_800, 0, "9999-12-31T23:59:59.000000Z"),
        ];
        for (seconds, micros, want) in cases {
            let at = UNIX_EPOCH + Duration::from_secs(seconds) + Duration::from_micros(micros);
            assert_eq!(std::str::from_utf8(clock.text(at)).unwrap(), want);
        }
        assert_eq!(clock.text(UNIX_EPOCH - Duration::from_secs(1)), b"1970-01-01T00:00:00.000000Z");
    }
}
