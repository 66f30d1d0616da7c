//! Many requests, caps, cancellations and endpoint updates at random, by seed: what must hold is asserted at each step.
//! `SIM_SEED=n` repeats one seed, `SIM_SEEDS=n` runs more of them.

use super::net::{Census, HTTP2, Worker, cluster, settle, target};
use crate::context::Rng;
use crate::error::Kind;
use std::sync::Arc;
use std::time::Duration;

#[tokio::test(flavor = "local", start_paused = true)]
async fn whatever_happens_the_cap_holds_and_every_place_comes_back() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seeds = match number("SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("SIM_SEEDS").unwrap_or(200),
    };
    for seed in seeds {
        run(seed).await;
    }
}

async fn run(seed: u64) {
    let mut rng = Rng::new(seed);
    let mut below = move |bound: u64| rng.next_u64() % bound;
    let limit = 1 + below(4) as usize;
    let ports = [1, 2, HTTP2, HTTP2 + 1, 3];
    let (cluster, census) = (cluster(&ports, limit, 4 + below(30) as usize), Arc::<Census>::default());
    let workers: Vec<_> =
        (0..1 + below(3)).map(|_| Worker::with_streams(&census, 1 + below(3) as usize)).collect();
    for worker in &workers {
        worker.net.latency.set(Duration::from_micros(below(3000)));
    }
    let mut tasks = Vec::new();
    for _ in 0..120 {
        let worker = &workers[below(workers.len() as u64) as usize];
        let index = below(cluster.endpoints().endpoints.len() as u64) as usize;
        let is_http2 = cluster.endpoints().endpoints[index].address.port() >= HTTP2;
        let act = if is_http2 { 0 } else { below(8) };
        let act = ["after", "after", "after", "after", "after", "after", "close", "leave"][act as usize];
        let task = worker.start(&cluster, index, &format!("/{act}/{}", below(40)));
        if below(6) == 0 {
            let (abort, after) = (task.abort_handle(), Duration::from_micros(below(60_000)));
            tokio::task::spawn_local(async move {
                tokio::time::sleep(after).await;
                abort.abort();
            });
        }
        tasks.push(task);
        if below(20) == 0 {
            let targets: Vec<_> = ports.iter().skip(below(4) as usize).map(|port| target(*port)).collect();
            cluster.update(&targets);
        }
        if below(10) == 0 {
            worker.pools.sweep(tokio::time::Instant::now());
        }
        tokio::time::sleep(Duration::from_micros(below(8000))).await;
        assert!(cluster.breakers.connections.active() <= limit as u64, "seed {seed}");
    }
    for task in tasks {
        let Ok(outcome) = task.await else { continue };
        match outcome.answer {
            Ok(status) => assert_eq!(status, 200),
            // A server that leaves may do so just as the next request is written.
            Err(error) => {
                let is_usual = matches!(error.kind(), Kind::Overflow | Kind::UpstreamClosed);
                assert!(is_usual, "seed {seed}: {error}");
                assert!(outcome.took <= Duration::from_millis(3200), "seed {seed}: {:?}", outcome.took);
            }
        }
    }
    assert!(census.peak() <= limit, "seed {seed}: {} connections, {limit} allowed", census.peak());
    for _ in 0..6 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        for worker in &workers {
            worker.pools.sweep(tokio::time::Instant::now());
        }
    }
    settle().await;
    let left = (census.open(), cluster.breakers.connections.active(), cluster.breakers.pending.active());
    assert_eq!((left, cluster.line.waiting()), ((0, 0, 0), 0), "seed {seed}");
}
