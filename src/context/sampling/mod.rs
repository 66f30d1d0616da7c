//! Which traces are recorded.
//!
//! Decided once for a trace, by the first that comes to it, in this order:
//!
//! 1. the caller's sampled flag, where it counts (OpenTelemetry's `ParentBased`);
//! 2. what is forced, by account, user, flag, or because it is a tracer bullet;
//! 3. the ratio, by the trace id: the right-most 56 bits are a number that is at least `(1 − ratio) · 2⁵⁶`, as in
//!    <https://opentelemetry.io/docs/specs/otel/trace/tracestate-probability-sampling/>. W3C's random flag (level 2) says
//!    that those bits are random; where it is not set, a hash of all 16 bytes takes their place. Every sidecar
//!    of every version comes to the same result, and what a lower ratio chooses a higher one chooses too;
//! 4. a rate: traces that begin here each second (a token bucket, in the form of GCRA, ITU-T I.371).
//!
//! A caller that is not trusted can neither turn its traces off nor flood with them (envoyproxy/gateway#6387): its flag
//! counts only to record more, up to a rate; and because it chooses the trace id, its ratio is asked of a hash with a
//! secret seed.
//!
//! When an exchange ends, [`Keep`] looks once more: what failed or was slow is kept though its trace is not recorded.
//! Only this proxy's part of it is, for the others were told nothing.
//!
//! Nothing is shared between workers: each has its part of the rates. It cannot fail: a clock that steps back costs at
//! most one burst.

pub mod config;
#[cfg(test)]
mod tests;

use super::fields::{self, RequestType};
pub use config::{Config, Force, HonourParent, Keep};
use std::collections::BTreeSet;
use std::collections::HashSet;
use std::time::Duration;

/// What a decision is made of.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// The trace: that of the caller, or the new one.
    pub trace_id: [u8; 16],
    /// Whether its right-most 7 bytes are random (W3C's random flag); of a new one they are.
    pub is_random: bool,
    /// The caller's flag; `None`: the trace begins here.
    pub parent: Option<Parent>,
    /// The account that is believed; empty: none.
    pub account_id: &'a [u8],
    /// The user that is believed; empty: none.
    pub user_id: &'a [u8],
    /// The list of flags that is believed.
    pub flags: &'a [u8],
    /// The request type that is believed.
    pub request_type: RequestType,
}

/// A caller that brought a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parent {
    /// Its sampled flag.
    pub is_sampled: bool,
    /// Whether it is trusted.
    pub is_trusted: bool,
}

/// Whether a trace is recorded, and who decided that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The sampled flag of what goes on.
    pub sampled: bool,
    /// Who decided.
    pub by: SampledBy,
}

/// Who decided whether a trace is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SampledBy {
    /// The caller.
    Parent,
    /// The account is in the list.
    ForcedAccount,
    /// The user is in the list.
    ForcedUser,
    /// A flag is in the list.
    ForcedFlag,
    /// It is a tracer bullet.
    ForcedTrace,
    /// The ratio: it belongs to the part that is recorded, or does not.
    Ratio,
    /// It belongs to that part, but there were too many this second.
    RateLimit,
    /// Nothing is recorded: the ratio is 0.
    None,
}

impl SampledBy {
    /// The stable name in events and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            SampledBy::Parent => "parent",
            SampledBy::ForcedAccount => "forced_account",
            SampledBy::ForcedUser => "forced_user",
            SampledBy::ForcedFlag => "forced_flag",
            SampledBy::ForcedTrace => "forced_trace",
            SampledBy::Ratio => "ratio",
            SampledBy::RateLimit => "rate_limit",
            SampledBy::None => "none",
        }
    }
}

/// Decides. One for each worker.
#[derive(Clone, Debug)]
pub struct Sampler {
    honour_parent: HonourParent,
    untrusted: Bucket,
    accounts: Set,
    users: Set,
    flags: Set,
    forces_trace: bool,
    /// The least number that is recorded, of 2⁵⁶; 2⁵⁶ itself records nothing.
    threshold: u64,
    /// `None`: there is no limit.
    rate: Option<Bucket>,
    seed: u64,
}

type Set = HashSet<Box<[u8]>, foldhash::fast::RandomState>;

/// How many numbers the right-most 7 bytes are.
const NUMBERS: u64 = 1 << 56;

impl Sampler {
    /// The part of one of `workers` workers. `seed` is random, the same for all workers of the process, and not told to
    /// anybody.
    pub fn new(config: &Config, workers: usize, seed: u64) -> Sampler {
        let set = |texts: &BTreeSet<String>| texts.iter().map(|text| text.as_bytes().into()).collect::<Set>();
        let bucket = |per_second: usize| Bucket::new(per_second as u64, workers as u64);
        Sampler {
            honour_parent: config.honour_parent,
            untrusted: bucket(config.untrusted_traces_per_second as usize),
            accounts: set(&config.force.account_id),
            users: set(&config.force.user_id),
            flags: set(&config.force.flags),
            forces_trace: config.force.trace,
            threshold: threshold(config.ratio),
            rate: config.traces_per_second.map(bucket),
            seed,
        }
    }

    /// Decides about a trace. `now_ns` is nanoseconds on a clock that goes on evenly, from any start.
    pub fn decide(&mut self, question: &Question<'_>, now_ns: u64) -> Decision {
        if let Some(sampled) = question.parent.and_then(|parent| self.honoured(parent, now_ns)) {
            return Decision { sampled, by: SampledBy::Parent };
        }
        if let Some(by) = self.forced(question) {
            return Decision { sampled: true, by };
        }
        if self.threshold == NUMBERS {
            return Decision { sampled: false, by: SampledBy::None };
        }
        if self.number(question) < self.threshold {
            return Decision { sampled: false, by: SampledBy::Ratio };
        }
        if self.rate.as_mut().is_some_and(|rate| !rate.take(now_ns)) {
            return Decision { sampled: false, by: SampledBy::RateLimit };
        }
        Decision { sampled: true, by: SampledBy::Ratio }
    }

    /// The caller's flag, where it counts.
    fn honoured(&mut self, parent: Parent, now_ns: u64) -> Option<bool> {
        match self.honour_parent {
            HonourParent::Always => Some(parent.is_sampled),
            HonourParent::Trusted if parent.is_trusted => Some(parent.is_sampled),
            HonourParent::Trusted if parent.is_sampled => self.untrusted.take(now_ns).then_some(true),
            HonourParent::Trusted | HonourParent::Never => None,
        }
    }

    fn forced(&self, question: &Question<'_>) -> Option<SampledBy> {
        let has = |set: &Set, value: &[u8]| !set.is_empty() && set.contains(value);
        if has(&self.accounts, question.account_id) {
            return Some(SampledBy::ForcedAccount);
        }
        if has(&self.users, question.user_id) {
            return Some(SampledBy::ForcedUser);
        }
        if !self.flags.is_empty() && fields::flags(question.flags).any(|flag| self.flags.contains(flag)) {
            return Some(SampledBy::ForcedFlag);
        }
        let is_forced = self.forces_trace && question.request_type == RequestType::Trace;
        is_forced.then_some(SampledBy::ForcedTrace)
    }

    /// The number below 2⁵⁶ that the ratio is asked of.
    fn number(&self, question: &Question<'_>) -> u64 {
        let id = u128::from_be_bytes(question.trace_id);
        let (high, low) = ((id >> 64) as u64, id as u64);
        match question.parent {
            Some(Parent { is_trusted: false, .. }) => hash(high, low, self.seed) % NUMBERS,
            _ if question.is_random => low % NUMBERS,
            _ => hash(high, low, 0) % NUMBERS,
        }
    }
}

/// The least of 2⁵⁶ numbers that is recorded. What is no number records nothing.
fn threshold(ratio: f64) -> u64 {
    let ratio = if ratio.is_nan() { 0.0 } else { ratio.clamp(0.0, 1.0) };
    // Exact for every ratio that a person writes: 2⁵⁶ is a power of two, and the cast cannot leave 0..=2⁵⁶.
    NUMBERS - ((ratio * NUMBERS as f64).round() as u64).min(NUMBERS)
}

/// The same in every version, as sidecars have to agree: MurmurHash3's `fmix64` over both halves, in turn.
fn hash(high: u64, low: u64, seed: u64) -> u64 {
    mix(mix(high ^ seed ^ 0x9e37_79b9_7f4a_7c15).wrapping_add(low) ^ seed.rotate_left(32))
}

/// `fmix64` by Austin Appleby: a permutation in which every bit of the result depends on every bit of `number`.
fn mix(number: u64) -> u64 {
    let mixed = (number ^ (number >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    let mixed = (mixed ^ (mixed >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    mixed ^ (mixed >> 33)
}

/// A token bucket as one number: when it will be full again. It holds what comes in a second, and at least one.
#[derive(Clone, Debug)]
struct Bucket {
    /// The time for one; 0: there is none, ever.
    interval_ns: u64,
    /// How far ahead `full_ns` may be for one more to fit.
    tolerance_ns: u64,
    full_ns: u64,
}

impl Bucket {
    fn new(per_second: u64, workers: u64) -> Bucket {
        const SECOND_NS: u64 = 1_000_000_000;
        let workers = workers.max(1);
        let interval_ns = SECOND_NS.saturating_mul(workers).checked_div(per_second).map_or(0, |ns| ns.max(1));
        Bucket { interval_ns, tolerance_ns: SECOND_NS.saturating_sub(interval_ns), full_ns: 0 }
    }

    fn take(&mut self, now_ns: u64) -> bool {
        if self.interval_ns == 0 {
            return false;
        }
        let ahead_ns = self.full_ns.saturating_sub(now_ns);
        if ahead_ns > self.tolerance_ns.saturating_add(self.interval_ns) {
            self.full_ns = now_ns; // it can never be this far ahead: the clock stepped back
        } else if ahead_ns > self.tolerance_ns {
            return false;
        }
        let Some(full_ns) = self.full_ns.max(now_ns).checked_add(self.interval_ns) else { return false };
        self.full_ns = full_ns;
        true
    }
}

/// How an exchange ended, for [`Keep`].
#[derive(Clone, Copy, Debug)]
pub struct Ended {
    /// The status that the client was given; 0: none.
    pub status: u16,
    /// `grpc-status`, of gRPC.
    pub grpc_status: Option<u8>,
    /// No answer was given, or it was cut, or an attempt at it failed for good.
    pub is_failed: bool,
    /// How long it took. Of a stream or a tunnel, which are long because they are used: to the head of the answer.
    pub duration: Duration,
}

/// Why an exchange is kept though its trace is not recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeptBy {
    /// It failed.
    Error,
    /// It was slow.
    Slow,
}

impl KeptBy {
    /// The stable name in events and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            KeptBy::Error => "error",
            KeptBy::Slow => "slow",
        }
    }
}

impl Keep {
    /// Whether what ended so is kept, and why.
    pub fn keeps(&self, ended: &Ended) -> Option<KeptBy> {
        if self.errors && ended.is_error() {
            return Some(KeptBy::Error);
        }
        self.slower_than.filter(|bound| ended.duration > *bound).map(|_| KeptBy::Slow)
    }
}

impl Ended {
    /// Whether a server is to blame, as OpenTelemetry's conventions say of spans of kind SERVER: HTTP 500 and more, and
    /// gRPC's UNKNOWN, DEADLINE_EXCEEDED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE and DATA_LOSS.
    fn is_error(&self) -> bool {
        self.is_failed || self.status >= 500 || matches!(self.grpc_status, Some(2 | 4 | 12 | 13 | 14 | 15))
    }
}
