//! Rate limits as their users see them.

use super::*;
use crate::cluster::config::CircuitBreaker;
use crate::context::RequestType;
use crate::svc::RequestHead;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, advance};

const SECOND: Duration = Duration::from_secs(1);

fn rate(requests: u32, per: Duration, burst: u32) -> Rate {
    Rate { requests, per, burst }
}

/// By account, 10 in a second, 10 at once.
fn settings() -> Settings {
    Settings {
        name: "account_id".into(),
        key: vec![Part::AccountId],
        rate: rate(10, SECOND, 10),
        overrides: BTreeMap::new(),
        keys_max: 1000,
        has_headers: false,
    }
}

fn limit(settings: Settings) -> RateLimit {
    RateLimit::new(settings, Instant::now())
}

/// The key of a request of this account, with this license.
fn key_of(limit: &RateLimit, account: &str, license: &str) -> Key {
    limit.key(&Caller {
        head: &RequestHead::new(),
        account_id: account.as_bytes(),
        user_id: b"",
        license: license.as_bytes(),
        request_type: RequestType::Standard,
        address: b"",
    })
}

/// How many of `requests` of an account are allowed now.
fn allowed(limit: &RateLimit, account: &str, requests: u32) -> u32 {
    let key = key_of(limit, account, "");
    (0..requests).map(|_| u32::from(limit.take(key, Instant::now()).is_ok())).sum()
}

#[tokio::test(start_paused = true)]
async fn a_burst_is_allowed_at_once_and_then_as_many_as_the_time_brings() {
    let limit = limit(settings());
    let key = key_of(&limit, "a1", "");
    let left: Vec<u32> = (0..10).map(|_| limit.take(key, Instant::now()).unwrap().remaining).collect();
    assert_eq!(left, [9, 8, 7, 6, 5, 4, 3, 2, 1, 0]);
    assert_eq!(limit.take(key, Instant::now()), Err(Duration::from_millis(100)));
    advance(Duration::from_millis(40)).await;
    assert_eq!(limit.take(key, Instant::now()), Err(Duration::from_millis(60)));
    advance(Duration::from_millis(60)).await;
    assert_eq!(allowed(&limit, "a1", 5), 1);
    advance(Duration::from_millis(550)).await;
    assert_eq!(allowed(&limit, "a1", 20), 5);
    advance(Duration::from_secs(3600)).await;
    assert_eq!(allowed(&limit, "a1", 50), 10, "silence saves up no more than a burst");
    assert_eq!((limit.allowed(), limit.refused()), (26, 1 + 1 + 4 + 15 + 40));
}

#[tokio::test(start_paused = true)]
async fn a_burst_may_be_smaller_or_larger_than_the_rate() {
    for (burst, at_once) in [(1, 1), (3, 3), (50, 50)] {
        let limit = limit(Settings { rate: rate(10, SECOND, burst), ..settings() });
        assert_eq!(allowed(&limit, "a1", 100), at_once);
        let mut later = 0;
        for _ in 0..1000 {
            advance(Duration::from_millis(10)).await;
            later += allowed(&limit, "a1", 1);
        }
        assert_eq!(later, 100, "10 seconds at 10 a second, whatever the burst is");
    }
}

#[tokio::test(start_paused = true)]
async fn each_key_has_a_bucket_of_its_own() {
    let limit = limit(Settings { key: vec![Part::AccountId, Part::License], ..settings() });
    assert_eq!((allowed(&limit, "a1", 20), allowed(&limit, "a2", 20), allowed(&limit, "", 20)), (10, 10, 10));
    assert_ne!(key_of(&limit, "ab", "c"), key_of(&limit, "a", "bc"), "parts do not run together");
    assert_ne!(key_of(&limit, "a", ""), key_of(&limit, "", "a"));
    assert_eq!(key_of(&limit, "a", "b"), key_of(&limit, "a", "b"));
    let other = RateLimit::new(limit.settings().clone(), Instant::now());
    assert_ne!(key_of(&limit, "a", "b"), key_of(&other, "a", "b"), "hashes cannot be learned elsewhere");
    assert_eq!(limit.buckets(), 3);
}

#[tokio::test(start_paused = true)]
async fn without_a_key_there_is_one_bucket() {
    let limit = limit(Settings { key: Vec::new(), ..settings() });
    assert_eq!((allowed(&limit, "a1", 7), allowed(&limit, "a2", 7)), (7, 3));
    assert_eq!((limit.buckets(), limit.crowded()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn some_values_have_a_rate_of_their_own() {
    let overrides = BTreeMap::from([
        (Box::from(*b"big"), rate(1000, SECOND, 500)),
        (Box::from(*b"bad"), rate(1, SECOND, 1)),
    ]);
    let limit = limit(Settings { overrides, ..settings() });
    for (account, at_once, a_second) in [("big", 500, 500), ("bad", 1, 1), ("other", 10, 10)] {
        assert_eq!(allowed(&limit, account, 1000), at_once, "{account}");
        advance(SECOND).await;
        assert_eq!(allowed(&limit, account, 2000), a_second, "{account}");
    }
    let key = key_of(&limit, "big", "");
    assert_eq!((limit.rate(key).requests, limit.policy_item(key)), (1000, r#""account_id";q=1000;w=1"#));
}

#[test]
fn threads_that_hammer_never_get_more_than_there_is() {
    for key in [Vec::new(), vec![Part::AccountId]] {
        // A token in two hours: time plays no part.
        let limit =
            limit(Settings { key, rate: rate(1000, Duration::from_secs(7200 * 1000), 1000), ..settings() });
        let counts = std::thread::scope(|scope| {
            let hammer = || (allowed(&limit, "a1", 20_000), allowed(&limit, "a2", 20_000));
            let threads = [scope.spawn(hammer), scope.spawn(hammer)];
            threads.map(|thread| thread.join().unwrap())
        });
        let sum = |of: fn(&(u32, u32)) -> u32| counts.iter().map(of).sum::<u32>();
        let (first, second) = (sum(|counts| counts.0), sum(|counts| counts.1));
        let is_keyed = !limit.settings().key.is_empty();
        assert_eq!(if is_keyed { first } else { first + second }, 1000);
        assert_eq!(second, if is_keyed { 1000 } else { 1000 - first });
    }
}

proptest! {
    /// In no stretch of time is more allowed than a burst and what the stretch brings.
    #[test]
    fn no_window_has_more_than_its_quota(
        requests in 1u32..200,
        per_ms in 1u64..10_000,
        burst in 1u32..50,
        pauses_us in prop::collection::vec(0u64..200_000, 1..300),
    ) {
        let start = Instant::now();
        let limit = limit(Settings { rate: rate(requests, Duration::from_millis(per_ms), burst), ..settings() });
        let key = key_of(&limit, "a1", "");
        let mut now = start;
        let mut times = Vec::new();
        for pause_us in pauses_us {
            now += Duration::from_micros(pause_us);
            let seen = limit.look(key, now);
            match limit.take(key, now) {
                Ok(grant) => {
                    prop_assert_eq!((seen.remaining, seen.wait), (grant.remaining + 1, Duration::ZERO));
                    times.push(now);
                }
                Err(wait) => {
                    prop_assert_eq!(seen, Standing { remaining: 0, wait });
                    prop_assert!(wait > Duration::ZERO);
                    prop_assert_eq!(limit.look(key, now + wait).remaining, 1, "the time that was said is the time");
                }
            }
        }
        let per_ns = u128::from(per_ms) * 1_000_000;
        for (at, first) in times.iter().enumerate() {
            for (count, last) in times[at..].iter().enumerate().map(|(index, last)| (index as u128 + 1, last)) {
                let brought = (*last - *first).as_nanos() * u128::from(requests) / per_ns;
                prop_assert!(count <= u128::from(burst) + brought);
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_million_keys_take_no_more_memory_than_is_allowed() {
    let rate = rate(1, Duration::from_secs(60), 1);
    let limit = limit(Settings { keys_max: 10_000, rate, ..settings() });
    let now = Instant::now();
    let mut passed = 0;
    for number in 0..1_000_000 {
        passed += u32::from(limit.take(key_of(&limit, &number.to_string(), ""), now).is_ok());
    }
    let buckets = limit.buckets();
    assert!((9_000..=10_000).contains(&buckets), "{buckets}");
    assert_eq!(u64::from(passed), buckets as u64 + 1, "each bucket let one through, and the shared one did");
    assert_eq!(limit.crowded(), 1_000_000 - buckets as u64);
    // A minute later all buckets are full again, and whoever comes gets one.
    advance(Duration::from_secs(60)).await;
    let crowded = limit.crowded();
    for number in 2_000_000..2_005_000 {
        assert!(limit.take(key_of(&limit, &number.to_string(), ""), Instant::now()).is_ok());
    }
    assert_eq!(limit.crowded(), crowded);
    assert!(limit.buckets() <= 10_000);
}

#[tokio::test(start_paused = true)]
async fn keys_without_room_share_a_bucket_with_their_equals() {
    let overrides = BTreeMap::from([(Box::from(*b"gold"), rate(100, SECOND, 100))]);
    let key = vec![Part::License, Part::AccountId];
    let limit = limit(Settings {
        key,
        overrides,
        keys_max: 1,
        rate: rate(10, Duration::from_secs(100), 10),
        ..settings()
    });
    let count = |account: &str, license: &str| {
        let key = key_of(&limit, account, license);
        (0..200).map(|_| u32::from(limit.take(key, Instant::now()).is_ok())).sum::<u32>()
    };
    assert_eq!(count("first", ""), 10, "there is room for one");
    assert_eq!((count("a", ""), count("b", "")), (10, 0), "these two share");
    assert_eq!(
        (count("a", "gold"), count("b", "gold")),
        (100, 0),
        "who may more is not held up by who may less"
    );
    assert_eq!(limit.crowded(), 800);
    assert_eq!(count("first", ""), 0);
}

#[tokio::test(start_paused = true)]
async fn what_is_given_back_is_there_again_once() {
    for keys_max in [1000, 1] {
        let limit = limit(Settings { keys_max, ..settings() });
        allowed(&limit, "other", 1); // with room for one key, the next one shares
        let key = key_of(&limit, "a1", "");
        assert_eq!(allowed(&limit, "a1", 9), 9);
        let grant = limit.take(key, Instant::now()).unwrap();
        limit.give_back(key, grant, Instant::now());
        assert_eq!(allowed(&limit, "a1", 5), 1, "{keys_max}");
        assert_eq!(limit.allowed(), 11);
        advance(Duration::from_secs(10)).await;
        // The bucket filled up while this was held, so it got back by itself what was taken.
        let grant = limit.take(key, Instant::now()).unwrap();
        advance(Duration::from_millis(100)).await;
        assert_eq!(allowed(&limit, "a1", 3), 3);
        limit.give_back(key, grant, Instant::now());
        assert_eq!(allowed(&limit, "a1", 20), 7, "{keys_max}");
    }
}

#[test]
fn fields_say_what_is_left_and_when_there_is_more() {
    let limit = limit(Settings { rate: rate(100, Duration::from_secs(60), 100), ..settings() });
    let key = key_of(&limit, "a1", "");
    assert_eq!(limit.policy_item(key), r#""account_id";q=100;w=60"#);
    assert_eq!(limit.allowed_item(key, 99), r#""account_id";r=99;t=60"#);
    assert_eq!(limit.allowed_item(key, 0), r#""account_id";r=0;t=1"#);
    assert_eq!(limit.refused_item(Duration::from_millis(12_300)), r#""account_id";r=0;t=13"#);
}

#[tokio::test(start_paused = true)]
async fn a_limit_outlives_a_table_if_the_next_one_says_the_same() {
    let limits = Limits::default();
    let route: Arc<str> = "r".into();
    let first = limits.of("inbound").rate_limit(&route, settings());
    assert_eq!(allowed(&first, "a1", 20), 10);
    let again = limits.of("inbound").rate_limit(&route, settings());
    assert!(Arc::ptr_eq(&first, &again));
    let elsewhere = limits.of("outbound").rate_limit(&route, settings());
    let other_route = limits.of("inbound").rate_limit(&"s".into(), settings());
    assert_eq!((allowed(&elsewhere, "a1", 1), allowed(&other_route, "a1", 1)), (1, 1));
    let changed = Settings { keys_max: 1, ..settings() };
    let new = limits.of("inbound").rate_limit(&route, changed);
    assert!(!Arc::ptr_eq(&first, &new));
    let shown = |limits: &Limits| {
        let all = limits.rate_limits();
        all.iter()
            .map(|it| format!("{} {} {}", it.listener, it.route, it.limit.settings().keys_max))
            .collect::<Vec<_>>()
    };
    assert_eq!(shown(&limits), ["inbound r 1", "inbound s 1000", "outbound r 1000"]);
    // The configuration with the new one is refused: the old one is still in force.
    drop(new);
    assert_eq!(shown(&limits), ["inbound r 1000", "inbound s 1000", "outbound r 1000"]);
    let kept = limits.of("inbound").rate_limit(&route, settings());
    assert!(Arc::ptr_eq(&first, &kept));
    drop((first, again, kept, other_route));
    assert_eq!(shown(&limits), ["outbound r 1000"]);
    let fresh = limits.of("inbound").rate_limit(&route, settings());
    assert_eq!(allowed(&fresh, "a1", 20), 10, "nobody held it, so it began anew");
}

#[test]
fn so_do_breakers() {
    let limits = Limits::default();
    let route: Arc<str> = "r".into();
    let config = CircuitBreaker { requests: Some(3), ..CircuitBreaker::NONE };
    let first = limits.of("inbound").breakers(&route, &config);
    assert_eq!((first.scope, &*first.name, first.requests.limit), ("route", "r", 3));
    assert!(Arc::ptr_eq(&first, &limits.of("inbound").breakers(&route, &config)));
    let other = CircuitBreaker { requests: Some(4), ..CircuitBreaker::NONE };
    let other = limits.of("inbound").breakers(&route, &other);
    assert_eq!(other.requests.limit, 4);
    assert_eq!(limits.breakers().len(), 1);
    drop((first, other));
    assert!(limits.breakers().is_empty());
}
