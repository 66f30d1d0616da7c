//! The table and its histograms.

use super::super::histogram::Histogram;
use super::super::table::LICENSES_MAX;
use super::*;
use crate::pipeline::Service;
use proptest::prelude::*;

fn service() -> Service {
    Service { name: "checkout".into(), ..Service::default() }
}

fn parts(live: &Live, after: Duration) -> Vec<(Way, Option<String>, Part)> {
    let report = live.report(&service(), at(Duration::ZERO), at(after), &[]);
    let edges = report.edges.into_iter();
    edges
        .flat_map(|edge| edge.parts.into_iter().map(move |part| (edge.direction, edge.to.clone(), part)))
        .collect()
}

#[test]
fn edges_are_told_apart_by_all_that_is_asked_for() {
    let live = Live::default();
    let now = Duration::from_secs(1);
    let plain = || record(Direction::Outbound, Some("payments"), 200, now);
    let mut rows = vec![plain(), plain(), licensed(plain(), "gold"), licensed(plain(), "free")];
    rows.push(record(Direction::Outbound, Some("stock"), 200, now));
    rows.push(record(Direction::Inbound, Some("spiffe://a/sa/shop"), 200, now));
    rows.push(record(Direction::Inbound, None, 200, now));
    let mut grpc = plain();
    (grpc.is_grpc, grpc.grpc_status) = (true, Some(14));
    let mut http2 = plain();
    http2.upstream_version = Some(crate::svc::Version::Http2);
    let mut bullet = plain();
    bullet.request_type = crate::context::RequestType::Trace;
    let mut routed = plain();
    routed.route = Some("gold-accounts".into());
    let mut bytes = plain();
    (bytes.is_opaque, bytes.status) = (true, 0);
    rows.extend([grpc, http2, bullet, routed, bytes]);
    let mut visit = live.visit();
    rows.iter().for_each(|record| visit.count(record));
    assert!(visit.end(at(now)).is_empty(), "nothing is declared, so nothing is undeclared");
    let parts = parts(&live, now);
    assert_eq!(parts.len(), rows.len() - 1, "two are alike");
    assert_eq!(parts.iter().map(|(.., part)| part.stats.calls).sum::<u64>(), rows.len() as u64);
    let find = |is_it: &dyn Fn(&Part) -> bool| {
        let mut found = parts.iter().filter(|(way, to, part)| {
            *way == Way::Outbound && to.as_deref() == Some("payments") && is_it(part)
        });
        let part = found.next().map(|(.., part)| part.clone());
        assert!(found.next().is_none());
        part.unwrap()
    };
    assert_eq!(find(&|part| part.license.as_deref() == Some("gold")).stats.calls, 1);
    let grpc = find(&|part| part.protocol == Protocol::Grpc).stats;
    assert_eq!((grpc.failures, grpc.outcomes[0].grpc_status), (1, Some(14)), "unavailable is a failure");
    let tcp = find(&|part| part.protocol == Protocol::Tcp).stats;
    assert_eq!((tcp.failures, tcp.calls), (0, 1), "a connection that ended well has no status");
    assert_eq!(find(&|part| part.protocol == Protocol::Http2).stats.calls, 1);
    assert_eq!(find(&|part| part.request_type == "TRACE").stats.calls, 1);
    assert_eq!(find(&|part| part.route.as_deref() == Some("gold-accounts")).stats.calls, 1);
    let peer = parts.iter().find(|(.., part)| part.peer.is_some()).unwrap();
    assert_eq!((peer.0, peer.2.peer.as_deref()), (Way::Inbound, Some("spiffe://a/sa/shop")));
}

#[test]
fn how_calls_ended_is_counted() {
    let live = Live::default();
    let now = Duration::from_secs(1);
    let mut visit = live.visit();
    for (status, cause) in [
        (200, None),
        (404, None),
        (503, Some(Kind::Overflow)),
        (503, Some(Kind::Overflow)),
        (0, Some(Kind::ClientGone)),
    ] {
        let mut record = record(Direction::Outbound, Some("payments"), status, now);
        (record.cause, record.request_bytes, record.response_bytes, record.attempts) = (cause, 3, 4, 2);
        visit.count(&record);
    }
    visit.end(at(now));
    let [(.., part)] = &parts(&live, now)[..] else { panic!("one edge") };
    let stats = &part.stats;
    assert_eq!((stats.calls, stats.failures, stats.attempts, stats.retries), (5, 3, 10, 5));
    assert_eq!((stats.request_bytes, stats.response_bytes), (15, 20));
    let outcomes: Vec<_> =
        stats.outcomes.iter().map(|it| (it.status, &*it.cause, it.flags(), it.calls)).collect();
    assert_eq!(
        outcomes,
        [(0, "client_gone", "DC", 1), (200, "", "-", 1), (404, "", "-", 1), (503, "overflow", "UO", 2)]
    );
    assert_eq!(
        (stats.first_seen, stats.last_seen),
        (Moment(START_US + SECOND_US), Moment(START_US + SECOND_US))
    );
}

#[test]
fn the_table_is_bounded_and_loses_no_call() {
    let config = Config { edges_max: 16, ..Config::default() };
    let live = Live::new(&config, 1);
    let now = Duration::from_secs(1);
    let mut visit = live.visit();
    for number in 0..500 {
        let mut record = record(Direction::Outbound, Some("payments"), 200, now);
        record.route = Some(format!("route-{number}").into());
        visit.count(&record);
        visit.count(&self::record(Direction::Inbound, Some(&format!("peer-{number}")), 200, now));
    }
    visit.end(at(now));
    let parts = parts(&live, now);
    assert!(parts.len() <= 2 * 16 + 2, "{}", parts.len());
    assert_eq!(parts.iter().map(|(.., part)| part.stats.calls).sum::<u64>(), 1000);
    let (edges, overflow) = live.size();
    assert_eq!((edges, overflow), (parts.len(), 1000 - 16));
    let of_route = |name| parts.iter().filter(|(.., part)| part.route.as_deref() == Some(name)).count();
    assert_eq!((of_route("route-0"), of_route("route-499")), (1, 0));
}

#[test]
fn licenses_of_strangers_do_not_fill_it() {
    let live = Live::default();
    let now = Duration::from_secs(1);
    let mut visit = live.visit();
    for number in 0..100 {
        visit.count(&licensed(record(Direction::Inbound, None, 200, now), &format!("license-{number}")));
    }
    visit.end(at(now));
    let parts = parts(&live, now);
    assert_eq!(parts.len(), LICENSES_MAX + 1);
    let other = parts.iter().find(|(.., part)| part.license.as_deref() == Some("_other")).unwrap();
    assert_eq!(other.2.stats.calls, 100 - LICENSES_MAX as u64);
}

#[test]
fn an_idle_edge_goes_and_comes_back() {
    let live = Live::new(&Config { idle: Duration::from_secs(600), ..Config::default() }, 1);
    let count = |cluster: &str, after: u64| {
        let mut visit = live.visit();
        visit.count(&record(Direction::Outbound, Some(cluster), 200, Duration::from_secs(after)));
        visit.end(at(Duration::from_secs(after)));
    };
    count("old", 1);
    count("new", 500);
    let names = |after| -> Vec<_> {
        let parts = parts(&live, Duration::from_secs(after));
        parts.into_iter().map(|(_, to, part)| (to.unwrap(), part.stats.calls)).collect()
    };
    assert_eq!(names(550), [("new".to_owned(), 1), ("old".to_owned(), 1)]);
    assert_eq!(names(700), [("new".to_owned(), 1)]);
    count("old", 701);
    assert_eq!(names(702), [("new".to_owned(), 1), ("old".to_owned(), 1)]);
}

proptest! {
    #[test]
    fn quantiles_are_within_a_twentieth(mut values in prop::collection::vec(0_u64..5_000_000_000, 1..300)) {
        let mut histogram = Histogram::default();
        values.iter().for_each(|value| histogram.observe_micros(*value));
        values.sort_unstable();
        prop_assert_eq!(histogram.count(), values.len() as u64);
        for share in [0.5, 0.9, 0.99, 1.0] {
            let rank = ((share * values.len() as f64).ceil() as usize).max(1);
            let (want, have) = (values[rank - 1] as f64, histogram.quantile(share).unwrap());
            prop_assert!((have - want).abs() <= want * 0.05, "{share}: {have} for {want}");
        }
    }

    #[test]
    fn merged_histograms_are_one(
        one in prop::collection::vec(any::<u64>(), 0..50),
        two in prop::collection::vec(0_u64..100_000, 0..50),
    ) {
        let of = |values: &mut dyn Iterator<Item = &u64>| {
            let mut histogram = Histogram::default();
            values.for_each(|value| histogram.observe_micros(*value));
            histogram
        };
        let (mut left, mut right) = (of(&mut one.iter()), of(&mut two.iter()));
        let all = of(&mut one.iter().chain(&two));
        let (first, second) = (left.clone(), right.clone());
        left.merge(&second);
        right.merge(&first);
        prop_assert_eq!(&left, &all);
        prop_assert_eq!(&right, &all);
        let text = serde_json::to_string(&all).unwrap();
        prop_assert_eq!(serde_json::from_str::<Histogram>(&text).unwrap(), all);
    }
}
