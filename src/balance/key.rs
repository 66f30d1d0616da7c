//! What a request says that endpoints are chosen by: the key of a hash, and the values of labels.
//!
//! A value that is there but empty says nothing, and counts as absent. A field that is there more than once counts by its
//! first value. Parameters of the query are taken as they are written, not decoded.

use crate::cluster::config::{Balance, ContextField, HashOn, SubsetFrom, SubsetValue};
use crate::cluster::stable_hash;
use crate::exchange::{Connection, Record};
use crate::svc::{Known, RequestHead};
use std::net::IpAddr;

/// What keys are taken from.
#[derive(Clone, Copy)]
pub(super) struct Request<'a> {
    pub(super) head: &'a RequestHead,
    pub(super) record: &'a Record,
    pub(super) connection: &'a Connection,
}

impl<'a> Request<'a> {
    /// The hash of the first of `balance.hash_on` that the request has.
    pub(super) fn hash(&self, balance: &Balance) -> Option<u64> {
        balance.hash_on.iter().find_map(|on| match on {
            HashOn::SourceAddress => Some(hash_of_address(self.connection.peer.ip())),
            HashOn::Header(name) => self.header(name).map(stable_hash),
            HashOn::Context(field) => self.context(*field).map(stable_hash),
            HashOn::Path => present(self.head.path()).map(stable_hash),
            HashOn::Cookie(name) => self.cookie(name).map(stable_hash),
            HashOn::Query(name) => self.parameter(name).map(stable_hash),
        })
    }

    /// The values that the request has of the labels that it chooses by, in the order of the labels.
    pub(super) fn values(&self, balance: &Balance) -> Vec<Option<&'a [u8]>> {
        let wanted = balance.subset.values().filter_map(|wanted| match wanted {
            SubsetValue::Request(from) => Some(from),
            SubsetValue::Text(_) => None,
        });
        wanted
            .map(|from| match from {
                SubsetFrom::Header(name) => self.header(name),
                SubsetFrom::Context(field) => self.context(*field),
            })
            .collect()
    }

    fn header(&self, name: &str) -> Option<&'a [u8]> {
        let name = name.as_bytes();
        let fields = &self.head.fields;
        present(match Known::classify(name) {
            // The authority holds it.
            Some(Known::Host) => self.head.authority(),
            Some(known) => fields.get(known)?,
            None => fields.iter().find(|(field, _, _)| field.eq_ignore_ascii_case(name))?.1,
        })
    }

    fn context(&self, field: ContextField) -> Option<&'a [u8]> {
        let record = self.record;
        present(record.text(match field {
            ContextField::AccountId => record.account_id,
            ContextField::UserId => record.user_id,
            ContextField::License => record.license,
            ContextField::RequestId => record.request_id,
            ContextField::TraceId => return Some(&record.trace.trace_id),
        }))
    }

    fn cookie(&self, name: &str) -> Option<&'a [u8]> {
        let crumbs = self.head.fields.all(Known::Cookie).flat_map(|value| value.split(|byte| *byte == b';'));
        crumbs.map(<[u8]>::trim_ascii).find_map(|crumb| value_of(crumb, name.as_bytes())).and_then(present)
    }

    fn parameter(&self, name: &str) -> Option<&'a [u8]> {
        let mut pairs = self.head.query()?.split(|byte| *byte == b'&');
        pairs.find_map(|pair| value_of(pair, name.as_bytes())).and_then(present)
    }
}

/// The hash of a client's address: what connections that carry bytes are hashed by.
pub fn hash_of_address(address: IpAddr) -> u64 {
    match address.to_canonical() {
        IpAddr::V4(v4) => stable_hash(&v4.octets()),
        IpAddr::V6(v6) => stable_hash(&v6.octets()),
    }
}

/// The value of `name=value`, if it has that name.
fn value_of<'a>(pair: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    pair.strip_prefix(name)?.strip_prefix(b"=")
}

fn present(value: &[u8]) -> Option<&[u8]> {
    (!value.is_empty()).then_some(value)
}
