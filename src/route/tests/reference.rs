//! The index against a table that is walked from its first route to its last.

use super::*;
use crate::route::config::{Match, PathMatch, StringMatch};
use proptest::prelude::*;

/// What a user would call a match, written without a thought for speed.
fn is_match(wanted: &Match, request: &RequestView<'_>) -> bool {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let host = text(request.head.host()).to_lowercase();
    let path = text(request.head.path());
    let host_matches =
        wanted.host.as_ref().is_none_or(|wanted| match wanted.to_lowercase().strip_prefix('*') {
            Some(suffix) => host.len() > suffix.len() && host.ends_with(suffix),
            None => host == wanted.to_lowercase(),
        });
    let path_matches = wanted.path.as_ref().is_none_or(|wanted| match wanted {
        PathMatch::Exact(wanted) => path == *wanted,
        PathMatch::Prefix(wanted) => {
            let wanted = wanted.trim_end_matches('/');
            path.starts_with('/') && (path == wanted || path.starts_with(&format!("{wanted}/")))
        }
        PathMatch::Regex(wanted) => regex::Regex::new(wanted).unwrap().is_match(&path),
    });
    let method = text(request.head.method_bytes());
    let headers_match = wanted.headers.iter().all(|(name, test)| {
        let mut values = request.head.fields.named(name.as_bytes()).map(text);
        match test {
            StringMatch::Exact(wanted) => values.any(|value| value == *wanted),
            StringMatch::Present(is_wanted) => (values.count() > 0) == *is_wanted,
            _ => false,
        }
    });
    let one_of = |wanted: &[String], actual: &[u8]| wanted.is_empty() || wanted.contains(&text(actual));
    host_matches
        && path_matches
        && (wanted.method.is_empty() || wanted.method.contains(&method))
        && headers_match
        && one_of(&wanted.context.license, request.context.license)
        && one_of(&wanted.context.account_id, request.context.account_id)
        && one_of(&wanted.context.user_id, request.context.user_id)
        && wanted
            .context
            .flags
            .iter()
            .all(|flag| text(request.context.flags).split(',').any(|on| on == *flag))
}

fn any_path() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(vec!["a", "b", "v1", "v10"]), 0..4)
        .prop_map(|parts| format!("/{}", parts.join("/")))
}

fn any_host() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["a.x", "b.x", "c.b.x", "y", "A.X"]).prop_map(str::to_owned)
}

fn any_values() -> impl Strategy<Value = Vec<String>> {
    let values = prop::sample::select(vec!["1", "2", "3"]).prop_map(str::to_owned);
    prop_oneof![3 => Just(Vec::new()), 2 => prop::collection::vec(values, 1..3)]
}

fn any_match() -> impl Strategy<Value = Match> {
    let wildcard = prop::sample::select(vec!["*.x", "*.b.x", "*"]).prop_map(str::to_owned);
    let host = prop::option::weighted(0.5, prop_oneof![any_host(), wildcard]);
    let regex =
        prop::sample::select(vec!["^/a", "b$", "/v1/", "^/(a|b)/", "^/$", "1", "0", "a/a", "^/v10?$"]);
    let path = prop::option::weighted(
        0.7,
        prop_oneof![
            any_path().prop_map(PathMatch::Exact),
            any_path().prop_map(PathMatch::Prefix),
            regex.prop_map(|pattern| PathMatch::Regex(pattern.to_owned())),
        ],
    );
    let method = prop_oneof![3 => Just(Vec::new()), 1 => Just(vec!["GET".to_owned()]), 1 => Just(vec!["POST".to_owned(), "BREW".to_owned()])];
    let header = prop_oneof![
        4 => Just(None),
        1 => any::<bool>().prop_map(|there| Some(("accept".to_owned(), StringMatch::Present(there)))),
        1 => Just(Some(("x-a".to_owned(), StringMatch::Exact("1".to_owned())))),
    ];
    let flags = prop_oneof![4 => Just(Vec::new()), 1 => Just(vec!["f".to_owned()])];
    (host, path, method, header, any_values(), any_values(), any_values(), flags).prop_map(
        |(host, path, method, header, license, account_id, user_id, flags)| Match {
            host,
            path,
            method,
            headers: header.into_iter().collect(),
            context: config::ContextMatch { license, account_id, user_id, flags, request_type: None },
            ..Match::default()
        },
    )
}

fn any_request() -> impl Strategy<Value = (RequestHead, [&'static str; 4])> {
    let value = prop::sample::select(vec!["", "1", "2", "3"]);
    let flags = prop::sample::select(vec!["", "f", "e,f", "e"]);
    let method = prop::sample::select(vec!["GET", "POST", "BREW"]);
    let fields = prop::sample::select(vec!["", "accept: 1\n", "x-a: 1\n", "x-a: 2\nX-A: 1\nAccept: x\n"]);
    (any_host(), any_path(), method, fields, [value.clone(), value.clone(), value], flags, any::<bool>())
        .prop_map(|(host, path, method, fields, [license, account, user], flags, slash)| {
            let slash = if slash && path != "/" { "/" } else { "" };
            (
                head(&format!("{method} {path}{slash}\n{fields}Host: {host}:80")),
                [license, account, user, flags],
            )
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn the_first_match_is_found(
        matches in prop::collection::vec(any_match(), 0..40),
        requests in prop::collection::vec(any_request(), 1..10),
    ) {
        let routes: Vec<Route> = matches
            .iter()
            .enumerate()
            .map(|(at, wanted)| Route { matches: wanted.clone(), cluster: Some(at.to_string()), ..Route::default() })
            .collect();
        let defaults = Defaults { request_timeout: None, fallback: Fallback::None };
        let table = Table::compile(&routes, &any_cluster, defaults).unwrap();
        for (head, [license, account_id, user_id, flags]) in &requests {
            let context = ContextView {
                license: license.as_bytes(),
                account_id: account_id.as_bytes(),
                user_id: user_id.as_bytes(),
                flags: flags.as_bytes(),
                request_type: RequestType::Standard,
            };
            let request = view(head, context);
            let first = matches.iter().position(|wanted| is_match(wanted, &request));
            let want = first.map_or_else(|| "404".to_owned(), |at| at.to_string());
            prop_assert_eq!(target(&table.find(&request)), want);
            let explanation = table.explain(&request);
            prop_assert_eq!(explanation.considered.len(), first.unwrap_or(routes.len()));
            prop_assert_eq!(explanation.omitted, 0, "every route that is passed over says why");
            prop_assert_eq!(explanation.route, first.map(|at| format!("route-{at}")));
        }
    }
}
