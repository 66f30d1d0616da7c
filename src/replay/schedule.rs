//! When each exchange is sent: an absolute schedule, from the start of the run.
//!
//! Why absolute: sleeping from one exchange to the next adds each oversleep to all that follow. Here the n-th time
//! depends on the recording and the seed alone, never on how the run goes, so that a late exchange makes no other late.

use crate::context::ids::Rng;
use crate::units::parse_duration;
use std::time::Duration;

/// How times are made.
#[derive(Clone, Debug, PartialEq)]
pub enum Timing {
    /// As recorded, so many times as fast.
    Recorded {
        /// 0.01 to 1000.
        speed: f64,
    },
    /// So many exchanges a second, evenly.
    Fixed {
        /// Exchanges a second.
        rate: f64,
    },
    /// So many exchanges a second, as if by many who know nothing of each other.
    Poisson {
        /// Exchanges a second.
        rate: f64,
    },
    /// From one rate to another, and on with that.
    Ramp {
        /// Exchanges a second at first.
        from: f64,
        /// Exchanges a second at the end.
        to: f64,
        /// How long it takes.
        over: Duration,
    },
    /// From one rate to another in steps, and on with that.
    Steps {
        /// Exchanges a second at first.
        from: f64,
        /// Exchanges a second at the end.
        to: f64,
        /// How much more at each step.
        by: f64,
        /// How long each step is.
        every: Duration,
    },
    /// At a rate that is changed while it runs (see `--until-slo`); this is the first.
    Led {
        /// Exchanges a second at first.
        from: f64,
    },
    /// The next when one of so many is answered: a closed loop, whose rate is the target's.
    Closed {
        /// Exchanges at once, each on its own connection.
        connections: u32,
    },
}

/// The largest rate that is accepted, in exchanges a second.
pub const RATE_MAX: f64 = 1_000_000.0;

/// The most steps that are accepted.
const STEPS_MAX: f64 = 1_000.0;

fn rate(text: &str) -> Result<f64, String> {
    match text.trim().trim_end_matches("/s").parse::<f64>() {
        Ok(rate) if rate > 0.0 && rate <= RATE_MAX => Ok(rate),
        _ => Err(format!("`{text}` is not a rate: write exchanges a second, above 0 and up to {RATE_MAX}")),
    }
}

impl Timing {
    /// Reads `200`, `200/s` or `poisson:200`.
    pub fn parse_rate(text: &str) -> Result<Timing, String> {
        match text.strip_prefix("poisson:") {
            Some(text) => Ok(Timing::Poisson { rate: rate(text)? }),
            None => Ok(Timing::Fixed { rate: rate(text)? }),
        }
    }

    /// Reads `100..1000 over 60s`.
    pub fn parse_ramp(text: &str) -> Result<Timing, String> {
        let wrong = || format!("`{text}` is not a ramp: write `100..1000 over 60s`");
        let (range, over) = text.split_once("over").ok_or_else(wrong)?;
        let (from, to) = range.split_once("..").ok_or_else(wrong)?;
        let over = parse_duration(over.trim())?;
        if over.is_zero() {
            return Err(wrong());
        }
        Ok(Timing::Ramp { from: rate(from)?, to: rate(to)?, over })
    }

    /// Reads `100..1000 by 100 every 30s`.
    pub fn parse_steps(text: &str) -> Result<Timing, String> {
        let wrong = || format!("`{text}` are no steps: write `100..1000 by 100 every 30s`");
        let (range, rest) = text.split_once("by").ok_or_else(wrong)?;
        let (by, every) = rest.split_once("every").ok_or_else(wrong)?;
        let (from, to) = range.split_once("..").ok_or_else(wrong)?;
        let every = parse_duration(every.trim())?;
        let (from, to, by) = (rate(from)?, rate(to)?, rate(by)?);
        if every.is_zero() || (to - from).abs() / by > STEPS_MAX {
            return Err(wrong());
        }
        Ok(Timing::Steps { from, to, by, every })
    }

    /// Reads a speed, 0.01 to 1000.
    pub fn parse_speed(text: &str) -> Result<f64, String> {
        match text.trim_end_matches(['x', '×']).parse::<f64>() {
            Ok(speed) if (0.01..=1000.0).contains(&speed) => Ok(speed),
            _ => Err(format!("`{text}` is not a speed: write a number from 0.01 to 1000")),
        }
    }

    /// In one line, for people.
    pub fn text(&self) -> String {
        match self {
            Timing::Recorded { speed } if (*speed - 1.0).abs() < f64::EPSILON => "as recorded".into(),
            Timing::Recorded { speed } => format!("as recorded, ×{speed}"),
            Timing::Fixed { rate } => format!("{rate}/s, evenly"),
            Timing::Poisson { rate } => format!("{rate}/s, Poisson"),
            Timing::Ramp { from, to, over } => format!("{from}/s to {to}/s over {over:?}"),
            Timing::Steps { from, to, by, every } => format!("{from}/s to {to}/s by {by} every {every:?}"),
            Timing::Led { from } => format!("from {from}/s until a bound breaks"),
            Timing::Closed { connections } => format!("closed loop, {connections} at once"),
        }
    }
}

/// Hands out times.
pub(super) struct Schedule {
    timing: Timing,
    rng: Rng,
    count: u64,
    last_ns: f64,
}

const SECOND: f64 = 1e9;

impl Schedule {
    pub(super) fn new(timing: Timing, seed: u64) -> Schedule {
        Schedule { timing, rng: Rng::new(seed), count: 0, last_ns: 0.0 }
    }

    /// When the next exchange is to be sent, in nanoseconds since the start; `recorded_ns` is when it was, since the
    /// start of the recording (each further pass behind the one before). `led` is the rate of [`Timing::Led`].
    pub(super) fn next(&mut self, recorded_ns: u64, led: f64) -> u64 {
        let n = self.count as f64;
        self.count += 1;
        let at_ns = match &self.timing {
            Timing::Recorded { speed } if (*speed - 1.0).abs() < f64::EPSILON => return recorded_ns,
            Timing::Recorded { speed } => recorded_ns as f64 / speed,
            Timing::Closed { .. } => return 0,
            Timing::Fixed { rate } => n * SECOND / rate,
            Timing::Poisson { rate } => {
                let at = self.last_ns;
                // Uniform in (0, 1]: 53 bits, and never 0, whose logarithm is infinite.
                let uniform = ((self.rng.next_u64() >> 11) + 1) as f64 / (1u64 << 53) as f64;
                self.last_ns = at - uniform.ln() * SECOND / rate;
                at
            }
            Timing::Led { .. } => {
                let at = self.last_ns;
                self.last_ns = at + SECOND / led.max(0.001);
                at
            }
            Timing::Ramp { from, to, over } => ramp_ns(n, *from, *to, over.as_secs_f64()),
            Timing::Steps { from, to, by, every } => steps_ns(n, *from, *to, *by, every.as_secs_f64()),
        };
        at_ns as u64
    }
}

/// When the n-th comes: n is the integral of the rate.
fn ramp_ns(n: f64, from: f64, to: f64, over: f64) -> f64 {
    let within = (from + to) / 2.0 * over;
    if n >= within {
        return (over + (n - within) / to) * SECOND;
    }
    let slope = (to - from) / over;
    if slope.abs() < 1e-9 {
        return n / from * SECOND;
    }
    // from·t + slope·t²/2 = n
    ((from * from + 2.0 * slope * n).max(0.0).sqrt() - from) / slope * SECOND
}

fn steps_ns(n: f64, from: f64, to: f64, by: f64, every: f64) -> f64 {
    let (mut rate, mut at, mut left) = (from, 0.0, n);
    let step = if to >= from { by } else { -by };
    // Bounded: each turn is one step, and the last rate is reached after (to - from) / by of them.
    loop {
        let is_last = (step > 0.0 && rate >= to) || (step < 0.0 && rate <= to);
        let within = rate * every;
        if is_last || left < within {
            return (at + left / rate) * SECOND;
        }
        left -= within;
        at += every;
        rate = if step > 0.0 { (rate + step).min(to) } else { (rate + step).max(to) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(timing: Timing, seed: u64, count: usize) -> Vec<u64> {
        let mut schedule = Schedule::new(timing, seed);
        (0..count).map(|n| schedule.next(n as u64 * 1_000, 0.0)).collect()
    }

    #[test]
    fn times_follow_the_mode() {
        assert_eq!(times(Timing::Recorded { speed: 1.0 }, 0, 3), [0, 1_000, 2_000]);
        assert_eq!(times(Timing::Recorded { speed: 10.0 }, 0, 3), [0, 100, 200]);
        assert_eq!(times(Timing::Fixed { rate: 1_000.0 }, 0, 3), [0, 1_000_000, 2_000_000]);
        // 0 to 2 s from 100/s to 300/s: 400 in all, and 300/s from there.
        let ramp = times(Timing::parse_ramp("100..300 over 2s").unwrap(), 0, 1_001);
        assert!(ramp[400].abs_diff(2_000_000_000) < 1_000, "{}", ramp[400]);
        assert!(ramp[1_000].abs_diff(4_000_000_000) < 1_000, "{}", ramp[1_000]);
        // 10/s for a second, 20/s for a second, 30/s from there.
        let steps = times(Timing::parse_steps("10..30 by 10 every 1s").unwrap(), 0, 61);
        for (n, at_ms) in [(0, 0), (10, 1_000), (30, 2_000), (60, 3_000)] {
            assert!(steps[n].abs_diff(at_ms * 1_000_000) < 1_000, "{n}: {}", steps[n]);
        }
    }

    #[test]
    fn poisson_has_its_rate_and_repeats_with_its_seed() {
        let first = times(Timing::Poisson { rate: 1_000.0 }, 7, 20_001);
        assert_eq!(first, times(Timing::Poisson { rate: 1_000.0 }, 7, 20_001));
        assert_ne!(first, times(Timing::Poisson { rate: 1_000.0 }, 8, 20_001));
        let seconds = first[20_000] as f64 / 1e9;
        assert!((seconds - 20.0).abs() < 1.0, "{seconds}");
        // The gaps of a Poisson process vary as much as they are long.
        let gaps: Vec<f64> = first.windows(2).map(|pair| (pair[1] - pair[0]) as f64 / 1e6).collect();
        let variance = gaps.iter().map(|gap| (gap - 1.0) * (gap - 1.0)).sum::<f64>() / gaps.len() as f64;
        assert!((variance - 1.0).abs() < 0.1, "{variance}");
    }

    #[test]
    fn wrong_texts_are_refused_with_what_to_write() {
        for text in ["", "0", "-1", "1e9", "nan", "inf", "poisson:", "poisson:x"] {
            assert!(Timing::parse_rate(text).is_err(), "{text}");
        }
        for text in ["", "1..2", "1..2 over", "1..2 over 0s", "0..2 over 1s", "over 1s"] {
            assert!(Timing::parse_ramp(text).is_err(), "{text}");
        }
        for text in ["", "1..2 by 1", "1..2 by 0 every 1s", "1..2 by 1 every 0s"] {
            assert!(Timing::parse_steps(text).is_err(), "{text}");
        }
        for text in ["0", "0.001", "1001", "x", "nan"] {
            assert!(Timing::parse_speed(text).is_err(), "{text}");
        }
        assert_eq!(Timing::parse_speed("10x"), Ok(10.0));
    }
}
