use super::roster::CHECKS_MAX;
use super::*;

const MANY: u16 = 500;

#[tokio::test(start_paused = true)]
async fn many_endpoints_are_first_asked_one_by_one() {
    let world = World::new(0..MANY);
    for number in 0..MANY {
        world.say(number, Answer::After(millis(50)));
    }
    let start = Instant::now();
    let running = world.start(&terms(), 7);
    assert!(running.first().await);
    let took = start.elapsed();
    assert!(took > millis(800) && took < millis(1200), "spread over the fast interval: {took:?}");
    let asked = world.asked.lock().unwrap().clone();
    assert_eq!(asked.len(), usize::from(MANY), "each once");
    for tenth in 0..10 {
        let (from, to) = (start + millis(100 * tenth), start + millis(100 * (tenth + 1)));
        let count = asked.iter().filter(|(at, _)| (from..to).contains(at)).count();
        assert!((25..=75).contains(&count), "{count} checks in the tenth of a second number {tenth}");
    }
    assert!(world.under_way.lock().unwrap().most < 60);
}

#[tokio::test(start_paused = true)]
async fn checks_at_once_are_bounded_and_everybody_has_a_turn() {
    let world = World::new(0..MANY);
    for number in 0..MANY {
        world.say(number, Answer::Never);
    }
    let start = Instant::now();
    let running = world.start(&terms(), 7);
    assert!(!running.first().await);
    assert_eq!(world.under_way.lock().unwrap().most, CHECKS_MAX);
    // 500 checks of 2 s each, 128 at once: four rounds.
    let took = start.elapsed();
    assert!(took > secs(8) && took < secs(10), "{took:?}");
    let asked =
        world.asked.lock().unwrap().iter().map(|(_, who)| *who).collect::<std::collections::HashSet<_>>();
    assert_eq!(asked.len(), usize::from(MANY));
    assert_eq!(world.cluster.stats.checks_failed.get(), u64::from(MANY));
}

#[tokio::test(start_paused = true)]
async fn few_endpoints_are_known_at_once() {
    let world = World::new(0..3);
    let start = Instant::now();
    assert!(world.start(&terms(), 7).first().await);
    assert!(start.elapsed() <= millis(40), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn later_checks_do_not_march_in_step() {
    let world = World::new(0..MANY);
    let running = world.start(&HealthCheck { jitter_percent: 50, ..HealthCheck::default() }, 7);
    assert!(running.first().await);
    let start = Instant::now();
    world.asked.lock().unwrap().clear();
    tokio::time::sleep(secs(17)).await;
    let mut seconds = [0usize; 17];
    let mut seen = std::collections::HashSet::new();
    for (at, who) in world.asked.lock().unwrap().iter() {
        if seen.insert(*who) {
            seconds[(*at - start).as_secs() as usize] += 1;
        }
    }
    assert_eq!(seen.len(), usize::from(MANY));
    // 10 s to 15 s after the first check, which took place within a second.
    assert_eq!(seconds[..8].iter().sum::<usize>(), 0, "{seconds:?}");
    assert!(seconds.iter().all(|count| *count < 200), "{seconds:?}");
    assert!(seconds[10..15].iter().all(|count| *count > 40), "{seconds:?}");
}
