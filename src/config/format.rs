//! The `format`s of the schema: what a text must look like, and what to write when it does not.

use std::net::{IpAddr, SocketAddr};

use serde::Deserialize;
use serde::de::IntoDeserializer;
use serde::de::value::{Error, StrDeserializer};

use super::node::excerpt;
use crate::cluster::config::StatusRange;
use crate::route::config::HedgeAfter;
use crate::units::{self, AUTO, NONE};

/// What is wrong, and what to write instead.
pub struct Problem {
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub help: Option<String>,
}

fn problem(message: impl Into<String>, help: impl Into<String>) -> Result<(), Problem> {
    Err(Problem { message: message.into(), help: Some(help.into()) })
}

/// What a text of this format is, with an example.
pub fn described(format: Option<&str>) -> &'static str {
    match format {
        Some("duration" | "duration_or_zero") => "a duration, as in `250ms`",
        Some("duration_or_none") => "a duration, as in `250ms`, or `none`",
        Some("duration_or_auto") => "a duration, as in `250ms`, or `auto`",
        Some("size") => "a size, as in `64KiB`",
        Some("size_or_none") => "a size, as in `64KiB`, or `none`",
        Some("size_or_auto") => "a size, as in `512MiB`, or `auto`",
        Some("status_range") => "a status, or a range as in `200-299`",
        Some("hedge_after") => "a duration, as in `50ms`, or a quantile, as in `p95`",
        Some("listen_address") => "an IP address and a port, as in `127.0.0.1:15001`, or `none`",
        Some("socket_address") => "an IP address and a port, as in `127.0.0.1:5432`",
        Some("host_port") => "a host and a port, as in `10.0.0.7:8080`",
        Some("host" | "authority") => "a host name",
        Some("host_pattern") => "a host name or `*.example`",
        Some("path" | "path_and_query") => "a path that starts with `/`",
        Some("regex") => "a regular expression",
        Some("file" | "output_file") => "the path of a file",
        _ => "a text",
    }
}

/// Whether `text` has this format.
pub fn check(format: &str, text: &str) -> Result<(), Problem> {
    match format {
        "duration_or_none" | "size_or_none" | "listen_address" if text == NONE => Ok(()),
        "duration_or_auto" | "size_or_auto" if text == AUTO => Ok(()),
        "duration" | "duration_or_none" | "duration_or_auto" | "duration_or_zero" => duration(format, text),
        "size" | "size_or_none" | "size_or_auto" => match units::parse_size(text) {
            Ok(_) => Ok(()),
            Err(_) if text == NONE => {
                let example = if format == "size_or_auto" { "`512MiB`, or `auto`" } else { "`64KiB`" };
                problem("this bound cannot be switched off", format!("write a size, as in {example}"))
            }
            Err(why) => Err(Problem { message: excerpt_of(why), help: size_help(text) }),
        },
        "listen_address" | "socket_address" => socket_address(text),
        "host_port" => host_port(text),
        "host" => host(text),
        "host_pattern" => host_pattern(text),
        "authority" => authority(text),
        "path" => path(text, "a path has no query: match it with `query`"),
        "path_and_query" => {
            let end = text.find('?').unwrap_or(text.len());
            path(text.get(..end).unwrap_or(text), "")
                .and_then(|()| query(text.get(end..).unwrap_or_default()))
        }
        "status_range" => status_range(text),
        "hedge_after" => hedge_after(text),
        "regex" => regex(text),
        "file" | "output_file" if text.is_empty() => problem("the path is empty", "write the path of a file"),
        _ => Ok(()),
    }
}

/// Messages hold the text that was written; it may be long.
fn excerpt_of(message: String) -> String {
    if message.chars().nth(200).is_some() { excerpt(&message) } else { message }
}

fn duration(format: &str, text: &str) -> Result<(), Problem> {
    let off = match format {
        "duration_or_none" => "write `none` to switch it off",
        _ => "write a duration above zero, as in `250ms`",
    };
    match units::parse_duration(text) {
        Ok(time) if time.is_zero() && format != "duration_or_zero" => {
            problem(format!("`{}` leaves no time at all", excerpt(text)), off)
        }
        Ok(_) => Ok(()),
        Err(_) if text == NONE => {
            problem("this time cannot be switched off", "write a duration, as in `250ms`")
        }
        Err(_) if text == AUTO => {
            problem("this time has no automatic value", "write a duration, as in `250ms`")
        }
        Err(why) => Err(Problem { message: excerpt_of(why), help: duration_help(text) }),
    }
}

/// `15` → `15s`; `10 sec` → `10s`.
fn duration_help(text: &str) -> Option<String> {
    let (number, unit) = number_and_word(text)?;
    let unit = match unit.to_ascii_lowercase().as_str() {
        "" | "sec" | "secs" | "second" | "seconds" | "s" => "s",
        "min" | "mins" | "minute" | "minutes" | "m" => "m",
        "milliseconds" | "millis" | "msec" | "ms" => "ms",
        "hour" | "hours" | "hr" | "h" => "h",
        "day" | "days" | "d" => "d",
        _ => return None,
    };
    Some(format!("write `{number}{unit}`"))
}

/// `64k` → `64KiB`.
fn size_help(text: &str) -> Option<String> {
    let (number, unit) = number_and_word(text)?;
    let unit = match unit.to_ascii_lowercase().as_str() {
        "k" | "kb" | "kib" | "ki" => "KiB",
        "m" | "mb" | "mib" | "mi" => "MiB",
        "g" | "gb" | "gib" | "gi" => "GiB",
        "b" | "bytes" | "byte" => "B",
        _ => return None,
    };
    Some(format!("write `{number}{unit}`"))
}

fn number_and_word(text: &str) -> Option<(&str, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, word) = text.split_at(end);
    (1..=15).contains(&number.len()).then_some((number, word.trim()))
}

fn socket_address(text: &str) -> Result<(), Problem> {
    if text.parse::<SocketAddr>().is_ok() {
        return Ok(());
    }
    let shown = excerpt(text);
    let message = format!("`{shown}` is not an IP address and a port");
    if let Ok(ip) = text.parse::<IpAddr>() {
        return problem(message, format!("add a port: `{}`", SocketAddr::new(ip, 8080)));
    }
    if let Some(port) = text.strip_prefix("localhost:").filter(|port| port.parse::<u16>().is_ok()) {
        return problem(message, format!("write `127.0.0.1:{port}`"));
    }
    let port = text.strip_prefix(':').unwrap_or(text);
    if port.parse::<u16>().is_ok() {
        return problem(message, format!("write `127.0.0.1:{port}` or `0.0.0.0:{port}`"));
    }
    problem(message, "write it as in `127.0.0.1:15001`; a name is not resolved here")
}

fn host_port(text: &str) -> Result<(), Problem> {
    let Err(why) = text.parse::<units::HostPort>() else { return Ok(()) };
    let shown = excerpt(text);
    let message = format!("`{shown}` is not a host and a port: {}", excerpt_of(why));
    if let Some((_, rest)) = text.split_once("://") {
        return problem(
            message,
            format!("write it without the scheme: `{}`", excerpt(rest.trim_end_matches('/'))),
        );
    }
    if units::host_name(text).is_ok() {
        return problem(message, format!("add a port: `{shown}:8080`"));
    }
    if text.parse::<u16>().is_ok() {
        return problem(message, format!("write `127.0.0.1:{text}`"));
    }
    problem(message, "write it as in `10.0.0.7:8080` or `payments.local:8080`")
}

fn host(text: &str) -> Result<(), Problem> {
    if text.parse::<IpAddr>().is_ok() {
        return Ok(());
    }
    match units::host_name(text) {
        Ok(_) => Ok(()),
        Err(why) => Err(Problem { message: excerpt_of(why), help: None }),
    }
}

fn host_pattern(text: &str) -> Result<(), Problem> {
    let shown = excerpt(text);
    if text == "*" {
        return problem("`*` is every host", "leave `host` out to match every host");
    }
    let name = text.strip_prefix("*.").unwrap_or(text);
    if name.contains('*') {
        let message = format!("`{shown}` is not a host pattern");
        return problem(message, "`*` stands only for the first labels, as in `*.example`");
    }
    let bare = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(name);
    if bare.parse::<IpAddr>().is_ok() {
        return Ok(());
    }
    if let Some((host, _)) =
        name.rsplit_once(':').filter(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
    {
        let message = format!("`{shown}` has a port; hosts are compared without");
        return problem(
            message,
            format!("write `{}`", excerpt(text.get(..text.len() - name.len() + host.len()).unwrap_or(host))),
        );
    }
    match units::host_name(name) {
        Ok(_) => Ok(()),
        Err(why) => problem(excerpt_of(why), "write a host name, as in `shop.example`, or `*.example`"),
    }
}

fn authority(text: &str) -> Result<(), Problem> {
    if host(text).is_ok() || text.parse::<units::HostPort>().is_ok() {
        return Ok(());
    }
    problem(
        format!("`{}` is not a host", excerpt(text)),
        "write it as in `shop.example` or `shop.example:8443`",
    )
}

fn path(text: &str, about_query: &str) -> Result<(), Problem> {
    let shown = excerpt(text);
    if !text.starts_with('/') {
        return problem(format!("the path `{shown}` does not start with `/`"), format!("write `/{shown}`"));
    }
    if let Some(bad) = text.chars().find(|c| matches!(c, '?' | '#') || c.is_whitespace() || c.is_control()) {
        let message = format!("the path `{shown}` contains `{}`", bad.escape_default());
        let help = match bad {
            '?' => about_query,
            _ => "write it percent-encoded, as it is on the wire",
        };
        return problem(message, help);
    }
    Ok(())
}

fn query(text: &str) -> Result<(), Problem> {
    match text.chars().find(|c| *c == '#' || c.is_whitespace() || c.is_control()) {
        Some(bad) => problem(
            format!("the query `{}` contains `{}`", excerpt(text), bad.escape_default()),
            "write it percent-encoded, as it is on the wire",
        ),
        None => Ok(()),
    }
}

/// Whether `T` can be read from `text`; the message says why not.
fn read<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, String> {
    let text: StrDeserializer<'a, Error> = text.into_deserializer();
    T::deserialize(text).map_err(|error| excerpt_of(error.to_string()))
}

fn status_range(text: &str) -> Result<(), Problem> {
    let Err(message) = read::<StatusRange>(text) else { return Ok(()) };
    let help = match text.to_ascii_lowercase().as_bytes() {
        [class @ b'1'..=b'5', b'x', b'x'] => {
            let class = char::from(*class);
            format!("write `{class}00-{class}99`")
        }
        _ if text.contains(',') => "write several as a list, as in `[200, 204]`".into(),
        _ => "write a status, `200`, or a range, `200-299`".into(),
    };
    problem(message, help)
}

fn hedge_after(text: &str) -> Result<(), Problem> {
    match read::<HedgeAfter>(text) {
        Ok(HedgeAfter::Fixed(time)) if time.is_zero() => {
            problem(format!("`{}` would send every request twice", excerpt(text)), "write `p95`, or `50ms`")
        }
        Ok(_) => Ok(()),
        Err(_) if text == NONE => problem("a hedge has a time", "remove `hedge` to send no second request"),
        Err(message) => {
            let number = text.trim_matches(|c: char| matches!(c, 'p' | 'P' | '%' | ' '));
            let is_quantile =
                text.contains(['p', 'P', '%']) && read::<HedgeAfter>(&format!("p{number}")).is_ok();
            let help = match duration_help(text) {
                _ if is_quantile => format!("write `p{number}`"),
                Some(help) => help,
                None => "write a time, as in `50ms`, or a quantile, as in `p95`".into(),
            };
            problem(message, help)
        }
    }
}

fn regex(text: &str) -> Result<(), Problem> {
    let Err(error) = regex::Regex::new(text) else { return Ok(()) };
    let error = error.to_string();
    let why = error.lines().rev().find_map(|line| line.strip_prefix("error: ")).unwrap_or(&error);
    let message = format!("`{}` is not a regular expression: {}", excerpt(text), excerpt_of(why.to_owned()));
    if why.contains("look-around") || why.contains("backreference") {
        return problem(
            message,
            "patterns run in linear time, so there is no look-around and no backreference",
        );
    }
    Err(Problem { message, help: None })
}
