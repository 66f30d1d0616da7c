//! Rate limits: buckets by key, shared by all workers, in bounded memory.
//!
//! What: a [`RateLimit`] allows so many requests in a time, for each value of a [`Part`] of requests: an account, a
//! user, a license, an address, any field. [`Limits`] keeps them (and the breakers of routes) while tables come and go.
//!
//! How: the generic cell rate algorithm, by the crate `governor`, on one number for each bucket; a request takes one
//! lock of several, for a look-up, or none where there is no key. Keys are hashes, so long values cost no memory. There
//! are at most `keys_max` buckets: then those that are full again are forgotten, a few with each new key, and if there
//! is none, requests with new keys share one bucket, which is counted ([`RateLimit::crowded`]). Envoy's local limits
//! forget the least recently used bucket there, and with it what it counted.
//!
//! Position: a word. [`crate::route`] compiles limits, [`crate::policy`] asks them. It counts by itself, since a limit
//! is shared; what a request was told is in its record.
//!
//! How it fails: it allows too little when keys are crowded or collide, never too much. Each proxy counts for itself.

mod bucket;
mod buckets;
mod fields;
mod limits;
mod part;
mod rate_limit;
mod settings;
#[cfg(test)]
mod tests;

pub use limits::{Limits, Placed, Scope};
pub use part::{Caller, Octets, Part};
pub use rate_limit::{Grant, Key, RateLimit, Standing};
pub use settings::{Rate, Settings};
