//! Active health checks of real endpoints: who fails them is left without a failed request, and comes back.

use e2e::{RawClient, Request, Script, Setup, Sidelight, StrictBackend, UpstreamProcess, wait_for};
use serde_json::Value;
use std::net::SocketAddr;

const HEALTH_PATH: &str = "/healthz";

const DOWN: &str = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\ndown";
const UP: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nup";

/// Checks that are quick to see a change, and patient with a machine that is busy.
const TERMS: &str = "interval: 200ms, fast_interval: 50ms, unhealthy_threshold: 2, healthy_threshold: 2";

fn start(endpoints: &[SocketAddr], health: &str, more: &str) -> Sidelight {
    let endpoints: Vec<String> = endpoints.iter().map(SocketAddr::to_string).collect();
    let cluster = format!(
        "payments:\n  endpoints: {endpoints:?}\n  balance: {{ policy: round_robin }}\n  health: {{ {health}, {TERMS} }}\n{more}"
    );
    Sidelight::start(&Setup::bare().section("clusters", &cluster))
}

fn ask(proxy: &Sidelight) -> u16 {
    let request = "GET /pay HTTP/1.1\r\nHost: payments\r\nConnection: close\r\n\r\n";
    RawClient::connect(proxy.outbound()).ask(request).expect("an answer").status
}

/// What reached a backend since the last look: traffic, and checks.
fn received(backend: &StrictBackend) -> (Vec<Request>, Vec<Request>) {
    let received = backend.take();
    assert!(received.violations.is_empty(), "{:?}", received.violations);
    received.whole.into_iter().partition(|request| request.path() != HEALTH_PATH)
}

/// Waits for the event that an endpoint came to this state; `is_first`: by its first check ever.
fn state(proxy: &Sidelight, endpoint: SocketAddr, state: &str, is_first: bool) -> Value {
    wait_for(&format!("{endpoint} to be {state}"), || {
        proxy.events().all("sidelight/health/1").into_iter().find(|event| {
            event["sidelight.cluster"] == "payments"
                && event["sidelight.endpoint.address"] == endpoint.to_string()
                && event["sidelight.health.state"] == state
                && event["sidelight.health.first"] == is_first
        })
    })
}

/// Every request so far was answered with 200, and none was tried twice.
fn assert_none_failed(proxy: &Sidelight) {
    for event in proxy.events().exchanges() {
        assert_eq!(event["http.response.status_code"], 200, "{event}");
        assert_eq!(event["sidelight.attempts"].as_u64().unwrap_or(1), 1, "{event}");
    }
}

#[test]
fn an_endpoint_that_fails_its_checks_is_left_and_comes_back() {
    let backends = [StrictBackend::start(), StrictBackend::start(), StrictBackend::start()];
    let addresses = backends.each_ref().map(StrictBackend::address);
    let proxy = start(&addresses, &format!("http: {{ path: {HEALTH_PATH} }}"), "");
    for address in addresses {
        state(&proxy, address, "healthy", true);
    }
    for _ in 0..6 {
        assert_eq!(ask(&proxy), 200);
    }
    for backend in &backends {
        let (traffic, checks) = received(backend);
        assert_eq!(traffic.len(), 2, "round robin");
        assert!(!checks.is_empty());
        for check in checks {
            let agent = check.fields.get("user-agent").unwrap_or_default();
            assert!(agent.starts_with("sidelight-health/"), "{agent}");
        }
    }
    // Only the health path fails: whoever asks for anything else still gets 200.
    backends[1].script(HEALTH_PATH, Script::reply(DOWN));
    wait_for("the traffic to leave the endpoint", || {
        received(&backends[1]);
        for _ in 0..6 {
            assert_eq!(ask(&proxy), 200);
        }
        received(&backends[1]).0.is_empty().then_some(())
    });
    let event = state(&proxy, addresses[1], "unhealthy", false);
    assert_eq!(event["sidelight.cause"], "status 503, expected 200-299");
    assert_eq!(event["sidelight.endpoint"], addresses[1].to_string());

    backends[1].script(HEALTH_PATH, Script::reply(UP));
    state(&proxy, addresses[1], "healthy", false);
    wait_for("the traffic to return", || {
        assert_eq!(ask(&proxy), 200);
        (!received(&backends[1]).0.is_empty()).then_some(())
    });
    assert_none_failed(&proxy);
}

#[test]
fn an_endpoint_that_is_down_at_start_gets_no_traffic_until_it_is_up() {
    let backends = [StrictBackend::start(), StrictBackend::start(), StrictBackend::start()];
    backends[0].script(HEALTH_PATH, Script::reply(DOWN));
    let addresses = backends.each_ref().map(StrictBackend::address);
    let proxy = start(&addresses, &format!("http: {{ path: {HEALTH_PATH} }}"), "");
    state(&proxy, addresses[0], "unhealthy", true);
    for address in &addresses[1..] {
        state(&proxy, *address, "healthy", true);
    }
    received(&backends[0]);
    for _ in 0..12 {
        assert_eq!(ask(&proxy), 200);
    }
    assert!(received(&backends[0]).0.is_empty());
    backends[0].script(HEALTH_PATH, Script::reply(UP));
    wait_for("the first traffic", || {
        assert_eq!(ask(&proxy), 200);
        (!received(&backends[0]).0.is_empty()).then_some(())
    });
    assert_none_failed(&proxy);
}

#[test]
fn a_process_that_is_stopped_hangs_its_checks_and_a_killed_one_refuses_them() {
    let mut upstreams =
        [UpstreamProcess::start("a"), UpstreamProcess::start("b"), UpstreamProcess::start("c")];
    let addresses = upstreams.each_ref().map(UpstreamProcess::address);
    // Outlier detection has its own tests.
    let proxy = start(&addresses, "http: {}, timeout: 300ms", "  outlier_detection: { enabled: false }\n");
    for address in addresses {
        state(&proxy, address, "healthy", true);
    }
    upstreams[0].stop();
    let event = state(&proxy, addresses[0], "unhealthy", false);
    assert_eq!(event["sidelight.cause"], "no answer within 300ms");
    for _ in 0..6 {
        assert_eq!(ask(&proxy), 200);
    }
    upstreams[0].go_on();
    state(&proxy, addresses[0], "healthy", false);

    upstreams[1].kill();
    let event = state(&proxy, addresses[1], "unhealthy", false);
    assert_eq!(event["sidelight.cause"], "connection refused");
    for _ in 0..6 {
        assert_eq!(ask(&proxy), 200);
    }
    upstreams[1].start_again();
    state(&proxy, addresses[1], "healthy", false);
    assert_none_failed(&proxy);
}
