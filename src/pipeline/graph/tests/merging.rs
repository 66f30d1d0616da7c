//! Many sidecars as one map.

use super::super::diff::{Change, diff};
use super::super::map::NodeKind;
use super::*;
use Way::{Inbound, Outbound};
use proptest::prelude::*;

fn none() -> Aliases {
    Aliases::new()
}

#[test]
fn a_call_between_two_sidecars_is_there_once() {
    let shop =
        report("shop", 1, &[(Inbound, None, "gold", 200, 5), (Outbound, Some("payments"), "gold", 200, 4)]);
    let payments = report("payments", 1, &[(Inbound, None, "gold", 200, 4)]);
    let (graph, none) = (graph([shop, payments]), none());
    let map = Map::of(&graph, &none);
    assert_eq!(calls(&map), [call("clients", "shop", 5), call("shop", "payments", 4)]);
    let link = &map.links[1];
    assert_eq!((link.source_calls, link.destination_calls), (Some(4), Some(4)));
    assert!(map.findings.is_empty(), "{:?}", map.findings);
}

#[test]
fn who_is_known_by_a_certificate_is_not_one_of_the_clients() {
    let identity = "spiffe://cluster.local/ns/default/sa/shop";
    let shop = report("shop", 1, &[(Outbound, Some("payments"), "", 200, 4)]);
    let rows = [
        (Inbound, Some(identity), "", 200, 4),
        (Inbound, Some("stranger"), "", 200, 2),
        (Inbound, None, "", 200, 3),
    ];
    let payments = report("payments", 1, &rows);
    let (graph, none) = (graph([shop, payments]), none());
    let map = Map::of(&graph, &none);
    let want = [call("clients", "payments", 3), call("shop", "payments", 4), call("stranger", "payments", 2)];
    assert_eq!(calls(&map), want);
    assert_eq!(
        map.nodes.iter().find(|node| node.name == "stranger").map(|node| node.kind),
        Some(NodeKind::Peer)
    );
}

#[test]
fn what_the_two_sides_disagree_about_is_a_finding() {
    let shop = || report("shop", 1, &[(Outbound, Some("payments"), "", 200, 9)]);
    let (past, none) = (graph([shop(), report("payments", 1, &[(Inbound, None, "", 200, 7)])]), none());
    let findings = Map::of(&past, &none).findings;
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert!(findings[0].text.contains("2 went past them"), "{findings:?}");
    let rows = [(Inbound, Some("shop"), "", 200, 12)];
    let more = graph([shop(), report("payments", 1, &rows)]);
    let findings = Map::of(&more, &none).findings;
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert_eq!(findings[0].from.as_deref(), Some("shop"));
}

#[test]
fn a_cluster_with_another_name_is_the_service_that_it_is_said_to_be() {
    let rows = [(Outbound, Some("payments-gold"), "", 200, 2), (Outbound, Some("payments-free"), "", 200, 3)];
    let of = |shop: Report| graph([shop, report("payments", 1, &[(Inbound, None, "", 200, 5)])]);
    let alias = |cluster: &str| (cluster.to_owned(), "payments".to_owned());
    let (plain, none) = (of(report("shop", 1, &rows)), none());
    let want =
        [call("clients", "payments", 5), call("shop", "payments-free", 3), call("shop", "payments-gold", 2)];
    assert_eq!(calls(&Map::of(&plain, &none)), want);
    let aliases = Aliases::from([alias("payments-gold"), alias("payments-free")]);
    assert_eq!(calls(&Map::of(&plain, &aliases)), [call("shop", "payments", 5)]);
    let mut declared = report("shop", 1, &rows);
    declared.edges.iter_mut().for_each(|edge| edge.service = Some("payments".into()));
    assert_eq!(calls(&Map::of(&of(declared), &none)), [call("shop", "payments", 5)]);
}

#[test]
fn services_of_one_name_in_two_namespaces_are_two() {
    let in_namespace = |namespace: &str, rows: &[_]| {
        let mut report = report("payments", 1, rows);
        report.service.namespace = namespace.into();
        report
    };
    let mut shop = report(
        "shop",
        1,
        &[(Outbound, Some("payments"), "", 200, 2), (Outbound, Some("payments.test"), "", 200, 1)],
    );
    shop.service.namespace = "live".into();
    let reports = [in_namespace("live", &[]), in_namespace("test", &[]), shop];
    let (graph, none) = (graph(reports), none());
    let map = Map::of(&graph, &none);
    assert_eq!(calls(&map), [call("shop", "payments", 2), call("shop", "payments (test)", 1)]);
}

#[test]
fn what_is_new_gone_or_worse_is_a_difference() {
    let of = |rows: &[_]| graph([report("shop", 1, rows)]);
    let (before, none) =
        (of(&[(Outbound, Some("a"), "", 200, 50), (Outbound, Some("b"), "", 200, 50)]), none());
    let after = of(&[
        (Outbound, Some("a"), "", 200, 40),
        (Outbound, Some("a"), "", 503, 10),
        (Outbound, Some("c"), "", 200, 1),
    ]);
    let (old, new) = (Map::of(&before, &none), Map::of(&after, &none));
    let found = diff(&old, &new);
    let found: Vec<_> = found.iter().map(|it| (it.change, it.to.as_str(), it.before, it.after)).collect();
    let want = [
        (Change::New, "c", None, Some(0.1)),
        (Change::Gone, "b", Some(5.0), None),
        (Change::Errors, "a", Some(0.0), Some(0.2)),
    ];
    assert_eq!(found, want);
    assert!(diff(&old, &old).is_empty() && diff(&new, &new).is_empty());
}

fn any_report() -> impl Strategy<Value = Report> {
    let end = prop::option::of(prop::sample::select(vec!["a", "b", "payments"]));
    let row = (
        prop::bool::ANY,
        end,
        prop::sample::select(vec!["", "gold"]),
        prop::sample::select(vec![0, 200, 503]),
        0_u64..4,
    );
    let rows = prop::collection::vec(row, 0..5);
    (prop::sample::select(vec!["a", "b", "c"]), 1_u64..3, rows).prop_map(|(name, epoch, rows)| {
        let rows: Vec<_> = rows
            .into_iter()
            .map(|(is_in, end, license, status, calls)| {
                (if is_in { Inbound } else { Outbound }, end, license, status, calls)
            })
            .collect();
        report(name, epoch, &rows)
    })
}

proptest! {
    #[test]
    fn merging_does_not_depend_on_order_or_on_being_done_twice(
        reports in prop::collection::vec(any_report(), 0..6),
        cut in 0_usize..6,
    ) {
        let all = graph(reports.clone());
        let mut backwards = graph(reports.iter().rev().cloned());
        prop_assert_eq!(&backwards, &all);
        let (left, right) = reports.split_at(cut.min(reports.len()));
        let mut halves = graph(left.iter().cloned());
        halves.merge(graph(right.iter().cloned()));
        prop_assert_eq!(&halves, &all);
        backwards.merge(all.clone());
        prop_assert_eq!(&backwards, &all);
        let none = none();
        let map = Map::of(&all, &none);
        prop_assert!(diff(&map, &map).is_empty());
        // Every outbound call is in the map once.
        let sent: u64 = all.reports().flat_map(|it| &it.edges).filter(|it| it.direction == Outbound).map(|it| it.calls).sum();
        prop_assert_eq!(map.links.iter().filter_map(|link| link.source_calls).sum::<u64>(), sent);
        for format in Format::ALL {
            let _ = format.render(&map, &all);
        }
        let text = Format::Json.render(&map, &all);
        let again = graph(merge::read(text.as_bytes()).unwrap());
        prop_assert_eq!(again, all);
    }
}
