//! Who is next when there is not room for all: a bounded queue that is fair between accounts.
//!
//! Order: a higher tier first; within a tier one request of each account in turn, so that an account with a hundred
//! requests waits a hundred turns and one with a single request waits one; within an account first come, first served.
//! When the queue is full, somebody is turned away: of the lowest tier that waits, of the account that has most there,
//! its latest request. That may be the newcomer itself.
//!
//! Sources: Nagle, RFC 970 (one queue for each sender, served round robin, and the longest queue pays), which is also
//! McKenney's "Stochastic Fairness Queueing" with exact accounts in place of hash buckets. Each request counts the same:
//! how long one will take is not known beforehand, so there is no deficit to keep, as there is for packets (DRR).
//!
//! Pure: no clock, no lock, no waker. Every operation is O(log n) at worst (the order of accounts by how many they
//! have), and walks over the tiers, of which there are a handful. Memory: one node for each that waits, one for each
//! account that waits, both used again.
//!
//! How it fails: a tier below one that alone fills all places waits until its time is over. That is what tiers are for;
//! within a tier nobody starves.

mod list;
#[cfg(test)]
mod tests;

use list::{List, Slab};
use std::collections::{BTreeSet, HashMap};

/// The queue. `T` is what waits.
#[derive(Debug)]
pub struct FairQueue<T> {
    waiting_max: usize,
    /// From the lowest up; grows with the tiers that are used.
    tiers: Vec<Tier>,
    entries: Slab<Entry<T>>,
    accounts: Slab<Account>,
    waiting: usize,
    sequence: u64,
}

/// The name of something that waits, to take it out by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    key: u32,
    sequence: u64,
}

/// What became of a newcomer.
#[derive(Debug)]
pub enum Pushed<T> {
    /// It waits.
    Waits(Ticket),
    /// It waits in place of this one, which is turned away.
    Replaces(Ticket, T),
    /// It is turned away itself.
    Refused(T),
}

#[derive(Debug)]
struct Entry<T> {
    value: T,
    account: u32,
    /// In the order of arrival, over the whole queue.
    sequence: u64,
}

/// An account that has something waiting in a tier.
#[derive(Debug)]
struct Account {
    tier: usize,
    id: u64,
    entries: List,
}

#[derive(Debug, Default)]
struct Tier {
    /// Accounts that wait, by what identifies them.
    accounts: HashMap<u64, u32, foldhash::fast::RandomState>,
    /// The same, the one whose turn it is first.
    turns: List,
    /// The same, by how many wait; of equals the one with the latest arrival is last. So the last one's latest is the
    /// one to turn away.
    by_crowd: BTreeSet<(u32, u64, u32)>,
    waiting: usize,
}

impl<T> FairQueue<T> {
    /// A queue of at most `waiting_max`.
    pub fn new(waiting_max: usize) -> FairQueue<T> {
        FairQueue {
            waiting_max,
            tiers: Vec::new(),
            entries: Slab::new(),
            accounts: Slab::new(),
            waiting: 0,
            sequence: 0,
        }
    }

    /// Another bound. What waits beyond it stays.
    pub fn set_max(&mut self, waiting_max: usize) {
        self.waiting_max = waiting_max;
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.waiting
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.waiting == 0
    }

    /// How many of `tier` wait.
    pub fn waiting(&self, tier: usize) -> usize {
        self.tiers.get(tier).map_or(0, |tier| tier.waiting)
    }

    /// Puts `value` behind those of the same tier and account. Tiers are counted from 0, the lowest.
    pub fn push(&mut self, tier: usize, account: u64, value: T) -> Pushed<T> {
        if self.tiers.len() <= tier {
            self.tiers.resize_with(tier + 1, Tier::default);
        }
        let ticket = self.insert(tier, account, value);
        if self.waiting <= self.waiting_max {
            return Pushed::Waits(ticket);
        }
        match self.evict() {
            Some((victim, value)) if victim == ticket => Pushed::Refused(value),
            Some((_, value)) => Pushed::Replaces(ticket, value),
            None => Pushed::Waits(ticket), // not reached: at least the newcomer waits
        }
    }

    /// Whose turn it is.
    pub fn pop(&mut self) -> Option<T> {
        let tier = self.tiers.iter().rposition(|tier| tier.waiting > 0)?;
        let account = self.tiers.get(tier)?.turns.first()?;
        let oldest = self.accounts.get(account)?.entries.first()?;
        let entry = self.take(oldest)?;
        // It had its turn: behind the others, if it still waits.
        if let Some(tier) = self.tiers.get_mut(tier)
            && self.accounts.get(account).is_some()
        {
            tier.turns.unlink(&mut self.accounts, account);
            tier.turns.push(&mut self.accounts, account);
        }
        Some(entry.value)
    }

    /// Takes out what is named by `ticket`, if it still waits.
    pub fn remove(&mut self, ticket: Ticket) -> Option<T> {
        self.entries.get(ticket.key).filter(|entry| entry.sequence == ticket.sequence)?;
        self.take(ticket.key).map(|entry| entry.value)
    }

    fn insert(&mut self, tier_index: usize, id: u64, value: T) -> Ticket {
        let sequence = self.sequence;
        self.sequence += 1;
        self.waiting += 1;
        let Some(tier) = self.tiers.get_mut(tier_index) else { return Ticket { key: u32::MAX, sequence } };
        tier.waiting += 1;
        let account = *tier.accounts.entry(id).or_insert_with(|| {
            let account = self.accounts.insert(Account { tier: tier_index, id, entries: List::EMPTY });
            tier.turns.push(&mut self.accounts, account);
            account
        });
        self.leave_crowd(account);
        let key = self.entries.insert(Entry { value, account, sequence });
        if let Some(account) = self.accounts.get_mut(account) {
            account.entries.push(&mut self.entries, key);
        }
        self.join_crowd(account);
        Ticket { key, sequence }
    }

    /// Takes out the one to turn away.
    fn evict(&mut self) -> Option<(Ticket, T)> {
        let tier = self.tiers.iter().find(|tier| tier.waiting > 0)?;
        let (_, _, account) = *tier.by_crowd.last()?;
        let key = self.accounts.get(account)?.entries.last()?;
        let entry = self.take(key)?;
        Some((Ticket { key, sequence: entry.sequence }, entry.value))
    }

    fn take(&mut self, key: u32) -> Option<Entry<T>> {
        let account_key = self.entries.get(key)?.account;
        self.leave_crowd(account_key);
        let account = self.accounts.get_mut(account_key)?;
        account.entries.unlink(&mut self.entries, key);
        let (tier_index, id, is_gone) = (account.tier, account.id, account.entries.len() == 0);
        if let Some(tier) = self.tiers.get_mut(tier_index) {
            tier.waiting -= 1;
            if is_gone {
                tier.turns.unlink(&mut self.accounts, account_key);
                tier.accounts.remove(&id);
            }
        }
        if is_gone {
            self.accounts.remove(account_key);
        } else {
            self.join_crowd(account_key);
        }
        self.waiting -= 1;
        self.entries.remove(key)
    }

    /// Where an account with something waiting stands in the order by how many wait.
    fn crowd(&self, key: u32) -> Option<(usize, (u32, u64, u32))> {
        let account = self.accounts.get(key)?;
        let latest = self.entries.get(account.entries.last()?)?.sequence;
        Some((account.tier, (account.entries.len(), latest, key)))
    }

    fn leave_crowd(&mut self, key: u32) {
        if let Some((tier, place)) = self.crowd(key)
            && let Some(tier) = self.tiers.get_mut(tier)
        {
            tier.by_crowd.remove(&place);
        }
    }

    fn join_crowd(&mut self, key: u32) {
        if let Some((tier, place)) = self.crowd(key)
            && let Some(tier) = self.tiers.get_mut(tier)
        {
            tier.by_crowd.insert(place);
        }
    }
}

impl Default for List {
    fn default() -> Self {
        List::EMPTY
    }
}
