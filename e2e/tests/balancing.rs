//! Which endpoint gets a request, and what is said of it: hashing, subsets, priorities, zones and weights before real servers.

use e2e::{RawClient, Setup, Sidelight, StrictBackend, wait_for};
use std::collections::{HashMap, HashSet};

/// A sidecar in zone `a` before these endpoints, each with more YAML in its map.
fn before(endpoints: &[(&StrictBackend, &str)], balance: &str) -> Sidelight {
    let list: Vec<String> = endpoints
        .iter()
        .map(|(backend, more)| format!("{{ address: \"{}\"{more} }}", backend.address()))
        .collect();
    let cluster = format!("payments:\n  endpoints: [{}]\n  balance: {{ {balance} }}", list.join(", "));
    Sidelight::start(&Setup::bare().section("service", "zone: a").section("clusters", &cluster))
}

fn ask(proxy: &Sidelight, fields: &str) -> u16 {
    let request = format!("GET / HTTP/1.1\r\nHost: payments\r\n{fields}\r\n");
    RawClient::connect(proxy.outbound()).ask(request).expect("an answer").status
}

/// How many requests each endpoint got, by the events; all were answered with 200.
fn shares(proxy: &Sidelight, count: usize) -> HashMap<String, usize> {
    let events = wait_for("the events", || {
        let events = proxy.events().exchanges();
        (events.len() >= count).then_some(events)
    });
    let mut shares = HashMap::new();
    for event in events {
        assert_eq!(event["http.response.status_code"], 200, "{event}");
        *shares.entry(event["sidelight.endpoint"].as_str().unwrap_or_default().to_owned()).or_default() += 1;
    }
    shares
}

fn count(backend: &StrictBackend) -> usize {
    backend.take().whole.len()
}

#[test]
fn a_session_stays_at_its_endpoint_and_only_those_of_an_endpoint_that_goes_move() {
    for policy in ["ring_hash", "maglev"] {
        let backends = [StrictBackend::start(), StrictBackend::start(), StrictBackend::start()];
        let setup = |backends: &[StrictBackend]| {
            let list: Vec<String> = backends.iter().map(|each| each.address().to_string()).collect();
            let balance =
                format!("policy: {policy}, hash_on: [{{ cookie: session }}, {{ context: user_id }}]");
            Setup::bare()
                .section("clusters", &format!("payments:\n  endpoints: {list:?}\n  balance: {{ {balance} }}"))
        };
        let proxy = Sidelight::start(&setup(&backends));
        let homes = |proxy: &Sidelight| -> Vec<usize> {
            let home = |session: usize| {
                assert_eq!(ask(proxy, &format!("Cookie: a=b; session=s{session}\r\n")), 200);
                let got: Vec<usize> = backends.iter().map(count).collect();
                got.iter().position(|count| *count == 1).expect("an endpoint")
            };
            (0..60).map(home).collect()
        };
        let first = homes(&proxy);
        assert_eq!(first.iter().collect::<HashSet<_>>().len(), 3, "{policy}: all endpoints are used");
        assert_eq!(homes(&proxy), first, "{policy}");
        proxy.rewrite(&setup(&backends[..2]));
        proxy.signal(libc::SIGHUP);
        let clusters = || proxy.admin("/clusters").text();
        let gone = backends[2].address().to_string();
        wait_for("the third to be gone", || (!clusters().contains(&gone)).then_some(()));
        let moved =
            |now: &[usize]| first.iter().zip(now).filter(|(first, now)| **first != 2 && first != now).count();
        let then = homes(&proxy);
        assert!(!then.contains(&2));
        // A ring moves nobody else; Maglev's table few.
        assert!(moved(&then) <= if policy == "maglev" { 6 } else { 0 }, "{policy}: {first:?} {then:?}");
        assert_eq!(ask(&proxy, ""), 200);
        let event =
            proxy.events().find("nothing to hash", |event| event["sidelight.balance.hash_missing"] == true);
        assert_eq!(event["sidelight.cluster"], "payments", "{event}");
    }
}

#[test]
fn a_license_has_its_own_endpoints_and_others_only_where_that_is_allowed() {
    let (gold, free) = (StrictBackend::start(), StrictBackend::start());
    let endpoints = [(&gold, ", labels: { tier: gold }"), (&free, ", labels: { tier: free }")];
    let subset = "subset: { tier: { context: license } }";
    let proxy = before(&endpoints, subset);
    for _ in 0..10 {
        assert_eq!(ask(&proxy, "x-license: gold\r\n"), 200);
        assert_eq!(ask(&proxy, "x-license: free\r\n"), 200);
    }
    assert_eq!((count(&gold), count(&free)), (10, 10));
    assert_eq!(ask(&proxy, "x-license: silver\r\n"), 503);
    let event = proxy.events().find("the refusal", |event| event["license"] == "silver");
    assert!(event["sidelight.cause"].is_string(), "{event}");

    let proxy = before(&endpoints, &format!("{subset}, subset_fallback: any"));
    assert_eq!(ask(&proxy, "x-license: silver\r\n"), 200);
    let event = proxy.events().find("the fallback", |event| event["license"] == "silver");
    assert_eq!(event["sidelight.balance.subset_fallback"], true, "{event}");
}

#[test]
fn the_next_priority_is_used_when_nobody_of_the_first_answers() {
    let (first, second) = (StrictBackend::start(), StrictBackend::start());
    let dead = first.address();
    let proxy = before(&[(&first, ""), (&second, ", priority: 1")], "policy: round_robin");
    for _ in 0..10 {
        assert_eq!(ask(&proxy, ""), 200);
    }
    assert_eq!((count(&first), count(&second)), (10, 0));
    drop((proxy, first));
    let checks = "health: { tcp: {}, interval: 100ms, fast_interval: 50ms }";
    let cluster = format!(
        "payments:\n  endpoints: [\"{dead}\", {{ address: \"{}\", priority: 1 }}]\n  {checks}",
        second.address()
    );
    let proxy = Sidelight::start(&Setup::bare().section("clusters", &cluster));
    assert_eq!(ask(&proxy, ""), 200);
    let event = proxy.events().find("the answer", |event| event["http.response.status_code"] == 200);
    assert_eq!(event["sidelight.endpoint.priority"], 1, "{event}");
}

#[test]
fn calls_stay_in_their_zone_as_far_as_it_can_take_them() {
    let backends: Vec<StrictBackend> = (0..6).map(|_| StrictBackend::start()).collect();
    let zoned = |zones: [&str; 6]| {
        let more: Vec<String> = zones.iter().map(|zone| format!(", zone: {zone}")).collect();
        let endpoints: Vec<_> = backends.iter().zip(more.iter().map(String::as_str)).collect();
        before(&endpoints, "policy: round_robin")
    };
    // As many endpoints here as elsewhere, and calls from both zones: all of ours stay.
    let proxy = zoned(["a", "a", "a", "b", "b", "b"]);
    for _ in 0..60 {
        assert_eq!(ask(&proxy, ""), 200);
    }
    let got: Vec<usize> = backends.iter().map(count).collect();
    assert_eq!(got, [20, 20, 20, 0, 0, 0]);
    // One of six here: it takes what each endpoint gets, and the others get the rest.
    let proxy = zoned(["a", "b", "b", "b", "b", "b"]);
    for _ in 0..120 {
        assert_eq!(ask(&proxy, ""), 200);
    }
    let got: Vec<usize> = backends.iter().map(count).collect();
    assert!((25..=60).contains(&got[0]), "a third of the load of the zone: {got:?}");
    assert!(got[1..].iter().all(|count| *count > 4), "{got:?}");
    let home = shares(&proxy, 120).get(&backends[0].address().to_string()).copied();
    assert_eq!(home, Some(got[0]));
    let event = proxy.events().find("a call at home", |event| event["sidelight.endpoint.zone"] == "a");
    assert_eq!(event["sidelight.endpoint"], backends[0].address().to_string(), "{event}");
}

#[test]
fn a_weight_is_a_share_where_latency_decides_nothing() {
    let (heavy, light) = (StrictBackend::start(), StrictBackend::start());
    let light_name = light.address().to_string();
    for policy in ["least_request", "round_robin", "random"] {
        let proxy = before(&[(&heavy, ", weight: 4"), (&light, "")], &format!("policy: {policy}"));
        for _ in 0..200 {
            assert_eq!(ask(&proxy, ""), 200);
        }
        let share = shares(&proxy, 200).get(&light_name).copied().unwrap_or_default();
        let bounds = match policy {
            "round_robin" => 40..=40,
            _ => 15..=70,
        };
        assert!(bounds.contains(&share), "{policy}: {share} of 200");
    }
}
