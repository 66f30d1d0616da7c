use super::checker::LOOK_INTERVAL;
use super::*;

/// As an ejection does; with no sweep, it does not end by itself.
fn eject(endpoint: &Endpoint) {
    endpoint.health.set(Reason::Ejected);
}

fn pending(world: &World, number: u16) {
    // What the cluster does with new endpoints when it has checks.
    world.endpoint(number).health.set(Reason::CheckPending);
}

#[tokio::test(start_paused = true)]
async fn the_first_answer_decides_at_once() {
    let mut world = World::new(0..2);
    (0..2).for_each(|number| pending(&world, number));
    world.say(1, Answer::Bad("connection refused"));
    let running = world.start(&terms(), 1);
    assert!(running.first().await);
    assert!(world.endpoint(0).health.is_usable());
    let reasons: Vec<Reason> = world.endpoint(1).health.reasons().collect();
    assert_eq!(reasons, [Reason::CheckFailed]);
    let mut changes = world.changes();
    changes.sort_by_key(|(address, _)| *address);
    let expected = [(address(0), healthy(true)), (address(1), unhealthy(true, "connection refused"))];
    assert_eq!(changes, expected);
    assert_eq!((world.cluster.stats.checks_passed.get(), world.cluster.stats.checks_failed.get()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_fails_and_comes_back() {
    let mut world = World::new(0..1);
    let running = world.start(&terms(), 1);
    assert!(running.first().await);
    world.changes();
    world.say(0, Answer::Bad("status 503, expected 200-299"));
    tokio::time::sleep(millis(11_500)).await;
    assert_eq!(running.report()[0].against, 2);
    assert!(world.endpoint(0).health.is_usable(), "two failures are not enough");
    tokio::time::sleep(secs(1)).await;
    assert!(world.endpoint(0).health.has(Reason::CheckFailed));
    assert_eq!(world.changes(), [(address(0), unhealthy(false, "status 503, expected 200-299"))]);
    world.say(0, Answer::Good);
    tokio::time::sleep(secs(12)).await;
    assert!(world.endpoint(0).health.is_usable());
    assert_eq!(world.changes(), [(address(0), healthy(false))]);
    let report = &running.report()[0];
    assert_eq!((report.state, report.against, report.failed), (State::Healthy, 0, 3));
    assert_eq!(report.last.as_ref().unwrap().failure, None);
}

#[tokio::test(start_paused = true)]
async fn one_failure_among_successes_changes_nothing() {
    let mut world = World::new(0..1);
    let running = world.start(&terms(), 1);
    running.first().await;
    world.changes();
    for _ in 0..10 {
        world.say(0, Answer::Bad("status 500, expected 200-299"));
        tokio::time::sleep(secs(10)).await;
        world.say(0, Answer::Good);
        tokio::time::sleep(secs(2)).await;
        assert!(world.endpoint(0).health.is_usable());
    }
    assert!(world.changes().is_empty());
    assert!(world.cluster.stats.checks_failed.get() >= 5);
}

#[tokio::test(start_paused = true)]
async fn a_success_ends_an_ejection() {
    let mut world = World::new(0..2);
    let running = world.start(&terms(), 1);
    running.first().await;
    world.changes();
    eject(&world.endpoint(0));
    world.endpoint(0).health.consecutive_5xx.store(3, std::sync::atomic::Ordering::Relaxed);
    tokio::time::sleep(secs(11)).await;
    assert!(world.endpoint(0).health.is_usable());
    assert_eq!(world.endpoint(0).health.consecutive_5xx.load(std::sync::atomic::Ordering::Relaxed), 0);
    assert_eq!(world.changes(), [(address(0), What::Unejected { by: "health_check" })]);
    assert_eq!(world.cluster.stats.unejections.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_second_ejection_is_ended_by_checks_only_if_they_failed_too() {
    let mut world = World::new(0..2);
    let running = world.start(&terms(), 1);
    running.first().await;
    let endpoint = world.endpoint(0);
    eject(&endpoint);
    endpoint.health.ejections.store(2, std::sync::atomic::Ordering::Relaxed);
    world.changes();
    tokio::time::sleep(secs(35)).await;
    assert!(endpoint.health.has(Reason::Ejected), "the checks pass, and did so when requests failed");
    assert_eq!(world.changes(), []);
    world.say(0, Answer::Bad("down"));
    tokio::time::sleep(secs(13)).await;
    world.say(0, Answer::Good);
    tokio::time::sleep(secs(12)).await;
    assert!(endpoint.health.is_usable());
    let changes: Vec<What> = world.changes().into_iter().map(|(_, what)| what).collect();
    assert_eq!(changes, [unhealthy(false, "down"), healthy(false), What::Unejected { by: "health_check" }]);
}

#[tokio::test(start_paused = true)]
async fn an_ejection_stays_while_checks_do_not_say_healthy_or_may_not() {
    let off = OutlierDetection {
        successful_active_health_check_uneject_host: false,
        ..OutlierDetection::default()
    };
    let world = World::with(0..1, off);
    let running = world.start(&terms(), 1);
    running.first().await;
    eject(&world.endpoint(0));
    tokio::time::sleep(secs(25)).await;
    assert!(world.endpoint(0).health.has(Reason::Ejected), "it may not");

    let mut world = World::new(0..1);
    world.say(0, Answer::Bad("down"));
    let running = world.start(&terms(), 1);
    running.first().await;
    eject(&world.endpoint(0));
    world.say(0, Answer::Good);
    tokio::time::sleep(millis(10_500)).await;
    assert!(world.endpoint(0).health.has(Reason::Ejected), "one success of two does not make it healthy");
    tokio::time::sleep(secs(1)).await;
    assert!(world.endpoint(0).health.is_usable());
    let changes: Vec<What> = world.changes().into_iter().map(|(_, what)| what).collect();
    let expected = [unhealthy(true, "down"), healthy(false), What::Unejected { by: "health_check" }];
    assert_eq!(changes, expected);
}

#[tokio::test(start_paused = true)]
async fn new_endpoints_are_asked_soon_and_gone_ones_no_more() {
    let world = World::new(0..2);
    let running = world.start(&terms(), 1);
    running.first().await;
    let start = Instant::now();
    world.cluster.update(&targets([1, 2]));
    pending(&world, 2);
    tokio::time::sleep(LOOK_INTERVAL + millis(20)).await;
    assert_eq!(world.asked_at(2, start).len(), 1, "new");
    assert!(world.endpoint(2).health.is_usable());
    let known: Vec<_> = running.report().iter().map(|report| report.address).collect();
    assert_eq!(known, [address(1), address(2)]);
    world.asked.lock().unwrap().clear();
    tokio::time::sleep(secs(60)).await;
    assert!(world.asked_at(0, start).is_empty(), "gone");
    assert_eq!(world.asked_at(1, start).len(), 6, "it keeps its turn");
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_whose_weight_changes_stays_the_same() {
    let mut world = World::new(0..1);
    let running = world.start(&terms(), 1);
    running.first().await;
    world.changes();
    let heavier = Target { weight: 7, ..Target::new(address(0)) };
    world.cluster.update(&[heavier]);
    world.say(0, Answer::Bad("down"));
    tokio::time::sleep(secs(13)).await;
    assert!(world.endpoint(0).health.has(Reason::CheckFailed));
    assert_eq!(world.changes(), [(address(0), unhealthy(false, "down"))]);
}

#[tokio::test(start_paused = true)]
async fn an_answer_of_an_endpoint_that_left_meanwhile_changes_nothing() {
    let mut world = World::new(0..1);
    let running = world.start(&terms(), 1);
    running.first().await;
    world.changes();
    world.say(0, Answer::Never);
    tokio::time::sleep(secs(11)).await;
    let gone = world.endpoint(0);
    world.cluster.update(&targets([0, 1]));
    world.cluster.update(&targets([1]));
    tokio::time::sleep(secs(5)).await;
    assert!(!gone.health.has(Reason::CheckFailed));
    // It comes back at the same address: another endpoint, and all is new.
    world.say(0, Answer::Bad("starting"));
    world.cluster.update(&targets([0, 1]));
    tokio::time::sleep(secs(1)).await;
    assert_ne!(world.endpoint(0).id, gone.id);
    assert_eq!(world.changes(), [(address(1), healthy(true)), (address(0), unhealthy(true, "starting"))]);
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_panics_is_a_check_that_failed() {
    let mut world = World::new(0..2);
    world.say(0, Answer::Panic);
    let running = world.start(&terms(), 1);
    assert!(running.first().await, "the other one is healthy");
    assert!(world.changes().contains(&(address(0), unhealthy(true, "the check itself failed"))));
    world.say(0, Answer::Good);
    tokio::time::sleep(secs(13)).await;
    assert!(world.endpoint(0).health.is_usable());
}

#[tokio::test(start_paused = true)]
async fn it_stops_when_it_is_dropped() {
    let world = World::new(0..3);
    world.say(0, Answer::Never);
    let running = world.start(&terms(), 1);
    tokio::time::sleep(secs(1)).await;
    assert_eq!(world.under_way.lock().unwrap().now, 1);
    drop(running);
    tokio::time::sleep(millis(1)).await;
    assert_eq!(world.under_way.lock().unwrap().now, 0, "checks that are under way end too");
    let count = world.asked.lock().unwrap().len();
    tokio::time::sleep(secs(60)).await;
    assert_eq!(world.asked.lock().unwrap().len(), count);
    assert_eq!(Arc::strong_count(&world.cluster), 1, "nothing holds the cluster");
}

#[tokio::test]
async fn a_real_cluster_from_configuration_to_health() {
    use crate::cluster::config::HttpCheck;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let vacant = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let up = listener.local_addr().unwrap();
    let server = tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let _ = socket.read(&mut [0; 1024]).await;
            let _ = socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
        }
    });
    let world = World::new(0..0);
    world.cluster.update(&[Target::new(up), Target::new(vacant)]);
    let config = HealthCheck { http: Some(HttpCheck::default()), ..HealthCheck::default() };
    let running = start(Arc::clone(&world.cluster), &config, &Handle::current(), 1);
    assert!(tokio::time::timeout(secs(20), running.first()).await.unwrap());
    for report in running.report() {
        let failure = report.last.as_ref().and_then(|last| last.failure.as_deref());
        let expected = if report.address == up { None } else { Some("connection refused") };
        assert_eq!((failure, report.passed + report.failed), (expected, 1));
    }
    drop(running);
    let broken =
        HealthCheck { http: Some(HttpCheck { path: "up".into(), ..HttpCheck::default() }), ..config };
    let running = start(Arc::clone(&world.cluster), &broken, &Handle::current(), 1);
    assert!(!tokio::time::timeout(secs(20), running.first()).await.unwrap());
    for report in running.report() {
        let failure = report.last.unwrap().failure.unwrap();
        assert_eq!(&*failure, "health.http.path: `up` is not a path");
    }
    server.abort();
}
