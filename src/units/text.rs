//! The texts of durations and sizes: parse and print.
//!
//! Units are those of Go, systemd and Kubernetes that people already type: `ns us ms s m h d` and `B KiB MiB GiB TiB`
//! (binary) with `KB MB GB TB` (decimal). One number and one unit; fractions (`1.5s`) and sums (`1h30m`) are allowed
//! for durations. How it fails: with the reason and an example; never by rounding.

use std::time::Duration;

/// Nanoseconds in each unit, the longest first.
const DURATION_UNITS: [(&str, u64); 7] = [
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

/// Bytes in each unit, the largest first; decimal units are read but not written.
const SIZE_UNITS: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1_000),
    ("B", 1),
];

/// Splits `"1.5s…"` into the digits before and after the point, the unit, and what follows.
fn number_and_unit(text: &str) -> Option<(&str, &str, &str, &str)> {
    let whole_end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (whole, rest) = text.split_at(whole_end);
    let (fraction, rest) = match rest.strip_prefix('.') {
        Some(rest) => {
            let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
            let (fraction, rest) = rest.split_at(end);
            if fraction.is_empty() {
                return None;
            }
            (fraction, rest)
        }
        None => ("", rest),
    };
    let unit_end = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
    let (unit, rest) = rest.split_at(unit_end);
    (!whole.is_empty()).then_some((whole, fraction, unit, rest))
}

/// `whole.fraction × scale`, exactly; `None` if it overflows or is not a whole number.
fn scaled(whole: &str, fraction: &str, scale: u64) -> Option<u64> {
    let mut total = whole.parse::<u64>().ok()?.checked_mul(scale)?;
    let fraction = fraction.trim_end_matches('0');
    if !fraction.is_empty() {
        let divisor = 10u64.checked_pow(u32::try_from(fraction.len()).ok()?)?;
        let part = u128::from(fraction.parse::<u64>().ok()?) * u128::from(scale);
        if part % u128::from(divisor) != 0 {
            return None;
        }
        total = total.checked_add(u64::try_from(part / u128::from(divisor)).ok()?)?;
    }
    Some(total)
}

/// Reads `"250ms"`, `"1.5s"`, `"1h30m"`, `"0s"`. Longest: 584 years. Fails with what is wrong.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = |why: &str| format!("`{text}` is not a duration: {why}");
    let mut rest = text;
    let mut total = 0u64;
    let mut smallest = u64::MAX;
    if text.is_empty() {
        return Err("a duration is empty: write a number and a unit, as in `250ms`".into());
    }
    while !rest.is_empty() {
        let Some((whole, fraction, unit, after)) = number_and_unit(rest) else {
            return Err(wrong("write a number and a unit, as in `250ms`, `15s`, `5m`, `1h`"));
        };
        if unit.is_empty() {
            return Err(wrong("the unit is missing (ns, us, ms, s, m, h or d)"));
        }
        let unit = if unit == "µs" { "us" } else { unit };
        let Some((_, scale)) = DURATION_UNITS.iter().find(|(name, _)| *name == unit) else {
            return Err(wrong("the unit is none of ns, us, ms, s, m, h and d"));
        };
        if *scale >= smallest {
            return Err(wrong("write each unit once, the longest first"));
        }
        smallest = *scale;
        let part = scaled(whole, fraction, *scale).ok_or_else(|| wrong("it is out of range"))?;
        total = total.checked_add(part).ok_or_else(|| wrong("it is out of range"))?;
        rest = after;
    }
    Ok(Duration::from_nanos(total))
}

/// The shortest exact text: one number in the longest unit that divides it. Saturates at 584 years.
pub fn duration_text(value: Duration) -> String {
    let nanos = u64::try_from(value.as_nanos()).unwrap_or(u64::MAX);
    if nanos == 0 {
        return "0s".into();
    }
    let unit = DURATION_UNITS.iter().find(|(_, scale)| nanos.is_multiple_of(*scale));
    unit.map_or_else(String::new, |(name, scale)| format!("{}{name}", nanos / scale))
}

/// Reads `"64KiB"`, `"1MiB"`, `"1.5GiB"`, `"10MB"`, `"512B"`, `"512"`. Fails with what is wrong.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let wrong = |why: &str| format!("`{text}` is not a size: {why}");
    let Some((whole, fraction, unit, "")) = number_and_unit(text) else {
        return Err(wrong("write a number and a unit, as in `64KiB` or `1MiB`"));
    };
    let unit = unit.trim_start_matches(' ');
    let unit = if unit.is_empty() { "B" } else { unit };
    let Some((_, scale)) = SIZE_UNITS.iter().find(|(name, _)| *name == unit) else {
        return Err(wrong("the unit is none of B, KiB, MiB, GiB, TiB, KB, MB, GB and TB"));
    };
    scaled(whole, fraction, *scale).ok_or_else(|| wrong("it is out of range, or not a whole number of bytes"))
}

/// The shortest exact text in binary units: `64KiB`; `513B` where none divides.
pub fn size_text(bytes: u64) -> String {
    if bytes == 0 {
        return "0B".into();
    }
    let binary = SIZE_UNITS.iter().filter(|(name, _)| name.ends_with("iB") || *name == "B");
    let unit = binary.into_iter().find(|(_, scale)| bytes.is_multiple_of(*scale));
    unit.map_or_else(String::new, |(name, scale)| format!("{}{name}", bytes / scale))
}
