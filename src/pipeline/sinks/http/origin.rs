//! The URL of a sink's other side.
//!
//! What: `http://host[:port][/base]` and nothing beyond it. Why so little: a query, a fragment or a password in a URL is a
//! mistake here, and ends up in logs. How it fails: with what to write instead.

use crate::units::host_name;
use std::net::Ipv6Addr;

/// Where requests go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Origin {
    /// Whether it is `https`.
    pub(super) is_tls: bool,
    /// The name in lower case, or the address without brackets.
    pub(super) host: String,
    pub(super) port: u16,
    /// As the `Host` field has it: without the scheme's own port.
    pub(super) authority: String,
    /// Empty, or begins with a slash and ends with none.
    pub(super) base_path: String,
}

impl Origin {
    pub(super) fn parse(url: &str) -> Result<Origin, String> {
        let text = url.trim();
        let (is_tls, rest) = match text.split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => (false, rest),
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => (true, rest),
            _ => {
                return Err(format!(
                    "`{}` is not a URL: write http://host:port or https://host:port",
                    shown(text)
                ));
            }
        };
        let (place, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        if place.contains('@') {
            return Err(
                "the URL has a name or password in it: leave it out, secrets are read from files".into()
            );
        }
        if path.contains(['?', '#']) {
            return Err(format!("`{}` has a query or fragment: leave it out", shown(text)));
        }
        if let Some(bad) =
            path.chars().find(|char| !char.is_ascii_graphic() || matches!(char, '"' | '<' | '>' | '\\'))
        {
            return Err(format!("`{}` has {bad:?} in its path: percent-encode it", shown(text)));
        }
        let (host, port) = split(place).map_err(|why| format!("`{}`: {why}", shown(text)))?;
        let standard = if is_tls { 443 } else { 80 };
        let port = port.unwrap_or(standard);
        let bracketed = if host.contains(':') { format!("[{host}]") } else { host.clone() };
        let authority = if port == standard { bracketed } else { format!("{bracketed}:{port}") };
        Ok(Origin { is_tls, host, port, authority, base_path: path.trim_end_matches('/').to_owned() })
    }
}

/// Host and port, where there is one.
fn split(place: &str) -> Result<(String, Option<u16>), String> {
    let (host, port) = match place.strip_prefix('[') {
        Some(rest) => {
            let (inner, after) =
                rest.split_once(']').ok_or("the bracket of the IPv6 address is not closed")?;
            let ip: Ipv6Addr = inner.parse().map_err(|_| format!("`{inner}` is not an IPv6 address"))?;
            let port = match after {
                "" => None,
                _ => Some(after.strip_prefix(':').ok_or("after the bracket only a port may follow")?),
            };
            (ip.to_string(), port)
        }
        None => {
            let (host, port) = place.split_once(':').map_or((place, None), |(host, port)| (host, Some(port)));
            if port.is_some_and(|port| port.contains(':')) {
                return Err("an IPv6 address needs brackets: http://[::1]:4318".into());
            }
            (host_name(host)?, port)
        }
    };
    let port = match port {
        None => None,
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            Some(digits.parse::<u16>().ok().filter(|port| *port > 0).ok_or_else(|| no_port(digits))?)
        }
        Some(other) => return Err(no_port(other)),
    };
    Ok((host, port))
}

fn no_port(text: &str) -> String {
    format!("`{text}` is not a port (1 to 65535)")
}

/// What may be told of a text that is not understood: nothing before an `@`, and not too much.
fn shown(text: &str) -> String {
    let text = text.rsplit_once('@').map_or(text, |(_, after)| after);
    text.chars().filter(|char| !char.is_control()).take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_url_names_host_port_and_base() {
        for (url, is_tls, host, port, authority, base) in [
            ("http://127.0.0.1:4318", false, "127.0.0.1", 4318, "127.0.0.1:4318", ""),
            ("HTTP://Collector.Test/", false, "collector.test", 80, "collector.test", ""),
            ("https://otlp.test/otlp/v2//", true, "otlp.test", 443, "otlp.test", "/otlp/v2"),
            ("https://[::1]:8443/a%20b", true, "::1", 8443, "[::1]:8443", "/a%20b"),
            ("http://[::1]", false, "::1", 80, "[::1]", ""),
            ("http://a:443", false, "a", 443, "a:443", ""),
        ] {
            let origin = Origin::parse(url).unwrap();
            assert_eq!(
                (origin.is_tls, &*origin.host, origin.port, &*origin.authority, &*origin.base_path),
                (is_tls, host, port, authority, base),
                "{url}"
            );
        }
    }

    #[test]
    fn what_is_no_such_url_is_said_with_what_to_write() {
        for (url, says) in [
            ("", "http://host:port"),
            ("localhost:4317", "http://host:port"),
            ("grpc://a:1", "http://host:port"),
            ("http://", "empty"),
            ("http://a:0", "port"),
            ("http://a:+80", "port"),
            ("http://a:99999", "port"),
            ("http://a:", "port"),
            ("http://::1:80", "brackets"),
            ("http://[::1", "not closed"),
            ("http://[::1]80", "only a port"),
            ("http://a/b?c", "query"),
            ("http://a#b", "query"),
            ("http://a/b c", "percent"),
            ("http://a b/", "not a host name"),
        ] {
            let why = Origin::parse(url).unwrap_err();
            assert!(why.contains(says), "{url}: {why}");
        }
        for url in ["https://user:hunter2@host/", "hunter2@x", "ftp://user:hunter2@host"] {
            assert!(!Origin::parse(url).unwrap_err().contains("hunter2"), "{url}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic_and_what_is_taken_can_be_asked(text in "(https?://)?\\PC{0,30}|https?://[a-z\\[\\]:.0-9@/?#%]{0,30}") {
            if let Ok(origin) = Origin::parse(&text) {
                let uri = format!("http://{}{}/v1", origin.authority, origin.base_path);
                prop_assert!(uri.parse::<http::Uri>().is_ok(), "{}", uri);
            }
        }
    }
}
