//! Endpoints that the configuration, or a file, lists: addresses as they are, host names by A and AAAA records.
//!
//! Weight, zone and labels of an entry go to every address of its name. How it fails: a name that cannot be resolved
//! keeps its last good addresses; the other entries are not affected.

use super::resolve::{Addresses, Family, Resolver, literal};
use super::{Discover, Found};
use crate::cluster::Target;
use crate::cluster::config::Endpoint;
use std::net::{IpAddr, SocketAddr};

/// A list of endpoints.
pub(super) struct StaticList {
    endpoints: Vec<Endpoint>,
    resolver: Resolver,
}

impl StaticList {
    pub(super) fn new(endpoints: Vec<Endpoint>) -> StaticList {
        StaticList { endpoints, resolver: Resolver::new(None) }
    }

    /// Another list; what is known of names stays.
    pub(super) fn replace(&mut self, endpoints: Vec<Endpoint>) {
        self.endpoints = endpoints;
    }

    /// The endpoints, if none needs a look-up.
    pub(super) fn fixed(&self) -> Option<Vec<Target>> {
        self.endpoints
            .iter()
            .map(|endpoint| literal(&endpoint.address.host, Family::Both).map(|ip| target(endpoint, ip)))
            .collect()
    }
}

impl Discover for StaticList {
    async fn find(&mut self) -> Found {
        let hosts: Vec<&str> = self.endpoints.iter().map(|endpoint| endpoint.address.host.as_str()).collect();
        let addresses = self.resolver.resolve(&hosts, Family::Both).await;
        let mut found = Found::default();
        for endpoint in &self.endpoints {
            if let Some(addresses) = addresses.get(&endpoint.address.host) {
                found.targets.extend(addresses.ips.iter().map(|ip| target(endpoint, *ip)));
            }
        }
        found.take_notes(addresses.into_values());
        found
    }
}

impl Found {
    /// Takes over problems and times to live.
    pub(super) fn take_notes(&mut self, addresses: impl Iterator<Item = Addresses>) {
        let mut problems: Vec<String> = self.problem.take().into_iter().collect();
        for addresses in addresses {
            problems.extend(addresses.problem);
            self.ttl = [self.ttl, addresses.ttl].into_iter().flatten().min();
        }
        problems.sort();
        problems.dedup();
        self.problem = (!problems.is_empty()).then(|| problems.join("; "));
    }
}

fn target(endpoint: &Endpoint, ip: IpAddr) -> Target {
    Target {
        address: SocketAddr::new(ip, endpoint.address.port),
        name: endpoint.address.to_string().into(),
        weight: endpoint.weight,
        zone: (!endpoint.zone.is_empty()).then(|| endpoint.zone.as_str().into()),
        labels: endpoint.labels.clone(),
    }
}
