//! Route look-up alone, in tables of 10, 1,000 and 10,000 routes that differ in host, path prefix or account. The
//! figures must hardly depend on the size: a request must not pay for routes that cannot match.

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use sidelight::{
    cluster::{self, Cluster},
    exchange::Direction,
    http1::{self, HeadLimits},
    route::{
        Action, ContextView, Defaults, Fallback, RequestView, Table,
        config::{ContextMatch, Match, PathMatch, Route},
    },
    svc::{RequestHead, Scheme},
};
use std::{hint::black_box, sync::Arc};

const SIZES: [usize; 3] = [10, 1_000, 10_000];
const LIMITS: HeadLimits =
    HeadLimits { head_bytes_max: 64 * 1024, fields_max: 100, target_bytes_max: 8 * 1024 };

/// What the routes of a table differ in.
#[derive(Clone, Copy)]
enum Difference {
    Host,
    Prefix,
    Account,
}

impl Difference {
    fn name(self) -> &'static str {
        match self {
            Self::Host => "exact host",
            Self::Prefix => "path prefix",
            Self::Account => "account_id under one prefix",
        }
    }

    /// The conditions of route number `at`.
    fn matches(self, at: usize) -> Match {
        let prefix = |path: String| Some(PathMatch::Prefix(path));
        match self {
            Self::Host => Match { host: Some(format!("shop-{at}.example")), ..Match::default() },
            Self::Prefix => Match { path: prefix(format!("/service-{at}/v1")), ..Match::default() },
            Self::Account => Match {
                path: prefix("/service-1".into()),
                context: ContextMatch {
                    account_id: vec![format!("account-{at}")],
                    ..ContextMatch::default()
                },
                ..Match::default()
            },
        }
    }
}

/// A request head, as the HTTP/1 server parses it.
fn request(host: &str, path: &str) -> Option<RequestHead> {
    let text = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n");
    Some(http1::parse_request(text.as_bytes(), &LIMITS, Scheme::Http).ok()??.head)
}

fn view<'a>(head: &'a RequestHead, account: &'a str) -> RequestView<'a> {
    let context = ContextView { account_id: account.as_bytes(), ..ContextView::default() };
    RequestView { head, direction: Direction::Outbound, context, random: 0 }
}

fn cluster() -> Arc<Cluster> {
    Arc::new(Cluster::plain("upstream", &cluster::Config::default()))
}

/// A table of `size` routes; one that does not compile ends the benchmark with the reason.
fn table(difference: Difference, size: usize) -> Table {
    let cluster = cluster();
    let route =
        |at| Route { matches: difference.matches(at), cluster: Some("upstream".into()), ..Route::default() };
    let routes: Vec<Route> = (0..size).map(route).collect();
    let defaults = Defaults { request_timeout: None, fallback: Fallback::None };
    match Table::compile(&routes, &|_| Some(Arc::clone(&cluster)), defaults) {
        Ok(table) => table,
        Err(error) => panic!("{error:?}"),
    }
}

fn is_found(table: &Table, request: &RequestView<'_>) -> bool {
    matches!(table.find(request).action, Action::Cluster(_))
}

/// The route that a walk through the list would come to last.
fn look_ups(criterion: &mut Criterion) {
    for difference in [Difference::Host, Difference::Prefix, Difference::Account] {
        let mut group = criterion.benchmark_group(format!("route by {}", difference.name()));
        for size in SIZES {
            let table = table(difference, size);
            let last = size - 1;
            let (host, path, account) = match difference {
                Difference::Host => (format!("shop-{last}.example:8080"), "/cart".into(), "account-1".into()),
                Difference::Prefix => {
                    ("shop.example".into(), format!("/service-{last}/v1/cart"), "account-1".into())
                }
                Difference::Account => {
                    ("shop.example".into(), "/service-1/cart".into(), format!("account-{last}"))
                }
            };
            let Some(head) = request(&host, &path) else { panic!("the request is malformed") };
            let wanted = view(&head, &account);
            assert!(is_found(&table, &wanted), "the last route is found");
            group.bench_with_input(BenchmarkId::new("last", size), &wanted, |bencher, wanted| {
                bencher.iter(|| is_found(&table, black_box(wanted)));
            });
        }
        group.finish();
    }
}

fn compilation(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("compile a table");
    group.sample_size(10);
    for size in SIZES {
        group.bench_function(BenchmarkId::new("by path prefix", size), |bencher| {
            bencher.iter(|| table(Difference::Prefix, size));
        });
    }
    group.finish();
}

criterion_group!(benches, look_ups, compilation);
criterion_main!(benches);
