//! Pools and their caps, on a network in memory: what is asserted is what clients see, and what the servers do.

mod net;
mod simulation;
mod threads;

use crate::error::{Kind, Replay};
use crate::svc::Known;
use net::{HANGS, HTTP2, Worker, cluster, settle, target};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn is_about(took: Duration, millis: u64) -> bool {
    took.abs_diff(ms(millis)) < ms(15)
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn under_the_cap_a_request_waits_for_a_connection_to_come_back_in_the_order_of_arrival() {
    let (cluster, census) = (cluster(&[1], 1, 8), Arc::default());
    let worker = Worker::new(&census);
    let mut tasks = Vec::new();
    for _ in 0..4 {
        tasks.push(worker.start(&cluster, 0, "/after/100"));
        settle().await;
    }
    for (turn, task) in tasks.into_iter().enumerate() {
        let outcome = task.await.unwrap();
        assert_eq!(outcome.answer.as_ref().unwrap(), &200);
        assert!(is_about(outcome.took, 100 * (turn as u64 + 1)), "{turn}: {:?}", outcome.took);
        let waited = outcome.waited().map(|wait| (wait.as_millis() + 15) / 100);
        assert_eq!(waited, (turn > 0).then_some(turn as u128), "{turn}");
    }
    assert_eq!((worker.dials(), census.peak()), (1, 1), "the connection was used again");
    assert_eq!((cluster.breakers.pending.active(), cluster.breakers.connections.active()), (0, 1));
    assert_eq!(cluster.breakers.connections.refused(), 0);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_connection_that_ends_makes_room_for_the_next() {
    let (cluster, census) = (cluster(&[1], 1, 8), Arc::default());
    let worker = Worker::new(&census);
    let tasks: Vec<_> = (0..3).map(|_| worker.start(&cluster, 0, "/close/100")).collect();
    for task in tasks {
        assert_eq!(task.await.unwrap().answer.unwrap(), 200);
    }
    assert_eq!((worker.dials(), census.peak()), (3, 1));
    assert_eq!(cluster.breakers.connections.active(), 0);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn the_wait_ends_with_the_connect_timeout_and_names_the_cap() {
    let (cluster, census) = (cluster(&[1], 1, 8), Arc::default());
    let worker = Worker::new(&census);
    let busy = worker.start(&cluster, 0, "/after/5000");
    settle().await;
    let outcome = worker.ask(&cluster, 0, "/after/0").await;
    assert_eq!(outcome.took, ms(1000));
    assert_eq!(outcome.refusal(), Some(("connections", "cluster", 1, 2)));
    assert_eq!(outcome.waited(), Some(ms(1000)));
    let error = outcome.answer.unwrap_err();
    assert_eq!((error.kind(), error.replay()), (Kind::Overflow, Replay::Safe));
    let (head, body) = outcome.ctx.unsent.take().expect("head and content, for another try");
    assert!(head.fields.has(Known::IdempotencyKey) && body.is_end());
    assert_eq!((cluster.breakers.pending.active(), cluster.line.waiting()), (0, 0));
    assert_eq!(cluster.breakers.connections.refused(), 1);
    assert_eq!(busy.await.unwrap().answer.unwrap(), 200);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn no_more_requests_wait_than_may() {
    let (cluster, census) = (cluster(&[1], 1, 2), Arc::default());
    let worker = Worker::new(&census);
    let busy = worker.start(&cluster, 0, "/after/100");
    settle().await;
    let waiting: Vec<_> = (0..2).map(|_| worker.start(&cluster, 0, "/after/0")).collect();
    settle().await;
    let outcome = worker.ask(&cluster, 0, "/after/0").await;
    assert_eq!((outcome.took, outcome.refusal()), (ms(0), Some(("pending", "cluster", 2, 3))));
    assert!(outcome.ctx.unsent.take().is_some());
    for task in waiting.into_iter().chain([busy]) {
        assert_eq!(task.await.unwrap().answer.unwrap(), 200);
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_request_counts_as_pending_while_its_connection_is_made() {
    let (cluster, census) = (cluster(&[HANGS], 8, 1), Arc::default());
    let worker = Worker::new(&census);
    let connecting = worker.start(&cluster, 0, "/after/0");
    settle().await;
    let pending = worker.ask(&cluster, 0, "/after/0").await;
    assert_eq!(pending.refusal(), Some(("pending", "cluster", 1, 2)));
    assert_eq!(connecting.await.unwrap().answer.unwrap_err().kind(), Kind::ConnectTimeout);
    assert_eq!((cluster.breakers.pending.active(), cluster.breakers.connections.active()), (0, 0));
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn an_idle_connection_to_another_endpoint_makes_room_at_once() {
    let (cluster, census) = (cluster(&[1, 2, HTTP2], 1, 8), Arc::default());
    let worker = Worker::new(&census);
    for index in [0, 1, 2, 0, 2, 1] {
        let outcome = worker.ask(&cluster, index, "/after/0").await;
        assert_eq!(outcome.answer.unwrap(), 200);
        assert!(outcome.took < ms(1), "{index}: {:?}", outcome.took);
    }
    assert_eq!((worker.dials(), census.peak()), (6, 1));
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn what_is_idle_on_another_worker_makes_room_at_once() {
    let (cluster, census) = (cluster(&[1, HTTP2], 1, 8), Arc::default());
    let workers = [Worker::new(&census), Worker::new(&census), Worker::new(&census)];
    for turn in 0..12 {
        let outcome = workers[turn % 3].ask(&cluster, turn % 2, "/after/0").await;
        assert_eq!(outcome.answer.unwrap(), 200, "{turn}");
        assert!(outcome.took < ms(1), "{turn}: {:?}", outcome.took);
    }
    assert_eq!(census.peak(), 1);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn every_worker_and_endpoint_has_its_turn_under_load() {
    for ports in [[1, 2], [HTTP2, HTTP2 + 1]] {
        let (cluster, census) = (cluster(&ports, 1, 64), Arc::default());
        let workers = [Worker::new(&census), Worker::new(&census)];
        let end = Instant::now() + ms(2000);
        let mut clients = Vec::new();
        for client in 0..16_usize {
            let (worker, cluster) = (workers[client % 2].clone(), Arc::clone(&cluster));
            clients.push(tokio::task::spawn_local(async move {
                let mut done = 0;
                while Instant::now() < end {
                    let outcome = worker.ask(&cluster, client / 2 % 2, "/after/1").await;
                    assert_eq!(outcome.answer.unwrap(), 200);
                    done += 1;
                }
                done
            }));
        }
        let mut done = Vec::new();
        for client in clients {
            done.push(client.await.unwrap());
        }
        assert_eq!(census.peak(), 1);
        let (least, most) = (done.iter().min().unwrap(), done.iter().max().unwrap());
        assert!(least * 3 > *most, "{done:?}");
        // A place is not spent on handshakes alone.
        let dials: usize = workers.iter().map(|worker| worker.dials()).sum();
        assert!(dials < 200, "{dials} connections for {} requests", done.iter().sum::<usize>());
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_stream_that_ends_is_given_to_the_one_who_waits() {
    let (cluster, census) = (cluster(&[HTTP2], 1, 8), Arc::default());
    let worker = Worker::with_streams(&census, 2);
    let tasks: Vec<_> = (0..6).map(|_| worker.start(&cluster, 0, "/after/100")).collect();
    let mut tooks = Vec::new();
    for task in tasks {
        let outcome = task.await.unwrap();
        assert_eq!(outcome.answer.unwrap(), 200);
        tooks.push((outcome.took.as_millis() + 5) / 100);
    }
    assert_eq!(tooks, [1, 1, 2, 2, 3, 3]);
    assert_eq!(worker.dials(), 1);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn whoever_gives_up_leaves_its_place_to_the_next() {
    let (cluster, census) = (cluster(&[1, HTTP2], 1, 8), Arc::default());
    let worker = Worker::with_streams(&census, 1);
    for index in [0, 1] {
        let busy = worker.start(&cluster, index, "/after/100");
        settle().await;
        let gone: Vec<_> = (0..3).map(|_| worker.start(&cluster, index, "/after/0")).collect();
        settle().await;
        let patient = worker.start(&cluster, index, "/after/0");
        settle().await;
        // One before and one in the same moment as the connection comes back.
        gone[0].abort();
        tokio::time::sleep(ms(99)).await;
        gone[1].abort();
        gone[2].abort();
        let outcome = patient.await.unwrap();
        assert_eq!(outcome.answer.unwrap(), 200);
        assert!(is_about(outcome.took, 100), "{:?}", outcome.took);
        assert_eq!(busy.await.unwrap().answer.unwrap(), 200);
    }
    assert_eq!((cluster.breakers.pending.active(), cluster.line.waiting()), (0, 0));
    assert_eq!(cluster.breakers.connections.active(), 1);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_connection_that_the_upstream_closes_as_it_comes_back_is_made_anew() {
    let (cluster, census) = (cluster(&[1], 1, 8), Arc::default());
    let worker = Worker::new(&census);
    let first = worker.start(&cluster, 0, "/leave/10");
    settle().await;
    let second = worker.ask(&cluster, 0, "/after/0").await;
    assert_eq!((second.answer.unwrap(), first.await.unwrap().answer.unwrap()), (200, 200));
    assert_eq!((worker.dials(), census.peak()), (2, 1));
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_tunnel_is_a_connection_until_it_ends() {
    let (cluster, census) = (cluster(&[1], 1, 8), Arc::default());
    let worker = Worker::new(&census);
    let (answer, _ctx, _guard) = worker.head(&cluster, 0, "/upgrade/0").await;
    let tunnel = answer.unwrap().tunnel.expect("a tunnel");
    let endpoint = cluster.endpoints().endpoints[0].clone();
    let open = || endpoint.stats.connections.load(std::sync::atomic::Ordering::Relaxed);
    assert_eq!((cluster.breakers.connections.active(), open()), (1, 1));
    assert_eq!(worker.ask(&cluster, 0, "/after/0").await.answer.unwrap_err().kind(), Kind::Overflow);
    drop(tunnel);
    assert_eq!((cluster.breakers.connections.active(), open()), (0, 0));
    assert_eq!(worker.ask(&cluster, 0, "/after/0").await.answer.unwrap(), 200);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_connection_that_carries_bytes_counts_and_waits_like_others() {
    let (cluster, census) = (cluster(&[1], 1, 1), Arc::default());
    let worker = Worker::new(&census);
    let endpoint = cluster.endpoints().endpoints[0].clone();
    // What is idle makes room for it.
    assert_eq!(worker.ask(&cluster, 0, "/after/0").await.answer.unwrap(), 200);
    let (io, open) = worker.upstream().open(&cluster, &endpoint).await.unwrap();
    let started = Instant::now();
    let refused = worker.upstream().open(&cluster, &endpoint).await.map(|_| ()).unwrap_err();
    assert_eq!((refused.kind(), started.elapsed()), (Kind::Overflow, ms(1000)));
    let waiting = worker.start(&cluster, 0, "/after/0");
    settle().await;
    drop((io, open));
    let outcome = waiting.await.unwrap();
    assert_eq!(outcome.answer.unwrap(), 200);
    assert!(outcome.took < ms(5), "{:?}", outcome.took);
    assert_eq!(census.peak(), 1);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn only_the_connections_of_an_endpoint_that_is_gone_are_closed() {
    for port in [1, HTTP2] {
        let (cluster, census) = (cluster(&[port, port + 1, port + 2], 64, 64), Arc::default());
        let worker = Worker::new(&census);
        for index in 0..3 {
            assert_eq!(worker.ask(&cluster, index, "/after/0").await.answer.unwrap(), 200);
        }
        // In use while its endpoint goes.
        let busy = worker.start(&cluster, 1, "/after/3000");
        settle().await;
        cluster.update(&[target(port + 3), target(port + 2), target(port)]);
        worker.pools.sweep(Instant::now());
        settle().await;
        assert_eq!(census.open(), 3, "nothing that is in use, or stays, is closed");
        for _ in 0..3 {
            tokio::time::sleep(ms(1000)).await;
            for index in [1, 2] {
                assert_eq!(worker.ask(&cluster, index, "/after/0").await.answer.unwrap(), 200);
            }
            worker.pools.sweep(Instant::now());
        }
        assert_eq!(worker.dials(), 3, "endpoints that stay keep their connections");
        assert_eq!(busy.await.unwrap().answer.unwrap(), 200);
        worker.pools.sweep(Instant::now());
        settle().await;
        assert_eq!(census.open(), 2, "the one that was in use is closed when it is done");
        assert_eq!(cluster.breakers.connections.active(), 2);
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn an_idle_connection_of_a_gone_endpoint_is_closed_at_the_next_sweep() {
    for port in [1, HTTP2] {
        let (cluster, census) = (cluster(&[port, port + 1], 64, 64), Arc::default());
        let worker = Worker::new(&census);
        for index in 0..2 {
            assert_eq!(worker.ask(&cluster, index, "/after/0").await.answer.unwrap(), 200);
        }
        worker.pools.sweep(Instant::now());
        assert_eq!(census.open(), 2);
        cluster.update(&[target(port + 1)]);
        worker.pools.sweep(Instant::now());
        settle().await;
        assert_eq!(census.open(), 1);
    }
}
