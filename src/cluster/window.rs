//! Two counts over the last so many seconds: a ring of ten buckets, shared by all workers.
//!
//! Exact numbers and not a moving average: an average that weighs samples by the time between them hides an outage that
//! comes in a burst (linkerd2-proxy went the same way). What is counted is forgotten a tenth of the window at a time, so
//! a window of 10 s remembers between 9 s and 10 s.
//!
//! A count is one load, one comparison and one relaxed add; a lock is taken once for each tenth of the window, by
//! whoever comes first. Workers whose clocks differ a little are served: what is dated a little back goes where it
//! belongs, or where the ring is by now; what is newer than the reader counts too. After a pause of hours the old
//! buckets are known by their number, and count no more.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Into how many parts a window is divided.
pub(super) const BUCKETS: u64 = 10;

/// See the module.
#[derive(Debug)]
pub(super) struct Window {
    bucket_ns: u64,
    buckets: [Bucket; BUCKETS as usize],
    /// Held while a bucket is made anew.
    turn: Mutex<()>,
}

#[derive(Debug, Default)]
#[repr(align(64))]
struct Bucket {
    /// Which bucket of all time this is, counted from 1; 0 before its first use.
    number: AtomicU64,
    counts: [AtomicU64; 2],
}

/// Which of the two counts.
#[derive(Clone, Copy, Debug)]
pub(super) enum Side {
    /// What is compared with: requests, successes.
    Left,
    /// What is bounded: retries, failures.
    Right,
}

impl Window {
    /// A window over `span`, which is at least 10 ns.
    pub(super) fn new(span: Duration) -> Window {
        let span_ns = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
        Window {
            bucket_ns: (span_ns / BUCKETS).max(1),
            buckets: std::array::from_fn(|_| Bucket::default()),
            turn: Mutex::new(()),
        }
    }

    /// Counts one.
    #[inline]
    pub(super) fn add(&self, side: Side, now_ns: u64) {
        let number = self.number(now_ns);
        let bucket = self.bucket(number);
        if bucket.number.load(Ordering::Acquire) < number {
            self.renew(bucket, number);
        }
        bucket.counts[side as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Both counts, of what is not older than the window.
    pub(super) fn totals(&self, now_ns: u64) -> (u64, u64) {
        let oldest = self.number(now_ns).saturating_sub(BUCKETS - 1).max(1);
        self.buckets
            .iter()
            .filter(|bucket| bucket.number.load(Ordering::Acquire) >= oldest)
            .fold((0, 0), |(left, right), bucket| (left + bucket.count(0), right + bucket.count(1)))
    }

    /// Forgets everything.
    pub(super) fn clear(&self) {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        for bucket in &self.buckets {
            bucket.clear();
        }
    }

    #[inline]
    fn number(&self, now_ns: u64) -> u64 {
        now_ns / self.bucket_ns + 1
    }

    #[inline]
    fn bucket(&self, number: u64) -> &Bucket {
        // The remainder is below the length: there is no check left in the code that the compiler makes.
        &self.buckets[(number % BUCKETS) as usize]
    }

    #[cold]
    fn renew(&self, bucket: &Bucket, number: u64) {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        if bucket.number.load(Ordering::Relaxed) < number {
            bucket.clear();
            // Whoever sees the number sees the counts at zero.
            bucket.number.store(number, Ordering::Release);
        }
    }
}

impl Bucket {
    fn count(&self, index: usize) -> u64 {
        self.counts[index].load(Ordering::Relaxed)
    }

    fn clear(&self) {
        for count in &self.counts {
            count.store(0, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND_NS: u64 = 1_000_000_000;

    fn window() -> Window {
        Window::new(Duration::from_secs(10))
    }

    #[test]
    fn what_is_older_than_the_window_counts_no_more() {
        let window = window();
        for second in 0..20 {
            window.add(Side::Left, second * SECOND_NS);
        }
        assert_eq!(window.totals(19 * SECOND_NS), (10, 0));
        assert_eq!(window.totals(22 * SECOND_NS), (7, 0), "without anything new it empties by itself");
        assert_eq!(window.totals(29 * SECOND_NS), (0, 0));
    }

    #[test]
    fn a_clock_that_jumps_by_hours_leaves_nothing_old_behind() {
        let window = window();
        for second in 0..10 {
            window.add(Side::Right, second * SECOND_NS);
        }
        let later_ns = 5 * 3600 * SECOND_NS;
        assert_eq!(window.totals(later_ns), (0, 0));
        window.add(Side::Right, later_ns);
        assert_eq!(window.totals(later_ns), (0, 1));
    }

    #[test]
    fn a_worker_whose_clock_is_behind_counts_and_is_counted() {
        let window = window();
        window.add(Side::Right, 10 * SECOND_NS);
        window.add(Side::Right, 9 * SECOND_NS);
        assert_eq!(window.totals(9 * SECOND_NS), (0, 2), "what others did in its future counts too");
        assert_eq!(window.totals(10 * SECOND_NS), (0, 2));
        // So far behind that the ring is round again: it is counted where the ring is.
        window.add(Side::Right, 0);
        assert_eq!(window.totals(10 * SECOND_NS), (0, 3));
    }

    #[test]
    fn ten_buckets_are_remembered_and_an_eleventh_is_not() {
        let window = window();
        window.add(Side::Left, SECOND_NS - 1);
        assert_eq!(window.totals(10 * SECOND_NS - 1), (1, 0));
        assert_eq!(window.totals(10 * SECOND_NS), (0, 0));
    }

    #[test]
    fn the_shortest_window_divides_by_no_zero() {
        let window = Window::new(Duration::ZERO);
        window.add(Side::Left, 5);
        assert_eq!(window.totals(5), (1, 0));
    }

    #[test]
    fn no_count_of_many_workers_is_lost() {
        let window = window();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for n in 0..20_000u64 {
                        // Nine buckets: none falls out while they are counted.
                        window.add(Side::Left, n * 9 * SECOND_NS / 20_000);
                    }
                });
            }
        });
        assert_eq!(window.totals(9 * SECOND_NS - 1), (80_000, 0));
    }
}
