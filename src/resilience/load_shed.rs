//! Who is turned away first: the ranks of requests, by what their account has bought.
//!
//! Ranks, from the lowest: TRACE requests (tracer bullets: nobody waits for them), requests with none of the configured
//! licenses, then `load_shed.tiers` in their order. When the queue for a place is full, the lowest rank that waits pays
//! ([`super::fair_queue`]); when memory runs out ([`super::overload`]), ranks are turned away from the lowest up. The top
//! rank is never shed for memory: it is refused with all others, when nothing else is left.
//!
//! Within a rank, accounts (or users, or addresses) share evenly. They are told apart by a hash, seeded by the process,
//! so that long names cost no memory and nobody can choose to collide.
//!
//! How it fails: a request whose context is not believed (`trust`) has no license and is below those who have one.

use super::config::{Fair, LoadShed};
use crate::context::RequestType;
use crate::exchange::Record;
use std::hash::BuildHasher;

/// The rank of TRACE requests.
pub const TRACE: usize = 0;
/// The rank of requests with none of the tiers.
pub const NO_TIER: usize = 1;
/// The rank of the lowest tier.
const FIRST_TIER: usize = 2;

/// The ranks of a listener.
#[derive(Debug)]
pub struct Ranks {
    tiers: Vec<String>,
    fair: Fair,
    hash: foldhash::fast::RandomState,
}

impl Ranks {
    /// What `config` says.
    pub fn new(config: &LoadShed) -> Ranks {
        Ranks { tiers: config.tiers.clone(), fair: config.fair, hash: foldhash::fast::RandomState::default() }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.tiers.len() + FIRST_TIER
    }

    /// Whether the ranks mean the same.
    pub fn is_same(&self, other: &Ranks) -> bool {
        self.tiers == other.tiers
    }

    /// The name in metrics and on the admin page: the license, `_trace` or `_none`.
    pub fn name(&self, rank: usize) -> &str {
        match rank {
            TRACE => "_trace",
            NO_TIER => "_none",
            rank => self.tiers.get(rank - FIRST_TIER).map_or("_other", String::as_str),
        }
    }

    /// The rank of a request.
    pub fn rank(&self, record: &Record) -> usize {
        if record.request_type == RequestType::Trace {
            return TRACE;
        }
        let license = record.text(record.license);
        let tier = self.tiers.iter().position(|tier| tier.as_bytes() == license);
        tier.map_or(NO_TIER, |tier| tier + FIRST_TIER)
    }

    /// What identifies the one that shares with others; the same for all that have none.
    pub fn account(&self, record: &Record) -> u64 {
        match self.fair {
            Fair::AccountId => self.hash.hash_one(record.text(record.account_id)),
            Fair::UserId => self.hash.hash_one(record.text(record.user_id)),
            Fair::SourceAddress => self.hash.hash_one(record.peer.map(|peer| peer.ip())),
            Fair::None => 0,
        }
    }

    /// Ranks below this are turned away when the memory between the first step and the last is used to `permille`.
    pub fn shed_below(&self, permille: u32) -> usize {
        // TRACE always; then evenly from those without a tier up to the second highest.
        let others = self.count() - FIRST_TIER;
        match others {
            0 => NO_TIER,
            _ => NO_TIER + (1 + others * permille as usize / 1000).min(others),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranks(tiers: &[&str], fair: Fair) -> Ranks {
        Ranks::new(&LoadShed { tiers: tiers.iter().map(ToString::to_string).collect(), fair })
    }

    fn record(license: &str, account: &str) -> Record {
        let mut record = Record::new();
        record.license = record.store(license.as_bytes());
        record.account_id = record.store(account.as_bytes());
        record.user_id = record.store(b"somebody");
        record
    }

    #[test]
    fn a_request_has_the_rank_of_its_license_unless_it_is_a_trace() {
        let ranks = ranks(&["free", "gold"], Fair::AccountId);
        for (license, rank, name) in
            [("gold", 3, "gold"), ("free", 2, "free"), ("silver", 1, "_none"), ("", 1, "_none")]
        {
            assert_eq!(ranks.rank(&record(license, "a")), rank, "{license}");
            assert_eq!(ranks.name(rank), name);
        }
        let trace = Record { request_type: RequestType::Trace, ..record("gold", "a") };
        assert_eq!((ranks.rank(&trace), ranks.name(0)), (TRACE, "_trace"));
    }

    #[test]
    fn those_who_share_are_told_apart_by_what_was_chosen() {
        let by_account = ranks(&[], Fair::AccountId);
        assert_ne!(by_account.account(&record("", "a")), by_account.account(&record("", "b")));
        assert_eq!(by_account.account(&record("x", "a")), by_account.account(&record("", "a")));
        let by_user = ranks(&[], Fair::UserId);
        assert_eq!(by_user.account(&record("", "a")), by_user.account(&record("", "b")));
        let by_address = ranks(&[], Fair::SourceAddress);
        let from = |address: &str| Record { peer: Some(address.parse().unwrap()), ..Record::new() };
        assert_eq!(by_address.account(&from("10.0.0.1:1")), by_address.account(&from("10.0.0.1:2")));
        assert_ne!(by_address.account(&from("10.0.0.1:1")), by_address.account(&from("10.0.0.2:1")));
        assert_eq!(ranks(&[], Fair::None).account(&record("", "a")), 0);
    }

    #[test]
    fn more_ranks_are_shed_the_more_memory_is_used_and_never_the_top_one() {
        let plain = ranks(&[], Fair::AccountId);
        assert_eq!([0, 500, 1000].map(|permille| plain.shed_below(permille)), [1, 1, 1], "TRACE only");
        let tiers = ranks(&["free", "silver", "gold"], Fair::AccountId);
        // _trace 0, _none 1, free 2, silver 3, gold 4
        assert_eq!(
            [0, 333, 334, 667, 999, 1000].map(|permille| tiers.shed_below(permille)),
            [2, 2, 3, 4, 4, 4]
        );
    }
}
