//! Endpoints from DNS: A and AAAA records with a configured port, or SRV records (RFC 2782) that bring ports, weights
//! and priorities.
//!
//! Priorities of SRV records are levels of the cluster, the lowest first: 10, 20 and 500 are 0, 1 and 2. Weight 0 counts
//! as 1. Every address of an SRV record's host is an endpoint with the record's weight and level. How it fails: an
//! error, NXDOMAIN or an empty answer keeps what was good.

use super::resolve::{Family, Resolver, client, literal, records, ttl};
use super::schedule::Schedule;
use super::{Discover, Found};
use crate::cluster::Target;
use crate::cluster::config::{Dns as Config, PRIORITY_MAX, RecordType};
use crate::units::HostPort;
use hickory_resolver::proto::rr::rdata::SRV;
use hickory_resolver::proto::rr::{self, RData};
use std::net::SocketAddr;
use std::sync::Arc;

/// A name that is looked up.
pub(super) struct Dns {
    config: Config,
    resolver: Resolver,
    schedule: Schedule,
}

impl Dns {
    pub(super) fn new(config: Config, schedule: Schedule) -> Dns {
        let resolver = Resolver::new(config.server);
        Dns { config, resolver, schedule }
    }

    async fn find(&mut self) -> Found {
        match self.config.record_type {
            RecordType::Auto => self.find_addresses(Family::Both).await,
            RecordType::A => self.find_addresses(Family::V4).await,
            RecordType::Aaaa => self.find_addresses(Family::V6).await,
            RecordType::Srv => self.find_services().await,
        }
    }

    async fn find_addresses(&mut self, family: Family) -> Found {
        let Some(port) = self.config.port else {
            return Found::nothing(format!("{}: `discovery.dns.port` is not set", self.config.name));
        };
        let host = self.config.name.as_str();
        let name: Arc<str> = HostPort { host: host.to_owned(), port }.to_string().into();
        let Some(addresses) = self.resolver.resolve(&[host], family).await.remove(host) else {
            return Found::nothing(format!("{host}: the look-up was lost"));
        };
        let target = |ip| Target { name: Arc::clone(&name), ..Target::new(SocketAddr::new(ip, port)) };
        let mut found =
            Found { targets: addresses.ips.iter().copied().map(target).collect(), ..Found::default() };
        found.take_notes(std::iter::once(addresses));
        found
    }

    async fn find_services(&mut self) -> Found {
        let name = self.config.name.as_str();
        let answer = match client(self.config.server) {
            Ok(client) => records(&client, name, rr::RecordType::SRV).await.map_err(|(_, why)| why),
            Err(why) => Err(why),
        };
        let answer = match answer {
            Ok(answer) => answer,
            Err(why) => return Found::nothing(why),
        };
        let services = services(answer.answers().iter().map(|record| &record.data));
        if services.is_empty() {
            return Found::nothing(format!("{name} SRV: the service is not available (RFC 2782)"));
        }
        let hosts: Vec<&str> = services.iter().map(|service| service.host.as_str()).collect();
        let addresses = self.resolver.resolve(&hosts, Family::Both).await;
        let mut found = Found { ttl: Some(ttl(&answer)), ..Found::default() };
        for service in &services {
            let Some(addresses) = addresses.get(&service.host) else { continue };
            let name: Arc<str> =
                HostPort { host: service.host.trim_end_matches('.').to_owned(), port: service.port }
                    .to_string()
                    .into();
            found.targets.extend(addresses.ips.iter().map(|ip| Target {
                name: Arc::clone(&name),
                weight: service.weight,
                priority: service.level,
                ..Target::new(SocketAddr::new(*ip, service.port))
            }));
        }
        found.take_notes(addresses.into_values());
        found
    }
}

impl Discover for Dns {
    async fn next(&mut self) -> Option<Found> {
        self.schedule.wait().await?;
        let found = self.find().await;
        self.schedule.settle(&found);
        Some(found)
    }
}

/// An SRV record. In this order: of hosts that are named twice, the one that is used first counts.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Service {
    level: u32,
    host: String,
    port: u16,
    weight: u32,
}

/// The services, in an order that does not depend on the server's. Of priorities, which may be any numbers, only the
/// rank counts; those beyond the last level share it.
fn services<'r>(records: impl Iterator<Item = &'r RData>) -> Vec<Service> {
    let offered: Vec<&SRV> = records
        .filter_map(|data| match data {
            // A target of `.` says that there is no such service; port 0 cannot be connected to.
            RData::SRV(srv) if !srv.target.is_root() && srv.port > 0 => Some(srv),
            _ => None,
        })
        .collect();
    let mut priorities: Vec<u16> = offered.iter().map(|srv| srv.priority).collect();
    priorities.sort_unstable();
    priorities.dedup();
    let level = |priority: u16| {
        let rank = priorities.partition_point(|known| *known < priority);
        u32::try_from(rank).unwrap_or(u32::MAX).min(PRIORITY_MAX)
    };
    let mut services: Vec<Service> = offered
        .iter()
        .map(|srv| Service {
            level: level(srv.priority),
            host: host(&srv.target),
            port: srv.port,
            weight: u32::from(srv.weight).max(1),
        })
        .collect();
    services.sort_unstable();
    services
}

/// The name with its final dot, so that no search domain is tried; an address as it is.
fn host(target: &rr::Name) -> String {
    let name = target.to_utf8().to_ascii_lowercase();
    let bare = name.trim_end_matches('.');
    if literal(bare, Family::Both).is_some() { bare.to_owned() } else { format!("{bare}.") }
}
