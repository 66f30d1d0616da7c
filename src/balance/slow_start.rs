//! Slow start: an endpoint that is new, or healthy again, gets its share little by little, so that its caches, its
//! connections and its just-in-time compiler are warm before the whole load comes.
//!
//! While it warms up, it takes its turn with the probability `max(min_weight_percent, (time ÷ window)^(1 ÷ aggression))`,
//! and leaves it to another endpoint otherwise. Source: Envoy's slow start mode (formula and defaults).

use crate::cluster::config::SlowStart;

/// Whether an endpoint that has been warming up for so long takes a turn.
#[cold]
pub(super) fn takes_turn(terms: &SlowStart, elapsed_ns: u64, random: &mut impl FnMut() -> u64) -> bool {
    let share = share(terms, elapsed_ns);
    // The high 53 bits make a number in [0, 1) that a double can hold.
    share >= 1.0 || ((random() >> 11) as f64) < share * (1u64 << 53) as f64
}

/// The part of its usual share that an endpoint gets.
fn share(terms: &SlowStart, elapsed_ns: u64) -> f64 {
    let time = elapsed_ns as f64 / (terms.window.as_nanos() as f64).max(1.0);
    if time >= 1.0 {
        return 1.0;
    }
    let least = f64::from(terms.min_weight_percent) / 100.0;
    time.powf(1.0 / terms.aggression.max(f64::MIN_POSITIVE)).max(least)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_share_grows_from_its_least_to_all_within_the_window() {
        let percent = |aggression, seconds: f64| {
            let terms = SlowStart { window: Duration::from_secs(60), aggression, min_weight_percent: 10 };
            (share(&terms, (seconds * 1e9) as u64) * 100.0).round() as u32
        };
        for (aggression, seconds, expected) in [
            (1.0, 0.0, 10),
            (1.0, 3.0, 10),
            (1.0, 15.0, 25),
            (1.0, 30.0, 50),
            (1.0, 60.0, 100),
            (1.0, 600.0, 100),
            (2.0, 15.0, 50),
            (0.5, 30.0, 25),
        ] {
            assert_eq!(percent(aggression, seconds), expected, "aggression {aggression}, {seconds} s");
        }
    }
}
