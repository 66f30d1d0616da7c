//! The retry budget: retries in proportion to requests, so that they never multiply an outage.
//!
//! Within [`ttl`](config::RetryBudget::ttl), retries and hedges together are at most `percent` of the requests, and
//! `per_second_min` for each second, which lets a service with few requests retry at all. A limit on retries at once, as
//! proxies without a budget have, is a guess that is wrong at every other load. Algorithm and defaults (20 %, 10 a
//! second, 10 s): Finagle's `RetryBudget`, which linkerd took over; ours forgets a tenth of the time at once, so it
//! allows never more than that in any ten tenths.
//!
//! Shared by all workers. A request is one relaxed add; a retry takes a lock, because asking and taking must be one.
//!
//! How it fails: no balance, no retry; the last answer or error is the one that counts.

use super::config;
use super::window::{Side, Window};
use std::sync::{Mutex, PoisonError};

/// The budget of a cluster.
#[derive(Debug)]
pub struct Budget {
    percent: u64,
    /// Retries within `ttl` that are there in any case.
    reserve: u64,
    /// Requests left, retries right.
    window: Window,
    /// Held while a retry is asked for and taken.
    till: Mutex<()>,
}

impl Budget {
    /// A budget with these terms.
    pub fn new(config: config::RetryBudget) -> Budget {
        let reserve = u128::from(config.per_second_min) * config.ttl.as_nanos() / 1_000_000_000;
        Budget {
            percent: u64::from(config.percent),
            reserve: u64::try_from(reserve).unwrap_or(u64::MAX),
            window: Window::new(config.ttl),
            till: Mutex::new(()),
        }
    }

    /// Counts a request (not a retry).
    #[inline]
    pub fn note_request(&self, now_ns: u64) {
        self.window.add(Side::Left, now_ns);
    }

    /// Takes one retry out of the budget; `false` when there is none.
    pub fn try_retry(&self, now_ns: u64) -> bool {
        let _till = self.till.lock().unwrap_or_else(PoisonError::into_inner);
        let has_balance = self.balance(now_ns) > 0;
        if has_balance {
            self.window.add(Side::Right, now_ns);
        }
        has_balance
    }

    /// How many retries there could be at once now.
    pub fn balance(&self, now_ns: u64) -> u64 {
        let (requests, retries) = self.window.totals(now_ns);
        self.allowed(requests).saturating_sub(retries)
    }

    /// How many retries there may be beside so many requests.
    fn allowed(&self, requests: u64) -> u64 {
        (requests.saturating_mul(self.percent) / 100).saturating_add(self.reserve)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    const SECOND_NS: u64 = 1_000_000_000;

    fn budget(percent: u32, per_second_min: u32) -> Budget {
        Budget::new(config::RetryBudget { percent, per_second_min, ttl: Duration::from_secs(10) })
    }

    fn take_all(budget: &Budget, now_ns: u64) -> u64 {
        (0..).take_while(|_| budget.try_retry(now_ns)).count() as u64
    }

    #[test]
    fn a_quiet_service_may_retry_the_minimum() {
        let budget = budget(20, 10);
        assert_eq!(budget.balance(0), 100);
        assert_eq!(take_all(&budget, 0), 100);
        assert!(!budget.try_retry(9 * SECOND_NS), "it comes back after the ttl, not with each second");
        assert_eq!(take_all(&budget, 10 * SECOND_NS), 100);
    }

    #[test]
    fn a_fifth_of_the_requests_may_be_retried() {
        let budget = budget(20, 0);
        assert!(!budget.try_retry(0), "no request, no retry");
        for _ in 0..1004 {
            budget.note_request(SECOND_NS);
        }
        assert_eq!(budget.balance(SECOND_NS), 200);
        assert_eq!(take_all(&budget, 3 * SECOND_NS), 200);
        assert_eq!(budget.balance(3 * SECOND_NS), 0);
        assert_eq!(take_all(&budget, 11 * SECOND_NS), 0, "the requests are forgotten first");
    }

    #[test]
    fn nothing_is_allowed_where_nothing_is_configured() {
        let budget = budget(0, 0);
        budget.note_request(0);
        assert!(!budget.try_retry(0));
        assert_eq!(budget.balance(0), 0);
    }

    #[test]
    fn a_pause_of_hours_begins_anew() {
        let budget = budget(20, 1);
        assert_eq!(take_all(&budget, 0), 10);
        assert_eq!(take_all(&budget, 7200 * SECOND_NS), 10);
    }

    #[test]
    fn workers_together_take_no_more_than_there_is() {
        // There is one, and two want it at the same moment, time and again.
        let budgets: Vec<Budget> = (0..1000).map(|_| budget(100, 0)).collect();
        budgets.iter().for_each(|budget| budget.note_request(0));
        let arrived = AtomicUsize::new(0);
        let take = || {
            let wants = |(round, budget): &(usize, &Budget)| {
                arrived.fetch_add(1, Ordering::SeqCst);
                while arrived.load(Ordering::SeqCst) < 2 * (round + 1) {
                    std::thread::yield_now();
                }
                budget.try_retry(0)
            };
            budgets.iter().enumerate().filter(wants).count()
        };
        let taken: usize = std::thread::scope(|scope| {
            [(); 2].map(|()| scope.spawn(take)).map(|worker| worker.join().unwrap()).iter().sum()
        });
        assert_eq!(taken, budgets.len());
    }

    #[derive(Clone, Copy, Debug)]
    enum Event {
        Request,
        Retry,
        /// Time passes, in milliseconds.
        Wait(u64),
        /// The next request and retry come from a worker whose clock is behind.
        Behind(u64),
    }

    fn events() -> impl Strategy<Value = Vec<Event>> {
        let event = prop_oneof![
            4 => Just(Event::Request),
            4 => Just(Event::Retry),
            2 => (0u64..3000).prop_map(Event::Wait),
            1 => (0u64..30_000_000).prop_map(Event::Wait),
            1 => (0u64..900).prop_map(Event::Behind),
        ];
        proptest::collection::vec(event, 1..600)
    }

    proptest! {
        /// In the ten tenths of the ttl that end with any retry there are no more retries than the requests of the same
        /// ten allow; if the clocks of workers differ, in nine of them.
        #[test]
        fn there_are_never_more_retries_than_allowed(
            events in events(), percent in 0u32..=100, per_second_min in 0u32..3,
        ) {
            let budget = budget(percent, per_second_min);
            let ahead = u64::from(events.iter().any(|event| matches!(event, Event::Behind(1..))));
            let mut counts = std::collections::BTreeMap::<u64, (u64, u64)>::new();
            let (mut now_ms, mut behind_ms) = (1000u64, 0);
            for event in events {
                let at_ms = now_ms - behind_ms;
                let slot = counts.entry(at_ms / 1000).or_default();
                match event {
                    Event::Request => {
                        budget.note_request(at_ms * 1_000_000);
                        slot.0 += 1;
                    }
                    Event::Retry => slot.1 += u64::from(budget.try_retry(at_ms * 1_000_000)),
                    Event::Wait(time_ms) => (now_ms, behind_ms) = (now_ms + time_ms, 0),
                    Event::Behind(time_ms) => behind_ms = time_ms,
                }
            }
            let reserve = u64::from(per_second_min) * 10;
            for last in counts.keys() {
                let (first, late) = (last.saturating_sub(9), last.saturating_sub(9 - ahead));
                let requests: u64 = counts.range(first..=last + ahead).map(|(_, counts)| counts.0).sum();
                let retries: u64 = counts.range(late..=*last).map(|(_, counts)| counts.1).sum();
                if counts[last].1 == 0 {
                    continue;
                }
                let allowed = requests * u64::from(percent) / 100 + reserve;
                prop_assert!(retries <= allowed, "{retries} retries of {requests} requests up to {last} s");
            }
        }
    }
}
