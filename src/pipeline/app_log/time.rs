//! The time that a line says of itself, as microseconds since 1970.
//!
//! Texts have to be RFC 3339 (with a zone: "12:00" somewhere is no moment), perhaps with a comma before the decimals as
//! Python and Java write it. Numbers are seconds, milliseconds, microseconds or nanoseconds since 1970, told apart by their
//! size, which is unambiguous between 2000 and 2200; what lies outside is no time.

use crate::pipeline::trace_view::moment;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The year 2000.
const FIRST_MICROS: i64 = 946_684_800_000_000;
/// The year 2200.
const LAST_MICROS: i64 = 7_258_118_400_000_000;

/// Of a text.
pub(super) fn of_text(text: &str) -> Option<SystemTime> {
    if text.len() > 40 {
        return None;
    }
    let micros = match text.split_once(',') {
        None => moment::parse(text).or_else(|| of_digits(text)),
        Some((date, rest)) => moment::parse(&format!("{date}.{rest}")),
    };
    at(micros?)
}

fn of_digits(text: &str) -> Option<i64> {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    is_number.then(|| text.parse::<f64>().ok().and_then(micros_of_float))?
}

/// Of a whole number.
pub(super) fn of_int(number: i64) -> Option<SystemTime> {
    let micros = [1_000_000, 1_000, 1].into_iter().map(|factor| number.checked_mul(factor));
    let micros = micros.chain([Some(number / 1_000)]).flatten();
    micros.filter(|micros| is_plausible(*micros)).find_map(at)
}

/// Of a number with a fraction.
pub(super) fn of_float(number: f64) -> Option<SystemTime> {
    micros_of_float(number).and_then(at)
}

fn micros_of_float(number: f64) -> Option<i64> {
    let micros = [1e6, 1e3, 1.0, 1e-3].into_iter().map(|factor| number * factor);
    // In range, so nothing is cut but the fraction.
    micros.map(|micros| micros.round() as i64).find(|micros| is_plausible(*micros))
}

fn is_plausible(micros: i64) -> bool {
    (FIRST_MICROS..LAST_MICROS).contains(&micros)
}

fn at(micros: i64) -> Option<SystemTime> {
    let micros = u64::try_from(micros).ok().filter(|_| is_plausible(micros))?;
    UNIX_EPOCH.checked_add(Duration::from_micros(micros))
}
