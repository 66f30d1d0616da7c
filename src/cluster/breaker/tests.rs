use super::*;
use crate::cluster::config::{Breaker as Terms, CircuitBreaker};
use crate::cluster::{Config, Settings};
use tokio::sync::mpsc::Receiver;

const SECOND_NS: u64 = 1_000_000_000;
const BAD: Outcome = Outcome::Answered { status: 503, grpc: None, retry_after: None };
const OK: Outcome = Outcome::Answered { status: 200, grpc: None, retry_after: None };

fn cluster(circuit_breaker: CircuitBreaker) -> (Cluster, Receiver<Change>) {
    let (journal, changes) = Journal::new();
    let config = Config { circuit_breaker, ..Config::default() };
    (Cluster::new("payments", Settings::of(&config, ""), None, journal), changes)
}

#[test]
fn a_refusal_names_breaker_scope_name_limit_and_value() {
    let (cluster, _) = cluster(CircuitBreaker {
        requests: Some(1),
        requests_per_account: Some(1),
        breaker: Some(Terms { jitter_percent: 0, ..Terms::default() }),
        ..CircuitBreaker::NONE
    });
    let breakers = &cluster.breakers;
    let said = |refusal: &Refusal| {
        let Refusal { breaker, scope, name, limit, current, retry_after, .. } = refusal;
        (*breaker, *scope, name.to_string(), *limit, *current, *retry_after)
    };
    assert_eq!(breakers.enter(&breakers.requests), Ok(()));
    let refusal = breakers.enter(&breakers.requests).unwrap_err();
    assert_eq!(said(&refusal), ("requests", "cluster", "payments".into(), 1, 2, None));
    let _place = breakers.enter_account("acme").unwrap();
    let refusal = breakers.enter_account("acme").unwrap_err();
    assert_eq!(said(&refusal), ("requests_per_account", "account", "acme".into(), 1, 2, None));
    for _ in 0..5 {
        breakers.observe(BAD, Duration::ZERO, SECOND_NS, &cluster);
    }
    let refusal = breakers.try_probe(true, SECOND_NS, &cluster).unwrap_err();
    let second = Some(Duration::from_secs(1));
    assert_eq!(said(&refusal), ("breaker", "cluster", "payments".into(), 80, 0, second));
}

#[test]
fn changes_of_the_state_are_told() {
    let (cluster, mut changes) = cluster(CircuitBreaker {
        breaker: Some(Terms { jitter_percent: 0, ..Terms::default() }),
        ..CircuitBreaker::NONE
    });
    let breakers = &cluster.breakers;
    assert!(breakers.is_closed());
    for _ in 0..5 {
        breakers.observe(BAD, Duration::ZERO, 0, &cluster);
    }
    assert!(!breakers.is_closed());
    let _probe = breakers.try_probe(true, SECOND_NS, &cluster).unwrap().unwrap();
    // It took half a second, so it began after the breaker was half-open.
    breakers.observe(OK, Duration::from_millis(500), 2 * SECOND_NS, &cluster);
    assert!(breakers.is_closed());
    assert!(breakers.try_probe(true, 2 * SECOND_NS, &cluster).unwrap().is_none());
    let told: Vec<What> = std::iter::from_fn(|| changes.try_recv().ok()).map(|change| change.what).collect();
    let name: Arc<str> = "payments".into();
    assert_eq!(
        told,
        [
            What::BreakerOpened {
                scope: "cluster",
                name: Arc::clone(&name),
                reason: "success_rate",
                time: Duration::from_secs(1),
                why: "0 of 5 requests succeeded within 10s, less than 80 %; the last: 503".into(),
            },
            What::BreakerHalfOpen { scope: "cluster", name: Arc::clone(&name) },
            What::BreakerClosed { scope: "cluster", name },
        ]
    );
}

#[test]
fn a_report_shows_every_breaker_of_a_cluster_and_those_that_a_route_has() {
    let (cluster, _) = cluster(CircuitBreaker {
        requests: Some(1),
        requests_per_account: Some(5),
        breaker: Some(Terms { jitter_percent: 0, ..Terms::default() }),
        ..CircuitBreaker::default()
    });
    let breakers = &cluster.breakers;
    breakers.enter(&breakers.requests).unwrap();
    let _ = breakers.enter(&breakers.requests);
    let _places = [breakers.enter_account("a").unwrap(), breakers.enter_account("a").unwrap()];
    breakers.observe(OK, Duration::ZERO, 0, &cluster);
    for _ in 0..4 {
        breakers.observe(BAD, Duration::ZERO, 0, &cluster);
    }
    let _ = breakers.try_probe(true, 0, &cluster);
    let shown: Vec<_> = breakers
        .report(SECOND_NS / 2)
        .into_iter()
        .map(|row| (row.breaker, row.limit, row.current, row.refused, row.state))
        .collect();
    assert_eq!(
        shown,
        [
            ("connections", Some(1024), 0, 0, "closed"),
            ("pending", Some(1024), 0, 0, "closed"),
            ("requests", Some(1), 1, 1, "open"),
            ("retries", None, 0, 0, "closed"),
            ("requests_per_account", Some(5), 2, 0, "closed"),
            ("breaker", Some(80), 20, 1, "open"),
        ]
    );
    let rows = breakers.report(SECOND_NS / 2);
    assert_eq!(rows[4].accounts, Some(1));
    assert_eq!(rows[5].retry_after, Some(Duration::from_millis(500)));
    assert_eq!((rows[5].opened, rows[5].success_percent), (Some(1), Some(20)));

    let config = CircuitBreaker { requests: Some(2), ..CircuitBreaker::NONE };
    let route = Breakers::new("route", &"checkout".into(), &config, &Journal::none());
    let rows = route.report(0);
    assert_eq!(rows.len(), 1);
    assert_eq!((rows[0].scope, &*rows[0].name, rows[0].breaker), ("route", "checkout", "requests"));
}
