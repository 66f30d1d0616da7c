//! What the proxy still waits for before it is ready.
//!
//! Whoever must be done first holds a [`Pending`] with a name; when the last is dropped, the proxy is ready. Draining
//! takes one, too. (The shape is ztunnel's.) How it fails: a task that ends or panics drops its guard; one that hangs is
//! named by `/ready`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The names of what is not done.
#[derive(Debug, Default)]
pub struct Readiness(Mutex<BTreeMap<String, usize>>);

/// Something that is not done; dropping it says that it is.
#[derive(Debug)]
#[must_use = "dropping it says that the task is done"]
pub struct Pending {
    readiness: Arc<Readiness>,
    name: String,
}

impl Readiness {
    /// With nothing to wait for.
    pub fn new() -> Arc<Readiness> {
        Arc::default()
    }

    /// The proxy is not ready until the guard is dropped. A name may be taken several times.
    pub fn wait_for(self: &Arc<Self>, name: impl Into<String>) -> Pending {
        let name = name.into();
        *self.lock().entry(name.clone()).or_default() += 1;
        Pending { readiness: Arc::clone(self), name }
    }

    /// What is not done, by name; nothing: ready.
    pub fn pending(&self) -> Vec<String> {
        self.lock().keys().cloned().collect()
    }

    /// Whether there is nothing to wait for.
    pub fn is_ready(&self) -> bool {
        self.lock().is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, usize>> {
        // A map of counts is never half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        let mut names = self.readiness.lock();
        match names.get_mut(&self.name) {
            Some(count) if *count > 1 => *count -= 1,
            _ => {
                names.remove(&self.name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_when_the_last_guard_is_gone() {
        let readiness = Readiness::new();
        assert!(readiness.is_ready());
        let (listeners, first, second) =
            (readiness.wait_for("listeners"), readiness.wait_for("dns"), readiness.wait_for("dns"));
        assert_eq!(readiness.pending(), ["dns", "listeners"]);
        drop(first);
        assert_eq!(readiness.pending(), ["dns", "listeners"], "the other one still waits");
        drop((second, listeners));
        assert!(readiness.is_ready());
        let draining = readiness.wait_for("draining");
        assert_eq!(readiness.pending(), ["draining"]);
        drop(draining);
    }
}
