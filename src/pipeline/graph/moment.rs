//! Moments as documents write them.

use crate::pipeline::encode::rfc3339;
use crate::pipeline::trace_view::moment;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Cow;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Microseconds since 1970; 0 is "never". Written as RFC 3339, or `null`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(pub u64);

impl Moment {
    /// Of a clock.
    pub fn of(at: SystemTime) -> Moment {
        let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
        Moment(u64::try_from(since.as_micros()).unwrap_or_default())
    }

    /// Of a text, if it is one.
    pub fn parse(text: &str) -> Option<Moment> {
        u64::try_from(moment::parse(text)?).ok().map(Moment)
    }

    /// As events write it.
    pub fn text(self) -> String {
        rfc3339(UNIX_EPOCH + Duration::from_micros(self.0.min(YEAR_9999_US)))
    }

    /// How long after `earlier`; nothing if it was before.
    pub fn since(self, earlier: Moment) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

/// The last moment that RFC 3339 can write.
const YEAR_9999_US: u64 = 253_402_300_799_999_999;

impl Serialize for Moment {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        if self.0 == 0 { s.serialize_none() } else { s.serialize_str(&self.text()) }
    }
}

impl<'de> Deserialize<'de> for Moment {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let Some(text) = Option::<Cow<'_, str>>::deserialize(d)? else { return Ok(Moment::default()) };
        Moment::parse(&text).ok_or_else(|| serde::de::Error::custom(format!("`{text:.40}` is no moment")))
    }
}
