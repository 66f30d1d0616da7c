//! The times of events as OTLP has them: nanoseconds since 1970.

use crate::pipeline::trace_view::moment;

/// `2006-01-02T15:04:05`, the part of a timestamp that stays the same for a second.
const SECOND_BYTES: usize = 19;

/// Reads timestamps; keeps the last second, for events come nearly in order.
#[derive(Default)]
pub(super) struct Clock {
    second: [u8; SECOND_BYTES],
    nanos: u64,
}

impl Clock {
    /// Nanoseconds since 1970 of an RFC 3339 text; 0, which OTLP reads as "not known", where it is none.
    #[inline]
    pub(super) fn nanos(&mut self, text: &[u8]) -> u64 {
        let (Some(second), Some([b'.', micros @ .., b'Z'])) =
            (text.get(..SECOND_BYTES), text.get(SECOND_BYTES..))
        else {
            return general(text);
        };
        if micros.len() != 6 || !micros.iter().all(u8::is_ascii_digit) {
            return general(text);
        }
        if second != self.second {
            let mut whole = [b'Z'; SECOND_BYTES + 1];
            if let Some(place) = whole.get_mut(..SECOND_BYTES) {
                place.copy_from_slice(second);
                self.second.copy_from_slice(second);
            }
            self.nanos = general(&whole);
        }
        let micros = micros.iter().fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0'));
        if self.nanos == 0 { general(text) } else { self.nanos + micros * 1000 }
    }
}

fn general(text: &[u8]) -> u64 {
    let micros = str::from_utf8(text).ok().and_then(moment::parse).unwrap_or(0);
    u64::try_from(micros).unwrap_or(0).saturating_mul(1000)
}

/// A time of so many milliseconds, in nanoseconds; what is no time is 0.
#[inline]
pub(super) fn span_nanos(millis: f64) -> u64 {
    // To the microsecond, as events write it. A cast of what is out of range saturates; of what is no number it is 0.
    ((millis * 1000.0).round() as u64).saturating_mul(1000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::encode::rfc3339;
    use proptest::prelude::*;
    use std::time::{Duration, UNIX_EPOCH};

    proptest! {
        #[test]
        fn what_events_write_is_read_back(micros in prop::collection::vec(0..18_446_744_073_709_551_u64, 1..4)) {
            let mut clock = Clock::default();
            for micros in micros.iter().chain(&micros) {
                let text = rfc3339(UNIX_EPOCH + Duration::from_micros(*micros));
                prop_assert_eq!(clock.nanos(text.as_bytes()), micros * 1000, "{}", text);
            }
        }

        #[test]
        fn no_text_makes_it_panic(text: Vec<u8>, date in "[0-9:TZ.-]{18,30}") {
            let mut clock = Clock::default();
            clock.nanos(&text);
            clock.nanos(date.as_bytes());
        }
    }

    #[test]
    fn times_are_exact_to_the_microsecond() {
        for (millis, nanos) in
            [(12.345, 12_345_000), (0.0, 0), (-1.0, 0), (f64::NAN, 0), (f64::INFINITY, u64::MAX)]
        {
            assert_eq!(span_nanos(millis), nanos, "{millis}");
        }
    }
}
