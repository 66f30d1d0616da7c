//! A runtime of a sink's own: what waits does so with a deadline.
//!
//! It is made at the first use, belongs to the sink's thread, and does nothing between two calls. How it fails: a system
//! that has no descriptors left for it is a failure that is tried again.

use super::sink::Failure;
use std::time::Instant;
use tokio::runtime::{Builder, Runtime};

/// Runs futures on the calling thread.
#[derive(Default)]
pub(super) struct Driver {
    runtime: Option<Runtime>,
}

impl Driver {
    /// Runs a future until it is ready; `Ok(None)` when the deadline passed.
    ///
    /// # Errors
    /// There is no runtime.
    pub(super) fn run<T>(
        &mut self,
        deadline: Instant,
        future: impl Future<Output = T>,
    ) -> Result<Option<T>, Failure> {
        if self.runtime.is_none() {
            let made = Builder::new_current_thread().enable_all().build();
            self.runtime =
                Some(made.map_err(|error| Failure::retry(format!("cannot make a runtime: {error}")))?);
        }
        let Some(runtime) = &self.runtime else { return Err(Failure::retry("there is no runtime")) };
        Ok(runtime.block_on(async { tokio::time::timeout_at(deadline.into(), future).await.ok() }))
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // A resolver that does not answer must not hold up a reload.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
