//! Whether the system's clock was set back.
//!
//! What: compares how far the wall clock came with how far the steady one did. Events have the wall clock's time, so a
//! step back makes timestamps overlap; their order is that of `id.sequence`, durations and all waiting go by the steady
//! clock. How it fails: a step below a second, or a thousandth of the time since the last look, passes as the clock's
//! being adjusted; a step forward looks like a machine that slept, and is none.

use std::time::{Duration, Instant, SystemTime};

/// A smaller step is an adjustment.
const STEP_MIN: Duration = Duration::from_secs(1);
/// What a clock that is being adjusted (adjtime: 500 ppm) may be behind, as a part of the time that passed.
const SLEW: u32 = 1000;

/// The last look at both clocks.
pub(super) struct WallClock {
    steady: Instant,
    wall: SystemTime,
}

impl WallClock {
    pub(super) fn new(steady: Instant, wall: SystemTime) -> WallClock {
        WallClock { steady, wall }
    }

    /// How far the wall clock was set back since the last look.
    pub(super) fn stepped_back(&mut self, steady: Instant, wall: SystemTime) -> Option<Duration> {
        let passed = steady.duration_since(self.steady);
        let expected = self.wall.checked_add(passed);
        (self.steady, self.wall) = (steady, wall);
        let back = expected?.duration_since(wall).ok()?;
        (back >= STEP_MIN.max(passed / SLEW)).then_some(back)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_back_is_told_once_and_nothing_else_is() {
        let (start, epoch) = (Instant::now(), SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000));
        let mut clock = WallClock::new(start, epoch);
        // Seconds since the start by the steady clock and by the wall clock, which may be behind it; what is told.
        for (steady, wall, told) in [
            (10.0, 10.0, None),
            (11.0, 10.5, None),
            (12.0, 3612.0, None),
            (13.0, 13.0, Some(3600)),
            (14.0, 14.0, None),
            (15.0, -85.0, Some(100)),
            // A day of being adjusted.
            (86_415.0, 86_315.0 - 43.0, None),
        ] {
            let wall = match wall < 0.0 {
                true => epoch - Duration::from_secs_f64(-wall),
                false => epoch + Duration::from_secs_f64(wall),
            };
            let back = clock.stepped_back(start + Duration::from_secs_f64(steady), wall);
            assert_eq!(back.map(|back| back.as_secs()), told, "at {steady}");
        }
    }
}
