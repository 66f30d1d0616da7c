//! The proxy's own log: JSON lines on stderr, its level changed while it runs.

use tracing_subscriber::filter::LevelFilter;
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
        check(level)?;
        let filter = EnvFilter::builder().parse(level).map_err(|error| format!("`{level}`: {error}"))?;
        handle.reload(filter).map_err(|error| error.to_string())
    })
}

/// `EnvFilter` takes a word that is no level for the name of a module, and silences everything else.
fn check(level: &str) -> Result<(), String> {
    for directive in level.split(',') {
        let word = directive.rsplit('=').next().unwrap_or_default().trim();
        if word.is_empty() || word.parse::<LevelFilter>().is_err() {
            return Err(format!(
                "`{word}` is not a level; write off, error, warn, info, debug or trace, or `module=level`, separated by commas"
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::check;

    #[test]
    fn levels_and_modules_with_levels_are_taken_and_nothing_else() {
        for level in ["debug", "sidelight=debug,h2=warn", "off", "info, hyper=trace"] {
            assert!(check(level).is_ok(), "{level}");
        }
        for level in ["degub", "", "sidelight", "sidelight=loud", "debug,", "no such level!"] {
            assert!(check(level).is_err(), "{level}");
        }
    }
}
