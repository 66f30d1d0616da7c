//! What services say that they need, and what came of it.

use super::super::declared::{Criticality, Declared, Dependency, Undeclared};
use super::super::review::{Verdict, review};
use super::*;
use crate::pipeline::Service;
use std::path::Path;

fn depends_on(yaml: &str) -> DependsOn {
    serde_yaml::from_str(yaml).unwrap()
}

fn declared(yaml: &str) -> Declared {
    depends_on(yaml).declared("shop", Path::new("")).unwrap()
}

#[test]
fn names_mappings_and_files_are_read() {
    let full =
        "{ service: stock, clusters: [stock-eu, stock-us], criticality: soft, max_rps: 50, timeout: 250ms }";
    let list = declared(&format!("[payments, {full}]"));
    let stock = Dependency {
        service: "stock".into(),
        clusters: vec!["stock-eu".into(), "stock-us".into()],
        criticality: Criticality::Soft,
        max_rps: Some(50.0),
        max_failure_ratio: None,
        timeout: Some(Duration::from_millis(250)),
    };
    assert_eq!(list.dependencies[1], stock);
    assert_eq!((list.dependencies[0].service.as_str(), list.undeclared), ("payments", Undeclared::Warn));
    for (cluster, is_undeclared) in
        [("payments", false), ("stock-eu", false), ("stock", true), ("other", true)]
    {
        assert_eq!(list.is_undeclared(cluster), is_undeclared, "{cluster}");
    }
    assert!(!declared("[]").is_undeclared("anything"), "nothing is declared");
    assert!(declared("{ undeclared: refuse }").is_undeclared("anything"), "nothing is allowed");
    assert!(!declared("{ services: [a], undeclared: allow }").is_undeclared("b"));
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("dependencies.yaml");
    std::fs::write(&path, format!("shop: [payments, {full}]\npayments: []\n")).unwrap();
    let pinned = depends_on("{ services: [mail], file: dependencies.yaml, undeclared: refuse }");
    let pinned = pinned.declared("shop", directory.path()).unwrap();
    let names: Vec<_> = pinned.dependencies.iter().map(|it| it.service.as_str()).collect();
    assert_eq!(names, ["mail", "payments", "stock"]);
    let text = Manifest::load(&path).unwrap().text();
    assert_eq!(Manifest::parse(&text).unwrap(), Manifest::load(&path).unwrap(), "{text}");
    for wrong in [
        "- payments",
        "shop: payments",
        "shop: [{ servise: a }]",
        "shop: [{ service: a, timeout: 5 }]",
        "a: [b",
    ] {
        let error = Manifest::parse(wrong).unwrap_err();
        assert!(error.contains("what is wanted"), "{error}");
    }
}

#[test]
fn the_first_call_to_what_nobody_declared_is_an_event() {
    let live = Live::default();
    live.declare(declared("[payments, mail]"));
    let now = Duration::from_secs(1);
    let count = |cluster: &str| {
        let mut visit = live.visit();
        let mut record = record(Direction::Outbound, Some(cluster), 200, now);
        record.route = Some("r".into());
        visit.count(&record);
        visit.end(at(now))
    };
    assert!(count("payments").is_empty());
    let want = serde_json::json!({
        "sidelight.dependency.state": "undeclared", "sidelight.cluster": "stock", "sidelight.route": "r",
    });
    assert_eq!(count("stock"), [want]);
    assert!(count("stock").is_empty(), "once");
    let service = Service { name: "shop".into(), ..Service::default() };
    let report = live.report(&service, at(Duration::ZERO), at(now), &[]);
    let states: Vec<_> =
        report.depends_on.iter().map(|it| (it.service.as_str(), &*it.state, it.calls)).collect();
    assert_eq!(states, [("payments", "used", 1), ("mail", "unused", 0), ("stock", "undeclared", 2)]);
}

#[test]
fn what_is_observed_is_held_against_what_is_declared() {
    let shop = report(
        "shop",
        1,
        &[
            (Way::Outbound, Some("payments"), "", 200, 30),
            (Way::Outbound, Some("payments"), "", 503, 10),
            (Way::Outbound, Some("stock-eu"), "", 200, 3),
            (Way::Outbound, Some("mail"), "", 200, 1),
            (Way::Outbound, None, "", 404, 5),
        ],
    );
    let mail = report("mail", 1, &[(Way::Outbound, Some("smtp"), "", 200, 1)]);
    let (graph, none) = (graph([shop, mail]), Aliases::new());
    let map = Map::of(&graph, &none);
    let manifest = Manifest::parse(
        "shop:\n\
         - { service: payments, max_rps: 3.5, max_failure_ratio: 0.1, timeout: 5ms }\n\
         - { service: stock, clusters: [stock-eu] }\n\
         - audit\n\
         elsewhere: [unseen]\n",
    )
    .unwrap();
    let judged = review(&map, &manifest);
    let found: Vec<_> = judged
        .iter()
        .map(|it| (it.verdict, it.from.as_str(), it.to.as_str(), it.detail.as_deref().unwrap_or("")))
        .collect();
    let want = [
        (Verdict::Undeclared, "mail", "smtp", ""),
        (Verdict::Undeclared, "shop", "mail", ""),
        (Verdict::Unused, "shop", "audit", ""),
        (Verdict::Drifted, "shop", "payments", "4.0 calls a second, 3.5 are declared"),
        (Verdict::Drifted, "shop", "payments", "0.25 of the calls fail, 0.1 is declared"),
        (Verdict::Drifted, "shop", "payments", "p99 is 10.0 ms, 5ms is declared"),
    ];
    assert_eq!(found, want);
    // What is written of a map is what allows it.
    let written = Manifest::parse(&Format::Declared.render(&map, &graph)).unwrap();
    assert_eq!(review(&map, &written), []);
}
