//! The configuration of a test: the smallest file that works on free ports, plus what the test adds to a section.

use std::fmt::Write;
use std::net::SocketAddr;
use std::path::Path;

/// Sections in the order they are written. Every port is 0; one worker, so that pools are predictable.
#[derive(Clone, Debug)]
pub struct Setup {
    sections: Vec<(String, String)>,
    scalars: Vec<(String, String)>,
    /// Further sinks, by kind.
    sinks: Vec<(String, String)>,
}

impl Setup {
    /// A sidecar in front of the HTTP/1 app at `app`.
    pub fn app(app: SocketAddr) -> Self {
        Setup::app_speaking(app, "http1")
    }

    /// A sidecar of the service `name`, in front of the HTTP/1 app at `app`.
    pub fn named(name: &str, app: SocketAddr) -> Self {
        let mut setup = Setup::app(app);
        for (_, lines) in setup.sections.iter_mut().filter(|(section, _)| section == "service") {
            *lines = lines.replacen("name: checkout", &format!("name: {name}"), 1);
        }
        setup
    }

    /// A sidecar in front of an app that speaks `protocol`: `auto`, `http1`, `http2` or `tcp`.
    pub fn app_speaking(app: SocketAddr, protocol: &str) -> Self {
        let mut setup =
            Setup::bare().section("service", &format!("app: \"{app}\"\napp_protocol: {protocol}"));
        setup.sections.retain(|(name, _)| name != "inbound");
        setup.section("inbound", "address: \"127.0.0.1:0\"")
    }

    /// A sidecar without an app, and so without an inbound listener.
    pub fn bare() -> Self {
        let mut setup =
            Setup { sections: Vec::new(), scalars: vec![("workers".into(), "1".into())], sinks: Vec::new() };
        setup = setup.section("service", "name: checkout");
        for name in ["outbound", "admin", "telemetry"] {
            setup = setup.section(name, "address: \"127.0.0.1:0\"");
        }
        setup.section("inbound", "address: none")
    }

    /// Adds lines to a section; it begins if it is not there yet.
    #[must_use]
    pub fn section(mut self, name: &str, lines: &str) -> Self {
        let index = self.sections.iter().position(|(have, _)| have == name).unwrap_or_else(|| {
            self.sections.push((name.to_owned(), String::new()));
            self.sections.len() - 1
        });
        let text = &mut self.sections[index].1;
        text.push_str(lines.trim_end());
        text.push('\n');
        self
    }

    /// Sets how many workers run.
    #[must_use]
    pub fn workers(mut self, count: usize) -> Self {
        self.scalars = vec![("workers".into(), count.to_string())];
        self
    }

    /// Adds a sink of this kind. The file of events is there anyway, unless `file` is given here: then `EVENTS` in it stands
    /// for that file's path.
    #[must_use]
    pub fn sink(mut self, kind: &str, lines: &str) -> Self {
        self.sinks.push((kind.to_owned(), lines.to_owned()));
        self
    }

    /// The file's text, with events written to `events`.
    pub fn yaml(&self, events: &Path) -> String {
        let mut text = String::new();
        for (name, value) in &self.scalars {
            let _ = writeln!(text, "{name}: {value}");
        }
        let pipeline = self.sections.iter().filter(|(name, _)| name == "pipeline");
        for (name, lines) in self.sections.iter().filter(|(name, _)| name != "pipeline") {
            let _ = writeln!(text, "{name}:");
            for line in lines.lines() {
                let _ = writeln!(text, "  {line}");
            }
        }
        let _ = writeln!(text, "pipeline:\n  sinks:");
        if !self.sinks.iter().any(|(kind, _)| kind == "file") {
            let _ = writeln!(text, "    file:\n      path: {events:?}");
        }
        for (kind, lines) in &self.sinks {
            let _ = writeln!(text, "    {kind}:");
            for line in lines.lines() {
                let _ = writeln!(text, "      {}", line.replace("EVENTS", &events.display().to_string()));
            }
        }
        for line in pipeline.flat_map(|(_, lines)| lines.lines()) {
            let _ = writeln!(text, "  {line}");
        }
        text
    }
}
