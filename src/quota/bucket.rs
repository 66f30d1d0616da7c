//! One bucket: the generic cell rate algorithm (GCRA; ITU-T I.371, ATM Forum TM 4.0), as the crate `governor` has it.
//!
//! A bucket is one number: when it will be full again. A request is allowed if that is near enough, and moves it on by
//! the time for one request; nothing drips, and a bucket that nobody asks costs nothing. The decision and the change
//! are one atomic exchange, so workers that ask at once never get more than there is.
//!
//! Times are nanoseconds since the limit was made, and are passed in: a paused clock works, and several limits of a
//! request are asked at one moment.

use governor::clock::Clock;
use governor::middleware::StateInformationMiddleware;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed, StateStore};
use governor::{Quota, RateLimiter};
use std::cell::Cell;

/// What requests share; full at first.
#[derive(Debug, Default)]
pub(super) struct Bucket(InMemoryState);

impl Bucket {
    /// Takes one out; how many are left.
    ///
    /// # Errors
    /// There is none: the time from which on there is one.
    #[inline]
    pub(super) fn take(&self, quota: Quota, now_ns: u64) -> Result<u32, u64> {
        type Limiter<'b> = RateLimiter<NotKeyed, Lent<'b>, At, StateInformationMiddleware>;
        let limiter = Limiter::new(quota, Lent(&self.0), At::default());
        limiter.clock().0.set(now_ns);
        match limiter.check() {
            Ok(state) => Ok(state.remaining_burst_capacity()),
            Err(not_until) => Err(not_until.earliest_possible().into()),
        }
    }

    /// Puts one back that took `interval_ns`. Exact, as long as the bucket did not fill up since it was taken.
    pub(super) fn give_back(&self, interval_ns: u64) {
        let earlier = |full: Option<Nanos>| {
            let full_ns = u64::from(full.ok_or(())?);
            Ok::<_, ()>(((), Nanos::from(full_ns.saturating_sub(interval_ns))))
        };
        // A bucket that was never used has nothing to get back.
        let _ = self.0.measure_and_replace(&NotKeyed::NonKey, earlier);
    }

    /// When it is full; 0 if it was never used.
    #[inline]
    pub(super) fn full_ns(&self) -> u64 {
        let seen = |full: Option<Nanos>| Err::<((), Nanos), u64>(full.map_or(0, u64::from));
        self.0.measure_and_replace(&NotKeyed::NonKey, seen).err().unwrap_or_default()
    }
}

/// A clock that stands where it is put. It begins at zero, and so does the time that a limiter counts from.
#[derive(Debug, Default)]
struct At(Cell<u64>);

impl Clock for At {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        self.0.get().into()
    }
}

/// The state of a bucket, for one question.
#[derive(Debug)]
struct Lent<'b>(&'b InMemoryState);

impl StateStore for Lent<'_> {
    type Key = NotKeyed;

    #[inline]
    fn measure_and_replace<T, F, E>(&self, key: &NotKeyed, change: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        self.0.measure_and_replace(key, change)
    }
}
