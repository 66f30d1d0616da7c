//! One cluster as the checks see it: its node, and what can be said of its endpoints before any is known.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::cluster::config::{Endpoint, OutlierDetection};
use crate::config::node::{Node, Span, excerpt};

use super::Check;

/// A cluster of the file.
pub(super) struct Cluster<'a> {
    /// Its name, for messages.
    pub(super) name: String,
    /// Where its name is.
    pub(super) span: Span,
    /// What is written.
    pub(super) node: &'a Node,
    /// Its outlier detection; `None` if it is not valid or, with the default meant, not written.
    pub(super) outlier_detection: Option<OutlierDetection>,
    endpoints: Option<Vec<(&'a Node, Endpoint)>>,
}

impl<'a> Cluster<'a> {
    pub(super) fn new(name: &str, span: Span, node: &'a Node, check: &Check<'a, '_>) -> Self {
        let items = node.get("endpoints").map_or(&[][..], Node::items);
        let endpoint = |item: &'a Node| Some((item, check.read::<Endpoint>(item)?));
        Cluster {
            name: excerpt(name),
            span,
            node,
            outlier_detection: node.get("outlier_detection").and_then(|node| check.read(node)),
            endpoints: items.iter().map(endpoint).collect(),
        }
    }

    /// Whether further endpoints are found while the proxy runs.
    pub(super) fn has_discovery(&self) -> bool {
        self.node.get("discovery").is_some()
    }

    /// The endpoints that are written, with where; `None` if one is not valid.
    pub(super) fn endpoints(&self) -> Option<&[(&'a Node, Endpoint)]> {
        self.endpoints.as_deref()
    }

    /// The labels of each endpoint that can have some; `None` if a file may know of others. DNS has none.
    pub(super) fn labels(&self) -> Option<Vec<&BTreeMap<String, String>>> {
        let is_known = !self.has_discovery() || self.node.at(&["discovery", "dns"]).is_some();
        let endpoints =
            self.endpoints().filter(|list| is_known && (self.has_discovery() || !list.is_empty()))?;
        Some(endpoints.iter().map(|(_, endpoint)| &endpoint.labels).collect())
    }

    /// How many endpoints there will be; `None` if that is not known: a name may stand for many.
    pub(super) fn count(&self) -> Option<usize> {
        let endpoints = self.endpoints().filter(|list| !list.is_empty() && !self.has_discovery())?;
        let is_one = |endpoint: &Endpoint| endpoint.address.host.parse::<IpAddr>().is_ok();
        endpoints.iter().all(|(_, endpoint)| is_one(endpoint)).then_some(endpoints.len())
    }
}
