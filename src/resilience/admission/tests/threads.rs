//! The gate, from several threads at once.

use super::super::gate::Gate;
use super::*;
use std::sync::atomic::{AtomicU32, Ordering};

/// Many threads, one gate: nobody is forgotten, and there are never too many.
#[test]
fn threads_share_the_places_and_nobody_is_forgotten() {
    const LIMIT: u32 = 3;
    const ROUNDS: u32 = 400;
    let gate = Arc::new(Gate::new(&Concurrency { queue_max: 10_000, ..fixed(LIMIT) }, 1));
    let active = Arc::new(AtomicU32::new(0));
    let visitor = |seed: u64| {
        let (gate, active) = (Arc::clone(&gate), Arc::clone(&active));
        async move {
            let mut rng = Rng::new(seed);
            let (mut done, mut most) = (0, 0);
            for round in 0..ROUNDS {
                if !gate.try_enter() {
                    let spot = gate.join(rng.next_u64() as usize % 3, rng.next_u64() % 5).unwrap();
                    let outcome = if rng.next_u64().is_multiple_of(8) {
                        tokio::task::yield_now().await;
                        gate.give_up(&spot)
                    } else {
                        Some(std::future::poll_fn(|cx| spot.turn.poll(cx.waker())).await)
                    };
                    if outcome.is_none() {
                        continue;
                    }
                }
                most = most.max(active.fetch_add(1, Ordering::SeqCst) + 1);
                if round % 3 == 0 {
                    tokio::task::yield_now().await;
                }
                active.fetch_sub(1, Ordering::SeqCst);
                gate.leave();
                done += 1;
            }
            (done, most)
        }
    };
    let threads: Vec<_> = (0..4u64)
        .map(|thread| {
            let visitors: Vec<_> = (0..6).map(|visit| visitor(thread * 6 + visit)).collect();
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                runtime.block_on(async {
                    let tasks: Vec<_> = visitors.into_iter().map(tokio::spawn).collect();
                    let mut told = Vec::new();
                    for task in tasks {
                        told.push(task.await.unwrap());
                    }
                    told
                })
            })
        })
        .collect();
    let told: Vec<(u32, u32)> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
    assert!(told.iter().all(|(done, most)| *done > ROUNDS / 2 && *most <= LIMIT), "{told:?}");
    assert_eq!((gate.in_flight(), gate.waiting()), (0, 0));
}
