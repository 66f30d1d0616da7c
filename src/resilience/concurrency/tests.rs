use super::*;
use crate::context::Rng;
use proptest::prelude::*;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

const MS: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MS;

/// How long the work of one request takes, around a mean.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Work {
    /// Nearly always the same.
    Steady,
    /// Between half and one and a half.
    Uniform,
    /// With a long tail.
    Exponential,
}

/// A service with so many slots behind the proxy, and clients before it.
struct Model {
    now_ns: u64,
    rng: Rng,
    slots: usize,
    mean_ns: u64,
    work: Work,
    /// Requests in a second; `None`: there is always one more that waits.
    arrivals: Option<f64>,
    next_arrival_ns: u64,
    waiting: u64,
    waited: u64,
    in_flight: u32,
    peak: u32,
    was_limited: bool,
    /// When those began that wait inside of the service.
    inside: VecDeque<u64>,
    /// (end, begin) of those that are worked at.
    busy: BinaryHeap<Reverse<(u64, u64)>>,
    samples: Samples,
    gradient: Gradient,
    limit: u32,
    next_look_ns: u64,
    done: u64,
}

impl Model {
    fn new(config: &Concurrency, slots: usize, mean_ms: u64, work: Work, seed: u64) -> Model {
        let gradient = Gradient::new(config);
        Model {
            now_ns: SECOND,
            rng: Rng::new(seed),
            slots,
            mean_ns: mean_ms * MS,
            work,
            arrivals: None,
            next_arrival_ns: SECOND,
            waiting: 0,
            waited: 0,
            in_flight: 0,
            peak: 0,
            was_limited: false,
            inside: VecDeque::new(),
            busy: BinaryHeap::new(),
            samples: Samples::new(),
            limit: gradient.limit(),
            gradient,
            next_look_ns: 0,
            done: 0,
        }
    }

    fn uniform(&mut self) -> f64 {
        (self.rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    fn work_ns(&mut self) -> u64 {
        let factor = match self.work {
            Work::Steady => 0.9 + 0.2 * self.uniform(),
            Work::Uniform => 0.5 + self.uniform(),
            Work::Exponential => -(1.0 - self.uniform()).ln(),
        };
        (self.mean_ns as f64 * factor) as u64 + 1000
    }

    fn admit(&mut self) {
        while self.in_flight < self.limit && (self.arrivals.is_none() || self.waiting > 0) {
            self.waiting = self.waiting.saturating_sub(1);
            self.in_flight += 1;
            self.peak = self.peak.max(self.in_flight);
            self.inside.push_back(self.now_ns);
        }
        if self.arrivals.is_none() || self.waiting > 0 {
            self.was_limited = true;
        }
        while self.busy.len() < self.slots {
            let Some(began_ns) = self.inside.pop_front() else { break };
            let end_ns = self.now_ns + self.work_ns();
            self.busy.push(Reverse((end_ns, began_ns)));
        }
    }

    fn run(&mut self, seconds: f64) {
        self.run_until(self.now_ns + (seconds * SECOND as f64) as u64, |_| false);
    }

    /// Until that time, or until `is_over` says so.
    fn run_until(&mut self, until_ns: u64, is_over: impl Fn(&Model) -> bool) {
        self.admit();
        while self.now_ns < until_ns && !is_over(self) {
            let end_ns = self.busy.peek().map_or(u64::MAX, |Reverse((end_ns, _))| *end_ns);
            let arrival_ns = if self.arrivals.is_some() { self.next_arrival_ns } else { u64::MAX };
            self.now_ns = end_ns.min(arrival_ns).min(until_ns);
            if self.now_ns == arrival_ns {
                let gap = -(1.0 - self.uniform()).ln() / self.arrivals.unwrap_or(1.0);
                self.next_arrival_ns += (gap * SECOND as f64) as u64 + 1;
                self.waiting += 1;
                self.waited += u64::from(self.in_flight >= self.limit);
            }
            if self.now_ns == end_ns
                && let Some(Reverse((_, began_ns))) = self.busy.pop()
            {
                self.in_flight -= 1;
                self.done += 1;
                self.samples.add(began_ns, self.now_ns - began_ns);
                self.look();
            }
            self.admit();
        }
    }

    fn look(&mut self) {
        if self.now_ns < self.next_look_ns {
            return;
        }
        let observed = Observed { samples: &self.samples, peak: self.peak, was_limited: self.was_limited };
        let random = self.rng.next_u64();
        self.limit = self.gradient.look(self.now_ns, &observed, random);
        self.next_look_ns = self.now_ns + self.gradient.update_ns();
        (self.peak, self.was_limited) = (self.in_flight, false);
    }

    /// Throughput over some seconds, as a part of what the service can do.
    fn throughput(&mut self, seconds: f64) -> f64 {
        let before = self.done;
        self.run(seconds);
        (self.done - before) as f64 / (self.capacity() * seconds)
    }

    fn capacity(&self) -> f64 {
        self.slots as f64 * SECOND as f64 / self.mean_ns as f64
    }
}

/// Little's law: as many as there are slots must be under way; what is beyond waits inside of the service.
#[test]
fn the_limit_settles_a_little_above_what_the_service_can_do_at_once() {
    for work in [Work::Steady, Work::Uniform, Work::Exponential] {
        for (slots, mean_ms) in [(4, 20), (10, 5), (40, 100), (150, 50)] {
            // Few slots and much chance: one measurement may be off, and another one mends it. So the median counts.
            let mut limits = Vec::new();
            for seed in 1..=5 {
                let mut model = Model::new(&Concurrency::default(), slots, mean_ms, work, seed);
                model.run(12.0);
                let throughput = model.throughput(8.0);
                let limit = model.limit;
                limits.push(limit);
                let about = format!("{work:?}, {slots} slots, seed {seed}: {limit}, {throughput:.3}");
                assert!(throughput > 0.9, "{about}");
            }
            limits.sort_unstable();
            let limit = f64::from(limits[2]) / slots as f64;
            assert!((1.0..=2.75).contains(&limit), "{work:?}, {slots} slots: {limits:?}");
        }
    }
}

#[test]
fn a_service_that_becomes_slower_keeps_its_throughput_and_one_that_becomes_faster_gains() {
    for work in [Work::Steady, Work::Uniform] {
        for seed in 1..=2 {
            let mut model = Model::new(&Concurrency::default(), 50, 20, work, seed);
            model.run(10.0);
            for mean_ms in [40, 20, 10, 100] {
                model.mean_ns = mean_ms * MS;
                model.run(10.0);
                let throughput = model.throughput(10.0);
                let about = format!("{work:?}, seed {seed}, {mean_ms} ms: {}, {throughput:.3}", model.limit);
                assert!(throughput > 0.9, "{about}");
                assert!((45..=130).contains(&model.limit), "{about}");
            }
        }
    }
}

/// Half of the instances behind it are gone, then they come back.
#[test]
fn the_limit_follows_the_capacity() {
    for seed in 1..=4 {
        let mut model = Model::new(&Concurrency::default(), 100, 10, Work::Uniform, seed);
        model.run(10.0);
        model.slots = 50;
        model.run(5.0);
        assert!((45..=110).contains(&model.limit), "seed {seed}: {}", model.limit);
        model.slots = 100;
        model.run(10.0);
        let throughput = model.throughput(5.0);
        assert!(throughput > 0.96 && model.limit >= 95, "seed {seed}: {}, {throughput:.3}", model.limit);
    }
}

/// Envoy's dip: nearly all requests of that time are refused. Here nine of ten go on, and the rest waits.
#[test]
fn throughput_stays_while_the_best_latency_is_measured() {
    let config =
        Concurrency { min_rtt_interval: std::time::Duration::from_secs(10), ..Concurrency::default() };
    for (slots, mean_ms) in [(10, 20), (40, 100), (100, 20)] {
        for seed in 1..=3 {
            let mut model = Model::new(&config, slots, mean_ms, Work::Uniform, seed);
            model.run(10.0);
            let (mut done, mut time_ns, mut measurements) = (0, 0, 0);
            let end_ns = model.now_ns + 100 * SECOND;
            while model.now_ns < end_ns {
                model.run_until(end_ns, |model| model.gradient.is_measuring());
                let (done_before, began_ns) = (model.done, model.now_ns);
                model.run_until(end_ns, |model| !model.gradient.is_measuring());
                done += model.done - done_before;
                time_ns += model.now_ns - began_ns;
                measurements += 1;
            }
            let kept = done as f64 / (model.capacity() * time_ns as f64 / SECOND as f64);
            let about = format!("{slots} slots, seed {seed}: {kept:.3} in {measurements}, {time_ns} ns");
            assert!(kept > 0.9, "{about}");
            assert!((6..=40).contains(&measurements), "{about}");
        }
    }
}

#[test]
fn traffic_that_is_not_limited_is_never_made_to_wait_for_a_measurement() {
    for seed in 1..=3 {
        let mut model = Model::new(&Concurrency::default(), 100, 10, Work::Exponential, seed);
        model.arrivals = Some(500.0); // 5 of 100 slots, on average
        let end_ns = model.now_ns + 150 * SECOND;
        model.run_until(end_ns, |model| model.gradient.min_rtt_ns().is_some());
        model.run_until(end_ns, |model| model.gradient.is_measuring());
        assert_eq!((model.now_ns, model.waited), (end_ns, 0), "seed {seed}: limit {}", model.limit);
        let min_rtt = model.gradient.min_rtt_ns().unwrap() as f64 / MS as f64;
        assert!((5.0..=8.0).contains(&min_rtt), "the median of 10 ms exponential is 6.9 ms: {min_rtt}");
        // The service becomes twice as slow: that is seen.
        model.mean_ns = 20 * MS;
        model.run(90.0);
        let min_rtt = model.gradient.min_rtt_ns().unwrap() as f64 / MS as f64;
        assert!((10.0..=16.0).contains(&min_rtt), "{min_rtt}");
        assert!(model.waited < 3000, "{} of 45,000 waited, until it was understood", model.waited);
    }
}

/// The queue at the service is short even while there is always more to do: that is what it is for.
#[test]
fn latency_stays_low_under_overload() {
    let mut model = Model::new(&Concurrency::default(), 20, 25, Work::Uniform, 1);
    model.run(30.0);
    assert!(model.gradient.sample_rtt_ns() < 50 * MS, "{}", model.gradient.sample_rtt_ns() / MS);
    let free = Concurrency { limit: super::super::config::Limit::Auto, min: 500, ..Concurrency::default() };
    let mut unlimited = Model::new(&free, 20, 25, Work::Uniform, 1);
    unlimited.run(30.0);
    assert!(unlimited.gradient.sample_rtt_ns() > 500 * MS);
}

#[test]
fn other_terms_hold_at_once() {
    let mut model = Model::new(&Concurrency::default(), 100, 10, Work::Uniform, 1);
    model.run(10.0);
    assert!(model.gradient.limit() > 50);
    model.gradient.configure(&Concurrency { max: 30, ..Concurrency::default() });
    assert_eq!(model.gradient.limit(), 30);
    model.gradient.configure(&Concurrency { min: 60, max: 40, ..Concurrency::default() });
    assert_eq!(model.gradient.limit(), 40, "terms that contradict each other");
}

proptest! {
    /// Whatever is observed, the limit stays where it may be, and nothing panics.
    #[test]
    fn the_limit_never_leaves_its_bounds(
        min in 1u32..50,
        more in 0u32..500,
        windows in prop::collection::vec((any::<u16>(), 0u64..100_000, 0u32..2000, any::<bool>(), any::<u32>()), 1..300),
    ) {
        let config = Concurrency { min, max: min + more, min_rtt_requests: 5, ..Concurrency::default() };
        let mut gradient = Gradient::new(&config);
        let samples = Samples::new();
        let mut now_ns = SECOND;
        for (step, latency_us, peak, was_limited, random) in windows {
            now_ns += u64::from(step) * 100_000;
            for _ in 0..12 {
                samples.add(now_ns, latency_us * 1000);
            }
            let observed = Observed { samples: &samples, peak, was_limited };
            let limit = gradient.look(now_ns, &observed, u64::from(random) << 32);
            prop_assert!((min..=min + more).contains(&limit), "{}", limit);
            prop_assert!((0.5..=2.0).contains(&gradient.gradient()));
        }
    }
}
