//! Discovery: where the endpoints of a cluster come from.
//!
//! [`start`] feeds one [`Cluster`]: from the endpoints in its configuration (`static_list`), from DNS (`dns`) or from
//! a file (`file`). Everything runs on the control runtime; requests only see that the endpoint set was replaced.
//!
//! How it fails: a source that fails, or that suddenly knows of no endpoint, changes nothing but the reason that
//! [`Cluster::mark_stale`] is given; the last good endpoints stay, and the source is asked again after 1 s, then 2 s,
//! up to 30 s. The proxy's own log tells of the first failure, of another reason, and of the recovery.

mod dns;
mod feed;
mod file;
mod resolve;
mod schedule;
mod static_list;

use crate::cluster::config::{Config, Discovery};
use crate::cluster::{Cluster, Target};
use feed::Feed;
use schedule::Schedule;
use static_list::StaticList;
use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// A source that is asked again and again.
trait Discover: Send {
    /// Asks once.
    fn find(&mut self) -> impl Future<Output = Found> + Send;
}

/// One answer of a source.
#[derive(Debug, Default)]
struct Found {
    /// The endpoints; if there is a problem, those that are known all the same, perhaps none.
    targets: Vec<Target>,
    /// Why the answer is not, or not all of it, from now.
    problem: Option<String>,
    /// How long it holds; `None`: for ever.
    ttl: Option<Duration>,
}

impl Found {
    fn nothing(problem: String) -> Found {
        Found { problem: Some(problem), ..Found::default() }
    }
}

/// A discovery that runs; it stops when this is dropped. The cluster keeps the endpoints that it has.
#[derive(Debug)]
pub struct Running {
    first: watch::Receiver<Option<bool>>,
    task: Option<JoinHandle<()>>,
}

impl Running {
    /// Waits for the first answer and tells whether it was good; the cluster has it then. A failure is an answer too:
    /// waiting for the next try is up to the caller, and so is the bound (a resolver may take 10 s to give up).
    pub async fn first(&self) -> bool {
        let mut first = self.first.clone();
        // The sender is gone when the task has ended, which is after the first answer.
        first.wait_for(Option::is_some).await.is_ok_and(|answer| *answer == Some(true))
    }

    /// Whether the source is asked again; fixed addresses are not.
    pub fn is_polling(&self) -> bool {
        self.task.as_ref().is_some_and(|task| !task.is_finished())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

/// Starts to feed `cluster` as `config` says. Addresses that need no look-up are in the cluster on return; everything
/// else runs on `handle`. Relative paths start at `base_dir`.
pub fn start(config: &Config, cluster: Arc<Cluster>, base_dir: &Path, handle: &Handle) -> Running {
    let (mut feed, first) = Feed::new(cluster);
    let task = match &config.discovery {
        None => {
            let list = StaticList::new(config.endpoints.clone());
            match list.fixed() {
                Some(targets) => {
                    feed.publish(Found { targets, ..Found::default() });
                    None
                }
                None => Some(handle.spawn(run(list, feed, Schedule::default()))),
            }
        }
        Some(Discovery::Dns(config)) => {
            let schedule = Schedule::every(config.refresh);
            Some(handle.spawn(run(dns::Dns::new(config.clone()), feed, schedule)))
        }
        Some(Discovery::File(config)) => Some(handle.spawn(file::run(base_dir.join(&config.path), feed))),
    };
    Running { first, task }
}

async fn run(mut source: impl Discover, mut feed: Feed, mut schedule: Schedule) {
    loop {
        let found = source.find().await;
        let next = schedule.next(&found);
        feed.publish(found);
        match next {
            Some(delay) => tokio::time::sleep(delay).await,
            None => return,
        }
    }
}

#[cfg(test)]
mod tests;
