//! `clusters.NAME.context`: what a service of somebody else is not told.
//!
//! What: to a cluster of the zone `third_party` no context goes, in whatever form: trace ids and vendors' state in every
//! trace format, baggage, business fields, signatures, request ids, and what says who called us (`x-forwarded-*`,
//! `forwarded`) or how we are configured (`x-envoy-*`). `keep` names what may go all the same. Why: baggage has no boundary of
//! its own (W3C Baggage §5), and whatever a header says inside is told to whoever is asked outside.
//!
//! Position: the innermost layer applies it to the head of every attempt, so that a mirrored copy and a retry tell no more
//! than the request itself. How it fails: it cannot; a header that the application gave another name is content to us.

use super::extra::Extra;
use super::fields::Field;
use super::formats::{self, FormatSet};
use super::signature;
use crate::svc::{Fields, Known};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// `clusters.NAME.context`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "ClusterContext")]
pub struct Config {
    /// Whose services these are.
    pub zone: Zone,
    /// What goes to a third party all the same.
    pub keep: BTreeSet<Keep>,
}

/// Whose services a cluster's endpoints are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Zone {
    /// Our own: the whole context goes to them.
    #[default]
    Mesh,
    /// Somebody else's: nothing of it does.
    ThirdParty,
}

/// What may go to a third party.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Keep {
    /// `traceparent`, without `tracestate`: for partners that trace together with us.
    Trace,
    /// `x-request-id`.
    RequestId,
    /// `x-user-id`.
    UserId,
    /// `x-account-id`.
    AccountId,
    /// `x-license`.
    License,
    /// `x-request-type`.
    RequestType,
    /// `x-feature-flags`.
    Flags,
}

/// A configuration, compiled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ThirdParty {
    /// Known fields that are taken away.
    removed: Vec<Known>,
    /// Headers of further fields.
    extra: Vec<Box<str>>,
}

/// The header of each [`Keep`].
const KEPT: [(Keep, Known); 7] = [
    (Keep::Trace, Known::Traceparent),
    (Keep::RequestId, Known::XRequestId),
    (Keep::UserId, Known::XUserId),
    (Keep::AccountId, Known::XAccountId),
    (Keep::License, Known::XLicense),
    (Keep::RequestType, Known::XRequestType),
    (Keep::Flags, Known::XFeatureFlags),
];

/// Headers that no third party gets, beside those of formats and fields; with `-` at the end, all that begin so.
const INTERNAL: [&str; 11] = [
    signature::HEADER,
    // Traces in forms that are not read here; SkyWalking's tell services and addresses in them.
    "sw8",
    "sw8-",
    "x-ot-span-context",
    "elastic-apm-traceparent",
    "x-client-request-id",
    "x-real-ip",
    "forwarded",
    "sidelight-",
    "x-forwarded-",
    "x-envoy-",
];

impl ThirdParty {
    /// `None` for services of our own. `extra` are the further fields of the whole configuration.
    pub fn compile(config: &Config, extra: &Extra) -> Option<ThirdParty> {
        if config.zone == Zone::Mesh {
            return None;
        }
        let not_kept = KEPT.iter().filter(|(keep, _)| !config.keep.contains(keep)).map(|(_, known)| *known);
        Some(ThirdParty {
            removed: not_kept.chain([Known::Tracestate, Known::Baggage]).collect(),
            extra: extra.iter().filter_map(|field| field.header.clone()).collect(),
        })
    }

    /// Takes away what such a cluster is not told.
    pub fn apply(&self, fields: &mut Fields) {
        for known in &self.removed {
            fields.remove(*known);
        }
        formats::remove(FormatSet::ALL, fields);
        formats::remove_all_baggage(fields);
        for name in &self.extra {
            fields.remove_named(name.as_bytes());
        }
        fields.remove_where(is_internal);
    }
}

fn is_internal(name: &[u8]) -> bool {
    INTERNAL.iter().any(|internal| match internal.ends_with('-') {
        true => {
            name.get(..internal.len()).is_some_and(|start| start.eq_ignore_ascii_case(internal.as_bytes()))
        }
        false => name.eq_ignore_ascii_case(internal.as_bytes()),
    })
}

const _: () = assert!(Field::COUNT + 1 == KEPT.len(), "every field, and the trace, may be kept");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::extra;
    use std::collections::BTreeMap;

    fn all() -> Fields {
        let mut fields = Fields::new();
        for (name, value) in [
            ("accept", "*/*"),
            ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
            ("tracestate", "a=1"),
            ("baggage", "user.id=u,other=1"),
            ("Baggage", "more=1"),
            ("X-Request-Id", "r1"),
            ("x-user-id", "u"),
            ("x-account-id", "a"),
            ("x-license", "gold"),
            ("x-request-type", "TRACE"),
            ("x-feature-flags", "beta"),
            ("x-context-signature", "v1.k.1.1.e.s"),
            ("b3", "0"),
            ("X-B3-TraceId", "463ac35c9f6413ad"),
            ("uberctx-user", "u"),
            ("ot-baggage-user", "u"),
            ("x-datadog-trace-id", "1"),
            ("x-tenant", "t"),
            ("x-client-request-id", "c"),
            ("x-forwarded-for", "10.0.0.7"),
            ("X-Forwarded-Host", "internal"),
            ("forwarded", "for=10.0.0.7"),
            ("x-real-ip", "10.0.0.7"),
            ("x-envoy-expected-rq-timeout-ms", "100"),
            ("sidelight-mirror", "1"),
            ("sw8", "1-dHJhY2U=-c2Vn-3-c2hvcA==-aW5zdA==-L2NhcnQ=-MTAuMC4wLjc="),
            ("sw8-correlation", "dXNlcg==:dQ=="),
            ("x-ot-span-context", "1"),
            ("elastic-apm-traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
            ("authorization", "Bearer theirs"),
        ] {
            fields.push(name.as_bytes(), value.as_bytes());
        }
        fields
    }

    fn left(config: &Config) -> Vec<String> {
        let further = BTreeMap::from([("tenant".to_owned(), extra::Config::default())]);
        let extra = Extra::compile(&further).unwrap();
        let mut fields = all();
        if let Some(third_party) = ThirdParty::compile(config, &extra) {
            third_party.apply(&mut fields);
        }
        fields.iter().map(|(name, _, _)| String::from_utf8_lossy(name).to_ascii_lowercase()).collect()
    }

    #[test]
    fn nothing_internal_is_left_for_a_third_party() {
        let config = Config { zone: Zone::ThirdParty, ..Config::default() };
        assert_eq!(left(&config), ["accept", "authorization"]);
    }

    #[test]
    fn what_is_kept_goes_and_nothing_else() {
        let keep = BTreeSet::from([Keep::Trace, Keep::RequestId]);
        let config = Config { zone: Zone::ThirdParty, keep };
        assert_eq!(left(&config), ["accept", "traceparent", "x-request-id", "authorization"]);
    }

    #[test]
    fn services_of_our_own_get_everything() {
        assert_eq!(left(&Config::default()).len(), all().len());
    }
}
