//! The proxy's own log: JSON lines on stderr, its level changed while it runs.

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, fmt, reload};

/// The environment variable that sets the level at start, as in `sidelight=debug,h2=warn`.
pub const LEVEL_VARIABLE: &str = "SIDELIGHT_LOG";

/// Starts the log; gives back what sets its level.
pub fn init() -> crate::control::SetLogLevel {
    let filter = EnvFilter::try_from_env(LEVEL_VARIABLE).unwrap_or_else(|_| EnvFilter::new("info"));
    let (filter, handle) = reload::Layer::<EnvFilter, Registry>::new(filter);
    let lines = fmt::layer()
        .json()
        .flatten_event(true)
        .with_current_span(false)
        .with_span_list(false)
        .with_writer(std::io::stderr);
    // Fails only when a log was started before, as tests do; then that one stays.
    let _ = tracing_subscriber::registry().with(filter).with(lines).try_init();
    Box::new(move |level| {
        let filter = EnvFilter::builder().parse(level).map_err(|error| format!("`{level}`: {error}"))?;
        handle.reload(filter).map_err(|error| error.to_string())
    })
}
