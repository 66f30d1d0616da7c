use super::*;
use crate::cluster::config::Balance;
use crate::cluster::{Config, Endpoint, Journal, Reason, Settings, Target};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

mod hashing;
mod health;
mod places;
mod policies;
mod simulation;

const MS: u64 = 1_000_000;
const SECOND: u64 = 1000 * MS;

/// Every policy that does not hash.
const DRAWN: [Policy; 4] = [Policy::PeakEwma, Policy::LeastRequest, Policy::RoundRobin, Policy::Random];

/// A cluster in the zone `a` that balances as `set` says.
fn cluster_with(set: impl FnOnce(&mut Balance), targets: &[Target]) -> Cluster {
    let mut config = Config::default();
    set(&mut config.balance);
    let cluster = Cluster::new("c", Settings::of(&config, "a"), None, Journal::none());
    cluster.update(targets);
    cluster
}

/// A cluster of endpoints with these weights, which are 127.0.0.1:1 and so on.
fn cluster(policy: Policy, weights: &[u32]) -> Cluster {
    let targets: Vec<Target> = (1..).zip(weights).map(|(port, weight)| weighted(port, *weight)).collect();
    cluster_with(|balance| balance.policy = policy, &targets)
}

fn target(port: u16) -> Target {
    Target::new(([127, 0, 0, 1], port).into())
}

fn weighted(port: u16, weight: u32) -> Target {
    Target { weight, ..target(port) }
}

/// So many endpoints of weight 1.
fn targets(count: u32) -> Vec<Target> {
    let address = |at: u32| SocketAddr::from(([10, (at >> 16) as u8, (at >> 8) as u8, at as u8], 80));
    (0..count).map(|at| Target::new(address(at))).collect()
}

/// xorshift64*: enough for choices, and the same in every run.
fn seeded(seed: u64) -> impl FnMut() -> u64 {
    let mut state = seed | 1;
    move || {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        state.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }
}

fn anyone() -> Wish<'static> {
    Wish::default()
}

fn without(tried: &[u64]) -> Wish<'_> {
    Wish { tried, ..Wish::default() }
}

fn of(hash: u64) -> Wish<'static> {
    Wish { hash: Some(hash), ..Wish::default() }
}

/// The number of the endpoint in the cluster, from 0.
fn index(choice: &Choice) -> usize {
    usize::from(choice.endpoint().address.port()) - 1
}

fn ids(cluster: &Cluster) -> Vec<u64> {
    cluster.endpoints().endpoints.iter().map(|endpoint| endpoint.id).collect()
}

fn endpoint(cluster: &Cluster, index: usize) -> Arc<Endpoint> {
    Arc::clone(&cluster.endpoints().endpoints[index])
}

fn observe(endpoint: &Endpoint, time: Duration, now_ns: u64) {
    endpoint.load.observe(time, now_ns);
}

/// How many of so many picks each endpoint gets; none stays in flight.
fn shares(cluster: &Cluster, wish: &Wish<'_>, picks: usize, now_ns: u64) -> HashMap<SocketAddr, usize> {
    let mut random = seeded(42);
    let mut shares = HashMap::new();
    for _ in 0..picks {
        let choice = pick(cluster, wish, &mut random, now_ns).unwrap();
        *shares.entry(choice.endpoint().address).or_default() += 1;
    }
    shares
}

/// The share of the endpoint with this number, in whole percents.
fn percent(cluster: &Cluster, index: usize, now_ns: u64) -> u64 {
    const PICKS: usize = 40_000;
    let shares = shares(cluster, &anyone(), PICKS, now_ns);
    let own = shares.get(&endpoint(cluster, index).address).copied().unwrap_or(0);
    (own as f64 / PICKS as f64 * 100.0).round() as u64
}
