//! What is not a difference: rules by path.
//!
//! A path is `status`, `error`, `header:NAME`, `trailer:NAME`, `text`, `bytes`, `messages`, `call:…`, or, in content, a
//! JSON pointer without escapes (`/items/3/price`); fields of gRPC messages go by their numbers (`/1/3`). In a rule `*`
//! stands for one step and `**` at the end for all that follow. How it fails: a rule that cannot be understood is an
//! error with its text, when it is read.

use regex::Regex;
use serde::Deserialize;
use std::collections::BTreeMap;

/// Response fields that differ between any two answers, and tell of the way and not of the application.
/// `set-cookie` is compared too, without the cookies' values.
pub const IGNORED_HEADERS: [&str; 40] = [
    // Made for each answer: RFC 9110 §6.6.1, §7.6.3; RFC 9111 §5.1; RFC 9209; RFC 9112 framing.
    "date",
    "age",
    "via",
    "server",
    "server-timing",
    "proxy-status",
    "connection",
    "keep-alive",
    "transfer-encoding",
    "content-length",
    "alt-svc",
    "trailer",
    // Ids of the exchange.
    "x-request-id",
    "request-id",
    "x-correlation-id",
    "x-amzn-requestid",
    "x-amz-request-id",
    "x-amz-id-2",
    "x-amzn-trace-id",
    "cf-ray",
    "traceparent",
    "tracestate",
    "traceresponse",
    "baggage",
    "b3",
    "x-b3-traceid",
    "x-b3-spanid",
    "x-cloud-trace-context",
    // Times and places of servers and caches.
    "x-envoy-upstream-service-time",
    "x-runtime",
    "x-response-time",
    "x-served-by",
    "x-cache",
    "x-cache-hits",
    "x-timer",
    "x-ratelimit-remaining",
    "x-ratelimit-reset",
    "ratelimit",
    "report-to",
    "nel",
];

/// What a user writes.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Paths that are not compared.
    pub ignore: Vec<String>,
    /// Paths of numbers: by how much they may differ, `0.01` or `2%` (of the first).
    pub tolerances: BTreeMap<String, String>,
    /// Paths of arrays whose order means nothing.
    pub sets: Vec<String>,
    /// Paths of texts: two that match the pattern are equal; with a group, if what it took is.
    pub matches: BTreeMap<String, String>,
    /// Paths that both have to have, with any value.
    pub presence: Vec<String>,
    /// Headers of [`IGNORED_HEADERS`] that are compared nevertheless.
    pub compared_headers: Vec<String>,
}

/// Rules, ready for use.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    ignore: Vec<Pattern>,
    tolerances: Vec<(Pattern, Tolerance)>,
    sets: Vec<Pattern>,
    matches: Vec<(Pattern, Regex)>,
    presence: Vec<Pattern>,
    compared_headers: Vec<String>,
}

/// By how much numbers may differ.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Tolerance {
    By(f64),
    Share(f64),
}

/// A path with `*`.
#[derive(Clone, Debug)]
struct Pattern(Vec<String>);

impl Pattern {
    fn new(text: &str) -> Result<Pattern, String> {
        let text = text.trim();
        let steps: Vec<String> = text.split('/').map(str::to_owned).collect();
        let is_open = steps.iter().rev().skip(1).any(|step| step == "**");
        if text.is_empty() || is_open {
            return Err(format!(
                "comparison rule `{text}`: write a path, such as `/items/*/price`, `/meta/**` or `header:etag`"
            ));
        }
        // Names of fields have no case.
        let steps = match text.contains(':') && !text.starts_with('/') && !text.starts_with("call:") {
            true => steps.iter().map(|step| step.to_ascii_lowercase()).collect(),
            false => steps,
        };
        Ok(Pattern(steps))
    }

    fn is_match(&self, path: &str) -> bool {
        let mut steps = path.split('/');
        for wanted in &self.0 {
            if wanted == "**" {
                return true;
            }
            match steps.next() {
                Some(step) if wanted == "*" || wanted == step => {}
                // `header:x-*`: a star at the end of a step.
                Some(step) if wanted.strip_suffix('*').is_some_and(|start| step.starts_with(start)) => {}
                _ => return false,
            }
        }
        steps.next().is_none()
    }
}

fn patterns(texts: &[String]) -> Result<Vec<Pattern>, String> {
    texts.iter().map(|text| Pattern::new(text)).collect()
}

impl Rules {
    /// Rules as they were written.
    ///
    /// # Errors
    /// One line: which rule cannot be understood, and what to write.
    pub fn new(config: &Config) -> Result<Rules, String> {
        let tolerance = |(path, text): (&String, &String)| {
            let number = text.trim().trim_start_matches('±').trim();
            let (number, is_share) = match number.strip_suffix('%') {
                Some(share) => (share.trim(), true),
                None => (number, false),
            };
            let number = number.parse::<f64>().ok().filter(|n| n.is_finite() && *n >= 0.0);
            let number = number
                .ok_or_else(|| format!("tolerance of `{path}`: `{text}` is not one; write `0.01` or `2%`"))?;
            Ok((
                Pattern::new(path)?,
                if is_share { Tolerance::Share(number / 100.0) } else { Tolerance::By(number) },
            ))
        };
        let matcher = |(path, text): (&String, &String)| {
            let regex =
                Regex::new(text).map_err(|error| format!("pattern of `{path}`: `{text}`: {error}"))?;
            Ok::<_, String>((Pattern::new(path)?, regex))
        };
        Ok(Rules {
            ignore: patterns(&config.ignore)?,
            tolerances: config.tolerances.iter().map(tolerance).collect::<Result<_, String>>()?,
            sets: patterns(&config.sets)?,
            matches: config.matches.iter().map(matcher).collect::<Result<_, String>>()?,
            presence: patterns(&config.presence)?,
            compared_headers: config.compared_headers.iter().map(|name| name.to_ascii_lowercase()).collect(),
        })
    }

    pub(super) fn is_ignored(&self, path: &str) -> bool {
        self.ignore.iter().any(|pattern| pattern.is_match(path))
    }

    pub(super) fn is_header_ignored(&self, name: &str) -> bool {
        (IGNORED_HEADERS.contains(&name) || name.starts_with("x-sidelight-"))
            && !self.compared_headers.iter().any(|compared| compared == name)
    }

    pub(super) fn is_set(&self, path: &str) -> bool {
        self.sets.iter().any(|pattern| pattern.is_match(path))
    }

    pub(super) fn is_presence(&self, path: &str) -> bool {
        self.presence.iter().any(|pattern| pattern.is_match(path))
    }

    /// Whether numbers at this path are near enough.
    pub(super) fn is_near(&self, path: &str, left: f64, right: f64) -> bool {
        let tolerance = self.tolerances.iter().find(|(pattern, _)| pattern.is_match(path));
        // What a decimal has no exact value for must not decide at the edge: 10.01 is within 0.01 of 10.
        let slack = 1e-9 * left.abs().max(right.abs());
        tolerance.is_some_and(|(_, tolerance)| match tolerance {
            Tolerance::By(by) => (left - right).abs() <= by + slack,
            Tolerance::Share(share) => (left - right).abs() <= share * left.abs() + slack,
        })
    }

    /// Whether texts at this path are equal by a pattern.
    pub(super) fn is_alike(&self, path: &str, left: &str, right: &str) -> bool {
        let matcher = self.matches.iter().find(|(pattern, _)| pattern.is_match(path));
        matcher.is_some_and(|(_, regex)| match (regex.captures(left), regex.captures(right)) {
            (Some(left), Some(right)) => left.get(1).map(|m| m.as_str()) == right.get(1).map(|m| m.as_str()),
            _ => false,
        })
    }

    /// Whether two values at this path are equal by a rule: as numbers, if both are, or as texts.
    pub(super) fn is_equal(&self, path: &str, left: &str, right: &str) -> bool {
        if self.is_presence(path) || self.is_alike(path, left, right) {
            return true;
        }
        match self.tolerances.is_empty() {
            true => false,
            false => match (left.parse::<f64>(), right.parse::<f64>()) {
                (Ok(left), Ok(right)) => self.is_near(path, left, right),
                _ => false,
            },
        }
    }
}
