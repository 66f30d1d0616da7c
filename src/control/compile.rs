//! From a checked configuration to what the workers run: clusters with their discovery, tables, sockets, TLS.
//!
//! Everything that can fail happens here, before anything is replaced. A cluster whose configuration did not change
//! stays the same object, so its endpoints, their load and pooled connections survive a reload; so does a listener
//! whose address did not change.

use super::clusters::{self, Fed, Planned};
use crate::cluster::{self, Cluster};
use crate::config::{self, Config, Loaded};
use crate::identity::{ServerTls, Stamp};
use crate::listener;
use crate::pipeline::config::Sinks;
use crate::pipeline::metrics::Registry;
use crate::protocol::propagate::{self, Rules};
use crate::quota::Limits;
use crate::resilience::admission::Admission;
use crate::resilience::overload::Overload;
use crate::route::{Defaults, Fallback, Table};
use crate::stack::{Applied, Listening, Role, Traffic};
use std::collections::BTreeMap;
use std::fmt;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The name of the cluster that the application beside is.
pub const APP_CLUSTER: &str = "app";

/// How long `explain` waits for the endpoints of each cluster.
const OFFLINE_WAIT: std::time::Duration = std::time::Duration::from_secs(2);

/// Why a configuration was not applied.
#[derive(Debug)]
pub struct Refused(pub String);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Key files, as they were when they were read.
type KeyFiles = Vec<(PathBuf, Option<Stamp>)>;

/// What is in force.
pub struct Current {
    /// As written, with every default.
    pub loaded: Loaded,
    /// The clusters by name, the app among them.
    pub clusters: BTreeMap<String, Fed>,
    /// The tables of both listeners.
    pub tables: Tables,
    /// What each listener lets in.
    pub admissions: Admissions,
    sockets: Vec<(Role, SocketAddr, Arc<TcpListener>)>,
    tls: Option<(crate::identity::config::ServerTls, Arc<ServerTls>)>,
    /// The key files of the context, as they were read.
    keys: KeyFiles,
    applied: Arc<Applied>,
}

/// What both listeners let in.
#[derive(Clone)]
pub struct Admissions {
    /// The inbound listener.
    pub inbound: Arc<Admission>,
    /// The outbound listener.
    pub outbound: Arc<Admission>,
}

impl Admissions {
    fn new(config: &Config, old: Option<&Admissions>, around: &Surroundings) -> Admissions {
        let Config { inbound, outbound, .. } = config;
        let new = |name, concurrency: &Option<_>, load_shed, old: Option<&Arc<Admission>>| {
            let (concurrency, old) = (concurrency.as_ref(), old.map(|old| &**old));
            Arc::new(Admission::new(name, concurrency, load_shed, &around.overload, old, around.seed))
        };
        Admissions {
            inbound: new("inbound", &inbound.concurrency, &inbound.load_shed, old.map(|old| &old.inbound)),
            outbound: new(
                "outbound",
                &outbound.concurrency,
                &outbound.load_shed,
                old.map(|old| &old.outbound),
            ),
        }
    }
}

/// The routes of both listeners.
#[derive(Clone)]
pub struct Tables {
    /// Of the inbound listener.
    pub inbound: Arc<Table>,
    /// Of the outbound listener.
    pub outbound: Arc<Table>,
}

/// What a configuration is compiled with: parts of the process that outlive it.
pub struct Surroundings {
    /// Where discovery and health checks run.
    pub runtime: tokio::runtime::Handle,
    /// What is given up as memory runs out.
    pub overload: Arc<Overload>,
    /// The rate limits and breakers of routes, which go on counting across reloads.
    pub limits: Arc<Limits>,
    /// Where clusters put changes on record.
    pub journal: cluster::Journal,
    /// A random number from the operating system, for what clusters decide at random.
    pub seed: u64,
}

/// A configuration that could be applied: what is in force then, and what the workers are given.
pub struct Compiled {
    /// What is in force then.
    pub current: Current,
    /// What the workers are given.
    pub applied: Arc<Applied>,
}

/// Compiles `loaded`, taking over from `old` what did not change.
///
/// # Errors
/// The first thing that cannot be had: a socket, a certificate, a route that does not compile.
pub fn compile(
    loaded: Loaded,
    old: Option<&Current>,
    registry: &Registry,
    around: &Surroundings,
) -> Result<Compiled, Refused> {
    let planned = clusters::plan(&loaded.config, old.map(|old| &old.clusters), around)?;
    let tables = tables(&loaded.config, &planned, &around.limits)?;
    let tls = server_tls(&loaded.config, old)?;
    let sockets = sockets(&loaded.config, old)?;
    let (rules, keys) = rules(&loaded, around.seed)?;
    // Nothing can fail from here on.
    let clusters = clusters::start(planned, around, true);
    let config = &loaded.config;
    around.overload.configure(&config.limits.overload);
    let admissions = Admissions::new(config, old.map(|old| &old.admissions), around);
    let app = clusters.get(APP_CLUSTER).map(|fed| Arc::clone(&fed.cluster));
    let listeners = sockets
        .iter()
        .map(|(role, _, socket)| {
            let (traffic, table) = match role {
                Role::Inbound => {
                    let traffic = Traffic {
                        opaque: app.clone(),
                        protocol: config.service.app_protocol,
                        tls: tls.as_ref().map(|(_, tls)| Arc::clone(tls)),
                        trust: config.inbound.trust,
                    };
                    (traffic, &tables.inbound)
                }
                Role::Outbound => (outbound(None), &tables.outbound),
                Role::Tcp(name) => {
                    (outbound(clusters.get(name).map(|fed| Arc::clone(&fed.cluster))), &tables.outbound)
                }
            };
            Listening {
                role: role.clone(),
                traffic,
                table: Arc::clone(table),
                socket: Arc::clone(socket),
                stats: registry.connections(&role.name()),
                admission: match role {
                    Role::Inbound => Arc::clone(&admissions.inbound),
                    Role::Outbound | Role::Tcp(_) => Arc::clone(&admissions.outbound),
                },
            }
        })
        .collect();
    let applied = Arc::new(Applied {
        listeners,
        limits: config.limits.clone(),
        revision: loaded.revision.as_str().into(),
        rules: Arc::new(rules),
        connections_max: config.limits.connections_max.unwrap_or_else(connections_auto),
    });
    let applied_now = Arc::clone(&applied);
    let current = Current { loaded, clusters, tables, admissions, sockets, tls, keys, applied: applied_now };
    Ok(Compiled { current, applied })
}

impl Current {
    /// The bound address of each listener, by name.
    pub fn addresses(&self) -> impl Iterator<Item = (String, SocketAddr)> {
        self.sockets.iter().filter_map(|(role, _, socket)| Some((role.name(), socket.local_addr().ok()?)))
    }

    /// The clusters, for those who show them.
    pub fn cluster_list(&self) -> Vec<Arc<Cluster>> {
        self.clusters.values().map(|fed| Arc::clone(&fed.cluster)).collect()
    }

    /// The active checks, by cluster.
    pub fn checks(&self) -> BTreeMap<String, Arc<crate::health::Running>> {
        let checked =
            self.clusters.iter().filter_map(|(name, fed)| Some((name.clone(), fed.checks.clone()?)));
        checked.collect()
    }

    /// Reads the key files of the context again, if one changed: what the workers are given then.
    ///
    /// # Errors
    /// What is wrong with a file; the keys in force stay.
    pub fn reload_keys(&mut self, seed: u64) -> Result<Option<Arc<Applied>>, String> {
        let has_changed = self
            .keys
            .iter()
            .any(|(path, stamp)| Stamp::of_path(path).is_ok_and(|new| stamp.as_ref() != Some(&new)));
        if !has_changed {
            return Ok(None);
        }
        let (rules, keys) = rules(&self.loaded, seed).map_err(|refused| refused.0)?;
        self.keys = keys;
        self.applied = Arc::new(Applied { rules: Arc::new(rules), ..(*self.applied).clone() });
        Ok(Some(Arc::clone(&self.applied)))
    }

    /// Reads certificates again that changed on disk; what failed, one line each.
    pub fn reload_certificates(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if let Some((_, tls)) = &self.tls
            && let Err(error) = tls.reload()
        {
            problems.push(format!("inbound.tls: {error}"));
        }
        for (name, fed) in &self.clusters {
            if let Some(Err(error)) = fed.cluster.tls.as_ref().map(|tls| tls.reload()) {
                problems.push(format!("clusters.{name}.tls: {error}"));
            }
        }
        problems
    }
}

/// What becomes of contexts, and the key files that it was read from.
fn rules(loaded: &Loaded, seed: u64) -> Result<(Rules, KeyFiles), Refused> {
    let config = &loaded.config;
    let signing = config.context.sign.as_ref().map(|sign| &sign.keys);
    let pseudonyms = config.context.pseudonyms.as_ref().map(|pseudonyms| &pseudonyms.keys);
    // Before they are read: a change during the reading is seen at the next look.
    let stamped = |path: &PathBuf| (path.clone(), Stamp::of_path(path).ok());
    let keys = signing.into_iter().chain(pseudonyms).map(stamped).collect();
    let source = propagate::Source {
        context: &config.context,
        sampling: &config.pipeline.sampling,
        revision: Some(loaded.revision.as_str().into()),
        service: &config.service.name,
        has_both_sides: config.inbound.address.is_some() && config.outbound.address.is_some(),
        has_sink: config.pipeline.sinks != Sinks::default(),
        seed,
    };
    let rules = Rules::compile(&source)
        .map_err(|wrong| Refused(wrong.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")))?;
    Ok((rules, keys))
}

fn outbound(opaque: Option<Arc<Cluster>>) -> Traffic {
    Traffic {
        opaque,
        protocol: cluster::Protocol::Auto,
        tls: None,
        trust: crate::context::config::Trust::All, // the application beside is the one that we stand for
    }
}

/// Half of the descriptors that the process may open: each exchange may need two.
fn connections_auto() -> usize {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is valid for writes for the length of the call.
    let result = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) };
    if result == 0 { usize::try_from(limit.rlim_cur / 2).unwrap_or(usize::MAX) } else { 512 }
}

/// Compiles the routes of both listeners.
///
/// # Errors
/// Every route that does not compile.
fn tables(config: &Config, clusters: &BTreeMap<String, Planned>, limits: &Limits) -> Result<Tables, Refused> {
    let find = |name: &str| clusters.get(name).map(|planned| Arc::clone(&planned.cluster));
    let request_timeout = config.limits.request_timeout;
    let inbound = match find(APP_CLUSTER) {
        Some(app) => Fallback::App(app),
        None => Fallback::None,
    };
    let named = clusters.iter().filter(|(name, _)| config.clusters.contains_key(*name));
    let outbound = Fallback::ClusterByHost(named.map(|(_, planned)| Arc::clone(&planned.cluster)).collect());
    let compile = |listener, routes: &[crate::route::config::Route], fallback| {
        Table::compile_within(limits.of(listener), routes, &find, Defaults { request_timeout, fallback })
            .map(Arc::new)
            .map_err(|error| Refused(error.to_string()))
    };
    Ok(Tables {
        inbound: compile("inbound", &config.inbound.routes, inbound)?,
        outbound: compile("outbound", &config.outbound.routes, outbound)?,
    })
}

fn server_tls(
    config: &Config,
    old: Option<&Current>,
) -> Result<Option<(crate::identity::config::ServerTls, Arc<ServerTls>)>, Refused> {
    let Some(wanted) = &config.inbound.tls else { return Ok(None) };
    if let Some((_, tls)) = old.and_then(|old| old.tls.as_ref()).filter(|(config, _)| config == wanted) {
        return Ok(Some((wanted.clone(), Arc::clone(tls))));
    }
    let tls =
        ServerTls::load(wanted, Path::new(".")).map_err(|error| Refused(format!("inbound.tls: {error}")))?;
    Ok(Some((wanted.clone(), Arc::new(tls))))
}

fn sockets(
    config: &Config,
    old: Option<&Current>,
) -> Result<Vec<(Role, SocketAddr, Arc<TcpListener>)>, Refused> {
    let mut wanted = Vec::new();
    wanted.extend(config.inbound.address.map(|address| (Role::Inbound, address)));
    wanted.extend(config.outbound.address.map(|address| (Role::Outbound, address)));
    wanted.extend(config.outbound.tcp.iter().map(|tcp| (Role::Tcp(tcp.cluster.clone()), tcp.address)));
    wanted
        .into_iter()
        .map(|(role, address)| {
            let same = old.and_then(|old| old.sockets.iter().find(|(r, a, _)| *r == role && *a == address));
            let socket = match same {
                Some((_, _, socket)) => Arc::clone(socket),
                None => Arc::new(listener::bind(address).map_err(|error| Refused(error.to_string()))?),
            };
            Ok((role, address, socket))
        })
        .collect()
}

/// The tables of a configuration that does not run: nothing is bound, discovery has a moment to answer.
///
/// # Errors
/// What does not compile.
pub fn offline(config: &Config, runtime: &tokio::runtime::Runtime) -> Result<Tables, String> {
    let around = Surroundings {
        runtime: runtime.handle().clone(),
        overload: Arc::new(Overload::new(&config.limits.overload)),
        limits: Arc::default(),
        journal: cluster::Journal::none(),
        seed: 0,
    };
    let planned = clusters::plan(config, None, &around).map_err(|refused| refused.to_string())?;
    let tables = tables(config, &planned, &around.limits).map_err(|refused| refused.to_string())?;
    let clusters = clusters::start(planned, &around, false);
    runtime.block_on(async {
        for fed in clusters.values() {
            let _ = tokio::time::timeout(OFFLINE_WAIT, fed.source.first()).await;
        }
    });
    Ok(tables)
}

/// The routes as the admin API shows them.
pub(super) fn routes_document(config: &config::Config) -> serde_json::Value {
    serde_json::json!({ "inbound": config.inbound.routes, "outbound": config.outbound.routes })
}
