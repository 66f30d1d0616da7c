//! Any routes and any request: what the index finds is what the explanation says, and what is rewritten or redirected
//! to stays one line.
//!
//! The input is one route a line (kind, then its texts, separated by spaces), an empty line, and a request head.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sidelight::cluster::{Cluster, Config as ClusterConfig, Settings};
use sidelight::exchange::Direction;
use sidelight::http1::{HeadLimits, parse_request};
use sidelight::limits;
use sidelight::protocol::normalize::{Rules, normalize_path};
use sidelight::route::config::{Match, PathMatch, Redirect, Route, StringMatch};
use sidelight::route::{Action, ContextView, Defaults, Fallback, RequestView, Table, Verdict};
use sidelight::svc::Scheme;
use std::sync::Arc;

const LIMITS: HeadLimits = HeadLimits { head_bytes_max: 1 << 16, fields_max: 100, target_bytes_max: 1 << 14 };

fn cluster(name: &str) -> Option<Arc<Cluster>> {
    let config = ClusterConfig::default();
    let settings = Settings {
        protocol: config.protocol,
        policy: config.balance.policy,
        connect_timeout: config.connect_timeout,
        idle_timeout: config.idle_timeout,
    };
    Some(Arc::new(Cluster::new(name, settings, None)))
}

fn route(line: &str, position: usize) -> Route {
    let mut words = line.split(' ');
    let mut word = || words.next().unwrap_or_default().to_owned();
    let mut matches = Match::default();
    let mut route = Route { cluster: Some(position.to_string()), ..Route::default() };
    for kind in word().chars() {
        match kind {
            'h' => matches.host = Some(word()),
            'e' => matches.path = Some(PathMatch::Exact(word())),
            'p' => matches.path = Some(PathMatch::Prefix(word())),
            'r' => matches.path = Some(PathMatch::Regex(word())),
            'm' => matches.method.push(word()),
            'f' => drop(matches.headers.insert(word(), StringMatch::Exact(word()))),
            'q' => drop(matches.query.insert(word(), StringMatch::Prefix(word()))),
            'a' => matches.context.account_id.push(word()),
            'l' => matches.context.license.push(word()),
            'g' => matches.context.flags.push(word()),
            't' => {
                route.cluster = None;
                route.redirect = Some(Redirect { prefix: Some(word()), ..Redirect::default() });
            }
            _ => {}
        }
    }
    Route { matches, ..route }
}

fuzz_target!(|input: &str| {
    let (routes, request) = input.split_once("\n\n").unwrap_or((input, ""));
    let routes: Vec<Route> = routes.lines().take(64).enumerate().map(|(at, line)| route(line, at)).collect();
    let fallback = Fallback::ClusterByHost(cluster("payments").into_iter().collect());
    let Ok(table) = Table::compile(&routes, &cluster, Defaults { request_timeout: None, fallback }) else {
        return;
    };
    let Ok(Some(parsed)) = parse_request(request.as_bytes(), &LIMITS, Scheme::Http) else { return };
    let mut head = parsed.head;
    match normalize_path(head.path(), Rules::new(&limits::Path::default())) {
        Ok(Some(path)) => head.set_path(&path),
        Ok(None) => {}
        Err(_) => return,
    }
    let context =
        ContextView { account_id: b"a", license: b"gold", flags: b"beta, x", ..ContextView::default() };
    let request = RequestView { head: &head, direction: Direction::Outbound, context, random: 0 };
    let decision = table.find(&request);
    let explanation = table.explain(&request);
    assert_eq!(explanation.considered.len() + explanation.omitted < table.len(), explanation.route.is_some());
    match (&decision.action, &explanation.verdict) {
        (Action::Cluster(cluster), Verdict::Cluster { name, .. }) => {
            assert_eq!(&*cluster.name, name.as_str())
        }
        (Action::Redirect(redirect), Verdict::Redirect { .. }) => {
            assert!(!redirect.location(&request).iter().any(|byte| byte.is_ascii_control()));
        }
        (Action::NotFound { .. }, Verdict::NotFound { .. }) => assert!(decision.policy.is_none()),
        (action, verdict) => panic!("{action:?} is explained as {verdict:?}"),
    }
});
