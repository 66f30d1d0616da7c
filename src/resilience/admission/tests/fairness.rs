//! One account cannot take the others' share.

use super::*;

/// Latencies of accounts that ask for their share, in the presence of one that asks for `heavy_rate` in a second.
/// And how many of them were refused.
fn others_latency(
    concurrency: &Concurrency,
    fair: Fair,
    heavy_rate: u32,
    seed: u64,
) -> (Vec<Duration>, usize) {
    let concurrency = concurrency.clone();
    // Timers are kept for others of the same thread, and belong to its runtime.
    std::thread::spawn(move || measure_others(concurrency, fair, heavy_rate, seed)).join().unwrap()
}

fn measure_others(
    concurrency: Concurrency,
    fair: Fair,
    heavy_rate: u32,
    seed: u64,
) -> (Vec<Duration>, usize) {
    let result = Rc::new(RefCell::new(Vec::new()));
    let into = Rc::clone(&result);
    run(async move {
        // 50 slots of 50 ms: 1,000 requests in a second. Eleven accounts, so a share is 90.
        let load_shed = LoadShed { fair, ..tiers(&[]) };
        let slots = Slots::uneven(50, 50 * MS, seed);
        let world = Rc::new(World::within(Some(concurrency), &load_shed, slots));
        let accounts = ["b", "c", "d", "e", "f", "g", "h", "i", "j", "k"];
        let (warm_up, end) = (Duration::from_secs(3), Duration::from_secs(9));
        let mut senders = Vec::new();
        let clients = accounts.into_iter().map(|account| (account, 60)).chain([("heavy", heavy_rate)]);
        for (index, (account, rate)) in clients.enumerate().filter(|(_, (_, rate))| *rate > 0) {
            let (world, into) = (Rc::clone(&world), Rc::clone(&into));
            senders.push(tokio::task::spawn_local(async move {
                let mut rng = Rng::new(seed * 100 + index as u64);
                let start = Instant::now();
                let mut at = if account == "heavy" { warm_up } else { Duration::ZERO };
                let mut told = Vec::new();
                while at < end {
                    // Poisson arrivals.
                    at += Duration::from_secs_f64(-(1.0 - uniform(&mut rng)).ln() / f64::from(rate));
                    tokio::time::sleep_until(start + at).await;
                    told.push((at, world.spawn(of(account, ""))));
                }
                for (at, told) in told {
                    let told = told.await.unwrap();
                    if account != "heavy" && at > warm_up {
                        into.borrow_mut().push((told.time, told.answer.is_err()));
                    }
                }
            }));
        }
        for sender in senders {
            sender.await.unwrap();
        }
    });
    let told = result.take();
    let refused = told.iter().filter(|(_, is_refused)| *is_refused).count();
    let mut times: Vec<_> = told.into_iter().map(|(time, _)| time).collect();
    times.sort_unstable();
    (times, refused)
}

/// One account at a hundred times its share leaves the others' 99th percentile within 1.5 times of what it is without.
#[test]
fn one_account_at_100_times_its_share_does_not_slow_the_others_down() {
    let p99 = |times: &[Duration]| times[times.len() * 99 / 100];
    for (name, config) in [("auto", Concurrency::default()), ("fixed", fixed(55))] {
        for seed in 1..=2 {
            let (alone, _) = others_latency(&config, Fair::AccountId, 0, seed);
            let (beside, refused) = others_latency(&config, Fair::AccountId, 9000, seed);
            assert!(alone.len() > 3000 && beside.len() > 3000);
            let (p99, p99_alone) = (p99(&beside), p99(&alone));
            let about =
                format!("{name}, seed {seed}: p99 {p99_alone:?} alone and {p99:?} beside; {refused} refused");
            assert!(p99 <= p99_alone.mul_f64(1.5) && refused == 0, "{about}");
        }
    }
    // In one line with all others, they wait behind it, and many are turned away.
    let (beside, refused) = others_latency(&fixed(55), Fair::None, 9000, 1);
    assert!(refused > beside.len() / 3, "{refused} of {}", beside.len());
}
