//! How long to wait before another try: exponential, with full jitter.
//!
//! A random time up to `base × (2^n − 1)` before the n-th retry, at most `max`. Source: Envoy's router (25 ms, at most
//! 250 ms); why the jitter is full, M. Brooker, "Exponential Backoff And Jitter": clients that failed together would
//! otherwise come back together.

use std::time::Duration;

/// The wait before the `retry`-th retry, counted from one; `random` is uniform.
pub fn wait(base: Duration, max: Duration, retry: u32, random: u64) -> Duration {
    let steps = 1u32.checked_shl(retry).map_or(u32::MAX, |power| power - 1);
    let ceiling = base.saturating_mul(steps).min(max);
    // Multiply and shift: as even as a division, over the whole of `random`.
    let nanos = (ceiling.as_nanos() + 1).saturating_mul(u128::from(random)) >> 64;
    u64::try_from(nanos).map_or(ceiling, Duration::from_nanos).min(ceiling)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BASE: Duration = Duration::from_millis(25);
    const MAX: Duration = Duration::from_millis(250);

    #[test]
    fn the_ceiling_grows_and_stops_at_the_longest_wait() {
        let ceilings =
            [1, 2, 3, 4, 5, 31, 32, u32::MAX].map(|retry| wait(BASE, MAX, retry, u64::MAX).as_millis());
        assert_eq!(ceilings, [25, 75, 175, 250, 250, 250, 250, 250]);
        assert_eq!(wait(BASE, MAX, 5, 0), Duration::ZERO);
        assert_eq!(wait(BASE, MAX, 1, 1 << 63).as_micros(), 12_500);
    }

    #[test]
    fn no_base_no_wait() {
        assert_eq!(wait(Duration::ZERO, MAX, 3, u64::MAX), Duration::ZERO);
        assert_eq!(wait(BASE, Duration::ZERO, 3, u64::MAX), Duration::ZERO);
    }

    proptest! {
        #[test]
        fn never_more_than_the_ceiling(base in 0u64.., max in 0u64.., retry in 1u32.., random in 0u64..) {
            let (base, max) = (Duration::from_nanos(base), Duration::from_nanos(max));
            let found = wait(base, max, retry, random);
            prop_assert!(found <= max);
            if retry < 32 {
                prop_assert!(found <= base.saturating_mul((1u32 << retry) - 1));
            }
        }
    }
}
