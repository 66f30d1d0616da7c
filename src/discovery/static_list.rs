//! Endpoints that the configuration, or a file, lists: addresses as they are, host names by A and AAAA records.
//!
//! Weight, zone, priority and labels of an entry go to every address of its name. How it fails: a name that cannot be
//! resolved keeps its last good addresses; the other entries are not affected.

use super::resolve::{Addresses, Family, Resolver, literal};
use super::schedule::Schedule;
use super::{Discover, Found};
use crate::cluster::Target;
use crate::cluster::config::Endpoint;
use std::net::{IpAddr, SocketAddr};

/// A list of endpoints.
pub(super) struct StaticList {
    endpoints: Vec<Endpoint>,
    resolver: Resolver,
    schedule: Schedule,
}

impl StaticList {
    pub(super) fn new(endpoints: Vec<Endpoint>, schedule: Schedule) -> StaticList {
        StaticList { endpoints, resolver: Resolver::new(None), schedule }
    }

    /// Another list, to be looked at now; what is known of names stays.
    pub(super) fn replace(&mut self, endpoints: Vec<Endpoint>) {
        self.endpoints = endpoints;
        self.schedule.start_over();
    }

    /// The endpoints, if none needs a look-up.
    pub(super) fn fixed(&self) -> Option<Vec<Target>> {
        self.endpoints
            .iter()
            .map(|endpoint| literal(&endpoint.address.host, Family::Both).map(|ip| target(endpoint, ip)))
            .collect()
    }

    /// Whether names are to be looked up now.
    pub(super) fn is_due(&self) -> bool {
        self.schedule.is_due()
    }

    /// Looks up the names.
    pub(super) async fn find(&mut self) -> Found {
        let hosts: Vec<&str> = self.endpoints.iter().map(|endpoint| endpoint.address.host.as_str()).collect();
        let addresses = self.resolver.resolve(&hosts, Family::Both).await;
        let mut found = Found::default();
        for endpoint in &self.endpoints {
            if let Some(addresses) = addresses.get(&endpoint.address.host) {
                found.targets.extend(addresses.ips.iter().map(|ip| target(endpoint, *ip)));
            }
        }
        found.take_notes(addresses.into_values());
        self.schedule.settle(&found);
        found
    }
}

impl Discover for StaticList {
    async fn next(&mut self) -> Option<Found> {
        self.schedule.wait().await?;
        Some(self.find().await)
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
        priority: endpoint.priority,
        labels: endpoint.labels.clone(),
    }
}
