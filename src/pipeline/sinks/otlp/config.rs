//! `pipeline.sinks.otlp`: telemetry to an OpenTelemetry Collector, or to whatever speaks its protocol.

use crate::identity::config::ClientTls;
use crate::units;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Most bytes of `headers_file`.
const HEADERS_FILE_BYTES_MAX: u64 = 64 << 10;

/// What a secret is usually called, and where it then has to be.
const SECRETS: [&str; 6] = ["authorization", "cookie", "-key", "apikey", "token", "secret"];

/// What the sink says itself.
const OWN: [&str; 8] = [
    "content-type",
    "content-length",
    "te",
    "host",
    "connection",
    "transfer-encoding",
    "accept",
    "content-encoding",
];

/// `pipeline.sinks.otlp`: traces, logs and metrics by OTLP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "OtlpSink")]
pub struct Config {
    /// The sink's name in metrics and events; absent: its kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// `http://host:port` or `https://host:port`, with a path where the receiver has one: usually port 4317 for `grpc`,
    /// 4318 for `http_protobuf` (`/v1/traces` and so on is added).
    pub endpoint: String,
    /// How it is spoken to.
    #[serde(default)]
    pub protocol: Protocol,
    /// Fields for every request: `x-scope-orgid: team-a`. Secrets belong in `headers_file`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// A file with further fields, one `name: value` a line: for secrets. Read at start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "file"))]
    pub headers_file: Option<PathBuf>,
    /// How `https` is verified, and what is shown; absent: the system's authorities.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<ClientTls>,
    /// How long one export may take. OpenTelemetry's default (`OTEL_EXPORTER_OTLP_TIMEOUT`).
    #[serde(default = "timeout", with = "units::duration")]
    #[schemars(with = "units::DurationText")]
    pub timeout: Duration,
    /// Whether exchanges, attempts and the application's spans go out: those that are sampled, or kept for an error or
    /// slowness.
    #[serde(default = "yes")]
    pub traces: bool,
    /// Whether all other events go out, as log records.
    #[serde(default = "yes")]
    pub logs: bool,
    /// Whether metrics go out: the proxy's own and the application's.
    #[serde(default = "yes")]
    pub metrics: bool,
    /// How often the proxy's own metrics are sent. OpenTelemetry's default is `60s`; `15s` is Prometheus' usual interval.
    #[serde(default = "metrics_interval", with = "units::duration")]
    #[schemars(with = "units::DurationText")]
    pub metrics_interval: Duration,
    /// Most events in one batch, 1 to 65536. OpenTelemetry's default (`OTEL_BSP_MAX_EXPORT_BATCH_SIZE`).
    #[serde(default = "batch_events_max")]
    #[schemars(range(min = 1, max = 65536))]
    pub batch_events_max: usize,
}

/// OTLP's transports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "OtlpProtocol")]
pub enum Protocol {
    /// gRPC over HTTP/2.
    #[default]
    Grpc,
    /// Protocol Buffers over HTTP/1.1.
    HttpProtobuf,
}

fn timeout() -> Duration {
    Duration::from_secs(10)
}

fn metrics_interval() -> Duration {
    Duration::from_secs(15)
}

fn batch_events_max() -> usize {
    512
}

fn yes() -> bool {
    true
}

impl Config {
    /// Everything to its default but the place.
    pub fn to(endpoint: &str) -> Config {
        Config {
            name: None,
            endpoint: endpoint.into(),
            protocol: Protocol::default(),
            headers: BTreeMap::new(),
            headers_file: None,
            tls: None,
            timeout: timeout(),
            traces: true,
            logs: true,
            metrics: true,
            metrics_interval: metrics_interval(),
            batch_events_max: batch_events_max(),
        }
    }

    /// What is wrong with the numbers; the rest is found when the sink is made.
    pub(super) fn check(&self) -> Result<(), String> {
        if !(1..=65536).contains(&self.batch_events_max) {
            return Err(format!("`batch_events_max` is {}: write 1 to 65536", self.batch_events_max));
        }
        if self.timeout.is_zero() || self.metrics_interval.is_zero() {
            return Err("`timeout` and `metrics_interval` must be more than 0s".into());
        }
        Ok(())
    }

    /// The fields of every request: of the configuration, and of the file.
    pub(super) fn all_headers(&self, base_dir: &Path) -> Result<Vec<(String, String)>, String> {
        let mut all = Vec::new();
        for (name, value) in &self.headers {
            let lower = name.to_ascii_lowercase();
            if SECRETS.iter().any(|secret| lower.contains(secret)) {
                return Err(format!(
                    "`headers` has `{name}`, which looks like a secret: write it into the file of `headers_file`"
                ));
            }
            all.push(checked(name, value).map_err(|why| format!("`headers`: {why}"))?);
        }
        if let Some(path) = &self.headers_file {
            let path = base_dir.join(path);
            let text = read(&path).map_err(|error| format!("`headers_file` {}: {error}", path.display()))?;
            for (index, line) in text.lines().enumerate() {
                if line.trim().is_empty() || line.trim_start().starts_with('#') {
                    continue;
                }
                let place = || format!("`headers_file` {} line {}", path.display(), index + 1);
                // What the line says is not told: it may be a secret.
                let (name, value) =
                    line.split_once(':').ok_or_else(|| format!("{}: write `name: value`", place()))?;
                all.push(checked(name.trim(), value.trim()).map_err(|why| format!("{}: {why}", place()))?);
            }
        }
        Ok(all)
    }
}

fn read(path: &Path) -> std::io::Result<String> {
    use std::io::{Error, Read};
    let mut text = String::new();
    std::fs::File::open(path)?.take(HEADERS_FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
    match text.len() as u64 > HEADERS_FILE_BYTES_MAX {
        true => Err(Error::other("it is larger than 64 KiB")),
        false => Ok(text),
    }
}

fn checked(name: &str, value: &str) -> Result<(String, String), String> {
    let lower = name.to_ascii_lowercase();
    if http::HeaderName::from_bytes(lower.as_bytes()).is_err() {
        return Err("a field's name has a character that it must not have".into());
    }
    if OWN.contains(&lower.as_str()) || lower.starts_with("grpc-") {
        return Err(format!("`{lower}` is written by the sink itself: leave it out"));
    }
    if http::HeaderValue::from_str(value).is_err() {
        return Err(format!("the value of `{lower}` has a character that it must not have"));
    }
    Ok((lower, value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_all_that_must_be_written() {
        let config: Config = serde_json::from_str(r#"{"endpoint":"http://collector:4317"}"#).unwrap();
        assert_eq!(config, Config::to("http://collector:4317"));
        assert_eq!(
            (config.timeout, config.batch_events_max, config.metrics_interval),
            (Duration::from_secs(10), 512, Duration::from_secs(15))
        );
        let text = serde_json::to_string(&config).unwrap();
        assert_eq!(serde_json::from_str::<Config>(&text).unwrap(), config);
        assert!(serde_json::from_str::<Config>(r#"{"endpoint":"http://a","compression":"gzip"}"#).is_err());
    }

    #[test]
    fn fields_come_from_the_configuration_and_secrets_from_a_file() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("headers");
        let mut config = Config::to("http://a");
        config.headers.insert("X-Scope-OrgID".into(), "team-a".into());
        config.headers_file = Some("headers".into());
        std::fs::write(&file, "# for the collector\n\nAuthorization: Bearer a:b=\n").unwrap();
        let all = config.all_headers(directory.path()).unwrap();
        assert_eq!(
            all,
            [("x-scope-orgid".into(), "team-a".into()), ("authorization".into(), "Bearer a:b=".into())]
        );
        for (text, says) in [
            ("nonsense hunter2", "line 1"),
            ("a: b\nte: hunter2", "itself"),
            ("a b: hunter2", "name"),
            ("a: hunter2\u{1}", "value"),
        ] {
            std::fs::write(&file, text).unwrap();
            let why = config.all_headers(directory.path()).unwrap_err();
            assert!(why.contains(says) && !why.contains("hunter2"), "{why}");
        }
        std::fs::remove_file(&file).unwrap();
        assert!(config.all_headers(directory.path()).unwrap_err().contains("headers_file"));
        for name in ["Authorization", "x-api-key", "DD-API-KEY", "x-token"] {
            let config = Config {
                headers: [(name.to_owned(), "hunter2".to_owned())].into(),
                ..Config::to("http://a")
            };
            let why = config.all_headers(directory.path()).unwrap_err();
            assert!(why.contains("headers_file") && !why.contains("hunter2"), "{why}");
        }
    }
}
