//! What the levels of loggers mean: OpenTelemetry's severity numbers
//! (<https://opentelemetry.io/docs/specs/otel/logs/data-model/#field-severitynumber>).
//!
//! The text of an event is the level as it was written; the number is the same for all loggers. A level that nobody knows
//! has a text and no number.

/// Words of loggers, each with its number.
const WORDS: [(&[&str], u8); 7] = [
    (&["trace", "verbose", "finest", "finer", "silly"], 1),
    (&["debug", "dbg", "fine", "config"], 5),
    (&["info", "information", "informational", "inf"], 9),
    (&["notice"], 10),
    (&["warn", "warning", "wrn"], 13),
    (&["error", "err", "severe"], 17),
    (&["fatal", "critical", "crit", "alert", "panic", "dpanic", "emerg", "emergency", "ftl"], 21),
];

/// Words that begin a line for other reasons too, so that they are no level where a line is plain text.
const AMBIGUOUS: [&str; 6] = ["fine", "finer", "finest", "config", "silly", "verbose"];

/// Texts of numbers that came without one.
const NAMES: [&str; 6] = ["TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL"];

/// Below this number an event may be dropped first: TRACE and DEBUG.
pub(super) const DEBUG_END: u8 = 9;

/// The number of a level's name, in any case.
pub(super) fn of_word(word: &str) -> Option<u8> {
    if word.len() > 13 {
        return None;
    }
    let is_it = |known: &&str| known.eq_ignore_ascii_case(word);
    WORDS.iter().find(|(words, _)| words.iter().any(is_it)).map(|(_, number)| *number)
}

/// The same for a word of a plain line.
pub(super) fn of_plain_word(word: &str) -> Option<u8> {
    of_word(word).filter(|_| !AMBIGUOUS.iter().any(|known| known.eq_ignore_ascii_case(word)))
}

/// The number of a level of pino and bunyan: 10 trace, 20 debug, 30 info, 40 warn, 50 error, 60 fatal, and what lies between.
pub(super) fn of_level(level: i64) -> Option<u8> {
    let step = u8::try_from(level).ok().filter(|level| (10..70).contains(level))? / 10;
    Some((step - 1) * 4 + 1)
}

/// A number of OpenTelemetry's own.
pub(super) fn of_number(number: i64) -> Option<u8> {
    u8::try_from(number).ok().filter(|number| (1..=24).contains(number))
}

/// The name of a number.
pub(super) fn name(number: u8) -> &'static str {
    NAMES.get(usize::from(number.saturating_sub(1) / 4)).copied().unwrap_or("FATAL")
}
