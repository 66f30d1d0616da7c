//! Workers as they are: threads, each with its own runtime, that share nothing but the cluster.

use super::net::{Census, HTTP2, Worker, cluster_within};
use std::sync::Arc;
use std::time::Duration;

/// Fewer connections than workers: each has its turn, the cap holds, and nobody is forgotten. On real time, because
/// threads have no other; nothing here waits for time to pass.
#[test]
fn fewer_connections_than_workers_serve_all_of_them() {
    for port in [1, HTTP2] {
        let patience = Duration::from_secs(60); // whoever is forgotten fails the test, a busy machine does not
        let cluster = cluster_within(patience, &[port, port + 1], 2, 256);
        let census = Arc::<Census>::default();
        let threads: Vec<_> = (0..4)
            .map(|seed: usize| {
                let (cluster, census) = (Arc::clone(&cluster), Arc::clone(&census));
                std::thread::spawn(move || {
                    let runtime = tokio::runtime::Builder::new_current_thread()
                        .enable_all()
                        .build_local(Default::default())
                        .unwrap();
                    runtime.block_on(async move {
                        let worker = Worker::new(&census);
                        for round in 0..40 {
                            let tasks: Vec<_> = (0..4)
                                .map(|n| worker.start(&cluster, (seed + round + n) % 2, "/after/0"))
                                .collect();
                            for task in tasks {
                                let outcome = task.await.unwrap();
                                assert_eq!(outcome.answer.unwrap(), 200, "after {:?}", outcome.took);
                            }
                            if round % 10 == 9 {
                                // Idle for a moment, with connections that the others need.
                                tokio::time::sleep(Duration::from_millis(5)).await;
                            }
                        }
                    });
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        assert!(census.peak() <= 2, "{} connections", census.peak());
        assert_eq!((cluster.breakers.connections.active(), cluster.line.waiting()), (0, 0));
        assert_eq!(cluster.breakers.pending.active(), 0);
    }
}
