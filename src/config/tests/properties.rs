//! Whatever a file holds, it is read or refused: nothing panics, and what is written can be read again.

use std::time::Duration;

use proptest::prelude::*;

use crate::config::{Config, parse, to_yaml};
use crate::units::{duration_text, parse_duration, parse_size, size_text};

const FULL: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/proxy-config/full.yaml"));
const LICENSES: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/proxy-config/licenses.yaml"));
const RESILIENCE: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/proxy-config/resilience.yaml"));
/// What breaks YAML, and what breaks our own types.
const PIECES: [&str; 30] = [
    ":",
    " ",
    "\n",
    "\t",
    "-",
    "- ",
    "{",
    "}",
    "[",
    "]",
    ",",
    "#",
    "&a ",
    "*a",
    "!!x ",
    "\"",
    "'",
    "|\n",
    ">",
    "%",
    "---\n",
    "<<: ",
    "none",
    "auto",
    "0",
    "-1",
    "1e999",
    "99999999999999999999",
    "\u{1f980}",
    "\r",
];

/// Reads, and renders whatever there is to say.
fn survive(text: &str) {
    match parse("random.yaml", text) {
        Ok(loaded) => {
            let again =
                parse("again.yaml", &to_yaml(&loaded.config)).unwrap_or_else(|problems| panic!("{problems}"));
            assert_eq!(again.config, loaded.config);
        }
        Err(problems) => {
            assert!(problems.has_errors());
            let _ = (problems.render(true), problems.to_json());
        }
    }
}

/// `text` with pieces put in, or characters cut out, at some places.
fn mutated(text: &str, changes: &[(prop::sample::Index, usize, usize)]) -> String {
    let mut text: Vec<char> = text.chars().collect();
    for (place, piece, cut) in changes {
        let at = place.index(text.len() + 1);
        let end = (at + cut).min(text.len());
        let new: Vec<char> = PIECES.get(*piece).copied().unwrap_or_default().chars().collect();
        text.splice(at..end, new);
    }
    text.into_iter().collect()
}

fn changes() -> impl Strategy<Value = Vec<(prop::sample::Index, usize, usize)>> {
    prop::collection::vec((any::<prop::sample::Index>(), 0..=PIECES.len(), 0..12usize), 1..6)
}

proptest! {
    #[test]
    fn random_bytes(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        survive(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn random_pieces(pieces in prop::collection::vec(0..PIECES.len(), 0..40)) {
        survive(&pieces.iter().map(|piece| PIECES[*piece]).collect::<String>());
    }

    #[test]
    fn mutations_of_full(changes in changes()) {
        survive(&mutated(FULL, &changes));
    }

    #[test]
    fn mutations_of_routes(changes in changes()) {
        survive(&mutated(LICENSES, &changes));
    }

    #[test]
    fn mutations_of_resilience(changes in changes()) {
        survive(&mutated(RESILIENCE, &changes));
    }

    #[test]
    fn texts_are_read_as_they_were_written(key in "\\PC{1,12}", value in any::<String>()) {
        let mut config = Config::default();
        config.service.app = Some("127.0.0.1:8080".parse().unwrap());
        config.service.version = value.clone();
        config.service.labels.insert(key.clone(), value.clone());
        let text = to_yaml(&config);
        let again = parse("a.yaml", &text).unwrap_or_else(|problems| panic!("{problems}\n{text}"));
        prop_assert_eq!(again.config, config);
    }

    #[test]
    fn durations_round_trip(nanos in any::<u64>(), unit in 0..7usize) {
        let unit = [1, 1_000, 1_000_000, 1_000_000_000, 60_000_000_000, 3_600_000_000_000, 86_400_000_000_000u64][unit];
        for nanos in [nanos, nanos - nanos % unit] {
            let time = Duration::from_nanos(nanos);
            prop_assert_eq!(parse_duration(&duration_text(time)), Ok(time));
        }
    }

    #[test]
    fn sizes_round_trip(bytes in any::<u64>(), shift in 0..50u32) {
        for bytes in [bytes, bytes >> shift << shift] {
            prop_assert_eq!(parse_size(&size_text(bytes)), Ok(bytes));
        }
    }

    #[test]
    fn random_texts_are_no_panic(text in "[0-9.a-zµ+: -]{0,24}") {
        let _ = (parse_duration(&text), parse_size(&text), text.parse::<crate::units::HostPort>());
    }
}
