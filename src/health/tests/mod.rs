//! The task and the pure scheduler: a paused clock, and endpoints that answer as a test says.

mod effects;
mod schedule;
mod storm;

use super::*;
use crate::cluster::config::{Config, OutlierDetection};
use crate::cluster::{Change, Journal, Reason, Settings, Target, What};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::Duration;
use tokio::sync::mpsc::Receiver;
use tokio::time::Instant;

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn address(number: u16) -> SocketAddr {
    SocketAddr::from(([10, 0, (number >> 8) as u8, number as u8], 80))
}

fn targets(numbers: impl IntoIterator<Item = u16>) -> Vec<Target> {
    numbers.into_iter().map(|number| Target::new(address(number))).collect()
}

/// No jitter, so that times are exact.
fn terms() -> HealthCheck {
    HealthCheck { jitter_percent: 0, ..HealthCheck::default() }
}

/// What an endpoint does when it is asked.
#[derive(Clone, Copy, Debug)]
enum Answer {
    Good,
    Bad(&'static str),
    After(Duration),
    Never,
    Panic,
}

/// Endpoints that answer as they are told, a cluster of them, and when each was asked.
struct World {
    cluster: Arc<Cluster>,
    journal: Receiver<Change>,
    answers: Arc<Mutex<HashMap<SocketAddr, Answer>>>,
    asked: Arc<Mutex<Vec<(Instant, SocketAddr)>>>,
    under_way: Arc<Mutex<UnderWay>>,
}

#[derive(Default)]
struct UnderWay {
    now: usize,
    most: usize,
}

struct Counted(Arc<Mutex<UnderWay>>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.lock().unwrap().now -= 1;
    }
}

impl World {
    fn new(endpoints: impl IntoIterator<Item = u16>) -> World {
        World::with(endpoints, OutlierDetection::default())
    }

    fn with(endpoints: impl IntoIterator<Item = u16>, outlier_detection: OutlierDetection) -> World {
        let config = Config { outlier_detection, health: Some(terms()), ..Config::default() };
        let (journal, changes) = Journal::new();
        let cluster = Arc::new(Cluster::new("c", Settings::of(&config, ""), None, journal));
        cluster.update(&targets(endpoints));
        World {
            cluster,
            journal: changes,
            answers: Arc::default(),
            asked: Arc::default(),
            under_way: Arc::default(),
        }
    }

    fn start(&self, config: &HealthCheck, seed: u64) -> Running {
        let (answers, asked) = (Arc::clone(&self.answers), Arc::clone(&self.asked));
        let under_way = Arc::clone(&self.under_way);
        start_with(Arc::clone(&self.cluster), config, &Handle::current(), seed, move |endpoint| {
            asked.lock().unwrap().push((Instant::now(), endpoint.address));
            let answer = answers.lock().unwrap().get(&endpoint.address).copied().unwrap_or(Answer::Good);
            let mut counts = under_way.lock().unwrap();
            counts.now += 1;
            counts.most = counts.most.max(counts.now);
            let counted = Counted(Arc::clone(&under_way));
            async move {
                let _counted = counted;
                match answer {
                    Answer::Good => Ok(()),
                    Answer::Bad(why) => Err(why.to_owned()),
                    Answer::After(time) => {
                        tokio::time::sleep(time).await;
                        Ok(())
                    }
                    Answer::Never => std::future::pending().await,
                    Answer::Panic => panic!("a probe that is broken"),
                }
            }
        })
    }

    fn say(&self, number: u16, answer: Answer) {
        self.answers.lock().unwrap().insert(address(number), answer);
    }

    fn endpoint(&self, number: u16) -> Arc<Endpoint> {
        let set = self.cluster.endpoints();
        let found = set.endpoints.iter().find(|endpoint| endpoint.address == address(number));
        Arc::clone(found.expect("the endpoint"))
    }

    /// When `number` was asked, since `start`.
    fn asked_at(&self, number: u16, start: Instant) -> Vec<Duration> {
        let asked = self.asked.lock().unwrap();
        asked.iter().filter(|(_, who)| *who == address(number)).map(|(at, _)| *at - start).collect()
    }

    /// What was put on record since the last look.
    fn changes(&mut self) -> Vec<(SocketAddr, What)> {
        let mut changes = Vec::new();
        while let Ok(change) = self.journal.try_recv() {
            assert_eq!(&*change.cluster, "c");
            if let Some((_, address)) = change.endpoint {
                changes.push((address, change.what));
            }
        }
        changes
    }
}

fn healthy(is_first: bool) -> What {
    What::Healthy { is_first }
}

fn unhealthy(is_first: bool, why: &str) -> What {
    What::Unhealthy { is_first, why: why.into() }
}
