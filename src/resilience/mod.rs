//! What keeps an exchange from waiting for ever, and from failing when it need not.

pub mod admission;
mod backoff;
pub mod circuit_breaker;
pub mod concurrency;
pub mod config;
pub mod deadline;
pub mod fair_queue;
mod hedge;
pub mod load_shed;
#[cfg(test)]
mod mock;
pub mod overload;
pub mod retry;
mod stream;
pub mod timeout;
