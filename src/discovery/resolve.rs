//! Host names to addresses, by A and AAAA records, with the last good answer for each name.
//!
//! The resolver's settings (`/etc/resolv.conf` with its search domains and `ndots`, `/etc/hosts`) are read for each
//! round, so a change of them counts; nothing is cached beyond a round, so a time to live is ours to honour. IP
//! addresses and `localhost` (127.0.0.1, or ::1 where only IPv6 is asked for; RFC 6761 §6.3) need no resolver.
//!
//! How it fails: a family that fails or suddenly has no record keeps its last good addresses, with a reason. A name
//! that has addresses of one family does not need the other; a resolver that is slow with one family only (a broken
//! AAAA) delays the first by one second.

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{RData, RecordType};
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::pin;
use std::time::Duration;
use tokio::task::JoinSet;

/// The longest time for one look-up, all servers and retries included.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the other family may take once one has answered.
const OTHER_FAMILY_TIMEOUT: Duration = Duration::from_secs(1);
/// The time for one question to a server that the configuration names.
const SERVER_TIMEOUT: Duration = Duration::from_secs(2);
/// Names that are looked up at the same time.
const LOOKUPS_MAX: usize = 16;

/// Which addresses of a name are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    /// IPv4 and IPv6.
    Both,
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// The addresses of a name, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Addresses {
    pub(super) ips: Vec<IpAddr>,
    /// How long they hold; `None`: for ever.
    pub(super) ttl: Option<Duration>,
    /// Why they are not from now.
    pub(super) problem: Option<String>,
}

/// What one look-up came to.
enum Outcome {
    Found(Vec<IpAddr>, Duration),
    Empty(String),
    Failed(String),
}

/// Resolves names; remembers the last good addresses of those that the last round asked for.
#[derive(Default)]
pub(super) struct Resolver {
    server: Option<SocketAddr>,
    known: HashMap<(String, RecordType), Vec<IpAddr>>,
}

/// The addresses of a name that needs no resolver.
pub(super) fn literal(host: &str, family: Family) -> Option<IpAddr> {
    if let Ok(ip) = host.parse() {
        return Some(ip);
    }
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    let is_localhost = host == "localhost" || host.ends_with(".localhost");
    is_localhost.then_some(match family {
        Family::V6 => IpAddr::V6(Ipv6Addr::LOCALHOST),
        Family::Both | Family::V4 => IpAddr::V4(Ipv4Addr::LOCALHOST),
    })
}

/// A client with the settings of this moment. Fails with what is wrong with them.
pub(super) fn client(server: Option<SocketAddr>) -> Result<TokioResolver, String> {
    let builder = match server {
        None => TokioResolver::builder_tokio().map_err(|error| format!("/etc/resolv.conf: {error}"))?,
        Some(address) => {
            let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()]
                .map(|mut connection| {
                    connection.port = address.port();
                    connection
                })
                .to_vec();
            let server = NameServerConfig::new(address.ip(), true, connections);
            let config = ResolverConfig::from_name_servers(vec![server]);
            let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
            builder.options_mut().use_hosts_file = ResolveHosts::Never;
            builder.options_mut().timeout = SERVER_TIMEOUT;
            builder
        }
    };
    builder.build().map_err(|error| error.to_string())
}

/// The records of `name`. Fails with the reason, and tells whether the name is known to have none.
pub(super) async fn records(
    client: &TokioResolver,
    name: &str,
    kind: RecordType,
) -> Result<Lookup, (bool, String)> {
    match tokio::time::timeout(LOOKUP_TIMEOUT, client.lookup(name, kind)).await {
        Ok(Ok(lookup)) => Ok(lookup),
        Ok(Err(error)) => Err((error.is_no_records_found(), format!("{name} {kind}: {}", describe(&error)))),
        Err(_) => Err((false, format!("{name} {kind}: no answer within {LOOKUP_TIMEOUT:?}"))),
    }
}

/// The shortest time to live among the answers.
pub(super) fn ttl(lookup: &Lookup) -> Duration {
    Duration::from_secs(lookup.answers().iter().map(|record| u64::from(record.ttl)).min().unwrap_or(0))
}

fn describe(error: &NetError) -> String {
    match error {
        error if error.is_nx_domain() => "NXDOMAIN (no such name)".into(),
        error if error.is_no_records_found() => "no such records".into(),
        NetError::Dns(DnsError::ResponseCode(ResponseCode::ServFail)) => {
            "SERVFAIL (the server failed)".into()
        }
        NetError::Dns(DnsError::ResponseCode(ResponseCode::Refused)) => "REFUSED (the server refused)".into(),
        NetError::Dns(DnsError::ResponseCode(code)) => code.to_string(),
        NetError::Timeout => "no answer from the server".into(),
        error => error.to_string(),
    }
}

async fn lookup(client: &TokioResolver, host: &str, kind: RecordType) -> Outcome {
    let answer = match records(client, host, kind).await {
        Ok(answer) => answer,
        Err((true, why)) => return Outcome::Empty(why),
        Err((false, why)) => return Outcome::Failed(why),
    };
    let address = |data: &RData| match data {
        RData::A(ip) => Some(IpAddr::V4(ip.0)),
        RData::AAAA(ip) => Some(IpAddr::V6(ip.0)),
        _ => None,
    };
    let mut ips: Vec<IpAddr> = answer.answers().iter().filter_map(|record| address(&record.data)).collect();
    // Servers rotate their answers; an order of our own keeps the set the same.
    ips.sort_unstable();
    ips.dedup();
    if ips.is_empty() {
        Outcome::Empty(format!("{host} {kind}: no such records"))
    } else {
        Outcome::Found(ips, ttl(&answer))
    }
}

/// Waits for one family when the other has its outcome.
async fn other_family(first: &Outcome, other: impl Future<Output = Outcome>) -> Outcome {
    match first {
        Outcome::Found(..) => tokio::time::timeout(OTHER_FAMILY_TIMEOUT, other)
            .await
            .unwrap_or_else(|_| Outcome::Failed("one address family is not answered".into())),
        Outcome::Empty(_) | Outcome::Failed(_) => other.await,
    }
}

async fn look_up(client: TokioResolver, host: String, family: Family) -> Vec<(RecordType, Outcome)> {
    match family {
        Family::V4 => vec![(RecordType::A, lookup(&client, &host, RecordType::A).await)],
        Family::V6 => vec![(RecordType::AAAA, lookup(&client, &host, RecordType::AAAA).await)],
        Family::Both => {
            let mut v4 = pin!(lookup(&client, &host, RecordType::A));
            let mut v6 = pin!(lookup(&client, &host, RecordType::AAAA));
            let (v4, v6) = tokio::select! {
                first = &mut v4 => {
                    let other = other_family(&first, v6).await;
                    (first, other)
                }
                first = &mut v6 => (other_family(&first, v4).await, first),
            };
            vec![(RecordType::A, v4), (RecordType::AAAA, v6)]
        }
    }
}

impl Resolver {
    /// Asks `server`, or the system's servers.
    pub(super) fn new(server: Option<SocketAddr>) -> Resolver {
        Resolver { server, known: HashMap::new() }
    }

    /// The addresses of each of `hosts`.
    pub(super) async fn resolve(&mut self, hosts: &[&str], family: Family) -> HashMap<String, Addresses> {
        let mut found = HashMap::new();
        let mut names = Vec::new();
        for host in hosts {
            match literal(host, family) {
                Some(ip) => {
                    found.insert((*host).to_owned(), Addresses { ips: vec![ip], ttl: None, problem: None });
                }
                None if !names.contains(host) => names.push(*host),
                None => {}
            }
        }
        self.known.retain(|(host, _), _| names.contains(&host.as_str()));
        if names.is_empty() {
            return found;
        }
        match client(self.server) {
            Ok(client) => {
                for names in names.chunks(LOOKUPS_MAX) {
                    self.round(&client, names, family, &mut found).await;
                }
            }
            Err(why) => {
                for host in names {
                    let kinds =
                        [RecordType::A, RecordType::AAAA].map(|kind| (kind, Outcome::Failed(why.clone())));
                    let addresses = self.settle(host, kinds.into());
                    found.insert(host.to_owned(), addresses);
                }
            }
        }
        found
    }

    async fn round(
        &mut self,
        client: &TokioResolver,
        names: &[&str],
        family: Family,
        found: &mut HashMap<String, Addresses>,
    ) {
        let mut lookups = JoinSet::new();
        for host in names {
            let (client, host) = (client.clone(), (*host).to_owned());
            lookups.spawn(async move { (host.clone(), look_up(client, host, family).await) });
        }
        // A look-up that panics counts as one without addresses.
        while let Some(done) = lookups.join_next().await {
            if let Ok((host, outcomes)) = done {
                let addresses = self.settle(&host, outcomes);
                found.insert(host, addresses);
            }
        }
    }

    /// What is now known of `host`: what was found, or else what was known before.
    fn settle(&mut self, host: &str, outcomes: Vec<(RecordType, Outcome)>) -> Addresses {
        let has_found = outcomes.iter().any(|(_, outcome)| matches!(outcome, Outcome::Found(..)));
        let mut addresses = Addresses::default();
        let mut problems = Vec::new();
        for (kind, outcome) in outcomes {
            let key = (host.to_owned(), kind);
            match outcome {
                Outcome::Found(ips, ttl) => {
                    addresses.ttl = Some(addresses.ttl.map_or(ttl, |other| other.min(ttl)));
                    addresses.ips.extend(&ips);
                    self.known.insert(key, ips);
                }
                Outcome::Empty(_) if has_found => {
                    self.known.remove(&key);
                }
                Outcome::Empty(why) | Outcome::Failed(why) => match self.known.get(&key) {
                    Some(ips) => {
                        addresses.ips.extend(ips);
                        problems.push(why);
                    }
                    None if !has_found => problems.push(why),
                    None => {}
                },
            }
        }
        addresses.problem = (!problems.is_empty()).then(|| {
            problems.dedup();
            problems.join("; ")
        });
        addresses
    }
}
