//! How many requests each account has under way, and the bound on it: one customer's storm is not everybody's.
//!
//! Only accounts with requests under way are kept, so memory is bounded by those, and by [`ACCOUNTS_MAX`]: what comes
//! beyond shares one count. Where no bound is configured there is none of this; where it is, a request takes a lock
//! twice, for the time of a look-up.

use crate::cluster::Counter;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Accounts that are told apart at once.
pub(super) const ACCOUNTS_MAX: usize = 10_000;

/// What requests are shown under that have no account.
const NONE: &str = "_none";
/// What requests are shown under that are too many to be told apart.
const OTHER: &str = "_other";

/// See the module.
#[derive(Debug)]
pub(super) struct Accounts {
    pub(super) limit: u64,
    pub(super) refused: Counter,
    under_way: Mutex<UnderWay>,
}

#[derive(Debug, Default)]
struct UnderWay {
    by_account: HashMap<Arc<str>, Count, foldhash::fast::RandomState>,
    others: u64,
}

#[derive(Debug)]
struct Count {
    account: Arc<str>,
    active: u64,
}

/// A place of one request under the bound of its account; given back when it is dropped.
#[derive(Debug)]
pub struct AccountPlace {
    accounts: Arc<Accounts>,
    /// `None` among those who share.
    account: Option<Arc<str>>,
}

impl Accounts {
    pub(super) fn new(limit: usize) -> Accounts {
        Accounts { limit: limit as u64, refused: Counter::default(), under_way: Mutex::default() }
    }

    /// One more of `account`, which may be empty.
    ///
    /// # Errors
    /// Whose count is full, and how many it would have been.
    pub(super) fn try_enter(self: &Arc<Self>, account: &str) -> Result<AccountPlace, (Arc<str>, u64)> {
        let mut under_way = self.lock();
        let UnderWay { by_account, others } = &mut *under_way;
        let has_room = by_account.len() < ACCOUNTS_MAX;
        let (shown, active) = match by_account.get_mut(account) {
            Some(count) if count.active < self.limit => {
                count.active += 1;
                let account = Some(Arc::clone(&count.account));
                return Ok(AccountPlace { accounts: Arc::clone(self), account });
            }
            Some(count) if account.is_empty() => (NONE.into(), count.active),
            Some(count) => (Arc::clone(&count.account), count.active),
            None if self.limit == 0 => (if account.is_empty() { NONE } else { account }.into(), 0),
            None if has_room => {
                let account: Arc<str> = account.into();
                by_account.insert(Arc::clone(&account), Count { account: Arc::clone(&account), active: 1 });
                return Ok(AccountPlace { accounts: Arc::clone(self), account: Some(account) });
            }
            None if *others < self.limit => {
                *others += 1;
                return Ok(AccountPlace { accounts: Arc::clone(self), account: None });
            }
            None => (OTHER.into(), *others),
        };
        drop(under_way);
        self.refused.add();
        Err((shown, active + 1))
    }

    /// How many accounts have requests under way, and how many the busiest has.
    pub(super) fn read(&self) -> (u64, u64) {
        let under_way = self.lock();
        let counts = under_way.by_account.values().map(|count| count.active);
        (under_way.by_account.len() as u64, counts.max().unwrap_or(0).max(under_way.others))
    }

    fn leave(&self, account: Option<&str>) {
        let mut under_way = self.lock();
        let Some(account) = account else {
            under_way.others = under_way.others.saturating_sub(1);
            return;
        };
        if let Some(count) = under_way.by_account.get_mut(account) {
            count.active -= 1;
            if count.active == 0 {
                under_way.by_account.remove(account);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, UnderWay> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for AccountPlace {
    fn drop(&mut self) {
        self.accounts.leave(self.account.as_deref());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accounts(limit: usize) -> Arc<Accounts> {
        Arc::new(Accounts::new(limit))
    }

    fn refusal(accounts: &Arc<Accounts>, account: &str) -> (String, u64) {
        let (shown, current) = accounts.try_enter(account).unwrap_err();
        (shown.to_string(), current)
    }

    #[test]
    fn each_account_has_a_count_of_its_own_and_those_without_share_one() {
        let accounts = accounts(2);
        let places: Vec<_> =
            ["a", "a", "b", "", ""].into_iter().map(|account| accounts.try_enter(account).unwrap()).collect();
        assert_eq!(refusal(&accounts, "a"), ("a".to_owned(), 3));
        assert_eq!(refusal(&accounts, ""), ("_none".to_owned(), 3));
        assert_eq!(accounts.read(), (3, 2));
        let another = accounts.try_enter("b").unwrap();
        assert_eq!(refusal(&accounts, "b"), ("b".to_owned(), 3));
        assert_eq!(accounts.refused.get(), 3);
        drop((places, another));
        assert_eq!(accounts.read(), (0, 0), "nothing is kept of who has nothing under way");
        assert!(accounts.try_enter("a").is_ok());
    }

    #[test]
    fn nobody_enters_where_the_limit_is_zero() {
        let accounts = accounts(0);
        assert_eq!(refusal(&accounts, "a"), ("a".to_owned(), 1));
        assert_eq!(refusal(&accounts, ""), ("_none".to_owned(), 1));
        assert_eq!(accounts.read(), (0, 0));
    }

    #[test]
    fn accounts_beyond_the_bound_share_one_count() {
        let accounts = accounts(2);
        let told_apart: Vec<_> =
            (0..ACCOUNTS_MAX).map(|n| accounts.try_enter(&n.to_string()).unwrap()).collect();
        let others = [accounts.try_enter("x").unwrap(), accounts.try_enter("y").unwrap()];
        assert_eq!(refusal(&accounts, "z"), ("_other".to_owned(), 3));
        assert!(accounts.try_enter("17").is_ok(), "who is known already still has its own");
        assert_eq!(accounts.read(), (ACCOUNTS_MAX as u64, 2));
        drop(told_apart);
        let known = accounts.try_enter("x").unwrap();
        drop(others);
        assert_eq!(accounts.read(), (1, 1), "a place is given back where it was taken");
        drop(known);
        assert_eq!(accounts.read(), (0, 0));
    }

    #[test]
    fn workers_together_take_no_more_than_an_account_may() {
        let accounts = accounts(3);
        let most = std::sync::atomic::AtomicU64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for n in 0..5_000 {
                        let places: Vec<_> =
                            (0..2).filter_map(|_| accounts.try_enter(["a", "b"][n % 2]).ok()).collect();
                        most.fetch_max(accounts.read().1, std::sync::atomic::Ordering::Relaxed);
                        drop(places);
                    }
                });
            }
        });
        assert!(most.into_inner() <= 3);
        assert_eq!(accounts.read(), (0, 0));
    }
}
