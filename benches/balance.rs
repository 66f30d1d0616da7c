//! Balancing alone: a pick, with each policy, among 10 and 10,000 endpoints; what an update of the endpoints costs, and
//! what a change of their health. A pick must stay below a microsecond, and an update below ten milliseconds, also with
//! 10,000 endpoints.

use criterion::{BatchSize, BenchmarkId, Criterion, criterion_group, criterion_main};
use sidelight::{
    balance::{Wish, pick},
    cluster::{
        Cluster, Config, Journal, Policy, Reason, Settings, Target,
        config::{SubsetFrom, SubsetValue},
        mix,
    },
    context::Rng,
};
use std::{hint::black_box, net::SocketAddr, time::Duration};

const SIZES: [u32; 2] = [10, 10_000];
const POLICIES: [Policy; 6] = [
    Policy::PeakEwma,
    Policy::LeastRequest,
    Policy::RoundRobin,
    Policy::Random,
    Policy::RingHash,
    Policy::Maglev,
];
/// A second after the start, in nanoseconds.
const NOW_NS: u64 = 1_000_000_000;

/// Endpoints in three zones, of different weights if so.
fn targets(count: u32, is_weighted: bool) -> Vec<Target> {
    let address = |at: u32| SocketAddr::from(([10, (at >> 16) as u8, (at >> 8) as u8, at as u8], 80));
    (0..count)
        .map(|at| {
            let mut target = Target::new(address(at));
            target.weight = if is_weighted { 1 + at % 7 } else { 1 };
            target.zone = Some(["a", "b", "c"][at as usize % 3].into());
            target.labels.insert("shard".into(), (at % 100).to_string());
            target
        })
        .collect()
}

/// A cluster of a service in the zone `zone`, with an average for every endpoint.
fn cluster(config: &Config, zone: &str, targets: &[Target]) -> Cluster {
    let cluster = Cluster::new("bench", Settings::of(config, zone), None, Journal::none());
    cluster.update(targets);
    for (at, endpoint) in (0..).zip(&cluster.endpoints().endpoints) {
        endpoint.load.observe(Duration::from_micros(1000 + mix(at) % 1000), NOW_NS);
    }
    cluster
}

fn with(policy: Policy) -> Config {
    let mut config = Config::default();
    config.balance.policy = policy;
    config
}

fn name(policy: Policy, is_weighted: bool) -> String {
    format!("{policy:?}{}", if is_weighted { ", weighted" } else { "" })
}

fn picks(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("pick");
    for size in SIZES {
        for policy in POLICIES {
            for is_weighted in [false, true] {
                let cluster = cluster(&with(policy), "", &targets(size, is_weighted));
                let mut rng = Rng::new(1);
                group.bench_function(BenchmarkId::new(name(policy, is_weighted), size), |bencher| {
                    bencher.iter(|| {
                        let hash = policy.is_hash().then(|| rng.next_u64());
                        let wish = Wish { hash, ..Wish::default() };
                        pick(&cluster, black_box(&wish), &mut || rng.next_u64(), NOW_NS)
                    });
                });
            }
        }
        let zoned = cluster(&with(Policy::PeakEwma), "a", &targets(size, true));
        let mut rng = Rng::new(1);
        group.bench_function(BenchmarkId::new("PeakEwma, weighted, zones", size), |bencher| {
            bencher.iter(|| pick(&zoned, black_box(&Wish::default()), &mut || rng.next_u64(), NOW_NS));
        });
        let tried: Vec<u64> =
            zoned.endpoints().endpoints.iter().take(3).map(|endpoint| endpoint.id).collect();
        group.bench_function(BenchmarkId::new("PeakEwma, weighted, zones, third try", size), |bencher| {
            let wish = Wish { tried: &tried, ..Wish::default() };
            bencher.iter(|| pick(&zoned, black_box(&wish), &mut || rng.next_u64(), NOW_NS));
        });
        let mut config = with(Policy::PeakEwma);
        let from = SubsetValue::Request(SubsetFrom::Header("shard".into()));
        config.balance.subset.insert("shard".into(), from);
        let subsets = cluster(&config, "", &targets(size, true));
        group.bench_function(BenchmarkId::new("PeakEwma, weighted, subset", size), |bencher| {
            let wish = Wish { values: &[Some(b"7")], ..Wish::default() };
            bencher.iter(|| pick(&subsets, black_box(&wish), &mut || rng.next_u64(), NOW_NS));
        });
    }
    group.finish();
}

fn updates(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("update");
    group.sample_size(20);
    for size in SIZES {
        for (policy, is_weighted) in [
            (Policy::PeakEwma, true),
            (Policy::RingHash, false),
            (Policy::RingHash, true),
            (Policy::Maglev, false),
            (Policy::Maglev, true),
        ] {
            let cluster = cluster(&with(policy), "a", &targets(size, is_weighted));
            let all = targets(size, is_weighted);
            let mut is_less = false;
            group.bench_function(BenchmarkId::new(name(policy, is_weighted), size), |bencher| {
                bencher.iter(|| {
                    // The last endpoint goes and comes back.
                    is_less = !is_less;
                    cluster.update(all.get(..all.len() - usize::from(is_less)).unwrap_or_default());
                });
            });
        }
    }
    group.finish();
    let mut group = criterion.benchmark_group("health");
    group.sample_size(20);
    for size in SIZES {
        for policy in [Policy::PeakEwma, Policy::Maglev] {
            let cluster = cluster(&with(policy), "a", &targets(size, true));
            let set = cluster.endpoints();
            let Some(endpoint) = set.endpoints.first() else { continue };
            group.bench_function(BenchmarkId::new(format!("new plan, {policy:?}"), size), |bencher| {
                let change = || {
                    cluster.leave_out(endpoint, Reason::Ejected);
                    cluster.restore(endpoint, Reason::Ejected, NOW_NS);
                };
                bencher.iter_batched(change, |()| cluster.replan(NOW_NS), BatchSize::PerIteration);
            });
        }
    }
    group.finish();
}

criterion_group!(benches, picks, updates);
criterion_main!(benches);
