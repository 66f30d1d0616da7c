use super::report::Last;
use super::roster::CHECKS_MAX;
use super::*;
use std::time::SystemTime;

fn endpoints(numbers: impl IntoIterator<Item = u16>) -> Vec<Arc<Endpoint>> {
    targets(numbers).iter().map(|target| Arc::new(Endpoint::new(target))).collect()
}

fn last(failure: Option<&str>) -> Last {
    Last { at: SystemTime::UNIX_EPOCH, took: millis(1), failure: failure.map(Into::into) }
}

#[tokio::test(start_paused = true)]
async fn waits_have_their_jitter_and_a_seed_repeats_them() {
    let config = HealthCheck { jitter_percent: 15, ..HealthCheck::default() };
    let waits = |seed| {
        let endpoints = endpoints(0..1);
        let mut roster = Roster::new(Terms::of(&config), seed);
        let mut now = Instant::now();
        roster.follow(&endpoints, now, SystemTime::now());
        let mut waits = Vec::new();
        for _ in 0..200 {
            now = roster.next_due().unwrap();
            let endpoint = roster.take_due(now).unwrap();
            assert!(roster.take_due(now + secs(100)).is_none(), "never twice at once");
            roster.settle(endpoint.id, last(None), now);
            waits.push(roster.next_due().unwrap() - now);
        }
        waits
    };
    let some = waits(1);
    assert!(some.iter().all(|wait| (secs(10)..=millis(11_500)).contains(wait)), "{some:?}");
    let (least, most) = (some.iter().min().unwrap(), some.iter().max().unwrap());
    assert!(*least < millis(10_100) && *most > millis(11_400), "{least:?} {most:?}");
    assert_eq!(some, waits(1));
    assert_ne!(some, waits(2));
}

#[tokio::test(start_paused = true)]
async fn who_is_due_first_has_the_first_turn() {
    let endpoints = endpoints(0..300);
    let mut roster = Roster::new(Terms::of(&terms()), 1);
    let start = Instant::now();
    roster.follow(&endpoints, start, SystemTime::now());
    let late = start + secs(60);
    let first: Vec<_> = std::iter::from_fn(|| roster.take_due(late)).collect();
    assert_eq!(first.len(), CHECKS_MAX);
    assert_eq!(roster.next_due(), None, "not before one has ended");
    for endpoint in &first {
        roster.settle(endpoint.id, last(None), late);
    }
    // Those that were asked are due again, but those that were not are due for longer.
    let second: Vec<_> = std::iter::from_fn(|| roster.take_due(late + secs(60))).collect();
    let again = second.iter().filter(|endpoint| first.iter().any(|had| had.id == endpoint.id)).count();
    assert_eq!((second.len(), again), (CHECKS_MAX, 0));
}

#[tokio::test(start_paused = true)]
async fn what_is_removed_leaves_nothing_behind() {
    let all = endpoints(0..200);
    let mut roster = Roster::new(Terms::of(&terms()), 1);
    let now = Instant::now();
    for round in 0..50usize {
        roster.follow(&all[round..round + 100], now, SystemTime::now());
        assert_eq!((roster.report().len(), roster.pending()), (100, 100));
    }
    let late = now + secs(60);
    let under_way: Vec<_> = std::iter::from_fn(|| roster.take_due(late)).collect();
    assert_eq!(under_way.len(), 100);
    roster.follow(&[], late, SystemTime::now());
    for endpoint in under_way {
        assert!(roster.settle(endpoint.id, last(Some("no")), late).is_none());
    }
    assert_eq!((roster.pending(), roster.next_due()), (0, None));
    assert_eq!(roster.verdict(&[]), Some(false));
}

#[tokio::test(start_paused = true)]
async fn an_interval_of_zero_is_no_loop() {
    let zero = HealthCheck { interval: Duration::ZERO, fast_interval: Duration::ZERO, ..terms() };
    let world = World::new(0..1);
    let _running = world.start(&zero, 1);
    tokio::time::sleep(secs(1)).await;
    let count = world.asked.lock().unwrap().len();
    assert!((50..=110).contains(&count), "{count}");
}

#[tokio::test(start_paused = true)]
async fn fast_while_something_changes_and_slow_when_it_is_settled() {
    let world = World::new(0..1);
    let start = Instant::now();
    let _running = world.start(&terms(), 1);
    tokio::time::sleep(secs(5)).await;
    world.say(0, Answer::Bad("status 503, expected 200-299"));
    tokio::time::sleep(secs(20)).await;
    world.say(0, Answer::Good);
    tokio::time::sleep(secs(30)).await;
    let times: Vec<u64> =
        world.asked_at(0, start).iter().map(|at| (at.as_millis() as u64 + 50) / 1000).collect();
    // Good at once; bad at 10, and fast until the third failure; then slow; good at 32, and fast until the second.
    assert_eq!(times, [0, 10, 11, 12, 22, 32, 33, 43, 53]);
    assert_eq!(CHECKS_MAX, 128, "docs/health-checks.md names it");
}

#[tokio::test(start_paused = true)]
async fn a_slow_check_delays_only_itself() {
    let world = World::new(0..3);
    world.say(1, Answer::Never);
    world.say(2, Answer::After(millis(1500)));
    let start = Instant::now();
    let running = world.start(&terms(), 1);
    tokio::time::sleep(secs(60)).await;
    assert_eq!(world.asked_at(0, start).len(), 6, "every 10 s");
    // Cut after 2 s, asked again 10 s later.
    let hanging = world.asked_at(1, start);
    assert_eq!(hanging.len(), 5, "{hanging:?}");
    assert!(hanging.windows(2).all(|pair| (millis(12_000)..millis(12_300)).contains(&(pair[1] - pair[0]))));
    let reports = running.report();
    assert_eq!(reports[1].last.as_ref().unwrap().failure.as_deref(), Some("no answer within 2s"));
    let took = reports[2].last.as_ref().unwrap().took;
    assert!((millis(1500)..millis(1600)).contains(&took), "{took:?}");
    assert_eq!(reports[2].state, State::Healthy);
}

#[tokio::test(start_paused = true)]
async fn a_round_that_is_awaited_has_every_first_answer() {
    let world = World::new(0..20);
    world.say(3, Answer::After(millis(1800)));
    world.say(4, Answer::Bad("down"));
    let start = Instant::now();
    let running = world.start(&terms(), 1);
    assert!(running.first().await);
    assert!(start.elapsed() >= millis(1800));
    let states: Vec<_> = running.report().iter().map(|report| report.state).collect();
    assert_eq!(states.iter().filter(|state| **state == State::Healthy).count(), 19);
    assert_eq!(states[4], State::Unhealthy);
    let again = Instant::now();
    assert!(running.first().await);
    assert_eq!(again.elapsed(), Duration::ZERO, "there is nothing to wait for any more");
    world.cluster.update(&[]);
    assert!(!running.first().await, "nobody is there");
}
