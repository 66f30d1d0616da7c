//! Discovery: where the endpoints of a cluster come from.
//!
//! [`start`] feeds one [`Cluster`]: from the endpoints in its configuration (`static_list`), from DNS (`dns`), from a file
//! (`file`), or from the first and one of the others together. Everything runs on the control runtime; requests only
//! see that the endpoint set was replaced.
//!
//! Every source is a [`Discover`]: it is waited for, and says what there is whenever there is news. A source that is asked
//! (DNS) waits by its own schedule and asks; one that is told (a watch of Kubernetes' EndpointSlices, a blocking query
//! of Consul, a stream of xDS) waits for the next message, folds what has changed into what it knows, and says the
//! whole. Which of both it is, nobody else needs to know.
//!
//! How it fails: a source that fails, or that suddenly knows of no endpoint, changes nothing but the reason that the
//! cluster is marked with ([`Cluster::mark_stale`], which is where events and the log learn of it); the last good
//! endpoints stay, and the source is asked again after 1 s, then 2 s, up to 30 s, with a random part. What other
//! sources say is not affected. An empty list that was written, in a file, is meant.

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
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// A source of endpoints.
trait Discover: Send {
    /// Waits for news and tells all that is known then, not what has changed. The first answer comes as soon as there is
    /// one, good or bad; later ones whenever something may be different. `None`: there will be nothing new.
    ///
    /// A source bounds its own waits for others, backs off when they fail, and reports each failure as an answer with a
    /// problem. Dropping the future stops the source; nothing else ever interrupts it.
    fn next(&mut self) -> impl Future<Output = Option<Found>> + Send;
}

/// What a source knows.
#[derive(Debug, Default)]
struct Found {
    /// The endpoints; if there is a problem, those that are known all the same, perhaps none.
    targets: Vec<Target>,
    /// Why the answer is not, or not all of it, from now.
    problem: Option<String>,
    /// How long it holds, for a source that is asked; `None`: until further notice.
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

    /// Stops asking; the cluster keeps the endpoints that it has.
    pub fn stop(&self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }

    /// Whether the source is asked again; fixed addresses are not.
    pub fn is_polling(&self) -> bool {
        self.task.as_ref().is_some_and(|task| !task.is_finished())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Starts to feed `cluster` as `config` says. Addresses that need no look-up are in the cluster on return; everything
/// else runs on `handle`. Relative paths start at `base_dir`.
pub fn start(config: &Config, cluster: Arc<Cluster>, base_dir: &Path, handle: &Handle) -> Running {
    let schedule = |refresh| Schedule::new(refresh, Arc::clone(&cluster));
    let has_list = !config.endpoints.is_empty() || config.discovery.is_none();
    let list = StaticList::new(config.endpoints.clone(), schedule(None));
    let (mut feed, first) =
        Feed::new(Arc::clone(&cluster), usize::from(has_list) + usize::from(config.discovery.is_some()));
    let fixed = list.fixed();
    let list = match fixed {
        _ if !has_list => None,
        Some(targets) => {
            feed.take(0, Found { targets, ..Found::default() });
            None
        }
        None => Some(list),
    };
    let feed = Mutex::new(feed);
    let discovered = usize::from(has_list);
    let task = match &config.discovery {
        None => list.map(|list| handle.spawn(async move { run(list, 0, &feed).await })),
        Some(Discovery::Dns(config)) => {
            let dns = dns::Dns::new(config.clone(), schedule(config.refresh));
            Some(handle.spawn(run_both(list, dns, discovered, feed)))
        }
        Some(Discovery::File(config)) => {
            let names = StaticList::new(Vec::new(), schedule(None));
            let file = file::File::new(base_dir.join(&config.path), names);
            Some(handle.spawn(run_both(list, file, discovered, feed)))
        }
    };
    Running { first, task }
}

/// Feeds from the written list, if it needs look-ups, and from what is at the `discovered` place.
async fn run_both(list: Option<StaticList>, source: impl Discover, discovered: usize, feed: Mutex<Feed>) {
    let listed = async {
        if let Some(list) = list {
            run(list, 0, &feed).await;
        }
    };
    tokio::join!(listed, run(source, discovered, &feed));
}

async fn run(mut source: impl Discover, place: usize, feed: &Mutex<Feed>) {
    while let Some(found) = source.next().await {
        feed.lock().unwrap_or_else(PoisonError::into_inner).take(place, found);
    }
}

#[cfg(test)]
mod tests;
