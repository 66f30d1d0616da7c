//! A bound on how many there are at once.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// See the module. Exact: there are never more than the limit, and nobody is refused while there is room. On a cache
/// line of its own, because every worker writes here.
#[derive(Debug)]
#[repr(align(64))]
pub struct Cap {
    /// What is counted.
    pub what: &'static str,
    /// How many there may be; `u64::MAX` without a bound.
    pub limit: u64,
    active: AtomicU64,
    refused: AtomicU64,
}

impl Cap {
    /// A cap; `None` for no bound.
    pub fn new(what: &'static str, limit: Option<usize>) -> Cap {
        let limit = limit.map_or(u64::MAX, |limit| limit as u64);
        Cap { what, limit, active: AtomicU64::new(0), refused: AtomicU64::new(0) }
    }

    /// One more, if there is room.
    ///
    /// # Errors
    /// How many it would have been.
    #[inline]
    pub fn try_enter(&self) -> Result<(), u64> {
        let next = |active: u64| (active < self.limit).then_some(active + 1);
        match self.active.fetch_update(Relaxed, Relaxed, next) {
            Ok(_) => Ok(()),
            Err(active) => {
                self.refused.fetch_add(1, Relaxed);
                Err(active + 1)
            }
        }
    }

    /// One less.
    #[inline]
    pub fn leave(&self) {
        self.active.fetch_sub(1, Relaxed);
    }

    /// How many there are.
    pub fn active(&self) -> u64 {
        self.active.load(Relaxed)
    }

    /// How many were refused so far.
    pub fn refused(&self) -> u64 {
        self.refused.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_room_up_to_the_limit_and_again_after_somebody_left() {
        let cap = Cap::new("requests", Some(2));
        assert_eq!((cap.try_enter(), cap.try_enter()), (Ok(()), Ok(())));
        assert_eq!(cap.try_enter(), Err(3));
        assert_eq!((cap.active(), cap.refused()), (2, 1));
        cap.leave();
        assert_eq!(cap.try_enter(), Ok(()));
        assert_eq!(Cap::new("requests", Some(0)).try_enter(), Err(1));
        let endless = Cap::new("requests", None);
        assert!((0..10_000).all(|_| endless.try_enter().is_ok()));
    }

    #[test]
    fn workers_together_are_never_more_than_the_limit_and_never_refused_while_there_is_room() {
        // Four threads of which each holds at most two places, under a limit of 8: nobody may be refused. Under 3 some
        // are, and there are never more than 3 at once.
        for (limit, may_refuse) in [(8, false), (3, true)] {
            let cap = Cap::new("requests", Some(limit));
            let inside = AtomicU64::new(0);
            std::thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| {
                        for _ in 0..20_000 {
                            let entered = [cap.try_enter(), cap.try_enter()];
                            for place in entered {
                                assert!(place.is_ok() || may_refuse);
                            }
                            assert!(cap.active() <= limit as u64, "who is refused is not seen inside");
                            let count = entered.iter().filter(|place| place.is_ok()).count() as u64;
                            assert!(inside.fetch_add(count, Relaxed) + count <= limit as u64);
                            inside.fetch_sub(count, Relaxed);
                            for _ in 0..count {
                                cap.leave();
                            }
                        }
                    });
                }
            });
            assert_eq!(cap.active(), 0);
            assert!(cap.refused() == 0 || may_refuse);
        }
    }
}
