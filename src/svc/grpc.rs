//! What gRPC writes into HTTP's fields: statuses and timeouts.
//!
//! Source: "gRPC over HTTP2" (`grpc-timeout`: up to eight digits and a unit; `grpc-status`: a number). How it fails: a
//! value that does not follow the grammar is none.

use super::{Fields, Known};
use std::time::Duration;

/// The longest number that `grpc-timeout` may have.
const DIGITS_MAX: usize = 8;
/// The first number that is too long.
const TOO_LONG: u128 = 100_000_000;

/// The status that a head (of an answer without content) or a trailer section tells.
pub fn status(fields: &Fields) -> Option<u8> {
    std::str::from_utf8(fields.get(Known::GrpcStatus)?).ok()?.parse().ok()
}

/// A `grpc-timeout`. Zero is taken for what it says, although the grammar asks for a positive number: clients whose time
/// is up send it.
pub fn parse_timeout(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.split_last()?;
    if digits.is_empty() || digits.len() > DIGITS_MAX || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = digits.iter().fold(0, |number: u64, digit| number * 10 + u64::from(digit - b'0'));
    Some(match unit {
        b'n' => Duration::from_nanos(number),
        b'u' => Duration::from_micros(number),
        b'm' => Duration::from_millis(number),
        b'S' => Duration::from_secs(number),
        b'M' => Duration::from_secs(number * 60),
        b'H' => Duration::from_secs(number * 3600),
        _ => return None,
    })
}

/// `time` as a `grpc-timeout`: as precise as eight digits allow, never more than `time`, and never zero.
pub fn format_timeout(time: Duration) -> String {
    let nanos = time.as_nanos();
    let units = [('n', 1), ('u', 1_000), ('m', 1_000_000), ('S', 1_000_000_000), ('M', 60_000_000_000)];
    for (unit, unit_nanos) in units {
        let number = nanos / unit_nanos;
        if number < TOO_LONG {
            return format!("{}{unit}", number.max(1));
        }
    }
    let hours = nanos / 3_600_000_000_000;
    format!("{}H", hours.min(TOO_LONG - 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn timeouts_follow_the_grammar() {
        for (value, expected) in [
            ("1H", Some(Duration::from_secs(3600))),
            ("2M", Some(Duration::from_secs(120))),
            ("15S", Some(Duration::from_secs(15))),
            ("250m", Some(Duration::from_millis(250))),
            ("7u", Some(Duration::from_micros(7))),
            ("1n", Some(Duration::from_nanos(1))),
            ("0n", Some(Duration::ZERO)),
            ("99999999S", Some(Duration::from_secs(99_999_999))),
            ("99999999H", Some(Duration::from_secs(99_999_999 * 3600))),
            ("100000000n", None),
            ("000000001S", None),
            ("", None),
            ("S", None),
            ("5", None),
            ("5s", None),
            ("-5S", None),
            ("+5S", None),
            ("5 S", None),
            ("5.5S", None),
            ("5SS", None),
            ("\u{0665}S", None),
        ] {
            assert_eq!(parse_timeout(value.as_bytes()), expected, "{value}");
        }
    }

    #[test]
    fn a_timeout_is_written_as_precisely_as_it_can_be() {
        for (time, expected) in [
            (Duration::ZERO, "1n"),
            (Duration::from_millis(5), "5000000n"),
            (Duration::from_millis(2500), "2500000u"),
            (Duration::from_secs(15), "15000000u"),
            (Duration::from_secs(3600), "3600000m"),
            (Duration::from_secs(1_000_000), "1000000S"),
            (Duration::from_secs(100_000_000), "1666666M"),
            (Duration::MAX, "99999999H"),
        ] {
            assert_eq!(format_timeout(time), expected, "{time:?}");
        }
    }

    #[test]
    fn a_status_is_a_number() {
        let status_of = |value: &str| {
            let mut fields = Fields::new();
            fields.push(b"grpc-status", value.as_bytes());
            status(&fields)
        };
        assert_eq!((status_of("0"), status_of("14")), (Some(0), Some(14)));
        assert_eq!(
            (status_of(""), status_of("OK"), status_of("-1"), status_of("999")),
            (None, None, None, None)
        );
        assert_eq!(status(&Fields::new()), None);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again_and_never_longer(nanos in 1u64..) {
            let time = Duration::from_nanos(nanos);
            let read = parse_timeout(format_timeout(time).as_bytes()).unwrap();
            prop_assert!(read <= time);
            // One of at least 100,000 units.
            prop_assert!(read >= time - time / 100_000 - Duration::from_nanos(1), "{time:?} {read:?}");
        }
    }
}
