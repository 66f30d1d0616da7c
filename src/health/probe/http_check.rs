//! The HTTP check, whatever its version: the request, and what the answer must be.

use super::{CONTENT_BYTES_MAX, USER_AGENT, Verdict};
use crate::cluster::config::{HttpCheck, StatusRange};
use crate::units::HostPort;
use http::uri::{Authority, PathAndQuery};
use http::{Method, Request, Uri};
use memchr::memmem;
use std::net::SocketAddr;

/// What is asked for, and what the answer must be.
pub(super) struct Http {
    method: Method,
    path: PathAndQuery,
    host: Option<Authority>,
    statuses: Vec<StatusRange>,
    body: Option<String>,
}

impl Http {
    /// What `config` says.
    ///
    /// # Errors
    /// What of it cannot be asked.
    pub(super) fn new(config: &HttpCheck) -> Result<Http, String> {
        let method = match Method::from_bytes(config.method.as_bytes()) {
            Ok(method) if method != Method::CONNECT => method,
            _ => {
                return Err(format!(
                    "health.http.method: `{}` cannot be asked with",
                    config.method.escape_debug()
                ));
            }
        };
        let path = config.path.as_str();
        let path = match path.parse::<PathAndQuery>() {
            Ok(parsed) if path.starts_with('/') => parsed,
            _ => return Err(format!("health.http.path: `{}` is not a path", path.escape_debug())),
        };
        let host = match &config.host {
            None => None,
            Some(host) => Some(
                host.parse::<Authority>()
                    .map_err(|_| format!("health.http.host: `{}` is not a host", host.escape_debug()))?,
            ),
        };
        if config.statuses.is_empty() {
            return Err("health.http.statuses: none is healthy".into());
        }
        Ok(Http { method, path, host, statuses: config.statuses.clone(), body: config.body.clone() })
    }

    /// The request to the endpoint of this name, at `address`.
    pub(super) fn request(&self, scheme: &str, name: &str, address: SocketAddr) -> Request<()> {
        let authority = self.host.clone().unwrap_or_else(|| authority(name, address));
        let mut parts = http::uri::Parts::default();
        parts.scheme = scheme.parse().ok();
        parts.authority = Some(authority);
        parts.path_and_query = Some(self.path.clone());
        let mut request = Request::new(());
        *request.method_mut() = self.method.clone();
        // All three parts are there, so it is a URI.
        *request.uri_mut() = Uri::from_parts(parts).unwrap_or_default();
        let headers = request.headers_mut();
        headers.insert(http::header::USER_AGENT, http::HeaderValue::from_static(USER_AGENT));
        headers.insert(http::header::ACCEPT, http::HeaderValue::from_static("*/*"));
        request
    }

    /// Judges the status.
    ///
    /// # Errors
    /// What it is, and what it should be. A redirect is not followed: where it leads is not this endpoint.
    pub(super) fn judge_status(&self, status: u16) -> Verdict {
        if self.statuses.iter().any(|range| range.contains(status)) {
            return Ok(());
        }
        let text = |range: &StatusRange| match (range.first, range.last) {
            (first, last) if first == last => first.to_string(),
            (first, last) => format!("{first}-{last}"),
        };
        let expected: Vec<String> = self.statuses.iter().map(text).collect();
        Err(format!("status {status}, expected {}", expected.join(", ")))
    }

    /// Judges the content, or as much of it as is looked at.
    ///
    /// # Errors
    /// What it lacks.
    pub(super) fn judge_content(&self, content: &[u8]) -> Verdict {
        let content = content.get(..CONTENT_BYTES_MAX).unwrap_or(content);
        match &self.body {
            Some(text) if memmem::find(content, text.as_bytes()).is_none() => {
                Err(format!("the body ({} bytes) does not contain `{}`", content.len(), text.escape_debug()))
            }
            _ => Ok(()),
        }
    }
}

/// What an endpoint is asked for as: its name as configured, with the port that is asked. A name that is none (DNS can
/// carry any bytes) is replaced by the address.
pub(super) fn authority(name: &str, address: SocketAddr) -> Authority {
    let named = name.parse::<HostPort>().ok().map(|HostPort { host, .. }| {
        HostPort { host: host.trim_end_matches('.').to_owned(), port: address.port() }.to_string()
    });
    // Without the zone that an IPv6 address may have: it means something on this machine only (RFC 6874 §4).
    let bare = || SocketAddr::new(address.ip(), address.port()).to_string();
    let text = named.unwrap_or_else(bare);
    let fallback = || Authority::from_static("localhost"); // an address is always one
    text.parse().or_else(|_| bare().parse()).unwrap_or_else(|_| fallback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn http(edit: impl FnOnce(&mut HttpCheck)) -> Result<Http, String> {
        let mut config = HttpCheck::default();
        edit(&mut config);
        Http::new(&config)
    }

    #[test]
    fn the_request_names_the_endpoint_as_configured() {
        let http = http(|config| config.path = "/healthz?deep=1".into()).unwrap();
        let address = "10.0.0.7:9090".parse().unwrap();
        for (name, expected) in [
            ("payments.internal:8080", "http://payments.internal:9090/healthz?deep=1"),
            ("payments.internal.:9090", "http://payments.internal:9090/healthz?deep=1"),
            ("[::1]:8080", "http://[::1]:9090/healthz?deep=1"),
            ("10.0.0.7:9090", "http://10.0.0.7:9090/healthz?deep=1"),
            ("bad\r\nname:1", "http://10.0.0.7:9090/healthz?deep=1"),
            ("", "http://10.0.0.7:9090/healthz?deep=1"),
        ] {
            assert_eq!(http.request("http", name, address).uri(), expected, "{name:?}");
        }
        let link_local = "[fe80::1%3]:80".parse().unwrap();
        assert_eq!(http.request("https", "", link_local).uri(), "https://[fe80::1]:80/healthz?deep=1");
    }

    #[test]
    fn a_configured_host_is_asked_for() {
        let http = http(|config| config.host = Some("api.example".into())).unwrap();
        let request = http.request("https", "10.0.0.7:8443", "10.0.0.7:8443".parse().unwrap());
        assert_eq!(request.uri(), "https://api.example/");
        assert_eq!(request.headers()["user-agent"], USER_AGENT);
        assert!(USER_AGENT.starts_with("sidelight-health/"));
    }

    #[test]
    fn what_cannot_be_asked_is_named() {
        for (config, key) in [
            (HttpCheck { method: "G T".into(), ..HttpCheck::default() }, "health.http.method"),
            (HttpCheck { method: "CONNECT".into(), ..HttpCheck::default() }, "health.http.method"),
            (HttpCheck { method: String::new(), ..HttpCheck::default() }, "health.http.method"),
            (HttpCheck { path: "health".into(), ..HttpCheck::default() }, "health.http.path"),
            (HttpCheck { path: "/a\r\nx: y".into(), ..HttpCheck::default() }, "health.http.path"),
            (HttpCheck { path: "/a b".into(), ..HttpCheck::default() }, "health.http.path"),
            (HttpCheck { host: Some("a\r\nb".into()), ..HttpCheck::default() }, "health.http.host"),
            (HttpCheck { statuses: Vec::new(), ..HttpCheck::default() }, "health.http.statuses"),
        ] {
            let why = Http::new(&config).err().unwrap_or_default();
            assert!(why.starts_with(key), "{config:?}: {why}");
            assert!(!why.contains('\n'), "{why:?}");
        }
    }

    #[test]
    fn statuses_and_content_are_judged() {
        let range = |first, last| StatusRange { first, last };
        let http = http(|config| {
            config.statuses = vec![range(200, 299), range(401, 401)];
            config.body = Some("\"ok\"".into());
        })
        .unwrap();
        assert_eq!(http.judge_status(204), Ok(()));
        assert_eq!(http.judge_status(401), Ok(()));
        assert_eq!(http.judge_status(302), Err("status 302, expected 200-299, 401".into()));
        assert_eq!(http.judge_content(b"{\"state\":\"ok\"}"), Ok(()));
        assert_eq!(
            http.judge_content(b"down"),
            Err("the body (4 bytes) does not contain `\\\"ok\\\"`".into())
        );
        let mut late = vec![b' '; CONTENT_BYTES_MAX];
        late.extend_from_slice(b"\"ok\"");
        assert!(http.judge_content(&late).is_err(), "it is beyond what is looked at");
    }
}
