//! What a replay must not do by mistake: reach the production that was recorded, or do things twice.
//!
//! A target is refused when its host and port are an authority of the recording; only an explicit grant that names
//! it, and ends, lets it through. Methods that are not safe by RFC 9110 §9.2.1 are left out unless they are allowed by
//! name. How it fails: closed; what cannot be read is refused.

use crate::record::Entry;
use std::collections::BTreeSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Authorities of a recording that are remembered; beyond them it takes a grant for anything but loopback.
const AUTHORITIES_MAX: usize = 4096;

/// Permission to send to a recorded authority.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The authority, `host` or `host:port`; `None`: whichever was recorded (`production`).
    pub authority: Option<String>,
    /// When it ends.
    pub until: SystemTime,
}

impl Grant {
    /// Reads `authority=shop.example,until=2026-12-01T00:00:00Z` or `production,until=…`.
    pub fn parse(text: &str) -> Result<Grant, String> {
        let (mut authority, mut until) = (None, None);
        for part in text.split(',').map(str::trim) {
            match part.split_once('=') {
                None if part == "production" => authority = Some(None),
                Some(("authority", name)) if !name.is_empty() => {
                    authority = Some(Some(name.to_ascii_lowercase()))
                }
                Some(("until", time)) => until = Some(parse_time(time)?),
                _ => return Err(format!("`{part}` is no part of a grant: write {GRANT}")),
            }
        }
        match (authority, until) {
            (Some(authority), Some(until)) => Ok(Grant { authority, until }),
            (None, _) => Err(format!("a grant names an authority: write {GRANT}")),
            (_, None) => Err(format!("a grant has an end: write {GRANT}")),
        }
    }
}

const GRANT: &str = "`authority=shop.example,until=2026-12-01T00:00:00Z`";

/// Reads `2026-12-01T00:00:00Z` (RFC 3339, UTC) or seconds since 1970.
pub fn parse_time(text: &str) -> Result<SystemTime, String> {
    let wrong = || format!("`{text}` is not a time: write it as 2026-12-01T00:00:00Z");
    let seconds = match text.parse::<u64>() {
        Ok(seconds) => seconds,
        Err(_) => utc_seconds(text).ok_or_else(wrong)?,
    };
    UNIX_EPOCH.checked_add(Duration::from_secs(seconds)).ok_or_else(wrong)
}

fn utc_seconds(text: &str) -> Option<u64> {
    let (date, time) = text.strip_suffix(['Z', 'z'])?.split_once(['T', 't', ' '])?;
    let mut date = date.split('-').map(|part| part.parse::<u64>().ok());
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    let mut time =
        time.split(':').map(|part| part.split('.').next().and_then(|part| part.parse::<u64>().ok()));
    let (hour, minute, second) = (time.next()??, time.next()??, time.next().unwrap_or(Some(0))?);
    if !(1970..=9999).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    // Days since 1970 by the civil calendar: years begin in March, so that the leap day is the last.
    let (y, m) = if month <= 2 { (year - 1, month + 9) } else { (year, month - 3) };
    let days = y * 365 + y / 4 - y / 100 + y / 400 + (m * 153 + 2) / 5 + day - 1;
    Some((days - 719_468) * 86_400 + hour * 3600 + minute * 60 + second)
}

/// The authorities that a recording was made for.
#[derive(Clone, Debug, Default)]
pub struct Recorded {
    /// `host:port`, in lower case.
    authorities: BTreeSet<String>,
    is_cut: bool,
}

impl Recorded {
    /// Adds one, with the port of its scheme where it has none.
    pub fn add(&mut self, authority: &str, is_tls: bool) {
        if authority.is_empty() {
            return;
        }
        let authority = with_port(authority, is_tls);
        if self.authorities.len() >= AUTHORITIES_MAX && !self.authorities.contains(&authority) {
            self.is_cut = true;
            return;
        }
        self.authorities.insert(authority);
    }

    /// Adds that of an entry.
    pub fn add_entry(&mut self, entry: &Entry) {
        if let Some(head) = entry.request_head()
            && let Ok(authority) = std::str::from_utf8(&head.authority)
        {
            let is_tls = if head.scheme.is_empty() { entry.is_tls } else { &*head.scheme == b"https" };
            self.add(authority, is_tls);
        }
    }

    /// Whether a replay may go to `host:port`.
    ///
    /// # Errors
    /// Why not, and what to write.
    pub fn check(&self, authority: &str, grants: &[Grant], now: SystemTime) -> Result<(), String> {
        let authority = authority.to_ascii_lowercase();
        let is_recorded = self.authorities.contains(&authority);
        if !is_recorded && (!self.is_cut || is_loopback(&authority)) {
            return Ok(());
        }
        let mut expired = false;
        for grant in grants {
            let is_meant = grant.authority.as_ref().is_none_or(|name| {
                *name == authority || authority.rsplit_once(':').is_some_and(|(host, _)| host == name)
            });
            match is_meant {
                true if grant.until > now => return Ok(()),
                true => expired = true,
                false => {}
            }
        }
        let why = if is_recorded { "is what was recorded" } else { "may be what was recorded" };
        let grant = if expired { " (the grant for it has ended)" } else { "" };
        Err(format!(
            "{authority} {why}{grant}: a replay does not go there by mistake; to send to it all the same, add --grant 'authority={authority},until=TIME'"
        ))
    }
}

fn with_port(authority: &str, is_tls: bool) -> String {
    let authority = authority.to_ascii_lowercase();
    let host_end = authority.rfind(']').map_or(0, |at| at + 1);
    let has_port = authority.get(host_end..).is_some_and(|rest| rest.contains(':'));
    if has_port { authority } else { format!("{authority}:{}", if is_tls { 443 } else { 80 }) }
}

fn is_loopback(authority: &str) -> bool {
    authority.starts_with("127.") || authority.starts_with("[::1]") || authority.starts_with("localhost:")
}

/// Whether a method is safe: it asks for nothing to be changed.
pub fn is_safe_method(method: &[u8]) -> bool {
    matches!(method, b"GET" | b"HEAD" | b"OPTIONS" | b"TRACE")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> SystemTime {
        parse_time(text).unwrap()
    }

    #[test]
    fn times_are_read() {
        for (text, seconds) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2000-02-29T12:00:00Z", 951_825_600),
            ("2026-12-01T00:00:00Z", 1_796_083_200),
            ("1700000000", 1_700_000_000),
        ] {
            assert_eq!(at(text), UNIX_EPOCH + Duration::from_secs(seconds), "{text}");
        }
        for text in ["", "tomorrow", "2026-13-01T00:00:00Z", "2026-12-01", "2026-12-01T25:00:00Z", "-1"] {
            assert!(parse_time(text).is_err(), "{text}");
        }
    }

    #[test]
    fn production_is_refused_without_a_grant_that_holds() {
        let mut recorded = Recorded::default();
        recorded.add("Shop.example", true);
        recorded.add("127.0.0.1:8080", false);
        let now = at("2026-06-01T00:00:00Z");
        let check = |authority: &str, grants: &[&str]| {
            let grants: Vec<Grant> = grants.iter().map(|text| Grant::parse(text).unwrap()).collect();
            recorded.check(authority, &grants, now)
        };
        assert!(check("staging.example:443", &[]).is_ok());
        assert!(check("127.0.0.1:9090", &[]).is_ok());
        assert!(check("shop.example:8443", &[]).is_ok());
        assert!(check("127.0.0.1:8080", &[]).unwrap_err().contains("is what was recorded"));
        assert!(check("SHOP.example:443", &[]).unwrap_err().contains("--grant"));
        assert!(check("shop.example:443", &["authority=shop.example,until=2026-07-01T00:00:00Z"]).is_ok());
        assert!(check("shop.example:443", &["production,until=2026-07-01T00:00:00Z"]).is_ok());
        assert!(check("shop.example:443", &["authority=other,until=2026-07-01T00:00:00Z"]).is_err());
        let ended = check("shop.example:443", &["production,until=2026-05-01T00:00:00Z"]).unwrap_err();
        assert!(ended.contains("has ended"), "{ended}");
    }

    #[test]
    fn a_grant_has_a_name_and_an_end() {
        for text in
            ["", "production", "authority=a", "until=2026-07-01T00:00:00Z", "authority=,until=1", "x=1"]
        {
            assert!(Grant::parse(text).is_err(), "{text}");
        }
    }
}
