//! Searches against targets and replayers of a known capacity.

use super::*;

/// A target that answers in 1 ms, `capacity` a second one after the other, and a replayer.
struct World {
    capacity: f64,
    /// What the replayer can hand over.
    own: f64,
    lag_us: u64,
}

impl World {
    fn searched(&self, from: f64, step: Duration, slo: &str) -> Capacity {
        let slo = Slo::parse(slo).unwrap();
        let mut search = Search::new(from, step, slo, Duration::from_millis(1)).unwrap();
        let (mut at, mut rate) = (Instant::now(), from);
        let (mut handed, mut queue, mut over) = (0.0, 0.0, 0.0f64);
        // What ended since it was told last.
        let (mut delta, mut since_told) = (Tally::default(), 0);
        for _ in 0..1_000_000 {
            let sight = Sight { at, in_flight: queue as u64, handed: handed as u64, is_memory_full: false };
            rate = search.rate(sight);
            if search.is_over() {
                return search.finish();
            }
            let (tick, sent) = (0.05, rate.min(self.own) * 0.05);
            handed += sent;
            let ended = (queue + sent).min(self.capacity * tick);
            queue += sent - ended;
            let us = 1_000 + (queue / self.capacity * 1e6) as u64;
            over += ended;
            let whole = over.floor();
            over -= whole;
            (0..whole as u64).for_each(|_| {
                delta.sent += 1;
                delta.intended.record_us(us);
                delta.lag.record_us(self.lag_us);
            });
            since_told += 1;
            if since_told == 20 {
                search.add(&std::mem::take(&mut delta));
                since_told = 0;
            }
            at += Duration::from_secs_f64(tick);
        }
        panic!("no end at {rate}");
    }
}

#[test]
fn the_capacity_of_a_target_is_found_in_short_steps_and_long_ones() {
    for (capacity, from, seconds, slo) in [
        (1_000.0, 100.0, 3, "p99<100ms"),
        (1_000.0, 100.0, 10, "p99<100ms"),
        // A bound that the queue of a short step does not reach.
        (1_000.0, 100.0, 3, "p99<5s"),
        (1_000.0, 100.0, 1, "p99<5s,errors<1%"),
        (20_000.0, 100.0, 3, "p99.9<1s"),
        (300.0, 780.0, 3, "p99<200ms"),
    ] {
        let world = World { capacity, own: f64::INFINITY, lag_us: 50 };
        let found = world.searched(from, Duration::from_secs(seconds), slo);
        let range = capacity * 0.94..=capacity * 1.04;
        assert!(range.contains(&found.rate), "{capacity} {seconds}s {slo}: {found:#?}");
        assert!(!found.is_at_least && !found.is_limited, "{found:#?}");
    }
}

#[test]
fn a_replayer_that_is_the_bound_says_so() {
    let slo = "p99<100ms";
    for (own, lag_us, why) in [(600.0, 50, "were not handed over"), (1e9, 20_000, "its send lag is 20.0ms")] {
        let found = World { capacity: 1_000.0, own, lag_us }.searched(100.0, Duration::from_secs(3), slo);
        assert!(found.is_limited && found.is_at_least, "{found:#?}");
        assert!(found.bound_by.contains("the replayer itself") && found.bound_by.contains(why), "{found:#?}");
        // A step of three seconds sees a tenth of a second.
        assert!(found.rate <= 660.0, "{found:#?}");
    }
    // Beyond the target's own bound it does not matter.
    let world = World { capacity: 500.0, own: 700.0, lag_us: 50 };
    let found = world.searched(100.0, Duration::from_secs(3), slo);
    assert!(!found.is_limited && (470.0..520.0).contains(&found.rate), "{found:#?}");
}

#[test]
fn a_step_that_cannot_hold_its_bound_is_refused() {
    let new = |from, slo: &str| {
        Search::new(from, Duration::from_secs(10), Slo::parse(slo).unwrap(), Duration::from_millis(1))
    };
    let told = new(5.0, "p99.9<1s").err().unwrap();
    assert!(told.contains("p99.9 needs 1000 exchanges, which 5 a second do not send in 100s"), "{told}");
    assert!(new(5.0, "p99<1s").is_ok() && new(20.0, "p99.9<1s").is_ok() && new(1.0, "p50<1s").is_ok());
    // A slow rate is judged for longer, so that its p99 is not of ten exchanges.
    let search = new(5.0, "p99<1s").unwrap();
    assert!(search.judged() >= Duration::from_secs(20), "{:?}", search.judged());
}
